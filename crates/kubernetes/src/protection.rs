//! The node's own object, `NodeProtection`: its status is written, and what people want of it in its
//! spec is done. And the label by which pods find the nodes that are ready.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Node as KubeNode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Event, watcher};
use kube::{Api, Client};
use portcullis_types::Mark;
use serde_json::json;

use crate::client::{Meaning, meaning, words};
use crate::node::{Node, NodeStatus, NodeStep, State};
use crate::objects::{
    self, GROUP, MAX_TEXT, MarkResult, NodeProtectionSpec, NodeProtectionStatus, PolicyOnNode,
    WantedMark, cut, object,
};
use crate::pace::Waits;
use crate::policies::{from_cache, watch_words};
use crate::run::{Cluster, Shared, some};

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
}

/// Whether pods that ask for the handler may come.
fn is_ready(state: State) -> bool {
    matches!(state, State::Protected | State::EnabledNotConfigured)
}

/// What is to be said of the node.
pub(crate) fn wanted(status: &NodeStatus, shared: &Shared) -> NodeProtectionStatus {
    let (policies, applied) = shared.policies().unwrap_or_default();
    let is_of_cluster = |name: &&String| policies.iter().any(|policy| policy.name == **name);
    let local: Vec<String> =
        status.policies.iter().filter(|name| !is_of_cluster(name)).cloned().collect();
    let mut problems: Vec<String> =
        status.problems.iter().map(|text| cut(text, MAX_TEXT)).collect();
    problems.extend(applied.failed.as_deref().map(|text| cut(text, MAX_TEXT)));
    NodeProtectionStatus {
        // The set that is in force goes on deciding, so the node is as ready as before.
        state: status.state,
        policy_set: status.policy_set.clone(),
        policies: some(policies.iter().map(|policy| {
            let fault = applied.faults.get(&policy.name);
            PolicyOnNode {
                name: policy.name.clone(),
                generation: policy.generation,
                in_force: fault.is_none() && applied.failed.is_none(),
                message: fault.map(|text| cut(text, MAX_TEXT)),
            }
        })),
        local_policies: some(local),
        problems: some(problems),
        marks: shared.marks(),
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
        // A list is replaced whole by a merge, but a map keeps what is not named.
        let mut status = json!(wanted);
        if let Some(before) = &sent.status {
            for gone in before.marks.keys().filter(|id| !wanted.marks.contains_key(*id)) {
                status["marks"][gone] = json!(null);
            }
        }
        for key in ["policySet", "localPolicies", "problems"] {
            if status.get(key).is_none() {
                status[key] = json!(null);
            }
        }
        let patch = Patch::Merge(json!({ "status": status }));
        let params = PatchParams::default();
        match api.patch_status(&cluster.node, &params, &patch).await {
            Err(error) if meaning(&error) == Meaning::Absent => {
                create(client, &api, cluster).await?;
                api.patch_status(&cluster.node, &params, &patch).await?;
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
    let patch = json!({ "metadata": { "labels": { format!("{GROUP}/ready"): value } } });
    let api: Api<KubeNode> = Api::all(client.clone());
    api.patch_metadata(node, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}

/// Takes back what was said of the node, as far as it is still allowed to.
pub(crate) async fn take_back(client: &Client, cluster: &Cluster) {
    if let Err(error) = label(client, &cluster.node, json!(null)).await {
        log::info!("the label {GROUP}/ready stays on the node: {}", words(&error));
    }
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &objects::nodes());
    match api.delete(&cluster.node, &DeleteParams::default()).await {
        Err(error) if meaning(&error) != Meaning::Absent => {
            log::info!("the node's NodeProtection stays: {}", words(&error));
        }
        _ => {}
    }
}

/// Follows what people want of this node until the end of the agent.
pub(crate) async fn follow(
    client: Client,
    cluster: Arc<Cluster>,
    node: Arc<dyn Node>,
    shared: Arc<Shared>,
) {
    let api: Api<DynamicObject> = Api::all_with(client, &objects::nodes());
    let one = format!("metadata.name={}", cluster.node);
    let config = from_cache().fields(&one);
    let mut events = pin!(watcher(api, config).backoff(Waits::default()));
    let mut spec = NodeProtectionSpec::default();
    let mut later = false;
    loop {
        let again = async {
            match later {
                true => tokio::time::sleep(std::time::Duration::from_secs(15)).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            event = events.next() => match event {
                None => return,
                Some(Err(error)) => {
                    shared.trouble("the node's object", &watch_words(&error));
                    continue;
                }
                Some(Ok(Event::InitApply(object) | Event::Apply(object))) => {
                    shared.works("the node's object");
                    spec = object.data.get("spec").cloned().map_or_else(
                        NodeProtectionSpec::default,
                        |spec| serde_json::from_value(spec).unwrap_or_default(),
                    );
                }
                Some(Ok(Event::InitDone)) => {
                    shared.works("the node's object");
                    continue;
                }
                Some(Ok(Event::Init)) => continue,
                // By somebody, or with a Node that came back as another one: it is made again.
                Some(Ok(Event::Delete(_))) => {
                    shared.forget_sent();
                    continue;
                }
            },
            () = again => {}
        }
        let (node, marks) = (node.clone(), std::mem::take(&mut spec.marks));
        spec.marks = marks.clone();
        let known = shared.marks();
        match tokio::task::spawn_blocking(move || marked(node.as_ref(), &marks, known)).await {
            Ok((results, has_later)) => {
                shared.set_marks(results);
                later = has_later;
            }
            Err(error) => log::error!("a bug in portcullis: {error}"),
        }
    }
}

/// Does what is wanted of events and not done yet; and whether something has to be tried again.
fn marked(
    node: &dyn Node,
    wanted: &BTreeMap<String, WantedMark>,
    mut known: BTreeMap<String, MarkResult>,
) -> (BTreeMap<String, MarkResult>, bool) {
    let mut results = BTreeMap::new();
    let mut later = false;
    for (id, want) in wanted.iter().rev().take(objects::MAX_LISTED) {
        if let Some(done) = known.remove(id).filter(|result| result.status == Some(want.status)) {
            results.insert(id.clone(), done);
            continue;
        }
        let mark = Mark {
            status: want.status,
            by: "kubernetes".to_owned(),
            note: want.note.as_deref().map(|note| cut(note, MAX_TEXT)),
        };
        let result = match node.mark(id, &mark) {
            Ok(()) => MarkResult { status: Some(want.status), message: None },
            Err(NodeStep::Never(why)) => {
                MarkResult { status: None, message: Some(cut(&why, MAX_TEXT)) }
            }
            Err(NodeStep::Later(why)) => {
                later = true;
                MarkResult { status: None, message: Some(cut(&why, MAX_TEXT)) }
            }
        };
        results.insert(id.clone(), result);
    }
    (results, later)
}
