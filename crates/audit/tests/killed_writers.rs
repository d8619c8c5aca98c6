//! Many processes append to one ledger while some of them are killed, over and over.
//!
//! The processes are real: this test starts its own program again, once for each.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "this file is all test; the setting spares only test functions"
)]

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::Duration;

use portcullis_audit::{Ledger, LedgerError, Verification};
use portcullis_types::{Event, EventKind};

const WRITERS: usize = 64;
const EVENTS: usize = 10_000;
/// Some files are moved aside, and none is deleted.
const MAX_BYTES: u64 = 16 << 20;

/// Tell a process that was started by the test where the ledger stands, and its own name.
const FOLDER: &str = "PORTCULLIS_TEST_LEDGER";
const NAME: &str = "PORTCULLIS_TEST_NAME";
/// The test, by which such a process is started too.
const TEST: &str = "killed_writers_leave_a_chain_that_is_whole";

#[test]
fn killed_writers_leave_a_chain_that_is_whole() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return writer(folder.as_ref(), &std::env::var(NAME).unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let appended = Mutex::new(Vec::new());
    let (locked, killed, started) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let running: Vec<Mutex<Option<Child>>> = (0..WRITERS).map(|_| Mutex::default()).collect();
    let enough = || appended.lock().unwrap().len() >= EVENTS;
    std::thread::scope(|scope| {
        for slot in &running {
            scope.spawn(|| {
                while !enough() {
                    let name = started.fetch_add(1, Ordering::Relaxed);
                    let mut child = start(folder.path(), name);
                    let output = BufReader::new(child.stdout.take().unwrap());
                    *slot.lock().unwrap() = Some(child);
                    for line in output.lines().map_while(Result::ok) {
                        match line.split(' ').collect::<Vec<_>>()[..] {
                            ["appended", id, "."] => appended.lock().unwrap().push(id.to_owned()),
                            ["locked", "."] => drop(locked.fetch_add(1, Ordering::Relaxed)),
                            _ => {}
                        }
                        if enough() {
                            break;
                        }
                    }
                    let mut child = slot.lock().unwrap().take().unwrap();
                    child.kill().unwrap();
                    child.wait().unwrap();
                }
            });
        }
        let mut chance = Chance(1);
        while !enough() {
            sleep(Duration::from_millis(chance.below(40)));
            let slot = &running[usize::try_from(chance.below(WRITERS as u64)).unwrap()];
            if let Some(child) = slot.lock().unwrap().as_mut() {
                child.kill().unwrap();
                killed.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let appended = appended.into_inner().unwrap();
    // The last one killed may have left a torn line, which only a further writer closes.
    let ledger = Ledger::new(folder.path().to_owned(), MAX_BYTES);
    let last = ledger.append(&event("the last")).unwrap();
    let found = ledger.verify(&[last]).unwrap();
    println!(
        "{} appended by {} processes, {} killed; {} times locked; {} torn lines closed; {} files",
        appended.len(),
        started.into_inner(),
        killed.into_inner(),
        locked.into_inner(),
        found.closed.len(),
        found.files,
    );
    check(&ledger, &found, &appended);
}

fn check(ledger: &Ledger, found: &Verification, appended: &[String]) {
    assert!(found.is_whole(), "{:#?}", found.faults);
    assert_eq!(found.first, Some(1));
    assert_eq!(Some(found.records), found.last.map(|head| head.seq), "the numbers have gaps");
    assert!(!found.closed.is_empty(), "no line was torn: nothing was tested");
    assert!(found.files > 1, "no file was moved aside");
    let read = ledger.read().unwrap();
    let decisions = read.events.iter().filter(|event| event.kind == EventKind::Decision);
    let ids: Vec<&str> = decisions.map(|event| event.id.as_str()).collect();
    let kept: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), kept.len(), "an event is there twice");
    for id in appended {
        assert!(kept.contains(id.as_str()), "event {id} is lost");
    }
    assert!(appended.len() >= EVENTS);
}

/// Appends until it is killed; now and then it dies within a write.
fn writer(folder: &Path, name: &str) {
    let ledger = Ledger::new(folder.to_owned(), MAX_BYTES);
    let mut chance = Chance(name.parse::<u64>().unwrap() + 1);
    for n in 0.. {
        if chance.below(200) == 0 {
            die_within_a_write(folder, &mut chance);
        }
        let id = format!("{name}-{n}");
        loop {
            match ledger.append(&event(&id)) {
                Ok(_) => break,
                Err(LedgerError::Locked { .. }) => println!("locked ."),
                Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
            }
        }
        println!("appended {id} .");
    }
}

/// What the kernel does to a writer that is killed while its bytes are copied, which a test cannot
/// time: some of the bytes are there, and the lock is free.
fn die_within_a_write(folder: &Path, chance: &mut Chance) {
    let open = |name: &str| OpenOptions::new().append(true).open(folder.join(name));
    let (Ok(lock), Ok(_)) = (open(".lock"), open("events.jsonl")) else { return };
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let line = serde_json::to_vec(&event("torn")).unwrap();
    let part = usize::try_from(chance.below(line.len() as u64)).unwrap();
    // It may have been moved aside meanwhile, and not been made again.
    if let Ok(mut file) = open("events.jsonl") {
        file.write_all(&line[..part]).unwrap();
    }
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
        .unwrap();
}

fn start(folder: &Path, name: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(FOLDER, folder)
        .env(NAME, name.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn event(id: &str) -> Event {
    serde_json::from_value(serde_json::json!({
        "id": id, "time": portcullis_types::Timestamp::now(), "kind": "decision",
        "action": "block", "message": "x".repeat(id.len() * 10), "image": { "surety": "unknown" },
        "request": { "engine": "containerd", "node": "n", "containerId": "c", "kind": "container" },
    }))
    .unwrap()
}

/// Numbers that look random, and are the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % limit
    }
}
