//! A layer, or a whole root filesystem, that lies unpacked in a folder.
//!
//! Folders are opened one below the other without following links, so that nothing outside is read;
//! what another file system is mounted on is passed over.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use portcullis_baseline::Mode;
use portcullis_inventory::{Kind, Layer, normal};
use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;
use rustix::time::ClockId;

use crate::gather::{Gatherer, LayerError};

/// How a folder says what it takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// As overlayfs keeps an upper folder (kernel, `Documentation/filesystems/overlayfs.rst`), or
    /// fuse-overlayfs without privileges; it must not have changed since.
    Overlay {
        /// When the image was asked for.
        since: Moment,
    },
    /// It takes nothing away.
    Plain,
}

/// Seconds and nanoseconds of the clock that files are dated by.
pub(crate) type Moment = (i64, i64);

/// A moment that no earlier change of a file is dated after, and each later one is.
///
/// A file system dates a change by the clock of the last tick, and by the exact one if somebody has
/// looked at the file since its last change (`Documentation/filesystems/multigrain-ts.rst`). So the
/// exact time is taken, and the next tick waited for: some milliseconds.
pub(crate) fn now() -> Moment {
    let exact = time(ClockId::Realtime);
    // A clock that is set back meanwhile is not waited for.
    let begun = Instant::now();
    while time(ClockId::RealtimeCoarse) <= exact && begun.elapsed() < A_WHILE {
        std::thread::sleep(A_TICK / 10);
    }
    exact
}

/// The longest between two ticks of a kernel (`CONFIG_HZ=100`).
const A_TICK: Duration = Duration::from_millis(10);
/// Longer than a tick lasts where the processor is not to be had for a while.
const A_WHILE: Duration = Duration::from_secs(1);

fn time(clock: ClockId) -> Moment {
    let time = rustix::time::clock_gettime(clock);
    (time.tv_sec, time.tv_nsec)
}

/// Whether what is dated `dated` was changed between two moments. What is of the future was changed
/// before the clock was set back.
fn is_between(dated: Moment, since: Moment, now: impl Fn() -> Moment) -> bool {
    dated > since && dated <= now()
}

/// Most other names of files that are remembered.
const MAX_NAMES: usize = 1 << 20;

/// Reads a folder.
pub(crate) fn read(
    gatherer: Gatherer<'_>,
    root: &Path,
    style: Style,
    depth: u64,
) -> Result<Layer, LayerError> {
    let place = root;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(rustix::fs::CWD, root, flags, rustix::fs::Mode::empty())
        .map_err(io::Error::from)?;
    let top = rustix::fs::fstat(&root).map_err(io::Error::from)?;
    let mut walk = Walk {
        gatherer,
        style,
        device: top.st_dev,
        opaque: match top.st_uid {
            0 => "trusted.overlay.opaque",
            _ => "user.overlay.opaque",
        },
        most: depth,
        names: HashMap::new(),
    };
    walk.folder(root)?;
    if let Style::Overlay { .. } = style {
        // An image that is removed while it is read must not be taken for one that is empty.
        let now = rustix::fs::statat(rustix::fs::CWD, place, AtFlags::SYMLINK_NOFOLLOW);
        if !now.is_ok_and(|now| (now.st_dev, now.st_ino) == (top.st_dev, top.st_ino)) {
            return Err(LayerError::Changed(String::new()));
        }
    }
    walk.gatherer.finish()
}

struct Walk<'g> {
    gatherer: Gatherer<'g>,
    style: Style,
    /// The file system that the root is on.
    device: u64,
    /// The mark that hides what is below: without privileges overlayfs has one of its own, which it
    /// does not look at otherwise (`userxattr`), and which an image may bring.
    opaque: &'static str,
    most: u64,
    /// First names of files that have several, by inode.
    names: HashMap<u64, String>,
}

/// A folder whose entries are gone through.
struct Open {
    folder: OwnedFd,
    path: String,
    names: std::vec::IntoIter<OsString>,
}

impl Walk<'_> {
    fn folder(&mut self, root: OwnedFd) -> Result<(), LayerError> {
        let mut stack = vec![self.opened(root, String::new())?];
        while let Some(open) = stack.last_mut() {
            let Some(name) = open.names.next() else {
                stack.pop();
                continue;
            };
            self.gatherer.count()?;
            let path = match open.path.as_str() {
                "" => normal(name.as_bytes()),
                folder => normal(name.as_bytes()).map(|name| format!("{folder}/{name}")),
            };
            let wrong = || LayerError::Path(name.to_string_lossy().escape_debug().to_string());
            let path = path.filter(|path| !path.is_empty()).ok_or_else(wrong)?;
            if let Some(below) = self.entry(open.folder.as_fd(), &name, &path)? {
                if stack.len() as u64 >= self.most {
                    return Err(LayerError::Limit(format!(
                        "{} folders within each other",
                        self.most
                    )));
                }
                stack.push(self.opened(below, path)?);
            }
        }
        Ok(())
    }

    /// Takes in an entry; gives the folder if it is one.
    fn entry(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &OsString,
        path: &str,
    ) -> Result<Option<OwnedFd>, LayerError> {
        let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return self.gone(path).map(|()| None),
            stat => stat.map_err(io::Error::from)?,
        };
        // Only fuse-overlayfs writes names like these, as empty files. What else has such a name was
        // brought by the image, and takes nothing away.
        if self.is_layer()
            && rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file()
            && stat.st_size == 0
            && let Some(of) = name.as_bytes().strip_prefix(b".wh.")
        {
            let above = path.rsplit_once('/').map_or("", |(above, _)| above);
            if of == b".wh..opq" {
                self.gatherer.opaque(above.to_owned());
            } else if let Some(of) = normal(of).filter(|of| !of.is_empty()) {
                let place = if above.is_empty() { of } else { format!("{above}/{of}") };
                self.gatherer.removed(place);
            }
            return Ok(None);
        }
        let mode =
            Mode { mode: stat.st_mode, uid: stat.st_uid, gid: stat.st_gid, capabilities: false };
        match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
            rustix::fs::FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let below = rustix::fs::openat(folder, name, flags, rustix::fs::Mode::empty());
                let below = below.map_err(io::Error::from)?;
                self.gatherer.other(path, Kind::Folder, mode)?;
                if stat.st_dev != self.device {
                    // Nothing is mounted in a layer.
                    return self.gone(path).map(|()| None);
                }
                if self.is_layer() {
                    if has_mark(&below, REDIRECT) {
                        return Err(LayerError::Elsewhere(path.to_owned()));
                    }
                    if is_opaque(&below, self.opaque) {
                        self.gatherer.opaque(path.to_owned());
                    }
                }
                Ok(Some(below))
            }
            rustix::fs::FileType::Symlink => {
                let target = rustix::fs::readlinkat(folder, name, Vec::new());
                let target = target.map_err(io::Error::from)?;
                let target = portcullis_inventory::escaped(target.as_bytes()).into_owned();
                self.gatherer.other(path, Kind::Link(target), mode)?;
                Ok(None)
            }
            rustix::fs::FileType::RegularFile => {
                self.file(folder, name, path, mode)?;
                Ok(None)
            }
            rustix::fs::FileType::CharacterDevice if self.is_layer() && stat.st_rdev == 0 => {
                self.gatherer.removed(path.to_owned());
                Ok(None)
            }
            _ => {
                self.gatherer.other(path, Kind::Other, mode)?;
                Ok(None)
            }
        }
    }

    fn is_layer(&self) -> bool {
        matches!(self.style, Style::Overlay { .. })
    }

    /// A live root filesystem may change while it is read; a layer may not.
    fn gone(&self, path: &str) -> Result<(), LayerError> {
        match self.style {
            Style::Plain => Ok(()),
            Style::Overlay { .. } => Err(LayerError::Changed(path.to_owned())),
        }
    }

    fn opened(&self, folder: OwnedFd, path: String) -> Result<Open, LayerError> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&folder).map_err(io::Error::from)? {
            let name = entry.map_err(io::Error::from)?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        let now = rustix::fs::fstat(&folder).map_err(io::Error::from)?;
        let changed = (now.st_ctime, i64::try_from(now.st_ctime_nsec).unwrap_or_default());
        if let Style::Overlay { since } = self.style
            && is_between(changed, since, || time(ClockId::Realtime))
        {
            return Err(LayerError::Changed(path));
        }
        // Always in one order, so that two readings are alike.
        names.sort_unstable();
        Ok(Open { folder, path, names: names.into_iter() })
    }

    fn file(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &OsString,
        path: &str,
        mode: Mode,
    ) -> Result<(), LayerError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(folder, name, flags, rustix::fs::Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return self.gone(path),
            Err(error) => {
                self.gatherer.other(path, Kind::Unread, mode)?;
                self.gatherer.unread(path, &format!("it cannot be opened: {error}"));
                return Ok(());
            }
        };
        // What was opened counts, not what was there before.
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return self.gatherer.other(path, Kind::Other, mode);
        }
        if self.is_layer() && has_mark(&file, METACOPY) {
            return Err(LayerError::Elsewhere(path.to_owned()));
        }
        let capabilities =
            rustix::fs::fgetxattr(&file, "security.capability", &mut [0_u8; 64]).is_ok();
        let mode = Mode { capabilities, ..mode };
        if metadata.nlink() > 1 && self.names.len() < MAX_NAMES {
            if let Some(first) = self.names.get(&metadata.ino()) {
                // By another name it may be of another kind.
                if !self.gatherer.is_wanted(path) {
                    self.gatherer.hard_link(path.to_owned(), first.clone());
                    return Ok(());
                }
            } else {
                self.names.insert(metadata.ino(), path.to_owned());
            }
        }
        match self.gatherer.file(path, mode, metadata.len(), &mut &file) {
            // A file of a live system may grow shorter, and a file system may be damaged.
            Err(LayerError::Read(error)) => {
                self.gatherer.other(path, Kind::Unread, mode)?;
                self.gatherer.unread(path, &format!("it cannot be read: {error}"));
                Ok(())
            }
            done => done,
        }
    }
}

/// A folder whose contents are those of another below it.
const REDIRECT: [&str; 2] = ["trusted.overlay.redirect", "user.overlay.redirect"];
/// A file whose contents are those of another below it.
const METACOPY: [&str; 2] = ["trusted.overlay.metacopy", "user.overlay.metacopy"];

/// Whether overlayfs has marked it so; the value may be of any length.
fn has_mark(file: impl AsFd, names: [&str; 2]) -> bool {
    names.iter().any(|name| {
        let read = rustix::fs::fgetxattr(&file, *name, &mut [0_u8; 0]);
        read.is_ok() || read == Err(Errno::RANGE)
    })
}

fn is_opaque(folder: &OwnedFd, mark: &str) -> bool {
    let mut value = [0_u8; 4];
    rustix::fs::fgetxattr(folder, mark, &mut value)
        .is_ok_and(|length| length == 1 && value[0] == b'y')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However short before and after a change is.
    #[test]
    fn a_moment_parts_what_was_before_from_what_comes_after() {
        let folder = tempfile::tempdir().unwrap();
        let dated = |path: &Path| {
            let stat = rustix::fs::stat(path).unwrap();
            (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap())
        };
        for at in 0..20 {
            let path = folder.path().join(at.to_string());
            std::fs::create_dir(&path).unwrap();
            // The next change is dated exactly.
            dated(&path);
            std::fs::create_dir(path.join("before")).unwrap();
            let since = now();
            assert!(dated(&path) <= since);
            std::fs::create_dir(path.join("after")).unwrap();
            assert!(dated(&path) > since);
        }
    }

    #[test]
    fn a_folder_of_the_future_was_not_changed_meanwhile() {
        let is_changed = |dated| is_between((dated, 0), (10, 0), || (20, 0));
        assert_eq!([5, 10, 11, 20, 21].map(is_changed), [false, false, true, true, false]);
    }
}
