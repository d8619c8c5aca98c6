//! Paths of the host: their plain form, and how bad it is to have one in a container.

use portcullis_types::Severity;
use portcullis_types::Severity::{Critical, High, Low, Medium};

/// A path without `.`, `..` and doubled slashes, by its text alone: no link is followed, as the
/// engine has resolved those before it wrote the specification. `None` if it is not absolute.
///
/// `/var/run` is the old name of `/run`.
pub(crate) fn normal(path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return None;
    }
    let mut normal = String::with_capacity(path.len());
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => normal.truncate(normal.rfind('/').unwrap_or(0)),
            name => {
                normal.push('/');
                normal.push_str(name);
            }
        }
    }
    if is_within(&normal, "/var/run") {
        normal.drain(.."/var".len());
    }
    Some(if normal.is_empty() { "/".to_owned() } else { normal })
}

/// Whether a normal path is `folder` or lies below it.
pub(crate) fn is_within(path: &str, folder: &str) -> bool {
    folder == "/"
        || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Places that matter to the node: how bad it is to be able to write the whole of one (by a mount
/// of it or of a folder above it), and something below it.
const GUARDED: &[(&str, Severity, Severity)] = &[
    ("/bin", Critical, High),
    ("/boot", Critical, High),
    ("/dev", Critical, High),
    ("/dev/shm", Medium, Medium),
    ("/etc", Critical, High),
    ("/etc/kubernetes", Critical, Critical),
    ("/etc/ld.so.preload", Critical, Critical),
    ("/etc/passwd", Critical, Critical),
    ("/etc/shadow", Critical, Critical),
    ("/etc/ssh", Critical, Critical),
    ("/etc/sudoers", Critical, Critical),
    ("/etc/sudoers.d", Critical, Critical),
    ("/etc/systemd", Critical, Critical),
    ("/home", High, High),
    ("/lib", Critical, High),
    ("/lib64", Critical, High),
    ("/opt/cni", High, High),
    ("/proc", Critical, Critical),
    ("/root", Critical, Critical),
    ("/run", Critical, Medium),
    ("/run/containerd", Critical, Critical),
    ("/run/containers", Critical, Critical),
    ("/run/crio", Critical, Critical),
    ("/run/dbus", High, High),
    ("/run/docker", Critical, Critical),
    ("/run/k3s", Critical, Critical),
    ("/run/netns", High, High),
    ("/run/runc", Critical, Critical),
    ("/run/systemd", Critical, High),
    ("/run/udev", High, High),
    ("/run/user", High, High),
    ("/sbin", Critical, High),
    ("/sys", Critical, High),
    ("/usr", Critical, High),
    ("/var/lib/containerd", Critical, Critical),
    ("/var/lib/containers", Critical, Critical),
    ("/var/lib/docker", Critical, Critical),
    ("/var/lib/etcd", Critical, Critical),
    ("/var/lib/k0s", Critical, Critical),
    ("/var/lib/kubelet", Critical, Critical),
    ("/var/lib/portcullis", Critical, Critical),
    ("/var/lib/rancher", Critical, Critical),
    ("/var/log", High, High),
    ("/var/snap/microk8s", Critical, Critical),
    ("/var/spool/cron", Critical, Critical),
];

/// Places that are public on each node: to read them is of little use to anybody.
const PUBLIC: &[&str] = &[
    "/etc/ca-certificates",
    "/etc/localtime",
    "/etc/machine-id",
    "/etc/os-release",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/ssl/certs",
    "/etc/timezone",
    "/lib/modules",
    "/usr/lib/modules",
    "/usr/lib/os-release",
    "/usr/local/share/ca-certificates",
    "/usr/share",
    "/usr/src",
];

/// Sockets by which container engines take orders.
const ENGINE_SOCKETS: &[&str] = &[
    "/run/buildkit/buildkitd.sock",
    "/run/containerd/containerd.sock",
    "/run/containerd/containerd.sock.ttrpc",
    "/run/cri-dockerd.sock",
    "/run/crio/crio.sock",
    "/run/docker.sock",
    "/run/docker/containerd/containerd.sock",
    "/run/dockershim.sock",
    "/run/k0s/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
];

/// Whether a host path can be written by the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    ReadOnly,
    Writable,
}

/// How bad it is to have this host path, given as a normal path, in the container. `roots` are
/// the folders in which this node's engine and kubelet keep their files.
pub(crate) fn severity(path: &str, access: Access, roots: &[String]) -> Severity {
    if access == Access::ReadOnly && PUBLIC.iter().any(|public| is_within(path, public)) {
        return Low;
    }
    let roots = roots.iter().map(|root| (root.as_str(), Critical, Critical));
    let guarded = GUARDED.iter().copied().chain(roots);
    let above =
        guarded.clone().filter(|(place, ..)| is_within(place, path)).map(|(_, whole, _)| whole);
    // Of the places above it, the nearest says what is special about it.
    let below = guarded
        .filter(|(place, ..)| is_within(path, place))
        .max_by_key(|(place, ..)| place.len())
        .map(|(.., below)| below);
    let writable = above.chain(below).min().unwrap_or(Medium);
    match (access, writable) {
        (Access::Writable, severity) => severity,
        (Access::ReadOnly, Critical) => High,
        (Access::ReadOnly, High) => Medium,
        (Access::ReadOnly, _) => Low,
    }
}

/// The engine's socket that a mount of this normal path shows, by a name for people.
///
/// A rootless engine's sockets lie below `/run/user` and in homes, hence the bare names count too.
pub(crate) fn engine_socket(path: &str) -> Option<&str> {
    let within = ENGINE_SOCKETS.iter().find(|socket| is_within(socket, path)).copied();
    within.or_else(|| {
        let (_, name) = path.rsplit_once('/')?;
        let named = |socket: &str| socket.rsplit_once('/').is_some_and(|(_, n)| n == name);
        ENGINE_SOCKETS.iter().any(|s| named(s)).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_plain_by_their_text() {
        for (path, wanted) in [
            ("/", Some("/")),
            ("//etc/./ssl/", Some("/etc/ssl")),
            ("/var/lib/kubelet/pods/../../../../etc", Some("/etc")),
            ("/../../etc", Some("/etc")),
            ("/a/..", Some("/")),
            ("/var/run", Some("/run")),
            ("/var//run/docker.sock", Some("/run/docker.sock")),
            ("/x/../var/run/crio", Some("/run/crio")),
            ("/var/running", Some("/var/running")),
            ("/...", Some("/...")),
            ("etc", None),
            ("../etc", None),
            ("", None),
        ] {
            assert_eq!(normal(path).as_deref(), wanted, "{path}");
        }
    }

    #[test]
    fn host_paths_are_graded_by_what_they_show() {
        let roots = ["/data/kubelet".to_owned()];
        for (path, writable, read_only) in [
            ("/", Critical, High),
            ("/etc", Critical, High),
            ("/etc/foo", High, Medium),
            ("/etc/shadow", Critical, High),
            ("/etc/localtime", High, Low),
            ("/etc/ssl/certs/ca.pem", High, Low),
            ("/etcetera", Medium, Low),
            ("/root/.ssh", Critical, High),
            ("/proc/sys", Critical, High),
            ("/dev/shm", Medium, Low),
            ("/dev/sda", High, Medium),
            ("/var", Critical, High),
            ("/var/lib", Critical, High),
            ("/var/lib/kubelet/pods/x/volumes/y/z", Critical, High),
            ("/var/log/pods", High, Medium),
            ("/run/myapp", Medium, Low),
            ("/run/containerd/x", Critical, High),
            ("/run/systemd/private", High, Medium),
            ("/run/user/1000", High, Medium),
            ("/home/me", High, Medium),
            ("/opt", High, Medium),
            ("/opt/app", Medium, Low),
            ("/srv/data", Medium, Low),
            ("/usr/share/zoneinfo", High, Low),
            ("/data", Critical, High),
            ("/data/kubelet/pki", Critical, High),
            ("/data/kubelets", Medium, Low),
        ] {
            assert_eq!(severity(path, Access::Writable, &roots), writable, "{path}");
            assert_eq!(severity(path, Access::ReadOnly, &roots), read_only, "{path} read-only");
        }
    }

    #[test]
    fn engine_sockets_are_known_by_place_folder_and_name() {
        for path in [
            "/",
            "/run",
            "/run/containerd",
            "/run/docker.sock",
            "/run/containerd/containerd.sock",
            "/run/crio/crio.sock",
            "/run/user/1000/podman/podman.sock",
            "/srv/docker.sock",
            "/run/podman",
            "/run/k3s",
        ] {
            assert!(engine_socket(path).is_some(), "{path}");
        }
        for path in
            ["/run/containerd/x", "/var/cache", "/runs", "/srv/docker.sock.d", "/run/my.sock"]
        {
            assert_eq!(engine_socket(path), None, "{path}");
        }
    }
}
