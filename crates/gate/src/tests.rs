//! The gate around the decision: deadlines, bugs, records that fail.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use portcullis_policy::PolicySet;
use portcullis_resolve::Resolved;
use portcullis_settings::{DoorSettings, Settings};
use portcullis_types::{Digest, Engine, Identity, Surety};

use crate::{Ask, Gate, published};

struct Node {
    root: tempfile::TempDir,
}

impl Node {
    /// A node with an empty store and this published policy (JSON of one document's spec).
    fn new(spec: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let node = Self { root };
        fs::create_dir_all(node.settings().paths().verdicts()).unwrap();
        let document = format!(
            r#"{{"apiVersion":"portcullis.dev/v1alpha1","kind":"ProtectionPolicy","metadata":{{"name":"p"}},"spec":{spec}}}"#
        );
        let set = PolicySet::compile(vec![serde_json::from_str(&document).unwrap()]).unwrap();
        published::publish(&node.settings().paths().published(), &set).unwrap();
        node
    }

    fn settings(&self) -> Settings {
        Settings::default().below(self.root.path())
    }

    fn gate(&self) -> Gate {
        Gate::new(self.settings())
    }

    fn events(&self) -> String {
        fs::read_to_string(self.settings().paths().events().join("events.jsonl"))
            .unwrap_or_default()
    }
}

fn ask() -> Ask {
    Ask {
        engine: Engine::Containerd,
        container_id: "c".into(),
        bundle: "/nonexistent".into(),
        caller_waits: None,
    }
}

fn bound() -> Resolved {
    let mut resolved = Resolved::unknown("");
    resolved.pod_known = true;
    resolved.identity = Identity {
        surety: Surety::Bound,
        config: Some(Digest::of(b"config")),
        chain_id: Some(Digest::of(b"chain")),
        note: None,
        ..Identity::unknown("")
    };
    resolved
}

#[test]
fn what_the_policy_says_is_what_happens_and_it_is_recorded_first() {
    let node = Node::new(r#"{"unscanned":{"action":"block"}}"#);
    let refusal = node.gate().admit(&ask(), |_| bound()).unwrap_err();
    assert!(refusal.message().contains("blocked"), "{refusal}");
    assert!(refusal.message().contains(refusal.event()), "{refusal}");
    assert!(node.events().contains(refusal.event()));

    let node = Node::new(r#"{"unscanned":{"action":"alarm"}}"#);
    let permit = node.gate().admit(&ask(), |_| bound()).unwrap();
    assert_eq!(permit.container_id(), "c");
    node.gate().started(&permit.admission());
    assert_eq!(node.events().lines().count(), 2);
    assert!(node.events().contains("started"));
}

#[test]
fn dangerous_settings_count_and_those_that_were_not_read_are_missed() {
    let policy = r#"{"rules":[{"class":"workload","ids":["host-pid"],"action":"block"}],
        "unscanned":{"action":"allow"},"onFailure":{"noData":"block"}}"#;
    let node = Node::new(policy);
    let refusal = node.gate().admit(&ask(), |_| bound()).unwrap_err();
    assert!(refusal.message().contains("settings were not read"), "{refusal}");

    let spec = |namespaces: &str| {
        format!(
            r#"{{"ociVersion":"1.0.2","process":{{"user":{{"uid":0,"gid":0}},"cwd":"/","args":["x"]}},
                "root":{{"path":"rootfs"}},"linux":{{"namespaces":[{namespaces}]}}}}"#
        )
    };
    let bundle = node.root.path().join("bundle");
    fs::create_dir(&bundle).unwrap();
    for (namespaces, starts) in [
        (r#"{"type":"mount"},{"type":"pid"}"#, true),
        (r#"{"type":"mount"}"#, false),
        (r#"{"type":"mount"},{"type":"pid","path":"/proc/1/ns/pid"}"#, false),
    ] {
        fs::write(bundle.join("config.json"), spec(namespaces)).unwrap();
        let ask = Ask { bundle: bundle.clone(), ..ask() };
        let answer = node.gate().admit(&ask, |_| bound());
        assert_eq!(answer.is_ok(), starts, "{namespaces}: {answer:?}");
    }
    assert!(node.events().contains("\"host-pid\""), "{}", node.events());
}

#[test]
fn a_resolver_that_hangs_costs_the_deadline_and_no_more() {
    for (action, starts) in [("block", false), ("alarm", true)] {
        let node = Node::new(&format!(r#"{{"onFailure":{{"deadline":"{action}"}}}}"#));
        let ask = Ask { caller_waits: Some(Duration::from_millis(100)), ..ask() };
        let begun = Instant::now();
        let answer = node.gate().admit(&ask, |_| {
            std::thread::sleep(Duration::from_secs(30));
            bound()
        });
        assert!(begun.elapsed() < Duration::from_secs(10), "it waited for the resolver");
        assert_eq!(answer.is_ok(), starts, "{action}");
        assert!(node.events().contains("\"deadline\""), "{}", node.events());
        assert!(!node.events().contains("identityUnknown"), "{}", node.events());
    }
}

#[test]
fn a_bug_is_the_cause_internal_and_takes_the_settings_action() {
    let node = Node::new("{}");
    for (action, starts) in [("block", false), ("alarm", true)] {
        let settings: Settings = format!("internal = \"{action}\"").parse().unwrap();
        let gate = Gate::new(settings.below(node.root.path()));
        let answer = gate.admit(&ask(), |_| panic!("a bug in a test"));
        assert_eq!(answer.is_ok(), starts, "{action}");
    }
    assert!(node.events().contains("\"internal\""), "{}", node.events());
}

#[test]
fn settings_that_cannot_be_used_do_not_open_the_gate() {
    let node = Node::new(r#"{"unscanned":{"action":"block"}}"#);
    let problem = Settings::read(Path::new("/dev/null")).unwrap_err();
    let door = DoorSettings { settings: node.settings(), problem: Some(problem) };
    assert!(Gate::of_door(door).admit(&ask(), |_| bound()).is_err());
}
