//! The node, as its part in the cluster asks it: its state, its policies, its ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use portcullis_audit::{Ledger, Resumed};
use portcullis_kubernetes::{
    Applied, Batch, Cluster, Fault, GROUP, Node, NodeStep, Policy, Removed, Shared, VERSION,
};
use portcullis_node::{
    KnownFeeds, NodeStatus, RemotePolicy, apply_remote, node_state_again, record_mark,
    remote_in_force,
};
use portcullis_settings::Settings;
use portcullis_types::{Event, EventId, EventKind, Mark, with_causes};
use serde_json::json;
use tokio::sync::watch;

use crate::health::{Health, Pulse};
use crate::records::{Cursor, Records};

/// The part in the cluster, which runs on a thread of its own.
pub struct InCluster {
    thread: JoinHandle<Removed>,
    stop: watch::Sender<bool>,
    /// What happened so far, for metrics.
    pub shared: Arc<Shared>,
}

impl InCluster {
    /// Begins it.
    ///
    /// # Errors
    /// A thread or the runtime cannot be made.
    pub fn begin(cluster: Cluster, settings: Settings, health: &Health) -> Result<Self> {
        let pulse = health.thread("cluster", Some(STILL));
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared::default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Each holds a policy, a status or a batch of events at most.
            .max_blocking_threads(4)
            .build()
            .context("cannot make an async runtime")?;
        let node = Arc::new(OfCluster::new(settings));
        let given = shared.clone();
        let thread = std::thread::Builder::new().name("cluster".to_owned()).spawn(move || {
            let part = async {
                tokio::select! {
                    ended = portcullis_kubernetes::run(cluster, node, given, stopped) => ended,
                    () = beats(&pulse) => Ok(Removed::Nothing),
                }
            };
            match runtime.block_on(part) {
                Ok(removed) => removed,
                Err(error) => {
                    log::error!("no part in the cluster: {}", with_causes(&error));
                    Removed::Nothing
                }
            }
        });
        Ok(Self { thread: thread.context("cannot start a thread")?, stop, shared })
    }

    /// Ends it, and tells what is being removed from the cluster.
    pub fn end(self) -> Removed {
        let _it_has_ended = self.stop.send(true);
        self.thread.join().unwrap_or_else(|_| {
            log::error!("a bug in portcullis: the part in the cluster panicked");
            Removed::Nothing
        })
    }
}

/// How long the part in the cluster may do one thing.
const STILL: Duration = Duration::from_secs(60);

/// Beats as long as the runtime gets to it.
async fn beats(pulse: &Pulse) {
    loop {
        pulse.beat();
        tokio::time::sleep(STILL / 6).await;
    }
}

struct OfCluster {
    settings: Settings,
    ledger: Ledger,
    /// They have megabytes, and are read again only when they are others.
    feeds: Mutex<KnownFeeds>,
    /// Where following goes on, so that a position need not be looked for each time.
    followed: Mutex<Option<(String, Records)>>,
}

impl OfCluster {
    fn new(settings: Settings) -> Self {
        let ledger = Ledger::new(settings.paths().events(), settings.max_event_bytes);
        Self { settings, ledger, feeds: Mutex::default(), followed: Mutex::default() }
    }

    /// From behind a position, and whether the ledger is another one, which is read from its beginning.
    fn from(&self, position: Option<&str>) -> Result<(Records, bool), Fault> {
        let Some(position) = position.filter(|position| !position.is_empty()) else {
            return Ok((Records::from_beginning(self.ledger.clone()), false));
        };
        let cursor: Cursor = match position.parse() {
            Ok(cursor) => cursor,
            Err(error) => {
                log::warn!(
                    "the place in the ledger cannot be understood, its last hour is told: {error}"
                );
                return Ok((Records::from_beginning(self.ledger.clone()), true));
            }
        };
        let (followed, resumed) =
            Records::resume(self.ledger.clone(), &cursor).map_err(|error| with_causes(&error))?;
        let is_another = resumed == Resumed::Another;
        if is_another {
            log::warn!("the ledger is another one than before: its last hour is told");
        }
        Ok((followed, is_another))
    }
}

impl Node for OfCluster {
    fn status(&self) -> NodeStatus {
        let mut feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        node_state_again(&self.settings, &mut feeds)
    }

    fn apply(&self, policies: &[Policy]) -> Applied {
        let policies: Vec<RemotePolicy> = policies.iter().map(document).collect();
        let paths = self.settings.paths();
        match apply_remote(&paths, &policies) {
            Ok(applied) => Applied { faults: applied.faults, ..Applied::default() },
            Err(error) => Applied {
                failed: Some(with_causes(&error)),
                still: remote_in_force(&paths, &policies),
                ..Applied::default()
            },
        }
    }

    fn events(&self, after: Option<&str>, most: usize) -> Result<Batch, Fault> {
        let mut held = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut followed, is_another) = match held.take() {
            Some((position, followed)) if after == Some(&*position) => (followed, false),
            _ => self.from(after)?,
        };
        let missed = followed.missed();
        let mut events = Vec::new();
        while events.len() < most
            && let Some(entry) = followed.next_record().map_err(|error| with_causes(&error))?
        {
            events.push(entry.event);
        }
        let marked = self.marked(&events)?;
        let position = followed.cursor().map(|cursor| cursor.to_string()).unwrap_or_default();
        let missed = followed.missed() - missed;
        *held = Some((position.clone(), followed));
        Ok(Batch { events, marked, position, missed, is_another })
    }

    fn mark(&self, marks: &BTreeMap<String, Mark>) -> BTreeMap<String, NodeStep> {
        let read = match self.ledger.read() {
            Ok(read) => read,
            Err(error) => {
                let why = with_causes(&error);
                return marks.keys().map(|id| (id.clone(), NodeStep::Later(why.clone()))).collect();
            }
        };
        let refused = |(id, mark): (&String, &Mark)| {
            self.mark_one(&read.events, id, mark).err().map(|step| (id.clone(), step))
        };
        marks.iter().filter_map(refused).collect()
    }
}

impl OfCluster {
    /// The decisions that marks among these events name. Marks are few: people make them.
    fn marked(&self, events: &[Event]) -> Result<BTreeMap<EventId, Event>, Fault> {
        let marks = events.iter().filter(|event| event.kind == EventKind::Mark);
        let ids: BTreeSet<&EventId> = marks.filter_map(|mark| mark.decision.as_ref()).collect();
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let read = self.ledger.read().map_err(|error| with_causes(&error))?;
        let is_named = |event: &Event| event.kind == EventKind::Decision && ids.contains(&event.id);
        let named = read.events.into_iter().filter(is_named);
        Ok(named.map(|decision| (decision.id.clone(), decision)).collect())
    }

    fn mark_one(&self, events: &[Event], id: &str, mark: &Mark) -> Result<(), NodeStep> {
        let decision = events.iter().find(|event| event.id == id);
        let Some(decision) = decision.filter(|event| event.kind == EventKind::Decision) else {
            return Err(NodeStep::Never(format!("no decision on this node has the id {id}")));
        };
        let is_mark =
            |event: &&Event| event.kind == EventKind::Mark && event.decision.as_deref() == Some(id);
        let last = events.iter().rev().find(is_mark).and_then(|event| event.mark.as_ref());
        if last.is_some_and(|last| last.status == mark.status) {
            return Ok(());
        }
        let (_, problems) =
            record_mark(&self.settings, decision, mark.clone(), portcullis_policy::one_line)
                .map_err(|error| NodeStep::Later(with_causes(&error)))?;
        for problem in problems {
            log::warn!("the mark of event {id} is in the ledger only: {problem}");
        }
        Ok(())
    }
}

/// A policy of the cluster as a file of the node: JSON, which YAML is.
fn document(policy: &Policy) -> RemotePolicy {
    let document = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "ProtectionPolicy",
        "metadata": { "name": policy.name },
        "spec": policy.spec,
    });
    let document = serde_json::to_string_pretty(&document).unwrap_or_default();
    // A name may hold nothing that ends a comment: the API server takes only DNS names.
    let name = policy.name.replace(|c: char| c.is_control(), "");
    RemotePolicy {
        name: policy.name.clone(),
        text: format!(
            "# Written by portcullisd. The cluster keeps this policy: kubectl edit protectionpolicy {name}\n{document}\n"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_audit::Audit;
    use portcullis_settings::Paths;
    use portcullis_testkit::events::decision;
    use portcullis_types::Status;

    fn node() -> (tempfile::TempDir, OfCluster, Audit) {
        let root = tempfile::tempdir().unwrap();
        let settings = Settings::default().below(root.path());
        std::fs::create_dir_all(settings.paths().policies()).unwrap();
        let audit = Audit::new(settings.paths().events(), settings.max_event_bytes, false);
        (root, OfCluster::new(settings), audit)
    }

    #[test]
    fn the_ledger_is_read_once_over_restarts() {
        let (root, node, audit) = node();
        assert_eq!(node.events(None, 10), Ok(Batch::default()));
        for id in ["1", "2", "3"] {
            audit.ledger().append(&decision(id)).unwrap();
        }
        let ids = |batch: &Batch| batch.events.iter().map(|e| e.id.clone()).collect::<Vec<_>>();
        let first = node.events(None, 2).unwrap();
        assert_eq!(ids(&first), ["1", "2"]);
        // What was read and not kept is read again.
        assert_eq!(ids(&node.events(None, 2).unwrap()), ["1", "2"]);
        let again = OfCluster::new(Settings::default().below(root.path()));
        let second = again.events(Some(&first.position), 2).unwrap();
        assert_eq!(ids(&second), ["3"]);
        assert!(again.events(Some(&second.position), 2).unwrap().events.is_empty());
        audit.ledger().append(&decision("4")).unwrap();
        assert_eq!(ids(&again.events(Some(&second.position), 2).unwrap()), ["4"]);
        // A place that nobody understands stops nothing.
        let anew = node.events(Some("garbage"), 9).unwrap();
        assert!(anew.is_another && anew.events.len() == 4);
    }

    #[test]
    fn a_mark_is_recorded_once() {
        let (_root, node, audit) = node();
        audit.ledger().append(&decision("01A")).unwrap();
        let marks = |ids: &[&str], status| {
            let mark = Mark { status, by: "kubernetes".to_owned(), note: None };
            ids.iter().map(|id| ((*id).to_owned(), mark.clone())).collect()
        };
        for status in [Status::Handled, Status::Handled, Status::Ignored, Status::Ignored] {
            assert!(node.mark(&marks(&["01A"], status)).is_empty());
        }
        assert_eq!(audit.ledger().read().unwrap().events.len(), 3);
        let refused = node.mark(&marks(&["01A", "01B"], Status::Handled));
        assert_eq!(audit.ledger().read().unwrap().events.len(), 4);
        assert_eq!(refused.keys().collect::<Vec<_>>(), ["01B"]);
        assert!(matches!(refused["01B"], NodeStep::Never(_)));
    }

    #[test]
    fn a_mark_comes_with_the_decision_that_it_names() {
        let (_root, node, audit) = node();
        audit.ledger().append(&decision("01A")).unwrap();
        audit.ledger().append(&decision("01B")).unwrap();
        let first = node.events(None, 9).unwrap();
        assert!(first.marked.is_empty());
        let mark = Mark { status: Status::Ignored, by: "kubernetes".to_owned(), note: None };
        assert!(node.mark(&[("01A".to_owned(), mark)].into()).is_empty());
        let second = node.events(Some(&first.position), 9).unwrap();
        assert_eq!(second.events[0].kind, EventKind::Mark);
        assert_eq!(second.marked.into_values().collect::<Vec<_>>(), first.events[..1]);
    }

    #[test]
    fn a_policy_of_the_cluster_is_a_policy_of_the_node() {
        let (root, node, _) = node();
        let spec = json!({ "rules": [{ "class": "malware", "action": "block" }] });
        let policy = Policy { name: "a.b".to_owned(), uid: "u".to_owned(), generation: 3, spec };
        assert_eq!(node.apply(std::slice::from_ref(&policy)), Applied::default());
        let status = node.status();
        assert_eq!(status.policies, ["a.b"]);
        let paths = Paths::below(root.path());
        let text = std::fs::read_to_string(paths.policies().join("kubernetes.a.b.yaml")).unwrap();
        assert!(text.starts_with("# Written by portcullisd."), "{text}");
        let wrong = Policy { spec: json!({ "rules": 7 }), ..policy.clone() };
        let applied = node.apply(&[wrong]);
        assert!(applied.faults["a.b"].contains("spec.rules"), "{applied:?}");
        assert_eq!(node.status().policy_set, status.policy_set);
        // An agent that begins beside a broken file of the node's own knows what is in force.
        std::fs::write(paths.policies().join("own.yaml"), "kind: [").unwrap();
        let again = OfCluster::new(Settings::default().below(root.path()));
        let other = Policy { name: "c".to_owned(), ..policy.clone() };
        let applied = again.apply(&[policy, other]);
        assert!(applied.failed.unwrap().contains("own.yaml"));
        assert_eq!(applied.still.into_iter().collect::<Vec<_>>(), ["a.b"]);
    }
}
