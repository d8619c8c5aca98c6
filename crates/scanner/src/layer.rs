//! A layer that is an archive (OCI image spec, `layer.md`), laid out as an engine would.

use std::collections::BTreeMap;
use std::io::{self, Read};

use portcullis_baseline::Mode;
use portcullis_inventory::{Kind, Layer, escaped, normal, real_place};

use crate::gather::{Gatherer, LayerError};
use crate::tar::{Entry, EntryKind, Tar};

/// Marks what a layer takes away.
const WHITEOUT: &str = ".wh.";
/// Marks a folder of which nothing stays.
const OPAQUE: &str = ".wh..wh..opq";
/// Begins names that aufs had for itself, which engines pass over.
const OF_AUFS: &str = ".wh..wh.";

/// Types of files in a mode (inode(7)).
const IS_FOLDER: u32 = 0o040_000;
const IS_FILE: u32 = 0o100_000;
const IS_LINK: u32 = 0o120_000;
const IS_OTHER: u32 = 0o020_000;

/// Takes the content of a layer, an archive.
pub(crate) type Unpack<'u> = &'u mut dyn FnMut(&mut dyn Read) -> Result<(), LayerError>;

/// Takes an entry of a layer, with its content.
type Take<'t> = &'t mut dyn FnMut(Place, &Entry, &mut dyn Read) -> Result<(), LayerError>;

/// Reads a layer. `open` begins it anew; it is called a second time if files have other names by
/// which more is known of them.
pub(crate) fn read(
    mut gatherer: Gatherer<'_>,
    open: &mut dyn FnMut(Unpack<'_>) -> Result<(), LayerError>,
) -> Result<Layer, LayerError> {
    open(&mut |archive| {
        unpack(archive, &mut |place, entry, content| put(&mut gatherer, place, entry, content))
    })?;
    let again = gatherer.again();
    if !again.is_empty() {
        open(&mut |archive| {
            unpack(archive, &mut |place, entry, content| {
                let Place::Here(path) = place else { return Ok(()) };
                if entry.kind == EntryKind::File
                    && let Some(names) = again.get(&path)
                    && let Some((name, more)) = names.split_first()
                {
                    // Content is read once only; a second such name is nothing that happens.
                    gatherer.file_as(name, entry.size, content)?;
                    for name in more {
                        gatherer.unread(name, "it is one of several names of a file");
                    }
                }
                Ok(())
            })
        })?;
    }
    gatherer.finish()
}

/// Where an entry goes.
pub(crate) enum Place {
    /// To this path.
    Here(String),
    /// It takes this path away.
    Removes(String),
    /// It takes away what lower layers have in this folder.
    Opaque(String),
}

fn unpack(archive: &mut dyn Read, with: Take<'_>) -> Result<(), LayerError> {
    let mut tar = Tar::new(archive);
    // Links of this layer through which later entries go.
    let mut links: BTreeMap<String, String> = BTreeMap::new();
    while let Some(entry) = tar.next_entry()? {
        if matches!(entry.kind, EntryKind::Unknown(_)) {
            continue;
        }
        let wrong = || {
            LayerError::Path(
                escaped(&entry.path).chars().take(200).flat_map(char::escape_debug).collect(),
            )
        };
        let path = inside(&entry.path).ok_or_else(wrong)?;
        let path = real_place(&links, &path).ok_or_else(wrong)?;
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let place = if name == OPAQUE {
            // Of the root it takes nothing away: overlayfs always merges that one (kernel,
            // Documentation/filesystems/overlayfs.rst), and what others do can only hide more.
            if folder.is_empty() {
                continue;
            }
            Place::Opaque(folder.to_owned())
        } else if name.starts_with(OF_AUFS) {
            continue;
        } else if let Some(name) = name.strip_prefix(WHITEOUT) {
            match name {
                "" | "." | ".." => return Err(wrong()),
                name if folder.is_empty() => Place::Removes(name.to_owned()),
                name => Place::Removes(format!("{folder}/{name}")),
            }
        } else {
            // What replaces a link is none.
            links.remove(&path);
            if entry.kind == EntryKind::SymbolicLink && !path.is_empty() {
                links.insert(path.clone(), escaped(&entry.link).into_owned());
            }
            Place::Here(path)
        };
        with(place, &entry, &mut tar)?;
    }
    // An engine reads to the end, too, and so the digest is of everything.
    io::copy(&mut tar.into_inner(), &mut io::sink())?;
    Ok(())
}

fn put(
    gatherer: &mut Gatherer<'_>,
    place: Place,
    entry: &Entry,
    content: &mut dyn Read,
) -> Result<(), LayerError> {
    gatherer.count()?;
    let path = match place {
        Place::Here(path) => path,
        Place::Removes(path) => {
            gatherer.removed(path);
            return Ok(());
        }
        Place::Opaque(folder) => {
            gatherer.opaque(folder);
            return Ok(());
        }
    };
    // The root is there already, and engines pass over what else has its path.
    if path.is_empty() {
        return Ok(());
    }
    match entry.kind {
        EntryKind::Folder => gatherer.other(&path, Kind::Folder, mode(entry, IS_FOLDER)),
        EntryKind::SymbolicLink => {
            let target = escaped(&entry.link);
            let target = target.get(..4096).unwrap_or(&target).to_owned();
            gatherer.other(&path, Kind::Link(target), mode(entry, IS_LINK))
        }
        EntryKind::HardLink => {
            let target = inside(&entry.link).ok_or_else(|| LayerError::Path(path.clone()))?;
            gatherer.hard_link(path, target);
            Ok(())
        }
        EntryKind::Device(..) | EntryKind::Fifo => {
            gatherer.other(&path, Kind::Other, mode(entry, IS_OTHER))
        }
        EntryKind::File => gatherer.file(&path, mode(entry, IS_FILE), entry.size, content),
        EntryKind::Unknown(_) => Ok(()),
    }
}

fn mode(entry: &Entry, kind: u32) -> Mode {
    Mode {
        mode: entry.mode | kind,
        uid: entry.uid,
        gid: entry.gid,
        capabilities: entry.capabilities,
    }
}

/// A path of an archive, as engines take it: `..` is resolved within the root
/// (`filepath.Join("/", name)`).
fn inside(path: &[u8]) -> Option<String> {
    if let Some(path) = normal(path) {
        return Some(path);
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    normal(&parts.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Detectors;
    use crate::packages::Tools;
    use portcullis_inventory::protocol::Limits;

    #[test]
    fn nothing_but_the_root_is_at_the_root() {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, kind) in [("", b'0'), ("./", b'2'), ("a/..", b'1'), ("/", b'5'), ("b", b'0')] {
            let mut header = tar::Header::new_ustar();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.as_mut_bytes()[157] = b'b';
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_size(0);
            header.set_entry_type(tar::EntryType::new(kind));
            header.set_cksum();
            archive.append(&header, &[][..]).unwrap();
        }
        let archive = archive.into_inner().unwrap();
        let (tools, mut detectors, limits) =
            (Tools::new(), Detectors::default(), Limits::default());
        let scratch = rustix::fs::CWD;
        let gatherer = Gatherer::new(&tools, &mut detectors, &limits, scratch, Box::new(|_| ()));
        let layer = read(gatherer, &mut |with| with(&mut &archive[..])).unwrap();
        assert_eq!(layer.table.iter().map(|(path, _)| path).collect::<Vec<_>>(), ["b"]);
        assert!(layer.items.is_empty());
    }
}
