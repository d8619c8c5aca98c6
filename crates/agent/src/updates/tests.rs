use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// An agent whose command `portcullis` is a script.
struct Node {
    root: tempfile::TempDir,
    settings: Settings,
}

impl Node {
    fn new(updates: &str, script: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let settings: Settings = format!("[updates]\n{updates}").parse().unwrap();
        let node = Self { settings: settings.below(root.path()), root };
        let script = format!("#!/bin/sh\ncd '{}'\n{script}\n", node.root.path().display());
        // Another thread's child may have a file open that this one has written.
        let mut shell = Command::new("sh");
        let written =
            shell.args(["-c", "printf %s \"$1\" >\"$2\"", "sh", &script]).arg(node.program());
        assert!(written.status().unwrap().success());
        fs::set_permissions(node.program(), fs::Permissions::from_mode(0o755)).unwrap();
        node
    }

    fn program(&self) -> PathBuf {
        self.root.path().join("portcullis")
    }

    fn past(&self) -> Past {
        memory(&self.settings).recall()
    }

    /// Runs until this is so, and ends.
    fn run_until(&self, is_so: impl Fn(&Past) -> bool) {
        let bell = Bell::new().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| run(&self.settings, &self.program(), &bell, Duration::ZERO));
            let begun = Instant::now();
            while !is_so(&self.past()) && begun.elapsed() < LONG {
                std::thread::sleep(Duration::from_millis(20));
            }
            bell.end();
        });
        assert!(is_so(&self.past()), "{:?}", self.past());
    }
}

#[test]
fn what_is_run_is_what_the_settings_name() {
    let settings: Settings =
        "[updates]\nadvisories = [\"https://mirror.example/osv\", \"/srv/own\"]\n\
        ecosystems = [\"Debian\", \"Red Hat\"]\nfeeds = [\"/srv/kev.json\"]\nca = \"/etc/ca.pem\""
            .parse()
            .unwrap();
    let [(_, db), (_, feed)] = due(&settings).try_into().unwrap();
    assert_eq!(
        db.join(" "),
        "db update --ecosystem=Debian --ecosystem=Red Hat --ca=/etc/ca.pem -- \
         https://mirror.example/osv /srv/own"
    );
    assert_eq!(feed.join(" "), "feed update --ca=/etc/ca.pem -- /srv/kev.json");
    let all = "[updates]\nadvisories = [\"http://m\"]\necosystems = [\"*\"]".parse().unwrap();
    assert_eq!(due(&all)[0].1.join(" "), "db update --all-ecosystems -- http://m");
    assert!(due(&Settings::default()).is_empty());
    let none = Updates::begin(&Settings::default(), "/none".into(), &Health::default()).unwrap();
    assert!(none.is_none());
}

#[test]
fn it_is_done_and_not_again_after_a_restart() {
    let node = Node::new("advisories = [\"/srv/osv\"]", "echo \"$@\" >>said");
    assert!(!are_failing(&node.settings));
    node.run_until(|past| past.advisories.done.is_some());
    let said = || fs::read_to_string(node.root.path().join("said")).unwrap();
    assert_eq!(said(), format!("--root {} db update -- /srv/osv\n", node.root.path().display()));
    let bell = Bell::new().unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| run(&node.settings, &node.program(), &bell, Duration::ZERO));
        // It is not due for six hours.
        std::thread::sleep(Duration::from_millis(300));
        bell.end();
        thread.join().unwrap();
    });
    assert_eq!(said().lines().count(), 1);
    // A clock that was set back makes it due again.
    let mut past = node.past();
    past.advisories.done = Some(Timestamp::now() + LONG * 60 * 24 * 365);
    memory(&node.settings).keep(&past);
    node.run_until(|past| past.advisories.done.is_some_and(|done| done <= Timestamp::now()));
    assert_eq!(said().lines().count(), 2);
}

#[test]
fn why_it_failed_is_told_and_kept() {
    let node = Node::new(
        "advisories = [\"/srv/osv\"]\nevery = \"5m\"",
        "yes 'no such mirror' | head -n 100000 >&2; exit 1",
    );
    node.run_until(|past| past.advisories.failed.is_some());
    let failed = node.past().advisories.failed.unwrap();
    assert!(failed.starts_with("no such mirror\\nno such"), "{failed}");
    assert!(failed.len() < 2000 && are_failing(&node.settings));
    // What was done not long ago is no failure yet.
    let mut past = node.past();
    past.advisories.done = Some(Timestamp::now());
    memory(&node.settings).keep(&past);
    assert!(!are_failing(&node.settings));
    fs::remove_file(node.program()).unwrap();
    let bell = Bell::new().unwrap();
    let failed = update(&node.program(), Path::new("/"), &[], &bell).unwrap().unwrap_err();
    assert!(failed.contains("cannot run"), "{failed}");
}

#[test]
fn the_end_ends_what_runs() {
    let node = Node::new("feeds = [\"/srv/kev.json\"]", "echo $$ >pid; exec sleep 600");
    let bell = Bell::new().unwrap();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| update(&node.program(), Path::new("/"), &[], &bell));
        let pid = loop {
            let text = fs::read_to_string(node.root.path().join("pid")).unwrap_or_default();
            match text.trim().parse::<u32>() {
                Ok(pid) => break pid,
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        bell.end();
        assert_eq!(running.join().unwrap(), None);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    });
}
