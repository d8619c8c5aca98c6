//! A file that is read at places of one's choice, and a set of its pages.

use std::io::SeekFrom;

use crate::error::RpmDbError;
use crate::{Limits, ReadSeek};

pub(crate) struct Source<'a> {
    file: &'a mut dyn ReadSeek,
    length: u64,
}

impl<'a> Source<'a> {
    pub(crate) fn new(file: &'a mut dyn ReadSeek, limits: &Limits) -> Result<Self, RpmDbError> {
        let length = file.seek(SeekFrom::End(0)).map_err(RpmDbError::Read)?;
        if length > limits.max_database {
            return Err(RpmDbError::Limit { what: "bytes", limit: limits.max_database });
        }
        Ok(Self { file, length })
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn fill(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), RpmDbError> {
        self.check(offset, bytes.len() as u64)?;
        self.file.seek(SeekFrom::Start(offset)).map_err(RpmDbError::Read)?;
        self.file.read_exact(bytes).map_err(RpmDbError::Read)
    }

    /// So many bytes, which are allocated only if the file has them.
    pub(crate) fn bytes(&mut self, offset: u64, length: usize) -> Result<Vec<u8>, RpmDbError> {
        self.check(offset, length as u64)?;
        let mut bytes = vec![0; length];
        self.fill(offset, &mut bytes)?;
        Ok(bytes)
    }

    fn check(&self, offset: u64, length: u64) -> Result<(), RpmDbError> {
        let end = offset.saturating_add(length);
        if end > self.length { Err(RpmDbError::Ends(end)) } else { Ok(()) }
    }
}

/// Which pages were read. It grows only up to the largest page that there is.
#[derive(Default)]
pub(crate) struct Seen(Vec<u64>);

impl Seen {
    /// Whether the page is new.
    pub(crate) fn insert(&mut self, page: u32) -> bool {
        let (word, bit) = ((page / 64) as usize, 1 << (page % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }
}

/// Numbers of fixed size, of which the place must exist.
macro_rules! number {
    ($name:ident, $type:ty, $from:ident) => {
        pub(crate) fn $name(bytes: &[u8], at: usize) -> Option<$type> {
            let bytes = bytes.get(at..)?.first_chunk()?;
            Some(<$type>::$from(*bytes))
        }
    };
}

number!(be16, u16, from_be_bytes);
number!(be32, u32, from_be_bytes);
number!(le16, u16, from_le_bytes);
number!(le32, u32, from_le_bytes);
