//! From arguments to an installation: its settings, its paths, and how to print.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use portcullis_audit::Ledger;
use portcullis_settings::{DoorSettings, Paths, SETTINGS_FILE, Settings};
use portcullis_store::FileStore;

use crate::args::Global;
use crate::render::Printer;

/// What every command works with.
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) paths: Paths,
    pub(crate) print: Printer,
}

impl Context {
    pub(crate) fn new(global: &Global) -> Result<Self> {
        let (context, problem) = Self::or_shipped(global)?;
        problem.map_or(Ok(context), Err)
    }

    /// With the shipped settings where the file cannot be used, as a door goes on; and why.
    pub(crate) fn or_shipped(global: &Global) -> Result<(Self, Option<anyhow::Error>)> {
        let root = match &global.root {
            None => None,
            Some(root) => Some(
                std::path::absolute(root)
                    .with_context(|| format!("the root {} is no path", root.display()))?,
            ),
        };
        let file = match &root {
            None => Path::new(SETTINGS_FILE).to_owned(),
            Some(root) => Paths::below(root).settings(),
        };
        let DoorSettings { settings, problem } = DoorSettings::at(&file);
        let problem =
            problem.map(|error| anyhow::Error::from(error).context("the settings are wrong"));
        // As a door reads them, with the root that they themselves name.
        let settings = match root {
            None => settings,
            Some(root) => settings.below(root),
        };
        let paths = settings.paths();
        Ok((Self { settings, paths, print: Printer::new(global) }, problem))
    }

    pub(crate) fn store(&self) -> FileStore {
        FileStore::open(self.paths.verdicts())
    }

    pub(crate) fn events(&self) -> Ledger {
        Ledger::new(self.paths.events(), self.settings.max_event_bytes)
    }

    pub(crate) fn policy_folder(&self) -> PathBuf {
        self.paths.policies()
    }
}
