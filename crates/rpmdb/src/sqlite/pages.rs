//! The pages of a SQLite database: from the file, or newer ones from its log. Sections 1.3 ("The
//! Database Header") and 4 ("The Write-Ahead Log") of the file format.

use super::MAGIC;
use super::log::Log;
use crate::Kind;
use crate::error::RpmDbError;
use crate::source::{Seen, Source, be16, be32};

/// Bytes of the header of a database, which stands at the beginning of page 1.
pub(super) const HEADER: usize = 100;
/// Bytes of a page that may be used, at least.
const MIN_USABLE: usize = 480;
/// Pages that are read at most: 8 GB of the smallest ones. A set of them has 2 MB.
const MAX_PAGES: u32 = 1 << 24;

pub(super) struct Pages<'a> {
    source: Source<'a>,
    log: Option<Log<'a>>,
    seen: Seen,
    page_size: usize,
    /// Bytes of a page without those that are reserved for extensions.
    pub(super) usable: usize,
    count: u32,
}

impl<'a> Pages<'a> {
    /// The pages of a file and of its log.
    pub(super) fn open(
        source: Source<'a>,
        log: Option<Log<'a>>,
        page_size: usize,
    ) -> Result<Self, RpmDbError> {
        let seen = Seen::default();
        let mut pages = Pages { source, log, seen, page_size, usable: page_size, count: 1 };
        // The log may hold a newer header.
        let mut header = [0; HEADER];
        pages.fill(1, &mut header)?;
        if !header.starts_with(MAGIC) || size_of_pages(&header) != Some(page_size) {
            return Err(pages.damaged(1, "its log has the header of another database"));
        }
        pages.usable = page_size.saturating_sub(usize::from(header[20]));
        if pages.usable < MIN_USABLE {
            return Err(pages.damaged(1, "too much of its pages is reserved"));
        }
        let unsupported = |what| RpmDbError::Unsupported { kind: Kind::Sqlite, what };
        // 1 is without a log and 2 with one.
        if !matches!(header[19], 1 | 2) {
            return Err(unsupported("a newer format"));
        }
        // An empty database has no encoding yet.
        if !matches!(be32(&header, 56), Some(0 | 1)) {
            return Err(unsupported("texts that are not UTF-8"));
        }
        pages.count = match pages.log.as_ref().and_then(Log::pages) {
            Some(count) => count,
            None => pages.count_in_file(&header)?,
        };
        if pages.count > MAX_PAGES {
            return Err(RpmDbError::Limit { what: "pages", limit: MAX_PAGES.into() });
        }
        Ok(pages)
    }

    /// The usable bytes of a page that was not read before: no page belongs to two places.
    pub(super) fn read(&mut self, number: u32) -> Result<Vec<u8>, RpmDbError> {
        if number == 0 || number > self.count {
            return Err(self.damaged(number, "a page is named that does not exist"));
        }
        if !self.seen.insert(number) {
            return Err(self.damaged(number, "the page is used twice"));
        }
        let mut page = vec![0; self.page_size];
        self.fill(number, &mut page)?;
        page.truncate(self.usable);
        Ok(page)
    }

    pub(super) fn damaged(&self, number: u32, what: &'static str) -> RpmDbError {
        RpmDbError::Damaged { kind: Kind::Sqlite, offset: self.place(number), what }
    }

    fn place(&self, number: u32) -> u64 {
        u64::from(number.saturating_sub(1)) * self.page_size as u64
    }

    fn fill(&mut self, number: u32, bytes: &mut [u8]) -> Result<(), RpmDbError> {
        let place = self.place(number);
        match &mut self.log {
            Some(log) if log.has(number) => log.fill(number, bytes),
            _ => self.source.fill(place, bytes),
        }
    }

    /// The number of pages, which the header says unless it was last changed by a writer that did not.
    fn count_in_file(&self, header: &[u8; HEADER]) -> Result<u32, RpmDbError> {
        let whole = u32::try_from(self.source.length() / self.page_size as u64).unwrap_or(u32::MAX);
        let (said, changes, valid_for) = (be32(header, 28), be32(header, 24), be32(header, 92));
        match said.filter(|count| *count > 0 && changes == valid_for) {
            None => Ok(whole),
            Some(count) if count <= whole => Ok(count),
            Some(count) => Err(RpmDbError::Ends(u64::from(count) * self.page_size as u64)),
        }
    }
}

/// The size of the pages of a database, in bytes.
pub(super) fn page_size(source: &mut Source<'_>) -> Result<usize, RpmDbError> {
    let mut header = [0; HEADER];
    source.fill(0, &mut header)?;
    let what = "its pages have no size that is possible";
    size_of_pages(&header).ok_or(RpmDbError::Damaged { kind: Kind::Sqlite, offset: 0, what })
}

/// A power of two from 512 to 65536; the last one does not fit and is written as 1.
fn size_of_pages(header: &[u8; HEADER]) -> Option<usize> {
    match be16(header, 16)? {
        1 => Some(1 << 16),
        size if size >= 512 && size.is_power_of_two() => Some(size.into()),
        _ => None,
    }
}
