//! What the parts of the node in its cluster tell each other, and what they count.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::core::DynamicObject;
use portcullis_types::with_causes;
use tokio::sync::Notify;

use crate::node::{Applied, Policy};
use crate::objects::MarkResult;

/// What happened so far, for metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Whether the API server answered when it was asked last.
    pub connected: bool,
    /// Requests that wrote something.
    pub writes: u64,
    /// Requests that failed.
    pub failures: u64,
    /// Events that wait to be told.
    pub waiting_events: usize,
    /// Results that wait to be reported.
    pub waiting_results: usize,
    /// What was thrown away.
    pub lost: u64,
    /// What does not work, by the part that it is of.
    pub troubles: BTreeMap<String, String>,
    /// Whether this agent sums up the status of policies.
    pub leads: bool,
    /// Nodes of the cluster.
    pub nodes: u32,
}

/// What the parts tell each other.
#[derive(Debug, Default)]
pub struct Shared {
    inner: Mutex<Inner>,
    /// The status of the node has to be written.
    pub(crate) changed: Notify,
    /// What policies or nodes say has changed.
    pub(crate) summed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    counts: Counts,
    policies: Option<(Vec<Policy>, Applied)>,
    /// Policies as they were last seen, with their status.
    seen: BTreeMap<String, DynamicObject>,
    marks: Marks,
    knows_object: bool,
    is_forgotten: bool,
    has_seen_daemonset: bool,
    is_removed: bool,
}

/// What became of what people want of this node's events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// By the events' ids.
    pub(crate) done: BTreeMap<String, MarkResult>,
    /// How many there are beyond what a node takes.
    pub(crate) beyond: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    /// Changes what is counted.
    pub(crate) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.lock().counts);
    }

    /// A part does not work; it is said once.
    pub(crate) fn trouble(&self, part: &str, why: &str) {
        let mut inner = self.lock();
        inner.counts.failures += 1;
        let before = inner.counts.troubles.insert(part.to_owned(), why.to_owned());
        if before.as_deref() != Some(why) {
            log::warn!("{part}: {why}");
        }
    }

    /// A request of a part failed.
    pub(crate) fn failed(&self, part: &str, error: &kube::Error) {
        self.lock().counts.connected = matches!(error, kube::Error::Api(_));
        self.trouble(part, &with_causes(error));
    }

    /// A watch of a part failed.
    pub(crate) fn watch_failed(&self, part: &str, error: &kube::runtime::watcher::Error) {
        use kube::runtime::watcher::Error;
        match error {
            Error::InitialListFailed(error)
            | Error::WatchStartFailed(error)
            | Error::WatchFailed(error) => self.failed(part, error),
            error => self.trouble(part, &with_causes(error)),
        }
    }

    /// A part works, as the API server has answered.
    pub(crate) fn works(&self, part: &str) {
        self.lock().counts.connected = true;
        self.works_locally(part);
    }

    /// Something of the node itself works, which says nothing of the API server.
    pub(crate) fn works_locally(&self, part: &str) {
        if self.lock().counts.troubles.remove(part).is_some() {
            log::info!("{part}: works again");
        }
    }

    pub(crate) fn wrote(&self) {
        self.lock().counts.writes += 1;
    }

    /// A policy as the API server has it.
    pub(crate) fn saw(&self, policy: &DynamicObject) {
        let Some(name) = policy.metadata.name.clone() else { return };
        self.lock().seen.insert(name, policy.clone());
        self.summed.notify_one();
    }

    pub(crate) fn has_policies(&self) -> bool {
        self.lock().policies.is_some()
    }

    /// The node has put these policies into force.
    pub(crate) fn applied(&self, policies: Vec<Policy>, applied: Applied) {
        let mut inner = self.lock();
        inner.seen.retain(|name, _| policies.iter().any(|policy| policy.name == *name));
        inner.policies = Some((policies, applied));
        drop(inner);
        self.changed.notify_one();
        self.summed.notify_one();
    }

    pub(crate) fn policies(&self) -> Option<(Vec<Policy>, Applied)> {
        self.lock().policies.clone()
    }

    pub(crate) fn seen(&self) -> BTreeMap<String, DynamicObject> {
        self.lock().seen.clone()
    }

    pub(crate) fn marks(&self) -> Marks {
        self.lock().marks.clone()
    }

    pub(crate) fn set_marks(&self, marks: Marks) {
        let mut inner = self.lock();
        if inner.marks != marks {
            inner.marks = marks;
            drop(inner);
            self.changed.notify_one();
        }
    }

    pub(crate) fn set_nodes(&self, nodes: u32) {
        self.lock().counts.nodes = nodes.max(1);
    }

    /// Whether anybody has said yet how many nodes there are.
    pub(crate) fn knows_nodes(&self) -> bool {
        self.lock().counts.nodes > 0
    }

    pub(crate) fn nodes(&self) -> u32 {
        self.lock().counts.nodes.max(1)
    }

    pub(crate) fn set_leads(&self, leads: bool) {
        self.lock().counts.leads = leads;
    }

    /// It is known what the API server has of this node, so that nothing of it is overwritten unseen.
    pub(crate) fn knows_object(&self) -> bool {
        self.lock().knows_object
    }

    /// That is known from now on.
    pub(crate) fn set_knows_object(&self) {
        let before = std::mem::replace(&mut self.lock().knows_object, true);
        if !before {
            self.changed.notify_one();
        }
    }

    /// What was written of the node is not there any more.
    pub(crate) fn forget_sent(&self) {
        self.lock().is_forgotten = true;
        self.changed.notify_one();
    }

    pub(crate) fn take_forgotten(&self) -> bool {
        std::mem::take(&mut self.lock().is_forgotten)
    }

    /// The DaemonSet was there.
    pub(crate) fn set_seen_daemonset(&self) {
        self.lock().has_seen_daemonset = true;
    }

    pub(crate) fn has_seen_daemonset(&self) -> bool {
        self.lock().has_seen_daemonset
    }

    /// Whether the ConfigMap was there, and is gone or going.
    pub(crate) fn set_removed(&self, removed: bool) {
        self.lock().is_removed = removed;
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.lock().is_removed
    }
}
