//! What a container can leave behind on a node, compared before and after a test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::engine::RunningEngine;
use crate::node::inner_pid;

/// How long a node may take to settle.
const PATIENCE: Duration = Duration::from_secs(8);

/// All that could be a leak, each as a line that names it.
#[derive(Debug, Default)]
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// What a node holds now.
    ///
    /// # Errors
    /// When the engine does not answer or the node is gone.
    pub fn of(engine: &RunningEngine) -> Result<Self> {
        let mut snapshot = Self::default();
        snapshot.processes(engine)?;
        snapshot.mounts(engine)?;
        snapshot.cgroups(engine)?;
        snapshot.files(engine);
        snapshot.records(engine)?;
        Ok(snapshot)
    }

    /// Fails if the node does not come back to this within some seconds, and names what is left.
    ///
    /// # Errors
    /// When there is a leak, or the engine does not answer.
    pub fn expect_nothing_more(&self, engine: &RunningEngine) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = Self::of(engine)?;
            let left: Vec<_> = now.0.difference(&self.0).cloned().collect();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("left behind:\n  {}", left.join("\n  "));
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    fn add(&mut self, kind: &str, what: impl std::fmt::Display) {
        self.0.insert(format!("{kind} {what}"));
    }

    /// Every process but the node's first, containerd and journald.
    fn processes(&mut self, engine: &RunningEngine) -> Result<()> {
        let own = [
            inner_pid(engine.node().inside().init())?,
            inner_pid(engine.containerd_pid()?)?,
            inner_pid(engine.journal().pid()?)?,
        ];
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
            let (Some(command), Some(state)) = (field("Name:\t"), field("State:\t")) else {
                continue;
            };
            if !own.contains(&pid) {
                let line = line.replace('\0', " ");
                self.add("process", format!("{pid} {command}, {state}: {line}"));
            }
        }
        Ok(())
    }

    fn mounts(&mut self, engine: &RunningEngine) -> Result<()> {
        for line in engine.node().mountinfo()?.lines() {
            if let Some(place) = line.split(' ').nth(4) {
                self.add("mount", place);
            }
        }
        Ok(())
    }

    /// Cgroups of containers. The folder above them belongs to the containerd namespace, and stays.
    fn cgroups(&mut self, engine: &RunningEngine) -> Result<()> {
        for top in engine.node().cgroups()? {
            for cgroup in entries(&top).iter().flat_map(|space| entries(space)) {
                if cgroup.is_dir() {
                    self.add("cgroup", cgroup.display());
                }
            }
        }
        Ok(())
    }

    /// Sockets, bundles, runc's state, fifos, network namespaces: each an entry of a folder.
    fn files(&mut self, engine: &RunningEngine) {
        let node = engine.node();
        let run = node.outside("/run/containerd");
        let below = |folder: &Path| entries(folder);
        let two_below = |folder: &Path| -> Vec<PathBuf> {
            entries(folder).iter().flat_map(|f| entries(f)).collect()
        };
        let mut found = below(&run.join("s"));
        found.extend(below(&run.join("fifo")));
        found.extend(two_below(&run.join("runc")));
        found.extend(below(&node.outside("/run/netns")));
        for place in ["state", "root"] {
            let place = node.folder().join(place);
            found.extend(two_below(&place.join("io.containerd.runtime.v2.task")));
            for kind in ["containers", "sandboxes"] {
                found.extend(below(&place.join("io.containerd.grpc.v1.cri").join(kind)));
            }
        }
        for file in found {
            self.add("file", file.display());
        }
    }

    /// What containerd itself still knows.
    fn records(&mut self, engine: &RunningEngine) -> Result<()> {
        for namespace in ["default", "k8s.io"] {
            let list = engine.ctr(namespace).args(["containers", "list", "-q"]);
            for id in list.ok()?.text().lines() {
                self.add("container", format!("{namespace}/{id}"));
            }
        }
        Ok(())
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
