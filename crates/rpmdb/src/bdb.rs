//! `Packages`: a hash of Berkeley DB, by db's `src/dbinc/db_page.h` and rpm's `lib/backend/bdb_ro.cc`.
//!
//! The key of a pair is a number of four bytes, the value is a header; the pair of number 0 holds the
//! largest number. Small values stand in the hash page, larger ones in a chain of overflow pages. All
//! numbers are in the byte order of the machine that wrote the file.
//!
//! The hash pages are read in the order of the file, as go-rpmdb does, instead of bucket after bucket as
//! rpm does: that finds every pair which a bucket holds, whatever is written about buckets.

use crate::Kind;
use crate::collect::Collector;
use crate::error::{HeaderError, RpmDbError};
use crate::source::{Seen, Source, be16, be32, le16, le32};

/// What stands at byte 12 of a hash.
const MAGIC: u32 = 0x0006_1561;
/// Bytes of the first page that are looked at, which is the smallest page.
const META: usize = 512;
/// Bytes of the header of a page.
const HEADER: usize = 26;
/// Bytes that are read at a time to go through all pages; the largest page fits.
const READ_AHEAD: usize = 256 << 10;
/// Bytes of the item that names an overflow page.
const OFF_PAGE_ITEM: usize = 12;

/// Kinds of pages: free, of a hash (of versions before 4.6, and since), and of a value.
const FREE: u8 = 0;
const HASH_UNSORTED: u8 = 2;
const OVERFLOW: u8 = 7;
const HASH_META: u8 = 8;
const HASH: u8 = 13;
/// Kinds of items: with the bytes themselves, and with the first page of them.
const KEY_DATA: u8 = 1;
const OFF_PAGE: u8 = 3;

/// Whether a file begins so, in either byte order.
pub(crate) fn is_hash(begin: &[u8]) -> bool {
    le32(begin, 12) == Some(MAGIC) || be32(begin, 12) == Some(MAGIC)
}

pub(crate) fn read(source: Source<'_>, collector: &mut Collector<'_>) -> Result<(), RpmDbError> {
    let mut database = Database::open(source)?;
    // The first page is about the file.
    let mut number = 1;
    while number <= database.last {
        let count = (READ_AHEAD / database.page_size).min((database.last - number) as usize + 1);
        let place = database.place(number);
        let pages = database.source.bytes(place, count * database.page_size)?;
        for page in pages.chunks_exact(database.page_size) {
            match page[25] {
                // Free pages may be all zeros. Values are read when their pair is.
                FREE | OVERFLOW => {}
                HASH | HASH_UNSORTED => database.pairs(number, page, collector)?,
                _ => return Err(database.unsupported("pages that are of no hash")),
            }
            number += 1;
        }
    }
    Ok(())
}

struct Database<'a> {
    source: Source<'a>,
    is_big_endian: bool,
    page_size: usize,
    /// The number of the last page.
    last: u32,
    /// Overflow pages that were read.
    seen: Seen,
}

impl<'a> Database<'a> {
    fn open(mut source: Source<'a>) -> Result<Self, RpmDbError> {
        let meta = source.bytes(0, META)?;
        let is_big_endian = be32(&meta, 12) == Some(MAGIC);
        let mut database =
            Database { source, is_big_endian, page_size: META, last: 0, seen: Seen::default() };
        if meta[25] != HASH_META || database.u32(&meta, 8) != 0 {
            return Err(database.damaged(0, "its first page is of no hash"));
        }
        if !(8..=10).contains(&database.u32(&meta, 16)) {
            return Err(database.unsupported("another version"));
        }
        // Checksums and partitions make pages of another form.
        if meta[24] != 0 || meta[26] != 0 {
            return Err(database.unsupported("encryption, checksums or partitions"));
        }
        // Values in an order of their own, and several databases in the file.
        if database.u32(&meta, 48) != 0 {
            return Err(database.unsupported("keys with several values, or databases within"));
        }
        let page_size = database.u32(&meta, 20) as usize;
        if !page_size.is_power_of_two() || !(512..=65536).contains(&page_size) {
            return Err(database.damaged(0, "its pages have no size that is possible"));
        }
        database.page_size = page_size;
        database.last = database.u32(&meta, 32);
        let end = (u64::from(database.last) + 1) * page_size as u64;
        if end > database.source.length() {
            return Err(RpmDbError::Ends(end));
        }
        // So that the next number of the last one fits too.
        if database.last == u32::MAX {
            return Err(RpmDbError::Limit { what: "pages", limit: u32::MAX.into() });
        }
        Ok(database)
    }

    /// A page of a value.
    fn page(&mut self, number: u32) -> Result<Vec<u8>, RpmDbError> {
        let page = self.source.bytes(self.place(number), self.page_size)?;
        self.check_number(number, &page)?;
        Ok(page)
    }

    fn check_number(&self, number: u32, page: &[u8]) -> Result<(), RpmDbError> {
        if self.u32(page, 8) == number {
            Ok(())
        } else {
            Err(self.damaged(number, "a page has another's number"))
        }
    }

    /// Takes the pairs of a hash page: its items are keys and values in turn. Their places are written
    /// behind the page's header, and they lie from the end of the page to its beginning.
    fn pairs(
        &mut self,
        number: u32,
        page: &[u8],
        collector: &mut Collector<'_>,
    ) -> Result<(), RpmDbError> {
        self.check_number(number, page)?;
        let count = usize::from(self.u16(page, 20));
        let items = HEADER + 2 * count;
        if items > page.len() || !count.is_multiple_of(2) {
            return Err(self.damaged(number, "a hash page has no pairs"));
        }
        let mut end = page.len();
        let mut key = None;
        for at in 0..count {
            let begin = usize::from(self.u16(page, HEADER + 2 * at));
            if begin < items || begin >= end {
                return Err(self.damaged(number, "an item is not within its page"));
            }
            let item = &page[begin..end];
            end = begin;
            match key.take() {
                None => key = Some(item),
                Some(key) => self.pair(number, key, item, collector)?,
            }
        }
        Ok(())
    }

    fn pair(
        &mut self,
        page: u32,
        key: &[u8],
        value: &[u8],
        collector: &mut Collector<'_>,
    ) -> Result<(), RpmDbError> {
        let number = match key {
            [KEY_DATA, key @ ..] if key.len() == 4 => Some(self.u32(key, 0)),
            _ => None,
        };
        let named = number.map(i64::from);
        match (number, value) {
            (Some(0), [KEY_DATA, largest @ ..]) if largest.len() == 4 => Ok(()),
            (None | Some(0), _) => collector.damaged(named, HeaderError::Entry),
            (_, [KEY_DATA, blob @ ..]) => collector.header(named, blob),
            (_, [OFF_PAGE, ..]) if value.len() == OFF_PAGE_ITEM => {
                let (first, length) = (self.u32(value, 4), self.u32(value, 8) as usize);
                if length > collector.limits.max_blob {
                    return collector.damaged(named, HeaderError::TooLarge(length as u64));
                }
                let blob = self.chain(page, first, length)?;
                collector.header(named, &blob)
            }
            _ => Err(self.damaged(page, "a value is of no kind that is possible")),
        }
    }

    /// A value in overflow pages. Each belongs to one value.
    fn chain(&mut self, from: u32, first: u32, length: usize) -> Result<Vec<u8>, RpmDbError> {
        let mut value = Vec::new();
        let (mut number, mut next) = (from, first);
        while next != 0 {
            if next > self.last {
                return Err(self.damaged(number, "a page is named that does not exist"));
            }
            number = next;
            if !self.seen.insert(number) {
                return Err(self.damaged(number, "the page is used twice"));
            }
            let page = self.page(number)?;
            let used = usize::from(self.u16(&page, 22));
            match page.get(HEADER..HEADER + used) {
                Some(bytes) if page[25] == OVERFLOW && value.len() + used <= length => {
                    value.extend_from_slice(bytes);
                }
                _ => return Err(self.damaged(number, "a value is not in its pages")),
            }
            next = self.u32(&page, 16);
        }
        if value.len() < length {
            return Err(self.damaged(number, "a value ends before its length"));
        }
        Ok(value)
    }

    fn place(&self, page: u32) -> u64 {
        u64::from(page) * self.page_size as u64
    }

    fn damaged(&self, page: u32, what: &'static str) -> RpmDbError {
        RpmDbError::Damaged { kind: Kind::Bdb, offset: self.place(page), what }
    }

    fn unsupported(&self, what: &'static str) -> RpmDbError {
        RpmDbError::Unsupported { kind: Kind::Bdb, what }
    }

    /// A number within a page, where there is one.
    fn u32(&self, bytes: &[u8], at: usize) -> u32 {
        let number = if self.is_big_endian { be32(bytes, at) } else { le32(bytes, at) };
        number.unwrap_or(0)
    }

    fn u16(&self, bytes: &[u8], at: usize) -> u16 {
        let number = if self.is_big_endian { be16(bytes, at) } else { le16(bytes, at) };
        number.unwrap_or(0)
    }
}
