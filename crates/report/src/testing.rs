//! What the tests of all importers need.

use std::io::Write;
use std::path::{Path, PathBuf};

use portcullis_types::{Digest, Finding, Timestamp};

use crate::{Imported, Limits, read_file};

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

pub(crate) fn imported(name: &str) -> Imported {
    read_file(&fixture(name), &Limits::default()).unwrap()
}

pub(crate) fn digest(digit: char) -> Digest {
    format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap()
}

pub(crate) fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

/// What this text is read as.
pub(crate) fn read(text: impl AsRef<[u8]>) -> Result<Imported, crate::ReportError> {
    crate::read(std::io::Cursor::new(text), &Limits::default())
}

/// The error of reading this text, as a user sees it.
pub(crate) fn refusal(text: impl AsRef<[u8]>) -> String {
    let mut file = tempfile::Builder::new().prefix("report").tempfile().unwrap();
    file.write_all(text.as_ref()).unwrap();
    let error = read_file(file.path(), &Limits::default()).unwrap_err().to_string();
    let name = file.path().display().to_string();
    assert!(error.contains(&name), "the error does not name {name}: {error}");
    error.replace(&name, "FILE")
}

pub(crate) fn check_refusal(text: impl AsRef<[u8]>, wanted: &str) {
    let error = refusal(text);
    assert!(error.starts_with(wanted), "wanted {wanted}\n   got {error}");
}

/// A finding as one line: id, severity, package, version, fixed version, path.
pub(crate) fn line(finding: &Finding) -> String {
    let or = |text: &Option<std::sync::Arc<str>>| text.as_deref().unwrap_or("-").to_owned();
    let Finding { id, severity, package, version, fixed_version, path, .. } = finding;
    [id.to_string(), severity.to_string(), or(package), or(version), or(fixed_version), or(path)]
        .join(" | ")
}

/// The findings as lines.
pub(crate) fn lines(report: &Imported) -> Vec<String> {
    report.findings.iter().map(line).collect()
}
