//! The store on disk: one file per image.
//!
//! ```text
//! ROOT/sha256/<2 hex>/<hex>                             the verdict about the config sha256:<hex>
//! ROOT/chain/sha256/<2 hex>/<hex>/<algorithm>-<hex>     an empty file: this config has this chain
//! ROOT/.new                                             a verdict that is being written
//! ROOT/.lock                                            held by the one writer
//! ```
//!
//! A verdict is written under another name, synced, and renamed into place, so that a reader sees
//! the old or the new one whole, and a writer that is killed leaves the old one. What it leaves of
//! the new one is thrown away by the next writer: holding the lock, that one knows it for a
//! remainder.
//!
//! The chain's name comes before the verdict and goes after it. A crash between the two leaves a
//! name that leads to nothing, which readers pass over; never a verdict that cannot be found.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use portcullis_types::{Digest, ImageFacts, ScanReport, Verdict};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::folder::Folder;
use crate::frame::{Body, Part};
use crate::merge::merge;
use crate::record::Entry;
use crate::{
    Absorbed, Annotate, Annotated, Damage, Depth, Detail, Listed, StoreError, Summary,
    VerdictStore, frame, record,
};

const ALGORITHMS: [&str; 2] = ["sha256", "sha512"];
const CHAIN: &str = "chain";
const LOCK: &str = ".lock";
const NEW: &str = ".new";

/// How long a writer waits for another. Reading never waits.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// Verdicts in a folder.
#[derive(Debug, Clone)]
pub struct FileStore {
    root: PathBuf,
}

impl FileStore {
    /// The store below this folder. Nothing is touched before it is asked for something, so that
    /// whatever is wrong with it is the answer to that question.
    pub fn open(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// What is stored about an image, read up to `last` and decoded.
    fn load<T>(
        root: &Folder,
        config: &Digest,
        last: Part,
        decode: impl FnOnce(Body<'_>) -> Result<T, Damage>,
    ) -> Result<Option<T>, StoreError> {
        let Some(folder) = shard(root, config)? else {
            return Ok(None);
        };
        let Some(file) = folder.read(config.hex(), |start| frame::wanted(start, last))? else {
            return Ok(None);
        };
        frame::open(&file.bytes, file.size, last)
            .and_then(decode)
            .map(Some)
            .map_err(|what| StoreError::Corrupt { path: folder.path_of(config.hex()), what })
    }

    fn read(root: &Folder, config: &Digest, detail: Detail) -> Result<Option<Verdict>, StoreError> {
        Self::load(root, config, record::part(detail), |body| {
            let entry = record::decode(body, detail)?;
            about(config, &entry.verdict.image)?;
            Ok(entry.verdict)
        })
    }

    /// All of an entry, and whether it is in the format that is written.
    fn read_all(root: &Folder, config: &Digest) -> Result<Option<(Entry, bool)>, StoreError> {
        Self::load(root, config, Part::Rest, |body| {
            let entry = record::decode(body, Detail::Full)?;
            about(config, &entry.verdict.image)?;
            Ok((entry, matches!(body, Body::Second(_))))
        })
    }

    fn summary(
        root: &Folder,
        config: &Digest,
        depth: Depth,
    ) -> Result<Option<Summary>, StoreError> {
        match depth {
            Depth::Heads => Self::load(root, config, Part::Head, |body| {
                let summary = record::summary(body)?;
                about(config, &summary.image)?;
                Ok(summary)
            }),
            Depth::Whole => Ok(Self::read(root, config, Detail::Full)?.map(Summary::from)),
        }
    }

    fn write(root: &Folder, entry: &Entry) -> Result<(), StoreError> {
        let config = &entry.verdict.image.config;
        let file = record::encode(entry)
            .and_then(|sections| frame::seal(&sections))
            .ok_or_else(|| StoreError::TooLarge { config: config.clone() })?;
        let folder = create_shard(root, config)?;
        root.write(NEW, &file)?;
        root.rename_into(NEW, &folder, config.hex())
    }

    /// Puts the findings of one image before `annotate`. `None` if nothing is stored about it.
    fn annotate_one(
        root: &Folder,
        config: &Digest,
        annotate: Annotate<'_>,
    ) -> Result<Option<bool>, StoreError> {
        let _lock = lock(root)?;
        let Some((mut entry, _)) = Self::read_all(root, config)? else {
            return Ok(None);
        };
        let changed = entry.annotate(annotate);
        if changed {
            Self::write(root, &entry)?;
        }
        Ok(Some(changed))
    }
}

/// The config digests of all entries, in order.
fn configs(root: &Folder) -> Result<Vec<Digest>, StoreError> {
    let mut configs = Vec::new();
    for algorithm in ALGORITHMS {
        let Some(folder) = root.child(algorithm)? else {
            continue;
        };
        for shard in folder.names()? {
            if let Some(folder) = folder.child(&shard)? {
                let names = folder.names()?;
                configs.extend(names.iter().flat_map(|n| format!("{algorithm}:{n}").parse()));
            }
        }
    }
    Ok(configs)
}

/// Makes sure that an entry is about the image under whose name it lies.
fn about(config: &Digest, image: &ImageFacts) -> Result<(), Damage> {
    if image.config != *config {
        return Err(Damage::OtherImage(image.config.clone()));
    }
    Ok(())
}

impl VerdictStore for FileStore {
    fn by_config(&self, config: &Digest, detail: Detail) -> Result<Option<Verdict>, StoreError> {
        Self::read(&Folder::root(&self.root)?, config, detail)
    }

    fn by_chain(
        &self,
        chain: &Digest,
        detail: Detail,
    ) -> Result<Vec<Result<Verdict, StoreError>>, StoreError> {
        let root = Folder::root(&self.root)?;
        let Some(names) = chain_folder(&root, chain)? else {
            return Ok(Vec::new());
        };
        let mut verdicts = Vec::new();
        for config in names.names()?.iter().filter_map(|name| from_name(name)) {
            match Self::read(&root, &config, detail) {
                // A name left from before a crash or a removal leads to nothing, or to what was
                // written since and says otherwise.
                Ok(None) => {}
                Ok(Some(verdict)) if verdict.image.chain_id.as_ref() != Some(chain) => {}
                Ok(Some(verdict)) => verdicts.push(Ok(verdict)),
                Err(error) => verdicts.push(Err(error)),
            }
        }
        Ok(verdicts)
    }

    fn absorb(&self, image: &ImageFacts, report: ScanReport) -> Result<Absorbed, StoreError> {
        let root = Folder::create_root(&self.root)?;
        let _lock = lock(&root)?;
        let known = Self::read_all(&root, &image.config)?;
        let is_current = known.as_ref().is_some_and(|(_, is_current)| *is_current);
        let known = known.map(|(entry, _)| entry);
        let (change, entry) = merge(known.clone(), image, report)?;
        // Even where nothing changes, for a name that is missing for any reason is mended so.
        if let Some(chain) = &entry.verdict.image.chain_id {
            create_shard(&root.create_child(CHAIN)?, chain)?
                .create_child(chain.hex())?
                .touch(&to_name(&image.config))?;
        }
        if !is_current || known.as_ref() != Some(&entry) {
            Self::write(&root, &entry)?;
        }
        Ok(Absorbed { change, verdict: entry.verdict })
    }

    fn annotate(&self, annotate: Annotate<'_>) -> Result<Vec<Annotated>, StoreError> {
        let root = Folder::root(&self.root)?;
        let mut annotated = Vec::new();
        for config in configs(&root)? {
            let changed = match Self::annotate_one(&root, &config, annotate) {
                // Removed since the folder was read.
                Ok(None) => continue,
                Ok(Some(changed)) => Ok(changed),
                // The next one would fare no better.
                Err(error @ (StoreError::Busy { .. } | StoreError::Unwritable { .. })) => {
                    return Err(error);
                }
                Err(error) => Err(error),
            };
            annotated.push(Annotated { config, changed });
        }
        Ok(annotated)
    }

    fn count(&self) -> Result<usize, StoreError> {
        Ok(configs(&Folder::root(&self.root)?)?.len())
    }

    fn list(&self, depth: Depth) -> Result<Vec<Listed>, StoreError> {
        let root = Folder::root(&self.root)?;
        let mut listed = Vec::new();
        for config in configs(&root)? {
            let entry = match Self::summary(&root, &config, depth) {
                // Removed since the folder was read.
                Ok(None) => continue,
                Ok(Some(summary)) => Ok(summary),
                Err(error) => Err(error),
            };
            listed.push(Listed { config, entry });
        }
        Ok(listed)
    }

    fn remove(&self, config: &Digest) -> Result<bool, StoreError> {
        let root = Folder::root(&self.root)?;
        let _lock = lock(&root)?;
        let Some(folder) = shard(&root, config)? else {
            return Ok(false);
        };
        // The head says the chain; what is damaged behind it does not matter any more.
        let summary = Self::summary(&root, config, Depth::Heads);
        if !folder.unlink(config.hex())? {
            return Ok(false);
        }
        folder.sync()?;
        match summary {
            Ok(summary) => {
                if let Some(chain) = summary.and_then(|s| s.image.chain_id) {
                    unname(&root, &chain, config)?;
                }
            }
            // A damaged verdict does not say which chain it belongs to.
            Err(_) => unname_everywhere(&root, config)?,
        }
        Ok(true)
    }
}

/// The two digits by which entries are spread over folders.
fn shard_name(digest: &Digest) -> &str {
    &digest.hex()[..2]
}

/// The folder in which this digest's entry lies, below `base`.
fn shard(base: &Folder, digest: &Digest) -> Result<Option<Folder>, StoreError> {
    match base.child(digest.algorithm().as_str())? {
        Some(folder) => folder.child(shard_name(digest)),
        None => Ok(None),
    }
}

fn create_shard(base: &Folder, digest: &Digest) -> Result<Folder, StoreError> {
    base.create_child(digest.algorithm().as_str())?.create_child(shard_name(digest))
}

/// The folder whose names are the configs that have this chain.
fn chain_folder(root: &Folder, chain: &Digest) -> Result<Option<Folder>, StoreError> {
    let Some(chains) = root.child(CHAIN)? else {
        return Ok(None);
    };
    match shard(&chains, chain)? {
        Some(folder) => folder.child(chain.hex()),
        None => Ok(None),
    }
}

/// A colon is awkward in file names, so a hyphen stands between algorithm and digits.
fn to_name(config: &Digest) -> String {
    format!("{}-{}", config.algorithm().as_str(), config.hex())
}

fn from_name(name: &str) -> Option<Digest> {
    name.replacen('-', ":", 1).parse().ok()
}

fn unname(root: &Folder, chain: &Digest, config: &Digest) -> Result<(), StoreError> {
    let Some(chains) = root.child(CHAIN)? else {
        return Ok(());
    };
    let Some(shard) = shard(&chains, chain)? else {
        return Ok(());
    };
    if let Some(names) = shard.child(chain.hex())? {
        names.unlink(&to_name(config))?;
        shard.remove_empty(chain.hex())?;
    }
    Ok(())
}

fn unname_everywhere(root: &Folder, config: &Digest) -> Result<(), StoreError> {
    let Some(chains) = root.child(CHAIN)? else {
        return Ok(());
    };
    for algorithm in ALGORITHMS {
        let Some(folder) = chains.child(algorithm)? else {
            continue;
        };
        for shard in folder.names()? {
            let Some(folder) = folder.child(&shard)? else {
                continue;
            };
            for hex in folder.names()? {
                if let Ok(chain) = format!("{algorithm}:{hex}").parse() {
                    unname(root, &chain, config)?;
                }
            }
        }
    }
    Ok(())
}

/// Waits until no other process writes. The system lets go of the lock of a writer that dies.
fn lock(root: &Folder) -> Result<OwnedFd, StoreError> {
    let fd = root.open_lock(LOCK)?;
    let started = Instant::now();
    loop {
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(fd),
            Err(Errno::WOULDBLOCK | Errno::INTR) if started.elapsed() < LOCK_WAIT => {
                sleep(Duration::from_millis(5));
            }
            Err(Errno::WOULDBLOCK) => {
                return Err(StoreError::Busy {
                    path: root.path_of(LOCK),
                    waited: started.elapsed(),
                });
            }
            Err(error) => return Err(root.unwritable("lock", LOCK, error)),
        }
    }
}

#[cfg(test)]
mod tests;
