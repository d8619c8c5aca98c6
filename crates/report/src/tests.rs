//! What holds for all formats.

use std::fs;
use std::io::Cursor;
use std::sync::Arc;

use portcullis_types::{Class, Finding, FindingKey, Timestamp, Verdict};
use proptest::prelude::*;

use super::*;
use crate::testing::{at, check_refusal, digest, fixture, imported, refusal};

/// All reports among the fixtures.
const REPORTS: &[&str] = &[
    "web.json",
    "rootfs.json",
    "hostile.json",
    "shop-trivy.json",
    "shop-grype.json",
    "grype-ignored.json",
    "grype-hostile.json",
    "ol-trivy.json",
    "ol-grype.json",
    "shop-trivy.sarif",
    "shop-grype.sarif",
    "suppressed.sarif",
    "hostile.sarif",
    "shop-trivy.cdx.json",
    "shop-grype.cdx.json",
    "cyclonedx-vex.json",
    "cyclonedx-hostile.json",
];

/// The smallest report of each format, and the scanner that it is of.
const SMALLEST: &[(&str, &str)] = &[
    (r#"{"SchemaVersion":2,"CreatedAt":"2026-11-02T00:00:00Z"}"#, "trivy"),
    (r#"{"matches":[],"descriptor":{"name":"grype"}}"#, "grype"),
    (r#"{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"X"}}}]}"#, "x"),
    (r#"{"bomFormat":"CycloneDX","specVersion":"1.4","vulnerabilities":[]}"#, "cyclonedx"),
];

#[test]
fn the_format_is_told_by_members_in_any_order() {
    for (text, scanner) in SMALLEST {
        let mut members: Vec<String> = match serde_json::from_str(text).unwrap() {
            serde_json::Value::Object(object) => {
                object.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect()
            }
            _ => unreachable!(),
        };
        members.push(r#""new":[{"matches":[],"SchemaVersion":2,"runs":[]}]"#.to_owned());
        for _ in 0..members.len() {
            members.rotate_left(1);
            let text = format!(" {{{}}}\n", members.join(", "));
            let report = testing::read(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(report.scanner.name, *scanner, "{text}");
        }
    }
}

#[test]
fn a_byte_order_mark_is_passed_over() {
    for (text, scanner) in SMALLEST {
        let report = testing::read(format!("\u{feff}{text}")).unwrap();
        assert_eq!(report.scanner.name, *scanner);
    }
}

#[test]
fn what_is_no_report_says_what_is_read() {
    for (text, wanted) in [
        (&b"{}"[..], "FILE is JSON of an unknown kind: "),
        (br#"{"SchemaVersion":3}"#, "FILE has SchemaVersion 3: "),
        (br#"{"SchemaVersion":null}"#, "FILE has no SchemaVersion: "),
        (br#"{"version":"2.0.0","runs":[]}"#, "FILE is SARIF 2.0.0: "),
        (br#"{"runs":[]}"#, "FILE has runs, as SARIF has, and no version: "),
        (br#"{"matches":[]}"#, "FILE has matches and no descriptor: "),
        (
            br#"{"matches":[],"descriptor":{"name":"syft"}}"#,
            "FILE has matches, and its descriptor does not name grype: ",
        ),
        (
            br#"{"bomFormat":"CycloneDX","specVersion":"2.0","vulnerabilities":[]}"#,
            "FILE is CycloneDX of the version \"2.0\", not 1.x: ",
        ),
        (b"[]", "FILE is not a JSON object: "),
        (
            b"<bom xmlns=\"http://cyclonedx.org/schema/bom/1.6\">",
            "FILE is XML or HTML and not JSON: ",
        ),
        (b"\xff\xfe{\0", "FILE is UTF-16 and not UTF-8: "),
        (b"\x1f\x8b\x08\0", "FILE is compressed (gzip): "),
        (b"\x28\xb5\x2f\xfd", "FILE is compressed (zstd): "),
        (b"PK\x03\x04", "FILE is compressed (zip): "),
    ] {
        let error = refusal(text);
        assert!(error.starts_with(wanted), "wanted {wanted}\n   got {error}");
        for format in ["Trivy's JSON", "Grype's JSON", "SARIF 2.1.0", "CycloneDX in JSON"] {
            assert!(error.contains(format), "{error}");
        }
    }
    check_refusal("", "FILE is empty");
}

#[test]
fn what_is_another_document_says_where_it_belongs() {
    for (text, what, remedy) in [
        (r#"{"spdxVersion":"SPDX-2.3"}"#, "an SPDX inventory", "trivy sbom"),
        (
            r#"{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld"}"#,
            "an SPDX",
            "trivy sbom",
        ),
        (r#"{"artifacts":[],"artifactRelationships":[]}"#, "an inventory of Syft's", "grype sbom:"),
        (
            r#"{"bomFormat":"CycloneDX","specVersion":"1.6","components":[]}"#,
            "a CycloneDX inventory (it has no vulnerabilities)",
            "grype sbom:",
        ),
        (
            r#"{"@context":"https://openvex.dev/ns/v0.2.0"}"#,
            "an OpenVEX document",
            "portcullis vex",
        ),
        (r#"{"document":{"csaf_version":"2.0"}}"#, "a CSAF document", "portcullis vex"),
    ] {
        let error = refusal(text);
        assert!(error.starts_with(&format!("FILE is {what}")), "{error}");
        assert!(
            error.contains("not a report of what was found") && error.contains(remedy),
            "{error}"
        );
    }
}

#[test]
fn a_file_that_is_too_large_is_refused_unread() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 30).unwrap();
    let error = read_file(file.path(), &Limits::default()).unwrap_err().to_string();
    for part in [&file.path().display().to_string(), "1073741824", "268435456", "--list-all-pkgs"] {
        assert!(error.contains(part), "the error does not say {part}: {error}");
    }
}

#[test]
fn a_stream_that_is_too_large_is_refused() {
    let limits = Limits { bytes: 300, ..Limits::default() };
    for (text, _) in SMALLEST {
        for spaces in [300 - text.len(), 301 - text.len(), 10_000] {
            for long in
                [format!("{text}{}", " ".repeat(spaces)), format!("{}{text}", " ".repeat(spaces))]
            {
                let read = read(Cursor::new(long.as_bytes()), &limits);
                let refused = matches!(read, Err(ReportError::TooLarge { size: None, .. }));
                assert_eq!(refused, long.len() > 300, "{} bytes", long.len());
            }
        }
    }
}

#[test]
fn what_is_no_file_is_refused_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = |path: &Path| read_file(path, &Limits::default()).unwrap_err().to_string();
    assert!(refusal(folder.path()).contains("is a folder, not a file"));
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert!(refusal(&pipe).contains("is a pipe, not a file"));
    assert!(refusal(Path::new("/dev/zero")).contains("is a device, not a file"));
    assert!(refusal(&folder.path().join("missing")).contains("cannot read"));
}

#[test]
fn deep_nesting_is_harmless() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (text, _) in SMALLEST {
        let rest = &text[1..];
        assert!(testing::read(format!(r#"{{"new":{deep},{rest}"#)).is_ok());
        assert!(testing::read(format!(r#"{{"new":{}}}"#, "{\"a\":".repeat(100_000))).is_err());
    }
    let nested = r#"{"components":["#.repeat(10_000);
    let text = format!(r#"{{"bomFormat":"CycloneDX","vulnerabilities":[],"components":[{nested}"#);
    let error = refusal(text);
    assert!(error.contains("recursion limit"), "{error}");
}

#[test]
fn too_many_findings_are_refused_in_every_format() {
    let limits = Limits { findings: 3, ..Limits::default() };
    for (before, entry, after) in [
        (
            r#"{"SchemaVersion":2,"Results":[{"Vulnerabilities":["#,
            r#"{"VulnerabilityID":"a"}"#,
            "]}]}",
        ),
        (
            r#"{"matches":["#,
            r#"{"vulnerability":{"id":"a"}}"#,
            r#"],"descriptor":{"name":"grype"}}"#,
        ),
        (
            r#"{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"x"}},"results":["#,
            r#"{"ruleId":"a"}"#,
            "]}]}",
        ),
        (
            r#"{"bomFormat":"CycloneDX","specVersion":"1.4","vulnerabilities":[{"id":"a","affects":["#,
            r#"{"ref":"a"}"#,
            "]}]}",
        ),
    ] {
        for count in 1..6 {
            let text = format!("{before}{}{after}", [entry].repeat(count).join(","));
            match read(Cursor::new(text), &limits) {
                Ok(report) => assert!(count <= 3 && report.findings.len() == count),
                Err(error) => {
                    assert!(
                        count > 3 && error.to_string().contains("more than 3 findings"),
                        "{error}"
                    );
                }
            }
        }
    }
}

/// An entry about several CVEs is several findings, and the bound is about findings.
#[test]
fn too_many_cves_are_refused_too() {
    let limits = Limits { findings: 3, ..Limits::default() };
    for (before, between, after) in [
        (
            r#"{"matches":[{"vulnerability":{"id":"ELSA-1"},"relatedVulnerabilities":["#,
            ",",
            r#"]}],"descriptor":{"name":"grype"}}"#,
        ),
        (
            r#"{"bomFormat":"CycloneDX","specVersion":"1.4","vulnerabilities":[
                {"id":"ELSA-1","affects":[{"ref":"a"}],"references":["#,
            ",",
            "]}]}",
        ),
    ] {
        for count in 2..6 {
            let cves: Vec<_> =
                (0..count).map(|n| format!(r#"{{"id":"CVE-2024-000{n}"}}"#)).collect();
            let text = format!("{before}{}{after}", cves.join(between));
            match read(Cursor::new(text), &limits) {
                Ok(report) => assert!(count <= 3 && report.findings.len() == count),
                Err(ReportError::TooMany { limit: 3, .. }) => assert!(count > 3, "{count}"),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn nothing_that_is_kept_drives_a_terminal() {
    for name in REPORTS {
        let report = imported(name);
        // Debug escapes only what Rust's texts escape, so every text is looked at as it is.
        let texts = report.findings.iter().flat_map(|f| {
            [&f.package, &f.version, &f.fixed_version, &f.path, &f.purl, &f.title]
                .into_iter()
                .flatten()
                .chain(&f.aliases)
                .chain([&f.id, &f.source])
                .map(ToString::to_string)
        });
        let others = report.warnings.iter().cloned().chain([report.scanner.name.clone()]);
        let coverage = report.coverage.ecosystems.iter().chain(&report.coverage.distribution);
        for text in texts.chain(others).chain(coverage.cloned()) {
            assert!(
                !text.contains(char::is_control) && !text.contains('\u{202e}'),
                "{name}: {text:?}"
            );
        }
        assert!(!format!("{report:?}").contains("not-a-real-key"), "{name} keeps a secret");
    }
}

/// How many findings a report has, counted without a line of the importers.
fn counted(report: &serde_json::Value) -> usize {
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let results = list(&report["Results"]);
    let of_trivy = ["Vulnerabilities", "Secrets", "Misconfigurations"]
        .iter()
        .flat_map(|name| results.iter().flat_map(move |result| list(&result[name])))
        .filter(|entry| entry["Status"] != "PASS")
        .count();
    let of_grype = list(&report["matches"]).len();
    let of_sarif = list(&report["runs"])
        .iter()
        .flat_map(|run| list(&run["results"]))
        .filter(|result| {
            let accepted = list(&result["suppressions"])
                .iter()
                .any(|s| s["status"].is_null() || s["status"] == "accepted");
            let license = result["message"]["text"].as_str().unwrap_or_default();
            let gone = result["baselineState"] == "absent" || result["kind"] == "pass";
            !accepted && !gone && !license.contains("\nLicense ")
        })
        .count();
    let of_cyclonedx: usize =
        list(&report["vulnerabilities"]).iter().map(|v| list(&v["affects"]).len().max(1)).sum();
    of_trivy + of_grype + of_sarif + of_cyclonedx
}

#[test]
fn every_entry_counts_once_and_is_a_finding() {
    for name in REPORTS {
        let report = imported(name);
        let text = fs::read_to_string(fixture(name)).unwrap();
        let entries: usize = report.counts_by_severity.values().sum();
        assert_eq!(entries, counted(&serde_json::from_str(&text).unwrap()), "{name}");
        // One entry of these is an advisory about two CVEs.
        let more = usize::from(matches!(*name, "grype-hostile.json" | "ol-grype.json"));
        assert_eq!(report.findings.len(), entries + more, "{name}");
    }
}

/// Class, id, package, version and path of a finding.
type Key = (Class, String, Option<String>, Option<String>, Option<String>);

fn key(key: FindingKey<'_>) -> Key {
    let owned = |text: Option<&str>| text.map(ToOwned::to_owned);
    (key.class, key.id.to_owned(), owned(key.package), owned(key.version), owned(key.path))
}

/// The vulnerabilities that a fixture has, by their keys.
fn keys(name: &str) -> Vec<Key> {
    let report = imported(name);
    let mut keys: Vec<_> = report
        .findings
        .iter()
        .filter(|f| f.class == Class::Vulnerability)
        .map(|f| key(f.key()))
        .collect();
    keys.sort();
    keys
}

/// The findings of two reports on one image, by who found them.
fn merged(trivy: &str, grype: &str) -> Vec<Arc<Finding>> {
    let now = at("2026-11-21T00:00:00Z");
    let (image, trivy) = imported(trivy).bind(None, now).unwrap();
    let (same, grype) = imported(grype).bind(None, now).unwrap();
    assert_eq!(image, same, "both name the same image, layers, manifest and tag");
    let mut verdict = Verdict { image: image.clone(), reports: Vec::new() };
    assert!(verdict.absorb(&image, trivy) && verdict.absorb(&image, grype));
    Verdict::merged([&verdict])
}

#[test]
fn two_scanners_problems_of_one_image_count_once() {
    for (trivy, grype, by_both, by_trivy, by_grype) in [
        (
            "shop-trivy.json",
            "shop-grype.json",
            &["CVE-2021-23337", "CVE-2021-44228", "CVE-2024-24790", "CVE-2024-3094"][..],
            &["CVE-2023-9999"][..],
            &["CVE-2005-2541"][..],
        ),
        // Trivy lists CVEs, Grype the advisory about two of them.
        (
            "ol-trivy.json",
            "ol-grype.json",
            &["CVE-2024-0001", "CVE-2024-0002"],
            &["CVE-2024-0003"],
            &["ELSA-2024-0002"],
        ),
    ] {
        let merged = merged(trivy, grype);
        let by = |sources: &[&str]| {
            let by = merged.iter().filter(|f| sources.contains(&&*f.source));
            by.map(|f| &*f.id).collect::<Vec<_>>()
        };
        assert_eq!(by(&["trivy, grype", "grype, trivy"]), by_both, "{trivy}");
        assert_eq!((by(&["trivy"]), by(&["grype"])), (by_trivy.to_vec(), by_grype.to_vec()));
    }
}

#[test]
fn what_one_scanner_knows_of_a_problem_all_have() {
    let find =
        |merged: &[Arc<Finding>], id: &str| merged.iter().find(|f| &*f.id == id).cloned().unwrap();
    let shop = merged("shop-trivy.json", "shop-grype.json");
    let log4j = find(&shop, "CVE-2021-44228");
    assert!(log4j.kev && log4j.is_called("GHSA-jfh8-c2jp-5v3q"));
    let ol = merged("ol-trivy.json", "ol-grype.json");
    let (one, two) = (find(&ol, "CVE-2024-0001"), find(&ol, "CVE-2024-0002"));
    assert!(one.is_called("ELSA-2024-0001") && two.is_called("ELSA-2024-0001"));
    assert!(!one.is_called("CVE-2024-0002"), "an exception about one must not hide the other");
    assert_eq!((one.kev, two.kev), (false, true));
    let by_advisory = find(&ol, "ELSA-2024-0002");
    assert!(by_advisory.aliases.is_empty() && by_advisory.purl.is_some());
}

#[test]
fn a_problem_has_the_same_key_in_every_format() {
    let (trivy, grype) = (keys("shop-trivy.json"), keys("shop-grype.json"));
    let all: Vec<_> = trivy.iter().chain(&grype).collect();
    for name in ["shop-trivy.sarif", "shop-trivy.cdx.json"] {
        for key in keys(name) {
            let elsewhere = key.4.as_deref() == Some("app/node_modules/lodash/package.json");
            assert!(elsewhere || trivy.contains(&key), "{name}: {key:?}");
        }
    }
    for key in keys("shop-grype.cdx.json") {
        assert!(all.contains(&&key), "{key:?}");
    }
    // Grype's SARIF knows no aliases, so what it calls by GHSA cannot be found by CVE.
    let found = keys("shop-grype.sarif").into_iter().filter(|key| all.contains(&key)).count();
    assert_eq!(found, 2);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = testing::read(&bytes);
    }

    #[test]
    fn a_changed_report_is_read_or_refused(
        name in prop::sample::select(REPORTS.to_vec()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = fs::read(fixture(name)).unwrap();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(report) = testing::read(&bytes) {
            let counted: usize = report.counts_by_severity.values().sum();
            prop_assert!(counted <= report.findings.len());
            let report = report.or_scanned_at(Some(Timestamp::UNIX_EPOCH));
            let _ = report.bind(Some(&digest('9')), Timestamp::UNIX_EPOCH);
        }
    }

    /// Values of another kind anywhere in a report are read or refused, never a panic.
    #[test]
    fn a_report_with_another_value_is_read_or_refused(
        name in prop::sample::select(REPORTS.to_vec()),
        place in any::<prop::sample::Index>(),
        value in prop::sample::select(vec![
            "null", "true", "-1", "1e308", "99999999999999999999999", "\"\"", "\"\\u0000\"", "[]",
            "{}", "[[[]]]", "{\"a\":{}}",
        ]),
    ) {
        let text = fs::read_to_string(fixture(name)).unwrap();
        let mut report: serde_json::Value = serde_json::from_str(&text).unwrap();
        let count = count_values(&report);
        replace(&mut report, &mut place.index(count), &serde_json::from_str(value).unwrap());
        if let Ok(report) = testing::read(report.to_string()) {
            let counted: usize = report.counts_by_severity.values().sum();
            prop_assert!(counted <= report.findings.len());
        }
    }
}

fn children(value: &mut serde_json::Value) -> Vec<&mut serde_json::Value> {
    match value {
        serde_json::Value::Array(list) => list.iter_mut().collect(),
        serde_json::Value::Object(object) => object.values_mut().collect(),
        _ => Vec::new(),
    }
}

fn count_values(value: &serde_json::Value) -> usize {
    let mut value = value.clone();
    1 + children(&mut value).into_iter().map(|child| count_values(child)).sum::<usize>()
}

/// Puts a value in the place of the one with this number, counted from the outermost.
fn replace(value: &mut serde_json::Value, number: &mut usize, new: &serde_json::Value) {
    if *number == 0 {
        value.clone_from(new);
    }
    *number = number.wrapping_sub(1);
    if *number < usize::MAX / 2 {
        for child in children(value) {
            replace(child, number, new);
        }
    }
}
