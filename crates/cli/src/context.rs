//! From arguments to an installation: its settings, its paths, and how to print.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use portcullis_audit::EventFile;
use portcullis_settings::{Paths, Settings, SettingsError};
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
        let root = std::path::absolute(&global.root)
            .with_context(|| format!("the root {} is no path", global.root.display()))?;
        let paths = Paths::below(&root);
        let settings = match Settings::read(&paths.settings()) {
            // The file's own `root` is for doors; who names a root means it.
            Ok(settings) => settings.below(root),
            Err(SettingsError::Missing { .. }) => Settings::default().below(root),
            Err(error) => return Err(error).context("the node's settings are wrong"),
        };
        Ok(Self { settings, paths, print: Printer::new(global.output) })
    }

    pub(crate) fn store(&self) -> FileStore {
        FileStore::open(self.paths.verdicts())
    }

    pub(crate) fn events(&self) -> EventFile {
        EventFile::new(self.paths.events(), self.settings.max_event_bytes)
    }

    pub(crate) fn policy_folder(&self) -> PathBuf {
        self.paths.policies()
    }
}
