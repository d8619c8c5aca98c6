//! The node's own object, `NodeProtection`: its status is written, and what people want of it in its
//! spec is done. And the label by which pods find the nodes that are ready.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Node as KubeNode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, GetParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Event, watcher};
use kube::{Api, Client};
use portcullis_node::{NodeState, NodeStatus};
use portcullis_types::{Mark, with_causes};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::Instant;

use crate::client::{Meaning, meaning};
use crate::node::{Node, NodeStep};
use crate::objects::{
    self, GROUP, MAX_LISTED, MAX_TEXT, MarkResult, NodeProtectionSpec, NodeProtectionStatus,
    PolicyOnNode, WantedMark, cut, object, set_status, some,
};
use crate::pace::{Waits, until};
use crate::policies::from_cache;
use crate::run::Cluster;
use crate::shared::{Marks, Shared};

/// What the API server has of this node.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    status: Option<NodeProtectionStatus>,
    is_ready: Option<bool>,
}

impl Sent {
    /// Whether all of it is known there.
    pub(crate) fn says(&self, wanted: &NodeProtectionStatus) -> bool {
        self.status.as_ref() == Some(wanted) && self.is_ready == Some(is_ready(wanted.state))
    }

    /// Looks at the node's label, which anybody may take off who may write to nodes.
    pub(crate) async fn look_again(
        &mut self,
        client: &Client,
        cluster: &Cluster,
    ) -> Result<(), kube::Error> {
        let api: Api<KubeNode> = Api::all(client.clone());
        let node = api.get_metadata_with(&cluster.node, &GetParams::any()).await?;
        let label = node.metadata.labels.as_ref().and_then(|labels| labels.get(&ready_label()));
        self.is_ready = label.and_then(|word| word.parse().ok());
        Ok(())
    }
}

fn ready_label() -> String {
    format!("{GROUP}/ready")
}

/// Whether pods that ask for the handler may come.
fn is_ready(state: NodeState) -> bool {
    matches!(state, NodeState::Protected | NodeState::EnabledNotConfigured)
}

/// What is to be said of the node.
pub(crate) fn wanted(status: &NodeStatus, shared: &Shared) -> NodeProtectionStatus {
    let (policies, applied) = shared.policies().unwrap_or_default();
    let is_of_cluster = |name: &&String| policies.iter().any(|policy| policy.name == **name);
    let local: Vec<String> =
        status.policies.iter().filter(|name| !is_of_cluster(name)).cloned().collect();
    let mut problems: Vec<String> =
        status.problems.iter().map(|problem| cut(&problem.message, MAX_TEXT)).collect();
    problems.extend(applied.failed.as_deref().map(|text| cut(text, MAX_TEXT)));
    let marks = shared.marks();
    if marks.beyond > 0 {
        problems.push(format!(
            "{} marks in spec are left out, the oldest: a node takes {MAX_LISTED}; take out those that are done",
            marks.beyond
        ));
    }
    NodeProtectionStatus {
        // The set that is in force goes on deciding, so the node is as ready as before.
        state: status.state,
        policy_set: status.policy_set.clone(),
        policies: some(policies.iter().map(|policy| {
            let why = match &applied.failed {
                Some(why) if !applied.still.contains(&policy.name) => Some(why),
                _ => applied.faults.get(&policy.name),
            };
            PolicyOnNode {
                name: policy.name.clone(),
                generation: policy.generation,
                in_force: why.is_none(),
                message: why.map(|text| cut(text, MAX_TEXT)),
            }
        })),
        local_policies: some(local),
        problems: some(problems),
        marks: marks.done,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Writes what is not known there yet.
pub(crate) async fn write(
    client: &Client,
    cluster: &Cluster,
    wanted: &NodeProtectionStatus,
    sent: &mut Sent,
) -> Result<(), kube::Error> {
    if sent.status.as_ref() != Some(wanted) {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &objects::nodes());
        match set_status(&api, &cluster.node, wanted).await {
            Err(error) if meaning(&error) == Meaning::Absent => {
                create(client, &api, cluster).await?;
                set_status(&api, &cluster.node, wanted).await?;
            }
            result => drop(result?),
        }
        sent.status = Some(wanted.clone());
    }
    let ready = is_ready(wanted.state);
    if sent.is_ready != Some(ready) {
        label(client, &cluster.node, json!(ready.to_string())).await?;
        sent.is_ready = Some(ready);
    }
    Ok(())
}

/// The object goes with its node.
async fn create(
    client: &Client,
    api: &Api<DynamicObject>,
    cluster: &Cluster,
) -> Result<(), kube::Error> {
    let node = Api::<KubeNode>::all(client.clone()).get_metadata(&cluster.node).await?;
    let mut new = object(&objects::nodes(), &cluster.node, json!({ "spec": {} }));
    new.metadata.owner_references = node.metadata.uid.map(|uid| {
        vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: cluster.node.clone(),
            uid,
            ..OwnerReference::default()
        }]
    });
    match api.create(&PostParams::default(), &new).await {
        Err(error) if meaning(&error) == Meaning::Conflict => Ok(()),
        result => result.map(drop),
    }
}

async fn label(client: &Client, node: &str, value: serde_json::Value) -> Result<(), kube::Error> {
    let patch = json!({ "metadata": { "labels": { ready_label(): value } } });
    let api: Api<KubeNode> = Api::all(client.clone());
    api.patch_metadata(node, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}

/// Takes back what was said of the node, as far as it is still allowed to.
pub(crate) async fn take_back(client: &Client, cluster: &Cluster) {
    if let Err(error) = label(client, &cluster.node, json!(null)).await {
        log::info!("the label {} stays on the node: {}", ready_label(), with_causes(&error));
    }
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &objects::nodes());
    match api.delete(&cluster.node, &DeleteParams::default()).await {
        Err(error) if meaning(&error) != Meaning::Absent => {
            log::info!("the node's NodeProtection stays: {}", with_causes(&error));
        }
        _ => {}
    }
}

/// What could not be done for a passing reason is tried again.
const AGAIN: Duration = Duration::from_secs(15);

/// Follows what people want of this node until the end of the agent.
pub(crate) async fn follow(
    client: Client,
    cluster: Arc<Cluster>,
    node: Arc<dyn Node>,
    shared: Arc<Shared>,
) {
    const PART: &str = "the node's object";
    let api: Api<DynamicObject> = Api::all_with(client, &objects::nodes());
    let one = format!("metadata.name={}", cluster.node);
    let config = from_cache().fields(&one);
    let mut events = pin!(watcher(api, config).backoff(Waits::default()));
    let mut wanted = BTreeMap::new();
    let mut is_there = false;
    let mut due: Option<Instant> = None;
    loop {
        tokio::select! {
            event = events.next() => match event {
                None => return,
                Some(Err(error)) => {
                    shared.watch_failed(PART, &error);
                    continue;
                }
                Some(Ok(Event::Init)) => {
                    is_there = false;
                    continue;
                }
                Some(Ok(Event::InitApply(object) | Event::Apply(object))) => {
                    is_there = true;
                    shared.works(PART);
                    if !shared.knows_object() {
                        // What was done stays done, whatever else was done on the node since then.
                        let status: Option<NodeProtectionStatus> = part(&object, "status");
                        let done = status.map(|status| status.marks).unwrap_or_default();
                        shared.set_marks(Marks { done, beyond: 0 });
                    }
                    let spec: NodeProtectionSpec = part(&object, "spec").unwrap_or_default();
                    wanted = spec.marks;
                }
                Some(Ok(Event::InitDone)) => {
                    shared.works(PART);
                    shared.set_knows_object();
                    if !is_there {
                        shared.forget_sent();
                    }
                    continue;
                }
                // By somebody, or with a Node that came back as another one: it is made again.
                Some(Ok(Event::Delete(_))) => {
                    shared.forget_sent();
                    continue;
                }
            },
            () = until(due) => {}
        }
        let (node, marks, known) = (node.clone(), wanted.clone(), shared.marks().done);
        match tokio::task::spawn_blocking(move || marked(node.as_ref(), &marks, known)).await {
            Ok((marks, has_later)) => {
                shared.set_marks(marks);
                due = has_later.then(|| Instant::now() + AGAIN);
            }
            Err(error) => {
                log::error!("a bug in portcullis: {error}");
                due = Some(Instant::now() + AGAIN);
            }
        }
    }
}

/// A part of an object; `None` if it cannot be understood.
fn part<T: DeserializeOwned>(object: &DynamicObject, name: &str) -> Option<T> {
    serde_json::from_value(object.data.get(name)?.clone()).ok()
}

/// Does what is wanted of events and not done yet; and whether something has to be tried again.
fn marked(
    node: &dyn Node,
    wanted: &BTreeMap<String, WantedMark>,
    mut known: BTreeMap<String, MarkResult>,
) -> (Marks, bool) {
    let mut results = BTreeMap::new();
    let mut marks = BTreeMap::new();
    // Ids begin with the time.
    for (id, want) in wanted.iter().rev().take(MAX_LISTED) {
        match known.remove(id).filter(|result| result.status == Some(want.status)) {
            Some(done) => drop(results.insert(id.clone(), done)),
            None => {
                let note = want.note.as_deref().map(|note| cut(note, MAX_TEXT));
                let by = "kubernetes".to_owned();
                marks.insert(id.clone(), Mark { status: want.status, by, note });
            }
        }
    }
    let mut refused = match marks.is_empty() {
        true => BTreeMap::new(),
        false => node.mark(&marks),
    };
    let mut later = false;
    for (id, mark) in marks {
        let refused = refused.remove(&id);
        later |= matches!(refused, Some(NodeStep::Later(_)));
        let result = match refused {
            None => MarkResult { status: Some(mark.status), message: None },
            Some(NodeStep::Never(why) | NodeStep::Later(why)) => {
                MarkResult { status: None, message: Some(cut(&why, MAX_TEXT)) }
            }
        };
        results.insert(id, result);
    }
    (Marks { done: results, beyond: wanted.len().saturating_sub(MAX_LISTED) }, later)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use portcullis_settings::Settings;
    use portcullis_types::Status;

    use super::*;
    use crate::node::{Applied, Batch, Fault, Policy};

    /// A node that takes marks, but of no event whose id begins with a letter.
    #[derive(Default)]
    struct Taking(Mutex<Vec<String>>);

    impl Node for Taking {
        fn status(&self) -> NodeStatus {
            unreachable!("it is not asked")
        }

        fn apply(&self, _: &[Policy]) -> Applied {
            unreachable!("it is not asked")
        }

        fn events(&self, _: Option<&str>, _: usize) -> Result<Batch, Fault> {
            unreachable!("it is not asked")
        }

        fn mark(&self, marks: &BTreeMap<String, Mark>) -> BTreeMap<String, NodeStep> {
            self.0.lock().unwrap().extend(marks.keys().cloned());
            let is_wrong = |id: &&String| id.starts_with(char::is_alphabetic);
            let wrong = marks.keys().filter(is_wrong);
            wrong.map(|id| (id.clone(), NodeStep::Never("no such event".to_owned()))).collect()
        }
    }

    #[test]
    fn what_is_in_force_is_told_though_nothing_could_be_put_into_force() {
        let root = tempfile::tempdir().unwrap();
        let node = portcullis_node::node_state(&Settings::default().below(root.path()));
        let policy = |name: &str| Policy {
            name: name.to_owned(),
            uid: "u".to_owned(),
            generation: 2,
            spec: json!({}),
        };
        let shared = Shared::default();
        let told = |applied: Applied| {
            shared.applied(vec![policy("a"), policy("b")], applied);
            let told = wanted(&node, &shared).policies.into_iter();
            told.map(|policy| (policy.in_force, policy.message)).collect::<Vec<_>>()
        };
        assert_eq!(told(Applied::default()), [(true, None), (true, None)]);
        let fault = Some("line 3: wrong".to_owned());
        let faults = [("b".to_owned(), "line 3: wrong".to_owned())].into();
        let applied = Applied { faults, ..Applied::default() };
        assert_eq!(told(applied), [(true, None), (false, fault)]);
        // Whatever else is wrong with the node, and is told before it.
        let full =
            Some("cannot write /etc/portcullis/policies: no space left on device".to_owned());
        let still = ["a".to_owned()].into();
        let applied = Applied { failed: full.clone(), still, ..Applied::default() };
        assert_eq!(told(applied), [(true, None), (false, full.clone())]);
        assert_eq!(wanted(&node, &shared).problems.last(), full.as_ref());
    }

    #[test]
    fn a_mark_is_made_once_and_the_newest_come_first() {
        let node = Taking::default();
        let want = || WantedMark { status: Status::Handled, note: None };
        let wanted: BTreeMap<String, WantedMark> =
            ["01".to_owned(), "02".to_owned(), "x".to_owned()].map(|id| (id, want())).into();
        let done = MarkResult { status: Some(Status::Handled), message: None };
        let known = [("01".to_owned(), done.clone()), ("00".to_owned(), done)].into();
        let (marks, later) = marked(&node, &wanted, known);
        assert!(!later);
        assert_eq!(*node.0.lock().unwrap(), ["02", "x"]);
        assert_eq!(marks.done.keys().collect::<Vec<_>>(), ["01", "02", "x"]);
        assert!(marks.done["x"].message.is_some() && marks.done["02"].message.is_none());
        // Nothing is left to do but what was refused, and a restart changes nothing of that.
        let again = marked(&node, &wanted, marks.done.clone()).0;
        assert_eq!((again, node.0.lock().unwrap().len()), (marks, 3));

        let many = (0..MAX_LISTED + 7).map(|id| (format!("{id:05}"), want())).collect();
        let (marks, _) = marked(&node, &many, BTreeMap::new());
        assert_eq!((marks.done.len(), marks.beyond), (MAX_LISTED, 7));
        assert!(!marks.done.contains_key("00006") && marks.done.contains_key("00007"));
    }
}
