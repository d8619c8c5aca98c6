//! What every store must do, as one suite of tests.

use std::collections::BTreeSet;
use std::sync::Arc;

use portcullis_types::{
    Binding, Class, Coverage, Digest, Finding, ImageFacts, ScanReport, Scanner, Severity,
    Timestamp, Verdict,
};

use crate::{Change, Depth, Detail, MAX_FINDINGS, StoreError, VerdictStore};

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
        version: Some(format!("1.{}-r{second}", n % 50).into()),
        fixed_version: (!n.is_multiple_of(3))
            .then(|| format!("1.{}-r{}", n % 50, second + 1).into()),
        path: (!n.is_multiple_of(2))
            .then(|| format!("usr/lib/package-{}/METADATA", n % 300).into()),
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
    let wanted = Verdict { image: image.clone(), reports: vec![report] };
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
}
