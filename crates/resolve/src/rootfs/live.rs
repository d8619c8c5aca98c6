//! Whether what is mounted, as the kernel tells it, is the mount that a snapshot has.
//!
//! The kernel adds options of its own and does not tell all: only what says which layers lie where
//! is compared, and where that is not told the answer says so.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::{Compared, bare};
use crate::containerd::api::Mount;
use crate::mounted::Mounted;

/// Folders in which containerd (2.0 and later) clones the layers with other owners for as long as
/// the call of mount(2) takes (`core/mount/mount_linux.go`).
const CLONES: &str = "ovl-idmapped";

/// Whether this mount at this place is the recorded one.
pub(super) fn compare(recorded: &Mount, at: &Path, mounted: &Mounted) -> Compared {
    match bare(&recorded.kind) {
        // A name with a transformation is not what is mounted, see `once_activated`.
        kind if kind != recorded.kind => Compared::Other,
        "overlay" => overlay(recorded, mounted),
        "bind" => bind(recorded, at),
        kind if kind.starts_with("fuse") => Compared::Untold,
        _ => device(recorded, mounted),
    }
}

/// An overlay is its layers, and nothing but them may be mounted: neither a part of it nor it with
/// data-only layers (`datadir+`).
fn overlay(recorded: &Mount, mounted: &Mounted) -> Compared {
    let idmapped = ["uidmap=", "gidmap="]
        .iter()
        .all(|key| recorded.options.iter().any(|option| option.starts_with(key)));
    let recorded = Mounted {
        at: PathBuf::new(),
        device: String::new(),
        root: PathBuf::from("/"),
        kind: recorded.kind.clone(),
        source: OsString::new(),
        options: recorded.options.iter().map(OsString::from).collect(),
    };
    let same = |key| recorded.option(key) == mounted.option(key);
    let alike = mounted.kind == recorded.kind
        && mounted.root == recorded.root
        && ["upperdir", "workdir", "datadir+"].into_iter().all(same);
    if !alike {
        return Compared::Other;
    }
    lower(&recorded.lower(), &mounted.lower(), idmapped)
}

/// Whether these lower directories, the uppermost first, are the recorded ones.
fn lower(recorded: &[PathBuf], mounted: &[PathBuf], idmapped: bool) -> Compared {
    if recorded == mounted {
        return Compared::Same;
    }
    let parent = common_parent(recorded);
    let (Some(parent), true) = (parent, recorded.len() == mounted.len()) else {
        return Compared::Other;
    };
    let Some(tails) = tails(mounted, idmapped) else {
        return Compared::Other;
    };
    let wanted = recorded.iter().map(|dir| dir.strip_prefix(&parent).ok());
    if wanted.eq(tails.iter().map(|tail| Some(*tail))) {
        // The tail of a single layer is the same in all snapshots.
        return if recorded.len() > 1 { Compared::Same } else { Compared::Untold };
    }
    // The first releases of 2.0 and 2.1 number the clones in place of the layers' names.
    let numbered = tails.iter().enumerate().all(|(n, tail)| *tail == Path::new(&n.to_string()));
    if idmapped && numbered { Compared::Untold } else { Compared::Other }
}

/// What the kernel tells of the directories' names if it does not tell all: containerd changes into
/// the folder of all layers where their names are too long for one call of mount(2), and mounts
/// layers with other owners from a clone of that folder.
fn tails(mounted: &[PathBuf], idmapped: bool) -> Option<Vec<&Path>> {
    if mounted.iter().all(|dir| dir.is_relative()) {
        return Some(mounted.iter().map(PathBuf::as_path).collect());
    }
    let clone = mounted.first()?.ancestors().find(|dir| {
        dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(CLONES))
    })?;
    mounted.iter().map(|dir| dir.strip_prefix(clone).ok()).filter(|_| idmapped).collect()
}

/// The folder of all layers as containerd finds it: by characters, then up to the last slash. Only
/// names that mean what they say are taken.
fn common_parent(dirs: &[PathBuf]) -> Option<PathBuf> {
    let plain = |dir: &PathBuf| {
        dir.is_absolute() && dir.components().all(|part| !matches!(part, Component::ParentDir))
    };
    if !dirs.iter().all(plain) {
        return None;
    }
    let (first, rest) = dirs.split_first()?;
    let parent = first.parent()?;
    parent.ancestors().find(|dir| rest.iter().all(|other| other.starts_with(dir))).map(Into::into)
}

/// A bind mount is the folder that it shows: the same file under both names.
fn bind(recorded: &Mount, at: &Path) -> Compared {
    let id = |path: &Path| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    match (id(Path::new(&recorded.source)), id(at)) {
        (Ok(source), Ok(root)) if source == root => Compared::Same,
        (Ok(_), Ok(_)) => Compared::Other,
        _ => Compared::Untold,
    }
}

/// A file system of its own is its device (devmapper, blockfile), its data set (zfs) or its
/// subvolume (btrfs).
///
/// Of a loop device the kernel does not tell the file, and of other options it tells some.
fn device(recorded: &Mount, mounted: &Mounted) -> Compared {
    if mounted.kind != recorded.kind {
        return Compared::Other;
    }
    let told = |wanted: &String| mounted.options.iter().any(|o| o.as_os_str() == wanted.as_str());
    let flags = ["rw", "ro", "noatime", "nodev", "nosuid", "noexec", "relatime", "discard"];
    let telling: Vec<&String> =
        recorded.options.iter().filter(|option| !flags.contains(&option.as_str())).collect();
    if telling.iter().any(|option| *option == "loop" || option.starts_with("device=")) {
        return Compared::Untold;
    }
    if mounted.source != recorded.source.as_str() {
        return Compared::Other;
    }
    match (recorded.kind.as_str(), mounted.root == Path::new("/")) {
        ("btrfs", _) if telling.iter().any(|option| option.starts_with("subvol")) => {
            if telling.iter().all(|option| told(option)) { Compared::Same } else { Compared::Other }
        }
        (_, false) => Compared::Other,
        (_, true) if telling.iter().all(|option| told(option)) => Compared::Same,
        (_, true) => Compared::Untold,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mounted::find;

    fn recorded(kind: &str, source: &str, options: &[&str]) -> Mount {
        Mount {
            kind: kind.into(),
            source: source.into(),
            target: String::new(),
            options: options.iter().map(|&o| o.into()).collect(),
        }
    }

    /// What is mounted at `/r` by this line: `ROOT KIND SOURCE OPTIONS`.
    fn mounted(line: &str) -> Mounted {
        let words: Vec<&str> = line.split(' ').collect();
        let [root, kind, source, options] = words.as_slice() else { panic!("{line}") };
        let line = format!("36 35 0:40 {root} /r rw shared:1 - {kind} {source} {options}");
        find(line.as_bytes(), Path::new("/r")).unwrap()
    }

    #[track_caller]
    fn check(snapshot: &Mount, line: &str, wanted: Compared) {
        assert_eq!(compare(snapshot, Path::new("/r"), &mounted(line)), wanted, "{line}");
    }

    #[test]
    fn an_overlay_is_its_layers() {
        use Compared::{Other, Same};
        let snapshot = recorded(
            "overlay",
            "overlay",
            &["index=off", "workdir=/s/3/work", "upperdir=/s/3/fs", "lowerdir=/s/2/fs:/s/1/fs"],
        );
        let own = "upperdir=/s/3/fs,workdir=/s/3/work";
        for (line, wanted) in [
            (format!("/ overlay overlay rw,lowerdir=/s/2/fs:/s/1/fs,{own},uuid=on,xino=off"), Same),
            (format!("/ overlay x rw,lowerdir+=/s/2/fs,lowerdir+=/s/1/fs,{own}"), Same),
            // Mounted from within /s.
            (format!("/ overlay overlay rw,lowerdir=2/fs:1/fs,{own},index=off"), Same),
            (format!("/ overlay overlay rw,lowerdir=1/fs:2/fs,{own}"), Other),
            (format!("/ overlay overlay rw,lowerdir=fs:fs,{own}"), Other),
            (format!("/ overlay overlay rw,lowerdir=2/fs:/s/1/fs,{own}"), Other),
            (format!("/ overlay overlay rw,lowerdir=/s/1/fs:/s/2/fs,{own}"), Other),
            (format!("/ overlay overlay rw,lowerdir=/s/2/fs,{own}"), Other),
            (format!("/ overlay overlay rw,lowerdir=/x:/s/2/fs:/s/1/fs,{own}"), Other),
            (format!("/ overlay overlay rw,lowerdir=/s/2/fs:/s/1/fs::/x,{own}"), Other),
            (format!("/ overlay overlay rw,lowerdir=/s/2/fs:/s/1/fs,datadir+=/x,{own}"), Other),
            (format!("/ overlay overlay rw,{own}"), Other),
            (format!("/etc overlay overlay rw,lowerdir=/s/2/fs:/s/1/fs,{own}"), Other),
            (format!("/ tmpfs overlay rw,lowerdir=/s/2/fs:/s/1/fs,{own}"), Other),
            ("/ overlay x rw,lowerdir=/s/2/fs:/s/1/fs".into(), Other),
            (
                "/ overlay x rw,lowerdir=/s/2/fs:/s/1/fs,upperdir=/s/4/fs,workdir=/s/3/work".into(),
                Other,
            ),
            // Clones are made of snapshots with mappings only.
            (
                format!(
                    "/ overlay x rw,lowerdir=/t/ovl-idmapped1/2/fs:/t/ovl-idmapped1/1/fs,{own}"
                ),
                Other,
            ),
        ] {
            check(&snapshot, &line, wanted);
        }
    }

    #[test]
    fn a_view_has_no_layer_of_its_own() {
        let snapshot = recorded("overlay", "overlay", &["lowerdir=/s/2/fs:/s/1/fs"]);
        let line = "/ overlay overlay ro,lowerdir=/s/2/fs:/s/1/fs";
        check(&snapshot, line, Compared::Same);
        let upper = format!("{line},upperdir=/s/3/fs,workdir=/s/3/work");
        check(&snapshot, &upper, Compared::Other);
    }

    #[test]
    fn layers_with_other_owners() {
        use Compared::{Other, Same, Untold};
        let snapshot = |lower| {
            recorded(
                "overlay",
                "overlay",
                &[
                    "uidmap=0:100000:65536",
                    "gidmap=0:100000:65536",
                    "workdir=/s/30/work",
                    "upperdir=/s/30/fs",
                    lower,
                ],
            )
        };
        let line = |lower: &str| {
            format!("/ overlay overlay rw,lowerdir={lower},upperdir=/s/30/fs,workdir=/s/30/work")
        };
        let two = snapshot("lowerdir=/s/12/fs:/s/1/fs");
        for (lower, wanted) in [
            ("/t/ovl-idmapped7/12/fs:/t/ovl-idmapped7/1/fs", Same),
            ("12/fs:1/fs", Same),
            ("/t/ovl-idmapped7/1/fs:/t/ovl-idmapped7/12/fs", Other),
            ("/t/ovl-idmapped7/12/fs:/t/ovl-idmapped8/1/fs", Other),
            ("/t/ovl-idmapped7/12/fs:/s/1/fs", Other),
            ("/t/other/12/fs:/t/other/1/fs", Other),
            ("/t/ovl-idmapped7/0:/t/ovl-idmapped7/1", Untold),
            ("0:1", Untold),
            ("/t/ovl-idmapped7/1:/t/ovl-idmapped7/0", Other),
            ("/t/ovl-idmapped7/0", Other),
        ] {
            check(&two, &line(lower), wanted);
        }
        let one = snapshot("lowerdir=/s/12/fs");
        for (lower, wanted) in [
            ("/s/12/fs", Same),
            ("/t/ovl-idmapped7/fs", Untold),
            ("/t/ovl-idmapped7/0", Untold),
            ("/t/ovl-idmapped7/12/fs", Other),
            ("/s/13/fs", Other),
        ] {
            check(&one, &line(lower), wanted);
        }
    }

    #[test]
    fn what_does_not_say_what_it_means_has_no_parent() {
        let dirs = |all: &[&str]| all.iter().map(PathBuf::from).collect::<Vec<_>>();
        for (all, wanted) in [
            (&["/s/1/fs", "/s/12/fs"][..], Some("/s")),
            (&["/s/1/fs"], Some("/s/1")),
            (&["/a", "/b"], Some("/")),
            (&["/s/../1", "/s/2"], None),
            (&["s/1", "s/2"], None),
            (&[], None),
        ] {
            assert_eq!(common_parent(&dirs(all)), wanted.map(PathBuf::from), "{all:?}");
        }
    }

    #[test]
    fn a_bind_mount_is_the_folder_behind_it() {
        let folder = tempfile::TempDir::new().unwrap();
        let [one, two] = ["one", "two"].map(|name| {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        });
        let snapshot = |dir: &Path| recorded("bind", dir.to_str().unwrap(), &["rw", "rbind"]);
        let line = mounted("/one ext4 /dev/vda rw");
        assert_eq!(compare(&snapshot(&one), &one, &line), Compared::Same);
        assert_eq!(compare(&snapshot(&one), &two, &line), Compared::Other);
        let gone = folder.path().join("gone");
        assert_eq!(compare(&snapshot(&gone), &one, &line), Compared::Untold);
    }

    #[test]
    fn other_file_systems() {
        use Compared::{Other, Same, Untold};
        let thin = recorded("ext4", "/dev/mapper/pool-snap-3", &["discard"]);
        check(&thin, "/ ext4 /dev/mapper/pool-snap-3 rw,stripe=16", Same);
        check(&thin, "/ ext4 /dev/mapper/pool-snap-4 rw", Other);
        check(&thin, "/usr ext4 /dev/mapper/pool-snap-3 rw", Other);
        check(&thin, "/ xfs /dev/mapper/pool-snap-3 rw", Other);
        let tree = recorded("btrfs", "/dev/vdb", &["subvolid=259"]);
        check(&tree, "/snap/3 btrfs /dev/vdb rw,subvolid=259,subvol=/snap/3", Same);
        check(&tree, "/snap/4 btrfs /dev/vdb rw,subvolid=260,subvol=/snap/4", Other);
        check(&recorded("btrfs", "/dev/vdb", &[]), "/snap/4 btrfs /dev/vdb rw", Other);
        let image = recorded("erofs", "/s/2/layer.erofs", &["ro", "loop"]);
        check(&image, "/ erofs /dev/loop0 ro", Untold);
        let several = recorded("erofs", "/s/2/fs.erofs", &["ro", "device=/s/1/layer.erofs"]);
        check(&several, "/ erofs /s/2/fs.erofs ro", Untold);
        let fuse = recorded("fuse3.fuse-overlayfs", "overlay", &["lowerdir=/s/1/fs"]);
        check(&fuse, "/ fuse.fuse-overlayfs fuse-overlayfs rw", Untold);
        let managed = recorded("mkdir/overlay", "overlay", &["lowerdir=/s/1/fs"]);
        check(&managed, "/ overlay overlay rw,lowerdir=/s/1/fs", Other);
    }
}
