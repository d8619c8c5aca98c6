//! Resolving with containerd's API, from 1.6 to 2.4.

pub(crate) mod api;
pub(crate) mod client;
mod cri;
mod identify;
mod image;
#[cfg(feature = "fuzzing")]
pub(crate) mod records;
mod resolve;
mod snapshot;
mod spec;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::{Resolved, Start};

/// Asks one containerd what a container runs.
///
/// Each resolution makes its own connection and runs on a small runtime of its own, both gone when
/// it returns: between two starts of a pod's containers nothing is kept, and a containerd that was
/// restarted meanwhile makes no difference.
#[derive(Debug, Clone)]
pub struct ContainerdResolver {
    address: PathBuf,
}

impl ContainerdResolver {
    /// A resolver for the containerd at this socket: a path, with or without `unix://`.
    pub fn new(address: &str) -> Self {
        let path = address.strip_prefix("unix://").unwrap_or(address);
        Self { address: PathBuf::from(path) }
    }

    /// The socket's path.
    pub fn address(&self) -> &Path {
        &self.address
    }

    /// What is known of the container, by the deadline at the latest.
    ///
    /// # Panics
    ///
    /// If called from within an async task: it blocks, so call it from a plain thread.
    pub fn resolve(&self, start: &Start<'_>) -> Resolved {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        match runtime {
            Ok(runtime) => runtime.block_on(resolve::resolve(&self.address, start)),
            Err(error) => Resolved::unknown(&format!("containerd could not be asked: {error}")),
        }
    }
}
