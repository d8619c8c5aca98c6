//! Events read back: all that are kept, or those that come.

use std::fs::{File, OpenOptions};
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

/// A place in the ledger from which to go on reading.
#[derive(Debug, Default)]
pub struct Followed {
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    file: File,
    inode: (u64, u64),
    at: u64,
    /// A line that is too long has been read in part: the rest of it is no line.
    within: bool,
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

impl Followed {
    /// From the end of what is there now.
    pub(super) fn from_end(folder: &Path) -> Result<Self, LedgerError> {
        Ok(Self { held: folder::snapshot(folder)?.pop().map(|part| Held::new(part, Place::End)) })
    }

    /// What came since the last call.
    pub(super) fn since(&mut self, folder: &Path) -> Result<Read, LedgerError> {
        let mut read = Read::default();
        let path = folder.join(folder::CURRENT);
        if let Some(held) = &mut self.held {
            held.drain(&path, &mut read)?;
        }
        let current = folder::open(&path, OpenOptions::new().read(true))?;
        let Some((_, metadata)) = current else { return Ok(read) };
        let current = (metadata.dev(), metadata.ino());
        if self.held.as_ref().is_some_and(|held| held.inode == current) {
            return Ok(read);
        }
        // The file was moved aside, perhaps more than once; what came meanwhile is in all that
        // follow it. If it is gone already, all that are left follow it.
        let parts = folder::snapshot(folder)?;
        let at = |held: &Held| parts.iter().position(|part| part.inode() == held.inode);
        let newer = self.held.as_ref().and_then(at).map_or(0, |at| at + 1);
        if let Some(held) = &mut self.held {
            held.drain(&path, &mut read)?;
            held.end(&path, &mut read)?;
        }
        let mut parts = parts.into_iter().skip(newer).peekable();
        while let Some(part) = parts.next() {
            let path = part.path.clone();
            let mut held = Held::new(part, Place::Beginning);
            held.drain(&path, &mut read)?;
            if parts.peek().is_some() {
                held.end(&path, &mut read)?;
            }
            self.held = Some(held);
        }
        Ok(read)
    }
}

enum Place {
    Beginning,
    End,
}

impl Held {
    fn new(part: Part, from: Place) -> Self {
        let at = match from {
            Place::Beginning => 0,
            Place::End => part.length(),
        };
        Self { inode: part.inode(), file: part.file, at, within: false }
    }

    /// Reads the lines that are whole by now.
    fn drain(&mut self, path: &Path, read: &mut Read) -> Result<(), LedgerError> {
        self.lines(path, |held, line| {
            if !line.ended {
                // To be read again from its beginning, unless there is no end to it.
                if line.is_too_long() {
                    (held.at, held.within) = (line.next_offset(), true);
                }
                return;
            }
            held.at = line.next_offset();
            read.take(&line, std::mem::take(&mut held.within));
        })
    }

    /// Takes the last line, which nobody will end any more.
    fn end(&mut self, path: &Path, read: &mut Read) -> Result<(), LedgerError> {
        self.lines(path, |held, line| read.take(&line, std::mem::take(&mut held.within)))
    }

    fn lines(
        &mut self,
        path: &Path,
        mut each: impl FnMut(&mut Self, Raw<'_>),
    ) -> Result<(), LedgerError> {
        let wrong = failed("read", path);
        let file = self.file.try_clone().map_err(&wrong)?;
        let mut lines = Lines::of(file, self.at, u64::MAX).map_err(&wrong)?;
        while let Some(line) = lines.next().map_err(&wrong)? {
            each(self, line);
        }
        Ok(())
    }
}

impl Read {
    fn take(&mut self, line: &Raw<'_>, within: bool) {
        match event(line) {
            Ok(Some(event)) if !within => self.events.push(event),
            Ok(None) if !within => {}
            Ok(_) | Err(NotAnEvent) => self.damaged += 1,
        }
    }
}
