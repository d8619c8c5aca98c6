//! Importers: other scanners' reports become scan reports of ours.
//!
//! | format | written by | what it tells |
//! | --- | --- | --- |
//! | Trivy JSON, `SchemaVersion` 2 | `trivy image -f json` | all |
//! | Grype JSON | `grype -o json` | all that Grype looks for |
//! | SARIF 2.1.0 | Trivy, Grype, others | findings; no date, no ecosystems, often no image |
//! | CycloneDX JSON with vulnerabilities | Trivy, Grype, others | vulnerabilities |
//!
//! A report is read leniently, since scanners add fields with each release, and guardedly, since
//! it may come from anywhere: its size, the length of its texts and the number of its findings are
//! bounded, and what could drive a terminal is escaped. What is needed and cannot be understood is
//! an error, never a finding less; what a scanner was told to ignore is a warning, since only this
//! node's policy decides what does not count.
//!
//! What is read belongs to no image yet: see [`Imported::bind`].
//!
//! Two scanners' findings of one problem are one in the merged list if class, id, package, version
//! and path agree. So all importers prefer a vulnerability's CVE id, make an advisory about several
//! CVEs a finding for each, write packages and versions as
//! Trivy does, leave the path out for packages of the distribution, and write others' without a
//! leading slash.
//!
//! [`feeds`] reads what changes daily and stands in no report: EPSS and KEV.

#![forbid(unsafe_code)]

mod cyclonedx;
mod detect;
mod draft;
mod ecosystem;
mod error;
pub mod feeds;
mod grype;
mod ids;
mod imported;
mod input;
mod json;
mod purl;
mod sarif;
#[cfg(test)]
mod testing;
mod text;
mod trivy;
mod vex;

use std::io::{Read, Seek};
use std::path::Path;

pub use error::ReportError;
pub use imported::{Imported, ReportImage};
pub use vex::{
    VexDocument, VexError, VexFormat, VexLimits, VexReader, read_vex, read_vex_folder, vex_files,
};

use self::detect::Format;
use self::input::OpenError;

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

/// Reads a report of any known format; its members tell which.
///
/// # Errors
/// See [`ReportError`]; the report is called `the report` there.
pub fn read(input: impl Read + Seek, limits: &Limits) -> Result<Imported, ReportError> {
    read_known(input, Path::new("the report"), limits)
}

/// Reads the report in a file, of any known format; its members tell which, never its name.
///
/// A file that is too large is refused before it is read.
///
/// # Errors
/// See [`ReportError`].
pub fn read_file(path: &Path, limits: &Limits) -> Result<Imported, ReportError> {
    let file = || path.to_owned();
    let input = input::open(path, limits.bytes).map_err(|error| match error {
        OpenError::Unreadable(source) => ReportError::Unreadable { file: file(), source },
        OpenError::NotAFile(what) => ReportError::NotAFile { file: file(), what },
        OpenError::TooLarge(size) => {
            ReportError::TooLarge { file: file(), size: Some(size), limit: limits.bytes }
        }
    })?;
    read_known(input, path, limits)
}

fn read_known(
    mut input: impl Read + Seek,
    file: &Path,
    limits: &Limits,
) -> Result<Imported, ReportError> {
    let format = detect::format(&mut input, file, limits)?;
    input.rewind().map_err(|source| ReportError::Unreadable { file: file.to_owned(), source })?;
    match format {
        Format::Trivy => trivy::read(input, file, limits),
        Format::Grype => grype::read(input, file, limits),
        Format::Sarif => sarif::read(input, file, limits),
        Format::CycloneDx => cyclonedx::read(input, file, limits),
        Format::Other(what, remedy) => {
            Err(ReportError::NotAReport { file: file.to_owned(), what, remedy })
        }
    }
}

#[cfg(test)]
mod tests;
