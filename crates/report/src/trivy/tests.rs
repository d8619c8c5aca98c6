use std::fs;
use std::io::Cursor;

use portcullis_types::{Severity, Verdict};

use super::*;
use crate::read;
use crate::testing::{at, check_refusal, digest, fixture, imported, refusal};

/// A report with these results, around them only what is needed.
fn with_results(results: &str) -> String {
    format!(r#"{{"SchemaVersion":2,"CreatedAt":"2026-11-02T00:00:00Z","Results":{results}}}"#)
}

#[test]
fn all_that_a_report_says_is_read() {
    let web = imported("web.json");
    assert_eq!(web.scanner.name, "trivy");
    assert_eq!(web.scanner.version.as_deref(), Some("0.69.1"));
    assert_eq!(web.created_at, Some(at("2026-11-02T09:20:30.5Z")));
    assert_eq!(web.image.config, Some(digest('a')));
    assert_eq!(web.image.diff_ids, [digest('1'), digest('2')]);
    assert_eq!(web.image.repo_digests[0].digest(), Some(&digest('b')));
    let references: Vec<_> = web.image.references.iter().map(ToString::to_string).collect();
    assert_eq!(references, ["docker.io/library/web:latest", "registry.example.com/web:1.4"]);
    let counts =
        [(Severity::Critical, 3), (Severity::High, 4), (Severity::Low, 1), (Severity::Unknown, 1)];
    assert_eq!(web.counts_by_severity, counts.into());
    assert_eq!(web.warnings, [""; 0]);
    let classes = [Class::Vulnerability, Class::Baseline, Class::Secret];
    let ecosystems = ["debian", "npm", "python-pkg"].map(ToOwned::to_owned);
    let wanted = Coverage {
        classes: classes.into(),
        ecosystems: ecosystems.into(),
        uncovered: [].into(),
        distribution: Some("debian 12.5".to_owned()),
        end_of_life: false,
    };
    assert_eq!(web.coverage, wanted);
}

#[test]
fn a_vulnerability_keeps_what_rules_ask_for() {
    let web = imported("web.json");
    let wanted = Finding {
        package: Some("xz-utils".into()),
        version: Some("5.6.0-0.1".into()),
        fixed_version: Some("5.6.1+really5.4.5-1".into()),
        title: Some("xz: malicious code in distributed source".into()),
        cvss: Some(10.0),
        published: Some(at("2024-03-29T17:15:21Z")),
        ..Finding::new(Class::Vulnerability, "CVE-2024-3094", Severity::Critical, "trivy")
    };
    assert_eq!(web.findings[0], wanted);
    assert_eq!(web.findings[1].cvss, Some(3.7), "the severity's own source scores");
    assert_eq!(web.findings[1].fixed_version, None);
    assert_eq!(web.findings[2].cvss, None);
    assert_eq!(web.findings[3].cvss, Some(8.1), "version 4 where there is no version 3");
    assert_eq!(web.findings[3].path.as_deref(), Some("app/package-lock.json"));
    let wanted = "usr/lib/python3/dist-packages/setuptools-52.0.0.egg-info/PKG-INFO";
    assert_eq!(web.findings[5].path.as_deref(), Some(wanted));
    let shop = imported("shop-trivy.json");
    let purl = "pkg:deb/debian/xz-utils@5.6.0-0.1?arch=amd64";
    assert_eq!(shop.findings[0].purl.as_deref(), Some(purl));
}

#[test]
fn only_failed_checks_are_findings() {
    let web = imported("web.json");
    let of_class = |class| web.findings.iter().filter(move |f| f.class == class);
    let checks: Vec<_> = of_class(Class::Baseline).collect();
    assert_eq!(checks.len(), 1);
    assert_eq!((&*checks[0].id, &checks[0].path), ("DS-0002", &None));
}

#[test]
fn a_secret_is_told_by_its_place_and_never_by_its_text() {
    let web = imported("web.json");
    let secret = web.findings.iter().find(|f| f.class == Class::Secret).unwrap();
    assert_eq!(secret.path.as_deref(), Some("app/.env"));
    assert_eq!(secret.title.as_deref(), Some("AWS Access Key ID (line 3)"));
    assert!(!format!("{web:?}").contains("not-a-real-key"));
}

#[test]
fn one_problem_listed_twice_counts_twice_in_the_report_and_once_in_the_verdict() {
    let web = imported("web.json");
    assert_eq!(web.findings.len(), 9);
    let (image, report) = web.bind(None, at("2026-11-03T00:00:00Z")).unwrap();
    let verdict = Verdict { image, reports: vec![report] };
    assert_eq!(Verdict::merged([&verdict]).len(), 7);
}

#[test]
fn a_distribution_without_advisories_is_uncovered() {
    let coverage = imported("rootfs.json").coverage;
    assert_eq!(coverage.classes, [Class::Vulnerability].into());
    assert_eq!(coverage.uncovered, ["centos".to_owned()].into());
    assert_eq!(coverage.distribution.as_deref(), Some("centos 6.10"));
    assert!(coverage.end_of_life);
}

#[test]
fn a_report_without_results_covers_nothing() {
    let text = with_results("null");
    let report = read(Cursor::new(text.as_bytes()), &Limits::default()).unwrap();
    assert_eq!(report.coverage, Coverage::default());
}

#[test]
fn strange_values_where_nothing_depends_on_them_are_passed_over() {
    let hostile = imported("hostile.json");
    assert_eq!(hostile.scanner.version, None);
    assert_eq!(hostile.image.config, Some(digest('c')));
    assert_eq!(hostile.image.references.len(), 1);
    let [finding] = &hostile.findings[..] else {
        panic!("{:?}", hostile.findings);
    };
    assert_eq!((finding.severity, finding.cvss), (Severity::Unknown, Some(7.0)));
    assert_eq!((&finding.title, &finding.fixed_version, finding.published), (&None, &None, None));
    assert_eq!(hostile.warnings.len(), 4, "{:#?}", hostile.warnings);
}

#[test]
fn nothing_that_is_kept_drives_a_terminal() {
    let hostile = imported("hostile.json");
    let finding = &hostile.findings[0];
    assert_eq!(&*finding.id, "CVE-2024-1\\u{a}portcullis: allowed");
    assert_eq!(finding.package.as_deref(), Some("a\\u{0}b"));
    assert_eq!(finding.path.as_deref(), Some("srv/\\u{1b}[2J\\u{202e}gnp.lock"));
    assert!(!hostile.warnings.concat().contains(char::is_control));
}

#[test]
fn broken_json_is_refused_with_its_place() {
    let whole = fs::read_to_string(fixture("web.json")).unwrap();
    check_refusal(&whole[..whole.len() / 2], "FILE, line ");
    check_refusal("{\n  \"SchemaVersion\": =\n}", "FILE, line 2, column 20: expected value");
    check_refusal(format!("{whole} x"), "FILE, line ");
    check_refusal(
        b"{\"SchemaVersion\":2,\"CreatedAt\": \"\xff\xfe\"}",
        "FILE, line 1, column 34: invalid unicode",
    );
}

#[test]
fn deep_nesting_is_harmless() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let title = |deep: &str| {
        with_results(&format!(
            r#"[{{"Vulnerabilities":[{{"VulnerabilityID":"a","Title":{deep}}}]}}]"#
        ))
    };
    let unread = format!(r#"{{"SchemaVersion":2,"New":{deep}}}"#);
    assert!(read(Cursor::new(unread.as_bytes()), &Limits::default()).is_ok());
    assert!(read(Cursor::new(title(&deep)), &Limits::default()).is_ok());
    let reference = format!(r#"{{"SchemaVersion":2,"Metadata":{{"RepoTags":{deep}}}}}"#);
    check_refusal(reference, "FILE, line 1, column ");
}

#[test]
fn what_is_needed_is_not_guessed() {
    for (results, wanted) in [
        (r#"{}"#, "FILE, line 1, column 66: invalid type: map, expected a list"),
        (r#"[7]"#, "FILE, line 1, column 67: invalid type: integer `7`, expected a result"),
        (
            r#"[{"Vulnerabilities":[{}]}]"#,
            "FILE: Results[0].Vulnerabilities[0] has no VulnerabilityID",
        ),
        (r#"[{},{"Secrets":[{"RuleID":""}]}]"#, "FILE: Results[1].Secrets[0] has no RuleID"),
        (r#"[{"Misconfigurations":[{"Status":"FAIL"}]}]"#, "FILE: Results[0].Misconfigurations[0]"),
        (r#"[{"Vulnerabilities":[{"VulnerabilityID":7}]}]"#, "FILE, line 1, column "),
        (
            r#"[{"Vulnerabilities":[{"VulnerabilityID":"a","Severity":7}]}]"#,
            "FILE, line 1, column ",
        ),
        (r#"[],"Results":[]"#, "FILE, line 1, column 77: duplicate field `Results`"),
    ] {
        check_refusal(with_results(results), wanted);
    }
}

#[test]
fn an_image_that_is_named_wrongly_is_refused() {
    let metadata = |metadata: &str| format!(r#"{{"SchemaVersion":2,"Metadata":{metadata}}}"#);
    let (one, two) = (digest('1'), digest('2'));
    check_refusal(metadata(r#"{"ImageID":"sha256:12"}"#), "FILE: in Metadata.ImageID");
    check_refusal(metadata(r#"{"DiffIDs":["x"]}"#), "FILE: in Metadata.DiffIDs");
    check_refusal(
        metadata(&format!(
            r#"{{"DiffIDs":["{one}"],"ImageConfig":{{"rootfs":{{"diff_ids":["{two}"]}}}}}}"#
        )),
        "FILE contradicts itself",
    );
    let in_config_only =
        metadata(&format!(r#"{{"ImageConfig":{{"rootfs":{{"diff_ids":["{two}"]}}}}}}"#));
    let report = read(Cursor::new(in_config_only.as_bytes()), &Limits::default()).unwrap();
    assert_eq!(report.image.diff_ids, [two]);
}

#[test]
fn a_text_without_end_is_refused() {
    let long = "a".repeat(5000);
    let text =
        with_results(&format!(r#"[{{"Vulnerabilities":[{{"VulnerabilityID":"{long}"}}]}}]"#));
    let error = refusal(text);
    assert!(error.contains("a text of 5000 bytes, where 4096 may be"), "{error}");
}

#[test]
fn too_many_findings_are_refused() {
    let limits = Limits { findings: 3, ..Limits::default() };
    let entry = r#"{"VulnerabilityID":"a"}"#;
    let text = with_results(&format!(
        r#"[{{"Vulnerabilities":[{entry},{entry}]}},{{"Vulnerabilities":[{entry},{entry}]}}]"#
    ));
    let error = read(Cursor::new(text.as_bytes()), &limits).unwrap_err().to_string();
    assert!(error.contains("more than 3 findings"), "{error}");
}
