//! How nodes stand, from one with nothing on it to one that is damaged.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use portcullis_node::{
    KnownFeeds, NodeState, NodeStatus, ProblemKind, SHIM, lock, node_state, node_state_again,
    publish,
};
use portcullis_settings::Settings;

const POLICY: &str = "\
apiVersion: portcullis.dev/v1alpha1
kind: ProtectionPolicy
metadata: {name: first}
spec: {}
";

fn settings(root: &Path) -> Settings {
    Settings::default().below(root)
}

fn status(root: &Path) -> NodeStatus {
    node_state(&settings(root))
}

fn put(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn apply(root: &Path) {
    let paths = settings(root).paths();
    let lock = lock(&paths).unwrap();
    publish(&paths, &lock).unwrap().compiled.unwrap();
}

/// What is wrong, but for the journal, which a test's host has or has not.
fn problems(status: &NodeStatus) -> Vec<ProblemKind> {
    let all = status.problems.iter().map(|problem| problem.kind);
    all.filter(|kind| *kind != ProblemKind::Journal).collect()
}

#[test]
fn a_node_is_protected_by_a_door_and_a_policy() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let nothing = status(root);
    let no_store = vec![ProblemKind::Store];
    assert_eq!((nothing.state, problems(&nothing)), (NodeState::Unprotected, no_store));
    fs::create_dir_all(settings(root).paths().verdicts()).unwrap();
    let nothing = status(root);
    assert_eq!((nothing.state, problems(&nothing)), (NodeState::Unprotected, vec![]));
    assert_eq!(nothing.verdicts, Some(0));
    put(&root.join(SHIM), "");
    assert_eq!(status(root).state, NodeState::EnabledNotConfigured);
    let file = root.join("etc/portcullis/policies/first.yaml");
    put(&file, POLICY);
    assert_eq!(status(root).state, NodeState::EnabledNotConfigured);
    apply(root);
    let protected = status(root);
    assert_eq!((protected.state, problems(&protected)), (NodeState::Protected, vec![]));
    assert_eq!(protected.policies, ["first"]);
    // A broken edit decides nothing, and is told.
    put(&file, "kind: Nothing\n");
    let edited = status(root);
    assert_eq!(edited.state, NodeState::Protected);
    assert_eq!(problems(&edited), [ProblemKind::PolicyDrift]);
    assert_eq!(edited.policy_set, protected.policy_set);
}

#[test]
fn what_is_damaged_is_told_in_order() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    put(&root.join(SHIM), "");
    put(&root.join("etc/portcullis/policies/first.yaml"), POLICY);
    apply(root);
    let paths = settings(root).paths();
    let current = paths.published().join("current");
    fs::remove_file(&current).unwrap();
    symlink("nowhere", &current).unwrap();
    put(&paths.feeds().join("kev.json"), "{");
    put(&paths.events().join("events.jsonl/a"), "a folder");
    put(&paths.verdicts(), "a file");
    let damaged = status(root);
    assert_eq!(damaged.state, NodeState::Error);
    let all = [ProblemKind::PolicySet, ProblemKind::Store, ProblemKind::Feed, ProblemKind::Ledger];
    assert_eq!(problems(&damaged), all);
    assert_eq!(damaged.verdicts, None);
}

#[test]
fn a_feed_that_is_replaced_is_seen_again() {
    let root = tempfile::tempdir().unwrap();
    let settings = settings(root.path());
    let file = settings.paths().feeds().join("kev.json");
    let kev = |day: &str| {
        format!(
            "{{\"catalogVersion\":\"1\",\"dateReleased\":\"{day}T00:00:00Z\",\"count\":1,\
             \"vulnerabilities\":[{{\"cveID\":\"CVE-2024-0001\",\"dateAdded\":\"2024-01-02\"}}]}}"
        )
    };
    let mut known = KnownFeeds::default();
    let mut dates = || {
        let feeds = node_state_again(&settings, &mut known).feeds;
        feeds.iter().map(|feed| feed.date.map(|date| date.to_string())).collect::<Vec<_>>()
    };
    assert!(dates().is_empty());
    for day in ["2026-01-01", "2026-01-02"] {
        // As feed update does it.
        put(&file.with_extension("new"), &kev(day));
        fs::rename(file.with_extension("new"), &file).unwrap();
        for _ in 0..2 {
            assert_eq!(dates(), [Some(format!("{day}T00:00:00Z"))]);
        }
    }
    put(&file, "{");
    assert_eq!(dates(), [None]);
    fs::remove_file(&file).unwrap();
    assert!(dates().is_empty());
}

#[test]
fn names_are_those_of_json() {
    for state in NodeState::ALL {
        assert_eq!(serde_json::to_value(state).unwrap(), state.name());
    }
}
