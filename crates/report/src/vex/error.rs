//! Why a VEX document is not read, and what to do about it.

use std::io;
use std::path::PathBuf;

/// Why a VEX document was not read. Each message names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VexError {
    /// The file or folder cannot be opened or read.
    #[error("cannot read {file}")]
    Unreadable {
        /// The file or folder.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is a folder, a pipe or a device.
    #[error("{file} is no regular file: take it out of the folder, or do not call it *.json")]
    NotAFile {
        /// What was named.
        file: PathBuf,
    },
    /// It is larger than a VEX document may be.
    #[error("{file} has more than the {limit} bytes that a VEX document may have: split it")]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// There is more of something in it, or in the folder with it, than may be.
    #[error("{file}: more than {limit} {what}: leave out what is about images that run elsewhere")]
    TooMany {
        /// The file at which the limit was reached.
        file: PathBuf,
        /// Of what.
        what: &'static str,
        /// How many may be.
        limit: usize,
    },
    /// It is no VEX document that is known.
    #[error(
        "{file} {what}: OpenVEX up to 0.2, CSAF 2.0 of the category csaf_vex and CycloneDX in \
         JSON are read"
    )]
    UnknownFormat {
        /// The file.
        file: PathBuf,
        /// What it is instead, as the rest of a sentence.
        what: String,
    },
    /// Its JSON is broken, or is not what it should be at this place.
    #[error("{file}, line {line}, column {column}: {what}")]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1; 0 before the first.
        column: usize,
        /// What is wrong.
        what: String,
    },
}
