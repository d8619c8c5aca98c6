//! Why a database or one of its headers is not read.

use std::io;

use crate::Kind;

/// Why a database is not read, or not to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RpmDbError {
    /// The file or its log cannot be read.
    #[error("the package database cannot be read")]
    Read(#[source] io::Error),
    /// The content is none of the three kinds.
    #[error("the file is no package database of RPM")]
    Unknown,
    /// A file ends before what it should hold.
    #[error("the package database ends before byte {0}, which it should have")]
    Ends(u64),
    /// The database contradicts its format.
    #[error("the {kind} database is damaged at byte {offset}: {what}")]
    Damaged {
        /// What it is.
        kind: Kind,
        /// Where the page or block begins that is wrong, in bytes. A page that stands in the log has
        /// the place that it would have in the database.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The write-ahead log contradicts its format.
    #[error("the log of the SQLite database is damaged: {0}")]
    Log(&'static str),
    /// It is such a database, but uses what RPM never does.
    #[error("the {kind} database has {what}, which is not supported")]
    Unsupported {
        /// What it is.
        kind: Kind,
        /// What it uses.
        what: &'static str,
    },
    /// A SQLite database without the table that holds the packages.
    #[error("the SQLite database has no table Packages")]
    NoTable,
    /// It is larger than what is read.
    #[error("the package database has more than {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much of it is read.
        limit: u64,
    },
}

/// Why an entry of a database is no package that could be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// It has more bytes than are read.
    #[error("the header has {0} bytes, more than are read")]
    TooLarge(u64),
    /// The checksum beside it is that of other bytes.
    #[error("the header does not have its checksum")]
    Checksum,
    /// The row or pair that should hold it has another form.
    #[error("the entry of the database does not hold a number and a header")]
    Entry,
    /// The lengths in its beginning are not those of the blob.
    #[error("the header does not have the length that it says")]
    Length,
    /// The region that holds the tags of the package file is not marked as it should be.
    #[error("the region of the header is damaged")]
    Region,
    /// The value of a tag has a wrong type, or is not within the header.
    #[error("the value of the header's tag {0} is damaged")]
    Tag(u32),
    /// A tag is there twice, so that readers could differ about its value.
    #[error("the header has the tag {0} twice")]
    Twice(u32),
    /// A tag that each package has is not there.
    #[error("the header has no tag {0}")]
    Missing(u32),
    /// The three lists that make the names of files do not fit each other.
    #[error("the lists of files of the header contradict each other")]
    Files,
    /// The names of its files have more bytes than are read.
    #[error("the names of the header's files have more than {0} bytes")]
    Paths(usize),
}
