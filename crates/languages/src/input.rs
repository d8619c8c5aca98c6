//! A file as it comes in, and how much of it is read.

use std::io::{Read, Seek, SeekFrom};

use crate::LanguageError;

/// How much is read of one file. The defaults are well above what is known of real files.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Most bytes of a text: a lock file, metadata.
    pub text_bytes: u64,
    /// Most packages of a file.
    pub packages: usize,
    /// Most bytes of archives within an archive that are held in memory at one time.
    pub held_bytes: u64,
    /// Most bytes that are read and unpacked of the entries of one archive and all within it. It is
    /// less for small archives: 64 MiB and 16 times their size.
    pub unpacked_bytes: u64,
    /// Most entries of one archive and all that are within it.
    pub entries: u64,
    /// How deep archives may lie in archives: 1 is a jar in a jar.
    pub depth: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            text_bytes: 16 << 20,
            packages: 100_000,
            held_bytes: 96 << 20,
            unpacked_bytes: 2 << 30,
            entries: 2_000_000,
            depth: 4,
        }
    }
}

/// What a file is read from.
pub(crate) trait Source: Read + Seek {}

impl<T: Read + Seek> Source for T {}

/// A file.
pub(crate) struct Input<'a> {
    pub(crate) source: &'a mut dyn Source,
    /// Its length in bytes, as the caller says.
    pub(crate) size: u64,
    pub(crate) limits: &'a Limits,
}

impl Input<'_> {
    /// All of it, if it is not longer than `most` and the limit of texts.
    pub(crate) fn bytes(&mut self, most: u64) -> Result<Vec<u8>, LanguageError> {
        let limit = most.min(self.limits.text_bytes);
        let too_large = |bytes| LanguageError::TooLarge { bytes, limit };
        if self.size > limit {
            return Err(too_large(self.size));
        }
        let mut bytes = Vec::new();
        self.source.rewind().map_err(LanguageError::Read)?;
        let mut limited = (&mut *self.source).take(limit.saturating_add(1));
        limited.read_to_end(&mut bytes).map_err(LanguageError::Read)?;
        let length = bytes.len() as u64;
        if length > limit { Err(too_large(length)) } else { Ok(bytes) }
    }

    /// Its beginning, of `most` bytes.
    pub(crate) fn beginning(&mut self, most: u64) -> Result<Vec<u8>, LanguageError> {
        let mut bytes = Vec::new();
        self.source.rewind().map_err(LanguageError::Read)?;
        let mut limited = (&mut *self.source).take(most.min(self.limits.text_bytes));
        limited.read_to_end(&mut bytes).map_err(LanguageError::Read)?;
        Ok(bytes)
    }

    /// Up to `most` bytes from an offset; fewer only where the file ends.
    pub(crate) fn at(&mut self, offset: u64, most: u64) -> Result<Vec<u8>, LanguageError> {
        let there = self.size.saturating_sub(offset).min(most);
        let mut bytes = Vec::new();
        self.source.seek(SeekFrom::Start(offset)).map_err(LanguageError::Read)?;
        (&mut *self.source).take(there).read_to_end(&mut bytes).map_err(LanguageError::Read)?;
        Ok(bytes)
    }
}

/// Text without the mark that some editors of Windows put before it. What is no UTF-8 is replaced.
pub(crate) fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(without_mark(bytes))
}

/// Bytes without a byte order mark.
pub(crate) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}
