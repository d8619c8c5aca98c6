//! `portcullis doctor` on whole nodes: what the gate's own files, settings and records tell.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::{Node, assert_says, contents};
use serde_json::{Value, json};

/// A node on which all is well, as far as its files tell.
fn well() -> Node {
    let node = Node::with_rules("{class: vulnerability, severity: [critical], action: block}");
    for folder in
        ["usr/local/bin", "usr/sbin", "usr/bin", "etc/containerd", "var/lib/portcullis/events"]
    {
        fs::create_dir_all(node.path(folder)).unwrap();
    }
    program(&node, "usr/local/bin/containerd-shim-portcullis-v2", "the shim");
    program(&node, "usr/local/bin/portcullis", "the command");
    program(&node, "usr/local/bin/portcullis-runc", "the wrapper");
    program(&node, "usr/sbin/runc.stock", "the stock runtime");
    program(&node, "usr/bin/containerd", "an engine");
    std::os::unix::fs::symlink("/usr/local/bin/portcullis-runc", node.path("usr/sbin/runc"))
        .unwrap();
    node.file(
        "etc/containerd/config.toml",
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\n\
         default_runtime_name = \"p\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.p]\n\
         runtime_type = \"io.containerd.portcullis.v2\"\n",
    );
    node
}

fn program(node: &Node, name: &str, text: &str) {
    node.file(name, text);
    fs::set_permissions(node.path(name), PermissionsExt::from_mode(0o755)).unwrap();
}

/// What is said of a node, by severity and check, but for what is well and good to know.
fn found(node: &Node, code: i32) -> Vec<String> {
    let before = contents(&node.path(""));
    let printed = node.json(&["doctor", "--containerd-version", "1.7.24"], code);
    assert!(contents(&node.path("")) == before, "it changed something");
    let findings = printed["findings"].as_array().unwrap();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let bad = |f: &&Value| !["ok", "info"].contains(&text(f, "severity").as_str());
    for finding in findings.iter().filter(bad) {
        for key in ["file", "seen", "why", "remedy"] {
            assert!(!text(finding, key).is_empty(), "{finding:#}");
        }
    }
    let said = |f: &Value| format!("{} {}", text(f, "severity"), text(f, "check"));
    findings.iter().filter(bad).map(said).collect()
}

#[test]
fn each_fault_of_a_node_is_found() {
    type Spoil = fn(&Node);
    let cases: &[(&str, Spoil, &[&str], i32)] = &[
        (
            "a shim that others may write",
            |node| {
                let shim = node.path("usr/local/bin/containerd-shim-portcullis-v2");
                fs::set_permissions(shim, PermissionsExt::from_mode(0o777)).unwrap();
            },
            &["error files.program"],
            5,
        ),
        (
            "a folder of programs that others may write",
            |node| {
                let folder = node.path("usr/local");
                fs::set_permissions(folder, PermissionsExt::from_mode(0o777)).unwrap();
            },
            &["error files.program", "error files.program", "error files.program"],
            5,
        ),
        (
            "verdicts that others may write",
            |node| {
                let folder = node.path("var/lib/portcullis/verdicts");
                fs::set_permissions(folder, PermissionsExt::from_mode(0o777)).unwrap();
            },
            &["error files.data"],
            5,
        ),
        (
            "settings with a fault",
            |node| {
                node.file("etc/portcullis/portcullis.toml", "defaultAction = \"shrug\"\n");
            },
            &["error settings"],
            5,
        ),
        (
            "policies that are not applied",
            |node| {
                let file = node.path("etc/portcullis/policies/all.yaml");
                let text = fs::read_to_string(&file).unwrap();
                fs::write(&file, text.replace("critical", "high")).unwrap();
            },
            &["warning policy"],
            0,
        ),
        (
            "an agent that is gone, and a policy that wants images scanned",
            |node| {
                let file = node.path("etc/portcullis/policies/all.yaml");
                let text = fs::read_to_string(&file).unwrap();
                let spec = "spec: { unscanned: { action: block, scan: true }, ";
                fs::write(&file, text.replace("spec: { ", spec)).unwrap();
                node.run(&["policy", "apply"], 0);
                fs::create_dir_all(node.path("run/portcullis")).unwrap();
                node.file("run/portcullis/agent.sock", "");
            },
            &["warning agent"],
            0,
        ),
        (
            "no policies at all",
            |node| fs::remove_dir_all(node.path("var/lib/portcullis/policy")).unwrap(),
            &["error policy"],
            5,
        ),
        (
            "a ledger with a torn chain",
            |node| {
                node.file("var/lib/portcullis/events/events.jsonl", "{\"seq\":7}\nnot a record\n");
            },
            &["error ledger"],
            5,
        ),
        (
            "a record of tomorrow",
            |node| event(node, "2999-01-01T00:00:00Z", "container", "allow"),
            &["error clock"],
            5,
        ),
        (
            "a pause image with a critical finding",
            |node| {
                node.import(1, &["CVE-2024-0001"]);
                let file = node.path("etc/portcullis/policies/all.yaml");
                let text = fs::read_to_string(&file).unwrap();
                fs::write(&file, text.replace("critical", "high")).unwrap();
                node.run(&["policy", "apply"], 0);
                event(node, "2026-01-01T00:00:00Z", "sandbox", "allow");
            },
            &["error pause"],
            5,
        ),
    ];
    for (what, spoil, wanted, code) in cases {
        let node = well();
        // The stock runtime stands where a wrapper looks for it.
        fs::remove_file(node.path("usr/sbin/runc")).unwrap();
        fs::rename(node.path("usr/sbin/runc.stock"), node.path("usr/bin/runc")).unwrap();
        assert_eq!(found(&node, 0), ["warning containerd.clients"], "{what}");
        spoil(&node);
        let mut said = found(&node, *code);
        said.retain(|line| line != "warning containerd.clients");
        assert_eq!(said, *wanted, "{what}");
    }
}

fn event(node: &Node, time: &str, kind: &str, action: &str) {
    let event = json!({
        "id": "01JD3V8Q2M", "time": time, "kind": "decision", "action": action, "message": "m",
        "request": {
            "engine": "containerd", "node": "n1", "containerId": "c1", "kind": kind,
            "namespace": "", "pod": "", "container": "",
        },
        "image": { "surety": "bound", "config": common::digest(1), "manifests": [], "names": [] },
        "policies": [], "findings": 0,
    });
    let folder = node.path("var/lib/portcullis/events");
    let ledger = portcullis_audit::Ledger::new(folder, 16 << 20);
    common::append(&ledger, &serde_json::from_value(event).unwrap());
}

/// The wrapper takes the place of runc, and becomes the one in its own place: itself.
#[test]
fn a_wrapper_that_would_become_itself_is_an_error() {
    let node = well();
    assert_eq!(found(&node, 5), ["error wrapper.runtime"]);
    let said = node.run(&["doctor", "--containerd-version", "1.7.24"], 5);
    assert_says(
        &said,
        &[
            "error the runtime of portcullis-runc is /usr/sbin/runc, which is the gate itself",
            "do in /etc/portcullis/portcullis.toml, below [wrapper.portcullis-runc]",
            "0 bypass, 1 error",
        ],
    );
}

#[test]
fn a_node_without_the_gate_is_open_and_strict_counts_warnings() {
    let node = Node::new();
    assert!(found(&node, 5).contains(&"bypass files.program".to_owned()));
    let node = well();
    fs::remove_file(node.path("usr/local/bin/portcullis-runc")).unwrap();
    fs::remove_file(node.path("usr/sbin/runc")).unwrap();
    fs::rename(node.path("usr/sbin/runc.stock"), node.path("usr/sbin/runc")).unwrap();
    assert_eq!(found(&node, 0), ["warning containerd.clients"]);
    node.run(&["doctor", "--strict", "--containerd-version", "1.7.24"], 5);
    let said = node.run(&["doctor", "--containerd-version", "seven"], 1);
    assert_says(&said, &["--containerd-version: write a version such as 1.7.24"]);
}

#[test]
fn preflight_needs_an_engine() {
    let node = well();
    let none = node.path("none").display().to_string();
    let tables = ["podman", "cri-o", "docker"].map(|engine| {
        format!(
            "[wrapper.for-{engine}]\nengine = '{engine}'\nruntime = '/usr/sbin/runc'\n\
             storage = ['{none}']\ndata = '{none}'\nsocket = '{none}'\n"
        )
    });
    node.file("etc/portcullis/portcullis.toml", tables.concat());
    node.refuses(
        &["preflight", "--address", &none],
        &["no engine is found on this node: there is nothing at ", &none, "--engine"],
    );
    for (engine, why) in [
        ("containerd", "does not answer"),
        ("docker", "does not answer"),
        ("podman", "no folder of containers/storage is at"),
        ("cri-o", "no folder of containers/storage is at"),
    ] {
        node.refuses(
            &["preflight", "--engine", engine, "--address", &none],
            &[&format!("what {engine} runs is not known"), why, &none],
        );
    }
    node.run(&["preflight", "--engine", "lxc"], 2);
}
