//! The parts of containerd's API that are used, as messages written by hand.
//!
//! Field numbers are those of containerd's `api/` folder; each message names its file. Fields that
//! are not needed are left out: decoding skips them. Each number has been the same from 1.6 to
//! 2.4.

use std::collections::BTreeMap;

/// `google/protobuf/any.proto`. containerd stores JSON in it for what comes from Go structs.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Any {
    #[prost(string, tag = "1")]
    pub(crate) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

/// `services/containers/v1/containers.proto`
pub(crate) const CONTAINERS_GET: &str = "/containerd.services.containers.v1.Containers/Get";

/// `services/containers/v1/containers.proto`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GetContainerRequest {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
}

/// `services/containers/v1/containers.proto`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GetContainerResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) container: Option<Container>,
}

/// `services/containers/v1/containers.proto`
///
/// `labels` (2) stay unread on purpose: labels of the image are copied into them.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Container {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "3")]
    pub(crate) image: String,
    #[prost(message, optional, tag = "5")]
    pub(crate) spec: Option<Any>,
    #[prost(string, tag = "6")]
    pub(crate) snapshotter: String,
    #[prost(string, tag = "7")]
    pub(crate) snapshot_key: String,
    #[prost(btree_map = "string, message", tag = "10")]
    pub(crate) extensions: BTreeMap<String, Any>,
}

/// `services/snapshots/v1/snapshots.proto`
pub(crate) const SNAPSHOTS_STAT: &str = "/containerd.services.snapshots.v1.Snapshots/Stat";
/// `services/snapshots/v1/snapshots.proto`
pub(crate) const SNAPSHOTS_MOUNTS: &str = "/containerd.services.snapshots.v1.Snapshots/Mounts";

/// `services/snapshots/v1/snapshots.proto`. Makes a snapshot, so nothing but [`super::unpacked`]
/// calls it.
pub(crate) const SNAPSHOTS_VIEW: &str = "/containerd.services.snapshots.v1.Snapshots/View";
/// `services/snapshots/v1/snapshots.proto`. Removes one, likewise.
pub(crate) const SNAPSHOTS_REMOVE: &str = "/containerd.services.snapshots.v1.Snapshots/Remove";

/// `StatSnapshotRequest`, `MountsRequest` and `RemoveSnapshotRequest` of
/// `services/snapshots/v1/snapshots.proto`, which are alike.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SnapshotRequest {
    #[prost(string, tag = "1")]
    pub(crate) snapshotter: String,
    #[prost(string, tag = "2")]
    pub(crate) key: String,
}

/// `services/snapshots/v1/snapshots.proto`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StatSnapshotResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) info: Option<SnapshotInfo>,
}

/// `Info` of `services/snapshots/v1/snapshots.proto`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SnapshotInfo {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) parent: String,
    #[prost(btree_map = "string, string", tag = "6")]
    pub(crate) labels: BTreeMap<String, String>,
}

/// `services/snapshots/v1/snapshots.proto`. Without labels it is
/// collected as soon as containerd looks for what nobody holds.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ViewSnapshotRequest {
    #[prost(string, tag = "1")]
    pub(crate) snapshotter: String,
    #[prost(string, tag = "2")]
    pub(crate) key: String,
    #[prost(string, tag = "3")]
    pub(crate) parent: String,
}

/// `MountsResponse` and `ViewSnapshotResponse` of `services/snapshots/v1/snapshots.proto`, which are
/// alike.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MountsResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) mounts: Vec<Mount>,
}

/// `types/mount.proto`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Mount {
    #[prost(string, tag = "1")]
    pub(crate) kind: String,
    #[prost(string, tag = "2")]
    pub(crate) source: String,
    #[prost(string, tag = "3")]
    pub(crate) target: String,
    #[prost(string, repeated, tag = "4")]
    pub(crate) options: Vec<String>,
}

/// `services/mounts/v1/mounts.proto`, since containerd 2.2
pub(crate) const MOUNTS_INFO: &str = "/containerd.services.mounts.v1.Mounts/Info";

/// `InfoRequest` of `services/mounts/v1/mounts.proto`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ActivationRequest {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

/// `InfoResponse` of `services/mounts/v1/mounts.proto`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ActivationResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) info: Option<Activation>,
}

/// `ActivationInfo` of `types/mount.proto`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Activation {
    #[prost(message, repeated, tag = "2")]
    pub(crate) active: Vec<ActiveMount>,
}

/// `types/mount.proto`. As of 2.4, containerd keeps only the type of `mount`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ActiveMount {
    #[prost(message, optional, tag = "1")]
    pub(crate) mount: Option<Mount>,
    #[prost(string, tag = "3")]
    pub(crate) mount_point: String,
}

/// `services/images/v1/images.proto`
pub(crate) const IMAGES_GET: &str = "/containerd.services.images.v1.Images/Get";
/// `services/images/v1/images.proto`
pub(crate) const IMAGES_LIST: &str = "/containerd.services.images.v1.Images/List";

/// `services/images/v1/images.proto`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GetImageRequest {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

/// `services/images/v1/images.proto`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GetImageResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) image: Option<Image>,
}

/// `services/images/v1/images.proto`. An image is listed if any filter matches; all versions
/// filter by `name`, `target.digest`, `target.mediatype`, `labels` and `annotations`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ListImagesRequest {
    #[prost(string, repeated, tag = "1")]
    pub(crate) filters: Vec<String>,
}

/// `services/images/v1/images.proto`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ListImagesResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) images: Vec<Image>,
}

/// `services/images/v1/images.proto`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Image {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) target: Option<TargetDescriptor>,
}

/// `Descriptor` of `types/descriptor.proto`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TargetDescriptor {
    #[prost(string, tag = "1")]
    pub(crate) media_type: String,
    #[prost(string, tag = "2")]
    pub(crate) digest: String,
}

/// `services/introspection/v1/introspection.proto`
pub(crate) const PLUGINS: &str = "/containerd.services.introspection.v1.Introspection/Plugins";

/// `services/introspection/v1/introspection.proto`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PluginsRequest {
    #[prost(string, repeated, tag = "1")]
    pub(crate) filters: Vec<String>,
}

/// `services/introspection/v1/introspection.proto`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PluginsResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) plugins: Vec<Plugin>,
}

/// `services/introspection/v1/introspection.proto`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Plugin {
    #[prost(string, tag = "1")]
    pub(crate) kind: String,
    #[prost(btree_map = "string, string", tag = "5")]
    pub(crate) exports: BTreeMap<String, String>,
}

/// `services/content/v1/content.proto`
pub(crate) const CONTENT_READ: &str = "/containerd.services.content.v1.Content/Read";

/// `services/content/v1/content.proto`. With `size` left out containerd sends all from `offset`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReadContentRequest {
    #[prost(string, tag = "1")]
    pub(crate) digest: String,
}

/// `services/content/v1/content.proto`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReadContentResponse {
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) data: bytes::Bytes,
}

/// `services/sandbox/v1/sandbox.proto`, since containerd 1.7
pub(crate) const SANDBOXES_GET: &str = "/containerd.services.sandbox.v1.Store/Get";

/// `services/sandbox/v1/sandbox.proto`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StoreGetRequest {
    #[prost(string, tag = "1")]
    pub(crate) sandbox_id: String,
}

/// `services/sandbox/v1/sandbox.proto`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StoreGetResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) sandbox: Option<Sandbox>,
}

/// `types/sandbox.proto`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Sandbox {
    #[prost(btree_map = "string, message", tag = "7")]
    pub(crate) extensions: BTreeMap<String, Any>,
}

/// `services/events/v1/events.proto`
pub(crate) const EVENTS_SUBSCRIBE: &str = "/containerd.services.events.v1.Events/Subscribe";

/// `services/events/v1/events.proto`. An event is sent if any filter matches.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SubscribeRequest {
    #[prost(string, repeated, tag = "1")]
    pub(crate) filters: Vec<String>,
}

/// `Envelope` of `services/events/v1/events.proto`, since 2.0 of `types/event.proto`. What exactly
/// happened is not read: the images are listed anew.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Envelope {
    #[prost(string, tag = "2")]
    pub(crate) namespace: String,
    #[prost(string, tag = "3")]
    pub(crate) topic: String,
}

/// `google/protobuf/empty.proto`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Empty {}

/// `services/namespaces/v1/namespace.proto`
pub(crate) const NAMESPACES_LIST: &str = "/containerd.services.namespaces.v1.Namespaces/List";
/// `services/tasks/v1/tasks.proto`
pub(crate) const TASKS_LIST: &str = "/containerd.services.tasks.v1.Tasks/List";

/// `ListNamespacesRequest` and `ListTasksRequest`, without a filter.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ListRequest {}

/// `services/namespaces/v1/namespace.proto`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ListNamespacesResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) namespaces: Vec<Namespace>,
}

/// `services/namespaces/v1/namespace.proto`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Namespace {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

/// `services/tasks/v1/tasks.proto`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ListTasksResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) tasks: Vec<Task>,
}

/// `Process` of `types/task/task.proto`. A task has its container's id.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Task {
    #[prost(string, tag = "2")]
    pub(crate) id: String,
    #[prost(int32, tag = "4")]
    pub(crate) status: i32,
}

/// `Status` of `types/task/task.proto`: the process has ended.
pub(crate) const STOPPED: i32 = 3;
