//! What a node is told and how it stands, for all who say it: the command and the agent.
//!
//! A door knows nothing of this: it reads the set that [`publish`] has put into force.

#![forbid(unsafe_code)]

mod feeds;
mod mark;
mod publish;
mod remote;
mod sources;
mod state;

pub use feeds::{DAMAGED_FEED, KnownFeeds, Lying, lying};
pub use mark::{MarkError, record_mark};
pub use publish::{LockError, PoliciesLock, PublishError, drift, lock, publish};
pub use remote::{
    RemoteApplied, RemoteError, RemotePolicy, apply_remote, is_remote_policy, remote_in_force,
};
pub use sources::{
    Compiled, NodeSet, SourceError, VexFiles, checkable, node_set, vex_of_node, yaml_files,
};
pub use state::{NodeState, NodeStatus, Problem, ProblemKind, SHIM, node_state, node_state_again};

/// `1 fault`, `2 faults`.
fn count(number: usize, word: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {word}{plural}")
}
