//! Containers that run, as they would start again.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::Starting;
use super::client::Client;
use super::resolve::learn;
use super::spec::Spec;
use crate::grpc::GrpcError;
use crate::notes::Notes;
use crate::rootfs::Given;
use crate::{Resolved, RootfsMount, Running};

/// Why the running containers are not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunningError {
    /// The socket cannot be connected to, or the namespaces cannot be listed.
    #[error("containerd at {address} does not answer")]
    Namespaces {
        /// The socket's path.
        address: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The tasks of a namespace cannot be listed.
    #[error("containerd does not list the tasks of the namespace {namespace}")]
    Tasks {
        /// The namespace.
        namespace: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No call could be made.
    #[error("containerd could not be asked")]
    Runtime(#[source] std::io::Error),
}

/// The running containers of all namespaces, by namespace and id.
pub(super) async fn list(address: &Path, deadline: Instant) -> Result<Vec<Running>, RunningError> {
    let of_namespaces = |source: GrpcError| RunningError::Namespaces {
        address: address.display().to_string(),
        source: source.into(),
    };
    let client = Client::connect(address, "default", deadline).await.map_err(of_namespaces)?;
    let mut namespaces = client.namespaces().await.map_err(of_namespaces)?;
    namespaces.sort();
    let mut found = Vec::new();
    for namespace in namespaces {
        let of_tasks = |source: GrpcError| RunningError::Tasks {
            namespace: namespace.clone(),
            source: source.into(),
        };
        let client = Client::connect(address, &namespace, deadline).await.map_err(of_tasks)?;
        let mut ids = client.running().await.map_err(of_tasks)?;
        ids.sort();
        found.extend(
            ids.into_iter()
                .map(|container_id| Running { namespace: namespace.clone(), container_id }),
        );
    }
    Ok(found)
}

/// The runtime specification that a container was started with.
#[derive(Debug)]
pub(crate) struct RecordedSpec {
    pub(crate) json: Vec<u8>,
    /// Its `root.path`.
    pub(crate) root: PathBuf,
}

/// The specification in the record of a container.
pub(super) async fn spec(
    address: &Path,
    of: &Running,
    deadline: Instant,
) -> Result<RecordedSpec, Notes> {
    let wrong = |step: &str, error: &(dyn std::error::Error + 'static)| {
        let mut notes = Notes::default();
        notes.trouble(step, error);
        notes
    };
    let client = Client::connect(address, &of.namespace, deadline)
        .await
        .map_err(|error| wrong("containerd does not answer", &error))?;
    let step = "containerd's record of the container";
    let record = client.container(&of.container_id).await.map_err(|error| wrong(step, &error))?;
    let root = Spec::of(&record).map_err(|error| wrong(step, &error))?.root.into();
    let json = record.spec.map(|spec| spec.value).unwrap_or_default();
    Ok(RecordedSpec { json, root })
}

/// What is known of a running container, and its specification.
pub(super) async fn resolve(
    address: &Path,
    running: &Running,
    deadline: Instant,
) -> (Resolved, Option<Vec<u8>>) {
    let mut resolved = Resolved::unknown("");
    let mut notes = Notes::default();
    let spec = ask(address, running, deadline, &mut resolved, &mut notes).await;
    resolved.deadline_hit = notes.deadline_hit;
    resolved.identity.note = notes.into_line();
    (resolved, spec)
}

async fn ask(
    address: &Path,
    running: &Running,
    deadline: Instant,
    resolved: &mut Resolved,
    notes: &mut Notes,
) -> Option<Vec<u8>> {
    let Running { namespace, container_id } = running;
    let client = Client::connect(address, namespace, deadline)
        .await
        .map_err(|error| notes.trouble("containerd does not answer", &error))
        .ok()?;
    let record = client
        .container(container_id)
        .await
        .map_err(|error| notes.trouble("containerd's record of the container", &error))
        .ok()?;
    // A start mounts what the snapshot has; without one there is nothing to compare.
    let mounts = match record.snapshot_key.is_empty() || record.snapshotter.is_empty() {
        true => Vec::new(),
        false => client
            .mounts(&record.snapshotter, &record.snapshot_key)
            .await
            .map_err(|error| notes.trouble("the mounts of the container's snapshot", &error))
            .unwrap_or_default(),
    };
    let rootfs: Vec<RootfsMount> = mounts
        .into_iter()
        .map(|mount| RootfsMount { kind: mount.kind, source: mount.source, options: mount.options })
        .collect();
    let given = Given::Requested(&rootfs);
    let start = Starting { namespace, container_id, given, docker: None, deadline };
    learn(&client, &start, &record, resolved, notes).await;
    record.spec.map(|spec| spec.value)
}
