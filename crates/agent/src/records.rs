//! The ledger's records as they come, each once, for all in the agent that count or pass them on.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use portcullis_audit::{Entry, Followed, Head, Ledger, LedgerError, Resumed};
use portcullis_settings::replace;

/// More than a cursor takes.
const MAX_CURSOR: u64 = 4096;

/// Records of a ledger from some place on.
#[derive(Debug)]
pub struct Records {
    ledger: Ledger,
    followed: Followed,
}

impl Records {
    /// All that are kept, the oldest first, and those that come.
    pub fn from_beginning(ledger: Ledger) -> Self {
        Self { ledger, followed: Followed::default() }
    }

    /// Those that come from now on.
    ///
    /// # Errors
    /// [`LedgerError`] if a file exists and cannot be read.
    pub fn from_end(ledger: Ledger) -> Result<Self, LedgerError> {
        let followed = ledger.follow()?;
        Ok(Self { ledger, followed })
    }

    /// Those behind a cursor; and whether its record was found. Records that were written behind it
    /// and are not kept any more count as [missed](Self::missed).
    ///
    /// # Errors
    /// [`LedgerError`] if a file exists and cannot be read.
    pub fn resume(ledger: Ledger, cursor: &Cursor) -> Result<(Self, Resumed), LedgerError> {
        let (followed, resumed) = ledger.follow_from(cursor.0)?;
        Ok((Self { ledger, followed }, resumed))
    }

    /// The next record, if there is one by now. It does not wait, and costs two looks at files if
    /// there is none: to be asked once a second.
    ///
    /// # Errors
    /// [`LedgerError`] if a file cannot be read; the next call tries again.
    pub fn next_record(&mut self) -> Result<Option<Entry>, LedgerError> {
        self.ledger.next(&mut self.followed)
    }

    /// Behind the last record that was given; none before the first.
    pub fn cursor(&self) -> Option<Cursor> {
        self.followed.last().map(Cursor)
    }

    /// How many records were deleted, damaged or lost before they were read.
    pub fn missed(&self) -> u64 {
        self.followed.missed()
    }

    /// How many lines are no records, without those that a killed writer left torn.
    pub fn damaged(&self) -> u64 {
        self.followed.damaged()
    }

    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

/// A place behind a record, which survives the agent: number and hash of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(Head);

/// Why a cursor cannot be read or kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {path}")]
pub struct CursorError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.seq, self.0.hash)
    }
}

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(' ').and_then(|(seq, hash)| {
            Some(Head { seq: seq.parse().ok()?, hash: hash.parse().ok()? })
        });
        parts.map(Self).ok_or_else(|| format!("\"{text}\" is no place in the ledger"))
    }
}

impl Cursor {
    /// Reads what [`save`](Self::save) has written; none if there is no such file.
    ///
    /// # Errors
    /// [`CursorError`]: it cannot be read, or holds something else.
    pub fn load(path: &Path) -> Result<Option<Self>, CursorError> {
        let failed = |source| CursorError { doing: "read", path: path.to_owned(), source };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut json = Vec::new();
        file.take(MAX_CURSOR).read_to_end(&mut json).map_err(failed)?;
        let head = serde_json::from_slice(&json).map_err(|error| failed(error.into()))?;
        Ok(Some(Self(head)))
    }

    /// Keeps it in a file.
    ///
    /// # Errors
    /// [`CursorError`].
    pub fn save(&self, path: &Path) -> Result<(), CursorError> {
        let failed = |source| CursorError { doing: "write", path: path.to_owned(), source };
        let json = serde_json::to_vec(&self.0).map_err(|error| failed(error.into()))?;
        replace(path, 0o600, &json).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use portcullis_types::{Action, Engine, Event, EventKind, Identity, Request, Timestamp};
    use std::fs;

    use super::*;

    fn append(ledger: &Ledger, id: &str) {
        let request = Request::new(Engine::Containerd, "n", "c");
        let (time, image) = (Timestamp::UNIX_EPOCH, Identity::unknown("a test"));
        let event = Event::new(
            id.into(),
            time,
            EventKind::Decision,
            Action::Allow,
            String::new(),
            request,
            image,
        );
        ledger.append(&event).unwrap();
    }

    fn rest(records: &mut Records) -> Vec<String> {
        std::iter::from_fn(|| records.next_record().unwrap()).map(|entry| entry.event.id).collect()
    }

    #[test]
    fn a_cursor_survives_its_reader() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(folder.path().join("events"), 1 << 20);
        let file = folder.path().join("cursor");
        assert_eq!(Cursor::load(&file).unwrap(), None);
        append(&ledger, "1");
        let mut records = Records::from_end(ledger.clone()).unwrap();
        append(&ledger, "2");
        assert_eq!(rest(&mut records), ["2"]);
        records.cursor().unwrap().save(&file).unwrap();
        records.cursor().unwrap().save(&file).unwrap();
        append(&ledger, "3");
        let cursor = Cursor::load(&file).unwrap().unwrap();
        let (mut records, resumed) = Records::resume(ledger.clone(), &cursor).unwrap();
        assert_eq!((rest(&mut records), resumed), (vec!["3".to_owned()], Resumed::Behind));
        assert_eq!((records.missed(), records.damaged()), (0, 0));
        assert_eq!(rest(&mut Records::from_beginning(ledger)), ["1", "2", "3"]);
        for garbage in ["", "{}", "{\"seq\":1,\"hash\":\"x\"}"] {
            fs::write(&file, garbage).unwrap();
            assert!(Cursor::load(&file).unwrap_err().to_string().contains("cannot read"));
        }
    }
}
