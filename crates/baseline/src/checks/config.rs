//! What an image's configuration says of how it runs.

use super::Texts;
use crate::Config;
use crate::accounts;
use crate::issues::{Issues, shown};

/// Volumes of these folders hide what the system in the image needs, or are the host's by mistake.
const SENSITIVE: &[&str] = &[
    "/",
    "/bin",
    "/etc",
    "/lib",
    "/lib64",
    "/root",
    "/run",
    "/sbin",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/local",
    "/usr/sbin",
    "/var",
    "/var/run",
];

/// And anything below these.
const SENSITIVE_BELOW: &[&str] = &[
    "/boot",
    "/dev",
    "/proc",
    "/run/containerd",
    "/run/crio",
    "/sys",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/kubelet",
    "/var/run/containerd",
    "/var/run/crio",
];

/// Sockets of container engines: who has one is root on the host.
const SOCKETS: &[&str] = &["docker.sock", "containerd.sock", "crio.sock", "podman.sock"];

pub(super) fn check(texts: &Texts<'_>, config: &Config, issues: &mut Issues) {
    user(texts, &config.user, issues);

    match config.healthcheck.as_deref() {
        None | Some([]) => issues.add("no-healthcheck", None, "the image has no HEALTHCHECK"),
        Some([word, ..]) if word == "NONE" => {
            issues.add("no-healthcheck", None, "HEALTHCHECK NONE");
        }
        Some(_) => {}
    }
    for volume in &config.volumes {
        if is_sensitive(volume) {
            issues.add("sensitive-volume", None, &shown(volume));
        }
    }
    for port in &config.exposed_ports {
        if matches!(port.as_str(), "22" | "22/tcp") {
            issues.add("ssh-port-exposed", None, &shown(port));
        }
    }
    for tag in &config.tags {
        if is_moving(tag) {
            issues.add("tag-latest", None, &shown(tag));
        }
    }
}

fn user(texts: &Texts<'_>, user: &str, issues: &mut Issues) {
    let name = user.split(':').next().unwrap_or_default().trim();
    let uid = accounts::id(name).or_else(|| {
        let accounts = accounts::passwd(texts.get("etc/passwd")?);
        accounts.iter().find(|account| account.name == name).map(|account| account.uid)
    });
    if name.is_empty() {
        issues.add("user-root", None, "no user is set");
    } else if name == "root" || uid == Some(0) {
        issues.add("user-root", None, &format!("user \"{}\"", shown(user)));
    }
}

fn is_sensitive(volume: &str) -> bool {
    // `/etc/`, `//etc` and `/etc/.` are `/etc`.
    let mut path = String::new();
    for part in volume.split('/').filter(|part| !matches!(*part, "" | ".")) {
        path.push('/');
        path.push_str(part);
    }
    let folder = if path.is_empty() { "/" } else { &path };
    SENSITIVE.contains(&folder)
        || SOCKETS.iter().any(|socket| folder.ends_with(socket))
        || SENSITIVE_BELOW.iter().any(|sensitive| {
            folder.strip_prefix(sensitive).is_some_and(|rest| {
                // Memory that a container has for itself.
                (rest.is_empty() || rest.starts_with('/')) && folder != "/dev/shm"
            })
        })
}

/// Whether a reference names what may be another image tomorrow, and says nothing of its version.
fn is_moving(reference: &str) -> bool {
    if reference.is_empty() || reference.contains('@') {
        return false;
    }
    let name = reference.rsplit('/').next().unwrap_or_default();
    name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes() {
        for (volume, wanted) in [
            ("/etc", true),
            ("/etc/", true),
            ("/etc/nginx", false),
            ("/", true),
            ("", true),
            ("/var/run/docker.sock", true),
            ("/proc/sys", true),
            ("/processes", false),
            ("/dev/shm", false),
            ("/var/lib/mysql", false),
            ("/data", false),
        ] {
            assert_eq!(is_sensitive(volume), wanted, "{volume}");
        }
    }

    #[test]
    fn tags() {
        for (reference, wanted) in [
            ("docker.io/library/nginx:latest", true),
            ("nginx", true),
            ("registry.test:5000/nginx", true),
            ("registry.test:5000/nginx:1.27", false),
            ("nginx@sha256:0000", false),
            ("nginx:latest@sha256:0000", false),
            ("nginx:latest-alpine", false),
            ("", false),
        ] {
            assert_eq!(is_moving(reference), wanted, "{reference}");
        }
    }
}
