//! Tests on the built binaries against real engines.
//!
//! The library starts a containerd of each generation in a node of its own ([`node`]), so that
//! nothing on the machine is touched, and drives it as its users do: through `ctr` and through the
//! container runtime interface of Kubernetes ([`cri`]). The cases stand in `tests/engines/`; each
//! of them runs against the stock shim first, since a case that fails there is the case's fault.

#![forbid(unsafe_code)]

pub mod again;
pub mod cluster;
pub mod cri;
pub mod ctr;
pub mod debian;
pub mod docker;
pub mod endurance;
pub mod engine;
pub mod evidence;
pub mod image;
pub mod journal;
pub mod kube;
pub mod leak;
pub mod node;
pub mod podman;
pub mod registry;
pub mod rules;
pub mod run;
pub mod shim;
pub mod stage;
pub mod stalling;
pub mod starter;
pub mod suite;

mod config;

use std::time::{Duration, Instant};

/// How long is waited for what a busy machine does late. It costs nothing where all is well.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again until `probe` answers, or says what was waited for.
///
/// # Errors
/// When `probe` fails, or when `limit` has passed.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = probe()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            anyhow::bail!("waited {limit:?} in vain for {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
