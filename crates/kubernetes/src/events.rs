//! A decision as an Event of Kubernetes on the pod, as `kubectl describe pod` shows it.
//!
//! `core/v1`, as kubelet's own events are: that is what every version from 1.20 on shows. An Event's
//! name follows from what it says, so that writing it twice writes it once, and what comes again makes
//! its count grow.

use k8s_openapi::api::core::v1::{Event as KubeEvent, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use portcullis_types::{Action, Event, EventKind, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::objects::{GROUP, cut};

/// Longest name of an object, in bytes.
const MAX_NAME: usize = 253;
/// Longest message of an Event, in bytes; the API server refuses more.
const MAX_MESSAGE: usize = 1024;

/// What is told of a pod, and how often it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Told {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    #[serde(default)]
    pub(crate) uid: String,
    #[serde(default)]
    pub(crate) container: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    /// The newest event of ours.
    pub(crate) id: String,
    pub(crate) image: String,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    /// How often it came.
    pub(crate) count: i32,
    /// How often the API server knows that it came.
    #[serde(default)]
    pub(crate) sent: i32,
    /// When that was told.
    #[serde(default)]
    pub(crate) sent_at: Option<Timestamp>,
    pub(crate) is_block: bool,
}

impl Told {
    /// What a pod's Events say of an event, if they say anything.
    pub(crate) fn of(event: &Event) -> Option<(String, Self)> {
        let request = &event.request;
        if request.namespace.is_empty() || request.pod.is_empty() {
            return None;
        }
        let reason = match (event.kind, event.action) {
            (EventKind::Decision | EventKind::Notice, Action::Block) => "PortcullisBlocked",
            (EventKind::Decision, Action::Alarm) => "PortcullisAlarm",
            (EventKind::Violation, _) => "PortcullisViolation",
            _ => return None,
        };
        let told = Self {
            namespace: request.namespace.clone(),
            pod: request.pod.clone(),
            uid: request.pod_uid.clone(),
            container: request.container.clone(),
            reason: reason.to_owned(),
            message: cut(&event.message, MAX_MESSAGE),
            id: event.id.clone(),
            image: cut(&event.image.to_string(), MAX_MESSAGE),
            first: event.time,
            last: event.time,
            count: 1,
            sent: 0,
            sent_at: None,
            is_block: event.action == Action::Block,
        };
        Some((told.key(), told))
    }

    /// The same pod, container and words; the id at the end of a message is another each time.
    fn key(&self) -> String {
        let words = self.message.rsplit_once("; see: ").map_or(&*self.message, |(words, _)| words);
        let mut hash = Sha256::new();
        for part in [&self.namespace, &self.pod, &self.uid, &self.container, &self.reason, words] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// It came again.
    pub(crate) fn again(&mut self, newer: Self) {
        self.count = self.count.saturating_add(1);
        self.last = newer.last;
        self.id = newer.id;
        self.message = newer.message;
    }

    /// The name of its object.
    pub(crate) fn name(&self, key: &str) -> String {
        // A name that is not one of Kubernetes' makes one that the API server refuses.
        format!("{}.{key}", cut(&self.pod, MAX_NAME - 1 - key.len()))
    }

    /// Its object.
    pub(crate) fn object(&self, key: &str, node: &str) -> KubeEvent {
        let annotation = |name: &str, value: &str| (format!("{GROUP}/{name}"), value.to_owned());
        let field = match self.container.as_str() {
            "" => None,
            container => Some(format!("spec.containers{{{container}}}")),
        };
        KubeEvent {
            metadata: ObjectMeta {
                name: Some(self.name(key)),
                namespace: Some(self.namespace.clone()),
                annotations: Some(
                    [annotation("event", &self.id), annotation("image", &self.image)].into(),
                ),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                namespace: Some(self.namespace.clone()),
                name: Some(self.pod.clone()),
                uid: (!self.uid.is_empty()).then(|| self.uid.clone()),
                field_path: field,
                ..ObjectReference::default()
            },
            type_: Some("Warning".to_owned()),
            reason: Some(self.reason.clone()),
            message: Some(self.message.clone()),
            first_timestamp: Some(seconds(self.first)),
            last_timestamp: Some(seconds(self.last)),
            count: Some(self.count),
            source: Some(EventSource {
                component: Some("portcullis".to_owned()),
                host: Some(node.to_owned()),
            }),
            ..KubeEvent::default()
        }
    }

    /// What changes in its object when it came again.
    pub(crate) fn patch(&self) -> serde_json::Value {
        serde_json::json!({
            "metadata": { "annotations": { format!("{GROUP}/event"): self.id } },
            "message": self.message,
            "count": self.count,
            "lastTimestamp": seconds(self.last),
        })
    }
}

/// A time as Kubernetes has it, in seconds; its client counts time with another library than we.
fn seconds(time: Timestamp) -> Time {
    Time(k8s_openapi::jiff::Timestamp::from_second(time.as_second()).unwrap_or_default())
}

/// The same with microseconds.
pub(crate) fn micro(time: Timestamp) -> MicroTime {
    MicroTime(
        k8s_openapi::jiff::Timestamp::from_microsecond(time.as_microsecond()).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, action: &str, id: &str) -> Event {
        serde_json::from_value(serde_json::json!({
            "id": id, "time": "2026-11-29T12:00:00Z", "kind": kind, "action": action,
            "message": format!("portcullis: blocked: malware; see: portcullis explain {id}"),
            "image": { "surety": "unknown" },
            "request": {
                "engine": "containerd", "node": "n1", "containerId": "c", "kind": "container",
                "namespace": "shop", "pod": "web-1", "podUid": "u1", "container": "web",
            },
        }))
        .unwrap()
    }

    #[test]
    fn what_comes_again_has_the_same_name_and_counts() {
        let (key, mut told) = Told::of(&event("decision", "block", "01A")).unwrap();
        let (again, newer) = Told::of(&event("decision", "block", "01B")).unwrap();
        assert_eq!(key, again);
        told.again(newer);
        let object = told.object(&key, "n1");
        assert_eq!((object.count, &*told.name(&key)), (Some(2), &*format!("web-1.{key}")));
        assert_eq!(object.involved_object.uid.as_deref(), Some("u1"));
        assert!(object.message.unwrap().ends_with("explain 01B"));
        let mut other = event("decision", "block", "01A");
        other.request.pod_uid = "u2".to_owned();
        assert_ne!(Told::of(&other).unwrap().0, key);
    }

    #[test]
    fn only_what_somebody_should_look_at_is_told_of_pods_only() {
        assert!(Told::of(&event("decision", "allow", "1")).is_none());
        assert!(Told::of(&event("outcome", "alarm", "1")).is_none());
        assert!(Told::of(&event("mark", "block", "1")).is_none());
        assert_eq!(
            Told::of(&event("violation", "alarm", "1")).unwrap().1.reason,
            "PortcullisViolation"
        );
        let mut no_pod = event("decision", "block", "1");
        no_pod.request.pod = String::new();
        assert!(Told::of(&no_pod).is_none());
    }

    #[test]
    fn long_names_are_cut_to_what_the_api_server_takes() {
        let mut long = event("decision", "block", "1");
        long.request.pod = "é".repeat(200);
        let (key, told) = Told::of(&long).unwrap();
        assert!(told.name(&key).len() <= MAX_NAME);
    }
}
