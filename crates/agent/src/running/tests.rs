//! What a container was let start by, and when it violates.

use std::sync::Arc;

use portcullis_inventory::SCANNER;
use portcullis_settings::Settings;
use portcullis_types::{
    Class, Coverage, Finding, Identity, ImageFacts, Request, Scanner, Severity,
};

use super::*;

struct Node {
    _root: tempfile::TempDir,
    scans: Scans,
    queue: Queue,
    bell: Bell,
    in_use: InUse,
}

impl Node {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let settings = Settings::default().below(root.path());
        Self {
            scans: Scans::new(settings, "/no/such/scanner".into()),
            queue: Queue::new(8),
            bell: Bell::new().unwrap(),
            in_use: InUse::default(),
            _root: root,
        }
    }

    fn judge(&self) -> Judge<'_> {
        Judge::new(&self.scans, &self.queue, &self.bell, &self.in_use)
    }
}

fn key() -> Key {
    (Engine::Podman, String::new(), "c1".to_owned())
}

fn decision(action: Action) -> Decision {
    Decision {
        action,
        policy_set: None,
        policies: Vec::new(),
        settings: Vec::new(),
        findings: 0,
        settings_of_start: 0,
    }
}

fn event(kind: EventKind, action: Action, container: &str) -> Event {
    Event::new(
        new_id(),
        Timestamp::now(),
        kind,
        action,
        String::new(),
        Request::new(Engine::Podman, "node", container),
        Identity::unknown("test"),
    )
}

/// Judges the container, as if it had been found running: whether anything is told.
fn judged(judge: &mut Judge<'_>, action: Action) -> bool {
    let decision = decision(action);
    match judge.compared(&key(), &decision) {
        None => {
            judge.remember(key(), &decision);
            false
        }
        Some(before) => {
            let again = Again {
                request: Request::new(Engine::Podman, "node", "c1"),
                identity: Identity::unknown("test"),
                evidence: Evidence::of(Lookup::NotRead),
            };
            judge.tell(key(), &again, &decision, before);
            true
        }
    }
}

fn told(judge: &Judge<'_>) -> Vec<Event> {
    let events = judge.audit.ledger().read().unwrap().events;
    events.into_iter().filter(|event| event.kind == EventKind::Violation).collect()
}

fn violates(judge: &Judge<'_>) -> bool {
    judge.containers[&key()].violates
}

#[test]
fn what_has_become_stricter_is_told_once_and_what_is_resolved_is_not() {
    let node = Node::new();
    let mut judge = node.judge();
    let start = event(EventKind::Decision, Action::Allow, "c1");
    judge.hear(start.clone());
    judge.hear(event(EventKind::Decision, Action::Block, "another"));
    for (action, is_told, violating) in [
        (Action::Allow, false, false),
        (Action::Alarm, true, true),
        (Action::Alarm, false, true),
        (Action::Block, true, true),
        (Action::Block, false, true),
        (Action::Alarm, false, false),
        (Action::Allow, false, false),
        (Action::Block, true, true),
    ] {
        assert_eq!(judged(&mut judge, action), is_told, "{action}");
        assert_eq!(violates(&judge), violating, "{action}");
    }
    let told = told(&judge);
    let actions: Vec<Action> = told.iter().map(|event| event.action).collect();
    assert_eq!(actions, [Action::Alarm, Action::Block, Action::Block]);
    for event in told {
        assert_eq!(event.decision.as_ref(), Some(&start.id));
        assert!(event.message.starts_with("portcullis: now violating: "), "{}", event.message);
        assert!(event.message.ends_with(&event.id), "{}", event.message);
    }
}

#[test]
fn a_container_that_nobody_decided_about_violates_nothing_until_something_changes() {
    let node = Node::new();
    let mut judge = node.judge();
    assert!(!judged(&mut judge, Action::Alarm));
    assert!(!judged(&mut judge, Action::Alarm));
    assert!(judged(&mut judge, Action::Block));
    assert_eq!(told(&judge)[0].decision, None);
}

#[test]
fn neither_a_lost_memory_nor_a_lost_ledger_tells_anything_again() {
    let node = Node::new();
    let mut judge = node.judge();
    let start = event(EventKind::Decision, Action::Allow, "c1");
    judge.audit.record(&start);
    judge.read_ledger();
    assert!(judged(&mut judge, Action::Block));

    // Its memory is there, and the ledger is not.
    let events = node.scans.settings().paths().events();
    let aside = events.with_file_name("aside");
    fs::rename(&events, &aside).unwrap();
    let mut judge = node.judge();
    judge.read_ledger();
    assert!(!judged(&mut judge, Action::Block) && violates(&judge));

    // The ledger is there, and its memory is not.
    let _it_may_be_there = fs::remove_dir_all(&events);
    fs::rename(&aside, &events).unwrap();
    fs::remove_dir_all(node.scans.settings().paths().followed()).unwrap();
    let mut judge = node.judge();
    judge.read_ledger();
    assert!(!judged(&mut judge, Action::Block) && violates(&judge));
    assert_eq!(judge.containers[&key()].decision, Some(start.id));
}

#[test]
fn a_container_that_is_started_again_is_measured_by_its_last_decision() {
    let node = Node::new();
    let mut judge = node.judge();
    judge.hear(event(EventKind::Decision, Action::Allow, "c1"));
    assert!(!judged(&mut judge, Action::Allow));
    // An alarm that is known since its start is nothing new.
    judge.hear(event(EventKind::Decision, Action::Alarm, "c1"));
    assert!(!judged(&mut judge, Action::Alarm) && !violates(&judge));
}

#[test]
fn what_comes_into_the_ledger_is_heard_and_bounded() {
    let node = Node::new();
    let mut judge = node.judge();
    judge.read_ledger();
    judge.audit.record(&event(EventKind::Decision, Action::Allow, "c1"));
    judge.read_ledger();
    assert!(judged(&mut judge, Action::Block));
    for number in 0..MAX_DECISIONS + 10 {
        let mut event = event(EventKind::Decision, Action::Allow, &format!("other-{number}"));
        event.time -= FRESH.saturating_mul(2);
        judge.hear(event);
    }
    assert!(judge.told.len() <= MAX_DECISIONS);
    assert!(judge.told.contains_key(&(Engine::Podman, "c1".to_owned())), "it runs");
}

/// Before an engine has said what runs, a decision of long ago may be of what runs.
#[test]
fn a_decision_is_kept_until_it_is_known_what_runs() {
    let node = Node::new();
    let mut judge = node.judge();
    let old = Timestamp::now() - Duration::from_secs(5 * 24 * 3600);
    for name in ["c1", "ended"] {
        let event = event(EventKind::Decision, Action::Allow, name);
        judge.hear(Event { time: old, ..event });
    }
    assert!(judged(&mut judge, Action::Block) && judge.told.len() == 2);
    judge.let_go();
    assert_eq!(Vec::from_iter(judge.told.keys()), [&(Engine::Podman, "c1".to_owned())]);
}

/// What is judged anew is pushed again only if other nodes hear something new.
#[test]
fn what_says_as_much_as_before_is_no_news() {
    let report = |severity, advisories: i64| ScanReport {
        scanner: Scanner { name: SCANNER.to_owned(), version: None },
        scanned_at: Timestamp::now(),
        database_at: Timestamp::from_second(advisories).ok(),
        imported_at: Timestamp::now(),
        binding: Binding::ByScan,
        coverage: Coverage::default(),
        findings: vec![Arc::new(Finding::new(Class::Vulnerability, "CVE-1", severity, SCANNER))],
    };
    let image = ImageFacts {
        config: Digest::of(b"image"),
        chain_id: None,
        manifests: BTreeSet::new(),
        references: BTreeSet::new(),
    };
    let verdict = Verdict { image, reports: vec![report(Severity::High, 1)] };
    assert!(!says_as_much(None, &report(Severity::High, 1)));
    assert!(says_as_much(Some(&verdict), &report(Severity::High, 1)));
    assert!(!says_as_much(Some(&verdict), &report(Severity::High, 2)));
    assert!(!says_as_much(Some(&verdict), &report(Severity::Low, 1)));
}

#[test]
fn a_change_of_policies_knowledge_or_verdicts_is_seen() {
    let node = Node::new();
    let paths = node.scans.settings().paths();
    let shard = paths.verdicts().join("sha256/0a");
    for folder in [&shard, &paths.published(), &paths.malware()] {
        fs::create_dir_all(folder).unwrap();
    }
    let mut seen = World::now(&node.scans);
    assert_eq!(seen, World::now(&node.scans));
    let changes: [&dyn Fn(); 3] = [
        &|| std::os::unix::fs::symlink("1", paths.published().join("current")).unwrap(),
        &|| fs::write(paths.malware().join("list.txt"), "").unwrap(),
        &|| fs::write(shard.join("1"), "").unwrap(),
    ];
    for change in changes {
        // The clock of file systems is a coarse one.
        std::thread::sleep(Duration::from_millis(20));
        change();
        let now = World::now(&node.scans);
        assert_ne!(seen, now);
        seen = now;
    }
}
