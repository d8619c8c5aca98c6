//! What is about to start, as the engine describes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::finding::words;

words! {
    /// What asked for the container. Known from the door's own name and settings, never from an
    /// annotation.
    Engine, "an engine" {
        /// containerd.
        Containerd = "containerd",
        /// CRI-O.
        CriO = "cri-o",
        /// Podman.
        Podman = "podman",
        /// Docker.
        Docker = "docker",
    }
}

words! {
    /// Whether it is a pod's sandbox.
    Kind, "a kind" {
        /// An application container.
        Container = "container",
        /// The sandbox (pause) container; only the engine's own record makes it one.
        Sandbox = "sandbox",
    }
}

/// One start. What comes from annotations is context for scopes and log lines, never identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// What asked.
    pub engine: Engine,
    /// Name of this node.
    pub node: String,
    /// The container's id at the engine.
    pub container_id: String,
    /// Sandbox or not.
    pub kind: Kind,
    /// Kubernetes namespace of the pod; empty outside Kubernetes.
    #[serde(default)]
    pub namespace: String,
    /// Pod name; empty outside Kubernetes.
    #[serde(default)]
    pub pod: String,
    /// The pod's UID at kubelet, which tells it from others of the name; empty if it is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pod_uid: String,
    /// Container name in the pod; empty outside Kubernetes.
    #[serde(default)]
    pub container: String,
    /// Labels of the pod.
    #[serde(default)]
    pub pod_labels: BTreeMap<String, String>,
    /// The fields about the pod are all there is. If not, a pod may have a namespace and labels
    /// that are missing here, and no scope may be left because of that.
    #[serde(default = "known")]
    pub pod_known: bool,
}

fn known() -> bool {
    true
}

impl Request {
    /// A start outside Kubernetes.
    pub fn new(engine: Engine, node: &str, container_id: &str) -> Self {
        Self {
            engine,
            node: node.to_owned(),
            container_id: container_id.to_owned(),
            kind: Kind::Container,
            namespace: String::new(),
            pod: String::new(),
            pod_uid: String::new(),
            container: String::new(),
            pod_labels: BTreeMap::new(),
            pod_known: true,
        }
    }
}
