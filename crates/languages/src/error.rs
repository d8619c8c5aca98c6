//! Why a file could not be read.

use std::io;

use crate::jar::ZipError;

/// Why a file does not tell of its packages.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LanguageError {
    /// Its bytes could not be had.
    #[error("it could not be read")]
    Read(#[source] io::Error),
    /// It is larger than what is read of such a file.
    #[error("it has {bytes} bytes or more, and at most {limit} are read")]
    TooLarge {
        /// How many it has, as far as that is known.
        bytes: u64,
        /// How many are read.
        limit: u64,
    },
    /// It tells of more packages than are taken.
    #[error("it tells of more than {0} packages")]
    TooMany(usize),
    /// It should be JSON.
    #[error("it is not the JSON that it should be")]
    Json(#[source] serde_json::Error),
    /// It should be TOML.
    #[error("it is not the TOML that it should be")]
    Toml(#[source] Box<toml::de::Error>),
    /// It should be an archive.
    #[error("it is not a zip archive that can be read")]
    Zip(#[source] ZipError),
    /// Something that such a file always has is not there or contradicts itself.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}
