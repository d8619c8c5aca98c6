//! A node in its cluster: it takes policies from the API server, and tells it what was decided.
//!
//! Nothing of this stands in a decision's way. What the cluster says is written to the node's files
//! and published there; what the node has to say waits in an outbox until the API server takes it.
//! So a cluster whose API server is away changes nothing on the node, and hears of everything later.
//!
//! Writes are paced by the size of the cluster: all nodes together make fifty a second in the long run
//! ([`Pace`], `docs/scale.md`).

#![forbid(unsafe_code)]

mod client;
mod crd;
mod events;
mod leader;
mod node;
mod objects;
mod outbox;
mod pace;
mod policies;
mod protection;
mod removal;
mod report;
mod run;
mod sender;
mod shared;

pub use client::{Access, ClientError};
pub use crd::{custom_resources, for_people};
pub use node::{Applied, Batch, Fault, Node, NodeStep, Policy};
pub use objects::{
    GROUP, MarkResult, NodeProtectionSpec, NodeProtectionStatus, PolicyOnNode, VERSION, WantedMark,
};
pub use pace::Pace;
pub use removal::Removed;
pub use run::{Cluster, run};
pub use shared::{Counts, Shared};
