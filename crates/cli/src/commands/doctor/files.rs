//! The files of a node, below its root: bounded, and with no link that leads out of it.
//!
//! The root may be an image that is not running, so an absolute link in it is one below it
//! (`openat2` with `RESOLVE_IN_ROOT`, Linux 5.6). Where the kernel has no such call, names are used
//! as they are.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// Longest configuration that is read, in bytes.
pub(super) const MAX_TEXT: u64 = 1 << 20;
/// Most names of a folder that are looked at.
const MAX_NAMES: usize = 4096;

/// The tree of files of one node.
#[derive(Debug)]
pub(super) struct Host {
    root: PathBuf,
    folder: OwnedFd,
}

/// A text that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Text {
    Absent,
    Read(String),
    /// It is there and cannot be used; why.
    Unusable(String),
}

/// What is known of a file or a folder, with links followed.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Its own path below the root, without links.
    pub(super) real: String,
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) owner: u32,
    pub(super) mode: u32,
    pub(super) size: u64,
    pub(super) is_file: bool,
}

impl Found {
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    pub(super) fn is_program(&self) -> bool {
        self.is_file && self.mode & 0o111 != 0
    }
}

impl Host {
    /// The node below this root.
    ///
    /// # Errors
    /// If it is no folder that can be read.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let root = std::fs::canonicalize(root)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&root, flags, Mode::empty())?;
        Ok(Self { root, folder })
    }

    /// Whether it is the node that this runs on.
    pub(super) fn is_this_node(&self) -> bool {
        self.root == Path::new("/")
    }

    fn open_at(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let below = path.trim_start_matches('/');
        let below = if below.is_empty() { "." } else { below };
        let flags = flags | OFlags::CLOEXEC;
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.folder, below, flags, Mode::empty(), how) {
            Err(Errno::NOSYS | Errno::PERM) => {
                rustix::fs::openat(&self.folder, below, flags, Mode::empty())
            }
            other => other,
        }
    }

    /// A text of at most [`MAX_TEXT`] bytes.
    pub(super) fn read(&self, path: &str) -> Text {
        self.read_up_to(path, MAX_TEXT)
    }

    /// A text of at most `limit` bytes. Never waits for a pipe or a device.
    pub(super) fn read_up_to(&self, path: &str, limit: u64) -> Text {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match self.open_at(path, flags) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => return Text::Absent,
            Err(error) => return Text::Unusable(io::Error::from(error).to_string()),
        };
        match rustix::fs::fstat(&file) {
            Ok(stat) if is(&stat, FileType::RegularFile) => {}
            Ok(_) => return Text::Unusable("it is not a regular file".to_owned()),
            Err(error) => return Text::Unusable(io::Error::from(error).to_string()),
        }
        let mut bytes = Vec::new();
        if let Err(error) = File::from(file).take(limit + 1).read_to_end(&mut bytes) {
            return Text::Unusable(error.to_string());
        }
        if bytes.len() as u64 > limit {
            return Text::Unusable(format!("it is larger than {limit} bytes"));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Text::Read(text),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                Text::Unusable(format!("it is not UTF-8 at byte {at}"))
            }
        }
    }

    /// What is at a path; `None` if nothing is.
    pub(super) fn find(&self, path: &str) -> Option<Found> {
        let file = self.open_at(path, OFlags::PATH).ok()?;
        let stat = rustix::fs::fstat(&file).ok()?;
        let at = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok();
        let real = at
            .and_then(|at| Some(Path::new("/").join(at.strip_prefix(&self.root).ok()?)))
            .map_or_else(|| path.to_owned(), |at| at.display().to_string());
        Some(Found {
            real,
            device: stat.st_dev,
            inode: stat.st_ino,
            owner: stat.st_uid,
            mode: stat.st_mode & 0o7777,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            is_file: is(&stat, FileType::RegularFile),
        })
    }

    /// The first program of this name in a list of folders.
    pub(super) fn program(&self, name: &str, folders: &[&str]) -> Option<String> {
        folders
            .iter()
            .map(|folder| format!("{folder}/{name}"))
            .find(|path| self.find(path).is_some_and(|found| found.is_program()))
    }

    /// The names in a folder, in order; none if it is not there.
    pub(super) fn names(&self, folder: &str) -> Vec<String> {
        let Ok(file) = self.open_at(folder, OFlags::RDONLY | OFlags::DIRECTORY) else {
            return Vec::new();
        };
        let Ok(entries) = rustix::fs::Dir::new(file) else { return Vec::new() };
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str().ok().map(ToOwned::to_owned))
            .filter(|name| name != "." && name != "..")
            .take(MAX_NAMES)
            .collect();
        names.sort();
        names
    }

    /// The paths that a pattern matches, in order. `*` and `?` stand for anything within one name.
    pub(super) fn glob(&self, pattern: &str) -> Vec<String> {
        let mut found = vec![String::new()];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            let mut next = Vec::new();
            for folder in &found {
                if part.contains(['*', '?']) {
                    let names = self.names(if folder.is_empty() { "/" } else { folder });
                    let matching = names.iter().filter(|name| matches(part, name));
                    next.extend(matching.map(|name| format!("{folder}/{name}")));
                } else {
                    next.push(format!("{folder}/{part}"));
                }
            }
            next.truncate(MAX_NAMES);
            found = next;
        }
        found.retain(|path| self.find(path).is_some());
        found
    }

    /// Whether two programs hold the same bytes.
    pub(super) fn same_bytes(&self, one: &str, two: &str) -> bool {
        const MOST: u64 = 256 << 20;
        let reader = |path: &str| {
            let file = self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK).ok()?;
            Some(io::BufReader::with_capacity(1 << 16, File::from(file).take(MOST)))
        };
        let sizes = [one, two].map(|path| self.find(path).filter(|f| f.is_file).map(|f| f.size));
        if sizes[0].is_none() || sizes[0] != sizes[1] {
            return false;
        }
        let (Some(one), Some(two)) = (reader(one), reader(two)) else { return false };
        one.bytes().map(Result::ok).eq(two.bytes().map(Result::ok))
    }
}

fn is(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

/// Whether a name matches a pattern of `*` and `?`. Linear in practice and never worse than the
/// product of both lengths.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
pub(super) mod testing {
    //! A node of a few files.

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A node that is gone when it is dropped.
    pub(in crate::commands::doctor) struct Node {
        pub(in crate::commands::doctor) folder: tempfile::TempDir,
        pub(in crate::commands::doctor) host: Host,
    }

    impl Node {
        /// Files by their paths; those in a `bin` or `sbin` folder are programs.
        pub(in crate::commands::doctor) fn of(files: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            for (path, text) in files {
                let file = folder.path().join(path.trim_start_matches('/'));
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                match text.strip_prefix("-> ") {
                    Some(to) => std::os::unix::fs::symlink(to, &file).unwrap(),
                    None => {
                        std::fs::write(&file, text).unwrap();
                        let mode = if path.contains("bin/") { 0o755 } else { 0o644 };
                        std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
                    }
                }
            }
            let host = Host::open(folder.path()).unwrap();
            Self { folder, host }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Node;
    use super::*;

    #[test]
    fn links_stay_below_the_root_and_paths_are_real() {
        let node = Node::of(&[
            ("/usr/bin/real", "x"),
            ("/usr/sbin/abs", "-> /usr/bin/real"),
            ("/usr/sbin/up", "-> ../../../../../../usr/bin/real"),
            ("/usr/sbin/gone", "-> /nowhere"),
        ]);
        for (path, wanted) in
            [("/usr/sbin/abs", Some("/usr/bin/real")), ("/usr/sbin/up", Some("/usr/bin/real"))]
        {
            assert_eq!(node.host.find(path).map(|f| f.real).as_deref(), wanted, "{path}");
        }
        assert!(node.host.find("/usr/sbin/gone").is_none());
        assert_eq!(node.host.read("/usr/sbin/abs"), Text::Read("x".into()));
        assert_eq!(node.host.read("/none/at/all"), Text::Absent);
        assert!(matches!(node.host.read("/usr"), Text::Unusable(_)));
    }

    #[test]
    fn patterns_match_within_one_name() {
        let node =
            Node::of(&[("/etc/c/20.toml", ""), ("/etc/c/10.toml", ""), ("/etc/c/x.bak", "")]);
        for (pattern, wanted) in [
            ("/etc/c/*.toml", &["/etc/c/10.toml", "/etc/c/20.toml"][..]),
            ("/etc/*/1?.toml", &["/etc/c/10.toml"]),
            ("/etc/c/x.bak", &["/etc/c/x.bak"]),
            ("/etc/*.toml", &[]),
            ("/none/*", &[]),
        ] {
            assert_eq!(node.host.glob(pattern), wanted, "{pattern}");
        }
        let long = "a".repeat(2000);
        assert!(!matches(&"a*".repeat(200), &format!("{long}b")[..0].to_owned().replace("", "b")));
        assert!(matches("*a*", &long));
    }
}
