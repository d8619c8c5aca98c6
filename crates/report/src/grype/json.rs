//! The part of Grype's JSON that we read (anchore/grype `grype/presenter/models/`).
//!
//! What a match says is boiled down as it is read, so that its lists are not kept.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_types::is_cve;
use serde::Deserialize;

use crate::json::{
    Base64, Count, Few, Keys, Loose, Names, Object, Text, Title, base_score, budgeted, plain,
    probability, some, title,
};

#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) matches: Option<Vec<Match>>,
    pub(super) ignored: Count,
    pub(super) alerts: Option<Vec<PackageAlerts>>,
    pub(super) source: Object<Source>,
    pub(super) distro: Object<Distro>,
    pub(super) descriptor: Object<Descriptor>,
}

budgeted! {
    Report, "a report" {
        Matches = "matches" => matches [plain::<Match>; findings],
        Ignored = "ignoredMatches" => ignored,
        Alerts = "alertsByPackage" => alerts [plain::<PackageAlerts>; entries],
        Source = "source" => source,
        Distro = "distro" => distro,
        Descriptor = "descriptor" => descriptor,
    }
}

/// One match, with what its related vulnerabilities add.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "RawMatch")]
pub(super) struct Match {
    pub(super) id: Option<Text>,
    /// Ids of the related vulnerabilities.
    pub(super) related: Vec<String>,
    pub(super) severity: Option<Text>,
    /// Versions that mend it; empty unless there is a fix.
    pub(super) fixed_in: Vec<String>,
    /// Days on which they appeared.
    pub(super) fixed_on: Vec<String>,
    pub(super) title: Option<String>,
    /// What is said of the match as a whole.
    pub(super) rated: Rated,
    /// What is said of single CVEs, where it is about several.
    pub(super) by_cve: BTreeMap<String, Rated>,
    pub(super) artifact: Artifact,
}

impl Match {
    /// How bad one of its vulnerabilities is.
    pub(super) fn rated(&self, id: &str) -> Rated {
        let Some(own) = self.by_cve.get(id) else {
            return self.rated;
        };
        Rated {
            cvss: self.rated.cvss.or(own.cvss),
            epss: highest(own.epss.into_iter().chain(self.rated.epss)),
            known_exploited: own.known_exploited || self.rated.known_exploited,
        }
    }
}

/// How bad a vulnerability is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rated {
    pub(super) cvss: Option<f32>,
    pub(super) epss: Option<f32>,
    pub(super) known_exploited: bool,
}

#[derive(Debug, Default)]
pub(super) struct Artifact {
    pub(super) name: Option<Text>,
    pub(super) version: Option<Text>,
    pub(super) kind: Option<Text>,
    pub(super) path: Option<Text>,
    pub(super) purl: Option<Text>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawMatch {
    vulnerability: RawVulnerability,
    related_vulnerabilities: Few<RawVulnerability>,
    artifact: RawArtifact,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawVulnerability {
    id: Option<Text>,
    severity: Option<Text>,
    description: Loose<Title>,
    cvss: Few<Object<Cvss>>,
    epss: Few<Object<Epss>>,
    known_exploited: Few<Object<Exploited>>,
    fix: Object<Fix>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Cvss {
    version: Loose<Title>,
    metrics: Object<Metrics>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metrics {
    base_score: Loose<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Epss {
    cve: Loose<Text>,
    epss: Loose<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Exploited {
    cve: Loose<Text>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Fix {
    versions: Names,
    state: Loose<Title>,
    available: Few<Object<Available>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Available {
    date: Loose<Title>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawArtifact {
    name: Option<Text>,
    version: Option<Text>,
    #[serde(rename = "type")]
    kind: Option<Text>,
    locations: Few<Object<Location>>,
    purl: Loose<Text>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Location {
    path: Option<Text>,
    annotations: Object<Annotations>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Annotations {
    evidence: Loose<Title>,
}

impl From<RawMatch> for Match {
    fn from(raw: RawMatch) -> Self {
        let own = raw.vulnerability;
        let related = &raw.related_vulnerabilities.0;
        let (rated, by_cve) = rated(&own, related);
        let ids = related.iter().filter_map(|v| some(v.id.as_ref())).map(ToOwned::to_owned);
        let related_ids = ids.collect();
        let fix = own.fix.fields().unwrap_or_default();
        let is_fixed = !fix.state.0.is_some_and(|Title(s)| s == "not-fixed" || s == "wont-fix");
        let versions = fix.versions.0.into_iter().map(|Text(v)| v).filter(|v| !v.is_empty());
        let fixed_in: Vec<String> = if is_fixed { versions.collect() } else { Vec::new() };
        let days = fix.available.0.into_iter().filter_map(|a| title(a.fields()?.date));
        let fixed_on = if fixed_in.is_empty() { Vec::new() } else { days.collect() };
        let titles = std::iter::once(own.description)
            .chain(raw.related_vulnerabilities.0.into_iter().map(|v| v.description));
        Self {
            id: own.id,
            related: related_ids,
            severity: own.severity,
            fixed_in,
            fixed_on,
            title: titles.filter_map(title).next(),
            rated,
            by_cve,
            artifact: raw.artifact.into(),
        }
    }
}

/// What is said of a match as a whole, and of each CVE where it is about several.
///
/// EPSS and KEV name their CVE; where they do not, they are about the vulnerability in which they
/// stand. What is about none of the CVEs, as an advisory's own score, is about all of them.
fn rated(own: &RawVulnerability, related: &[RawVulnerability]) -> (Rated, BTreeMap<String, Rated>) {
    let all = || std::iter::once(own).chain(related);
    let cves: BTreeSet<&str> =
        all().filter_map(|v| some(v.id.as_ref())).filter(|id| is_cve(id)).collect();
    let is_split = cves.len() > 1;
    let mut by_cve: BTreeMap<String, Rated> = BTreeMap::new();
    if is_split {
        by_cve.extend(cves.iter().map(|cve| ((*cve).to_owned(), Rated::default())));
    }
    let mut whole = Rated::default();
    for vulnerability in all() {
        let id = some(vulnerability.id.as_ref()).unwrap_or_default();
        let mut about = |cve: Option<&Text>, change: &dyn Fn(&mut Rated)| {
            let cve = some(cve).filter(|cve| is_cve(cve)).unwrap_or(id);
            change(by_cve.get_mut(cve).unwrap_or(&mut whole));
        };
        let score = vulnerability.score();
        about(None, &|rated| rated.cvss = highest(rated.cvss.into_iter().chain(score)));
        for epss in vulnerability.epss.0.iter().filter_map(Object::get) {
            let probability = probability(&epss.epss);
            let change =
                |rated: &mut Rated| rated.epss = highest(rated.epss.into_iter().chain(probability));
            about(epss.cve.0.as_ref(), &change);
        }
        for listed in &vulnerability.known_exploited.0 {
            let cve = listed.get().and_then(|listed| listed.cve.0.as_ref());
            about(cve, &|rated| rated.known_exploited = true);
        }
    }
    if !is_split {
        whole.cvss = own.score().or(whole.cvss);
    }
    (whole, by_cve)
}

impl RawVulnerability {
    /// The highest base score of version 3 or, where there is none, of version 4.
    fn score(&self) -> Option<f32> {
        let of = |version: &str| {
            let scores = self.cvss.0.iter().filter_map(Object::get);
            let scores = scores
                .filter(|s| s.version.0.as_ref().is_some_and(|Title(v)| v.starts_with(version)));
            highest(scores.filter_map(|s| base_score(&s.metrics.get()?.base_score)))
        };
        of("3").or_else(|| of("4"))
    }
}

impl From<RawArtifact> for Artifact {
    fn from(raw: RawArtifact) -> Self {
        let is_primary = |location: &Location| {
            let evidence = location.annotations.get().and_then(|a| a.evidence.0.as_ref());
            evidence.is_some_and(|Title(e)| e == "primary")
        };
        let mut locations: Vec<Location> =
            raw.locations.0.into_iter().filter_map(Object::fields).collect();
        let place = locations.iter().position(is_primary).unwrap_or(0);
        let location = (place < locations.len()).then(|| locations.swap_remove(place));
        Self {
            name: raw.name,
            version: raw.version,
            kind: raw.kind,
            path: location.and_then(|l| l.path),
            purl: raw.purl.0,
        }
    }
}

fn highest(scores: impl Iterator<Item = f32>) -> Option<f32> {
    scores.max_by(f32::total_cmp)
}

/// What is wrong with a package beside its vulnerabilities.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "RawAlerts")]
pub(super) struct PackageAlerts {
    /// It is of a distribution's release that has ended.
    pub(super) end_of_life: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawAlerts {
    alerts: Few<Object<Alert>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Alert {
    #[serde(rename = "type")]
    kind: Loose<Title>,
}

impl From<RawAlerts> for PackageAlerts {
    fn from(raw: RawAlerts) -> Self {
        let mut kinds = raw.alerts.0.into_iter().filter_map(|alert| alert.fields()?.kind.0);
        Self { end_of_life: kinds.any(|Title(kind)| kind == "distro-eol") }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Source {
    #[serde(rename = "type")]
    pub(super) kind: Loose<Title>,
    pub(super) target: Object<Target>,
}

/// The image that was scanned (anchore/syft `syft/source/image_metadata.go`).
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Target {
    #[serde(rename = "imageID")]
    pub(super) image_id: Option<Text>,
    pub(super) manifest_digest: Option<Text>,
    pub(super) repo_digests: Names,
    pub(super) tags: Names,
    /// The layers by their diff IDs, from the lowest up.
    pub(super) layers: Few<Layer>,
    pub(super) config: Loose<Base64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Layer {
    pub(super) digest: Option<Text>,
}

/// The image configuration, in the OCI image specification's spelling.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ImageConfig {
    pub(super) rootfs: Object<RootFs>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RootFs {
    pub(super) diff_ids: Names,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Distro {
    pub(super) name: Option<Text>,
    pub(super) version: Loose<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Descriptor {
    pub(super) name: Loose<Title>,
    pub(super) version: Loose<Title>,
    pub(super) timestamp: Loose<Title>,
    pub(super) db: Object<Database>,
}

/// The database's state: flat until Grype 0.87, below `status` since.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Database {
    pub(super) built: Loose<Title>,
    pub(super) status: Object<DatabaseStatus>,
    pub(super) providers: Loose<Keys>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DatabaseStatus {
    pub(super) built: Loose<Title>,
}
