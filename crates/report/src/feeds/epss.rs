//! EPSS as FIRST publishes it: a line about the model, a header, and a row for each CVE.
//!
//! ```text
//! #model_version:v2025.03.14,score_date:2026-11-20T00:00:00+0000
//! cve,epss,percentile
//! CVE-1999-0001,0.01141,0.77853
//! ```

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use portcullis_types::Timestamp;

use super::cve::Cve;
use super::{FeedError, FeedLimits};
use crate::input::Bounded;
use crate::text::shortened;

/// Longest line, in bytes.
const MAX_LINE: u64 = 1024;

/// How likely vulnerabilities are to be exploited.
#[derive(Debug, Clone)]
pub struct Epss {
    date: Timestamp,
    /// By id; 16 bytes a row.
    rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    cve: Cve,
    probability: f32,
    line: u32,
}

impl Epss {
    /// The day that it is for.
    pub fn date(&self) -> Timestamp {
        self.date
    }

    /// The probability of a CVE, 0 to 1; `None` if it is not listed, or is no CVE id.
    pub fn get(&self, cve: &str) -> Option<f32> {
        let cve = Cve::parse(cve)?;
        let at = self.rows.binary_search_by_key(&cve, |row| row.cve).ok()?;
        Some(self.rows[at].probability)
    }

    /// How many CVEs are listed.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether none is listed.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// Reads an EPSS file, plain or packed with gzip.
///
/// # Errors
/// See [`FeedError`].
pub fn read_epss(file: &Path, limits: &FeedLimits) -> Result<Epss, FeedError> {
    parse_epss(super::open(file, limits)?, file, limits)
}

/// Reads EPSS from a stream, plain or packed with gzip; `file` is for messages.
///
/// # Errors
/// See [`FeedError`].
pub fn parse_epss(input: impl Read, file: &Path, limits: &FeedLimits) -> Result<Epss, FeedError> {
    let unreadable = |source| FeedError::Unreadable { file: file.to_owned(), source };
    let mut input = BufReader::new(input);
    if input.fill_buf().map_err(unreadable)?.starts_with(&[0x1f, 0x8b]) {
        Reader::new(MultiGzDecoder::new(input), file, limits).read()
    } else {
        Reader::new(input, file, limits).read()
    }
}

struct Reader<'a, R> {
    input: Bounded<R>,
    file: &'a Path,
    limits: &'a FeedLimits,
    /// The line that was read last, and its number.
    line: Vec<u8>,
    number: usize,
}

impl<'a, R: Read> Reader<'a, R> {
    fn new(input: R, file: &'a Path, limits: &'a FeedLimits) -> Self {
        let input = Bounded::new(input, limits.bytes);
        Self { input, file, limits, line: Vec::new(), number: 0 }
    }

    fn read(mut self) -> Result<Epss, FeedError> {
        let date = self.date()?;
        if self.next()?.is_none_or(|header| header != "cve,epss,percentile") {
            return Err(self.malformed(1, "the header is not \"cve,epss,percentile\""));
        }
        let mut rows = Vec::new();
        loop {
            if self.next()?.is_none() {
                break;
            }
            if rows.len() == self.limits.rows {
                let most = self.limits.rows;
                return Err(self.malformed(1, format!("more than {most} rows")));
            }
            rows.push(self.row()?);
        }
        if rows.is_empty() {
            let what = "lists no CVE".to_owned();
            return Err(FeedError::Incomplete { file: self.file.to_owned(), what });
        }
        rows.shrink_to_fit();
        rows.sort_unstable_by_key(|row| (row.cve, row.line));
        if let Some(pair) = rows.windows(2).find(|pair| pair[0].cve == pair[1].cve) {
            self.number = pair[1].line as usize;
            let first = pair[0].line;
            return Err(self.malformed(1, format!("the CVE stands in line {first} too")));
        }
        Ok(Epss { date, rows })
    }

    /// The date in the line about the model.
    fn date(&mut self) -> Result<Timestamp, FeedError> {
        let date = self.next()?.and_then(|line| {
            let fields = line.strip_prefix('#')?.split(',');
            fields.filter_map(|field| field.trim().strip_prefix("score_date:")).next().map(time)
        });
        match date {
            Some(Some(date)) => Ok(date),
            Some(None) => Err(self.malformed(1, "score_date is not a date")),
            None => Err(self.malformed(
                1,
                "there is no \"#model_version:…,score_date:…\", as EPSS files have it since 2022",
            )),
        }
    }

    /// The row in the current line.
    fn row(&self) -> Result<Row, FeedError> {
        let text = self.text()?;
        let mut column = 1;
        let mut fields = text.split(',').map(|field| {
            let at = column;
            column += field.len() + 1;
            (at, field)
        });
        let mut field = |name: &str| {
            fields.next().ok_or_else(|| self.malformed(text.len() + 1, format!("no {name}")))
        };
        let (at, id) = field("cve")?;
        let cve = Cve::parse(id).ok_or_else(|| {
            self.malformed(at, format!("\"{}\" is not a CVE id", shortened(id, 40)))
        })?;
        let probability = self.fraction(field("epss")?)?;
        self.fraction(field("percentile")?)?;
        let line = u32::try_from(self.number).unwrap_or(u32::MAX);
        Ok(Row { cve, probability, line })
    }

    fn fraction(&self, (column, text): (usize, &str)) -> Result<f32, FeedError> {
        let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
        number.ok_or_else(|| {
            let text = shortened(text, 40);
            self.malformed(column, format!("\"{text}\" is not a number from 0 to 1"))
        })
    }

    /// Goes to the next line and returns it, without its end; `None` at the end of the file.
    fn next(&mut self) -> Result<Option<&str>, FeedError> {
        self.number += 1;
        self.line.clear();
        let mut line = (&mut self.input).take(MAX_LINE + 1);
        if let Err(source) = line.read_until(b'\n', &mut self.line) {
            let file = self.file.to_owned();
            // The decoder has no other word for a damaged archive.
            return Err(FeedError::Unreadable { file, source });
        }
        if self.input.is_exhausted() {
            let (file, limit) = (self.file.to_owned(), self.limits.bytes);
            return Err(FeedError::TooLarge { file, limit });
        }
        if self.line.len() as u64 > MAX_LINE {
            return Err(self.malformed(1, format!("a line of more than {MAX_LINE} bytes")));
        }
        if self.line.is_empty() {
            return Ok(None);
        }
        self.text().map(Some)
    }

    fn text(&self) -> Result<&str, FeedError> {
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        std::str::from_utf8(line)
            .map_err(|error| self.malformed(error.valid_up_to() + 1, "this is not UTF-8"))
    }

    fn malformed(&self, column: usize, what: impl Into<String>) -> FeedError {
        let (file, line, what) = (self.file.to_owned(), self.number, what.into());
        FeedError::Malformed { file, line, column, what }
    }
}

/// A day, or a time with `Z` or an offset with or without a colon.
fn time(text: &str) -> Option<Timestamp> {
    let with_colon = || {
        let (time, offset) = text.split_at_checked(text.len().checked_sub(4)?)?;
        let (hours, minutes) = offset.split_at_checked(2)?;
        time.ends_with(['+', '-']).then(|| format!("{time}{hours}:{minutes}"))
    };
    crate::draft::time(text).or_else(|| with_colon()?.parse().ok())
}
