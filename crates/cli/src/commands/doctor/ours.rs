//! Which programs of a node are the gate's, and which wrapper serves which engine.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::files::{Found, Host};

/// The shim's file name, which is also how containerd finds `io.containerd.portcullis.v2`.
pub(super) const SHIM: &str = "containerd-shim-portcullis-v2";
/// Where the shim is installed.
pub(super) const SHIM_PATH: &str = "/usr/local/bin/containerd-shim-portcullis-v2";
/// The wrapper's file name; others are made of it.
pub(super) const WRAPPER: &str = "portcullis-runc";
/// PATH of a service of systemd, in which engines find their runtimes.
pub(super) const PATH: &[&str] =
    &["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// Where a wrapper without settings looks for its runtime, in this order.
pub(super) const RUNTIMES: &[&str] = &[
    "/usr/bin/runc",
    "/usr/sbin/runc",
    "/usr/local/bin/runc",
    "/usr/local/sbin/runc",
    "/usr/bin/crun",
];

/// The settings of one wrapper: the table `[wrapper.NAME]`, NAME being its file name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Wrapper {
    pub(super) engine: Option<String>,
    pub(super) runtime: Option<String>,
    pub(super) socket: Option<String>,
    pub(super) storage: Vec<String>,
    pub(super) data: Option<String>,
}

/// The wrappers that a settings file has tables for. Tables that are not well-formed are left out:
/// the settings themselves are checked elsewhere.
pub(super) fn wrappers(settings: &str) -> BTreeMap<String, Wrapper> {
    let Ok(settings) = toml::from_str::<toml::Table>(settings) else { return BTreeMap::new() };
    let tables = settings.get("wrapper").and_then(toml::Value::as_table);
    tables
        .into_iter()
        .flatten()
        .filter_map(|(name, table)| Some((name.clone(), table.clone().try_into().ok()?)))
        .collect()
}

/// What a program is to the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Program {
    /// Our shim.
    Shim,
    /// Our wrapper, by this name.
    Wrapper(String),
    /// Something else, by its real path.
    Other(String),
    /// Nothing that can be run is there.
    Missing,
}

impl Program {
    pub(super) fn is_ours(&self) -> bool {
        matches!(self, Self::Shim | Self::Wrapper(_))
    }
}

/// The gate's programs on a node.
#[derive(Debug)]
pub(super) struct Ours<'a> {
    pub(super) host: &'a Host,
    pub(super) wrappers: BTreeMap<String, Wrapper>,
}

impl Ours<'_> {
    /// What the program at a path is.
    pub(super) fn program(&self, path: &str) -> Program {
        let Some(found) = self.host.find(path).filter(Found::is_program) else {
            return Program::Missing;
        };
        let name = base(&found.real);
        if name == SHIM {
            return Program::Shim;
        }
        if is_wrapper_name(name) || self.wrappers.contains_key(name) {
            return Program::Wrapper(name.to_owned());
        }
        // In place of another program, as a copy.
        if self.host.same_bytes(&found.real, SHIM_PATH) {
            return Program::Shim;
        }
        match self.host.same_bytes(&found.real, &format!("/usr/local/bin/{WRAPPER}")) {
            true => Program::Wrapper(name.to_owned()),
            false => Program::Other(found.real),
        }
    }

    /// The program of this name in an engine's PATH, with its path.
    pub(super) fn in_path(&self, name: &str) -> Option<(String, Program)> {
        let path = self.host.program(name, PATH)?;
        let program = self.program(&path);
        Some((path, program))
    }

    /// The engine that a wrapper serves: by its table, else by its name.
    pub(super) fn engine_of(&self, wrapper: &str) -> Option<String> {
        let of_table = self.wrappers.get(wrapper).and_then(|table| table.engine.clone());
        of_table.or_else(|| {
            let engine = match wrapper {
                "portcullis-runc" => "containerd",
                "portcullis-runc-crio" => "cri-o",
                "portcullis-runc-podman" => "podman",
                "portcullis-runc-docker" => "docker",
                _ => return None,
            };
            Some(engine.to_owned())
        })
    }

    /// The runtime that a wrapper becomes.
    pub(super) fn runtime_of(&self, wrapper: &str) -> Option<String> {
        let of_table = self.wrappers.get(wrapper).and_then(|table| table.runtime.clone());
        of_table.or_else(|| {
            let found = |path: &&&str| self.host.find(path).is_some_and(|f| f.is_program());
            RUNTIMES.iter().find(found).map(ToString::to_string)
        })
    }
}

fn is_wrapper_name(name: &str) -> bool {
    name.strip_prefix(WRAPPER).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The last part of a path.
pub(super) fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::super::files::testing::Node;
    use super::*;

    #[test]
    fn the_gates_programs_are_known_by_name_link_and_bytes() {
        let node = Node::of(&[
            ("/usr/local/bin/containerd-shim-portcullis-v2", "shim"),
            ("/usr/local/bin/portcullis-runc", "wrapper"),
            ("/opt/p/bin/runc", "-> /usr/local/bin/portcullis-runc"),
            ("/usr/sbin/runc", "wrapper"),
            ("/usr/bin/runc", "another"),
            ("/usr/bin/gate", "x"),
            ("/etc/portcullis-runc", "no program"),
        ]);
        let settings = "[wrapper.gate]\nengine = \"podman\"\nruntime = \"/usr/bin/crun\"\n";
        let ours = Ours { host: &node.host, wrappers: wrappers(settings) };
        let wrapper = |name: &str| Program::Wrapper(name.to_owned());
        for (path, wanted) in [
            (SHIM_PATH, Program::Shim),
            ("/usr/local/bin/portcullis-runc", wrapper("portcullis-runc")),
            ("/opt/p/bin/runc", wrapper("portcullis-runc")),
            ("/usr/sbin/runc", wrapper("runc")),
            ("/usr/bin/runc", Program::Other("/usr/bin/runc".into())),
            ("/usr/bin/gate", wrapper("gate")),
            ("/etc/portcullis-runc", Program::Missing),
            ("/usr/bin/none", Program::Missing),
        ] {
            assert_eq!(ours.program(path), wanted, "{path}");
        }
        for (name, engine, runtime) in [
            ("gate", Some("podman"), Some("/usr/bin/crun")),
            ("portcullis-runc-crio", Some("cri-o"), Some("/usr/bin/runc")),
            ("runc", None, Some("/usr/bin/runc")),
        ] {
            assert_eq!(ours.engine_of(name).as_deref(), engine, "{name}");
            assert_eq!(ours.runtime_of(name).as_deref(), runtime, "{name}");
        }
        assert!(wrappers("[wrapper.x]\nengine = 1\n[").is_empty());
    }
}
