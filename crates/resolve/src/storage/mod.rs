//! Which image a container of CRI-O or Podman runs.
//!
//! Both keep images, layers and containers in folders of containers/storage; there is no daemon to
//! ask that could answer from within its own call. Its JSON files are read as they stand, without
//! its locks, which the caller may hold: they are replaced as a whole, so that each is consistent
//! in itself. Where two contradict each other, both are read once more.
//!
//! What binds: the kernel's own table says that the root filesystem is an overlay whose upper
//! folder is the container's layer and whose lower folders are layers in the order in which their
//! records name each other; the layers' records give diff IDs, and so the chain ID; the record of
//! the container names an image, and that image's configuration, whose file has the digest by
//! which it is named, lists the same diff IDs.

mod conf;
mod files;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod image;
mod pod;
mod records;
mod resolve;
mod running;
mod stored;
#[cfg(test)]
mod tests;
mod tie;

use std::path::PathBuf;
use std::time::Instant;

pub use self::running::{StorageRunning, StorageRunningError};
pub use self::stored::{StorageImage, StorageImageError};
use crate::mounted::mounted_at;
use crate::{ImageHad, OciStart, Resolved};

/// Whose containers they are. Never guessed from a record or an annotation: a user can write those
/// of the other engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageEngine {
    /// CRI-O: containers belong to pods, of which its records tell.
    CriO,
    /// Podman, and Buildah, which runs the steps of its builds: nothing is of Kubernetes.
    Podman,
}

/// Answers from folders of containers/storage.
#[derive(Debug, Clone)]
pub struct StorageResolver {
    engine: StorageEngine,
    roots: Vec<PathBuf>,
}

impl StorageResolver {
    /// Reads from these graph roots: the engine's own first, then a separate image store and
    /// additional ones, in the order in which the engine looks. Those that do not exist are passed
    /// over.
    pub fn new(engine: StorageEngine, roots: Vec<PathBuf>) -> Self {
        Self { engine, roots }
    }

    /// The graph roots that this engine uses on this machine, from its own configuration.
    ///
    /// Read are `/etc/containers/storage.conf` or else `/usr/share/containers/storage.conf`
    /// (containers-storage.conf(5)), for CRI-O also `crio.conf` and its drop-ins (crio.conf(5)),
    /// and, in the user namespace of a rootless user, the user's own `storage.conf` below the home
    /// folder that `/etc/passwd` names. The environment is never asked. What cannot be read counts
    /// as not set, so that there is always an answer.
    pub fn default_roots(engine: StorageEngine) -> Vec<PathBuf> {
        conf::Host::this().roots(engine)
    }

    /// What is known of the container that is about to start.
    ///
    /// Reads files, so it blocks; the deadline is looked at between reads. A folder on a network
    /// file system that hangs makes it hang.
    pub fn resolve(&self, start: &OciStart<'_>) -> Resolved {
        resolve::resolve(self.engine, &self.roots, start, &mounted_at)
    }

    /// The graph roots.
    pub fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// The containers of this engine that run: those whose root filesystem is the root of a process
    /// of another mount namespace, by id. Those of the other engine in the same storage are left
    /// out. A container in a virtual machine of its own has no such process and is not seen.
    ///
    /// # Errors
    /// [`StorageRunningError`]: no graph root is there, or what is there cannot be read by the
    /// deadline.
    pub fn running(&self, deadline: Instant) -> Result<Vec<StorageRunning>, StorageRunningError> {
        running::list(self.engine, &self.roots, deadline)
    }

    /// The image of a name or an id, in the first of the graph roots that has it, and where its layers
    /// lie.
    ///
    /// # Errors
    /// [`StorageImageError`]: no graph root has it, or what is recorded of it cannot be used.
    pub fn stored(
        &self,
        image: &str,
        deadline: Instant,
    ) -> Result<StorageImage, StorageImageError> {
        stored::find(&self.roots, image, deadline)
    }

    /// The images for this platform, in all graph roots: the digests of their configurations, at most
    /// [`MAX_IMAGES`](crate::MAX_IMAGES) of them.
    ///
    /// # Errors
    /// [`StorageImageError`]: the records of a graph root cannot be used, or not by the deadline. An
    /// image whose configuration is not there, or is another one, is left out.
    pub fn images(
        &self,
        platform: &str,
        deadline: Instant,
    ) -> Result<Vec<ImageHad>, StorageImageError> {
        stored::list(&self.roots, platform, deadline)
    }

    /// The folders in which something changes when an image comes or goes.
    pub fn image_folders(&self) -> Vec<PathBuf> {
        self.roots.iter().map(|root| root.join(stored::IMAGES)).collect()
    }

    /// What is known of a container that runs, as if it were started again now from its records and
    /// what is mounted at its root.
    pub fn resolve_running(&self, of: &StorageRunning, deadline: Instant) -> Resolved {
        self.resolve(&OciStart {
            container_id: &of.container_id,
            bundle: &of.bundle,
            root: &of.root,
            state: None,
            deadline,
        })
    }
}
