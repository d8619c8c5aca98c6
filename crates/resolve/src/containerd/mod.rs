//! Resolving with containerd's API, from 1.6 to 2.4.

pub(crate) mod api;
pub(crate) mod client;
mod cri;
mod identify;
mod image;
mod place;
mod resolve;
mod snapshot;
mod spec;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::mounted::{Mounted, mounted_at};
use crate::rootfs::Given;
use crate::{OciStart, Resolved, Start};

/// A container that is about to start, whoever tells of it.
#[derive(Debug, Clone, Copy)]
struct Starting<'a> {
    namespace: &'a str,
    container_id: &'a str,
    given: Given<'a>,
    deadline: Instant,
}

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
        self.ask(&Starting {
            namespace: start.namespace,
            container_id: start.container_id,
            given: Given::Requested(start.rootfs),
            deadline: start.deadline,
        })
    }

    /// What is known of a container that containerd's own shim has an OCI runtime create, by the
    /// deadline at the latest.
    ///
    /// containerd's namespace is taken from the bundle's path and `--root`, which have to agree.
    /// The shim has mounted the root filesystem: what the kernel says is mounted there is compared
    /// with the container's snapshot, so ask in the mount namespace in which the runtime runs.
    ///
    /// # Panics
    ///
    /// If called from within an async task: it blocks, so call it from a plain thread.
    pub fn resolve_oci(&self, start: &OciStart<'_>) -> Resolved {
        let mounted = mounted_at(start.root);
        self.resolve_mounted(start, mounted.as_ref().map(Option::as_ref))
    }

    /// The same with what is mounted at the root.
    fn resolve_mounted(
        &self,
        start: &OciStart<'_>,
        mounted: Result<Option<&Mounted>, &std::io::Error>,
    ) -> Resolved {
        let namespace = match place::namespace(start) {
            Ok(namespace) => namespace,
            Err(error) => return Resolved::unknown(&error.to_string()),
        };
        let why;
        let given = match mounted {
            _ if start.root != start.bundle.join("rootfs") => {
                why = format!(
                    "the bundle's root is {}, not the folder on which containerd mounts the \
                     snapshot",
                    start.root.display().to_string().escape_debug()
                );
                Given::Nothing(&why)
            }
            Ok(Some(mounted)) => Given::Mounted(start.root, mounted),
            Ok(None) => Given::Nothing(
                "nothing is mounted at the container's root, so it is not its snapshot",
            ),
            Err(error) => {
                why = format!("the mount table cannot be read: {error}");
                Given::Nothing(&why)
            }
        };
        self.ask(&Starting {
            namespace,
            container_id: start.container_id,
            given,
            deadline: start.deadline,
        })
    }

    fn ask(&self, start: &Starting<'_>) -> Resolved {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        match runtime {
            Ok(runtime) => runtime.block_on(resolve::resolve(&self.address, start)),
            Err(error) => Resolved::unknown(&format!("containerd could not be asked: {error}")),
        }
    }
}
