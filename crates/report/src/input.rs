//! The file of a report: opened without waiting, and measured before it is read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Take};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

use crate::{Limits, ReportError};

/// Opens the file of a report.
///
/// # Errors
/// It cannot be opened, is no regular file, or is larger than the limit.
pub(crate) fn open(file: &Path, limits: &Limits) -> Result<File, ReportError> {
    let unreadable = |error: rustix::io::Errno| ReportError::Unreadable {
        file: file.to_owned(),
        source: error.into(),
    };
    // Without NONBLOCK, opening a pipe would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(file, flags, Mode::empty()).map_err(unreadable)?;
    let stat = rustix::fs::fstat(&fd).map_err(unreadable)?;
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
            if size > limits.bytes {
                return Err(ReportError::TooLarge {
                    file: file.to_owned(),
                    size: Some(size),
                    limit: limits.bytes,
                });
            }
            return Ok(fd.into());
        }
        FileType::Directory => "a folder",
        FileType::Fifo => "a pipe",
        _ => "a device",
    };
    Err(ReportError::NotAFile { file: file.to_owned(), what })
}

/// A stream that ends one byte past the limit.
pub(crate) struct Bounded<R>(BufReader<Take<R>>);

impl<R: Read> Bounded<R> {
    pub(crate) fn new(input: R, limits: &Limits) -> Self {
        let input = input.take(limits.bytes.saturating_add(1));
        Self(BufReader::with_capacity(64 << 10, input))
    }

    /// Whether more than the limit was there.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.0.get_ref().limit() == 0
    }

    /// The first bytes that come, which stay to be read; none only if there are none.
    pub(crate) fn start(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    /// Passes over bytes that [`start`](Self::start) showed.
    pub(crate) fn skip(&mut self, bytes: usize) {
        self.0.consume(bytes);
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}
