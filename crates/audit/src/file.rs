//! The event file: JSON lines, appended under one lock by many short-lived processes.
//!
//! A killed writer may leave a torn last line; the next writer ends it, and readers pass over it
//! and say so.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read as _, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use portcullis_types::Event;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// How long the lock is waited for.
const LOCK_BOUND: Duration = Duration::from_millis(50);
/// No event is longer; what is longer was not written by us.
const MAX_LINE: u64 = 256 * 1024;

const CURRENT: &str = "events.jsonl";
const OLDER: &str = "events.1.jsonl";

/// Why the event file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The folder or a file in it cannot be made, opened or written.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The folder or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process holds the lock.
    #[error("{path} has been locked for {} ms", LOCK_BOUND.as_millis())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// An event is longer than readers take.
    #[error("an event of {0} bytes is too long for the event file")]
    TooLong(usize),
    /// An event cannot be written as JSON.
    #[error("an event cannot be written")]
    Encode(#[source] serde_json::Error),
}

/// The event file of a node.
#[derive(Debug, Clone)]
pub struct EventFile {
    folder: PathBuf,
    max_bytes: u64,
}

/// What a reader got.
#[derive(Debug, Default)]
pub struct Read {
    /// Events, oldest first.
    pub events: Vec<Event>,
    /// Lines that are not events: torn by a killed writer, or damaged.
    pub damaged: usize,
}

/// A place in the event file from which to go on reading.
#[derive(Debug, Default)]
pub struct Followed {
    file: Option<(File, u64)>,
    partial: Vec<u8>,
}

impl EventFile {
    /// The file in `folder`, moved aside once at `max_bytes`; nothing is opened yet.
    pub fn new(folder: PathBuf, max_bytes: u64) -> Self {
        Self { folder, max_bytes }
    }

    /// Where events are appended.
    pub fn path(&self) -> PathBuf {
        self.folder.join(CURRENT)
    }

    /// Appends one event as one line.
    ///
    /// # Errors
    /// [`FileError`] names the file.
    pub fn append(&self, event: &Event) -> Result<(), FileError> {
        let mut line = serde_json::to_vec(event).map_err(FileError::Encode)?;
        line.push(b'\n');
        if line.len() as u64 > MAX_LINE {
            return Err(FileError::TooLong(line.len()));
        }
        let _lock = self.lock()?;
        let path = self.path();
        let wrong = |doing| {
            let path = path.clone();
            move |source| FileError::Io { doing, path, source }
        };
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .mode(0o600)
            .custom_flags(
                (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed(),
            )
            .open(&path)
            .map_err(wrong("open"))?;
        let length = file.metadata().map_err(wrong("read"))?.len();
        if length > 0 && !ends_with_newline(&mut file, length).map_err(wrong("read"))? {
            line.insert(0, b'\n');
        }
        if length > 0 && length + line.len() as u64 > self.max_bytes {
            std::fs::rename(&path, self.folder.join(OLDER)).map_err(wrong("move aside"))?;
            file = OpenOptions::new()
                .create_new(true)
                .append(true)
                .mode(0o600)
                .open(&path)
                .map_err(wrong("create"))?;
        }
        file.write_all(&line).map_err(wrong("write"))
    }

    /// Reads all events that are kept, oldest first.
    ///
    /// # Errors
    /// [`FileError::Io`] if a file exists and cannot be read. No file means no events.
    pub fn read(&self) -> Result<Read, FileError> {
        let mut read = Read::default();
        for name in [OLDER, CURRENT] {
            let path = self.folder.join(name);
            let wrong = |source| FileError::Io { doing: "read", path: path.clone(), source };
            match File::open(&path) {
                Ok(file) => read_lines(file, &mut read).map_err(wrong)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(wrong(error)),
            }
        }
        Ok(read)
    }

    /// Starts following at the end of what is there now.
    ///
    /// # Errors
    /// [`FileError::Io`] if the file exists and cannot be opened.
    pub fn follow(&self) -> Result<Followed, FileError> {
        let mut followed = Followed::default();
        if let Some(mut file) = self.open(CURRENT)? {
            let end = file.seek(SeekFrom::End(0)).map_err(|source| FileError::Io {
                doing: "read",
                path: self.path(),
                source,
            })?;
            followed.file = Some((file, end));
        }
        Ok(followed)
    }

    /// Events that came since the last call, across a file that was moved aside.
    ///
    /// # Errors
    /// [`FileError::Io`] if the file cannot be read.
    pub fn since(&self, followed: &mut Followed) -> Result<Read, FileError> {
        let mut read = Read::default();
        let wrong = |source| FileError::Io { doing: "read", path: self.path(), source };
        if let Some((file, at)) = &mut followed.file {
            *at += drain(file, &mut followed.partial, &mut read).map_err(wrong)?;
        }
        let Some(mut new) = self.open(CURRENT)? else { return Ok(read) };
        let last = match &mut followed.file {
            None => None,
            Some((old, at)) => {
                let of_old = inode(old).map_err(wrong)?;
                if of_old == inode(&new).map_err(wrong)? {
                    return Ok(read);
                }
                // It was moved aside: what came between the look above and the move.
                *at += drain(old, &mut followed.partial, &mut read).map_err(wrong)?;
                Some(of_old)
            }
        };
        followed.partial.clear();
        // Moved aside twice: a whole file came and went between.
        if let (Some(last), Some(mut between)) = (last, self.open(OLDER)?)
            && inode(&between).map_err(wrong)? != last
        {
            drain(&mut between, &mut followed.partial, &mut read).map_err(wrong)?;
            followed.partial.clear();
        }
        let at = drain(&mut new, &mut followed.partial, &mut read).map_err(wrong)?;
        followed.file = Some((new, at));
        Ok(read)
    }

    fn open(&self, name: &str) -> Result<Option<File>, FileError> {
        let path = self.folder.join(name);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FileError::Io { doing: "open", path, source }),
        }
    }

    fn lock(&self) -> Result<File, FileError> {
        let path = self.folder.join(".lock");
        let open = || OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut builder = std::fs::DirBuilder::new();
                builder.recursive(true).mode(0o700).create(&self.folder).map_err(|source| {
                    FileError::Io { doing: "create", path: self.folder.clone(), source }
                })?;
                open()
            }
            other => other,
        };
        let file =
            file.map_err(|source| FileError::Io { doing: "open", path: path.clone(), source })?;
        let until = Instant::now() + LOCK_BOUND;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(Errno::WOULDBLOCK | Errno::INTR) => return Err(FileError::Locked { path }),
                Err(error) => {
                    return Err(FileError::Io { doing: "lock", path, source: error.into() });
                }
            }
        }
    }
}

fn inode(file: &File) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

fn ends_with_newline(file: &mut File, length: u64) -> io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::Start(length - 1))?;
    file.read_exact(&mut last)?;
    Ok(last == [b'\n'])
}

fn read_lines(file: File, read: &mut Read) -> io::Result<()> {
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        take_line(&line, read);
    }
}

fn take_line(line: &[u8], read: &mut Read) {
    let line = line.trim_ascii();
    if line.is_empty() {
        return;
    }
    match serde_json::from_slice(line) {
        Ok(event) => read.events.push(event),
        Err(_) => read.damaged += 1,
    }
}

/// Reads whole lines; keeps what is not yet ended in `partial`.
fn drain(file: &mut File, partial: &mut Vec<u8>, read: &mut Read) -> io::Result<u64> {
    let before = partial.len();
    let got = file.read_to_end(partial)?;
    if let Some(end) = partial[before..].iter().rposition(|b| *b == b'\n') {
        let rest = partial.split_off(before + end + 1);
        for line in std::mem::replace(partial, rest).split(|b| *b == b'\n') {
            take_line(line, read);
        }
    }
    Ok(got as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_types::{Action, Engine, EventKind, Identity, Request, Timestamp};

    fn event(id: &str) -> Event {
        Event {
            id: id.into(),
            time: Timestamp::UNIX_EPOCH,
            kind: EventKind::Decision,
            action: Action::Block,
            message: "a line".into(),
            request: Request::new(Engine::Containerd, "node", "container"),
            image: Identity::unknown("test"),
            policies: vec![],
            policy_set: None,
            causes: vec![],
            would_block: false,
            whitelisted: false,
            counted: Default::default(),
            findings: 0,
            failures: vec![],
            workload: None,
            image_config: None,
            mark: None,
            decision: None,
            gate_micros: 0,
        }
    }

    fn ids(read: &Read) -> Vec<&str> {
        read.events.iter().map(|e| e.id.as_str()).collect()
    }

    #[test]
    fn events_are_read_back_in_order_and_a_torn_line_costs_only_itself() {
        let folder = tempfile::tempdir().unwrap();
        let file = EventFile::new(folder.path().join("made/on/demand"), 1 << 20);
        file.append(&event("1")).unwrap();
        let torn = OpenOptions::new().append(true).open(file.path()).unwrap();
        (&torn).write_all(b"{\"id\":\"tor").unwrap();
        file.append(&event("2")).unwrap();
        let read = file.read().unwrap();
        assert_eq!(ids(&read), ["1", "2"]);
        assert_eq!(read.damaged, 1);
    }

    #[test]
    fn the_file_is_bounded_and_the_older_half_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let size = serde_json::to_vec(&event("x")).unwrap().len() as u64;
        let file = EventFile::new(folder.path().to_owned(), size * 3 + 10);
        for id in ["1", "2", "3", "4", "5", "6", "7"] {
            file.append(&event(id)).unwrap();
        }
        assert_eq!(ids(&file.read().unwrap()), ["4", "5", "6", "7"]);
    }

    #[test]
    fn a_follower_sees_what_comes_across_a_move() {
        let folder = tempfile::tempdir().unwrap();
        let size = serde_json::to_vec(&event("x")).unwrap().len() as u64;
        let file = EventFile::new(folder.path().to_owned(), size * 2 + 10);
        file.append(&event("old")).unwrap();
        let mut followed = file.follow().unwrap();
        assert!(file.since(&mut followed).unwrap().events.is_empty());
        file.append(&event("1")).unwrap();
        file.append(&event("2")).unwrap();
        assert_eq!(ids(&file.since(&mut followed).unwrap()), ["1", "2"]);
        file.append(&event("3")).unwrap();
        assert_eq!(ids(&file.since(&mut followed).unwrap()), ["3"]);
    }

    #[test]
    fn a_held_lock_is_an_error_within_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let file = EventFile::new(folder.path().to_owned(), 1 << 20);
        let _held = file.lock().unwrap();
        assert!(matches!(file.append(&event("1")), Err(FileError::Locked { .. })));
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("file");
        std::fs::write(&blocked, "").unwrap();
        let error =
            EventFile::new(blocked.join("events"), 1 << 20).append(&event("1")).unwrap_err();
        assert!(error.to_string().contains("events"), "{error}");
    }
}
