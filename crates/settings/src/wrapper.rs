//! What a wrapper around an OCI runtime stands before: by the name under which it is installed.
//!
//! One file may be installed under several names, one for each engine that calls it. Its name and
//! the node's settings say who calls and what runs behind; no variable of the environment does.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use portcullis_types::Engine;
use serde::Deserialize;

use crate::{Door, trusted};

/// The name of the wrapper, under which containerd calls it.
pub const WRAPPER: &str = "portcullis-runc";

/// Where runtimes stand, in the order in which they are looked for if the settings name none.
const RUNTIMES: [&str; 5] = [
    "/usr/bin/runc",
    "/usr/sbin/runc",
    "/usr/local/bin/runc",
    "/usr/local/sbin/runc",
    "/usr/bin/crun",
];

/// The socket of a node's containerd.
const CONTAINERD: &str = "/run/containerd/containerd.sock";
/// Where Docker keeps its data.
const DOCKER: &str = "/var/lib/docker";

/// Most bytes of a settings file that are looked through for a runtime.
const MAX_BYTES: u64 = 256 * 1024;

/// One wrapper of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrapperSettings {
    /// Who calls it.
    pub engine: Engine,
    /// The runtime that it becomes, if the settings name one.
    pub runtime: Option<PathBuf>,
    /// containerd's socket; for the engines containerd and Docker.
    pub socket: PathBuf,
    /// Graph roots of containers/storage, for CRI-O and Podman; empty: those of the node's own
    /// `storage.conf`.
    pub storage: Vec<PathBuf>,
    /// Docker's data folder.
    pub data: PathBuf,
}

/// Why there is no runtime to become.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// None is installed where runtimes are looked for.
    #[error(
        "no OCI runtime is found at {}: install runc, or name it in {}: [wrapper.{name}] runtime",
        RUNTIMES.join(", "),
        file.display()
    )]
    None {
        /// The wrapper's name.
        name: String,
        /// The settings file.
        file: PathBuf,
    },
    /// The one that the settings name is not there.
    #[error(
        "the OCI runtime {} cannot be used: see [wrapper.{name}] runtime in {}",
        runtime.display(),
        file.display()
    )]
    Unusable {
        /// The runtime.
        runtime: PathBuf,
        /// The wrapper's name.
        name: String,
        /// The settings file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is this program itself: it would become itself for ever.
    #[error(
        "the OCI runtime {} is Portcullis itself: name the real one in {}: [wrapper.{name}] runtime",
        runtime.display(),
        file.display()
    )]
    Itself {
        /// The runtime.
        runtime: PathBuf,
        /// The wrapper's name.
        name: String,
        /// The settings file.
        file: PathBuf,
    },
}

/// Who calls a wrapper of this name, if the settings do not say.
pub(crate) fn engine_by_name(name: &str) -> Engine {
    match name.strip_prefix(WRAPPER) {
        Some("-crio") => Engine::CriO,
        Some("-podman") => Engine::Podman,
        Some("-docker") => Engine::Docker,
        _ => Engine::Containerd,
    }
}

impl WrapperSettings {
    /// What is in force for a wrapper of this name that the settings say nothing about.
    pub fn by_name(name: &str) -> Self {
        Self {
            engine: engine_by_name(name),
            runtime: None,
            socket: CONTAINERD.into(),
            storage: Vec::new(),
            data: DOCKER.into(),
        }
    }
}

/// The tables of all wrappers, and of each only what [`Door::runtime`] needs: whatever is wrong
/// elsewhere in the file must not take a container's runtime away.
#[derive(Deserialize)]
struct Runtimes {
    #[serde(default)]
    wrapper: BTreeMap<String, RuntimeOf>,
}

#[derive(Deserialize)]
struct RuntimeOf {
    runtime: Option<PathBuf>,
}

/// The absolute path of the runtime that the text of a settings file names for a wrapper.
fn named(text: &str, name: &str) -> Option<PathBuf> {
    let found = match toml::from_str::<Runtimes>(text) {
        Ok(mut all) => all.wrapper.remove(name).and_then(|of| of.runtime),
        Err(_) => line_of(text, name),
    };
    found.filter(|path| path.is_absolute())
}

/// The same from a text that is no TOML, line by line.
fn line_of(text: &str, name: &str) -> Option<PathBuf> {
    let headers = [format!("[wrapper.{name}]"), format!("[wrapper.\"{name}\"]")];
    let lines = text.lines().map(str::trim);
    let table = lines.skip_while(|line| !headers.iter().any(|header| header == line)).skip(1);
    let mut found = table
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| toml::from_str::<RuntimeOf>(line).ok()?.runtime);
    found.next()
}

impl Door {
    /// The runtime that a wrapper of this door becomes: an absolute path of a file that is there
    /// and is not this program.
    ///
    /// It is found even in a settings file that is broken elsewhere: the containers that run must
    /// go on being asked about, killed and deleted. A file that others may write names nothing.
    ///
    /// # Errors
    /// [`RuntimeError`] names the settings file and the key.
    pub fn runtime(&self) -> Result<PathBuf, RuntimeError> {
        let text = trusted::read(&self.file, MAX_BYTES).unwrap_or_default();
        let named = named(&String::from_utf8_lossy(&text), &self.name);
        let (name, file) = (self.name.clone(), self.file.clone());
        let Some(runtime) = named else {
            let there = RUNTIMES.iter().map(Path::new).find(|path| self.is_other(path));
            return there.map(Path::to_owned).ok_or(RuntimeError::None { name, file });
        };
        match rustix::fs::stat(&runtime) {
            Err(error) => Err(RuntimeError::Unusable { runtime, name, file, source: error.into() }),
            Ok(_) if !self.is_other(&runtime) => Err(RuntimeError::Itself { runtime, name, file }),
            Ok(_) => Ok(runtime),
        }
    }

    /// Whether there is a file at this path, and another one than this program.
    fn is_other(&self, path: &Path) -> bool {
        let identity = |path: &Path| rustix::fs::stat(path).ok().map(|s| (s.st_dev, s.st_ino));
        let there = identity(path);
        there.is_some() && there != identity(&self.program)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_engine() {
        for (name, engine) in [
            ("portcullis-runc", Engine::Containerd),
            ("portcullis-runc-crio", Engine::CriO),
            ("portcullis-runc-podman", Engine::Podman),
            ("portcullis-runc-docker", Engine::Docker),
            ("runc", Engine::Containerd),
        ] {
            assert_eq!(WrapperSettings::by_name(name).engine, engine, "{name}");
        }
    }

    #[test]
    fn a_runtime_is_found_whatever_else_is_wrong() {
        let name = "portcullis-runc";
        for (text, wanted) in [
            ("[wrapper.portcullis-runc]\nruntime = \"/usr/bin/crun\"\n", Some("/usr/bin/crun")),
            ("wrapper.portcullis-runc.runtime = '/a'", Some("/a")),
            ("nonsense = 1\n[wrapper.portcullis-runc]\nengine = 3\nruntime = \"/a\"", Some("/a")),
            // No TOML: a line that is not finished, before and after.
            ("node = \"a\n[wrapper.portcullis-runc]\nruntime = \"/a\" # why", Some("/a")),
            ("[wrapper.\"portcullis-runc\"]\n runtime = '/a'\n[gate\n", Some("/a")),
            ("node = \"a\n[wrapper.portcullis-runc]\n[gate]\nruntime = \"/a\"", None),
            ("node = \"a\n[wrapper.other]\nruntime = \"/a\"", None),
            ("[wrapper.other]\nruntime = \"/a\"", None),
            ("[wrapper.portcullis-runc]\nruntime = \"runc\"", None),
            ("", None),
        ] {
            assert_eq!(named(text, name).as_deref(), wanted.map(Path::new), "{text}");
        }
    }

    #[test]
    fn a_runtime_that_is_this_program_or_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("portcullis-runc");
        std::fs::write(&program, "").unwrap();
        let link = folder.path().join("runc");
        std::os::unix::fs::symlink(&program, &link).unwrap();
        let door = Door::of_binary(Some(&program));
        let settings = |text: String| {
            std::fs::write(folder.path().join("portcullis-runc.toml"), text).unwrap();
            Door::of_binary(Some(&program)).runtime()
        };
        let names =
            |path: &Path| format!("[wrapper.portcullis-runc]\nruntime = '{}'", path.display());
        assert!(matches!(settings(names(&link)), Err(RuntimeError::Itself { .. })));
        let none = settings(names(&folder.path().join("none"))).unwrap_err();
        assert!(matches!(none, RuntimeError::Unusable { .. }));
        assert!(none.to_string().contains("portcullis-runc.toml"), "{none}");
        let other = folder.path().join("crun");
        std::fs::write(&other, "").unwrap();
        assert_eq!(settings(names(&other)).unwrap(), other);
        // The door was made before the file beside it was there.
        assert_eq!(door.name(), "portcullis-runc");
    }
}
