//! Containers that run, as they would be started again now.

use std::time::Instant;

use portcullis_gate::{Gate, Resolved, workload_of_spec};
use portcullis_resolve::{
    ContainerdResolver, DockerResolver, Running, StorageResolver, StorageRunning,
};
use portcullis_types::{Cause, Engine, Evidence, Failure, Identity, Request, Workload};

/// A container that runs, and who is asked about it.
#[derive(Debug)]
pub enum Found<'a> {
    /// containerd's.
    Containerd(&'a ContainerdResolver, Running),
    /// Docker's.
    Docker(&'a DockerResolver, Running),
    /// CRI-O's or Podman's.
    Storage(Engine, &'a StorageResolver, StorageRunning),
}

/// The start of a container that runs, if it were started again now.
#[derive(Debug, Clone)]
pub struct Again {
    /// The start.
    pub request: Request,
    /// The image.
    pub identity: Identity,
    /// What is known of both. Whether policies are there and whole is not among it.
    pub evidence: Evidence,
}

impl Found<'_> {
    /// Whose it is.
    pub fn engine(&self) -> Engine {
        match self {
            Self::Containerd(..) => Engine::Containerd,
            Self::Docker(..) => Engine::Docker,
            Self::Storage(engine, ..) => *engine,
        }
    }

    /// Its id.
    pub fn container_id(&self) -> &str {
        match self {
            Self::Containerd(_, running) | Self::Docker(_, running) => &running.container_id,
            Self::Storage(.., running) => &running.container_id,
        }
    }

    /// containerd's namespace; empty for other engines.
    pub fn namespace(&self) -> &str {
        match self {
            Self::Containerd(_, running) | Self::Docker(_, running) => &running.namespace,
            Self::Storage(..) => "",
        }
    }

    /// Whether it is for its engine to tell of it: Docker knows more of its own than containerd does,
    /// if it is asked.
    pub fn is_of(&self, docker_is_asked: bool) -> bool {
        self.engine() != Engine::Containerd
            || !docker_is_asked
            || self.namespace() != DockerResolver::NAMESPACE
    }

    /// What is known of it, from what its engine has recorded and from the node's store.
    pub fn again(&self, gate: &Gate, deadline: Instant) -> Again {
        let (resolved, spec) = self.resolve(deadline);
        let engine = self.engine();
        let request = resolved.request(engine, &gate.settings().node, self.container_id());
        let mut evidence = gate.evidence_for(&resolved.identity);
        evidence.workload = match spec {
            Some(spec) => workload_of_spec(&spec),
            None => Workload::NotRead(format!("{engine} has no specification of the container")),
        };
        evidence.image = resolved.image;
        if resolved.deadline_hit {
            let why = resolved.identity.note.clone().unwrap_or_default();
            evidence.failures.push(Failure::new(Cause::Deadline, why));
        }
        Again { request, identity: resolved.identity, evidence }
    }

    fn resolve(&self, deadline: Instant) -> (Resolved, Option<Vec<u8>>) {
        match self {
            Self::Containerd(resolver, running) => resolver.resolve_running(running, deadline),
            Self::Docker(resolver, running) => resolver.resolve_running(running, deadline),
            Self::Storage(_, resolver, running) => {
                (resolver.resolve_running(running, deadline), Some(running.spec.clone()))
            }
        }
    }
}
