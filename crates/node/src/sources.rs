//! Reading policy files and VEX documents: the sources of what is in force.

use std::io;
use std::path::{Path, PathBuf};

use portcullis_policy::yaml::{self, SourceFile};
use portcullis_policy::{Fault, PolicySet};
use portcullis_report::{VexDocument, VexError, VexLimits, VexReader, vex_files};
use portcullis_settings::Paths;
use portcullis_settings::trusted::{self, TrustError};
use portcullis_types::VexStatement;

/// Most files of a policy folder.
const MAX_FILES: usize = 10_000;

/// Why a source cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The folder of the policies cannot be opened.
    #[error("cannot read the policy folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The folder of the policies cannot be read to its end.
    #[error("cannot read {path}")]
    Entries {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No folder of policies has so many files.
    #[error("{0} holds more than {MAX_FILES} policy files")]
    TooMany(PathBuf),
    /// A policy file cannot be read or is not to be trusted.
    #[error("a policy file")]
    Policy(#[source] TrustError),
    /// A VEX document cannot be read or is not to be trusted.
    #[error("a VEX document")]
    Untrusted(#[source] TrustError),
    /// A VEX document is damaged.
    #[error("a VEX document")]
    Document(#[source] VexError),
    /// The folder of the VEX documents cannot be read.
    #[error(transparent)]
    Documents(VexError),
}

/// Policies as they stand in files: a set, or everything that is wrong.
pub type Compiled = Result<PolicySet, Vec<Fault>>;

/// What would decide on this node.
#[derive(Debug)]
pub struct NodeSet {
    /// The policies, with the VEX statements that something can be held against.
    pub compiled: Compiled,
    /// What of the VEX documents was passed over or cannot be used.
    pub warnings: Vec<String>,
}

/// The node's set as its sources say it: the policies of these files and folders, and the VEX
/// documents of the node.
///
/// # Errors
/// If a file cannot be read or is not to be trusted, or a VEX document is damaged. Faults of
/// policies are in the answer.
pub fn node_set(paths: &Paths, policies: &[PathBuf]) -> Result<NodeSet, SourceError> {
    let documents = vex_of_node(paths)?;
    let statements = checkable(&documents).collect();
    let warnings = documents.into_iter().flat_map(|document| document.warnings).collect();
    let compiled = compile(policies)?.map(|set| set.with_vex(statements));
    Ok(NodeSet { compiled, warnings })
}

/// The VEX documents of this node.
///
/// # Errors
/// If one cannot be read, is not to be trusted or is damaged.
pub fn vex_of_node(paths: &Paths) -> Result<Vec<VexDocument>, SourceError> {
    let mut reader = VexFiles::new();
    let files = vex_files(&paths.vex()).map_err(SourceError::Documents)?;
    files.iter().map(|file| reader.read(file)).collect()
}

/// The statements that are put into force.
pub fn checkable(documents: &[VexDocument]) -> impl Iterator<Item = VexStatement> {
    documents.iter().flat_map(|document| &document.statements).filter_map(VexStatement::checkable)
}

/// Reads VEX documents that are to be trusted, bounded together.
pub struct VexFiles {
    limits: VexLimits,
    reader: VexReader,
}

impl VexFiles {
    /// A reader of documents that are all to come.
    #[expect(clippy::new_without_default, reason = "it reads, and is no value")]
    pub fn new() -> Self {
        let limits = VexLimits::default();
        Self { reader: VexReader::new(&limits), limits }
    }

    /// Reads one.
    ///
    /// # Errors
    /// If it cannot be read, is not to be trusted or is damaged.
    pub fn read(&mut self, file: &Path) -> Result<VexDocument, SourceError> {
        let bytes = trusted::read(file, self.limits.bytes).map_err(SourceError::Untrusted)?;
        self.reader.read(&bytes, file).map_err(SourceError::Document)
    }
}

/// Reads and compiles the policies of files and folders.
fn compile(paths: &[PathBuf]) -> Result<Compiled, SourceError> {
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
        let bytes = trusted::read(file, yaml::MAX_FILE_BYTES as u64);
        texts.push((file.display().to_string(), bytes.map_err(SourceError::Policy)?));
    }
    let sources: Vec<SourceFile<'_>> =
        texts.iter().map(|(name, bytes)| SourceFile { name, bytes }).collect();
    Ok(yaml::read(&sources).and_then(PolicySet::compile))
}

/// The `*.yaml` and `*.yml` files of a folder, by name.
///
/// # Errors
/// The folder cannot be read, or holds more than 10,000 of them.
pub fn yaml_files(folder: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let entries = std::fs::read_dir(folder)
        .map_err(|source| SourceError::Folder { path: folder.to_owned(), source })?;
    let mut files = Vec::new();
    for entry in entries {
        let unreadable = |source| SourceError::Entries { path: folder.to_owned(), source };
        let path = entry.map_err(unreadable)?.path();
        let is_yaml = path.extension().is_some_and(|e| e == "yaml" || e == "yml");
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if is_yaml && !hidden {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            return Err(SourceError::TooMany(folder.to_owned()));
        }
    }
    files.sort();
    Ok(files)
}
