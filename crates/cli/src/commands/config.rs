//! `portcullis config check`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use portcullis_settings::{Paths, Settings, SettingsError};
use schemars::JsonSchema;
use serde::Serialize;

use crate::args::{Config, Global};
use crate::exit::Exit;
use crate::render::{Printer, wrapped};

#[derive(Serialize, JsonSchema)]
pub(in crate::commands) struct Checked {
    file: PathBuf,
    present: bool,
    faults: Vec<String>,
}

const NONE: &str = "does not exist: the shipped settings are in force";

pub(super) fn run(global: &Global, command: &Config) -> Result<Exit> {
    let Config::Check { file } = command;
    let file = file.clone().unwrap_or_else(|| {
        Paths::below(global.root.as_deref().unwrap_or(Path::new("/"))).settings()
    });
    let (present, faults) = match Settings::read(&file) {
        Ok(_) => (true, Vec::new()),
        Err(SettingsError::Missing { .. }) => (false, Vec::new()),
        Err(SettingsError::Faults { faults, .. }) => {
            (true, faults.iter().map(ToString::to_string).collect())
        }
        Err(error) => return Err(error.into()),
    };
    let checked = Checked { file, present, faults };
    Printer::new(global).print(&checked, |out| {
        let file = checked.file.display();
        match (checked.present, checked.faults.as_slice()) {
            (false, _) => writeln!(out, "{}", wrapped(&format!("{file} {NONE}"), 2)),
            (true, []) => writeln!(out, "{file} is well"),
            (true, faults) => faults
                .iter()
                .try_for_each(|f| writeln!(out, "{}", wrapped(&format!("{file}: {f}"), 2))),
        }
    })?;
    Ok(if checked.faults.is_empty() { Exit::Done } else { Exit::Failed })
}
