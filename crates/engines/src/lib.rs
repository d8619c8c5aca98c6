//! The engines of a node, for those who look at all of it: what runs, which images there are, and
//! where to listen for a change. No door links this.

#![forbid(unsafe_code)]

mod running;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use portcullis_resolve::{
    DockerImageError, DockerResolver, RunningError, StorageEngine, StorageImageError,
    StorageResolver, StorageRunningError, StoredError,
};
use portcullis_settings::{Settings, WRAPPER, WrapperSettings};
use portcullis_types::{Digest, Engine, Place};

pub use portcullis_resolve::{ContainerdResolver, ImageHad, MAX_IMAGES, Patience};
pub use running::{Again, Found};

/// Where a node's containerd listens unless it is told otherwise.
pub const CONTAINERD: &str = "/run/containerd/containerd.sock";

/// Why an engine does not say what it runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// containerd's, or Docker's, which is asked of containerd.
    #[error(transparent)]
    Containerd(#[from] RunningError),
    /// That of CRI-O or Podman.
    #[error(transparent)]
    Storage(#[from] StorageRunningError),
}

/// Why an engine does not say which images it has, or not of all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImagesError {
    /// containerd's.
    #[error(transparent)]
    Containerd(#[from] StoredError),
    /// Those of CRI-O or Podman.
    #[error(transparent)]
    Storage(#[from] StorageImageError),
    /// Docker's.
    #[error(transparent)]
    Docker(#[from] DockerImageError),
}

/// What an engine said of its images.
#[derive(Debug, Default)]
pub struct Images {
    /// Those that it told of.
    pub had: Vec<ImageHad>,
    /// Why these are not all.
    pub problem: Option<ImagesError>,
}

/// An engine that can be asked.
#[derive(Debug)]
pub struct Source(Asked);

#[derive(Debug)]
enum Asked {
    Containerd(ContainerdResolver),
    Docker(DockerResolver),
    Storage(Engine, StorageResolver),
}

/// The socket of the node's containerd by its settings.
pub fn containerd(settings: &Settings) -> String {
    let named = settings.wrappers().find(|(_, wrapper)| wrapper.engine == Engine::Containerd);
    named.map_or_else(|| CONTAINERD.to_owned(), |(_, wrapper)| wrapper.socket.display().to_string())
}

/// What runs, by engine: all of these are asked.
///
/// # Errors
/// The engine that cannot be asked, and why.
pub fn running(
    sources: &[Source],
    until: impl Fn() -> Instant,
) -> Result<Vec<Found<'_>>, (Engine, ListError)> {
    let docker_is_asked = sources.iter().any(|source| source.engine() == Engine::Docker);
    let mut found = Vec::new();
    for source in sources {
        let mut running = source.running(until()).map_err(|error| (source.engine(), error))?;
        running.retain(|found| found.is_of(docker_is_asked));
        found.append(&mut running);
    }
    Ok(found)
}

impl Source {
    /// All engines that are known, with their places by the settings of the node; containerd's socket
    /// is given.
    pub fn all(settings: &Settings, address: &str) -> Vec<Self> {
        Engine::ALL.iter().map(|engine| Self::new(*engine, settings, address)).collect()
    }

    fn new(engine: Engine, settings: &Settings, address: &str) -> Self {
        let named = settings.wrappers().find(|(_, wrapper)| wrapper.engine == engine);
        let wrapper = named.map_or_else(|| WrapperSettings::by_name(WRAPPER), |(_, w)| w.clone());
        let storage = |of: StorageEngine| {
            let roots = match wrapper.storage.is_empty() {
                true => StorageResolver::default_roots(of),
                false => wrapper.storage.clone(),
            };
            Asked::Storage(engine, StorageResolver::new(of, roots))
        };
        Self(match engine {
            Engine::Containerd => Asked::Containerd(ContainerdResolver::new(address)),
            Engine::Docker => {
                // Where the settings say nothing, Docker has the node's containerd.
                let socket = match named {
                    Some((_, wrapper)) => wrapper.socket.display().to_string(),
                    None => address.to_owned(),
                };
                Asked::Docker(DockerResolver::new(wrapper.data.clone(), &socket))
            }
            Engine::CriO => storage(StorageEngine::CriO),
            Engine::Podman => storage(StorageEngine::Podman),
        })
    }

    /// Which.
    pub fn engine(&self) -> Engine {
        match self.0 {
            Asked::Containerd(_) => Engine::Containerd,
            Asked::Docker(_) => Engine::Docker,
            Asked::Storage(engine, _) => engine,
        }
    }

    /// Whether it is on this node.
    pub fn is_here(&self) -> bool {
        match &self.0 {
            Asked::Containerd(resolver) => resolver.address().exists(),
            Asked::Docker(resolver) => resolver.data().join("containers").exists(),
            Asked::Storage(_, resolver) => resolver.roots().iter().any(|root| root.exists()),
        }
    }

    /// Where it keeps its images.
    pub fn place(&self) -> Place {
        match &self.0 {
            Asked::Containerd(resolver) => {
                Place::Containerd { socket: resolver.address().to_owned(), namespace: None }
            }
            Asked::Docker(resolver) => Place::Docker {
                data: resolver.data().to_owned(),
                socket: resolver.containerd().address().to_owned(),
            },
            Asked::Storage(_, resolver) => Place::Storage { roots: resolver.roots().to_vec() },
        }
    }

    /// Where it is looked for, for people.
    pub fn shown(&self) -> String {
        let shown = |path: &Path| path.display().to_string();
        match &self.0 {
            Asked::Containerd(resolver) => shown(resolver.address()),
            Asked::Docker(resolver) => shown(resolver.data()),
            Asked::Storage(_, resolver) => {
                resolver.roots().iter().map(|root| shown(root)).collect::<Vec<_>>().join(", ")
            }
        }
    }

    /// What it runs.
    ///
    /// # Errors
    /// [`ListError`]: it does not say by the deadline.
    pub fn running(&self, deadline: Instant) -> Result<Vec<Found<'_>>, ListError> {
        Ok(match &self.0 {
            Asked::Containerd(resolver) => {
                let running = resolver.running(deadline)?.into_iter();
                running.map(|of| Found::Containerd(resolver, of)).collect()
            }
            Asked::Docker(resolver) => {
                let running = resolver.running(deadline)?.into_iter();
                running.map(|of| Found::Docker(resolver, of)).collect()
            }
            Asked::Storage(engine, resolver) => {
                let running = resolver.running(deadline)?.into_iter();
                running.map(|of| Found::Storage(*engine, resolver, of)).collect()
            }
        })
    }

    /// The images that it has for a platform. What an earlier list found in containerd, `known` tells:
    /// configurations by what was asked for.
    pub fn images(
        &self,
        platform: &str,
        known: &BTreeMap<Digest, Digest>,
        patience: Patience<'_>,
    ) -> Images {
        let deadline = Instant::now() + patience.each;
        match &self.0 {
            Asked::Containerd(resolver) => Images::of(
                // What Docker has there is Docker's.
                resolver.images(
                    &|name| name != DockerResolver::NAMESPACE,
                    platform,
                    known,
                    patience,
                ),
            ),
            Asked::Storage(_, resolver) => Images::of(resolver.images(platform, deadline)),
            Asked::Docker(resolver) => {
                let mut images = Images::of(resolver.images(platform, deadline));
                // With a graph driver, a containerd that is elsewhere has none of its images.
                if !images.had.is_empty() && !resolver.containerd().address().exists() {
                    return images;
                }
                let wanted = |name: &str| name == DockerResolver::NAMESPACE;
                let more = resolver.containerd().images(&wanted, platform, known, patience);
                let more = Images::of(more);
                images.had.extend(more.had);
                images.problem = images.problem.or(more.problem);
                images
            }
        }
    }

    /// The folders in which something changes when an image comes or goes.
    pub fn image_folders(&self) -> Vec<PathBuf> {
        match &self.0 {
            Asked::Containerd(_) => Vec::new(),
            Asked::Docker(resolver) => resolver.image_folders(),
            Asked::Storage(_, resolver) => resolver.image_folders(),
        }
    }

    /// The containerd that tells of images which come or go, if there is one.
    pub fn tells(&self) -> Option<&ContainerdResolver> {
        match &self.0 {
            Asked::Containerd(resolver) => Some(resolver),
            Asked::Docker(resolver) => Some(resolver.containerd()),
            Asked::Storage(..) => None,
        }
    }
}

impl Images {
    fn of<E: Into<ImagesError>>(listed: Result<Vec<ImageHad>, E>) -> Self {
        match listed {
            Ok(had) => Self { had, problem: None },
            Err(error) => Self { had: Vec::new(), problem: Some(error.into()) },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    /// What is asked for is wanted to its end.
    const WANTED: &dyn Fn() -> bool = &|| true;
    const PATIENCE: Patience<'_> = Patience { each: Duration::from_secs(5), goes_on: WANTED };

    fn settings(root: &Path) -> Settings {
        let at = |name: &str| root.join(name).display().to_string();
        format!(
            "[wrapper.portcullis-runc]\nsocket = \"{}\"\n[wrapper.portcullis-runc-podman]\n\
             storage = [\"{}\"]\n[wrapper.portcullis-runc-docker]\ndata = \"{}\"\nsocket = \"{}\"\n",
            at("containerd.sock"),
            at("storage"),
            at("docker"),
            at("other.sock"),
        )
        .parse()
        .unwrap()
    }

    fn source(settings: &Settings, engine: Engine) -> Source {
        let mut all = Source::all(settings, &containerd(settings));
        let at = all.iter().position(|source| source.engine() == engine).unwrap();
        all.swap_remove(at)
    }

    #[test]
    fn each_engine_stands_where_the_settings_say() {
        let root = tempfile::tempdir().unwrap();
        let settings = settings(root.path());
        for (engine, makes) in [
            (Engine::Containerd, "containerd.sock"),
            (Engine::Podman, "storage"),
            (Engine::Docker, "docker/containers"),
        ] {
            let source = source(&settings, engine);
            assert!(source.shown().starts_with(&root.path().display().to_string()), "{source:?}");
            assert!(!source.is_here(), "{source:?}");
            fs::create_dir_all(root.path().join(makes)).unwrap();
            assert!(source.is_here(), "{source:?}");
        }
        assert_eq!(
            source(&settings, Engine::Docker).place(),
            Place::Docker {
                data: root.path().join("docker"),
                socket: root.path().join("other.sock")
            }
        );
        assert_eq!(containerd(&Settings::default()), CONTAINERD);
    }

    #[test]
    fn an_engine_that_does_not_answer_has_a_problem_and_no_images() {
        let root = tempfile::tempdir().unwrap();
        let settings = settings(root.path());
        for engine in [Engine::Containerd, Engine::Docker] {
            let images =
                source(&settings, engine).images("linux/amd64", &BTreeMap::new(), PATIENCE);
            assert!(images.had.is_empty() && images.problem.is_some(), "{engine}: {images:?}");
        }
        let sources = [source(&settings, Engine::Containerd)];
        let (engine, _) = running(&sources, Instant::now).unwrap_err();
        assert_eq!(engine, Engine::Containerd);
    }

    #[test]
    fn a_docker_with_a_graph_driver_needs_no_containerd_for_its_images() {
        let root = tempfile::tempdir().unwrap();
        let configs = root.path().join("docker/image/overlay2/imagedb/content/sha256");
        fs::create_dir_all(&configs).unwrap();
        let config = br#"{"rootfs":{"type":"layers","diff_ids":[]}}"#;
        fs::write(configs.join(Digest::of(config).hex()), config).unwrap();
        let docker = source(&settings(root.path()), Engine::Docker);
        let images = docker.images("linux/amd64", &BTreeMap::new(), PATIENCE);
        assert!(images.problem.is_none(), "{images:?}");
        assert_eq!(images.had.len(), 1);
        assert!(docker.image_folders().iter().any(|folder| folder.ends_with("content/sha256")));
    }
}
