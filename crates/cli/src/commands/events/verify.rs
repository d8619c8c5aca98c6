//! `portcullis events verify`: the ledger's chain, and what the journal knows of it.

mod journal;

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use portcullis_audit::{FaultKind, Head, Known, Place, Verification};
use schemars::JsonSchema;
use serde::Serialize;

use self::journal::Journal;
use crate::args::Verify;
use crate::context::Context;
use crate::exit::Exit;
use crate::render::{count, plain, wrapped};

/// Most faults after the first, and most closed lines, that the text lists.
const MOST: usize = 10;

/// What the check found.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Verified {
    /// The ledger's folder.
    ledger: PathBuf,
    /// Nothing is wrong.
    whole: bool,
    /// How many files there are.
    files: usize,
    /// How many records are as they were written.
    records: u64,
    /// Number of the first record that is kept.
    first: Option<u64>,
    /// The last record; whoever keeps it can give it to a later check.
    last: Option<Last>,
    /// Lines from before there was a chain, of which nothing can be said.
    before_the_chain: u64,
    /// What the journal was good for.
    journal: Journal,
    /// How many records were given on the command line.
    heads_given: usize,
    /// How many of those, and of the journal's, are as they were known.
    heads_confirmed: usize,
    /// Torn lines that the next writer closed; no faults.
    closed: Vec<ClosedLine>,
    /// What is wrong, the oldest first.
    faults: Vec<FaultLine>,
    /// How many faults more there are.
    more_faults: u64,
}

/// A record by its number and its hash.
#[derive(Serialize, JsonSchema)]
struct Last {
    seq: u64,
    hash: String,
}

/// A place in the ledger.
#[derive(Serialize, JsonSchema)]
struct At {
    file: PathBuf,
    /// From 1.
    line: u64,
    /// Where that line begins.
    byte: u64,
    /// Number of the record there, if it is known.
    record: Option<u64>,
}

/// A torn line that was closed.
#[derive(Serialize, JsonSchema)]
struct ClosedLine {
    #[serde(flatten)]
    at: At,
    /// How many bytes were torn.
    bytes: u64,
}

/// A fault.
#[derive(Serialize, JsonSchema)]
struct FaultLine {
    #[serde(flatten)]
    at: At,
    /// What is wrong, as a word that does not change.
    kind: &'static str,
    /// What is wrong.
    what: String,
    /// What that means.
    meaning: &'static str,
    /// What to do.
    remedy: &'static str,
}

pub(super) fn run(context: &Context, args: &Verify) -> Result<Exit> {
    let ledger = context.events();
    // The journal first: what is written meanwhile is then in the ledger at least.
    let (journal, mut heads) = journal::read(args, ledger.folder())?;
    heads.extend(&args.head);
    let found = ledger.verify(&heads)?;
    let verified = Verified::of(ledger.folder().to_owned(), found, journal, args.head.len());
    context.print.print(&verified, |out| verified.write(out))?;
    Ok(if verified.whole { Exit::Done } else { Exit::Failed })
}

impl From<Place> for At {
    fn from(place: Place) -> Self {
        let Place { file, line, offset, seq } = place;
        Self { file, line, byte: offset, record: seq }
    }
}

impl Verified {
    fn of(ledger: PathBuf, found: Verification, journal: Journal, heads_given: usize) -> Self {
        let whole = found.is_whole();
        let fault = |fault: portcullis_audit::Fault| {
            let (kind, meaning, remedy) = explained(&fault.kind);
            FaultLine { what: fault.kind.to_string(), at: fault.at.into(), kind, meaning, remedy }
        };
        Self {
            ledger,
            whole,
            files: found.files,
            records: found.records,
            first: found.first,
            last: found.last.map(|Head { seq, hash }| Last { seq, hash: hash.to_string() }),
            before_the_chain: found.before_the_chain,
            journal,
            heads_given,
            heads_confirmed: found.heads_confirmed,
            closed: found
                .closed
                .into_iter()
                .map(|closed| ClosedLine { at: closed.at.into(), bytes: closed.bytes })
                .collect(),
            faults: found.faults.into_iter().map(fault).collect(),
            more_faults: found.more_faults,
        }
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if let Some(first) = self.faults.first() {
            writeln!(out, "the ledger is not whole")?;
            writeln!(out, "{}", wrapped(&format!("{:10}{}", "file", first.at.file.display()), 10))?;
            writeln!(out, "{:10}{}", "line", first.at.line)?;
            writeln!(out, "{:10}{}", "byte", first.at.byte)?;
            if let Some(record) = first.at.record {
                writeln!(out, "{:10}{record}", "record")?;
            }
            writeln!(out, "{}", wrapped(&format!("{:10}{}", "fault", first.what), 10))?;
            writeln!(out, "{}", wrapped(&format!("{:10}{}", "means", first.meaning), 10))?;
            writeln!(out, "{}\n", wrapped(&format!("{:10}{}", "do", first.remedy), 10))?;
        }
        for fault in self.faults.iter().skip(1).take(MOST) {
            let line = format!("also: {}: {}", fault.at.line(), fault.what);
            writeln!(out, "{}", wrapped(&line, 2))?;
        }
        let unlisted = self.faults.len().saturating_sub(1 + MOST) as u64 + self.more_faults;
        if unlisted > 0 {
            writeln!(out, "and {unlisted} faults more (--output json lists them)")?;
        }
        self.write_extent(out)?;
        for closed in self.closed.iter().take(MOST) {
            let bytes = closed.bytes;
            writeln!(out, "no fault: {}: {bytes} torn bytes were closed", closed.at.line())?;
        }
        let unlisted = self.closed.len().saturating_sub(MOST);
        if unlisted > 0 {
            writeln!(out, "no fault: {} more", count(unlisted, "torn line"))?;
        }
        Ok(())
    }

    fn write_extent(&self, out: &mut dyn Write) -> io::Result<()> {
        let folder = plain(&self.ledger.display().to_string());
        let whole = if self.whole { ", whole" } else { "" };
        match (self.first, &self.last) {
            (Some(first), Some(last)) => {
                let files = count(self.files, "file");
                writeln!(out, "{folder}: {files}, records {first} to {}{whole}", last.seq)?;
                writeln!(out, "last record: {}:{}", last.seq, last.hash)?;
            }
            _ => writeln!(out, "{folder}: no records{whole}")?,
        }
        if self.before_the_chain > 0 {
            let lines = self.before_the_chain;
            writeln!(out, "{lines} lines are from before there was a chain and cannot be checked")?;
        }
        let known = self.heads_given + self.journal.heads;
        if known > 0 {
            let confirmed = self.heads_confirmed;
            let journal = count(self.journal.heads, "record");
            let given = self.heads_given;
            let older = match self.whole && confirmed < known {
                true => "; the others are older than what is kept",
                false => "",
            };
            writeln!(
                out,
                "{journal} known to the journal, {given} given: {confirmed} found as known{older}"
            )?;
        }
        if self.journal.compared && self.journal.heads == 0 {
            writeln!(out, "the journal knows no record of this ledger")?;
        }
        match &self.journal.note {
            Some(note) => writeln!(out, "{}", wrapped(&format!("note: {note}"), 2)),
            None => Ok(()),
        }
    }
}

impl At {
    fn line(&self) -> String {
        let record = self.record.map(|record| format!(", record {record}")).unwrap_or_default();
        let file = plain(&self.file.display().to_string());
        format!("{file}:{} (byte {}{record})", self.line, self.byte)
    }
}

/// A word for a fault, what it means, and what to do.
fn explained(kind: &FaultKind) -> (&'static str, &'static str, &'static str) {
    const KEEP: &str = "copy the folder away before anything else is done to it; the journal has the \
                        same events (journalctl -t portcullis): compare there";
    match kind {
        FaultKind::Changed => (
            "changed",
            "the record was altered after it was written, by hand or by a damaged disk",
            KEEP,
        ),
        FaultKind::NotARecord => {
            ("notARecord", "something else was put into the file, or a record was destroyed", KEEP)
        }
        FaultKind::Torn => (
            "torn",
            "the last writer was killed in the middle of a line, or the file was cut there",
            "nothing: the next start closes the line; if it stays after one, copy the folder away",
        ),
        FaultKind::Missing { .. } => {
            ("missing", "records that were written were taken out, or a file was deleted", KEEP)
        }
        FaultKind::OutOfOrder { .. } => {
            ("outOfOrder", "a record was copied or moved to where it was not written", KEEP)
        }
        FaultKind::NotTheSuccessor => (
            "notTheSuccessor",
            "the record before it is another one than when it was written",
            KEEP,
        ),
        FaultKind::NothingTorn => {
            ("nothingTorn", "a line that was torn was taken out after it had been closed", KEEP)
        }
        FaultKind::Cut { by: Known::HeadFile, .. } => (
            "cut",
            "the newest records were cut off, or were lost when the power failed",
            "compare with the journal, which has them (journalctl -t portcullis); after a power \
             failure the next start goes on behind the gap and says so",
        ),
        FaultKind::Cut { by: Known::Given, .. } => (
            "cut",
            "the newest records were cut off, or the ledger was deleted and begun anew",
            KEEP,
        ),
        FaultKind::Replaced { .. } => {
            ("replaced", "the ledger was written anew from there on, hashes and all", KEEP)
        }
        FaultKind::HeadDamaged => (
            "headDamaged",
            "the file that remembers the last record was altered; the records may be whole",
            "nothing: the next start writes it anew; until then the end is checked by the journal",
        ),
    }
}
