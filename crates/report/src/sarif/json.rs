//! The part of SARIF that we read (OASIS SARIF 2.1.0), with the properties that Trivy and Grype
//! add (aquasecurity/trivy `pkg/report/sarif.go`, anchore/grype `grype/presenter/sarif/`).
//!
//! Rules and results are boiled down as they are read, so that their texts are not kept.

use portcullis_types::Severity;
use serde::Deserialize;

use super::told::Told;
use crate::json::{
    Few, Lines, Loose, Object, Seed, Text, Texts, Title, base_score, budgeted, plain, title,
};

#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) version: Loose<Title>,
    pub(super) runs: Option<Vec<Run>>,
}

budgeted! {
    Log, "a SARIF log" {
        Version = "version" => version,
        Runs = "runs" => runs [Seed::<Run>::new; entries],
    }
}

#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) tool: Tool,
    pub(super) results: Option<Vec<ResultEntry>>,
    pub(super) invocations: Few<Object<Invocation>>,
    pub(super) properties: Object<RunProperties>,
}

budgeted! {
    Run, "a run" {
        Tool = "tool" => tool {Tool},
        Results = "results" => results [plain::<ResultEntry>; findings],
        Invocations = "invocations" => invocations,
        Properties = "properties" => properties,
    }
}

#[derive(Debug, Default)]
pub(super) struct Tool {
    pub(super) driver: Driver,
}

budgeted! {
    Tool, "a tool" {
        Driver = "driver" => driver {Driver},
    }
}

#[derive(Debug, Default)]
pub(super) struct Driver {
    pub(super) name: Loose<Title>,
    pub(super) version: Loose<Title>,
    pub(super) semantic_version: Loose<Title>,
    pub(super) rules: Option<Vec<Rule>>,
}

budgeted! {
    Driver, "a driver" {
        Name = "name" => name,
        Version = "version" => version,
        SemanticVersion = "semanticVersion" => semantic_version,
        Rules = "rules" => rules [plain::<Rule>; entries],
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Invocation {
    pub(super) start_time_utc: Loose<Title>,
    pub(super) end_time_utc: Loose<Title>,
}

/// What Trivy says of the image.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RunProperties {
    #[serde(rename = "imageID")]
    pub(super) image_id: Loose<Text>,
    pub(super) image_name: Loose<Text>,
    pub(super) repo_tags: Loose<Texts>,
    pub(super) repo_digests: Loose<Texts>,
}

/// What kind of problem a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    Vulnerability,
    Secret,
    Misconfiguration,
    Malware,
    License,
}

/// A rule.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "RawRule")]
pub(super) struct Rule {
    pub(super) id: Option<Text>,
    /// As its name or its tags say.
    pub(super) topic: Option<Topic>,
    /// It is about packages of the distribution.
    pub(super) of_distribution: bool,
    pub(super) title: Option<String>,
    pub(super) level: Option<String>,
    /// The severity that its tags name.
    pub(super) severity: Option<Severity>,
    /// `security-severity`: on CVSS's scale, a base score or made of a word.
    pub(super) security_severity: Option<f32>,
    /// Trivy's own base score of CVSS.
    pub(super) base_score: Option<f32>,
    pub(super) purl: Option<Text>,
    pub(super) told: Told,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawRule {
    id: Option<Text>,
    name: Loose<Title>,
    short_description: Object<Message<Title>>,
    help: Object<Message<Lines>>,
    default_configuration: Object<Configuration>,
    properties: Object<RuleProperties>,
}

#[derive(Deserialize)]
#[serde(bound = "Loose<T>: Deserialize<'de>")]
struct Message<T> {
    #[serde(default)]
    text: Loose<T>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Configuration {
    level: Loose<Title>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RuleProperties {
    tags: Loose<Texts>,
    purls: Loose<Texts>,
    #[serde(rename = "security-severity")]
    security_severity: Loose<f64>,
    #[serde(rename = "cvssv3_baseScore")]
    cvss_3: Loose<f64>,
    #[serde(rename = "cvssv40_baseScore")]
    cvss_4: Loose<f64>,
}

impl From<RawRule> for Rule {
    fn from(raw: RawRule) -> Self {
        let properties = raw.properties.fields().unwrap_or_default();
        let tags = properties.tags.0.map(|Texts(tags)| tags).unwrap_or_default();
        let name = title(raw.name).unwrap_or_default();
        let by_tag = tags.iter().find_map(|Text(tag)| Topic::of_tag(tag));
        let mut purls = properties.purls.0.map(|Texts(purls)| purls).unwrap_or_default();
        let help = raw.help.fields().and_then(|help| help.text.0);
        let description = raw.short_description.fields().map(|message| message.text);
        let configuration = raw.default_configuration.fields();
        Self {
            id: raw.id,
            topic: Topic::of_name(&name).or(by_tag),
            of_distribution: name == "OsPackageVulnerability",
            title: description.and_then(title),
            level: configuration.and_then(|c| title(c.level)),
            severity: tags.iter().find_map(|Text(tag)| tag.to_ascii_lowercase().parse().ok()),
            security_severity: base_score(&properties.security_severity),
            base_score: base_score(&properties.cvss_3).or(base_score(&properties.cvss_4)),
            // One rule may stand for several packages: then none is its own.
            purl: if purls.len() == 1 { purls.pop() } else { None },
            told: help.map(|Lines(text)| Told::of_lines(&text)).unwrap_or_default(),
        }
    }
}

impl Topic {
    /// The names that Trivy gives its rules.
    fn of_name(name: &str) -> Option<Self> {
        match name {
            "OsPackageVulnerability" | "LanguageSpecificPackageVulnerability" => {
                Some(Self::Vulnerability)
            }
            "Misconfiguration" => Some(Self::Misconfiguration),
            "Secret" => Some(Self::Secret),
            "License" => Some(Self::License),
            _ => None,
        }
    }

    fn of_tag(tag: &str) -> Option<Self> {
        match tag.to_ascii_lowercase().as_str() {
            "vulnerability" => Some(Self::Vulnerability),
            "secret" | "secrets" => Some(Self::Secret),
            "misconfiguration" => Some(Self::Misconfiguration),
            "malware" => Some(Self::Malware),
            "license" => Some(Self::License),
            _ => None,
        }
    }
}

/// A result.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "RawResult")]
pub(super) struct ResultEntry {
    pub(super) rule_id: Option<Text>,
    pub(super) rule_index: Option<usize>,
    pub(super) level: Option<String>,
    pub(super) standing: Standing,
    pub(super) uri: Option<Text>,
    pub(super) line: Option<f64>,
    pub(super) told: Told,
}

/// Whether a result is a problem that is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Standing {
    #[default]
    Found,
    /// The check passed, or did not apply, or what an earlier run found is gone.
    NoProblem,
    /// Somebody decided that it does not count.
    Suppressed,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawResult {
    rule_id: Option<Text>,
    rule_index: Loose<f64>,
    rule: Object<RuleReference>,
    level: Loose<Title>,
    kind: Loose<Title>,
    baseline_state: Loose<Title>,
    message: Object<Message<Lines>>,
    locations: Few<Object<Location>>,
    suppressions: Few<Object<Suppression>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RuleReference {
    id: Option<Text>,
    index: Loose<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Location {
    physical_location: Object<PhysicalLocation>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PhysicalLocation {
    artifact_location: Object<ArtifactLocation>,
    region: Object<Region>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ArtifactLocation {
    uri: Option<Text>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Region {
    start_line: Loose<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Suppression {
    status: Loose<Title>,
}

impl From<RawResult> for ResultEntry {
    fn from(raw: RawResult) -> Self {
        let standing = raw.standing();
        let rule = raw.rule.fields().unwrap_or_default();
        let index = raw.rule_index.0.or(rule.index.0);
        let place = raw.locations.0.into_iter().find_map(Object::fields);
        let place = place.and_then(|p| p.physical_location.fields()).unwrap_or_default();
        let message = raw.message.fields().and_then(|message| message.text.0);
        Self {
            rule_id: raw.rule_id.or(rule.id),
            rule_index: index.filter(|index| *index >= 0.0).map(|index| index as usize),
            level: title(raw.level),
            standing,
            uri: place.artifact_location.fields().and_then(|location| location.uri),
            line: place.region.fields().and_then(|region| region.start_line.0),
            told: message.map(|Lines(text)| Told::of_message(&text)).unwrap_or_default(),
        }
    }
}

impl RawResult {
    /// SARIF 2.1.0, sections 3.27.9 (`kind`), 3.27.24 (`baselineState`), 3.27.23 (`suppressions`)
    /// and 3.35.3 (a suppression counts unless its status says that it is not accepted).
    fn standing(&self) -> Standing {
        let is = |member: &Loose<Title>, words: &[&str]| {
            member.0.as_ref().is_some_and(|Title(word)| words.contains(&word.as_str()))
        };
        let waits = |suppression: &Object<Suppression>| {
            suppression.get().is_some_and(|s| is(&s.status, &["underReview", "rejected"]))
        };
        if is(&self.kind, &["pass", "notApplicable", "informational"])
            || is(&self.baseline_state, &["absent"])
        {
            Standing::NoProblem
        } else if !self.suppressions.0.is_empty() && !self.suppressions.0.iter().any(waits) {
            Standing::Suppressed
        } else {
            Standing::Found
        }
    }
}
