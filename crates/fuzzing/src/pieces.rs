//! Bytes that come in pieces: how they are cut must change nothing.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

/// Gives at most so many bytes at a time.
pub(crate) struct Pieces<'a> {
    bytes: Cursor<&'a [u8]>,
    most: usize,
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(bytes: &'a [u8], most: usize) -> Self {
        Self { bytes: Cursor::new(bytes), most }
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.most);
        self.bytes.read(&mut buffer[..most])
    }
}

impl Seek for Pieces<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.bytes.seek(to)
    }
}
