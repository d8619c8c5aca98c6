//! The node's part in the cluster, from its beginning to its end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Event as KubeEvent;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::{Api, Client};
use portcullis_types::Timestamp;
use serde_json::json;
use tokio::sync::{Notify, watch};

use crate::client::{
    Access, ClientError, Meaning, connect, is_answer, is_without_namespace, meaning, words,
};
use crate::node::{Applied, Node, Policy};
use crate::objects::{self, MAX_LISTED, MarkResult, object};
use crate::outbox::Outbox;
use crate::pace::{Pace, Waits};
use crate::{leader, policies, protection, removal, report};

/// How often the ledger is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How often the node's own state is looked at, which may change by itself.
const LOOK_AT_STATE: Duration = Duration::from_secs(30);
/// Results are gathered for so long before a report is written.
const GATHER: Duration = Duration::from_secs(5);
/// A cluster that has no reports is asked again after so long.
const NO_REPORTS: Duration = Duration::from_secs(600);
/// Most events of the ledger that are taken in at once.
const BATCH: usize = 500;
/// What a node that begins tells of the time before it, in seconds.
const BACKLOG: i64 = 3600;

/// Which cluster, and who this is in it.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// How its API server is reached.
    pub access: Access,
    /// The node's name there.
    pub node: String,
    /// The namespace of what was installed.
    pub namespace: String,
    /// The DaemonSet that this is a pod of, if it is one.
    pub daemonset: Option<String>,
    /// Where the outbox is kept.
    pub outbox: PathBuf,
}

/// What happened so far, for metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Whether the API server answers.
    pub connected: bool,
    /// Requests that wrote something.
    pub writes: u64,
    /// Requests that failed.
    pub failures: u64,
    /// Events that wait to be told.
    pub waiting_events: usize,
    /// Results that wait to be reported.
    pub waiting_results: usize,
    /// What was thrown away.
    pub lost: u64,
    /// What does not work, by the part that it is of.
    pub troubles: BTreeMap<String, String>,
    /// Whether this agent sums up the status of policies.
    pub leads: bool,
    /// Nodes of the cluster.
    pub nodes: u32,
}

/// What the parts tell each other.
#[derive(Debug, Default)]
pub struct Shared {
    inner: Mutex<Inner>,
    /// The status of the node has to be written.
    pub(crate) changed: Notify,
    /// What policies or nodes say has changed.
    pub(crate) summed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    counts: Counts,
    policies: Option<(Vec<Policy>, Applied)>,
    /// Policies as they were last seen, with their status.
    seen: BTreeMap<String, DynamicObject>,
    marks: BTreeMap<String, MarkResult>,
    is_removed: bool,
    is_forgotten: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    /// A part does not work; it is said once.
    pub(crate) fn trouble(&self, part: &str, why: &str) {
        let mut inner = self.lock();
        inner.counts.failures += 1;
        let before = inner.counts.troubles.insert(part.to_owned(), why.to_owned());
        if before.as_deref() != Some(why) {
            log::warn!("{part}: {why}");
        }
    }

    /// A part works.
    pub(crate) fn works(&self, part: &str) {
        let mut inner = self.lock();
        inner.counts.connected = true;
        if inner.counts.troubles.remove(part).is_some() {
            log::info!("{part}: works again");
        }
    }

    pub(crate) fn wrote(&self) {
        self.lock().counts.writes += 1;
    }

    /// A policy as the API server has it.
    pub(crate) fn saw(&self, policy: &DynamicObject) {
        let Some(name) = policy.metadata.name.clone() else { return };
        self.lock().seen.insert(name, policy.clone());
        self.summed.notify_one();
    }

    pub(crate) fn has_policies(&self) -> bool {
        self.lock().policies.is_some()
    }

    /// The node has put these policies into force.
    pub(crate) fn applied(&self, policies: Vec<Policy>, applied: Applied) {
        let mut inner = self.lock();
        inner.seen.retain(|name, _| policies.iter().any(|policy| policy.name == *name));
        inner.policies = Some((policies, applied));
        drop(inner);
        self.changed.notify_one();
        self.summed.notify_one();
    }

    pub(crate) fn policies(&self) -> Option<(Vec<Policy>, Applied)> {
        self.lock().policies.clone()
    }

    pub(crate) fn seen(&self) -> BTreeMap<String, DynamicObject> {
        self.lock().seen.clone()
    }

    pub(crate) fn marks(&self) -> BTreeMap<String, MarkResult> {
        self.lock().marks.clone()
    }

    pub(crate) fn set_marks(&self, marks: BTreeMap<String, MarkResult>) {
        let mut inner = self.lock();
        if inner.marks != marks {
            inner.marks = marks;
            drop(inner);
            self.changed.notify_one();
        }
    }

    pub(crate) fn set_nodes(&self, nodes: u32) {
        self.lock().counts.nodes = nodes.max(1);
    }

    pub(crate) fn set_leads(&self, leads: bool) {
        self.lock().counts.leads = leads;
    }

    /// What was written of the node is not there any more.
    pub(crate) fn forget_sent(&self) {
        self.lock().is_forgotten = true;
        self.changed.notify_one();
    }

    fn take_forgotten(&self) -> bool {
        std::mem::take(&mut self.lock().is_forgotten)
    }

    pub(crate) fn set_removed(&self, removed: bool) {
        self.lock().is_removed = removed;
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.lock().is_removed
    }

    fn nodes(&self) -> u32 {
        self.lock().counts.nodes.max(1)
    }
}

/// Takes part in the cluster until `stop` says so. Answers whether what was installed is being removed
/// from the cluster.
///
/// # Errors
/// There is no way to the API server that could ever work. One that does not answer is no error.
pub async fn run(
    cluster: Cluster,
    node: Arc<dyn Node>,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) -> Result<bool, ClientError> {
    let client = connect(&cluster.access).await?;
    let cluster = Arc::new(cluster);
    let mut parts = tokio::task::JoinSet::new();
    parts.spawn(policies::follow(client.clone(), node.clone(), shared.clone()));
    parts.spawn(protection::follow(client.clone(), cluster.clone(), node.clone(), shared.clone()));
    parts.spawn(removal::follow(client.clone(), cluster.clone(), shared.clone()));
    let sender = Sender::new(client.clone(), cluster.clone(), node, shared.clone());
    let mut sending = tokio::spawn(sender.run(stop.clone()));
    let mut leading =
        tokio::spawn(leader::lead(client.clone(), cluster.clone(), shared.clone(), stop.clone()));
    // An error means that whoever could say so is gone.
    let _asked = stop.wait_for(|stop| *stop).await;
    parts.shutdown().await;
    let removed = removal::is_removed(&client, &cluster, &shared).await;
    let ends = async { (&mut sending).await.is_ok() && (&mut leading).await.is_ok() };
    if tokio::time::timeout(Duration::from_secs(3), ends).await.is_err() {
        sending.abort();
        leading.abort();
    }
    if removed {
        // It may not be allowed any more, nor answered.
        let taken = protection::take_back(&client, &cluster);
        let _in_time = tokio::time::timeout(Duration::from_secs(5), taken).await;
    }
    Ok(removed)
}

/// Tells the API server what there is to tell, one thing after another.
struct Sender {
    client: Client,
    cluster: Arc<Cluster>,
    node: Arc<dyn Node>,
    shared: Arc<Shared>,
    outbox: Outbox,
    pace: Pace,
    waits: Waits,
    status_waits: Waits,
    is_new: bool,
    is_dirty: bool,
    status_due: Option<Instant>,
    sent: protection::Sent,
    reports_due: Option<Instant>,
}

/// What became of an attempt.
enum Step {
    /// It is done, or given up.
    Done,
    /// The server does not take it now.
    Failed(kube::Error),
}

impl Sender {
    fn new(
        client: Client,
        cluster: Arc<Cluster>,
        node: Arc<dyn Node>,
        shared: Arc<Shared>,
    ) -> Self {
        let outbox = Outbox::open(&cluster.outbox);
        Self {
            is_new: outbox.position.is_none(),
            outbox,
            client,
            cluster,
            node,
            shared,
            pace: Pace::new(1, Instant::now()),
            waits: Waits::default(),
            status_waits: Waits::default(),
            is_dirty: false,
            status_due: Some(Instant::now()),
            sent: protection::Sent::default(),
            reports_due: None,
        }
    }

    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut looked_at_state = Instant::now();
        let mut rest_until = Instant::now();
        loop {
            self.take_in().await;
            if looked_at_state.elapsed() >= LOOK_AT_STATE {
                looked_at_state = Instant::now();
                self.status_due.get_or_insert_with(Instant::now);
            }
            if self.shared.nodes() != 1 || self.shared.counts().nodes == 1 {
                self.pace.resize(self.shared.nodes(), Instant::now());
            }
            while Instant::now() >= rest_until {
                let is_ending = *stop.borrow();
                if is_ending {
                    break;
                }
                match self.step().await {
                    None => break,
                    Some(Step::Done) => self.waits.succeeded(),
                    Some(Step::Failed(error)) => {
                        self.shared.trouble("telling the cluster", &words(&error));
                        rest_until = Instant::now() + self.waits.after_failure();
                    }
                }
            }
            self.save();
            let looks = tokio::time::sleep(LOOK);
            tokio::select! {
                () = looks => {}
                () = self.shared.changed.notified() => {
                    let after = Duration::from_millis(200) + self.pace.spread();
                    self.status_due.get_or_insert(Instant::now() + after);
                }
                // It changes once, to the end.
                _ = stop.changed() => {
                    self.take_in().await;
                    self.is_dirty = true;
                    return self.save();
                }
            }
        }
    }

    /// Takes in what the ledger has.
    async fn take_in(&mut self) {
        loop {
            let (node, from) = (self.node.clone(), self.outbox.position.clone());
            let read = tokio::task::spawn_blocking(move || node.events(from.as_deref(), BATCH));
            let batch = match read.await {
                Ok(Ok(batch)) => batch,
                Ok(Err(why)) => return self.shared.trouble("the ledger", &why),
                Err(error) => return self.shared.trouble("the ledger", &error.to_string()),
            };
            self.shared.works_locally("the ledger");
            // After a loss of power it may be; what is old was told.
            self.is_new |= batch.is_another;
            if self.outbox.position.as_deref() == Some(&*batch.position) && batch.events.is_empty()
            {
                return;
            }
            let oldest = Timestamp::now().as_second() - BACKLOG;
            for event in &batch.events {
                if !self.is_new || event.time.as_second() >= oldest {
                    self.outbox.take_in(event);
                }
            }
            self.outbox.lost += batch.missed;
            self.outbox.position = Some(batch.position);
            self.is_dirty = true;
            if batch.events.len() < BATCH {
                self.is_new = false;
                return;
            }
        }
    }

    fn save(&mut self) {
        let (events, results) = self.outbox.waiting();
        let mut inner = self.shared.lock();
        inner.counts.waiting_events = events;
        inner.counts.waiting_results = results;
        inner.counts.lost = self.outbox.lost;
        drop(inner);
        if std::mem::take(&mut self.is_dirty)
            && let Err(error) = self.outbox.save()
        {
            self.is_dirty = true;
            self.shared
                .trouble("the outbox", &format!("{}: {error}", self.cluster.outbox.display()));
        }
    }

    /// The next thing to tell; `None` if there is none, or it is too early.
    async fn step(&mut self) -> Option<Step> {
        let now = Instant::now();
        if self.status_due.is_some_and(|due| due <= now) {
            if self.shared.take_forgotten() {
                self.sent = protection::Sent::default();
            }
            let node = self.node.clone();
            let status = tokio::task::spawn_blocking(move || node.status()).await.ok()?;
            let wanted = protection::wanted(&status, &self.shared);
            if self.sent.says(&wanted) {
                self.status_due = None;
                return Some(Step::Done);
            }
            self.pace.take(now).ok()?;
            return Some(
                match protection::write(&self.client, &self.cluster, &wanted, &mut self.sent).await
                {
                    Ok(()) => {
                        self.status_due = None;
                        self.status_waits.succeeded();
                        self.shared.wrote();
                        self.shared.works("the node's status");
                        Step::Done
                    }
                    // Whatever it is, the rest is told all the same.
                    Err(error) => {
                        self.shared.trouble("the node's status", &words(&error));
                        self.status_due = Some(now + self.status_waits.after_failure());
                        Step::Done
                    }
                },
            );
        }
        if self.outbox.next_event(Timestamp::now()).is_some() {
            self.pace.take(now).ok()?;
            return Some(self.tell_event().await);
        }
        if self.outbox.next_report().is_none() {
            self.reports_due = None;
            return None;
        }
        let due = *self.reports_due.get_or_insert(now + GATHER + self.pace.spread());
        if due > now {
            return None;
        }
        self.pace.take(now).ok()?;
        Some(self.report().await)
    }

    async fn tell_event(&mut self) -> Step {
        let now = Timestamp::now();
        let Some((key, told)) = self.outbox.next_event(now) else { return Step::Done };
        let (key, told) = (key.to_owned(), told.clone());
        let api: Api<KubeEvent> = Api::namespaced(self.client.clone(), &told.namespace);
        let name = told.name(&key);
        let create = || async {
            api.create(&PostParams::default(), &told.object(&key, &self.cluster.node))
                .await
                .map(drop)
        };
        let patch = || async {
            api.patch(&name, &PatchParams::default(), &Patch::Merge(told.patch())).await.map(drop)
        };
        let mut result = if told.sent > 0 { patch().await } else { create().await };
        match result.as_ref().map_err(meaning) {
            // Told before a restart, or by whoever had this state.
            Err(Meaning::Conflict) if told.sent == 0 => result = patch().await,
            // The API server forgets Events after a while.
            Err(Meaning::Absent) if told.sent > 0 => result = create().await,
            _ => {}
        }
        self.is_dirty = true;
        match result {
            Ok(()) => {
                self.outbox.told(&key, told.count, now);
                self.shared.wrote();
                self.shared.works("telling the cluster");
                Step::Done
            }
            Err(error) if matches!(meaning(&error), Meaning::Refused | Meaning::Absent) => {
                log::info!(
                    "no event on the pod {}/{}: {}",
                    told.namespace,
                    told.pod,
                    words(&error)
                );
                self.outbox.give_up(&key);
                Step::Done
            }
            Err(error) if is_answer(&error) => {
                self.shared.trouble("events on pods", &words(&error));
                self.outbox.rest(&key, NO_REPORTS);
                Step::Done
            }
            Err(error) => Step::Failed(error),
        }
    }

    async fn report(&mut self) -> Step {
        let Some((namespace, wanted)) = self.outbox.next_report() else { return Step::Done };
        let resource = objects::reports();
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &namespace, &resource);
        let present = match api.get_opt(report::NAME).await {
            Ok(present) => present,
            Err(error) if is_answer(&error) => {
                self.shared.trouble("policy reports", &words(&error));
                self.outbox.rest(&namespace, NO_REPORTS);
                return Step::Done;
            }
            Err(error) => return Step::Failed(error),
        };
        let data = present.as_ref().map_or_else(|| json!({}), |object| object.data.clone());
        let result = match report::merged(&data, &wanted, Timestamp::now()) {
            // Another node has written the same.
            None => Ok(None),
            Some(results) => {
                let summary = report::summary(&results);
                let data = json!({ "results": results, "summary": summary });
                let mut new = object(&resource, report::NAME, data);
                new.metadata.labels = Some(report::labels());
                match present {
                    None => api.create(&PostParams::default(), &new).await.map(Some),
                    Some(present) => {
                        new.metadata.resource_version = present.metadata.resource_version;
                        api.replace(report::NAME, &PostParams::default(), &new).await.map(Some)
                    }
                }
            }
        };
        match result {
            Ok(written) => {
                self.outbox.reported(&namespace, &wanted);
                self.is_dirty = true;
                if written.is_some() {
                    self.shared.wrote();
                }
                self.shared.works("telling the cluster");
                self.shared.works("policy reports");
                Step::Done
            }
            Err(error) => match meaning(&error) {
                // Who was quicker has written it all, maybe.
                Meaning::Conflict => {
                    let again = Duration::from_secs(1) + self.pace.spread();
                    self.reports_due = Some(Instant::now() + again);
                    Step::Done
                }
                Meaning::Absent if is_without_namespace(&error) => {
                    self.outbox.reported(&namespace, &wanted);
                    self.is_dirty = true;
                    Step::Done
                }
                Meaning::Absent => {
                    let why = "the cluster has no PolicyReport, or no such namespace: kubectl apply -k integration/kubernetes/reports";
                    self.shared.trouble("policy reports", &format!("{why} ({namespace})"));
                    self.reports_due = Some(Instant::now() + NO_REPORTS);
                    Step::Done
                }
                Meaning::Refused => {
                    log::warn!("the report of {namespace} is not taken: {}", words(&error));
                    self.outbox.reported(&namespace, &wanted);
                    self.outbox.lost += wanted.rows.len() as u64;
                    self.is_dirty = true;
                    Step::Done
                }
                Meaning::Later if is_answer(&error) => {
                    self.shared.trouble("policy reports", &words(&error));
                    self.outbox.rest(&namespace, NO_REPORTS);
                    Step::Done
                }
                Meaning::Later => Step::Failed(error),
            },
        }
    }
}

impl Shared {
    /// Something of the node itself works, which says nothing of the API server.
    fn works_locally(&self, part: &str) {
        self.lock().counts.troubles.remove(part);
    }
}

/// At most so many of a list.
pub(crate) fn some<T>(list: impl IntoIterator<Item = T>) -> Vec<T> {
    list.into_iter().take(MAX_LISTED).collect()
}
