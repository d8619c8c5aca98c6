//! What the advisories say of an image's packages.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use portcullis_osv::database::{Database, DatabaseError, Found};
use portcullis_osv::{Severity as Score, SeverityKind};
use portcullis_types::{Class, Coverage, Finding, Named, Severity, preferred};
use serde::{Deserialize, Serialize};

use crate::assess::{Findings, SCANNER, cut};
use crate::{Distribution, Item, Merged, Package, PackageKind, path_hash};

/// Most versions of one package in an image that are asked about; real ones have a dozen. The lists
/// of some packages are long, and each version is compared with all of one.
const MAX_VERSIONS: usize = 100;

/// What was found, and how far the silence means anything.
#[derive(Debug, Default)]
pub(crate) struct Matched {
    /// For which there were advisories, in the words of coverage.
    pub(crate) ecosystems: BTreeSet<String>,
    /// For which there were none.
    pub(crate) uncovered: BTreeSet<String>,
    /// Those of OSV, without their releases.
    pub(crate) asked: BTreeSet<String>,
}

/// Which packages are asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wishes {
    /// Only what is installed.
    LeftOut,
    /// Also what lock files ask for.
    Asked,
}

/// Asks the database about every package.
pub(crate) fn matched(
    merged: &Merged,
    distribution: Option<&Distribution>,
    database: &Database,
    wishes: Wishes,
    findings: &mut Findings,
) -> Result<Matched, DatabaseError> {
    let mut matched = Matched::default();
    let ecosystems: Vec<&str> =
        distribution.iter().flat_map(|d| &d.ecosystems).map(String::as_str).collect();
    let has_advisories = ecosystems.iter().any(|ecosystem| database.covers(ecosystem));
    let items = merged.items();
    // A distribution that has advisories speaks for the files of its packages: what it has mended
    // under an old version number is mended.
    let owned: HashSet<u64> = match has_advisories {
        true => items.iter().filter_map(|(_, item)| owned(item)).flatten().copied().collect(),
        false => HashSet::new(),
    };
    let mut versions: HashMap<(PackageKind, &str), HashSet<&str>> = HashMap::new();
    // One advisory of several products of a distribution is one finding.
    let mut seen: BTreeSet<(String, String, String, Option<String>)> = BTreeSet::new();
    for (path, item) in &items {
        let Item::Packages(packages) = item else { continue };
        for package in packages {
            if package.is_wish && wishes == Wishes::LeftOut {
                continue;
            }
            let (asked, word): (Vec<&str>, _) = match package.kind.ecosystem() {
                Some(ecosystem) => (vec![ecosystem], package.kind.coverage()),
                None => (ecosystems.clone(), distribution.map(|d| d.word.as_str())),
            };
            let is_covered = asked.iter().any(|ecosystem| database.covers(ecosystem));
            let set = if is_covered { &mut matched.ecosystems } else { &mut matched.uncovered };
            if let Some(word) = word.or(package.kind.is_of_distribution().then_some("distribution"))
                && !set.contains(word)
            {
                set.insert(word.to_owned());
            }
            let is_of_distribution = package.kind.is_of_distribution();
            if !is_covered || (!is_of_distribution && owned.contains(&path_hash(path))) {
                continue;
            }
            let of_name = versions.entry((package.kind, package.name.as_str())).or_default();
            if !of_name.contains(package.version.as_str()) {
                if of_name.len() >= MAX_VERSIONS {
                    findings.left_out(Class::Vulnerability);
                    continue;
                }
                of_name.insert(&package.version);
            }
            for ecosystem in asked.into_iter().filter(|e| database.covers(e)) {
                let base = ecosystem.split(':').next().unwrap_or_default();
                if !matched.asked.contains(base) {
                    matched.asked.insert(base.to_owned());
                }
                for finding in ask(database, ecosystem, package, path, distribution)? {
                    let key = (
                        finding.id.to_string(),
                        package.name.clone(),
                        package.version.clone(),
                        finding.path.as_deref().map(ToOwned::to_owned),
                    );
                    if seen.insert(key) {
                        findings.add(finding);
                    }
                }
            }
        }
    }
    Ok(matched)
}

/// The ecosystems of the OSV schema that these words of a coverage stand for.
pub fn ecosystems_of(coverage: &Coverage, words: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let distribution = coverage.distribution.as_deref().map(Distribution::of_name);
    for word in words {
        let kind = PackageKind::ALL.into_iter().find(|kind| kind.coverage() == Some(word.as_str()));
        match (kind.and_then(PackageKind::ecosystem), &distribution) {
            (Some(ecosystem), _) => drop(found.insert(ecosystem.to_owned())),
            (None, Some(distribution)) => found.extend(distribution.ecosystems.iter().cloned()),
            (None, None) => {}
        }
    }
    found
}

fn owned(item: &Item) -> Option<&Vec<u64>> {
    match item {
        Item::Owned(paths) => Some(paths),
        _ => None,
    }
}

/// The findings about one package, each CVE one.
fn ask(
    database: &Database,
    ecosystem: &str,
    package: &Package,
    path: &str,
    distribution: Option<&Distribution>,
) -> Result<Vec<Finding>, DatabaseError> {
    let mut by_id: BTreeMap<String, Finding> = BTreeMap::new();
    for (name, version) in names(ecosystem, package) {
        let found = match database.query(ecosystem, name, version) {
            Ok(found) => found,
            // A version that has no order is no reason to give the rest up; nothing can be said.
            Err(DatabaseError::Version(_)) => continue,
            Err(error) => return Err(error),
        };
        for found in found {
            if is_of_another_module(package, found.fixed.as_deref()) {
                continue;
            }
            for finding in findings(&found, package, path, distribution) {
                // Of two advisories of one CVE, the one that says how to mend it says more.
                let known = by_id.entry(finding.id.to_string()).or_insert_with(|| finding.clone());
                if known.fixed_version.is_none() && finding.fixed_version.is_some() {
                    *known = finding;
                }
            }
        }
    }
    Ok(by_id.into_values().collect())
}

/// By which names and versions an ecosystem's advisories may know a package: Debian's, Ubuntu's and
/// Alpine's speak of what packages are built from, Red Hat's relatives of what is installed, and
/// the rest of either.
fn names<'p>(ecosystem: &str, package: &'p Package) -> Vec<(&'p str, &'p str)> {
    let own = (package.name.as_str(), package.version.as_str());
    let source = package.source.as_ref().map(|(name, version)| (name.as_str(), version.as_str()));
    let base = ecosystem.split(':').next().unwrap_or_default();
    match (package.kind, source) {
        (PackageKind::Deb | PackageKind::Apk, Some(source)) => vec![source],
        (PackageKind::Rpm, Some(source))
            if source != own && !matches!(base, "AlmaLinux" | "Rocky Linux" | "Red Hat") =>
        {
            vec![own, source]
        }
        _ => vec![own],
    }
}

/// A module of Red Hat's and its relatives has versions that tell nothing of packages outside it,
/// or of another of its streams: `1.14.0-2.module_el8.6.0+…`.
fn is_of_another_module(package: &Package, fixed: Option<&str>) -> bool {
    let is_modular = |version: &str| version.contains(".module");
    let is_of_module = package.module.is_some() || is_modular(&package.version);
    package.kind == PackageKind::Rpm && fixed.is_some_and(|fixed| is_modular(fixed) != is_of_module)
}

fn findings(
    found: &Found,
    package: &Package,
    path: &str,
    distribution: Option<&Distribution>,
) -> Vec<Finding> {
    let advisory = &found.advisory;
    // A distribution's advisory names the CVEs it mends in any of these; elsewhere what is related
    // is another problem.
    let mut others = [&advisory.aliases[..], &advisory.upstream].concat();
    if package.kind.is_of_distribution() {
        others.extend(advisory.related.iter().cloned());
    }
    let Named { ids, aliases } = preferred(&advisory.id, others);
    let (severity, cvss) = rated(found);
    let is_of_distribution = package.kind.is_of_distribution();
    let purl = package.purl(distribution.map(|d| (d.word.as_str(), d.release.as_str())));
    let place = match &package.within {
        Some(within) => format!("{path}!{within}"),
        None => path.to_owned(),
    };
    let with = |id: String| Finding {
        aliases: aliases.iter().map(|alias| alias.as_str().into()).collect(),
        package: Some(package.name.as_str().into()),
        version: Some(package.version.as_str().into()),
        fixed_version: found.fixed.as_deref().map(Into::into),
        path: (!is_of_distribution).then(|| place.as_str().into()),
        purl: Some(purl.as_str().into()),
        title: Some(cut(&advisory.summary)).filter(|title| !title.is_empty()).map(Into::into),
        cvss,
        published: advisory.published,
        ..Finding::new(Class::Vulnerability, id, severity, SCANNER)
    };
    ids.into_iter().map(with).collect()
}

/// How bad an advisory is, and its CVSS base score: the package's own rating before that of all, a
/// distribution's word before a score, since it knows how it built the package.
fn rated(found: &Found) -> (Severity, Option<f32>) {
    let advisory = &found.advisory;
    let affected = advisory.affected.first();
    let scores = affected.into_iter().flat_map(|a| &a.severity).chain(&advisory.severity);
    let mut best: Option<(SeverityKind, f32)> = None;
    let mut word = None;
    for Score { kind, score } in scores {
        match kind {
            SeverityKind::Ubuntu => word = word.or(Some(score.as_str())),
            SeverityKind::CvssV2 | SeverityKind::CvssV3 | SeverityKind::CvssV4 => {
                let Some(value) = cvss_score(score) else { continue };
                let rank = |kind| match kind {
                    SeverityKind::CvssV3 => 3,
                    SeverityKind::CvssV4 => 2,
                    _ => 1,
                };
                if best.is_none_or(|(known, _)| rank(*kind) > rank(known)) {
                    best = Some((*kind, value));
                }
            }
            SeverityKind::Other => {}
        }
    }
    let cvss = best.map(|(_, value)| value);
    let own = affected.and_then(|a| a.rating.as_deref());
    // `Important: bash security update`: Red Hat's relatives begin their titles with it.
    let of_title = advisory.summary.split_once(':').map(|(word, _)| word);
    let words = [own, word, advisory.rating.as_deref(), of_title];
    let named = words.into_iter().flatten().map(Severity::from_scanner);
    let named = named.into_iter().find(|severity| *severity != Severity::Unknown);
    let severity = named.or_else(|| Some(of_score(best?))).unwrap_or(Severity::Unknown);
    (severity, cvss)
}

/// The base score of a vector; of CVSS 2 too, whose vectors have no prefix.
fn cvss_score(vector: &str) -> Option<f32> {
    let vector: cvss::Cvss = vector.parse().ok()?;
    let score = vector.score() as f32;
    (0.0..=10.0).contains(&score).then_some(score)
}

/// Qualitative severity (CVSS 3.1 and 4.0, "Qualitative Severity Rating Scale"; NVD's for 2).
fn of_score((kind, score): (SeverityKind, f32)) -> Severity {
    match score {
        s if s >= 9.0 && kind != SeverityKind::CvssV2 => Severity::Critical,
        s if s >= 7.0 => Severity::High,
        s if s >= 4.0 => Severity::Medium,
        _ => Severity::Low,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_coverage_stand_for_ecosystems() {
        let of = |distribution: Option<&str>, words: &[&str]| -> Vec<String> {
            let distribution = distribution.map(ToOwned::to_owned);
            let coverage = Coverage { distribution, ..Coverage::default() };
            let words = words.iter().map(ToString::to_string).collect();
            ecosystems_of(&coverage, &words).into_iter().collect()
        };
        assert_eq!(of(Some("debian 12"), &["debian", "node-pkg"]), ["Debian:12", "npm"]);
        assert_eq!(of(Some("alma 9.4"), &["alma"]), ["AlmaLinux:9"]);
        assert_eq!(of(None, &["jar", "gemspec", "what"]), ["Maven", "RubyGems"]);
        assert_eq!(of(Some("debian 12"), &[]), Vec::<String>::new());
    }
}
