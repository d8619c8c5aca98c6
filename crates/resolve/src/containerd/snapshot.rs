//! Which image's layers lie below a container's snapshot.
//!
//! An unpacked image's snapshot is named by its chain ID, and a container's snapshot has it for a
//! parent. Between the two, some clients put one layer of their own; only those that are known and
//! can be told from an image's are stepped over, since the parent of an image's snapshot is named
//! by a chain ID as well: that of the image without its topmost layer.

use portcullis_types::Digest;
use serde::Deserialize;

use super::api::SnapshotInfo;
use super::client::Client;
use crate::grpc::GrpcError;

const UID_MAPPING: &str = "containerd.io/snapshot/uidmapping";
const GID_MAPPING: &str = "containerd.io/snapshot/gidmapping";

/// More layers of its own no client is known to put under a container.
const MAX_STEPS: usize = 2;

/// Why the layers below a snapshot are not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChainError {
    /// The snapshot starts from nothing.
    #[error("the container's snapshot has no layers below it")]
    NoParent,
    /// A layer that no image brought and that no known client makes.
    #[error("the layer \"{0}\" below the container is not an image's")]
    ForeignLayer(String),
    /// A layer could not be looked up.
    #[error("the layer \"{0}\" below the container could not be looked up")]
    Stat(String, #[source] GrpcError),
}

/// One range of a user namespace's mapping; the names are those of the OCI runtime specification.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct IdMapping {
    #[serde(rename = "containerID")]
    container: u32,
    #[serde(rename = "hostID")]
    host: u32,
    size: u32,
}

/// The mappings of user and group ids of one user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct IdMappings {
    pub(crate) users: Vec<IdMapping>,
    pub(crate) groups: Vec<IdMapping>,
}

impl IdMappings {
    /// The mappings that a snapshot is labelled with.
    fn of_labels(info: &SnapshotInfo) -> Option<Self> {
        let read = |key| match info.labels.get(key).map(String::as_str) {
            None | Some("") => Some(Vec::new()),
            Some(text) => text.split(',').map(mapping).collect(),
        };
        Some(Self { users: read(UID_MAPPING)?, groups: read(GID_MAPPING)? })
    }

    fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }
}

/// `0:100000:65536`: in the container, on the host, how many.
fn mapping(text: &str) -> Option<IdMapping> {
    let mut numbers = text.splitn(3, ':').map(|n| n.parse().ok());
    Some(IdMapping { container: numbers.next()??, host: numbers.next()??, size: numbers.next()?? })
}

/// The chain ID of the image below the container's snapshot.
///
/// `spec` are the mappings of the container's specification: not every client labels its snapshot.
pub(crate) async fn chain_below(
    client: &Client,
    snapshotter: &str,
    snapshot: &SnapshotInfo,
    spec: IdMappings,
) -> Result<Digest, ChainError> {
    let mut mappings: Vec<IdMappings> = IdMappings::of_labels(snapshot).into_iter().collect();
    mappings.push(spec);
    mappings.retain(|mapping| !mapping.is_empty());

    let mut name = snapshot.parent.clone();
    for _ in 0..=MAX_STEPS {
        if name.is_empty() {
            return Err(ChainError::NoParent);
        }
        let digest: Option<Digest> = name.parse().ok();
        // Without a user namespace, a digest can only be the image's.
        if mappings.is_empty()
            && let Some(digest) = digest
        {
            return Ok(digest);
        }
        let below = client
            .snapshot(snapshotter, &name)
            .await
            .map_err(|e| ChainError::Stat(name.escape_debug().to_string(), e))?
            .parent;
        let known = match &digest {
            Some(_) => mappings.iter().any(|m| remapped(&below, m) == name),
            None => is_docker_init(&name, &snapshot.name) || is_shifted(&name, &below),
        };
        match digest {
            Some(digest) if !known => return Ok(digest),
            None if !known => {
                return Err(ChainError::ForeignLayer(name.escape_debug().to_string()));
            }
            _ => name = below,
        }
    }
    Err(ChainError::ForeignLayer(name.escape_debug().to_string()))
}

/// containerd 1.6 and 1.7 name a copy with shifted owners `<parent>-<uid>-<gid>`.
fn is_shifted(name: &str, parent: &str) -> bool {
    let numbers = name
        .strip_prefix(parent)
        .and_then(|rest| rest.strip_prefix('-'))
        .and_then(|rest| rest.split_once('-'));
    numbers.is_some_and(|(uid, gid)| uid.parse::<u32>().is_ok() && gid.parse::<u32>().is_ok())
}

/// Docker puts a layer with its mount points under each container: `<container's snapshot>-init`.
fn is_docker_init(name: &str, snapshot: &str) -> bool {
    !snapshot.is_empty() && name.strip_suffix("-init") == Some(snapshot)
}

/// containerd 2.0 and later name a copy with shifted owners by the digest of this JSON, which
/// looks just like a chain ID.
fn remapped(parent: &str, mappings: &IdMappings) -> String {
    let list = |mappings: &[IdMapping]| {
        if mappings.is_empty() {
            return "null".to_owned();
        }
        let mut sorted = mappings.to_vec();
        sorted.sort_by_key(|mapping| mapping.container);
        let ranges: Vec<String> = sorted
            .iter()
            .map(|m| {
                format!(
                    r#"{{"containerID":{},"hostID":{},"size":{}}}"#,
                    m.container, m.host, m.size
                )
            })
            .collect();
        format!("[{}]", ranges.join(","))
    };
    let json = format!(
        r#"{{"Parent":"{parent}","IDMap":{{"UidMap":{},"GidMap":{}}}}}"#,
        list(&mappings.users),
        list(&mappings.groups)
    );
    Digest::of(json.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(users: &str, groups: &str) -> SnapshotInfo {
        let labels = [(UID_MAPPING, users), (GID_MAPPING, groups)];
        SnapshotInfo {
            labels: labels.map(|(k, v)| (k.into(), v.into())).into(),
            ..Default::default()
        }
    }

    #[test]
    fn mappings_are_read_from_labels() {
        let read = IdMappings::of_labels(&labelled("0:1000:1,1:2000:65535", "")).unwrap();
        assert_eq!(read.users.len(), 2);
        assert_eq!((read.users[1].container, read.users[1].host), (1, 2000));
        assert!(read.groups.is_empty());
        for wrong in ["0", "0:1", "0:1:x", "0:1:2:3", "-1:0:1", "0:4294967296:1"] {
            assert_eq!(IdMappings::of_labels(&labelled(wrong, "")), None, "{wrong}");
        }
        assert!(IdMappings::of_labels(&SnapshotInfo::default()).unwrap().is_empty());
    }

    /// The wanted value is `printf '%s' '{"Parent":…}' | sha256sum` over what Go writes for
    /// containerd's `remappedSnapshot`.
    #[test]
    fn the_name_of_a_remapped_layer() {
        let mappings = IdMappings::of_labels(&labelled("0:1000:65536", "0:2000:65536")).unwrap();
        assert_eq!(
            remapped("sha256:abc", &mappings),
            "sha256:60caadb0503b5615640edbf9d2277e0918bfef357fe4ac3cd7f8203fa9786d92"
        );
    }

    #[test]
    fn layers_of_known_clients() {
        assert!(is_shifted("sha256:ab-1000-2000", "sha256:ab"));
        assert!(!is_shifted("sha256:ab-1000-2000", "sha256:cd"));
        assert!(!is_shifted("sha256:ab-1000", "sha256:ab"));
        assert!(!is_shifted("sha256:ab", "sha256:ab"));
        assert!(is_docker_init("c1-init", "c1"));
        assert!(!is_docker_init("c2-init", "c1"));
        assert!(!is_docker_init("-init", ""));
    }
}
