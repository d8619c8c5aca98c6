//! Findings as SARIF 2.1.0 (OASIS), as code hosts and editors take it.

use std::collections::BTreeMap;

use portcullis_types::{Finding, Severity};
use serde_json::{Value, json};

use super::Row;

/// A log with one run for all images.
pub(super) fn log(rows: &[Row]) -> Value {
    let mut rules: BTreeMap<&str, &Finding> = BTreeMap::new();
    for finding in rows.iter().flat_map(|row| &row.findings) {
        rules.entry(&finding.id).or_insert(finding);
    }
    let index: BTreeMap<&str, usize> = rules.keys().enumerate().map(|(at, id)| (*id, at)).collect();
    let described = rules.iter().map(|(id, finding)| {
        json!({
            "id": id,
            "shortDescription": { "text": title(finding) },
            "defaultConfiguration": { "level": level(finding.severity) },
            "properties": {
                "tags": ["security", finding.class],
                "security-severity": score(finding),
            },
        })
    });
    let results = rows.iter().flat_map(|row| {
        row.findings.iter().map(|finding| {
            json!({
                "ruleId": finding.id,
                "ruleIndex": index.get(&*finding.id),
                "level": level(finding.severity),
                "message": { "text": message(row, finding) },
                "locations": [{
                    "physicalLocation": {
                        "artifactLocation": { "uri": place(finding), "uriBaseId": "ROOTPATH" },
                    },
                    "logicalLocations": [{ "fullyQualifiedName": row.target, "kind": "module" }],
                }],
                "partialFingerprints": { "finding/v1": fingerprint(finding) },
            })
        })
    });
    let results: Vec<Value> = results.collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "portcullis",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": described.collect::<Vec<_>>(),
            }},
            "originalUriBaseIds": { "ROOTPATH": { "uri": "file:///" } },
            "properties": {
                "images": rows.iter().map(|row| json!({ "target": row.target, "imageID": row.image })).collect::<Vec<_>>(),
            },
            "results": results,
        }],
    })
}

fn title(finding: &Finding) -> &str {
    finding.title.as_deref().unwrap_or(&finding.id)
}

fn message(row: &Row, finding: &Finding) -> String {
    let fixed = finding.fixed_version.as_deref().map(|fixed| format!(", fixed in {fixed}"));
    let what = match (&finding.package, &finding.version) {
        (Some(package), Some(version)) => format!("{package} {version} has {}", finding.id),
        _ => format!("{}: {}", finding.id, title(finding)),
    };
    format!("{what}{} ({})", fixed.unwrap_or_default(), row.target)
}

/// A file of the image, or the package as a URI, percent-encoded as SARIF wants it.
fn place(finding: &Finding) -> String {
    let path = finding.path.as_deref().or(finding.package.as_deref()).unwrap_or("image");
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(char::from(byte));
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

fn fingerprint(finding: &Finding) -> String {
    let parts = [
        Some(&*finding.id),
        finding.package.as_deref(),
        finding.version.as_deref(),
        finding.path.as_deref(),
    ];
    portcullis_types::Digest::of(parts.map(Option::unwrap_or_default).join("\0").as_bytes())
        .hex()
        .to_owned()
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low | Severity::Unknown => "note",
    }
}

/// A score for those who sort by it: CVSS where it is known, else the middle of its severity.
fn score(finding: &Finding) -> String {
    let score = finding.cvss.unwrap_or(match finding.severity {
        Severity::Critical => 9.5,
        Severity::High => 8.0,
        Severity::Medium => 5.5,
        Severity::Low => 2.0,
        Severity::Unknown => 0.0,
    });
    format!("{score:.1}")
}
