//! Zip archives (PKWARE APPNOTE 6.3.9), read as the Java runtime reads them.
//!
//! Which of several ends and tables in a forged file counts is for the reader to say, and a class
//! that the runtime loads must not be hidden from a scanner by another choice. So the end is looked
//! for as `java.util.zip.ZipFile` does it (openjdk/jdk `Source.findEND`), entries are those of the
//! central directory, and what stands before the archive (a script that starts it) is allowed for.
//!
//! Memory follows the entries that are wanted and not the archive: a jar has tens of thousands of
//! classes, which are passed over without being kept.

use std::io::{self, Read as _, SeekFrom};

use flate2::read::DeflateDecoder;

use crate::LanguageError;
use crate::input::Input;

/// Why an archive, or an entry of it, cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ZipError {
    /// It has no end of its table: it is another file, or cut.
    #[error("it has no end of a central directory")]
    NoEnd,
    /// The table has something else than entries.
    #[error("its central directory is damaged")]
    Directory,
    /// More entries than are read.
    #[error("it has more than {0} entries")]
    Entries(u64),
    /// An entry is not where the table says.
    #[error("the entry is not where the central directory says")]
    Entry,
    /// It is encrypted, or compressed in a way that the Java runtime does not know.
    #[error("the entry is encrypted or compressed with method {0}")]
    Method(u16),
    /// A name that is longer than any path.
    #[error("the entry's name has {0} bytes")]
    Name(usize),
    /// It unpacks to more than is read.
    #[error("it unpacks to more than {0} bytes")]
    Bomb(u64),
    /// Archives lie too deep in each other.
    #[error("archives lie more than {0} deep in each other")]
    Depth(u32),
    /// Its bytes cannot be unpacked.
    #[error("it cannot be unpacked")]
    Unpack(#[source] io::Error),
}

impl From<ZipError> for LanguageError {
    fn from(error: ZipError) -> Self {
        Self::Zip(error)
    }
}

/// An entry of the table.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    method: u16,
    is_encrypted: bool,
    packed: u64,
    /// Where its own header begins in the file.
    header: u64,
}

/// Where the table is.
#[derive(Debug, PartialEq, Eq)]
struct Directory {
    offset: u64,
    size: u64,
    /// What stands in the file before the archive.
    before: u64,
}

const END: usize = 22;
const END_MARK: &[u8] = b"PK\x05\x06";
const LOCATOR_64: u64 = 20;
const LOCATOR_64_MARK: &[u8] = b"PK\x06\x07";
const END_64: u64 = 56;
const END_64_MARK: &[u8] = b"PK\x06\x06";
const ENTRY: usize = 46;
const ENTRY_MARK: &[u8] = b"PK\x01\x02";
const LOCAL: u64 = 30;
const LOCAL_MARK: &[u8] = b"PK\x03\x04";
/// How far before the file's end its table's end may begin: a comment has at most 64 kB.
const MAX_COMMENT: u64 = 0xffff;
/// How much of the table is read at once; larger than any entry.
const WINDOW: u64 = 512 << 10;
/// Most bytes of a name.
const MAX_NAME: usize = 1024;
/// Most entries that are wanted.
const MAX_WANTED: usize = 50_000;

/// The entries whose names are wanted. `count` is how many entries may still be looked at.
pub(super) fn entries(
    input: &mut Input,
    count: &mut u64,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Entry>, LanguageError> {
    let directory = directory(input)?.ok_or(ZipError::NoEnd)?;
    let mut wanted = Vec::new();
    let (mut window, mut from) = (Vec::new(), 0_u64);
    let mut at = 0_u64;
    while directory.size - at >= ENTRY as u64 {
        let start = usize::try_from(at - from).unwrap_or(usize::MAX);
        let entry = match window.get(start..).and_then(part) {
            Some(entry) => entry,
            None => {
                from = at;
                window = input.at(directory.offset + at, WINDOW.min(directory.size - at))?;
                part(&window).ok_or(ZipError::Directory)?
            }
        };
        *count = count.checked_sub(1).ok_or(ZipError::Entries(input.limits.entries))?;
        let name = String::from_utf8_lossy(entry.name);
        if is_wanted(&name) {
            if name.len() > MAX_NAME {
                return Err(ZipError::Name(name.len()).into());
            }
            if wanted.len() >= MAX_WANTED {
                return Err(ZipError::Entries(MAX_WANTED as u64).into());
            }
            wanted.push(entry.read(name.into_owned(), directory.before)?);
        }
        at += entry.length as u64;
    }
    Ok(wanted)
}

impl Entry {
    /// How many bytes of the file it takes.
    pub(super) fn packed(&self) -> u64 {
        self.packed
    }
}

/// Unpacks the first `most` bytes of an entry into `bytes`, which has what was unpacked even if that
/// fails.
pub(super) fn unpack(
    input: &mut Input,
    entry: &Entry,
    most: u64,
    bytes: &mut Vec<u8>,
) -> Result<(), LanguageError> {
    if entry.is_encrypted {
        return Err(ZipError::Method(entry.method).into());
    }
    let local = input.at(entry.header, LOCAL)?;
    if !local.starts_with(LOCAL_MARK) || local.len() as u64 != LOCAL {
        return Err(ZipError::Entry.into());
    }
    let lengths = u64::from(half(&local, 26)) + u64::from(half(&local, 28));
    let data = entry.header.saturating_add(LOCAL).saturating_add(lengths);
    if data.checked_add(entry.packed).is_none_or(|end| end > input.size) {
        return Err(ZipError::Entry.into());
    }
    input.source.seek(SeekFrom::Start(data)).map_err(LanguageError::Read)?;
    let packed = (&mut *input.source).take(entry.packed);
    match entry.method {
        0 => packed.take(most).read_to_end(bytes).map_err(LanguageError::Read)?,
        8 => DeflateDecoder::new(packed).take(most).read_to_end(bytes).map_err(ZipError::Unpack)?,
        method => return Err(ZipError::Method(method).into()),
    };
    Ok(())
}

/// Finds the table from the file's end.
fn directory(input: &mut Input) -> Result<Option<Directory>, LanguageError> {
    let size = input.size;
    let from = size.saturating_sub(MAX_COMMENT + END as u64);
    let tail = input.at(from, MAX_COMMENT + END as u64)?;
    let Some(last) = tail.len().checked_sub(END) else { return Ok(None) };
    for index in (0..=last).rev() {
        let Some(end) = tail.get(index..index + END).filter(|end| end.starts_with(END_MARK)) else {
            continue;
        };
        let position = from + index as u64;
        let found = (u64::from(int(end, 12)), u64::from(int(end, 16)));
        let plain = Directory::before(position, found.0, found.1);
        if position + END as u64 + u64::from(half(end, 20)) != size {
            // The mark may be part of a comment: then the table does not lie before it.
            let Some(directory) = &plain else { continue };
            let is_table = input.at(directory.offset, 4)? == ENTRY_MARK;
            if !is_table || input.at(directory.before, 4)? != LOCAL_MARK {
                continue;
            }
        }
        return Ok(directory_64(input, position, found)?.or(plain));
    }
    Ok(None)
}

/// Finds the table of an archive that is too large for the numbers of its end.
fn directory_64(
    input: &mut Input,
    end: u64,
    (size, offset): (u64, u64),
) -> Result<Option<Directory>, LanguageError> {
    let Some(position) = end.checked_sub(LOCATOR_64) else { return Ok(None) };
    let locator = input.at(position, LOCATOR_64)?;
    if !locator.starts_with(LOCATOR_64_MARK) || locator.len() as u64 != LOCATOR_64 {
        return Ok(None);
    }
    let position = long(&locator, 8);
    let end = input.at(position, END_64)?;
    if !end.starts_with(END_64_MARK) || end.len() as u64 != END_64 {
        return Ok(None);
    }
    let (size_64, offset_64) = (long(&end, 40), long(&end, 48));
    let is_same = |plain: u64, long: u64| plain == u64::from(u32::MAX) || plain == long;
    if !is_same(size, size_64) || !is_same(offset, offset_64) {
        return Ok(None);
    }
    Ok(Directory::before(position, size_64, offset_64))
}

impl Directory {
    /// The table that ends at a position.
    fn before(position: u64, size: u64, offset: u64) -> Option<Self> {
        let start = position.checked_sub(size)?;
        Some(Self { offset: start, size, before: start.checked_sub(offset)? })
    }
}

/// An entry as it stands in the table.
struct Part<'a> {
    fixed: &'a [u8],
    name: &'a [u8],
    extra: &'a [u8],
    length: usize,
}

/// The entry at the beginning of some bytes of the table, if all of it is there.
fn part(bytes: &[u8]) -> Option<Part<'_>> {
    let (fixed, rest) = bytes.split_at_checked(ENTRY)?;
    if !fixed.starts_with(ENTRY_MARK) {
        return None;
    }
    let lengths = [half(fixed, 28), half(fixed, 30), half(fixed, 32)].map(usize::from);
    let (name, rest) = rest.split_at_checked(lengths[0])?;
    let (extra, rest) = rest.split_at_checked(lengths[1])?;
    rest.get(..lengths[2])?;
    Some(Part { fixed, name, extra, length: ENTRY + lengths.iter().sum::<usize>() })
}

impl Part<'_> {
    fn read(&self, name: String, before: u64) -> Result<Entry, ZipError> {
        let mut packed = u64::from(int(self.fixed, 20));
        let mut header = u64::from(int(self.fixed, 42));
        let is_long = |number: u64| number == u64::from(u32::MAX);
        // Numbers that do not fit stand in a field of their own, in this order.
        let mut long = self.extra_64();
        let mut next = || {
            let (number, rest) = long.split_first_chunk::<8>()?;
            long = rest;
            Some(u64::from_le_bytes(*number))
        };
        if is_long(u64::from(int(self.fixed, 24))) {
            next();
        }
        if is_long(packed) {
            packed = next().ok_or(ZipError::Directory)?;
        }
        if is_long(header) {
            header = next().ok_or(ZipError::Directory)?;
        }
        Ok(Entry {
            name,
            method: half(self.fixed, 10),
            is_encrypted: half(self.fixed, 8) & 1 != 0,
            packed,
            header: header.saturating_add(before),
        })
    }

    /// The extra field with numbers of 64 bits.
    fn extra_64(&self) -> &[u8] {
        let mut extra = self.extra;
        while let Some((head, rest)) = extra.split_at_checked(4) {
            let Some((field, rest)) = rest.split_at_checked(half(head, 2).into()) else { break };
            if half(head, 0) == 1 {
                return field;
            }
            extra = rest;
        }
        &[]
    }
}

fn half(bytes: &[u8], offset: usize) -> u16 {
    number(bytes, offset).map_or(0, u16::from_le_bytes)
}

fn int(bytes: &[u8], offset: usize) -> u32 {
    number(bytes, offset).map_or(0, u32::from_le_bytes)
}

fn long(bytes: &[u8], offset: usize) -> u64 {
    number(bytes, offset).map_or(0, u64::from_le_bytes)
}

fn number<const WIDTH: usize>(bytes: &[u8], offset: usize) -> Option<[u8; WIDTH]> {
    bytes.get(offset..)?.first_chunk().copied()
}
