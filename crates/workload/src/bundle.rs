//! Reading a bundle's `config.json`, and asking the kernel about the namespaces that it names.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

use crate::{MAX_BYTES, WorkloadError, namespaces};

const NAME: &str = "config.json";

/// Reads the file, with no link followed below the bundle and no other kind of file opened for
/// longer than it takes to see what it is.
pub(crate) fn read(bundle: &Path) -> Result<Vec<u8>, WorkloadError> {
    let path = bundle.join(NAME);
    let unreadable =
        |source: std::io::Error| WorkloadError::Unreadable { path: path.clone(), source };
    let file = open(bundle).map_err(|e| unreadable(e.into()))?;
    let state = rustix::fs::fstat(&file).map_err(|e| unreadable(e.into()))?;
    if FileType::from_raw_mode(state.st_mode) != FileType::RegularFile {
        return Err(WorkloadError::NotAFile { path });
    }
    // One byte more than may be, so that a file that grows meanwhile is seen too.
    let mut json =
        Vec::with_capacity(usize::try_from(state.st_size).unwrap_or(0).min(MAX_BYTES) + 1);
    let limit = MAX_BYTES as u64 + 1;
    File::from(file).take(limit).read_to_end(&mut json).map_err(unreadable)?;
    Ok(json)
}

fn open(bundle: &Path) -> rustix::io::Result<OwnedFd> {
    let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(bundle, folder, Mode::empty())?;
    // A pipe would keep the reader waiting for its writer.
    let file = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(&folder, NAME, file, Mode::empty())
}

/// Whether a path is the host's namespace: by its text, or because the kernel says that it is the
/// namespace of the first process or of this one, which runs beside the engine.
///
/// containerd lets the containers of a pod join `/proc/<pid>/ns/net` of its sandbox even where the
/// sandbox is in the host's network, so the text cannot tell. What cannot be looked at counts by
/// its text: a runtime cannot join it either.
pub(crate) fn is_hosts(kind: &str, path: &str) -> bool {
    if namespaces::is_hosts_by_text(path) {
        return true;
    }
    let Some(file) = namespaces::file_of(kind) else { return false };
    let identity = |path: &str| rustix::fs::stat(path).ok().map(|s| (s.st_dev, s.st_ino));
    let Some(joined) = identity(path) else { return false };
    ["1", "self"].iter().any(|pid| identity(&format!("/proc/{pid}/ns/{file}")) == Some(joined))
}
