//! Reading the engine's files: only where nobody else could have written them, and never for long.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{FileType, Mode, OFlags, Stat};

/// Why a file or a folder of the engine cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// It is not there.
    #[error("{0} does not exist")]
    Missing(PathBuf),
    /// It cannot be opened or read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] io::Error),
    /// A link, a pipe, a device.
    #[error("{0} is neither a regular file nor a folder")]
    Kind(PathBuf),
    /// Somebody else owns it or may write it.
    #[error("{path} is owned by uid {owner} with mode {mode:04o}, so others could have written it")]
    NotTrusted {
        /// The file or folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// Larger than such a file may be.
    #[error("{0} is larger than {1} bytes")]
    TooLarge(PathBuf, u64),
    /// The answer has to be there.
    #[error("the time was up before {0} was read")]
    Deadline(PathBuf),
}

/// How an owner without a number in this user namespace is told (user_namespaces(7),
/// `/proc/sys/kernel/overflowuid`): anybody outside it, so also the machine's root.
const OVERFLOW_UID: u32 = 65534;

/// Who may own what is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owners {
    /// Root, or the user whom this process serves, who is 0 in the user namespace in which a
    /// rootless engine runs the runtime.
    Ours,
    /// Also anybody outside this user namespace: there the machine's own files look like this. Only
    /// for files that decide nothing.
    OursOrOutside,
    /// Anybody, who may have written anything. Only for what is told about the owner's own
    /// container.
    Anybody,
}

/// An open folder that root, or the user whom this process serves, owns and nobody else may write,
/// unless [`Owners`] allow more.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    fd: OwnedFd,
    deadline: Instant,
    owners: Owners,
}

impl Folder {
    /// Opens a folder by its path; files in it are read until the deadline.
    pub(super) fn open(path: &Path, deadline: Instant, owners: Owners) -> Result<Self, ReadError> {
        Self::checked(rustix::fs::CWD, path, path.to_owned(), deadline, owners)
    }

    /// Opens a folder in this one. `name` is one component.
    pub(super) fn folder(&self, name: &str) -> Result<Self, ReadError> {
        Self::checked(&self.fd, Path::new(name), self.path.join(name), self.deadline, self.owners)
    }

    fn checked(
        below: impl AsFd,
        name: &Path,
        path: PathBuf,
        deadline: Instant,
        owners: Owners,
    ) -> Result<Self, ReadError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (fd, stat) = open(below, name, flags, &path, deadline)?;
        is_trusted(&stat, &path, owners)?;
        Ok(Self { path, fd, deadline, owners })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a whole file of at most `limit` bytes. `name` is one component.
    ///
    /// Never blocks on a pipe or a device that stands in its place, and follows no link.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, ReadError> {
        let path = self.path.join(name);
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let (fd, stat) = open(&self.fd, Path::new(name), flags, &path, self.deadline)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(ReadError::Kind(path));
        }
        is_trusted(&stat, &path, self.owners)?;
        let expected = u64::try_from(stat.st_size).unwrap_or(0);
        if expected > limit {
            return Err(ReadError::TooLarge(path, limit));
        }
        // One byte more tells the end of the file without growing the buffer.
        let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(0) + 1);
        match File::from(fd).take(limit + 1).read_to_end(&mut bytes) {
            Err(error) => Err(ReadError::Read(path, error)),
            Ok(_) if bytes.len() as u64 > limit => Err(ReadError::TooLarge(path, limit)),
            Ok(_) => Ok(bytes),
        }
    }
}

/// A thing that may be missing.
pub(super) fn if_there<T>(read: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(ReadError::Missing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn open(
    below: impl AsFd,
    name: &Path,
    flags: OFlags,
    path: &Path,
    deadline: Instant,
) -> Result<(OwnedFd, Stat), ReadError> {
    if Instant::now() >= deadline {
        return Err(ReadError::Deadline(path.to_owned()));
    }
    let wrong = |error: rustix::io::Errno| match error {
        rustix::io::Errno::NOENT => ReadError::Missing(path.to_owned()),
        // What `NOFOLLOW` and `DIRECTORY` say of a link or a file.
        rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR => ReadError::Kind(path.to_owned()),
        other => ReadError::Read(path.to_owned(), other.into()),
    };
    let fd = rustix::fs::openat(below, name, flags, Mode::empty()).map_err(wrong)?;
    let stat = rustix::fs::fstat(&fd).map_err(wrong)?;
    Ok((fd, stat))
}

fn is_trusted(stat: &Stat, path: &Path, owners: Owners) -> Result<(), ReadError> {
    let (owner, mode) = (stat.st_uid, stat.st_mode & 0o7777);
    if owners == Owners::Anybody {
        return Ok(());
    }
    let may_own = owner == 0
        || owner == rustix::process::geteuid().as_raw()
        || (owner == OVERFLOW_UID && owners == Owners::OursOrOutside);
    match may_own && mode & 0o022 == 0 {
        true => Ok(()),
        false => Err(ReadError::NotTrusted { path: path.to_owned(), owner, mode }),
    }
}
