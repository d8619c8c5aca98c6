//! A header as databases hold it, which is as in a package file but without its magic number: rpm's
//! `lib/header.cc` (`hdrblobInit`, `hdrblobVerifyRegion`, `hdrblobImport`) and its `docs/manual/hregions`.
//!
//! Two lengths, then an index of tags, then their values. The tags that stood in the package file are a
//! *region* at the front; what was added when it was installed follows, and replaces tags of the region.
//! All numbers are big-endian.

use crate::error::HeaderError;
use crate::package::Package;
use crate::source::be32;

/// Tags by the numbers of rpm's `include/rpm/rpmtag.h`.
mod tag {
    pub(super) const HEADER_IMAGE: u32 = 61;
    pub(super) const HEADER_IMMUTABLE: u32 = 63;
    pub(super) const NAME: u32 = 1000;
    pub(super) const VERSION: u32 = 1001;
    pub(super) const RELEASE: u32 = 1002;
    pub(super) const EPOCH: u32 = 1003;
    pub(super) const INSTALL_TIME: u32 = 1008;
    pub(super) const VENDOR: u32 = 1011;
    pub(super) const LICENSE: u32 = 1014;
    pub(super) const ARCH: u32 = 1022;
    pub(super) const OLD_FILE_NAMES: u32 = 1027;
    pub(super) const SOURCE_RPM: u32 = 1044;
    pub(super) const DIR_INDEXES: u32 = 1116;
    pub(super) const BASE_NAMES: u32 = 1117;
    pub(super) const DIR_NAMES: u32 = 1118;
    pub(super) const MODULARITY_LABEL: u32 = 5096;
}

/// The tags that are read.
const TAGS: [u32; 14] = [
    tag::NAME,
    tag::VERSION,
    tag::RELEASE,
    tag::EPOCH,
    tag::INSTALL_TIME,
    tag::VENDOR,
    tag::LICENSE,
    tag::ARCH,
    tag::OLD_FILE_NAMES,
    tag::SOURCE_RPM,
    tag::DIR_INDEXES,
    tag::BASE_NAMES,
    tag::DIR_NAMES,
    tag::MODULARITY_LABEL,
];

/// Types of values, by rpm's `include/rpm/rpmtag.h`.
const INT32: u32 = 4;
const STRING: u32 = 6;
const BIN: u32 = 7;
const STRING_ARRAY: u32 = 8;
const I18N_STRING: u32 = 9;

/// Bytes of an entry of the index, and of the region's trailer.
const ENTRY: usize = 16;
/// Most bytes of a text that is no list. Licences of large collections have some thousands.
const MAX_TEXT: usize = 64 << 10;
/// Most values of a list: rpm's `HEADER_ARRAY_MAX`.
const MAX_ARRAY: usize = 0x000f_ffff;
/// As what rpm keeps public keys.
const KEY_NAME: &[u8] = b"gpg-pubkey";

/// What a header is of.
pub(crate) enum Content {
    Package(Package),
    /// A public key, which is no package.
    Key,
}

/// Reads a header.
pub(crate) fn read(blob: &[u8], max_path_bytes: usize) -> Result<Content, HeaderError> {
    let header = Header::new(blob)?;
    let needed = |tag| header.text(tag)?.ok_or(HeaderError::Missing(tag));
    let name = needed(tag::NAME)?;
    if name == KEY_NAME {
        return Ok(Content::Key);
    }
    let text = |tag| header.text(tag).map(|value| value.map(lossy));
    Ok(Content::Package(Package {
        name: lossy(name),
        epoch: header.number(tag::EPOCH)?,
        version: lossy(needed(tag::VERSION)?),
        release: lossy(needed(tag::RELEASE)?),
        arch: text(tag::ARCH)?,
        source_rpm: text(tag::SOURCE_RPM)?,
        modularity: text(tag::MODULARITY_LABEL)?,
        vendor: text(tag::VENDOR)?,
        license: text(tag::LICENSE)?,
        install_time: header.number(tag::INSTALL_TIME)?,
        files: header.files(max_path_bytes)?,
    }))
}

/// An entry of the index.
#[derive(Clone, Copy)]
struct Entry {
    tag: u32,
    kind: u32,
    offset: u32,
    count: u32,
}

impl Entry {
    /// The entry at the beginning of the bytes.
    fn new(bytes: &[u8]) -> Option<Entry> {
        Some(Entry {
            tag: be32(bytes, 0)?,
            kind: be32(bytes, 4)?,
            offset: be32(bytes, 8)?,
            count: be32(bytes, 12)?,
        })
    }
}

/// The entries of the tags that are read, in the order of [`TAGS`], and the values of all.
struct Header<'a> {
    entries: [Option<Entry>; TAGS.len()],
    data: &'a [u8],
}

impl<'a> Header<'a> {
    fn new(blob: &'a [u8]) -> Result<Header<'a>, HeaderError> {
        let length = |at| be32(blob, at).ok_or(HeaderError::Length);
        let (count, data) = (u64::from(length(0)?), u64::from(length(4)?));
        // Both are of 32 bits, so that the sum fits.
        if count == 0 || 8 + count * ENTRY as u64 + data != blob.len() as u64 {
            return Err(HeaderError::Length);
        }
        let (index, data) = blob[8..].split_at(count as usize * ENTRY);
        let region = region(index, data)?;
        let mut header = Header { entries: [None; TAGS.len()], data };
        let mut is_added = [false; TAGS.len()];
        for (at, bytes) in index.chunks_exact(ENTRY).enumerate() {
            let Some(entry) = Entry::new(bytes) else { return Err(HeaderError::Length) };
            let Some(slot) = TAGS.iter().position(|tag| *tag == entry.tag) else { continue };
            // What was added replaces what stood in the package file; within each, rpm's search would
            // find any of two.
            let adds = at >= region;
            if is_added[slot] || (!adds && header.entries[slot].is_some()) {
                return Err(HeaderError::Twice(entry.tag));
            }
            is_added[slot] = adds;
            header.entries[slot] = Some(entry);
        }
        Ok(header)
    }

    /// The entry of a tag and its values, which reach to the end of all values.
    fn find(&self, tag: u32) -> Result<Option<(Entry, &'a [u8])>, HeaderError> {
        let Some(entry) = self.entries.iter().flatten().find(|entry| entry.tag == tag) else {
            return Ok(None);
        };
        let values = self.data.get(entry.offset as usize..).ok_or(HeaderError::Tag(tag))?;
        if entry.count == 0 { Err(HeaderError::Tag(tag)) } else { Ok(Some((*entry, values))) }
    }

    /// A text. Of one in several languages the first is the untranslated one.
    fn text(&self, tag: u32) -> Result<Option<&'a [u8]>, HeaderError> {
        let Some((entry, values)) = self.find(tag)? else { return Ok(None) };
        let is_text = match entry.kind {
            STRING | STRING_ARRAY => entry.count == 1,
            kind => kind == I18N_STRING,
        };
        match strings(values).next() {
            Some(text) if is_text && text.len() <= MAX_TEXT => Ok(Some(text)),
            _ => Err(HeaderError::Tag(tag)),
        }
    }

    fn number(&self, tag: u32) -> Result<Option<u32>, HeaderError> {
        match self.numbers(tag)? {
            None => Ok(None),
            Some([number]) => Ok(Some(u32::from_be_bytes(*number))),
            Some(_) => Err(HeaderError::Tag(tag)),
        }
    }

    fn numbers(&self, tag: u32) -> Result<Option<&'a [[u8; 4]]>, HeaderError> {
        let Some((entry, values)) = self.find(tag)? else { return Ok(None) };
        match values.as_chunks().0.get(..entry.count as usize) {
            Some(numbers) if entry.kind == INT32 => Ok(Some(numbers)),
            _ => Err(HeaderError::Tag(tag)),
        }
    }

    fn texts(&self, tag: u32) -> Result<Option<Vec<&'a [u8]>>, HeaderError> {
        let Some((entry, values)) = self.find(tag)? else { return Ok(None) };
        let count = entry.count as usize;
        let is_list = entry.kind == STRING_ARRAY || (entry.kind == STRING && count == 1);
        if !is_list || count > MAX_ARRAY {
            return Err(HeaderError::Tag(tag));
        }
        let texts: Vec<_> = strings(values).take(count).collect();
        if texts.len() == count { Ok(Some(texts)) } else { Err(HeaderError::Tag(tag)) }
    }

    /// The paths of the files: names with the number of their folder, or, before rpm 4, whole.
    fn files(&self, max_path_bytes: usize) -> Result<Vec<String>, HeaderError> {
        let mut left = max_path_bytes;
        let mut take = |length: usize| {
            left = left.checked_sub(length).ok_or(HeaderError::Paths(max_path_bytes))?;
            Ok(())
        };
        let Some(names) = self.texts(tag::BASE_NAMES)? else {
            let whole = self.texts(tag::OLD_FILE_NAMES)?.unwrap_or_default();
            let whole = whole.into_iter().map(|path| take(path.len()).map(|()| lossy(path)));
            return whole.collect();
        };
        let folders = self.texts(tag::DIR_NAMES)?.ok_or(HeaderError::Files)?;
        let indexes = self.numbers(tag::DIR_INDEXES)?.ok_or(HeaderError::Files)?;
        if indexes.len() != names.len() {
            return Err(HeaderError::Files);
        }
        let files = names.into_iter().zip(indexes).map(|(name, index)| {
            let index = u32::from_be_bytes(*index) as usize;
            let folder = *folders.get(index).ok_or(HeaderError::Files)?;
            take(folder.len().saturating_add(name.len()))?;
            Ok(lossy(&[folder, name].concat()))
        });
        files.collect()
    }
}

/// How many entries of the index the region has, its own one included. Its trailer tells it, which
/// stands behind the region's values and looks like an entry with a negative offset into the index.
fn region(index: &[u8], data: &[u8]) -> Result<usize, HeaderError> {
    let count = index.len() / ENTRY;
    let first = Entry::new(index).ok_or(HeaderError::Length)?;
    if !(tag::HEADER_IMAGE..=tag::HEADER_IMMUTABLE).contains(&first.tag) {
        // A header of rpm 3 has none.
        return Ok(count);
    }
    let is_region =
        |entry: &Entry| entry.tag == first.tag && entry.kind == BIN && entry.count == ENTRY as u32;
    let trailer = data.get(first.offset as usize..).and_then(Entry::new);
    let trailer = trailer.filter(is_region).filter(|_| is_region(&first));
    let length = trailer.ok_or(HeaderError::Region)?.offset.wrapping_neg() as usize;
    if first.offset == 0 {
        return Ok(count);
    }
    let fits = length.is_multiple_of(ENTRY) && (1..=count).contains(&(length / ENTRY));
    if fits { Ok(length / ENTRY) } else { Err(HeaderError::Region) }
}

/// The texts that end with a zero.
fn strings(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let end = bytes.iter().position(|byte| *byte == 0)?;
        let (text, rest) = bytes.split_at(end);
        bytes = &rest[1..];
        Some(text)
    })
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests;
