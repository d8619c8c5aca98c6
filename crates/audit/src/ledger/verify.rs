//! Checks the chain, and names each fault with its place.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};

use super::error::{LedgerError, failed};
use super::folder::{self, CURRENT};
use super::head::{self, Found, Remembered};
use super::lines::{Lines, MAX_LINE, Raw};
use super::record::{self, Head, Line, Record, RecordHash, Torn};

/// Most faults, and most closed lines, that are listed; more are only counted.
const MOST: usize = 1000;

/// What a check of the ledger found.
#[derive(Debug, Default)]
pub struct Verification {
    /// How many files there are.
    pub files: usize,
    /// How many records are as they were written.
    pub records: u64,
    /// Number of the first record.
    pub first: Option<u64>,
    /// The last record.
    pub last: Option<Head>,
    /// How many lines are from before there was a chain; nothing can be said of them.
    pub before_the_chain: u64,
    /// How many of the heads given were found as they should be.
    pub heads_confirmed: usize,
    /// Torn lines that the next writer closed; no faults. The first 1000.
    pub closed: Vec<Closed>,
    /// What is wrong, the oldest first. The first 1000.
    pub faults: Vec<Fault>,
    /// How many faults more there are.
    pub more_faults: u64,
}

impl Verification {
    /// Nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.faults.is_empty()
    }
}

/// A place in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u64,
    /// Where that line begins, in bytes.
    pub offset: u64,
    /// The number that the record there should have, if it is known.
    pub seq: Option<u64>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} (byte {}", self.file.display(), self.line, self.offset)?;
        match self.seq {
            Some(seq) => write!(f, ", record {seq})"),
            None => f.write_str(")"),
        }
    }
}

/// A torn line that the next writer closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// Where.
    pub at: Place,
    /// How many bytes.
    pub bytes: u64,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The line at which it shows.
    pub at: Place,
    /// What it is.
    pub kind: FaultKind,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.kind)
    }
}

/// Who knows of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// The file `head` beside the ledger.
    HeadFile,
    /// A head that was given to the check, such as one from the journal.
    Given,
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HeadFile => "the file head",
            Self::Given => "a head from elsewhere (the journal)",
        })
    }
}

/// What can be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultKind {
    /// A line's bytes do not give the hash at its end: it was changed.
    Changed,
    /// A line is no record, and no marker closes it.
    NotARecord,
    /// The last line is not ended: its writer was killed, or the file was cut within it. The next
    /// writer closes it.
    Torn,
    /// Records are missing before this one.
    Missing {
        /// Number of the first that is missing.
        from: u64,
        /// Number of the last that is missing.
        to: u64,
    },
    /// A record has a number that was passed: it was put in, or moved.
    OutOfOrder {
        /// Its number.
        found: u64,
    },
    /// A record was written behind another one than that which stands before it now.
    NotTheSuccessor,
    /// A marker closes a torn line that is not there any more.
    NothingTorn,
    /// The ledger ends before a record that was written.
    Cut {
        /// Number of its last record; 0 if it has none.
        ends: u64,
        /// Number of the record that is known of.
        known: u64,
        /// By whom.
        by: Known,
    },
    /// A record is another one than that which was written with this number.
    Replaced {
        /// Who knows that.
        by: Known,
    },
    /// The file `head` is not as it was written.
    HeadDamaged,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed => f.write_str("the line was changed: its bytes do not give its hash"),
            Self::NotARecord => f.write_str("the line is no record"),
            Self::Torn => f.write_str("the last line is torn: it has no end"),
            Self::Missing { from, to } if from == to => {
                write!(f, "record {from} is missing before it")
            }
            Self::Missing { from, to } => {
                write!(f, "records {from} to {to} are missing before it")
            }
            Self::OutOfOrder { found } => {
                write!(f, "record {found} does not belong here: it was put in or moved")
            }
            Self::NotTheSuccessor => {
                f.write_str("it was written behind another record than the one before it")
            }
            Self::NothingTorn => f.write_str("the torn line that it closes is gone"),
            Self::Cut { ends, known, by } => {
                write!(f, "the ledger ends at record {ends}, {by} knows record {known}")
            }
            Self::Replaced { by } => {
                write!(f, "{by} knows another record with this number")
            }
            Self::HeadDamaged => f.write_str("the file is damaged"),
        }
    }
}

/// Lines in one file that are no records, one behind the other.
struct Region {
    at: Place,
    kind: FaultKind,
    lines: u64,
    /// Its bytes, without the newline of its last line, unless they are more than a torn line has.
    bytes: Option<Vec<u8>>,
    /// Its last line has a newline.
    ended: bool,
}

/// A head that is known, by whom, and whether it was met.
struct Wanted {
    hash: RecordHash,
    by: Known,
}

struct Walk {
    found: Verification,
    /// What the next record should follow.
    end: Option<Head>,
    /// What no marker has closed yet.
    regions: VecDeque<Region>,
    wanted: BTreeMap<u64, Vec<Wanted>>,
    remembered: Option<Remembered>,
    /// The file began with a line from before the chain, and no record has come yet.
    unchained: bool,
    /// The last line is a whole record that has no newline.
    unended: Option<Place>,
    /// Where the next line would be.
    place: Place,
}

/// Walks all files.
pub(super) fn verify(folder: &Path, heads: &[Head]) -> Result<Verification, LedgerError> {
    let lock = folder::lock_to_read(folder);
    let head = head::read(folder)?;
    let parts = folder::parts(folder)?;
    drop(lock);
    let mut walk = Walk::new(folder, &head, heads);
    for part in parts {
        walk.found.files += 1;
        walk.unchained = false;
        let (path, length) = (part.path, part.metadata.len());
        let wrong = failed("read", &path);
        let mut lines = Lines::of(part.file, 0, length).map_err(&wrong)?;
        let mut number = 0;
        while let Some(line) = lines.next().map_err(&wrong)? {
            number += 1;
            walk.place = Place { file: path.clone(), line: number, offset: line.offset, seq: None };
            walk.line(&line);
            walk.place.line += 1;
            walk.place.offset = line.next_offset();
        }
        if number == 0 {
            walk.place = Place { file: path, line: 1, offset: 0, seq: None };
        }
    }
    if head == Found::Damaged {
        let at = Place { file: head::path(folder), line: 1, offset: 0, seq: None };
        walk.fault(at, FaultKind::HeadDamaged);
    }
    Ok(walk.finish())
}

impl Walk {
    fn new(folder: &Path, head: &Found, heads: &[Head]) -> Self {
        let remembered = match head {
            Found::Remembered(remembered) => Some(*remembered),
            Found::Nothing | Found::Damaged => None,
        };
        let mut wanted: BTreeMap<u64, Vec<Wanted>> = BTreeMap::new();
        let known = heads.iter().map(|head| (*head, Known::Given));
        let known = known.chain(remembered.map(|r| (r.head(), Known::HeadFile)));
        for (Head { seq, hash }, by) in known {
            wanted.entry(seq).or_default().push(Wanted { hash, by });
        }
        // Number 0 stands for "nothing yet" in the file.
        wanted.remove(&0);
        Self {
            found: Verification::default(),
            end: None,
            regions: VecDeque::new(),
            wanted,
            remembered,
            unchained: false,
            unended: None,
            place: Place { file: folder.join(CURRENT), line: 1, offset: 0, seq: None },
        }
    }

    fn fault(&mut self, at: Place, kind: FaultKind) {
        if self.found.faults.len() < MOST {
            self.found.faults.push(Fault { at, kind });
        } else {
            self.found.more_faults += 1;
        }
    }

    fn line(&mut self, line: &Raw<'_>) {
        self.unended = None;
        let looked = if line.is_too_long() { Line::Foreign } else { record::line(line.bytes) };
        let kind = match looked {
            Line::Record(record) => {
                self.record(&record);
                if !line.ended {
                    self.unended = Some(Place { seq: Some(record.head.seq), ..self.place.clone() });
                }
                return;
            }
            Line::Changed => FaultKind::Changed,
            Line::Foreign => FaultKind::NotARecord,
        };
        if self.end.is_none() && self.regions.is_empty() {
            self.unchained |= self.place.line == 1
                && !line.is_too_long()
                && record::unchained(line.bytes).is_some();
            if self.unchained {
                self.found.before_the_chain += 1;
                return;
            }
        }
        self.no_record(line, kind);
    }

    /// A line that is no record begins or continues a region.
    fn no_record(&mut self, line: &Raw<'_>, kind: FaultKind) {
        let at = Place { seq: self.end.map(|end| end.seq + 1), ..self.place.clone() };
        if self.place.line == 1 || self.regions.back().is_none_or(|r| r.at.file != at.file) {
            let bytes = Some(Vec::new());
            self.regions.push_back(Region { at, kind, lines: 0, bytes, ended: false });
        }
        let Some(region) = self.regions.back_mut() else { return };
        region.lines += 1;
        region.ended = line.ended;
        let fits = |bytes: &Vec<u8>| (bytes.len() as u64).saturating_add(line.length) < MAX_LINE;
        region.bytes = region.bytes.take().filter(|b| !line.is_too_long() && fits(b));
        if let Some(bytes) = &mut region.bytes {
            if region.lines > 1 {
                bytes.push(b'\n');
            }
            bytes.extend_from_slice(line.bytes);
        }
    }

    fn record(&mut self, record: &Record) {
        let place = Place { seq: Some(record.head.seq), ..self.place.clone() };
        self.found.records += 1;
        // A marker closes one region, and others may close the next ones; anything else means that
        // nobody closes them.
        let closed = record.torn.is_some_and(|torn| self.close(torn, &place));
        let damaged = if closed { 0 } else { self.regions_are_faults() };
        let Some(end) = self.end else {
            self.first(record, place, damaged);
            return;
        };
        let due = end.seq + 1;
        if record.head.seq < due {
            self.fault(place, FaultKind::OutOfOrder { found: record.head.seq });
            return;
        }
        // Lines that were records once, and are reported already, are not missing too.
        if record.head.seq - due > damaged || (damaged == 0 && record.head.seq > due) {
            let to = record.head.seq - 1;
            self.fault(place.clone(), FaultKind::Missing { from: due, to });
        } else if record.head.seq == due && record.prev != end.hash {
            self.fault(place.clone(), FaultKind::NotTheSuccessor);
        }
        self.follow(record, &place);
    }

    /// The first record of all. It need not be number 1: the oldest files are deleted.
    fn first(&mut self, record: &Record, place: Place, damaged: u64) {
        let seq = record.head.seq;
        self.found.first = Some(seq);
        let due = self.remembered.and_then(|r| r.first).unwrap_or(seq);
        if seq > due.saturating_add(damaged) {
            self.fault(place.clone(), FaultKind::Missing { from: due, to: seq - 1 });
        } else if seq == 1 && record.prev != RecordHash::ZERO {
            self.fault(place.clone(), FaultKind::NotTheSuccessor);
        }
        self.follow(record, &place);
    }

    fn follow(&mut self, record: &Record, place: &Place) {
        self.end = Some(record.head);
        for Wanted { hash, by } in self.wanted.remove(&record.head.seq).unwrap_or_default() {
            if hash != record.head.hash {
                self.fault(place.clone(), FaultKind::Replaced { by });
            } else if by == Known::Given {
                self.found.heads_confirmed += 1;
            }
        }
    }

    /// Whether a marker closes the first region.
    fn close(&mut self, torn: Torn, marker: &Place) -> bool {
        let closes =
            |region: &Region| region.bytes.as_deref().is_some_and(|bytes| Torn::of(bytes) == torn);
        // At the very beginning, what it closes was in a file that is deleted.
        if self.regions.is_empty() && self.end.is_some() {
            self.fault(marker.clone(), FaultKind::NothingTorn);
        }
        if !self.regions.front().is_some_and(closes) {
            return false;
        }
        let Some(region) = self.regions.pop_front() else { return false };
        if self.found.closed.len() < MOST {
            self.found.closed.push(Closed { at: region.at, bytes: torn.bytes });
        }
        true
    }

    /// No marker closes what is open. Says how many lines that are.
    fn regions_are_faults(&mut self) -> u64 {
        let mut lines = 0;
        for region in std::mem::take(&mut self.regions) {
            lines += region.lines;
            self.fault(region.at, region.kind);
        }
        lines
    }

    fn finish(mut self) -> Verification {
        if let Some(last) = self.regions.back_mut()
            && !last.ended
            && last.lines == 1
        {
            last.kind = FaultKind::Torn;
        }
        let damaged = self.regions_are_faults();
        if let Some(place) = self.unended.take() {
            self.fault(place, FaultKind::Torn);
        }
        let ends = self.end.map_or(0, |end| end.seq);
        let beyond = self.wanted.iter().next_back();
        if let Some((&known, wanted)) = beyond
            && known > ends.saturating_add(damaged)
        {
            let by = wanted.first().map_or(Known::Given, |wanted| wanted.by);
            let at = Place { seq: Some(ends + 1), ..self.place.clone() };
            self.fault(at, FaultKind::Cut { ends, known, by });
        }
        self.found.last = self.end;
        self.found
    }
}
