//! Which namespaces of the host a container shares.

use portcullis_types::Severity::{self, Critical, High, Low, Medium};

use crate::found::Found;
use crate::items;
use crate::paths::normal;
use crate::spec::Linux;

/// Says of the kind of a namespace (`network`) and the path of one whether that is the host's.
pub(crate) type IsHost<'a> = &'a dyn Fn(&str, &str) -> bool;

/// The kinds of the specification (runtime-spec `config-linux.md`, "Namespaces"), with the name of
/// the file below `/proc/<pid>/ns`, and what sharing the host's is called. Time is left out: no
/// engine gives a container one of its own.
const KINDS: &[(&str, &str, &str, Severity)] = &[
    ("cgroup", "cgroup", items::HOST_CGROUP, Low),
    ("ipc", "ipc", items::HOST_IPC, Medium),
    ("mount", "mnt", items::HOST_MOUNT_NAMESPACE, Critical),
    ("network", "net", items::HOST_NETWORK, High),
    ("pid", "pid", items::HOST_PID, High),
    ("user", "user", items::NO_USER_NAMESPACE, Low),
    ("uts", "uts", items::HOST_UTS, Low),
];

/// The file of a kind's namespace below `/proc/<pid>/ns`.
pub(crate) fn file_of(kind: &str) -> Option<&'static str> {
    KINDS.iter().find(|(known, ..)| *known == kind).map(|(_, file, ..)| *file)
}

/// The kinds of namespace that the container shares with the host.
pub(crate) struct Shared(Vec<&'static str>);

impl Shared {
    /// A kind is shared if it has no entry, or one that joins the host's by its path. Runtimes
    /// refuse a second entry of one kind; here it counts as shared, since either could hold.
    pub(crate) fn of(linux: &Linux, is_host: IsHost<'_>) -> Self {
        let shared = |kind: &str| {
            let mut entries = linux.namespaces.iter().filter(|n| n.kind == kind);
            match (entries.next(), entries.next()) {
                (Some(only), None) => !only.path.is_empty() && is_host(kind, &only.path),
                _ => true,
            }
        };
        Self(KINDS.iter().map(|(kind, ..)| *kind).filter(|kind| shared(kind)).collect())
    }

    pub(crate) fn has(&self, kind: &str) -> bool {
        self.0.contains(&kind)
    }
}

pub(crate) fn look(shared: &Shared, found: &mut Found) {
    for &(kind, _, id, severity) in KINDS.iter().filter(|(kind, ..)| shared.has(kind)) {
        let title = match kind {
            "user" => "root in the container is root on the host: no user namespace".to_owned(),
            kind => format!("the container is in the host's {kind} namespace"),
        };
        found.add(id, severity, None, title);
    }
}

/// Whether the text of a path alone says that it is the host's namespace.
///
/// Engines write `/proc/<pid>/ns/net` of a sandbox, or a file that they keep a namespace at
/// (`/var/run/netns/cni-…`). The host's are those of its first process, of kernel threads (the
/// second) and of whoever asks; any other path within `/proc` could lead there too.
pub(crate) fn is_hosts_by_text(path: &str) -> bool {
    let Some(path) = normal(path) else { return true };
    let Some(within) = path.strip_prefix("/proc/") else { return path == "/proc" };
    let parts: Vec<&str> = within.split('/').take(6).collect();
    let pid = match parts.as_slice() {
        [pid, "ns", _] | [pid, "task", _, "ns", _] => pid,
        _ => return true,
    };
    pid.parse::<u32>().map_or(true, |pid| pid <= 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_namespaces_are_known_by_their_path() {
        for path in [
            "/proc/1/ns/pid",
            "/proc/2/ns/net",
            "/proc/01/ns/net",
            "/proc/self/ns/net",
            "/proc/thread-self/ns/net",
            "/proc/1/task/1/ns/net",
            "/proc/77/../1/ns/net",
            "/proc/77/root/proc/1/ns/net",
            "/proc/77/cwd",
            "/proc",
            "ns/net",
        ] {
            assert!(is_hosts_by_text(path), "{path}");
        }
        for path in [
            "/proc/20671/ns/net",
            "/proc/20671/task/20672/ns/net",
            "/var/run/netns/cni-89afb713-5d40-9bff-69fb-ad448b9c1ee8",
            "/run/crio/ns/netns/5a48d832-124b-4367-8f05-44b1fff72f91",
            "/process/1/ns/net",
        ] {
            assert!(!is_hosts_by_text(path), "{path}");
        }
    }
}
