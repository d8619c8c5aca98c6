//! All paths of a layer, in order, small enough to keep: half a million take some 20 MB.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// Most paths of a layer.
const MAX_PATHS: usize = 4 << 20;
/// Bytes of a file's SHA-256 that are kept. Two files that share 16 bytes do not come by accident.
pub(crate) const HASH: usize = 16;
/// A path that is written whole comes after so many.
const BLOCK: usize = 32;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A regular file, with the first 16 bytes of its SHA-256.
    File([u8; HASH]),
    /// A regular file that was not read.
    Unread,
    /// A symbolic link, with what it says.
    Link(String),
    /// A device, a fifo or a socket.
    Other,
}

/// Why the bytes are no table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Not as a table is written.
    #[error("a table of paths is damaged")]
    Damaged,
    /// More paths than any layer has.
    #[error("a layer has at most {MAX_PATHS} paths")]
    TooMany,
}

/// The paths of a layer, sorted, each once; of each path only what differs from the one before is
/// kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Bytes", into = "Bytes")]
pub struct FileTable {
    bytes: Vec<u8>,
    /// Where a path is written whole.
    blocks: Vec<u32>,
    count: usize,
}

/// As it is stored.
#[derive(Clone, Serialize, Deserialize)]
struct Bytes(Vec<u8>);

impl From<FileTable> for Bytes {
    fn from(table: FileTable) -> Self {
        Self(table.bytes)
    }
}

impl TryFrom<Bytes> for FileTable {
    type Error = TableError;

    fn try_from(Bytes(bytes): Bytes) -> Result<Self, TableError> {
        let (mut blocks, mut count) = (Vec::new(), 0);
        let mut cursor = Cursor { bytes: &bytes, at: 0, path: String::new() };
        let mut before: Option<String> = None;
        while cursor.at < bytes.len() {
            if count >= MAX_PATHS {
                return Err(TableError::TooMany);
            }
            let is_whole = count % BLOCK == 0;
            if is_whole {
                blocks.push(u32::try_from(cursor.at).map_err(|_| TableError::TooMany)?);
            }
            let shared = cursor.next().ok_or(TableError::Damaged)?.1;
            let is_behind = before.as_ref().is_none_or(|b| b.as_str() < cursor.path.as_str());
            if !is_behind || (is_whole && shared != 0) {
                return Err(TableError::Damaged);
            }
            before.get_or_insert_default().clone_from(&cursor.path);
            count += 1;
        }
        Ok(Self { bytes, blocks, count })
    }
}

/// Reads entries one after another.
struct Cursor<'t> {
    bytes: &'t [u8],
    at: usize,
    path: String,
}

impl Cursor<'_> {
    fn number(&mut self) -> Option<usize> {
        let mut number = 0_usize;
        for shift in [0, 7, 14, 21] {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            number |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn text(&mut self) -> Option<&str> {
        let length = self.number()?;
        std::str::from_utf8(self.take(length)?).ok()
    }

    /// Goes to the next path; gives what stands there, and how much of the path was shared.
    fn next(&mut self) -> Option<(Kind, usize)> {
        let shared = self.number()?;
        if !self.path.is_char_boundary(shared) {
            return None;
        }
        let mut path = std::mem::take(&mut self.path);
        path.truncate(shared);
        path.push_str(self.text()?);
        self.path = path;
        let kind = match self.take(1)?.first()? {
            b'd' => Kind::Folder,
            b'f' => Kind::File(self.take(HASH)?.try_into().ok()?),
            b'u' => Kind::Unread,
            b'l' => Kind::Link(self.text()?.to_owned()),
            b'o' => Kind::Other,
            _ => return None,
        };
        Some((kind, shared))
    }
}

impl FileTable {
    /// How many paths there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What stands at a path of this layer.
    pub fn get(&self, path: &str) -> Option<Kind> {
        self.from(path).next().filter(|(found, _)| found == path).map(|(_, kind)| kind)
    }

    /// Whether there is a path below a folder.
    pub fn has_below(&self, folder: &str) -> bool {
        let first = format!("{folder}/");
        self.from(&first).next().is_some_and(|(found, _)| found.starts_with(&first))
    }

    /// All paths in order.
    pub fn iter(&self) -> impl Iterator<Item = (String, Kind)> + '_ {
        self.from("")
    }

    /// Calls with each path in order. Unlike [`Self::iter`] it makes no text of each.
    pub fn each(&self, mut with: impl FnMut(&str, Kind)) {
        let mut cursor = Cursor { bytes: &self.bytes, at: 0, path: String::new() };
        while let Some((kind, _)) = cursor.next() {
            with(&cursor.path, kind);
        }
    }

    /// The paths that are not before this one.
    pub fn from<'t>(&'t self, path: &'t str) -> impl Iterator<Item = (String, Kind)> + 't {
        let block = self.blocks.partition_point(|at| {
            let mut cursor = Cursor { bytes: &self.bytes, at: *at as usize, path: String::new() };
            cursor.next().is_some() && cursor.path.as_str().cmp(path) != Ordering::Greater
        });
        let at = self.blocks.get(block.saturating_sub(1)).map_or(0, |at| *at as usize);
        let mut cursor = Cursor { bytes: &self.bytes, at, path: String::new() };
        std::iter::from_fn(move || cursor.next().map(|(kind, _)| (cursor.path.clone(), kind)))
            .skip_while(move |(found, _)| found.as_str() < path)
    }
}

/// Collects the paths of a layer, in any order.
#[derive(Debug, Default)]
pub struct TableBuilder {
    /// All paths, one after another.
    text: Vec<u8>,
    entries: Vec<(u32, u16, Kind)>,
}

impl TableBuilder {
    /// Adds a path, or takes the place of what stood there.
    ///
    /// # Errors
    /// [`TableError::TooMany`].
    pub fn add(&mut self, path: &str, kind: Kind) -> Result<(), TableError> {
        if self.entries.len() >= MAX_PATHS {
            return Err(TableError::TooMany);
        }
        let start = u32::try_from(self.text.len()).map_err(|_| TableError::TooMany)?;
        let length = u16::try_from(path.len()).map_err(|_| TableError::TooMany)?;
        self.text.extend_from_slice(path.as_bytes());
        self.entries.push((start, length, kind));
        Ok(())
    }

    /// The table. Of several entries for a path the last one counts.
    pub fn finish(mut self) -> FileTable {
        let text = std::mem::take(&mut self.text);
        let path = |start: u32, length: u16| {
            let start = start as usize;
            text.get(start..start + usize::from(length)).unwrap_or_default()
        };
        // Stable, so that the last one stays the last.
        self.entries.sort_by(|a, b| path(a.0, a.1).cmp(path(b.0, b.1)));
        let (mut bytes, mut blocks, mut count) = (Vec::new(), Vec::new(), 0);
        let mut before: &[u8] = &[];
        let mut entries = self.entries.iter().peekable();
        while let Some((start, length, kind)) = entries.next() {
            let own = path(*start, *length);
            if entries.peek().is_some_and(|(start, length, _)| path(*start, *length) == own) {
                continue;
            }
            let is_whole = count % BLOCK == 0;
            let mut shared = match is_whole {
                true => 0,
                false => before.iter().zip(own).take_while(|(a, b)| a == b).count(),
            };
            // Not in the middle of a character.
            while own.get(shared).is_some_and(|byte| byte & 0xc0 == 0x80) {
                shared -= 1;
            }
            if is_whole {
                blocks.push(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            }
            number(&mut bytes, shared);
            number(&mut bytes, own.len() - shared);
            bytes.extend_from_slice(&own[shared..]);
            match kind {
                Kind::Folder => bytes.push(b'd'),
                Kind::File(hash) => {
                    bytes.push(b'f');
                    bytes.extend_from_slice(hash);
                }
                Kind::Unread => bytes.push(b'u'),
                Kind::Link(target) => {
                    bytes.push(b'l');
                    number(&mut bytes, target.len());
                    bytes.extend_from_slice(target.as_bytes());
                }
                Kind::Other => bytes.push(b'o'),
            }
            before = own;
            count += 1;
        }
        FileTable { bytes, blocks, count }
    }
}

/// Seven bits a byte, the low ones first. A path is far shorter than what four bytes tell.
fn number(bytes: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn kind() -> impl Strategy<Value = Kind> {
        prop_oneof![
            Just(Kind::Folder),
            any::<[u8; HASH]>().prop_map(Kind::File),
            Just(Kind::Unread),
            "[a-z/.é]{0,40}".prop_map(Kind::Link),
            Just(Kind::Other),
        ]
    }

    proptest! {
        #[test]
        fn a_table_is_what_was_put_in(
            entries in prop::collection::vec(("[abé]{1,3}(/[abé]{1,3}){0,3}", kind()), 0..200),
            asked in prop::collection::vec("[abé]{1,3}(/[abé]{1,3}){0,2}", 0..20),
        ) {
            let mut builder = TableBuilder::default();
            for (path, kind) in &entries {
                builder.add(path, kind.clone()).unwrap();
            }
            let table = builder.finish();
            let wanted: BTreeMap<String, Kind> = entries.iter().cloned().collect();
            prop_assert_eq!(table.len(), wanted.len());
            prop_assert_eq!(table.iter().collect::<Vec<_>>(), wanted.clone().into_iter().collect::<Vec<_>>());
            for path in asked.iter().chain(wanted.keys()) {
                prop_assert_eq!(table.get(path), wanted.get(path).cloned());
                let below = wanted.keys().any(|p| p.starts_with(&format!("{path}/")));
                prop_assert_eq!(table.has_below(path), below);
            }
            let stored = postcard::to_stdvec(&table).unwrap();
            prop_assert_eq!(postcard::from_bytes::<FileTable>(&stored).unwrap(), table);
        }

        #[test]
        fn any_bytes_are_a_table_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(table) = FileTable::try_from(Bytes(bytes)) {
                prop_assert_eq!(table.iter().count(), table.len());
            }
        }
    }

    #[test]
    fn a_damaged_table_is_an_error() {
        let mut builder = TableBuilder::default();
        for path in ["a", "b", "bc"] {
            builder.add(path, Kind::File([7; HASH])).unwrap();
        }
        let Bytes(bytes) = builder.finish().into();
        assert!(FileTable::try_from(Bytes(bytes.clone())).is_ok());
        for cut in 1..bytes.len() {
            let Ok(table) = FileTable::try_from(Bytes(bytes[..cut].to_vec())) else { continue };
            assert!(table.len() < 3, "{cut}");
        }
        // Not in order.
        let twice: Vec<u8> = [&bytes[..], &bytes[..]].concat();
        assert_eq!(FileTable::try_from(Bytes(twice)), Err(TableError::Damaged));
    }
}
