//! The ledger: a folder of files that anything may have happened to.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use portcullis_audit::{Ledger, LedgerError, Verification};
use portcullis_types::Event;
use tempfile::TempDir;

/// What parts an input's files; it stands in no record.
const BETWEEN: u8 = 0x1e;
const FILES: [&str; 3] = ["events.jsonl", "events-1.jsonl", "head"];
const MOST_BYTES: u64 = 1 << 20;

/// The files of a ledger: the current one, an older one, and its head.
///
/// Each reader says of the same bytes the same. A writer goes on behind them, whatever they are:
/// what it wrote is read and counted, and no fault and no event is lost by that. Accepted: the
/// ledger is whole and has a record.
pub fn ledger(data: &[u8]) -> bool {
    thread_local! {
        static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
    }
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| {
            tempfile::tempdir().expect("a folder for temporary files can be made")
        });
        check(folder.path(), data)
    })
}

fn check(folder: &Path, data: &[u8]) -> bool {
    empty(folder);
    let mut parts = data.splitn(FILES.len(), |byte| *byte == BETWEEN);
    for (name, bytes) in FILES.iter().zip(parts.by_ref()) {
        fs::write(folder.join(name), bytes).expect("a temporary file can be written");
    }
    let ledger = Ledger::new(folder.to_owned(), MOST_BYTES);
    let (before, events) = readers(&ledger);
    let whole = before.is_whole() && before.records > 0;
    match ledger.append(&event()) {
        Ok(head) => {
            let (after, events_after) = readers(&ledger);
            assert!(after.records > before.records);
            assert_eq!(events_after.last(), Some(&event()));
            assert!(events_after.starts_with(&events), "an event is gone");
            // In a ledger with faults there may be two records of one number.
            if before.is_whole() {
                assert!(after.is_whole(), "going on brought faults: {:?}", after.faults);
                assert_eq!(after.last, Some(head), "the last record is not what was written");
                let known = ledger.verify(&[head]).expect("it was read before");
                assert_eq!(known.heads_confirmed, 1);
            }
        }
        Err(LedgerError::Full) => {}
        Err(error) => panic!("cannot go on: {}", portcullis_types::with_causes(&error)),
    }
    whole
}

fn empty(folder: &Path) {
    for entry in fs::read_dir(folder).expect("a temporary folder can be listed") {
        let path = entry.expect("a temporary folder can be listed").path();
        fs::remove_file(path).expect("a temporary file can be removed");
    }
}

/// What all readers say, after it was seen that they agree.
fn readers(ledger: &Ledger) -> (Verification, Vec<Event>) {
    let verified = ledger.verify(&[]).expect("files that are there can be read");
    let read = ledger.read().expect("files that are there can be read");
    let one_by_one: Result<Vec<_>, _> =
        ledger.records(None).expect("files that are there can be read").collect();
    assert_eq!(one_by_one.expect("files that are there can be read"), read.events);
    let known = verified.records + verified.before_the_chain;
    assert!(read.events.len() as u64 <= known, "{} events of {known}", read.events.len());
    for fault in &verified.faults {
        crate::text::printable("a fault", &fault.to_string(), 4096);
    }
    let faults = verified.faults.len() as u64 + verified.more_faults;
    assert_eq!(faults == 0, verified.is_whole());
    (verified, read.events)
}

fn event() -> Event {
    serde_json::from_value(serde_json::json!({
        "id": "next", "time": "2026-11-24T12:00:00Z", "kind": "decision", "action": "allow",
        "message": "", "image": { "surety": "unknown" },
        "request": { "engine": "containerd", "node": "n", "containerId": "c", "kind": "container" },
    }))
    .expect("it is an event")
}
