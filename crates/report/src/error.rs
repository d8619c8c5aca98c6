//! Why a report is not imported, and what to do about it.

use std::io;
use std::path::PathBuf;

use portcullis_types::{Digest, DigestError, Timestamp};

/// Why a report was not imported. Each message names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The file cannot be opened or read.
    #[error("cannot read {file}")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is a folder, a pipe or a device.
    #[error("{file} is {what}, not a file: save the report to a file and name that")]
    NotAFile {
        /// What was named.
        file: PathBuf,
        /// What it is, with its article.
        what: &'static str,
    },
    /// It is larger than reports may be.
    #[error(
        "{file} has {} and a report may have {limit}: write it without lists of packages and of \
         their licences (for Trivy: --list-all-pkgs=false, and --scanners without license)",
        size.map_or_else(|| "more bytes than that".to_owned(), |size| format!("{size} bytes"))
    )]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Its size in bytes; `None` for a stream, of which no more was read.
        size: Option<u64>,
        /// The limit in bytes.
        limit: u64,
    },
    /// There is nothing in it.
    #[error("{file} is empty: did the scan fail?")]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// It is no report that can be read.
    #[error(
        "{file} {what}: what is read is Trivy's JSON (SchemaVersion 2; trivy image --format json), \
         Grype's JSON (grype -o json), SARIF 2.1.0, and CycloneDX in JSON with vulnerabilities \
         (trivy image --format cyclonedx --scanners vuln; grype -o cyclonedx-json)"
    )]
    UnknownFormat {
        /// The file.
        file: PathBuf,
        /// What it is instead, as the rest of a sentence.
        what: String,
    },
    /// It is a document that is known, but no report.
    #[error("{file} is {what}, not a report of what was found: {remedy}")]
    NotAReport {
        /// The file.
        file: PathBuf,
        /// What it is, with its article.
        what: &'static str,
        /// What to do with it.
        remedy: &'static str,
    },
    /// Its JSON is broken, or is not what it should be at this place.
    #[error("{file}, line {line}, column {column}: {what}")]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1; 0 before the first.
        column: usize,
        /// What is wrong.
        what: String,
    },
    /// Its entries become more findings than a report may have, one for each CVE.
    #[error(
        "{file} has more than {limit} findings, each CVE of an advisory being one: is it the \
         report of one image?"
    )]
    TooMany {
        /// The file.
        file: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// Something that is needed is not there.
    #[error("{file}: {place} has no {field}")]
    Incomplete {
        /// The file.
        file: PathBuf,
        /// Where: `Results[0].Vulnerabilities[3]`.
        place: String,
        /// What.
        field: &'static str,
    },
    /// A digest in it is none.
    #[error("{file}: in {field}")]
    BadDigest {
        /// The file.
        file: PathBuf,
        /// Where.
        field: &'static str,
        /// What is wrong with it.
        #[source]
        source: DigestError,
    },
    /// It says two things of its image or its scanner that cannot both be true.
    #[error("{file} contradicts itself: {what}: scan again")]
    Contradiction {
        /// The file.
        file: PathBuf,
        /// Which two.
        what: &'static str,
    },
    /// It does not say when it was made, so it cannot be told whether it is newer than another.
    #[error(
        "{file} has no date that can be read: say when the scan was made with --scanned-at TIME, \
         or scan again with a format that says it (for Trivy and Grype: json)"
    )]
    Undated {
        /// The file.
        file: PathBuf,
    },
    /// Its date is in the future.
    #[error(
        "{file} was made at {created_at}, and here it is {now}: check the clocks of this machine \
         and of the one that scanned, then scan again"
    )]
    Future {
        /// The file.
        file: PathBuf,
        /// When it says that it was made.
        created_at: Timestamp,
        /// This machine's time.
        now: Timestamp,
    },
    /// It is about another image than the one chosen.
    #[error(
        "{file} is about the image {config}, not about {chosen}: leave --image out to import it \
         for its own image, or scan {chosen}"
    )]
    OtherImage {
        /// The file.
        file: PathBuf,
        /// The image ID that it names.
        config: Digest,
        /// The digest that was chosen.
        chosen: Digest,
    },
    /// It names no image, and none was chosen.
    #[error(
        "{file} names no image: say which one it is about with --image DIGEST, the image ID; the \
         verdict will say that this is claimed by the importer"
    )]
    NoImage {
        /// The file.
        file: PathBuf,
    },
}
