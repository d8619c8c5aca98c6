//! Verdicts: what scanners found about one image. Never a decision.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Class, Digest, Finding, Severity, Text};

/// Who scanned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Scanner {
    /// Name, lower case: `trivy`, `portcullis`.
    pub name: String,
    /// Version, if the report says it.
    #[serde(default)]
    pub version: Option<String>,
}

/// How a report is known to speak of its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Binding {
    /// The report itself names the image's config digest, a repository digest or its diff IDs.
    ByReport,
    /// Only whoever imported it said so: claimed by the importer.
    ByImporter,
    /// Our own scanner read the image's layers. No report that is imported is of this kind, so
    /// nothing was left out of one by a filter.
    ByScan,
    /// Our own scanner read the image's layers on another node, which signed it with a key that is
    /// trusted here. What that node knew may be more or less than what this one knows.
    BySignature,
}

/// What a report looked at, and how far its silence means anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Coverage {
    /// Classes of findings that were looked for.
    pub classes: BTreeSet<Class>,
    /// Ecosystems for which advisories were asked: `debian`, `gemspec`.
    #[serde(default)]
    pub ecosystems: BTreeSet<String>,
    /// Ecosystems that were found in the image but had no advisories.
    #[serde(default)]
    pub uncovered: BTreeSet<String>,
    /// Distribution and release, `debian 10.1`; `None` if the scanner did not recognise one.
    #[serde(default)]
    pub distribution: Option<String>,
    /// The distribution's release gets no advisories any more.
    #[serde(default)]
    pub end_of_life: bool,
}

impl Coverage {
    /// Whether everything that `other` looked at was looked at here too.
    fn includes(&self, other: &Self) -> bool {
        other.classes.is_subset(&self.classes)
            && other.ecosystems.is_subset(&self.ecosystems)
            && (other.distribution.is_none() || other.distribution == self.distribution)
    }
}

/// What one scanner said about one image, at one time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ScanReport {
    /// Who.
    pub scanner: Scanner,
    /// When the scan was made, as the report says.
    #[cfg_attr(feature = "schema", schemars(with = "crate::TimeSchema"))]
    pub scanned_at: Timestamp,
    /// Date of the advisories it used.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::TimeSchema>"))]
    pub database_at: Option<Timestamp>,
    /// When it came into the store, by this node's clock.
    #[cfg_attr(feature = "schema", schemars(with = "crate::TimeSchema"))]
    pub imported_at: Timestamp,
    /// How it is tied to the image.
    pub binding: Binding,
    /// What was looked at.
    pub coverage: Coverage,
    /// What was found; may be empty. In a verdict that absorbed it: in order of the keys, each
    /// problem once.
    pub findings: Vec<Arc<Finding>>,
}

impl ScanReport {
    /// The date its knowledge is from: the oldest of scan, database and import. A report from the
    /// future is therefore no fresher than its import.
    pub fn as_of(&self) -> Timestamp {
        let scanned = self.database_at.map_or(self.scanned_at, |d| d.min(self.scanned_at));
        scanned.min(self.imported_at)
    }

    /// Whether this report takes the place of `older`: the same scanner, newer, covering at least
    /// as much.
    ///
    /// Filters (`--ignore-unfixed`, `--severity`) leave no trace in a report but the absence of
    /// what they hide, so a report that shows no unfixed finding, or none of some severity, does
    /// not stand in for one that shows some.
    ///
    /// Scans of other nodes never stand in for one that was made here. Among themselves the newer one
    /// does if its advisories are no older and it has found the same malware, since each node has
    /// lists of its own, and since a registry may hold back and repeat whatever it likes.
    pub fn replaces(&self, older: &Self) -> bool {
        let outdoes =
            || self.scanned_at > older.scanned_at && self.coverage.includes(&older.coverage);
        match (self.binding, older.binding) {
            (Binding::ByScan, Binding::ByScan | Binding::BySignature) => return outdoes(),
            (Binding::BySignature, Binding::BySignature) => {
                let malware = |report: &Self| -> BTreeSet<(Text, Option<Text>)> {
                    let found = report.findings.iter().filter(|f| f.class == Class::Malware);
                    found.map(|f| (f.id.clone(), f.path.clone())).collect()
                };
                return outdoes()
                    && self.database_at >= older.database_at
                    && malware(older).is_subset(&malware(self));
            }
            (Binding::ByScan | Binding::BySignature, _)
            | (_, Binding::ByScan | Binding::BySignature) => return false,
            (Binding::ByReport | Binding::ByImporter, _) => {}
        }
        let shows_unfixed = |r: &Self| r.findings.iter().any(|f| !f.is_fixable());
        let severities =
            |r: &Self| -> BTreeSet<Severity> { r.findings.iter().map(|f| f.severity).collect() };
        self.scanner.name == older.scanner.name
            && self.scanned_at > older.scanned_at
            && (self.binding == Binding::ByReport || older.binding == Binding::ByImporter)
            && self.coverage.includes(&older.coverage)
            && (shows_unfixed(self) || !shows_unfixed(older))
            && severities(older).is_subset(&severities(self))
    }

    /// Whether it looked for anything. A report that did not, and found nothing, says nothing of
    /// its image.
    pub fn says_something(&self) -> bool {
        !self.coverage.classes.is_empty() || !self.findings.is_empty()
    }

    /// Puts the findings in order of their keys, and unites those that are one problem.
    pub fn put_in_order(&mut self) {
        for finding in &mut self.findings {
            if finding.aliases.len() > MAX_ALIASES {
                Arc::make_mut(finding).aliases.truncate(MAX_ALIASES);
            }
        }
        self.findings = in_order(std::mem::take(&mut self.findings));
    }

    /// Whether both say the same of the image, whenever they came in and whatever this node has
    /// added to their findings since.
    fn repeats(&self, other: &Self) -> bool {
        let Self { scanner, scanned_at, database_at, imported_at: _, binding, coverage, findings } =
            self;
        *scanner == other.scanner
            && *scanned_at == other.scanned_at
            && *database_at == other.database_at
            && *binding == other.binding
            && *coverage == other.coverage
            && findings.len() == other.findings.len()
            && findings.iter().zip(&other.findings).all(|(a, b)| a.says_the_same(b))
    }
}

/// Most other ids of a finding that are kept: real vulnerabilities have a handful, and each is
/// compared with those of other reports at a start.
const MAX_ALIASES: usize = 64;

/// The names by which an image is found and shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ImageFacts {
    /// Digest of the image configuration: the image ID.
    pub config: Digest,
    /// Chain ID of the layers (OCI image spec, `config.md`, "Layer ChainID").
    #[serde(default)]
    pub chain_id: Option<Digest>,
    /// Manifests and indexes that reports name for it.
    #[serde(default)]
    pub manifests: BTreeSet<Digest>,
    /// References that reports name for it. For people; proves nothing.
    #[serde(default)]
    pub references: BTreeSet<String>,
}

/// What is known about one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Which image.
    pub image: ImageFacts,
    /// What scanners said, oldest first.
    pub reports: Vec<ScanReport>,
}

impl Verdict {
    /// Most reports kept about one image; more are refused, since each is read at every start.
    pub const MAX_REPORTS: usize = 16;

    /// Takes in what another report says of the same image.
    ///
    /// Returns whether anything changed. An older report of the same scanner goes if the new one
    /// [replaces](ScanReport::replaces) it; otherwise both stand. A repeated report changes
    /// nothing, and one that a stored report replaces is not added.
    pub fn absorb(&mut self, image: &ImageFacts, mut report: ScanReport) -> bool {
        report.put_in_order();
        let mut changed = false;
        if self.image.chain_id.is_none() && image.chain_id.is_some() {
            self.image.chain_id.clone_from(&image.chain_id);
            changed = true;
        }
        for manifest in &image.manifests {
            changed |= self.image.manifests.insert(manifest.clone());
        }
        for reference in &image.references {
            changed |= self.image.references.insert(reference.clone());
        }
        if self.reports.iter().any(|r| report.repeats(r) || r.replaces(&report)) {
            return changed;
        }
        self.reports.retain(|older| !report.replaces(older));
        self.reports.push(report);
        self.reports
            .sort_by(|a, b| (a.scanned_at, &a.scanner.name).cmp(&(b.scanned_at, &b.scanner.name)));
        true
    }

    /// All findings of all reports of these verdicts, each problem once, in order of their keys.
    ///
    /// Of two reports of one problem the worse severity, the known fix and the earlier dates
    /// count; `source` names both.
    pub fn merged<'a>(verdicts: impl IntoIterator<Item = &'a Self>) -> Vec<Arc<Finding>> {
        let reports = verdicts.into_iter().flat_map(|v| &v.reports);
        in_order(reports.flat_map(|r| r.findings.iter().cloned()).collect())
    }
}

/// These findings by key, each problem once.
fn in_order(mut findings: Vec<Arc<Finding>>) -> Vec<Arc<Finding>> {
    // The store keeps each report so, and there is nothing to do for a single one.
    if findings.is_sorted_by(|a, b| a.key() < b.key()) {
        return findings;
    }
    // The sort finds the runs that are in order already, so that a few reports are only woven.
    findings.sort_by(|a, b| a.key().cmp(&b.key()));
    let mut sources = Sources::default();
    findings.dedup_by(|next, known| {
        let same = next.key() == known.key();
        if same {
            unite(Arc::make_mut(known), next, &mut sources);
        }
        same
    });
    findings
}

/// The last two sources that were joined, and to what: two scanners mostly meet again.
#[derive(Default)]
struct Sources(Option<[Text; 3]>);

impl Sources {
    fn join(&mut self, known: &Text, other: &Text) -> Text {
        if let Some([first, second, both]) = &self.0
            && first == known
            && second == other
        {
            return Arc::clone(both);
        }
        let mut both = known.to_string();
        for source in other.split(", ") {
            if !both.split(", ").any(|s| s == source) {
                both.push_str(", ");
                both.push_str(source);
            }
        }
        let both: Text = both.into();
        self.0 = Some([Arc::clone(known), Arc::clone(other), Arc::clone(&both)]);
        both
    }
}

fn unite(known: &mut Finding, other: &Finding, sources: &mut Sources) {
    known.severity = match (known.severity, other.severity) {
        (Severity::Unknown, s) | (s, Severity::Unknown) => s,
        (a, b) => a.min(b),
    };
    let fill = |mine: &mut Option<Text>, theirs: &Option<Text>| {
        if mine.is_none() {
            mine.clone_from(theirs);
        }
    };
    fill(&mut known.fixed_version, &other.fixed_version);
    fill(&mut known.purl, &other.purl);
    fill(&mut known.sha256, &other.sha256);
    fill(&mut known.title, &other.title);
    let higher = |a: Option<f32>, b: Option<f32>| match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    };
    known.cvss = higher(known.cvss, other.cvss);
    known.epss = higher(known.epss, other.epss);
    known.kev |= other.kev;
    let earlier = |a: Option<Timestamp>, b: Option<Timestamp>| match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    known.published = earlier(known.published, other.published);
    known.fixed = earlier(known.fixed, other.fixed);
    known.first_seen = earlier(known.first_seen, other.first_seen);
    let room = MAX_ALIASES.saturating_sub(known.aliases.len());
    let more =
        other.aliases.iter().take(MAX_ALIASES).filter(|a| !known.aliases.contains(a)).take(room);
    let more: Vec<Text> = more.cloned().collect();
    if !more.is_empty() {
        known.aliases.extend(more);
        known.aliases.sort_unstable();
    }
    if known.source != other.source {
        known.source = sources.join(&known.source, &other.source);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::FindingKey;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn finding(id: &str, severity: Severity, fixed: Option<&str>) -> Finding {
        Finding {
            package: Some("openssl".into()),
            fixed_version: fixed.map(Into::into),
            ..Finding::new(Class::Vulnerability, id, severity, "trivy")
        }
    }

    fn report(second: i64, findings: Vec<Finding>) -> ScanReport {
        ScanReport {
            scanner: Scanner { name: "trivy".into(), version: None },
            scanned_at: at(second),
            database_at: None,
            imported_at: at(1000),
            binding: Binding::ByReport,
            coverage: Coverage {
                classes: [Class::Vulnerability].into(),
                ecosystems: ["debian".to_owned()].into(),
                distribution: Some("debian 12".into()),
                ..Coverage::default()
            },
            findings: findings.into_iter().map(Arc::new).collect(),
        }
    }

    fn facts() -> ImageFacts {
        ImageFacts {
            config: Digest::sha256([1; 32]),
            chain_id: None,
            manifests: BTreeSet::new(),
            references: BTreeSet::new(),
        }
    }

    /// Absorbs the reports in the given order and says how many findings stand.
    fn standing(reports: Vec<ScanReport>) -> usize {
        let mut verdict = Verdict { image: facts(), reports: Vec::new() };
        for report in reports {
            verdict.absorb(&facts(), report);
        }
        Verdict::merged([&verdict]).len()
    }

    #[test]
    fn a_newer_report_of_equal_coverage_replaces() {
        let old =
            report(1, vec![finding("A", Severity::High, None), finding("B", Severity::High, None)]);
        let new = report(2, vec![finding("A", Severity::High, None)]);
        assert_eq!(standing(vec![old.clone(), new.clone()]), 1);
        assert_eq!(standing(vec![new, old]), 1, "the order of imports must not matter");
    }

    #[test]
    fn a_report_that_looked_at_less_makes_nothing_clean() {
        let full = report(1, vec![finding("A", Severity::High, None)]);
        let mut skipped = report(2, vec![]);
        skipped.coverage.ecosystems.clear();
        skipped.coverage.distribution = None;
        assert_eq!(standing(vec![full.clone(), skipped.clone()]), 1);
        assert_eq!(standing(vec![skipped, full]), 1);
    }

    #[test]
    fn a_filtered_report_makes_nothing_clean() {
        let full = report(
            1,
            vec![finding("A", Severity::Low, None), finding("B", Severity::High, Some("2"))],
        );
        let fixed_only = report(2, vec![finding("B", Severity::High, Some("2"))]);
        assert_eq!(standing(vec![full.clone(), fixed_only.clone()]), 2);
        assert_eq!(standing(vec![fixed_only, full]), 2);
    }

    #[test]
    fn a_report_that_hides_the_worst_makes_nothing_clean() {
        let full = report(
            1,
            vec![finding("A", Severity::Critical, Some("2")), finding("B", Severity::Low, None)],
        );
        let low_only = report(2, vec![finding("B", Severity::Low, None)]);
        assert_eq!(standing(vec![full.clone(), low_only.clone()]), 2);
        assert_eq!(standing(vec![low_only, full]), 2);
    }

    #[test]
    fn many_aliases_are_bounded() {
        let aliases = |from: usize| -> Vec<Text> {
            (from..from + 1_000).map(|n| format!("X-{n:06}").into()).collect()
        };
        let mut verdict = Verdict { image: facts(), reports: Vec::new() };
        for (second, scanner) in [(1, "a"), (2, "b")] {
            let found = Finding {
                aliases: aliases(second as usize * 1_000),
                ..finding("A", Severity::High, None)
            };
            let mut report = report(second, vec![found]);
            report.scanner.name = scanner.into();
            verdict.absorb(&facts(), report);
        }
        assert_eq!(Verdict::merged([&verdict])[0].aliases.len(), MAX_ALIASES);
    }

    #[test]
    fn a_report_bound_only_by_its_importer_does_not_replace_one_that_names_the_image() {
        let bound = report(1, vec![finding("A", Severity::High, None)]);
        let claimed = ScanReport {
            binding: Binding::ByImporter,
            ..report(2, vec![finding("B", Severity::High, None)])
        };
        assert_eq!(standing(vec![bound, claimed]), 2);
    }

    #[test]
    fn a_scan_of_our_own_replaces_the_one_before_and_no_report_replaces_it() {
        let scan =
            |second, findings| ScanReport { binding: Binding::ByScan, ..report(second, findings) };
        let bad = finding("A", Severity::Critical, None);
        let (first, corrected) = (scan(1, vec![bad.clone()]), scan(2, vec![]));
        assert_eq!(standing(vec![first.clone(), corrected.clone()]), 0);
        assert_eq!(standing(vec![corrected, first.clone()]), 0);
        // One that only says that it is ours.
        assert_eq!(standing(vec![first.clone(), report(2, vec![])]), 1);
        assert_eq!(standing(vec![report(1, vec![bad]), scan(2, vec![])]), 1);
        let mut less = scan(2, vec![]);
        less.coverage.ecosystems.clear();
        assert_eq!(standing(vec![first, less]), 1);
    }

    #[test]
    fn a_scan_of_another_node_stands_in_for_its_like_alone() {
        let with = |binding, second, database, findings| ScanReport {
            binding,
            database_at: Some(at(database)),
            ..report(second, findings)
        };
        let signed =
            |second, database, findings| with(Binding::BySignature, second, database, findings);
        let own = |second, database, findings| with(Binding::ByScan, second, database, findings);
        let bad = finding("A", Severity::Critical, None);
        let virus = Finding { class: Class::Malware, ..bad.clone() };
        for (older, newer, wanted) in [
            // What is newer in both counts, also if less is found.
            (signed(1, 1, vec![bad.clone()]), signed(2, 2, vec![]), 0),
            (signed(1, 1, vec![bad.clone()]), signed(2, 1, vec![]), 0),
            // A later scan by older advisories, and one that may have had fewer lists.
            (signed(1, 2, vec![bad.clone()]), signed(2, 1, vec![]), 1),
            (signed(1, 1, vec![virus.clone()]), signed(2, 2, vec![]), 1),
            (signed(1, 1, vec![virus.clone()]), signed(2, 2, vec![virus]), 1),
            // What was read here.
            (own(1, 1, vec![bad.clone()]), signed(2, 2, vec![]), 1),
            (signed(1, 1, vec![bad.clone()]), own(2, 1, vec![]), 0),
            // Reports that anybody may import.
            (with(Binding::ByReport, 1, 1, vec![bad.clone()]), signed(2, 2, vec![]), 1),
            (signed(1, 1, vec![bad]), with(Binding::ByReport, 2, 2, vec![]), 1),
        ] {
            let both = vec![older.clone(), newer.clone()];
            assert_eq!(standing(both), wanted, "{older:?} {newer:?}");
            assert_eq!(standing(vec![newer, older]), wanted);
        }
    }

    #[test]
    fn a_repeated_import_changes_nothing() {
        let mut verdict = Verdict { image: facts(), reports: Vec::new() };
        let first = report(1, vec![finding("A", Severity::High, None)]);
        assert!(verdict.absorb(&facts(), first.clone()));
        assert!(!verdict.absorb(&facts(), ScanReport { imported_at: at(2000), ..first }));
    }

    #[test]
    fn one_problem_seen_by_two_scanners_counts_once_and_at_its_worst() {
        let mut verdict = Verdict { image: facts(), reports: Vec::new() };
        verdict.absorb(&facts(), report(1, vec![finding("A", Severity::Unknown, None)]));
        let mut other = report(
            1,
            vec![Finding {
                source: "grype".into(),
                cvss: Some(9.1),
                ..finding("A", Severity::Critical, Some("2"))
            }],
        );
        other.scanner.name = "grype".into();
        verdict.absorb(&facts(), other);
        let merged = Verdict::merged([&verdict]);
        assert_eq!(merged.len(), 1);
        assert_eq!(merged[0].severity, Severity::Critical);
        assert_eq!(merged[0].fixed_version.as_deref(), Some("2"));
        assert!(merged[0].source.contains("grype") && merged[0].source.contains("trivy"));
    }

    #[test]
    fn a_report_from_the_future_is_as_old_as_its_import() {
        assert_eq!(report(5000, vec![]).as_of(), at(1000));
    }

    /// What [`Verdict::merged`] should give, said in another way.
    fn naive<'a>(findings: impl Iterator<Item = &'a Arc<Finding>>) -> Vec<Finding> {
        let mut problems: BTreeMap<FindingKey<'a>, Vec<&Finding>> = BTreeMap::new();
        for finding in findings {
            problems.entry(finding.key()).or_default().push(finding);
        }
        let united = problems.into_values().map(|same| {
            let known =
                |get: fn(&Finding) -> &Option<Text>| same.iter().find_map(|f| get(f).clone());
            let first =
                |get: fn(&Finding) -> Option<Timestamp>| same.iter().filter_map(|f| get(f)).min();
            let highest = |get: fn(&Finding) -> Option<f32>| {
                same.iter().filter_map(|f| get(f)).max_by(f32::total_cmp)
            };
            let severities = same.iter().map(|f| f.severity).filter(|s| *s != Severity::Unknown);
            let aliases: BTreeSet<Text> = same.iter().flat_map(|f| f.aliases.clone()).collect();
            let mut sources: Vec<&str> = Vec::new();
            for source in same.iter().flat_map(|f| f.source.split(", ")) {
                if !sources.contains(&source) {
                    sources.push(source);
                }
            }
            Finding {
                severity: severities.min().unwrap_or(Severity::Unknown),
                fixed_version: known(|f| &f.fixed_version),
                purl: known(|f| &f.purl),
                sha256: known(|f| &f.sha256),
                title: known(|f| &f.title),
                cvss: highest(|f| f.cvss),
                epss: highest(|f| f.epss),
                kev: same.iter().any(|f| f.kev),
                published: first(|f| f.published),
                fixed: first(|f| f.fixed),
                first_seen: first(|f| f.first_seen),
                aliases: aliases.into_iter().collect(),
                source: sources.join(", ").into(),
                ..same[0].clone()
            }
        });
        united.collect()
    }

    prop_compose! {
        fn any_finding()(
            id in prop::sample::select(vec!["A", "B", "C"]),
            place in prop::option::of(prop::sample::select(vec!["x", "y"])),
            fields in prop::array::uniform6(prop::option::of(0..4_u8)),
            severity in prop::sample::select(Severity::ALL),
            kev in any::<bool>(),
            aliases in prop::collection::btree_set(prop::sample::select(vec!["a", "b", "c"]), 0..3),
            source in prop::sample::select(vec!["trivy", "grype", "trivy, grype", "a"]),
        ) -> Finding {
            let text = |n: usize| fields[n].map(|v| Text::from(v.to_string()));
            let date = |n: usize| fields[n].map(|v| at(i64::from(v)));
            Finding {
                package: place.map(Into::into),
                path: place.map(Into::into),
                fixed_version: text(0),
                title: text(1),
                purl: text(2),
                sha256: text(3),
                cvss: fields[4].map(f32::from),
                epss: fields[5].map(|v| f32::from(v) / 4.0),
                kev,
                published: date(0),
                fixed: date(4),
                first_seen: date(5),
                aliases: aliases.into_iter().map(Into::into).collect(),
                ..Finding::new(Class::Vulnerability, id, severity, source)
            }
        }
    }

    proptest! {
        #[test]
        fn merged_is_what_the_naive_way_gives(
            reports in prop::collection::vec(
                (prop::collection::vec(any_finding(), 0..6), any::<bool>()),
                0..4,
            )
        ) {
            // In order, as the store keeps them, or not.
            let reports = reports.into_iter().map(|(findings, is_in_order)| {
                let mut report = report(1, findings);
                if is_in_order {
                    report.put_in_order();
                }
                report
            });
            let verdict = Verdict { image: facts(), reports: reports.collect() };
            let merged: Vec<Finding> =
                Verdict::merged([&verdict]).iter().map(|f| Finding::clone(f)).collect();
            prop_assert_eq!(merged, naive(verdict.reports.iter().flat_map(|r| &r.findings)));
        }
    }

    #[test]
    fn what_a_node_adds_to_findings_makes_no_other_report() {
        let mut verdict = Verdict { image: facts(), reports: Vec::new() };
        let known = Finding { epss: Some(0.5), ..finding("A", Severity::High, None) };
        verdict.absorb(&facts(), report(1, vec![known, finding("B", Severity::High, None)]));
        let annotated = Finding {
            epss: Some(0.1),
            kev: true,
            first_seen: Some(at(3)),
            ..finding("A", Severity::High, None)
        };
        let b = finding("B", Severity::High, None);
        // In another order, too.
        assert!(!verdict.absorb(&facts(), report(1, vec![b.clone(), annotated])));
        let other = Finding { cvss: Some(1.0), ..finding("A", Severity::High, None) };
        assert!(verdict.absorb(&facts(), report(1, vec![other, b])));
    }
}
