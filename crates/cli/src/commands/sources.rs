//! Reading policy files: the sources of what is in force.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use portcullis_policy::yaml::{self, SourceFile};
use portcullis_policy::{Fault, PolicySet};
use portcullis_settings::trusted;

/// Most files of a policy folder.
const MAX_FILES: usize = 10_000;

/// Policies as they stand in files: a set, or everything that is wrong.
pub(super) type Compiled = std::result::Result<PolicySet, Vec<Fault>>;

/// Reads and compiles the policies of files and folders.
///
/// # Errors
/// If a file cannot be read or is not to be trusted. Faults of the texts are in the answer.
pub(super) fn compile(paths: &[PathBuf]) -> Result<Compiled> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(yaml_files(path)?);
        } else {
            files.push(path.clone());
        }
    }
    let mut texts = Vec::new();
    for file in &files {
        let bytes = trusted::read(file, yaml::MAX_FILE_BYTES as u64).context("a policy file")?;
        texts.push((file.display().to_string(), bytes));
    }
    let sources: Vec<SourceFile<'_>> =
        texts.iter().map(|(name, bytes)| SourceFile { name, bytes }).collect();
    Ok(yaml::read(&sources).and_then(PolicySet::compile))
}

/// The `*.yaml` and `*.yml` files of a folder, by name; a folder that is missing has none.
pub(super) fn yaml_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read the policy folder {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        let is_yaml = path.extension().is_some_and(|e| e == "yaml" || e == "yml");
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if is_yaml && !hidden {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            bail!("{} holds more than {MAX_FILES} policy files", folder.display());
        }
    }
    files.sort();
    Ok(files)
}
