//! Following a ledger: each record once, across files that are moved aside, and from a known one on.
//!
//! What is known may be further than the ledger: a loss of power takes the last seconds of it, and
//! leaves what a reader has put on the disk by then. The chain may then go on from an earlier record,
//! under numbers that were in use. So a place is never an offset or a number alone, and a [`Trail`]
//! knows earlier records to go on from.

use std::fs::File;
use std::io::{BufReader, Take};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use portcullis_types::Event;

use super::error::{LedgerError, failed};
use super::folder::{self, Part};
use super::head::{self, Found};
use super::lines::{Lines, Raw};
use super::read::Read;
use super::record::{self, Head, Line, Record};
use super::tail;

/// A place in the ledger from which to go on reading; the default one is its beginning.
#[derive(Debug, Default)]
pub struct Followed {
    held: Option<Held>,
    trail: Trail,
    /// Number of the last record that was read before this began. Those up to it may be read again,
    /// and none of them was missed.
    read_before: u64,
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
    /// That record is not there, as after a loss of power, but an earlier one that was read: behind
    /// it. What was read behind it and is still there is given again.
    Earlier,
    /// No record that is known to have been read is in this ledger, so it is another one: at the
    /// beginning of all that is kept.
    Another,
}

/// Records that were read: the last one, and ever fewer of those before it, 28 at most.
///
/// If the last `n` of them are lost, 8,192 at most, one of the last `4 n` is here that is not: to go on
/// behind it gives fewer than `3 n` records again, and leaves out none. A ledger that has no more than
/// these is given from its beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trail {
    /// The last one first.
    heads: Vec<Head>,
}

/// Numbers that can be halved more often count as if they could be halved so often.
const MOST_HALVED: usize = 13;

impl Trail {
    /// The last record that was read, and what is known of those before it.
    pub fn new(last: Head, before: impl IntoIterator<Item = Head>) -> Self {
        let mut heads: Vec<Head> =
            before.into_iter().filter(|head| head.seq < last.seq).chain([last]).collect();
        heads.sort_unstable_by_key(|head| head.seq);
        let mut trail = Self::default();
        heads.into_iter().for_each(|head| trail.push(head));
        trail
    }

    /// The last one.
    pub fn last(&self) -> Option<Head> {
        self.heads.first().copied()
    }

    /// Those before it, the later ones first.
    pub fn before(&self) -> impl Iterator<Item = Head> {
        self.heads.iter().skip(1).copied()
    }

    /// One more was read. Numbers that can be halved equally often stand equally far from each other,
    /// so the last two of each kind are kept.
    pub(super) fn push(&mut self, head: Head) {
        // Those with its number or a later one are not in the ledger any more.
        self.heads.retain(|known| known.seq < head.seq);
        self.heads.insert(0, head);
        let mut kept = [0; MOST_HALVED + 1];
        self.heads.retain(|known| {
            let alike = &mut kept[(known.seq.trailing_zeros() as usize).min(MOST_HALVED)];
            *alike += 1;
            *alike <= 2
        });
    }

    /// What was known when this one was the last.
    fn up_to(&self, last: Head) -> Self {
        Self::new(last, self.heads.iter().copied())
    }
}

impl From<Head> for Trail {
    fn from(last: Head) -> Self {
        Self::new(last, [])
    }
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
        if let Some(last) = tail.last {
            followed.trail.push(last.head);
        }
        followed.held = Some(Held::new(part, length));
        Ok(followed)
    }

    /// From behind the last record of a trail, as far as it can be found.
    pub(super) fn from(folder: &Path, trail: &Trail) -> Result<(Self, Resumed), LedgerError> {
        let (Some(last), Some(oldest)) = (trail.last(), trail.heads.last()) else {
            return Ok((Self::default(), Resumed::Another));
        };
        let lock = folder::lock_to_read(folder);
        let mut parts = folder::parts(folder)?;
        let remembered = head::read(folder);
        drop(lock);
        let (mut later, mut end, mut earlier) = (None, None, None);
        let mut has_another = false;
        // The newest file whose first record is not later than the last one of the trail has that,
        // if it is kept; those before may have others.
        for (index, part) in parts.iter().enumerate().rev() {
            let Some(looked) = look(part.again()?, trail, last)? else { continue };
            match looked.known {
                Some((known, at)) if known == last => {
                    let part = parts.swap_remove(index);
                    return Ok((Self::at(part, at, trail.clone(), last), Resumed::Behind));
                }
                Some((known, at)) => earlier = Some((index, at, known)),
                None => {}
            }
            if end.is_none() {
                later = looked.later.map(|at| (index, at)).or(later);
                has_another |= looked.has_another;
                if looked.first <= last.seq {
                    end = Some((index, looked.end));
                }
            }
            if earlier.is_some() || looked.first <= oldest.seq {
                break;
            }
        }
        // Whoever writes next goes on behind what is remembered, if that is further than the records.
        // Then none that is there was written after it, but for those with a later number.
        let is_the_end = matches!(remembered, Ok(Found::Remembered(end)) if end.head() == last);
        if !is_the_end && let Some((index, at, known)) = earlier {
            let followed = Self::at(parts.swap_remove(index), at, trail.up_to(known), last);
            return Ok((followed, Resumed::Earlier));
        }
        let (place, resumed) = match later {
            _ if has_another => return Ok((Self::default(), Resumed::Another)),
            Some(later) => (Some(later), Resumed::Later),
            None if is_the_end => (end, Resumed::Behind),
            None => return Ok((Self::default(), Resumed::Another)),
        };
        let held = place.map(|(index, at)| Held::new(parts.swap_remove(index), at));
        let followed =
            Self { held, trail: trail.clone(), read_before: last.seq, ..Self::default() };
        Ok((followed, resumed))
    }

    fn at(part: Part, at: u64, trail: Trail, read_before: Head) -> Self {
        let held = Some(Held::new(part, at));
        Self { held, trail, read_before: read_before.seq, ..Self::default() }
    }

    /// The last record that was read, or behind which it began.
    pub fn last(&self) -> Option<Head> {
        self.trail.last()
    }

    /// That record and some before it, from which another one can go on with [`Ledger::follow_from`].
    ///
    /// [`Ledger::follow_from`]: super::Ledger::follow_from
    pub fn trail(&self) -> &Trail {
        &self.trail
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
        let expected =
            self.trail.last().map_or(head.seq, |last| last.seq.max(self.read_before) + 1);
        // An earlier number is that of a ledger that began anew.
        self.missed += head.seq.saturating_sub(expected);
        self.trail.push(head);
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

/// What a file has of a trail.
struct Looked {
    /// Number of its first record.
    first: u64,
    /// The last record of the trail that it has, and where its line ends.
    known: Option<(Head, u64)>,
    /// Where the first one begins that is later than the trail's last; for a file of such records,
    /// its beginning.
    later: Option<u64>,
    /// It has another record with the number of the trail's last.
    has_another: bool,
    /// Where the line of its last record ends that is not later.
    end: u64,
}

/// Looks for the records of a trail, up to the first one that is later; a file without records is
/// `None`.
fn look(part: Part, trail: &Trail, last: Head) -> Result<Option<Looked>, LedgerError> {
    let wrong = failed("read", &part.path);
    let length = part.length();
    let mut lines = Lines::of(part.file, 0, length).map_err(&wrong)?;
    let mut looked: Option<Looked> = None;
    while let Some(line) = lines.next().map_err(&wrong)? {
        if line.is_too_long() {
            continue;
        }
        let Line::Record(Record { head, .. }) = record::line(line.bytes) else { continue };
        let is_first = looked.is_none();
        let looked = looked.get_or_insert(Looked {
            first: head.seq,
            known: None,
            later: None,
            has_another: false,
            end: 0,
        });
        if head.seq > last.seq {
            looked.later = Some(if is_first { 0 } else { line.offset });
            break;
        }
        looked.end = line.next_offset();
        if trail.heads.contains(&head) {
            looked.known = Some((head, looked.end));
        }
        if head.seq == last.seq {
            looked.has_another |= head != last;
            break;
        }
    }
    Ok(looked)
}

impl Part {
    /// The same file once more, whatever has its name by now. Both have one place at which they
    /// read, so each reader seeks before it begins.
    fn again(&self) -> Result<Self, LedgerError> {
        let file = self.file.try_clone().map_err(failed("read", &self.path))?;
        Ok(Self { path: self.path.clone(), file, metadata: self.metadata.clone() })
    }
}
