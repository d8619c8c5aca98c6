//! The gate around the decision: deadlines, bugs, records that fail.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use portcullis_policy::PolicySet;
use portcullis_resolve::Resolved;
use portcullis_settings::{DoorSettings, Settings};
use portcullis_store::{FileStore, VerdictStore};
use portcullis_types::{
    Binding, Class, Coverage, Digest, Engine, Identity, ImageFacts, Place, ScanReport, Scanner,
    Surety, Timestamp,
};

use crate::agent::{AgentAnswer, AgentAsk, read_line};
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
        place: Place::Storage { roots: Vec::new() },
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

/// Answers the next question on an agent's socket so; gives the question.
fn agent(
    node: &Node,
    answer: impl FnOnce() -> AgentAnswer + Send + 'static,
) -> std::thread::JoinHandle<AgentAsk> {
    let socket = node.settings().paths().agent();
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let line = read_line(&stream, Instant::now() + Duration::from_secs(20)).unwrap();
        let mut answer = serde_json::to_vec(&answer()).unwrap();
        answer.push(b'\n');
        let _it_may_have_gone = (&mut &stream).write_all(&answer);
        serde_json::from_slice(&line).unwrap()
    })
}

const SCANS: &str = r#"{"unscanned":{"action":"block","scan":true}}"#;

#[test]
fn an_image_that_nobody_has_scanned_is_scanned_by_the_agent_if_a_policy_wants_that() {
    let node = Node::new(SCANS);
    let report = ScanReport {
        scanner: Scanner { name: "agent".into(), version: None },
        scanned_at: Timestamp::now(),
        database_at: None,
        imported_at: Timestamp::now(),
        binding: Binding::ByScan,
        coverage: Coverage { classes: [Class::Malware].into(), ..Coverage::default() },
        findings: Vec::new(),
    };
    let facts = ImageFacts {
        config: Digest::of(b"config"),
        chain_id: Some(Digest::of(b"chain")),
        manifests: BTreeSet::new(),
        references: BTreeSet::new(),
    };
    // A store syncs its files, which on a busy disk takes longer than a door waits.
    let prepared = node.root.path().join("prepared");
    FileStore::open(&prepared).absorb(&facts, report).unwrap();
    let verdicts = node.settings().paths().verdicts();
    let asked = agent(&node, move || {
        fs::rename(prepared, verdicts).unwrap();
        AgentAnswer::Scanned
    });
    let _permit = node.gate().admit(&ask(), |_| bound()).unwrap();
    let AgentAsk::Scan { image, place, wait_millis } = asked.join().unwrap() else {
        panic!("it was asked for something else")
    };
    assert_eq!((image, place), (Digest::of(b"config"), ask().place));
    assert!((1..1500).contains(&wait_millis), "{wait_millis}");
    // It is known now, and nobody asks again: nobody listens any more either.
    let _permit = node.gate().admit(&ask(), |_| bound()).unwrap();
}

#[test]
fn without_a_scan_the_image_stays_unscanned_and_the_line_says_why() {
    let refused = |node: &Node| node.gate().admit(&ask(), |_| bound()).unwrap_err().to_string();
    let why = || "a bomb".to_owned();
    for (answer, said) in [
        (AgentAnswer::Pending, "not scanned (the agent is scanning it): try again"),
        (AgentAnswer::Busy, "not scanned (the agent has many images to scan)"),
        (AgentAnswer::Failed { why: why() }, "not scanned (the agent could not scan it: a bomb)"),
        (AgentAnswer::Refused { why: why() }, "not scanned (the agent does not scan it: a bomb)"),
        // It says so, and the store does not.
        (AgentAnswer::Scanned, "not scanned: run portcullis import or scan the image"),
    ] {
        let node = Node::new(SCANS);
        let asked = agent(&node, move || answer);
        let line = refused(&node);
        assert!(line.contains(said), "{line}");
        asked.join().unwrap();
        assert!(node.events().contains("\"unscanned\""), "{}", node.events());
    }
    let node = Node::new(SCANS);
    let line = refused(&node);
    assert!(line.contains("not scanned (no agent answers at "), "{line}");
    // A policy that does not ask for it.
    let node = Node::new(r#"{"unscanned":{"action":"block"}}"#);
    assert!(refused(&node).contains("not scanned: run portcullis import"));
}

#[test]
fn an_agent_that_hangs_costs_the_deadline_and_no_more() {
    let node = Node::new(SCANS);
    let (answer_now, wait) = std::sync::mpsc::channel::<()>();
    let asked = agent(&node, move || {
        let _gone = wait.recv();
        AgentAnswer::Scanned
    });
    let ask = Ask { caller_waits: Some(Duration::from_secs(1)), ..ask() };
    let begun = Instant::now();
    let refusal = node.gate().admit(&ask, |_| bound()).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(10), "it waited for the agent");
    assert!(refusal.message().contains("the agent did not answer in time"), "{refusal}");
    drop(answer_now);
    asked.join().unwrap();
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
