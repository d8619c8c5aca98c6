//! Resolving Docker's containers, from its own records (20.10 to 28).
//!
//! Docker keeps images and layers in one of two ways: with a graph driver of its own or, with its
//! setting `containerd-snapshotter`, in containerd. In both it mounts the root filesystem itself
//! and has containerd's shim run a bundle that names the mounted folder.

mod files;
mod graph;
mod layers;
mod record;
mod stored;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub use self::stored::{DockerImage, DockerImageError, DockerStored};
use crate::containerd::OfDocker;
use crate::containerd::place::is_identifier;
use crate::mounted::{Mounted, mounted_at};
use crate::notes::Notes;
use crate::{ContainerdResolver, ImageHad, OciStart, Resolved, Running, RunningError};
use files::Files;
use record::Record;

/// Reads what one Docker daemon recorded of a container.
#[derive(Debug, Clone)]
pub struct DockerResolver {
    data: PathBuf,
    containerd: ContainerdResolver,
}

impl DockerResolver {
    /// containerd's namespace for Docker's containers (moby, `daemon/config`, `ContainerdNamespace`).
    pub const NAMESPACE: &str = "moby";

    /// A resolver for the daemon whose data folder is `data` (`/var/lib/docker` unless
    /// `--data-root` says otherwise) and which uses the containerd at `socket`: a path, with or
    /// without `unix://`. containerd is asked only for images that are kept there.
    pub fn new(data: PathBuf, socket: &str) -> Self {
        Self { data, containerd: ContainerdResolver::new(socket) }
    }

    /// What is known of the container, by the deadline at the latest.
    ///
    /// What the kernel says is mounted at the container's root is compared with the layers that
    /// Docker recorded, so ask in the mount namespace in which the runtime runs.
    ///
    /// A Docker container is never a sandbox and never known to be of a pod: the labels that say so
    /// can be set by each user of Docker and by each image. With such labels, `pod_known` is false.
    ///
    /// # Panics
    ///
    /// If called from within an async task: it blocks, so call it from a plain thread.
    pub fn resolve(&self, start: &OciStart<'_>) -> Resolved {
        let mounted = mounted_at(start.root);
        self.resolve_mounted(start, mounted.as_ref().map(Option::as_ref))
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Where an image of Docker's is kept: with the graph driver `overlay2`, or in containerd.
    ///
    /// `image` is a name as Docker takes it (`alpine`, `alpine:3.19`,
    /// `docker.io/library/alpine@sha256:…`) or an id in full, with or without `sha256:`.
    ///
    /// Which of the two ways a daemon uses is nowhere recorded, and one that was switched from one
    /// to the other leaves the old images behind, so that a name is looked for in both. A name that
    /// leads to two images is an error; an id is one image, wherever it is found.
    ///
    /// # Errors
    /// [`DockerImageError`]: there is no such image, there are several, it is with a driver whose
    /// layers are not folders of changes, or what is recorded of it does not fit together.
    ///
    /// # Panics
    ///
    /// As [`Self::resolve`].
    pub fn stored(&self, image: &str, deadline: Instant) -> Result<DockerStored, DockerImageError> {
        stored::find(&self.data, &self.containerd, image, deadline)
    }

    /// The images for this platform that are with the graph driver `overlay2`, at most
    /// [`MAX_IMAGES`](crate::MAX_IMAGES) of them. Those in containerd its own list tells
    /// ([`ContainerdResolver::images`], of the namespace [`Self::NAMESPACE`]).
    ///
    /// # Errors
    /// [`DockerImageError`]: the records cannot be read, or not by the deadline. An image whose
    /// configuration is not there, or is another one, is left out.
    pub fn images(
        &self,
        platform: &str,
        deadline: Instant,
    ) -> Result<Vec<ImageHad>, DockerImageError> {
        stored::list(&self.data, platform, deadline)
    }

    /// The folders in which something changes when an image of the graph driver comes or goes.
    pub fn image_folders(&self) -> Vec<PathBuf> {
        stored::folders(&self.data)
    }

    /// The containerd that it is asked for.
    pub fn containerd(&self) -> &ContainerdResolver {
        &self.containerd
    }

    /// The containers that run, as the containerd that runs them tells: by id.
    ///
    /// # Errors
    /// [`RunningError`]: containerd does not answer by the deadline.
    ///
    /// # Panics
    ///
    /// As [`Self::resolve`].
    pub fn running(&self, deadline: Instant) -> Result<Vec<Running>, RunningError> {
        let mut running = self.containerd.running(deadline)?;
        running.retain(|found| found.namespace == Self::NAMESPACE);
        Ok(running)
    }

    /// What is known of a container that runs, as if it were started again now from its records and
    /// what is mounted at its root, and its runtime specification as JSON, if it has one.
    ///
    /// # Panics
    ///
    /// As [`Self::resolve`].
    pub fn resolve_running(&self, of: &Running, deadline: Instant) -> (Resolved, Option<Vec<u8>>) {
        let spec = match self.containerd.spec(of, deadline) {
            Ok(spec) => spec,
            Err(notes) => {
                let mut resolved = Resolved::unknown("");
                resolved.deadline_hit = notes.deadline_hit;
                resolved.identity.note = notes.into_line();
                return (resolved, None);
            }
        };
        let root = std::fs::canonicalize(&spec.root).unwrap_or_else(|_| spec.root.clone());
        let resolved = self.resolve(&OciStart {
            container_id: &of.container_id,
            bundle: Path::new("/"),
            root: &root,
            state: Some(&Path::new("/").join(&of.namespace)),
            deadline,
        });
        (resolved, Some(spec.json))
    }

    /// The same with what is mounted at the root.
    fn resolve_mounted(
        &self,
        start: &OciStart<'_>,
        mounted: Result<Option<&Mounted>, &io::Error>,
    ) -> Resolved {
        let mut notes = Notes::default();
        let files = Files { deadline: start.deadline };
        let mut resolved = match self.known(&files, start, mounted, &mut notes) {
            Some(resolved) => resolved,
            None => Resolved::unknown(""),
        };
        resolved.deadline_hit |= notes.deadline_hit;
        notes.say_all(resolved.identity.note.take());
        resolved.identity.note = notes.into_line();
        resolved
    }

    fn known(
        &self,
        files: &Files,
        start: &OciStart<'_>,
        mounted: Result<Option<&Mounted>, &io::Error>,
        notes: &mut Notes,
    ) -> Option<Resolved> {
        let id = start.container_id;
        if !is_docker_id(id) {
            notes.say(format!(
                "the container's id {id:?} is none that Docker gives: only its containers are \
                 looked up, not its builds and plug-ins"
            ));
            return None;
        }
        // The kernel's paths, and the bundle's, have no links.
        let data = std::fs::canonicalize(&self.data)
            .map(|data| remapped(data, start.root))
            .map_err(|error| notes.trouble("Docker's data folder", &error))
            .ok()?;
        let record = Record::read(files, &data, id)
            .map_err(|error| notes.trouble("Docker's record of the container", &error))
            .ok()?;
        let mut resolved = match record.driver.as_str() {
            driver if start.root == data.join("rootfs").join(driver).join(id) => {
                let docker = OfDocker {
                    snapshotter: record.driver,
                    target: record.image,
                    manifest: record.manifest,
                    asked: record.asked,
                };
                self.containerd.resolve_docker(start, mounted, &docker)
            }
            _ => graph::resolve(files, &data, &record, start, mounted),
        };
        resolved.pod_known = !record.of_pod;
        if record.of_pod {
            notes.say("labels say that it is of a pod; anybody can set them, so no pod is known");
        }
        Some(resolved)
    }
}

/// Where a daemon that remaps its users (`userns-remap`) keeps what belongs to these: in a folder
/// `<uid>.<gid>` of its data folder.
fn remapped(data: PathBuf, root: &Path) -> PathBuf {
    let first = root.strip_prefix(&data).ok().and_then(|rest| rest.iter().next());
    match first.and_then(|name| name.to_str()).filter(|name| is_remapped(name)) {
        Some(ids) => data.join(ids),
        None => data,
    }
}

/// Whether a folder's name is `<uid>.<gid>`.
fn is_remapped(name: &str) -> bool {
    name.split_once('.').is_some_and(|(uid, gid)| {
        [uid, gid].iter().all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// 64 digits of lower-case hexadecimal.
fn is_docker_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether it may be part of a path: nothing that leaves its folder.
fn is_name(text: &str) -> bool {
    is_identifier(text)
}
