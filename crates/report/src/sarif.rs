//! SARIF 2.1.0 (OASIS), as Trivy, Grype and others write it.
//!
//! SARIF is made for findings in source code, so much has to be taken from what scanners add:
//!
//! - **Scanner**: the driver's name. A log of several scanners is refused, since a report is of
//!   one.
//! - **Image**: Trivy names it in the run's properties; others do not, and then the importer does.
//! - **Date**: only from `invocations`; else see [`Imported::or_scanned_at`].
//! - **Class**: by the rule's name or tags; a rule with the id of a vulnerability is one. A result
//!   of any other rule is taken as `baseline`, with a warning: it is something that a scanner
//!   holds against the image, and dropping it would make the image look better than it is.
//!   Licences are left out, as from Trivy's JSON.
//! - **Severity**: the scanner's own word, in a tag or in Trivy's and Grype's texts; else
//!   `security-severity` on CVSS's scale; else the level.
//! - **Coverage**: the classes of the rules. A rule stands there, for most scanners, only where it
//!   found something, so a log without rules says nothing; ecosystems and the distribution are
//!   never told.
//!
//! Suppressed results are not imported and make a warning; those that passed, did not apply or are
//! gone are no problems.

mod json;
mod told;

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use portcullis_types::{Class, Coverage, Finding, ImageRef, Severity, Timestamp};

use self::json::{Log, ResultEntry, Rule, Run, RunProperties, Standing, Topic};
use self::told::word;
use crate::draft::{Dates, Draft, relative};
use crate::json::{Loose, Object, Text, Texts, Title, some, title};
use crate::purl::{Purl, unescaped};
use crate::text::at_line;
use crate::{Imported, Limits, ReportError, ReportImage, ecosystem, ids};

const VERSION: &str = "2.1.0";

/// Reads a log; `file` is for messages.
pub(crate) fn read(
    input: impl Read,
    file: &Path,
    limits: &Limits,
) -> Result<Imported, ReportError> {
    let log: Log = crate::json::read(input, file, limits)?;
    if log.version.0.as_ref().is_none_or(|Title(version)| version != VERSION) {
        let what = match title(log.version) {
            Some(version) => format!("is SARIF {version}"),
            None => "has runs, as SARIF has, and no version".to_owned(),
        };
        return Err(ReportError::UnknownFormat { file: file.to_owned(), what });
    }
    let mut runs = log.runs.unwrap_or_default();
    let scanner = runs.first_mut().and_then(|run| title(std::mem::take(&mut run.tool.driver.name)));
    let Some(scanner) = scanner.map(|name| name.to_lowercase()) else {
        let (file, place) = (file.to_owned(), "runs[0].tool.driver".to_owned());
        return Err(ReportError::Incomplete { file, place, field: "name" });
    };
    let mut importer = Importer {
        draft: Draft::new(file, &scanner, limits),
        scanner,
        version: None,
        image: ReportImage::default(),
        coverage: Coverage::default(),
        created_at: None,
        left_out: LeftOut::default(),
    };
    for (number, run) in runs.into_iter().enumerate() {
        importer.run(number, run)?;
    }
    Ok(importer.finish())
}

/// A log on its way.
struct Importer<'a> {
    draft: Draft<'a>,
    scanner: String,
    version: Option<String>,
    image: ReportImage,
    coverage: Coverage,
    /// The earliest of the runs' ends.
    created_at: Option<Timestamp>,
    left_out: LeftOut,
}

/// Results that are no findings, or not clearly of a class.
#[derive(Default)]
struct LeftOut {
    suppressed: usize,
    licenses: usize,
    unclear: usize,
}

/// The rules of a run, found by id.
struct Rules {
    rules: Vec<Rule>,
    by_id: HashMap<String, usize>,
}

impl Rules {
    fn new(rules: Vec<Rule>) -> Self {
        let ids = rules.iter().enumerate();
        let by_id = ids.filter_map(|(at, rule)| Some((some(rule.id.as_ref())?.to_owned(), at)));
        Self { by_id: by_id.collect(), rules }
    }

    fn of(&self, result: &ResultEntry) -> Option<&Rule> {
        let id = some(result.rule_id.as_ref());
        let indexed = result.rule_index.and_then(|index| self.rules.get(index));
        let indexed = indexed.filter(|rule| id.is_none_or(|id| some(rule.id.as_ref()) == Some(id)));
        indexed.or_else(|| self.by_id.get(id?).map(|&at| &self.rules[at]))
    }
}

/// The name of the image that was scanned. Trivy gives it, whole or without host and tag, as the
/// place of what lies in no file of its own.
struct ScannedImage {
    name: String,
    path: Option<String>,
}

impl ScannedImage {
    fn new(name: Option<&str>) -> Option<Self> {
        let name = name?.to_owned();
        let reference: Option<ImageRef> = name.parse().ok();
        let path = reference.map(|image| image.path().collect::<Vec<_>>().join("/"));
        Some(Self { name, path })
    }

    fn is_named(&self, uri: &str) -> bool {
        uri == self.name || self.path.as_deref() == Some(uri)
    }
}

impl Importer<'_> {
    fn run(&mut self, number: usize, run: Run) -> Result<(), ReportError> {
        let driver = run.tool.driver;
        // The first run's name was taken already.
        if title(driver.name).is_some_and(|name| name.to_lowercase() != self.scanner) {
            return Err(self.draft.contradiction("its runs are of different scanners"));
        }
        self.version = self.version.take().or(title(driver.version));
        self.version = self.version.take().or(title(driver.semantic_version));
        let properties = run.properties.fields().unwrap_or_default();
        let scanned = ScannedImage::new(some(properties.image_name.0.as_ref()));
        self.image(properties)?;
        for invocation in run.invocations.0.into_iter().filter_map(Object::fields) {
            let time = title(invocation.end_time_utc).or(title(invocation.start_time_utc));
            let time = time.and_then(|time| self.draft.time("invocations.endTimeUtc", &time));
            self.created_at = [self.created_at, time].into_iter().flatten().min();
        }
        let rules = Rules::new(driver.rules.unwrap_or_default());
        for rule in &rules.rules {
            let id = some(rule.id.as_ref()).unwrap_or_default();
            let topic = topic(Some(rule), id);
            self.coverage.classes.extend(topic.and_then(class));
        }
        for (index, result) in run.results.unwrap_or_default().into_iter().enumerate() {
            let place = || format!("runs[{number}].results[{index}]");
            let rule = rules.of(&result);
            let id = result.rule_id.as_ref().or(rule.and_then(|rule| rule.id.as_ref()));
            let id = self.draft.needed(id, "ruleId", place)?.to_owned();
            self.result(&id, rule, &result, scanned.as_ref())?;
        }
        Ok(())
    }

    fn result(
        &mut self,
        id: &str,
        rule: Option<&Rule>,
        result: &ResultEntry,
        scanned: Option<&ScannedImage>,
    ) -> Result<(), ReportError> {
        match result.standing {
            Standing::Found => {}
            Standing::NoProblem => return Ok(()),
            Standing::Suppressed => {
                self.left_out.suppressed += 1;
                return Ok(());
            }
        }
        let class = match topic(rule, id) {
            None => {
                self.left_out.unclear += 1;
                Class::Baseline
            }
            Some(topic) => match class(topic) {
                Some(class) => class,
                None => {
                    self.left_out.licenses += 1;
                    return Ok(());
                }
            },
        };
        self.coverage.classes.insert(class);
        let severity = self.severity(rule, result);
        let in_image = |uri: &&str| !scanned.is_some_and(|image| image.is_named(uri));
        let uri = some(result.uri.as_ref()).filter(in_image).map(place);
        // Trivy has one rule for a vulnerability of packages of both kinds, so its name tells the
        // kind only where the image's name, which stands for a place, is not known.
        let uri = uri.filter(|_| scanned.is_some() || !rule.is_some_and(|r| r.of_distribution));
        let finding = match class {
            Class::Vulnerability => self.vulnerability(id, severity, rule, result, uri),
            _ => {
                let title = rule.and_then(|rule| rule.title.clone());
                let line = result.line.filter(|_| class == Class::Secret);
                let title = at_line(title.unwrap_or_else(|| id.to_owned()), line);
                Finding {
                    path: self.draft.shared(uri.as_deref()),
                    title: self.draft.shared(Some(&title)),
                    ..self.draft.finding(class, id, severity)
                }
            }
        };
        self.draft.push(finding)
    }

    fn vulnerability(
        &mut self,
        rule_id: &str,
        severity: Severity,
        rule: Option<&Rule>,
        result: &ResultEntry,
        uri: Option<String>,
    ) -> Finding {
        let none = Rule::default();
        let rule = rule.unwrap_or(&none);
        let (told, help) = (&result.told, &rule.told);
        let name = word(&told.package).or(word(&help.package));
        let kind = word(&told.kind).or(word(&help.kind)).unwrap_or_default();
        let version = word(&told.version).or(word(&help.version));
        let version =
            version.map(|v| ecosystem::package_version(name.unwrap_or_default(), kind, v));
        let purl = some(rule.purl.as_ref()).and_then(|text| Some((text, Purl::parse(text)?)));
        let parsed = purl.as_ref().map(|(_, purl)| purl);
        let package = name.map(|name| ecosystem::package_name(name, parsed));
        // What the help says is the rule's, and a rule may stand for several versions.
        let own_purl = purl.as_ref().filter(|(_, p)| p.version.as_deref() == word(&told.version));
        let path = word(&told.path).map(ToOwned::to_owned).or(uri);
        let path = path.filter(|_| !ecosystem::is_of_distribution(kind));
        let fixed = told.fixed_version.as_ref().or(help.fixed_version.as_ref());
        let fixed: Vec<&str> =
            fixed.map(|f| f.split(',').map(str::trim).collect()).unwrap_or_default();
        let cvss = match self.scanner.as_str() {
            // Where Trivy has no score, it makes one of the severity.
            "trivy" => rule.base_score,
            _ => rule.base_score.or(rule.security_severity.filter(|score| *score > 0.0)),
        };
        let draft = &mut self.draft;
        Finding {
            package: draft.shared(package.as_deref()),
            version: draft.shared(version.as_deref()),
            fixed_version: draft.shared(Some(&fixed.join(", "))),
            path: draft.shared(path.as_deref().map(relative)),
            purl: draft.shared(own_purl.map(|(text, _)| *text)),
            title: draft.shared(rule.title.as_deref()),
            cvss,
            ..draft.finding(Class::Vulnerability, vulnerability_id(rule_id, rule, result), severity)
        }
    }

    fn severity(&mut self, rule: Option<&Rule>, result: &ResultEntry) -> Severity {
        let told = word(&result.told.severity).and_then(known_severity);
        let of_rule = |rule: &Rule| {
            let told = || word(&rule.told.severity).and_then(known_severity);
            rule.severity.or_else(told).or_else(|| rule.security_severity.and_then(band))
        };
        let level = result.level.as_deref().or_else(|| rule?.level.as_deref());
        // SARIF 2.1.0, section 3.27.10: a level that is not told is a warning.
        told.or_else(|| of_rule(rule?)).unwrap_or_else(|| match level.unwrap_or("warning") {
            "error" => Severity::High,
            "warning" => Severity::Medium,
            "note" => Severity::Low,
            "none" => Severity::Unknown,
            other => self.draft.severity(Some(other)),
        })
    }

    fn image(&mut self, properties: RunProperties) -> Result<(), ReportError> {
        let id = some(properties.image_id.0.as_ref())
            .map(|id| self.draft.digest("runs.properties.imageID", id))
            .transpose()?;
        match (&self.image.config, id) {
            (Some(known), Some(id)) if *known != id => {
                return Err(self.draft.contradiction("its runs are about different images"));
            }
            (None, id) => self.image.config = id,
            _ => {}
        }
        let names = |list: Loose<Texts>| {
            crate::json::Few(list.0.map(|Texts(texts)| texts).unwrap_or_default())
        };
        let draft = &mut self.draft;
        let digests = draft.references("repoDigests", &names(properties.repo_digests));
        self.image.repo_digests.extend(digests);
        let tags = draft.references("repoTags", &names(properties.repo_tags));
        self.image.references.extend(tags);
        // What was scanned may be a file, whose name is no reference of interest.
        let scanned = properties.image_name.0.and_then(|Text(name)| name.parse().ok());
        self.image.repo_digests.extend(scanned.filter(|name: &ImageRef| name.digest().is_some()));
        Ok(())
    }

    fn finish(mut self) -> Imported {
        let LeftOut { suppressed, licenses, unclear } = self.left_out;
        for (count, what) in [
            (
                suppressed,
                "are not imported, since they are suppressed: what does not count belongs into a \
                 policy's exceptions",
            ),
            (licenses, "are about licences and are not imported"),
            (
                unclear,
                "are of rules that name no class (by a tag vulnerability, secret, \
                 misconfiguration or malware): taken as baseline",
            ),
        ] {
            if count > 0 {
                self.draft.warn(format!("{count} results {what}"));
            }
        }
        let dates = Dates { created_at: self.created_at, database_at: None };
        self.draft.finish(self.version, self.image, dates, self.coverage)
    }
}

fn topic(rule: Option<&Rule>, id: &str) -> Option<Topic> {
    let by_id = || ids::names_vulnerability(id).then_some(Topic::Vulnerability);
    rule.and_then(|rule| rule.topic).or_else(by_id)
}

/// The class of a topic; licences have none.
fn class(topic: Topic) -> Option<Class> {
    match topic {
        Topic::Vulnerability => Some(Class::Vulnerability),
        Topic::Secret => Some(Class::Secret),
        Topic::Misconfiguration => Some(Class::Baseline),
        Topic::Malware => Some(Class::Malware),
        Topic::License => None,
    }
}

/// The vulnerability that a rule is about; Grype puts the package's name behind its id.
fn vulnerability_id<'r>(rule_id: &'r str, rule: &'r Rule, result: &'r ResultEntry) -> &'r str {
    let begins = |id: &&str| {
        rule_id.strip_prefix(*id).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let told = word(&result.told.vulnerability).or(word(&rule.told.vulnerability));
    told.filter(begins).or(ids::vulnerability_prefix(rule_id)).unwrap_or(rule_id)
}

fn known_severity(word: &str) -> Option<Severity> {
    word.to_ascii_lowercase().parse().ok()
}

/// CVSS v3.1, section 5, "Qualitative Severity Rating Scale".
fn band(score: f32) -> Option<Severity> {
    match score {
        9.0.. => Some(Severity::Critical),
        7.0.. => Some(Severity::High),
        4.0.. => Some(Severity::Medium),
        s if s > 0.0 => Some(Severity::Low),
        _ => None,
    }
}

/// The path that a URI names.
fn place(uri: &str) -> String {
    relative(&unescaped(uri.strip_prefix("file://").unwrap_or(uri))).to_owned()
}

#[cfg(test)]
mod tests;
