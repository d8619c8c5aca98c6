//! What of the host is mounted into the container.

use portcullis_types::Severity::{Critical, High, Low, Medium};

use crate::found::{Found, clean};
use crate::items;
use crate::own::{Origin, Own};
use crate::paths::{Access, engine_socket, normal, severity};
use crate::spec::{Mount, Spec};

/// File systems that hold nothing of the host, or only what the container's namespaces show of it.
/// Those that need more care (`proc`, `sysfs`, `cgroup`) have items of their own.
const OWN_FILESYSTEMS: &[&str] =
    &["proc", "sysfs", "tmpfs", "ramfs", "devpts", "mqueue", "cgroup", "cgroup2", "hugetlbfs"];

pub(crate) fn look(spec: &Spec, found: &mut Found) {
    let own = Own::of(spec);
    let binds: Vec<Bind<'_>> = spec.mounts.iter().filter(|m| is_bind(m)).map(Bind::of).collect();
    let origins: Vec<Origin<'_>> = binds.iter().map(|b| b.origin(&own)).collect();
    let roots = roots(&origins);
    for (bind, origin) in binds.iter().zip(&origins) {
        match origin {
            Origin::Host => bind.look(&roots, found),
            Origin::Subpath => bind.look_at_subpath(found),
            Origin::Engine(_) | Origin::Kubelet(_) => {}
        }
    }
    for mount in spec.mounts.iter().filter(|m| !is_bind(m)) {
        look_at_filesystem(mount, found);
    }
    look_at_root(&spec.root.path, found);
    let propagation = spec.linux.rootfs_propagation.as_str();
    if is_shared(propagation) {
        let title = format!("the root mount is {propagation}: mounts may appear on the host");
        found.add(items::UNCONFINED_ROOTFS_PROPAGATION, High, None, title);
    }
}

/// The host's own root file system as the container's. Engines write `rootfs`, which lies in the
/// bundle, or a folder of their storage.
fn look_at_root(path: &str, found: &mut Found) {
    let leads_out = path.split('/').any(|part| part == "..");
    if normal(path).map_or(leads_out, |path| path == "/") {
        let title = format!("the host's {} is the container's root", clean(path));
        let place = normal(path).unwrap_or_else(|| path.to_owned());
        found.add(items::HOST_PATH, Critical, Some(&place), title);
    }
}

/// The folders in which the engine and the kubelet of this node keep their files, from the mounts
/// that they made.
fn roots(origins: &[Origin<'_>]) -> Vec<String> {
    // There are two or three; a bound keeps hostile ones from costing time for each mount.
    const MOST_ROOTS: usize = 8;
    let mut roots: Vec<String> = Vec::new();
    for origin in origins {
        if let Origin::Engine(root) | Origin::Kubelet(root) = origin
            && !root.is_empty()
            && roots.len() < MOST_ROOTS
            && !roots.iter().any(|r| r == root)
        {
            roots.push((*root).to_owned());
        }
    }
    roots
}

/// A mount of something that is in the host's file system.
struct Bind<'a> {
    mount: &'a Mount,
    /// `None`: relative to the bundle and beyond what its text can tell.
    source: Option<String>,
    access: Access,
}

impl<'a> Bind<'a> {
    fn of(mount: &'a Mount) -> Self {
        Self { mount, source: normal(&mount.source), access: access(mount) }
    }

    fn origin(&self, own: &Own<'_>) -> Origin<'_> {
        self.source.as_deref().map_or(Origin::Host, |s| own.origin(s, &self.mount.destination))
    }

    fn look(&self, roots: &[String], found: &mut Found) {
        // A relative source starts at the bundle, deep within the engine's folders; no engine
        // writes one, and where it ends depends on links in there.
        let place = self.source.as_deref().unwrap_or(&self.mount.source);
        let graded = self.source.as_deref().map_or(Critical, |s| severity(s, self.access, roots));
        let socket = engine_socket(place);
        // Each of several propagation options is applied, so one is enough.
        let shared = self.mount.options.iter().any(|o| is_shared(o));
        let graded = match (socket, shared) {
            (Some(_), _) => Critical,
            (None, true) => graded.min(High),
            (None, false) => graded,
        };
        let how = match self.access {
            Access::Writable => "read-write",
            Access::ReadOnly => "read-only",
        };
        let (shown, at) = (clean(place), clean(&self.mount.destination));
        let title = format!("the host's {shown} is mounted {how} at {at}");
        found.add(items::HOST_PATH, graded, Some(place), title);
        if let Some(socket) = socket {
            let title = format!("the container engine's socket {} is in {at}", clean(socket));
            found.add(items::ENGINE_SOCKET, Critical, Some(place), title);
        }
        if shared {
            let title = format!("mounts made below {at} appear on the host at {shown}");
            found.add(items::SHARED_PROPAGATION, High, Some(place), title);
        }
    }

    fn look_at_subpath(&self, found: &mut Found) {
        let place = self.source.as_deref().unwrap_or_default();
        let volume = place.rsplit('/').nth(2).unwrap_or_default();
        let (volume, at) = (clean(volume), clean(&self.mount.destination));
        let title = format!("a part of volume {volume}, which may be the host's, is at {at}");
        let severity = if self.access == Access::Writable { Medium } else { Low };
        found.add(items::VOLUME_SUBPATH, severity, Some(place), title);
        if self.mount.options.iter().any(|o| is_shared(o)) {
            let title = format!("mounts made below {at} appear on the host");
            found.add(items::SHARED_PROPAGATION, High, Some(place), title);
        }
    }
}

fn look_at_filesystem(mount: &Mount, found: &mut Found) {
    let at = clean(&mount.destination);
    let kind = mount.kind.as_str();
    let writable = access(mount) == Access::Writable;
    match kind {
        "sysfs" if writable => {
            found.add(items::WRITABLE_SYSFS, High, None, format!("sysfs is writable at {at}"));
        }
        "cgroup" | "cgroup2" if writable => {
            let title = format!("the cgroup tree is writable at {at}");
            found.add(items::WRITABLE_CGROUP, Medium, None, title);
        }
        kind if OWN_FILESYSTEMS.contains(&kind) => {}
        kind => {
            let place = match mount.source.starts_with('/') {
                true => &mount.source,
                false => &mount.destination,
            };
            let (kind, source) = (clean(kind), clean(&mount.source));
            let title = format!("a file system {kind} of {source} is mounted at {at}");
            found.add(items::FOREIGN_FILESYSTEM, High, Some(place), title);
        }
    }
}

/// Any type beside these options is ignored; crun takes the type alone for it too.
fn is_bind(mount: &Mount) -> bool {
    mount.kind == "bind" || mount.options.iter().any(|o| o == "bind" || o == "rbind")
}

/// The last of contrary options counts. A recursive `rro` is applied after all others.
///
/// `ro` holds for the topmost mount only: what is mounted below it stays writable.
fn access(mount: &Mount) -> Access {
    let last = |on: &str, off: &str| {
        let said = mount.options.iter().rev().find(|o| *o == on || *o == off);
        said.is_some_and(|o| o == on)
    };
    match last("ro", "rw") || last("rro", "rrw") {
        true => Access::ReadOnly,
        false => Access::Writable,
    }
}

fn is_shared(propagation: &str) -> bool {
    matches!(propagation, "shared" | "rshared")
}
