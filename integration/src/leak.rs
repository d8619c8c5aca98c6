//! What a container can leave behind on a node, compared before and after a test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::PATIENCE;
use crate::journal::Journal;
use crate::node::{Node, inner_pid};

/// What is looked at for leaks: an engine in its node.
pub trait Watched: Send + Sync {
    /// The node it runs in.
    fn node(&self) -> &Node;

    /// The journal of that node.
    fn journal(&self) -> &Journal;

    /// The process ids, in the node, of the engine itself.
    ///
    /// # Errors
    /// When it does not run.
    fn own_processes(&self) -> Result<Vec<u32>>;

    /// The folders in which each entry stands for a container or a part of one: paths of the node.
    fn places(&self) -> Vec<PathBuf>;

    /// The containers that the engine itself still knows.
    ///
    /// # Errors
    /// When it does not answer.
    fn containers(&self) -> Result<Vec<String>>;
}

/// All that could be a leak, each as a line that names it.
#[derive(Debug, Default)]
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// What a node holds now.
    ///
    /// # Errors
    /// When the engine does not answer or the node is gone.
    pub fn of(engine: &dyn Watched) -> Result<Self> {
        let mut snapshot = Self::default();
        snapshot.processes(engine)?;
        snapshot.mounts(engine)?;
        snapshot.cgroups(engine)?;
        snapshot.files(engine);
        for container in engine.containers()? {
            snapshot.add("container", container);
        }
        Ok(snapshot)
    }

    /// How many there are of each kind.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for line in &self.0 {
            let kind = line.split(' ').next().unwrap_or_default();
            *counts.entry(kind.to_owned()).or_default() += 1;
        }
        counts
    }

    /// Fails if the node does not come back to this in time, and names what is left.
    ///
    /// # Errors
    /// When there is a leak, or the engine does not answer.
    pub fn expect_nothing_more(&self, engine: &dyn Watched) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let late = Instant::now() > deadline;
            match Self::of(engine) {
                Ok(now) => {
                    let left: Vec<_> = now.0.difference(&self.0).cloned().collect();
                    if left.is_empty() {
                        return Ok(());
                    }
                    if late {
                        bail!("left behind:\n  {}", left.join("\n  "));
                    }
                }
                // A busy engine may answer the next time.
                Err(error) if late => return Err(error),
                Err(_) => {}
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    fn add(&mut self, kind: &str, what: impl std::fmt::Display) {
        self.0.insert(format!("{kind} {what}"));
    }

    /// Every process but the node's first, the engine's own and journald.
    fn processes(&mut self, engine: &dyn Watched) -> Result<()> {
        let mut own = engine.own_processes()?;
        own.push(inner_pid(engine.node().inside().init())?);
        own.push(inner_pid(engine.journal().pid()?)?);
        for process in entries(&engine.node().outside("/proc")) {
            let Some(pid) = name(&process).parse::<u32>().ok() else {
                continue;
            };
            // One that has just ended is none.
            let Ok(line) = std::fs::read_to_string(process.join("cmdline")) else {
                continue;
            };
            let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
            let field = |key| status.lines().find_map(|line| line.strip_prefix(key));
            let Some(command) = field("Name:\t") else {
                continue;
            };
            if !own.contains(&pid) {
                let line = line.replace('\0', " ");
                // Without its state: one that slept before and runs now is the same.
                self.add("process", format!("{pid} {command}: {line}"));
            }
        }
        Ok(())
    }

    fn mounts(&mut self, engine: &dyn Watched) -> Result<()> {
        for line in engine.node().mountinfo()?.lines() {
            if let Some(place) = line.split(' ').nth(4) {
                self.add("mount", place);
            }
        }
        Ok(())
    }

    /// Cgroups of containers. The folder above them belongs to the containerd namespace, and stays.
    fn cgroups(&mut self, engine: &dyn Watched) -> Result<()> {
        for top in engine.node().cgroups()? {
            for cgroup in entries(&top).iter().flat_map(|space| entries(space)) {
                if cgroup.is_dir() {
                    self.add("cgroup", cgroup.display());
                }
            }
        }
        Ok(())
    }

    /// Sockets, bundles, the runtime's state, fifos, layers: each an entry of a folder.
    fn files(&mut self, engine: &dyn Watched) {
        for place in engine.places() {
            for file in entries(&engine.node().outside(&place)) {
                self.add("file", place.join(name(&file)).display());
            }
        }
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
