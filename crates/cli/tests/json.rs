//! What each command prints with `--output json`, held against docs/json.md: a field that is printed
//! is described there, and one that is described is printed by some command of this test.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Node, VEX, digest};
use portcullis_audit::Ledger;
use portcullis_types::{
    Action, Digest, Engine, Event, Evidence, Identity, Lookup, Request, Surety, Timestamp,
};
use serde_json::{Value, json};

/// The fields that each section of the document describes, `## events list` and `| `id` | … |`, and
/// whether each is printed always.
fn described() -> BTreeMap<String, BTreeMap<String, bool>> {
    let text = include_str!("../../../docs/json.md");
    let mut sections: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
    let mut section = String::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title.to_owned();
            sections.entry(section.clone()).or_default();
        } else if let Some(field) = line.strip_prefix("| `").and_then(|l| l.split('`').next()) {
            sections
                .entry(section.clone())
                .or_default()
                .insert(field.to_owned(), !line.contains("if any") && !line.contains("if one is"));
        }
    }
    sections
}

/// The fields of an object, or of all objects of a list.
fn printed(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Array(list) => list.iter().flat_map(printed).collect(),
        Value::Object(fields) => fields.keys().cloned().collect(),
        other => panic!("neither fields nor a list: {other}"),
    }
}

fn event(image: u8) -> Event {
    let identity = Identity {
        surety: Surety::Bound,
        config: Some(Digest::sha256([image; 32])),
        note: None,
        ..Identity::unknown("")
    };
    let decision = portcullis_types::Decision {
        action: Action::Block,
        policy_set: None,
        policies: Vec::new(),
        settings: Vec::new(),
        findings: 1,
        settings_of_start: 0,
    };
    let request = Request::new(Engine::Containerd, "node-1", "container");
    let evidence = Evidence::of(Lookup::NotRead);
    let id = portcullis_audit::new_id();
    let line = "portcullis: blocked: a test".to_owned();
    Event::of_decision(id, Timestamp::now(), line, &request, &identity, &evidence, &decision)
}

#[test]
fn every_field_is_described_and_every_description_is_of_a_field() {
    let node = Node::with_rules("{class: vulnerability, severity: [high], action: block}");
    let report = node.file("r.json", common::report(1, &["CVE-2024-0001"]).to_string());
    let statement = json!({
        "@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://example.com/vex",
        "author": "us", "version": 1, "timestamp": "2024-01-01T00:00:00Z",
        "statements": [{ "vulnerability": { "name": "CVE-2024-0001" }, "status": "affected",
            "products": [{ "@id": "pkg:deb/debian/zlib@1.2-1" }] }],
    });
    node.file(&format!("{VEX}/a.json"), statement.to_string());
    let kev = json!({
        "catalogVersion": "2026.01.01", "dateReleased": "2026-01-01T00:00:00Z", "count": 1,
        "vulnerabilities": [{ "cveID": "CVE-2024-0001", "dateAdded": "2024-01-02" }],
    });
    let kev = node.file("kev.json", kev.to_string());
    let event = event(1);
    Ledger::new(node.path("var/lib/portcullis/events"), 1 << 20).append(&event).unwrap();
    let image = digest(1);
    let policies = node.path("etc/portcullis/policies").display().to_string();
    let id = event.id.as_str();

    let mut described = described();
    let runs: &[(&str, &[&str], i32)] = &[
        ("import", &["import", &report], 0),
        ("feed update", &["feed", "update", &kev], 0),
        ("feed status", &["feed", "status"], 0),
        ("policy check and policy apply", &["policy", "check"], 0),
        ("policy check and policy apply", &["policy", "apply"], 0),
        ("policy list", &["policy", "list"], 0),
        ("policy lint", &["policy", "lint"], 0),
        ("status", &["status"], 0),
        ("verdict list", &["verdict", "list"], 0),
        ("verdict show", &["verdict", "show", &image], 0),
        ("vex list", &["vex", "list"], 0),
        ("vex check", &["vex", "check"], 0),
        ("vex explain", &["vex", "explain", "--image", &image], 0),
        ("decide", &["decide", "--image", &image], 0),
        ("explain", &["explain", id], 0),
        ("simulate", &["simulate", "--policies", &policies], 0),
        ("events list", &["events", "list"], 0),
        ("events show", &["events", "show", id], 0),
        ("events verify", &["events", "verify", "--no-journal"], 0),
        ("events handle and events ignore", &["events", "ignore", id], 0),
        ("config check", &["config", "check"], 0),
    ];
    let mut missing: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (section, args, code) in runs {
        let said = node.run(&[args, &["--output", "json"][..]].concat(), *code);
        // What is said beside the data follows it.
        let mut values = serde_json::Deserializer::from_str(&said).into_iter::<Value>();
        let fields = printed(&values.next().unwrap().unwrap());
        let known = described.entry((*section).to_owned()).or_default();
        let unknown = fields.iter().filter(|field| !known.contains_key(*field)).cloned();
        let unknown: Vec<String> = unknown.collect();
        if !unknown.is_empty() {
            missing.entry(*section).or_default().extend(unknown);
        }
        seen.entry((*section).to_owned()).or_default().extend(fields);
    }
    assert!(missing.is_empty(), "printed and not described: {missing:#?}");
    for (section, fields) in described {
        let always = fields.into_iter().filter(|(_, always)| *always).map(|(field, _)| field);
        let always: BTreeSet<String> = always.collect();
        let printed = seen.remove(&section).unwrap_or_else(|| panic!("{section} was not run"));
        let never: Vec<_> = always.difference(&printed).collect();
        assert!(never.is_empty(), "{section}: described and not printed: {never:?}");
    }
}
