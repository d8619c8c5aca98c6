//! Mounts that the engine and the kubelet make of their own accord, and how they are told from a
//! path of the host that somebody asked for.
//!
//! The folders of engines and kubelets differ from node to node, so a path is not known by its
//! beginning. It is known by an id in it: containers, sandboxes and pods get random ids after their
//! mounts were asked for, so nobody can ask for a path with the right id in it. A path of another
//! container or pod is a path of the host like any other: it may hold that pod's secrets.

use crate::spec::Spec;

/// The ids of this start, as far as the specification says them.
///
/// A pod's author may be able to set annotations that the engine in use does not set itself. So an
/// id counts only if the annotations of both engines do not contradict each other; otherwise all
/// mounts are findings, which harms nobody but that author.
#[derive(Debug, Default)]
pub(crate) struct Own<'a> {
    container: Option<&'a str>,
    sandbox: Option<&'a str>,
    pod: Option<&'a str>,
    podman: bool,
}

/// Where a mount comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Origin<'a> {
    /// The host, by request.
    Host,
    /// The engine, from its folder for this container or pod; the engine's root folder.
    Engine(&'a str),
    /// The kubelet, from its folder for this pod; the kubelet's root folder.
    Kubelet(&'a str),
    /// The kubelet, but what it shows may itself be a path of the host.
    Subpath,
}

impl<'a> Own<'a> {
    pub(crate) fn of(spec: &'a Spec) -> Self {
        // Of a name that comes twice, Go takes the last.
        let annotation = |name: &str| {
            let found = spec.annotations.0.iter().rfind(|(n, _)| n == name);
            found.map(|(_, value)| value.as_str())
        };
        let containerd = annotation("io.kubernetes.cri.sandbox-id");
        let crio = annotation("io.kubernetes.cri-o.SandboxID");
        let uids =
            [annotation("io.kubernetes.cri.sandbox-uid"), annotation("io.kubernetes.pod.uid")];
        Self {
            container: cgroup_id(&spec.linux.cgroups_path),
            sandbox: one_of(containerd, crio).filter(|id| is_id(id)),
            pod: match uids {
                [Some(a), Some(b)] if a != b => None,
                [a, b] => a.or(b).filter(|uid| is_component(uid)),
            },
            podman: annotation("io.container.manager") == Some("libpod") && containerd.is_none(),
        }
    }

    /// Where a mount with this normal source comes from.
    pub(crate) fn origin<'p>(&self, source: &'p str, destination: &str) -> Origin<'p> {
        if let Some(pod) = self.pod
            && let Some((root, rest)) = split_at_folder(source, "pods", pod)
            && let Some(origin) = of_kubelet(root, rest)
        {
            return origin;
        }
        if let Some(id) = self.container.filter(|id| has_component(source, id)) {
            return Origin::Engine(engine_root(source, id));
        }
        if let Some(id) = self.sandbox
            && ["sandboxes", "image-volumes", "overlay-containers"]
                .iter()
                .any(|folder| split_at_folder(source, folder, id).is_some())
        {
            return Origin::Engine(engine_root(source, id));
        }
        if self.podman && is_podmans(source, destination) {
            return Origin::Engine("");
        }
        Origin::Host
    }
}

/// The id of one engine's annotations, unless both have some.
fn one_of<'a>(a: Option<&'a str>, b: Option<&'a str>) -> Option<&'a str> {
    match (a, b) {
        (Some(_), Some(_)) => None,
        (a, b) => a.or(b),
    }
}

/// The container's id at the end of its cgroup's path, where all engines put it:
/// `/kubepods/pod…/<id>`, `/libpod_parent/libpod-<id>`, `kubepods.slice:cri-containerd:<id>`.
fn cgroup_id(path: &str) -> Option<&str> {
    let start = path.len().checked_sub(ID_LENGTH)?;
    path.get(start..).filter(|id| is_id(id))
}

const ID_LENGTH: usize = 64;

/// Whether this is a random id as engines make them: 64 hexadecimal digits.
fn is_id(id: &str) -> bool {
    id.len() == ID_LENGTH && id.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_component(text: &str) -> bool {
    !matches!(text, "" | "." | "..") && !text.contains('/')
}

fn has_component(path: &str, wanted: &str) -> bool {
    path.split('/').any(|component| component == wanted)
}

/// Splits `…/<folder>/<id>/<rest>` into what is before the folder and the rest, not empty.
fn split_at_folder<'p>(path: &'p str, folder: &str, id: &str) -> Option<(&'p str, &'p str)> {
    path.match_indices('/').find_map(|(at, _)| {
        let after = path[at + 1..].strip_prefix(folder)?.strip_prefix('/')?;
        let rest = after.strip_prefix(id)?.strip_prefix('/')?;
        (!rest.is_empty()).then_some((&path[..at], rest))
    })
}

/// What the kubelet makes below its folder of a pod (`pkg/kubelet/kubelet_getters.go`): the volumes
/// themselves, but nothing within them, where the pod may have put a link.
fn of_kubelet<'p>(root: &'p str, rest: &str) -> Option<Origin<'p>> {
    let parts: Vec<&str> = rest.split('/').take(6).collect();
    match parts.as_slice() {
        ["etc-hosts"] | ["containers", _, _] => Some(Origin::Kubelet(root)),
        ["volumes", plugin, _] if plugin.contains('~') => Some(Origin::Kubelet(root)),
        ["volumes", "kubernetes.io~csi", _, "mount"] => Some(Origin::Kubelet(root)),
        ["volume-subpaths", _, _, _] => Some(Origin::Subpath),
        _ => None,
    }
}

/// The engine's folder in which a file of this container lies: what stands before the first
/// component that names a kind of thing and not a place.
fn engine_root<'p>(source: &'p str, id: &str) -> &'p str {
    let before = source.split(id).next().unwrap_or_default();
    let known = ["/io.containerd.", "/overlay-containers/", "/containers/"];
    known.iter().find_map(|k| before.find(k)).map_or("", |at| &before[..at])
}

/// Podman's containers of one pod share the files of the first of them, whose id is not written
/// anywhere. Who runs Podman may mount what he likes, so there is nothing to be gained by forging.
fn is_podmans(source: &str, destination: &str) -> bool {
    const FILES: [(&str, &str); 5] = [
        ("hosts", "/etc/hosts"),
        ("hostname", "/etc/hostname"),
        ("resolv.conf", "/etc/resolv.conf"),
        ("shm", "/dev/shm"),
        (".containerenv", "/run/.containerenv"),
    ];
    let Some((folder, file)) = source.rsplit_once('/') else { return false };
    let own = folder.strip_suffix("/userdata").and_then(|f| f.rsplit_once('/'));
    own.is_some_and(|(storage, id)| storage.ends_with("/overlay-containers") && is_id(id))
        && FILES.contains(&(file, destination))
}
