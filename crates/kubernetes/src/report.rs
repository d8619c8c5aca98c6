//! The PolicyReport of a namespace: what was decided about each image that started there.
//!
//! `wgpolicyk8s.io/v1alpha2`, the format that Policy Reporter and dashboards read. There is one report
//! in a namespace, and its results are by image, not by node: the first node that starts an image
//! writes its result, and the others find it there and write nothing. So writes follow from how many
//! images a cluster has, not from how many nodes.

use std::collections::BTreeMap;

use kube::core::DynamicObject;
use portcullis_types::{Action, Event, EventKind, Kind, Status, Surety, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::objects::{self, GROUP, cut, object};

/// Its name.
pub(crate) const NAME: &str = "portcullis";
/// Most results of a report: some 400 KB of the 1.5 MB that an object may have.
const MAX_RESULTS: usize = 500;
/// A result that no start has confirmed for so long is taken out, in seconds.
const FORGOTTEN_AFTER: i64 = 14 * 86_400;
/// A result that starts go on confirming is written anew after so long, in seconds.
const CONFIRMED_AFTER: i64 = 86_400;

/// What was decided about an image in a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    /// By which the image is told from others: a digest, or a name if there is none.
    pub(crate) key: String,
    image: String,
    /// Digests that are proven.
    #[serde(default)]
    config: String,
    #[serde(default)]
    manifest: String,
    surety: Surety,
    action: Action,
    is_violation: bool,
    whitelisted: bool,
    would_block: bool,
    policy: String,
    severity: String,
    category: String,
    message: String,
    pod: String,
    uid: String,
    container: String,
    node: String,
    policy_set: String,
    pub(crate) id: String,
    pub(crate) time: Timestamp,
}

impl Row {
    /// What a report says of an event, and in which namespace.
    pub(crate) fn of(event: &Event) -> Option<(String, Self)> {
        let request = &event.request;
        let is_violation = event.kind == EventKind::Violation;
        if request.namespace.is_empty() || !(is_violation || event.kind == EventKind::Decision) {
            return None;
        }
        // Every pod has one; that it is well is no news.
        if request.kind == Kind::Sandbox && event.action == Action::Allow {
            return None;
        }
        let image = event.image.to_string();
        let config = event.image.config.as_ref().filter(|_| event.image.is_bound());
        let key = config
            .or(event.image.chain_id.as_ref())
            .map_or_else(|| image.clone(), ToString::to_string);
        let message =
            event.message.rsplit_once("; see: ").map_or(&*event.message, |(words, _)| words);
        let message = message.strip_prefix("portcullis: ").unwrap_or(message);
        let row = Self {
            key: cut(&key, 512),
            image: cut(&image, 512),
            config: config.map(ToString::to_string).unwrap_or_default(),
            manifest: match event.image.is_bound() {
                true => event.image.manifests.first().map(ToString::to_string).unwrap_or_default(),
                false => String::new(),
            },
            surety: event.image.surety,
            action: event.action,
            is_violation,
            whitelisted: event.whitelisted,
            would_block: event.would_block,
            policy: match event.policies.first() {
                Some(policy) => policy.clone(),
                None => "default".to_owned(),
            },
            severity: severity(event).to_owned(),
            category: category(event),
            message: cut(message, 600),
            pod: request.pod.clone(),
            uid: request.pod_uid.clone(),
            container: request.container.clone(),
            node: request.node.clone(),
            policy_set: event.policy_set.clone().unwrap_or_default(),
            id: event.id.clone(),
            time: event.time,
        };
        Some((request.namespace.clone(), row))
    }

    /// The word of the report for what was decided.
    fn result(&self) -> &'static str {
        match (self.whitelisted, self.action) {
            (true, Action::Allow) => "skip",
            (false, Action::Allow) => "pass",
            (_, Action::Alarm) => "warn",
            (_, Action::Block) => "fail",
        }
    }

    /// What makes one result another one; not which pod it was, on which node and when.
    pub(crate) fn says(&self) -> String {
        format!("{}\n{}\n{}\n{}", self.result(), self.policy, self.severity, self.stable_message())
    }

    /// A message may name the container; that is another one each time.
    fn stable_message(&self) -> &str {
        self.message.split("; container ").next().unwrap_or_default()
    }

    fn json(&self) -> Value {
        let mut properties = Map::new();
        let mut add = |name: &str, value: &str| {
            if !value.is_empty() {
                properties.insert(name.to_owned(), json!(value));
            }
        };
        add("image", &self.image);
        add("imageKey", &self.key);
        add("imageConfig", &self.config);
        add("imageManifest", &self.manifest);
        add("identity", self.surety.as_str());
        add("action", self.action.as_str());
        add("container", &self.container);
        add("node", &self.node);
        add("policySet", &self.policy_set);
        add("event", &self.id);
        add("says", &self.says());
        if self.would_block {
            add("wouldBlock", "true");
        }
        if self.is_violation {
            add("running", "true");
        }
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod", "name": cut(&self.pod, 253),
        });
        if !self.uid.is_empty() {
            pod["uid"] = json!(self.uid);
        }
        json!({
            "source": "portcullis",
            "category": self.category,
            "policy": self.policy,
            "rule": if self.is_violation { "running-container" } else { "container-start" },
            "result": self.result(),
            "severity": self.severity,
            "scored": true,
            "message": self.message,
            "resources": [pod],
            "timestamp": { "seconds": self.time.as_second(), "nanos": 0 },
            "properties": properties,
        })
    }
}

/// The worst class of what counted.
fn category(event: &Event) -> String {
    const WORST_FIRST: [&str; 6] =
        ["malware", "vulnerability", "authorization", "secret", "workload", "baseline"];
    let counted =
        |class: &&&str| event.counted.keys().any(|key| key.split('/').next() == Some(class));
    let class = WORST_FIRST.iter().find(counted).copied();
    let cause = event.causes.first().map(|cause| cause.as_str());
    class.or(cause).unwrap_or("none").to_owned()
}

/// The worst severity of what counted, in the words of a report; what blocks is at least high.
fn severity(event: &Event) -> &'static str {
    let has = |severity: &str| event.counted.keys().any(|key| key.ends_with(severity));
    if has("/critical") || has("malware/unknown") {
        "critical"
    } else if has("/high") || event.action == Action::Block {
        "high"
    } else if has("/medium") || event.action == Action::Alarm {
        "medium"
    } else if has("/low") {
        "low"
    } else {
        "info"
    }
}

/// What is to be written into the report of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// By image.
    #[serde(default)]
    pub(crate) rows: BTreeMap<String, Row>,
    /// What was done about events, by their ids.
    #[serde(default)]
    pub(crate) marks: BTreeMap<String, Status>,
}

impl Wanted {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.marks.is_empty()
    }
}

/// The report with what is wanted in it, to be created or, as it has a version, replaced; `None` if it
/// has all of it. What others wrote into it stays.
pub(crate) fn with(
    present: Option<DynamicObject>,
    wanted: &Wanted,
    now: Timestamp,
) -> Option<DynamicObject> {
    let mut report = present.unwrap_or_else(|| object(&objects::reports(), NAME, json!({})));
    let results = merged(&report.data, wanted, now)?;
    if !report.data.is_object() {
        report.data = json!({});
    }
    report.data["summary"] = summary(&results);
    report.data["results"] = results;
    let labels = report.metadata.labels.get_or_insert_default();
    labels.insert("app.kubernetes.io/managed-by".to_owned(), GROUP.to_owned());
    report.metadata.managed_fields = None;
    Some(report)
}

/// The results of a report with what is wanted in them; `None` if they have it already.
fn merged(present: &Value, wanted: &Wanted, now: Timestamp) -> Option<Value> {
    let now = now.as_second();
    let empty = Vec::new();
    let mut results = present.get("results").and_then(Value::as_array).unwrap_or(&empty).clone();
    let mut changed = false;
    for row in wanted.rows.values() {
        let place =
            results.iter().position(|result| property(result, "imageKey") == Some(&row.key));
        let is_known = place.is_some_and(|place| {
            let result = &results[place];
            let age = row.time.as_second().saturating_sub(seconds(result));
            property(result, "says") == Some(&row.says()) && age < CONFIRMED_AFTER
                // What came later counts, and it is not known who is right of two at once.
                || age < 0
        });
        if is_known {
            continue;
        }
        changed = true;
        match place {
            Some(place) => results[place] = row.json(),
            None => results.push(row.json()),
        }
    }
    for result in &mut results {
        let mark = property(result, "event").and_then(|id| wanted.marks.get(id)).copied();
        let Some(mark) = mark else { continue };
        if property(result, "status") != Some(mark.as_str()) {
            result["properties"]["status"] = json!(mark.as_str());
            if mark != Status::Handled {
                result["result"] = json!("skip");
            }
            changed = true;
        }
    }
    if !changed {
        return None;
    }
    results.retain(|result| now.saturating_sub(seconds(result)) < FORGOTTEN_AFTER);
    results.sort_by_key(|result| std::cmp::Reverse(seconds(result)));
    results.truncate(MAX_RESULTS);
    Some(Value::Array(results))
}

/// The counts that stand beside the results.
fn summary(results: &Value) -> Value {
    let count = |word: &str| {
        let all = results.as_array().into_iter().flatten();
        all.filter(|result| result.get("result").and_then(Value::as_str) == Some(word)).count()
    };
    json!({
        "pass": count("pass"), "fail": count("fail"), "warn": count("warn"),
        "error": count("error"), "skip": count("skip"),
    })
}

fn property<'r>(result: &'r Value, name: &str) -> Option<&'r str> {
    result.get("properties")?.get(name)?.as_str()
}

fn seconds(result: &Value) -> i64 {
    result.pointer("/timestamp/seconds").and_then(Value::as_i64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(image: char, action: &str, second: i64) -> Row {
        let digest = format!("sha256:{}", image.to_string().repeat(64));
        let event: Event = serde_json::from_value(json!({
            "id": format!("01{second}"), "time": Timestamp::from_second(second).unwrap(),
            "kind": "decision", "action": action,
            "message": format!("portcullis: {action}: because; image x; see: portcullis explain 01{second}"),
            "image": { "surety": "bound", "chainId": digest, "config": digest },
            "counted": { "vulnerability/critical": 2 }, "policies": ["production"],
            "request": {
                "engine": "containerd", "node": "n1", "containerId": "c", "kind": "container",
                "namespace": "shop", "pod": "web-1", "podUid": "u1", "container": "web",
            },
        }))
        .unwrap();
        let (namespace, row) = Row::of(&event).unwrap();
        assert_eq!(namespace, "shop");
        row
    }

    fn wanted(rows: impl IntoIterator<Item = Row>) -> Wanted {
        let rows = rows.into_iter().map(|row| (row.key.clone(), row)).collect();
        Wanted { rows, marks: BTreeMap::new() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_second_node_finds_the_result_and_writes_nothing() {
        let first = merged(&json!({}), &wanted([row('a', "block", 1000)]), at(1000)).unwrap();
        assert_eq!(summary(&first)["fail"], 1);
        assert_eq!(first[0]["severity"], "critical");
        assert_eq!(first[0]["category"], "vulnerability");
        let present = json!({ "results": first });
        assert_eq!(merged(&present, &wanted([row('a', "block", 1500)]), at(1500)), None);
        // Another decision is another result, in the same place.
        let other = merged(&present, &wanted([row('a', "alarm", 1600)]), at(1600)).unwrap();
        assert_eq!((other.as_array().unwrap().len(), &other[0]["result"]), (1, &json!("warn")));
        // One from before it changes nothing.
        let present = json!({ "results": other });
        assert_eq!(merged(&present, &wanted([row('a', "block", 1500)]), at(1700)), None);
        // And after a day it is confirmed.
        let day = 1600 + CONFIRMED_AFTER;
        assert!(merged(&present, &wanted([row('a', "alarm", day)]), at(day)).is_some());
    }

    #[test]
    fn results_are_bounded_and_forgotten() {
        let old = merged(&json!({}), &wanted([row('a', "allow", 1000)]), at(1000)).unwrap();
        assert_eq!(old[0]["result"], "pass");
        let late = 1000 + FORGOTTEN_AFTER;
        let new = merged(&json!({ "results": old }), &wanted([row('b', "allow", late)]), at(late));
        assert_eq!(new.unwrap().as_array().unwrap().len(), 1);
        let many = (0..600).map(|number| {
            let mut row = row('c', "allow", 1000 + number);
            row.key = format!("image {number}");
            row
        });
        let results = merged(&json!({}), &wanted(many), at(2000)).unwrap();
        assert_eq!(results.as_array().unwrap().len(), MAX_RESULTS);
        assert_eq!(property(&results[0], "imageKey"), Some("image 599"));
    }

    #[test]
    fn marks_reach_the_result_of_their_event() {
        let first = merged(&json!({}), &wanted([row('a', "block", 1000)]), at(1000)).unwrap();
        let present = json!({ "results": first });
        let marks =
            |status| Wanted { marks: [("011000".to_owned(), status)].into(), ..Wanted::default() };
        let handled = merged(&present, &marks(Status::Handled), at(1001)).unwrap();
        assert_eq!(handled[0]["result"], "fail");
        assert_eq!(property(&handled[0], "status"), Some("handled"));
        let ignored = merged(&present, &marks(Status::Ignored), at(1001)).unwrap();
        assert_eq!(ignored[0]["result"], "skip");
        assert_eq!(merged(&json!({ "results": ignored }), &marks(Status::Ignored), at(1)), None);
    }

    #[test]
    fn a_report_of_somebody_who_lies_about_its_shape_is_no_panic() {
        for present in [
            json!(null),
            json!({ "results": 3 }),
            json!({ "results": [1, {}, { "properties": 2 }] }),
        ] {
            let results = merged(&present, &wanted([row('a', "block", 1000)]), at(1000)).unwrap();
            assert!(summary(&results)["fail"] == 1, "{results}");
        }
        let odd = json!({ "results": [{ "properties": { "event": "011000" }, "timestamp": 4 }] });
        let marks =
            Wanted { marks: [("011000".to_owned(), Status::Handled)].into(), ..Wanted::default() };
        assert!(merged(&odd, &marks, at(1000)).is_some());
    }

    #[test]
    fn what_others_wrote_into_a_report_stays() {
        let first = wanted([row('a', "block", 1000)]);
        let now = Timestamp::from_second(1001).unwrap();
        let mut report = with(None, &first, now).unwrap();
        assert_eq!(report.metadata.name.as_deref(), Some(NAME));
        assert_eq!(report.data["summary"]["fail"], 1);
        report.metadata.resource_version = Some("7".to_owned());
        report.metadata.labels.get_or_insert_default().insert("team".to_owned(), "a".to_owned());
        report.data["scope"] = json!({ "kind": "Namespace", "name": "shop" });
        // Not even a time that nobody can mean.
        report.data["results"].as_array_mut().unwrap().push(json!({
            "policy": "another", "timestamp": { "seconds": i64::MIN },
        }));
        assert!(with(Some(report.clone()), &first, now).is_none());
        let more = wanted([row('b', "alarm", 1002)]);
        let report = with(Some(report), &more, now).unwrap();
        assert_eq!(report.metadata.labels.unwrap()["team"], "a");
        assert_eq!(report.metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(report.data["scope"]["name"], "shop");
        assert_eq!(report.data["results"].as_array().unwrap().len(), 2);
    }
}
