//! Events: to the node's journal and to the hash-chained ledger.
//!
//! Two places, so that one of them may fail: a record counts as written if either took it.

#![forbid(unsafe_code)]

mod journal;
mod ledger;
mod repeats;
mod unhandled;

pub use journal::{
    DECISION_MESSAGE_ID, JournalError, JournalHeads, NOTICE_MESSAGE_ID, OUTCOME_MESSAGE_ID,
    SYSLOG_IDENTIFIER, VIOLATION_MESSAGE_ID, heads_from_journal,
};
pub use ledger::{
    Closed, Entry, Fault, FaultKind, Followed, Head, Known, Ledger, LedgerError, NotAHash, Place,
    Read, RecordHash, Records, Resumed, Trail, Verification,
};
pub use repeats::{Repeated, fold};
pub use unhandled::Unhandled;

use std::path::PathBuf;

use portcullis_types::{Action, Event, EventId, EventKind, Recorded, with_causes};

/// A new event's id: a ULID, so that ids sort by time.
pub fn new_id() -> EventId {
    ulid::Ulid::generate().to_string()
}

/// Where events go on this node.
#[derive(Debug, Clone)]
pub struct Audit {
    ledger: Ledger,
    journal_allows: bool,
}

/// What took a record and what did not.
#[derive(Debug)]
pub struct Outcome {
    /// Which places took it.
    pub recorded: Recorded,
    /// Why the others did not, for the log.
    pub problems: Vec<String>,
}

impl Outcome {
    /// Whether any place took it.
    pub fn is_recorded(&self) -> bool {
        self.recorded.journal || self.recorded.file
    }
}

impl Audit {
    /// Events to the journal and to the ledger in `folder`, of `max_bytes` in all its files.
    ///
    /// With `journal_allows` false, allowed starts go to the ledger only.
    pub fn new(folder: PathBuf, max_bytes: u64, journal_allows: bool) -> Self {
        Self { ledger: Ledger::new(folder, max_bytes), journal_allows }
    }

    /// The ledger, for its readers.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Writes one event, bounded in time. What the ledger has to say of itself on the occasion goes
    /// to the journal too.
    pub fn record(&self, event: &Event) -> Outcome {
        let mut outcome =
            Outcome { recorded: Recorded { journal: false, file: false }, problems: Vec::new() };
        let mut head = None;
        let mut notices = Vec::new();
        match self.ledger.append_with_notices(event) {
            Ok(appended) => {
                outcome.recorded.file = true;
                head = Some(appended.head);
                notices = appended.notices;
            }
            Err(error) => outcome.problems.push(with_causes(&error)),
        }
        // That a container started is in the ledger; the journal has the decision.
        let quiet = event.kind == EventKind::Outcome || !self.journal_allows;
        if !(quiet && event.action == Action::Allow && outcome.recorded.file) {
            match self.send(event, head) {
                Ok(()) => outcome.recorded.journal = true,
                Err(problem) => {
                    // It would not take the notices either, and each try may cost its bound.
                    outcome.problems.push(problem);
                    return outcome;
                }
            }
        }
        let refused = notices.iter().map(|(notice, head)| self.send(notice, Some(*head)));
        outcome.problems.extend(refused.filter_map(Result::err).next());
        outcome
    }

    fn send(&self, event: &Event, head: Option<Head>) -> Result<(), String> {
        let head = head.map(|head| (self.ledger.folder(), head));
        journal::send(event, head).map_err(|error| with_causes(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_that_fails_is_a_problem_and_no_panic() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let event: Event = serde_json::from_value(serde_json::json!({
            "id": "1", "time": "2026-11-24T12:00:00Z", "kind": "decision", "action": "allow",
            "message": "", "image": { "surety": "unknown" },
            "request": { "engine": "containerd", "node": "n", "containerId": "c", "kind": "container" },
        }))
        .expect("it is an event");
        let audit = Audit::new(folder.path().to_owned(), 1 << 20, false);
        let outcome = audit.record(&event);
        assert!(outcome.is_recorded() && outcome.recorded.file && outcome.problems.is_empty());

        let file = folder.path().join("events.jsonl");
        let outcome = Audit::new(file.clone(), 1 << 20, false).record(&event);
        assert!(!outcome.recorded.file);
        assert!(outcome.problems[0].contains(&file.display().to_string()), "{outcome:?}");
        // Then even an allowed start goes to the journal, if there is one.
        assert_eq!(outcome.problems.len(), 2 - usize::from(outcome.recorded.journal));
    }
}
