//! Why the ledger cannot be used.

use std::io;
use std::path::PathBuf;

use super::LOCK_BOUND;

/// Why the ledger cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The folder or a file in it cannot be made, opened, read or written.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The folder or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could be written only in part, and the part could not be taken back. The next writer
    /// closes it.
    #[error("cannot write {path}, nor take back what was written of it ({cleanup})")]
    Partial {
        /// The file.
        path: PathBuf,
        /// Why it could not be written.
        #[source]
        source: io::Error,
        /// Why it could not be taken back.
        cleanup: io::Error,
    },
    /// Something else stands in the place of a file: a link, a fifo, a device, a folder.
    #[error("{path} is not a regular file")]
    NotAFile {
        /// Its path.
        path: PathBuf,
    },
    /// Another process holds the lock.
    #[error("{path} has been locked for {} ms", LOCK_BOUND.as_millis())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A record is longer than readers take, or than a quarter of what all files may hold.
    #[error("a record of {length} bytes is too long for the ledger, which takes {most}")]
    TooLong {
        /// Its length.
        length: u64,
        /// The most that is taken.
        most: u64,
    },
    /// The ledger is at the last number that it can count to.
    #[error("the ledger has no number left for a record")]
    Full,
    /// An event cannot be written as JSON.
    #[error("an event cannot be written")]
    Encode(#[source] serde_json::Error),
}

/// Makes an [`LedgerError::Io`] of what was tried.
pub(super) fn failed(
    doing: &'static str,
    path: &std::path::Path,
) -> impl Fn(io::Error) -> LedgerError + use<> {
    let path = path.to_owned();
    move |source| LedgerError::Io { doing, path: path.clone(), source }
}
