//! What a container's runtime specification says about its root filesystem.

use crate::documents::{DocumentError, members, parse};

use super::api::Container;
use super::snapshot::IdMappings;

/// The parts of a record's specification that matter here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    /// `root.path`.
    pub(crate) root: String,
    /// Mappings of the user namespace, empty without one.
    pub(crate) mappings: IdMappings,
}

impl Spec {
    /// Reads the specification that containerd will write into the bundle.
    pub(crate) fn of(record: &Container) -> Result<Self, DocumentError> {
        let spec = record.spec.as_ref().ok_or(DocumentError::Missing("spec"))?;
        let [root, linux] = members(&spec.value, ["root", "linux"])?;
        let root = root.ok_or(DocumentError::Missing("root"))?;
        let [path] = members(root.get().as_bytes(), ["path"])?;
        let mut mappings = IdMappings::default();
        if let Some(linux) = linux.filter(|json| json.get() != "null") {
            let [users, groups] = members(linux.get().as_bytes(), ["uidMappings", "gidMappings"])?;
            let list = |json: Option<_>| json.map(parse::<Option<_>>).transpose();
            mappings.users = list(users)?.flatten().unwrap_or_default();
            mappings.groups = list(groups)?.flatten().unwrap_or_default();
        }
        Ok(Self { root: parse(path.ok_or(DocumentError::Missing("path"))?)?, mappings })
    }

    /// Whether the runtime will use the folder on which the snapshot is mounted: `rootfs` in the
    /// bundle, which containerd names after the container.
    ///
    /// `ctr run --rootfs` and Docker name a folder of their own.
    pub(crate) fn uses_bundle(&self, container_id: &str) -> bool {
        let in_bundle = |path: &str| {
            path.strip_suffix("/rootfs")
                .and_then(|bundle| bundle.strip_suffix(container_id))
                .is_some_and(|parent| parent.starts_with('/') && parent.ends_with('/'))
        };
        self.root == "rootfs"
            || (in_bundle(&self.root) && !self.root.split('/').any(|part| part == ".."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containerd::api::Any;

    fn spec(json: &str) -> Result<Spec, DocumentError> {
        Spec::of(&Container {
            spec: Some(Any { type_url: String::new(), value: json.into() }),
            ..Default::default()
        })
    }

    #[test]
    fn the_root_is_the_bundles() {
        for (path, wanted) in [
            ("rootfs", true),
            ("/run/containerd/io.containerd.runtime.v2.task/default/c1/rootfs", true),
            ("/run/x/../c1/rootfs", false),
            ("/run/c2/rootfs", false),
            ("/run/xc1/rootfs", false),
            ("/srv/root", false),
            ("c1/rootfs", false),
            ("/", false),
            ("", false),
        ] {
            let spec = spec(&format!(r#"{{"root":{{"path":"{path}"}},"linux":null}}"#)).unwrap();
            assert_eq!(spec.uses_bundle("c1"), wanted, "{path}");
        }
    }

    #[test]
    fn mappings_are_read() {
        let json = r#"{"root":{"path":"rootfs"},"linux":{"uidMappings":
            [{"containerID":0,"hostID":1000,"size":65536}],"gidMappings":null}}"#;
        let mappings = spec(json).unwrap().mappings;
        assert_eq!((mappings.users.len(), mappings.groups.len()), (1, 0));
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for wrong in ["", "{}", r#"{"root":{}}"#, r#"{"root":{"path":1}}"#] {
            assert!(spec(wrong).is_err(), "{wrong}");
        }
        assert!(spec(r#"{"root":{"path":"rootfs"},"Root":{"path":"/x"}}"#).is_err());
        assert!(Spec::of(&Container::default()).is_err());
    }
}
