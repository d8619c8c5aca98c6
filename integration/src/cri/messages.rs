//! The messages that the client speaks, with those of their fields that these tests use. Names and
//! numbers are those of `runtime/v1/api.proto` in kubernetes/cri-api; fields that are not named
//! here are skipped when they are read.

use std::collections::BTreeMap;

/// An answer of which nothing is read.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Empty {}

/// A request that is no more than the id of a pod or container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ById {
    /// The id.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// Asks for [`VersionResponse`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct VersionRequest {}

/// Who answers.
#[derive(Clone, PartialEq, prost::Message)]
pub struct VersionResponse {
    /// The engine.
    #[prost(string, tag = "2")]
    pub runtime_name: String,
    /// Its version.
    #[prost(string, tag = "3")]
    pub runtime_version: String,
}

/// What names a pod.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PodSandboxMetadata {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its unique id.
    #[prost(string, tag = "2")]
    pub uid: String,
    /// Its namespace.
    #[prost(string, tag = "3")]
    pub namespace: String,
}

/// A pod, as it is wanted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PodSandboxConfig {
    /// Its name.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<PodSandboxMetadata>,
    /// Its host name.
    #[prost(string, tag = "2")]
    pub hostname: String,
    /// Where its containers log.
    #[prost(string, tag = "3")]
    pub log_directory: String,
    /// Its labels.
    #[prost(btree_map = "string, string", tag = "6")]
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    #[prost(btree_map = "string, string", tag = "7")]
    pub annotations: BTreeMap<String, String>,
    /// What is special to Linux.
    #[prost(message, optional, tag = "8")]
    pub linux: Option<LinuxPodSandboxConfig>,
}

/// What a pod has on Linux.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LinuxPodSandboxConfig {
    /// The cgroup that holds it.
    #[prost(string, tag = "1")]
    pub cgroup_parent: String,
    /// How it is confined.
    #[prost(message, optional, tag = "2")]
    pub security_context: Option<LinuxSandboxSecurityContext>,
}

/// How a pod is confined.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LinuxSandboxSecurityContext {
    /// What it shares.
    #[prost(message, optional, tag = "1")]
    pub namespace_options: Option<NamespaceOption>,
}

/// Whose namespace is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum NamespaceMode {
    /// One of the pod.
    Pod = 0,
    /// One of the container.
    Container = 1,
    /// That of the node.
    Node = 2,
}

/// What is shared with whom.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NamespaceOption {
    /// The network.
    #[prost(enumeration = "NamespaceMode", tag = "1")]
    pub network: i32,
    /// The processes.
    #[prost(enumeration = "NamespaceMode", tag = "2")]
    pub pid: i32,
    /// The IPC objects.
    #[prost(enumeration = "NamespaceMode", tag = "3")]
    pub ipc: i32,
}

/// Asks for a pod.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RunPodSandboxRequest {
    /// The pod.
    #[prost(message, optional, tag = "1")]
    pub config: Option<PodSandboxConfig>,
    /// The handler that runs it.
    #[prost(string, tag = "2")]
    pub runtime_handler: String,
}

/// A pod that runs.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RunPodSandboxResponse {
    /// Its id.
    #[prost(string, tag = "1")]
    pub pod_sandbox_id: String,
}

/// Asks for all pods.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListPodSandboxRequest {}

/// All pods.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListPodSandboxResponse {
    /// The pods.
    #[prost(message, repeated, tag = "1")]
    pub items: Vec<PodSandbox>,
}

/// A pod, as it is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PodSandbox {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its name.
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<PodSandboxMetadata>,
    /// 0 when it is ready.
    #[prost(int32, tag = "3")]
    pub state: i32,
    /// Its handler.
    #[prost(string, tag = "7")]
    pub runtime_handler: String,
}

/// What names a container in its pod.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerMetadata {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// How often it was tried.
    #[prost(uint32, tag = "2")]
    pub attempt: u32,
}

/// Which image.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ImageSpec {
    /// Its name or id.
    #[prost(string, tag = "1")]
    pub image: String,
    /// Its annotations.
    #[prost(btree_map = "string, string", tag = "2")]
    pub annotations: BTreeMap<String, String>,
    /// The name in the pod.
    #[prost(string, tag = "18")]
    pub user_specified_image: String,
}

/// A variable.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// Content of the node in a container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Mount {
    /// Where it is seen.
    #[prost(string, tag = "1")]
    pub container_path: String,
    /// Where it is.
    #[prost(string, tag = "2")]
    pub host_path: String,
    /// Whether it is protected.
    #[prost(bool, tag = "3")]
    pub readonly: bool,
}

/// A container, as it is wanted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerConfig {
    /// Its name.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<ContainerMetadata>,
    /// Its image.
    #[prost(message, optional, tag = "2")]
    pub image: Option<ImageSpec>,
    /// What runs.
    #[prost(string, repeated, tag = "3")]
    pub command: Vec<String>,
    /// With which arguments.
    #[prost(string, repeated, tag = "4")]
    pub args: Vec<String>,
    /// With which variables.
    #[prost(message, repeated, tag = "6")]
    pub envs: Vec<KeyValue>,
    /// With what of the node.
    #[prost(message, repeated, tag = "7")]
    pub mounts: Vec<Mount>,
    /// Its labels.
    #[prost(btree_map = "string, string", tag = "9")]
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    #[prost(btree_map = "string, string", tag = "10")]
    pub annotations: BTreeMap<String, String>,
    /// Its log, below the log folder of the pod.
    #[prost(string, tag = "11")]
    pub log_path: String,
    /// Whether its input is kept open.
    #[prost(bool, tag = "12")]
    pub stdin: bool,
    /// Whether it has a terminal.
    #[prost(bool, tag = "14")]
    pub tty: bool,
    /// What is special to Linux.
    #[prost(message, optional, tag = "15")]
    pub linux: Option<LinuxContainerConfig>,
}

/// Asks for [`ImageStatusResponse`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct ImageStatusRequest {
    /// The image.
    #[prost(message, optional, tag = "1")]
    pub image: Option<ImageSpec>,
}

/// An image, if there is one.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ImageStatusResponse {
    /// The image.
    #[prost(message, optional, tag = "1")]
    pub image: Option<Image>,
}

/// An image.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Image {
    /// The digest of its config.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// What a container has on Linux.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LinuxContainerConfig {
    /// What it may use.
    #[prost(message, optional, tag = "1")]
    pub resources: Option<LinuxContainerResources>,
}

/// What a container may use.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LinuxContainerResources {
    /// The period of CPU time, in microseconds.
    #[prost(int64, tag = "1")]
    pub cpu_period: i64,
    /// How much of each period.
    #[prost(int64, tag = "2")]
    pub cpu_quota: i64,
    /// The weight against others.
    #[prost(int64, tag = "3")]
    pub cpu_shares: i64,
    /// The most memory.
    #[prost(int64, tag = "4")]
    pub memory_limit_in_bytes: i64,
}

/// Asks for a container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CreateContainerRequest {
    /// The pod that holds it.
    #[prost(string, tag = "1")]
    pub pod_sandbox_id: String,
    /// The container.
    #[prost(message, optional, tag = "2")]
    pub config: Option<ContainerConfig>,
    /// The pod once more.
    #[prost(message, optional, tag = "3")]
    pub sandbox_config: Option<PodSandboxConfig>,
}

/// A container that can be started.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CreateContainerResponse {
    /// Its id.
    #[prost(string, tag = "1")]
    pub container_id: String,
}

/// Ends a container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StopContainerRequest {
    /// Which.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// After how many seconds it is killed.
    #[prost(int64, tag = "2")]
    pub timeout: i64,
}

/// What a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum ContainerState {
    /// It was never started.
    Created = 0,
    /// It runs.
    Running = 1,
    /// It has ended.
    Exited = 2,
    /// The engine cannot tell.
    Unknown = 3,
}

/// Answers what a container does.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerStatusResponse {
    /// The answer.
    #[prost(message, optional, tag = "1")]
    pub status: Option<ContainerStatus>,
}

/// What a container does, or why it does not.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerStatus {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// What it does.
    #[prost(enumeration = "ContainerState", tag = "3")]
    pub state: i32,
    /// When it was started, in nanoseconds.
    #[prost(int64, tag = "5")]
    pub started_at: i64,
    /// When it ended.
    #[prost(int64, tag = "6")]
    pub finished_at: i64,
    /// Its exit code.
    #[prost(int32, tag = "7")]
    pub exit_code: i32,
    /// Its image, resolved.
    #[prost(string, tag = "9")]
    pub image_ref: String,
    /// Why, in a word.
    #[prost(string, tag = "10")]
    pub reason: String,
    /// Why, in a sentence.
    #[prost(string, tag = "11")]
    pub message: String,
    /// Its log.
    #[prost(string, tag = "15")]
    pub log_path: String,
}

/// Changes what a container may use.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UpdateContainerResourcesRequest {
    /// Which.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// What it may use.
    #[prost(message, optional, tag = "2")]
    pub linux: Option<LinuxContainerResources>,
}

/// Runs a command in a container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecSyncRequest {
    /// Which.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The command.
    #[prost(string, repeated, tag = "2")]
    pub cmd: Vec<String>,
    /// For how many seconds; 0 for ever.
    #[prost(int64, tag = "3")]
    pub timeout: i64,
}

/// How the command ended.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecSyncResponse {
    /// What it printed.
    #[prost(bytes = "vec", tag = "1")]
    pub stdout: Vec<u8>,
    /// What it complained about.
    #[prost(bytes = "vec", tag = "2")]
    pub stderr: Vec<u8>,
    /// Its exit code.
    #[prost(int32, tag = "3")]
    pub exit_code: i32,
}

/// Answers what a container uses.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerStatsResponse {
    /// The answer.
    #[prost(message, optional, tag = "1")]
    pub stats: Option<ContainerStats>,
}

/// What a container uses.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerStats {
    /// CPU time.
    #[prost(message, optional, tag = "2")]
    pub cpu: Option<CpuUsage>,
    /// Memory.
    #[prost(message, optional, tag = "3")]
    pub memory: Option<MemoryUsage>,
}

/// Used CPU time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CpuUsage {
    /// In nanoseconds of one core.
    #[prost(message, optional, tag = "2")]
    pub usage_core_nano_seconds: Option<UInt64Value>,
}

/// Used memory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MemoryUsage {
    /// What cannot be taken back easily.
    #[prost(message, optional, tag = "2")]
    pub working_set_bytes: Option<UInt64Value>,
}

/// A number that may be absent.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UInt64Value {
    /// The number.
    #[prost(uint64, tag = "1")]
    pub value: u64,
}
