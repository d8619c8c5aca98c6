//! Putting a file in its place.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Writes a file of this mode: whoever reads the path sees the old one or this one, whole, and after a
/// loss of power, too. It is written beside its place under a hidden name, which no reader of a folder
/// takes for one of its files, and renamed.
///
/// # Errors
/// It cannot be written; what was there stays.
pub fn replace(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let beside = path.with_file_name(format!(".{}.new", name.display()));
    let written = (|| {
        // A leftover of a killed writer must not be followed or kept.
        remove(&beside)?;
        let mut file = File::options().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    written.inspect_err(|_| {
        let _first_error_counts = fs::remove_file(&beside);
    })
}

/// Writes a file for its owner alone, as [`replace`] does, in a folder for its owner alone, which is
/// made if it is not there.
///
/// # Errors
/// It cannot be written; what was there stays.
pub fn keep(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    replace(path, 0o600, bytes)
}

/// Reads a file of at most so many bytes; `None` if there is none.
///
/// # Errors
/// It cannot be read, or it is larger ([`io::ErrorKind::FileTooLarge`]).
pub fn recall(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large")),
        false => Ok(Some(bytes)),
    }
}

/// Removes a file, if it is there.
///
/// # Errors
/// It is there and cannot be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn what_is_kept_is_recalled_within_bounds_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one/two/file");
        assert_eq!(recall(&path, 3).unwrap(), None);
        keep(&path, b"abc").unwrap();
        assert_eq!(recall(&path, 3).unwrap().unwrap(), b"abc");
        assert_eq!(recall(&path, 2).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(recall(folder.path(), 3).is_err());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        // What a killed writer left is neither followed nor kept.
        let elsewhere = folder.path().join("elsewhere");
        fs::write(&elsewhere, "mine").unwrap();
        symlink(&elsewhere, folder.path().join(".file.new")).unwrap();
        for bytes in ["one", "two"] {
            replace(&path, 0o600, bytes.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), bytes);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "mine");
        assert!(replace(&folder.path().join("none/file"), 0o600, b"").is_err());
        assert!(replace(&elsewhere.join("below"), 0o600, b"").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
