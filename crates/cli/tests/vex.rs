//! VEX documents: put into force with the policies, and explained.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::{Node, VEX, assert_narrow, assert_says, contents, digest};
use serde_json::{Value, json};

const ALL: &str = "{class: vulnerability, severity: [high], action: block}";

/// An OpenVEX document with one statement.
fn openvex(id: &str, product: &str, status: &str) -> Value {
    json!({
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": "https://example.com/vex", "author": "us", "version": 1,
        "timestamp": "2024-01-01T00:00:00Z",
        "statements": [{
            "vulnerability": { "name": id },
            "products": [{ "@id": product }],
            "status": status,
            "justification": "vulnerable_code_not_present",
        }],
    })
}

fn of_image(n: u8) -> String {
    format!("pkg:oci/web@{}", digest(n))
}

/// An image with one vulnerability, which is blocked.
fn node() -> Node {
    let node = Node::with_rules(ALL);
    node.import(1, &["CVE-2024-0001"]);
    node.decides(1, &[], 4);
    node
}

fn vex(node: &Node, name: &str, document: &Value) -> String {
    node.file(&format!("{VEX}/{name}"), document.to_string())
}

#[test]
fn a_statement_counts_once_it_is_applied() {
    for product in [of_image(1), "pkg:deb/debian/zlib@1.2-1".to_owned()] {
        let node = node();
        vex(&node, "web.json", &openvex("CVE-2024-0001", &product, "not_affected"));
        node.decides(1, &[], 4);
        assert_says(&node.run(&["policy", "list"], 0), &["run portcullis policy apply"]);
        assert_says(&node.run(&["policy", "check"], 0), &["1 policy and 1 VEX statement checked"]);
        assert_says(&node.run(&["policy", "apply"], 0), &["1 VEX statement"]);
        node.decides(1, &[], 0);
        let listed = node.json(&["policy", "list"], 0);
        assert_eq!((&listed["vexStatements"], &listed["drift"]), (&json!(1), &Value::Null));
        let status = node.json(&["status"], 0);
        assert_eq!(status["vexStatements"], json!(1));
        // The folder of other policies is decided with the node's statements too.
        let policies = node.path("etc/portcullis/policies").display().to_string();
        node.decides(1, &["--policies", &policies], 0);
        let said = node.run(&["vex", "explain", "--image", &digest(1)], 0);
        assert_says(&said, &["CVE-2024-0001 zlib 1.2-1: suppressed", "* web.json statement 1"]);
        assert_narrow(&said);
        fs::remove_file(node.path(&format!("{VEX}/web.json"))).unwrap();
        node.decides(1, &[], 0);
        node.run(&["policy", "apply"], 0);
        node.decides(1, &[], 4);
    }
}

#[test]
fn what_does_not_apply_says_why() {
    for (id, product, status, parts) in [
        (
            "CVE-2024-0001",
            of_image(9),
            "not_affected",
            ["counts: no statement applies", "it is about the image", "and this one is"],
        ),
        (
            "CVE-2024-0001",
            "pkg:deb/debian/zlib@9".to_owned(),
            "not_affected",
            ["counts: no statement applies", "pkg:deb/debian/zlib@9", ": another version"],
        ),
        (
            "CVE-2024-0001",
            "pkg:oci/web".to_owned(),
            "not_affected",
            ["counts: no statement applies", "is no image that can be checked", "by digest"],
        ),
        (
            "CVE-2024-0001",
            of_image(1),
            "affected",
            ["counts, and a statement says so", "* web.json statement 1: affected", "by digest"],
        ),
        (
            "CVE-2024-0009",
            of_image(1),
            "not_affected",
            ["1 vulnerability is named by no", "1 statement names no", "--all lists them"],
        ),
    ] {
        let node = node();
        vex(&node, "web.json", &openvex(id, &product, status));
        node.run(&["policy", "apply"], 0);
        node.decides(1, &[], 4);
        let said = node.run(&["vex", "explain", "--image", &digest(1)], 0);
        assert_says(&said, &parts);
        assert_narrow(&said);
        let all = node.run(&["vex", "explain", "--image", &digest(1), "--all"], 0);
        assert!(!all.contains("--all"), "{all}");
    }
}

#[test]
fn a_vulnerability_is_explained_in_all_images_that_have_it() {
    let node = node();
    node.import(2, &["CVE-2024-0001", "CVE-2024-0002"]);
    node.import(3, &["CVE-2024-0002"]);
    vex(&node, "web.json", &openvex("CVE-2024-0001", &of_image(2), "fixed"));
    let said = node.json(&["vex", "explain", "cve-2024-0001"], 0);
    let shown: Vec<(Value, Value)> = said["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| (image["image"]["config"].clone(), image["findings"][0]["suppressed"].clone()))
        .collect();
    assert_eq!(shown, [(json!(digest(1)), json!(false)), (json!(digest(2)), json!(true))]);
    assert_says(&said["notes"].to_string(), &["run portcullis policy apply"]);
    assert_says(&node.run(&["vex", "explain", "CVE-2024-7777"], 0), &["no image that is known"]);
    node.refuses(&["vex", "explain", "01JD3V8Q2M"], &["no event begins with"]);
    let both = ["vex", "explain", "01JD3V8Q2M", "--image", &digest(1)];
    node.refuses(&both, &["not both"]);
}

#[test]
fn the_later_of_two_statements_counts_and_the_other_is_shown() {
    let node = node();
    let mut later = openvex("CVE-2024-0001", &of_image(1), "affected");
    later["timestamp"] = json!("2024-06-01T00:00:00Z");
    vex(&node, "a.json", &openvex("CVE-2024-0001", &of_image(1), "not_affected"));
    vex(&node, "b.json", &later);
    node.run(&["policy", "apply"], 0);
    node.decides(1, &[], 4);
    let said = node.json(&["vex", "explain", "--image", &digest(1)], 0);
    let statements = &said["images"][0]["findings"][0]["statements"];
    assert_eq!(statements[0]["source"], json!("b.json statement 1"));
    assert_eq!((&statements[0]["counts"], &statements[1]["counts"]), (&json!(true), &json!(false)));
    assert_eq!(statements[1]["applies"], json!(true));
    assert_says(&statements[1]["why"].to_string(), &["but a later or a more cautious one counts"]);
}

#[test]
fn what_is_damaged_or_not_trusted_changes_nothing() {
    let node = node();
    let good = openvex("CVE-2024-0001", &of_image(1), "not_affected");
    vex(&node, "a.json", &good);
    node.run(&["policy", "apply"], 0);
    let before = contents(&node.path("var/lib/portcullis/policy"));
    let later = openvex("CVE-2024-0001", &of_image(1), "affected").to_string();
    for (content, mode, parts) in [
        (&later[..later.len() / 2], 0o644, ["b.json", "EOF", "goes on deciding"]),
        ("[]", 0o644, ["b.json", "is not a JSON object", "goes on deciding"]),
        ("{}", 0o644, ["b.json", "no VEX document", "goes on deciding"]),
        (&later, 0o666, ["b.json", "not writable by others", "goes on deciding"]),
        (&later, 0o664, ["b.json", "mode 0664", "goes on deciding"]),
    ] {
        let file = node.file(&format!("{VEX}/b.json"), content);
        fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        node.refuses(&["policy", "apply"], &parts);
        node.refuses(&["policy", "check"], &parts[..2]);
        node.refuses(&["vex", "list"], &parts[..2]);
        node.refuses(&["vex", "check"], &[parts[0], parts[1], "2 documents checked, 1 cannot"]);
        node.refuses(&["vex", "check", &file], &["1 document checked, 1 cannot be used"]);
        assert_says(&node.run(&["policy", "list"], 0), &["cannot be read", "b.json"]);
        assert_eq!(contents(&node.path("var/lib/portcullis/policy")), before);
        node.decides(1, &[], 0);
    }
}

#[test]
fn a_set_that_doors_would_not_read_is_not_published() {
    let node = node();
    let statement = |n: usize| {
        json!({
            "vulnerability": { "name": format!("CVE-2024-{n:05}") },
            "products": [{ "@id": format!("pkg:npm/{}@{n}", "x".repeat(200)) }],
            "status": "not_affected", "justification": "component_not_present",
        })
    };
    let mut document = openvex("", "", "");
    document["statements"] = (10_000..70_000).map(statement).collect();
    vex(&node, "huge.json", &document);
    node.refuses(&["policy", "apply"], &["a door reads 16777216", "leave out VEX documents"]);
    node.decides(1, &[], 4);
}

#[test]
fn documents_are_listed_with_what_cannot_be_used() {
    let node = node();
    assert_says(&node.run(&["vex", "list"], 0), &["no VEX document is in"]);
    let mut document = openvex("CVE-2024-0001", "pkg:oci/web", "not_affected");
    document["statements"][0]["products"] =
        json!([{ "@id": "pkg:oci/web" }, { "@id": of_image(1) }, {}]);
    vex(&node, "web.json", &document);
    let said = node.run(&["vex", "list"], 0);
    assert_says(
        &said,
        &[
            "(OpenVEX, 1 statement)",
            "web.json statement 1: CVE-2024-0001 not_affected: pkg:oci/web, pkg:oci/web@sha256:",
            "warning: web.json",
            "note: the documents differ from the statements in force",
        ],
    );
    assert_narrow(&said);
    assert_says(&node.run(&["policy", "apply"], 0), &["warning: web.json", "in force: all"]);
    let listed = node.json(&["vex", "list"], 0);
    assert_eq!(listed["drift"], Value::Null);
    assert_eq!(listed["documents"][0]["format"], json!("OpenVEX"));
    assert_eq!(listed["documents"][0]["statements"][0]["status"], json!("not_affected"));
    assert_says(&node.run(&["vex", "check"], 0), &["1 document checked, no fault"]);
}

/// An event records the names and manifests that the engine's record proved, so that statements
/// about them apply as they would at the start.
#[test]
fn a_recorded_start_is_explained_by_its_own_identity() {
    let node = node();
    let event = json!({
        "id": "A1", "time": "2026-01-01T00:00:00Z", "kind": "decision", "action": "block",
        "message": "portcullis: blocked", "gateMicros": 1, "findings": 1,
        "request": { "engine": "containerd", "node": "n1", "containerId": "c1", "kind": "container" },
        "image": {
            "surety": "bound", "config": digest(1), "manifests": [digest(7)],
            "names": [
                { "reference": "registry.example.com/web:1", "held": true, "asked": true },
                { "reference": "registry.example.com/moved:1", "held": false, "asked": false },
            ],
        },
    });
    let event: portcullis_types::Event = serde_json::from_value(event).unwrap();
    let folder = node.path("var/lib/portcullis/events");
    fs::create_dir_all(&folder).unwrap();
    portcullis_audit::Ledger::new(folder, 1 << 20).append(&event).unwrap();
    let by_repository =
        |name: &str| format!("pkg:oci/{name}?repository_url=registry.example.com/{name}");
    for (product, why, suppressed) in [
        (of_image(7), "applies to this image, by digest", true),
        (by_repository("web"), "applies to images of this repository, by name", true),
        (by_repository("moved"), "it is about the image registry.example.com/moved", false),
    ] {
        vex(&node, "web.json", &openvex("CVE-2024-0001", &product, "not_affected"));
        let said = node.json(&["vex", "explain", "A1", "CVE-2024-0001"], 0);
        assert_eq!(said["event"]["id"], json!("A1"));
        let finding = &said["images"][0]["findings"][0];
        assert_eq!(finding["suppressed"], json!(suppressed), "{product}");
        assert_says(&finding["statements"][0]["why"].to_string(), &[why]);
        assert_narrow(&node.run(&["vex", "explain", "A1"], 0));
    }
}
