use std::fs;

use super::*;
use crate::testing::{at, check_refusal, digest, fixture, imported, lines, read};

fn bom(members: &str) -> String {
    format!(r#"{{"bomFormat":"CycloneDX","specVersion":"1.5",{members}}}"#)
}

#[test]
fn trivys_document_tells_as_much_as_its_json() {
    let shop = imported("shop-trivy.cdx.json");
    let json = imported("shop-trivy.json");
    assert_eq!((&shop.scanner, shop.created_at), (&json.scanner, json.created_at));
    assert_eq!(shop.image.config, json.image.config);
    assert_eq!(shop.image.references, json.image.references);
    assert_eq!(shop.image.manifests, [digest('b')]);
    assert_eq!(shop.image.diff_ids, [], "their order is lost");
    assert_eq!(
        lines(&shop),
        [
            "CVE-2021-23337 | high | lodash | 4.17.20 | 4.17.21 | \
             usr/lib/node_modules/lodash/package.json",
            "CVE-2021-23337 | high | lodash | 4.17.20 | 4.17.21 | \
             app/node_modules/lodash/package.json",
            "CVE-2021-44228 | critical | org.apache.logging.log4j:log4j-core | 2.14.1 | \
             2.15.0, 2.3.1 | app/log4j-core-2.14.1.jar",
            "CVE-2023-9999 | low | bash | 5.2.15-2+b2 | - | -",
            "CVE-2024-3094 | critical | xz-utils | 5.6.0-0.1 | 5.6.1+really5.4.5-1 | -",
        ]
    );
    let scores: Vec<_> = shop.findings.iter().map(|f| f.cvss).collect();
    assert_eq!(scores, [Some(7.2), Some(7.2), Some(10.0), Some(7.5), Some(10.0)]);
    assert_eq!(shop.findings[0].published, Some(at("2021-02-15T13:15:00Z")));
    let ecosystems = ["debian", "jar", "node-pkg"].map(ToOwned::to_owned);
    let wanted = Coverage {
        classes: [Class::Vulnerability].into(),
        ecosystems: ecosystems.into(),
        distribution: Some("debian 12.5".to_owned()),
        ..Coverage::default()
    };
    assert_eq!(shop.coverage, wanted);
    assert_eq!(shop.warnings, [""; 0]);
}

#[test]
fn grypes_document_is_read_in_the_older_form_too() {
    let shop = imported("shop-grype.cdx.json");
    assert_eq!(
        (shop.scanner.name.as_str(), shop.scanner.version.as_deref()),
        ("grype", Some("0.112.0"))
    );
    assert_eq!(
        lines(&shop),
        [
            "CVE-2024-3094 | critical | xz-utils | 5.6.0-0.1 | - | -",
            "CVE-2021-23337 | low | lodash | 4.17.20 | - | usr/lib/node_modules/lodash/package.json",
        ]
    );
    let [xz, lodash] = &shop.findings[..] else { unreachable!() };
    assert_eq!((xz.cvss, xz.epss, xz.kev), (Some(10.0), Some(0.84), true));
    assert!(lodash.is_called("GHSA-35jh-r3h4-6jhm") && lodash.aliases.len() == 1);
    assert_eq!((shop.image.config, shop.image.manifests), (None, vec![digest('b')]));
    assert_eq!(shop.coverage.ecosystems, ["debian", "node-pkg"].map(ToOwned::to_owned).into());
    assert_eq!(shop.coverage.distribution.as_deref(), Some("debian 12"));
}

#[test]
fn statements_in_a_report_take_nothing_out() {
    let report = imported("cyclonedx-vex.json");
    assert_eq!(
        lines(&report),
        [
            "CVE-2024-0001 | high | a | 1 | - | -",
            "CVE-2024-0001 | high | - | - | - | -",
            "CVE-2024-0002 | unknown | - | - | - | -",
            "CVE-2024-0003 | unknown | - | - | - | -",
        ]
    );
    let starts = [
        "2 findings are about components",
        "3 findings are imported although",
        "no scanner is named",
    ];
    assert_eq!(report.warnings.len(), starts.len(), "{:?}", report.warnings);
    for (warning, start) in report.warnings.iter().zip(starts) {
        assert!(warning.starts_with(start), "{warning}");
    }
    assert_eq!(report.image, ReportImage::default(), "what was scanned is no image");
}

#[test]
fn strange_values_where_nothing_depends_on_them_are_passed_over() {
    let hostile = imported("cyclonedx-hostile.json");
    assert_eq!(
        lines(&hostile),
        [
            "CVE-2024-0001\\u{a}portcullis: allowed | unknown | a\\u{0}b | - | - | \
             srv/\\u{1b}[2J\\u{202e}gnp.lock",
            "CVE-2024-0001\\u{a}portcullis: allowed | unknown | - | - | - | -",
        ]
    );
    assert_eq!(hostile.findings[0].epss, None);
    assert_eq!(hostile.image, ReportImage::default());
    assert_eq!(hostile.warnings.len(), 5, "{:#?}", hostile.warnings);
}

/// Trivy writes an empty list also where it only listed packages; a scanner's means something.
#[test]
fn an_empty_list_covers_only_what_was_looked_at() {
    for (tool, looked) in [
        (r#""tools":[{"name":"grype"}]"#, true),
        (r#""tools":{"components":[{"name":"scout"}]}"#, true),
        (r#""tools":{"components":[{"name":"Trivy"}]}"#, false),
        (r#""tools":[{"vendor":"aquasecurity","name":"trivy"}]"#, false),
        (r#""tools":{"services":[]}"#, false),
        (r#""tools":[]"#, false),
    ] {
        let report = read(bom(&format!(r#""metadata":{{{tool}}},"vulnerabilities":[]"#))).unwrap();
        assert_eq!(report.coverage.classes.contains(&Class::Vulnerability), looked, "{tool}");
        let warned = report.warnings.iter().any(|w| w.contains("nothing is taken as covered"));
        assert_eq!((report.findings.len(), warned), (0, !looked), "{tool}");
    }
}

#[test]
fn every_version_with_vulnerabilities_is_read() {
    let whole = fs::read_to_string(fixture("shop-grype.cdx.json")).unwrap();
    for version in ["1.2", "1.3", "1.4", "1.5", "1.6", "1.7"] {
        let text =
            whole.replace("\"specVersion\": \"1.4\"", &format!("\"specVersion\": \"{version}\""));
        assert_eq!(read(text).unwrap().findings.len(), 2, "{version}");
    }
}

#[test]
fn a_single_layer_tells_its_chain() {
    let root = |layers: &str| {
        read(bom(&format!(
            r#""vulnerabilities":[],"metadata":{{"component":{{"type":"container","properties":[{layers}]}}}}"#
        )))
        .unwrap()
        .image
        .diff_ids
    };
    let layer =
        |digit| format!(r#"{{"name":"aquasecurity:trivy:DiffID","value":"{}"}}"#, digest(digit));
    assert_eq!(root(&layer('1')), [digest('1')]);
    assert_eq!(root(&format!("{},{}", layer('1'), layer('2'))), []);
}

#[test]
fn what_is_needed_is_not_guessed() {
    for (members, wanted) in [
        (r#""vulnerabilities":[{}]"#, "FILE: vulnerabilities[0] has no id"),
        (r#""vulnerabilities":{}"#, "FILE, line 1, column "),
        (r#""vulnerabilities":[{"id":1}]"#, "FILE, line 1, column "),
        (r#""vulnerabilities":[{"id":"a","affects":{}}]"#, "FILE, line 1, column "),
        (r#""vulnerabilities":[{"id":"a","affects":[{"ref":1}]}]"#, "FILE, line 1, column "),
        (r#""vulnerabilities":[],"components":[{"bom-ref":1}]"#, "FILE, line 1, column "),
        (
            r#""vulnerabilities":[],"metadata":{"component":{"type":"container","properties":[{"name":"aquasecurity:trivy:ImageID","value":"x"}]}}"#,
            "FILE: in metadata.component.properties (ImageID)",
        ),
    ] {
        check_refusal(bom(members), wanted);
    }
}
