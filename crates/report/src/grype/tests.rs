use std::fs;

use portcullis_types::{Binding, Severity};

use super::*;
use crate::testing::{at, check_refusal, digest, fixture, imported, lines, read};

/// A report with these matches and this source, around them only what is needed.
fn with(matches: &str, more: &str) -> String {
    format!(
        r#"{{"matches":{matches},"descriptor":{{"name":"grype","timestamp":"2026-11-02T00:00:00Z"}}{more}}}"#
    )
}

#[test]
fn all_that_a_report_says_is_read() {
    let shop = imported("shop-grype.json");
    assert_eq!(
        (shop.scanner.name.as_str(), shop.scanner.version.as_deref()),
        ("grype", Some("0.112.0"))
    );
    assert_eq!(shop.created_at, Some(at("2026-11-20T09:00:00.5Z")));
    assert_eq!(shop.database_at, Some(at("2026-11-20T04:00:00Z")));
    assert_eq!(shop.image.diff_ids, [digest('1'), digest('2')]);
    assert_eq!(shop.image.manifests, [digest('b')]);
    assert_eq!(shop.image.repo_digests[0].digest(), Some(&digest('b')));
    let references: Vec<_> = shop.image.references.iter().map(ToString::to_string).collect();
    assert_eq!(references, ["registry.example.com/shop:2.1"]);
    assert_eq!(shop.warnings, [""; 0]);
    let ecosystems = ["debian", "gobinary", "jar", "node-pkg"].map(ToOwned::to_owned);
    let wanted = Coverage {
        classes: [Class::Vulnerability].into(),
        ecosystems: ecosystems.into(),
        uncovered: [].into(),
        distribution: Some("debian 12".to_owned()),
        end_of_life: false,
    };
    assert_eq!(shop.coverage, wanted);
    let counts = [(Severity::Critical, 3), (Severity::High, 1), (Severity::Low, 1)];
    assert_eq!(shop.counts_by_severity, counts.into());
    assert_eq!(
        lines(&shop),
        [
            "CVE-2024-3094 | critical | xz-utils | 5.6.0-0.1 | 5.6.1+really5.4.5-1 | -",
            "CVE-2005-2541 | low | tar | 1.34+dfsg-1.2 | - | -",
            "CVE-2021-23337 | high | lodash | 4.17.20 | 4.17.21 | \
             usr/lib/node_modules/lodash/package.json",
            "CVE-2021-44228 | critical | org.apache.logging.log4j:log4j-core | 2.14.1 | 2.15.0 | \
             app/log4j-core-2.14.1.jar",
            "CVE-2024-24790 | critical | stdlib | v1.22.1 | 1.21.11, 1.22.4 | usr/bin/tool",
        ]
    );
}

#[test]
fn a_match_keeps_what_rules_ask_for() {
    let shop = imported("shop-grype.json");
    let [xz, tar, lodash, log4j, _] = &shop.findings[..] else { panic!("{:?}", shop.findings) };
    assert_eq!(
        (xz.cvss, xz.epss, xz.kev),
        (Some(10.0), Some(0.84), false),
        "version 2 is no score"
    );
    assert_eq!(xz.fixed, Some(at("2024-03-30T00:00:00Z")), "the first fix counts");
    assert_eq!(xz.title.as_deref(), Some("xz was tampered with."));
    assert_eq!(
        xz.purl.as_deref(),
        Some("pkg:deb/debian/xz-utils@5.6.0-0.1?arch=amd64&distro=debian-12")
    );
    assert_eq!((tar.cvss, tar.is_fixable()), (Some(7.3), false), "the related one scores");
    assert_eq!(lodash.aliases, ["GHSA-35jh-r3h4-6jhm".into()]);
    assert_eq!((log4j.epss, log4j.kev), (Some(0.975), true));
}

#[test]
fn what_grype_ignored_is_a_warning() {
    let report = imported("grype-ignored.json");
    assert_eq!(report.findings.len(), 3);
    let [warning] = &report.warnings[..] else { panic!("{:?}", report.warnings) };
    assert!(warning.starts_with("2 matches are not imported"), "{warning}");
    assert_eq!(report.database_at, Some(at("2026-11-20T04:00:00Z")), "the older form");
    assert!(report.coverage.end_of_life);
    assert_eq!(report.coverage.uncovered, ["arch".to_owned()].into());
    assert_eq!(report.coverage.distribution.as_deref(), Some("arch"));
}

#[test]
fn strange_values_where_nothing_depends_on_them_are_passed_over() {
    let hostile = imported("grype-hostile.json");
    assert_eq!(
        lines(&hostile),
        [
            "CVE-2024-1\\u{a}portcullis: allowed | unknown | a\\u{0}b | 1 | - | \
             srv/\\u{1b}[2J\\u{202e}gnp.lock",
            "CVE-2024-0002 | unknown | - | - | 2 | -",
            "CVE-2024-0003 | unknown | - | - | 2 | -",
        ]
    );
    let [first, second, third] = &hostile.findings[..] else { unreachable!() };
    assert_eq!((first.cvss, first.epss, first.kev), (Some(6.5), Some(0.25), false));
    for finding in [second, third] {
        assert_eq!(finding.aliases, ["GHSA-aaaa-bbbb-cccc".into()]);
        assert_eq!((finding.fixed, finding.kev), (Some(at("2026-01-02T00:00:00Z")), true));
    }
    assert_eq!(hostile.image.config, Some(digest('c')));
    assert_eq!(hostile.image.references.len(), 1);
    assert_eq!(hostile.warnings.len(), 4, "{:#?}", hostile.warnings);
}

#[test]
fn what_mends_nothing_is_no_fix() {
    for (fix, fixable) in [
        (r#"{"versions":["2"],"state":"fixed"}"#, true),
        (r#"{"versions":["2"],"state":"wont-fix","available":[{"date":"2026-01-02"}]}"#, false),
        (r#"{"versions":["2"],"state":"not-fixed"}"#, false),
        (r#"{"versions":["2"]}"#, true),
        (r#"{"versions":[""],"state":"fixed"}"#, false),
        (r#"{"versions":[],"state":"unknown","available":[{"date":"2026-01-02"}]}"#, false),
        (r#"{"versions":null,"state":"fixed"}"#, false),
    ] {
        let text = with(&format!(r#"[{{"vulnerability":{{"id":"a","fix":{fix}}}}}]"#), "");
        let finding = &read(text).unwrap().findings[0];
        assert_eq!((finding.is_fixable(), finding.fixed), (fixable, None), "{fix}");
    }
}

#[test]
fn the_databases_providers_tell_what_is_covered() {
    let coverage = |distro: &str, db: &str| {
        let text = format!(
            r#"{{"matches":[],"distro":{{"name":"{distro}","version":"9"}},"descriptor":{{"name":"grype","db":{db}}}}}"#
        );
        read(text).unwrap().coverage
    };
    let listed = r#"{"providers":{"rhel":{},"debian":{}}}"#;
    for (distro, db, ours, covered) in [
        ("rockylinux", listed, "rocky", true),
        ("centos", listed, "centos", true),
        ("alpine", listed, "alpine", false),
        ("nixos", listed, "nixos", false),
        ("alpine", r#"{"built":"x"}"#, "alpine", true),
        ("nixos", "{}", "nixos", false),
        ("fedora", "7", "fedora", false),
    ] {
        let coverage = coverage(distro, db);
        let list = if covered { &coverage.ecosystems } else { &coverage.uncovered };
        assert_eq!(*list, [ours.to_owned()].into(), "{distro}");
        assert_eq!(coverage.distribution, Some(format!("{ours} 9")));
    }
    assert_eq!(coverage("", listed).distribution, None);
}

#[test]
fn the_image_is_the_one_that_was_scanned() {
    let source = |source: &str| with("[]", &format!(r#","source":{source}"#));
    for none in [
        "null",
        r#"{"type":"directory","target":"/srv"}"#,
        r#"{"type":"sbom-file","target":{"imageID":"x"}}"#,
        r#"{"type":"image","target":"x"}"#,
        r#"{"type":"image","target":{}}"#,
    ] {
        assert_eq!(read(source(none)).unwrap().image, ReportImage::default(), "{none}");
    }
    let image = |target: &str| source(&format!(r#"{{"type":"image","target":{target}}}"#));
    check_refusal(image(r#"{"imageID":"sha256:12"}"#), "FILE: in source.target.imageID");
    check_refusal(image(r#"{"manifestDigest":"x"}"#), "FILE: in source.target.manifestDigest");
    check_refusal(image(r#"{"layers":[{"digest":"x"}]}"#), "FILE: in source.target.layers");
}

#[test]
fn layers_and_configuration_must_agree() {
    let whole = fs::read_to_string(fixture("shop-grype.json")).unwrap();
    let (one, nine) = (digest('1').to_string(), digest('9').to_string());
    check_refusal(
        whole.replace(&format!("\"digest\": \"{one}\""), &format!("\"digest\": \"{nine}\"")),
        "FILE contradicts itself: source.target.layers",
    );
    // A configuration that is not the named one tells nothing.
    let id = imported("shop-grype.json").image.config.unwrap().to_string();
    let other = read(whole.replace(&id, &nine)).unwrap();
    assert_eq!(other.image.diff_ids, [digest('1'), digest('2')]);
    assert!(other.warnings[0].contains("is not the configuration"), "{:?}", other.warnings);
    // Without a list of layers the configuration tells them.
    let unlisted = read(whole.replace("\"layers\"", "\"layerz\"")).unwrap();
    assert_eq!(unlisted.image.diff_ids, [digest('1'), digest('2')]);
}

#[test]
fn a_report_without_a_timestamp_is_dated_by_its_importer() {
    let text = r#"{"matches":[],"descriptor":{"name":"grype","timestamp":""}}"#;
    let told = at("2026-11-02T00:00:00Z");
    let now = at("2026-11-03T00:00:00Z");
    let undated = || read(text).unwrap();
    assert!(undated().bind(Some(&digest('9')), now).is_err());
    let (_, report) = undated().or_scanned_at(Some(told)).bind(Some(&digest('9')), now).unwrap();
    assert_eq!((report.scanned_at, report.binding), (told, Binding::ByImporter));
}

#[test]
fn what_is_needed_is_not_guessed() {
    for (matches, wanted) in [
        ("{}", "FILE, line 1, column 13: invalid type: map, expected a list"),
        (r#"[{}]"#, "FILE: matches[0].vulnerability has no id"),
        (r#"[{"vulnerability":{"id":7}}]"#, "FILE, line 1, column "),
        (r#"[{"vulnerability":[]}]"#, "FILE: matches[0].vulnerability has no id"),
        (r#"[{"vulnerability":{"id":"a","severity":7}}]"#, "FILE, line 1, column "),
        (r#"[{"vulnerability":{"id":"a"},"artifact":{"version":1}}]"#, "FILE, line 1, column "),
        (r#"[],"matches":[]"#, "FILE, line 1, column 24: duplicate field `matches`"),
    ] {
        check_refusal(with(matches, ""), wanted);
    }
}

/// What is known of each CVE of an advisory, and what of the advisory.
#[test]
fn an_advisory_is_a_finding_for_each_cve() {
    let score =
        |score: &str| format!(r#""cvss":[{{"version":"3.1","metrics":{{"baseScore":{score}}}}}]"#);
    let (high, low) = (score("9.8"), score("3.1"));
    let related = |more: &str| {
        format!(
            r#""relatedVulnerabilities":[{{"id":"CVE-2024-0001",{high}}},
                {{"id":"CVE-2024-0002"{more}}}],"artifact":{{"name":"openssl","type":"rpm"}}"#
        )
    };
    for (own, related, wanted) in [
        (
            r#""id":"ELSA-2024-1""#.to_owned(),
            related(&format!(",{low}")),
            ["CVE-2024-0001 Some(9.8) None false", "CVE-2024-0002 Some(3.1) None false"],
        ),
        // The advisory's own score is the vendor's, and goes first.
        (
            format!(r#""id":"RHSA-2024:1",{}"#, score("7.5")),
            related(&format!(",{low}")),
            ["CVE-2024-0001 Some(7.5) None false", "CVE-2024-0002 Some(7.5) None false"],
        ),
        (
            r#""id":"ALAS-2024-1","epss":[{"cve":"CVE-2024-0002","epss":0.5},
                {"cve":"CVE-2024-0001","epss":0.25}],"knownExploited":[{"cve":"CVE-2024-0002"}]"#
                .to_owned(),
            related(""),
            ["CVE-2024-0001 Some(9.8) Some(0.25) false", "CVE-2024-0002 None Some(0.5) true"],
        ),
        // What names no CVE of these is about all.
        (
            r#""id":"ALAS-2024-1","epss":[{"epss":0.5}],"knownExploited":[{"cve":"CVE-2024-0003"}]"#
                .to_owned(),
            related(r#","epss":[{"epss":0.75}]"#),
            ["CVE-2024-0001 Some(9.8) Some(0.5) true", "CVE-2024-0002 None Some(0.75) true"],
        ),
        // A CVE with another one related to it.
        (
            format!(r#""id":"CVE-2024-0002","severity":"Low",{low},"knownExploited":[{{}}]"#),
            related(""),
            ["CVE-2024-0001 Some(9.8) None false", "CVE-2024-0002 Some(3.1) None true"],
        ),
    ] {
        let report = read(with(&format!(r#"[{{"vulnerability":{{{own}}},{related}}}]"#), ""));
        let report = report.unwrap();
        let lines: Vec<_> = report
            .findings
            .iter()
            .map(|f| format!("{} {:?} {:?} {}", f.id, f.cvss, f.epss, f.kev))
            .collect();
        assert_eq!(lines, wanted, "{own}");
        assert_eq!(report.counts_by_severity.values().sum::<usize>(), 1, "it is one match");
    }
}
