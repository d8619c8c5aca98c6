//! The one way to a [`Permit`]: identify, look up, decide, record.
//!
//! A start is a straight line, and [`Gate::admit`] is it. Nothing here writes a verdict, scans, or
//! touches the network; the node's agent is asked for a scan where a policy wants one. The decision itself is `portcullis_policy::decide`, pure and total; here
//! stand the reads around it, each of which may fail without ending the line: a failure becomes a
//! cause, and the policy says what it means.

#![forbid(unsafe_code)]

pub mod agent;
mod evidence;
mod permit;
pub mod published;

pub use permit::{Admission, Permit, Refusal};

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use portcullis_audit::Audit;
use portcullis_policy::{Defaults, InForce, PolicySet};
pub use portcullis_resolve::Resolved;
use portcullis_settings::{Allows, DoorSettings, Settings};
use portcullis_store::{FileStore, VerdictStore};
use portcullis_types::{
    Action, Cause, Decision, Engine, Event, EventKind, Evidence, Failure, Finding, Identity, Kind,
    Lookup, Place, Request, Timestamp, Workload, with_causes,
};
pub use portcullis_workload::root as root_of;

/// A start that asks for a permit.
#[derive(Debug, Clone)]
pub struct Ask {
    /// What asks.
    pub engine: Engine,
    /// The container's id at the engine.
    pub container_id: String,
    /// The folder of its OCI bundle, whose specification tells what the start may do.
    pub bundle: PathBuf,
    /// How long the caller waits at all, if it says so.
    pub caller_waits: Option<Duration>,
    /// Where the engine has its images, for a scan that a policy wants.
    pub place: Place,
}

/// The dangerous settings of the start that a bundle describes.
pub fn workload_of(bundle: &Path) -> Workload {
    workload(portcullis_workload::read(bundle))
}

/// The same of a runtime specification of a container on this node.
pub fn workload_of_spec(config_json: &[u8]) -> Workload {
    workload(portcullis_workload::findings_here(config_json))
}

fn workload(read: Result<Vec<Finding>, portcullis_workload::WorkloadError>) -> Workload {
    match read {
        Ok(found) => Workload::Read(found.into_iter().map(Arc::new).collect()),
        Err(error) => Workload::NotRead(with_causes(&error)),
    }
}

/// The part of the gate's time that finding out which image it is may take.
const RESOLVING: f32 = 0.9;

/// The gate of one node.
pub struct Gate {
    settings: Settings,
    defaults: Defaults,
    problem: Option<Failure>,
    audit: Audit,
    store: Arc<dyn VerdictStore>,
}

/// What the reading thread has learnt so far; what it learnt counts even if its time is up.
#[derive(Default)]
struct Learnt {
    workload: Option<Workload>,
    resolved: Option<Resolved>,
    evidence: Option<Evidence>,
}

impl Gate {
    /// A gate by the settings of a door.
    pub fn of_door(door: DoorSettings) -> Self {
        let problem = door.problem.map(|error| {
            Failure::new(
                Cause::Internal,
                format!("the shipped settings are used: {}", with_causes(&error)),
            )
        });
        Self { problem, ..Self::new(door.settings) }
    }

    /// A gate by checked settings.
    pub fn new(settings: Settings) -> Self {
        let paths = settings.paths();
        let audit =
            Audit::new(paths.events(), settings.max_event_bytes, settings.allows == Allows::Each);
        let store = Arc::new(FileStore::open(paths.verdicts()));
        let defaults = Defaults {
            default_action: settings.default_action,
            policy_invalid: settings.policy_invalid,
            internal: settings.internal,
            sandbox_images: settings.sandbox_images.clone(),
        };
        Self { settings, defaults, problem: None, audit, store }
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Decides whether a container may be created, and records the decision before it answers.
    ///
    /// `resolve` finds out what starts; it is called on a thread of its own and given the moment
    /// at which nobody waits for it any more. Takes at most the settings' deadline, or four fifths
    /// of what the caller waits, and the time of a record. Blocking: not for an async thread.
    ///
    /// # Errors
    /// A [`Refusal`] if the decision is to block.
    pub fn admit(
        &self,
        ask: &Ask,
        resolve: impl FnOnce(Instant) -> Resolved + Send + 'static,
    ) -> Result<Permit, Refusal> {
        let begun = Instant::now();
        let bound = ask
            .caller_waits
            .map_or(self.settings.deadline, |waits| self.settings.deadline.min(waits.mul_f32(0.8)));
        let (resolved, mut evidence) = self.learn(resolve, ask.bundle.clone(), begun, bound);
        evidence.failures.extend(self.problem.clone());
        let set = self.load_policies(&mut evidence);
        let request = resolved.request(ask.engine, &self.settings.node, &ask.container_id);
        let identity = &resolved.identity;
        if portcullis_policy::is_unscanned(&evidence)
            && set.as_ref().is_some_and(|set| set.wants_scan(&request, identity))
        {
            // A sandbox starts all the same, so it does not wait.
            let until = match request.kind {
                Kind::Container => begun + bound.mul_f32(RESOLVING),
                Kind::Sandbox => Instant::now(),
            };
            self.have_scanned(&ask.place, identity, &mut evidence, until);
        }
        let clock = Timestamp::now();
        // A clock that was set back brings no exception, grace or observation to life again.
        let now = self.audit.ledger().judged_now(clock);

        let id = portcullis_audit::new_id();
        let decided = |evidence: &Evidence| {
            let decision = self.judge(set.as_ref(), &request, identity, evidence, now);
            let line = portcullis_policy::refusal(&decision, identity, &id);
            Event::of_decision(id.clone(), clock, line, &request, identity, evidence, &decision)
        };
        let mut event = decided(&evidence);
        event.gate_micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let outcome = self.audit.record(&event);
        for problem in &outcome.problems {
            log::warn!("event {id}: {problem}");
        }
        if !outcome.is_recorded() {
            evidence
                .failures
                .push(Failure::new(Cause::AuditUnavailable, outcome.problems.join("; ")));
            event = decided(&evidence);
        }
        match event.action {
            Action::Block => Err(Refusal::new(event.message, id)),
            Action::Allow | Action::Alarm => Ok(Permit::new(ask.container_id.clone(), event)),
        }
    }

    /// What decides on this node, by this set.
    pub fn in_force<'a>(&'a self, set: Option<&'a PolicySet>) -> InForce<'a> {
        InForce { set, defaults: &self.defaults }
    }

    /// The decision alone, from what is known.
    pub fn judge(
        &self,
        set: Option<&PolicySet>,
        request: &Request,
        identity: &Identity,
        evidence: &Evidence,
        now: Timestamp,
    ) -> Decision {
        portcullis_policy::decide(&self.in_force(set), request, identity, evidence, now)
    }

    /// What the store says about an image.
    pub fn evidence_for(&self, identity: &Identity) -> Evidence {
        evidence::lookup(self.store.as_ref(), identity)
    }

    /// Has the agent scan an image, and looks it up again. Without a scan it stays unscanned, and
    /// the evidence says why there is none.
    fn have_scanned(
        &self,
        place: &Place,
        identity: &Identity,
        evidence: &mut Evidence,
        until: Instant,
    ) {
        let Some(config) = identity.config.as_ref().filter(|_| identity.is_bound()) else { return };
        match agent::scan(&self.settings.paths().agent(), config, place, until) {
            Ok(()) => {
                let Evidence { lookup, failures, .. } = self.evidence_for(identity);
                evidence.lookup = lookup;
                evidence.failures.extend(failures);
            }
            Err(why) => evidence.failures.push(Failure::new(Cause::Unscanned, why)),
        }
    }

    /// The policy set in force; a set that cannot be used is a failure among the evidence.
    pub fn load_policies(&self, evidence: &mut Evidence) -> Option<PolicySet> {
        match published::load(&self.settings.paths().published()) {
            Ok(set) => Some(set),
            Err(error) => {
                evidence.failures.push(Failure::new(Cause::PolicyInvalid, with_causes(&error)));
                None
            }
        }
    }

    /// Refuses a start that cannot even be described, whatever the policies say, and records it.
    pub fn turn_away(&self, engine: Engine, container_id: &str, why: &str) -> Refusal {
        let message = portcullis_policy::one_line(&format!("portcullis: refused: {why}"));
        let id = portcullis_audit::new_id();
        let event = Event::new(
            id.clone(),
            Timestamp::now(),
            EventKind::Notice,
            Action::Block,
            message.clone(),
            Request::new(engine, &self.settings.node, container_id),
            Identity::unknown(why),
        );
        for problem in self.audit.record(&event).problems {
            log::warn!("event {id}: {problem}");
        }
        Refusal::new(message, id)
    }

    /// Records that an admitted container was created and started.
    pub fn started(&self, admission: &Admission) {
        self.record_outcome(admission, Action::Allow, "started");
    }

    /// Records that an admitted container did not come to life, and why.
    pub fn failed(&self, admission: &Admission, why: &str) {
        self.record_outcome(admission, Action::Alarm, &format!("failed: {why}"));
    }

    fn record_outcome(&self, admission: &Admission, action: Action, what: &str) {
        let decided = &admission.event;
        let line = format!("portcullis: {what}; container {}", decided.request.container_id);
        let event = Event {
            id: portcullis_audit::new_id(),
            time: Timestamp::now(),
            kind: EventKind::Outcome,
            action,
            message: portcullis_policy::one_line(&line),
            decision: Some(decided.id.clone()),
            // They stand in the decision, which is in the same ledger.
            failures: Vec::new(),
            workload: None,
            image_config: None,
            ..Event::clone(decided)
        };
        for problem in self.audit.record(&event).problems {
            log::warn!("event {}: {problem}", event.id);
        }
    }

    /// Resolves and looks up on a thread of its own, and waits for it no longer than `bound`.
    fn learn(
        &self,
        resolve: impl FnOnce(Instant) -> Resolved + Send + 'static,
        bundle: PathBuf,
        begun: Instant,
        bound: Duration,
    ) -> (Resolved, Evidence) {
        let deadline = begun + bound;
        // What an engine that stands still has told by then is worth more than the last moment.
        let resolve_by = begun + bound.mul_f32(RESOLVING);
        let learnt = Arc::new(Mutex::new(Learnt::default()));
        let (done, finished) = mpsc::channel();
        let (store, shared) = (self.store.clone(), learnt.clone());
        let thread = std::thread::Builder::new().name("gate".into()).spawn(move || {
            let read = catch_unwind(AssertUnwindSafe(|| {
                // First, since it needs no one's answer.
                lock(&shared).workload = Some(workload_of(&bundle));
                let resolved = resolve(resolve_by);
                let identity = resolved.identity.clone();
                lock(&shared).resolved = Some(resolved);
                let evidence = evidence::lookup(store.as_ref(), &identity);
                lock(&shared).evidence = Some(evidence);
            }));
            // The gate may have stopped waiting.
            let _gone = done.send(read.is_ok());
        });
        let failure = match thread {
            Err(error) => {
                Some(Failure::new(Cause::Internal, format!("cannot start a thread: {error}")))
            }
            Ok(_) => {
                let left = deadline.saturating_duration_since(Instant::now());
                match finished.recv_timeout(left) {
                    Ok(true) => None,
                    Ok(false) => Some(Failure::new(
                        Cause::Internal,
                        "a bug in portcullis: reading the evidence panicked",
                    )),
                    Err(_) => Some(Failure::new(Cause::Deadline, "the gate's time was up")),
                }
            }
        };
        let mut learnt = lock(&learnt);
        let mut evidence = learnt.evidence.take().unwrap_or_else(|| Evidence::of(Lookup::NotRead));
        let resolved = learnt.resolved.take().unwrap_or_else(|| {
            let why = failure.as_ref().map_or("it was not found out", |f| f.detail.as_str());
            Resolved::unknown(why)
        });
        if let Some(workload) = learnt.workload.take() {
            evidence.workload = workload;
        }
        evidence.image.clone_from(&resolved.image);
        if resolved.deadline_hit && failure.is_none() {
            let why = resolved.identity.note.clone().unwrap_or_default();
            evidence.failures.push(Failure::new(Cause::Deadline, why));
        }
        evidence.failures.extend(failure);
        (resolved, evidence)
    }
}

fn lock(learnt: &Mutex<Learnt>) -> std::sync::MutexGuard<'_, Learnt> {
    learnt.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
