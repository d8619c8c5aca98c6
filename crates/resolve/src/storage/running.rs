//! Containers of CRI-O and Podman that run.
//!
//! Neither has a daemon that both of them share, and what their records say of a state is theirs
//! alone. The kernel knows: a container runs if a process has its root filesystem for a root.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::value::RawValue;

use super::StorageEngine;
use super::files::{Folder, Owners, if_there};
use super::pod;
use super::records::is_id;
use super::resolve::{DRIVERS, MAX_RECORDS_FILE};
use crate::documents::{DocumentError, each, members, parse};
use crate::mounted::Mounts;

/// Most bytes of a container's runtime specification.
const MAX_SPEC: u64 = 4 << 20;
/// Most containers of one graph root that are looked at.
const MAX_CONTAINERS: usize = 100_000;

/// Why the running containers are not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageRunningError {
    /// No graph root is there.
    #[error("no folder of containers/storage is at {0}")]
    NoRoot(String),
    /// The kernel does not tell which processes have which root.
    #[error("the processes' roots cannot be read")]
    Processes(#[source] io::Error),
    /// A folder or a file of the engine's cannot be used.
    #[error("the containers in {path} cannot be listed")]
    Containers {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A container that runs, with what a runtime was given to start it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageRunning {
    /// Its id.
    pub container_id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Its root filesystem.
    pub root: PathBuf,
    /// Its runtime specification, as JSON.
    pub spec: Vec<u8>,
}

/// The containers of an engine whose processes run, by id.
pub(super) fn list(
    engine: StorageEngine,
    roots: &[PathBuf],
    deadline: Instant,
) -> Result<Vec<StorageRunning>, StorageRunningError> {
    let mounts = Mounts::of_this().map_err(StorageRunningError::Processes)?;
    let running = mounts.roots_of_others().map_err(StorageRunningError::Processes)?;
    let is_running = |root: &Path| mounts.place_of(root).is_some_and(|at| running.contains(&at));
    list_where(engine, roots, deadline, &is_running)
}

/// The containers of an engine whose root filesystem, a folder without links, is in use.
pub(super) fn list_where(
    engine: StorageEngine,
    roots: &[PathBuf],
    deadline: Instant,
    is_running: &dyn Fn(&Path) -> bool,
) -> Result<Vec<StorageRunning>, StorageRunningError> {
    let mut found = Vec::new();
    let mut seen = Vec::new();
    for root in roots {
        let Ok(path) = std::fs::canonicalize(root) else { continue };
        if seen.contains(&path) {
            continue;
        }
        let containers = |source| StorageRunningError::Containers { path: path.clone(), source };
        in_root(engine, &path, deadline, is_running, &mut found).map_err(containers)?;
        seen.push(path);
    }
    if seen.is_empty() {
        let looked: Vec<_> = roots.iter().map(|path| path.display().to_string()).collect();
        return Err(StorageRunningError::NoRoot(looked.join(", ")));
    }
    found.sort_by(|a: &StorageRunning, b| a.container_id.cmp(&b.container_id));
    Ok(found)
}

fn in_root(
    engine: StorageEngine,
    root: &Path,
    deadline: Instant,
    is_running: &dyn Fn(&Path) -> bool,
    found: &mut Vec<StorageRunning>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let root = Folder::open(root, deadline, Owners::Ours)?;
    for driver in DRIVERS {
        let Some(containers) = if_there(root.folder(&format!("{driver}-containers")))? else {
            continue;
        };
        let of_cri_o = of_cri_o(&containers)?;
        for entry in std::fs::read_dir(containers.path())?.take(MAX_CONTAINERS) {
            let name = entry?.file_name();
            let Some(id) = name.to_str().filter(|name| is_id(name)) else { continue };
            let is_cri_o = of_cri_o.iter().any(|other| other == id);
            if is_cri_o != (engine == StorageEngine::CriO) {
                continue;
            }
            // The runtime's user owns the bundle where it is not root. It can change only what is
            // told of its own container.
            let bundle = containers.path().join(id).join("userdata");
            let Some(folder) = if_there(Folder::open(&bundle, deadline, Owners::Anybody))? else {
                continue;
            };
            // Created in this moment, or gone by now.
            let Some(spec) = if_there(folder.read("config.json", MAX_SPEC))? else { continue };
            let Some(root) = root_of(&spec, &bundle).filter(|root| is_running(root)) else {
                continue;
            };
            found.push(StorageRunning { container_id: id.to_owned(), bundle, root, spec });
        }
    }
    Ok(())
}

/// The ids of the containers whose records have CRI-O's metadata.
fn of_cri_o(containers: &Folder) -> Result<Vec<String>, Box<dyn std::error::Error + Send + Sync>> {
    let mut ids = Vec::new();
    for name in ["containers.json", "volatile-containers.json"] {
        let Some(json) = if_there(containers.read(name, MAX_RECORDS_FILE))? else { continue };
        each(&json, ["id", "metadata"], |record| {
            if is_cri_o(record)? {
                ids.push(parse(record[0].ok_or(DocumentError::Missing("id"))?)?);
            }
            Ok(())
        })?;
    }
    Ok(ids)
}

fn is_cri_o([_, metadata]: [Option<&RawValue>; 2]) -> Result<bool, DocumentError> {
    let metadata = metadata.map(parse::<Option<String>>).transpose()?.flatten().unwrap_or_default();
    // Another engine's may be anything.
    Ok(pod::metadata(&metadata).is_ok_and(|metadata| !metadata.pod_id.is_empty()))
}

/// The root filesystem that a specification names, without links.
fn root_of(spec: &[u8], bundle: &Path) -> Option<PathBuf> {
    let [root] = members(spec, ["root"]).ok()?;
    let [path] = members(root?.get().as_bytes(), ["path"]).ok()?;
    let path: String = parse(path?).ok()?;
    std::fs::canonicalize(bundle.join(path)).ok()
}
