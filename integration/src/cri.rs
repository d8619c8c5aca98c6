//! The container runtime interface of Kubernetes, version 1, as kubelet speaks it to containerd.

mod grpc;
mod messages;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

pub use grpc::Status;
pub use messages::*;

use crate::PATIENCE;

/// How long one call may take: longer than what is asked for may be waited for.
const LIMIT: Duration = PATIENCE.saturating_mul(2);

/// A client of one engine. Each call is a connection of its own, so that a client outlives
/// restarts of the engine.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    /// A client of the engine that listens on `socket`.
    ///
    /// # Errors
    /// When no runtime can be set up.
    pub fn new(socket: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let socket = socket.to_path_buf();
        Ok(Self { socket, runtime })
    }

    /// The engine's name and version.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn version(&self) -> Result<VersionResponse> {
        self.call("Version", &VersionRequest::default())
    }

    /// Starts a pod's sandbox under a handler, and gives its id.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn run_pod(&self, pod: &PodSandboxConfig, handler: &str) -> Result<String> {
        let request =
            RunPodSandboxRequest { config: Some(pod.clone()), runtime_handler: handler.to_owned() };
        let answer: RunPodSandboxResponse = self.call("RunPodSandbox", &request)?;
        Ok(answer.pod_sandbox_id)
    }

    /// Stops a pod's sandbox.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn stop_pod(&self, id: &str) -> Result<()> {
        self.call_by_id("StopPodSandbox", id)
    }

    /// Removes a pod's sandbox with its containers.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn remove_pod(&self, id: &str) -> Result<()> {
        self.call_by_id("RemovePodSandbox", id)
    }

    /// All pods.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn pods(&self) -> Result<Vec<PodSandbox>> {
        let answer: ListPodSandboxResponse =
            self.call("ListPodSandbox", &ListPodSandboxRequest::default())?;
        Ok(answer.items)
    }

    /// Creates a container in a pod, and gives its id.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn create_container(
        &self,
        pod_id: &str,
        pod: &PodSandboxConfig,
        container: &ContainerConfig,
    ) -> Result<String> {
        let request = CreateContainerRequest {
            pod_sandbox_id: pod_id.to_owned(),
            config: Some(container.clone()),
            sandbox_config: Some(pod.clone()),
        };
        let answer: CreateContainerResponse = self.call("CreateContainer", &request)?;
        Ok(answer.container_id)
    }

    /// Starts a container: this is where the runtime creates it.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn start_container(&self, id: &str) -> Result<()> {
        self.call_by_id("StartContainer", id)
    }

    /// Stops a container, first gently.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let request = StopContainerRequest {
            container_id: id.to_owned(),
            timeout: i64::try_from(grace.as_secs())?,
        };
        self.call::<_, Empty>("StopContainer", &request).map(drop)
    }

    /// Removes a container.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn remove_container(&self, id: &str) -> Result<()> {
        self.call_by_id("RemoveContainer", id)
    }

    /// What a container does, or why it does not.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn container_status(&self, id: &str) -> Result<ContainerStatus> {
        let request = ById { id: id.to_owned() };
        let answer: ContainerStatusResponse = self.call("ContainerStatus", &request)?;
        answer.status.context("an answer without a status")
    }

    /// The id of the image that a name stands for, if it stands for one.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn image(&self, name: &str) -> Result<Option<String>> {
        let image = Some(ImageSpec { image: name.to_owned(), ..Default::default() });
        let request = ImageStatusRequest { image };
        let answer: ImageStatusResponse =
            self.ask("/runtime.v1.ImageService/ImageStatus", &request)?;
        Ok(answer.image.map(|image| image.id))
    }

    /// What a container uses.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        let request = ById { id: id.to_owned() };
        let answer: ContainerStatsResponse = self.call("ContainerStats", &request)?;
        answer.stats.context("an answer without stats")
    }

    /// Changes what a running container may use.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn update_container(&self, id: &str, limits: LinuxContainerResources) -> Result<()> {
        let request =
            UpdateContainerResourcesRequest { container_id: id.to_owned(), linux: Some(limits) };
        let answer: Result<Empty> = self.call("UpdateContainerResources", &request);
        answer.map(drop)
    }

    /// Runs a command in a container to its end.
    ///
    /// # Errors
    /// As [`Client::call`]; not when the command fails.
    pub fn exec(&self, id: &str, command: &[&str], limit: Duration) -> Result<ExecSyncResponse> {
        let request = ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: command.iter().map(ToString::to_string).collect(),
            timeout: i64::try_from(limit.as_secs())?,
        };
        self.call("ExecSync", &request)
    }

    /// Any call of the runtime service.
    ///
    /// # Errors
    /// A [`Status`] when the engine answers with an error; another error when it does not answer.
    pub fn call<Q: prost::Message, A: prost::Message + Default>(
        &self,
        method: &str,
        request: &Q,
    ) -> Result<A> {
        self.ask(&format!("/runtime.v1.RuntimeService/{method}"), request)
    }

    fn ask<Q: prost::Message, A: prost::Message + Default>(
        &self,
        path: &str,
        request: &Q,
    ) -> Result<A> {
        let call = grpc::unary(&self.socket, path, request);
        let limited = async { tokio::time::timeout(LIMIT, call).await };
        let answer = self.runtime.block_on(limited);
        answer.with_context(|| format!("{path} took longer than {LIMIT:?}"))?
    }

    fn call_by_id(&self, method: &str, id: &str) -> Result<()> {
        let request = ById { id: id.to_owned() };
        self.call::<_, Empty>(method, &request).map(drop)
    }
}
