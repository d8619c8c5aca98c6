//! From arguments to an installation: its settings, its paths, and how to print.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use portcullis_audit::Ledger;
use portcullis_settings::{Paths, SETTINGS_FILE, Settings, SettingsError};
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
        let read = |file: &Path| match Settings::read(file) {
            Err(SettingsError::Missing { .. }) => Ok(Settings::default()),
            other => other.context("the settings are wrong"),
        };
        let settings = match &global.root {
            // As a door reads them, with the root that they themselves name.
            None => read(Path::new(SETTINGS_FILE))?,
            Some(root) => {
                let root = std::path::absolute(root)
                    .with_context(|| format!("the root {} is no path", root.display()))?;
                read(&Paths::below(&root).settings())?.below(root)
            }
        };
        let paths = settings.paths();
        Ok(Self { settings, paths, print: Printer::new(global) })
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
