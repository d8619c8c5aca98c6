//! Tells the API server what there is to tell, one thing after another: the node's status, Events on
//! pods, reports.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Event as KubeEvent;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::{Api, Client};
use portcullis_settings::keep;
use portcullis_types::{Timestamp, with_causes};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::client::{Meaning, cached, meaning};
use crate::events::Told;
use crate::node::Node;
use crate::objects;
use crate::outbox::Outbox;
use crate::pace::{Pace, Waits, ended, half_at_least};
use crate::report::Wanted;
use crate::run::Cluster;
use crate::shared::Shared;
use crate::{protection, report};

/// How often the ledger is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How often the node's own state is looked at, which may change by itself.
const LOOK_AT_STATE: Duration = Duration::from_secs(30);
/// How often the node's label is looked at, which somebody may take off, at most.
const LOOK_AT_LABEL: Duration = Duration::from_secs(1200);
/// How long the first policies may take before the status tells of none.
const BEGINNING: Duration = Duration::from_secs(60);
/// How often what waits is saved, at most.
const SAVE: Duration = Duration::from_secs(10);
/// Results are gathered for so long before a report is written.
const GATHER: Duration = Duration::from_secs(5);
/// A cluster that has no reports is asked again after so long, at most.
const NO_REPORTS: Duration = Duration::from_secs(600);
/// Most events of the ledger that are taken in at once.
const BATCH: usize = 500;
/// What a node that begins tells of the time before it, in seconds.
const BACKLOG: i64 = 3600;

pub(crate) struct Sender {
    client: Client,
    cluster: Arc<Cluster>,
    node: Arc<dyn Node>,
    shared: Arc<Shared>,
    outbox: Outbox,
    pace: Pace,
    waits: Waits,
    status_waits: Waits,
    report_waits: Waits,
    is_new: bool,
    is_dirty: bool,
    begun: Instant,
    status_due: Option<Instant>,
    label_due: Instant,
    sent: protection::Sent,
    reports_due: Option<Instant>,
}

/// What became of an attempt.
enum Step {
    /// It is done, or given up, or tried again later while others are told.
    Done,
    /// The server takes nothing now.
    Failed(kube::Error),
}

impl Sender {
    pub(crate) fn new(
        client: Client,
        cluster: Arc<Cluster>,
        node: Arc<dyn Node>,
        shared: Arc<Shared>,
    ) -> Self {
        let now = Instant::now();
        Self {
            client,
            cluster,
            node,
            shared,
            outbox: Outbox::default(),
            pace: Pace::new(1, now),
            waits: Waits::default(),
            status_waits: Waits::default(),
            report_waits: Waits::up_to(NO_REPORTS),
            is_new: false,
            is_dirty: false,
            begun: now,
            status_due: Some(now),
            label_due: now + half_at_least(LOOK_AT_LABEL),
            sent: protection::Sent::default(),
            reports_due: None,
        }
    }

    /// Goes on until `stop` says so, and saves what it has.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        if self.open(&mut stop).await.is_none() {
            return;
        }
        let mut looked_at_state = Instant::now();
        let mut rest_until = Instant::now();
        let mut saved = Instant::now();
        loop {
            self.take_in().await;
            if looked_at_state.elapsed() >= LOOK_AT_STATE {
                looked_at_state = Instant::now();
                self.status_due.get_or_insert_with(Instant::now);
            }
            self.pace.resize(self.shared.nodes(), Instant::now());
            while Instant::now() >= rest_until {
                // What is on its way at the end is told again after it, with the same effect.
                let step = tokio::select! {
                    biased;
                    () = ended(&mut stop) => None,
                    step = self.step() => step,
                };
                match step {
                    None => break,
                    Some(Step::Done) => {}
                    Some(Step::Failed(error)) => {
                        self.shared.failed("telling the cluster", &error);
                        rest_until = Instant::now() + self.waits.after_failure();
                    }
                }
            }
            self.count();
            if self.is_dirty && saved.elapsed() >= SAVE {
                self.save().await;
                saved = Instant::now();
            }
            tokio::select! {
                biased;
                () = ended(&mut stop) => {
                    self.take_in().await;
                    return self.save().await;
                }
                () = self.shared.changed.notified() => {
                    let after = Duration::from_millis(200) + self.pace.spread();
                    self.status_due.get_or_insert(Instant::now() + after);
                }
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Reads what was saved. A disk that fails for a while makes nothing forgotten; `None` if the end
    /// comes first.
    async fn open(&mut self, stop: &mut watch::Receiver<bool>) -> Option<()> {
        let mut waits = Waits::default();
        loop {
            let cluster = self.cluster.clone();
            match spawn_blocking(move || Outbox::open(&cluster.outbox)).await {
                Ok(Ok(outbox)) => {
                    self.shared.works_locally("the outbox");
                    self.is_new = outbox.position.is_none();
                    self.outbox = outbox;
                    return Some(());
                }
                Ok(Err(error)) => self.outbox_trouble(&error),
                Err(error) => self.shared.trouble("the outbox", &error.to_string()),
            }
            tokio::select! {
                () = tokio::time::sleep(waits.after_failure()) => {}
                () = ended(stop) => return None,
            }
        }
    }

    /// Takes in what the ledger has.
    async fn take_in(&mut self) {
        loop {
            let (node, from) = (self.node.clone(), self.outbox.position.clone());
            let batch = match spawn_blocking(move || node.events(from.as_deref(), BATCH)).await {
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
                if self.is_new && event.time.as_second() < oldest {
                    continue;
                }
                self.outbox.take_in(event);
                let decision = event.decision.as_ref().and_then(|id| batch.marked.get(id));
                if let Some(decision) = decision {
                    self.outbox.take_mark(event, decision);
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

    fn count(&self) {
        let (events, results) = self.outbox.waiting();
        let lost = self.outbox.lost;
        self.shared.count(|counts| {
            counts.waiting_events = events;
            counts.waiting_results = results;
            counts.lost = lost;
        });
    }

    /// The place in the ledger is saved with what waits, so that a kill loses nothing.
    async fn save(&mut self) {
        self.is_dirty = false;
        self.outbox.forget(Timestamp::now());
        let (cluster, bytes) = (self.cluster.clone(), serde_json::to_vec(&self.outbox));
        let saved = spawn_blocking(move || keep(&cluster.outbox, &bytes?));
        match saved.await.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(()) => self.shared.works_locally("the outbox"),
            Err(error) => {
                self.is_dirty = true;
                self.outbox_trouble(&error);
            }
        }
    }

    fn outbox_trouble(&self, error: &std::io::Error) {
        let why = format!("{}: {error}", self.cluster.outbox.display());
        self.shared.trouble("the outbox", &why);
    }

    /// Tells the next thing there is; `None` if there is none, or it is too early.
    async fn step(&mut self) -> Option<Step> {
        let now = Instant::now();
        // A node that begins says nothing of policies before it has them, and overwrites nothing unseen.
        let is_known = self.shared.has_policies() || self.begun.elapsed() > BEGINNING;
        if self.status_due.is_some_and(|due| due <= now) && self.shared.knows_object() && is_known {
            return self.tell_status(now).await;
        }
        if let Some((key, told)) = self.outbox.next_event(Timestamp::now()) {
            self.pace.take(now).ok()?;
            return Some(self.tell_event(&key, &told).await);
        }
        let Some((namespace, wanted)) = self.outbox.next_report() else {
            self.reports_due = None;
            return None;
        };
        if *self.reports_due.get_or_insert(now + GATHER + self.pace.spread()) > now {
            return None;
        }
        self.pace.take(now).ok()?;
        Some(self.report(&namespace, &wanted).await)
    }

    /// Whatever becomes of it, the rest is told all the same.
    async fn tell_status(&mut self, now: Instant) -> Option<Step> {
        const STATUS: &str = "the node's status";
        const LABEL: &str = "the node's label";
        if self.shared.take_forgotten() {
            self.sent = protection::Sent::default();
        }
        if self.label_due <= now {
            self.label_due = now + half_at_least(LOOK_AT_LABEL);
            match self.sent.look_again(&self.client, &self.cluster).await {
                Ok(()) => self.shared.works(LABEL),
                Err(error) => self.shared.failed(LABEL, &error),
            }
        }
        let node = self.node.clone();
        let status = match spawn_blocking(move || node.status()).await {
            Ok(status) => status,
            Err(error) => {
                self.shared.trouble(STATUS, &format!("a bug in portcullis: {error}"));
                self.status_due = Some(Instant::now() + self.status_waits.after_failure());
                return Some(Step::Done);
            }
        };
        let wanted = protection::wanted(&status, &self.shared);
        if self.sent.says(&wanted) {
            self.status_due = None;
            return Some(Step::Done);
        }
        self.pace.take(now).ok()?;
        match protection::write(&self.client, &self.cluster, &wanted, &mut self.sent).await {
            Ok(()) => {
                self.status_due = None;
                self.status_waits.succeeded();
                self.waits.succeeded();
                self.shared.wrote();
                self.shared.works(STATUS);
                self.shared.works(LABEL);
            }
            Err(error) => {
                self.shared.failed(STATUS, &error);
                self.status_due = Some(Instant::now() + self.status_waits.after_failure());
            }
        }
        Some(Step::Done)
    }

    async fn tell_event(&mut self, key: &str, told: &Told) -> Step {
        const PART: &str = "events on pods";
        let api: Api<KubeEvent> = Api::namespaced(self.client.clone(), &told.namespace);
        let name = told.name(key);
        let create = || async {
            let object = told.object(key, &self.cluster.node);
            api.create(&PostParams::default(), &object).await.map(drop)
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
        let error = match result {
            Ok(()) => {
                self.outbox.told(key, told.count, Timestamp::now());
                self.is_dirty = true;
                self.shared.wrote();
                self.took(PART);
                return Step::Done;
            }
            Err(error) => error,
        };
        match meaning(&error) {
            Meaning::Refused | Meaning::NoNamespace => {
                let why = with_causes(&error);
                log::info!("no event on the pod {}/{}: {why}", told.namespace, told.pod);
                self.outbox.give_up(key);
                self.is_dirty = true;
                Step::Done
            }
            // A proxy may say 404 of anything.
            Meaning::Absent | Meaning::Conflict | Meaning::NotNow => self.later(PART, key, &error),
            Meaning::Later => self.failed(key, error),
        }
    }

    async fn report(&mut self, namespace: &str, wanted: &Wanted) -> Step {
        const PART: &str = "policy reports";
        let resource = objects::reports();
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, &resource);
        let written = async {
            let present = cached(&api, report::NAME).await?;
            // Another node may have written the same.
            let Some(new) = report::with(present, wanted, Timestamp::now()) else {
                return Ok(false);
            };
            match new.metadata.resource_version {
                None => api.create(&PostParams::default(), &new).await?,
                Some(_) => api.replace(report::NAME, &PostParams::default(), &new).await?,
            };
            Ok(true)
        };
        let error = match written.await {
            Ok(written) => {
                self.reported(namespace, wanted);
                self.report_waits.succeeded();
                if written {
                    self.shared.wrote();
                }
                self.took(PART);
                return Step::Done;
            }
            Err(error) => error,
        };
        match meaning(&error) {
            // Who was quicker has written it all, maybe.
            Meaning::Conflict => self.outbox.rest(namespace),
            Meaning::NoNamespace => self.reported(namespace, wanted),
            Meaning::Absent => {
                let why = "the cluster has no PolicyReport: kubectl apply -k integration/kubernetes/reports";
                self.shared.trouble(PART, why);
                self.reports_due = Some(Instant::now() + self.report_waits.after_failure());
            }
            Meaning::Refused => {
                log::warn!("the report of {namespace} is not taken: {}", with_causes(&error));
                self.outbox.lost += wanted.rows.len() as u64;
                self.reported(namespace, wanted);
            }
            Meaning::NotNow => return self.later(PART, namespace, &error),
            Meaning::Later => return self.failed(namespace, error),
        }
        Step::Done
    }

    fn reported(&mut self, namespace: &str, wanted: &Wanted) {
        self.outbox.reported(namespace, wanted);
        self.is_dirty = true;
    }

    /// The API server takes things.
    fn took(&mut self, part: &str) {
        self.waits.succeeded();
        self.shared.works(part);
        self.shared.works("telling the cluster");
    }

    /// It takes nothing now. What it answers may be about this one thing, though, as when a webhook is
    /// away that is asked about one namespace: another is tried first the next time.
    fn failed(&mut self, what: &str, error: kube::Error) -> Step {
        if matches!(error, kube::Error::Api(_)) {
            self.outbox.rest(what);
        }
        Step::Failed(error)
    }

    /// This one thing is told later, and holds up no other.
    fn later(&mut self, part: &str, what: &str, error: &kube::Error) -> Step {
        self.shared.failed(part, error);
        self.outbox.rest(what);
        Step::Done
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use http::{Request, Response};
    use kube::client::Body;
    use portcullis_node::NodeStatus;
    use portcullis_types::{Event, Mark};
    use tokio::sync::mpsc;
    use tower::service_fn;

    use super::*;
    use crate::client::Access;
    use crate::node::{Applied, Batch, Fault, NodeStep, Policy};

    /// A node whose ledger has one event.
    struct Refusing(Event);

    impl Node for Refusing {
        fn status(&self) -> NodeStatus {
            unreachable!("it is not asked")
        }

        fn apply(&self, _: &[Policy]) -> Applied {
            unreachable!("it is not asked")
        }

        fn events(&self, after: Option<&str>, _: usize) -> Result<Batch, Fault> {
            let events = match after {
                None => vec![self.0.clone()],
                Some(_) => Vec::new(),
            };
            Ok(Batch { events, position: "behind it".to_owned(), ..Batch::default() })
        }

        fn mark(&self, _: &BTreeMap<String, Mark>) -> BTreeMap<String, NodeStep> {
            unreachable!("it is not asked")
        }
    }

    #[tokio::test]
    async fn what_waits_is_saved_at_the_end_though_the_api_server_does_not_answer() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = folder.path().join("cluster.json");
        let event = serde_json::from_value(serde_json::json!({
            "id": "01A", "time": Timestamp::now(), "kind": "decision", "action": "block",
            "message": "portcullis: blocked: malware", "image": { "surety": "unknown" },
            "request": {
                "engine": "containerd", "node": "n1", "containerId": "c", "kind": "container",
                "namespace": "shop", "pod": "web-1",
            },
        }));
        let (asked, mut is_asked) = mpsc::unbounded_channel();
        let hangs = move |request: Request<Body>| {
            asked.send(request.uri().path().to_owned()).unwrap();
            std::future::pending::<Result<Response<Body>, std::io::Error>>()
        };
        let cluster = Cluster {
            access: Access::InCluster,
            node: "n1".to_owned(),
            namespace: "portcullis-system".to_owned(),
            daemonset: None,
            outbox: outbox.clone(),
        };
        let client = Client::new(service_fn(hangs), "default");
        let node = Arc::new(Refusing(event.unwrap()));
        let sender = Sender::new(client, Arc::new(cluster), node, Arc::default());
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(sender.run(stopped));
        assert_eq!(is_asked.recv().await.unwrap(), "/api/v1/namespaces/shop/events");
        assert!(!outbox.exists());
        stop.send(true).unwrap();
        running.await.unwrap();
        let saved = Outbox::open(&outbox).unwrap();
        assert_eq!((saved.position.as_deref(), saved.waiting()), (Some("behind it"), (1, 1)));
    }
}
