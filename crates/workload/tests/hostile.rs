//! Documents and bundles that mean harm: what is refused, and that nothing panics or gets lost.

#![allow(
    clippy::unwrap_used,
    reason = "this file is all test; the settings spare only test functions"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use portcullis_types::{Finding, Severity};
use portcullis_workload::{MAX_BYTES, WorkloadError, findings, read};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

const SPECS: &[&str] = &[
    include_str!("data/containerd-pod.json"),
    include_str!("data/containerd-privileged.json"),
    include_str!("data/containerd-host-path.json"),
    include_str!("data/crio-pod.json"),
    include_str!("data/podman.json"),
];

fn refused(json: &str) -> WorkloadError {
    findings(json.as_bytes()).expect_err(&json.chars().take(200).collect::<String>())
}

#[test]
fn what_a_runtime_could_read_otherwise_is_ambiguous() {
    for (json, wanted) in [
        (r#"{"process":{},"process":{}}"#, "process"),
        (r#"{"Process":{}}"#, "process"),
        (r#"{"process":{},"PROCESS":{}}"#, "process"),
        (r#"{"linux":{"namespaces":[],"nameSpaces":[]}}"#, "linux.namespaces"),
        (
            r#"{"linux":{"namespaces":[{"type":"pid"},{"type":"pid","type":"x"}]}}"#,
            "linux.namespaces[1].type",
        ),
        // Go folds the long s, and the sign for kelvin.
        (r#"{"mount\u017f":[]}"#, "mounts"),
        (r#"{"hoo\u212as":{}}"#, "hooks"),
        (r#"{"hooks":{"prestart":[{"path":"a","Path":"b"}]}}"#, "hooks.prestart[0].path"),
        (r#"{"process":{"user":{"uid":1000,"UID":0}}}"#, "process.user.uid"),
        (
            r#"{"process":{"capabilities":{"bounding":[],"bounding":["CAP_BPF"]}}}"#,
            "process.capabilities.bounding",
        ),
        (
            r#"{"linux":{"resources":{"devices":[{"allow":false,"Allow":true}]}}}"#,
            "linux.resources.devices[0].allow",
        ),
    ] {
        match refused(json) {
            WorkloadError::Ambiguous { member } => assert_eq!(member, wanted, "{json}"),
            other => panic!("{json}: {other:?}"),
        }
    }
    // What is not read may be written as anybody likes; names of maps are taken as they are.
    for json in [
        r#"{"hostname":"a","hostname":"b","Hostname":"c"}"#,
        r#"{"annotations":{"a":"1","A":"2","a":"3"}}"#,
    ] {
        assert!(findings(json.as_bytes()).is_ok(), "{json}");
    }
}

#[test]
fn wrong_types_are_named() {
    for (json, wanted) in [
        (r#"{"process":[]}"#, "process"),
        (r#"{"process":{"user":{"uid":"0"}}}"#, "process.user.uid"),
        (r#"{"process":{"user":{"uid":-1}}}"#, "process.user.uid"),
        (r#"{"process":{"user":{"uid":4294967296}}}"#, "process.user.uid"),
        (r#"{"process":{"user":{"uid":0.5}}}"#, "process.user.uid"),
        (r#"{"mounts":{}}"#, "mounts"),
        (r#"{"mounts":[{"options":["ro",1]}]}"#, "mounts[0].options[1]"),
        (r#"{"root":{"readonly":"true"}}"#, "root.readonly"),
        (r#"{"linux":{"sysctl":{"a":1}}}"#, "linux.sysctl"),
        (
            r#"{"linux":{"seccomp":{"syscalls":[{"names":"x"}]}}}"#,
            "linux.seccomp.syscalls[0].names",
        ),
        (r#"{"linux":{"maskedPaths":["/a"}}"#, "linux.maskedPaths[1]"),
        ("[]", "the document"),
        ("1", "the document"),
        ("", "the document"),
        ("{} {}", "the document"),
        ("{", "the document"),
    ] {
        match refused(json) {
            WorkloadError::Malformed { member, .. } => assert_eq!(member, wanted, "{json}"),
            other => panic!("{json}: {other:?}"),
        }
    }
    assert!(findings(b"{\"hostname\":\"\xff\"}").is_ok(), "what is skipped is not read");
    assert!(findings(b"{\"root\":{\"path\":1}, \"linux\":{\"cgroupsPath\":\"\xff\"}}").is_err());
}

#[test]
fn errors_are_short_whatever_the_document_says() {
    let long = "x".repeat(1 << 20);
    for json in [
        format!(r#"{{"process":"{long}"}}"#),
        format!(r#"{{"root":{{"readonly":"{long}"}}}}"#),
        format!(r#"{{"{long}":1,"process":1}}"#),
    ] {
        let error = portcullis_types::with_causes(&refused(&json));
        assert!(error.len() < 300, "{}", error.len());
    }
}

#[test]
fn depth_and_size_are_bounded() {
    for json in [
        "[".repeat(MAX_BYTES),
        format!(r#"{{"x":{}"#, "[".repeat(MAX_BYTES - 10)),
        format!(r#"{{"mounts":{}"#, "[".repeat(MAX_BYTES - 10)),
        r#"{"linux":"#.repeat(MAX_BYTES / 9),
    ] {
        assert!(matches!(refused(&json), WorkloadError::Malformed { .. }));
    }
    assert!(matches!(refused(&" ".repeat(MAX_BYTES + 1)), WorkloadError::TooLarge));
    let many = vec!["\"\""; 1 << 20].join(",");
    match refused(&format!(r#"{{"linux":{{"maskedPaths":[{many}]}}}}"#)) {
        WorkloadError::TooMany { member, .. } => assert_eq!(member, "linux.maskedPaths"),
        other => panic!("{other:?}"),
    }
}

fn bundle(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), text).unwrap();
    folder
}

#[test]
fn a_bundle_is_read() {
    for spec in SPECS {
        let folder = bundle(spec);
        assert_eq!(read(folder.path()).unwrap(), findings(spec.as_bytes()).unwrap());
    }
}

#[test]
fn links_pipes_and_folders_are_not_read() {
    let good = bundle(SPECS[0]);
    let file = good.path().join("config.json");
    let check = |make: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir().unwrap();
        make(&folder.path().join("config.json"));
        read(folder.path()).unwrap_err()
    };
    assert!(matches!(check(&|_| ()), WorkloadError::Unreadable { .. }));
    assert!(matches!(check(&|at| symlink(&file, at).unwrap()), WorkloadError::Unreadable { .. }));
    assert!(matches!(check(&|at| fs::create_dir(at).unwrap()), WorkloadError::NotAFile { .. }));
    let pipe = |at: &Path| {
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, at, kind, 0o600.into(), 0).unwrap();
    };
    assert!(matches!(check(&pipe), WorkloadError::NotAFile { .. }));
    let device = read(Path::new("/dev/null")).unwrap_err();
    assert!(matches!(device, WorkloadError::Unreadable { .. }));
    let links = tempfile::tempdir().unwrap();
    symlink(good.path(), links.path().join("bundle")).unwrap();
    let linked = read(&links.path().join("bundle")).unwrap_err();
    assert!(matches!(linked, WorkloadError::Unreadable { .. }));
    let large = bundle(&" ".repeat(MAX_BYTES + 1));
    assert!(matches!(read(large.path()), Err(WorkloadError::TooLarge)));
}

/// containerd lets the containers of a pod join the sandbox's namespaces by its process, even
/// those that the sandbox shares with the host. This test's own process stands for the sandbox.
#[test]
fn the_hosts_namespaces_are_seen_through_a_sandbox() {
    let mut spec: Value = serde_json::from_str(SPECS[0]).unwrap();
    let pid = std::process::id();
    for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")] {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        let entry = namespaces.iter_mut().find(|n| n["type"] == kind).unwrap();
        entry["path"] = json!(format!("/proc/{pid}/ns/{file}"));
    }
    let text = spec.to_string();
    let ids = |found: Vec<Finding>| found.into_iter().map(|f| f.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(findings(text.as_bytes()).unwrap()), ["no-user-namespace"]);
    let expected = ["host-ipc", "host-network", "host-pid", "host-uts", "no-user-namespace"];
    assert_eq!(ids(read(bundle(&text).path()).unwrap()), expected);
}

type Known = BTreeSet<(String, Option<String>)>;

/// The findings by id and place, and their shape.
fn known(spec: &Value) -> Known {
    let found = findings(spec.to_string().as_bytes()).unwrap();
    assert!(found.len() <= 256);
    assert!(found.is_sorted_by(|a, b| a.key() < b.key()), "each once, in order");
    for finding in &found {
        assert_ne!(finding.severity, Severity::Unknown);
        for text in finding.path.iter().chain(&finding.title) {
            assert!(!text.is_empty() && text.len() <= 512, "{text}");
            assert!(!text.chars().any(char::is_control), "{text:?}");
        }
    }
    let place = |f: Finding| (f.id.to_string(), f.path.map(|p| p.to_string()));
    found.into_iter().map(place).collect()
}

fn push(spec: &mut Value, pointer: &str, value: Value) {
    spec.pointer_mut(pointer).and_then(Value::as_array_mut).unwrap().push(value);
}

fn options() -> impl Strategy<Value = Vec<&'static str>> {
    let known = vec!["bind", "rbind", "ro", "rw", "rro", "rshared", "shared", "rprivate", "x"];
    prop::collection::vec(select(known), 0..5)
}

fn source() -> impl Strategy<Value = String> {
    let part = select(vec![
        "..",
        ".",
        "etc",
        "var",
        "run",
        "lib",
        "kubelet",
        "pods",
        "docker.sock",
        "proc",
        "7d0f2c1e-4b7a-4c55-9e0a-3a1f5d7c9b21",
        "volumes",
        "kubernetes.io~empty-dir",
        "x",
        "volume-subpaths",
        "sandboxes",
        "overlay-containers",
        "\u{1b}[2J",
        "é",
    ]);
    let id = select(vec!["5a".repeat(32), "c7".repeat(32)]);
    let part = prop_oneof![4 => part.prop_map(str::to_owned), 1 => id];
    let path = prop::collection::vec(part, 0..12).prop_map(|parts| format!("/{}", parts.join("/")));
    prop_oneof![4 => path, 1 => any::<String>()]
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = findings(&bytes);
    }

    #[test]
    fn mutated_specifications_are_read_or_refused(
        spec in select(SPECS),
        changes in prop::collection::vec((any::<Index>(), any::<u8>(), any::<bool>()), 1..8),
    ) {
        let mut bytes = spec.as_bytes().to_vec();
        for (at, byte, replaces) in changes {
            let at = at.index(bytes.len());
            match replaces {
                true => bytes[at] = byte,
                false => drop(bytes.drain(at..(at + usize::from(byte)).min(bytes.len() - 1).max(at))),
            }
        }
        let _ = findings(&bytes);
    }

    #[test]
    fn a_further_capability_takes_no_finding_away(
        spec in select(SPECS),
        set in select(vec!["bounding", "effective", "permitted"]),
        name in prop_oneof!["CAP_[A-Z_]{1,12}", any::<String>(), Just("CAP_SYS_ADMIN".to_owned())],
    ) {
        let mut spec: Value = serde_json::from_str(spec).unwrap();
        let before = known(&spec);
        push(&mut spec, &format!("/process/capabilities/{set}"), json!(name));
        prop_assert!(known(&spec).is_superset(&before));
    }

    #[test]
    fn a_further_mount_takes_no_finding_away(
        spec in select(SPECS),
        mounts in prop::collection::vec((
            source(),
            select(vec!["bind", "none", "tmpfs", "proc", "sysfs", "cgroup", "ext4", ""]),
            options(),
            select(vec!["/at", "/proc", "/etc/hosts", "/dev/shm"]),
        ), 1..6),
    ) {
        let mut spec: Value = serde_json::from_str(spec).unwrap();
        let mut before = known(&spec);
        for (source, kind, options, destination) in mounts {
            let mount = json!({
                "destination": destination, "type": kind, "source": source, "options": options,
            });
            push(&mut spec, "/mounts", mount);
            let after = known(&spec);
            prop_assert!(after.is_superset(&before));
            before = after;
        }
    }

    #[test]
    fn severities_never_fall_by_a_mount(source in source(), options in options()) {
        let mut spec: Value = serde_json::from_str(SPECS[2]).unwrap();
        let before = findings(spec.to_string().as_bytes()).unwrap();
        push(&mut spec, "/mounts", json!({
            "destination": "/at", "type": "bind", "source": source, "options": options,
        }));
        let after = findings(spec.to_string().as_bytes()).unwrap();
        for old in before {
            let new = after.iter().find(|f| f.key() == old.key()).unwrap();
            prop_assert!(new.severity <= old.severity);
        }
    }
}
