//! Lines of a file that may hold anything: memory is bounded, whatever the file is like.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Seek, SeekFrom, Take};

use memchr::memchr;

use super::record::MAX_LINE;

/// Reads lines one by one.
pub(super) struct Lines {
    reader: BufReader<Take<File>>,
    offset: u64,
    line: Vec<u8>,
}

/// One line, without its newline.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw<'a> {
    /// Its bytes, unless it is too long: then its first ones.
    pub(super) bytes: &'a [u8],
    /// Where it begins.
    pub(super) offset: u64,
    /// How long it is.
    pub(super) length: u64,
    /// Whether a newline ends it; if not, it is the last.
    pub(super) ended: bool,
}

impl Raw<'_> {
    /// Longer than any of ours.
    pub(super) fn is_too_long(&self) -> bool {
        self.length > self.bytes.len() as u64
    }

    /// Where the next one begins.
    pub(super) fn next_offset(&self) -> u64 {
        self.offset + self.length + u64::from(self.ended)
    }
}

impl Lines {
    /// The lines from `from` on, of at most `length` bytes.
    pub(super) fn new(mut file: File, from: u64, length: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(from))?;
        let reader = BufReader::with_capacity(64 * 1024, file.take(length));
        Ok(Self { reader, offset: from, line: Vec::new() })
    }

    /// The next line, if there is one.
    pub(super) fn next(&mut self) -> io::Result<Option<Raw<'_>>> {
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
