//! Reading policy files and VEX documents: the sources of what is in force.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use portcullis_policy::yaml::{self, SourceFile};
use portcullis_policy::{Fault, PolicySet};
use portcullis_report::{VexDocument, VexLimits, VexReader, vex_files};
use portcullis_settings::trusted;
use portcullis_types::VexStatement;

use crate::context::Context;

/// Most files of a policy folder.
const MAX_FILES: usize = 10_000;

/// Policies as they stand in files: a set, or everything that is wrong.
pub(super) type Compiled = std::result::Result<PolicySet, Vec<Fault>>;

/// What would decide on this node.
pub(super) struct NodeSet {
    /// The policies, with the VEX statements that something can be held against.
    pub(super) compiled: Compiled,
    /// What of the VEX documents was passed over or cannot be used.
    pub(super) warnings: Vec<String>,
}

/// The node's set as its sources say it: these policies, and the VEX documents of the node.
///
/// # Errors
/// If a file cannot be read or is not to be trusted, or a VEX document is damaged. Faults of
/// policies are in the answer.
pub(super) fn node_set(context: &Context, policies: &[PathBuf]) -> Result<NodeSet> {
    let documents = vex_of_node(context)?;
    let statements = checkable(&documents).collect();
    let warnings = documents.into_iter().flat_map(|document| document.warnings).collect();
    let compiled = compile(policies)?.map(|set| set.with_vex(statements));
    Ok(NodeSet { compiled, warnings })
}

/// The VEX documents of this node.
///
/// # Errors
/// If one cannot be read, is not to be trusted or is damaged.
pub(super) fn vex_of_node(context: &Context) -> Result<Vec<VexDocument>> {
    let mut reader = VexFiles::new();
    vex_files(&context.paths.vex())?.iter().map(|file| reader.read(file)).collect()
}

/// The statements that are put into force.
pub(super) fn checkable(documents: &[VexDocument]) -> impl Iterator<Item = VexStatement> {
    documents.iter().flat_map(|document| &document.statements).filter_map(VexStatement::checkable)
}

/// Reads VEX documents that are to be trusted, bounded together.
pub(super) struct VexFiles {
    limits: VexLimits,
    reader: VexReader,
}

impl VexFiles {
    pub(super) fn new() -> Self {
        let limits = VexLimits::default();
        Self { reader: VexReader::new(&limits), limits }
    }

    pub(super) fn read(&mut self, file: &Path) -> Result<VexDocument> {
        let bytes = trusted::read(file, self.limits.bytes).context("a VEX document")?;
        self.reader.read(&bytes, file).context("a VEX document")
    }
}

/// Reads and compiles the policies of files and folders.
fn compile(paths: &[PathBuf]) -> Result<Compiled> {
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
