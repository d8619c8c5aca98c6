//! What runs on this node, by engine.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use portcullis_gate::Resolved;
use portcullis_resolve::{
    ContainerdResolver, DockerResolver, Running, StorageEngine, StorageResolver, StorageRunning,
};
use portcullis_settings::{Settings, WRAPPER, WrapperSettings};
use portcullis_types::Engine;

/// How long the list of what runs may take.
const LISTING: Duration = Duration::from_secs(30);
/// How long one container may take. Nobody waits for its start, so more than a door gives.
const EACH: Duration = Duration::from_secs(10);

/// An engine that can be asked what it runs.
enum Source {
    Containerd(ContainerdResolver),
    Docker(DockerResolver),
    Storage(Engine, StorageResolver),
}

/// A container that runs, and who is asked about it.
pub(super) enum Found<'a> {
    Containerd(&'a ContainerdResolver, Running),
    Docker(&'a DockerResolver, Running),
    Storage(Engine, &'a StorageResolver, StorageRunning),
}

/// The engines of a node that are asked.
pub(super) struct Engines(Vec<Source>);

impl Engines {
    /// Those that are named or, if none is, those that are here.
    ///
    /// # Errors
    /// If none is named and none is here.
    pub(super) fn new(settings: &Settings, named: &[Engine], address: &str) -> Result<Self> {
        let all = Engine::ALL.iter().map(|engine| Source::new(*engine, settings, address));
        let (here, away): (Vec<_>, Vec<_>) = all.partition(|source| match named {
            [] => source.is_here(),
            named => named.contains(&source.engine()),
        });
        if here.is_empty() {
            let places: Vec<_> = away.iter().map(Source::place).collect();
            bail!(
                "no engine is found on this node: there is nothing at {}; name the one to ask with \
                 --engine, and its place in the settings ([wrapper.NAME]) or with --address",
                places.join(", ")
            );
        }
        Ok(Self(here))
    }

    /// What runs, by engine.
    ///
    /// # Errors
    /// If one of the engines cannot be asked.
    pub(super) fn running(&self) -> Result<Vec<Found<'_>>> {
        let docker_is_asked = self.0.iter().any(|source| matches!(source, Source::Docker(_)));
        let mut found = Vec::new();
        for source in &self.0 {
            let deadline = Instant::now() + LISTING;
            let what = || format!("what {} runs is not known", source.engine());
            match source {
                Source::Containerd(resolver) => {
                    let mut running = resolver.running(deadline).with_context(what)?;
                    // Docker knows more of its own.
                    running.retain(|running| {
                        !docker_is_asked || running.namespace != DockerResolver::NAMESPACE
                    });
                    found.extend(running.into_iter().map(|of| Found::Containerd(resolver, of)));
                }
                Source::Docker(resolver) => {
                    let running = resolver.running(deadline).with_context(what)?;
                    found.extend(running.into_iter().map(|of| Found::Docker(resolver, of)));
                }
                Source::Storage(engine, resolver) => {
                    let running = resolver.running(deadline).with_context(what)?;
                    let all = running.into_iter();
                    found.extend(all.map(|of| Found::Storage(*engine, resolver, of)));
                }
            }
        }
        Ok(found)
    }
}

impl Source {
    fn new(engine: Engine, settings: &Settings, address: &str) -> Self {
        let named = settings.wrappers().find(|(_, wrapper)| wrapper.engine == engine);
        let wrapper = named.map_or_else(|| WrapperSettings::by_name(WRAPPER), |(_, w)| w.clone());
        let storage = |of: StorageEngine| {
            let roots = match wrapper.storage.is_empty() {
                true => StorageResolver::default_roots(of),
                false => wrapper.storage.clone(),
            };
            Self::Storage(engine, StorageResolver::new(of, roots))
        };
        match engine {
            Engine::Containerd => Self::Containerd(ContainerdResolver::new(address)),
            Engine::Docker => {
                // Where the settings say nothing, Docker has the node's containerd.
                let socket = match named {
                    Some((_, wrapper)) => wrapper.socket.display().to_string(),
                    None => address.to_owned(),
                };
                Self::Docker(DockerResolver::new(wrapper.data.clone(), &socket))
            }
            Engine::CriO => storage(StorageEngine::CriO),
            Engine::Podman => storage(StorageEngine::Podman),
        }
    }

    fn engine(&self) -> Engine {
        match self {
            Self::Containerd(_) => Engine::Containerd,
            Self::Docker(_) => Engine::Docker,
            Self::Storage(engine, _) => *engine,
        }
    }

    fn is_here(&self) -> bool {
        match self {
            Self::Containerd(resolver) => resolver.address().exists(),
            Self::Docker(resolver) => resolver.data().join("containers").exists(),
            Self::Storage(_, resolver) => resolver.roots().iter().any(|root| root.exists()),
        }
    }

    /// Where it is looked for.
    fn place(&self) -> String {
        let shown = |path: &Path| path.display().to_string();
        match self {
            Self::Containerd(resolver) => shown(resolver.address()),
            Self::Docker(resolver) => shown(resolver.data()),
            Self::Storage(_, resolver) => {
                resolver.roots().iter().map(|root| shown(root)).collect::<Vec<_>>().join(", ")
            }
        }
    }
}

impl Found<'_> {
    pub(super) fn engine(&self) -> Engine {
        match self {
            Self::Containerd(..) => Engine::Containerd,
            Self::Docker(..) => Engine::Docker,
            Self::Storage(engine, ..) => *engine,
        }
    }

    pub(super) fn container_id(&self) -> &str {
        match self {
            Self::Containerd(_, running) | Self::Docker(_, running) => &running.container_id,
            Self::Storage(.., running) => &running.container_id,
        }
    }

    /// containerd's namespace; empty for other engines.
    pub(super) fn namespace(&self) -> &str {
        match self {
            Self::Containerd(_, running) | Self::Docker(_, running) => &running.namespace,
            Self::Storage(..) => "",
        }
    }

    /// What is known of it, as if it were started again now, and its specification.
    pub(super) fn resolve(&self) -> (Resolved, Option<Vec<u8>>) {
        let deadline = Instant::now() + EACH;
        match self {
            Self::Containerd(resolver, running) => resolver.resolve_running(running, deadline),
            Self::Docker(resolver, running) => resolver.resolve_running(running, deadline),
            Self::Storage(_, resolver, running) => {
                (resolver.resolve_running(running, deadline), Some(running.spec.clone()))
            }
        }
    }
}
