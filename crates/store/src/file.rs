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
use crate::merge::merge;
use crate::{Absorbed, Change, Damage, Listed, StoreError, VerdictStore, frame, record};

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

    fn read(root: &Folder, config: &Digest) -> Result<Option<Verdict>, StoreError> {
        let Some(folder) = shard(root, config)? else {
            return Ok(None);
        };
        let Some(file) = folder.read(config.hex())? else {
            return Ok(None);
        };
        let decoded = frame::open(&file).and_then(record::decode).and_then(|verdict| {
            if verdict.image.config == *config {
                Ok(verdict)
            } else {
                Err(Damage::OtherImage(verdict.image.config))
            }
        });
        decoded
            .map(Some)
            .map_err(|what| StoreError::Corrupt { path: folder.path_of(config.hex()), what })
    }

    fn write(root: &Folder, verdict: &Verdict) -> Result<(), StoreError> {
        let config = &verdict.image.config;
        let file = record::encode(verdict)
            .and_then(|body| frame::seal(&body))
            .ok_or_else(|| StoreError::TooLarge { config: config.clone() })?;
        let folder = create_shard(root, config)?;
        root.write(NEW, &file)?;
        root.rename_into(NEW, &folder, config.hex())
    }
}

impl VerdictStore for FileStore {
    fn by_config(&self, config: &Digest) -> Result<Option<Verdict>, StoreError> {
        Self::read(&Folder::root(&self.root)?, config)
    }

    fn by_chain(&self, chain: &Digest) -> Result<Vec<Result<Verdict, StoreError>>, StoreError> {
        let root = Folder::root(&self.root)?;
        let Some(names) = chain_folder(&root, chain)? else {
            return Ok(Vec::new());
        };
        let mut verdicts = Vec::new();
        for config in names.names()?.iter().filter_map(|name| from_name(name)) {
            match Self::read(&root, &config) {
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
        let absorbed = merge(Self::read(&root, &image.config)?, image, report)?;
        // Even where nothing changes, for a name that is missing for any reason is mended so.
        if let Some(chain) = &absorbed.verdict.image.chain_id {
            create_shard(&root.create_child(CHAIN)?, chain)?
                .create_child(chain.hex())?
                .touch(&to_name(&image.config))?;
        }
        if absorbed.change != Change::Unchanged {
            Self::write(&root, &absorbed.verdict)?;
        }
        Ok(absorbed)
    }

    fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let root = Folder::root(&self.root)?;
        let mut listed = Vec::new();
        for algorithm in ALGORITHMS {
            let Some(folder) = root.child(algorithm)? else {
                continue;
            };
            for shard in folder.names()? {
                let Some(folder) = folder.child(&shard)? else {
                    continue;
                };
                for name in folder.names()? {
                    let Ok(config) = format!("{algorithm}:{name}").parse() else {
                        continue;
                    };
                    let entry = match Self::read(&root, &config) {
                        // Removed since the folder was read.
                        Ok(None) => continue,
                        Ok(Some(verdict)) => Ok(verdict.into()),
                        Err(error) => Err(error),
                    };
                    listed.push(Listed { config, entry });
                }
            }
        }
        Ok(listed)
    }

    fn remove(&self, config: &Digest) -> Result<bool, StoreError> {
        let root = Folder::root(&self.root)?;
        let _lock = lock(&root)?;
        let Some(folder) = shard(&root, config)? else {
            return Ok(false);
        };
        let read = Self::read(&root, config);
        if !folder.unlink(config.hex())? {
            return Ok(false);
        }
        folder.sync()?;
        match read {
            Ok(verdict) => {
                if let Some(chain) = verdict.and_then(|v| v.image.chain_id) {
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
