//! A scan: finds the image at its engine, reads it in a process of its own, judges it by what the
//! node knows, and puts the report into the verdict store.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use portcullis_inventory::protocol::Limits;
use portcullis_inventory::{Image, Wishes};
use portcullis_scan::{Chosen, Kept, Node, Progress, Scanner};
use portcullis_settings::Settings;
use portcullis_store::{Detail, FileStore, VerdictStore};
use portcullis_types::{Timestamp, with_causes};

use crate::queue::{Outcome, Queue, Scan};
use crate::shared::Shared;

/// How long an engine may take to say where an image is.
const PATIENCE: Duration = Duration::from_secs(10);

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
            let outcome = self.outcome(&scan);
            let took = begun.elapsed();
            let seconds = took.as_secs_f32();
            match &outcome {
                Ok(()) => log::info!("{} is scanned, in {seconds:.1} s", scan.image),
                Err(why) => {
                    log::warn!("{} is not scanned, after {seconds:.1} s: {why}", scan.image)
                }
            }
            queue.done(&scan, outcome, took);
        }
    }

    /// Ends the scan that goes on.
    pub fn end(&self) {
        self.is_ending.store(true, Ordering::SeqCst);
    }

    fn outcome(&self, scan: &Scan) -> Outcome {
        // A bug in a scan must not take the agent along: the next image is another one.
        let scanned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.scan(scan)));
        match scanned {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(with_causes(error.as_ref())),
            Err(_) => Err("a bug in portcullis: the scan panicked".to_owned()),
        }
    }

    fn scan(&self, scan: &Scan) -> Result<()> {
        let paths = self.settings.paths();
        let store = FileStore::open(paths.verdicts());
        // Whoever asked had looked before the last scan of it ended. A store that cannot be read
        // says so when it is to be written.
        let known = store.by_config(&scan.image, Detail::Decision).unwrap_or_default();
        if known.is_some_and(|verdict| verdict.reports.iter().any(|r| r.says_something())) {
            return Ok(());
        }
        let scanner = Scanner {
            program: self.program.clone(),
            kept: Some(Kept::new(paths.inventories())),
            rules: portcullis_scan::rules(&paths)?,
            clamd: portcullis_scan::clamd(),
            limits: Limits { seconds: self.settings.agent.scan_seconds, ..Limits::default() },
        };
        let (image, platform) = (scan.image.to_string(), portcullis_scan::own_platform());
        let until = Instant::now() + PATIENCE;
        let chosen = Chosen {
            source: portcullis_scan::find(&scan.place, &image, &platform, until)?,
            image: None,
            platform,
            config: Some(scan.image.clone()),
        };
        let engines = !scanner.rules.is_empty() || scanner.clamd.is_some();
        let node = || self.node();
        if self.shared.stands_in(&store, &scan.image, &chosen.source, engines, &node) {
            return Ok(());
        }
        let scanned = scanner.scan(chosen, Wishes::LeftOut, &mut Stopping(&self.is_ending))?;
        let facts = scanned.image.facts().context("the image has no configuration")?;
        // By what is known now, and once more if that was outdone meanwhile: an update judges anew
        // what is kept, and may have come before this image was.
        loop {
            let node = self.node().context("what this node knows cannot be used")?;
            let report = node.report(&scanned, Wishes::LeftOut, Timestamp::now())?;
            store.absorb(&facts, report)?;
            if node.is_current(&paths) {
                self.shared.push(paths.verdicts(), &facts);
                return Ok(());
            }
        }
    }

    fn node(&self) -> Result<Arc<Node>> {
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
struct Stopping<'s>(&'s AtomicBool);

impl Progress for Stopping<'_> {
    fn found(&mut self, _: &Image, _: usize, _: usize) {}

    fn read(&mut self, _: usize, _: u64) {}

    fn done(&mut self) {}

    fn is_stopped(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
