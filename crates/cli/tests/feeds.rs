//! EPSS and KEV: with an import, after it, and where they are damaged.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::{FEEDS, Node, assert_narrow, assert_says, contents, digest};
use serde_json::{Value, json};

const BY_KEV: &str = "{class: vulnerability, kev: true, action: block}";
const BY_EPSS: &str = "{class: vulnerability, epss: 0.5, action: block}";

fn kev(day: &str, ids: &[&str]) -> String {
    let listed: Vec<Value> =
        ids.iter().map(|id| json!({ "cveID": id, "dateAdded": "2024-01-02" })).collect();
    json!({
        "catalogVersion": day, "dateReleased": format!("{day}T00:00:00Z"),
        "count": listed.len(), "vulnerabilities": listed,
    })
    .to_string()
}

fn epss(day: &str, rows: &[(&str, &str)]) -> String {
    let mut text =
        format!("#model_version:v1,score_date:{day}T00:00:00+0000\ncve,epss,percentile\n");
    for (id, value) in rows {
        text.push_str(&format!("{id},{value},0.5\n"));
    }
    text
}

/// Two images; only the second has the vulnerability that feeds will speak of.
fn node(rules: &str) -> Node {
    let node = Node::with_rules(rules);
    node.import(1, &["CVE-2024-0001"]);
    node.import(2, &["CVE-2024-0002"]);
    node.decides(2, &[], 0);
    node
}

#[test]
fn an_import_has_what_the_feeds_say() {
    for (rules, name, feed) in [
        (BY_KEV, "kev.json", kev("2026-01-01", &["CVE-2024-0002"])),
        (BY_EPSS, "epss.csv", epss("2026-01-01", &[("CVE-2024-0002", "0.9")])),
    ] {
        let node = Node::with_rules(rules);
        node.file(&format!("{FEEDS}/{name}"), feed);
        node.import(1, &["CVE-2024-0001"]);
        node.import(2, &["CVE-2024-0002"]);
        node.decides(1, &[], 0);
        node.decides(2, &[], 4);
    }
}

#[test]
fn an_update_changes_decisions_without_an_import() {
    for (rules, feed, stored) in [
        (BY_KEV, kev("2026-01-01", &["CVE-2024-0002"]), "kev.json"),
        (BY_EPSS, epss("2026-01-01", &[("CVE-2024-0002", "0.9")]), "epss.csv"),
    ] {
        let node = node(rules);
        let file = node.file("what it is called says nothing.txt", &feed);
        let said = node.json(&["feed", "update", &file], 0);
        assert_eq!(said["changed"], json!([digest(2)]));
        assert_eq!((&said["images"], &said["damaged"]), (&json!(2), &json!([])));
        node.decides(1, &[], 0);
        node.decides(2, &[], 4);
        let stored = node.path(&format!("{FEEDS}/{stored}"));
        assert_eq!(fs::read_to_string(&stored).unwrap(), feed);
        assert_eq!(fs::metadata(&stored).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(contents(&node.path(FEEDS)).len(), 1, "nothing is left behind");
        let again = node.run(&["feed", "update", &file], 0);
        assert_says(&again, &["0 of 2 images changed", "of 2026-01-01, 1 CVE, "]);
        assert_narrow(&again);
    }
}

#[test]
fn files_copied_by_hand_are_taken_without_a_name() {
    let node = node(BY_KEV);
    node.refuses(&["feed", "update"], &["no feed is in", "give EPSS or KEV"]);
    node.file(&format!("{FEEDS}/kev.json"), kev("2026-01-01", &["CVE-2024-0002"]));
    assert_says(&node.run(&["feed", "update"], 0), &["1 of 2 images changed"]);
    node.decides(2, &[], 4);
}

#[test]
fn an_older_feed_needs_force() {
    let node = node(BY_EPSS);
    let new = node.file("new.csv", epss("2026-02-01", &[("CVE-2024-0002", "0.1")]));
    let old = node.file("old.csv", epss("2026-01-01", &[("CVE-2024-0002", "0.9")]));
    node.run(&["feed", "update", &new], 0);
    node.refuses(&["feed", "update", &old], &["old.csv is of 2026-01-01", "--force"]);
    node.decides(2, &[], 0);
    node.run(&["feed", "update", "--force", &old], 0);
    node.decides(2, &[], 4);
    let late = node.file("late.csv", epss("2999-01-01", &[("CVE-2024-0002", "0.1")]));
    node.refuses(&["feed", "update", &late], &["a day to come", "clock"]);
}

#[test]
fn one_form_of_epss_takes_the_place_of_the_other() {
    let node = node(BY_EPSS);
    let text = epss("2026-01-01", &[("CVE-2024-0002", "0.9")]);
    let packed = node.file("packed", gzip(text.as_bytes()));
    let plain = node.file("plain", epss("2026-02-01", &[("CVE-2024-0002", "0.1")]));
    node.run(&["feed", "update", &plain], 0);
    node.refuses(&["feed", "update", &packed], &["--force"]);
    node.run(&["feed", "update", &packed, "--force"], 0);
    let names: Vec<_> = contents(&node.path(FEEDS)).into_iter().map(|(path, _)| path).collect();
    assert_eq!(names, [node.path(FEEDS).join("epss.csv.gz")]);
    node.decides(2, &[], 4);
}

/// Packs without compressing (RFC 1951, 3.2.4; RFC 1952).
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
        }
    }
    let length = u16::try_from(bytes.len()).unwrap();
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    packed.extend(length.to_le_bytes());
    packed.extend((!length).to_le_bytes());
    packed.extend(bytes);
    packed.extend((!crc).to_le_bytes());
    packed.extend(u32::from(length).to_le_bytes());
    packed
}

#[test]
fn what_is_damaged_changes_nothing() {
    let node = node(BY_KEV);
    let good = node.file("good.json", kev("2026-01-01", &["CVE-2024-0002"]));
    node.run(&["feed", "update", &good], 0);
    let epss_good = node.file("good.csv", epss("2026-01-01", &[("CVE-2024-0001", "0.9")]));
    let cut = kev("2026-02-01", &["CVE-2024-0001"]);
    for (content, wanted) in [
        (&cut[..cut.len() - 9], "bad: "),
        (&cut.replace(r#""count":1"#, r#""count":2"#), "counts 2"),
        ("", "is neither EPSS"),
        ("<html>", "is neither EPSS"),
        ("cve,epss,percentile\n", "score_date"),
        (&epss("2026-02-01", &[("CVE-2024-0001", "0.9"), ("CVE-2024-0002", "x")]), "line 4"),
    ] {
        let bad = node.file("bad", content);
        // The good one beside it is not taken either.
        let wanted = wanted.trim_end_matches(": ");
        node.refuses(&["feed", "update", &epss_good, &bad], &["bad", wanted, "nothing is changed"]);
    }
    node.refuses(&["feed", "update", &good, &good], &["are both KEV"]);
    node.decides(1, &[], 0);
    node.decides(2, &[], 4);
}

#[test]
fn a_damaged_stored_feed_stops_imports_and_is_mended_by_an_update() {
    let node = node(BY_KEV);
    let stored = node.file(&format!("{FEEDS}/kev.json"), "{");
    let report = node.file("r.json", common::report(3, &["CVE-2024-0002"]).to_string());
    for args in [&["import", &report][..], &["feed", "update"], &["feed", "status"]] {
        node.refuses(args, &[&stored, "portcullis feed update"]);
    }
    assert_says(&node.run(&["status"], 0), &[&stored, "portcullis feed update"]);
    node.decides(2, &[], 0);
    let epss = node.file("e.csv", epss("2026-01-01", &[("CVE-2024-0001", "0.9")]));
    node.refuses(&["feed", "update", &epss], &[&stored]);
    let good = node.file("good.json", kev("2026-01-01", &["CVE-2024-0002"]));
    node.run(&["feed", "update", &good, &epss], 0);
    node.run(&["import", &report], 0);
    node.decides(2, &[], 4);
    node.decides(3, &[], 4);
}

#[test]
fn a_damaged_verdict_is_named_and_the_others_are_updated() {
    let node = node(BY_KEV);
    let verdicts = contents(&node.path("var/lib/portcullis/verdicts"));
    let hex = digest(1).replace("sha256:", "");
    let (path, mut bytes) =
        verdicts.into_iter().find(|(p, b)| !b.is_empty() && p.ends_with(&hex)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(path, bytes).unwrap();
    let good = node.file("good.json", kev("2026-01-01", &["CVE-2024-0002"]));
    let said = node.json(&["feed", "update", &good], 1);
    assert_eq!(said["changed"], json!([digest(2)]));
    assert_eq!(said["damaged"][0]["image"], json!(digest(1)));
    node.decides(2, &[], 4);
}

#[test]
fn the_feeds_are_shown_with_their_age() {
    let node = node(BY_KEV);
    assert_says(&node.run(&["feed", "status"], 0), &["no feed is in"]);
    node.file(&format!("{FEEDS}/kev.json"), kev("2026-01-01", &["CVE-2024-0002"]));
    let rows = node.json(&["feed", "status"], 0);
    assert_eq!(rows[0]["name"], "KEV");
    assert_eq!((&rows[0]["rows"], &rows[0]["date"]), (&json!(1), &json!("2026-01-01T00:00:00Z")));
    assert!(rows[0]["path"].as_str().unwrap().ends_with("feeds/kev.json"), "{rows}");
    assert_says(&node.run(&["status"], 0), &["feed KEV of 2026-01-01, 1 CVE"]);
}
