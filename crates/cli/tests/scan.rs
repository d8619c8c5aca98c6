//! `portcullis scan`: what is found, how it is told, what is stored, and what wrong inputs say.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::fs;

use common::Node;
use portcullis_testkit::image::{Builder, file, gzip};
use portcullis_types::Digest;
use serde_json::{Value, json};

const METADATA: &str = "Metadata-Version: 2.1\nName: flask\nVersion: 1.0\n\n";
const BAD: &str = "a file that is on the list";

/// An image of Debian with a vulnerable package of Python, a listed file, a key and an account
/// without a password.
fn image() -> Builder {
    Builder::new()
        .layer(vec![
            file("etc/os-release", "ID=debian\nVERSION_ID=12\n"),
            file("var/lib/dpkg/status", "Package: bash\nVersion: 5.2-1\n"),
            file("etc/passwd", "root:x:0:0:root:/root:/bin/bash\n"),
            file("etc/shadow", "root::19000:0:99999:7:::\n"),
        ])
        .layer(vec![
            file("usr/local/lib/python3/site-packages/flask-1.0.dist-info/METADATA", METADATA),
            file("app/bad", BAD),
        ])
}

fn node() -> Node {
    let node = Node::with_scanner();
    let advisory = json!({
        "id": "PYSEC-2026-1", "aliases": ["CVE-2026-1111", "GHSA-aaaa-bbbb-cccc"],
        "modified": "2026-01-01T00:00:00Z", "summary": "Flask does something.",
        "severity": [{ "type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H" }],
        "affected": [{
            "package": { "ecosystem": "PyPI", "name": "Flask" },
            "ranges": [{ "type": "ECOSYSTEM", "events": [{ "introduced": "0" }, { "fixed": "1.0.1" }] }],
        }],
    });
    let advisory = node.file("osv.json", advisory.to_string());
    node.run(&["db", "update", &advisory], 0);
    fs::create_dir_all(node.path("etc/portcullis/malware")).unwrap();
    let line = format!("# ours\n{}  Test.Listed\n", Digest::of(BAD.as_bytes()).hex());
    node.file("etc/portcullis/malware/ours.txt", line);
    node.file("web.tar", image().oci_archive(gzip));
    node
}

fn ids(row: &Value) -> Vec<(&str, &str)> {
    let findings = row["findings"].as_array().unwrap().iter();
    findings.map(|f| (f["id"].as_str().unwrap(), f["severity"].as_str().unwrap())).collect()
}

#[test]
fn an_image_is_scanned_and_stored() {
    let node = node();
    let archive = node.path("web.tar").display().to_string();
    let rows = node.json(&["scan", &archive, "--no-clamd"], 0);
    let row = &rows[0];
    assert_eq!(row["image"], json!(image().config_digest()));
    assert_eq!(row["coverage"]["distribution"], "debian 12");
    assert_eq!(
        row["coverage"]["classes"],
        json!(["vulnerability", "malware", "baseline", "secret"])
    );
    assert_eq!(row["coverage"]["ecosystems"], json!(["python-pkg"]));
    assert_eq!(
        row["coverage"]["uncovered"],
        json!(["debian"]),
        "there are no advisories of Debian"
    );
    assert_eq!((&row["packages"], &row["stored"]), (&json!(2), &json!("created")));
    let found = ids(row);
    for wanted in [
        ("CVE-2026-1111", "critical"),
        ("Test.Listed", "critical"),
        ("account-empty-password", "critical"),
    ] {
        assert!(found.contains(&wanted), "{wanted:?} in {found:?}");
    }
    let finding = |id: &str| {
        let findings = row["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["id"] == id).unwrap()
    };
    let flask = finding("CVE-2026-1111");
    assert_eq!(
        (&flask["fixedVersion"], &flask["purl"]),
        (&json!("1.0.1"), &json!("pkg:pypi/flask@1.0"))
    );
    assert_eq!(flask["aliases"], json!(["GHSA-aaaa-bbbb-cccc", "PYSEC-2026-1"]));
    assert_eq!(flask["cvss"], json!(9.8));
    let listed = finding("Test.Listed");
    assert_eq!(listed["path"], "app/bad");
    assert_eq!(listed["sha256"], json!(Digest::of(BAD.as_bytes()).hex()));
    // What a door reads.
    let image = image().config_digest().to_string();
    let verdict = node.json(&["verdict", "show", &image], 0);
    assert_eq!(verdict["reports"][0]["binding"], "byScan");
    assert_eq!(verdict["reports"][0]["databaseAt"], "2026-01-01T00:00:00Z");
    // Once more: no layer is read again.
    let again = &node.json(&["scan", &archive, "--no-clamd"], 0)[0];
    assert_eq!((&again["layersRead"], &again["layersKnown"]), (&json!(0), &json!(2)));
    assert_eq!(ids(again), found);
}

#[test]
fn new_knowledge_needs_no_layer() {
    let node = node();
    let archive = node.path("web.tar").display().to_string();
    node.json(&["scan", &archive, "--no-clamd"], 0);
    // Nothing of the image is left but what was kept.
    fs::remove_file(node.path("web.tar")).unwrap();
    let image = image().config_digest().to_string();
    assert_eq!(node.json(&["db", "rematch"], 0)[0]["verdict"], "unchanged");
    // Another advisory takes the place of the one before.
    let advisory = json!({
        "id": "PYSEC-2026-2", "aliases": ["CVE-2026-2222"], "modified": "2026-02-01T00:00:00Z",
        "affected": [{
            "package": { "ecosystem": "PyPI", "name": "flask" },
            "ranges": [{ "type": "ECOSYSTEM", "events": [{ "introduced": "0.5" }] }],
        }],
    });
    let advisory = node.file("osv.json", advisory.to_string());
    let updated = node.json(&["db", "update", &advisory], 0);
    let row = &updated["images"][0];
    assert_eq!((&row["image"], &row["verdict"]), (&json!(image), &json!("updated")));
    assert_eq!(row["appeared"], json!(["CVE-2026-2222 flask"]));
    assert_eq!(row["gone"], json!(["CVE-2026-1111 flask"]));
    let verdict = node.json(&["verdict", "show", &image], 0);
    assert_eq!(verdict["reports"].as_array().unwrap().len(), 1, "the new one replaces the old");
    // A new list finds what was harmless before.
    node.file(
        "etc/portcullis/malware/ours.txt",
        format!("{}  Other\n", Digest::of(METADATA.as_bytes()).hex()),
    );
    let said = node.run(&["db", "rematch"], 0);
    assert!(said.contains("1 image judged anew without reading a layer, 1 changed"), "{said}");
    assert!(said.contains("+Other, -Test.Listed"), "{said}");
    // What is forgotten stays so.
    node.run(&["verdict", "rm", &image], 0);
    assert_eq!(node.json(&["db", "rematch"], 0), json!([]));
}

#[test]
fn what_is_shown_can_be_chosen_and_fails_on_request() {
    let node = node();
    let archive = node.path("web.tar").display().to_string();
    let scan = |more: &[&str], code| {
        let args = [&["scan", &archive, "--no-clamd", "--no-store"], more].concat();
        node.json(&args, code)[0].clone()
    };
    let row = scan(&["--class", "malware"], 0);
    assert_eq!(ids(&row), [("Test.Listed", "critical")]);
    assert_eq!(row["stored"], Value::Null);
    assert!(!node.path("var/lib/portcullis/inventories").exists());
    let low = scan(&["--severity", "low,medium"], 0);
    assert!(ids(&low).iter().all(|(_, severity)| matches!(*severity, "low" | "medium")));
    assert!(low["counts"]["critical"].as_u64().unwrap() >= 3, "{}", low["counts"]);
    scan(&["--fail-on", "critical"], 6);
    scan(&["--fail-on", "high", "--class", "malware"], 6);
    scan(&["--fail-on", "critical", "--severity", "low"], 0);
}

#[test]
fn other_forms_are_printed() {
    let node = node();
    let archive = node.path("web.tar").display().to_string();
    let print = |form: &str| -> Value {
        let [said, _] = node.told(&["scan", &archive, "--no-clamd", "--output", form], 0);
        serde_json::from_str(&said).unwrap()
    };
    let sarif = print("sarif");
    assert_eq!(sarif["version"], "2.1.0");
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    let result = results.iter().find(|result| result["ruleId"] == "CVE-2026-1111").unwrap();
    assert_eq!(result["level"], "error");
    let rules = sarif["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap();
    for result in results {
        let rule = &rules[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
        assert_eq!(rule["id"], result["ruleId"]);
    }
    let bom = print("cyclonedx");
    assert_eq!((&bom["bomFormat"], &bom["specVersion"]), (&json!("CycloneDX"), &json!("1.6")));
    let purls: Vec<&str> =
        bom["components"].as_array().unwrap().iter().filter_map(|c| c["purl"].as_str()).collect();
    assert_eq!(purls, ["pkg:deb/debian/bash@5.2-1?distro=debian-12", "pkg:pypi/flask@1.0"]);
    assert_eq!(bom["vulnerabilities"][0]["affects"][0]["ref"], "pkg:pypi/flask@1.0");
    // Our own document is one that we take in ourselves.
    let file = node.file("web.cdx.json", bom.to_string());
    let imported =
        node.json(&["import", &file, "--image", &image().config_digest().to_string()], 0);
    assert_eq!(imported[0]["reported"]["critical"], 1);
}

#[test]
fn what_is_wrong_is_said() {
    let node = node();
    let path = |name: &str| node.path(name).display().to_string();
    node.file("text", "no archive");
    node.file("cut.tar", &image().oci_archive(gzip)[..2000]);
    fs::create_dir(node.path("empty")).unwrap();
    for (args, wanted) in [
        (vec!["scan".to_owned(), path("nothing")], "No such file"),
        (vec!["scan".to_owned(), path("text")], "is no archive"),
        (vec!["scan".to_owned(), path("cut.tar")], "there is no image here"),
        (
            vec!["scan".to_owned(), "web:1.4".to_owned(), "--address".to_owned(), path("no.sock")],
            "was taken for the name of an image",
        ),
        (
            vec!["scan".to_owned(), path("web.tar"), "--image".to_owned(), "other".to_owned()],
            "there is no image here of that name",
        ),
        (
            vec!["scan".to_owned(), path("web.tar"), "--clamd".to_owned(), path("no.sock")],
            "is not there: name the LocalSocket",
        ),
    ] {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let said = node.run(&args, 1);
        assert!(said.contains(wanted), "{args:?}: {said}");
    }
    node.run(&["scan"], 2);
    node.run(&["status", "--output", "sarif"], 1);
    node.file("etc/portcullis/malware/ours.txt", "not a digest\n");
    let said = node.run(&["scan", &path("web.tar")], 1);
    assert!(said.contains("ours.txt:1: no SHA-256 digest"), "{said}");
}
