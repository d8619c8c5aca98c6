//! The tree of a table: sections 1.6 ("B-tree Pages") and 1.7 ("Cell Payload Overflow Pages") of
//! SQLite's file format.

use super::pages::{HEADER, Pages};
use super::record::varint;
use crate::error::RpmDbError;
use crate::source::{be16, be32};

/// How deep a tree is at most: SQLite's own `BTCURSOR_MAX_DEPTH`.
const MAX_DEPTH: usize = 20;
/// The kinds of pages that a table has.
const INTERIOR: u8 = 5;
const LEAF: u8 = 13;

/// A row.
pub(super) enum Payload<'a> {
    Whole(&'a [u8]),
    /// It has so many bytes, more than are read.
    TooLarge(u64),
}

/// Takes a row by its number.
pub(super) type Each<'a> = dyn FnMut(i64, Payload<'_>) -> Result<(), RpmDbError> + 'a;

/// Gives each row of the table, in the order of their numbers.
pub(super) fn walk(
    pages: &mut Pages<'_>,
    root: u32,
    max_payload: usize,
    each: &mut Each<'_>,
) -> Result<(), RpmDbError> {
    // The pages that are still to come, of each interior page above.
    let mut above: Vec<std::vec::IntoIter<u32>> = Vec::new();
    let mut last = None;
    let mut next = Some(root);
    while let Some(number) = next {
        let page = Page::new(pages, number)?;
        if page.is_leaf {
            leaf(pages, &page, max_payload, &mut last, each)?;
        } else if above.len() < MAX_DEPTH {
            above.push(children(pages, &page)?.into_iter());
        } else {
            return Err(pages.damaged(number, "its tree is too deep"));
        }
        next = loop {
            let Some(children) = above.last_mut() else { break None };
            match children.next() {
                Some(child) => break Some(child),
                None => above.pop(),
            };
        };
    }
    Ok(())
}

/// A page of a tree.
struct Page {
    number: u32,
    bytes: Vec<u8>,
    is_leaf: bool,
    /// Where its header begins.
    at: usize,
    /// How many cells it has.
    cells: usize,
}

impl Page {
    fn new(pages: &mut Pages<'_>, number: u32) -> Result<Page, RpmDbError> {
        let bytes = pages.read(number)?;
        // Page 1 begins with the header of the file.
        let at = if number == 1 { HEADER } else { 0 };
        let is_leaf = match bytes.get(at) {
            Some(&LEAF) => true,
            Some(&INTERIOR) => false,
            _ => return Err(pages.damaged(number, "the page is of no table")),
        };
        let cells = be16(&bytes, at + 3).unwrap_or(0).into();
        let page = Page { number, bytes, is_leaf, at, cells };
        if page.pointers() + 2 * cells > page.bytes.len() {
            return Err(pages.damaged(number, "the page has too many cells"));
        }
        Ok(page)
    }

    /// Where the places of its cells are written.
    fn pointers(&self) -> usize {
        self.at + if self.is_leaf { 8 } else { 12 }
    }

    /// Its cells, from their beginnings to the end of the page.
    fn cells(&self) -> impl Iterator<Item = Option<&[u8]>> {
        let pointers = self.pointers();
        (0..self.cells).map(move |cell| {
            let place = be16(&self.bytes, pointers + 2 * cell)?;
            self.bytes.get(place.into()..)
        })
    }
}

fn children(pages: &Pages<'_>, page: &Page) -> Result<Vec<u32>, RpmDbError> {
    let children = page.cells().map(|cell| be32(cell?, 0));
    // The last one stands in the header.
    let children: Option<Vec<u32>> = children.chain([be32(&page.bytes, page.at + 8)]).collect();
    children.ok_or_else(|| pages.damaged(page.number, "a cell is not within its page"))
}

fn leaf(
    pages: &mut Pages<'_>,
    page: &Page,
    max_payload: usize,
    last: &mut Option<i64>,
    each: &mut Each<'_>,
) -> Result<(), RpmDbError> {
    // Cells that lie upon each other would make much out of little.
    let mut left = page.bytes.len();
    for cell in page.cells() {
        let cell = cell.and_then(|bytes| Cell::new(bytes, pages.usable));
        let Some(cell) = cell else {
            return Err(pages.damaged(page.number, "a cell is not within its page"));
        };
        left = match left.checked_sub(cell.length) {
            Some(left) => left,
            None => return Err(pages.damaged(page.number, "its cells overlap")),
        };
        if last.is_some_and(|last| last >= cell.number) {
            return Err(pages.damaged(page.number, "its rows are not in order"));
        }
        *last = Some(cell.number);
        match usize::try_from(cell.payload) {
            Ok(payload) if payload <= max_payload => match cell.overflow {
                None => each(cell.number, Payload::Whole(cell.local))?,
                Some(first) => {
                    let row = chain(pages, cell.local, first, payload)?;
                    each(cell.number, Payload::Whole(&row))?;
                }
            },
            _ => each(cell.number, Payload::TooLarge(cell.payload))?,
        }
    }
    Ok(())
}

/// A row as its page has it.
struct Cell<'a> {
    number: i64,
    /// How many bytes the row has.
    payload: u64,
    /// Those that are in the page.
    local: &'a [u8],
    /// The page with the next ones.
    overflow: Option<u32>,
    /// How many bytes the cell itself has.
    length: usize,
}

impl<'a> Cell<'a> {
    fn new(bytes: &'a [u8], usable: usize) -> Option<Cell<'a>> {
        let (payload, payload_length) = varint(bytes)?;
        let (number, number_length) = varint(bytes.get(payload_length..)?)?;
        let head = payload_length + number_length;
        let local = local_length(payload, usable);
        let rest = bytes.get(head..)?;
        let (overflow, more) = match local as u64 == payload {
            true => (None, 0),
            false => (Some(be32(rest, local)?), 4),
        };
        Some(Cell {
            // Numbers are written as two's complement.
            number: number.cast_signed(),
            payload,
            local: rest.get(..local)?,
            overflow,
            length: head + local + more,
        })
    }
}

/// How many bytes of a row stay in its page: all of them, or so many that the last overflow page is full.
fn local_length(payload: u64, usable: usize) -> usize {
    let most = usable - 35;
    if payload <= most as u64 {
        return payload as usize;
    }
    let least = (usable - 12) * 32 / 255 - 23;
    let fitting = least + ((payload - least as u64) % (usable as u64 - 4)) as usize;
    if fitting <= most { fitting } else { least }
}

/// The whole of a row that goes on in overflow pages.
fn chain(
    pages: &mut Pages<'_>,
    local: &[u8],
    first: u32,
    payload: usize,
) -> Result<Vec<u8>, RpmDbError> {
    let mut row = local.to_vec();
    let mut next = first;
    while row.len() < payload {
        let page = pages.read(next)?;
        let (head, content) = page.split_at(4);
        next = be32(head, 0).unwrap_or(0);
        row.extend_from_slice(&content[..content.len().min(payload - row.len())]);
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_row_keeps_its_beginning() {
        let check = |payload, usable, expected| {
            assert_eq!(local_length(payload, usable), expected, "{payload} of {usable}");
        };
        check(0, 512, 0);
        check(477, 512, 477);
        // ((512 - 12) * 32 / 255) - 23 = 39, and one more page has 508.
        check(478, 512, 39);
        check(39 + 508, 512, 39);
        check(39 + 508 + 438, 512, 477);
        check(39 + 508 + 439, 512, 39);
        check(4061, 4096, 4061);
        check(4062, 4096, 489);
        check(65501, 65536, 65501);
        check(65502, 65536, 8199);
        assert!((35..=445).contains(&local_length(u64::MAX, 480)));
    }
}
