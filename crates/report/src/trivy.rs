//! Trivy's JSON (aquasecurity/trivy, `SchemaVersion` 2).
//!
//! What such a report says of its own coverage, as Trivy's `pkg/scan/local/service.go` writes it:
//!
//! - A scan for vulnerabilities leaves a result of class `os-pkgs` for a distribution that it
//!   knows, and one of `lang-pkgs` for each list of packages, also where it found nothing. So
//!   without either, vulnerabilities were not looked for, or nowhere.
//! - A scan for secrets leaves results only where it found some. A report without them is taken
//!   as one that did not look: nobody can tell the two apart.
//! - Results of class `config` are there for each configuration that was looked at.
//! - It names no date of its advisories, and no filter (`--severity`, `--ignore-unfixed`,
//!   `.trivyignore`) that hid findings. What Trivy lists as suppressed is not read, nor are
//!   licences, and the vendor's status (`will_not_fix`) has no place in a finding.

mod json;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use portcullis_types::{Class, Coverage, Digest, Finding, ImageRef, Scanner, Severity, Timestamp};
use serde::de::DeserializeSeed;

use self::json::{
    Budget, Loose, Metadata, Misconfiguration, Names, Report, ReportSeed, ResultEntry, Scores,
    Secret, Text, Title, Vulnerability,
};
use crate::input::Bounded;
use crate::{Imported, Limits, ReportError, ReportImage};

const NAME: &str = "trivy";
const SCHEMA_VERSION: u64 = 2;

/// Trivy's word for an image without a distribution.
const NO_DISTRIBUTION: &str = "none";

/// Reads a report; `file` is for messages.
pub(crate) fn read(
    input: impl Read,
    file: &Path,
    limits: &Limits,
) -> Result<Imported, ReportError> {
    let report = parse(input, file, limits)?;
    if report.schema_version != Some(SCHEMA_VERSION) {
        let what = match report.schema_version {
            Some(other) => format!("has SchemaVersion {other}"),
            None => "has no SchemaVersion".to_owned(),
        };
        let file = file.to_owned();
        return Err(ReportError::UnknownFormat { file, what });
    }
    Importer {
        file,
        artifact: some(report.artifact_name.as_ref()),
        findings: Vec::new(),
        warnings: Vec::new(),
    }
    .import(&report)
}

fn parse(input: impl Read, file: &Path, limits: &Limits) -> Result<Report, ReportError> {
    let mut input = Bounded::new(input, limits);
    check_start(&mut input, file)?;
    let budget = Budget::new(limits.findings, "findings");
    let mut json = serde_json::Deserializer::from_reader(&mut input);
    let parsed =
        ReportSeed(&budget).deserialize(&mut json).and_then(|report| json.end().map(|()| report));
    // A report that goes on past the limit looks cut off to the parser.
    if input.is_exhausted() {
        return Err(ReportError::TooLarge {
            file: file.to_owned(),
            size: None,
            limit: limits.bytes,
        });
    }
    parsed.map_err(|error| json_error(error, file))
}

/// Says what a file is that cannot be JSON, and passes over a byte order mark.
fn check_start(input: &mut Bounded<impl Read>, file: &Path) -> Result<(), ReportError> {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let start = input
        .start()
        .map_err(|source| ReportError::Unreadable { file: file.to_owned(), source })?;
    let what = match start {
        [] => {
            let file = file.to_owned();
            return Err(ReportError::Empty { file });
        }
        // PowerShell's `>` writes UTF-16.
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "is UTF-16 and not UTF-8",
        [0x1f, 0x8b, ..] => "is compressed (gzip)",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "is compressed (zstd)",
        [b'P', b'K', ..] => "is compressed (zip)",
        _ => {
            let marked = start.starts_with(BYTE_ORDER_MARK);
            let skipped = if marked { BYTE_ORDER_MARK.len() } else { 0 };
            let first = start[skipped..].iter().find(|b| !b.is_ascii_whitespace());
            if first.is_none_or(|&b| b == b'{') {
                input.skip(skipped);
                return Ok(());
            }
            "is not a JSON object"
        }
    };
    Err(ReportError::UnknownFormat { file: file.to_owned(), what: what.to_owned() })
}

fn json_error(error: serde_json::Error, file: &Path) -> ReportError {
    let file = file.to_owned();
    if error.is_io() {
        let source = error.into();
        return ReportError::Unreadable { file, source };
    }
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let place = format!(" at line {line} column {column}");
    let what = crate::text::shortened(text.strip_suffix(&place).unwrap_or(&text), 200);
    ReportError::Malformed { file, line, column, what }
}

/// A text that is there and not empty.
fn some(text: Option<&Text>) -> Option<&str> {
    text.map(|Text(text)| text.as_str()).filter(|t| !t.is_empty())
}

fn owned(text: Option<&Text>) -> Option<String> {
    some(text).map(ToOwned::to_owned)
}

fn shared(text: Option<&Text>) -> Option<Arc<str>> {
    some(text).map(Into::into)
}

fn title(title: &Loose<Title>) -> Option<String> {
    let title = title.0.as_ref().map(|Title(title)| title.clone());
    title.filter(|t| !t.is_empty())
}

/// A report on its way.
struct Importer<'a> {
    file: &'a Path,
    /// What was scanned, as Trivy was told.
    artifact: Option<&'a str>,
    findings: Vec<Finding>,
    warnings: Vec<String>,
}

impl Importer<'_> {
    fn import(mut self, report: &Report) -> Result<Imported, ReportError> {
        let results = report.results.as_deref().unwrap_or_default();
        for (number, result) in results.iter().enumerate() {
            self.result(number, result)?;
        }
        let image = match &report.metadata {
            Some(metadata) => self.image(metadata)?,
            None => ReportImage::default(),
        };
        let created_at = some(report.created_at.as_ref()).and_then(|t| self.time("CreatedAt", t));
        let mut counts_by_severity = BTreeMap::new();
        for finding in &self.findings {
            *counts_by_severity.entry(finding.severity).or_insert(0) += 1;
        }
        self.warnings.sort_unstable();
        self.warnings.dedup();
        Ok(Imported {
            file: self.file.to_owned(),
            image,
            scanner: Scanner {
                name: NAME.to_owned(),
                version: report.trivy.as_ref().and_then(|tool| title(&tool.version)),
            },
            created_at,
            database_at: None,
            coverage: coverage(report.metadata.as_ref(), results),
            findings: self.findings,
            counts_by_severity,
            warnings: self.warnings,
        })
    }

    fn result(&mut self, number: usize, result: &ResultEntry) -> Result<(), ReportError> {
        let target = some(result.target.as_ref());
        // What lies in the image's configuration is listed under the name that was scanned.
        let place = target.filter(|target| Some(*target) != self.artifact);
        let place = place.map(|place| place.trim_start_matches('/').to_owned());
        for (index, entry) in result.vulnerabilities.iter().enumerate() {
            let id = self.needed(entry.id.as_ref(), "VulnerabilityID", || {
                format!("Results[{number}].Vulnerabilities[{index}]")
            })?;
            // A distribution's packages lie in its database, which Trivy does not name: their
            // target is the name that was scanned with the distribution's behind it.
            let place =
                some(result.class.as_ref()).filter(|class| *class != "os-pkgs").and(place.clone());
            let finding = self.vulnerability(id, entry, place);
            self.findings.push(finding);
        }
        for (index, entry) in result.secrets.iter().enumerate() {
            let id = self.needed(entry.id.as_ref(), "RuleID", || {
                format!("Results[{number}].Secrets[{index}]")
            })?;
            let finding = self.secret(id, entry, place.clone());
            self.findings.push(finding);
        }
        let failed = |entry: &Misconfiguration| some(entry.status.as_ref()) == Some("FAIL");
        for (index, entry) in result.misconfigurations.iter().enumerate() {
            if failed(entry) {
                let id = self.needed(entry.id.as_ref(), "ID", || {
                    format!("Results[{number}].Misconfigurations[{index}]")
                })?;
                let finding = self.misconfiguration(id, entry, place.clone());
                self.findings.push(finding);
            }
        }
        Ok(())
    }

    fn vulnerability(
        &mut self,
        id: String,
        entry: &Vulnerability,
        place: Option<String>,
    ) -> Finding {
        let severity = self.severity(entry.severity.as_ref());
        let path = some(entry.path.as_ref()).map(|p| p.trim_start_matches('/').to_owned());
        let published = title(&entry.published_date);
        Finding {
            package: shared(entry.package.as_ref()),
            version: shared(entry.installed_version.as_ref()),
            fixed_version: shared(entry.fixed_version.as_ref()),
            path: path.or(place).map(Into::into),
            title: title(&entry.title).map(Into::into),
            cvss: score(&entry.scores, title(&entry.severity_source).as_deref()),
            published: published.and_then(|date| self.time("PublishedDate", &date)),
            ..Finding::new(Class::Vulnerability, id, severity, NAME)
        }
    }

    fn secret(&mut self, id: String, entry: &Secret, place: Option<String>) -> Finding {
        let title = title(&entry.title).unwrap_or_else(|| id.clone());
        let title = match entry.start_line.0.filter(|line| *line >= 1.0) {
            Some(line) => format!("{title} (line {line})"),
            None => title,
        };
        Finding {
            path: place.map(Into::into),
            title: Some(title.into()),
            ..Finding::new(Class::Secret, id, self.severity(entry.severity.as_ref()), NAME)
        }
    }

    fn misconfiguration(
        &mut self,
        id: String,
        entry: &Misconfiguration,
        place: Option<String>,
    ) -> Finding {
        Finding {
            path: place.map(Into::into),
            title: title(&entry.title).map(Into::into),
            ..Finding::new(Class::Baseline, id, self.severity(entry.severity.as_ref()), NAME)
        }
    }

    fn needed(
        &self,
        text: Option<&Text>,
        field: &'static str,
        place: impl FnOnce() -> String,
    ) -> Result<String, ReportError> {
        owned(text).ok_or_else(|| ReportError::Incomplete {
            file: self.file.to_owned(),
            place: place(),
            field,
        })
    }

    fn severity(&mut self, word: Option<&Text>) -> Severity {
        let word = some(word).unwrap_or("UNKNOWN");
        let severity = Severity::from_scanner(word);
        if severity == Severity::Unknown && !word.eq_ignore_ascii_case("unknown") {
            let word = crate::text::shortened(word, 40);
            self.warnings.push(format!("the severity \"{word}\" is not known: taken as unknown"));
        }
        severity
    }

    fn time(&mut self, field: &str, text: &str) -> Option<Timestamp> {
        let time = text.parse().ok();
        if time.is_none() {
            let text = crate::text::shortened(text, 40);
            self.warnings.push(format!("{field} \"{text}\" is not a date: passed over"));
        }
        time
    }

    fn image(&mut self, metadata: &Metadata) -> Result<ReportImage, ReportError> {
        let diff_ids = self.digests("Metadata.DiffIDs", &metadata.diff_ids)?;
        let rootfs = metadata.image_config.as_ref().and_then(|c| c.rootfs.as_ref());
        let in_config = match rootfs {
            Some(rootfs) => {
                self.digests("Metadata.ImageConfig.rootfs.diff_ids", &rootfs.diff_ids)?
            }
            None => Vec::new(),
        };
        if !diff_ids.is_empty() && !in_config.is_empty() && diff_ids != in_config {
            let file = self.file.to_owned();
            return Err(ReportError::Contradiction { file });
        }
        let config = some(metadata.image_id.as_ref())
            .map(|id| self.digest("Metadata.ImageID", id))
            .transpose()?;
        Ok(ReportImage {
            config,
            repo_digests: self.references("RepoDigests", &metadata.repo_digests),
            diff_ids: if diff_ids.is_empty() { in_config } else { diff_ids },
            references: self.references("RepoTags", &metadata.repo_tags).into_iter().collect(),
        })
    }

    fn digest(&self, field: &'static str, text: &str) -> Result<Digest, ReportError> {
        text.parse().map_err(|source| ReportError::BadDigest {
            file: self.file.to_owned(),
            field,
            source,
        })
    }

    fn digests(&self, field: &'static str, names: &Names) -> Result<Vec<Digest>, ReportError> {
        names.0.iter().map(|Text(text)| self.digest(field, text)).collect()
    }

    /// References are for people, so one that is none does not spoil the report.
    fn references(&mut self, field: &str, names: &Names) -> Vec<ImageRef> {
        let mut references = Vec::new();
        for Text(text) in &names.0 {
            match text.parse() {
                Ok(reference) => references.push(reference),
                Err(error) => self.warnings.push(format!("{field}: {error}: passed over")),
            }
        }
        references
    }
}

/// The base score of the source that Trivy takes the severity from, so that word and number agree;
/// if that source gives none, the highest.
fn score(scores: &Scores, source: Option<&str>) -> Option<f32> {
    let own = scores.0.iter().find(|(name, _)| Some(name.as_str()) == source);
    let highest = || scores.0.iter().max_by(|(_, a), (_, b)| a.total_cmp(b));
    own.or_else(highest).map(|(_, score)| *score as f32)
}

fn coverage(metadata: Option<&Metadata>, results: &[ResultEntry]) -> Coverage {
    let mut coverage = Coverage::default();
    let mut has_distribution = false;
    for result in results {
        let class = some(result.class.as_ref()).unwrap_or_default();
        let is_packages = matches!(class, "os-pkgs" | "lang-pkgs");
        has_distribution |= class == "os-pkgs";
        if is_packages {
            coverage.ecosystems.extend(owned(result.kind.as_ref()));
        }
        for (class, looked_at) in [
            (Class::Vulnerability, is_packages || !result.vulnerabilities.is_empty()),
            (Class::Secret, class == "secret" || !result.secrets.is_empty()),
            (Class::Baseline, class == "config" || !result.misconfigurations.is_empty()),
        ] {
            if looked_at {
                coverage.classes.insert(class);
            }
        }
    }
    let os = metadata.and_then(|m| m.os.as_ref());
    let family = os.and_then(|os| some(os.family.as_ref())).filter(|f| *f != NO_DISTRIBUTION);
    if let (Some(os), Some(family)) = (os, family) {
        let release = some(os.name.as_ref());
        coverage.distribution = Some(match release {
            Some(release) => format!("{family} {release}"),
            None => family.to_owned(),
        });
        coverage.end_of_life = os.end_of_life.unwrap_or(false);
        if !has_distribution {
            coverage.uncovered.insert(family.to_owned());
        }
    }
    coverage
}

#[cfg(test)]
mod tests;
