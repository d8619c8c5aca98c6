//! RPM's package databases, read from files that may be damaged or hostile.
//!
//! There are three, and all are read here without a library of C and without writing anything: SQLite
//! (`rpmdb.sqlite`: Fedora, RHEL 9, Amazon Linux 2023, Azure Linux), rpm's own ndb (`Packages.db`: SUSE)
//! and Berkeley DB's hash (`Packages`: RHEL and CentOS up to 8, Amazon Linux 2). Which one a file is says
//! its content. All hold the same: for each installed package a number and a header.
//!
//! Packages are given one at a time, and never fewer than there are without a word: what of the
//! database is damaged or goes beyond a limit is an error, and a header that cannot be understood is
//! named in the [`Summary`]. Every page and block is read once at most, so the time is linear in the
//! size of the file, and beside one header a few pages and a bit for each page are kept in memory.

#![forbid(unsafe_code)]

mod bdb;
mod collect;
mod error;
mod header;
mod ndb;
mod package;
mod source;
mod sqlite;

use std::io::{Read, Seek};

use collect::Collector;
pub use error::{HeaderError, RpmDbError};
pub use package::Package;
use source::Source;

/// How many bytes of a file's beginning tell its [`Kind`].
pub const KIND_BYTES: usize = 16;

/// What keeps the packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// SQLite 3: `rpmdb.sqlite`, perhaps with its log `rpmdb.sqlite-wal`.
    Sqlite,
    /// rpm's own ndb: `Packages.db`.
    Ndb,
    /// Berkeley DB's hash: `Packages`.
    Bdb,
}

impl Kind {
    /// The kind of a file that begins so. No more than [`KIND_BYTES`] are looked at.
    pub fn of(begin: &[u8]) -> Option<Kind> {
        let begin = begin.get(..KIND_BYTES)?;
        if begin == sqlite::MAGIC {
            Some(Kind::Sqlite)
        } else if begin[..4] == ndb::MAGIC {
            Some(Kind::Ndb)
        } else {
            bdb::is_hash(begin).then_some(Kind::Bdb)
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Sqlite => "SQLite",
            Kind::Ndb => "ndb",
            Kind::Bdb => "Berkeley DB",
        })
    }
}

/// How much is read at most. Going beyond one of them is an error, except where a header alone does so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the database, and of its log.
    pub max_database: u64,
    /// Entries of the database, be they packages, keys or damaged.
    pub max_packages: usize,
    /// Bytes of a header. A larger one is counted as damaged.
    pub max_blob: usize,
    /// Names of files of all packages together.
    pub max_file_names: usize,
    /// Bytes of all names of files of a package. A header with more is counted as damaged.
    pub max_path_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_database: 2 << 30,
            max_packages: 64 << 10,
            max_blob: 64 << 20,
            max_file_names: 2_000_000,
            max_path_bytes: 64 << 20,
        }
    }
}

/// What was read. Each entry of the database is in one of the first three.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// How many packages were given.
    pub packages: usize,
    /// How many entries were public keys (`gpg-pubkey`), which are no packages.
    pub keys: usize,
    /// The entries that could not be understood.
    pub damaged: Vec<Damaged>,
    /// What kept the packages.
    pub kind: Kind,
    /// How many frames of the write-ahead log count.
    pub log_frames: u64,
    /// How many frames of the log are whole, but belong to a change that was never committed. SQLite
    /// does not read them either.
    pub log_frames_uncommitted: u64,
}

/// An entry of the database that could not be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Its number in the database, where it has one.
    pub number: Option<i64>,
    /// What is wrong with it.
    pub cause: HeaderError,
}

/// A file that can be read at any place.
pub trait ReadSeek: Read + Seek {}

impl<T: Read + Seek + ?Sized> ReadSeek for T {}

/// Gives each package of a database to `each`, in the order of the database.
///
/// `log` is the write-ahead log of a SQLite database, if there is one; for the other kinds it is not
/// looked at. A journal of the older sort (`-journal`) is not applied.
///
/// # Errors
/// The file cannot be read, is none of the three, is damaged as a database, or goes beyond a limit.
/// Packages that were given before the error are what was found so far, not all there are.
pub fn read<R: Read + Seek>(
    mut database: R,
    log: Option<&mut dyn ReadSeek>,
    limits: &Limits,
    each: &mut dyn FnMut(Package),
) -> Result<Summary, RpmDbError> {
    let mut source = Source::new(&mut database, limits)?;
    let mut begin = [0; KIND_BYTES];
    if source.length() < KIND_BYTES as u64 {
        return Err(RpmDbError::Unknown);
    }
    source.fill(0, &mut begin)?;
    let kind = Kind::of(&begin).ok_or(RpmDbError::Unknown)?;
    let mut collector = Collector::new(kind, limits, each);
    match kind {
        Kind::Sqlite => {
            // The one reader then lives as long as the other.
            let log = log.map(|log| -> &mut dyn ReadSeek { log });
            sqlite::read(source, log, &mut collector)?;
        }
        Kind::Ndb => ndb::read(source, &mut collector)?,
        Kind::Bdb => bdb::read(source, &mut collector)?,
    }
    Ok(collector.finish())
}
