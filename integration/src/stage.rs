//! Every engine with each of its doors, of which one runs at a time.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};

use crate::ctr::Ctr;
use crate::docker::{self, Docker};
use crate::engine::Engine;
use crate::kube::Kube;
use crate::leak::Snapshot;
use crate::podman::{self, Podman};
use crate::starter::{Start, Starter};
use crate::suite::{Door, Images};

/// An engine, as one of those that are there.
#[derive(Debug, Clone)]
enum Peer {
    Ctr(Engine),
    Kube(Engine),
    Podman(podman::Kind),
    Docker(docker::Kind),
}

/// An engine and one of its doors.
#[derive(Debug, Clone)]
pub struct Way {
    peer: Peer,
    /// The door.
    pub door: Door,
}

impl Way {
    /// All that there are, engine by engine; each engine's stock door first.
    pub fn all() -> Vec<Self> {
        let mut peers = Vec::new();
        for engine in Engine::all() {
            peers.extend([Peer::Ctr(engine.clone()), Peer::Kube(engine)]);
        }
        peers.extend(podman::Kind::ALL.map(Peer::Podman));
        peers.extend(docker::Kind::ALL.map(Peer::Docker));
        let with_doors = peers.into_iter().flat_map(|peer| {
            let doors = peer.doors().iter();
            doors.map(move |&door| Self { peer: peer.clone(), door })
        });
        with_doors.collect()
    }

    /// The engine's name, such as `podman-4.3-crun`.
    pub fn engine(&self) -> &str {
        match &self.peer {
            Peer::Ctr(engine) | Peer::Kube(engine) => engine.name(),
            Peer::Podman(kind) => kind.name(),
            Peer::Docker(kind) => kind.name(),
        }
    }

    /// Whether it is the newest containerd, for what is shown on one only.
    pub fn is_newest_containerd(&self) -> bool {
        matches!(&self.peer, Peer::Ctr(engine) | Peer::Kube(engine) if engine.is_newest())
    }

    /// Its whole version, or why it cannot be told.
    pub fn version(&self) -> String {
        match &self.peer {
            Peer::Ctr(engine) | Peer::Kube(engine) => engine.version().to_owned(),
            Peer::Podman(_) => Podman::version(),
            Peer::Docker(kind) => kind.version(),
        }
    }

    /// Its name in the names of trials, such as `containerd-1.6::wrapper` or, where pods are run,
    /// `containerd-1.6::wrapper-pods`.
    pub fn name(&self) -> String {
        let pods = if self.has_pods() { "-pods" } else { "" };
        format!("{}::{}{pods}", self.engine(), self.door.name())
    }

    /// Whether its containers live in pods.
    pub fn has_pods(&self) -> bool {
        matches!(self.peer, Peer::Kube(_))
    }

    /// Whether the user who starts containers could as well start the runtime himself, so that no
    /// decision binds him, and none of them is written to the ledger.
    pub fn is_advisory(&self) -> bool {
        matches!(self.peer, Peer::Podman(podman::Kind::Rootless))
    }

    /// Whether it starts containers on folders: Docker and Kubernetes always want an image.
    pub fn starts_folders(&self) -> bool {
        !matches!(self.peer, Peer::Docker(_) | Peer::Kube(_))
    }

    /// Starts it in a node of its own, with the images that every engine has.
    ///
    /// # Errors
    /// When it is lacking, or does not come up.
    pub fn start(&self, images: &Images) -> Result<Box<dyn Starter>> {
        let starter: Box<dyn Starter> = match &self.peer {
            Peer::Ctr(engine) => Box::new(Ctr::start(engine, self.door, &images.sandbox)?),
            Peer::Kube(engine) => Box::new(Kube::start(engine, self.door, &images.sandbox)?),
            Peer::Podman(kind) => Box::new(Podman::start(*kind, self.door)?),
            Peer::Docker(kind) => Box::new(Docker::start(*kind, self.door)?),
        };
        starter.import(&images.busybox)?;
        // The first container leaves what all later ones share, such as Podman's cgroup of monitors.
        starter.run(&Start::new(&images.busybox.name, "first", &["true"]))?.ok()?;
        Ok(starter)
    }
}

impl Peer {
    fn doors(&self) -> &'static [Door] {
        match self {
            Self::Ctr(_) | Self::Kube(_) => &[Door::Stock, Door::Portcullis, Door::Wrapper],
            Self::Podman(_) | Self::Docker(_) => &[Door::Stock, Door::Wrapper],
        }
    }
}

/// The one engine that runs at a time, kept from trial to trial.
#[derive(Default)]
pub struct Stage(Mutex<Held>);

#[derive(Default)]
struct Held {
    images: Option<Images>,
    running: Option<(String, Box<dyn Starter>)>,
}

impl Stage {
    /// Plays something on an engine, which must leave nothing behind there.
    ///
    /// # Errors
    /// When the engine does not come up, when what is played fails, or when there is a leak. Such an
    /// engine is not used again.
    pub fn play(
        &self,
        way: &Way,
        act: impl FnOnce(&dyn Starter, &Images) -> Result<()>,
    ) -> Result<()> {
        way.door.check()?;
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.images.is_none() {
            held.images = Some(Images::build()?);
        }
        let running = held.running.take().filter(|(name, _)| *name == way.name());
        let images = held.images.as_ref().context("just built")?;
        let starter = match running {
            Some((_, starter)) => starter,
            None => way.start(images)?,
        };
        let before = Snapshot::of(&*starter)?;
        let played = act(&*starter, images)
            .and_then(|()| starter.tidy())
            .and_then(|()| before.expect_nothing_more(&*starter));
        played.with_context(|| format!("the engine logged: {}", starter.complaints()))?;
        held.running = Some((way.name(), starter));
        Ok(())
    }
}
