//! Folders and files of a store: opened step by step from its root, and checked before use.
//!
//! No step follows a symbolic link, waits for another process, or opens what is not a plain file
//! or folder. Each must belong to root or to us, and nobody else may write it: whoever can put a
//! verdict here can let any image start.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use portcullis_settings::trusted::is_own;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::frame::{HEADER, MAX_FILE};
use crate::{Damage, StoreError};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Without `NONBLOCK`, opening a pipe that was put in a verdict's place would wait for ever.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

const PRIVATE_FOLDER: Mode = Mode::RWXU;
const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);
/// What everybody gets in a store whose folder everybody may read, for users whose containers run
/// without root.
const SHARED_FOLDER: Mode = Mode::RGRP.union(Mode::XGRP).union(Mode::ROTH).union(Mode::XOTH);
const SHARED_FILE: Mode = Mode::RGRP.union(Mode::ROTH);

/// An open folder of the store.
pub(crate) struct Folder {
    fd: OwnedFd,
    path: PathBuf,
    /// Everybody may read it, and then what is made in it as well.
    shared: bool,
}

/// The first bytes of a file.
pub(crate) struct Start {
    /// As many as were wanted, or all.
    pub(crate) bytes: Vec<u8>,
    /// How many the file has.
    pub(crate) size: u64,
}

impl Folder {
    /// The store's root. It alone may be reached through symbolic links: its path is ours.
    pub(crate) fn root(path: &Path) -> Result<Self, StoreError> {
        let opened = rustix::fs::open(path, FOLDER, Mode::empty());
        Self::checked(opened, path.to_owned())
    }

    /// The store's root, created if need be.
    pub(crate) fn create_root(path: &Path) -> Result<Self, StoreError> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(PRIVATE_FOLDER.as_raw_mode())
            .create(path)
            .map_err(|source| StoreError::Unwritable {
                operation: "create",
                path: path.to_owned(),
                source,
            })?;
        Self::root(path)
    }

    /// A folder in this one. `None` if there is none.
    pub(crate) fn child(&self, name: &str) -> Result<Option<Self>, StoreError> {
        match rustix::fs::openat(&self.fd, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
            Err(Errno::NOENT) => Ok(None),
            opened => Self::checked(opened, self.path.join(name)).map(Some),
        }
    }

    /// A folder in this one, created if need be.
    pub(crate) fn create_child(&self, name: &str) -> Result<Self, StoreError> {
        let mode = if self.shared { PRIVATE_FOLDER | SHARED_FOLDER } else { PRIVATE_FOLDER };
        match rustix::fs::mkdirat(&self.fd, name, mode) {
            Ok(()) => self.sync()?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(self.unwritable("create", name, error)),
        }
        self.child(name)?.ok_or_else(|| self.unwritable("create", name, Errno::NOENT))
    }

    /// Where it lies, for messages.
    pub(crate) fn path_of(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    fn checked(opened: Result<OwnedFd, Errno>, path: PathBuf) -> Result<Self, StoreError> {
        let fd = match opened {
            Ok(fd) => fd,
            Err(Errno::LOOP | Errno::NOTDIR) => {
                let what = "is not a folder";
                return Err(StoreError::Untrusted { path, what });
            }
            Err(error) => return Err(unreadable(path, error)),
        };
        let stat = match rustix::fs::fstat(&fd) {
            Ok(stat) => stat,
            Err(error) => return Err(unreadable(path, error)),
        };
        trusted(&stat, || path.clone())?;
        let shared = Mode::from_raw_mode(stat.st_mode).contains(SHARED_FOLDER);
        Ok(Self { fd, path, shared })
    }

    /// A file, as far as `wanted` says from its first [`HEADER`] bytes. `None` if there is none.
    pub(crate) fn read(
        &self,
        name: &str,
        wanted: impl FnOnce(&[u8]) -> u64,
    ) -> Result<Option<Start>, StoreError> {
        let opened = rustix::fs::openat(&self.fd, name, FILE, Mode::empty());
        let path = || self.path_of(name);
        let fd = match opened {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            // A link, or a socket.
            Err(Errno::LOOP | Errno::NXIO) => return Err(not_a_file(path())),
            Err(error) => return Err(unreadable(path(), error)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|error| unreadable(path(), error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(not_a_file(path()));
        }
        trusted(&stat, path)?;
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if size > MAX_FILE {
            let what = Damage::Oversized(size);
            return Err(StoreError::Corrupt { path: path(), what });
        }
        let mut bytes = Vec::new();
        read_up_to(&fd, &mut bytes, HEADER as u64)
            .and_then(|()| {
                let wanted = wanted(&bytes);
                read_up_to(&fd, &mut bytes, wanted.min(size))
            })
            .map_err(|error| unreadable(path(), error))?;
        Ok(Some(Start { bytes, size }))
    }

    /// The names in this folder that are UTF-8, in order; all of the store's own are.
    pub(crate) fn names(&self) -> Result<Vec<String>, StoreError> {
        let failed = |error| unreadable(self.path.clone(), error);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name: OsString = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
            if let Ok(name) = name.into_string()
                && name != "."
                && name != ".."
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Writes a new file that lasts. One that has its name already is thrown away.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.unlink(name)?;
        let fd = rustix::fs::openat(
            &self.fd,
            name,
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            self.file_mode(),
        )
        .map_err(|error| self.unwritable("create", name, error))?;
        let mut file = File::from(fd);
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|source| {
            StoreError::Unwritable { operation: "write", path: self.path_of(name), source }
        })
    }

    fn file_mode(&self) -> Mode {
        if self.shared { PRIVATE_FILE | SHARED_FILE } else { PRIVATE_FILE }
    }

    /// Makes sure that an empty file has this name, and that it lasts.
    pub(crate) fn touch(&self, name: &str) -> Result<(), StoreError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.fd, name, flags, self.file_mode()) {
            Ok(_) => self.sync(),
            Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(self.unwritable("create", name, error)),
        }
    }

    /// Moves a file into another folder, over one of that name, so that it lasts.
    pub(crate) fn rename_into(
        &self,
        name: &str,
        other: &Self,
        new: &str,
    ) -> Result<(), StoreError> {
        rustix::fs::renameat(&self.fd, name, &other.fd, new)
            .map_err(|error| other.unwritable("rename to", new, error))?;
        other.sync()
    }

    /// Removes a file. Returns whether there was one.
    pub(crate) fn unlink(&self, name: &str) -> Result<bool, StoreError> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(self.unwritable("remove", name, error)),
        }
    }

    /// Removes a folder in this one, if it is empty.
    pub(crate) fn remove_empty(&self, name: &str) -> Result<(), StoreError> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(error) => Err(self.unwritable("remove", name, error)),
        }
    }

    /// Makes changes of names in this folder last.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        rustix::fs::fsync(&self.fd).map_err(|error| self.unwritable("sync", "", error))
    }

    /// Opens a file for locking, created if need be.
    pub(crate) fn open_lock(&self, name: &str) -> Result<OwnedFd, StoreError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, name, flags | OFlags::NONBLOCK, PRIVATE_FILE)
            .map_err(|error| self.unwritable("lock", name, error))
    }

    /// The error of a failed change.
    pub(crate) fn unwritable(
        &self,
        operation: &'static str,
        name: &str,
        error: Errno,
    ) -> StoreError {
        StoreError::Unwritable { operation, path: self.path_of(name), source: error.into() }
    }
}

/// Reads on until there are so many bytes, or the file ends.
fn read_up_to(fd: &OwnedFd, bytes: &mut Vec<u8>, size: u64) -> Result<(), Errno> {
    let missing = (size as usize).saturating_sub(bytes.len());
    bytes.reserve_exact(missing);
    // What is reserved may be more than was asked for, and then the file may give more.
    while (bytes.len() as u64) < size {
        match rustix::io::read(fd, rustix::buffer::spare_capacity(bytes)) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn unreadable(path: PathBuf, error: Errno) -> StoreError {
    StoreError::Unreadable { path, source: error.into() }
}

fn not_a_file(path: PathBuf) -> StoreError {
    let what = "is not a regular file";
    StoreError::Untrusted { path, what }
}

fn trusted(stat: &Stat, path: impl FnOnce() -> PathBuf) -> Result<(), StoreError> {
    let what = if !is_own(stat.st_uid) {
        "belongs to another user (chown root)"
    } else if stat.st_mode & 0o022 != 0 {
        "may be written by others (chmod go-w)"
    } else {
        return Ok(());
    };
    Err(StoreError::Untrusted { path: path(), what })
}
