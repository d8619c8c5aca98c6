//! Following a ledger: each record once, across files that are moved aside, and from a known one on.

use std::fs::File;
use std::io::{BufReader, Take};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use portcullis_types::Event;

use super::error::{LedgerError, failed};
use super::folder::{self, Part};
use super::lines::{Lines, Raw};
use super::read::Read;
use super::record::{self, Head, Line};
use super::tail;

/// A place in the ledger from which to go on reading; the default one is its beginning.
#[derive(Debug, Default)]
pub struct Followed {
    held: Option<Held>,
    last: Option<Head>,
    missed: u64,
    damaged: u64,
    closed: u64,
    /// Damaged lines that a marker right behind them may yet close.
    open: u64,
}

/// A record that was read back.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its place in the chain; none if it was written before there was one.
    pub head: Option<Head>,
    /// The event.
    pub event: Event,
}

/// Where following goes on that was begun at some time before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumed {
    /// Right behind the record that was read last.
    Behind,
    /// That record is not kept any more: at the first one that was written later. Those between
    /// count as missed.
    Later,
    /// That record is not of this ledger, or was cut off: at the beginning of all that is kept.
    Another,
}

struct Held {
    path: PathBuf,
    file: File,
    inode: (u64, u64),
    at: u64,
    /// A line that is too long has been read in part: the rest of it is no line.
    within: bool,
    /// Nobody appends to it any more.
    is_closed: bool,
    lines: Option<Lines<BufReader<Take<File>>>>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("path", &self.path).field("at", &self.at).finish()
    }
}

/// What is at a place.
enum Step {
    /// A line, which is an event or is damaged.
    Line(Option<Taken>),
    /// Nothing yet.
    End,
}

struct Taken {
    entry: Entry,
    /// It closes a torn line, which was no damage then.
    closes: bool,
}

impl Followed {
    /// From the end of what is there now.
    pub(super) fn from_end(folder: &Path) -> Result<Self, LedgerError> {
        let mut followed = Self::default();
        let Some(part) = folder::snapshot(folder)?.pop() else { return Ok(followed) };
        let length = part.length();
        let tail = tail::tail(&part.file, length).map_err(failed("read", &part.path))?;
        followed.last = tail.last.map(|record| record.head);
        followed.held = Some(Held::new(part, length));
        Ok(followed)
    }

    /// From behind a record that was read before, as far as it can be found.
    pub(super) fn from(folder: &Path, head: Head) -> Result<(Self, Resumed), LedgerError> {
        let mut parts = folder::snapshot(folder)?;
        // The newest file whose first record is not later than that one has it, if it is kept.
        let mut later = None;
        while let Some(part) = parts.pop() {
            let again = part.again()?;
            let Some((_, first)) = first_record(&part)? else { continue };
            if first.seq > head.seq {
                later = Some(again);
                continue;
            }
            let place = place_behind(part, head)?;
            return Ok(match (place, later) {
                (Place::Behind(at), _) => (Self::at(again, at, head), Resumed::Behind),
                (Place::Before(at), _) => (Self::at(again, at, head), Resumed::Later),
                (Place::Nowhere, Some(later)) => (Self::at(later, 0, head), Resumed::Later),
                (Place::Nowhere | Place::Another, _) => (Self::default(), Resumed::Another),
            });
        }
        Ok(match later {
            Some(later) => (Self::at(later, 0, head), Resumed::Later),
            None => (Self::default(), Resumed::Another),
        })
    }

    fn at(part: Part, at: u64, last: Head) -> Self {
        Self { held: Some(Held::new(part, at)), last: Some(last), ..Self::default() }
    }

    /// The last record that was read, or behind which it began.
    pub fn last(&self) -> Option<Head> {
        self.last
    }

    /// How many records there were, by their numbers, that could not be read: their files were
    /// deleted before, or they are damaged or lost.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// How many lines there were that are no records, without those that a killed writer left torn
    /// and the next one closed.
    pub fn damaged(&self) -> u64 {
        self.damaged.saturating_sub(self.closed)
    }

    /// What came since the last call.
    pub(super) fn since(&mut self, folder: &Path) -> Result<Read, LedgerError> {
        let before = self.damaged;
        let mut events = Vec::new();
        while let Some(entry) = self.next(folder)? {
            events.push(entry.event);
        }
        let damaged = usize::try_from(self.damaged - before).unwrap_or(usize::MAX);
        Ok(Read { events, damaged })
    }

    /// The next record, if there is one by now.
    pub(super) fn next(&mut self, folder: &Path) -> Result<Option<Entry>, LedgerError> {
        loop {
            let Some(held) = &mut self.held else {
                // Nothing was there.
                let Some(first) = folder::snapshot(folder)?.into_iter().next() else {
                    return Ok(None);
                };
                self.held = Some(Held::new(first, 0));
                continue;
            };
            match held.step()? {
                Step::Line(None) => {
                    self.damaged += 1;
                    self.open += 1;
                }
                Step::Line(Some(Taken { entry, closes })) => {
                    // One that was there before this began to read was not counted.
                    let is_closed = closes && self.open > 0;
                    self.closed += u64::from(is_closed);
                    self.open = if is_closed { self.open - 1 } else { 0 };
                    self.count(entry.head);
                    return Ok(Some(entry));
                }
                Step::End if held.is_closed => {
                    let Some(next) = after(folder, held.inode)? else { return Ok(None) };
                    self.held = Some(Held::new(next, 0));
                }
                // To be read to its end once more, since it may have grown before it was moved.
                Step::End if is_other(folder, held.inode)? => held.is_closed = true,
                Step::End => return Ok(None),
            }
        }
    }

    fn count(&mut self, head: Option<Head>) {
        let Some(head) = head else { return };
        let expected = self.last.map_or(head.seq, |last| last.seq + 1);
        // An earlier number is that of a ledger that began anew.
        self.missed += head.seq.saturating_sub(expected);
        self.last = Some(head);
    }
}

/// Whether there is a file to append to, and it is another one.
fn is_other(folder: &Path, inode: (u64, u64)) -> Result<bool, LedgerError> {
    let path = folder.join(folder::CURRENT);
    match std::fs::symlink_metadata(&path) {
        Ok(metadata) => Ok((metadata.dev(), metadata.ino()) != inode),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("read", &path)(error)),
    }
}

/// The file that follows one. If that is deleted already, all that are left follow it.
fn after(folder: &Path, inode: (u64, u64)) -> Result<Option<Part>, LedgerError> {
    let parts = folder::snapshot(folder)?;
    let next = parts.iter().position(|part| part.inode() == inode).map_or(0, |at| at + 1);
    Ok(parts.into_iter().nth(next))
}

impl Held {
    fn new(part: Part, at: u64) -> Self {
        let inode = part.inode();
        let Part { path, file, .. } = part;
        Self { path, file, inode, at, within: false, is_closed: false, lines: None }
    }

    /// The next line that is whole by now, or the last one of a file that nobody appends to.
    fn step(&mut self) -> Result<Step, LedgerError> {
        let wrong = failed("read", &self.path);
        loop {
            if self.lines.is_none() {
                let length = self.file.metadata().map_err(&wrong)?.len();
                // One that was cut goes on where it ends now.
                self.at = self.at.min(length);
                if self.at == length {
                    return Ok(Step::End);
                }
            }
            let mut lines = match self.lines.take() {
                Some(lines) => lines,
                None => {
                    let file = self.file.try_clone().map_err(&wrong)?;
                    Lines::of(file, self.at, u64::MAX).map_err(&wrong)?
                }
            };
            let Some(line) = lines.next().map_err(&wrong)? else { return Ok(Step::End) };
            if !line.ended && !self.is_closed {
                // To be read again from its beginning, unless there is no end to it.
                if line.is_too_long() {
                    (self.at, self.within) = (line.next_offset(), true);
                }
                return Ok(Step::End);
            }
            self.at = line.next_offset();
            let is_rest = std::mem::take(&mut self.within);
            let taken = if is_rest { Some(None) } else { taken(&line) };
            self.lines = Some(lines);
            if let Some(taken) = taken {
                return Ok(Step::Line(taken));
            }
        }
    }
}

/// What a line holds; nothing at all if it is empty, which is no damage.
fn taken(line: &Raw<'_>) -> Option<Option<Taken>> {
    if line.length == 0 {
        return None;
    }
    if line.is_too_long() {
        return Some(None);
    }
    let (head, closes) = match record::line(line.bytes) {
        Line::Record(record) => (Some(record.head), record.torn.is_some()),
        Line::Changed => return Some(None),
        Line::Foreign => (None, false),
    };
    let event = record::event(line.bytes);
    Some(event.map(|event| Taken { entry: Entry { head, event }, closes }))
}

/// Where a record is in a file.
enum Place {
    /// Its line ends here.
    Behind(u64),
    /// It is not there, and a later one begins here.
    Before(u64),
    /// All that are there are earlier.
    Nowhere,
    /// Another one has its number.
    Another,
}

fn place_behind(part: Part, head: Head) -> Result<Place, LedgerError> {
    let wrong = failed("read", &part.path);
    let length = part.length();
    let mut lines = Lines::of(part.file, 0, length).map_err(&wrong)?;
    while let Some(line) = lines.next().map_err(&wrong)? {
        if line.is_too_long() {
            continue;
        }
        let Line::Record(record) = record::line(line.bytes) else { continue };
        if record.head == head {
            return Ok(Place::Behind(line.next_offset()));
        }
        if record.head.seq == head.seq {
            return Ok(Place::Another);
        }
        if record.head.seq > head.seq {
            return Ok(Place::Before(line.offset));
        }
    }
    Ok(Place::Nowhere)
}

/// The first record of a file, and where it begins.
fn first_record(part: &Part) -> Result<Option<(u64, Head)>, LedgerError> {
    let wrong = failed("read", &part.path);
    let file = part.file.try_clone().map_err(&wrong)?;
    let mut lines = Lines::of(file, 0, part.length()).map_err(&wrong)?;
    while let Some(line) = lines.next().map_err(&wrong)? {
        if let Line::Record(record) = record::line(line.bytes) {
            return Ok(Some((line.offset, record.head)));
        }
    }
    Ok(None)
}

impl Part {
    /// The same file once more, whatever has its name by now. Both have one place at which they
    /// read, so each reader seeks before it begins.
    fn again(&self) -> Result<Self, LedgerError> {
        let file = self.file.try_clone().map_err(failed("read", &self.path))?;
        Ok(Self { path: self.path.clone(), file, metadata: self.metadata.clone() })
    }
}
