//! The policy set in force: one file named by its digest, and the link `current` that names it.
//!
//! Written by `policy apply`, by rename; read at every start. A broken edit of a policy never
//! reaches a door: the last good set goes on deciding.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use portcullis_policy::{PolicySet, PublishedError};
use portcullis_settings::trusted::{self, TrustError};
use portcullis_types::{Digest, DigestError};

const CURRENT: &str = "current";
/// Ten thousand rules are some two megabytes.
const MAX_BYTES: u64 = 16 << 20;

/// Why the published set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Nothing is published.
    #[error("no policy set is published at {0}: run portcullis policy apply")]
    Missing(PathBuf),
    /// The link cannot be read.
    #[error("cannot read the link {path}")]
    Link {
        /// The link.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The link does not name a set.
    #[error("the link {path} names no policy set: run portcullis policy apply")]
    Name {
        /// The link.
        path: PathBuf,
        /// Why, if a digest was expected.
        #[source]
        source: Option<DigestError>,
    },
    /// The file is not to be trusted.
    #[error("the published policy set cannot be used")]
    Trust(#[from] TrustError),
    /// The content is damaged.
    #[error("the policy set {path} is damaged: run portcullis policy apply")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: PublishedError,
    },
}

/// Why a set could not be published. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {path}")]
pub struct PublishError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Loads the set in force from the folder of published sets.
///
/// # Errors
/// [`LoadError`]; each is the cause `policyInvalid`.
pub fn load(folder: &Path) -> Result<PolicySet, LoadError> {
    let link = folder.join(CURRENT);
    let name = std::fs::read_link(&link).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => LoadError::Missing(folder.to_owned()),
        _ => LoadError::Link { path: link.clone(), source },
    })?;
    let name = name.to_str().unwrap_or_default();
    let hex = name.strip_prefix("sha256-").and_then(|n| n.strip_suffix(".json"));
    let hex = hex.ok_or_else(|| LoadError::Name { path: link.clone(), source: None })?;
    let digest: Digest = format!("sha256:{hex}")
        .parse()
        .map_err(|e| LoadError::Name { path: link, source: Some(e) })?;
    let path = folder.join(name);
    let bytes = trusted::read(&path, MAX_BYTES)?;
    PolicySet::from_published(&bytes, &digest).map_err(|source| LoadError::Damaged { path, source })
}

/// Publishes a set: after it, every start is decided by it.
///
/// # Errors
/// [`PublishError`] names the file; the set that was in force stays in force.
pub fn publish(folder: &Path, set: &PolicySet) -> Result<(), PublishError> {
    let wrong = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| PublishError { doing, path, source }
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)
        .map_err(wrong("create", folder))?;
    let name = format!("sha256-{}.json", set.digest().hex());
    let path = folder.join(&name);
    let temporary = folder.join(format!(".new-{}", std::process::id()));
    let bytes = set.published();
    let written = (|| {
        if bytes.len() as u64 > MAX_BYTES {
            return Err(io::Error::other(format!(
                "the set has {} bytes and a door reads {MAX_BYTES}: leave out VEX documents about \
                 images that run elsewhere",
                bytes.len()
            )));
        }
        // A leftover of a killed writer with our pid must not be followed or kept.
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options().write(true).create_new(true).mode(0o644).open(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)?;
        std::os::unix::fs::symlink(&name, &temporary)?;
        std::fs::rename(&temporary, folder.join(CURRENT))
    })();
    written.map_err(|source| {
        let _first_error_counts = std::fs::remove_file(&temporary);
        PublishError { doing: "publish", path: path.clone(), source }
    })?;
    // It decides by now, so this is no failure.
    if let Err(error) = File::open(folder).and_then(|folder| folder.sync_all()) {
        log::warn!("a loss of power may bring back the set before: {}: {error}", folder.display());
    }
    remove_others(folder, &name);
    Ok(())
}

/// Older sets go; a start that has just read the link gets an error at worst, which is a cause.
fn remove_others(folder: &Path, keep: &str) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let mut sets: Vec<(std::time::SystemTime, PathBuf)> = entries
        .flatten()
        .filter(|e| {
            let name = e.file_name();
            let name = name.to_string_lossy();
            name.starts_with("sha256-") && name != keep
        })
        .filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path())))
        .collect();
    sets.sort();
    // The newest of the others stays, for doors that are between link and file.
    sets.pop();
    for (_, path) in sets {
        if let Err(error) = std::fs::remove_file(&path) {
            log::warn!("cannot remove {}: {error}", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn empty() -> PolicySet {
        PolicySet::compile(Vec::new()).unwrap()
    }

    #[test]
    fn what_is_published_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("policy");
        assert!(matches!(load(&folder), Err(LoadError::Missing(_))));
        publish(&folder, &empty()).unwrap();
        publish(&folder, &empty()).unwrap();
        assert_eq!(load(&folder).unwrap().digest(), empty().digest());
    }

    #[test]
    fn damage_and_wrong_modes_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        publish(folder, &empty()).unwrap();
        let file = folder.join(std::fs::read_link(folder.join("current")).unwrap());
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).unwrap();
        assert!(matches!(load(folder), Err(LoadError::Trust(_))));
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[0] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        assert!(matches!(load(folder), Err(LoadError::Damaged { .. })));
        std::fs::remove_file(folder.join("current")).unwrap();
        std::os::unix::fs::symlink("../../etc/passwd", folder.join("current")).unwrap();
        assert!(matches!(load(folder), Err(LoadError::Name { .. })));
    }
}
