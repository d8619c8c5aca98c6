//! Events: the record of a decision, of what became of it, or of a degraded state.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::finding::words;
use crate::{
    Action, Cause, Class, Decision, Evidence, Failure, Finding, Identity, ImageConfig, Request,
    Subject, Workload,
};

/// Identifier of an event: a ULID, so that ids sort by time.
pub type EventId = String;

words! {
    /// What an event records.
    EventKind, "a kind of event" {
        /// What was decided, written before the container is created.
        Decision = "decision",
        /// What became of it: started, or failed in the runtime.
        Outcome = "outcome",
        /// The ledger says something of itself: a torn line was closed, the clock was set back.
        Notice = "notice",
        /// Somebody handled, ignored or whitelisted another event.
        Mark = "mark",
        /// A container that runs would be decided more strictly if it were started again now.
        Violation = "violation",
    }
}

/// What is written to the journal and the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Identifier.
    pub id: EventId,
    /// When, UTC.
    #[cfg_attr(feature = "schema", schemars(with = "crate::TimeSchema"))]
    pub time: Timestamp,
    /// What it records.
    pub kind: EventKind,
    /// The action that was taken.
    pub action: Action,
    /// One line for people, the same that a refusal shows.
    pub message: String,
    /// The start.
    pub request: Request,
    /// The image.
    pub image: Identity,
    /// Names of the policies whose answer is the action.
    #[serde(default)]
    pub policies: Vec<String>,
    /// Digest of the policy set.
    #[serde(default)]
    pub policy_set: Option<String>,
    /// Failure causes that came to pass.
    #[serde(default)]
    pub causes: Vec<Cause>,
    /// An observing policy would have blocked.
    #[serde(default)]
    pub would_block: bool,
    /// A whitelist changed the answer.
    #[serde(default)]
    pub whitelisted: bool,
    /// Findings that a rule matched, by `class/severity`.
    #[serde(default)]
    pub counted: BTreeMap<String, usize>,
    /// All distinct findings about the image.
    #[serde(default)]
    pub findings: usize,
    /// What the gate met, with details; causes that follow from the evidence are not among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
    /// Dangerous settings of the start; absent if its specification was not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Vec<Arc<Finding>>>,
    /// What the image says of itself, cut to what a record takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_config: Option<ImageConfig>,
    /// For a mark: what was said of the event that `decision` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
    /// For an outcome, a mark or a violation: the decision's event, if the ledger has it. Otherwise
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<EventId>,
    /// Time from request to decision, in microseconds.
    #[serde(default)]
    pub gate_micros: u64,
}

words! {
    /// What somebody did about an event.
    Status, "a status" {
        /// Dealt with.
        Handled = "handled",
        /// Known, and nothing is to be done.
        Ignored = "ignored",
        /// The image was put on a policy's whitelist.
        Whitelisted = "whitelisted",
    }
}

/// What was said of an event, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// What was done.
    pub status: Status,
    /// Who said so: a user's name or number.
    pub by: String,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Where a record went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// The journal took it.
    pub journal: bool,
    /// The ledger took it.
    pub file: bool,
}

/// Longest name of a pod, a namespace or a label in a record, in bytes, and most labels: more than
/// Kubernetes allows for the first, and enough to know a pod by for the second.
const MAX_NAME: usize = 320;
const MAX_LABELS: usize = 64;

/// Most dangerous settings and failures that a record keeps.
const MAX_LISTED: usize = 64;

fn cut(text: &str) -> String {
    let mut end = text.len().min(MAX_NAME);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn cut_labels(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels.iter().take(MAX_LABELS).map(|(key, value)| (cut(key), cut(value))).collect()
}

/// A request whose names cannot make a record too long to be read back.
fn bounded(request: &Request) -> Request {
    Request {
        namespace: cut(&request.namespace),
        pod: cut(&request.pod),
        pod_uid: cut(&request.pod_uid),
        container: cut(&request.container),
        container_id: cut(&request.container_id),
        node: cut(&request.node),
        pod_labels: cut_labels(&request.pod_labels),
        ..request.clone()
    }
}

/// How many findings a rule matched, by class and severity. A finding is the same value in the
/// answers of all policies, but for those that the policies themselves make.
fn counted(decision: &Decision) -> BTreeMap<String, usize> {
    let mut by = BTreeMap::new();
    let mut seen = HashSet::new();
    let mut made = BTreeSet::new();
    for reason in decision.policies.iter().flat_map(|p| &p.reasons) {
        let Subject::Finding(finding) = &reason.subject else { continue };
        let is_new = match finding.class {
            Class::Authorization => made.insert(finding.key()),
            _ => seen.insert(Arc::as_ptr(finding)),
        };
        if is_new {
            *by.entry((finding.class, finding.severity)).or_insert(0) += 1;
        }
    }
    by.into_iter().map(|((class, severity), n)| (format!("{class}/{severity}"), n)).collect()
}

impl Event {
    /// A record of this kind with nothing decided in it.
    pub fn new(
        id: EventId,
        time: Timestamp,
        kind: EventKind,
        action: Action,
        message: String,
        request: Request,
        image: Identity,
    ) -> Self {
        Self {
            id,
            time,
            kind,
            action,
            message,
            request,
            image,
            policies: Vec::new(),
            policy_set: None,
            causes: Vec::new(),
            would_block: false,
            whitelisted: false,
            counted: BTreeMap::new(),
            findings: 0,
            failures: Vec::new(),
            workload: None,
            image_config: None,
            mark: None,
            decision: None,
            gate_micros: 0,
        }
    }

    /// The record that a running container would be decided so if it were started again now, and of
    /// the decision that let it start, if the ledger still has it.
    pub fn of_violation(of: Self, start: Option<EventId>) -> Self {
        Self { kind: EventKind::Violation, decision: start, ..of }
    }

    /// The record of a decision.
    pub fn of_decision(
        id: EventId,
        time: Timestamp,
        message: String,
        request: &Request,
        image: &Identity,
        evidence: &Evidence,
        decision: &Decision,
    ) -> Self {
        Self {
            policies: decision
                .policies
                .iter()
                .filter(|p| p.action == decision.action)
                .map(|p| p.policy.clone())
                .collect(),
            policy_set: decision.policy_set.as_ref().map(ToString::to_string),
            causes: decision.causes(),
            would_block: decision.would_block(),
            whitelisted: decision.whitelisted(),
            counted: counted(decision),
            findings: decision.findings,
            failures: evidence
                .failures
                .iter()
                .take(MAX_LISTED)
                .map(|f| Failure::new(f.cause, cut(&f.detail)))
                .collect(),
            workload: match &evidence.workload {
                Workload::Read(found) => Some(found.iter().take(MAX_LISTED).cloned().collect()),
                Workload::NotRead(_) => None,
            },
            image_config: evidence.image.as_ref().map(|config| ImageConfig {
                created: config.created,
                user: cut(&config.user),
                labels: cut_labels(&config.labels),
            }),
            ..Self::new(
                id,
                time,
                EventKind::Decision,
                decision.action,
                message,
                bounded(request),
                image.clone(),
            )
        }
    }
}
