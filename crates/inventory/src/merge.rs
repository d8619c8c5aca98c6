//! What an image has: its layers, upper ones hiding lower ones (OCI image spec, `layer.md`).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::path::{ancestors, split};
use crate::table::TableBuilder;
use crate::{Item, Kind, Layer, databases};

/// Most links that lead to each other (Linux, `MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// The layers of an image, lowest first, with paths as the engine lays them on each other.
#[derive(Debug, Clone)]
pub struct Merged {
    layers: Vec<Layer>,
    /// What no layer alone shows.
    more: Vec<(String, Item)>,
}

impl Merged {
    /// Lays layers on each other.
    ///
    /// An engine follows links of lower layers when it unpacks an upper one: with `lib -> usr/lib`
    /// below, `lib/a` of an upper layer is `usr/lib/a`.
    pub fn new(layers: impl IntoIterator<Item = Layer>) -> Self {
        let mut merged = Self { layers: Vec::new(), more: Vec::new() };
        let mut links: BTreeMap<String, String> = BTreeMap::new();
        for mut layer in layers {
            links.retain(|path, _| !layer.hides(path));
            let through: Vec<(String, String)> = links
                .keys()
                .filter(|link| layer.has_anything_below(link))
                .filter_map(|link| Some((link.clone(), real(&links, link)?)))
                .collect();
            if !through.is_empty() {
                layer = layer.moved(&through);
            }
            layer.table.each(|path, kind| {
                if let Kind::Link(target) = kind {
                    links.insert(path.to_owned(), target);
                }
            });
            merged.layers.push(layer);
        }
        merged.more = merged.databases_behind(&links);
        merged
    }

    /// Layers are read each by itself, so a database is known by its path. One that a link puts
    /// elsewhere was not read, and that must not look like an image without packages.
    fn databases_behind(&self, links: &BTreeMap<String, String>) -> Vec<(String, Item)> {
        let mut behind = Vec::new();
        for path in databases::MAIN {
            let Some(place) = real(links, path) else { continue };
            let is_read = |place: &str| {
                let layer = self.layer_of(place)?;
                Some(self.layers[layer].items.contains_key(place))
            };
            if (place != path || is_read(path) == Some(false))
                && is_read(&place) == Some(false)
                && self.get(&place) != Some(Kind::Folder)
            {
                let why = format!(
                    "links lead from it to {place}, which was not read as a package database"
                );
                behind.push((path.to_owned(), Item::Unread(why)));
            }
        }
        behind
    }

    /// The layers, lowest first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Whether what a layer has at a path can be seen in the image.
    pub fn is_visible(&self, layer: usize, path: &str) -> bool {
        !self.layers.iter().skip(layer + 1).any(|upper| upper.hides(path))
    }

    /// What stands at a path.
    pub fn get(&self, path: &str) -> Option<Kind> {
        self.layer_of(path).and_then(|layer| self.layers[layer].table.get(path))
    }

    /// The layer whose path can be seen.
    fn layer_of(&self, path: &str) -> Option<usize> {
        let layer = self.layers.iter().rposition(|layer| layer.table.get(path).is_some())?;
        self.is_visible(layer, path).then_some(layer)
    }

    /// Whether there is anything below a folder.
    pub fn has_below(&self, folder: &str) -> bool {
        let first = format!("{folder}/");
        self.layers.iter().enumerate().any(|(at, layer)| {
            layer
                .table
                .from(&first)
                .take_while(|(path, _)| path.starts_with(&first))
                .any(|(path, _)| self.is_visible(at, &path))
        })
    }

    /// What was found at paths that can be seen, in order of the paths.
    pub fn items(&self) -> Vec<(&str, &Item)> {
        let mut items: Vec<(&str, &Item)> = Vec::new();
        for (at, layer) in self.layers.iter().enumerate() {
            for (path, found) in &layer.items {
                if self.is_visible(at, path) {
                    items.extend(found.iter().map(|item| (path.as_str(), item)));
                }
            }
        }
        items.extend(self.more.iter().map(|(path, item)| (path.as_str(), item)));
        items.sort_by_key(|(path, _)| *path);
        items
    }

    /// The paths that can be seen and of which this is so, each once, without folders.
    pub fn paths(&self, wanted: impl Fn(&str) -> bool) -> BTreeSet<String> {
        let mut paths = BTreeSet::new();
        for (at, layer) in self.layers.iter().enumerate() {
            layer.table.each(|path, kind| {
                if kind != Kind::Folder && wanted(path) && self.is_visible(at, path) {
                    paths.insert(path.to_owned());
                }
            });
        }
        paths
    }

    /// What was found at paths that upper layers hide; whoever has the image can still read it.
    pub fn hidden_items(&self) -> impl Iterator<Item = (&str, &Item)> {
        self.layers.iter().enumerate().flat_map(move |(at, layer)| {
            let hidden = layer.items.iter().filter(move |(path, _)| !self.is_visible(at, path));
            hidden.flat_map(|(path, found)| found.iter().map(|item| (path.as_str(), item)))
        })
    }

    /// The content of a small file that was kept, links followed.
    pub fn text(&self, path: &str) -> Option<&[u8]> {
        let mut path = Cow::Borrowed(path);
        for _ in 0..MAX_LINKS {
            let layer = self.layer_of(&path)?;
            match self.layers[layer].table.get(&path)? {
                Kind::Link(target) => path = Cow::Owned(joined(split(&path).0, &target)?),
                _ => {
                    return self.layers[layer].items.get(&*path)?.iter().find_map(
                        |item| match item {
                            Item::Text(text) => Some(text.as_slice()),
                            _ => None,
                        },
                    );
                }
            }
        }
        None
    }
}

impl Layer {
    /// Whether it hides what lower layers have at a path.
    fn hides(&self, path: &str) -> bool {
        let is_opaque = |folder: &str| self.opaque.contains(folder);
        let is_gone = |at: &str| self.removed.contains(at);
        let is_no_folder = |at: &str| self.table.get(at).is_some_and(|kind| kind != Kind::Folder);
        is_opaque("")
            || is_gone(path)
            || self.table.get(path).is_some()
            || ancestors(path).any(|a| is_gone(a) || is_opaque(a) || is_no_folder(a))
    }

    /// Whether it says anything of paths below one that it does not have itself.
    fn has_anything_below(&self, folder: &str) -> bool {
        let below = format!("{folder}/");
        let in_set = |set: &BTreeSet<String>| {
            set.range(below.clone()..).next().is_some_and(|path| path.starts_with(&below))
        };
        self.table.has_below(folder)
            || in_set(&self.removed)
            || in_set(&self.opaque)
            || self.opaque.contains(folder)
    }

    /// With paths below these links at their true places.
    fn moved(self, through: &[(String, String)]) -> Self {
        let place = |path: String| -> String {
            // The longest link counts; there are few.
            let best = through
                .iter()
                .filter(|(link, _)| {
                    path.strip_prefix(link.as_str()).is_some_and(|p| p.starts_with('/'))
                })
                .max_by_key(|(link, _)| link.len());
            match best {
                Some((link, to)) => {
                    format!("{to}{}", &path[link.len()..]).trim_start_matches('/').to_owned()
                }
                None => path,
            }
        };
        let mut table = TableBuilder::default();
        for (path, kind) in self.table.iter() {
            // There are no more than before, and paths that grow too long cannot be unpacked.
            let _ = table.add(&place(path), kind);
        }
        let mut items: BTreeMap<String, Vec<Item>> = BTreeMap::new();
        for (path, found) in self.items {
            items.entry(place(path)).or_default().extend(found);
        }
        let of_link = |path: String| match through.iter().find(|(link, _)| *link == path) {
            Some((_, to)) => to.clone(),
            None => place(path),
        };
        Self {
            table: table.finish(),
            items,
            removed: self.removed.into_iter().map(place).collect(),
            opaque: self.opaque.into_iter().map(of_link).collect(),
            bytes: self.bytes,
        }
    }
}

/// Where an engine puts a path, if links lead elsewhere on the way: the last part is not followed.
/// `None` if they lead round.
pub fn real_place(links: &BTreeMap<String, String>, path: &str) -> Option<String> {
    let (folder, name) = split(path);
    if !ancestors(path).any(|above| links.contains_key(above)) {
        return Some(path.to_owned());
    }
    Some(format!("{}/{name}", real(links, folder)?).trim_start_matches('/').to_owned())
}

/// Where a link leads to in the end: a path that is no link and goes through none.
fn real(links: &BTreeMap<String, String>, link: &str) -> Option<String> {
    let mut path = link.to_owned();
    for _ in 0..MAX_LINKS {
        let parts = ancestors(&path).chain([path.as_str()]);
        let Some((at, target)) = parts.filter_map(|a| Some((a.len(), links.get(a)?))).next() else {
            return Some(path);
        };
        let folder = joined(split(&path[..at]).0, target)?;
        path = format!("{folder}{}", &path[at..]).trim_start_matches('/').to_owned();
    }
    None
}

/// A link's target as a path from the root; at the root `..` stays there.
fn joined(folder: &str, target: &str) -> Option<String> {
    if target.len() > 4096 {
        return None;
    }
    let mut parts: Vec<&str> = match target.starts_with('/') {
        true => Vec::new(),
        false => folder.split('/').filter(|part| !part.is_empty()).collect(),
    };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a/b` a file, `a/b>x` a link, `a/` a folder, `-a` removed, `!a` opaque.
    fn layer(paths: &str) -> Layer {
        let mut table = TableBuilder::default();
        let mut layer = Layer::default();
        for path in paths.split_whitespace() {
            if let Some(removed) = path.strip_prefix('-') {
                layer.removed.insert(removed.to_owned());
            } else if let Some(opaque) = path.strip_prefix('!') {
                layer.opaque.insert(opaque.to_owned());
            } else if let Some((link, target)) = path.split_once('>') {
                table.add(link, Kind::Link(target.to_owned())).unwrap();
            } else if let Some(folder) = path.strip_suffix('/') {
                table.add(folder, Kind::Folder).unwrap();
            } else {
                table.add(path, Kind::Unread).unwrap();
                layer.items.insert(path.to_owned(), vec![Item::Text(path.into())]);
            }
        }
        layer.table = table.finish();
        layer
    }

    fn check(layers: &[&str], wanted: &str) {
        let merged = Merged::new(layers.iter().map(|paths| layer(paths)));
        let seen: Vec<&str> = merged.items().iter().map(|(path, _)| *path).collect();
        assert_eq!(seen.join(" "), wanted, "{layers:?}");
    }

    #[test]
    fn upper_layers_hide_lower_ones() {
        for (layers, wanted) in [
            (&["a b/c", "d"][..], "a b/c d"),
            (&["a b/c", "a"], "a b/c"),
            (&["a b/c b/d", "-b/c"], "a b/d"),
            (&["a b/c b/d/e", "-b"], "a"),
            // A name that only begins alike.
            (&["a ab/c", "-a"], "ab/c"),
            (&["a/b a/c", "!a a/d"], "a/d"),
            (&["a/b", "! c"], "c"),
            // What a layer itself has stays, whatever it takes away.
            (&["a/b", "-a a/c"], "a/c"),
            (&["a/b", "-a", "a/b"], "a/b"),
            // A file or a link in the place of a folder, and a folder in the place of a file.
            (&["a/b", "a"], "a"),
            (&["a/b", "a>c"], ""),
            (&["a", "a/ a/b"], "a/b"),
            (&["a/b", "a/"], "a/b"),
        ] {
            check(layers, wanted);
        }
    }

    #[test]
    fn links_of_lower_layers_are_followed() {
        for (layers, wanted) in [
            (&["lib>usr/lib usr/lib/a", "lib/b"][..], "usr/lib/a usr/lib/b"),
            (&["lib>usr/lib usr/lib/a", "lib/a"], "usr/lib/a"),
            (&["lib>usr/lib usr/lib/a", "-lib/a"], ""),
            (&["lib>usr/lib usr/lib/a", "!lib lib/b"], "usr/lib/b"),
            (&["lib>/usr/lib usr/lib>../x x/a", "lib/b"], "x/a x/b"),
            (&["a/l>../b b/c", "a/l/d"], "b/c b/d"),
            // A folder of its own replaces the link.
            (&["lib>usr/lib usr/lib/a", "lib/ lib/b"], "lib/b usr/lib/a"),
            // One that is gone is followed no more.
            (&["lib>usr/lib", "-lib", "lib/b"], "lib/b"),
            // One that leads round.
            (&["a>b b>a", "a/c"], "a/c"),
            // Out of the root.
            (&["a>../../x", "a/c"], "x/c"),
            (&["a>/", "a/c"], "c"),
        ] {
            check(layers, wanted);
        }
    }

    #[test]
    fn a_text_is_found_behind_links() {
        let merged = Merged::new([
            layer("usr/lib/os-release etc/os-release>../usr/lib/os-release loop>loop gone>x"),
            layer("-x"),
        ]);
        for (path, wanted) in [
            ("etc/os-release", Some("usr/lib/os-release")),
            ("usr/lib/os-release", Some("usr/lib/os-release")),
            ("loop", None),
            ("gone", None),
            ("nothing", None),
        ] {
            assert_eq!(merged.text(path), wanted.map(str::as_bytes), "{path}");
        }
        assert!(merged.has_below("usr"));
        assert!(!merged.has_below("etc/os"));
        let hidden = Merged::new([layer("a/b"), layer("-a")]);
        assert!(!hidden.has_below("a"));
        assert_eq!(hidden.hidden_items().count(), 1);
    }
}
