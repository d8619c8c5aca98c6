//! The whole content of a file of a layer: in memory if it is small, else in a file without a name.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::os::fd::BorrowedFd;

use portcullis_rpmdb::ReadSeek;
use rustix::fs::{Mode, OFlags};

/// Up to here it stays in memory.
const IN_MEMORY: usize = 8 << 20;

/// Content that can be read again and again, at any place.
#[derive(Debug)]
pub(crate) enum Whole {
    /// All of it.
    Memory(Vec<u8>),
    /// A file.
    File(File),
}

impl Whole {
    /// Reads from the beginning.
    pub(crate) fn reader(&self) -> io::Result<Box<dyn ReadSeek + '_>> {
        Ok(match self {
            Self::Memory(bytes) => Box::new(Cursor::new(bytes.as_slice())),
            Self::File(file) => {
                let mut file: &File = file;
                file.seek(SeekFrom::Start(0))?;
                Box::new(file)
            }
        })
    }

    /// All of it in memory, but no more than so many bytes.
    pub(crate) fn bytes(&self, most: u64) -> io::Result<Cow<'_, [u8]>> {
        match self {
            Self::Memory(bytes) => {
                let most = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
                Ok(Cow::Borrowed(&bytes[..most]))
            }
            Self::File(_) => {
                let mut bytes = Vec::new();
                self.reader()?.take(most).read_to_end(&mut bytes)?;
                Ok(Cow::Owned(bytes))
            }
        }
    }
}

/// Takes content in, piece by piece.
pub(crate) struct Spool<'s> {
    scratch: BorrowedFd<'s>,
    memory: Vec<u8>,
    file: Option<File>,
}

impl<'s> Spool<'s> {
    /// What does not fit into memory goes to a file in this folder.
    pub(crate) fn new(scratch: BorrowedFd<'s>) -> Self {
        Self { scratch, memory: Vec::new(), file: None }
    }

    pub(crate) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            return file.write_all(piece);
        }
        self.memory.extend_from_slice(piece);
        if self.memory.len() > IN_MEMORY {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            let file = rustix::fs::openat(self.scratch, ".", flags, Mode::from_raw_mode(0o600))?;
            let mut file = File::from(file);
            file.write_all(&self.memory)?;
            self.memory = Vec::new();
            self.file = Some(file);
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Whole {
        match self.file {
            Some(file) => Whole::File(file),
            None => Whole::Memory(self.memory),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn large_content_is_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = File::open(folder.path()).unwrap();
        for length in [0, 100, IN_MEMORY, IN_MEMORY + 1, 3 * IN_MEMORY] {
            let mut spool = Spool::new(scratch.as_fd());
            let content: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            for piece in content.chunks(1 << 20) {
                spool.write(piece).unwrap();
            }
            let whole = spool.finish();
            assert_eq!(matches!(whole, Whole::File(_)), length > IN_MEMORY);
            for _ in 0..2 {
                assert!(*whole.bytes(u64::MAX).unwrap() == content);
                assert!(*whole.bytes(10).unwrap() == content[..10.min(length)]);
            }
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no name is left");
    }
}
