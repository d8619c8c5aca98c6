//! What inodes say: set-user-ID and set-group-ID files, file capabilities, and what everybody may
//! write to.

use std::collections::HashSet;

use crate::issues::Issues;
use crate::wants::{is_set_id, split};
use crate::{Image, Mode};

/// The folders that programs are looked for in if the image sets no PATH: what runc and Docker
/// take.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Programs that Debian, Ubuntu, Alpine, Red Hat's and SUSE's distributions install with one of
/// the bits, or with capabilities, in folders for programs.
const STOCK_PROGRAMS: &[&str] = &[
    "arping",
    "at",
    "bbsuid",
    "bsd-write",
    "chage",
    "chfn",
    "chsh",
    "clockdiff",
    "crontab",
    "dotlockfile",
    "doas",
    "expiry",
    "fping",
    "fusermount",
    "fusermount3",
    "gpasswd",
    "grub2-set-bootflag",
    "ksu",
    "locate",
    "lockfile",
    "mlocate",
    "mount",
    "mount.cifs",
    "mount.nfs",
    "mtr-packet",
    "newgidmap",
    "newgrp",
    "newuidmap",
    "ntfs-3g",
    "pam_timestamp_check",
    "passwd",
    "ping",
    "ping4",
    "ping6",
    "pkexec",
    "plocate",
    "postdrop",
    "postqueue",
    "pppd",
    "sg",
    "ssh-agent",
    "su",
    "sudo",
    "sudoedit",
    "suexec",
    "traceroute6",
    "traceroute6.iputils",
    "umount",
    "unix2_chkpwd",
    "unix_chkpwd",
    "unix_update",
    "userhelper",
    "usernetctl",
    "utempter",
    "wall",
    "write",
];

/// The same, elsewhere: the name behind `usr/lib*/` or `usr/libexec/`, whatever the architecture.
const STOCK_HELPERS: &[&str] = &[
    "dbus-1.0/dbus-daemon-launch-helper",
    "dbus-1/dbus-daemon-launch-helper",
    "dbus-daemon-launch-helper",
    "gstreamer-1.0/gst-ptp-helper",
    "gstreamer1.0/gstreamer-1.0/gst-ptp-helper",
    "mail-lock",
    "mail-touchlock",
    "mail-unlock",
    "openssh/ssh-keysign",
    "polkit-1/polkit-agent-helper-1",
    "policykit-1/polkit-agent-helper-1",
    "pt_chown",
    "ssh-keysign",
    "ssh/ssh-keysign",
    "utempter/utempter",
];

pub(super) fn check(image: &dyn Image, issues: &mut Issues) {
    let folders = folders_of_path(&image.config().env);
    for (path, mode) in image.modes() {
        let bits = mode.mode & 0o7777;
        if mode.is_file() {
            if is_set_id(&mode) {
                let id = if is_stock(path) { "setid-stock" } else { "setid-file" };
                let part = format!("mode {bits:04o}, owner {}, group {}", mode.uid, mode.gid);
                issues.add(id, Some(path), &part);
            }
            if mode.capabilities {
                let id = if is_stock(path) { "capabilities-stock" } else { "capabilities-file" };
                issues.add(id, Some(path), "has file capabilities");
            }
            if matches!(path, "etc/shadow" | "etc/gshadow") && bits & 0o004 != 0 {
                issues.add("shadow-readable", Some(path), &format!("mode {bits:04o}"));
            }
        }
        if mode.is_open() && (mode.is_file() || mode.is_folder()) {
            open(path, &mode, &folders, issues);
        }
    }
}

/// Something that everybody may write to.
fn open(path: &str, mode: &Mode, folders: &Folders, issues: &mut Issues) {
    let part = format!("mode {:04o}", mode.mode & 0o7777);
    let id = if mode.is_folder() {
        if folders.all.contains(path) {
            "writable-path-folder"
        } else if path == "etc" || path.starts_with("etc/") {
            "writable-etc"
        } else if matches!(path, "tmp" | "var/tmp" | "dev/shm") {
            "tmp-without-sticky"
        } else {
            return;
        }
    } else if path.starts_with("etc/") {
        "writable-etc"
    } else if folders.own.contains(split(path).0)
        || ["lib", "usr/lib"].iter().any(|folder| path.starts_with(folder))
    {
        "writable-program"
    } else {
        return;
    };
    issues.add(id, Some(path), &part);
}

/// The folders of PATH.
struct Folders {
    /// Those themselves.
    own: HashSet<String>,
    /// And those they lie in: who may write to one of these can put another in its place.
    all: HashSet<String>,
}

fn folders_of_path(env: &[String]) -> Folders {
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH="));
    let mut folders = Folders { own: HashSet::new(), all: HashSet::new() };
    // More folders than these are no PATH of a person; each has its parents.
    for folder in path.unwrap_or(DEFAULT_PATH).split(':').take(256) {
        let parts: Vec<_> =
            folder.split('/').filter(|part| !matches!(*part, "" | ".")).take(64).collect();
        if !folder.starts_with('/') || folder.len() > 4096 || parts.contains(&"..") {
            continue;
        }
        let mut own = String::new();
        for part in parts {
            if !own.is_empty() {
                own.push('/');
            }
            own.push_str(part);
            folders.all.insert(own.clone());
        }
        folders.own.insert(own);
    }
    folders
}

/// Whether a distribution installs it with rights, by its name and place.
fn is_stock(path: &str) -> bool {
    let (folder, name) = split(path);
    if matches!(folder, "bin" | "sbin" | "usr/bin" | "usr/sbin") {
        return STOCK_PROGRAMS.contains(&name);
    }
    let Some(below) = path
        .strip_prefix("usr/")
        .unwrap_or(path)
        .strip_prefix("lib")
        .and_then(|rest| rest.split_once('/'))
        .filter(|(rest, _)| matches!(*rest, "" | "32" | "64" | "exec"))
        .map(|(_, below)| below)
    else {
        return false;
    };
    // Debian has a folder of the architecture: `x86_64-linux-gnu`.
    let below = match below.split_once('/') {
        Some((first, rest)) if first.contains("-linux-") => rest,
        _ => below,
    };
    STOCK_HELPERS.contains(&below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stock_programs_are_known_by_name_and_place() {
        for (path, wanted) in [
            ("usr/bin/su", true),
            ("bin/mount", true),
            ("usr/local/bin/su", false),
            ("tmp/su", false),
            ("usr/bin/bash", false),
            ("usr/lib/openssh/ssh-keysign", true),
            ("usr/libexec/openssh/ssh-keysign", true),
            ("usr/lib/x86_64-linux-gnu/utempter/utempter", true),
            ("lib64/dbus-1/dbus-daemon-launch-helper", true),
            ("usr/library/openssh/ssh-keysign", false),
            ("usr/lib/ssh-keysign/x", false),
            ("", false),
        ] {
            assert_eq!(is_stock(path), wanted, "{path}");
        }
    }

    #[test]
    fn path_has_folders_and_their_parents() {
        let folders = folders_of_path(&["PATH=/a/b:relative:/c/../d://e/".to_owned()]);
        let mut all: Vec<_> = folders.all.into_iter().collect();
        all.sort();
        assert_eq!(all, ["a", "a/b", "e"]);
        assert!(folders.own.contains("a/b") && !folders.own.contains("a"));
    }
}
