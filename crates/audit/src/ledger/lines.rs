//! Lines of something that may hold anything: memory is bounded, whatever it is like.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Seek, SeekFrom, Take};

use memchr::memchr;

/// No line of ours is longer.
pub(crate) const MAX_LINE: u64 = 256 * 1024;

/// Reads lines one by one.
pub(crate) struct Lines<R> {
    reader: R,
    offset: u64,
    line: Vec<u8>,
}

/// One line, without its newline.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw<'a> {
    /// Its bytes, unless it is too long: then its first ones.
    pub(crate) bytes: &'a [u8],
    /// Where it begins.
    pub(crate) offset: u64,
    /// How long it is.
    pub(crate) length: u64,
    /// Whether a newline ends it; if not, it is the last.
    pub(crate) ended: bool,
}

impl Raw<'_> {
    /// Longer than any of ours.
    pub(crate) fn is_too_long(&self) -> bool {
        self.length > self.bytes.len() as u64
    }

    /// Where the next one begins.
    pub(crate) fn next_offset(&self) -> u64 {
        self.offset + self.length + u64::from(self.ended)
    }
}

impl Lines<BufReader<Take<File>>> {
    /// The lines of a file from `from` on, of at most `length` bytes.
    pub(crate) fn of(mut file: File, from: u64, length: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(from))?;
        let reader = BufReader::with_capacity(64 * 1024, file.take(length));
        Ok(Self { offset: from, ..Self::new(reader) })
    }
}

impl<R: BufRead> Lines<R> {
    /// The lines that are read from here on.
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, offset: 0, line: Vec::new() }
    }

    /// The next line, if there is one.
    pub(crate) fn next(&mut self) -> io::Result<Option<Raw<'_>>> {
        self.line.clear();
        let mut length = 0;
        let mut ended = false;
        while !ended {
            let chunk = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                chunk => chunk?,
            };
            if chunk.is_empty() {
                break;
            }
            let newline = memchr(b'\n', chunk);
            ended = newline.is_some();
            let part = &chunk[..newline.unwrap_or(chunk.len())];
            let room = MAX_LINE as usize - self.line.len();
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            length += part.len() as u64;
            let used = part.len() + usize::from(ended);
            self.reader.consume(used);
        }
        if length == 0 && !ended {
            return Ok(None);
        }
        let offset = self.offset;
        self.offset += length + u64::from(ended);
        Ok(Some(Raw { bytes: &self.line, offset, length, ended }))
    }
}
