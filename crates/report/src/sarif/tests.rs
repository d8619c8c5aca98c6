use super::*;
use crate::testing::{at, check_refusal, digest, imported, lines, read};

/// A log of one run of this tool, with these rules and results.
fn run(name: &str, rules: &str, results: &str) -> String {
    format!(
        r#"{{"version":"2.1.0","runs":[{{"tool":{{"driver":{{"name":"{name}","rules":{rules}}}}},"results":{results}}}]}}"#
    )
}

#[test]
fn trivys_log_tells_as_much_as_its_json() {
    let shop = imported("shop-trivy.sarif");
    assert_eq!(
        (shop.scanner.name.as_str(), shop.scanner.version.as_deref()),
        ("trivy", Some("0.72.0"))
    );
    assert_eq!(shop.image.config, imported("shop-trivy.json").image.config);
    assert_eq!(shop.image.repo_digests[0].digest(), Some(&digest('b')));
    assert_eq!(shop.image.references.len(), 1);
    assert_eq!((shop.created_at, shop.database_at), (None, None));
    assert_eq!(
        lines(&shop),
        [
            "CVE-2024-3094 | critical | xz-utils | 5.6.0-0.1 | 5.6.1+really5.4.5-1 | -",
            "CVE-2023-9999 | low | bash | 5.2.15-2+b2 | - | -",
            "CVE-2021-23337 | high | lodash | 4.17.20 | 4.17.21 | \
             usr/lib/node_modules/lodash/package.json",
            "DS-0002 | high | - | - | - | -",
            "aws-access-key-id | critical | - | - | - | app/my .env",
        ]
    );
    let scores: Vec<_> = shop.findings.iter().map(|f| f.cvss).collect();
    assert_eq!(scores, [Some(10.0), None, Some(7.2), None, None], "a score made of a word is none");
    assert_eq!(shop.findings[4].title.as_deref(), Some("AWS Access Key ID (line 3)"));
    assert_eq!(shop.warnings, ["1 results are about licences and are not imported"]);
    let classes = [Class::Vulnerability, Class::Baseline, Class::Secret];
    assert_eq!(shop.coverage, Coverage { classes: classes.into(), ..Coverage::default() });
}

#[test]
fn grypes_log_names_packages_in_its_texts() {
    let shop = imported("shop-grype.sarif");
    assert_eq!(shop.scanner.name, "grype");
    assert_eq!(shop.image, ReportImage::default(), "Grype does not name the image");
    assert_eq!(
        lines(&shop),
        [
            "CVE-2024-3094 | critical | xz-utils | 5.6.0-0.1 | 5.6.1+really5.4.5-1 | -",
            "GHSA-35jh-r3h4-6jhm | high | lodash | 4.17.20 | 4.17.21, 5.0.0 | \
             usr/lib/node_modules/lodash/package.json",
            "GHSA-35jh-r3h4-6jhm | high | lodash | 4.17.19 | 4.17.21, 5.0.0 | \
             app/usr/lib/node_modules/lodash/package.json",
            "CVE-2005-2541 | low | tar | 1.34+dfsg-1.2 | - | -",
        ]
    );
    let purls: Vec<_> = shop.findings.iter().map(|f| f.purl.as_deref()).collect();
    let (xz, lodash) = ("pkg:deb/debian/xz-utils@5.6.0-0.1", "pkg:npm/lodash@4.17.20");
    assert_eq!(purls, [Some(xz), Some(lodash), None, None], "only where the version agrees");
    let scores: Vec<_> = shop.findings.iter().map(|f| f.cvss).collect();
    assert_eq!(scores, [Some(10.0), Some(7.2), Some(7.2), None]);
    assert_eq!(shop.warnings, [""; 0]);
}

#[test]
fn suppressed_results_and_passed_checks_are_no_findings() {
    let report = imported("suppressed.sarif");
    assert_eq!(
        (report.scanner.name.as_str(), report.scanner.version.as_deref()),
        ("checker", Some("3.0.0"))
    );
    assert_eq!(report.created_at, Some(at("2026-11-20T07:05:00Z")));
    assert_eq!(
        lines(&report),
        [
            "X1 | low | - | - | - | -",
            "X1 | high | - | - | - | -",
            "K1 | high | - | - | - | etc/key",
            "M1 | unknown | - | - | - | -",
            "CVE-2026-0001 | medium | - | - | - | -",
            "CVE-2026-0002 | unknown | - | - | - | -",
        ]
    );
    let classes: Vec<_> = report.findings.iter().map(|f| f.class).collect();
    let (b, v) = (Class::Baseline, Class::Vulnerability);
    assert_eq!(classes, [b, b, Class::Secret, Class::Malware, v, v]);
    assert_eq!(report.warnings.len(), 2, "{:?}", report.warnings);
    assert!(
        report.warnings[0].starts_with("2 results are not imported, since they are suppressed")
    );
    assert!(report.warnings[1].starts_with("2 results are of rules that name no class"));
}

#[test]
fn strange_values_where_nothing_depends_on_them_are_passed_over() {
    let hostile = imported("hostile.sarif");
    assert_eq!(hostile.scanner.name, "evil\\u{1b}[2j");
    assert_eq!(
        lines(&hostile),
        [
            "CVE-2024-0001 | unknown | a\\u{0}b | 1\\u{202e}2 | - | %1b%5b2J\\u{a}x%ff%zz",
            "\\u{1b}[2J | medium | - | - | - | -",
        ]
    );
    assert_eq!(hostile.findings[1].class, Class::Secret);
    assert_eq!((hostile.image.config, hostile.created_at), (None, None));
    assert_eq!(hostile.warnings.len(), 3, "{:?}", hostile.warnings);
}

#[test]
fn the_scanners_word_goes_before_its_number_and_that_before_the_level() {
    let of = |properties: &str, level: &str, message: &str| {
        let rules = format!(r#"[{{"id":"CVE-2026-0001","properties":{properties}}}]"#);
        let results =
            format!(r#"[{{"ruleId":"CVE-2026-0001"{level},"message":{{"text":"{message}"}}}}]"#);
        read(run("x", &rules, &results)).unwrap().findings[0].severity
    };
    let error = r#","level":"error""#;
    for (properties, level, message, wanted) in [
        (r#"{"tags":["security","LOW"],"security-severity":"9.8"}"#, error, "", Severity::Low),
        (r#"{"security-severity":"9.8"}"#, error, r"Package: a\nSeverity: LOW", Severity::Low),
        (r#"{"security-severity":"9.0"}"#, "", "", Severity::Critical),
        (r#"{"security-severity":8.9}"#, "", "", Severity::High),
        (r#"{"security-severity":"6.9"}"#, error, "", Severity::Medium),
        (r#"{"security-severity":"0.1"}"#, error, "", Severity::Low),
        (r#"{"security-severity":"0.0"}"#, error, "", Severity::High),
        (r#"{"security-severity":"11"}"#, r#","level":"note""#, "", Severity::Low),
        ("{}", r#","level":"none""#, "", Severity::Unknown),
        ("{}", "", "", Severity::Medium),
    ] {
        assert_eq!(of(properties, level, message), wanted, "{properties} {level} {message}");
    }
}

#[test]
fn runs_of_one_log_are_of_one_scanner_and_one_image() {
    let run = |name: &str, image: &str, time: &str| {
        format!(
            r#"{{"tool":{{"driver":{{"name":"{name}"}}}},"properties":{{"imageID":"{image}"}},
                "invocations":[{{"endTimeUtc":"{time}"}}],"results":[{{"ruleId":"CVE-2026-0001"}}]}}"#
        )
    };
    let log = |runs: &[String]| format!(r#"{{"version":"2.1.0","runs":[{}]}}"#, runs.join(","));
    let (one, two) = (digest('1').to_string(), digest('2').to_string());
    let (early, late) = ("2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z");
    let both =
        read(log(&[run("X", &one, late), run("x", &one, early), run("x", "", late)])).unwrap();
    assert_eq!(both.findings.len(), 3);
    assert_eq!((both.image.config, both.created_at), (Some(digest('1')), Some(at(early))));
    check_refusal(
        log(&[run("x", &one, late), run("y", &one, late)]),
        "FILE contradicts itself: its runs are of different scanners",
    );
    check_refusal(
        log(&[run("x", &one, late), run("x", &two, late)]),
        "FILE contradicts itself: its runs are about different images",
    );
    check_refusal(log(&[run("x", "sha256:1", late)]), "FILE: in runs.properties.imageID");
}

/// Trivy's rule of a vulnerability is named after the last package that has it.
#[test]
fn the_place_is_the_results_and_not_the_rules() {
    let rules = r#"[{"id":"CVE-2026-0001","name":"OsPackageVulnerability"}]"#;
    let result = |uri: &str| {
        format!(
            r#"{{"ruleId":"CVE-2026-0001","locations":[{{"physicalLocation":{{"artifactLocation":{{"uri":"{uri}"}}}}}}]}}"#
        )
    };
    let results = ["library/alpine", "alpine:3.10", "usr/bin/tool"].map(result).join(",");
    let text = run("trivy", rules, &format!("[{results}]"));
    let paths = |text: String| {
        let report = read(text).unwrap();
        report.findings.iter().map(|f| f.path.as_deref().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(paths(text.clone()), [None, None, None]);
    let named =
        text.replace(r#""results""#, r#""properties":{"imageName":"alpine:3.10"},"results""#);
    assert_eq!(paths(named), [None, None, Some("usr/bin/tool".to_owned())]);
}

#[test]
fn a_log_without_rules_covers_nothing() {
    let report = read(run("trivy", "[]", "[]")).unwrap();
    assert_eq!(report.coverage, Coverage::default());
}

#[test]
fn an_image_that_is_named_by_digest_is_bound_to_its_manifest() {
    let name = format!("registry.example.com/a@{}", digest('3'));
    let text = format!(
        r#"{{"version":"2.1.0","runs":[{{"tool":{{"driver":{{"name":"x"}}}},"properties":{{"imageName":"{name}"}}}}]}}"#
    );
    assert_eq!(read(text).unwrap().image.repo_digests[0].digest(), Some(&digest('3')));
}

#[test]
fn what_is_needed_is_not_guessed() {
    for (text, wanted) in [
        (r#"{"version":"2.1.0","runs":[]}"#.to_owned(), "FILE: runs[0].tool.driver has no name"),
        (run("", "[]", "[]"), "FILE: runs[0].tool.driver has no name"),
        (run("x", "[]", "[{}]"), "FILE: runs[0].results[0] has no ruleId"),
        (
            run("x", r#"[{"id":""}]"#, r#"[{"ruleIndex":0}]"#),
            "FILE: runs[0].results[0] has no ruleId",
        ),
        (run("x", "[]", r#"[{"ruleId":7}]"#), "FILE, line 1, column "),
        (run("x", "[]", "{}"), "FILE, line 1, column "),
        (r#"{"version":"2.1.0","runs":[{"tool":[]}]}"#.to_owned(), "FILE, line 1, column "),
    ] {
        check_refusal(text, wanted);
    }
}
