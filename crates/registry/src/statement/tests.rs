use std::collections::BTreeSet;

use portcullis_types::{Class, ImageFacts, Severity};
use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn digest(n: u8) -> Digest {
    Digest::sha256([n; 32])
}

fn report(scanned: i64, ids: &[&str]) -> ScanReport {
    let finding = |id: &&str| Finding {
        package: Some("openssl".into()),
        first_seen: Some(at(1)),
        cvss: Some(9.8),
        ..Finding::new(Class::Vulnerability, *id, Severity::High, "portcullis")
    };
    ScanReport {
        scanner: Scanner { name: "portcullis".into(), version: Some("0.1.0".into()) },
        scanned_at: at(scanned),
        database_at: Some(at(900)),
        imported_at: at(1_000),
        binding: Binding::ByScan,
        coverage: Coverage { classes: [Class::Vulnerability].into(), ..Coverage::default() },
        findings: ids.iter().map(finding).map(Arc::new).collect(),
    }
}

fn verdict(reports: Vec<ScanReport>) -> Verdict {
    let image = ImageFacts {
        config: digest(2),
        chain_id: None,
        manifests: BTreeSet::new(),
        references: BTreeSet::new(),
    };
    Verdict { image, reports }
}

fn written(reports: Vec<ScanReport>) -> String {
    let statement = Statement::new(digest(1), &verdict(reports));
    String::from_utf8(statement.to_json().unwrap()).unwrap()
}

fn read(json: &str, now: i64) -> Result<Statement, StatementError> {
    Statement::read(json.as_bytes(), &digest(1), &digest(2), at(now))
}

#[test]
fn what_is_written_is_read_without_the_dates_of_a_node() {
    let json = written(vec![report(950, &["CVE-2024-0001"])]);
    assert!(!json.contains("importedAt") && !json.contains("\"firstSeen\":\""), "{json}");
    let statement = read(&json, 2_000).unwrap();
    let mut wanted = report(950, &["CVE-2024-0001"]);
    wanted.imported_at = at(2_000);
    Arc::make_mut(&mut wanted.findings[0]).first_seen = None;
    assert_eq!(statement.reports, [wanted]);
    assert_eq!((statement.manifest, statement.config), (digest(1), digest(2)));
    // The same whenever and wherever it came into the store.
    let mut elsewhere = report(950, &["CVE-2024-0001"]);
    elsewhere.imported_at = at(5_000);
    Arc::make_mut(&mut elsewhere.findings[0]).first_seen = Some(at(5_000));
    assert_eq!(written(vec![elsewhere]), json);
}

#[test]
fn what_others_signed_is_not_said_again() {
    let other = ScanReport { binding: Binding::BySignature, ..report(950, &["A"]) };
    let own = ScanReport { binding: Binding::ByReport, ..report(940, &["B"]) };
    let statement = Statement::new(digest(1), &verdict(vec![own.clone(), other]));
    assert_eq!(statement.reports, [own]);
    assert_eq!(statement.newest(), Some(at(940)));
}

#[test]
fn a_statement_is_about_one_image() {
    let json = written(vec![report(950, &[])]);
    let refused = |json: &str| read(json, 2_000).unwrap_err().to_string();
    let other = json.replace(digest(1).hex(), digest(3).hex());
    assert!(refused(&other).contains(&format!("another image, {}", digest(3))));
    let other = json.replace(digest(2).hex(), digest(3).hex());
    assert!(refused(&other).contains(&format!("another image, {}", digest(3))));
    let subject = format!("{{\"digest\":{{\"sha256\":\"{}\"}}}}", digest(1).hex());
    assert!(json.contains(&subject));
    for (to, wanted) in [
        (format!("{subject},{subject}"), "or of several"),
        (String::new(), "or of several"),
        ("{\"digest\":{}}".to_owned(), "another image"),
        (subject.replace("sha256", "sha512"), "another image"),
        (subject.replace("}}", ",\"sha1\":\"00\"}}"), "another image"),
    ] {
        let said = refused(&json.replace(&subject, &to));
        assert!(said.contains(wanted), "{to}: {said}");
    }
    for (from, to) in [(STATEMENT, "https://in-toto.io/Statement/v2"), (PREDICATE, "https://x/y")] {
        assert!(refused(&json.replace(from, to)).contains("another kind"));
    }
    assert!(refused("7").contains("no statement"));
    assert!(refused("{}").contains("another kind"));
}

#[test]
fn a_report_from_a_day_to_come_is_refused_and_a_clock_ahead_gains_nothing() {
    let json = written(vec![report(1_000, &[])]);
    let error = read(&json, 1_000 - AHEAD - 1).unwrap_err();
    assert!(matches!(error, StatementError::Future { .. }), "{error}");
    let reports = read(&json, 1_000 - AHEAD).unwrap().reports;
    assert_eq!(reports[0].scanned_at, at(1_000 - AHEAD));
    // One that was from the future when it was imported is as old as its import.
    let mut early = report(5_000, &[]);
    early.imported_at = at(1_000);
    assert_eq!(read(&written(vec![early]), 9_000).unwrap().reports[0].scanned_at, at(1_000));
}

#[test]
fn what_no_scanner_says_is_refused() {
    let check = |change: &dyn Fn(&mut ScanReport)| {
        let mut wrong = report(950, &["CVE-2024-0001"]);
        change(&mut wrong);
        let error = read(&written(vec![wrong]), 2_000).unwrap_err();
        assert!(matches!(error, StatementError::Unsound(_)), "{error}");
    };
    let finding = |change: &dyn Fn(&mut Finding)| {
        check(&|report| change(Arc::make_mut(&mut report.findings[0])));
    };
    check(&|r| r.scanner.name = String::new());
    check(&|r| r.scanner.name = "a\u{1b}[2J".into());
    check(&|r| r.scanner.version = Some("v".repeat(MAX_NAME + 1)));
    check(&|r| r.coverage.distribution = Some("a\nb".into()));
    check(&|r| r.coverage.ecosystems = (0..=MAX_NAMES).map(|n| n.to_string()).collect());
    check(&|r| r.coverage.classes = [Class::Workload].into());
    finding(&|f| f.class = Class::Authorization);
    finding(&|f| f.id = "".into());
    finding(&|f| f.source = "".into());
    finding(&|f| f.package = Some("".into()));
    finding(&|f| f.path = Some("p".repeat(MAX_TEXT + 1).into()));
    finding(&|f| f.sha256 = Some("A".repeat(64).into()));
    finding(&|f| f.cvss = Some(10.5));
    finding(&|f| f.cvss = Some(-1.0));
    finding(&|f| f.epss = Some(2.0));
    finding(&|f| f.aliases = vec!["a".into(); MAX_ALIASES + 1]);
    let json = written(vec![report(950, &["A"])]);
    let infinite = json.replace("\"cvss\":9.8", "\"cvss\":1e300");
    assert_ne!(json, infinite);
    assert!(matches!(read(&infinite, 2_000), Err(StatementError::Unsound(_))));
    for count in [0, Verdict::MAX_REPORTS + 1] {
        let error = read(&written(vec![report(950, &[]); count]), 2_000).unwrap_err();
        assert!(matches!(error, StatementError::Unsound(_)), "{error}");
    }
}

#[test]
fn only_a_scan_that_was_signed_is_one_of_another_node() {
    use Binding::{ByImporter, ByReport, ByScan, BySignature};
    for (is_signed, was, wanted) in [
        (true, ByScan, BySignature),
        (true, ByReport, ByReport),
        (true, ByImporter, ByImporter),
        // Nobody says that of himself.
        (true, BySignature, ByImporter),
        (false, ByScan, ByImporter),
        (false, ByReport, ByImporter),
        (false, BySignature, ByImporter),
    ] {
        let was = ScanReport { binding: was, ..report(1, &[]) };
        assert_eq!(bound(vec![was], is_signed)[0].binding, wanted);
    }
}

proptest! {
    /// Whatever becomes of its bytes, a statement is refused or sound, and never about another image.
    #[test]
    fn changed_bytes_are_refused_or_sound(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)
    ) {
        let mut json = written(vec![report(950, &["A", "B"])]).into_bytes();
        for (place, byte) in changes {
            let place = place.index(json.len());
            json[place] = byte;
        }
        if let Ok(statement) = Statement::read(&json, &digest(1), &digest(2), at(2_000)) {
            prop_assert!(String::from_utf8_lossy(&json).contains(digest(1).hex()));
            for report in &statement.reports {
                prop_assert!(report.scanned_at <= at(2_000) && report.imported_at == at(2_000));
                prop_assert!(report.findings.iter().all(|finding| is_sound(finding)));
                prop_assert!(report.findings.iter().all(|f| f.first_seen.is_none()));
            }
            let again = statement.to_json().unwrap();
            let read = Statement::read(&again, &digest(1), &digest(2), at(2_000)).unwrap();
            prop_assert_eq!(read, statement);
        }
    }
}
