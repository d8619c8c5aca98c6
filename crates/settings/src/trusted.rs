//! Reading files that decide: only if root, or who runs us, owns them and nobody else may write.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

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
    let ours = stat.st_uid == 0 || stat.st_uid == rustix::process::geteuid().as_raw();
    if !ours || mode & 0o022 != 0 {
        return Err(TrustError::NotTrusted { path: path.to_owned(), owner: stat.st_uid, mode });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0).min(1 << 20));
    File::from(fd).take(limit + 1).read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() as u64 > limit {
        return Err(TrustError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
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
