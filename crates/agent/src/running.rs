//! Judges what runs again when something has changed, and tells of containers that have come to
//! violate a policy. Nothing is ever stopped: that is for people, or for whoever reads the events.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use portcullis_audit::{Audit, Followed, new_id};
use portcullis_engines::{Again, Found, Source};
use portcullis_gate::Gate;
use portcullis_scan::{Kept, Known};
use portcullis_store::{Detail, FileStore, VerdictStore};
use portcullis_types::{
    Action, Binding, Cause, Decision, Digest, Engine, Event, EventId, EventKind, Evidence, Lookup,
    ScanReport, Timestamp, Verdict, with_causes,
};

use crate::backoff::Backoff;
use crate::bell::Bell;
use crate::follow::PATIENCE;
use crate::images::InUse;
use crate::queue::{Queue, Runs};
use crate::scans::{Scans, be_nice};
use crate::state::{Container, Containers, Memory};

/// How often it is looked whether something has changed. No file is read for that.
const LOOK: Duration = Duration::from_secs(2);

/// How long all has to be as it is before it is judged, how far judgements are apart at least, and how
/// long it may go on changing.
const QUIET: Duration = Duration::from_secs(2);
const APART: Duration = Duration::from_secs(30);

/// How often what runs is judged though nothing has changed: graces and exceptions end by themselves.
const AT_LEAST: Duration = Duration::from_secs(3600);

/// Most containers that are judged. A node of Kubernetes has some hundred.
const MAX_CONTAINERS: usize = 10_000;

/// Most decisions that are remembered of containers that are not known to run, and for how long.
const MAX_DECISIONS: usize = 50_000;
const FRESH: Duration = Duration::from_secs(3600);

/// What a judgement depends on, as far as files tell.
#[derive(Debug, Clone, PartialEq, Eq)]
struct World {
    /// Where the link to the policies in force leads.
    policies: Option<PathBuf>,
    known: Known,
    /// The folders of the verdicts, and when each was changed.
    verdicts: BTreeMap<PathBuf, (i64, i64)>,
}

/// By which a container is known: an id is unique in an engine, and in containerd in a namespace.
type Key = (Engine, String, String);

/// What a container was let start by, or what was told of it since.
#[derive(Debug, Clone)]
struct Told {
    action: Action,
    at: Timestamp,
    decision: Option<EventId>,
    violates: bool,
}

/// Judges what runs on a node.
pub(crate) struct Judge<'a> {
    scans: &'a Scans,
    queue: &'a Queue,
    bell: &'a Bell,
    in_use: &'a InUse,
    gate: Gate,
    audit: Audit,
    memory: Memory,
    /// What the node knew when all images were judged by it last.
    rematched: Option<Digest>,
    containers: BTreeMap<Key, Container>,
    /// By engine and id: the ledger knows no namespace of containerd's.
    told: BTreeMap<(Engine, String), Told>,
    followed: Followed,
    /// The ledger could not be read at the last time.
    is_deaf: bool,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(
        scans: &'a Scans,
        queue: &'a Queue,
        bell: &'a Bell,
        in_use: &'a InUse,
    ) -> Self {
        let settings = scans.settings().clone();
        let paths = settings.paths();
        let memory = Memory::new(&paths.followed(), "containers.json");
        let Containers { known, mut containers } = memory.recall();
        containers.truncate(MAX_CONTAINERS);
        let containers = containers.into_iter().map(|of| (key(&of), of)).collect();
        Self {
            audit: Audit::new(paths.events(), settings.max_event_bytes, true),
            gate: Gate::new(settings),
            scans,
            queue,
            bell,
            in_use,
            memory,
            rematched: known,
            containers,
            told: BTreeMap::new(),
            followed: Followed::default(),
            is_deaf: false,
        }
    }

    /// Until the end.
    pub(crate) fn run(mut self) {
        be_nice();
        self.read_ledger();
        let mut seen = World::now(self.scans);
        // What has changed while no agent ran is not known.
        let mut changed: Option<(Instant, Instant)> = Some((Instant::now(), Instant::now()));
        let mut judged_at: Option<Instant> = None;
        let (mut backoff, mut retry_at) = (Backoff::default(), None::<Instant>);
        while !self.bell.is_ending() {
            self.bell.wait(None, Instant::now() + LOOK);
            if self.bell.is_ending() {
                break;
            }
            self.read_ledger();
            let (world, now) = (World::now(self.scans), Instant::now());
            if world != seen {
                let first = changed.map_or(now, |(first, _)| first);
                changed = Some((first, now));
                seen = world;
            }
            let is_settled = changed.is_some_and(|(first, last)| {
                now.duration_since(last) >= QUIET || now.duration_since(first) >= APART
            });
            let is_late = judged_at.is_some_and(|at| at.elapsed() >= AT_LEAST)
                || retry_at.is_some_and(|at| now >= at)
                || self.in_use.is_wanted();
            let is_apart = judged_at.is_none_or(|at| at.elapsed() >= APART);
            if !((is_settled || is_late) && is_apart) {
                continue;
            }
            changed = None;
            self.rematch(&seen.known);
            // What that changed is judged now.
            seen = World::now(self.scans);
            retry_at = match self.judge() {
                true => {
                    backoff = Backoff::default();
                    None
                }
                false => Some(Instant::now() + APART.max(backoff.failed())),
            };
            judged_at = Some(Instant::now());
            self.keep();
        }
        self.keep();
    }

    fn keep(&self) {
        let containers = self.containers.values().cloned().collect();
        self.memory.keep(&Containers { known: self.rematched.clone(), containers });
    }

    /// What has come into the ledger since the last call; all of it at the first.
    fn read_ledger(&mut self) {
        while !self.bell.is_ending() {
            match self.audit.ledger().next(&mut self.followed) {
                Ok(Some(entry)) => self.hear(entry.event),
                Ok(None) => {
                    self.is_deaf = false;
                    return;
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.is_deaf, true) {
                        log::warn!("the ledger: {}", with_causes(&error));
                    }
                    return;
                }
            }
        }
    }

    fn hear(&mut self, event: Event) {
        let (decision, violates) = match event.kind {
            EventKind::Decision => (Some(event.id), false),
            EventKind::Violation => (event.decision, true),
            EventKind::Outcome | EventKind::Notice | EventKind::Mark => return,
        };
        if self.told.len() >= MAX_DECISIONS {
            self.thin_out();
        }
        let told = Told { action: event.action, at: event.time, decision, violates };
        self.told.insert((event.request.engine, event.request.container_id), told);
    }

    fn runs(&self) -> BTreeSet<(Engine, String)> {
        self.containers.keys().map(|(engine, _, id)| (*engine, id.clone())).collect()
    }

    /// Lets go of what was told of containers that do not run, when all that run are known; not of
    /// those whose decision is fresh, which may be about to.
    fn let_go(&mut self) {
        let (runs, now) = (self.runs(), Timestamp::now());
        let is_fresh = |told: &Told| now.duration_since(told.at).unsigned_abs() < FRESH;
        self.told.retain(|key, told| runs.contains(key) || is_fresh(told));
    }

    /// Lets go of the older half of what was told, first of containers that are not known to run.
    fn thin_out(&mut self) {
        for runs in [self.runs(), BTreeSet::new()] {
            if self.told.len() < MAX_DECISIONS {
                return;
            }
            let others = self.told.iter().filter(|(key, _)| !runs.contains(*key));
            let mut times: Vec<Timestamp> = others.map(|(_, told)| told.at).collect();
            times.sort_unstable();
            if let Some(middle) = times.get(times.len() / 2) {
                self.told.retain(|key, told| told.at > *middle || runs.contains(key));
            }
        }
    }

    /// Judges all images that are kept by what the node knows, if that is other than at the last time.
    fn rematch(&mut self, known: &Known) {
        let known = known.digest();
        if self.rematched.as_ref() == Some(&known) {
            return;
        }
        match self.rematch_all() {
            Ok(Some(images)) => {
                if images > 0 {
                    log::info!("{images} images are judged by what this node knows now");
                }
                self.rematched = Some(known);
            }
            // The end has come, or something changed again: then there is another time.
            Ok(None) => {}
            Err(error) => log::warn!("images are not judged anew: {error:#}"),
        }
    }

    fn rematch_all(&self) -> anyhow::Result<Option<usize>> {
        let paths = self.scans.settings().paths();
        let kept = Kept::new(paths.inventories());
        let store = FileStore::open(paths.verdicts());
        let images = kept.images()?;
        if images.is_empty() {
            return Ok(Some(0));
        }
        let (node, now) = (self.scans.node()?, Timestamp::now());
        let mut judged = 0;
        for image in &images {
            if self.bell.is_ending() || !node.is_current(&paths) {
                return Ok(None);
            }
            // One that is damaged does not keep the others from it.
            match portcullis_scan::rematch(&kept, image, &node, now) {
                Ok(Some((facts, report))) => {
                    judged += 1;
                    let is_news = self.scans.pushes() && {
                        let before = store.by_config(&facts.config, Detail::Full);
                        !says_as_much(before.unwrap_or_default().as_ref(), &report)
                    };
                    match store.absorb(&facts, report) {
                        Ok(_) if is_news => self.scans.push(&facts.config),
                        Ok(_) => {}
                        Err(error) => log::warn!("{}: {}", facts.config, with_causes(&error)),
                    }
                }
                Ok(None) => {}
                Err(error) => log::warn!("an image is not judged anew: {}", with_causes(&error)),
            }
        }
        Ok(Some(judged))
    }

    /// Judges all containers that run; whether all engines said what they run.
    fn judge(&mut self) -> bool {
        let settings = self.scans.settings();
        let follow = settings.agent.follow.as_ref();
        let address = portcullis_engines::containerd(settings);
        let mut sources = Source::all(settings, &address);
        sources.retain(|source| {
            follow.is_none_or(|follow| follow.contains(&source.engine())) && source.is_here()
        });
        let mut policies = Evidence::of(Lookup::NotRead);
        let set = self.gate.load_policies(&mut policies);
        let now = self.audit.ledger().judged_now(Timestamp::now());
        let mut is_complete = true;
        let (mut seen, mut images) = (BTreeSet::new(), BTreeSet::new());
        let docker_is_asked = sources.iter().any(|source| source.engine() == Engine::Docker);
        let mut suspects = Vec::new();
        let mut silent = BTreeSet::new();
        for source in &sources {
            let running = match source.running(Instant::now() + PATIENCE) {
                Ok(running) => running,
                Err(error) => {
                    log::warn!(
                        "what {} runs is not known: {}",
                        source.engine(),
                        with_causes(&error)
                    );
                    silent.insert(source.engine());
                    is_complete = false;
                    continue;
                }
            };
            for found in running.into_iter().filter(|found| found.is_of(docker_is_asked)) {
                if self.bell.is_ending() {
                    return false;
                }
                if seen.len() >= MAX_CONTAINERS {
                    log::warn!("more than {MAX_CONTAINERS} containers run: the rest is not judged");
                    is_complete = false;
                    break;
                }
                let key = key_of(&found);
                seen.insert(key.clone());
                let mut again = found.again(&self.gate, Instant::now() + PATIENCE);
                images.extend(again.identity.config.clone());
                // Half an answer is no change.
                if again.evidence.failures.iter().any(|failure| failure.cause == Cause::Deadline) {
                    is_complete = false;
                    continue;
                }
                again.evidence.failures.extend(policies.failures.iter().cloned());
                let decision = self.gate.judge(
                    set.as_ref(),
                    &again.request,
                    &again.identity,
                    &again.evidence,
                    now,
                );
                match self.compared(&key, &decision) {
                    Some(before) => suspects.push((key, again, decision, before)),
                    None => self.remember(key, &decision),
                }
            }
        }
        // One that has ended meanwhile, and of which nothing is known for that, violates nothing.
        let of_suspects: BTreeSet<Engine> = suspects.iter().map(|(key, ..)| key.0).collect();
        let mut still = BTreeSet::new();
        for source in sources.iter().filter(|source| of_suspects.contains(&source.engine())) {
            match source.running(Instant::now() + PATIENCE) {
                Ok(running) => still.extend(running.iter().map(key_of)),
                Err(_) => is_complete = false,
            }
        }
        for (key, again, decision, before) in suspects {
            if self.bell.is_ending() {
                return false;
            }
            if still.contains(&key) {
                self.tell(key, &again, &decision, before);
            }
        }
        let here: BTreeSet<Engine> = sources.iter().map(Source::engine).collect();
        self.containers.retain(|key, _| {
            // Of an engine that is away or does not answer, nothing is known to have ended.
            seen.contains(key) || silent.contains(&key.0) || !here.contains(&key.0)
        });
        if is_complete {
            self.let_go();
        }
        let count = |is: fn(&Container) -> bool| self.containers.values().filter(|c| is(c)).count();
        let decided = count(|container| container.decision.is_some());
        self.queue.run(Runs {
            violating: count(|container| container.violates),
            decided,
            undecided: self.containers.len() - decided,
        });
        if is_complete {
            self.in_use.tell(images);
        }
        is_complete
    }

    /// What was decided about a container before, if it would be decided more strictly now.
    fn compared(&self, key: &Key, decision: &Decision) -> Option<Told> {
        let before = self.before(key)?;
        (decision.action > before.action).then_some(before)
    }

    /// The last word of a container: that of the ledger or, if it is later, that of the last judgement.
    fn before(&self, key: &Key) -> Option<Told> {
        let told = self.told.get(&(key.0, key.2.clone()));
        let judged = self.containers.get(key).map(|container| Told {
            action: container.action,
            at: container.at,
            decision: container.decision.clone(),
            violates: container.violates,
        });
        match (told, judged) {
            // A container that is started again has another decision.
            (Some(told), Some(judged)) if told.at > judged.at => Some(told.clone()),
            (_, Some(judged)) => Some(judged),
            (told, None) => told.cloned(),
        }
    }

    /// Remembers a judgement that nobody has to be told of.
    fn remember(&mut self, key: Key, decision: &Decision) {
        let before = self.before(&key);
        let is_as_before = before.as_ref().is_some_and(|b| b.action == decision.action);
        let violates = is_as_before && before.as_ref().is_some_and(|before| before.violates);
        let decided = before.and_then(|before| before.decision);
        self.put(key, decision.action, violates, decided);
    }

    fn put(&mut self, key: Key, action: Action, violates: bool, decision: Option<EventId>) {
        let (engine, namespace, id) = key.clone();
        let at = Timestamp::now();
        let container = Container { engine, namespace, id, action, at, violates, decision };
        self.containers.insert(key, container);
    }

    /// Records that a container violates a policy now.
    fn tell(&mut self, key: Key, again: &Again, decision: &Decision, before: Told) {
        let id = new_id();
        let Again { request, identity, evidence } = again;
        let line = portcullis_policy::violation(decision, identity, &request.container_id, &id);
        let clock = Timestamp::now();
        let event =
            Event::of_decision(id.clone(), clock, line, request, identity, evidence, decision);
        // The ledger lets go of its oldest files.
        let start = before.decision.filter(|_| self.told.contains_key(&(key.0, key.2.clone())));
        let event = Event::of_violation(event, start.clone());
        let outcome = self.audit.record(&event);
        for problem in &outcome.problems {
            log::warn!("event {id}: {problem}");
        }
        // What nobody has been told of is told the next time.
        if outcome.is_recorded() {
            self.put(key, decision.action, true, start);
            self.keep();
        }
    }
}

/// Whether a verdict has a scan of ours that found the same, by advisories that are as new: then other
/// nodes need not hear of this one.
fn says_as_much(verdict: Option<&Verdict>, report: &ScanReport) -> bool {
    let found = |report: &ScanReport| -> BTreeSet<String> {
        let all = report.findings.iter();
        all.map(|f| format!("{:?} {:?} {:?}", f.key(), f.severity, f.fixed_version)).collect()
    };
    let mut ours = verdict.iter().flat_map(|verdict| &verdict.reports);
    ours.any(|before| {
        before.binding == Binding::ByScan
            && before.database_at == report.database_at
            && before.coverage == report.coverage
            && found(before) == found(report)
    })
}

impl World {
    fn now(scans: &Scans) -> Self {
        let paths = scans.settings().paths();
        Self {
            policies: fs::read_link(paths.published().join("current")).ok(),
            known: Known::now(&paths),
            verdicts: changed(&paths.verdicts()),
        }
    }
}

/// The folders of a verdict store, and when a name in each was changed last.
fn changed(root: &Path) -> BTreeMap<PathBuf, (i64, i64)> {
    let mut found = BTreeMap::new();
    let mut look = |path: PathBuf| {
        if let Ok(metadata) = path.metadata()
            && metadata.is_dir()
        {
            found.insert(path, (metadata.mtime(), metadata.mtime_nsec()));
        }
    };
    for algorithm in ["sha256", "sha512"] {
        let folder = root.join(algorithm);
        for shard in 0..=u8::MAX {
            look(folder.join(format!("{shard:02x}")));
        }
    }
    found
}

fn key(of: &Container) -> Key {
    (of.engine, of.namespace.clone(), of.id.clone())
}

fn key_of(found: &Found<'_>) -> Key {
    (found.engine(), found.namespace().to_owned(), found.container_id().to_owned())
}

#[cfg(test)]
mod tests;
