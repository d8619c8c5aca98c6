//! Which image a container really runs, from what evidence, and how surely.
//!
//! Asked before a container starts, this crate reads the engine's own records and checks them
//! against each other: the root filesystem that will be mounted is compared with the container's
//! snapshot, the snapshot's parent with the diff IDs of an image configuration, the configuration
//! with manifests, and manifests with the names of image records. What holds is *bound*; what
//! cannot be checked is said to be so. Labels and annotations are never evidence: images and users
//! write them.
//!
//! What it cannot tell: what was written into the container's own, writable layer between its
//! creation and its start, and what is bind-mounted from the host. Both take root on the node.
//!
//! What a door asks of it reads and never writes, so that it may be asked from within the engine's
//! own call. For those who read layers there is one function that writes,
//! [`ContainerdResolver::unpacked`]: it makes a view of a snapshot and removes it again. No door
//! calls it.

#![forbid(unsafe_code)]

mod containerd;
mod docker;
mod documents;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod grpc;
mod mounted;
mod names;
mod notes;
mod rootfs;
mod storage;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use portcullis_types::{Digest, Engine, Identity, ImageConfig, Kind, Request};

pub use containerd::{
    ContainerdResolver, RunningError, StoredError, StoredImage, StoredManifest, UnpackedError,
    UnpackedImage,
};
pub use docker::{DockerImage, DockerImageError, DockerResolver, DockerStored};
pub use storage::{
    StorageEngine, StorageImage, StorageImageError, StorageResolver, StorageRunning,
    StorageRunningError,
};

/// A container that is about to start, as the engine's call names it.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// containerd's namespace, for example `k8s.io`.
    pub namespace: &'a str,
    /// Id of the container in that namespace.
    pub container_id: &'a str,
    /// The mounts that make its root filesystem, in order.
    pub rootfs: &'a [RootfsMount],
    /// When the answer has to be there.
    pub deadline: Instant,
}

/// A container that an OCI runtime is told to create: what its command line and bundle say.
#[derive(Debug, Clone, Copy)]
pub struct OciStart<'a> {
    /// Id of the container.
    pub container_id: &'a str,
    /// The bundle's folder, absolute and without links.
    pub bundle: &'a Path,
    /// The root filesystem that the bundle's specification names, absolute and without links.
    pub root: &'a Path,
    /// The runtime's state folder (`--root`), if the command line names one. containerd's last part
    /// of it is its namespace.
    pub state: Option<&'a Path>,
    /// When the answer has to be there.
    pub deadline: Instant,
}

/// Most images of one engine that are listed: a node has some hundred.
pub const MAX_IMAGES: usize = 20_000;

/// An image that an engine has, for the platform that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageHad {
    /// Digest of its configuration.
    pub config: Digest,
    /// The digest by which the engine finds it at once: of an index or a manifest in containerd,
    /// elsewhere that of the configuration.
    pub asked: Digest,
}

/// How long whoever asks an engine waits, for a list of which nobody knows how long it is.
#[derive(Clone, Copy)]
pub struct Patience<'a> {
    /// For each single answer.
    pub each: Duration,
    /// Looked at between answers: whether the list is still wanted.
    pub goes_on: &'a dyn Fn() -> bool,
}

impl Patience<'_> {
    /// When the next answer has to be there.
    fn next(&self) -> Result<Instant, StoredError> {
        match (self.goes_on)() {
            true => Ok(Instant::now() + self.each),
            false => Err(StoredError::Stopped),
        }
    }
}

/// A container that runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Running {
    /// containerd's namespace, for example `k8s.io`.
    pub namespace: String,
    /// Id of the container in that namespace.
    pub container_id: String,
}

/// One mount of a root filesystem, as `containerd.types.Mount` carries it.
///
/// A mount with a `target` below the root has no place here, and no snapshotter makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootfsMount {
    /// Type of the file system, for example `overlay`.
    pub kind: String,
    /// Device or folder.
    pub source: String,
    /// Options as for `mount(8)`.
    pub options: Vec<String>,
}

/// What is known of a container that is about to start.
///
/// It is always complete in form: what could not be found out is `Unknown` or empty, and the note
/// of the identity says which step failed and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The image.
    pub identity: Identity,
    /// What the image's configuration says of it, if one is bound and was read.
    pub image: Option<ImageConfig>,
    /// Container or sandbox, as the engine's own record says.
    pub kind: Kind,
    /// Kubernetes namespace of the pod; empty outside Kubernetes.
    pub namespace: String,
    /// Name of the pod; empty outside Kubernetes.
    pub pod: String,
    /// The pod's UID; empty if it is not known.
    pub pod_uid: String,
    /// Name of the container in the pod; empty outside Kubernetes and for a sandbox.
    pub container: String,
    /// Labels of the pod.
    pub pod_labels: BTreeMap<String, String>,
    /// Whether the fields about the pod are all there is. If not, a pod may have labels (and,
    /// without a record of the container, a namespace and a name) that are missing here: a scope
    /// that asks for them must not be taken as not met.
    pub pod_known: bool,
    /// The time was up before everything was asked; what was learnt by then is kept.
    pub deadline_hit: bool,
}

impl Resolved {
    /// The start of this container, as policies are asked about it.
    pub fn request(&self, engine: Engine, node: &str, container_id: &str) -> Request {
        Request {
            kind: self.kind,
            namespace: self.namespace.clone(),
            pod: self.pod.clone(),
            pod_uid: self.pod_uid.clone(),
            container: self.container.clone(),
            pod_labels: self.pod_labels.clone(),
            pod_known: self.pod_known,
            ..Request::new(engine, node, container_id)
        }
    }

    /// Nothing is known, for the reason given.
    pub fn unknown(why: &str) -> Self {
        Self {
            identity: Identity::unknown(why),
            image: None,
            kind: Kind::Container,
            namespace: String::new(),
            pod: String::new(),
            pod_uid: String::new(),
            container: String::new(),
            pod_labels: BTreeMap::new(),
            pod_known: false,
            deadline_hit: false,
        }
    }
}
