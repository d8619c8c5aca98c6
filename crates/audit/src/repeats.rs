//! Equal decisions as one row: a kubelet tries a refused container again for ever, and five
//! hundred equal refusals are one thing to look at.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use portcullis_types::{
    Action, Cause, Digest, Engine, Event, EventId, EventKind, ImageRef, Kind, Mark, Status, Surety,
    Timestamp,
};

/// Decisions that differ only in when they were made, and in Kubernetes in the container's id.
#[derive(Debug, Clone, PartialEq)]
pub struct Repeated {
    /// The latest of them.
    pub event: Event,
    /// The id of the first; that of the latest stands in the event.
    pub first_id: EventId,
    /// When the first was made; when the latest was stands in the event.
    pub first: Timestamp,
    /// How many there are.
    pub count: usize,
    /// Their ids, in the order of the ledger.
    pub ids: Vec<EventId>,
    /// What was said of them last. After `handled`, a further decision takes it away again; what is
    /// ignored or whitelisted stays so.
    pub mark: Option<Mark>,
}

/// What makes two decisions equal.
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Key {
    action: Action,
    engine: Engine,
    node: String,
    kind: Kind,
    place: Place,
    surety: Surety,
    chain_id: Option<Digest>,
    config: Option<Digest>,
    manifests: BTreeSet<Digest>,
    /// Only of an image that no digest tells.
    names: BTreeSet<ImageRef>,
    policy_set: Option<String>,
    policies: Vec<String>,
    causes: Vec<Cause>,
    counted: BTreeMap<String, usize>,
    would_block: bool,
    whitelisted: bool,
}

/// Where a container starts.
#[derive(PartialEq, Eq, Hash)]
enum Place {
    /// In Kubernetes; each try makes a container with a new id.
    Pod { namespace: String, pod: String, container: String },
    /// Elsewhere.
    Container { namespace: String, id: String },
}

/// Folds decisions, given in the order of the ledger, to rows in the order of their latest one.
///
/// A mark counts for the row of the decision that it names. Outcomes, notices and violations are
/// passed over, and so are marks of decisions that are not among the events.
pub fn fold(events: impl IntoIterator<Item = Event>) -> Vec<Repeated> {
    let mut rows: Vec<(usize, Repeated)> = Vec::new();
    let mut of_key: HashMap<Key, usize> = HashMap::new();
    let mut of_id: HashMap<EventId, usize> = HashMap::new();
    for (at, event) in events.into_iter().enumerate() {
        match event.kind {
            EventKind::Decision => {
                let row = *of_key.entry(Key::of(&event)).or_insert(rows.len());
                of_id.insert(event.id.clone(), row);
                match rows.get_mut(row) {
                    Some((latest, row)) => {
                        *latest = at;
                        row.again(event);
                    }
                    None => rows.push((at, Repeated::new(event))),
                }
            }
            EventKind::Mark => {
                let row = event.decision.as_ref().and_then(|id| of_id.get(id));
                if let (Some(row), Some(mark)) = (row, event.mark) {
                    rows[*row].1.mark = Some(mark);
                }
            }
            EventKind::Outcome | EventKind::Notice | EventKind::Violation => {}
        }
    }
    rows.sort_unstable_by_key(|(latest, _)| *latest);
    rows.into_iter().map(|(_, row)| row).collect()
}

impl Repeated {
    fn new(event: Event) -> Self {
        let ids = vec![event.id.clone()];
        Self { first_id: event.id.clone(), first: event.time, event, count: 1, ids, mark: None }
    }

    fn again(&mut self, event: Event) {
        self.ids.push(event.id.clone());
        self.event = event;
        self.count += 1;
        self.mark.take_if(|mark| mark.status == Status::Handled);
    }
}

impl Key {
    pub(crate) fn of(event: &Event) -> Self {
        let Event { request, image, .. } = event;
        let told =
            image.chain_id.is_some() || image.config.is_some() || !image.manifests.is_empty();
        Self {
            action: event.action,
            engine: request.engine,
            node: request.node.clone(),
            kind: request.kind,
            place: if request.pod.is_empty() {
                Place::Container {
                    namespace: request.namespace.clone(),
                    id: request.container_id.clone(),
                }
            } else {
                Place::Pod {
                    namespace: request.namespace.clone(),
                    pod: request.pod.clone(),
                    container: request.container.clone(),
                }
            },
            surety: image.surety,
            chain_id: image.chain_id.clone(),
            config: image.config.clone(),
            manifests: image.manifests.clone(),
            names: match told {
                true => BTreeSet::new(),
                false => image.names.iter().map(|name| name.reference.clone()).collect(),
            },
            policy_set: event.policy_set.clone(),
            policies: event.policies.clone(),
            causes: event.causes.clone(),
            counted: event.counted.clone(),
            would_block: event.would_block,
            whitelisted: event.whitelisted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_types::Request;

    /// A refused start of a container in a pod, the `n`th try.
    fn refusal(n: i64) -> Event {
        let request = Request {
            namespace: "prod".into(),
            pod: "web-1".into(),
            container: "web".into(),
            ..Request::new(Engine::Containerd, "node", &format!("container-{n}"))
        };
        serde_json::from_value(serde_json::json!({
            "id": n.to_string(), "time": Timestamp::from_second(n).unwrap(), "kind": "decision",
            "action": "block", "message": format!("blocked; see: portcullis events show {n}"),
            "image": { "surety": "bound", "config": Digest::of(b"config") },
            "request": request, "policies": ["production"], "gateMicros": n,
            "counted": { "vulnerability/critical": 2 },
        }))
        .unwrap()
    }

    fn mark(of: i64, status: Status) -> Event {
        Event {
            id: format!("mark of {of}"),
            kind: EventKind::Mark,
            action: Action::Allow,
            mark: Some(Mark { status, by: "root".into(), note: None }),
            decision: Some(of.to_string()),
            ..refusal(of)
        }
    }

    fn changed(n: i64, change: impl Fn(&mut Event)) -> Event {
        let mut event = refusal(n);
        change(&mut event);
        event
    }

    /// Each row as `first id-latest id xcount status`.
    #[track_caller]
    fn check(name: &str, events: Vec<Event>, expected: &[&str]) {
        let rows = fold(events);
        let told: Vec<String> = rows
            .iter()
            .map(|row| {
                let status = row.mark.as_ref().map_or("open", |mark| mark.status.as_str());
                format!("{}-{} x{} {status}", row.first_id, row.event.id, row.count)
            })
            .collect();
        assert_eq!(told, expected, "{name}");
    }

    #[test]
    fn equal_decisions_are_one_row() {
        check("a kubelet tries for ever", (1..=500).map(refusal).collect(), &["1-500 x500 open"]);
        let rows = fold((1..=500).map(refusal));
        assert_eq!(rows[0].first, Timestamp::from_second(1).unwrap());
        assert_eq!(rows[0].event.time, Timestamp::from_second(500).unwrap());
        let ids: Vec<String> = (1..=500).map(|n: i64| n.to_string()).collect();
        assert_eq!(rows[0].ids, ids);
        type Change = fn(&mut Event);
        let differences: [(&str, Change); 11] = [
            ("action", |e| e.action = Action::Alarm),
            ("config", |e| e.image.config = Some(Digest::of(b"other"))),
            ("chain ID", |e| e.image.chain_id = Some(Digest::of(b"chain"))),
            ("surety", |e| e.image.surety = Surety::Claimed),
            ("namespace", |e| e.request.namespace = "dev".into()),
            ("pod", |e| e.request.pod = "web-2".into()),
            ("container", |e| e.request.container = "sidecar".into()),
            ("policy set", |e| e.policy_set = Some("sha256:1".into())),
            ("policies", |e| e.policies.clear()),
            ("cause", |e| e.causes.push(Cause::Deadline)),
            ("counted", |e| e.counted.extend([("malware/high".into(), 1)])),
        ];
        for (name, change) in differences {
            let events = vec![refusal(1), changed(2, change), refusal(3), changed(4, change)];
            check(name, events, &["1-3 x2 open", "2-4 x2 open"]);
        }
        let outside = |n: i64, id: &str| {
            changed(n, |e| {
                e.request = Request::new(Engine::Containerd, "node", id);
            })
        };
        check(
            "outside Kubernetes the container's id counts",
            vec![outside(1, "a"), outside(2, "b"), outside(3, "a")],
            &["2-2 x1 open", "1-3 x2 open"],
        );
        let others = |kind| changed(2, |e| e.kind = kind);
        check(
            "outcomes and notices are no decisions",
            vec![refusal(1), others(EventKind::Outcome), others(EventKind::Notice)],
            &["1-1 x1 open"],
        );
    }

    #[test]
    fn a_mark_counts_for_the_row() {
        use Status::{Handled, Ignored, Whitelisted};
        let again = |status| vec![refusal(1), refusal(2), mark(1, status), refusal(3)];
        check("nothing came after", again(Handled)[..3].to_vec(), &["1-2 x2 handled"]);
        check("a refusal after it was handled", again(Handled), &["1-3 x3 open"]);
        check("a refusal after it was ignored", again(Ignored), &["1-3 x3 ignored"]);
        check("a refusal after the whitelist", again(Whitelisted), &["1-3 x3 whitelisted"]);
        check(
            "the latest mark wins",
            vec![refusal(1), mark(1, Ignored), refusal(2), mark(2, Handled)],
            &["1-2 x2 handled"],
        );
        check("a mark of what is gone", vec![mark(9, Handled), refusal(1)], &["1-1 x1 open"]);
        check(
            "a mark counts for its own row",
            vec![refusal(1), changed(2, |e| e.policies.clear()), mark(2, Ignored)],
            &["1-1 x1 open", "2-2 x1 ignored"],
        );
    }
}
