//! Decision cases: input and wanted decision as data, for this crate and for every door.
//!
//! A file holds the policies of its cases, once, and the cases; a case may bring its own policies.
//! What a case leaves out is the plainest thing: a start in namespace `prod` under containerd, of
//! an image that is bound, held and asked for by one name, scanned an hour ago for everything,
//! with nothing found and nothing failed. So a case says only what it is about.
//!
//! `<digest:WORD>` anywhere in a file stands for the SHA-256 of WORD: readable, and well-formed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use portcullis_types::{
    Action, Binding, Cause, Class, Coverage, Decision, Digest, Engine, Evidence, Failure, Finding,
    Identity, ImageConfig, ImageFacts, ImageRef, Kind, Lookup, Name, Reason, Request, ScanReport,
    Scanner, Severity, Subject, Surety, Verdict, VexStatement, Workload,
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::yaml::{self, SourceFile};
use crate::{Defaults, Fault, InForce, PolicySet, ProtectionPolicy};

/// The folder of the shipped cases, for tests that read them.
pub const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cases");

/// One case, ready to be put before a door.
#[derive(Debug, Clone)]
pub struct Case {
    /// File and what the case shows, for the test's message.
    pub note: String,
    /// The policies as YAML, as a node's folder would hold them.
    pub policy_text: String,
    /// The same, read.
    pub policies: Vec<ProtectionPolicy>,
    /// The node's VEX statements.
    pub vex: Vec<VexStatement>,
    /// Whether a set is published; without one the policies are empty.
    pub published: bool,
    /// The node's settings.
    pub defaults: Defaults,
    /// The start.
    pub request: Request,
    /// Its image.
    pub identity: Identity,
    /// What is known about it.
    pub evidence: Evidence,
    /// When.
    pub now: Timestamp,
    /// What must come out.
    pub wanted: Wanted,
    /// What would let it start, if the case says so.
    pub plans: Option<WantedPlans>,
    /// The line of its refusal or record, with [`EVENT_ID`] as its event, if the case says so.
    pub line: Option<String>,
    /// Whether a scan is wanted before the decision, if the case says so.
    pub scan: Option<bool>,
}

/// The event id in the lines of the cases.
pub const EVENT_ID: &str = "01JD0000000000000000000000";

/// The plans that are wanted, each change as the line that people read; left out: there is no plan
/// of this kind.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WantedPlans {
    /// Mends what can be mended.
    pub by_updates: Option<Vec<String>>,
    /// Changes policies only.
    pub by_policy: Option<Vec<String>>,
}

/// The decision that is wanted, as far as people care to write it down; all of it is compared.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Wanted {
    /// Allow, alarm or block.
    pub action: Action,
    /// Each reason of each policy in order: `production rules[0] block CVE-2024-3094`; behind it
    /// `until 2026-10-08T00:00:00Z by fixed` while its grace lasts, `waived by whitelist[0]` or
    /// `waived by whitelist[0] by name` if it is, and `expired exceptions[0]`.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// Each answer of the settings: `defaultAction alarm`.
    #[serde(default)]
    pub settings: Vec<String>,
    /// An observing policy would have blocked.
    #[serde(default)]
    pub would_block: bool,
    /// A whitelist changed the answer.
    #[serde(default)]
    pub whitelisted: bool,
    /// All distinct findings; not compared if left out.
    pub findings: Option<usize>,
    /// A part of some reason's detail; not compared if left out.
    pub detail: Option<String>,
}

/// Why a file of cases cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// It is not TOML of the form above.
    #[error("the cases of {0} cannot be read")]
    Read(String, #[source] toml::de::Error),
    /// The policies of a case have faults.
    #[error("the policies of the case \"{0}\" have faults: {1:?}")]
    Policies(String, Vec<Fault>),
}

impl Case {
    /// Reads a file of cases; `name` is shown with each.
    pub fn read_all(name: &str, text: &str) -> Result<Vec<Self>, CaseError> {
        let file: RawFile =
            toml::from_str(&with_digests(text)).map_err(|e| CaseError::Read(name.to_owned(), e))?;
        file.case.into_iter().map(|raw| raw.ready(name, &file.policy, &file.vex)).collect()
    }

    /// The set in force for this case.
    pub fn policy_set(&self) -> Result<Option<PolicySet>, Vec<Fault>> {
        let compile = || PolicySet::compile(self.policies.clone());
        Ok(self.published.then(compile).transpose()?.map(|set| set.with_vex(self.vex.clone())))
    }

    /// The decision of this crate on this case, through the published form as a door reads it.
    pub fn decide(&self) -> Result<Decision, Box<dyn std::error::Error>> {
        let set = self.policy_set().map_err(|faults| format!("{faults:?}"))?;
        let set =
            set.map(|set| PolicySet::from_published(&set.published(), set.digest())).transpose()?;
        let in_force = InForce { set: set.as_ref(), defaults: &self.defaults };
        Ok(crate::decide(&in_force, &self.request, &self.identity, &self.evidence, self.now))
    }
}

impl Wanted {
    /// What of this decision is not as wanted; empty if all is.
    pub fn differences(&self, decision: &Decision) -> Vec<String> {
        let got = Self {
            action: decision.action,
            reasons: decision
                .policies
                .iter()
                .flat_map(|p| p.reasons.iter().map(|r| reason_line(&p.policy, r)))
                .collect(),
            settings: decision
                .settings
                .iter()
                .map(|s| format!("{} {}", s.setting, s.action))
                .collect(),
            would_block: decision.would_block(),
            whitelisted: decision.whitelisted(),
            findings: self.findings.map(|_| decision.findings),
            detail: self.detail.clone(),
        };
        let mut differences = Vec::new();
        if got != *self {
            differences.push(format!("wanted {self:#?}\ngot {got:#?}"));
        }
        if let Some(part) = &self.detail
            && !details(decision).any(|detail| detail.contains(part))
        {
            differences.push(format!(
                "no detail contains \"{part}\": {:?}",
                details(decision).collect::<Vec<_>>()
            ));
        }
        differences
    }
}

fn details(decision: &Decision) -> impl Iterator<Item = &str> {
    let reasons = decision.policies.iter().flat_map(|p| &p.reasons);
    reasons
        .filter_map(|reason| match &reason.subject {
            Subject::Failure(failure) => Some(failure.detail.as_str()),
            Subject::Finding(_) | Subject::Condition(_) => None,
        })
        .chain(decision.settings.iter().map(|s| s.detail.as_str()))
}

fn reason_line(policy: &str, reason: &Reason) -> String {
    let about = match &reason.subject {
        Subject::Finding(finding) => &*finding.id,
        Subject::Condition(_) => "condition",
        Subject::Failure(failure) => failure.cause.as_str(),
    };
    let mut line = format!("{policy} {} {} {about}", reason.rule, reason.action);
    if let Some(grace) = &reason.grace {
        line.push_str(&format!(" until {} by {}", grace.until, grace.clock));
    }
    if let Some(waiver) = &reason.waived {
        line.push_str(&format!(" waived by {}", waiver.entry));
        if waiver.by_name {
            line.push_str(" by name");
        }
    }
    if let Some(expired) = &reason.expired {
        line.push_str(&format!(" expired {}", expired.entry));
    }
    line
}

fn with_digests(text: &str) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<digest:") {
        let (word, after) = after.split_once('>').unwrap_or((after, ""));
        filled.push_str(before);
        filled.push_str(&digest_of(word).to_string());
        rest = after;
    }
    filled.push_str(rest);
    filled
}

fn digest_of(word: &str) -> Digest {
    Digest::sha256(Sha256::digest(word).into())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    policy: String,
    /// VEX statements of all its cases.
    #[serde(default)]
    vex: Vec<VexStatement>,
    case: Vec<RawCase>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawCase {
    note: String,
    policy: Option<String>,
    /// VEX statements, in place of the file's.
    vex: Option<Vec<VexStatement>>,
    #[serde(default = "yes")]
    published: bool,
    now: Option<Timestamp>,
    #[serde(default)]
    settings: RawSettings,
    #[serde(default)]
    request: RawRequest,
    #[serde(default)]
    image: RawImage,
    /// Short for one report with these findings.
    findings: Option<Vec<RawFinding>>,
    reports: Option<Vec<RawReport>>,
    /// Dangerous settings of the start; left out: none.
    #[serde(default)]
    workload: RawWorkload,
    /// What the image says of itself; left out: it was not read.
    image_config: Option<RawImageConfig>,
    #[serde(default = "yes")]
    store_read: bool,
    #[serde(default)]
    failures: Vec<RawFailure>,
    wanted: Wanted,
    plans: Option<WantedPlans>,
    line: Option<String>,
    scan: Option<bool>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawSettings {
    default_action: Option<Action>,
    policy_invalid: Option<Action>,
    internal: Option<Action>,
    #[serde(default)]
    sandbox_images: BTreeSet<Digest>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawRequest {
    engine: Option<Engine>,
    node: Option<String>,
    kind: Option<Kind>,
    namespace: Option<String>,
    #[serde(default)]
    pod_labels: BTreeMap<String, String>,
    pod_known: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RawImage {
    surety: Surety,
    /// Empty: none is proven.
    config: String,
    manifests: BTreeSet<Digest>,
    /// Held by the engine's record and asked for.
    names: Vec<ImageRef>,
    /// Held, not asked for.
    held: Vec<ImageRef>,
    /// Asked for, not held.
    asked: Vec<ImageRef>,
    note: Option<String>,
}

impl Default for RawImage {
    fn default() -> Self {
        Self {
            surety: Surety::Bound,
            config: digest_of("config").to_string(),
            manifests: [digest_of("manifest")].into(),
            names: "registry.example.com/team/app:1".parse().into_iter().collect(),
            held: Vec::new(),
            asked: Vec::new(),
            note: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawFinding {
    #[serde(default = "vulnerability")]
    class: Class,
    id: String,
    #[serde(default = "critical")]
    severity: Severity,
    package: Option<String>,
    version: Option<String>,
    fixed_version: Option<String>,
    path: Option<String>,
    purl: Option<String>,
    sha256: Option<String>,
    #[serde(default)]
    aliases: Vec<String>,
    published: Option<Timestamp>,
    fixed: Option<Timestamp>,
    first_seen: Option<Timestamp>,
    cvss: Option<f32>,
    epss: Option<f32>,
    #[serde(default)]
    kev: bool,
}

fn vulnerability() -> Class {
    Class::Vulnerability
}

fn critical() -> Severity {
    Severity::Critical
}

/// A list of findings, or why there is none.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawWorkload {
    Read(Vec<RawFinding>),
    NotRead(String),
}

impl Default for RawWorkload {
    fn default() -> Self {
        Self::Read(Vec::new())
    }
}

impl RawWorkload {
    fn ready(self) -> Workload {
        match self {
            Self::Read(findings) => {
                let ready = |f: RawFinding| {
                    Arc::new(Finding { class: Class::Workload, ..f.ready("oci-spec") })
                };
                Workload::Read(findings.into_iter().map(ready).collect())
            }
            Self::NotRead(why) => Workload::NotRead(why),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawImageConfig {
    created: Option<Timestamp>,
    #[serde(default)]
    user: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl RawImageConfig {
    fn ready(self) -> ImageConfig {
        ImageConfig { created: self.created, user: self.user, labels: self.labels }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RawReport {
    /// Of which config, where several share the layers.
    config: String,
    scanner: String,
    scanned_at: Option<Timestamp>,
    database_at: Option<Timestamp>,
    imported_at: Option<Timestamp>,
    classes: BTreeSet<Class>,
    ecosystems: BTreeSet<String>,
    uncovered: BTreeSet<String>,
    /// Empty: not recognised.
    distribution: String,
    end_of_life: bool,
    findings: Vec<RawFinding>,
}

impl Default for RawReport {
    fn default() -> Self {
        Self {
            config: "config".to_owned(),
            scanner: "trivy".to_owned(),
            scanned_at: None,
            database_at: None,
            imported_at: None,
            classes: Class::ALL.iter().copied().filter(|c| c.is_scanned()).collect(),
            ecosystems: ["debian".to_owned()].into(),
            uncovered: BTreeSet::new(),
            distribution: "debian 12".to_owned(),
            end_of_life: false,
            findings: Vec::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFailure {
    cause: Cause,
    #[serde(default)]
    detail: String,
}

impl RawCase {
    fn ready(
        self,
        file: &str,
        shared_policy: &str,
        vex: &[VexStatement],
    ) -> Result<Case, CaseError> {
        let note = format!("{file}: {}", self.note);
        let policy_text = self.policy.unwrap_or_else(|| shared_policy.to_owned());
        let source = SourceFile { name: file, bytes: policy_text.as_bytes() };
        let policies =
            yaml::read(&[source]).map_err(|faults| CaseError::Policies(note.clone(), faults))?;
        let now = self.now.unwrap_or(DEFAULT_NOW);
        let reports = match (self.reports, self.findings) {
            (Some(reports), None) => reports,
            (Some(mut reports), Some(findings)) => {
                reports.push(RawReport { findings, ..RawReport::default() });
                reports
            }
            (None, findings) => {
                let findings = findings.unwrap_or_default();
                vec![RawReport { findings, ..RawReport::default() }]
            }
        };
        let lookup =
            if self.store_read { Lookup::Read(verdicts(reports, now)) } else { Lookup::NotRead };
        let failures = self.failures.into_iter().map(|f| Failure::new(f.cause, f.detail)).collect();
        Ok(Case {
            note,
            policy_text,
            policies,
            vex: self.vex.unwrap_or_else(|| vex.to_vec()),
            published: self.published,
            defaults: self.settings.ready(),
            request: self.request.ready(),
            identity: self.image.ready(),
            evidence: Evidence {
                failures,
                workload: self.workload.ready(),
                image: self.image_config.map(RawImageConfig::ready),
                ..Evidence::of(lookup)
            },
            now,
            wanted: self.wanted,
            plans: self.plans,
            line: self.line,
            scan: self.scan,
        })
    }
}

/// 2026-10-01T12:00:00Z
const DEFAULT_NOW: Timestamp = Timestamp::constant(1_790_856_000, 0);

fn verdicts(reports: Vec<RawReport>, now: Timestamp) -> Vec<Verdict> {
    let an_hour_ago = now - SignedDuration::from_hours(1);
    let mut verdicts: BTreeMap<String, Verdict> = BTreeMap::new();
    for raw in reports {
        let scanned_at = raw.scanned_at.unwrap_or(an_hour_ago);
        let report = ScanReport {
            scanner: Scanner { name: raw.scanner.clone(), version: None },
            scanned_at,
            database_at: raw.database_at,
            imported_at: raw.imported_at.unwrap_or(scanned_at),
            binding: Binding::ByReport,
            coverage: Coverage {
                classes: raw.classes,
                ecosystems: raw.ecosystems,
                uncovered: raw.uncovered,
                distribution: Some(raw.distribution).filter(|d| !d.is_empty()),
                end_of_life: raw.end_of_life,
            },
            findings: raw.findings.into_iter().map(|f| Arc::new(f.ready(&raw.scanner))).collect(),
        };
        verdicts
            .entry(raw.config.clone())
            .or_insert_with(|| Verdict {
                image: ImageFacts {
                    config: digest_of(&raw.config),
                    chain_id: Some(digest_of("chain")),
                    manifests: BTreeSet::new(),
                    references: BTreeSet::new(),
                },
                reports: Vec::new(),
            })
            .reports
            .push(report);
    }
    verdicts.into_values().collect()
}

impl RawSettings {
    fn ready(self) -> Defaults {
        let shipped = Defaults::default();
        Defaults {
            default_action: self.default_action.unwrap_or(shipped.default_action),
            policy_invalid: self.policy_invalid.unwrap_or(shipped.policy_invalid),
            internal: self.internal.unwrap_or(shipped.internal),
            sandbox_images: self.sandbox_images,
        }
    }
}

impl RawRequest {
    fn ready(self) -> Request {
        let engine = self.engine.unwrap_or(Engine::Containerd);
        let node = self.node.as_deref().unwrap_or("node-1");
        Request {
            kind: self.kind.unwrap_or(Kind::Container),
            namespace: self.namespace.unwrap_or_else(|| "prod".to_owned()),
            pod: "app-0".to_owned(),
            container: "app".to_owned(),
            pod_labels: self.pod_labels,
            pod_known: self.pod_known.unwrap_or(true),
            ..Request::new(engine, node, "case")
        }
    }
}

impl RawImage {
    fn ready(self) -> Identity {
        let names = |references: Vec<ImageRef>, held: bool, asked: bool| {
            references.into_iter().map(move |reference| Name { reference, held, asked })
        };
        Identity {
            surety: self.surety,
            chain_id: Some(digest_of("chain")),
            config: self.config.parse().ok(),
            manifests: self.manifests,
            names: names(self.names, true, true)
                .chain(names(self.held, true, false))
                .chain(names(self.asked, false, true))
                .collect(),
            note: self.note,
        }
    }
}

impl RawFinding {
    fn ready(self, source: &str) -> Finding {
        Finding {
            package: self.package.map(Into::into),
            version: self.version.map(Into::into),
            fixed_version: self.fixed_version.map(Into::into),
            path: self.path.map(Into::into),
            purl: self.purl.map(Into::into),
            sha256: self.sha256.map(Into::into),
            aliases: self.aliases.into_iter().map(Into::into).collect(),
            published: self.published,
            fixed: self.fixed,
            first_seen: self.first_seen,
            cvss: self.cvss,
            epss: self.epss,
            kev: self.kev,
            ..Finding::new(self.class, self.id, self.severity, source)
        }
    }
}
