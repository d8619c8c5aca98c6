//! The bundle's `config.json`: only what the door itself needs, with bounds.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// containerd's own specs are some 20 kB; a megabyte of annotations is somebody's attack.
const MAX_BYTES: u64 = 8 << 20;

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    #[error("cannot read {path}: the bundle has no usable config.json")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is larger than {MAX_BYTES} bytes")]
    TooLarge { path: PathBuf },
    #[error("{path} is not an OCI runtime specification")]
    Parse { path: PathBuf, source: serde_json::Error },
}

/// The part of an OCI runtime specification (`config.md`) that the door reads.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Spec {
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) linux: Linux,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Linux {
    pub(crate) cgroups_path: String,
    pub(crate) namespaces: Vec<Namespace>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Namespace {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) path: String,
}

impl Spec {
    /// Reads `config.json` of a bundle.
    ///
    /// # Errors
    /// [`BundleError`] names the file.
    pub(crate) fn read(bundle: &Path) -> Result<Self, BundleError> {
        let path = bundle.join("config.json");
        let read = |source| BundleError::Read { path: path.clone(), source };
        let mut bytes = Vec::new();
        let file = File::open(&path).map_err(read)?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(read)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(BundleError::TooLarge { path });
        }
        serde_json::from_slice(&bytes).map_err(|source| BundleError::Parse { path, source })
    }

    /// The shim that this container shares: that of its pod's sandbox.
    ///
    /// A pod's own annotations may reach `config.json`, so the key that clients of containerd set
    /// counts only where CRI set none of its own.
    pub(crate) fn group<'a>(&'a self, id: &'a str) -> &'a str {
        let cri = self.annotations.keys().any(|k| k.starts_with("io.kubernetes.cri."));
        let key = match cri {
            true => "io.kubernetes.cri.sandbox-id",
            false => "io.containerd.runc.v2.group",
        };
        self.annotations.get(key).map_or(id, String::as_str)
    }

    /// Whether the container's processes outlive its init unless they are killed: it has no pid
    /// namespace of its own.
    pub(crate) fn shares_pid_namespace(&self) -> bool {
        !self.linux.namespaces.iter().any(|n| n.kind == "pid" && n.path.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> Spec {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_pod_cannot_choose_its_group() {
        let plain = spec(r#"{"annotations":{"io.containerd.runc.v2.group":"g"}}"#);
        assert_eq!(plain.group("id"), "g");
        let pod = spec(
            r#"{"annotations":{"io.containerd.runc.v2.group":"g","io.kubernetes.cri.sandbox-id":"s"}}"#,
        );
        assert_eq!(pod.group("id"), "s");
        assert_eq!(spec("{}").group("id"), "id");
    }

    #[test]
    fn a_shared_pid_namespace_is_seen() {
        assert!(spec("{}").shares_pid_namespace());
        let own = r#"{"linux":{"namespaces":[{"type":"pid"}]}}"#;
        assert!(!spec(own).shares_pid_namespace());
        let joined = r#"{"linux":{"namespaces":[{"type":"pid","path":"/proc/1/ns/pid"}]}}"#;
        assert!(spec(joined).shares_pid_namespace());
    }

    #[test]
    fn errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = Spec::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("config.json"), "{error}");
        std::fs::write(folder.path().join("config.json"), "[".repeat(100_000)).unwrap();
        let error = Spec::read(folder.path()).unwrap_err();
        assert!(matches!(error, BundleError::Parse { .. }), "{error}");
    }
}
