//! The `events` commands on a ledger that was written as the gate writes it.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use portcullis_audit::{Head, Ledger};
use portcullis_types::{Event, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;

const EVENTS: &str = "var/lib/portcullis/events";
const POLICIES: &str = "etc/portcullis/policies";

/// An installation in a folder of its own.
struct Node {
    root: TempDir,
}

impl Node {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in [POLICIES, EVENTS, "var/lib/portcullis/verdicts"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        Self { root }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    fn ledger(&self) -> Ledger {
        Ledger::new(self.path(EVENTS), 16 << 20)
    }

    /// Appends events as the gate does.
    fn record(&self, events: &[Value]) -> Vec<Head> {
        let event = |event: &Value| serde_json::from_value::<Event>(event.clone()).unwrap();
        events.iter().map(|value| common::append(&self.ledger(), &event(value))).collect()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.arg("--root").arg(self.root.path()).args(args).stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn told(command: &mut Command, code: i32) -> (String, String) {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let [out, errors] = [stdout, stderr].map(|b| String::from_utf8(b).unwrap());
        assert_eq!(status.code(), Some(code), "{command:?}\n{out}\n{errors}");
        assert!(!errors.contains("panicked"), "{errors}");
        (out, errors)
    }

    #[track_caller]
    fn succeeds(&self, args: &[&str]) -> String {
        Self::told(&mut self.command(args), 0).0
    }

    #[track_caller]
    fn fails(&self, args: &[&str]) -> String {
        let (out, errors) = Self::told(&mut self.command(args), 1);
        out + &errors
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.succeeds(&[&["--output", "json"], args].concat())).unwrap()
    }

    /// Rows of `events list` as `id xcount status`.
    #[track_caller]
    fn rows(&self, args: &[&str]) -> Vec<String> {
        let rows = self.json(&[&["events", "list"], args].concat());
        let row = |row: &Value| {
            let status = row["status"].as_str().unwrap_or("-");
            format!("{} x{} {status}", row["id"].as_str().unwrap(), row["count"])
        };
        rows.as_array().unwrap().iter().map(row).collect()
    }

    fn policy(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(POLICIES).join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

#[track_caller]
fn assert_says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "\"{part}\" is not in: {said}");
    }
}

fn digest(n: u8) -> String {
    format!("sha256:{}", format!("{n:02x}").repeat(32))
}

/// Puts fields over those of an object, however deep.
fn over(mut value: Value, changes: Value) -> Value {
    match (&mut value, changes) {
        (Value::Object(fields), Value::Object(changes)) => {
            for (name, change) in changes {
                let field = fields.remove(&name).unwrap_or_default();
                fields.insert(name, over(field, change));
            }
            value
        }
        (_, changes) => changes,
    }
}

/// A refused start in a pod; each try has a container of its own.
fn refusal(id: &str, changes: Value) -> Value {
    let event = json!({
        "id": id, "time": Timestamp::now(), "kind": "decision", "action": "block",
        "message": format!("portcullis: blocked: 1 critical vulnerability; policy web; see: \
                            portcullis events show {id}"),
        "request": {
            "engine": "containerd", "node": "n1", "containerId": format!("container-{id}"),
            "kind": "container", "namespace": "prod", "pod": "web-1", "container": "web",
        },
        "image": {
            "surety": "bound", "config": digest(1), "chainId": digest(2),
            "manifests": [digest(3)],
            "names": [
                { "reference": "registry.example.com/web:1.4", "held": true, "asked": true },
                { "reference": "registry.example.com/moved:2", "held": false, "asked": false },
            ],
        },
        "policies": ["web"], "counted": { "vulnerability/critical": 1 }, "findings": 3,
        "gateMicros": 812,
    });
    over(event, changes)
}

fn other(id: &str, kind: &str, of: &str) -> Value {
    let message = format!("portcullis: {kind} of {of}");
    refusal(id, json!({ "kind": kind, "action": "allow", "decision": of, "message": message }))
}

#[test]
fn equal_refusals_are_one_row() {
    let node = Node::new();
    node.record(&[
        refusal("A1", json!({ "time": "2026-11-01T10:00:00Z" })),
        refusal("B1", json!({ "action": "alarm", "time": "2026-11-01T11:00:00Z" })),
        refusal("A2", json!({ "time": "2026-11-02T10:00:00Z" })),
        other("N1", "notice", ""),
        refusal("C1", json!({ "action": "allow", "request": { "namespace": "dev" } })),
        other("O1", "outcome", "C1"),
        refusal("A3", json!({})),
    ]);
    let cases: &[(&[&str], &[&str])] = &[
        (&[], &["B1 x1 open", "C1 x1 -", "A3 x3 open"]),
        (&["--each"], &["A1 x1 open", "B1 x1 open", "A2 x1 open", "C1 x1 -", "A3 x1 open"]),
        (&["--all"], &["B1 x1 open", "N1 x1 -", "C1 x1 -", "O1 x1 -", "A3 x3 open"]),
        (&["--status", "open"], &["B1 x1 open", "A3 x3 open"]),
        (&["--status", "handled"], &[]),
        (&["--action", "block"], &["A3 x3 open"]),
        (&["--namespace", "dev"], &["C1 x1 -"]),
        (&["--container", "container-A1"], &["A3 x3 open"]),
        (&["--container", "container-A1", "--each"], &["A1 x1 open"]),
        (&["--since", "24h"], &["C1 x1 -", "A3 x3 open"]),
        (&["--since", "2026-11-02T00:00:00Z", "--each"], &["A2 x1 open", "C1 x1 -", "A3 x1 open"]),
        (&["--limit", "1"], &["A3 x3 open"]),
    ];
    for (args, expected) in cases {
        assert_eq!(node.rows(args), *expected, "{args:?}");
    }
    let row = &node.json(&["events", "list", "--action", "block"])[0];
    assert_eq!(row["first"], "2026-11-01T10:00:00Z");
    assert_eq!(row["latest"], row["time"]);
    let (_, said) = Node::told(&mut node.command(&["events", "list", "--since", "soon"]), 2);
    assert_says(&said, &["--since", "24h"]);
}

#[test]
fn the_table_is_never_wider_than_a_hundred_columns() {
    let node = Node::new();
    let long = "w".repeat(253);
    let findings = "CVE-2026-12345 openssl 3.0.1 -> 3.0.2, ".repeat(20);
    node.record(&[
        refusal("01M86PBPP7YE9W6GWJ1BCSTAGF", json!({ "message": findings })),
        refusal("01M86PBPP7YE9W6GWJ1BCSTAGG", json!({ "message": "x".repeat(900), "policies": ["x"] })),
        refusal("01M86PBPP7YE9W6GWJ1BCSTAGH", json!({ "request": { "pod": long } })),
        refusal("01M86PBPP7YE9W6GWJ1BCSTAGJ", json!({
            "message": "portcullis: \u{1b}[2J\u{202e}evil\nline", "request": { "pod": "a\u{1b}b" },
        })),
    ]);
    for args in [&["events", "list"][..], &["events", "list", "--each", "--all"]] {
        let table = node.succeeds(args);
        let wide = table.lines().find(|line| line.chars().count() > 100);
        assert_eq!(wide, None, "{table}");
        assert_says(&table, &["TIME", "COUNT", "STATUS", "\n  WHAT", "01M86PBPP7YE9W6GWJ1BCSTAGJ"]);
        assert!(!table.contains(['\u{1b}', '\u{202e}']), "{table}");
        assert_says(&table, &["?[2J?evil?line", "CVE-2026-12345"]);
    }
}

#[test]
fn an_event_is_shown_with_all_that_belongs_to_it() {
    let node = Node::new();
    node.record(&[
        refusal("A1", json!({ "time": "2026-11-01T10:00:00Z" })),
        other("O1", "outcome", "A2"),
        refusal("A2", json!({
            "failures": [{ "cause": "deadline", "detail": "the store took too long" }],
            "workload": [{
                "class": "workload", "id": "privileged", "severity": "critical",
                "title": "all capabilities", "path": "process.capabilities", "source": "spec",
            }],
            "imageConfig": { "created": "2026-10-01T00:00:00Z", "user": "app", "labels": { "team": "a" } },
        })),
    ]);
    node.succeeds(&["events", "handle", "A1", "--note", "seen by us"]);
    node.succeeds(&["events", "ignore", "A2"]);
    let shown = node.succeeds(&["events", "show", "a2"]);
    assert_says(
        &shown,
        &[
            "deadline: the store took too long",
            "settings    critical privileged process.capabilities: all capabilities",
            "user        app",
            "label       team=a",
            "created     2026-10-01T00:00:00Z",
            "repeated    2 times alike",
            "first       2026-11-01T10:00:00Z (A1)",
            "(A2)",
            "status      ignored",
            "handled by",
            ": seen by us",
            "ignored by",
            "outcome     portcullis: outcome of A2",
            "held by the engine",
            "not held",
            "next        portcullis explain A2",
        ],
    );
    let shown = node.json(&["events", "show", "A1"]);
    assert_eq!(shown["repeated"]["count"], 2);
    assert_eq!(shown["repeated"]["firstId"], "A1");
    assert_eq!(shown["outcome"], Value::Null);
    assert_eq!(shown["marks"].as_array().unwrap().len(), 2);
    let mark = shown["marks"][0]["id"].as_str().unwrap();
    let shown = node.succeeds(&["events", "show", mark]);
    assert_says(&shown, &["kind        mark", "marked      handled by", "explain A1"]);
}

#[test]
fn a_container_that_has_come_to_violate_is_listed_shown_and_explained() {
    let node = Node::new();
    let message = "portcullis: now violating: 1 critical malicious file; container container-A1; \
                   policy web; see: portcullis explain V1";
    node.record(&[
        refusal("A1", json!({ "action": "allow" })),
        refusal(
            "V1",
            json!({
                "kind": "violation", "decision": "A1", "message": message,
                "request": { "containerId": "container-A1" },
            }),
        ),
        // The ledger has let go of the decision about this one.
        refusal("V2", json!({ "kind": "violation", "decision": "GONE", "action": "alarm" })),
    ]);
    assert_eq!(node.rows(&[]), ["A1 x1 -", "V1 x1 -", "V2 x1 -"]);
    assert_eq!(node.rows(&["--action", "block"]), ["V1 x1 -"]);
    assert_eq!(node.rows(&["--container", "container-A1"]), ["A1 x1 -", "V1 x1 -"]);
    assert_eq!(node.rows(&["--status", "open"]), [""; 0]);
    let listed = node.succeeds(&["events", "list"]);
    assert_says(&listed, &["violation", "now violating: 1 critical malicious file"]);
    let shown = node.succeeds(&["events", "show", "V1"]);
    assert_says(
        &shown,
        &[
            "kind        violation",
            "decision    A1",
            "findings    3",
            "next        portcullis explain V1",
        ],
    );
    assert!(!shown.contains("gate took"), "{shown}");
    for id in ["V1", "V2"] {
        let explained = node.json(&["explain", id]);
        assert_eq!(
            (&explained["event"]["id"], &explained["event"]["kind"]),
            (&json!(id), &json!("violation"))
        );
    }
    // What nobody decided cannot be marked; its decision can.
    assert_says(
        &node.fails(&["events", "handle", "V1"]),
        &["of the kind violation", "its decision, A1"],
    );
    let simulated =
        node.json(&["simulate", "--policies", &node.path(POLICIES).display().to_string()]);
    assert_eq!(simulated["starts"], 1);
    let status = node.json(&["status"]);
    assert_eq!(status["decisions"], json!({ "allow": 1 }));
    node.succeeds(&["events", "verify", "--no-journal"]);
}

#[test]
fn marks_are_recorded_for_decisions_alone() {
    let node = Node::new();
    node.record(&[
        refusal("A1", json!({})),
        refusal("B1", json!({ "action": "alarm" })),
        other("O1", "outcome", "B1"),
        refusal("A2", json!({})),
    ]);
    let before = fs::read(node.ledger().path()).unwrap();
    for (args, said) in [
        (&["handle", "B1", "X"][..], &["\"X\"", "events list"][..]),
        (&["ignore", "A"], &["2 events", "give more"]),
        (&["handle", "A1", "O1"], &["O1", "no decision", "B1"]),
        (&["whitelist", "X"], &["\"X\""]),
    ] {
        assert_says(&node.fails(&[&["events"], args].concat()), said);
        assert_eq!(fs::read(node.ledger().path()).unwrap(), before, "{args:?}");
    }
    for args in [&["handle"][..], &["handle", "A1", "--note", " "]] {
        Node::told(&mut node.command(&[&["events"], args].concat()), 2);
    }
    let mut command = node
        .command(&["--output", "json", "events", "handle", "a1", "B", "A1", "--note", "mended"]);
    let (out, _) = Node::told(command.env("SUDO_USER", "ann"), 0);
    let marked: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(marked.as_array().unwrap().len(), 2, "{marked}");
    let is_root =
        node.root.path().metadata().is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    if is_root {
        assert_eq!(marked[0]["by"], "ann");
    }
    assert_eq!(node.rows(&[]), ["B1 x1 handled", "A2 x2 handled"]);
    assert_eq!(node.rows(&["--status", "open"]), [""; 0]);
    let all = node.json(&["events", "list", "--all"]);
    let mark = all.as_array().unwrap().iter().find(|e| e["kind"] == "mark").unwrap();
    assert_eq!(mark["mark"]["note"], "mended");
    assert_eq!(mark["decision"], "A1");
    assert_says(mark["message"].as_str().unwrap(), &["event A1: handled by", "mended"]);

    node.record(&[refusal("A3", json!({}))]);
    assert_eq!(node.rows(&["--status", "open"]), ["A3 x3 open"], "it came again");
    node.succeeds(&["events", "ignore", "A2"]);
    node.record(&[refusal("A4", json!({}))]);
    assert_eq!(node.rows(&["--status", "ignored"]), ["A4 x4 ignored"]);
    node.succeeds(&["events", "verify", "--no-journal"]);
}

/// A ledger of five records, and what the journal says of them.
fn verifiable() -> (Node, Vec<Head>, String) {
    let node = Node::new();
    let heads = node.record(&["A1", "A2", "A3", "A4", "A5"].map(|id| refusal(id, json!({}))));
    let entries: Vec<String> = heads
        .iter()
        .map(|head| {
            json!({
                "_UID": "0", "MESSAGE": "m", "PORTCULLIS_LEDGER": node.path(EVENTS),
                "PORTCULLIS_LEDGER_SEQ": head.seq.to_string(),
                "PORTCULLIS_LEDGER_HASH": head.hash.to_string(),
            })
            .to_string()
        })
        .collect();
    let journal = entries.join("\n") + "\n-- No more --\n";
    (node, heads, journal)
}

#[test]
fn a_whole_ledger_is_told_from_one_that_was_changed() {
    let (node, heads, _) = verifiable();
    let verify = ["events", "verify", "--no-journal"];
    let last = format!("last record: 5:{}", heads[4].hash);
    assert_says(&node.succeeds(&verify), &["records 1 to 5, whole", &last, "1 file"]);
    let found = node.json(&verify);
    assert_eq!((&found["whole"], &found["records"]), (&json!(true), &json!(5)));
    assert_eq!(found["last"]["seq"], 5);

    let path = node.ledger().path();
    let whole = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    type Damage<'a> = (&'a str, String, &'a str, u64);
    let cases: [Damage<'_>; 4] = [
        ("changed", whole.replacen("container-A3", "container-X3", 1), "changed", 3),
        ("a line taken out", [&lines[..1], &lines[2..]].concat().concat(), "missing", 2),
        ("moved", [lines[0], lines[2], lines[1], lines[3], lines[4]].concat(), "missing", 2),
        ("put in", [&lines[..3], &["what?\n"], &lines[3..]].concat().concat(), "notARecord", 4),
    ];
    for (name, text, kind, line) in cases {
        fs::write(&path, text).unwrap();
        let said = node.fails(&verify);
        let offset: usize = fs::read_to_string(&path)
            .unwrap()
            .split_inclusive('\n')
            .take(line as usize - 1)
            .map(str::len)
            .sum();
        assert_says(
            &said,
            &[
                "events.jsonl",
                "fault",
                "means",
                "do",
                &format!("line      {line}\n"),
                &format!("byte      {offset}\n"),
            ],
        );
        let (out, _) =
            Node::told(&mut node.command(&[&["--output", "json"][..], &verify].concat()), 1);
        let found: Value = serde_json::from_str(&out).unwrap();
        let fault = &found["faults"][0];
        assert_eq!(
            (&fault["kind"], &fault["line"]),
            (&json!(kind), &json!(line)),
            "{name}: {found:#}"
        );
        assert_eq!(fault["byte"], offset, "{name}");
        assert_eq!(found["whole"], false, "{name}");
        assert!(!fault["meaning"].as_str().unwrap().is_empty() && !fault["remedy"].is_null());
    }
}

#[test]
fn a_torn_line_that_was_closed_is_no_fault() {
    let (node, ..) = verifiable();
    let path = node.ledger().path();
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{whole}{{\"seq\":6,\"prev\":\"to")).unwrap();
    let verify = ["events", "verify", "--no-journal"];
    assert_says(&node.fails(&verify), &["torn", "line      6"]);
    node.record(&[refusal("A6", json!({}))]);
    assert_says(&node.succeeds(&verify), &["whole", "no fault", "19 torn bytes were closed"]);
    assert_eq!(node.json(&verify)["closed"][0]["bytes"], 19);
    let (_, said) = Node::told(&mut node.command(&["events", "list"]), 0);
    assert_says(&said, &["1 line", "events verify"]);
}

#[test]
fn what_the_journal_knows_must_be_in_the_ledger() {
    let (node, heads, journal) = verifiable();
    let saved = node.path("journal.json");
    fs::write(&saved, &journal).unwrap();
    let saved = saved.display().to_string();
    let by_file = ["events", "verify", "--journal-file", &saved];
    assert_says(
        &node.succeeds(&by_file),
        &["5 records known to the journal, 0 given: 5 found as known\n"],
    );
    assert_says(
        &node.fails(&["events", "verify", "--journal-file", "/nonexistent"]),
        &["/nonexistent"],
    );

    let bin = node.path("bin");
    fs::create_dir(&bin).unwrap();
    let with_path = |args: &[&str]| {
        let mut command = node.command(args);
        command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
        command
    };
    let script = |text: &str| {
        let tool = bin.join("journalctl");
        fs::write(&tool, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&tool, PermissionsExt::from_mode(0o755)).unwrap();
    };
    script(&format!("test \"$*\" = '-t portcullis -o json --no-pager' && cat '{saved}'"));
    let (said, _) = Node::told(&mut with_path(&["events", "verify"]), 0);
    assert_says(&said, &["5 records known to the journal, 0 given: 5 found as known\n", "whole"]);
    script("echo '-- No entries --'");
    let (said, _) = Node::told(&mut with_path(&["events", "verify"]), 0);
    assert_says(&said, &["whole", "the journal knows no record of this ledger"]);
    script("echo no such unit >&2; exit 3");
    let (said, _) = Node::told(&mut with_path(&["events", "verify"]), 0);
    assert_says(&said, &["whole", "note: not compared with the journal: journalctl failed"]);
    Node::told(&mut with_path(&["events", "verify", "--journal"]), 1);
    fs::remove_file(bin.join("journalctl")).unwrap();
    let mut without = node.command(&["events", "verify"]);
    let (said, _) = Node::told(without.env("PATH", &bin), 0);
    assert_says(&said, &["note: not compared with the journal: cannot run journalctl"]);

    // The last two records are cut off, and the file that remembers the end with them.
    let path = node.ledger().path();
    let whole = fs::read_to_string(&path).unwrap();
    let kept: String = whole.split_inclusive('\n').take(3).collect();
    fs::write(&path, &kept).unwrap();
    fs::remove_file(node.path(EVENTS).join("head")).unwrap();
    node.succeeds(&["events", "verify", "--no-journal"]);
    assert_says(&node.fails(&by_file), &["ends at record 3", "knows record 5", "cut off"]);
    let head = |head: &Head| format!("{}:{}", head.seq, head.hash);
    let by_head =
        |known: &str| node.command(&["events", "verify", "--no-journal", "--head", known]);
    Node::told(&mut by_head(&head(&heads[2])), 0);
    let (said, _) = Node::told(&mut by_head(&head(&heads[4])), 1);
    assert_says(&said, &["ends at record 3"]);
    let (said, _) = Node::told(&mut by_head(&format!("2:{}", heads[2].hash)), 1);
    assert_says(&said, &["line      2", "another record"]);
    for wrong in ["5", "0:00", "5:xyz", ":"] {
        Node::told(&mut by_head(wrong), 2);
    }
}

#[test]
fn events_are_printed_as_they_come() {
    let node = Node::new();
    node.record(&[refusal("A1", json!({}))]);
    let mut child = node
        .command(&["events", "follow", "--all", "--container", "container-"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // It follows from when it has looked first; what comes before that is not told.
    let seen = std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let writer = scope.spawn(move || {
            let node_ledger = &node;
            for n in 0..600 {
                node_ledger.record(&[
                    refusal(&format!("B{n}"), json!({})),
                    other(&format!("N{n}"), "notice", "B"),
                ]);
                if stopped.recv_timeout(Duration::from_millis(100)).is_ok() {
                    break;
                }
            }
            node
        });
        let mut line = || lines.next().unwrap().unwrap();
        let seen = [line(), line(), line()];
        stop.send(()).unwrap();
        writer.join().unwrap();
        seen
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let all = seen.join("\n");
    assert_says(&all, &["  block    B", "  notice   N", "blocked: 1 critical vulnerability"]);
    assert!(!all.contains("A1") && !all.contains("; see:"), "{all}");
}

const HEAD: &str = "apiVersion: portcullis.dev/v1alpha1\nkind: ProtectionPolicy\n";
const BLOCK: &str = "  rules:\n    - class: vulnerability # all of them\n      severity: [critical]\n      action: block\n";

fn named(name: &str, spec: &str) -> String {
    format!("{HEAD}metadata:\n  name: {name} # ours\nspec:\n{spec}")
}

/// A node on which the image of [`refusal`] has a critical vulnerability, with three policy files.
/// `web` stands in the second one.
fn guarded(web: &str) -> (Node, PathBuf) {
    let node = Node::new();
    let report = json!({
        "SchemaVersion": 2, "CreatedAt": Timestamp::now(), "ArtifactName": "web",
        "ArtifactType": "container_image",
        "Metadata": {
            "OS": { "Family": "debian", "Name": "12.5" }, "ImageID": digest(1),
            "DiffIDs": [digest(2)],
        },
        "Results": [{ "Target": "web", "Class": "os-pkgs", "Type": "debian", "Vulnerabilities": [{
            "VulnerabilityID": "CVE-2026-1", "PkgName": "zlib", "InstalledVersion": "1",
            "Severity": "CRITICAL",
        }] }],
    });
    let file = node.path("report.json");
    fs::write(&file, report.to_string()).unwrap();
    node.succeeds(&["import", &file.display().to_string()]);
    let elsewhere = "  scope: { namespaces: { include: [elsewhere] } }\n";
    node.policy("a.yaml", &named("first", elsewhere));
    node.policy("c.yaml", &named("last", elsewhere));
    let path = node.policy("b.yaml", web);
    fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    node.succeeds(&["policy", "apply"]);
    node.record(&[
        refusal("A1", json!({})),
        refusal("B1", json!({ "image": { "surety": "claimed", "note": "an annotation" } })),
        refusal("C1", json!({ "image": { "config": null } })),
        refusal("D1", json!({ "action": "allow", "policies": [] })),
        refusal("E1", json!({ "policies": [] })),
    ]);
    (node, path)
}

fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() && !path.is_symlink() {
            true => found.extend(contents(&path)),
            false => found.push((path.clone(), fs::read(&path).unwrap_or_default())),
        }
    }
    found.sort();
    found
}

fn entry() -> String {
    format!("- image: registry.example.com/web:1.4@{}", digest(1))
}

#[test]
fn an_image_is_whitelisted_by_digest_in_the_file_of_its_policy() {
    let before = format!("# The web.\n---\n{}\n---\n", named("other", BLOCK));
    let other = "  scope:\n    namespaces: { include: [elsewhere] }\n";
    let before = before.replace("spec:\n", &format!("spec:\n{other}"));
    for newline in ["\n", "\r\n"] {
        let text = format!("{before}{}# the end\n", named("web", BLOCK)).replace('\n', newline);
        let (node, path) = guarded(&text);
        let decide = || {
            let manifest = digest(1);
            let args = ["decide", "--image", &manifest, "--namespace", "prod"];
            node.json(&args)["action"].as_str().unwrap().to_owned()
        };
        assert_eq!(decide(), "block");
        let old = contents(node.root.path());
        let said = node.succeeds(&["events", "whitelist", "A1", "--dry-run"]);
        let place = text.lines().count();
        let (key, item) = (format!("{place:6} +   whitelist:"), format!("+     {}", entry()));
        assert_says(
            &said,
            &["b.yaml (policy web)", &key, &item, "the end", "allowed", "--dry-run"],
        );
        let said = node.fails(&["events", "whitelist", "A1"]);
        assert_says(&said, &["--yes", "nothing is changed", &item]);
        assert_eq!(contents(node.root.path()), old);

        let done = node.json(&["events", "whitelist", "A1", "--yes", "--note", "OPS-112"]);
        assert_eq!(done["applied"], true);
        assert_eq!(done["wouldBe"], "allow");
        assert_eq!(done["changes"][0]["line"], place);
        let (head, end) = text.split_at(text.rfind("# the end").unwrap());
        let added = format!("  whitelist:\n    {}  # event A1\n", entry()).replace('\n', newline);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{head}{added}{end}"));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(decide(), "allow");
        assert!(!node.succeeds(&["policy", "list"]).contains("differ"));
        assert_eq!(node.rows(&["--status", "whitelisted"]), ["A1 x1 whitelisted"]);
        let shown = node.json(&["events", "show", "A1"]);
        assert_eq!(shown["marks"][0]["mark"]["note"], "OPS-112");

        let now = fs::read(&path).unwrap();
        let said = node.succeeds(&["events", "whitelist", "A1"]);
        assert_says(&said, &["policy web has such an entry already", "event A1: whitelisted"]);
        assert_eq!(fs::read(&path).unwrap(), now);
        for flag in ["--malware", "--workload", "--malware"] {
            node.succeeds(&["events", "whitelist", "A1", "--yes", flag]);
        }
        let text = fs::read_to_string(&path).unwrap();
        let flags = ["      malware: true", "      workload: true"];
        assert_says(&text, &flags);
        assert_eq!(text.matches(&entry()).count(), 3, "{text}");
        node.succeeds(&["events", "whitelist", "D1", "--yes", "--policy", "other"]);
        let twice = fs::read_to_string(&path).unwrap();
        assert_eq!(twice.matches("  whitelist:").count(), 2, "{twice}");
        node.succeeds(&["policy", "check"]);
    }
}

#[test]
fn policies_in_several_files_are_changed_together_or_not_at_all() {
    let (node, path) = guarded(&named("web", BLOCK));
    let both = ["events", "whitelist", "A1", "--yes", "--policy", "web", "--policy", "first"];
    let old = contents(&node.path(POLICIES));
    let flow = format!("{HEAD}metadata: {{ name: web }}\nspec: {{ description: x }}\n");
    fs::write(&path, &flow).unwrap();
    node.succeeds(&["policy", "apply"]);
    assert_says(&node.fails(&both), &["in { }"]);
    fs::write(&path, named("web", BLOCK)).unwrap();
    node.succeeds(&["policy", "apply"]);
    assert_eq!(contents(&node.path(POLICIES)), old, "the first file was not written either");

    // It cannot be published: the files are put back. What is in force can still be read.
    let published = node.path("var/lib/portcullis/policy");
    let aside = node.path("aside");
    fs::rename(&published, &aside).unwrap();
    fs::create_dir(&published).unwrap();
    for entry in fs::read_dir(&aside).unwrap().flatten() {
        fs::rename(entry.path(), published.join(entry.file_name())).unwrap();
    }
    let current = published.join("current");
    let target = fs::read_link(&current).unwrap();
    let hex = node.json(&[&both[..2], &["A1", "--dry-run"], &both[4..]].concat())["policySet"]
        .as_str()
        .unwrap()
        .replace(':', "-");
    fs::create_dir_all(published.join(format!("{hex}.json/in the way"))).unwrap();
    let events = fs::read(node.ledger().path()).unwrap();
    assert_says(&node.fails(&both), &["nothing is changed", "cannot publish"]);
    assert_eq!(contents(&node.path(POLICIES)), old);
    assert_eq!(fs::read_link(&current).unwrap(), target);
    assert_eq!(fs::read(node.ledger().path()).unwrap(), events, "no mark either");
    fs::remove_dir_all(published.join(format!("{hex}.json"))).unwrap();

    let done = node.json(&both);
    assert_eq!(done["changes"].as_array().unwrap().len(), 2);
    assert_eq!(node.succeeds(&["policy", "check"]), "3 policies checked, no fault\n");
}

#[test]
fn a_policy_of_the_cluster_is_changed_in_the_cluster_alone() {
    let web = named("web", BLOCK);
    let (node, path) = guarded(&web);
    // Blocks, too, and is written by the agent.
    let cluster = node.path(POLICIES).join("kubernetes.prod.web.yaml");
    let refused = |spec: &str, said: &[&str]| {
        fs::write(&cluster, named("prod.web", spec)).unwrap();
        fs::set_permissions(&cluster, PermissionsExt::from_mode(0o644)).unwrap();
        node.succeeds(&["policy", "apply"]);
        let old = contents(node.root.path());
        for more in [&["--yes"][..], &["--dry-run"], &["--yes", "--policy", "web"]] {
            let all = ["events", "whitelist", "A1", "--policy", "prod.web"];
            let heard = node.fails(&[&all[..], more].concat());
            assert_says(&heard, &[&format!("nothing is changed: {}", cluster.display())]);
            assert_says(&heard, said);
            assert_eq!(heard.contains("kubectl patch"), spec.contains("whitelist"), "{heard}");
            assert_eq!(contents(node.root.path()), old);
        }
    };
    let edit = "kubectl edit protectionpolicy prod.web";
    let snippet = format!("spec:\n  whitelist:\n    {}  # event A1\n", entry());
    refused(BLOCK, &[edit, &snippet]);
    // Where there is a whitelist, the command that appends to it is told.
    let more = format!("{BLOCK}  whitelist: [{{ image: a/b }}]\n");
    let value = format!("{{\"image\":\"registry.example.com/web:1.4@{}\"}}", digest(1));
    let patch = format!(
        "kubectl patch protectionpolicy prod.web --type=json -p \
         '[{{\"op\":\"add\",\"path\":\"/spec/whitelist/-\",\"value\":{value}}}]'"
    );
    refused(&more, &[edit, &snippet, &patch]);

    // The node's own is changed as ever, and one of the cluster that has the entry is no obstacle.
    let has = format!("{BLOCK}  whitelist: [{value}]\n");
    fs::write(&cluster, named("prod.web", &has)).unwrap();
    node.succeeds(&["policy", "apply"]);
    let both = ["events", "whitelist", "A1", "--yes", "--policy", "web", "--policy", "prod.web"];
    let said = node.succeeds(&both);
    assert_says(&said, &["policy prod.web has such an entry already", "event A1: whitelisted"]);
    assert!(fs::read_to_string(&path).unwrap().contains(&entry()));
    assert_eq!(fs::read_to_string(&cluster).unwrap(), named("prod.web", &has));
}

#[test]
fn two_policies_of_one_file_are_changed_together() {
    let elsewhere = "  scope: { namespaces: { include: [elsewhere] } }\n";
    let text = |first: &str, second: &str| {
        let [web, other] = [named("web", BLOCK), named("other", elsewhere)];
        format!("{other}{first}---\n{web}{second}# the end\n")
    };
    let (node, path) = guarded(&text("", ""));
    let args = ["events", "whitelist", "A1", "--yes", "--policy", "web", "--policy", "other"];
    node.succeeds(&args);
    let added = format!("  whitelist:\n    {}  # event A1\n", entry());
    assert_eq!(fs::read_to_string(&path).unwrap(), text(&added, &added));
    let hidden = fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(hidden, 3, "a temporary file is left");
}

#[test]
fn what_cannot_be_whitelisted_is_said_and_nothing_changes() {
    let web = named("web", BLOCK);
    #[rustfmt::skip]
    let cases: &[(&[&str], &[&str])] = &[
        (&["B1"], &["claimed", "an annotation", "explain B1", "by hand"]),
        (&["C1"], &["same layers", "by hand"]),
        (&["D1"], &["was allowed", "--policy"]),
        (&["E1"], &["settings", "explain E1"]),
        (&["A1", "--policy", "none"], &["\"none\"", "policy list"]),
        (&["A"], &["\"A\""]),
    ];
    let (node, path) = guarded(&web);
    let old = contents(node.root.path());
    for (args, said) in &cases[..5] {
        assert_says(&node.fails(&[&["events", "whitelist", "--yes"], *args].concat()), said);
        assert_eq!(contents(node.root.path()), old, "{args:?}");
    }
    let texts = [
        ("flow", web.replace(BLOCK, "  whitelist: [{ image: a/b }]\n"), "in [ ]"),
        ("flow spec", web.replace(&format!("\n{BLOCK}"), " { description: x }\n"), "in { }"),
        ("a keyed spec", web.replace(BLOCK, "  ? description\n  : x\n"), "unusual way"),
        (
            "a kept block",
            web.replace(BLOCK, "  description: |+\n    x\n\n\n"),
            "would change what else",
        ),
    ];
    for (name, text, why) in texts {
        fs::write(&path, &text).unwrap();
        node.succeeds(&["policy", "apply"]);
        let old = contents(node.root.path());
        let said = node.fails(&["events", "whitelist", "A1", "--yes"]);
        let item = format!("    {}", entry());
        assert_says(
            &said,
            &["b.yaml is not changed", why, "by hand", "spec:\n  whitelist:\n", &item],
        );
        assert_eq!(contents(node.root.path()), old, "{name}");
    }
    // Faults, edits that are not in force, a link, a file of somebody else.
    let fails = |said: &[&str]| {
        let old = contents(node.root.path());
        assert_says(&node.fails(&["events", "whitelist", "A1", "--yes"]), said);
        assert_eq!(contents(node.root.path()), old);
    };
    for empty in ["  whitelist: []\n", "  whitelist:\n"] {
        fs::write(&path, web.replace(BLOCK, empty)).unwrap();
        fails(&["faults", "b.yaml:6", "spec.whitelist"]);
    }
    fs::write(&path, &web).unwrap();
    let lock = fs::File::open(node.path(POLICIES)).unwrap();
    lock.lock().unwrap();
    fails(&["another portcullis is changing the policies"]);
    drop(lock);
    fails(&["differ from the set in force", "policy apply"]);
    node.succeeds(&["policy", "apply"]);
    let target = node.path("web-policy");
    fs::rename(&path, &target).unwrap();
    std::os::unix::fs::symlink(&target, &path).unwrap();
    fails(&["is a link"]);
    fs::rename(&target, &path).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    fails(&["chmod go-w"]);
    fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    fs::remove_file(node.path("var/lib/portcullis/policy/current")).unwrap();
    fails(&["policy apply"]);
}

#[test]
fn a_command_that_is_killed_leaves_a_valid_state() {
    let web = named("web", BLOCK);
    let (node, path) = guarded(&web);
    let args = ["events", "whitelist", "A1", "--yes"];
    let began = Instant::now();
    node.succeeds(&args);
    let whole = began.elapsed();
    let new = fs::read_to_string(&path).unwrap();
    assert_ne!(new, web);
    // As often as it takes to be too early and too late, and some times between.
    let mut left = [0, 0];
    for n in 0..200 {
        fs::write(&path, &web).unwrap();
        node.succeeds(&["policy", "apply"]);
        let mut child =
            node.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole * n / 25);
        child.kill().unwrap();
        child.wait().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text == web || text == new, "{text}");
        left[usize::from(text == new)] += 1;
        node.succeeds(&["policy", "check"]);
        node.succeeds(&["policy", "list"]);
        if n >= 30 && left[0] > 0 && left[1] > 0 {
            break;
        }
    }
    assert!(left[0] > 0 && left[1] > 0, "it was killed too early or too late each time: {left:?}");

    // Killed between the file and the set in force: the old set decides, and the way on is told.
    fs::write(&path, &web).unwrap();
    node.succeeds(&["policy", "apply"]);
    fs::write(&path, &new).unwrap();
    assert_says(&node.succeeds(&["policy", "list"]), &["differ from the set in force"]);
    assert_says(&node.fails(&args), &["policy apply"]);
    node.succeeds(&["policy", "apply"]);
    assert_says(&node.succeeds(&args), &["has such an entry already", "event A1: whitelisted"]);
}

#[test]
fn every_command_has_an_example() {
    let node = Node::new();
    for command in ["list", "show", "follow", "verify", "handle", "ignore", "whitelist"] {
        let example = format!("portcullis events {command}");
        assert_says(&node.succeeds(&["events", command, "--help"]), &["Example", &example]);
    }
}
