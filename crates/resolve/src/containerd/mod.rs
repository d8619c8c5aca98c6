//! Resolving with containerd's API, from 1.6 to 2.4.

pub(crate) mod api;
pub(crate) mod client;
pub(crate) mod cri;
pub(crate) mod identify;
mod image;
mod listed;
pub(crate) mod place;
#[cfg(feature = "fuzzing")]
pub(crate) mod records;
mod resolve;
mod running;
mod snapshot;
mod spec;
mod stored;
#[cfg(test)]
pub(crate) mod tests;
mod unpacked;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use portcullis_types::{Digest, ImageRef};

pub(crate) use self::running::RecordedSpec;
pub use self::running::RunningError;
pub use self::stored::{StoredError, StoredImage, StoredManifest};
pub use self::unpacked::{UnpackedError, UnpackedImage};
use crate::documents::Descriptor;
use crate::mounted::{Mounted, mounted_at};
use crate::notes::Notes;
use crate::rootfs::Given;
use crate::{ImageHad, OciStart, Patience, Resolved, Running, Start};

/// A container that is about to start, whoever tells of it.
#[derive(Debug, Clone, Copy)]
struct Starting<'a> {
    namespace: &'a str,
    container_id: &'a str,
    given: Given<'a>,
    /// What Docker recorded, if the container is Docker's.
    docker: Option<&'a OfDocker>,
    deadline: Instant,
}

/// What Docker recorded of a container with a snapshot of containerd's.
///
/// Docker mounts the snapshot itself, at a place of its own, and so containerd's record of the
/// container names neither snapshotter nor snapshot (seen with 28.5); the snapshot is named after
/// the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OfDocker {
    /// containerd's snapshotter.
    pub(crate) snapshotter: String,
    /// The index or manifest that is the image.
    pub(crate) target: Digest,
    /// The manifest that was taken from it.
    pub(crate) manifest: Option<Descriptor>,
    /// The name that was asked for.
    pub(crate) asked: Option<ImageRef>,
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
    /// The snapshotter that containerd uses unless it is told otherwise (containerd
    /// `defaults/defaults_linux.go`, `DefaultSnapshotter`).
    pub const SNAPSHOTTER: &str = "overlayfs";

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
            docker: None,
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
        if start.root == start.bundle.join("rootfs") {
            return self.resolve_given(start, mounted, None);
        }
        let why = format!(
            "the bundle's root is {}, not the folder on which containerd mounts the snapshot",
            start.root.display().to_string().escape_debug()
        );
        self.resolve_placed(start, Given::Nothing(&why), None)
    }

    /// What is known of Docker's container whose snapshot is mounted at the root, by the deadline
    /// at the latest.
    pub(crate) fn resolve_docker(
        &self,
        start: &OciStart<'_>,
        mounted: Result<Option<&Mounted>, &std::io::Error>,
        docker: &OfDocker,
    ) -> Resolved {
        self.resolve_given(start, mounted, Some(docker))
    }

    fn resolve_given(
        &self,
        start: &OciStart<'_>,
        mounted: Result<Option<&Mounted>, &std::io::Error>,
        docker: Option<&OfDocker>,
    ) -> Resolved {
        let why;
        let given = match mounted {
            Ok(Some(mounted)) => Given::Mounted(start.root, mounted),
            Ok(None) => Given::Nothing(
                "nothing is mounted at the container's root, so it is not its snapshot",
            ),
            Err(error) => {
                why = format!("the mount table cannot be read: {error}");
                Given::Nothing(&why)
            }
        };
        self.resolve_placed(start, given, docker)
    }

    fn resolve_placed(
        &self,
        start: &OciStart<'_>,
        given: Given<'_>,
        docker: Option<&OfDocker>,
    ) -> Resolved {
        let namespace = match place::namespace(start) {
            Ok(namespace) => namespace,
            Err(error) => return Resolved::unknown(&error.to_string()),
        };
        let (container_id, deadline) = (start.container_id, start.deadline);
        self.ask(&Starting { namespace, container_id, given, docker, deadline })
    }

    fn ask(&self, start: &Starting<'_>) -> Resolved {
        match runtime() {
            Ok(runtime) => runtime.block_on(resolve::resolve(&self.address, start)),
            Err(error) => Resolved::unknown(&format!("containerd could not be asked: {error}")),
        }
    }

    /// The containers of all namespaces whose processes have not ended, in order.
    ///
    /// # Errors
    /// [`RunningError`]: containerd does not answer by the deadline.
    ///
    /// # Panics
    ///
    /// As [`Self::resolve`].
    pub fn running(&self, deadline: Instant) -> Result<Vec<Running>, RunningError> {
        let runtime = runtime().map_err(RunningError::Runtime)?;
        runtime.block_on(running::list(&self.address, deadline))
    }

    /// What is known of a container that runs, as if it were started again now from what is recorded
    /// of it, and its runtime specification as JSON, if it has a record.
    ///
    /// # Panics
    ///
    /// As [`Self::resolve`].
    pub fn resolve_running(&self, of: &Running, deadline: Instant) -> (Resolved, Option<Vec<u8>>) {
        match runtime() {
            Ok(runtime) => runtime.block_on(running::resolve(&self.address, of, deadline)),
            Err(error) => {
                (Resolved::unknown(&format!("containerd could not be asked: {error}")), None)
            }
        }
    }

    /// Where an image is kept: in one namespace, or in all.
    ///
    /// `image` is a name, or the digest of an index, a manifest or a configuration; without its
    /// algorithm it is SHA-256. A digest is looked for among the targets of the image records first,
    /// then in what these lead to: [`StoredImage::target`] is then the manifest or the inner index
    /// that was asked for, and for a configuration a manifest that has it.
    ///
    /// # Errors
    /// [`StoredError`]: containerd does not answer by the deadline, has no such image, or does not
    /// say where it keeps it.
    ///
    /// # Panics
    ///
    /// As [`Self::resolve`].
    pub fn stored(
        &self,
        image: &str,
        namespace: Option<&str>,
        deadline: Instant,
    ) -> Result<StoredImage, StoredError> {
        let runtime = runtime().map_err(StoredError::Runtime)?;
        runtime.block_on(stored::find(&self.address, image, namespace, deadline))
    }

    /// The configuration and the folders of the layers of an image that is unpacked, where the blobs
    /// of its layers may be gone (the CRI plug-in's `discard_unpacked_layers`).
    ///
    /// `config` is the digest of the configuration, which the namespace's content store still has.
    /// Its layers are found by their chain IDs, by which unpacked ones are named (containerd
    /// `core/unpack/unpacker.go`); each one's parent has to be the one below. Where they lie only the
    /// mounts of a snapshot tell, so a view of the uppermost one is made and removed at once, whatever
    /// comes of it. A view that is left behind, as when this process is killed, goes with containerd's
    /// next collection of what nobody holds. The layers stay as long as the image does.
    ///
    /// The snapshotter has to lay plain folders on each other, as [`Self::SNAPSHOTTER`] does
    /// (containerd `plugins/snapshots/overlay/overlay.go`).
    ///
    /// This is the one call of this crate that changes anything: it is for those who read layers,
    /// never for a container's start.
    ///
    /// # Errors
    /// [`UnpackedError`]: containerd does not answer by the deadline, a layer is not unpacked or has
    /// another below it, or the snapshotter does not give as many folders as there are layers.
    ///
    /// # Panics
    ///
    /// As [`Self::resolve`].
    pub fn unpacked(
        &self,
        config: &Digest,
        namespace: &str,
        snapshotter: &str,
        deadline: Instant,
    ) -> Result<UnpackedImage, UnpackedError> {
        let runtime = runtime().map_err(UnpackedError::Runtime)?;
        runtime.block_on(unpacked::find(&self.address, config, namespace, snapshotter, deadline))
    }

    /// The images of the namespaces that are wanted, each target once: those for this platform whose
    /// configuration is there, at most [`MAX_IMAGES`](crate::MAX_IMAGES) of them.
    ///
    /// What an earlier list found of a target, `known` tells, so that no document is read twice.
    ///
    /// # Errors
    /// [`StoredError`]: containerd does not answer in time. Then nothing is known.
    ///
    /// # Panics
    ///
    /// As [`Self::resolve`].
    pub fn images(
        &self,
        wanted: &dyn Fn(&str) -> bool,
        platform: &str,
        known: &BTreeMap<Digest, Digest>,
        patience: Patience<'_>,
    ) -> Result<Vec<ImageHad>, StoredError> {
        let runtime = runtime().map_err(StoredError::Runtime)?;
        let asked = listed::Asked { wanted, platform, known, patience };
        runtime.block_on(listed::list(&self.address, &asked))
    }

    /// Tells the namespace of each image that comes, changes or goes, until the connection breaks or
    /// it is not to go on. What happened before it was asked is not told.
    ///
    /// # Errors
    /// [`StoredError`]: containerd does not answer, or does not any more.
    ///
    /// # Panics
    ///
    /// As [`Self::resolve`].
    pub fn image_changes(
        &self,
        patience: Patience<'_>,
        tell: impl FnMut(&str),
    ) -> Result<(), StoredError> {
        let runtime = runtime().map_err(StoredError::Runtime)?;
        runtime.block_on(listed::changes(&self.address, patience, tell))
    }

    /// The specification in a container's record, or why there is none to be had.
    pub(crate) fn spec(&self, of: &Running, deadline: Instant) -> Result<RecordedSpec, Notes> {
        let runtime = runtime().map_err(|error| {
            let mut notes = Notes::default();
            notes.trouble("containerd could not be asked", &error);
            notes
        })?;
        runtime.block_on(running::spec(&self.address, of, deadline))
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()
}
