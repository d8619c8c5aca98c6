//! Reading files that decide: only if root, or who runs us, owns them and nobody else may write.
//!
//! In a user namespace root's files look as if nobody owned them, as do all of other users: there
//! nothing better can be told, and what runs there is advisory (its user could call the runtime
//! without us).

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{FileType, Mode, OFlags};

/// Why a file is not trusted or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// There is no such file.
    #[error("{path} does not exist")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be opened or read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is a folder, a pipe, a device.
    #[error("{path} is not a regular file")]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else owns it or may write it.
    #[error(
        "{path} is owned by uid {owner} with mode {mode:04o}: it must be owned by root and not \
         writable by others (chown root {path}; chmod go-w {path})"
    )]
    NotTrusted {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// It is secret, and others may read it.
    #[error("{path} has mode {mode:04o}, so that others may read it: chmod go-rwx {path}")]
    NotSecret {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is larger than such a file may be.
    #[error("{path} is larger than {limit} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound, in bytes.
        limit: u64,
    },
}

/// Reads a whole file of at most `limit` bytes, if it is to be trusted.
///
/// Never blocks on a pipe or a device that stands in its place.
///
/// # Errors
/// [`TrustError`] names the file and what to do.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, TrustError> {
    read_as(path, limit, 0o022)
}

/// Like [`read`], and only if nobody else may read it either.
///
/// # Errors
/// [`TrustError`] names the file and what to do.
pub fn read_secret(path: &Path, limit: u64) -> Result<Vec<u8>, TrustError> {
    read_as(path, limit, 0o077)
}

fn read_as(path: &Path, limit: u64, forbidden: u32) -> Result<Vec<u8>, TrustError> {
    let wrong = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => TrustError::Missing { path: path.to_owned() },
        _ => TrustError::Read { path: path.to_owned(), source },
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| wrong(e.into()))?;
    let stat = rustix::fs::fstat(&fd).map_err(|e| wrong(e.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(TrustError::NotAFile { path: path.to_owned() });
    }
    let mode = stat.st_mode & 0o7777;
    if !is_own(stat.st_uid) || mode & 0o022 != 0 {
        return Err(TrustError::NotTrusted { path: path.to_owned(), owner: stat.st_uid, mode });
    }
    if mode & forbidden != 0 {
        return Err(TrustError::NotSecret { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0).min(1 << 20));
    File::from(fd).take(limit + 1).read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() as u64 > limit {
        return Err(TrustError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

/// The owner that the kernel tells for users who are not in this user namespace
/// (`/proc/sys/kernel/overflowuid`, which nobody changes).
const UNMAPPED: u32 = 65534;

/// Whether a file of this owner is root's, or of who runs this.
pub fn is_own(owner: u32) -> bool {
    owner == 0
        || owner == rustix::process::geteuid().as_raw()
        || (owner == UNMAPPED && is_rootless())
}

/// Whether this runs in a user namespace that the host's root is not in (user_namespaces(7)).
pub fn is_rootless() -> bool {
    static ROOTLESS: OnceLock<bool> = OnceLock::new();
    *ROOTLESS.get_or_init(|| {
        std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !has_root(&map))
    })
}

/// Whether a map has the outer namespace's id 0 in one of its lines `inside outside count`.
fn has_root(map: &str) -> bool {
    map.lines().any(|line| line.split_whitespace().nth(1) == Some("0"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_others_may_write_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy");
        std::fs::write(&file, "x").unwrap();
        assert_eq!(read(&file, 10).unwrap(), b"x");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).unwrap();
        let error = read(&file, 10).unwrap_err();
        assert!(matches!(error, TrustError::NotTrusted { mode: 0o666, .. }), "{error}");
        for mode in [0o644, 0o640, 0o604] {
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(read(&file, 10).unwrap(), b"x");
            let error = read_secret(&file, 10).unwrap_err();
            assert!(matches!(error, TrustError::NotSecret { .. }), "{error}");
        }
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(read_secret(&file, 10).unwrap(), b"x");
    }

    #[test]
    fn a_namespace_without_the_hosts_root_is_known() {
        assert!(has_root("         0          0 4294967295\n"));
        assert!(!has_root("         0       1000          1\n         1     100000      65536\n"));
        assert!(!is_own(UNMAPPED) || is_rootless());
    }

    #[test]
    fn a_pipe_in_its_place_does_not_hang_and_size_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(matches!(read(&pipe, 10), Err(TrustError::NotAFile { .. })));
        let file = folder.path().join("long");
        std::fs::write(&file, "0123456789x").unwrap();
        assert!(matches!(read(&file, 10), Err(TrustError::TooLarge { limit: 10, .. })));
        assert!(matches!(read(&folder.path().join("none"), 10), Err(TrustError::Missing { .. })));
    }
}
