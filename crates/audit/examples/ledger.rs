//! What the ledger costs: appends alone and with sixteen processes at once, and the question what
//! time it is.
//!
//!     cargo run --release -p portcullis-audit --example ledger [FOLDER]

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "it prints figures, and stops where one cannot be had"
)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use portcullis_audit::{Ledger, LedgerError, new_id};
use portcullis_types::{Event, Timestamp};

const ROUNDS: usize = 5000;
const WRITERS: usize = 16;
const EACH: usize = 500;
const MAX_BYTES: u64 = 64 << 20;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1..) {
        Some([folder, pause]) => writer(folder.as_ref(), pause.parse().unwrap()),
        Some([folder]) => measure(folder.as_ref()),
        _ => measure(&std::env::temp_dir()),
    }
}

fn measure(below: &Path) {
    let folder = below.join(format!("portcullis-ledger-{}", std::process::id()));
    let ledger = Ledger::new(folder.clone(), MAX_BYTES);
    let event = event();
    println!("a record has {} bytes", {
        ledger.append(&event).unwrap();
        std::fs::metadata(ledger.path()).unwrap().len()
    });
    told("append, alone", times(ROUNDS, || ledger.append(&event).unwrap()));
    let clock = Timestamp::now();
    told("judged_now", times(ROUNDS, || ledger.judged_now(clock)));
    for (what, pause) in [
        ("append, 16 processes as fast as they can", 0),
        ("append, 16 processes with 5 ms between", 5),
    ] {
        let begun = Instant::now();
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                Command::new(std::env::current_exe().unwrap())
                    .arg(&folder)
                    .arg(pause.to_string())
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let (mut taken, mut locked) = (Vec::new(), 0);
        for writer in writers {
            let output = writer.wait_with_output().unwrap();
            for line in String::from_utf8(output.stdout).unwrap().lines() {
                match line.parse() {
                    Ok(nanos) => taken.push(Duration::from_nanos(nanos)),
                    Err(_) => locked += 1,
                }
            }
        }
        let rate = taken.len() as f64 / begun.elapsed().as_secs_f64();
        told(what, taken);
        println!("    {rate:.0} a second; {locked} gave up waiting for the lock");
    }
    let begun = Instant::now();
    let found = ledger.verify(&[]).unwrap();
    println!("verify of {} records: {:?}", found.records, begun.elapsed());
    assert!(found.is_whole(), "{:?}", found.faults);
    let begun = Instant::now();
    let read = ledger.read().unwrap();
    println!("read of {} events: {:?}", read.events.len(), begun.elapsed());
    std::fs::remove_dir_all(folder).unwrap();
}

fn writer(folder: &Path, pause: u64) {
    let ledger = Ledger::new(folder.to_owned(), MAX_BYTES);
    let event = event();
    for _ in 0..EACH {
        let begun = Instant::now();
        match ledger.append(&event) {
            Ok(_) => println!("{}", begun.elapsed().as_nanos()),
            Err(LedgerError::Locked { .. }) => println!("locked"),
            Err(error) => panic!("{error}"),
        }
        std::thread::sleep(Duration::from_millis(pause));
    }
}

fn times<T>(rounds: usize, run: impl Fn() -> T) -> Vec<Duration> {
    let timed = |_| {
        let begun = Instant::now();
        std::hint::black_box(run());
        begun.elapsed()
    };
    (0..rounds).map(timed).collect()
}

fn told(what: &str, mut taken: Vec<Duration>) {
    taken.sort_unstable();
    let at = |part: f64| taken[((taken.len() - 1) as f64 * part) as usize];
    println!("{what}: p50 {:?}, p99 {:?}, most {:?}", at(0.5), at(0.99), at(1.0));
}

fn event() -> Event {
    serde_json::from_value(serde_json::json!({
        "id": new_id(), "time": Timestamp::now(), "kind": "decision", "action": "block",
        "message": "portcullis: blocked: 1 critical vulnerability with a fix (CVE-2024-3094 \
                    xz-utils 5.6.0 -> 5.6.1); image registry.example.com/bank:1.0@sha256:a7eb",
        "request": {
            "engine": "containerd", "node": "node-1", "kind": "container", "namespace": "prod",
            "containerId": "3f4e1c2b5a6978d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8",
            "pod": "web-7d9f8b6c5d-x2x7k", "container": "web",
            "podLabels": { "app": "web", "tier": "front", "pod-template-hash": "7d9f8b6c5d" },
        },
        "image": {
            "surety": "bound",
            "config": format!("sha256:{}", "a7".repeat(32)),
            "chainId": format!("sha256:{}", "c1".repeat(32)),
            "manifests": [format!("sha256:{}", "e9".repeat(32))],
            "names": [{ "reference": "registry.example.com/bank:1.0", "held": true, "asked": true }],
        },
        "policies": ["production"], "policySet": format!("sha256:{}", "b5".repeat(32)),
        "counted": { "vulnerability/critical": 1 }, "findings": 42,
    }))
    .unwrap()
}
