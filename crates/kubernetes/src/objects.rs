//! The objects that the agent shares with the API server, beside [`ProtectionPolicy`], whose types
//! stand in `portcullis-policy`.
//!
//! `NodeProtection` is one for each node, named as the node is. Its `spec` is people's, who say there
//! what was done about events; its `status` is the node's. So each node writes its own object, and a
//! policy's status, which one of the agents sums up, stays small however many nodes there are.

use std::collections::BTreeMap;

use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, ObjectMeta, TypeMeta};
use portcullis_node::NodeState;
use portcullis_types::Status as MarkStatus;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The group of our resources.
pub const GROUP: &str = "portcullis.dev";
/// Their version.
pub const VERSION: &str = "v1alpha1";

/// Most policies, problems and marks that an object holds.
pub(crate) const MAX_LISTED: usize = 200;
/// Longest text of a message in a status, in bytes.
pub(crate) const MAX_TEXT: usize = 1024;

/// `ProtectionPolicy` at the API server.
pub(crate) fn policies() -> ApiResource {
    resource("ProtectionPolicy", "protectionpolicies")
}

/// `NodeProtection` at the API server.
pub(crate) fn nodes() -> ApiResource {
    resource("NodeProtection", "nodeprotections")
}

/// `PolicyReport`, of Kubernetes' policy working group.
pub(crate) fn reports() -> ApiResource {
    let gvk = GroupVersionKind::gvk("wgpolicyk8s.io", "v1alpha2", "PolicyReport");
    ApiResource::from_gvk_with_plural(&gvk, "policyreports")
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, kind), plural)
}

/// An object of a resource with these members.
pub(crate) fn object(resource: &ApiResource, name: &str, data: Value) -> DynamicObject {
    DynamicObject {
        types: Some(TypeMeta {
            api_version: resource.api_version.clone(),
            kind: resource.kind.clone(),
        }),
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        data,
    }
}

/// What people want of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeProtectionSpec {
    /// What was done about events of this node, by the events' ids; the node writes it into its
    /// ledger. To whitelist an image, edit the policy.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub marks: BTreeMap<String, WantedMark>,
}

/// What was done about an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WantedMark {
    /// Handled, or ignored.
    #[schemars(with = "MarkWord")]
    pub status: MarkStatus,
    /// Why, in your words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub note: Option<String>,
}

/// What may be said of an event in a cluster.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "stands for its words in the schema")]
enum MarkWord {
    /// Dealt with.
    Handled,
    /// Known, and nothing is to be done.
    Ignored,
}

/// How a node is protected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeProtectionStatus {
    /// protected, enabled-not-configured, unprotected, or error.
    pub state: NodeState,
    /// Digest of the policy set that decides on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_set: Option<String>,
    /// The cluster's policies, as this node has them.
    #[serde(default)]
    pub policies: Vec<PolicyOnNode>,
    /// Policies in force that stand in the node's own files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local_policies: Vec<String>,
    /// What is wrong on the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// What became of the marks in the spec.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub marks: BTreeMap<String, MarkResult>,
    /// Version of the agent.
    pub version: String,
}

/// A policy of the cluster on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyOnNode {
    /// Its name.
    pub name: String,
    /// The generation that is in force, or that has the fault.
    pub generation: i64,
    /// Whether that generation is in force.
    pub in_force: bool,
    /// Why it is not: its fault, or what kept the node from it. What was in force before stays so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What became of a mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MarkResult {
    /// What is in the ledger, if anything is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub status: Option<MarkStatus>,
    /// Why nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The status of a policy over all nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PolicyStatus {
    /// The generation that this is about.
    pub(crate) observed_generation: i64,
    /// Nodes that tell of themselves.
    pub(crate) nodes: i64,
    /// Nodes on which this generation is in force.
    pub(crate) in_force: i64,
    /// Nodes that cannot put it into force.
    pub(crate) failing: i64,
    /// Some of those, and why.
    #[serde(default)]
    pub(crate) failures: Vec<Failure>,
    /// `Ready`: in force on all nodes.
    #[serde(default)]
    pub(crate) conditions: Vec<Condition>,
}

/// A node that cannot put a policy into force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Failure {
    /// The node.
    pub(crate) node: String,
    /// Why.
    pub(crate) message: String,
}

/// A condition, as Kubernetes' own objects have them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Condition {
    /// Its name.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// True, False or Unknown.
    pub(crate) status: String,
    /// One word.
    pub(crate) reason: String,
    /// For people.
    pub(crate) message: String,
    /// Since when.
    pub(crate) last_transition_time: String,
}

/// Writes a whole status, so that nothing of an older one stays: a merge would keep what is not named.
pub(crate) async fn set_status(
    api: &Api<DynamicObject>,
    name: &str,
    status: &impl Serialize,
) -> Result<DynamicObject, kube::Error> {
    let patch = json!([{ "op": "add", "path": "/status", "value": status }]);
    let patch = serde_json::from_value(patch).map_err(kube::Error::SerdeError)?;
    api.patch_status(name, &PatchParams::default(), &Patch::Json::<()>(patch)).await
}

/// At most so many of a list.
pub(crate) fn some<T>(list: impl IntoIterator<Item = T>) -> Vec<T> {
    list.into_iter().take(MAX_LISTED).collect()
}

/// A text with at most so many bytes, cut at a character.
pub(crate) fn cut(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
