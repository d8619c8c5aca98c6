//! Many processes read a verdict while the one that writes it is killed, over and over.
//!
//! The processes are real: this test starts its own program again, once for each.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "this file is all test; the setting spares only test functions"
)]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use portcullis_store::{Depth, Detail, FileStore, VerdictStore, suite};
use portcullis_types::Verdict;

const READERS: usize = 64;
const KILLS: u64 = 25;
const FINDINGS: usize = 200;
const FIRST: i64 = 1;

/// Tell a process that was started by the test what it is, and where the store stands.
const ROLE: &str = "PORTCULLIS_TEST_ROLE";
const STORE: &str = "PORTCULLIS_TEST_STORE";
/// The test, by which such a process is started too.
const TEST: &str = "readers_see_the_old_or_the_new_verdict_and_never_a_part";

#[test]
fn readers_see_the_old_or_the_new_verdict_and_never_a_part() {
    match std::env::var(ROLE).as_deref() {
        Ok("reader") => return reader(),
        Ok("writer") => return writer(),
        _ => {}
    }
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path());
    write(&store, FIRST);
    let readers: Vec<Child> = (0..READERS).map(|_| start("reader", folder.path())).collect();
    for round in 0..KILLS {
        let mut writer = start("writer", folder.path());
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let wrote = lines.find(|line| line.as_ref().is_ok_and(|l| l.contains("wrote")));
        assert!(wrote.is_some(), "a writer wrote nothing");
        // Within the next verdict, each time at another place.
        sleep(Duration::from_micros(round * 397 % 6_000));
        writer.kill().unwrap();
        writer.wait().unwrap();
    }
    std::fs::write(folder.path().join("stop"), "").unwrap();
    for mut reader in readers {
        let mut said = String::new();
        let mut output = reader.stdout.take().unwrap();
        output.read_to_string(&mut said).unwrap();
        assert!(reader.wait().unwrap().success(), "a reader failed:\n{said}");
    }
    let last = generation(&store);
    assert!(last > KILLS as i64, "{KILLS} writers left generation {last}");
    write(&store, last + 1);
    assert_eq!(store.list(Depth::Whole).unwrap().len(), 1);
    assert!(!folder.path().join(".new").exists(), "a remainder was left");
}

fn reader() {
    let folder = std::env::var_os(STORE).unwrap();
    let store = FileStore::open(&folder);
    let mut last = 0;
    while !Path::new(&folder).join("stop").exists() {
        let seen = generation(&store);
        assert!(seen >= last, "generation {seen} came after {last}");
        last = seen;
        sleep(Duration::from_millis(2));
    }
}

fn writer() {
    let store = FileStore::open(std::env::var_os(STORE).unwrap());
    for next in generation(&store) + 1.. {
        write(&store, next);
        println!("wrote {next}");
    }
}

fn start(role: &str, folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(ROLE, role)
        .env(STORE, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn write(store: &FileStore, generation: i64) {
    let report = suite::report("trivy", generation, FINDINGS);
    store.absorb(&suite::image('a'), report).unwrap();
}

/// Which writing the stored verdict is of, if it is whole.
fn generation(store: &FileStore) -> i64 {
    let image = suite::image('a');
    let verdict = store.by_config(&image.config, Detail::Full).unwrap().unwrap();
    let [report] = &verdict.reports[..] else {
        panic!("there are {} reports", verdict.reports.len());
    };
    let generation = report.scanned_at.as_second();
    // All generations have the same problems, so they are known since the first.
    let first = suite::report("trivy", FIRST, 0).imported_at;
    let report = suite::seen_since(suite::report("trivy", generation, FINDINGS), first);
    let wanted = Verdict { image, reports: vec![report] };
    assert_eq!(verdict, wanted, "generation {generation} is not whole");
    generation
}
