//! A disk that is full: nothing is half written, and what was appended before is whole.
//!
//! The disk is a small one in memory, mounted where no other process sees it; so this needs root.

#![allow(
    clippy::unwrap_used,
    reason = "this file is all test; the setting spares only test functions"
)]

use std::path::Path;
use std::process::Command;

use portcullis_audit::{Ledger, LedgerError};
use portcullis_types::Event;

/// Tells the process that was started by the test where the disk is.
const DISK: &str = "PORTCULLIS_TEST_DISK";
const TEST: &str = "a_full_disk_is_an_error_and_no_damage";

#[test]
fn a_full_disk_is_an_error_and_no_damage() {
    if let Some(disk) = std::env::var_os(DISK) {
        return on(disk.as_ref());
    }
    assert!(rustix::process::geteuid().is_root(), "run as root: the test mounts a small disk");
    let disk = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg(r#"mount -t tmpfs -o size=64k tmpfs "$1" && exec "$2" --exact "$3" --nocapture"#)
        .arg("sh")
        .arg(disk.path())
        .arg(std::env::current_exe().unwrap())
        .arg(TEST)
        .env(DISK, disk.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert!(
        std::fs::read_dir(disk.path()).unwrap().next().is_none(),
        "it was not a disk of its own"
    );
}

fn on(disk: &Path) {
    let ballast = disk.join("ballast");
    std::fs::write(&ballast, [0; 20 << 10]).unwrap();
    // Small files, so that the disk is full in a rotation too.
    for (round, max_bytes) in [1 << 20, 100 << 10].into_iter().enumerate() {
        let ledger = Ledger::new(disk.join(round.to_string()), max_bytes);
        let mut appended = Vec::new();
        let refused = loop {
            let id = appended.len().to_string();
            match ledger.append(&event(&id)) {
                Ok(_) => appended.push(id),
                Err(error) => break error,
            }
        };
        full(&refused);
        assert!(appended.len() > 10, "{}", appended.len());
        for _ in 0..3 {
            whole(&ledger, &appended);
            full(&ledger.append(&event("refused")).unwrap_err());
        }
        std::fs::remove_file(&ballast).unwrap();
        for id in ["after", "and again"] {
            ledger.append(&event(id)).unwrap();
            appended.push(id.to_owned());
        }
        whole(&ledger, &appended);
        std::fs::remove_dir_all(ledger.folder()).unwrap();
        std::fs::write(&ballast, [0; 20 << 10]).unwrap();
    }
}

fn full(error: &LedgerError) {
    let LedgerError::Io { doing, source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull, "{doing}: {source}");
}

fn whole(ledger: &Ledger, appended: &[String]) {
    let found = ledger.verify(&[]).unwrap();
    assert!(found.is_whole(), "{:#?}", found.faults);
    assert!(found.closed.is_empty(), "a part was left");
    let ids: Vec<String> = ledger.read().unwrap().events.into_iter().map(|e| e.id).collect();
    assert_eq!(ids, appended);
    // Not where a page of the disk ends, so a part of the next record had room and was taken back.
    assert_ne!(std::fs::metadata(ledger.path()).unwrap().len() % 4096, 0);
}

fn event(id: &str) -> Event {
    serde_json::from_value(serde_json::json!({
        "id": id, "time": "2026-11-24T12:00:00Z", "kind": "decision",
        "action": "block", "message": "", "image": { "surety": "unknown" },
        "request": { "engine": "containerd", "node": "n", "containerId": "c", "kind": "container" },
    }))
    .unwrap()
}
