//! Trivy's own reports on real images, from the folder of samples beside the project.
//!
//! They are not part of the project, so where they are missing these tests say so and pass; what
//! must hold everywhere is tested on the fixtures.

#![allow(
    clippy::unwrap_used,
    reason = "this file is all test; the settings spare only test functions"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use portcullis_report::{Imported, Limits, read_file};
use portcullis_testkit::samples;
use portcullis_types::{Class, Severity, Timestamp, Verdict};
use serde_json::Value;

/// Names the folder, where it is not beside the project.
const FOLDER: &str = "PORTCULLIS_TRIVY_REPORTS";

fn folder() -> Option<PathBuf> {
    samples::folder(FOLDER, "reports/trivy")
}

fn read(path: &Path) -> Imported {
    read_file(path, &Limits::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// What the report counts, read without a line of the importer.
fn counted(path: &Path) -> BTreeMap<String, usize> {
    let report: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let results = report["Results"].as_array();
    let mut counts = BTreeMap::new();
    for result in results.into_iter().flatten() {
        for list in ["Vulnerabilities", "Secrets", "Misconfigurations"] {
            for entry in result[list].as_array().into_iter().flatten() {
                if entry["Status"] != "PASS" {
                    let severity = entry["Severity"].as_str().unwrap().to_lowercase();
                    *counts.entry(severity).or_insert(0) += 1;
                }
            }
        }
    }
    counts
}

/// How many findings stand after these reports were imported in this order.
fn standing(folder: &Path, names: [&str; 2]) -> usize {
    let mut verdict: Option<Verdict> = None;
    for name in names {
        let (image, report) = read(&folder.join(name)).bind(None, Timestamp::now()).unwrap();
        let verdict =
            verdict.get_or_insert_with(|| Verdict { image: image.clone(), reports: Vec::new() });
        assert_eq!(verdict.image.config, image.config, "{names:?} are about two images");
        verdict.absorb(&image, report);
    }
    Verdict::merged(&verdict).len()
}

#[test]
fn counts_by_severity_are_the_reports_own() {
    let Some(folder) = folder() else { return };
    let mut read_reports = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let report = read(&path);
        let ours = report.counts_by_severity.iter();
        let ours: BTreeMap<_, _> = ours.map(|(s, n)| (s.to_string(), *n)).collect();
        assert_eq!(ours, counted(&path), "{}", path.display());
        assert_eq!(report.warnings, [""; 0], "{}", path.display());
        let (image, _) = report.bind(None, Timestamp::now()).unwrap();
        assert!(image.chain_id.is_some(), "{}", path.display());
        read_reports += 1;
    }
    assert!(read_reports > 0, "the folder holds no report");
}

/// Trivy's SARIF has no date, and names findings in words that the importer takes apart; the
/// properties of the rules say independently what the severities are.
#[test]
fn a_sarif_log_counts_what_its_rules_say() {
    let Some(folder) = folder() else { return };
    let path = folder.join("alpine-310.sarif");
    let log: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let run = &log["runs"][0];
    let mut counts = BTreeMap::new();
    for result in run["results"].as_array().unwrap() {
        let rule = &run["tool"]["driver"]["rules"][result["ruleIndex"].as_u64().unwrap() as usize];
        let word = rule["properties"]["tags"][2].as_str().unwrap().to_lowercase();
        *counts.entry(word).or_insert(0) += 1;
    }
    let report = read(&path);
    let ours = report.counts_by_severity.iter();
    let ours: BTreeMap<_, _> = ours.map(|(s, n)| (s.to_string(), *n)).collect();
    assert_eq!(ours, counts);
    assert_eq!(report.warnings, [""; 0]);
    assert_eq!(report.scanner.name, "trivy");
    assert_eq!(report.coverage.classes, [Class::Vulnerability].into());
    for (finding, result) in report.findings.iter().zip(run["results"].as_array().unwrap()) {
        let place = result["locations"][0]["message"]["text"].as_str().unwrap();
        let package = place.rsplit_once(": ").unwrap().1;
        let ours =
            format!("{}@{}", finding.package.as_ref().unwrap(), finding.version.as_ref().unwrap());
        assert_eq!(ours, package);
        assert_eq!((finding.path.as_ref(), finding.is_fixable()), (None, true));
    }
    let (id, told) = (run["properties"]["imageID"].as_str().unwrap(), Timestamp::UNIX_EPOCH);
    assert!(report.clone().bind(None, Timestamp::now()).is_err(), "SARIF has no date");
    let report = report.or_scanned_at(Some(told));
    let (image, report) = report.bind(None, Timestamp::now()).unwrap();
    assert_eq!((image.config.to_string().as_str(), report.scanned_at), (id, told));
}

#[test]
fn a_report_that_saw_less_makes_no_image_clean() {
    let Some(folder) = folder() else { return };
    for (a, b, findings) in [
        ("alpine-39.json", "alpine-39-skip.json", 6),
        ("debian-buster.json", "debian-buster-ignore-unfixed.json", 2),
    ] {
        assert_eq!(standing(&folder, [a, b]), findings, "{a}, then {b}");
        assert_eq!(standing(&folder, [b, a]), findings, "{b}, then {a}");
    }
}

#[test]
fn what_was_not_looked_at_is_not_covered() {
    let Some(folder) = folder() else { return };
    let skipped = read(&folder.join("alpine-39-skip.json")).coverage;
    assert!(skipped.classes.is_empty() && skipped.distribution.is_none());
    let alpine = read(&folder.join("alpine-39.json")).coverage;
    assert_eq!(alpine.classes, [Class::Vulnerability].into());
    assert_eq!(alpine.distribution.as_deref(), Some("alpine 3.9.4"));
    assert!(alpine.end_of_life);
    let fluentd = read(&folder.join("fluentd-gems.json"));
    assert!(fluentd.coverage.ecosystems.contains("gemspec"));
    assert_eq!(fluentd.findings[1].severity, Severity::High);
    assert!(fluentd.findings[1].path.as_ref().unwrap().ends_with(".gemspec"));
}
