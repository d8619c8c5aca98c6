//! What CRI-O recorded of a container and its pod.
//!
//! The metadata of the storage's record is CRI-O's own (`internal/storage/runtime.go`): neither an
//! image nor a pod can write it. Labels stand only in the specification of the pod's sandbox, into
//! which CRI-O writes its own keys after those of the user (`server/sandbox_run_linux.go`). The
//! specification of an ordinary container is not asked: there a client's annotations come last.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::files::{Folder, ReadError};
use super::records::is_id;
use crate::documents::{DocumentError, members, parse};

/// Most bytes of a sandbox's specification: an object of Kubernetes has at most 1.5 MiB.
const MAX_SPEC: u64 = 4 << 20;
const LABELS: &str = "io.kubernetes.cri-o.Labels";
const SANDBOX_ID: &str = "io.kubernetes.cri-o.SandboxID";

/// Why what is recorded of a pod cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum PodError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Another engine's, or another container's.
    #[error("it is not CRI-O's record of a container in a pod")]
    NotCriO,
    /// The specification was not made for the sandbox.
    #[error("it is not the sandbox's")]
    OtherSandbox,
}

/// The metadata of a container's record.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Metadata {
    /// Id of the pod's sandbox; empty for an engine other than CRI-O.
    pub(super) pod_id: String,
    /// Whether the container is the sandbox.
    pub(super) is_sandbox: bool,
    /// The image as the client asked for it: a name or an id.
    pub(super) image_name: String,
    /// The container's or the pod's name in Kubernetes.
    pub(super) name: String,
    /// The pod's namespace, only in the sandbox's record.
    pub(super) namespace: String,
    /// The pod's UID, likewise.
    pub(super) uid: String,
}

/// Reads metadata that CRI-O or Podman wrote; their common member is `image-name`.
pub(super) fn metadata(json: &str) -> Result<Metadata, DocumentError> {
    let [pod_id, image_name, name, namespace, uid, pod] = members(
        json.as_bytes(),
        ["pod-id", "image-name", "metadata-name", "namespace", "uid", "pod"],
    )?;
    Ok(Metadata {
        pod_id: value(pod_id)?,
        is_sandbox: value(pod)?,
        image_name: value(image_name)?,
        name: value(name)?,
        namespace: value(namespace)?,
        uid: value(uid)?,
    })
}

fn value<T: DeserializeOwned + Default>(json: Option<&RawValue>) -> Result<T, DocumentError> {
    Ok(json.map(parse::<Option<T>>).transpose()?.flatten().unwrap_or_default())
}

impl Metadata {
    /// Whether CRI-O wrote it, of this container.
    pub(super) fn of_cri_o(self, id: &str) -> Result<Self, PodError> {
        // CRI-O marks as the sandbox what has the pod's id.
        match is_id(&self.pod_id) && self.is_sandbox == (self.pod_id == id) {
            true => Ok(self),
            false => Err(PodError::NotCriO),
        }
    }
}

/// The labels of the pod, from its sandbox's specification. `containers` holds the engine's
/// folders of containers.
pub(super) fn labels(
    containers: &Folder,
    sandbox: &str,
) -> Result<BTreeMap<String, String>, PodError> {
    let json = containers.folder(sandbox)?.folder("userdata")?.read("config.json", MAX_SPEC)?;
    let [annotations] = members(&json, ["annotations"])?;
    let annotations = annotations.ok_or(DocumentError::Missing("annotations"))?;
    let mut annotations: BTreeMap<String, String> = parse(annotations)?;
    if annotations.get(SANDBOX_ID).is_none_or(|id| id != sandbox) {
        return Err(PodError::OtherSandbox);
    }
    let labels = annotations.remove(LABELS).ok_or(DocumentError::Missing(LABELS))?;
    let labels: Option<BTreeMap<String, String>> =
        serde_json::from_str(&labels).map_err(DocumentError::Malformed)?;
    Ok(labels.unwrap_or_default())
}
