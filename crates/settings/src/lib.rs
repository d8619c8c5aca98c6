//! The settings file of a node, checked, and the paths that follow from it.
//!
//! A door finds its settings from what cannot be forged by a start: a file beside its own binary,
//! named after it, or the fixed `/etc/portcullis/portcullis.toml`; never the environment, never an
//! annotation. The file beside the binary is how a second installation, or a test, lives on one
//! host. See `config/portcullis.toml` for every key.

#![forbid(unsafe_code)]

mod paths;
mod read;
mod replace;
pub mod socket;
pub mod trusted;
mod wrapper;

pub use paths::Paths;
pub use read::{
    AgentSettings, Allows, Fault, RegistrySettings, RuntimeSettings, Settings, SettingsError,
    SystemdCgroup, UpdateSettings,
};
pub use replace::{keep, recall, remove, replace};
pub use wrapper::{RuntimeError, WRAPPER, WrapperSettings};

use std::path::{Path, PathBuf};

/// Where settings stand on every node.
pub const SETTINGS_FILE: &str = "/etc/portcullis/portcullis.toml";

/// The longest that a door waits before it answers by the failure matrix.
pub const MAX_DEADLINE: std::time::Duration = std::time::Duration::from_millis(1500);

/// Where a door's settings stand; found once, since a binary that is replaced while it runs has
/// lost its name.
#[derive(Debug, Clone)]
pub struct Door {
    /// The settings file.
    file: PathBuf,
    /// The file that runs.
    program: PathBuf,
    /// Its name.
    name: String,
}

/// Settings of a door, and what was wrong with them.
#[derive(Debug)]
pub struct DoorSettings {
    /// The settings in force: those of the file, or the shipped ones if it cannot be used.
    pub settings: Settings,
    /// Why the file was not used. A missing file is no problem.
    pub problem: Option<SettingsError>,
}

impl Door {
    /// The door that runs now.
    pub fn of_this_binary() -> Self {
        let exe = std::env::current_exe().ok();
        // A file that was replaced since it was started has this behind its name (proc(5)).
        let bare = exe.as_deref().and_then(Path::to_str).and_then(|p| p.strip_suffix(" (deleted)"));
        Self::of_binary(bare.map(Path::new).or(exe.as_deref()))
    }

    fn of_binary(exe: Option<&Path>) -> Self {
        let file = exe.map(beside).filter(|p| p.exists());
        let program = exe.map(Path::to_owned).unwrap_or_default();
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { file: file.unwrap_or_else(|| PathBuf::from(SETTINGS_FILE)), program, name }
    }

    /// The name of the file that runs: links to it do not count, and what its caller names it does
    /// not either.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads the settings as they are now; total, since a door must go on answering.
    pub fn settings(&self) -> DoorSettings {
        DoorSettings::at(&self.file)
    }
}

impl DoorSettings {
    /// What is in force by a file, which need not be there.
    pub fn at(file: &Path) -> Self {
        match Settings::read(file) {
            Ok(settings) => Self { settings, problem: None },
            Err(SettingsError::Missing { .. }) => {
                Self { settings: Settings::default(), problem: None }
            }
            Err(problem) => Self { settings: Settings::default(), problem: Some(problem) },
        }
    }
}

/// `<binary>.toml`, the settings of a binary that is not the host's only one.
fn beside(exe: &Path) -> PathBuf {
    let mut name = exe.as_os_str().to_owned();
    name.push(".toml");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_beside_the_binary_wins_and_a_missing_one_is_no_problem() {
        let folder = tempfile::tempdir().unwrap();
        let exe = folder.path().join("containerd-shim-portcullis-v2");
        let none = Door::of_binary(Some(&exe)).settings();
        assert!(none.problem.is_none());
        std::fs::write(beside(&exe), "root = \"/elsewhere\"\n").unwrap();
        let found = Door::of_binary(Some(&exe)).settings();
        assert!(found.problem.is_none(), "{:?}", found.problem);
        assert_eq!(
            found.settings.paths().verdicts(),
            Path::new("/elsewhere/var/lib/portcullis/verdicts")
        );
    }

    #[test]
    fn a_broken_file_leaves_the_shipped_settings_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let exe = folder.path().join("shim");
        std::fs::write(beside(&exe), "defaultAction = \"shrug\"\n").unwrap();
        let broken = Door::of_binary(Some(&exe)).settings();
        assert_eq!(broken.settings, Settings::default());
        assert!(broken.problem.unwrap().to_string().contains("defaultAction"));
    }
}
