//! One ecosystem's advisories in a file, found by the name of a package with a few small reads.
//!
//! ```text
//! "POSV" 1 0 0 0      8 bytes
//! index               u64, where the index begins
//! blobs               JSON: advisories without what they affect; for each package the list of
//!                     what is affected, with the place of the advisory
//! index               u64 count, then by hash: u64 hash of the name, u64 place, u32 length
//! ```
//!
//! Numbers are little-endian. The hash is the beginning of the name's SHA-256; the list has the name.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use portcullis_types::{Digest, Timestamp};
use portcullis_versions::Scheme;
use serde::{Deserialize, Serialize};

use crate::names::normal_name;
use crate::record::{Advisory, Affected, MAX_RECORD};

/// How the file's name ends.
pub(super) const EXTENSION: &str = ".shard";
const MAGIC: [u8; 8] = *b"POSV\x01\0\0\0";
/// Bytes before the blobs.
const HEAD: u64 = 16;
/// Bytes of one line of the index.
const LINE: usize = 20;
/// Most bytes of a package's list: the kernel of a distribution has some 10 MB.
const MAX_LIST: u32 = 256 << 20;

/// What is wrong with a shard.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// It cannot be read.
    #[error("it cannot be read")]
    Read(#[from] io::Error),
    /// It is no shard, or cut off.
    #[error("it is not of the form of a shard")]
    Form,
    /// What stands at a place is not what should be there.
    #[error("a record in it cannot be understood")]
    Record(#[source] serde_json::Error),
    /// It is not as it was written.
    #[error("it is not as it was written")]
    Checksum,
}

/// Where a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    at: u64,
    length: u32,
}

/// What an advisory says of a package.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    advisory: Place,
    pub(super) affected: Affected,
}

/// All that is said of a package.
#[derive(Debug, Serialize, Deserialize)]
struct Package {
    name: String,
    entries: Vec<Entry>,
}

fn hash(name: &str) -> u64 {
    let hex = Digest::of(name.as_bytes());
    u64::from_str_radix(&hex.hex()[..16], 16).unwrap_or_default()
}

/// A shard that is read.
#[derive(Debug)]
pub(super) struct Shard {
    file: File,
    /// Where the index begins.
    index: u64,
    count: u64,
}

impl Shard {
    pub(super) fn open(path: &Path) -> Result<Self, ShardError> {
        let file = File::open(path)?;
        let mut head = [0; HEAD as usize];
        file.read_exact_at(&mut head, 0).map_err(cut_off)?;
        let index = number(&head[8..]);
        let length = file.metadata()?.len();
        if head[..8] != MAGIC || index < HEAD || index.checked_add(8).is_none_or(|end| end > length)
        {
            return Err(ShardError::Form);
        }
        let mut count = [0; 8];
        file.read_exact_at(&mut count, index).map_err(cut_off)?;
        let count = number(&count);
        match count.checked_mul(LINE as u64).and_then(|lines| lines.checked_add(index + 8)) {
            Some(end) if end == length => Ok(Self { file, index, count }),
            _ => Err(ShardError::Form),
        }
    }

    /// What is said of a package, by its normal name.
    pub(super) fn package(&self, name: &str) -> Result<Vec<Entry>, ShardError> {
        let wanted = hash(name);
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.line(middle)?.0 < wanted {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        while low < self.count {
            let (found, place) = self.line(low)?;
            if found != wanted {
                break;
            }
            let package: Package = self.blob(place, MAX_LIST)?;
            if package.name == name {
                return Ok(package.entries);
            }
            low += 1;
        }
        Ok(Vec::new())
    }

    /// The advisory of an entry, without what it affects.
    pub(super) fn advisory(&self, entry: &Entry) -> Result<Advisory, ShardError> {
        self.blob(entry.advisory, MAX_RECORD as u32)
    }

    /// Reads every record once.
    pub(super) fn check(&self) -> Result<(), ShardError> {
        let mut last = 0;
        for at in 0..self.count {
            let (hash, place) = self.line(at)?;
            if hash < last {
                return Err(ShardError::Form);
            }
            last = hash;
            let package: Package = self.blob(place, MAX_LIST)?;
            for entry in &package.entries {
                self.advisory(entry)?;
            }
        }
        Ok(())
    }

    fn line(&self, at: u64) -> Result<(u64, Place), ShardError> {
        let mut line = [0; LINE];
        self.file.read_exact_at(&mut line, self.index + 8 + at * LINE as u64).map_err(cut_off)?;
        let length = u32::from_le_bytes([line[16], line[17], line[18], line[19]]);
        Ok((number(&line), Place { at: number(&line[8..]), length }))
    }

    fn blob<T: serde::de::DeserializeOwned>(
        &self,
        place: Place,
        most: u32,
    ) -> Result<T, ShardError> {
        let end = place.at.checked_add(u64::from(place.length));
        if place.length > most || place.at < HEAD || end.is_none_or(|end| end > self.index) {
            return Err(ShardError::Form);
        }
        let mut json = vec![0; place.length as usize];
        self.file.read_exact_at(&mut json, place.at).map_err(cut_off)?;
        serde_json::from_slice(&json).map_err(ShardError::Record)
    }
}

/// The first eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn cut_off(error: io::Error) -> ShardError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ShardError::Form,
        _ => ShardError::Read(error),
    }
}

/// What is in a shard that is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) modified: Option<Timestamp>,
    pub(super) advisories: u64,
    pub(super) withdrawn: u64,
    pub(super) packages: u64,
    pub(super) unreadable: u64,
}

/// An advisory's id, and the ecosystem with its release: AlmaLinux has records of one id for each
/// release, and all of them hold.
type Statement = (String, String);

/// A shard that is written.
#[derive(Debug)]
pub(super) struct Writer {
    file: BufWriter<File>,
    at: u64,
    scheme: Scheme,
    ecosystem: String,
    /// By the package's normal name.
    packages: BTreeMap<String, BTreeMap<Statement, Vec<Entry>>>,
    /// When a statement was changed, and which packages it speaks of.
    seen: HashMap<Statement, (Option<Timestamp>, Vec<String>)>,
    counts: Counts,
}

impl Writer {
    pub(super) fn new(file: File, scheme: Scheme, ecosystem: &str) -> io::Result<Self> {
        let mut file = BufWriter::new(file);
        file.write_all(&[0; HEAD as usize])?;
        Ok(Self {
            file,
            at: HEAD,
            scheme,
            ecosystem: ecosystem.to_owned(),
            packages: BTreeMap::new(),
            seen: HashMap::new(),
            counts: Counts::default(),
        })
    }

    /// Adds what a record says of packages of this ecosystem. Of two records with one id for one
    /// release the newer one counts.
    pub(super) fn add(&mut self, advisory: &Advisory, affected: Vec<Affected>) -> io::Result<()> {
        let mut by_release: BTreeMap<String, Vec<Affected>> = BTreeMap::new();
        for affected in affected {
            by_release.entry(affected.package.ecosystem.clone()).or_default().push(affected);
        }
        let mut place = None;
        for (release, affected) in by_release {
            let statement = (advisory.id.clone(), release);
            if let Some((modified, names)) = self.seen.get(&statement) {
                if *modified >= advisory.modified {
                    continue;
                }
                for name in names {
                    if let Some(package) = self.packages.get_mut(name) {
                        package.remove(&statement);
                    }
                }
            }
            let mut names = Vec::new();
            if advisory.withdrawn.is_none() {
                // Once for all releases.
                let at = match place {
                    Some(at) => at,
                    None => self.write(&Advisory { affected: Vec::new(), ..advisory.clone() })?,
                };
                place = Some(at);
                self.keep(at, &statement, affected, &mut names);
            }
            self.seen.insert(statement, (advisory.modified, names));
        }
        self.counts.modified = self.counts.modified.max(advisory.modified);
        if advisory.withdrawn.is_some() {
            self.counts.withdrawn += 1;
        }
        Ok(())
    }

    fn keep(
        &mut self,
        advisory: Place,
        statement: &Statement,
        all: Vec<Affected>,
        names: &mut Vec<String>,
    ) {
        for mut affected in all {
            if affected.sort(self.scheme).is_err() {
                self.counts.unreadable += 1;
                continue;
            }
            let name = normal_name(&self.ecosystem, &affected.package.name).into_owned();
            let package = self.packages.entry(name.clone()).or_default();
            package.entry(statement.clone()).or_default().push(Entry { advisory, affected });
            names.push(name);
        }
    }

    /// Counts what could not be understood.
    pub(super) fn unreadable(&mut self) {
        self.counts.unreadable += 1;
    }

    fn write(&mut self, value: &impl Serialize) -> io::Result<Place> {
        let json = serde_json::to_vec(value)?;
        let length = u32::try_from(json.len()).map_err(io::Error::other)?;
        self.file.write_all(&json)?;
        let place = Place { at: self.at, length };
        self.at += u64::from(length);
        Ok(place)
    }

    /// Writes the packages and the index, to the disk.
    pub(super) fn finish(mut self) -> io::Result<Counts> {
        let mut lines = Vec::new();
        let mut advisories = HashSet::new();
        for (name, by_id) in std::mem::take(&mut self.packages) {
            if by_id.is_empty() {
                continue;
            }
            advisories.extend(by_id.keys().map(|(id, _)| id.clone()));
            let entries = by_id.into_values().flatten().collect();
            let hash = hash(&name);
            let place = self.write(&Package { name, entries })?;
            lines.push((hash, place));
        }
        self.counts.packages = lines.len() as u64;
        self.counts.advisories = advisories.len() as u64;
        lines.sort_by_key(|(hash, place)| (*hash, place.at));
        self.file.write_all(&(lines.len() as u64).to_le_bytes())?;
        for (hash, place) in lines {
            self.file.write_all(&hash.to_le_bytes())?;
            self.file.write_all(&place.at.to_le_bytes())?;
            self.file.write_all(&place.length.to_le_bytes())?;
        }
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&MAGIC)?;
        file.write_all(&self.at.to_le_bytes())?;
        file.sync_all()?;
        Ok(self.counts)
    }
}
