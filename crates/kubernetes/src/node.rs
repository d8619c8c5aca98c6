//! What the node has to offer to its part in the cluster; the agent implements it.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_node::NodeStatus;
use portcullis_types::{Event, EventId, Mark};
use serde_json::Value;

/// A policy of the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Tells it from one of the same name that was there before.
    pub uid: String,
    /// Counts the changes of its spec.
    pub generation: i64,
    /// The spec as the API server has it.
    pub spec: Value,
}

/// What became of the cluster's policies on the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Policies that have faults; what was in force of them before is in force still.
    pub faults: BTreeMap<String, String>,
    /// Why nothing could be put into force at all.
    pub failed: Option<String>,
    /// Those that are in force as they are now, though nothing could be put into force.
    pub still: BTreeSet<String>,
}

/// Why the node did not do something, in words for people.
pub type Fault = String;

/// Events of the ledger.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// In the ledger's order.
    pub events: Vec<Event>,
    /// The decisions that marks among them name, by their ids, as far as the ledger has them still.
    pub marked: BTreeMap<EventId, Event>,
    /// Where to go on, in words of the node's own.
    pub position: String,
    /// Events that were gone before they were read.
    pub missed: u64,
    /// The ledger is another one than that of the position, and is read from its beginning.
    pub is_another: bool,
}

/// What a node can be asked. All of it may take a moment and is called outside of the async runtime.
pub trait Node: Send + Sync + 'static {
    /// How it is protected.
    fn status(&self) -> NodeStatus;

    /// Puts exactly these policies of the cluster into force, beside those of the node's own files.
    fn apply(&self, policies: &[Policy]) -> Applied;

    /// At most so many events behind a position; `None` is the present end.
    ///
    /// # Errors
    /// The ledger cannot be read now.
    fn events(&self, after: Option<&str>, most: usize) -> Result<Batch, Fault>;

    /// Writes what somebody said of events, by their ids, into the ledger, unless the ledger says so
    /// already; and answers for each why it is not there: there is no such event, or nothing took the
    /// record.
    fn mark(&self, marks: &BTreeMap<String, Mark>) -> BTreeMap<String, NodeStep>;
}

/// Why a mark is not in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeStep {
    /// It never will be.
    Never(Fault),
    /// It may be later.
    Later(Fault),
}
