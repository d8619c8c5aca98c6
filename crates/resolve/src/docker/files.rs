//! Reading Docker's files, within bounds and a deadline.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::grpc::GrpcError;

/// A file of Docker's cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// The deadline passed.
    #[error("it was not read")]
    Deadline(#[source] GrpcError),
    /// It cannot be read.
    #[error("{} cannot be read", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// It is a pipe or the like.
    #[error("{} is no regular file", .0.display())]
    NotRegular(PathBuf),
    /// It is larger than anything that Docker writes there.
    #[error("{} is larger than {most} bytes", .path.display())]
    TooLarge { path: PathBuf, most: u64 },
    /// It does not say what such a file says.
    #[error("{} is not {what}", .path.display())]
    Malformed { path: PathBuf, what: &'static str },
}

impl FileError {
    /// Whether the file is simply not there.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Read(_, error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// Reads files until the deadline.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) deadline: Instant,
}

impl Files {
    /// A whole file of at most so many bytes.
    pub(super) fn read(&self, path: &Path, most: u64) -> Result<Vec<u8>, FileError> {
        self.in_time()?;
        let wrong = |error| FileError::Read(path.to_owned(), error);
        // Opening a pipe would wait for a writer.
        if !std::fs::symlink_metadata(path).map_err(wrong)?.is_file() {
            return Err(FileError::NotRegular(path.to_owned()));
        }
        let mut content = Vec::new();
        File::open(path)
            .and_then(|file| file.take(most + 1).read_to_end(&mut content))
            .map_err(wrong)?;
        match content.len() as u64 > most {
            true => Err(FileError::TooLarge { path: path.to_owned(), most }),
            false => Ok(content),
        }
    }

    /// A file of one word, such as an id or a digest.
    pub(super) fn word(&self, path: &Path) -> Result<String, FileError> {
        const MOST: u64 = 256;
        let content = self.read(path, MOST)?;
        let text = std::str::from_utf8(&content)
            .map_err(|_| FileError::Malformed { path: path.to_owned(), what: "text" })?;
        Ok(text.trim_end_matches('\n').to_owned())
    }

    /// Where a symbolic link points to, unresolved.
    pub(super) fn link(&self, path: &Path) -> Result<PathBuf, FileError> {
        self.in_time()?;
        std::fs::read_link(path).map_err(|error| FileError::Read(path.to_owned(), error))
    }

    fn in_time(&self) -> Result<(), FileError> {
        if Instant::now() >= self.deadline {
            return Err(FileError::Deadline(GrpcError::Deadline));
        }
        Ok(())
    }
}
