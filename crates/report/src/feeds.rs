//! Feeds: what changes daily and stands in no report, EPSS and KEV.
//!
//! - **EPSS** (FIRST): how likely a vulnerability is to be exploited within 30 days, `epss.csv` or
//!   `epss.csv.gz`, as <https://epss.empiricalsecurity.com/epss_scores-current.csv.gz> has it.
//! - **KEV** (CISA): what is known to be exploited, `kev.json`, as
//!   <https://www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities.json> has it.
//!
//! Nothing is fetched here: whoever keeps the node puts the files into its feeds folder. Unlike a
//! report, a feed is one list with one form, so every row must be right: a damaged one is an error
//! with its place, since a row that is missing looks like a vulnerability that is harmless.

mod cve;
mod epss;
mod kev;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_types::{Class, Finding};

pub use self::epss::{Epss, parse_epss, read_epss};
pub use self::kev::{Kev, parse_kev, read_kev};
use crate::input::{self, OpenError};

/// What a feed may measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedLimits {
    /// Bytes of the file, and of what is packed in it.
    pub bytes: u64,
    /// Rows.
    pub rows: usize,
}

impl Default for FeedLimits {
    /// 128 MiB and 2,000,000 rows: some six times today's EPSS.
    fn default() -> Self {
        Self { bytes: 128 << 20, rows: 2_000_000 }
    }
}

/// Why a feed was not read. Each message names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The file cannot be opened or read.
    #[error("cannot read {file}")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is a folder, a pipe or a device.
    #[error("{file} is {what}, not a file")]
    NotAFile {
        /// What was named.
        file: PathBuf,
        /// What it is, with its article.
        what: &'static str,
    },
    /// It is larger than feeds may be.
    #[error("{file} has more than {limit} bytes, packed or unpacked: is it the feed?")]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// It is broken, or is not what it should be at this place.
    #[error("{file}, line {line}, column {column}: {what}: fetch the file again")]
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
    /// It is whole as far as its form goes, yet not as a list.
    #[error("{file} {what}: fetch the file again")]
    Incomplete {
        /// The file.
        file: PathBuf,
        /// What is wrong with it, as the rest of a sentence.
        what: String,
    },
}

/// The feeds that are there.
#[derive(Debug, Clone, Default)]
pub struct Feeds {
    /// How likely vulnerabilities are to be exploited.
    pub epss: Option<Epss>,
    /// Which are known to be exploited.
    pub kev: Option<Kev>,
}

impl Feeds {
    /// Reads `epss.csv` or `epss.csv.gz` (of both the later one), and `kev.json`, in a folder. A
    /// file or folder that is missing is fine.
    ///
    /// # Errors
    /// A file that is there cannot be read or is damaged.
    pub fn open(folder: &Path) -> Result<Self, FeedError> {
        let limits = FeedLimits::default();
        let plain = if_there(read_epss(&folder.join("epss.csv"), &limits))?;
        let packed = if_there(read_epss(&folder.join("epss.csv.gz"), &limits))?;
        Ok(Self {
            epss: plain.into_iter().chain(packed).max_by_key(Epss::date),
            kev: if_there(read_kev(&folder.join("kev.json"), &limits))?,
        })
    }

    /// Writes into a finding what the feeds say of its vulnerability, by its id or any alias.
    /// Returns whether anything changed.
    ///
    /// The EPSS feed's value takes the place of the report's, which is as old as the scan; of
    /// several ids the highest counts. Being listed in KEV stays, whoever said it.
    pub fn annotate(&self, finding: &mut Finding) -> bool {
        if finding.class != Class::Vulnerability {
            return false;
        }
        let ids = || std::iter::once(&finding.id).chain(&finding.aliases).map(Arc::as_ref);
        let epss = |id: &str| self.epss.as_ref()?.get(id);
        let epss = ids().filter_map(epss).max_by(f32::total_cmp).or(finding.epss);
        let is_listed = |id: &str| self.kev.as_ref().is_some_and(|kev| kev.contains(id).is_some());
        let kev = finding.kev || ids().any(is_listed);
        let changed = (epss, kev) != (finding.epss, finding.kev);
        (finding.epss, finding.kev) = (epss, kev);
        changed
    }
}

/// A feed, or none where its file is missing.
fn if_there<T>(read: Result<T, FeedError>) -> Result<Option<T>, FeedError> {
    match read {
        Ok(feed) => Ok(Some(feed)),
        Err(FeedError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn open(file: &Path, limits: &FeedLimits) -> Result<File, FeedError> {
    let limit = limits.bytes;
    input::open(file, limit).map_err(|error| {
        let file = file.to_owned();
        match error {
            OpenError::Unreadable(source) => FeedError::Unreadable { file, source },
            OpenError::NotAFile(what) => FeedError::NotAFile { file, what },
            OpenError::TooLarge(_) => FeedError::TooLarge { file, limit },
        }
    })
}

#[cfg(test)]
mod tests;
