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
    /// What was said of them last. After `handled`, a further decision takes it away again; what is
    /// ignored or whitelisted stays so.
    pub mark: Option<Mark>,
}

/// What makes two decisions equal.
#[derive(PartialEq, Eq, Hash)]
struct Key {
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
/// A mark counts for the row of the decision that it names. Outcomes and notices are passed over,
/// and so are marks of decisions that are not among the events.
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
            EventKind::Outcome | EventKind::Notice => {}
        }
    }
    rows.sort_unstable_by_key(|(latest, _)| *latest);
    rows.into_iter().map(|(_, row)| row).collect()
}

impl Repeated {
    fn new(event: Event) -> Self {
        Self { first_id: event.id.clone(), first: event.time, event, count: 1, mark: None }
    }

    fn again(&mut self, event: Event) {
        self.event = event;
        self.count += 1;
        self.mark.take_if(|mark| mark.status == Status::Handled);
    }
}

impl Key {
    fn of(event: &Event) -> Self {
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
