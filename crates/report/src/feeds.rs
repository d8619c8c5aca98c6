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
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_types::{Class, Finding, Timestamp};

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
    /// It is no feed that is known.
    #[error("{file} is neither EPSS (CSV, plain or packed with gzip) nor KEV (JSON)")]
    Unknown {
        /// The file.
        file: PathBuf,
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

/// One feed.
#[derive(Debug, Clone)]
pub enum Feed {
    /// How likely vulnerabilities are to be exploited.
    Epss(Epss),
    /// Which are known to be exploited.
    Kev(Kev),
}

impl Feed {
    /// Its name, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Epss(_) => "EPSS",
            Self::Kev(_) => "KEV",
        }
    }

    /// The day that it is for.
    pub fn date(&self) -> Timestamp {
        match self {
            Self::Epss(epss) => epss.date(),
            Self::Kev(kev) => kev.date(),
        }
    }

    /// How many CVEs it lists.
    pub fn rows(&self) -> usize {
        match self {
            Self::Epss(epss) => epss.len(),
            Self::Kev(kev) => kev.len(),
        }
    }
}

/// A feed with the bytes that it was read from.
#[derive(Debug, Clone)]
pub struct FeedFile {
    /// The feed.
    pub feed: Feed,
    /// The whole file, as it is.
    pub bytes: Vec<u8>,
    /// The name under which [`stored`] looks for such a file.
    pub name: &'static str,
    /// The other name that such a feed may have there.
    pub other: Option<&'static str>,
}

const EPSS: &str = "epss.csv";
const EPSS_PACKED: &str = "epss.csv.gz";
const KEV: &str = "kev.json";

/// Reads a feed; its content tells which, never its name.
///
/// # Errors
/// See [`FeedError`].
pub fn read_feed(file: &Path, limits: &FeedLimits) -> Result<FeedFile, FeedError> {
    let unreadable = |source| FeedError::Unreadable { file: file.to_owned(), source };
    let mut bytes = Vec::new();
    // A file that grew since it was measured is cut, and then damaged.
    let mut opened = open(file, limits)?.take(limits.bytes);
    opened.read_to_end(&mut bytes).map_err(unreadable)?;
    let content = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes).trim_ascii_start();
    let (name, other) = match content {
        [0x1f, 0x8b, ..] => (EPSS_PACKED, Some(EPSS)),
        [b'#' | b'c', ..] => (EPSS, Some(EPSS_PACKED)),
        [b'{', ..] => (KEV, None),
        _ => return Err(FeedError::Unknown { file: file.to_owned() }),
    };
    let feed = match name {
        KEV => Feed::Kev(parse_kev(&*bytes, file, limits)?),
        _ => Feed::Epss(parse_epss(&*bytes, file, limits)?),
    };
    Ok(FeedFile { feed, bytes, name, other })
}

/// What lies in a folder: `epss.csv`, `epss.csv.gz` and `kev.json`, as far as they are there, each
/// with the feed in it, or why that cannot be read.
pub fn stored(folder: &Path) -> Vec<(PathBuf, Result<Feed, FeedError>)> {
    let limits = FeedLimits::default();
    let read = |name: &str| {
        let file = folder.join(name);
        let feed = match name {
            KEV => if_there(read_kev(&file, &limits).map(Feed::Kev)),
            _ => if_there(read_epss(&file, &limits).map(Feed::Epss)),
        };
        feed.transpose().map(|feed| (file, feed))
    };
    [EPSS, EPSS_PACKED, KEV].into_iter().filter_map(read).collect()
}

/// The feeds that are there.
#[derive(Debug, Clone, Default)]
pub struct Feeds {
    /// How likely vulnerabilities are to be exploited.
    pub epss: Option<Epss>,
    /// Which are known to be exploited.
    pub kev: Option<Kev>,
}

/// Of several feeds of one kind the latest.
impl FromIterator<Feed> for Feeds {
    fn from_iter<I: IntoIterator<Item = Feed>>(feeds: I) -> Self {
        let mut latest = Self::default();
        for feed in feeds {
            match feed {
                Feed::Epss(epss) => {
                    latest.epss = latest.epss.into_iter().chain([epss]).max_by_key(Epss::date);
                }
                Feed::Kev(kev) => {
                    latest.kev = latest.kev.into_iter().chain([kev]).max_by_key(Kev::date);
                }
            }
        }
        latest
    }
}

impl Feeds {
    /// Reads the feeds that are [stored] in a folder, of EPSS the later one. A file or folder that
    /// is missing is fine.
    ///
    /// # Errors
    /// A file that is there cannot be read or is damaged.
    pub fn open(folder: &Path) -> Result<Self, FeedError> {
        stored(folder).into_iter().map(|(_, feed)| feed).collect()
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
