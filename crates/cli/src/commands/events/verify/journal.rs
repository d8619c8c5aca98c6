//! What the journal knows of the ledger's records.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use portcullis_audit::{Head, SYSLOG_IDENTIFIER, heads_from_journal};
use schemars::JsonSchema;
use serde::Serialize;

use crate::args::Verify;

/// Most that is read of the journal: more than a million records.
const MAX_BYTES: u64 = 4 << 30;
/// How long the journal may take.
const BOUND: Duration = Duration::from_secs(120);

/// What the journal was good for.
#[derive(Default, Serialize, JsonSchema)]
pub(in crate::commands) struct Journal {
    /// It was read.
    pub(super) compared: bool,
    /// How many records of this ledger it knows.
    pub(super) heads: usize,
    /// Why it was not read, or not to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
}

/// Reads the records that the journal knows, from where the command line says.
///
/// # Errors
/// If the journal was asked for by name and cannot be read.
pub(super) fn read(args: &Verify, ledger: &Path) -> Result<(Journal, Vec<Head>)> {
    if args.no_journal {
        let note = "not compared with the journal, as asked for";
        return Ok((Journal { note: Some(note.to_owned()), ..Journal::default() }, Vec::new()));
    }
    if let Some(path) = &args.journal_file {
        let reading = || format!("cannot read the saved journal {}", path.display());
        let file = File::open(path).with_context(reading)?;
        return compared(file, ledger).with_context(reading);
    }
    match of_this_node(ledger) {
        Ok(read) => Ok(read),
        Err(error) if args.journal => Err(error.context("cannot compare with the journal")),
        Err(error) => {
            let note = Some(format!("not compared with the journal: {error:#}"));
            Ok((Journal { note, ..Journal::default() }, Vec::new()))
        }
    }
}

fn compared(source: impl Read, ledger: &Path) -> Result<(Journal, Vec<Head>)> {
    let mut reader = BufReader::new(source.take(MAX_BYTES));
    let found = heads_from_journal(&mut reader, ledger)?;
    let note = (reader.get_ref().limit() == 0)
        .then(|| format!("only the first {} GiB of the journal were read", MAX_BYTES >> 30));
    Ok((Journal { compared: true, heads: found.heads.len(), note }, found.heads))
}

/// Asks `journalctl`. What it has to say goes to stderr, such as that not all may be seen.
fn of_this_node(ledger: &Path) -> Result<(Journal, Vec<Head>)> {
    let mut child = Command::new("journalctl")
        .args(["-t", SYSLOG_IDENTIFIER, "-o", "json", "--no-pager"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run journalctl")?;
    let Some(stdout) = child.stdout.take() else { bail!("journalctl has no output") };
    let (done, answer) = mpsc::channel();
    let ledger = ledger.to_owned();
    std::thread::spawn(move || {
        // Who gave up waiting needs no answer.
        let _gone = done.send(compared(stdout, &ledger));
    });
    let read = answer.recv_timeout(BOUND);
    // It is done, or was given up, or has more to say than is read.
    let ended = match &read {
        Ok(Ok((Journal { note: None, .. }, _))) => child.wait(),
        _ => child.kill().and_then(|()| child.wait()),
    };
    let Ok(read) = read else { bail!("journalctl took more than {} s", BOUND.as_secs()) };
    let (mut journal, heads) = read.context("cannot read from journalctl")?;
    let status = ended.context("cannot wait for journalctl")?;
    if journal.note.is_none() && !status.success() {
        if heads.is_empty() {
            bail!("journalctl failed ({status})");
        }
        journal.note = Some(format!("journalctl failed ({status}) after what was compared"));
    }
    Ok((journal, heads))
}
