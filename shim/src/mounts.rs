//! Mounting a container's root filesystem as containerd asks, and taking it away whole.

use std::ffi::CString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use containerd_shim_protos::types::mount::Mount;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use crate::sys;

/// `mount(2)` takes one page of options.
const PAGE: usize = 4096;
/// The kernel takes as many ranges in one map (user_namespaces(7)).
const MAX_RANGES: usize = 340;
/// In a bundle, where the layers of an overlay stand with their ids mapped while it is mounted.
pub(crate) const MAPPED: &str = "idmapped";

/// Why a mount failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    #[error("the mount option \"{0}\" is not supported by this runtime")]
    Option(String),
    #[error(
        "the mount's id mapping \"{0}\" is not a list of container:host:size for users and one for groups"
    )]
    Mapping(String),
    #[error("cannot map the ids of {path}: does its file system support idmapped mounts?")]
    Mapped { path: PathBuf, source: io::Error },
    #[error("cannot make a user namespace for the ids of a mount")]
    Namespace(#[source] io::Error),
    #[error("cannot mount {kind} from {from} on {on}")]
    Mount { kind: String, from: String, on: PathBuf, source: io::Error },
    #[error("cannot unmount {path}")]
    Unmount { path: PathBuf, source: io::Error },
    #[error("cannot prepare the mount point {path}")]
    Point { path: PathBuf, source: io::Error },
}

/// Mounts all of `mounts` on `rootfs`; if one fails, those before it are taken away again.
///
/// # Errors
/// [`MountError`] names the mount.
pub(crate) fn mount_all(mounts: &[Mount], rootfs: &Path) -> Result<(), MountError> {
    for (at, mount) in mounts.iter().enumerate() {
        if let Err(error) = mount_one(mount, rootfs) {
            if at > 0
                && let Err(second) = unmount_all(rootfs)
            {
                log::warn!("after a failed mount: {second}");
            }
            return Err(error);
        }
    }
    Ok(())
}

/// Mount options, sorted into flags and data (mount(8), containerd's `core/mount`).
#[derive(Debug, PartialEq)]
struct Options {
    flags: MountFlags,
    read_only_bind: bool,
    data: Vec<String>,
    uids: Option<String>,
    gids: Option<String>,
}

impl Options {
    fn parse(options: &[String], bind: bool) -> Result<Self, MountError> {
        let mut parsed = Self {
            flags: MountFlags::empty(),
            read_only_bind: false,
            data: Vec::new(),
            uids: None,
            gids: None,
        };
        for option in options {
            let (flag, set) = match option.as_str() {
                "defaults" | "rw" | "bind" | "rbind" => {
                    if option == "rbind" {
                        parsed.flags |= MountFlags::from_bits_retain(libc::MS_REC as u32);
                    }
                    continue;
                }
                "ro" => (MountFlags::RDONLY, true),
                "nosuid" => (MountFlags::NOSUID, true),
                "suid" => (MountFlags::NOSUID, false),
                "nodev" => (MountFlags::NODEV, true),
                "dev" => (MountFlags::NODEV, false),
                "noexec" => (MountFlags::NOEXEC, true),
                "exec" => (MountFlags::NOEXEC, false),
                "sync" => (MountFlags::SYNCHRONOUS, true),
                "async" => (MountFlags::SYNCHRONOUS, false),
                "dirsync" => (MountFlags::DIRSYNC, true),
                "noatime" => (MountFlags::NOATIME, true),
                "atime" => (MountFlags::NOATIME, false),
                "nodiratime" => (MountFlags::NODIRATIME, true),
                "diratime" => (MountFlags::NODIRATIME, false),
                "relatime" => (MountFlags::RELATIME, true),
                "norelatime" => (MountFlags::RELATIME, false),
                "strictatime" => (MountFlags::STRICTATIME, true),
                "nostrictatime" => (MountFlags::STRICTATIME, false),
                other => {
                    // What containerd itself must have done before, and what would be silently
                    // something else if the kernel were asked.
                    if other == "loop" || other.starts_with("X-containerd.") {
                        return Err(MountError::Option(shown(other)));
                    }
                    if let Some(map) = other.strip_prefix("uidmap=") {
                        parsed.uids = Some(map_lines(map)?);
                    } else if let Some(map) = other.strip_prefix("gidmap=") {
                        parsed.gids = Some(map_lines(map)?);
                    } else {
                        parsed.data.push(other.to_owned());
                    }
                    continue;
                }
            };
            if flag == MountFlags::RDONLY && bind {
                parsed.read_only_bind = true;
            } else {
                parsed.flags.set(flag, set);
            }
        }
        Ok(parsed)
    }

    /// The user namespace by which ids are mapped, if they are.
    fn namespace(&self) -> Result<Option<OwnedFd>, MountError> {
        match (&self.uids, &self.gids) {
            (None, None) => Ok(None),
            (Some(uids), Some(gids)) => {
                namespace_of(uids, gids).map(Some).map_err(MountError::Namespace)
            }
            (uids, gids) => {
                let one = uids.as_ref().or(gids.as_ref()).map_or("", String::as_str);
                Err(MountError::Mapping(shown(one.trim())))
            }
        }
    }
}

/// As much of an option as an error holds.
fn shown(option: &str) -> String {
    option.chars().take(100).collect()
}

/// `0:100000:65536,…` in the form of `/proc/<pid>/uid_map`.
fn map_lines(map: &str) -> Result<String, MountError> {
    let wrong = || MountError::Mapping(shown(map));
    let mut lines = String::new();
    for (at, range) in map.split(',').enumerate() {
        let numbers: Result<Vec<u32>, _> = range.split(':').map(str::parse).collect();
        match numbers.as_deref() {
            Ok([inside, outside, size]) if at < MAX_RANGES => {
                // Writing to a string does not fail.
                let _infallible = writeln!(lines, "{inside} {outside} {size}");
            }
            _ => return Err(wrong()),
        }
    }
    Ok(lines)
}

/// A user namespace with these maps; it lives as long as the descriptor.
fn namespace_of(uids: &str, gids: &str) -> io::Result<OwnedFd> {
    let (pid, socket) = sys::user_namespace()?;
    let mut byte = [0];
    (&socket).read_exact(&mut byte)?;
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    fs::write(process.join("uid_map"), uids)?;
    fs::write(process.join("gid_map"), gids)?;
    let namespace = File::open(process.join("ns/user"))?;
    socket.set_nonblocking(true)?;
    match (&socket).read(&mut byte) {
        // It is there still, so the pid was its own all the time.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(namespace.into()),
        _ => Err(io::Error::other("the process in it has ended")),
    }
}

/// Puts what stands at `from` on `on`, with its ids mapped and these attributes.
fn mount_mapped(
    from: &Path,
    on: &Path,
    namespace: &OwnedFd,
    attributes: u64,
    recursive: bool,
) -> Result<(), MountError> {
    let wrong = |source: io::Error| MountError::Mapped { path: from.to_owned(), source };
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    let tree = rustix::mount::open_tree(CWD, from, flags).map_err(|e| wrong(e.into()))?;
    sys::set_mount_attributes(&tree, attributes, Some(namespace)).map_err(wrong)?;
    rustix::mount::move_mount(&tree, c"", CWD, on, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|e| wrong(e.into()))
}

/// The lower layers of an overlay with their ids mapped; they are needed only until it is mounted.
struct MappedLayers(PathBuf);

impl MappedLayers {
    /// Mounts them beside `rootfs` and names them so in the overlay's options.
    fn mount(
        data: &mut [String],
        rootfs: &Path,
        namespace: &OwnedFd,
    ) -> Result<Option<Self>, MountError> {
        let Some(lower) = data.iter_mut().find(|o| o.starts_with("lowerdir=")) else {
            return Ok(None);
        };
        let folders: Vec<&str> = lower.trim_start_matches("lowerdir=").split(':').collect();
        let point = rootfs.with_file_name(MAPPED);
        let Some(shared) = shared_folder(&folders) else {
            let source = io::Error::other("the layers share no folder");
            return Err(MountError::Mapped { path: point, source });
        };
        ensure_point(&point)?;
        let layers = Self(point);
        // Read only, as all of them is to be: more than this container's stands there.
        mount_mapped(&shared, &layers.0, namespace, libc::MOUNT_ATTR_RDONLY, true)?;
        let mapped: Vec<String> = folders
            .iter()
            .filter_map(|f| Path::new(f).strip_prefix(&shared).ok())
            .map(|rest| layers.0.join(rest).display().to_string())
            .collect();
        *lower = format!("lowerdir={}", mapped.join(":"));
        Ok(Some(layers))
    }
}

impl Drop for MappedLayers {
    fn drop(&mut self) {
        // The overlay holds what it needs.
        let unmounted = unmount_all(&self.0);
        if let Err(error) = unmounted.and_then(|()| {
            fs::remove_dir(&self.0)
                .map_err(|source| MountError::Point { path: self.0.clone(), source })
        }) {
            log::warn!("after an idmapped mount: {}", crate::status::chain(&error));
        }
    }
}

fn mount_one(mount: &Mount, rootfs: &Path) -> Result<(), MountError> {
    let on = rootfs.to_owned();
    let wrong = |source: io::Error| MountError::Mount {
        kind: mount.type_.clone(),
        from: mount.source.clone(),
        on: on.clone(),
        source,
    };
    let bind = mount.type_ == "bind" || mount.options.iter().any(|o| o == "bind" || o == "rbind");
    let mut options = Options::parse(&mount.options, bind)?;
    let namespace = options.namespace()?;
    let source = CString::new(mount.source.as_str()).map_err(|e| wrong(e.into()))?;
    if bind {
        let recursive = options.flags.bits() & libc::MS_REC as u32 != 0;
        match (&namespace, recursive) {
            (Some(namespace), _) => {
                mount_mapped(Path::new(&mount.source), &on, namespace, 0, recursive)?;
            }
            (None, true) => rustix::mount::mount_bind_recursive(source.as_c_str(), &on)
                .map_err(|e| wrong(e.into()))?,
            (None, false) => {
                rustix::mount::mount_bind(source.as_c_str(), &on).map_err(|e| wrong(e.into()))?
            }
        }
        // A bind mount takes its flags only when it is mounted anew.
        let mut again = options.flags & !MountFlags::from_bits_retain(libc::MS_REC as u32);
        again.set(MountFlags::RDONLY, options.read_only_bind);
        if !again.is_empty() {
            let again = again | MountFlags::BIND;
            if let Err(error) = rustix::mount::mount_remount(&on, again, c"") {
                let _mounted_above = rustix::mount::unmount(&on, UnmountFlags::DETACH);
                return Err(wrong(error.into()));
            }
        }
        return Ok(());
    }
    let overlay = mount.type_ == "overlay";
    let _layers = match &namespace {
        Some(namespace) if overlay => MappedLayers::mount(&mut options.data, rootfs, namespace)?,
        _ => None,
    };
    let (data, _held) = fit_page(options.data).map_err(wrong)?;
    let data = CString::new(data).map_err(|e| wrong(e.into()))?;
    let kind = CString::new(mount.type_.as_str()).map_err(|e| wrong(e.into()))?;
    rustix::mount::mount(
        source.as_c_str(),
        &on,
        kind.as_c_str(),
        options.flags,
        Some(data.as_c_str()),
    )
    .map_err(|e| wrong(e.into()))?;
    match namespace {
        Some(namespace) if !overlay => {
            let mapped = mount_mapped(&on, &on, &namespace, 0, true);
            if mapped.is_err() {
                let _mounted_above = rustix::mount::unmount(&on, UnmountFlags::DETACH);
            }
            mapped
        }
        _ => Ok(()),
    }
}

/// Joins the options; an overlay of very many layers names its lower folders through a descriptor
/// of the folder they share, which must stay open until the mount is done.
fn fit_page(data: Vec<String>) -> io::Result<(String, Option<OwnedFd>)> {
    let joined = data.join(",");
    if joined.len() < PAGE {
        return Ok((joined, None));
    }
    let Some(lower) = data.iter().find_map(|o| o.strip_prefix("lowerdir=")) else {
        return Ok((joined, None));
    };
    let folders: Vec<&str> = lower.split(':').collect();
    let Some(shared) = shared_folder(&folders) else {
        return Ok((joined, None));
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(&shared, flags, Mode::empty())?;
    let short = folders
        .iter()
        .filter_map(|f| Path::new(f).strip_prefix(&shared).ok())
        .map(|rest| format!("/proc/self/fd/{}/{}", fd.as_raw_fd(), rest.display()));
    let short = format!("lowerdir={}", short.collect::<Vec<_>>().join(":"));
    let all: Vec<&str> = data
        .iter()
        .map(|o| if o.starts_with("lowerdir=") { short.as_str() } else { o.as_str() })
        .collect();
    Ok((all.join(","), Some(fd)))
}

fn shared_folder(folders: &[&str]) -> Option<PathBuf> {
    let mut shared = Path::new(folders.first()?).parent()?.to_owned();
    while !folders.iter().all(|f| Path::new(f).starts_with(&shared)) {
        shared = shared.parent()?.to_owned();
    }
    (shared != Path::new("/")).then_some(shared)
}

/// Takes away every mount at and below `path`; nothing mounted is success.
///
/// # Errors
/// [`MountError::Unmount`] for the first that stays.
pub(crate) fn unmount_all(path: &Path) -> Result<(), MountError> {
    loop {
        match rustix::mount::unmount(path, UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(Errno::BUSY) => break,
            Err(e) => {
                return Err(MountError::Unmount { path: path.to_owned(), source: e.into() });
            }
        }
    }
    let detach = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    for mounted in mounts_below(path).into_iter().rev() {
        match rustix::mount::unmount(&mounted, detach) {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(e) => {
                return Err(MountError::Unmount { path: mounted, source: e.into() });
            }
        }
    }
    Ok(())
}

/// Mount points at and below `path`, in the order they were mounted.
fn mounts_below(path: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|escaped| PathBuf::from(unescape(escaped)))
        .filter(|point| point.starts_with(path))
        .collect()
}

/// Undoes the kernel's octal escapes of space, tab, newline and backslash.
fn unescape(text: &str) -> String {
    let mut plain = text.to_owned();
    for (code, character) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        plain = plain.replace(code, character);
    }
    plain
}

/// Makes the mount point if it is missing.
///
/// # Errors
/// [`MountError::Point`] if it cannot be made.
pub(crate) fn ensure_point(rootfs: &Path) -> Result<(), MountError> {
    let mut builder = fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o711);
    match builder.create(rootfs) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(MountError::Point { path: rootfs.to_owned(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn options_are_sorted_into_flags_and_data() {
        let parsed =
            Options::parse(&words(&["ro", "nosuid", "index=off", "lowerdir=/a:/b"]), false)
                .unwrap();
        assert_eq!(parsed.flags, MountFlags::RDONLY | MountFlags::NOSUID);
        assert_eq!(parsed.data, words(&["index=off", "lowerdir=/a:/b"]));
        let bind = Options::parse(&words(&["rbind", "ro"]), true).unwrap();
        assert!(bind.read_only_bind && !bind.flags.contains(MountFlags::RDONLY));
    }

    #[test]
    fn what_is_not_supported_is_said() {
        for option in ["loop", "X-containerd.verity"] {
            let error = Options::parse(&words(&[option]), false).unwrap_err().to_string();
            assert!(error.contains(option), "{error}");
        }
    }

    #[test]
    fn id_mappings_are_lists_of_ranges_for_both_kinds() {
        assert_eq!(map_lines("0:1000:1,1:2000:65535").unwrap(), "0 1000 1\n1 2000 65535\n");
        for wrong in ["", "0", "0:1", "0:1:2:3", "-1:0:1", "0:4294967296:1", "0:1:2,"] {
            assert!(matches!(map_lines(wrong), Err(MountError::Mapping(_))), "{wrong}");
        }
        assert!(map_lines(&vec!["0:0:1"; MAX_RANGES + 1].join(",")).is_err());
        let both = words(&["uidmap=0:1000:2", "gidmap=0:2000:2", "index=off"]);
        let parsed = Options::parse(&both, false).unwrap();
        assert_eq!(parsed.data, words(&["index=off"]));
        let one = Options::parse(&both[..1], false).unwrap().namespace().unwrap_err();
        assert!(one.to_string().contains("0 1000 2"), "{one}");
    }

    #[test]
    fn very_many_layers_fit_a_page() {
        let folder = tempfile::tempdir().unwrap();
        let layers: Vec<String> = (0..128)
            .map(|n| format!("{}/snapshots-with-a-long-name/{n}/fs", folder.path().display()))
            .collect();
        let options = vec!["index=off".into(), format!("lowerdir={}", layers.join(":"))];
        assert!(options.join(",").len() > PAGE);
        let made = folder.path().join("snapshots-with-a-long-name");
        fs::create_dir(&made).unwrap();
        let (data, held) = fit_page(options).unwrap();
        assert!(data.len() < PAGE && held.is_some(), "{} bytes", data.len());
        assert_eq!(data.matches("/fs").count(), 128);
        assert!(data.starts_with("index=off,lowerdir=/proc/self/fd/"));
    }

    #[test]
    fn nothing_mounted_is_success() {
        unmount_all(Path::new("/nonexistent/rootfs")).unwrap();
    }
}
