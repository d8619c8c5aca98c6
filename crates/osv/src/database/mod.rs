//! A node's own copy of the advisories: built whole beside the old one, then put in its place.
//!
//! ```text
//! current -> <digest of the manifest>     replaced by rename
//! <digest>/manifest.json                  what is in it, with a checksum for each shard
//! <digest>/<ecosystem>.shard              one for each ecosystem, see `shard.rs`
//! ```
//!
//! Readers take no lock: who has opened a generation goes on with it. Of a shard only what is asked
//! for is read, so that a node with Debian images never reads the advisories of npm.

mod build;
mod shard;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use portcullis_types::{Digest, Timestamp};
use portcullis_versions::{Scheme, VersionError};
use serde::{Deserialize, Serialize};

pub use self::build::{Progress, update};
use self::shard::Shard;
pub use self::shard::ShardError;
pub use self::source::{Fetched, Origin, Source};
use crate::names::{base, is_in_ecosystem, normal_name};
use crate::record::Advisory;

/// The link to what is in force.
const CURRENT: &str = "current";
const MANIFEST: &str = "manifest.json";
/// The form of the manifest and of the shards.
const FORMAT: u32 = 2;
/// Most bytes of a manifest.
const MAX_MANIFEST: u64 = 4 << 20;

/// What is in a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The form of the files.
    format: u32,
    /// When it was built.
    pub built: Timestamp,
    /// By the ecosystem, without a release.
    pub ecosystems: BTreeMap<String, Contents>,
}

/// What is in the shard of an ecosystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contents {
    /// Name of the file.
    pub file: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub bytes: u64,
    /// Where it was read from.
    pub source: String,
    /// When it was read, or known to be what would be read again.
    pub read: Timestamp,
    /// When the newest of its advisories was changed.
    pub modified: Option<Timestamp>,
    /// Advisories that hold.
    pub advisories: u64,
    /// Advisories that were withdrawn, which are left out.
    pub withdrawn: u64,
    /// Packages that something is known of.
    pub packages: u64,
    /// Records, or parts of them, that could not be understood.
    pub unreadable: u64,
    /// The releases that were asked for (`Debian:12`), of which alone something is known; none if all
    /// were.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub releases: BTreeSet<String>,
    /// The archives of a mirror that are in it, if nothing else is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<Origin>,
}

impl Contents {
    /// Whether something is known of the ecosystem, with or without a release.
    fn covers(&self, ecosystem: &str) -> bool {
        self.releases.is_empty() || self.releases.contains(ecosystem)
    }
}

/// Why a database cannot be built or asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// A file or folder.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The manifest is damaged, or of another version of this program.
    #[error("{path} is damaged or of another version: run portcullis db update again")]
    Manifest {
        /// Which.
        path: PathBuf,
        /// Why, if it is not JSON of the right form.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// A shard is damaged.
    #[error("{path} is damaged: run portcullis db update again")]
    Shard {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: ShardError,
    },
    /// There are no advisories of the ecosystem.
    #[error("the database has no advisories of the ecosystem \"{0}\"")]
    NoData(String),
    /// A version has no order.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// A source holds nothing that could be used.
    #[error("there is no advisory in {0}")]
    Empty(String),
    /// A source is damaged.
    #[error("{place} cannot be read")]
    Source {
        /// Where.
        place: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl DatabaseError {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}

/// An advisory that speaks of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The advisory. Of `affected` it has the one that speaks of the package.
    pub advisory: Advisory,
    /// The first version that is not affected any more, if there is one.
    pub fixed: Option<String>,
}

/// A database that is open.
#[derive(Debug)]
pub struct Database {
    folder: PathBuf,
    manifest: Manifest,
    /// Those that were asked, by the ecosystem without a release.
    open: BTreeMap<String, OnceLock<Shard>>,
}

impl Database {
    /// The one that is in force below a folder; `None` if there is none.
    ///
    /// # Errors
    /// [`DatabaseError`]: it cannot be read, or is damaged.
    pub fn open(root: &Path) -> Result<Option<Self>, DatabaseError> {
        let link = root.join(CURRENT);
        let name = match fs::read_link(&link) {
            Ok(name) => name,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DatabaseError::file(&link)(error)),
        };
        let folder = root.join(name);
        let path = folder.join(MANIFEST);
        let file = File::open(&path).map_err(DatabaseError::file(&path))?;
        let mut json = Vec::new();
        file.take(MAX_MANIFEST).read_to_end(&mut json).map_err(DatabaseError::file(&path))?;
        let wrong = |source| DatabaseError::Manifest { path: path.clone(), source };
        let manifest: Manifest =
            serde_json::from_slice(&json).map_err(|error| wrong(Some(error)))?;
        let is_name = |file: &str| !file.contains('/') && file.ends_with(shard::EXTENSION);
        if manifest.format != FORMAT || !manifest.ecosystems.values().all(|c| is_name(&c.file)) {
            return Err(wrong(None));
        }
        let open = manifest.ecosystems.keys().map(|name| (name.clone(), OnceLock::new()));
        let open = open.collect();
        Ok(Some(Self { folder, manifest, open }))
    }

    /// What is in it.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The advisories that say of this version of a package that it is affected, by id.
    ///
    /// An ecosystem without a release (`AlmaLinux`) asks for all releases.
    ///
    /// # Errors
    /// [`DatabaseError::NoData`] where nothing is known of the ecosystem, which is not the same as
    /// no advisory; others for damage, and for versions without an order.
    pub fn query(
        &self,
        ecosystem: &str,
        name: &str,
        version: &str,
    ) -> Result<Vec<Found>, DatabaseError> {
        let scheme = Scheme::of_ecosystem(ecosystem)?;
        // A version that has no order must not look like one that nothing is said of.
        scheme.compare(version, version)?;
        let (path, shard) = self.shard(ecosystem)?;
        if ecosystem.contains(':') && !self.covers(ecosystem) {
            return Err(DatabaseError::NoData(ecosystem.to_owned()));
        }
        let damaged = |source| DatabaseError::Shard { path: path.clone(), source };
        let mut found: Vec<Found> = Vec::new();
        for entry in shard.package(&normal_name(ecosystem, name)).map_err(damaged)? {
            if !is_in_ecosystem(&entry.affected.package.ecosystem, ecosystem) {
                continue;
            }
            let Some(hit) = entry.affected.hit(scheme, version)? else { continue };
            let fixed = hit.fixed.map(ToOwned::to_owned);
            let mut advisory = shard.advisory(&entry).map_err(damaged)?;
            advisory.affected.push(entry.affected);
            // One advisory may speak of several releases.
            if !found.iter().any(|other| other.advisory.id == advisory.id) {
                found.push(Found { advisory, fixed });
            }
        }
        found.sort_by(|a, b| a.advisory.id.cmp(&b.advisory.id));
        Ok(found)
    }

    /// Reads everything, and compares it with its checksums.
    ///
    /// # Errors
    /// [`DatabaseError`] for the first shard that is not as it was written.
    pub fn verify(&self) -> Result<(), DatabaseError> {
        for (ecosystem, contents) in &self.manifest.ecosystems {
            let (path, shard) = self.shard(ecosystem)?;
            let wrong = |source| DatabaseError::Shard { path: path.clone(), source };
            if build::digest(&path)? != (contents.digest.clone(), contents.bytes) {
                return Err(wrong(ShardError::Checksum));
            }
            shard.check().map_err(wrong)?;
        }
        Ok(())
    }

    /// Whether it has the advisories of an ecosystem, with or without a release: an ecosystem of
    /// which only some releases were taken in is covered by these alone.
    pub fn covers(&self, ecosystem: &str) -> bool {
        let contents = self.manifest.ecosystems.get(base(ecosystem));
        contents.is_some_and(|contents| contents.covers(ecosystem))
    }

    /// Whether the shard of an ecosystem is as it was written.
    pub fn is_whole(&self, ecosystem: &str) -> bool {
        self.manifest.ecosystems.get(base(ecosystem)).is_some_and(|contents| {
            let read = build::digest(&self.folder.join(&contents.file));
            read.is_ok_and(|read| read == (contents.digest.clone(), contents.bytes))
        })
    }

    fn shard(&self, ecosystem: &str) -> Result<(PathBuf, &Shard), DatabaseError> {
        let base = base(ecosystem);
        let none = || DatabaseError::NoData(base.to_owned());
        let contents = self.manifest.ecosystems.get(base).ok_or_else(none)?;
        let cell = self.open.get(base).ok_or_else(none)?;
        let path = self.folder.join(&contents.file);
        let shard = match cell.get() {
            Some(shard) => shard,
            None => {
                let shard = Shard::open(&path)
                    .map_err(|source| DatabaseError::Shard { path: path.clone(), source })?;
                cell.get_or_init(|| shard)
            }
        };
        Ok((path, shard))
    }
}
