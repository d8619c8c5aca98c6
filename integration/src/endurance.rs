//! Many containers, one after another and some at once, and what an engine holds before and after.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::image::BuiltImage;
use crate::leak::{Snapshot, Watched};
use crate::starter::{Start, Starter};

/// How many live at once.
const AT_ONCE: usize = 4;

/// One container: started, executed in, removed.
///
/// # Errors
/// When one of these fails.
pub fn live(starter: &dyn Starter, image: &BuiltImage, id: &str) -> Result<()> {
    starter.create(&Start::new(&image.name, id, &["sleep", "1000"]))?;
    let lived = starter.start(id).and_then(|told| {
        told.ok().with_context(|| format!("starting {id}"))?;
        // Its exit code says that it ran; `ctr` may lose the output of what ends at once.
        let told = starter.exec(id, &["sh", "-c", "exit 5"])?;
        ensure!(told.code == 5, "exec in {id}: {told:?}");
        Ok(())
    });
    let removed = starter.remove(id);
    lived.and(removed)
}

/// That many of them.
///
/// # Errors
/// When one of them fails.
pub fn many(starter: &dyn Starter, image: &BuiltImage, count: usize) -> Result<()> {
    let lane = |first: usize| -> Result<()> {
        for at in (first..count).step_by(AT_ONCE) {
            live(starter, image, &format!("many-{at}"))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..AT_ONCE).map(|first| scope.spawn(move || lane(first))).collect();
        lanes.into_iter().try_for_each(|lane| {
            lane.join().map_err(|_| anyhow!("a lane panicked")).and_then(|ended| ended)
        })
    })
}

/// What an engine and its node hold at one moment.
#[derive(Debug, Clone)]
pub struct Holdings {
    /// How many there are of each kind of thing that can leak.
    pub counts: BTreeMap<String, usize>,
    /// Resident memory of the engine itself, in kB; 0 for one that has no daemon.
    pub engine_kb: u64,
    /// Resident memory of all other processes of the node but the journal, in kB: shims, monitors.
    pub others_kb: u64,
    /// Resident memory of the journal, in kB.
    pub journal_kb: u64,
}

impl Holdings {
    /// Looks.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub fn of(engine: &dyn Watched) -> Result<Self> {
        let own = engine.own_processes()?;
        let journal = crate::node::inner_pid(engine.journal().pid()?)?;
        let (mut engine_kb, mut others_kb, mut journal_kb) = (0, 0, 0);
        for process in std::fs::read_dir(engine.node().outside("/proc"))?.flatten() {
            let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let resident = resident_kb(&process.path());
            match pid {
                pid if own.contains(&pid) => engine_kb += resident,
                pid if pid == journal => journal_kb += resident,
                _ => others_kb += resident,
            }
        }
        let counts = Snapshot::of(engine)?.counts();
        Ok(Self { counts, engine_kb, others_kb, journal_kb })
    }
}

/// The resident memory of a process, in kB; 0 for one that has ended.
fn resident_kb(process: &std::path::Path) -> u64 {
    let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

/// What stood before, between and after many containers.
#[derive(Debug)]
pub struct Report {
    /// The first is from before, the last from after; between them the containers are spread evenly.
    pub holdings: Vec<Holdings>,
    /// How long the containers took.
    pub took: Duration,
}

/// So many containers in so many parts, after a first part that fills caches and is not counted.
///
/// # Errors
/// When a container fails, or when something is left behind.
pub fn watch(
    starter: &dyn Starter,
    image: &BuiltImage,
    count: usize,
    parts: usize,
) -> Result<Report> {
    many(starter, image, AT_ONCE)?;
    let before = Snapshot::of(starter)?;
    let mut holdings = vec![Holdings::of(starter)?];
    let begun = Instant::now();
    for _ in 0..parts {
        many(starter, image, count / parts)?;
        holdings.push(Holdings::of(starter)?);
    }
    let took = begun.elapsed();
    before.expect_nothing_more(starter)?;
    holdings.push(Holdings::of(starter)?);
    Ok(Report { holdings, took })
}
