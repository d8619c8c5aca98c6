//! The ledger: JSON lines in a chain of hashes, appended under one lock by many short-lived
//! processes. `docs/ledger.md` has the format and what it is good for.
//!
//! A killed writer may leave a torn last line; the next writer closes it with a marker.

mod error;
mod folder;
mod follow;
mod head;
pub(crate) mod lines;
mod read;
mod record;
mod tail;
mod verify;

pub use error::LedgerError;
pub use follow::{Entry, Followed, Resumed, Trail};
pub use read::{Read, Records};
pub use record::{Head, NotAHash, RecordHash};
pub use verify::{Closed, Fault, FaultKind, Known, Place, Verification};

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use portcullis_types::{Action, Event, EventKind, Identity, Request};

use error::failed;
use folder::{CURRENT, Older};
use head::{Found, Remembered};
use lines::{Lines, MAX_LINE};
use record::{Chain, Line, Marks, Record, Torn};
use tail::{Rest, Tail};

/// How long the lock is waited for.
const LOCK_BOUND: Duration = Duration::from_millis(50);
/// How often it is looked at meanwhile.
const LOCK_LOOK: Duration = Duration::from_micros(250);
/// How many lines at the beginning of a file may be damaged before its first record counts as lost.
const FIRST_LINES: usize = 16;
/// A file is moved aside at this part of what all may hold together.
const FILES: u64 = 4;

/// The ledger in a folder.
#[derive(Debug, Clone)]
pub struct Ledger {
    folder: PathBuf,
    max_bytes: u64,
}

/// What became of an event.
#[derive(Debug)]
pub(crate) struct Appended {
    /// The record of the event.
    pub(crate) head: Head,
    /// What the ledger had to say before it, each with its record.
    pub(crate) notices: Vec<(Event, Head)>,
}

/// A file with records, or to append to.
struct Opened {
    file: File,
    length: u64,
    tail: Tail,
}

/// Where the chain goes on.
struct Base {
    /// The record before; number 0 before the first.
    head: Head,
    /// What the last record says of the clock.
    marks: Option<Marks>,
    /// Number of the first record that is kept, if it is known.
    first: Option<u64>,
    /// What stands behind the last record, in order.
    rests: Vec<Rest>,
    /// What was appended once and is not there any more.
    lost: Option<String>,
}

/// Something that the ledger says of itself.
struct Notice {
    message: String,
    torn: Option<Torn>,
}

/// The lines of one write, and their records.
struct Batch {
    bytes: Vec<u8>,
    head: Head,
    notices: Vec<(Event, Head)>,
}

impl Ledger {
    /// The ledger in `folder`, of `max_bytes` in all its files; nothing is opened yet.
    pub fn new(folder: PathBuf, max_bytes: u64) -> Self {
        Self { folder, max_bytes }
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file to which records are appended.
    pub fn path(&self) -> PathBuf {
        self.folder.join(CURRENT)
    }

    /// Appends one event, and before it what the ledger has to say of itself: that a torn line was
    /// closed, that records are missing at its end, that the clock was set back.
    ///
    /// Waits for the lock for 50 ms at most, and not for the disk: what was appended survives its
    /// writer, but the last seconds may be lost with the power.
    ///
    /// # Errors
    /// [`LedgerError`] names the file. The event is then not in the ledger.
    pub fn append(&self, event: &Event) -> Result<Head, LedgerError> {
        self.append_with_notices(event).map(|appended| appended.head)
    }

    pub(crate) fn append_with_notices(&self, event: &Event) -> Result<Appended, LedgerError> {
        let _lock = folder::lock(&self.folder)?;
        let mut current = Opened::open(&self.path(), OpenOptions::new().append(true).read(true))?;
        if let Some(file) = current.take_if(|file| file.is_unchained()) {
            self.move_aside(&file)?;
        }
        let mut base = self.base(current.as_ref())?;
        let batch = self.batch(&base, event)?;
        let added = batch.bytes.len() as u64 + 1;
        let most = self.max_bytes / FILES;
        if let Some(full) = current.take_if(|c| c.length > 0 && c.length + added > most) {
            self.move_aside(&full)?;
        }
        let current = match current {
            Some(current) => current,
            None => self.begin(&mut base)?,
        };
        current.write(batch.bytes, &self.path())?;
        self.remember(batch.head, base.first);
        Ok(Appended { head: batch.head, notices: batch.notices })
    }

    /// Reads all events that are kept, oldest first.
    ///
    /// # Errors
    /// [`LedgerError`] if a file exists and cannot be read. No file means no events.
    pub fn read(&self) -> Result<Read, LedgerError> {
        let mut records = self.records(None)?;
        let events = records.by_ref().collect::<Result<_, _>>()?;
        Ok(Read { events, damaged: records.damaged() })
    }

    /// Events that are kept, of `since` or later if it is given, oldest first, read one by one.
    /// Files that were written to their end more than a day before are not read.
    ///
    /// # Errors
    /// [`LedgerError`] if a file exists and cannot be opened.
    pub fn records(&self, since: Option<Timestamp>) -> Result<Records, LedgerError> {
        read::records(&self.folder, since)
    }

    /// Starts following at the end of what is there now.
    ///
    /// # Errors
    /// [`LedgerError`] if a file exists and cannot be opened.
    pub fn follow(&self) -> Result<Followed, LedgerError> {
        Followed::from_end(&self.folder)
    }

    /// Goes on following behind the last record that was read before; or, if that is not kept any
    /// more, at the first one that was written after it; or, if it was lost, behind the last one of
    /// the trail that is still there. None that was written later is left out.
    ///
    /// # Errors
    /// [`LedgerError`] if a file exists and cannot be read.
    pub fn follow_from(&self, trail: &Trail) -> Result<(Followed, Resumed), LedgerError> {
        Followed::from(&self.folder, trail)
    }

    /// The next record of what is followed, if there is one by now. Costs two looks at files if
    /// there is none. Each is given once, in order, across files that were moved aside; one is
    /// missed only if it was deleted, or damaged, before it was read, and [`Followed::missed`]
    /// counts it.
    ///
    /// # Errors
    /// [`LedgerError`] if a file cannot be read; the next call tries again.
    pub fn next(&self, followed: &mut Followed) -> Result<Option<Entry>, LedgerError> {
        followed.next(&self.folder)
    }

    /// Number of the first record that is kept, if it is known.
    pub fn first_kept(&self) -> Option<u64> {
        match head::read(&self.folder) {
            Ok(Found::Remembered(remembered)) => remembered.first,
            _ => None,
        }
    }

    /// Events that came since the last call, across files that were moved aside.
    ///
    /// # Errors
    /// [`LedgerError`] if a file cannot be read.
    pub fn since(&self, followed: &mut Followed) -> Result<Read, LedgerError> {
        followed.since(&self.folder)
    }

    /// Checks all that is kept, against the file `head` and against heads that are known from
    /// elsewhere, such as the journal.
    ///
    /// # Errors
    /// [`LedgerError`] if a file cannot be read; what is wrong in it is no error but a fault.
    pub fn verify(&self, heads: &[Head]) -> Result<Verification, LedgerError> {
        verify::verify(&self.folder, heads)
    }

    /// The time by which expiry is judged: the clock, or if the ledger has seen a time more than a
    /// minute later, that time, but never more than a day ahead of the clock.
    ///
    /// Takes no lock and reads the last record only. A ledger that cannot be read gives the clock.
    pub fn judged_now(&self, clock: Timestamp) -> Timestamp {
        self.marks().map_or(clock, |marks| marks.judged(clock))
    }

    fn marks(&self) -> Option<Marks> {
        let path = self.path();
        let of = |path: &Path| {
            let file = Opened::open(path, OpenOptions::new().read(true)).ok().flatten()?;
            Some(file.tail.last?.marks)
        };
        of(&path).or_else(|| of(&folder::older(&self.folder).ok()?.pop()?.path))
    }

    /// Where the chain goes on: behind the last record, or, if that is further or another one,
    /// behind the record that the file `head` knows of. So what is missing stays missing.
    fn base(&self, current: Option<&Opened>) -> Result<Base, LedgerError> {
        let (last, rests) = self.last(current)?;
        let last_head = last.map_or(Head { seq: 0, hash: RecordHash::ZERO }, |record| record.head);
        let mut base = Base {
            head: last_head,
            marks: last.map(|record| record.marks),
            first: (last_head.seq == 0).then_some(1),
            rests,
            lost: None,
        };
        // One that cannot be used is written anew; the records are what counts.
        if let Ok(Found::Remembered(remembered)) = head::read(&self.folder) {
            base.first = remembered.first;
            if base.rests.contains(&Rest::Long) {
                // The last record is somewhere before what was looked at.
                base.head = remembered.head();
            } else if remembered.seq > last_head.seq {
                let (from, to) = (last_head.seq + 1, remembered.seq);
                base.lost = Some(match to - last_head.seq {
                    1 => format!("record {to} is missing at its end"),
                    _ => format!("records {from} to {to} are missing at its end"),
                });
                base.head = remembered.head();
            } else if remembered.seq == last_head.seq && remembered.last != last_head.hash {
                base.lost =
                    Some(format!("record {} is not the one that was written", remembered.seq));
                base.head = remembered.head();
            }
        }
        Ok(base)
    }

    /// The last record of all files, and what stands behind it, file by file.
    fn last(&self, current: Option<&Opened>) -> Result<(Option<Record>, Vec<Rest>), LedgerError> {
        let mut rests = std::collections::VecDeque::new();
        let mut last = None;
        if let Some(Opened { tail, .. }) = current {
            rests.push_front(tail.rest);
            last = tail.last;
        }
        // Listed only if need be: a file of records ends with one.
        let older = if last.is_some() { Vec::new() } else { folder::older(&self.folder)? };
        for Older { path, .. } in older.into_iter().rev() {
            let Some(older) = Opened::open(&path, OpenOptions::new().read(true))? else { continue };
            if older.is_unchained() {
                break;
            }
            rests.push_front(older.tail.rest);
            last = older.tail.last;
            if last.is_some() {
                break;
            }
        }
        Ok((last, rests.into()))
    }

    /// The lines to append, for an event and what is to be said before it.
    fn batch(&self, base: &Base, event: &Event) -> Result<Batch, LedgerError> {
        let mut batch = Batch { bytes: Vec::new(), head: base.head, notices: Vec::new() };
        let mut marks = base.marks;
        for notice in notices(base, event.time) {
            let said = say(notice.message, event);
            batch.add(&said, notice.torn, &mut marks, MAX_LINE)?;
            batch.notices.push((said, batch.head));
        }
        let most = MAX_LINE.min(self.max_bytes / FILES);
        batch.add(event, None, &mut marks, most)?;
        Ok(batch)
    }

    /// Writes the file `head`. Records are what counts: if this fails, a check may miss a cut end
    /// or complain of files that were deleted by right.
    fn remember(&self, head: Head, first: Option<u64>) {
        let remembered = Remembered { seq: head.seq, last: head.hash, first };
        if let Err(error) = head::write(&self.folder, &remembered) {
            log::warn!("the ledger's head: {}", portcullis_types::with_causes(&error));
        }
    }

    /// Moves the file aside to which records were appended.
    fn move_aside(&self, current: &Opened) -> Result<(), LedgerError> {
        let path = self.path();
        let first = first_lines(&current.file, current.length, FIRST_LINES, seq_of);
        let to = folder::path_after(&self.folder, &folder::older(&self.folder)?, first);
        std::fs::rename(&path, to).map_err(failed("move aside", &path))
    }

    /// A new file to append to, and room for it. Also what the next writer does whose predecessor
    /// died between moving a file aside and this.
    fn begin(&self, base: &mut Base) -> Result<Opened, LedgerError> {
        self.make_room(base)?;
        let path = self.path();
        let mut options = OpenOptions::new();
        options.append(true).read(true).create_new(true);
        let Some((file, _)) = folder::open(&path, &mut options)? else {
            return Err(failed("create", &path)(io::ErrorKind::NotFound.into()));
        };
        let tail = Tail { last: None, rest: Rest::Nothing, ended: true };
        Ok(Opened { file, length: 0, tail })
    }

    /// Deletes the oldest files until another one fits in.
    ///
    /// The newest of them is kept even if it leaves less room than that: it is larger than a file
    /// should be only after the limit was lowered, or if it is from before the chain.
    fn make_room(&self, base: &mut Base) -> Result<(), LedgerError> {
        let mut older = folder::older(&self.folder)?;
        let size = |path: &Path| std::fs::symlink_metadata(path).map_or(0, |m| m.len());
        let sizes: Vec<u64> = older.iter().map(|older| size(&older.path)).collect();
        let mut most = self.max_bytes - self.max_bytes / FILES;
        if let Some(newest) = sizes.last().filter(|newest| **newest <= self.max_bytes) {
            most = most.max(*newest);
        }
        let mut total: u64 = sizes.iter().sum();
        let mut gone = 0;
        while total > most {
            total -= sizes[gone];
            gone += 1;
        }
        let kept = older.split_off(gone);
        if gone > 0 && base.head.seq > 0 {
            // First, so that whoever dies between leaves files too many and not too few.
            base.first = Some(first_record(&kept).unwrap_or(base.head.seq + 1));
            self.remember(base.head, base.first);
        }
        for Older { path, .. } in &older {
            std::fs::remove_file(path).map_err(failed("delete", path))?;
        }
        Ok(())
    }
}

impl Opened {
    /// Opens a file, if it is there, and reads its end.
    fn open(path: &Path, options: &mut OpenOptions) -> Result<Option<Self>, LedgerError> {
        let Some((file, metadata)) = folder::open(path, options)? else { return Ok(None) };
        let length = metadata.len();
        let tail = tail::tail(&file, length).map_err(failed("read", path))?;
        Ok(Some(Self { file, length, tail }))
    }

    /// Whether it is from before the chain.
    fn is_unchained(&self) -> bool {
        self.tail.last.is_none()
            && self.length > 0
            && first_lines(&self.file, self.length, 1, |line| record::unchained(line).map(drop))
                .is_some()
    }

    /// Writes all or nothing, unless the cause of an error hinders that too.
    fn write(&self, mut bytes: Vec<u8>, path: &Path) -> Result<(), LedgerError> {
        if !self.tail.ended {
            bytes.insert(0, b'\n');
        }
        let Err(source) = (&self.file).write_all(&bytes) else { return Ok(()) };
        match self.file.set_len(self.length) {
            Ok(()) => Err(failed("write", path)(source)),
            Err(cleanup) => Err(LedgerError::Partial { path: path.to_owned(), source, cleanup }),
        }
    }
}

impl Batch {
    /// Adds a record for an event. The longest that it may be is `most` bytes.
    fn add(
        &mut self,
        event: &Event,
        torn: Option<Torn>,
        marks: &mut Option<Marks>,
        most: u64,
    ) -> Result<(), LedgerError> {
        let seq = record::next(self.head.seq).ok_or(LedgerError::Full)?;
        let now = Marks::after(*marks, event.time);
        let chain = Chain { seq, prev: self.head.hash, latest: now.latest(), torn };
        let (line, hash) = record::encode(&chain, event).map_err(LedgerError::Encode)?;
        if line.len() as u64 >= most {
            return Err(LedgerError::TooLong { length: line.len() as u64, most });
        }
        self.bytes.extend_from_slice(&line);
        self.bytes.push(b'\n');
        (self.head, *marks) = (Head { seq, hash }, Some(now));
        Ok(())
    }
}

/// What is to be said before an event of this time. What closes torn lines comes first: it stands
/// right behind them.
fn notices(base: &Base, time: Timestamp) -> Vec<Notice> {
    let ledger =
        |torn, what: String| Notice { message: format!("portcullis: the ledger: {what}"), torn };
    let mut notices: Vec<Notice> = base
        .rests
        .iter()
        .filter_map(|rest| match rest {
            Rest::Nothing => None,
            Rest::Torn(torn) => {
                Some(ledger(Some(*torn), format!("a torn line of {} bytes was closed", torn.bytes)))
            }
            Rest::Long => Some(ledger(
                None,
                format!("more than {MAX_LINE} bytes behind record {} are no record", base.head.seq),
            )),
        })
        .collect();
    notices.extend(base.lost.clone().map(|lost| ledger(None, lost)));
    if let Some(marks) = base.marks
        && marks.ahead_of(time)
        && !marks.is_behind()
    {
        let message = format!("portcullis: the clock was set back from {} to {time}", marks.high());
        notices.push(Notice { message, torn: None });
    }
    notices
}

/// An event of the ledger itself, at the time of the one that made it look.
fn say(message: String, on: &Event) -> Event {
    Event::new(
        crate::new_id(),
        on.time,
        EventKind::Notice,
        Action::Alarm,
        message,
        Request::new(on.request.engine, &on.request.node, ""),
        Identity::unknown("this is about the ledger"),
    )
}

fn seq_of(line: &[u8]) -> Option<u64> {
    match record::line(line) {
        Line::Record(record) => Some(record.head.seq),
        Line::Changed | Line::Foreign => None,
    }
}

/// Number of the first record in these files.
fn first_record(files: &[Older]) -> Option<u64> {
    files.iter().find_map(|older| {
        let (file, metadata) =
            folder::open(&older.path, OpenOptions::new().read(true)).ok().flatten()?;
        first_lines(&file, metadata.len(), FIRST_LINES, seq_of)
    })
}

/// What the first of the first `count` lines that answers says.
fn first_lines<T>(
    file: &File,
    length: u64,
    count: usize,
    ask: impl Fn(&[u8]) -> Option<T>,
) -> Option<T> {
    let mut lines = Lines::of(file.try_clone().ok()?, 0, length).ok()?;
    for _ in 0..count {
        let line = lines.next().ok()??;
        if !line.is_too_long()
            && let Some(answer) = ask(line.bytes)
        {
            return Some(answer);
        }
    }
    None
}

#[cfg(test)]
mod tests;
