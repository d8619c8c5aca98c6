//! What a shared verdict says: an in-toto statement (in-toto/attestation, `spec/v1/statement.md`)
//! about the image's manifest, with the reports of scanners for its predicate.
//!
//! It says when scans were made and of which day their advisories are. When it was pushed it does not
//! say: what counts is how old the knowledge is, and that a registry cannot change.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_types::{
    Binding, Coverage, Digest, Finding, ScanReport, Scanner, Text, Timestamp, Verdict,
};
use serde::{Deserialize, Serialize};

use crate::document::told;
use crate::error::shown;

/// The type of in-toto's statements.
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// The type of what ours say.
pub const PREDICATE: &str = "https://portcullis.dev/verdict/v1";

/// Most findings of all reports; a store takes no more.
const MAX_FINDINGS: usize = portcullis_store::MAX_FINDINGS;
/// Most names of a coverage.
const MAX_NAMES: usize = 256;
/// Most bytes of a name, of a version, of an id.
const MAX_NAME: usize = 512;
/// Most bytes of any other text of a finding.
const MAX_TEXT: usize = 8 << 10;
/// Most other ids of a finding.
const MAX_ALIASES: usize = 64;
/// How far the signer's clock may be ahead of ours, in seconds.
const AHEAD: i64 = 300;

/// Why a statement is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// Not JSON of the right form.
    #[error("it is no statement about a verdict: {0}")]
    Json(String),
    /// It says something of another kind.
    #[error("it is a statement of another kind: {0}")]
    Kind(String),
    /// It speaks of another image.
    #[error("it speaks of another image, {0}")]
    OtherImage(String),
    /// A report is from a day to come.
    #[error("its report of {scanner} is from {at}, which is yet to come: check the clocks")]
    Future {
        /// Who scanned.
        scanner: String,
        /// When.
        at: Timestamp,
    },
    /// More than a verdict may have, or values that no scanner gives.
    #[error("its reports cannot be those of a verdict: {0}")]
    Unsound(&'static str),
}

/// What a verdict says of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// The image's manifest, of one platform.
    pub manifest: Digest,
    /// The configuration that it names.
    pub config: Digest,
    /// Bound as they were where they were made. In order of their keys, each problem once.
    pub reports: Vec<ScanReport>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
    predicate: Predicate,
}

/// What only tells its kind, for an error that says it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kinds {
    #[serde(rename = "_type", default)]
    kind: String,
    #[serde(default)]
    predicate_type: String,
}

#[derive(Serialize, Deserialize)]
struct Subject {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    /// The digits by the name of the hash function.
    digest: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Predicate {
    /// The image's configuration.
    config: Digest,
    reports: Vec<Report>,
}

/// A report without what a node adds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    scanner: Scanner,
    scanned_at: Timestamp,
    #[serde(default)]
    database_at: Option<Timestamp>,
    binding: Binding,
    coverage: Coverage,
    findings: Vec<Arc<Finding>>,
}

impl Statement {
    /// What a verdict says of the image with this manifest, without what other nodes have signed:
    /// that is for them to say.
    pub fn new(manifest: Digest, verdict: &Verdict) -> Self {
        let own = verdict.reports.iter().filter(|r| r.binding != Binding::BySignature);
        Self { manifest, config: verdict.image.config.clone(), reports: own.cloned().collect() }
    }

    /// When the newest of its scans was made.
    pub fn newest(&self) -> Option<Timestamp> {
        self.reports.iter().map(scanned_at).max()
    }

    /// The bytes of it; the same for the same reports, whenever and wherever it is written.
    ///
    /// # Errors
    /// None is known: these values can all be written.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let reports = self.reports.iter().map(|report| Report {
            scanner: report.scanner.clone(),
            scanned_at: scanned_at(report),
            database_at: report.database_at,
            binding: report.binding,
            coverage: report.coverage.clone(),
            findings: report.findings.iter().map(without_dates_of_a_node).collect(),
        });
        let (algorithm, hex) = (self.manifest.algorithm().as_str(), self.manifest.hex());
        serde_json::to_vec(&Raw {
            kind: STATEMENT.to_owned(),
            subject: vec![Subject {
                name: String::new(),
                digest: [(algorithm.to_owned(), hex.to_owned())].into(),
            }],
            predicate_type: PREDICATE.to_owned(),
            predicate: Predicate { config: self.config.clone(), reports: reports.collect() },
        })
    }

    /// Reads what is said of the image with this manifest and configuration. What it is worth is for
    /// the signature to say.
    ///
    /// # Errors
    /// [`StatementError`]: it is about another image, from a day to come, or not sound.
    pub fn read(
        json: &[u8],
        manifest: &Digest,
        config: &Digest,
        now: Timestamp,
    ) -> Result<Self, StatementError> {
        let wrong = |error: serde_json::Error| StatementError::Json(told(&error));
        let kinds: Kinds = serde_json::from_slice(json).map_err(wrong)?;
        for (found, wanted) in [(kinds.kind, STATEMENT), (kinds.predicate_type, PREDICATE)] {
            if found != wanted {
                return Err(StatementError::Kind(shown(&found)));
            }
        }
        let raw: Raw = serde_json::from_slice(json).map_err(wrong)?;
        let [subject] = raw.subject.as_slice() else {
            return Err(StatementError::OtherImage("or of several".to_owned()));
        };
        // Each of several digests must be the image's, and one of them of the kind that we have.
        let own = (manifest.algorithm().as_str(), manifest.hex());
        let about: Vec<(&str, &str)> =
            subject.digest.iter().map(|(a, hex)| (a.as_str(), hex.as_str())).collect();
        if about != [own] {
            let about = about.first().map(|(a, hex)| format!("{a}:{hex}")).unwrap_or_default();
            return Err(StatementError::OtherImage(shown(&about)));
        }
        if raw.predicate.config != *config {
            return Err(StatementError::OtherImage(raw.predicate.config.to_string()));
        }
        let reports = raw.predicate.reports;
        if reports.is_empty() || reports.len() > Verdict::MAX_REPORTS {
            return Err(StatementError::Unsound("there are none, or more than 16"));
        }
        if reports.iter().map(|report| report.findings.len()).sum::<usize>() > MAX_FINDINGS {
            return Err(StatementError::Unsound("there are more than 200,000 findings"));
        }
        let reports: Result<_, _> = reports.into_iter().map(|report| report.sound(now)).collect();
        Ok(Self { manifest: manifest.clone(), config: config.clone(), reports: reports? })
    }
}

/// When a scan was made. A report that came from the future was no fresher than its import.
fn scanned_at(report: &ScanReport) -> Timestamp {
    report.scanned_at.min(report.imported_at)
}

fn without_dates_of_a_node(finding: &Arc<Finding>) -> Arc<Finding> {
    let mut finding = finding.clone();
    if finding.first_seen.is_some() {
        Arc::make_mut(&mut finding).first_seen = None;
    }
    finding
}

impl Report {
    fn sound(self, now: Timestamp) -> Result<ScanReport, StatementError> {
        let unsound = |what| Err(StatementError::Unsound(what));
        let Self { scanner, mut scanned_at, database_at, binding, coverage, findings } = self;
        if !is_name(&scanner.name) || !scanner.version.as_deref().is_none_or(is_name) {
            return unsound("a scanner has no name, or no proper one");
        }
        if scanned_at.as_second() > now.as_second() + AHEAD {
            return Err(StatementError::Future { scanner: shown(&scanner.name), at: scanned_at });
        }
        // Or it would count as newer than a scan that is made here meanwhile.
        scanned_at = scanned_at.min(now);
        let names = [&coverage.ecosystems, &coverage.uncovered];
        if names.iter().any(|names| names.len() > MAX_NAMES)
            || !names.iter().all(|names| names.iter().all(|name| is_name(name)))
            || !coverage.distribution.as_deref().is_none_or(is_name)
        {
            return unsound("what was looked at has no proper names");
        }
        if !coverage.classes.iter().all(|class| class.is_scanned())
            || !findings.iter().all(|finding| is_sound(finding))
        {
            return unsound("there is a finding that no scanner makes");
        }
        let findings = findings.iter().map(without_dates_of_a_node).collect();
        let mut report = ScanReport {
            scanner,
            scanned_at,
            database_at,
            imported_at: now,
            binding,
            coverage,
            findings,
        };
        report.put_in_order();
        Ok(report)
    }
}

/// A word or two, which fit in a line and move no cursor.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME && !text.chars().any(char::is_control)
}

fn is_sound(finding: &Finding) -> bool {
    let Finding { id, aliases, package, version, fixed_version, path, purl, title, .. } = finding;
    let is_text = |text: &Option<Text>| {
        text.as_deref().is_none_or(|text| !text.is_empty() && text.len() <= MAX_TEXT)
    };
    let within = |value: Option<f32>, most: f32| value.is_none_or(|v| (0.0..=most).contains(&v));
    let is_hex = |text: &str| {
        text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    finding.class.is_scanned()
        && is_name(id)
        && is_name(&finding.source)
        && aliases.len() <= MAX_ALIASES
        && aliases.iter().all(|alias| is_name(alias))
        && [package, version, fixed_version, path, purl, title].into_iter().all(is_text)
        && finding.sha256.as_deref().is_none_or(is_hex)
        && within(finding.cvss, 10.0)
        && within(finding.epss, 1.0)
}

/// The reports of a statement as this node takes them: what another node's scanner read was not read
/// here, and what nobody signed is but claimed.
pub(crate) fn bound(mut reports: Vec<ScanReport>, is_signed: bool) -> Vec<ScanReport> {
    for report in &mut reports {
        report.binding = match (is_signed, report.binding) {
            (true, Binding::ByScan) => Binding::BySignature,
            (true, Binding::ByReport) => Binding::ByReport,
            _ => Binding::ByImporter,
        };
    }
    reports
}

#[cfg(test)]
#[path = "statement/tests.rs"]
mod tests;
