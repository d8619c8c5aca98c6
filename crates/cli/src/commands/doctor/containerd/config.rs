//! What containerd loads: its file, what that imports, and how they are put together.
//!
//! Read in containerd's `services/server/config` (1.6, 1.7) and `cmd/containerd/server/config` (2.x),
//! and compared with `config dump` of 1.6.20, 1.7.24 and 2.1.9:
//!
//! - Imports come after the file that names them, breadth first, each file once; a pattern is
//!   resolved if it has a `*`, and a name without one must exist, or containerd does not start.
//!   `/etc/containerd/conf.d` is read only if it is imported.
//! - Up to 1.7 a later file that has a table of a plug-in replaces the whole table of that plug-in.
//!   Since 2.0 tables are merged key by key.
//! - Up to 1.7 the handler `runc` is built in only if no handler is named at all. Since 2.0 it
//!   always is.
//! - 2.0 to 2.2 take the version of the last file that has one for all of them; since 2.3 each file
//!   is migrated by itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use toml::Value;

use super::super::files::{Host, Text};
use super::super::finding::Place;

/// Most files that are read.
const MAX_FILES: usize = 256;

const V1: &str = "cri";
const V2: &str = "io.containerd.grpc.v1.cri";
const RUNTIME: &str = "io.containerd.cri.v1.runtime";
const IMAGES: &str = "io.containerd.cri.v1.images";

/// A version of containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::commands::doctor) struct Version(pub(super) u32, pub(super) u32, pub(super) u32);

impl std::str::FromStr for Version {
    type Err = String;

    /// From `1.7.24`, `v2.1.9` or `1.6.20~ds1-1+deb12u3`; a missing patch is 0.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim().trim_start_matches('v');
        let mut numbers = text.splitn(3, '.').map(|part| {
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..end].parse::<u32>().ok()
        });
        match (numbers.next().flatten(), numbers.next().flatten(), numbers.next()) {
            (Some(major), Some(minor), patch) => {
                Ok(Self(major, minor, patch.flatten().unwrap_or(0)))
            }
            _ => Err("write a version such as 1.7.24".to_owned()),
        }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Version {
    /// Whether `runtime_path` has an effect; before, it is read and forgotten.
    pub(super) fn knows_runtime_path(self) -> bool {
        self >= Self(1, 6, 21) && self != Self(1, 7, 0)
    }

    /// Whether tables of a plug-in are merged and the handler `runc` is always there.
    pub(super) fn merges(self) -> bool {
        self.0 >= 2
    }

    /// Whether each file is migrated by itself.
    fn migrates_each(self) -> bool {
        self >= Self(2, 3, 0)
    }
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// It cannot be used, and containerd does not start with it.
    Unusable { file: String, line: Option<usize>, what: String },
    /// A file imports it by name, and it is not there.
    MissingImport { file: String, import: String },
    /// A later file replaced what an earlier one said of Kubernetes.
    Replaced { file: String, by: String },
}

/// A value with where it is written; nowhere, if it is built in.
pub(super) type Written = (String, Option<Place>);

/// One handler.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Handler {
    /// Where its table is.
    pub(super) place: Option<Place>,
    pub(super) kind: Option<Written>,
    pub(super) path: Option<Written>,
    /// `options.BinaryName`.
    pub(super) binary: Option<Written>,
    pub(super) snapshotter: Option<Written>,
    pub(super) sandboxer: Option<Written>,
}

/// What containerd does for Kubernetes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::commands::doctor) struct Cri {
    pub(super) disabled: Option<Place>,
    pub(super) default: Written,
    pub(super) handlers: BTreeMap<String, Handler>,
    pub(super) sandbox_image: Option<Written>,
    /// The files that were read, in order.
    pub(super) files: Vec<String>,
    pub(super) problems: Vec<Problem>,
    /// The version of the configuration's format.
    pub(super) format: i64,
}

/// Values by the path of their keys.
type Leaves = BTreeMap<Vec<String>, (Value, Place)>;

struct Loaded {
    leaves: Leaves,
    files: Vec<String>,
    problems: Vec<Problem>,
    format: i64,
}

impl Cri {
    /// What this version of containerd makes of a configuration.
    pub(super) fn load(host: &Host, path: &str, version: Version) -> Self {
        let loaded = load(host, path, version);
        Self::of(loaded, version)
    }

    fn of(loaded: Loaded, version: Version) -> Self {
        let Loaded { leaves, files, problems, format } = loaded;
        let leaves = canonical(leaves, format, version);
        let text = |path: &[&str]| {
            let path: Vec<String> = path.iter().map(ToString::to_string).collect();
            let (value, place) = leaves.get(&path)?;
            Some((value.as_str()?.to_owned(), Some(place.clone())))
        };
        let prefix = ["plugins", RUNTIME, "containerd"];
        let under = |more: &[&str]| text(&[&prefix[..], more].concat());
        let mut handlers: BTreeMap<String, Handler> = BTreeMap::new();
        let handler_of = |path: &[&str]| {
            let at =
                |key: &[&str]| under(&[path, key].concat()).filter(|(text, _)| !text.is_empty());
            Handler {
                place: None,
                kind: at(&["runtime_type"]),
                path: at(&["runtime_path"]),
                binary: at(&["options", "BinaryName"]),
                snapshotter: at(&["snapshotter"]),
                sandboxer: at(&["sandboxer"]).or_else(|| at(&["sandbox_mode"])),
            }
        };
        let runtimes = [&prefix[..], &["runtimes"]].concat();
        for (path, (value, place)) in &leaves {
            let below = path.len() == runtimes.len() + 1 && value.is_table();
            if below && path.iter().zip(&runtimes).all(|(a, b)| a == b) {
                let name = &path[runtimes.len()];
                let found = handler_of(&["runtimes", name]);
                handlers.insert(name.clone(), Handler { place: Some(place.clone()), ..found });
            }
        }
        if version.merges() || handlers.is_empty() {
            let built_in = || Some(("io.containerd.runc.v2".to_owned(), None));
            let runc = handlers.entry("runc".to_owned()).or_default();
            runc.kind = runc.kind.take().or_else(built_in);
        }
        let mut default = under(&["default_runtime_name"]).unwrap_or_else(|| ("runc".into(), None));
        if !version.merges() {
            // Tables of an old form, which go before the others.
            for (table, name) in
                [("default_runtime", "default"), ("untrusted_workload_runtime", "untrusted")]
            {
                let found = handler_of(&[table]);
                let Some((_, place)) = &found.kind else { continue };
                let place = place.clone();
                if name == "default" {
                    default = (name.to_owned(), place.clone());
                }
                handlers.insert(name.to_owned(), Handler { place, ..found });
            }
        }
        let disabled =
            leaves.get(&vec!["disabled_plugins".to_owned()]).and_then(|(value, place)| {
                let names = value.as_array()?.iter().filter_map(Value::as_str);
                let is_cri = |name: &str| [V1, V2, RUNTIME].contains(&name);
                names.into_iter().any(is_cri).then(|| place.clone())
            });
        Self {
            disabled,
            default,
            handlers,
            sandbox_image: text(&["plugins", IMAGES, "pinned_images", "sandbox"]),
            files,
            problems,
            format,
        }
    }
}

/// Reads a file and all that it imports.
fn load(host: &Host, path: &str, version: Version) -> Loaded {
    let mut loaded =
        Loaded { leaves: Leaves::new(), files: Vec::new(), problems: Vec::new(), format: 0 };
    let mut pending = VecDeque::from([(path.to_owned(), None::<String>)]);
    let mut seen = BTreeSet::new();
    while let Some((path, importer)) = pending.pop_front() {
        if seen.len() >= MAX_FILES || !seen.insert(path.clone()) {
            continue;
        }
        let unusable = |line, what| Problem::Unusable { file: path.clone(), line, what };
        let text = match host.read(&path) {
            Text::Read(text) => text,
            Text::Absent => {
                if let Some(file) = importer {
                    loaded.problems.push(Problem::MissingImport { file, import: path });
                }
                continue;
            }
            Text::Unusable(what) => {
                loaded.problems.push(unusable(None, what));
                continue;
            }
        };
        let table: toml::Table = match toml::from_str(&text) {
            Ok(table) => table,
            Err(error) => {
                let line = error.span().map(|span| line_at(&text, span.start));
                loaded.problems.push(unusable(line, error.message().replace('\n', " ")));
                continue;
            }
        };
        let format = table.get("version").and_then(Value::as_integer).unwrap_or(0);
        let imports = table.get("imports").and_then(Value::as_array).cloned().unwrap_or_default();
        take(&mut loaded, table, &path, format, version);
        loaded.files.push(path.clone());
        for import in imports.iter().filter_map(Value::as_str) {
            for found in resolved(host, import, &path, version) {
                pending.push_back((found, Some(path.clone())));
            }
        }
    }
    loaded
}

/// From 1.
pub(in crate::commands::doctor) fn line_at(text: &str, byte: usize) -> usize {
    text.as_bytes().iter().take(byte).filter(|b| **b == b'\n').count() + 1
}

fn resolved(host: &Host, import: &str, parent: &str, version: Version) -> Vec<String> {
    let absolute = import.starts_with('/');
    // Before 1.6.29 and 1.7.16 a relative pattern is resolved below containerd's working folder,
    // which is the root.
    let fixed = if version >= Version(1, 7, 0) { Version(1, 7, 16) } else { Version(1, 6, 29) };
    let pattern_at_root = version < fixed && import.contains('*');
    let path = match (absolute, pattern_at_root) {
        (true, _) => import.to_owned(),
        (false, true) => format!("/{import}"),
        (false, false) => {
            let folder = parent.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{folder}/{import}")
        }
    };
    let path = clean(&path);
    if path.contains('*') { host.glob(&path) } else { vec![path] }
}

/// A path without `.`, `..` and doubled slashes, as Go's `filepath.Clean` makes it.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Puts one file over what was read before.
fn take(loaded: &mut Loaded, table: toml::Table, file: &str, format: i64, version: Version) {
    let mut leaves = Vec::new();
    flatten(Value::Table(table), &mut Vec::new(), &mut leaves);
    if !version.merges() {
        let mut sections: BTreeSet<&String> = BTreeSet::new();
        for (path, _) in &leaves {
            if let [plugins, section, ..] = path.as_slice()
                && plugins == "plugins"
            {
                sections.insert(section);
            }
        }
        let is_new = |path: &[String]| {
            path.first().is_some_and(|p| p == "plugins")
                && path.get(1).is_some_and(|section| sections.contains(section))
        };
        let replaced = loaded.leaves.iter().find(|(path, _)| {
            is_new(path) && [V1, V2].contains(&path[1].as_str()) && path.len() > 2
        });
        if let Some((_, (_, place))) = replaced {
            let (of, by) = (place.file.clone(), file.to_owned());
            loaded.problems.push(Problem::Replaced { file: of, by });
        }
        loaded.leaves.retain(|path, _| !is_new(path));
    }
    for (path, value) in leaves {
        let place = Place { file: file.to_owned(), key: dotted(&path) };
        let path = match version.migrates_each() && format < 3 {
            true => match migrated(&path) {
                Some(path) => path,
                None => continue,
            },
            false if version.merges() && format < 2 => renamed(path),
            false => path,
        };
        match (value, loaded.leaves.get_mut(&path)) {
            // Lists are joined.
            (Value::Array(more), Some((Value::Array(list), _))) if path.len() == 1 => {
                list.extend(more);
            }
            (value, _) => {
                loaded.leaves.insert(path, (value, place));
            }
        }
    }
    match format {
        // 2.0 to 2.2 rename the plug-ins of a file without a version, and then take it for one of
        // the newest format.
        0 | 1 if version.merges() => loaded.format = 3,
        0 => {}
        format => loaded.format = format,
    }
}

/// Lists all values below a table, and the tables themselves as empty ones.
fn flatten(value: Value, path: &mut Vec<String>, out: &mut Vec<(Vec<String>, Value)>) {
    match value {
        Value::Table(table) => {
            if !path.is_empty() {
                out.push((path.clone(), Value::Table(toml::Table::new())));
            }
            for (key, value) in table {
                path.push(key);
                flatten(value, path, out);
                path.pop();
            }
        }
        value => out.push((path.clone(), value)),
    }
}

/// The path of a key as TOML writes it.
fn dotted(path: &[String]) -> String {
    let is_bare = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    };
    let parts = path.iter().map(|part| match is_bare(part) {
        true => part.clone(),
        false => format!("\"{part}\""),
    });
    parts.collect::<Vec<_>>().join(".")
}

/// The key of format 2 for one of format 1.
fn renamed(mut path: Vec<String>) -> Vec<String> {
    if path.len() > 1 && path[0] == "plugins" && path[1] == V1 {
        path[1] = V2.to_owned();
    }
    path
}

/// The key of format 3 for one of format 1 or 2; `None` where that has none that matters here.
fn migrated(path: &[String]) -> Option<Vec<String>> {
    let words: Vec<&str> = path.iter().map(String::as_str).collect();
    let moved = |section: &str, rest: &[&str]| {
        Some(["plugins", section].iter().chain(rest).map(ToString::to_string).collect())
    };
    match words.as_slice() {
        ["plugins", V1 | V2, "sandbox_image"] => moved(IMAGES, &["pinned_images", "sandbox"]),
        ["plugins", V1 | V2, "containerd", "snapshotter"] => moved(IMAGES, &["snapshotter"]),
        ["plugins", V1 | V2, rest @ ..] => moved(RUNTIME, rest),
        _ => Some(path.to_vec()),
    }
}

/// All keys that count, as those of format 3.
fn canonical(leaves: Leaves, format: i64, version: Version) -> Leaves {
    if version.migrates_each() || (version.merges() && format >= 3) {
        return leaves;
    }
    let section = if !version.merges() && format < 2 { V1 } else { V2 };
    // 2.0 to 2.2 let a key of the old table through only if the new one has nothing like it.
    let written: BTreeSet<Vec<String>> = leaves.keys().map(|path| path_head(path)).collect();
    let mut out = Leaves::new();
    for (path, value) in leaves {
        let of_section = path.first().is_some_and(|p| p == "plugins")
            && path.get(1).is_some_and(|name| name == section);
        if !of_section {
            if version.merges() || path.first().is_some_and(|p| p != "plugins") {
                out.insert(path, value);
            }
            continue;
        }
        let Some(to) = migrated(&path) else { continue };
        if to.len() < 4 || !version.merges() || !written.contains(&path_head(&to)) {
            out.entry(to).or_insert(value);
        }
    }
    out
}

/// The keys by which 2.0 to 2.2 compare an old table with a new one.
fn path_head(path: &[String]) -> Vec<String> {
    path.iter().take(4).cloned().collect()
}

#[cfg(test)]
mod tests;
