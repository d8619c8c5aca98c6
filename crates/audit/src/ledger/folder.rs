//! The ledger's folder: its lock, its files in order, and how they are opened.
//!
//! `events.jsonl` is appended to; `events-<number>.jsonl` were, and stand in the order of their
//! numbers: that of their first record. `events.1.jsonl` is from before there was a chain.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use super::error::{LedgerError, failed};
use super::{LOCK_BOUND, LOCK_LOOK};

pub(super) const CURRENT: &str = "events.jsonl";
const LOCK: &str = ".lock";
const UNCHAINED: &str = "events.1.jsonl";
/// The largest number of a file: digits enough for each record's, and room to count on.
const MAX_NUMBER: u64 = 1 << 60;

/// The lock, held until it is dropped; the kernel lets go of it when its process dies.
pub(super) struct Lock(#[expect(dead_code, reason = "held, not read")] File);

/// A file that is not appended to any more.
#[derive(Debug)]
pub(super) struct Older {
    pub(super) path: PathBuf,
    /// The number in its name; `None` for the one from before the chain.
    pub(super) number: Option<u64>,
}

/// A file as it is at one moment: what is appended later is not in it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) metadata: Metadata,
}

impl Part {
    /// What tells it from every other file.
    pub(super) fn inode(&self) -> (u64, u64) {
        (self.metadata.dev(), self.metadata.ino())
    }

    pub(super) fn length(&self) -> u64 {
        self.metadata.len()
    }
}

/// Waits for the lock, makes the folder if need be.
pub(super) fn lock(folder: &Path) -> Result<Lock, LedgerError> {
    let path = folder.join(LOCK);
    let open = || open(&path, OpenOptions::new().create(true).append(true));
    let file = match open() {
        Ok(None) => {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(failed("create", folder))?;
            open()?
        }
        other => other?,
    };
    let Some((file, _)) = file else {
        return Err(failed("create", &path)(io::ErrorKind::NotFound.into()));
    };
    wait(file, path, FlockOperation::NonBlockingLockExclusive)
}

fn wait(file: File, path: PathBuf, how: FlockOperation) -> Result<Lock, LedgerError> {
    let until = Instant::now() + LOCK_BOUND;
    loop {
        match rustix::fs::flock(&file, how) {
            Ok(()) => return Ok(Lock(file)),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < until => {
                std::thread::sleep(LOCK_LOOK);
            }
            Err(Errno::WOULDBLOCK | Errno::INTR) => return Err(LedgerError::Locked { path }),
            Err(error) => return Err(failed("lock", &path)(error.into())),
        }
    }
}

/// The lock, for readers: it keeps files from being moved aside while they are opened.
///
/// If it cannot be had (a stopped writer, a copy on a medium that cannot be written) there is a
/// moment in which a file could be missed, and reading goes on all the same.
pub(super) fn lock_to_read(folder: &Path) -> Option<Lock> {
    let path = folder.join(LOCK);
    let (file, _) = open(&path, OpenOptions::new().read(true)).ok().flatten()?;
    wait(file, path, FlockOperation::NonBlockingLockShared).ok()
}

/// All files as they are now, the oldest first.
pub(super) fn parts(folder: &Path) -> Result<Vec<Part>, LedgerError> {
    let mut parts = Vec::new();
    let older = older(folder)?.into_iter().map(|o| o.path);
    for path in older.chain([folder.join(CURRENT)]) {
        if let Some((file, metadata)) = open(&path, OpenOptions::new().read(true))? {
            parts.push(Part { path, file, metadata });
        }
    }
    Ok(parts)
}

/// All files at one moment, the oldest first.
pub(super) fn snapshot(folder: &Path) -> Result<Vec<Part>, LedgerError> {
    let _lock = lock_to_read(folder);
    parts(folder)
}

/// The files that are not appended to any more, the oldest first. No folder means none.
pub(super) fn older(folder: &Path) -> Result<Vec<Older>, LedgerError> {
    let wrong = failed("list", folder);
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(wrong(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(&wrong)?.file_name();
        let Some(name) = name.to_str() else { continue };
        let number = number(name);
        if number.is_some() || name == UNCHAINED {
            found.push(Older { path: folder.join(name), number });
        }
    }
    found.sort_unstable_by_key(|older| older.number);
    Ok(found)
}

/// The path for the file whose first record has this number, if it can be told; it comes after
/// all that are there.
pub(super) fn path_after(folder: &Path, older: &[Older], first: Option<u64>) -> PathBuf {
    let least = older.last().and_then(|o| o.number).map_or(0, |number| number + 1);
    let number = first.unwrap_or(least).max(least);
    folder.join(format!("events-{number:020}.jsonl"))
}

fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("events-")?.strip_suffix(".jsonl")?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|number| *number < MAX_NUMBER)
}

/// Opens a regular file, and nothing else: never follows a link, never waits for a fifo's other
/// end. No file is `None`.
pub(super) fn open(
    path: &Path,
    options: &mut OpenOptions,
) -> Result<Option<(File, Metadata)>, LedgerError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let not_a_file = || LedgerError::NotAFile { path: path.to_owned() };
    match options.mode(0o600).custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) => {
            let metadata = file.metadata().map_err(failed("read", path))?;
            if metadata.is_file() { Ok(Some((file, metadata))) } else { Err(not_a_file()) }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // A link, a fifo without a reader, a device without a driver, a folder.
        Err(error)
            if [Errno::LOOP, Errno::NXIO, Errno::ISDIR]
                .iter()
                .any(|e| error.raw_os_error() == Some(e.raw_os_error())) =>
        {
            Err(not_a_file())
        }
        Err(error) => Err(failed("open", path)(error)),
    }
}
