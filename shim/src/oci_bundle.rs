//! The bundle that an OCI command line names: whose it is, and whether it stays the same.
//!
//! The runtime reads `config.json` again, by its path, and takes no open file. So what was judged
//! must be what it will read: nobody but the caller may write it, and right before the runtime takes
//! over the file is looked at again. Its folder may also be the container's root's, as Podman makes
//! it with a user namespace: whoever holds that id could put another file there in the last moment.

use std::io;
use std::path::{Path, PathBuf};

use portcullis_gate::root_of;
use portcullis_types::with_causes;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};

const CONFIG: &str = "config.json";

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    #[error("cannot open the bundle {path}")]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot read {path}")]
    Look { path: PathBuf, source: io::Error },
    #[error("{path} is not a regular file")]
    NotAFile { path: PathBuf },
    #[error(
        "{path} is owned by uid {owner} with mode {mode:04o}: a bundle must be owned by whoever \
         runs it or by root, and not be writable by others"
    )]
    NotTrusted { path: PathBuf, owner: u32, mode: u32 },
    #[error("{path} was changed while it was judged")]
    Changed { path: PathBuf },
}

/// A bundle that was looked at.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// Absolute, without links.
    pub(crate) path: PathBuf,
    /// Its root filesystem, absolute and without links; or why it cannot be told.
    pub(crate) root: Result<PathBuf, String>,
    seen: Seen,
}

/// What changes when somebody writes a file, or puts another one in its place.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    device: u64,
    inode: u64,
    size: i64,
    changed: (i64, i64),
    modified: (i64, i64),
}

impl Seen {
    fn of(stat: &Stat) -> Self {
        let nanoseconds = |n| i64::try_from(n).unwrap_or(i64::MAX);
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            changed: (stat.st_ctime, nanoseconds(stat.st_ctime_nsec)),
            modified: (stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
        }
    }
}

impl BundleError {
    /// There is no such bundle, which says nothing about anybody's intentions.
    pub(crate) fn is_missing(&self) -> bool {
        match self {
            Self::Open { source, .. } | Self::Look { source, .. } => {
                source.kind() == io::ErrorKind::NotFound
            }
            _ => false,
        }
    }
}

impl Bundle {
    /// Looks at the bundle at this path, or at the current folder.
    ///
    /// # Errors
    /// [`BundleError`]: it is not there, or not its caller's own.
    pub(crate) fn open(named: Option<&Path>) -> Result<Self, BundleError> {
        let named = named.unwrap_or(Path::new("."));
        let open = |source| BundleError::Open { path: named.to_owned(), source };
        // The last part must be no link, as the workload's reader demands too.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, named, flags, Mode::empty())
            .map_err(|error| open(error.into()))?;
        let path = std::fs::canonicalize(named).map_err(open)?;
        let of_folder = rustix::fs::fstat(&folder).map_err(|error| open(error.into()))?;
        let config = path.join(CONFIG);
        let of_config = look(&config)?;
        if FileType::from_raw_mode(of_config.st_mode) != FileType::RegularFile {
            return Err(BundleError::NotAFile { path: config });
        }
        // In a folder that nobody else may enter nobody else reaches the file: Docker's containerd
        // may write it without a umask.
        let shut = of_folder.st_mode & 0o011 == 0;
        check_owner(&config, &of_config, 0, if shut { 0 } else { 0o022 })?;
        let (root, owner) = root_below(&path);
        check_owner(&path, &of_folder, owner, 0o022)?;
        let bundle = Self { path, root, seen: Seen::of(&of_config) };
        // What was read is what was looked at.
        bundle.check_unchanged()?;
        Ok(bundle)
    }

    /// Looks at the specification again.
    ///
    /// # Errors
    /// [`BundleError::Changed`] if it is another file or was written to.
    pub(crate) fn check_unchanged(&self) -> Result<(), BundleError> {
        let path = self.path.join(CONFIG);
        match look(&path) {
            Ok(stat) if Seen::of(&stat) == self.seen => Ok(()),
            Ok(_) | Err(_) => Err(BundleError::Changed { path }),
        }
    }
}

/// The root filesystem, or why it cannot be told, and the user outside who is the container's root.
fn root_below(bundle: &Path) -> (Result<PathBuf, String>, u32) {
    let named = match root_of(bundle) {
        Ok(named) => named,
        Err(error) => return (Err(with_causes(&error)), 0),
    };
    // `join` takes an absolute path as it is.
    let root = bundle.join(named.path);
    let root = std::fs::canonicalize(&root)
        .map_err(|error| format!("the root filesystem {}: {error}", root.display()));
    (root, named.owner)
}

fn look(path: &Path) -> Result<Stat, BundleError> {
    rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| BundleError::Look { path: path.to_owned(), source: error.into() })
}

/// Root, who runs this, or `also`: another's file, or one that others may write (`forbidden` bits),
/// could change at any time.
fn check_owner(path: &Path, stat: &Stat, also: u32, forbidden: u32) -> Result<(), BundleError> {
    let ours = [0, rustix::process::geteuid().as_raw(), also].contains(&stat.st_uid);
    let sticky =
        FileType::from_raw_mode(stat.st_mode) == FileType::Directory && stat.st_mode & 0o1000 != 0;
    if ours && (stat.st_mode & forbidden == 0 || sticky) {
        return Ok(());
    }
    let mode = stat.st_mode & 0o7777;
    Err(BundleError::NotTrusted { path: path.to_owned(), owner: stat.st_uid, mode })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn bundle() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join("b");
        std::fs::create_dir_all(bundle.join("rootfs")).unwrap();
        std::fs::write(bundle.join(CONFIG), r#"{"root":{"path":"rootfs"}}"#).unwrap();
        (folder, bundle)
    }

    #[test]
    fn a_bundle_is_found_with_its_root() {
        let (folder, path) = bundle();
        let opened = Bundle::open(Some(&path)).unwrap();
        assert_eq!(opened.root.unwrap(), path.canonicalize().unwrap().join("rootfs"));
        let root = folder.path().join("elsewhere");
        std::fs::create_dir(&root).unwrap();
        symlink(&root, folder.path().join("link")).unwrap();
        let named = format!(r#"{{"root":{{"path":"{}/link"}}}}"#, folder.path().display());
        std::fs::write(path.join(CONFIG), named).unwrap();
        let opened = Bundle::open(Some(&path)).unwrap();
        assert_eq!(opened.root.unwrap(), root.canonicalize().unwrap());
    }

    #[test]
    fn a_root_that_cannot_be_told_is_no_error_of_the_bundle() {
        let (_folder, path) = bundle();
        for (text, wanted) in [
            ("{", "the document"),
            (r#"{"root":{"path":"none"}}"#, "none"),
            (r#"{"root":{"path":"a"},"Root":{"path":"rootfs"}}"#, "ambiguous"),
        ] {
            std::fs::write(path.join(CONFIG), text).unwrap();
            let why = Bundle::open(Some(&path)).unwrap().root.unwrap_err();
            assert!(why.contains(wanted), "{text}: {why}");
        }
    }

    #[test]
    fn what_others_may_write_or_links_elsewhere_is_refused() {
        let (folder, path) = bundle();
        let config = path.join(CONFIG);
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        };
        mode(&config, 0o666);
        mode(&path, 0o755);
        assert!(matches!(Bundle::open(Some(&path)), Err(BundleError::NotTrusted { .. })));
        // Nobody else reaches it.
        mode(&path, 0o700);
        Bundle::open(Some(&path)).unwrap();
        mode(&config, 0o600);
        mode(&path, 0o777);
        assert!(matches!(Bundle::open(Some(&path)), Err(BundleError::NotTrusted { .. })));
        mode(&path, 0o700);
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(Bundle::open(Some(&link)), Err(BundleError::Open { .. })));
        std::fs::rename(&config, folder.path().join("config.json")).unwrap();
        assert!(matches!(Bundle::open(Some(&path)), Err(BundleError::Look { .. })));
        symlink(folder.path().join("config.json"), &config).unwrap();
        assert!(matches!(Bundle::open(Some(&path)), Err(BundleError::NotAFile { .. })));
    }

    #[test]
    fn the_containers_root_may_own_the_folder() {
        let (_folder, path) = bundle();
        let mapped = r#"{"root":{"path":"rootfs"},
            "linux":{"uidMappings":[{"containerID":0,"hostID":100000,"size":65536}]}}"#;
        std::fs::write(path.join(CONFIG), mapped).unwrap();
        // Only root can give a folder away.
        if std::os::unix::fs::chown(&path, Some(100_000), None).is_err() {
            return;
        }
        Bundle::open(Some(&path)).unwrap();
        std::os::unix::fs::chown(&path, Some(100_001), None).unwrap();
        assert!(matches!(Bundle::open(Some(&path)), Err(BundleError::NotTrusted { .. })));
        std::os::unix::fs::chown(&path, Some(100_000), None).unwrap();
        std::os::unix::fs::chown(path.join(CONFIG), Some(100_000), None).unwrap();
        assert!(matches!(Bundle::open(Some(&path)), Err(BundleError::NotTrusted { .. })));
    }

    #[test]
    fn a_change_is_seen() {
        let (_folder, path) = bundle();
        let text = std::fs::read_to_string(path.join(CONFIG)).unwrap();
        for change in [
            &(|config: &Path| std::fs::write(config, format!("{text} ")).unwrap())
                as &dyn Fn(&Path),
            &|config| {
                std::fs::remove_file(config).unwrap();
                std::fs::write(config, &text).unwrap();
            },
            &|config| std::fs::remove_file(config).unwrap(),
        ] {
            std::fs::write(path.join(CONFIG), &text).unwrap();
            let opened = Bundle::open(Some(&path)).unwrap();
            opened.check_unchanged().unwrap();
            // The clock of file systems is a coarse one.
            std::thread::sleep(std::time::Duration::from_millis(20));
            change(&path.join(CONFIG));
            assert!(matches!(opened.check_unchanged(), Err(BundleError::Changed { .. })));
        }
    }
}
