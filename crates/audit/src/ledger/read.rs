//! Events read back: all that are kept.

use std::fs::File;
use std::io::{BufReader, Take};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use portcullis_types::Event;

use super::error::{LedgerError, failed};
use super::folder::{self, Part};
use super::lines::{Lines, Raw};
use super::record;

/// How far a file's own time may be off before events of it are missed by a filter of time.
const MARGIN: SignedDuration = SignedDuration::from_hours(24);

/// What a reader got.
#[derive(Debug, Default)]
pub struct Read {
    /// Events, oldest first.
    pub events: Vec<Event>,
    /// Lines that are not events: torn by a killed writer, or damaged.
    pub damaged: usize,
}

/// Events that are kept, oldest first, read as they are asked for.
///
/// After an error there are no more.
pub struct Records {
    parts: std::vec::IntoIter<Part>,
    since: Option<Timestamp>,
    file: Option<(PathBuf, Lines<BufReader<Take<File>>>)>,
    damaged: usize,
}

pub(super) fn records(folder: &Path, since: Option<Timestamp>) -> Result<Records, LedgerError> {
    let mut parts = folder::snapshot(folder)?;
    if let Some(since) = since {
        let newest = parts.len().saturating_sub(1);
        let skipped = parts[..newest].iter().take_while(|part| written_before(part, since)).count();
        parts.drain(..skipped);
    }
    Ok(Records { parts: parts.into_iter(), since, file: None, damaged: 0 })
}

fn written_before(part: &Part, since: Timestamp) -> bool {
    Timestamp::from_second(part.metadata.mtime())
        .and_then(|written| written.checked_add(MARGIN))
        .is_ok_and(|written| written < since)
}

impl Records {
    /// Lines so far that are not events: torn by a killed writer, or damaged.
    pub fn damaged(&self) -> usize {
        self.damaged
    }

    fn step(&mut self) -> Result<Option<Event>, LedgerError> {
        loop {
            let Some((path, lines)) = &mut self.file else {
                let Some(part) = self.parts.next() else { return Ok(None) };
                let length = part.length();
                let lines = Lines::of(part.file, 0, length).map_err(failed("read", &part.path))?;
                self.file = Some((part.path, lines));
                continue;
            };
            match lines.next().map_err(failed("read", path))? {
                None => self.file = None,
                Some(line) => match event(&line) {
                    Ok(Some(event)) if self.since.is_none_or(|since| event.time >= since) => {
                        return Ok(Some(event));
                    }
                    Ok(_) => {}
                    Err(NotAnEvent) => self.damaged += 1,
                },
            }
        }
    }
}

impl Iterator for Records {
    type Item = Result<Event, LedgerError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.file = None;
            self.parts = Vec::new().into_iter();
        }
        step.transpose()
    }
}

struct NotAnEvent;

/// The event of a line; an empty line is none and no damage.
fn event(line: &Raw<'_>) -> Result<Option<Event>, NotAnEvent> {
    if line.length == 0 {
        return Ok(None);
    }
    if line.is_too_long() {
        return Err(NotAnEvent);
    }
    record::event(line.bytes).map(Some).ok_or(NotAnEvent)
}
