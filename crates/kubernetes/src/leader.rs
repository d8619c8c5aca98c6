//! One of the agents sums up, for each policy, on how many nodes it is in force: the one that holds
//! the Lease. The others look at it every few minutes, and learn there how large the cluster is.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::core::{DynamicObject, ObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Event, watcher};
use kube::{Api, Client};
use portcullis_node::NodeState;
use portcullis_types::{Timestamp, with_causes};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::client::{Meaning, cached, meaning};
use crate::events::micro;
use crate::objects::{
    self, Condition, Failure, GROUP, MAX_LISTED, MAX_TEXT, NodeProtectionStatus, PolicyStatus, cut,
};
use crate::pace::{Waits, ended, half_at_least, until};
use crate::policies::from_cache;
use crate::run::Cluster;
use crate::shared::Shared;

/// The Lease.
const NAME: &str = "portcullis";
/// Who has not renewed it for so long does not hold it any more.
const DURATION: Duration = Duration::from_secs(300);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(100);
/// How often the others look at it, at most.
const LOOK: Duration = Duration::from_secs(300);
/// And how soon again, as long as it does not say how many nodes there are.
const SOON: Duration = Duration::from_secs(20);
/// How long what nodes say is gathered, at least, before it is summed up.
const GATHER: Duration = Duration::from_secs(3);
/// And how much longer for each node: every node watches the policies, so each sum goes to all of them.
const GATHER_PER_NODE: Duration = Duration::from_millis(10);
/// Most nodes whose faults a policy's status names.
const MAX_FAILURES: usize = 10;

/// Holds the Lease whenever nobody else does, and sums up as long as it is held.
pub(crate) async fn lead(
    client: Client,
    cluster: Arc<Cluster>,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    let api: Api<Lease> = Api::namespaced(client.clone(), &cluster.namespace);
    let mut seen = Seen::default();
    // Until when it is this agent's to sum up, told to the work that goes on.
    let mut term: Option<watch::Sender<Instant>> = None;
    let mut waits = Waits::default();
    loop {
        let (asked, knew) = (Instant::now(), shared.knows_nodes());
        let leads = term.as_ref().is_some_and(|term| !term.is_closed());
        let held = tokio::select! {
            biased;
            () = ended(&mut stop) => break,
            held = hold(&api, &cluster.node, leads, &shared, &mut seen) => held,
        };
        let wait = match held {
            Ok(holds) => {
                waits.succeeded();
                shared.works("the lease");
                shared.set_leads(holds);
                match (holds, term.as_ref().filter(|term| !term.is_closed())) {
                    (true, None) => {
                        log::info!("this agent sums up what the nodes say of policies");
                        let (sender, receiver) = watch::channel(asked + DURATION);
                        let (work, shared) =
                            (sum_up(client.clone(), shared.clone()), shared.clone());
                        tokio::spawn(async move {
                            within(receiver, work).await;
                            shared.set_leads(false);
                        });
                        term = Some(sender);
                    }
                    (true, Some(term)) => drop(term.send_replace(asked + DURATION)),
                    (false, _) => term = None,
                }
                // The Lease tells all how large the cluster is, as soon as its holder knows.
                let is_told = if holds { knew } else { shared.knows_nodes() };
                match (holds, is_told) {
                    (_, false) => half_at_least(SOON),
                    (true, true) => RENEW,
                    (false, true) => half_at_least(LOOK),
                }
            }
            Err(error) => {
                shared.failed("the lease", &error);
                waits.after_failure()
            }
        };
        tokio::select! {
            biased;
            () = ended(&mut stop) => break,
            () = tokio::time::sleep(wait) => {}
        }
    }
    if term.take().is_some_and(|term| !term.is_closed()) {
        release(&api, &cluster.node).await;
    }
}

/// Does something until a time that may be put off, and no longer, whatever else hangs: another agent
/// may do it from then on. It ends as well when there is nobody any more who could put that off.
async fn within(mut term: watch::Receiver<Instant>, work: impl Future<Output = ()>) {
    let over = async move {
        loop {
            let at = *term.borrow_and_update();
            if at <= Instant::now() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(at) => {}
                later = term.changed() => if later.is_err() { return },
            }
        }
    };
    tokio::select! {
        biased;
        () = over => {}
        () = work => {}
    }
}

/// Who holds the Lease and when it was renewed, and when that was seen first: by this node's own
/// clock, since no two nodes have the same time.
#[derive(Debug, Default)]
struct Seen {
    last: Option<(Option<String>, Option<MicroTime>, Instant)>,
}

impl Seen {
    /// Whether somebody may hold it still.
    fn is_held(&mut self, spec: &LeaseSpec, now: Instant) -> bool {
        let (holder, renewed) = (&spec.holder_identity, &spec.renew_time);
        if holder.as_deref().is_none_or(str::is_empty) {
            return false;
        }
        match &self.last {
            Some((before, at, since)) if (before, at) == (holder, renewed) => {
                now.saturating_duration_since(*since) < DURATION
            }
            _ => {
                self.last = Some((holder.clone(), renewed.clone(), now));
                true
            }
        }
    }
}

/// Whether this agent holds the Lease from now on.
///
/// Who `leads` reads its most recent state, and would lose it by one that is behind. For all others the
/// cache will do: to take it by such a state is a conflict.
async fn hold(
    api: &Api<Lease>,
    own: &str,
    leads: bool,
    shared: &Shared,
    seen: &mut Seen,
) -> Result<bool, kube::Error> {
    let now = Timestamp::now();
    let present = if leads { api.get_opt(NAME).await? } else { cached(api, NAME).await? };
    let Some(mut lease) = present else {
        let lease = Lease {
            metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
            spec: Some(held(own, now, now, 0)),
        };
        return taken(api.create(&PostParams::default(), &lease).await);
    };
    let spec = lease.spec.clone().unwrap_or_default();
    let nodes_of = |lease: &Lease| {
        let annotations = lease.metadata.annotations.as_ref()?;
        annotations.get(&annotation())?.parse::<u32>().ok()
    };
    let is_own = spec.holder_identity.as_deref() == Some(own);
    if (!is_own || !shared.knows_nodes())
        && let Some(nodes) = nodes_of(&lease)
    {
        shared.set_nodes(nodes);
    }
    if !is_own && seen.is_held(&spec, Instant::now()) {
        return Ok(false);
    }
    let acquired = match &spec.acquire_time {
        Some(time) if is_own => Timestamp::from_microsecond(time.0.as_microsecond()).unwrap_or(now),
        _ => now,
    };
    let transitions = spec.lease_transitions.unwrap_or(0).saturating_add(i32::from(!is_own));
    lease.spec = Some(held(own, acquired, now, transitions));
    if shared.knows_nodes() {
        let nodes = shared.nodes().to_string();
        lease.metadata.annotations.get_or_insert_default().insert(annotation(), nodes);
    }
    lease.metadata.managed_fields = None;
    taken(api.replace(NAME, &PostParams::default(), &lease).await)
}

fn annotation() -> String {
    format!("{GROUP}/nodes")
}

fn held(own: &str, acquired: Timestamp, now: Timestamp, transitions: i32) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(own.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: Some(micro(acquired)),
        renew_time: Some(micro(now)),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    }
}

/// Who was quicker holds it.
fn taken(result: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if meaning(&error) == Meaning::Conflict => Ok(false),
        Err(error) => Err(error),
    }
}

/// Lets another take it at once.
async fn release(api: &Api<Lease>, own: &str) {
    let Ok(Some(mut lease)) = api.get_opt(NAME).await else { return };
    let spec = lease.spec.get_or_insert_default();
    if spec.holder_identity.as_deref() == Some(own) {
        spec.holder_identity = Some(String::new());
        lease.metadata.managed_fields = None;
        if let Err(error) = api.replace(NAME, &PostParams::default(), &lease).await {
            log::info!("the lease is not given back: {}", with_causes(&error));
        }
    }
}

/// Follows all nodes, and writes what they say together into the policies' status.
async fn sum_up(client: Client, shared: Arc<Shared>) {
    let nodes: Api<DynamicObject> = Api::all_with(client.clone(), &objects::nodes());
    let policies: Api<DynamicObject> = Api::all_with(client, &objects::policies());
    let mut events = pin!(watcher(nodes, from_cache()).backoff(Waits::default()));
    let mut known: BTreeMap<String, NodeProtectionStatus> = BTreeMap::new();
    let mut listed: Option<BTreeMap<String, NodeProtectionStatus>> = None;
    let mut is_known = false;
    let mut due: Option<Instant> = None;
    let mut waits = Waits::default();
    loop {
        let gather = GATHER + GATHER_PER_NODE * u32::try_from(known.len()).unwrap_or(u32::MAX);
        let soon = Instant::now() + gather;
        tokio::select! {
            event = events.next() => {
                match event {
                    None => return,
                    Some(Err(error)) => {
                        shared.watch_failed("the nodes", &error);
                        continue;
                    }
                    Some(Ok(Event::Init)) => {
                        listed = Some(BTreeMap::new());
                        continue;
                    }
                    Some(Ok(Event::InitApply(object))) => {
                        if let Some(listed) = &mut listed {
                            insert(listed, object);
                        }
                        continue;
                    }
                    Some(Ok(Event::InitDone)) => {
                        shared.works("the nodes");
                        known = listed.take().unwrap_or_default();
                        is_known = true;
                    }
                    Some(Ok(Event::Apply(object))) => insert(&mut known, object),
                    Some(Ok(Event::Delete(object))) => {
                        known.remove(&object.metadata.name.unwrap_or_default());
                    }
                }
                shared.set_nodes(u32::try_from(known.len()).unwrap_or(u32::MAX));
                due.get_or_insert(soon);
            }
            () = shared.summed.notified() => {
                due.get_or_insert(soon);
            }
            () = until(due) => {
                due = None;
                if !is_known {
                    continue;
                }
                for (name, policy) in shared.seen() {
                    let Some(status) = changed(&policy, &known) else { continue };
                    match objects::set_status(&policies, &name, &status).await {
                        Ok(written) => {
                            shared.saw(&written);
                            shared.wrote();
                            shared.works("the policies' status");
                            waits.succeeded();
                        }
                        // It was deleted.
                        Err(error) if meaning(&error) == Meaning::Absent => {}
                        Err(error) => {
                            shared.failed("the policies' status", &error);
                            due = Some(Instant::now() + waits.after_failure());
                        }
                    }
                }
            }
        }
    }
}

fn insert(nodes: &mut BTreeMap<String, NodeProtectionStatus>, object: DynamicObject) {
    let Some(name) = object.metadata.name else { return };
    let status = object.data.get("status").cloned().unwrap_or_default();
    // One that has not told of itself yet counts as a node all the same.
    let status = serde_json::from_value(status).unwrap_or(NodeProtectionStatus {
        state: NodeState::Error,
        policy_set: None,
        policies: Vec::new(),
        local_policies: Vec::new(),
        problems: Vec::new(),
        marks: BTreeMap::new(),
        version: String::new(),
    });
    nodes.insert(name, status);
}

/// The status of a policy, if it is another one than it has.
fn changed(
    policy: &DynamicObject,
    nodes: &BTreeMap<String, NodeProtectionStatus>,
) -> Option<PolicyStatus> {
    let present = policy.data.get("status").cloned().unwrap_or_default();
    let present: PolicyStatus = serde_json::from_value(present).unwrap_or_default();
    let name = policy.metadata.name.as_deref().unwrap_or_default();
    let mut status = summed(name, policy.metadata.generation.unwrap_or(0), nodes);
    let since = |condition: &Condition| {
        let same = present.conditions.iter().find(|before| before.kind == condition.kind);
        same.filter(|before| before.status == condition.status)
            .map(|before| before.last_transition_time.clone())
    };
    for condition in &mut status.conditions {
        condition.last_transition_time = since(condition).unwrap_or_else(|| {
            Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default().to_string()
        });
    }
    (status != present).then_some(status)
}

fn summed(
    name: &str,
    generation: i64,
    nodes: &BTreeMap<String, NodeProtectionStatus>,
) -> PolicyStatus {
    let mut status = PolicyStatus {
        observed_generation: generation,
        nodes: i64::try_from(nodes.len()).unwrap_or(i64::MAX),
        ..PolicyStatus::default()
    };
    let mut untold = 0;
    for (node, said) in nodes {
        let own = said.policies.iter().find(|policy| policy.name == name);
        match own.filter(|policy| policy.generation == generation) {
            Some(policy) if policy.in_force => status.in_force += 1,
            Some(policy) => {
                status.failing += 1;
                if status.failures.len() < MAX_FAILURES {
                    let message = cut(policy.message.as_deref().unwrap_or_default(), MAX_TEXT);
                    status.failures.push(Failure { node: node.clone(), message });
                }
            }
            None => untold += i64::from(own.is_none() && said.policies.len() >= MAX_LISTED),
        }
    }
    let all = status.nodes > 0 && status.in_force + untold == status.nodes;
    let (word, reason) = match (status.failing, all, untold) {
        (0, true, 0) => ("True", "InForce"),
        // It may be in force, but a node tells of so many only.
        (0, true, _) => ("Unknown", "TooManyPolicies"),
        (0, false, _) => ("False", "Progressing"),
        _ => ("False", "Faults"),
    };
    status.conditions.push(Condition {
        kind: "Ready".to_owned(),
        status: word.to_owned(),
        reason: reason.to_owned(),
        message: format!(
            "in force on {} of {} nodes, {} with faults",
            status.in_force, status.nodes, status.failing
        ),
        last_transition_time: String::new(),
    });
    status
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;
    use tokio::sync::mpsc;
    use tower::service_fn;

    use super::*;
    use crate::client::Access;
    use crate::objects::PolicyOnNode;

    fn node(generation: i64, in_force: bool) -> NodeProtectionStatus {
        NodeProtectionStatus {
            state: NodeState::Protected,
            policy_set: None,
            policies: vec![PolicyOnNode {
                name: "p".to_owned(),
                generation,
                in_force,
                message: (!in_force).then(|| "line 3: wrong".to_owned()),
            }],
            local_policies: Vec::new(),
            problems: Vec::new(),
            marks: BTreeMap::new(),
            version: String::new(),
        }
    }

    fn policy(generation: i64, status: serde_json::Value) -> DynamicObject {
        let mut object = objects::object(&objects::policies(), "p", json!({ "status": status }));
        object.metadata.generation = Some(generation);
        object
    }

    #[test]
    fn a_policy_is_ready_when_all_nodes_have_its_newest_generation() {
        let mut nodes: BTreeMap<_, _> =
            (0..3).map(|number| (format!("n{number}"), node(2, true))).collect();
        let ready = |nodes: &BTreeMap<_, _>| {
            let status = summed("p", 2, nodes);
            (status.in_force, status.failing, status.conditions[0].reason.clone())
        };
        assert_eq!(ready(&nodes), (3, 0, "InForce".to_owned()));
        nodes.insert("n1".to_owned(), node(1, true));
        assert_eq!(ready(&nodes), (2, 0, "Progressing".to_owned()));
        nodes.insert("n1".to_owned(), node(2, false));
        assert_eq!(ready(&nodes), (2, 1, "Faults".to_owned()));
        assert_eq!(summed("p", 2, &nodes).failures[0].node, "n1");
    }

    #[test]
    fn what_is_known_is_not_written_again() {
        let nodes = BTreeMap::from([("n".to_owned(), node(1, true))]);
        let first = changed(&policy(1, json!(null)), &nodes).unwrap();
        assert!(!first.conditions[0].last_transition_time.is_empty());
        assert_eq!(changed(&policy(1, json!(first)), &nodes), None);
        let mut older = first.clone();
        older.conditions[0].last_transition_time = "2026-01-01T00:00:00Z".to_owned();
        older.nodes = 7;
        let second = changed(&policy(1, json!(older)), &nodes).unwrap();
        // Ready it was before.
        assert_eq!(second.conditions[0].last_transition_time, "2026-01-01T00:00:00Z");
    }

    #[test]
    fn a_failing_cluster_has_a_status_of_bounded_size() {
        let nodes: BTreeMap<_, _> =
            (0..5000).map(|number| (format!("n{number}"), node(1, false))).collect();
        let status = summed("p", 1, &nodes);
        assert_eq!((status.failing, status.failures.len()), (5000, MAX_FAILURES));
    }

    #[test]
    fn a_lease_is_held_until_it_was_not_renewed_for_its_duration() {
        let mut seen = Seen::default();
        let begun = Instant::now();
        let at = |second| begun + Duration::from_secs(second);
        // The holder's clock does not matter: it is years behind.
        let lease = |holder: &str, second| {
            let time = Timestamp::from_second(second).unwrap();
            held(holder, time, time, 0)
        };
        assert!(seen.is_held(&lease("n2", 7), at(0)));
        assert!(seen.is_held(&lease("n2", 7), at(299)));
        assert!(!seen.is_held(&lease("n2", 7), at(300)));
        assert!(seen.is_held(&lease("n2", 8), at(301)));
        assert!(seen.is_held(&lease("n3", 8), at(601)));
        assert!(!seen.is_held(&lease("n3", 8), at(901)));
        // It was given back.
        assert!(!seen.is_held(&lease("", 9), at(902)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_summed_up_ends_with_the_lease_though_no_renewal_is_answered() {
        // The first look finds no Lease and makes one; nothing else is answered any more.
        let mut answered = 0;
        let answer = move |_: Request<Body>| {
            answered += 1;
            async move {
                let (status, body) = match answered {
                    1 => (404, r#"{"status": "Failure", "reason": "NotFound", "code": 404}"#),
                    2 => (201, r#"{"metadata": {}}"#),
                    _ => std::future::pending().await,
                };
                Response::builder().status(status).body(Body::from(body.as_bytes().to_vec()))
            }
        };
        let client = Client::new(service_fn(answer), "default");
        let cluster = Arc::new(Cluster {
            access: Access::InCluster,
            node: "n1".to_owned(),
            namespace: "portcullis-system".to_owned(),
            daemonset: None,
            outbox: PathBuf::new(),
        });
        let shared: Arc<Shared> = Arc::default();
        let (stop, stopped) = watch::channel(false);
        let leading = tokio::spawn(lead(client, cluster, shared.clone(), stopped));
        for (second, leads) in [(1, true), (298, true), (2, false), (9000, false)] {
            tokio::time::sleep(Duration::from_secs(second)).await;
            assert_eq!(shared.counts().leads, leads, "{second} s later");
        }
        // Nor does one that hangs hold up the end.
        stop.send(true).unwrap();
        leading.await.unwrap();
    }

    #[tokio::test]
    async fn who_does_not_hold_the_lease_looks_at_it_in_the_cache() {
        let (asked, mut is_asked) = mpsc::unbounded_channel();
        let answer = move |request: Request<Body>| {
            asked.send(format!("{} {}", request.method(), request.uri())).unwrap();
            let lease =
                r#"{"metadata": {"resourceVersion": "7"}, "spec": {"holderIdentity": "n1"}}"#;
            std::future::ready(Response::builder().body(Body::from(lease.as_bytes().to_vec())))
        };
        let api = Api::namespaced(Client::new(service_fn(answer), "default"), "ns");
        let (shared, mut seen) = (Shared::default(), Seen::default());
        for (own, leads, holds) in [("n2", false, false), ("n1", false, true), ("n1", true, true)] {
            assert_eq!(hold(&api, own, leads, &shared, &mut seen).await.unwrap(), holds);
        }
        let leases = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/portcullis";
        for expected in [
            format!("GET {leases}?&resourceVersion=0"),
            format!("GET {leases}?&resourceVersion=0"),
            format!("PUT {leases}?"),
            format!("GET {leases}"),
            format!("PUT {leases}?"),
        ] {
            assert_eq!(is_asked.recv().await.unwrap(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_what_is_summed_up_may_be_put_off() {
        let begun = Instant::now();
        let at = |second| begun + Duration::from_secs(second);
        let (term, receiver) = watch::channel(at(300));
        let working = tokio::spawn(within(receiver, std::future::pending()));
        tokio::time::sleep_until(at(299)).await;
        term.send_replace(at(400));
        tokio::time::sleep_until(at(399)).await;
        assert!(!working.is_finished());
        working.await.unwrap();
        assert_eq!(Instant::now(), at(400));
        // Whoever lets go of it ends it.
        let (term, receiver) = watch::channel(at(9000));
        let working = tokio::spawn(within(receiver, std::future::pending()));
        drop(term);
        working.await.unwrap();
        assert_eq!(Instant::now(), at(400));
    }
}
