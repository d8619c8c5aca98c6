//! Where an engine keeps its images.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where an engine of this node keeps its images, for whoever wants to read their layers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(
    tag = "store",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Place {
    /// containerd's content store.
    Containerd {
        /// containerd's socket.
        socket: PathBuf,
        /// Its namespace; all of them if there is none.
        namespace: Option<String>,
    },
    /// containers/storage, which CRI-O and Podman use.
    Storage {
        /// Its graph roots, the engine's own first.
        roots: Vec<PathBuf>,
    },
    /// Docker's own store, or containerd's if Docker is set to use that.
    Docker {
        /// Docker's data folder.
        data: PathBuf,
        /// containerd's socket.
        socket: PathBuf,
    },
}
