//! A report on its way from a scanner's words into ours: what all importers do alike.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

use portcullis_types::{Class, Coverage, Digest, Finding, ImageRef, Scanner, Severity, Timestamp};

use crate::json::{Names, Text, some};
use crate::text::shortened;
use crate::{Imported, Limits, ReportError, ReportImage};

/// Most warnings that are kept; a report with more has the same trouble everywhere.
const MAX_WARNINGS: usize = 100;

/// What was understood so far.
pub(crate) struct Draft<'a> {
    pub(crate) file: &'a Path,
    scanner: Arc<str>,
    /// Texts that came before: names, versions and paths come again and again.
    texts: HashSet<Arc<str>>,
    findings: Vec<Finding>,
    /// Entries of the report by severity.
    counts: BTreeMap<Severity, usize>,
    limits: Limits,
    warnings: BTreeSet<String>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(file: &'a Path, scanner: &str, limits: &Limits) -> Self {
        Self {
            file,
            scanner: scanner.into(),
            texts: HashSet::new(),
            findings: Vec::new(),
            counts: BTreeMap::new(),
            limits: *limits,
            warnings: BTreeSet::new(),
        }
    }

    /// A finding with nothing else known, to be [pushed](Self::push).
    pub(crate) fn finding(&mut self, class: Class, id: &str, severity: Severity) -> Finding {
        Finding::new(class, self.share(id), severity, self.scanner.clone())
    }

    /// Keeps an entry of the report that is one finding.
    pub(crate) fn push(&mut self, finding: Finding) -> Result<(), ReportError> {
        self.push_all([finding])
    }

    /// Keeps an entry of the report: at least one finding, all of one severity.
    pub(crate) fn push_all(
        &mut self,
        findings: impl IntoIterator<Item = Finding>,
    ) -> Result<(), ReportError> {
        let before = self.findings.len();
        for finding in findings {
            // A list of entries is bounded by its reader; what they become is bounded here.
            if self.findings.len() == self.limits.findings {
                let (file, limit) = (self.file.to_owned(), self.limits.findings);
                return Err(ReportError::TooMany { file, limit });
            }
            self.findings.push(finding);
        }
        if let Some(first) = self.findings.get(before) {
            *self.counts.entry(first.severity).or_insert(0) += 1;
        }
        Ok(())
    }

    pub(crate) fn warn(&mut self, warning: impl Into<String>) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.insert(warning.into());
        }
    }

    /// A text that is kept once, however often it comes.
    pub(crate) fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let text: Arc<str> = text.into();
        self.texts.insert(text.clone());
        text
    }

    /// A text that is there and not empty, kept once.
    pub(crate) fn shared(&mut self, text: Option<&str>) -> Option<Arc<str>> {
        text.filter(|t| !t.is_empty()).map(|t| self.share(t))
    }

    /// Several texts, each kept once.
    pub(crate) fn shared_all(&mut self, texts: Vec<String>) -> Vec<Arc<str>> {
        texts.iter().map(|text| self.share(text)).collect()
    }

    /// A text that must be there; `place` tells where.
    pub(crate) fn needed<'t>(
        &self,
        text: Option<&'t Text>,
        field: &'static str,
        place: impl FnOnce() -> String,
    ) -> Result<&'t str, ReportError> {
        some(text).ok_or_else(|| ReportError::Incomplete {
            file: self.file.to_owned(),
            place: place(),
            field,
        })
    }

    pub(crate) fn severity(&mut self, word: Option<&str>) -> Severity {
        let word = word.filter(|w| !w.is_empty()).unwrap_or("unknown");
        let severity = Severity::from_scanner(word);
        if severity == Severity::Unknown && !word.eq_ignore_ascii_case("unknown") {
            let word = shortened(word, 40);
            self.warn(format!("the severity \"{word}\" is not known: taken as unknown"));
        }
        severity
    }

    /// A time, or a day, which begins in UTC.
    pub(crate) fn time(&mut self, field: &str, text: &str) -> Option<Timestamp> {
        let time = time(text);
        if time.is_none() {
            let text = shortened(text, 40);
            self.warn(format!("{field} \"{text}\" is not a date: passed over"));
        }
        time
    }

    pub(crate) fn digest(&self, field: &'static str, text: &str) -> Result<Digest, ReportError> {
        text.parse().map_err(|source| ReportError::BadDigest {
            file: self.file.to_owned(),
            field,
            source,
        })
    }

    pub(crate) fn digests(
        &self,
        field: &'static str,
        names: &Names,
    ) -> Result<Vec<Digest>, ReportError> {
        names.0.iter().map(|Text(text)| self.digest(field, text)).collect()
    }

    /// References are for people, so one that is none does not spoil the report.
    pub(crate) fn references(&mut self, field: &str, names: &Names) -> Vec<ImageRef> {
        let mut references = Vec::new();
        for Text(text) in &names.0 {
            match text.parse() {
                Ok(reference) => references.push(reference),
                Err(error) => self.warn(format!("{field}: {error}: passed over")),
            }
        }
        references
    }

    pub(crate) fn contradiction(&self, what: &'static str) -> ReportError {
        ReportError::Contradiction { file: self.file.to_owned(), what }
    }

    pub(crate) fn finish(
        self,
        version: Option<String>,
        image: ReportImage,
        dates: Dates,
        coverage: Coverage,
    ) -> Imported {
        Imported {
            file: self.file.to_owned(),
            image,
            scanner: Scanner { name: self.scanner.as_ref().to_owned(), version },
            created_at: dates.created_at,
            database_at: dates.database_at,
            coverage,
            findings: self.findings,
            counts_by_severity: self.counts,
            warnings: self.warnings.into_iter().collect(),
        }
    }
}

/// What a report says of its age.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Dates {
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) database_at: Option<Timestamp>,
}

/// A time as RFC 3339 writes it, or a day, `2026-11-02`, which begins in UTC.
pub(crate) fn time(text: &str) -> Option<Timestamp> {
    match text.len() {
        10 => format!("{text}T00:00:00Z").parse().ok(),
        _ => text.parse().ok(),
    }
}

/// A path below the image's root.
pub(crate) fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}
