//! The ledger's records as they come, each once, for all in the agent that count or pass them on.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use portcullis_audit::{Entry, Followed, Head, Ledger, LedgerError, Resumed, Trail};
use portcullis_settings::{keep, recall};
use serde::{Deserialize, Serialize};

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
    /// and are not kept any more count as [missed](Self::missed). If the record was lost with the power,
    /// some that were read before it may come again.
    ///
    /// # Errors
    /// [`LedgerError`] if a file exists and cannot be read.
    pub fn resume(ledger: Ledger, cursor: &Cursor) -> Result<(Self, Resumed), LedgerError> {
        let (followed, resumed) = ledger.follow_from(&cursor.0)?;
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
        self.followed.last().map(|_| Cursor(self.followed.trail().clone()))
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

/// A place behind a record, which survives the agent: number and hash of the record, and in a file
/// those of some before it, to go on from where the last ones are lost with the power.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(Trail);

/// A cursor in its file. One that was written before there were trails has the last record alone.
#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    last: Head,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    before: Vec<Head>,
}

/// Why a cursor cannot be read or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CursorError {
    /// Its file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its file holds something else.
    #[error("{path} holds no place in the ledger")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// Its file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(last) = self.0.last() else { return Ok(()) };
        let kept = Kept { last, before: self.0.before().collect() };
        f.write_str(&serde_json::to_string(&kept).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Cursor {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, serde_json::Error> {
        let Kept { last, before } = serde_json::from_str(text)?;
        Ok(Self(Trail::new(last, before)))
    }
}

impl Cursor {
    /// Reads what [`save`](Self::save) has written; none if there is no such file.
    ///
    /// # Errors
    /// [`CursorError::Read`], which may pass, or [`CursorError::Damaged`], which does not.
    pub fn load(path: &Path) -> Result<Option<Self>, CursorError> {
        let failed = |source| CursorError::Read { path: path.to_owned(), source };
        let json = match recall(path, MAX_CURSOR) {
            Ok(Some(json)) => json,
            Ok(None) => return Ok(None),
            // What is no cursor does not become one.
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        let cursor = String::from_utf8_lossy(&json).parse();
        cursor.map(Some).map_err(|source| CursorError::Damaged { path: path.to_owned(), source })
    }

    /// Keeps it in a file.
    ///
    /// # Errors
    /// [`CursorError::Write`].
    pub fn save(&self, path: &Path) -> Result<(), CursorError> {
        let failed = |source| CursorError::Write { path: path.to_owned(), source };
        keep(path, self.to_string().as_bytes()).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use portcullis_testkit::events::decision;

    use super::*;

    fn append(ledger: &Ledger, id: &str) {
        ledger.append(&decision(id)).unwrap();
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
        let long = " ".repeat(5000);
        for garbage in ["", "{}", "{\"seq\":1,\"hash\":\"x\"}", &long] {
            fs::write(&file, garbage).unwrap();
            let error = Cursor::load(&file).unwrap_err();
            assert!(matches!(&error, CursorError::Damaged { path, .. } if *path == file));
        }
        // What is no file now may be one later.
        let error = Cursor::load(folder.path()).unwrap_err();
        assert!(matches!(error, CursorError::Read { .. }), "{error:?}");
    }

    #[test]
    fn a_cursor_keeps_its_trail() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cursor");
        let ledger = Ledger::new(folder.path().join("events"), 1 << 20);
        let hash = ledger.append(&decision("1")).unwrap().hash;
        // As many as there can be, with the longest numbers.
        let last = (1 << 53) - 1;
        let before = (0..52).flat_map(|bit| {
            [1, 2, 3].map(|n: u64| Head { seq: ((last >> bit) - n.min(last >> bit)) << bit, hash })
        });
        let cursor = Cursor(Trail::new(Head { seq: last, hash }, before));
        assert!(cursor.0.before().count() > 20);
        cursor.save(&file).unwrap();
        assert_eq!(Cursor::load(&file).unwrap().unwrap(), cursor);
        assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
        // As it was kept before there were trails.
        fs::write(&file, format!("{{\"seq\":{last},\"hash\":\"{hash}\"}}")).unwrap();
        assert_eq!(Cursor::load(&file).unwrap().unwrap(), Cursor(Head { seq: last, hash }.into()));
    }
}
