//! Reports of all formats, as they are taken in.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use common::{Node, assert_narrow, assert_says, digest};
use serde_json::json;

#[test]
fn reports_of_all_formats_are_told_by_their_content() {
    let image = digest(1);
    let vulnerability = json!({ "id": "CVE-2024-0001", "ratings": [{ "severity": "high" }] });
    for report in [
        common::report(1, &["CVE-2024-0001"]),
        json!({
            "matches": [{
                "vulnerability": { "id": "CVE-2024-0001", "severity": "High" },
                "artifact": { "name": "zlib", "version": "1", "type": "deb" },
            }],
            "source": { "type": "image", "target": { "imageID": image } },
            "descriptor": { "name": "grype", "timestamp": "2025-06-01T00:00:00Z" },
        }),
        json!({
            "version": "2.1.0",
            "runs": [{
                "tool": { "driver": { "name": "x" } },
                "results": [{ "ruleId": "CVE-2024-0001", "level": "error" }],
            }],
        }),
        json!({
            "bomFormat": "CycloneDX", "specVersion": "1.5", "vulnerabilities": [vulnerability],
        }),
    ] {
        let node = Node::with_rules("{class: vulnerability, severity: [high], action: block}");
        let file = node.file("report", report.to_string());
        let told = ["--image", &image, "--scanned-at", "2025-06-01T00:00:00Z"];
        let said = node.run(&[&["import", &file], &told[..]].concat(), 0);
        assert_says(&said, &[&image, "1 high; created, 1 known"]);
        assert_narrow(&said);
        node.decides(1, &[], 4);
    }
}

#[test]
fn an_undated_report_needs_a_date_and_a_dated_one_keeps_its_own() {
    let node = Node::new();
    let sarif = json!({ "version": "2.1.0", "runs": [{ "tool": { "driver": { "name": "x" } } }] });
    let sarif = node.file("x.sarif", sarif.to_string());
    node.refuses(&["import", &sarif, "--image", &digest(1)], &["x.sarif", "--scanned-at"]);
    let late = "2999-01-01T00:00:00Z";
    let args = ["import", &sarif, "--image", &digest(1), "--scanned-at", late];
    node.refuses(&args, &["x.sarif", "clock"]);
    let dated = node.file("dated.json", common::report(2, &[]).to_string());
    let said = node.run(&["import", &dated, "--scanned-at", "2025-01-01T00:00:00Z"], 0);
    assert_says(&said, &["warning: the report says that it was made at 2025-06-01T00:00:00Z"]);
    assert_narrow(&said);
}

#[test]
fn an_advisory_is_known_by_each_of_its_cves() {
    let rules = "{class: vulnerability, ids: [CVE-2024-0002], action: block}";
    let node = Node::with_rules(rules);
    let related = json!([{ "id": "CVE-2024-0001" }, { "id": "CVE-2024-0002" }]);
    let report = json!({
        "matches": [{
            "vulnerability": { "id": "ELSA-2024-1", "severity": "High" },
            "relatedVulnerabilities": related,
            "artifact": { "name": "zlib", "version": "1", "type": "rpm" },
        }],
        "source": { "type": "image", "target": { "imageID": digest(1) } },
        "descriptor": { "name": "grype", "timestamp": "2025-06-01T00:00:00Z" },
    });
    let file = node.file("grype.json", report.to_string());
    assert_says(&node.run(&["import", &file], 0), &["1 high; created, 2 known"]);
    node.decides(1, &[], 4);
}
