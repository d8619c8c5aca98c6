//! `rpmdb.sqlite`: the table `Packages (hnum INTEGER PRIMARY KEY, blob BLOB)` of a SQLite database, as
//! rpm's `lib/backend/sqlite.cc` makes it, by the file format of <https://www.sqlite.org/fileformat2.html>.
//!
//! Only what leads to that table is read: the file's header, the schema on page 1, and the table's tree.

mod btree;
mod log;
mod pages;
mod record;

use btree::Payload;
use log::Log;
use pages::Pages;
use record::{Record, Value};

use crate::collect::Collector;
use crate::error::{HeaderError, RpmDbError};
use crate::source::Source;
use crate::{Kind, ReadSeek};

/// How such a file begins.
pub(crate) const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// The table.
const TABLE: &[u8] = b"Packages";
/// Most bytes of a row of the schema.
const MAX_SCHEMA_ROW: usize = 1 << 20;
/// Most bytes that a row of the table has beside its blob: the lengths of its two columns.
const ROW_HEAD: usize = 32;

pub(crate) fn read<'a>(
    mut source: Source<'a>,
    log: Option<&'a mut dyn ReadSeek>,
    collector: &mut Collector<'_>,
) -> Result<(), RpmDbError> {
    let page_size = pages::page_size(&mut source)?;
    let log = match log {
        None => None,
        Some(file) => Log::open(Source::new(file, collector.limits)?, page_size)?,
    };
    if let Some(log) = &log {
        collector.summary.log_frames = log.frames;
        collector.summary.log_frames_uncommitted = log.frames_uncommitted;
    }
    let mut pages = Pages::open(source, log, page_size)?;
    let root = root(&mut pages)?;
    let max_row = collector.limits.max_blob.saturating_add(ROW_HEAD);
    btree::walk(&mut pages, root, max_row, &mut |number, payload| {
        let number = Some(number);
        match payload {
            Payload::TooLarge(length) => collector.damaged(number, HeaderError::TooLarge(length)),
            Payload::Whole(row) => match blob(row) {
                Some(blob) => collector.header(number, blob),
                None => collector.damaged(number, HeaderError::Entry),
            },
        }
    })
}

/// The header in a row of the table: the second of two columns. The first is the row's own number, for
/// which the row itself holds nothing.
fn blob(row: &[u8]) -> Option<&[u8]> {
    let mut record = Record::new(row)?;
    let (number, blob, end) = (record.next(), record.next(), record.next());
    match (number, blob, end) {
        (Some(Some(Value::Null)), Some(Some(Value::Bytes(blob))), None) => Some(blob),
        _ => None,
    }
}

/// The first page of the table, by the schema, which is a table on page 1:
/// `(type, name, tbl_name, rootpage, sql)`.
fn root(pages: &mut Pages<'_>) -> Result<u32, RpmDbError> {
    let damaged = |what| RpmDbError::Damaged { kind: Kind::Sqlite, offset: 0, what };
    let mut root = None;
    btree::walk(pages, 1, MAX_SCHEMA_ROW, &mut |_, payload| {
        let Payload::Whole(row) = payload else {
            return Err(damaged("a row of its schema is huge"));
        };
        let mut record = Record::new(row).ok_or(damaged("a row of its schema is no record"))?;
        let mut column = || record.next().flatten().ok_or(damaged("a row of its schema is short"));
        let (kind, name, _, page) = (column()?, column()?, column()?, column()?);
        match (kind, name) {
            // Names are the same in either case.
            (Value::Bytes(kind), Value::Bytes(name)) if name.eq_ignore_ascii_case(TABLE) => {
                if kind != b"table" {
                    let what = "something else than a table that is named Packages";
                    return Err(RpmDbError::Unsupported { kind: Kind::Sqlite, what });
                }
                let Value::Integer(page) = page else {
                    return Err(damaged("its table has no first page"));
                };
                let page =
                    u32::try_from(page).map_err(|_| damaged("its table has no first page"))?;
                match root.replace(page) {
                    None => Ok(()),
                    Some(_) => Err(damaged("it has the table twice")),
                }
            }
            _ => Ok(()),
        }
    })?;
    root.ok_or(RpmDbError::NoTable)
}
