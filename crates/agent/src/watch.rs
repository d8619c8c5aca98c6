//! What the agent tells of its node: threads that count the ledger's records and look at the node's
//! files, and the addresses at which that is asked for.
//!
//! A question costs the writing of a text, however often it comes: what is expensive is done once a
//! minute, whoever asks.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use portcullis_audit::{Ledger, LedgerError, Unhandled};
use portcullis_kubernetes::Shared;
use portcullis_node::{KnownFeeds, ProblemKind, node_state_again};
use portcullis_osv::database::{Contents, Database, Manifest};
use portcullis_settings::{DoorSettings, Settings};
use portcullis_types::{Action, Event, Timestamp, with_causes};
use rustix::fs::StatVfsMountFlags;

use crate::health::Health;
use crate::http::{self, Answer, Asked};
use crate::metrics::{self, Advisories, CLASSIC, Degraded, Metrics, OPENMETRICS, Stand};
use crate::queue::Queue;
use crate::records::Records;
use crate::scans::Scans;
use crate::updates;

/// How often the ledger is looked at, and the node.
const READS: Duration = Duration::from_secs(1);
const LOOKS: Duration = Duration::from_secs(60);

/// How long either may take before the agent is not well: a ledger is read within seconds, and a
/// store with thousands of images on a slow disk within minutes.
const READS_WITHIN: Duration = Duration::from_secs(60);
const LOOKS_WITHIN: Duration = Duration::from_secs(900);

/// How often an address is tried that cannot be listened at.
const TRIES: Duration = Duration::from_secs(10);

/// How old advisories may be.
const MAX_AGE_SECONDS: i64 = 7 * 86_400;

/// Below this a ledger is about to fail.
const TOO_LITTLE: u64 = 16 << 20;

/// What is awaited before the agent is ready.
const LEDGER: &str = "the ledger";
const NODE: &str = "the node";

/// What is told, for those who have something to tell.
#[derive(Debug)]
pub struct Watch {
    /// How the agent's threads fare.
    pub health: Arc<Health>,
    cluster: Arc<OnceLock<Arc<Shared>>>,
}

impl Watch {
    /// Tells of the part in the cluster, too, from now on.
    pub fn of_cluster(&self, shared: Arc<Shared>) {
        // There is one.
        let _is_known = self.cluster.set(shared);
    }
}

/// Begins to count and to look, and tells what it finds at the address of the settings, if there is
/// one. `file` is the file of the settings that scans go by.
///
/// # Errors
/// No thread can be started.
pub fn watch(scans: &Arc<Scans>, file: &Path, queue: &Arc<Queue>) -> std::io::Result<Watch> {
    let settings = scans.settings();
    let health = Arc::new(Health::default());
    let cluster: Arc<OnceLock<Arc<Shared>>> = Arc::default();
    let now = Timestamp::now().as_second();
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"), now));
    health.awaits(LEDGER, "it is being read");
    health.awaits(NODE, "it is being looked at");

    let pulse = health.thread("records", Some(READS_WITHIN));
    let ledger = Ledger::new(settings.paths().events(), settings.max_event_bytes);
    let mut counting = Counting::new(ledger);
    let (metrics_of, health_of, queue_of) = (metrics.clone(), health.clone(), queue.clone());
    spawn("records", move || {
        loop {
            // What is read takes long only once, at the beginning.
            match counting.go_on(&metrics_of, &|| pulse.beat()) {
                Ok(()) => health_of.has(LEDGER),
                Err(error) => health_of.awaits(LEDGER, with_causes(&error)),
            }
            queue_of.take_ended().iter().for_each(|ended| metrics_of.scanned(ended));
            pulse.beat();
            std::thread::sleep(READS);
        }
    })?;

    let pulse = health.thread("node", Some(LOOKS_WITHIN));
    let (metrics_of, health_of) = (metrics.clone(), health.clone());
    let (settings_of, file) = (settings.clone(), file.to_owned());
    let mut feeds = KnownFeeds::default();
    spawn("node", move || {
        loop {
            metrics_of.stand(&look(&settings_of, &file, &mut feeds));
            health_of.has(NODE);
            pulse.beat();
            std::thread::sleep(LOOKS);
        }
    })?;

    if let Some(address) = settings.agent.listen {
        let pulse = health.thread("http", None);
        let (health_of, queue, cluster) = (health.clone(), queue.clone(), cluster.clone());
        let scans = scans.clone();
        spawn("http", move || {
            let _pulse = pulse;
            let answer = move |asked: Asked<'_>| {
                if let Some(cluster) = cluster.get() {
                    metrics.cluster(&cluster.counts());
                }
                let text = || metrics.openmetrics(&queue.counts(), scans.pushes_waiting());
                answer(asked, &text, &health_of)
            };
            http::serve(&listen(address), &(Arc::new(answer) as _));
        })?;
    }
    Ok(Watch { health, cluster })
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

/// Listens at an address, which may have to be waited for: scans go on without it.
fn listen(address: SocketAddr) -> TcpListener {
    let mut is_told = false;
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => {
                let address = listener.local_addr().unwrap_or(address);
                log::info!("metrics are at http://{address}/metrics");
                return listener;
            }
            Err(error) if !is_told => {
                log::warn!(
                    "metrics are not told, cannot listen at {address} (agent.listen): {error}"
                );
                is_told = true;
            }
            Err(_) => {}
        }
        std::thread::sleep(TRIES);
    }
}

fn answer(asked: Asked<'_>, metrics: &dyn Fn() -> String, health: &Health) -> Answer {
    let well = |problems: Vec<String>| match problems.as_slice() {
        [] => Answer::line(200, "ok"),
        some => Answer::line(503, &some.join("\n")),
    };
    match asked.path {
        "/metrics" => {
            let text = metrics();
            match asked.accept.contains("application/openmetrics-text") {
                true => Answer { status: 200, media: OPENMETRICS, body: text },
                false => Answer { status: 200, media: CLASSIC, body: metrics::classic(&text) },
            }
        }
        "/healthz" => well(health.problems()),
        "/readyz" => well([health.problems(), health.awaited()].concat()),
        _ => Answer::line(404, "there are /metrics, /healthz and /readyz"),
    }
}

/// Counts the records that are written while the agent runs. Those from before are read, too, since
/// they may wait for somebody to handle them.
struct Counting {
    records: Records,
    unhandled: Unhandled,
    /// Number of the last record from before.
    before: u64,
    is_counting: bool,
    /// Damaged lines so far.
    damaged: u64,
}

/// How many records are read before they are told, and between two beats.
const BATCH: usize = 64;

impl Counting {
    fn new(ledger: Ledger) -> Self {
        let end = ledger.follow().ok().and_then(|followed| followed.last());
        Self {
            records: Records::from_beginning(ledger),
            unhandled: Unhandled::default(),
            before: end.map_or(0, |head| head.seq),
            is_counting: false,
            damaged: 0,
        }
    }

    /// Reads all that is there by now.
    fn go_on(&mut self, metrics: &Metrics, beat: &dyn Fn()) -> Result<(), LedgerError> {
        loop {
            let mut events = Vec::new();
            let read = self.read(&mut events);
            let is_all = !matches!(read, Ok(BATCH));
            let is_news = !matches!(read, Ok(0)) || !self.is_counting;
            if is_news && is_all {
                self.unhandled.forget_before(self.records.ledger().first_kept().unwrap_or(0));
            }
            if is_news || self.records.damaged() > self.damaged {
                let count = |action| self.unhandled.count(action);
                let ledger = metrics::Ledger {
                    missed: self.records.missed(),
                    damaged: self.records.damaged(),
                    unhandled: (count(Action::Alarm), count(Action::Block)),
                };
                metrics.count(&events, ledger);
                self.damaged = ledger.damaged;
            }
            read?;
            if is_all {
                self.is_counting = true;
                return Ok(());
            }
            beat();
        }
    }

    /// Reads some of what is there, and takes out what is to be counted: how many there were.
    fn read(&mut self, events: &mut Vec<Event>) -> Result<usize, LedgerError> {
        for read in 0..BATCH {
            let Some(entry) = self.records.next_record()? else { return Ok(read) };
            if let Some(head) = entry.head {
                self.is_counting |= head.seq > self.before;
                self.unhandled.take(head.seq, &entry.event);
            }
            if self.is_counting {
                events.push(entry.event);
            }
        }
        Ok(BATCH)
    }
}

/// A look at the node's files.
fn look(settings: &Settings, file: &Path, feeds: &mut KnownFeeds) -> Stand {
    let status = node_state_again(settings, feeds);
    let paths = settings.paths();
    let (databases, is_old) = match Database::open(&paths.advisories()) {
        Ok(Some(database)) => {
            let databases = advisories(database.manifest());
            let are_current = are_current(&databases);
            (databases, !are_current)
        }
        // A node may live by the reports of other scanners.
        Ok(None) => (Vec::new(), false),
        Err(_) => (Vec::new(), true),
    };
    let mut degraded = Vec::new();
    let mut say = |is_so: bool, reason| {
        if is_so {
            degraded.push(reason);
        }
    };
    say(status.has(ProblemKind::Journal), Degraded::Journal);
    say(status.has(ProblemKind::Ledger) || is_full(paths.events()), Degraded::Ledger);
    say(status.has(ProblemKind::Store), Degraded::Store);
    say(status.policy_set.is_none(), Degraded::PolicySet);
    say(is_old, Degraded::Database);
    say(status.has(ProblemKind::Feed), Degraded::Feed);
    say(DoorSettings::at(file).problem.is_some(), Degraded::Settings);
    say(updates::are_failing(settings), Degraded::Updates);
    Stand { status, databases, degraded }
}

fn advisories(manifest: &Manifest) -> Vec<Advisories> {
    let of = |(ecosystem, contents): (&String, &Contents)| Advisories {
        ecosystem: ecosystem.clone(),
        date: contents.modified.map_or(contents.read, |modified| modified.min(contents.read)),
        read: contents.read,
    };
    manifest.ecosystems.iter().map(of).collect()
}

/// Whether all were read lately, and there is something new in them: of a small ecosystem there may
/// be nothing new for weeks, of all together there is every day.
fn are_current(databases: &[Advisories]) -> bool {
    let now = Timestamp::now().as_second();
    let is_young = |date: Timestamp| now - date.as_second() <= MAX_AGE_SECONDS;
    databases.iter().all(|a| is_young(a.read)) && databases.iter().any(|a| is_young(a.date))
}

/// Whether nothing more can be written there soon: by a file system that is read-only or full.
fn is_full(mut folder: PathBuf) -> bool {
    // Before the first record there is no folder.
    while !folder.exists() && folder.pop() {}
    let Ok(found) = rustix::fs::statvfs(&folder) else { return true };
    found.f_flag.contains(StatVfsMountFlags::RDONLY)
        || found.f_bavail.saturating_mul(found.f_frsize) < TOO_LITTLE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(path: &str, health: &Health) -> (u16, String) {
        let answer = answer(Asked { path, accept: "" }, &String::new, health);
        (answer.status, answer.body)
    }

    #[test]
    fn a_thread_that_has_ended_is_neither_well_nor_ready() {
        let health = Health::default();
        let pulse = health.thread("scans", None);
        health.awaits(LEDGER, "it is being read");
        assert_eq!(status("/healthz", &health), (200, "ok\n".to_owned()));
        assert_eq!(status("/readyz", &health), (503, "the ledger: it is being read\n".to_owned()));
        health.has(LEDGER);
        assert_eq!(status("/readyz", &health), (200, "ok\n".to_owned()));
        drop(pulse);
        let ended = (503, "the thread scans has ended\n".to_owned());
        assert_eq!(status("/healthz", &health), ended);
        assert_eq!(status("/readyz", &health), ended);
        assert_eq!(status("/metrics", &health).0, 200);
        assert_eq!(status("/", &health).0, 404);
    }

    #[test]
    fn settings_that_can_be_used_no_more_and_a_disk_that_is_read_only_are_seen() {
        let root = tempfile::tempdir().unwrap();
        let settings = Settings::default().below(root.path());
        let file = root.path().join("portcullis.toml");
        let degraded = || look(&settings, &file, &mut KnownFeeds::default()).degraded;
        assert!(!degraded().contains(&Degraded::Settings));
        std::fs::write(&file, "defaultAction = \"shrug\"\n").unwrap();
        assert!(degraded().contains(&Degraded::Settings));
        assert!(!degraded().contains(&Degraded::Ledger));
        assert!(!is_full(root.path().join("not/there/yet")));
        assert!(is_full("/proc/self/ns".into()), "nothing can be written there");
    }

    #[test]
    fn advisories_are_old_if_one_was_not_read_or_nothing_is_new() {
        let now = Timestamp::now();
        let ago = |days: i64| Timestamp::from_second(now.as_second() - days * 86_400).unwrap();
        let of = |ecosystem: &str, date: i64, read: i64| Advisories {
            ecosystem: ecosystem.to_owned(),
            date: ago(date),
            read: ago(read),
        };
        for (databases, wanted) in [
            (vec![of("Debian", 1, 1)], true),
            (vec![of("Debian", 1, 1), of("Alpine", 30, 1)], true),
            (vec![of("Debian", 1, 1), of("Alpine", 30, 8)], false),
            (vec![of("Debian", 8, 1), of("Alpine", 30, 1)], false),
            (vec![], false),
        ] {
            assert_eq!(are_current(&databases), wanted, "{databases:?}");
        }
    }
}
