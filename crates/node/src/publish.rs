//! From the files to what is in force, one at a time.

use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use portcullis_gate::published;
use portcullis_policy::PolicySet;
use portcullis_settings::Paths;
use portcullis_types::with_causes;

use crate::count;
use crate::sources::{NodeSet, SourceError, node_set};

/// How long is waited for somebody else who changes the policies.
const LOCK_BOUND: Duration = Duration::from_secs(10);

/// Why the policies cannot be locked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// There is nothing to lock.
    #[error("cannot read the policy folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else is at it.
    #[error("another portcullis is changing the policies in {0}: try again when it is done")]
    Held(PathBuf),
    /// The file system does not lock.
    #[error("cannot lock {path}")]
    Lock {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why the files were not put into force. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// They cannot be read.
    #[error(transparent)]
    Sources(#[from] SourceError),
    /// The set cannot be written.
    #[error(transparent)]
    Publish(#[from] published::PublishError),
}

/// Held by whoever changes or publishes the policies.
#[derive(Debug)]
pub struct PoliciesLock(#[expect(dead_code, reason = "it is held")] File);

/// Keeps others from changing or publishing the policies until it is dropped, so that what is read
/// is what is published, in the order in which it was written. Waits 10 seconds at most.
///
/// # Errors
/// [`LockError`].
pub fn lock(paths: &Paths) -> Result<PoliciesLock, LockError> {
    let path = paths.policies();
    let lock = match File::open(&path) {
        Ok(lock) => lock,
        Err(source) => return Err(LockError::Folder { path, source }),
    };
    let until = Instant::now() + LOCK_BOUND;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(PoliciesLock(lock)),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => return Err(LockError::Held(path)),
            Err(TryLockError::Error(source)) => return Err(LockError::Lock { path, source }),
        }
    }
}

/// Puts the policy files and the VEX documents into force, unless they have faults: then nothing is
/// changed. Whoever calls it holds the [`lock`].
///
/// # Errors
/// If a file cannot be read or is not to be trusted, or the set cannot be published.
pub fn publish(paths: &Paths, _lock: &PoliciesLock) -> Result<NodeSet, PublishError> {
    let node = node_set(paths, &[paths.policies()])?;
    if let Ok(set) = &node.compiled {
        published::publish(&paths.published(), set)?;
    }
    Ok(node)
}

/// Says how the files differ from the set in force, if they do.
pub fn drift(paths: &Paths, in_force: &PolicySet) -> Option<String> {
    match node_set(paths, &[paths.policies()]).map(|node| node.compiled) {
        Err(error) => Some(format!(
            "the policies and VEX documents cannot be read: {}",
            with_causes(&error)
        )),
        Ok(Err(faults)) => Some(format!(
            "the policy files have {}: run portcullis policy check",
            count(faults.len(), "fault")
        )),
        Ok(Ok(set)) if set.digest() != in_force.digest() => Some(
            "the policies and VEX documents differ from the set in force: run portcullis policy apply"
                .into(),
        ),
        Ok(Ok(_)) => None,
    }
}
