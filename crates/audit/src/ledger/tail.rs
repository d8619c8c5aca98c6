//! The end of a file: its last record, and what stands behind it. Reads a bounded part only.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use memchr::memrchr;

use super::lines::MAX_LINE;
use super::record::{self, Line, Record, Torn};

/// Enough for the last records of most kinds, so that one read does.
const USUAL: u64 = 8 * 1024;
/// Enough for the longest record and the longest torn line behind it.
const MOST: u64 = 2 * MAX_LINE + 2;

/// The end of a file.
#[derive(Debug)]
pub(super) struct Tail {
    /// The last record.
    pub(super) last: Option<Record>,
    /// What stands behind it.
    pub(super) rest: Rest,
    /// The file is empty or ends with a newline.
    pub(super) ended: bool,
}

/// What stands behind the last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing.
    Nothing,
    /// Bytes that are no record.
    Torn(Torn),
    /// More bytes than a torn line has, so it is no torn line.
    Long,
}

/// Reads the end of a file of this length.
pub(super) fn tail(file: &File, length: u64) -> io::Result<Tail> {
    let usual = within(file, length, USUAL)?;
    if usual.last.is_some() || length <= USUAL {
        return Ok(usual);
    }
    within(file, length, MOST)
}

fn within(file: &File, length: u64, window: u64) -> io::Result<Tail> {
    let size = length.min(window);
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, length - size)?;
    let whole = size == length;
    let (last, end) = last_record(&bytes, whole).unzip();
    let rest = match end {
        Some(end) => bytes.get(end + 1..).unwrap_or_default(),
        None => &bytes,
    };
    Ok(Tail {
        rest: behind(rest, whole || last.is_some()),
        last,
        ended: bytes.last().is_none_or(|byte| *byte == b'\n'),
    })
}

/// The last line that is a record, and where it ends. A window that is not `whole` may begin
/// within a line.
fn last_record(window: &[u8], whole: bool) -> Option<(Record, usize)> {
    let mut end = window.len() - usize::from(window.last() == Some(&b'\n'));
    loop {
        let newline = memrchr(b'\n', &window[..end]);
        let start = newline.map_or(0, |at| at + 1);
        if (whole || newline.is_some())
            && let Line::Record(record) = record::line(&window[start..end])
        {
            return Some((record, end));
        }
        end = newline?;
    }
}

fn behind(rest: &[u8], all_of_it: bool) -> Rest {
    let torn = rest.strip_suffix(b"\n").unwrap_or(rest);
    match rest {
        [] => Rest::Nothing,
        _ if !all_of_it || torn.len() as u64 > MAX_LINE => Rest::Long,
        _ => Rest::Torn(Torn::of(torn)),
    }
}
