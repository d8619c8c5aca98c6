//! The file `head`: where the ledger ends and begins, so that missing records at its ends are
//! known without the journal. Against accidents; who can write one file can write the other.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::{LedgerError, failed};
use super::folder;
use super::record::{self, Head, RecordHash};

/// The file's whole length: it is written in place, within one sector, and never cut.
const LENGTH: usize = 320;

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    /// Number of the last record.
    pub(super) seq: u64,
    /// Its hash.
    pub(super) last: RecordHash,
    /// Number of the first record that is kept, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) first: Option<u64>,
}

impl Remembered {
    pub(super) fn head(&self) -> Head {
        Head { seq: self.seq, hash: self.last }
    }
}

/// What became of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Not there, or not written yet.
    Nothing,
    /// Not as it was written.
    Damaged,
    /// As it was written.
    Remembered(Remembered),
}

pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join("head")
}

/// Reads it.
pub(super) fn read(folder: &Path) -> Result<Found, LedgerError> {
    let path = path(folder);
    let Some((file, metadata)) = folder::open(&path, OpenOptions::new().read(true))? else {
        return Ok(Found::Nothing);
    };
    if metadata.len() == 0 {
        return Ok(Found::Nothing);
    }
    if metadata.len() != LENGTH as u64 {
        return Ok(Found::Damaged);
    }
    let mut bytes = [0; LENGTH];
    file.read_exact_at(&mut bytes, 0).map_err(failed("read", &path))?;
    Ok(parse(&bytes).map_or(Found::Damaged, Found::Remembered))
}

fn parse(bytes: &[u8; LENGTH]) -> Option<Remembered> {
    let line = bytes.strip_suffix(b"\n")?.trim_ascii_end();
    let (body, hash) = record::unseal(line)?;
    // Spaces are not under the hash, so none may have become something else that is trimmed.
    let padded = bytes[line.len()..LENGTH - 1].iter().all(|b| *b == b' ');
    if !padded || RecordHash::of(body) != hash {
        return None;
    }
    serde_json::from_slice(line).ok()
}

/// Writes it in place. Only under the lock.
pub(super) fn write(folder: &Path, remembered: &Remembered) -> Result<(), LedgerError> {
    let path = path(folder);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    let wrong = failed("write", &path);
    let Some((file, metadata)) = folder::open(&path, &mut options)? else {
        return Err(wrong(io::ErrorKind::NotFound.into()));
    };
    let text = serde_json::to_vec(remembered).map_err(LedgerError::Encode)?;
    let (mut bytes, _) = record::seal(text);
    bytes.resize(LENGTH - 1, b' ');
    bytes.push(b'\n');
    put(&file, metadata.len(), &bytes).map_err(wrong)
}

fn put(file: &File, length: u64, bytes: &[u8]) -> io::Result<()> {
    if length > bytes.len() as u64 {
        file.set_len(bytes.len() as u64)?;
    }
    file.write_all_at(bytes, 0).inspect_err(|_| {
        if length == 0 {
            // On a full disk: an empty file says nothing, half a one would look damaged.
            let _cleanup_failed = file.set_len(0);
        }
    })
}
