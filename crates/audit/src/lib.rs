//! Events: to the node's journal and to the append-only event file.
//!
//! Two places, so that one of them may fail: a record counts as written if either took it.

#![forbid(unsafe_code)]

mod file;
mod journal;

pub use file::{EventFile, FileError, Followed, Read};
pub use journal::{
    DECISION_MESSAGE_ID, JournalError, NOTICE_MESSAGE_ID, OUTCOME_MESSAGE_ID, SYSLOG_IDENTIFIER,
};

use std::path::PathBuf;

use portcullis_types::{Action, Event, EventId, EventKind, Recorded, with_causes};

/// A new event's id: a ULID, so that ids sort by time.
pub fn new_id() -> EventId {
    ulid::Ulid::generate().to_string()
}

/// Where events go on this node.
#[derive(Debug, Clone)]
pub struct Audit {
    file: EventFile,
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
    /// Events to the journal and to the file in `folder`, which is moved aside at `max_bytes`.
    ///
    /// With `journal_allows` false, allowed starts go to the file only.
    pub fn new(folder: PathBuf, max_bytes: u64, journal_allows: bool) -> Self {
        Self { file: EventFile::new(folder, max_bytes), journal_allows }
    }

    /// Writes one event, bounded in time.
    pub fn record(&self, event: &Event) -> Outcome {
        let mut outcome =
            Outcome { recorded: Recorded { journal: false, file: false }, problems: Vec::new() };
        match self.file.append(event) {
            Ok(()) => outcome.recorded.file = true,
            Err(error) => outcome.problems.push(with_causes(&error)),
        }
        // That a container started is in the file; the journal has the decision.
        let quiet = event.kind == EventKind::Outcome || !self.journal_allows;
        if quiet && event.action == Action::Allow && outcome.recorded.file {
            return outcome;
        }
        match journal::send(event) {
            Ok(()) => outcome.recorded.journal = true,
            Err(error) => outcome.problems.push(with_causes(&error)),
        }
        outcome
    }
}
