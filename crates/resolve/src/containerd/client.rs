//! containerd's API as typed questions, on one connection.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Instant;

use portcullis_types::Digest;

use super::api;
use crate::documents::Descriptor;
use crate::grpc::{Channel, GrpcError};

/// Largest document of an image that is read: index, manifest or configuration. Registries limit
/// manifests to 4 MiB; configurations with long histories stay below 1 MiB.
pub(crate) const MAX_DOCUMENT: usize = 8 << 20;

/// Largest event: an image record's name and labels.
const MAX_EVENT: usize = 1 << 20;

/// The plugin that has the content store (containerd `plugins/types.go`).
const CONTENT_PLUGIN: &str = "io.containerd.content.v1";

/// Why a blob of the content store cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContentError {
    /// The call failed.
    #[error("it cannot be read")]
    Call(#[source] GrpcError),
    /// It is larger than this crate reads.
    #[error("it is larger than {MAX_DOCUMENT} bytes")]
    TooLarge,
    /// The bytes are not those that the digest names.
    #[error("its content has another digest")]
    WrongDigest,
}

impl ContentError {
    /// Whether the blob is simply not there: another platform's, or collected.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Call(GrpcError::NotFound))
    }
}

/// Questions to one containerd, in one of its namespaces. Clones share the connection.
#[derive(Clone)]
pub(crate) struct Client {
    channel: Channel,
}

impl Client {
    pub(crate) async fn connect(
        address: &Path,
        namespace: &str,
        deadline: Instant,
    ) -> Result<Self, GrpcError> {
        let channel = Channel::connect(address, namespace, deadline).await?;
        Ok(Self { channel })
    }

    /// The same for questions that are answered by then.
    pub(crate) fn by(&self, deadline: Instant) -> Self {
        Self { channel: self.channel.by(deadline) }
    }

    /// Tells the namespace of each image record that comes, changes or goes, until the server ends it
    /// or `goes_on` says no.
    pub(crate) async fn image_changes(
        &self,
        goes_on: &dyn Fn() -> bool,
        mut tell: impl FnMut(&str),
    ) -> Result<(), GrpcError> {
        let topics = ["create", "update", "delete"];
        let filters = topics.map(|what| format!("topic==\"/images/{what}\"")).to_vec();
        let request = api::SubscribeRequest { filters };
        let take = |event: api::Envelope| {
            // A server without filters tells of everything.
            if event.topic.starts_with("/images/") {
                tell(&event.namespace);
            }
        };
        self.channel.watching(api::EVENTS_SUBSCRIBE, &request, MAX_EVENT, goes_on, take).await
    }

    /// The names of all namespaces.
    pub(crate) async fn namespaces(&self) -> Result<Vec<String>, GrpcError> {
        let response: api::ListNamespacesResponse =
            self.channel.unary(api::NAMESPACES_LIST, &api::ListRequest {}).await?;
        Ok(response.namespaces.into_iter().map(|namespace| namespace.name).collect())
    }

    /// The ids of the containers whose processes have not ended.
    pub(crate) async fn running(&self) -> Result<Vec<String>, GrpcError> {
        let response: api::ListTasksResponse =
            self.channel.unary(api::TASKS_LIST, &api::ListRequest {}).await?;
        let running = response.tasks.into_iter().filter(|task| task.status != api::STOPPED);
        Ok(running.map(|task| task.id).collect())
    }

    /// The record of a container.
    pub(crate) async fn container(&self, id: &str) -> Result<api::Container, GrpcError> {
        let request = api::GetContainerRequest { id: id.to_owned() };
        let response: api::GetContainerResponse =
            self.channel.unary(api::CONTAINERS_GET, &request).await?;
        response.container.ok_or(GrpcError::NotFound)
    }

    /// What is recorded of a snapshot.
    pub(crate) async fn snapshot(
        &self,
        snapshotter: &str,
        key: &str,
    ) -> Result<api::SnapshotInfo, GrpcError> {
        let request = snapshot_request(snapshotter, key);
        let response: api::StatSnapshotResponse =
            self.channel.unary(api::SNAPSHOTS_STAT, &request).await?;
        response.info.ok_or(GrpcError::NotFound)
    }

    /// The mounts that make a snapshot's root filesystem.
    pub(crate) async fn mounts(
        &self,
        snapshotter: &str,
        key: &str,
    ) -> Result<Vec<api::Mount>, GrpcError> {
        let request = snapshot_request(snapshotter, key);
        let response: api::MountsResponse =
            self.channel.unary(api::SNAPSHOTS_MOUNTS, &request).await?;
        Ok(response.mounts)
    }

    /// Makes a snapshot that shows what is below it, and gives its mounts.
    pub(crate) async fn view(
        &self,
        snapshotter: &str,
        key: &str,
        parent: &str,
    ) -> Result<Vec<api::Mount>, GrpcError> {
        let request = api::ViewSnapshotRequest {
            snapshotter: snapshotter.to_owned(),
            key: key.to_owned(),
            parent: parent.to_owned(),
        };
        let response: api::MountsResponse =
            self.channel.unary(api::SNAPSHOTS_VIEW, &request).await?;
        Ok(response.mounts)
    }

    /// Removes a snapshot.
    pub(crate) async fn remove(&self, snapshotter: &str, key: &str) -> Result<(), GrpcError> {
        let request = snapshot_request(snapshotter, key);
        let _: api::Empty = self.channel.unary(api::SNAPSHOTS_REMOVE, &request).await?;
        Ok(())
    }

    /// What the mount manager has mounted under this name; nothing before containerd 2.2.
    pub(crate) async fn activation(&self, name: &str) -> Result<Vec<api::ActiveMount>, GrpcError> {
        let request = api::ActivationRequest { name: name.to_owned() };
        let response: Result<api::ActivationResponse, GrpcError> =
            self.channel.unary(api::MOUNTS_INFO, &request).await;
        match response {
            Ok(response) => Ok(response.info.map(|info| info.active).unwrap_or_default()),
            Err(GrpcError::NotFound | GrpcError::Unimplemented) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// What the image record of this name points to.
    pub(crate) async fn image(&self, name: &str) -> Result<Option<Descriptor>, GrpcError> {
        let request = api::GetImageRequest { name: name.to_owned() };
        let response: Result<api::GetImageResponse, GrpcError> =
            self.channel.unary(api::IMAGES_GET, &request).await;
        match response {
            Ok(response) => Ok(response.image.and_then(|image| target(&image))),
            Err(GrpcError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All image records that point to one of these digests, or all if there are none: name and
    /// target.
    pub(crate) async fn images(
        &self,
        targets: impl IntoIterator<Item = &Digest>,
    ) -> Result<Vec<(String, Descriptor)>, GrpcError> {
        let filters =
            targets.into_iter().map(|digest| format!("target.digest==\"{digest}\"")).collect();
        let request = api::ListImagesRequest { filters };
        let response: api::ListImagesResponse =
            self.channel.unary(api::IMAGES_LIST, &request).await?;
        let records = response.images.into_iter().filter_map(|image| {
            let target = target(&image)?;
            Some((image.name, target))
        });
        Ok(records.collect())
    }

    /// The folder of the content store, which its plugin tells; `None` if it is another's than
    /// containerd's own.
    pub(crate) async fn content_folder(&self) -> Result<Option<PathBuf>, GrpcError> {
        let request = api::PluginsRequest { filters: vec![format!("type=={CONTENT_PLUGIN}")] };
        let response: api::PluginsResponse = self.channel.unary(api::PLUGINS, &request).await?;
        let mut plugins =
            response.plugins.into_iter().filter(|plugin| plugin.kind == CONTENT_PLUGIN);
        Ok(plugins.find_map(|mut plugin| plugin.exports.remove("root")).map(PathBuf::from))
    }

    /// A sandbox's record in the sandbox store; `None` if it has none or containerd has no such
    /// store (before 1.7).
    pub(crate) async fn sandbox(&self, id: &str) -> Result<Option<api::Sandbox>, GrpcError> {
        let request = api::StoreGetRequest { sandbox_id: id.to_owned() };
        let response: Result<api::StoreGetResponse, GrpcError> =
            self.channel.unary(api::SANDBOXES_GET, &request).await;
        match response {
            Ok(response) => Ok(response.sandbox),
            Err(GrpcError::NotFound | GrpcError::Unimplemented) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A blob of the content store, checked against its digest.
    pub(crate) async fn content(&self, digest: &Digest) -> Result<Vec<u8>, ContentError> {
        let request = api::ReadContentRequest { digest: digest.to_string() };
        let mut content = Vec::new();
        let read = self
            .channel
            .streaming(api::CONTENT_READ, &request, |chunk: api::ReadContentResponse| {
                if chunk.data.len() > MAX_DOCUMENT - content.len() {
                    return Err(GrpcError::TooLarge(MAX_DOCUMENT));
                }
                content.extend_from_slice(&chunk.data);
                Ok(())
            })
            .await;
        match read {
            Err(GrpcError::TooLarge(_)) => Err(ContentError::TooLarge),
            Err(error) => Err(ContentError::Call(error)),
            Ok(()) if digest.is_of(&content) => Ok(content),
            Ok(()) => Err(ContentError::WrongDigest),
        }
    }
}

/// Runs calls at the same time and returns their results in order.
pub(crate) async fn together<T, F>(calls: impl IntoIterator<Item = F>) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let tasks: Vec<_> = calls.into_iter().map(tokio::spawn).collect();
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        match task.await {
            Ok(result) => results.push(result),
            // A call neither panics nor is aborted; should one panic after all, the panic goes on
            // to whoever asked, as it would without the task.
            Err(error) => {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
    results
}

fn snapshot_request(snapshotter: &str, key: &str) -> api::SnapshotRequest {
    api::SnapshotRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() }
}

/// An image record's target, if it is one that can be followed.
fn target(image: &api::Image) -> Option<Descriptor> {
    let target = image.target.as_ref()?;
    Some(Descriptor { media_type: target.media_type.clone(), digest: target.digest.parse().ok()? })
}
