//! The PolicyReport of a namespace: what was decided about each image that started there.
//!
//! `wgpolicyk8s.io/v1alpha2`, the format that Policy Reporter and dashboards read. There is one report
//! in a namespace, and its results are by image, not by node: the first node that starts an image
//! writes its result, and the others find it there and write nothing. So writes follow from how many
//! images a cluster has, not from how many nodes.

use std::collections::BTreeMap;

use kube::core::DynamicObject;
use portcullis_types::{Action, Digest, Event, EventKind, Kind, Status, Surety, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::objects::{self, GROUP, cut, object};

/// Its name.
pub(crate) const NAME: &str = "portcullis";
/// Most results of a report.
const MAX_RESULTS: usize = 500;
/// Most bytes of them together, a third of what etcd takes of an object: what others wrote into a
/// report, and how they write it, comes on top.
const MAX_BYTES: usize = 512 << 10;
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

    /// What makes one result another one, as a short hash; not which pod it was, on which node and
    /// when.
    pub(crate) fn says(&self) -> String {
        let message = self.stable_message();
        let words = format!("{}\n{}\n{}\n{message}", self.result(), self.policy, self.severity);
        cut(Digest::of(words.as_bytes()).hex(), 32)
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

/// What somebody said of a decision, and with it of what a report says of its image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marked {
    /// The image, as [`Row::key`] has it.
    pub(crate) key: String,
    /// What the decision says, as [`Row::says`] has it.
    says: String,
    pub(crate) status: Status,
    time: Timestamp,
}

impl Marked {
    /// By a mark and the decision that it names; and the namespace of the report.
    pub(crate) fn of(mark: &Event, decision: &Event) -> Option<(String, Self)> {
        let status = mark.mark.as_ref()?.status;
        let (namespace, row) = Row::of(decision)?;
        let marked = Self { says: row.says(), key: row.key, status, time: mark.time };
        Some((namespace, marked))
    }

    /// Writes it into the results that it is about; and whether that changes any.
    fn write(&self, results: &mut [Value]) -> bool {
        let mut changed = false;
        for result in results {
            let is_about = property(result, "imageKey") == Some(&self.key)
                && property(result, "says") == Some(&self.says);
            // As in the list of events: what came after it was handled is to be looked at.
            let is_over = self.status == Status::Handled && seconds(result) > self.time.as_second();
            let is_older = since(result).is_some_and(|since| since >= self.time);
            if is_about && !is_over && !is_older {
                mark(result, self.status.as_str(), &self.time.to_string());
                changed = true;
            }
        }
        changed
    }
}

/// What is to be written into the report of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// By image.
    #[serde(default)]
    pub(crate) rows: BTreeMap<String, Row>,
    /// What was done about events, by the ids of the decisions.
    #[serde(default)]
    pub(crate) marked: BTreeMap<String, Marked>,
}

impl Wanted {
    /// How much it is.
    pub(crate) fn len(&self) -> usize {
        self.rows.len() + self.marked.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
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
        let before = place.map(|place| &results[place]);
        let says = row.says();
        let same = before.filter(|before| property(before, "says") == Some(&says));
        let is_known = before.is_some_and(|before| {
            let age = row.time.as_second().saturating_sub(seconds(before));
            same.is_some() && age < CONFIRMED_AFTER && !is_handled_before(before, row.time)
                // What came later counts, and it is not known who is right of two at once.
                || age < 0
        });
        if is_known {
            continue;
        }
        changed = true;
        let mut new = row.json();
        // As in the list of events: what was handled is to be looked at again, and what is ignored or
        // whitelisted stays so as long as it says the same.
        let status = same.and_then(|same| property(same, "status"));
        if let Some(status) = status.filter(|status| *status != Status::Handled.as_str()) {
            let since = same.and_then(|same| property(same, "statusSince"));
            mark(&mut new, status, since.unwrap_or_default());
        }
        match place {
            Some(place) => results[place] = new,
            None => results.push(new),
        }
    }
    for marked in wanted.marked.values() {
        changed |= marked.write(&mut results);
    }
    if !changed {
        return None;
    }
    results.retain(|result| now.saturating_sub(seconds(result)) < FORGOTTEN_AFTER);
    results.sort_by_key(|result| std::cmp::Reverse(seconds(result)));
    results.truncate(MAX_RESULTS);
    let mut bytes = 0;
    results.retain(|result| {
        bytes += result.to_string().len();
        bytes <= MAX_BYTES
    });
    Some(Value::Array(results))
}

/// Whether that was handled, and not since then.
fn is_handled_before(result: &Value, time: Timestamp) -> bool {
    property(result, "status") == Some(Status::Handled.as_str())
        && since(result).is_none_or(|since| since < time)
}

/// Since when a result has its status.
fn since(result: &Value) -> Option<Timestamp> {
    property(result, "statusSince")?.parse().ok()
}

/// Writes into a result of ours what somebody said of it.
fn mark(result: &mut Value, status: &str, since: &str) {
    let word = match property(result, "action") {
        _ if status != Status::Handled.as_str() => Some("skip"),
        Some("alarm") => Some("warn"),
        Some("block") => Some("fail"),
        _ => None,
    };
    if let Some(word) = word {
        result["result"] = json!(word);
    }
    result["properties"]["status"] = json!(status);
    result["properties"]["statusSince"] = json!(since);
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

    fn event(image: char, action: &str, second: i64) -> Event {
        let digest = format!("sha256:{}", image.to_string().repeat(64));
        serde_json::from_value(json!({
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
        .unwrap()
    }

    fn row(image: char, action: &str, second: i64) -> Row {
        let (namespace, row) = Row::of(&event(image, action, second)).unwrap();
        assert_eq!(namespace, "shop");
        row
    }

    /// What somebody says of the decision of a second.
    fn marked(decision: &Event, status: &str, second: i64) -> Wanted {
        let said = json!({ "status": status, "by": "somebody" });
        let mark = Event {
            kind: EventKind::Mark,
            time: at(second),
            decision: Some(decision.id.clone()),
            mark: Some(serde_json::from_value(said).unwrap()),
            ..decision.clone()
        };
        let (namespace, marked) = Marked::of(&mark, decision).unwrap();
        assert_eq!(namespace, "shop");
        Wanted { marked: [(decision.id.clone(), marked)].into(), ..Wanted::default() }
    }

    /// The word of a result, and what somebody said of it.
    fn told(results: &Value) -> (&str, Option<&str>) {
        (results[0]["result"].as_str().unwrap(), property(&results[0], "status"))
    }

    fn wanted(rows: impl IntoIterator<Item = Row>) -> Wanted {
        let rows = rows.into_iter().map(|row| (row.key.clone(), row)).collect();
        Wanted { rows, ..Wanted::default() }
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
    fn a_report_has_a_bound_in_bytes() {
        let many = (0..MAX_RESULTS).map(|number| {
            let mut row = row('c', "allow", 1000 + i64::try_from(number).unwrap());
            row.key = format!("{number} {}", "k".repeat(500));
            row.image = "i".repeat(512);
            row.message = "m".repeat(600);
            row
        });
        let results = merged(&json!({}), &wanted(many), at(2000)).unwrap();
        assert!((MAX_BYTES * 9 / 10..=MAX_BYTES + 1000).contains(&results.to_string().len()));
        assert!(property(&results[0], "imageKey").unwrap().starts_with("499 "));
    }

    #[test]
    fn a_mark_reaches_the_result_of_its_image_whichever_event_it_names() {
        let first = merged(&json!({}), &wanted([row('a', "block", 1000)]), at(1000)).unwrap();
        let mut present = json!({ "results": first });
        // On another node, or again: it is not written, and a pod's Event has its id.
        let again = event('a', "block", 1500);
        for (status, second, expected) in [
            ("handled", 1501, ("fail", Some("handled"))),
            ("ignored", 1502, ("skip", Some("ignored"))),
            ("whitelisted", 1503, ("skip", Some("whitelisted"))),
            ("handled", 1504, ("fail", Some("handled"))),
        ] {
            let wanted = marked(&again, status, second);
            let results = merged(&present, &wanted, at(second)).unwrap();
            assert_eq!(told(&results), expected);
            present = json!({ "results": results });
            assert_eq!(merged(&present, &wanted, at(second)), None);
        }
        // One from before the last says nothing, nor one of another image or another decision.
        for (image, action, second) in
            [('a', "block", 1503), ('b', "block", 1600), ('a', "alarm", 1600)]
        {
            let other = marked(&event(image, action, 1500), "ignored", second);
            assert_eq!(merged(&present, &other, at(1600)), None);
        }
    }

    #[test]
    fn what_is_ignored_stays_so_as_long_as_it_says_the_same() {
        let first = merged(&json!({}), &wanted([row('a', "block", 1000)]), at(1000)).unwrap();
        let present = json!({ "results": first });
        let day = 1010 + CONFIRMED_AFTER;
        for status in ["ignored", "whitelisted"] {
            let marked = marked(&event('a', "block", 1000), status, 1001);
            let results = merged(&present, &marked, at(1001)).unwrap();
            let present = json!({ "results": results });
            assert_eq!(merged(&present, &wanted([row('a', "block", 1009)]), at(1009)), None);
            let later = merged(&present, &wanted([row('a', "block", day)]), at(day)).unwrap();
            assert_eq!(told(&later), ("skip", Some(status)));
            assert_eq!(seconds(&later[0]), day);
            let other = merged(&present, &wanted([row('a', "alarm", 1010)]), at(1010)).unwrap();
            assert_eq!(told(&other), ("warn", None));
        }
        let handled = marked(&event('a', "block", 1000), "handled", 1001);
        let results = merged(&present, &handled, at(1001)).unwrap();
        let present = json!({ "results": results });
        let again = wanted([row('a', "block", 1010)]);
        assert_eq!(told(&merged(&present, &again, at(1010)).unwrap()), ("fail", None));
        // Also if both are told at once; but not by what came before.
        let both = Wanted { marked: handled.marked, ..again };
        assert_eq!(told(&merged(&json!({}), &both, at(1010)).unwrap()), ("fail", None));
        assert_eq!(merged(&present, &wanted([row('a', "block", 1001)]), at(1010)), None);
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
        let decision = event('a', "block", 1000);
        let says = row('a', "block", 1000).says();
        let properties = json!({ "imageKey": row('a', "block", 1000).key, "says": says });
        let odd = json!({ "results": [{ "properties": properties, "timestamp": 4 }, 5] });
        assert!(merged(&odd, &marked(&decision, "handled", 1001), at(1001)).is_some());
        let odd = json!({ "results": [{ "properties": { "imageKey": 3 } }, { "properties": [] }] });
        assert_eq!(merged(&odd, &marked(&decision, "handled", 1001), at(1001)), None);
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
