//! Files from outside: opened without waiting, measured before they are read, and bounded while
//! they are.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Take};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

/// Why a file is not read.
pub(crate) enum OpenError {
    /// It cannot be opened.
    Unreadable(io::Error),
    /// It is something else, told with its article.
    NotAFile(&'static str),
    /// It has this many bytes, which are more than the limit.
    TooLarge(u64),
}

/// Opens a file that is read whole.
///
/// # Errors
/// It cannot be opened, is no regular file, or is larger than the limit.
pub(crate) fn open(file: &Path, limit: u64) -> Result<File, OpenError> {
    let unreadable = |error: rustix::io::Errno| OpenError::Unreadable(error.into());
    // Without NONBLOCK, opening a pipe would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(file, flags, Mode::empty()).map_err(unreadable)?;
    let stat = rustix::fs::fstat(&fd).map_err(unreadable)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
            if size > limit { Err(OpenError::TooLarge(size)) } else { Ok(fd.into()) }
        }
        FileType::Directory => Err(OpenError::NotAFile("a folder")),
        FileType::Fifo => Err(OpenError::NotAFile("a pipe")),
        _ => Err(OpenError::NotAFile("a device")),
    }
}

/// A stream that ends one byte past the limit.
pub(crate) struct Bounded<R>(BufReader<Take<R>>);

impl<R: Read> Bounded<R> {
    pub(crate) fn new(input: R, limit: u64) -> Self {
        let input = input.take(limit.saturating_add(1));
        Self(BufReader::with_capacity(64 << 10, input))
    }

    /// Whether more than the limit was there.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.0.get_ref().limit() == 0
    }
}

impl<R: Read> BufRead for Bounded<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.0.consume(bytes);
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}
