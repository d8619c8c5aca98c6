//! Images in archives and layouts, and their layers: out of their compression, out of their archive,
//! and into an inventory.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use portcullis_inventory::protocol::{Limits, receive, send};
use portcullis_inventory::{Kind, Layer, Merged};
use portcullis_scanner::fuzzing::{Entry, Reader, entries, image, unpacked};
use portcullis_types::Digest;

use crate::pieces::Pieces;
use crate::text::told;

/// Most bytes that come out of a layer.
const MOST_BYTES: u64 = 1 << 20;
/// Most bytes of a file that are read.
const MOST_OF_A_FILE: u64 = 1 << 16;
const BLOCK: usize = 512;

/// A tar archive, as it is and with checksums that are right.
///
/// How it is cut into pieces changes nothing. There are no more entries than blocks, and no more
/// content than bytes, but for holes. Accepted: it is read to its end, and what was found, written
/// anew in the plainest form, is read as the same.
pub fn tar(data: &[u8]) -> bool {
    // Each must have its turn, so none may cut the other short.
    [archive(data), archive(&repaired(data))].contains(&true)
}

/// With the checksum of each block that looks like a header, unless its checksum is empty.
fn repaired(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    let headers = data.chunks_exact_mut(BLOCK);
    for block in headers.filter(|block| block[148] != 0 && block[100..107].is_ascii()) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }
    data
}

fn archive(data: &[u8]) -> bool {
    let (found, read) = entries(data, MOST_OF_A_FILE);
    for size in [1, 3, 511] {
        let (cut, end) = entries(Pieces::new(data, size), MOST_OF_A_FILE);
        assert_eq!(cut, found, "cut into pieces of {size}");
        assert_eq!(end.is_ok(), read.is_ok(), "cut into pieces of {size}");
    }
    assert!(found.len() <= data.len() / BLOCK, "{} entries", found.len());
    for entry in &found {
        assert!(entry.content.len() as u64 == entry.size.min(MOST_OF_A_FILE), "{entry:?}");
        assert!(entry.mode[0] <= 0o7777, "{entry:?}");
        assert!(entry.size == 0 || !matches!(entry.kind.0, b'1'..=b'6'), "{entry:?}");
    }
    let stored = |entry: &&Entry| entry.content.iter().any(|byte| *byte != 0);
    let not_zero: usize = found
        .iter()
        .filter(stored)
        .map(|entry| entry.content.iter().filter(|byte| **byte != 0).count())
        .sum();
    assert!(not_zero <= data.len(), "{not_zero} bytes of content");
    if let Err(error) = &read {
        told(&**error);
        return false;
    }
    let is_whole = |entry: &Entry| entry.size <= MOST_OF_A_FILE && !entry.path.contains(&0);
    if found.len() <= 32 && found.iter().all(is_whole) {
        let written = crate::encode::tar(&found);
        let (again, end) = entries(&*written, MOST_OF_A_FILE);
        end.expect("what was written is read");
        assert_eq!(again, found, "written anew");
    }
    true
}

/// What a layer's file holds, perhaps compressed.
///
/// How it is cut into pieces changes nothing, and neither does a bound, but that it ends there.
/// Accepted: it is read to its end.
pub fn decompression(data: &[u8]) -> bool {
    let (content, read) = unpacked(data, MOST_BYTES);
    assert!(content.len() as u64 <= MOST_BYTES, "{} bytes", content.len());
    for size in [1, 7] {
        let (cut, end) = unpacked(Pieces::new(data, size), MOST_BYTES);
        assert_eq!(end.is_ok(), read.is_ok(), "cut into pieces of {size}");
        assert!(read.is_err() || cut == content, "cut into pieces of {size}");
    }
    if let Err(error) = read {
        told(&error);
        return false;
    }
    let half = content.len() as u64 / 2;
    let (start, end) = unpacked(data, half);
    assert!(content.starts_with(&start) && start.len() as u64 <= half);
    assert_eq!(end.is_ok(), content.is_empty() || half == content.len() as u64);
    true
}

static READER: LazyLock<Reader> = LazyLock::new(Reader::default);

/// A layer: an archive, perhaps compressed, with all that is read in its files. An archive that is not
/// compressed is read with checksums that are right, too.
///
/// Paths have one form, and none leads out of the root. Reading it in pieces gives the same, and so
/// does the way to whoever started the scanner. Accepted: it is a layer.
pub fn layer(data: &[u8]) -> bool {
    [unpacks(data), unpacks(&repaired(data))].contains(&true)
}

fn unpacks(data: &[u8]) -> bool {
    let limits = Limits {
        layer_bytes: MOST_BYTES,
        entries: 256,
        file_bytes: MOST_OF_A_FILE,
        ..Limits::default()
    };
    let layer = match READER.layer(|| data, &limits) {
        Ok(layer) => layer,
        Err(error) => {
            told(&error);
            return false;
        }
    };
    let cut = READER.layer(|| Pieces::new(data, 7), &limits).expect("it was read before");
    assert_eq!(cut, layer, "cut into pieces");
    assert!(layer.table.len() as u64 <= limits.entries, "{} paths", layer.table.len());
    let paths: Vec<String> = layer.table.iter().map(|(path, _)| path).collect();
    let other = layer.items.keys().chain(&layer.removed);
    for path in paths.iter().chain(other) {
        let is_part = |part: &str| !matches!(part, "" | "." | "..");
        assert!(path.split('/').all(is_part), "the path {path:?}");
    }
    for folder in &layer.opaque {
        let is_part = |part: &str| !matches!(part, "" | "." | "..");
        assert!(folder.is_empty() || folder.split('/').all(is_part), "the folder {folder:?}");
    }
    for (path, kind) in layer.table.iter() {
        if let Kind::Link(target) = kind {
            assert!(target.len() <= 4096, "{path}");
        }
        assert_eq!(layer.table.get(&path), layer.table.from(&path).next().map(|(_, kind)| kind));
    }
    let mut pipe = Vec::new();
    send(&mut pipe, &layer).expect("a layer can be sent");
    let heard: Option<Layer> = receive(&mut &*pipe).expect("what was sent is heard");
    assert_eq!(heard.as_ref(), Some(&layer), "on its way");
    let merged = Merged::new([layer]);
    assert!(merged.paths(|_| true).len() <= paths.len());
    true
}

/// What parts documents; it stands in no JSON.
const BETWEEN: u8 = 0x1e;

/// The documents of a layout or, if the first byte is odd, of an archive of `docker save`: the one that
/// leads to the others first. `@1` in a document is the digest of the one behind it, and so on.
///
/// Accepted: the image has as many layers as its configuration, which is one of the documents; all that
/// led to it are, too; and by its names it is found again.
pub fn layouts(data: &[u8]) -> bool {
    let Some((kind, data)) = data.split_first() else { return false };
    let is_docker = kind & 1 != 0;
    let documents: Vec<&[u8]> = data.splitn(8, |byte| *byte == BETWEEN).collect();
    let mut files = BTreeMap::new();
    let mut digests: Vec<(String, Digest)> = Vec::new();
    for (at, document) in documents.iter().enumerate().rev() {
        let mut text = String::from_utf8_lossy(document).into_owned();
        for (mark, digest) in &digests {
            text = text.replace(mark, &digest.to_string());
        }
        let name = match (at, is_docker) {
            (0, true) => "manifest.json".to_owned(),
            (0, false) => "index.json".to_owned(),
            _ => {
                let digest = Digest::of(text.as_bytes());
                let name = format!("blobs/sha256/{}", digest.hex());
                digests.push((format!("@{at}"), digest));
                name
            }
        };
        files.insert(name, text.into_bytes());
    }
    let (found, layers) = match image(&files, is_docker, None) {
        Ok(found) => found,
        Err(error) => {
            told(&*error);
            return false;
        }
    };
    assert!(layers.len() == found.diff_ids.len() && !layers.is_empty(), "{layers:?}");
    assert_eq!(found.config, Some(Digest::of(&found.config_json)));
    assert!(files.values().any(|file| *file == found.config_json));
    for manifest in &found.manifests {
        assert!(digests.iter().any(|(_, digest)| digest == manifest), "{manifest}");
    }
    if !is_docker {
        assert!(!found.manifests.is_empty());
        assert!(layers.iter().all(|layer| layer.starts_with("blobs/")), "{layers:?}");
    }
    for name in &found.references {
        let again = image(&files, is_docker, Some(name));
        let again = again.unwrap_or_else(|error| panic!("by the name {name}: {error}"));
        assert_eq!(again, (found.clone(), layers.clone()), "by the name {name}");
    }
    true
}
