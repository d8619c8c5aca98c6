//! What the checks want to hear of an image, so that a scanner that walks its layers keeps no more.
//!
//! Paths are those of the merged image, without a leading slash.

use crate::Mode;

/// Most bytes of the account files. The largest that we know of, with some hundred accounts, have
/// 20 kB.
const MOST_OF_ACCOUNTS: usize = 1 << 20;

/// Most bytes of the other files.
const MOST_OF_SETTINGS: usize = 256 << 10;

/// Whether the checks want a file's content, and the most bytes of its beginning.
///
/// A file that has this many bytes or more was read in part, and the checks say so.
pub fn wants_text(path: &str) -> Option<usize> {
    let (folder, name) = split(path);
    match (folder, name) {
        ("etc", "passwd" | "shadow" | "group" | "gshadow") => Some(MOST_OF_ACCOUNTS),
        ("etc", "login.defs" | "hosts.equiv" | "shosts.equiv" | "ld.so.preload" | "sudoers")
        | ("etc/ssh", "shosts.equiv" | "sshd_config")
        | ("etc/ssh/sshd_config.d" | "etc/sudoers.d" | "etc/pam.d", _)
        | (_, ".rhosts" | ".shosts") => Some(MOST_OF_SETTINGS),
        (_, name) if is_authorized_keys(folder, name) => Some(MOST_OF_SETTINGS),
        _ => None,
    }
}

/// Whether the checks want to hear of a file's or folder's mode: set-user-ID and set-group-ID
/// files, file capabilities, and what everybody may write to where it matters.
pub fn wants_mode(path: &str, mode: &Mode) -> bool {
    if mode.is_folder() {
        return mode.is_open();
    }
    if !mode.is_file() {
        return false;
    }
    mode.capabilities
        || is_set_id(mode)
        || (matches!(path, "etc/shadow" | "etc/gshadow") && mode.mode & 0o004 != 0)
        || (mode.is_open() && (path.starts_with("etc/") || is_program(path)))
}

/// Whether the checks want to know that this file, or symbolic link, exists.
pub fn wants_presence(path: &str) -> bool {
    presence(path).is_some()
}

/// Whether a program runs with the rights of its owner or its group. The set-group-ID bit without
/// the group's execute bit means something else (mandatory locking).
pub(crate) fn is_set_id(mode: &Mode) -> bool {
    mode.mode & 0o4000 != 0 || mode.mode & 0o2010 == 0o2010
}

/// Files called `authorized_keys`, `authorized_keys2` and the like, where sshd looks for them.
pub(crate) fn is_authorized_keys(folder: &str, name: &str) -> bool {
    let is_place = folder == "etc/ssh"
        || folder.starts_with("etc/ssh/authorized_keys")
        || split(folder).1 == ".ssh";
    is_place && (name.starts_with("authorized_keys") || folder.starts_with("etc/ssh/authorized"))
}

/// Whether something in this place is run or loaded, wherever its owner put it.
fn is_program(path: &str) -> bool {
    let (folder, _) = split(path);
    let is_system = folder.starts_with("lib") || folder.starts_with("usr/lib");
    is_system || matches!(split(folder).1, "bin" | "sbin" | "libexec" | ".bin" | "games")
}

/// The path's folder and name; the folder is empty at the root.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// What a file means by being there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence<'a> {
    /// It lets people act as root.
    Sudo,
    /// It lets people log in from elsewhere.
    Sshd,
    /// It belongs to a package manager's cache in this folder.
    Cache(&'a str),
    /// It helped to build the image and has no use in it. The path is the file's, or the folder's
    /// whose content all has none.
    Needless(&'a str),
    /// By its name it holds credentials.
    Credentials,
}

/// Reads a path, in a time that is linear in its length.
pub(crate) fn presence(path: &str) -> Option<Presence<'_>> {
    let (folder, name) = split(path);
    let is_bin = matches!(
        folder,
        "bin" | "sbin" | "usr/bin" | "usr/sbin" | "usr/local/bin" | "usr/local/sbin"
    );
    if is_bin {
        return match name {
            "sudo" | "doas" => Some(Presence::Sudo),
            "sshd" | "dropbear" => Some(Presence::Sshd),
            _ => None,
        };
    }
    if let Some(cache) = cache(path) {
        return Some(Presence::Cache(cache));
    }
    if is_of_others(path) {
        return None;
    }
    let parent = split(folder).1;
    let is_credentials = match name {
        ".git-credentials" | ".netrc" | ".pgpass" | ".my.cnf" | ".dockercfg" => true,
        "credentials" => matches!(parent, ".aws" | ".cargo"),
        "credentials.toml" => parent == ".cargo",
        "config.json" => parent == ".docker",
        "config" => parent == ".kube",
        "accessTokens.json" | "azureProfile.json" => parent == ".azure",
        "credentials.db" | "application_default_credentials.json" => parent == "gcloud",
        "id_rsa" | "id_dsa" | "id_ecdsa" | "id_ed25519" => parent == ".ssh",
        // `.env`, but none of `.env.example`, `.env.sample`.
        ".env" | ".env.local" | ".env.production" => true,
        _ => false,
    };
    if is_credentials {
        return Some(Presence::Credentials);
    }
    match name {
        "Dockerfile"
        | "Containerfile"
        | "docker-compose.yml"
        | "docker-compose.yaml"
        | ".dockerignore"
        | ".DS_Store"
        | ".bash_history"
        | ".ash_history"
        | ".gitlab-ci.yml"
        | "Jenkinsfile"
        | "Vagrantfile" => Some(Presence::Needless(path)),
        "HEAD" if parent == ".git" => Some(Presence::Needless(folder)),
        "entries" | "wc.db" if parent == ".svn" => Some(Presence::Needless(folder)),
        "hgrc" | "requires" if parent == ".hg" => Some(Presence::Needless(folder)),
        _ => None,
    }
}

/// The cache that a file is of.
fn cache(path: &str) -> Option<&'static str> {
    let below = |folder: &str| path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
    if let Some(name) = below("var/lib/apt/lists") {
        // The empty folders `partial` and `auxfiles` and the file `lock` stay in every image.
        let is_list = !name.contains('/') && name != "lock";
        return is_list.then_some("var/lib/apt/lists");
    }
    if let Some(name) = below("var/cache/apt") {
        let is_cache = name.ends_with(".deb") || name.ends_with("pkgcache.bin");
        return is_cache.then_some("var/cache/apt");
    }
    if let Some(name) = below("var/cache/apk").or_else(|| below("etc/apk/cache")) {
        return (name.ends_with(".tar.gz") || name.ends_with(".apk")).then_some("var/cache/apk");
    }
    for folder in ["var/cache/yum", "var/cache/dnf", "var/cache/libdnf5", "var/cache/zypp"] {
        if let Some(name) = below(folder) {
            let ends = [
                ".rpm",
                ".solv",
                ".solvx",
                ".xml",
                ".xml.gz",
                ".xml.xz",
                ".xml.zst",
                ".sqlite",
                ".sqlite.bz2",
            ];
            return ends.iter().any(|end| name.ends_with(end)).then_some(folder);
        }
    }
    below("var/cache/pacman/pkg").map(|_| "var/cache/pacman")
}

/// Folders whose files belong to packages, which ship files of any name; nobody who builds an image
/// can mend them.
fn is_of_others(path: &str) -> bool {
    let is_system =
        ["usr/share/", "usr/lib/", "usr/lib64/", "usr/src/", "usr/local/go/", "usr/local/lib/"]
            .iter()
            .any(|folder| path.starts_with(folder));
    is_system
        || path.split('/').any(|part| {
            matches!(
                part,
                "node_modules"
                    | "vendor"
                    | "site-packages"
                    | "dist-packages"
                    | "gems"
                    | "registry"
                    | "testdata"
                    | "proc"
                    | "sys"
            )
        })
        || path.contains("pkg/mod/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_that_are_asked_for() {
        for (path, wanted) in [
            ("etc/passwd", Some(MOST_OF_ACCOUNTS)),
            ("etc/gshadow", Some(MOST_OF_ACCOUNTS)),
            ("usr/etc/passwd", None),
            ("etc/passwd-", None),
            ("etc/ssh/sshd_config", Some(MOST_OF_SETTINGS)),
            ("etc/ssh/sshd_config.d/10-root.conf", Some(MOST_OF_SETTINGS)),
            ("etc/ssh/ssh_config", None),
            ("etc/pam.d/su", Some(MOST_OF_SETTINGS)),
            ("etc/ld.so.preload", Some(MOST_OF_SETTINGS)),
            ("root/.ssh/authorized_keys", Some(MOST_OF_SETTINGS)),
            ("home/a/.ssh/authorized_keys2", Some(MOST_OF_SETTINGS)),
            ("etc/ssh/authorized_keys/root", Some(MOST_OF_SETTINGS)),
            ("home/a/authorized_keys", None),
            ("home/a/.rhosts", Some(MOST_OF_SETTINGS)),
            (".rhosts", Some(MOST_OF_SETTINGS)),
            ("", None),
        ] {
            assert_eq!(wants_text(path), wanted, "{path}");
        }
    }

    #[test]
    fn modes_that_are_asked_for() {
        for (path, mode, wanted) in [
            ("usr/bin/su", 0o104_755, true),
            ("usr/bin/wall", 0o102_755, true),
            ("var/lock/x", 0o102_644, false),
            ("var/mail", 0o042_775, false),
            ("tmp", 0o041_777, false),
            ("tmp", 0o040_777, true),
            ("usr/bin/link", 0o120_777, false),
            ("app/data.txt", 0o100_666, false),
            ("app/bin/run", 0o100_777, true),
            ("etc/app.conf", 0o100_666, true),
            ("etc/shadow", 0o100_644, true),
            ("etc/shadow", 0o100_640, false),
            ("usr/lib/x/liba.so", 0o100_666, true),
            ("dev/null", 0o020_666, false),
        ] {
            let mode = Mode { mode, ..Mode::default() };
            assert_eq!(wants_mode(path, &mode), wanted, "{path} {:o}", mode.mode);
        }
        let capable = Mode { mode: 0o100_755, capabilities: true, ..Mode::default() };
        assert!(wants_mode("usr/bin/ping", &capable));
    }

    #[test]
    fn presences_that_are_asked_for() {
        use Presence::{Cache, Credentials, Needless, Sshd, Sudo};
        for (path, wanted) in [
            ("usr/bin/sudo", Some(Sudo)),
            ("opt/sudo", None),
            ("usr/sbin/sshd", Some(Sshd)),
            ("etc/init.d/sshd", None),
            ("var/lib/apt/lists/lock", None),
            ("var/lib/apt/lists/partial/x", None),
            ("var/lib/apt/lists/deb_InRelease", Some(Cache("var/lib/apt/lists"))),
            ("var/cache/apt/archives/a_1_amd64.deb", Some(Cache("var/cache/apt"))),
            ("var/cache/apt/archives/lock", None),
            ("var/cache/apk/APKINDEX.1.tar.gz", Some(Cache("var/cache/apk"))),
            ("var/cache/dnf/base-1/repodata/a-primary.xml.gz", Some(Cache("var/cache/dnf"))),
            ("var/cache/dnf/last_makecache", None),
            ("app/.git/HEAD", Some(Needless("app/.git"))),
            ("app/Dockerfile", Some(Needless("app/Dockerfile"))),
            ("app/node_modules/a/Dockerfile", None),
            ("usr/share/doc/a/.env", None),
            ("app/.env", Some(Credentials)),
            ("app/.env.example", None),
            ("root/.aws/credentials", Some(Credentials)),
            ("app/credentials", None),
            ("root/.ssh/id_rsa.pub", None),
            ("root/.docker/config.json", Some(Credentials)),
            ("etc/ssl/certs/ca.pem", None),
            ("", None),
        ] {
            assert_eq!(presence(path), wanted, "{path}");
            assert_eq!(wants_presence(path), wanted.is_some());
        }
    }
}
