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

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use portcullis_types::{Class, Coverage, Finding};

use self::json::{Metadata, Misconfiguration, Report, ResultEntry, Scores, Secret, Vulnerability};
use crate::draft::{Dates, Draft, relative};
use crate::json::{Text, some, title};
use crate::text::at_line;
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
    let report: Report = crate::json::read(input, file, limits)?;
    if report.schema_version != Some(SCHEMA_VERSION) {
        let what = match report.schema_version {
            Some(other) => format!("has SchemaVersion {other}"),
            None => "has no SchemaVersion".to_owned(),
        };
        let file = file.to_owned();
        return Err(ReportError::UnknownFormat { file, what });
    }
    Importer { draft: Draft::new(file, NAME, limits), artifact: None }.import(report)
}

/// A report on its way.
struct Importer<'a> {
    draft: Draft<'a>,
    /// What was scanned, as Trivy was told.
    artifact: Option<Text>,
}

impl Importer<'_> {
    fn import(mut self, report: Report) -> Result<Imported, ReportError> {
        self.artifact = report.artifact_name;
        let results = report.results.unwrap_or_default();
        let coverage = coverage(report.metadata.as_ref(), &results);
        for (number, result) in results.into_iter().enumerate() {
            self.result(number, result)?;
        }
        let image = match &report.metadata {
            Some(metadata) => self.image(metadata)?,
            None => ReportImage::default(),
        };
        let created_at = some(report.created_at.as_ref());
        let created_at = created_at.and_then(|t| self.draft.time("CreatedAt", t));
        let version = report.trivy.and_then(|tool| title(tool.version));
        // Trivy names no date of its advisories.
        let dates = Dates { created_at, database_at: None };
        Ok(self.draft.finish(version, image, dates, coverage))
    }

    fn result(&mut self, number: usize, result: ResultEntry) -> Result<(), ReportError> {
        let target = some(result.target.as_ref());
        // What lies in the image's configuration is listed under the name that was scanned.
        let place = target.filter(|target| Some(*target) != some(self.artifact.as_ref()));
        let place = self.draft.shared(place.map(relative));
        let at = |list: &str, index: usize| format!("Results[{number}].{list}[{index}]");
        // A distribution's packages lie in its database, which Trivy does not name: their target
        // is the name that was scanned with the distribution's behind it.
        let class = some(result.class.as_ref());
        let of_packages = place.clone().filter(|_| class.is_some_and(|class| class != "os-pkgs"));
        for (index, entry) in result.vulnerabilities.unwrap_or_default().into_iter().enumerate() {
            let id = self
                .draft
                .needed(entry.id.as_ref(), "VulnerabilityID", || at("Vulnerabilities", index))?
                .to_owned();
            let finding = self.vulnerability(&id, entry, of_packages.clone());
            self.draft.push(finding)?;
        }
        for (index, entry) in result.secrets.unwrap_or_default().into_iter().enumerate() {
            let id =
                self.draft.needed(entry.id.as_ref(), "RuleID", || at("Secrets", index))?.to_owned();
            let finding = self.secret(&id, entry, place.clone());
            self.draft.push(finding)?;
        }
        let failed = |entry: &Misconfiguration| some(entry.status.as_ref()) == Some("FAIL");
        let checks = result.misconfigurations.unwrap_or_default().into_iter().enumerate();
        for (index, entry) in checks.filter(|(_, entry)| failed(entry)) {
            let id = self
                .draft
                .needed(entry.id.as_ref(), "ID", || at("Misconfigurations", index))?
                .to_owned();
            let finding = self.misconfiguration(&id, entry, place.clone());
            self.draft.push(finding)?;
        }
        Ok(())
    }

    fn vulnerability(
        &mut self,
        id: &str,
        entry: Vulnerability,
        place: Option<Arc<str>>,
    ) -> Finding {
        let draft = &mut self.draft;
        let severity = draft.severity(some(entry.severity.as_ref()));
        let path = draft.shared(some(entry.path.as_ref()).map(relative));
        let published = title(entry.published_date);
        let purl = entry.identifier.fields().and_then(|identifier| identifier.purl.0);
        let source = title(entry.severity_source);
        Finding {
            package: draft.shared(some(entry.package.as_ref())),
            version: draft.shared(some(entry.installed_version.as_ref())),
            fixed_version: draft.shared(some(entry.fixed_version.as_ref())),
            path: path.or(place),
            purl: draft.shared(some(purl.as_ref())),
            title: draft.shared(title(entry.title).as_deref()),
            cvss: score(&entry.scores, source.as_deref()),
            published: published.and_then(|date| draft.time("PublishedDate", &date)),
            ..draft.finding(Class::Vulnerability, id, severity)
        }
    }

    fn secret(&mut self, id: &str, entry: Secret, place: Option<Arc<str>>) -> Finding {
        let title = title(entry.title).unwrap_or_else(|| id.to_owned());
        let severity = self.draft.severity(some(entry.severity.as_ref()));
        Finding {
            path: place,
            title: Some(at_line(title, entry.start_line.0).into()),
            ..self.draft.finding(Class::Secret, id, severity)
        }
    }

    fn misconfiguration(
        &mut self,
        id: &str,
        entry: Misconfiguration,
        place: Option<Arc<str>>,
    ) -> Finding {
        let severity = self.draft.severity(some(entry.severity.as_ref()));
        Finding {
            path: place,
            title: self.draft.shared(title(entry.title).as_deref()),
            ..self.draft.finding(Class::Baseline, id, severity)
        }
    }

    fn image(&mut self, metadata: &Metadata) -> Result<ReportImage, ReportError> {
        let draft = &mut self.draft;
        let diff_ids = draft.digests("Metadata.DiffIDs", &metadata.diff_ids)?;
        let rootfs = metadata.image_config.as_ref().and_then(|c| c.rootfs.as_ref());
        let in_config = match rootfs {
            Some(rootfs) => {
                draft.digests("Metadata.ImageConfig.rootfs.diff_ids", &rootfs.diff_ids)?
            }
            None => Vec::new(),
        };
        if !diff_ids.is_empty() && !in_config.is_empty() && diff_ids != in_config {
            return Err(draft.contradiction(
                "Metadata.DiffIDs and Metadata.ImageConfig.rootfs.diff_ids name different layers",
            ));
        }
        let config = some(metadata.image_id.as_ref())
            .map(|id| draft.digest("Metadata.ImageID", id))
            .transpose()?;
        Ok(ReportImage {
            config,
            repo_digests: draft.references("RepoDigests", &metadata.repo_digests),
            manifests: Vec::new(),
            diff_ids: if diff_ids.is_empty() { in_config } else { diff_ids },
            references: draft.references("RepoTags", &metadata.repo_tags).into_iter().collect(),
        })
    }
}

/// The base score of the source that Trivy takes the severity from, so that word and number agree;
/// if that source gives none, the highest.
fn score(scores: &Scores, source: Option<&str>) -> Option<f32> {
    let own = scores.0.iter().find(|(name, _)| Some(name.as_str()) == source);
    let highest = || scores.0.iter().max_by(|(_, a), (_, b)| a.total_cmp(b));
    own.or_else(highest).map(|(_, score)| *score)
}

fn has<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_some_and(|list| !list.is_empty())
}

fn coverage(metadata: Option<&Metadata>, results: &[ResultEntry]) -> Coverage {
    let mut coverage = Coverage::default();
    let mut has_distribution = false;
    for result in results {
        let class = some(result.class.as_ref()).unwrap_or_default();
        let is_packages = matches!(class, "os-pkgs" | "lang-pkgs");
        has_distribution |= class == "os-pkgs";
        if is_packages {
            coverage.ecosystems.extend(some(result.kind.as_ref()).map(ToOwned::to_owned));
        }
        for (class, looked_at) in [
            (Class::Vulnerability, is_packages || has(&result.vulnerabilities)),
            (Class::Secret, class == "secret" || has(&result.secrets)),
            (Class::Baseline, class == "config" || has(&result.misconfigurations)),
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
