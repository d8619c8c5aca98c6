//! What every store must do, as one suite of tests.

use std::collections::BTreeSet;
use std::sync::Arc;

use portcullis_types::{
    Binding, Class, Coverage, Digest, Finding, ImageFacts, ScanReport, Scanner, Severity,
    Timestamp, Verdict,
};

use crate::{Change, Depth, Detail, Listed, MAX_FINDINGS, StoreError, Summary, VerdictStore};

/// Runs each case on a store of its own.
///
/// # Panics
/// When a store does otherwise.
pub fn run<S: VerdictStore>(mut fresh: impl FnMut() -> S) {
    for case in [
        nothing_is_known_of_an_image_that_was_not_scanned,
        what_was_absorbed_is_found,
        a_sha512_image_is_found,
        images_that_share_layers_are_found_together,
        a_report_that_repeats_changes_nothing,
        a_report_that_saw_less_leaves_the_findings,
        a_chain_learnt_later_leads_to_the_verdict,
        reports_that_name_other_layers_are_refused,
        the_sixteenth_report_is_the_last,
        findings_beyond_the_bound_are_refused,
        what_was_removed_is_gone,
        a_list_names_every_image,
        a_decision_gets_all_but_the_titles,
        a_problem_keeps_the_date_at_which_it_was_first_seen,
        the_order_of_imports_does_not_matter_for_dates,
        an_earlier_date_of_a_repeated_report_counts,
        what_was_removed_is_forgotten_with_its_dates,
        each_finding_is_annotated_once,
    ] {
        case(&fresh());
    }
}

/// An image whose config digest is sixty-four times `digit`.
///
/// # Panics
/// If it is no hexadecimal digit.
pub fn image(digit: char) -> ImageFacts {
    ImageFacts {
        config: digest("sha256", digit, 64),
        chain_id: Some(digest("sha256", 'c', 64)),
        manifests: [digest("sha256", '7', 64)].into(),
        references: ["registry.example.com/web:1".to_owned()].into(),
    }
}

/// A report of `scanner`, made at `second`, with as many findings as wanted, all different.
///
/// # Panics
/// If the second is out of the range of times.
pub fn report(scanner: &str, second: i64, findings: usize) -> ScanReport {
    let time = |second| Timestamp::new(second, 5).expect("the time is in range");
    let finding = |n: usize| Finding {
        package: Some(format!("package-{}", n % 300).into()),
        version: Some(format!("1.{}", n % 50).into()),
        fixed_version: (!n.is_multiple_of(3))
            .then(|| format!("1.{}-r{}", n % 50, second + 1).into()),
        path: (!n.is_multiple_of(2))
            .then(|| format!("usr/lib/package-{}/METADATA", n % 300).into()),
        purl: Some(format!("pkg:deb/debian/package-{}@1.{}", n % 300, n % 50).into()),
        aliases: match n % 5 {
            0 => vec![format!("DSA-{n}").into(), format!("GHSA-{n}").into()],
            _ => Vec::new(),
        },
        title: Some(format!("package-{}: problem number {n} of its kind", n % 300).into()),
        cvss: Some(5.5),
        published: Some(time(1_600_000_000 + n as i64)),
        ..Finding::new(
            Class::Vulnerability,
            format!("CVE-2024-{n:05}"),
            Severity::ALL[n % Severity::ALL.len()],
            scanner,
        )
    };
    ScanReport {
        scanner: Scanner { name: scanner.to_owned(), version: Some("0.69.1".to_owned()) },
        scanned_at: time(second),
        database_at: Some(time(second - 60)),
        imported_at: time(second + 60),
        binding: Binding::ByReport,
        coverage: Coverage {
            classes: [Class::Vulnerability, Class::Secret].into(),
            ecosystems: ["debian".to_owned()].into(),
            uncovered: ["cobol".to_owned()].into(),
            distribution: Some("debian 12".to_owned()),
            end_of_life: false,
        },
        findings: (0..findings).map(finding).map(Arc::new).collect(),
    }
}

/// The report as it stands in a store that knows all its findings since this time.
pub fn seen_since(mut report: ScanReport, time: Timestamp) -> ScanReport {
    for finding in &mut report.findings {
        Arc::make_mut(finding).first_seen = Some(time);
    }
    report
}

fn digest(algorithm: &str, digit: char, length: usize) -> Digest {
    let hex: String = std::iter::repeat_n(digit, length).collect();
    format!("{algorithm}:{hex}").parse().expect("the digit is hexadecimal")
}

fn stored(store: &dyn VerdictStore, image: &ImageFacts) -> Verdict {
    store
        .by_config(&image.config, Detail::Full)
        .expect("the store can be read")
        .expect("the image is known")
}

fn of_chain(store: &dyn VerdictStore, chain: &Digest) -> BTreeSet<Digest> {
    let verdicts = store.by_chain(chain, Detail::Full).expect("the store can be read");
    let configs =
        verdicts.into_iter().map(|verdict| verdict.expect("no verdict is damaged").image.config);
    configs.collect()
}

fn absorb(store: &dyn VerdictStore, image: &ImageFacts, report: ScanReport) -> Change {
    let absorbed = store.absorb(image, report).expect("the report is taken in");
    assert_eq!(absorbed.verdict, stored(store, image), "said and stored differ");
    absorbed.change
}

fn nothing_is_known_of_an_image_that_was_not_scanned(store: &dyn VerdictStore) {
    absorb(store, &image('a'), report("trivy", 10, 1));
    let other = image('b');
    assert_eq!(store.by_config(&other.config, Detail::Full).expect("it can be read"), None);
    assert!(of_chain(store, &other.config).is_empty());
}

fn what_was_absorbed_is_found(store: &dyn VerdictStore) {
    let (image, report) = (image('a'), report("trivy", 10, 40));
    assert_eq!(absorb(store, &image, report.clone()), Change::Created);
    let import = report.imported_at;
    let reports = vec![seen_since(report, import)];
    let wanted = Verdict { image: image.clone(), reports };
    assert_eq!(stored(store, &image), wanted);
    let chain = image.chain_id.clone().expect("the image has a chain");
    assert_eq!(of_chain(store, &chain), [image.config].into());
}

fn a_sha512_image_is_found(store: &dyn VerdictStore) {
    let image = ImageFacts {
        config: digest("sha512", 'a', 128),
        chain_id: Some(digest("sha512", 'b', 128)),
        ..image('a')
    };
    absorb(store, &image, report("trivy", 10, 1));
    assert_eq!(stored(store, &image).image, image);
    let chain = image.chain_id.clone().expect("the image has a chain");
    assert_eq!(of_chain(store, &chain), [image.config].into());
}

fn images_that_share_layers_are_found_together(store: &dyn VerdictStore) {
    let (a, b) = (image('a'), image('b'));
    absorb(store, &b, report("trivy", 10, 1));
    absorb(store, &a, report("trivy", 10, 1));
    let chain = a.chain_id.clone().expect("the image has a chain");
    assert_eq!(of_chain(store, &chain), [a.config, b.config].into());
}

fn a_report_that_repeats_changes_nothing(store: &dyn VerdictStore) {
    let image = image('a');
    absorb(store, &image, report("trivy", 10, 3));
    assert_eq!(absorb(store, &image, report("trivy", 10, 3)), Change::Unchanged);
    assert_eq!(absorb(store, &image, report("trivy", 20, 3)), Change::Updated);
    assert_eq!(absorb(store, &image, report("trivy", 10, 3)), Change::Unchanged);
    assert_eq!(stored(store, &image).reports.len(), 1);
}

fn a_report_that_saw_less_leaves_the_findings(store: &dyn VerdictStore) {
    let image = image('a');
    absorb(store, &image, report("trivy", 10, 6));
    let mut blind = report("trivy", 20, 0);
    blind.coverage = Coverage::default();
    assert_eq!(absorb(store, &image, blind), Change::Updated);
    assert_eq!(Verdict::merged([&stored(store, &image)]).len(), 6);
}

fn a_chain_learnt_later_leads_to_the_verdict(store: &dyn VerdictStore) {
    let full = image('a');
    let chain = full.chain_id.clone().expect("the image has a chain");
    let without = ImageFacts { chain_id: None, ..full.clone() };
    absorb(store, &without, report("trivy", 10, 1));
    assert!(of_chain(store, &chain).is_empty());
    assert_eq!(absorb(store, &full, report("trivy", 10, 1)), Change::Updated);
    assert_eq!(of_chain(store, &chain), [full.config].into());
}

fn reports_that_name_other_layers_are_refused(store: &dyn VerdictStore) {
    let first = image('a');
    absorb(store, &first, report("trivy", 10, 1));
    let other = ImageFacts { chain_id: Some(digest("sha256", 'd', 64)), ..first.clone() };
    let refused = store.absorb(&other, report("trivy", 20, 1));
    assert!(matches!(refused, Err(StoreError::OtherLayers { .. })));
    assert_eq!(stored(store, &first).reports.len(), 1);
}

fn the_sixteenth_report_is_the_last(store: &dyn VerdictStore) {
    let image = image('a');
    let mut scanners = (0..).map(|n| format!("scanner-{n}"));
    for scanner in scanners.by_ref().take(Verdict::MAX_REPORTS) {
        absorb(store, &image, report(&scanner, 10, 1));
    }
    let last = scanners.next().expect("there is always another");
    let refused = store.absorb(&image, report(&last, 10, 1));
    let error = refused.expect_err("one report too many was taken in");
    assert!(
        error.to_string().contains(&format!("verdict rm {}", image.config)),
        "the error names no remedy: {error}"
    );
    assert_eq!(stored(store, &image).reports.len(), Verdict::MAX_REPORTS);
    assert_eq!(
        absorb(store, &image, report("scanner-3", 20, 1)),
        Change::Updated,
        "a report that replaces one is still welcome"
    );
}

fn findings_beyond_the_bound_are_refused(store: &dyn VerdictStore) {
    let image = image('a');
    let refused = store.absorb(&image, report("trivy", 10, MAX_FINDINGS + 1));
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })));
    assert_eq!(store.by_config(&image.config, Detail::Full).expect("it can be read"), None);
}

fn what_was_removed_is_gone(store: &dyn VerdictStore) {
    let (a, b) = (image('a'), image('b'));
    absorb(store, &a, report("trivy", 10, 1));
    absorb(store, &b, report("trivy", 10, 1));
    let removed = |image: &ImageFacts| store.remove(&image.config).expect("it can be removed");
    assert!(removed(&a));
    assert!(!removed(&a), "it was removed twice");
    assert_eq!(store.by_config(&a.config, Detail::Full).expect("it can be read"), None);
    let chain = a.chain_id.clone().expect("the image has a chain");
    assert_eq!(of_chain(store, &chain), [b.config].into());
    assert_eq!(
        absorb(store, &a, report("trivy", 5, 1)),
        Change::Created,
        "an older report is the first again"
    );
}

fn a_list_names_every_image(store: &dyn VerdictStore) {
    absorb(store, &image('b'), report("trivy", 10, 10));
    absorb(store, &image('a'), report("trivy", 10, 0));
    absorb(store, &image('b'), report("grype", 10, 10));
    let listed = store.list(Depth::Whole).expect("the store can be read");
    let configs: Vec<_> = listed.iter().map(|l| l.config.clone()).collect();
    assert_eq!(configs, [image('a').config, image('b').config]);
    let summary = listed[1].entry.as_ref().expect("it is not damaged");
    assert_eq!(summary.image, image('b'));
    assert_eq!(summary.findings.values().sum::<usize>(), 10);
    let counts: Vec<_> = summary.reports.iter().map(|(_, count)| *count).collect();
    assert_eq!(counts, [10, 10]);
    assert!(summary.reports.iter().all(|(r, _)| r.findings.is_empty()));
    let heads = store.list(Depth::Heads).expect("the store can be read");
    let entries = |listed: Vec<Listed>| -> Vec<(Digest, Summary)> {
        let entry = |l: Listed| (l.config, l.entry.expect("it is not damaged"));
        listed.into_iter().map(entry).collect()
    };
    assert_eq!(entries(heads), entries(listed));
    assert_eq!(store.count().expect("the store can be read"), 2);
}

fn a_decision_gets_all_but_the_titles(store: &dyn VerdictStore) {
    let image = image('a');
    absorb(store, &image, report("trivy", 10, 20));
    absorb(store, &image, report("grype", 10, 5));
    let mut wanted = stored(store, &image);
    for finding in wanted.reports.iter_mut().flat_map(|r| &mut r.findings) {
        assert!(finding.title.is_some(), "the suite's findings have titles");
        Arc::make_mut(finding).title = None;
    }
    let read = store.by_config(&image.config, Detail::Decision).expect("the store can be read");
    assert_eq!(read.as_ref(), Some(&wanted));
    let chain = image.chain_id.as_ref().expect("the image has a chain");
    let read = store.by_chain(chain, Detail::Decision).expect("the store can be read");
    assert_eq!(read.into_iter().map(|v| v.ok()).collect::<Vec<_>>(), [Some(wanted)]);
}

/// A report of this scanner, made and imported at `second`, of findings with these ids.
fn report_of(scanner: &str, second: i64, ids: &[&str]) -> ScanReport {
    let at = Timestamp::from_second(second).expect("the time is in range");
    let finding = |id: &&str| Finding {
        package: Some("openssl".into()),
        // What a report says of this itself does not count.
        first_seen: Some(Timestamp::UNIX_EPOCH),
        ..Finding::new(Class::Vulnerability, *id, Severity::High, scanner)
    };
    ScanReport {
        imported_at: at,
        scanned_at: at,
        findings: ids.iter().map(finding).map(Arc::new).collect(),
        ..report(scanner, second, 0)
    }
}

/// Id and second of first sight of all that stands.
fn dates(store: &dyn VerdictStore, image: &ImageFacts) -> Vec<(String, i64)> {
    let date = |f: Arc<Finding>| {
        (f.id.to_string(), f.first_seen.expect("each stored finding has a date").as_second())
    };
    Verdict::merged([&stored(store, image)]).into_iter().map(date).collect()
}

fn a_problem_keeps_the_date_at_which_it_was_first_seen(store: &dyn VerdictStore) {
    let image = image('a');
    type Step = (&'static str, i64, &'static [&'static str], &'static [(&'static str, i64)]);
    // Each report, and what stands then, with its dates.
    let steps: [Step; 7] = [
        ("trivy", 10, &["A", "B"], &[("A", 10), ("B", 10)]),
        // It is replaced, and knows one more.
        ("trivy", 20, &["A", "B", "C"], &[("A", 10), ("B", 10), ("C", 20)]),
        // Two vanish,
        ("trivy", 30, &["C"], &[("C", 20)]),
        ("trivy", 40, &["D"], &[("D", 40)]),
        // come back, one in another scanner's report,
        ("grype", 50, &["A", "E"], &[("A", 10), ("D", 40), ("E", 50)]),
        ("trivy", 60, &["B", "C"], &[("A", 10), ("B", 10), ("C", 20), ("E", 50)]),
        // and stay when the other scanner drops its own.
        ("grype", 70, &["F"], &[("B", 10), ("C", 20), ("F", 70)]),
    ];
    for (scanner, second, ids, wanted) in steps {
        absorb(store, &image, report_of(scanner, second, ids));
        let wanted: Vec<_> = wanted.iter().map(|(id, at)| ((*id).to_owned(), *at)).collect();
        assert_eq!(dates(store, &image), wanted, "after {scanner} at {second}");
    }
}

fn the_order_of_imports_does_not_matter_for_dates(store: &dyn VerdictStore) {
    let image = image('a');
    let newer = report_of("trivy", 20, &["A"]);
    // It was made before the one that is stored, which takes its place, and came in before too.
    let older = report_of("trivy", 10, &["A", "B"]);
    absorb(store, &image, newer);
    assert_eq!(absorb(store, &image, older), Change::Unchanged);
    assert_eq!(dates(store, &image), [("A".to_owned(), 10)]);
    absorb(store, &image, report_of("trivy", 30, &["B"]));
    assert_eq!(dates(store, &image), [("B".to_owned(), 10)]);
}

fn an_earlier_date_of_a_repeated_report_counts(store: &dyn VerdictStore) {
    let image = image('a');
    let report = |imported| ScanReport {
        imported_at: Timestamp::from_second(imported).expect("the time is in range"),
        ..report_of("trivy", 10, &["A"])
    };
    absorb(store, &image, report(50));
    for (imported, wanted) in [(60, 50), (40, 40), (50, 40)] {
        assert_eq!(absorb(store, &image, report(imported)), Change::Unchanged);
        assert_eq!(dates(store, &image), [("A".to_owned(), wanted)], "imported at {imported}");
    }
}

fn what_was_removed_is_forgotten_with_its_dates(store: &dyn VerdictStore) {
    let image = image('a');
    absorb(store, &image, report_of("trivy", 10, &["A"]));
    absorb(store, &image, report_of("trivy", 20, &[]));
    assert!(store.remove(&image.config).expect("it can be removed"));
    absorb(store, &image, report_of("trivy", 30, &["A"]));
    assert_eq!(dates(store, &image), [("A".to_owned(), 30)]);
}

fn each_finding_is_annotated_once(store: &dyn VerdictStore) {
    let (a, b) = (image('a'), image('b'));
    absorb(store, &a, report_of("trivy", 10, &["A", "B"]));
    absorb(store, &a, report_of("grype", 10, &["B"]));
    absorb(store, &b, report_of("trivy", 10, &["C"]));
    let exploit = |finding: &mut Finding| {
        let is_new = &*finding.id == "B" && !finding.kev;
        finding.kev |= is_new;
        is_new
    };
    for (round, wanted) in [[true, false], [false, false]].into_iter().enumerate() {
        let annotated = store.annotate(&exploit).expect("the store can be written");
        let changed: Vec<_> =
            annotated.into_iter().map(|a| (a.config, a.changed.expect("it is whole"))).collect();
        let wanted = [(a.config.clone(), wanted[0]), (b.config.clone(), wanted[1])];
        assert_eq!(changed, wanted, "round {round}");
        let known = |image| Verdict::merged([&stored(store, image)]);
        let exploited: Vec<_> = known(&a).iter().map(|f| (f.id.to_string(), f.kev)).collect();
        assert_eq!(exploited, [("A".to_owned(), false), ("B".to_owned(), true)]);
        assert!(known(&b).iter().all(|f| !f.kev));
    }
    assert_eq!(
        absorb(store, &a, report_of("trivy", 10, &["A", "B"])),
        Change::Unchanged,
        "a report is not another one for what a feed adds"
    );
    assert!(Verdict::merged([&stored(store, &a)])[1].kev);
}
