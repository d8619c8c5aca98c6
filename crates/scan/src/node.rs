//! What a node knows, to judge what images have: advisories, lists of malicious files, words that
//! are tried as passwords, feeds; and what it searches files with.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use portcullis_baseline::passwords::WordList;
use portcullis_inventory::{Hashes, Knowledge, SCANNER, Wishes, assess, ecosystems_of};
use portcullis_malware::hashes::{List, ListError};
use portcullis_osv::database::{Database, DatabaseError};
use portcullis_report::feeds::{FeedError, Feeds};
use portcullis_settings::Paths;
use portcullis_types::{Binding, Class, Digest, Finding, ScanReport, Scanner, Timestamp};

use crate::Scanned;

/// Where Debian's and Red Hat's clamd listen.
const CLAMD: [&str; 3] =
    ["/run/clamav/clamd.ctl", "/run/clamd.scan/clamd.sock", "/run/clamav/clamd.sock"];

/// Why what a node knows cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The advisories.
    #[error("the vulnerability database cannot be used: run portcullis db update SOURCE")]
    Database(#[from] DatabaseError),
    /// EPSS or KEV.
    #[error("a feed of this node is damaged: fetch it and run portcullis feed update FILE")]
    Feeds(#[from] FeedError),
    /// A list of malicious files.
    #[error(transparent)]
    List(#[from] ListError),
    /// A file or folder of these.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] io::Error),
}

/// What is known on this node, as it was when it was read.
#[derive(Debug)]
pub struct Node {
    database: Option<Database>,
    lists: Lists,
    words: WordList,
    feeds: Feeds,
    /// The files that it was read from, as they were.
    files: Known,
}

/// The state of the files that hold what a node knows: another state, other knowledge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known(BTreeSet<Stamp>);

impl Known {
    /// As it is now. No file is read.
    pub fn now(paths: &Paths) -> Self {
        Self(stamps(paths))
    }

    /// A digest of it, to be remembered.
    pub fn digest(&self) -> Digest {
        Digest::of(format!("{:?}", self.0).as_bytes())
    }
}

/// A file, its inode, size and time of change: another file has another.
type Stamp = (PathBuf, u64, u64, i64, i64);

impl Node {
    /// Reads it.
    ///
    /// # Errors
    /// [`NodeError`]: something is there and cannot be used. What is not there is not known.
    pub fn read(paths: &Paths) -> Result<Self, NodeError> {
        // Before they are read: what changes meanwhile is seen by the next look.
        let files = Known::now(paths);
        Ok(Self {
            files,
            database: Database::open(&paths.advisories())?,
            lists: Lists::read(&paths.malware())?,
            words: words(&paths.malware().with_file_name("passwords.txt"))?,
            feeds: Feeds::open(&paths.feeds())?,
        })
    }

    /// Whether nothing has changed since it was read.
    pub fn is_current(&self, paths: &Paths) -> bool {
        self.files == Known::now(paths)
    }

    /// Whether there are advisories.
    pub fn has_advisories(&self) -> bool {
        self.database.is_some()
    }

    /// Whether a scan on this node could say more of an image than a scan of another node has: a class
    /// that was not looked for there, newer advisories, or advisories of what had none there. `engines`
    /// says whether this node searches files for malware.
    ///
    /// Which lists and rules the other node has is not told, and does not count.
    pub fn adds_to(&self, report: &ScanReport, engines: bool) -> bool {
        let coverage = &report.coverage;
        let mut classes = BTreeSet::from([Class::Baseline, Class::Secret]);
        if engines || !self.lists.0.is_empty() {
            classes.insert(Class::Malware);
        }
        if self.database.is_some() {
            classes.insert(Class::Vulnerability);
        }
        if !classes.is_subset(&coverage.classes) {
            return true;
        }
        let Some(database) = &self.database else { return false };
        let uncovered = ecosystems_of(coverage, &coverage.uncovered);
        if uncovered.iter().any(|ecosystem| database.covers(ecosystem)) {
            return true;
        }
        let base = |name: &String| name.split(':').next().unwrap_or_default().to_owned();
        let asked = ecosystems_of(coverage, &coverage.ecosystems).iter().map(base).collect();
        asked_at(database, &asked) > report.database_at
    }

    /// Adds what the feeds of this node say of a finding.
    pub fn annotate(&self, finding: &mut Finding) {
        let _changed = self.feeds.annotate(finding);
    }

    /// What is wrong with an image, as a report for the verdict store.
    ///
    /// # Errors
    /// The advisories cannot be asked.
    pub fn report(
        &self,
        scanned: &Scanned,
        wishes: Wishes,
        now: Timestamp,
    ) -> Result<ScanReport, DatabaseError> {
        let knowledge = Knowledge {
            database: self.database.as_ref(),
            hashes: (!self.lists.0.is_empty()).then_some(&self.lists as _),
            searched: scanned.searched.clone(),
            wishes,
            words: &self.words,
            now,
        };
        let mut assessment = assess(&scanned.image, &scanned.merged, &knowledge)?;
        for finding in &mut assessment.findings {
            self.feeds.annotate(finding);
        }
        Ok(ScanReport {
            scanner: Scanner {
                name: SCANNER.to_owned(),
                version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            },
            scanned_at: now,
            database_at: self
                .database
                .as_ref()
                .and_then(|database| asked_at(database, &assessment.ecosystems)),
            imported_at: now,
            binding: Binding::ByScan,
            coverage: assessment.coverage,
            findings: assessment.findings.into_iter().map(Into::into).collect(),
        })
    }
}

/// The folders that a node's knowledge lies in, and what is in them.
fn stamps(paths: &Paths) -> BTreeSet<Stamp> {
    let mut stamps = BTreeSet::new();
    for folder in [paths.advisories(), paths.malware(), paths.feeds()] {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        stamps.extend(entries.filter_map(|entry| stamp(entry.path())));
    }
    stamps.extend(stamp(paths.malware().with_file_name("passwords.txt")));
    stamps
}

fn stamp(path: PathBuf) -> Option<Stamp> {
    let metadata = path.metadata().ok()?;
    Some((path, metadata.ino(), metadata.len(), metadata.ctime(), metadata.ctime_nsec()))
}

/// How old the advisories are: of the ecosystems that were asked, the oldest one's newest.
fn asked_at(database: &Database, asked: &BTreeSet<String>) -> Option<Timestamp> {
    let all = database.manifest().ecosystems.iter();
    let of = all.filter(|(name, _)| asked.contains(*name));
    of.filter_map(|(_, contents)| contents.modified.map(|modified| modified.min(contents.read)))
        .min()
}

/// Lists of malicious files.
#[derive(Debug)]
struct Lists(Vec<List>);

impl Lists {
    fn read(folder: &Path) -> Result<Self, NodeError> {
        let mut lists = Vec::new();
        for path in files(folder, &["txt", "csv", "sha256", "hsb"])? {
            let file = fs::File::open(&path).map_err(|e| NodeError::Read(path.clone(), e))?;
            lists.push(List::read(file, &path.display().to_string())?);
        }
        Ok(Self(lists))
    }
}

impl Hashes for Lists {
    fn find(&self, hash: &[u8; 16]) -> Option<(String, String)> {
        let entry = self.0.iter().find_map(|list| list.lookup(hash))?;
        let sha256 = Digest::sha256(*entry.digest).hex().to_owned();
        // One without a name goes by the digest itself.
        let name =
            entry.name.map_or_else(|| format!("sha256-{}", &sha256[..16]), ToOwned::to_owned);
        Some((sha256, name))
    }
}

/// Words that are tried as passwords: those that are built in, and the node's own.
fn words(path: &Path) -> Result<WordList, NodeError> {
    let mut words = WordList::new();
    match fs::read(path) {
        Ok(text) => words.add(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(NodeError::Read(path.to_owned(), error)),
    }
    Ok(words)
}

/// The node's rules of YARA, with the names of their files.
///
/// # Errors
/// One cannot be read.
pub fn rules(paths: &Paths) -> Result<Vec<(String, Vec<u8>)>, NodeError> {
    let mut rules = Vec::new();
    for path in files(&paths.malware(), &["yar", "yara"])? {
        let text = fs::read(&path).map_err(|e| NodeError::Read(path.clone(), e))?;
        rules.push((path.display().to_string(), text));
    }
    Ok(rules)
}

/// The socket of this node's clamd, if it is where distributions have it.
pub fn clamd() -> Option<PathBuf> {
    CLAMD.iter().map(PathBuf::from).find(|socket| socket.exists())
}

/// The platform of this node, as OCI names it.
pub fn own_platform() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("linux/{architecture}")
}

/// The files of a folder whose names end so, in order.
fn files(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, NodeError> {
    let wrong = |error| NodeError::Read(folder.to_owned(), error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(wrong(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(wrong)?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if ending.is_some_and(|ending| endings.contains(&ending)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
