//! A scan: finds the image at its engine, reads it in a process of its own, judges it by what the
//! node knows, and puts the report into the verdict store.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use portcullis_inventory::protocol::Limits;
use portcullis_inventory::{Image, Wishes};
use portcullis_scan::{Chosen, Kept, Node, Progress, ScanError, Scanner, WorkerError};
use portcullis_settings::Settings;
use portcullis_store::{Detail, FileStore, VerdictStore};
use portcullis_types::{Binding, Digest, Timestamp, Verdict, with_causes};

use crate::queue::{Queue, Scan};
use crate::shared::Shared;

/// How long an engine may take to say where an image is.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for an image in the background: it is asked for by what the engine finds at once.
const BACKGROUND_PATIENCE: Duration = Duration::from_secs(4);

/// How much less the background gets of a processor that others want, too.
const NICE: i32 = 10;

/// How images are scanned on this node.
pub struct Scans {
    settings: Settings,
    program: PathBuf,
    /// What the node knows, read again when it has changed.
    node: Mutex<Option<Arc<Node>>>,
    /// What other nodes have said of images, and what is said to them.
    shared: Shared,
    is_ending: AtomicBool,
}

/// Why an image is known in the end.
enum Known {
    /// It was scanned.
    Scanned,
    /// It was scanned before, or another node has said what there is to say.
    Otherwise,
}

impl Scans {
    /// By these settings, with the scanner's program.
    pub fn new(settings: Settings, program: PathBuf) -> Self {
        let (shared, node) = (Shared::new(&settings), Mutex::default());
        Self { settings, program, node, shared, is_ending: AtomicBool::new(false) }
    }

    /// Scans what the queue has, until its end.
    pub fn work(&self, queue: &Queue) {
        while let Some(scan) = queue.next() {
            let begun = Instant::now();
            let outcome = match scan.is_background() {
                false => self.outcome(&scan),
                // A thread of its own, since only root may take back what is given here, and the
                // scanner's process has it from the thread.
                true => std::thread::scope(|scope| {
                    let spawned = std::thread::Builder::new()
                        .name("background".to_owned())
                        .spawn_scoped(scope, || {
                            be_nice();
                            self.outcome(&scan)
                        });
                    match spawned.map(|thread| thread.join()) {
                        Ok(Ok(outcome)) => outcome,
                        Ok(Err(_)) => Some(Err("a bug in portcullis: it panicked".to_owned())),
                        Err(error) => Some(Err(format!("cannot start a thread: {error}"))),
                    }
                }),
            };
            let Some(outcome) = outcome else {
                queue.put_back(&scan);
                continue;
            };
            let took = begun.elapsed();
            let seconds = took.as_secs_f32();
            match &outcome {
                Ok(Known::Scanned) => log::info!("{} is scanned, in {seconds:.1} s", scan.image),
                Ok(Known::Otherwise) => {}
                Err(why) => {
                    log::warn!("{} is not scanned, after {seconds:.1} s: {why}", scan.image)
                }
            }
            queue.done(&scan, outcome.map(drop), took);
        }
    }

    /// Ends the scan that goes on.
    pub fn end(&self) {
        self.is_ending.store(true, Ordering::SeqCst);
    }

    /// What came of it; `None` if it gave way.
    fn outcome(&self, scan: &Scan) -> Option<Result<Known, String>> {
        // A bug in a scan must not take the agent along: the next image is another one.
        let scanned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.scan(scan)));
        Some(match scanned {
            Ok(Ok(known)) => Ok(known),
            Ok(Err(error)) => match error.downcast_ref() {
                Some(ScanError::Worker(WorkerError::Stopped)) if !self.is_ending() => return None,
                _ => Err(with_causes(error.as_ref())),
            },
            Err(_) => Err("a bug in portcullis: the scan panicked".to_owned()),
        })
    }

    /// Whether nothing more is to be begun.
    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::SeqCst)
    }

    /// The settings.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    fn scan(&self, scan: &Scan) -> Result<Known> {
        let paths = self.settings.paths();
        let store = FileStore::open(paths.verdicts());
        // Whoever asked had looked before the last scan of it ended. A store that cannot be read
        // says so when it is to be written.
        let known = store.by_config(&scan.image, Detail::Decision).unwrap_or_default();
        let is_known =
            known.is_some_and(|verdict| verdict.reports.iter().any(|r| r.says_something()));
        if is_known && !scan.is_again {
            return Ok(Known::Otherwise);
        }
        let scanner = Scanner {
            program: self.program.clone(),
            kept: Some(Kept::new(paths.inventories())),
            rules: portcullis_scan::rules(&paths)?,
            clamd: portcullis_scan::clamd(),
            limits: Limits { seconds: self.settings.agent.scan_seconds, ..Limits::default() },
        };
        let image = scan.asked.as_ref().unwrap_or(&scan.image).to_string();
        let platform = portcullis_scan::own_platform();
        let patience = if scan.is_background() { BACKGROUND_PATIENCE } else { PATIENCE };
        let until = Instant::now() + patience;
        let chosen = Chosen {
            source: portcullis_scan::find(&scan.place, &image, &platform, until)?,
            image: None,
            platform,
            config: Some(scan.image.clone()),
        };
        let engines = !scanner.rules.is_empty() || scanner.clamd.is_some();
        let node = || self.node();
        if self.shared.stands_in(&store, &scan.image, &chosen.source, engines, &node) {
            return Ok(Known::Otherwise);
        }
        let mut stopping = Stopping { is_ending: &self.is_ending, scan };
        let scanned = scanner.scan(chosen, Wishes::LeftOut, &mut stopping)?;
        let facts = scanned.image.facts().context("the image has no configuration")?;
        // By what is known now, and once more if that was outdone meanwhile: an update judges anew
        // what is kept, and may have come before this image was.
        loop {
            let node = self.node().context("what this node knows cannot be used")?;
            let report = node.report(&scanned, Wishes::LeftOut, Timestamp::now())?;
            store.absorb(&facts, report)?;
            if node.is_current(&paths) {
                self.shared.push(&facts.config);
                return Ok(Known::Scanned);
            }
        }
    }

    /// What the node knows, and whether it searches files for malware; `None` if it cannot be used.
    pub(crate) fn knows(&self) -> Option<(Arc<Node>, bool)> {
        let rules = portcullis_scan::rules(&self.settings.paths()).ok()?;
        Some((self.node().ok()?, !rules.is_empty() || portcullis_scan::clamd().is_some()))
    }

    /// Whether what other nodes have said of an image stands in for a scan no more, by what this one
    /// knows. Where that cannot be used a scan would fail for the same reason.
    pub(crate) fn is_outdone(&self, verdict: &Verdict, knows: &Option<(Arc<Node>, bool)>) -> bool {
        knows.as_ref().is_some_and(|(node, engines)| {
            !self.shared.is_enough(&verdict.reports, Binding::BySignature, node, *engines)
        })
    }

    /// Whether verdicts are pushed at all.
    pub(crate) fn pushes(&self) -> bool {
        self.shared.pushes()
    }

    /// Pushes what the store knows of an image that was judged anew, if the settings say so.
    pub(crate) fn push(&self, image: &Digest) {
        self.shared.push(image);
    }

    /// How many verdicts wait to be pushed.
    pub(crate) fn pushes_waiting(&self) -> usize {
        self.shared.waiting()
    }

    /// What the node knows now.
    ///
    /// # Errors
    /// Something of it cannot be used.
    pub(crate) fn node(&self) -> Result<Arc<Node>> {
        let mut known = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        let paths = self.settings.paths();
        match known.as_ref().filter(|node| node.is_current(&paths)) {
            Some(node) => Ok(node.clone()),
            None => {
                // What was known goes first: a feed alone has tens of megabytes.
                *known = None;
                Ok(known.insert(Arc::new(Node::read(&paths)?)).clone())
            }
        }
    }
}

/// Nobody watches a scan of the agent, but it may have to stop.
struct Stopping<'s> {
    is_ending: &'s AtomicBool,
    scan: &'s Scan,
}

/// Gives the processor to others first; for this thread, and the processes that it starts.
pub(crate) fn be_nice() {
    if let Err(error) = rustix::process::nice(NICE) {
        log::info!("the background has the usual priority: {error}");
    }
}

impl Progress for Stopping<'_> {
    fn found(&mut self, _: &Image, _: usize, _: usize) {}

    fn read(&mut self, _: usize, _: u64) {}

    fn done(&mut self) {}

    fn is_stopped(&self) -> bool {
        self.is_ending.load(Ordering::SeqCst) || self.scan.gives_way()
    }
}
