//! Dangerous settings of one start, read from the OCI runtime specification of its bundle.
//!
//! The specification is what the runtime will do, whatever was asked of the engine above it, so it
//! is read and not the pod. It is as hostile as its author: sizes, counts and texts are bounded, and
//! a document that a runtime could read in another way is refused.
//!
//! What this crate finds are [findings](Finding) of class `workload`; what they mean for the start
//! is said by policies. [`ITEMS`] lists all ids.

#![forbid(unsafe_code)]

mod bundle;
mod devices;
mod found;
mod items;
mod json;
mod kernel;
mod mounts;
mod namespaces;
mod own;
mod paths;
mod process;
mod spec;

use std::io;
use std::path::{Path, PathBuf};

pub use items::{ITEMS, Item, item};
use portcullis_types::Finding;

use crate::found::Found;
use crate::namespaces::{IsHost, Shared};
use crate::spec::Spec;

/// Most bytes of a `config.json`; engines write some 20 kB.
pub const MAX_BYTES: usize = 4 << 20;

/// Why a runtime specification cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkloadError {
    /// The bundle's file cannot be opened or read. A link is not followed.
    #[error("cannot read {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The bundle's file is a folder, a pipe or the like.
    #[error("{path} is not a regular file")]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// The document is larger than [`MAX_BYTES`].
    #[error("the runtime specification is larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// Not JSON, or a member is not of the type that the specification gives.
    #[error("the runtime specification cannot be read at {member}")]
    Malformed {
        /// Where: `linux.namespaces[2].type`, or `the document`.
        member: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A member comes twice or in another case, so that a runtime could read another value.
    #[error("the runtime specification is ambiguous: {member} is written twice or in another case")]
    Ambiguous {
        /// Which: `linux.namespaces`.
        member: String,
    },
    /// A list or an object has too many entries.
    #[error("the runtime specification has more than {most} entries at {member}")]
    TooMany {
        /// Which: `mounts`.
        member: String,
        /// How many may be.
        most: usize,
    },
}

/// The dangerous settings of a bundle, read from the file `config.json` in it.
///
/// Namespaces that are named by a path are compared with the host's, by the kernel's word: this
/// sees what the document alone cannot say (see [`findings`]).
///
/// # Errors
/// [`WorkloadError`]: a link or no regular file, too large, ambiguous, or no runtime specification.
pub fn read(bundle: &Path) -> Result<Vec<Finding>, WorkloadError> {
    judge(&bundle::read(bundle)?, &bundle::is_hosts)
}

/// What a bundle's specification says of its root filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Where it is, as it is written: absolute, or relative to the bundle (runtime-spec `config.md`,
    /// `root.path`).
    pub path: PathBuf,
    /// The user outside who is the container's root (`linux.uidMappings`); 0 without a user namespace.
    pub owner: u32,
}

/// The root filesystem that a bundle's specification names.
///
/// # Errors
/// As [`read`].
pub fn root(bundle: &Path) -> Result<Root, WorkloadError> {
    let json = bundle::read(bundle)?;
    if json.len() > MAX_BYTES {
        return Err(WorkloadError::TooLarge);
    }
    let spec: Spec = json::read(&json)?;
    let of_root = spec.linux.uid_mappings.iter().find(|m| m.container_id == 0 && m.size > 0);
    let owner = of_root.map_or(0, |mapping| mapping.host_id);
    Ok(Root { path: spec.root.path.into(), owner })
}

/// The dangerous settings that a runtime specification (runtime-spec `config.md`) says, in order
/// of their keys: at most 256, each id and place once.
///
/// Pure. A namespace that is named by the path of a process (`/proc/4711/ns/net`) counts as the
/// pod's: containerd names that of a pod's sandbox so even if the sandbox is in the host's
/// namespace. [`read`] can tell these apart.
///
/// # Errors
/// [`WorkloadError`]: too large, ambiguous, or no runtime specification.
pub fn findings(config_json: &[u8]) -> Result<Vec<Finding>, WorkloadError> {
    judge(config_json, &|_, path| namespaces::is_hosts_by_text(path))
}

/// As [`findings`], for a container of this node: namespaces that are named by a path are compared
/// with the host's, as [`read`] does.
///
/// # Errors
/// [`WorkloadError`]: too large, ambiguous, or no runtime specification.
pub fn findings_here(config_json: &[u8]) -> Result<Vec<Finding>, WorkloadError> {
    judge(config_json, &bundle::is_hosts)
}

fn judge(json: &[u8], is_host: IsHost<'_>) -> Result<Vec<Finding>, WorkloadError> {
    if json.len() > MAX_BYTES {
        return Err(WorkloadError::TooLarge);
    }
    let spec: Spec = json::read(json)?;
    let mut found = Found::default();
    let shared = Shared::of(&spec.linux, is_host);
    process::look(&spec, &shared, &mut found);
    namespaces::look(&shared, &mut found);
    mounts::look(&spec, &mut found);
    devices::look(&spec, &mut found);
    kernel::look(&spec, &shared, &mut found);
    Ok(found.finish())
}
