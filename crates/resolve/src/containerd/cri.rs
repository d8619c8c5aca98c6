//! What containerd's CRI plug-in recorded of a container or of a pod's sandbox.
//!
//! The plug-in keeps its own JSON in the record's extensions, which only a client of containerd's
//! API can set; images, pods and annotations cannot. Seen alike in the sources of 1.6, 1.7, 2.1
//! and 2.4: a container's record has `io.cri-containerd.container.metadata`, a sandbox container's
//! has `io.cri-containerd.sandbox.metadata`, and since 1.7 the sandbox store has the same JSON as
//! `metadata`.

use std::collections::BTreeMap;

use portcullis_types::{Digest, ImageRef};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::api;
use crate::names;

const CONTAINER: &str = "io.cri-containerd.container.metadata";
const SANDBOX: &str = "io.cri-containerd.sandbox.metadata";
const SANDBOX_IN_STORE: &str = "metadata";
/// The only version there has been.
const VERSION: &str = "v1";

/// Why a record of the CRI plug-in cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CriError {
    /// Not the JSON that is expected.
    #[error("it is not well-formed")]
    Malformed(#[source] serde_json::Error),
    /// A version that is not known.
    #[error("its version \"{0}\" is not known")]
    Version(String),
    /// The record was made for another container.
    #[error("it is about another container")]
    OtherContainer,
}

/// What the record says the container is.
#[derive(Debug)]
pub(crate) enum Cri {
    /// Made by another client than the CRI plug-in.
    Not,
    /// A pod's container.
    Container(ContainerMetadata),
    /// A pod's sandbox.
    Sandbox(Pod),
}

/// A pod, as its sandbox's record describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) labels: BTreeMap<String, String>,
}

/// A pod's container.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ContainerMetadata {
    /// Its name in the pod.
    pub(crate) name: String,
    pub(crate) sandbox_id: String,
    /// The configuration's digest, resolved when the container was created.
    pub(crate) config: Option<Digest>,
    /// The manifest's or index's digest, likewise; only in versions after 2.3.
    pub(crate) target: Option<Digest>,
    /// The name that the pod's specification has, if it is one.
    pub(crate) asked: Option<ImageRef>,
    /// The pod as far as the container's own record names it: without labels.
    pub(crate) pod: Option<Pod>,
}

/// What the CRI plug-in says in this record.
pub(crate) fn read(record: &api::Container) -> Result<Cri, CriError> {
    // A record with both is none of the plug-in's. As a container it is judged more strictly.
    if let Some(extension) = record.extensions.get(CONTAINER) {
        let metadata: RawContainer = parse(&extension.value)?;
        if metadata.id != record.id {
            return Err(CriError::OtherContainer);
        }
        return Ok(Cri::Container(metadata.into()));
    }
    match record.extensions.get(SANDBOX) {
        Some(extension) => sandbox(&extension.value, &record.id).map(Cri::Sandbox),
        None => Ok(Cri::Not),
    }
}

/// The pod in the record of its sandbox container, if it is one.
pub(crate) fn pod_of_record(record: &api::Container, id: &str) -> Result<Option<Pod>, CriError> {
    let extension = record.extensions.get(SANDBOX);
    extension.map(|any| sandbox(&any.value, id)).transpose()
}

/// The pod in the sandbox store's record.
pub(crate) fn pod_of_store(record: &api::Sandbox, id: &str) -> Result<Option<Pod>, CriError> {
    let extension = record.extensions.get(SANDBOX_IN_STORE);
    extension.map(|any| sandbox(&any.value, id)).transpose()
}

fn sandbox(json: &[u8], id: &str) -> Result<Pod, CriError> {
    let metadata: RawSandbox = parse(json)?;
    if metadata.id != id {
        return Err(CriError::OtherContainer);
    }
    let config = metadata.config.unwrap_or_default();
    let named = config.metadata.unwrap_or_default();
    Ok(Pod {
        namespace: named.namespace,
        name: named.name,
        uid: named.uid,
        labels: config.labels.unwrap_or_default(),
    })
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, CriError> {
    let versioned: Versioned<T> = serde_json::from_slice(json).map_err(CriError::Malformed)?;
    if versioned.version != VERSION {
        let shown = versioned.version.escape_debug().take(40).collect();
        return Err(CriError::Version(shown));
    }
    Ok(versioned.metadata)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Versioned<T> {
    version: String,
    metadata: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawContainer {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(rename = "SandboxID")]
    sandbox_id: String,
    #[serde(default)]
    image_ref: String,
    #[serde(default)]
    image_digest: String,
    config: Option<RawContainerConfig>,
}

#[derive(Deserialize, Default)]
struct RawContainerConfig {
    metadata: Option<RawMetadata>,
    image: Option<RawImage>,
}

#[derive(Deserialize, Default)]
struct RawImage {
    #[serde(default)]
    image: String,
    /// Since CRI v1 of Kubernetes 1.29.
    #[serde(default)]
    user_specified_image: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawSandbox {
    #[serde(rename = "ID")]
    id: String,
    config: Option<RawSandboxConfig>,
}

#[derive(Deserialize, Default)]
struct RawSandboxConfig {
    metadata: Option<RawMetadata>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize, Default)]
struct RawMetadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    uid: String,
}

impl From<RawContainer> for ContainerMetadata {
    fn from(raw: RawContainer) -> Self {
        let config = raw.config.unwrap_or_default();
        let image = config.image.unwrap_or_default();
        let asked =
            [image.user_specified_image, image.image].iter().find_map(|name| names::asked(name));
        Self {
            pod: pod_in_name(&raw.name),
            name: config.metadata.unwrap_or_default().name,
            sandbox_id: raw.sandbox_id,
            config: raw.image_ref.parse().ok(),
            target: raw.image_digest.parse().ok(),
            asked,
        }
    }
}

/// The plug-in names a container `<container>_<pod>_<namespace>_<uid>_<attempt>`; Kubernetes' own
/// names have no underscore, so five parts can only be these.
fn pod_in_name(name: &str) -> Option<Pod> {
    let parts: Vec<&str> = name.split('_').collect();
    match parts.as_slice() {
        [_, pod, namespace, uid, _] => Some(Pod {
            namespace: (*namespace).to_owned(),
            name: (*pod).to_owned(),
            uid: (*uid).to_owned(),
            labels: BTreeMap::new(),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shortened from what containerd 1.6 and 2.1 store.
    fn container_json(more: &str) -> String {
        format!(
            r#"{{"Version":"v1","Metadata":{{"ID":"c1","Name":"web_shop_prod_8f-1_0","SandboxID":"s1",
            "Config":{{"metadata":{{"name":"web"}},"image":{{"image":"sha256:{0}",
            "user_specified_image":"nginx:1.27"}},"labels":{{"io.kubernetes.pod.name":"shop"}}}},
            "ImageRef":"sha256:{0}"{more},"LogPath":"/l","StopSignal":"","ProcessLabel":""}}}}"#,
            "a".repeat(64)
        )
    }

    fn record(key: &str, json: &str) -> api::Container {
        let any = api::Any { type_url: "t".into(), value: json.into() };
        api::Container {
            id: "c1".into(),
            extensions: [(key.to_owned(), any)].into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_container_of_a_pod() {
        let Ok(Cri::Container(read)) = read(&record(CONTAINER, &container_json(""))) else {
            panic!("not a container");
        };
        assert_eq!(read.name, "web");
        assert_eq!(read.sandbox_id, "s1");
        assert_eq!(read.config.unwrap().hex(), "a".repeat(64));
        assert_eq!(read.target, None);
        assert_eq!(read.asked.unwrap().to_string(), "docker.io/library/nginx:1.27");
        let pod = read.pod.unwrap();
        assert_eq!((&*pod.name, &*pod.namespace, &*pod.uid), ("shop", "prod", "8f-1"));
    }

    #[test]
    fn newer_versions_record_the_manifest_too() {
        let more = format!(r#","ImageDigest":"sha256:{}""#, "b".repeat(64));
        let Ok(Cri::Container(read)) = read(&record(CONTAINER, &container_json(&more))) else {
            panic!("not a container");
        };
        assert_eq!(read.target.unwrap().hex(), "b".repeat(64));
    }

    #[test]
    fn a_sandbox_is_what_has_the_sandboxs_extension() {
        let json = r#"{"Version":"v1","Metadata":{"ID":"c1","Name":"n","Config":{"metadata":
            {"name":"shop","uid":"8f","namespace":"prod"},"labels":{"tier":"web"}},"IP":""}}"#;
        let Ok(Cri::Sandbox(pod)) = read(&record(SANDBOX, json)) else {
            panic!("not a sandbox");
        };
        assert_eq!((&*pod.namespace, &*pod.name, &*pod.uid), ("prod", "shop", "8f"));
        assert_eq!(pod.labels["tier"], "web");

        let mut both = record(SANDBOX, json);
        both.extensions.extend(record(CONTAINER, &container_json("")).extensions);
        assert!(matches!(read(&both), Ok(Cri::Container(_))));
        assert!(matches!(read(&api::Container::default()), Ok(Cri::Not)));
    }

    #[test]
    fn what_is_not_the_plug_ins_is_refused() {
        for (key, json) in [
            (CONTAINER, container_json("").replace("v1", "v2")),
            (CONTAINER, container_json("").replace("c1", "c2")),
            (CONTAINER, "{}".into()),
            (CONTAINER, String::new()),
            (SANDBOX, r#"{"Version":"v1","Metadata":{"ID":"c2"}}"#.into()),
            (SANDBOX, "[".repeat(100_000)),
        ] {
            assert!(read(&record(key, &json)).is_err(), "{json:.60}");
        }
        let bare = r#"{"Version":"v1","Metadata":{"ID":"c1","SandboxID":"","Config":null}}"#;
        assert!(read(&record(CONTAINER, bare)).is_ok());
    }

    #[test]
    fn a_pod_in_a_containers_name() {
        assert_eq!(pod_in_name("a_b_c"), None);
    }
}
