//! Importers: other scanners' reports become scan reports of ours.
//!
//! A report is read leniently, since scanners add fields with each release, and guardedly, since
//! it may come from anywhere: its size, the length of its texts and the number of its findings are
//! bounded, and what could drive a terminal is escaped. What is needed and cannot be understood is
//! an error, never a finding less.
//!
//! What is read belongs to no image yet: see [`Imported::bind`].

#![forbid(unsafe_code)]

mod error;
mod imported;
mod input;
mod text;
mod trivy;
mod vex;

use std::io::Read;
use std::path::Path;

pub use error::ReportError;
pub use imported::{Imported, ReportImage};
pub use vex::{VexDocument, VexError, VexFormat, VexLimits, read_vex, read_vex_folder};

/// What a report may measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file.
    pub bytes: u64,
    /// Findings in it.
    pub findings: usize,
}

impl Default for Limits {
    /// 256 MiB and 100,000 findings: some ten times the largest reports on real images.
    fn default() -> Self {
        Self { bytes: 256 << 20, findings: 100_000 }
    }
}

/// Reads a Trivy report in JSON, `SchemaVersion` 2, from a stream.
///
/// # Errors
/// See [`ReportError`]; the report is called `the report` there.
pub fn read_trivy(input: impl Read, limits: &Limits) -> Result<Imported, ReportError> {
    trivy::read(input, Path::new("the report"), limits)
}

/// Reads the report in a file, of any format that is known: today Trivy's.
///
/// A file that is too large is refused before it is read.
///
/// # Errors
/// See [`ReportError`].
pub fn read_file(path: &Path, limits: &Limits) -> Result<Imported, ReportError> {
    trivy::read(input::open(path, limits)?, path, limits)
}
