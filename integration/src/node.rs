//! One test node: namespaces of its own for mounts, processes, cgroups and network, so that what
//! engines do at fixed places (`/run/containerd`, `/etc/portcullis`, the journal) stays inside.
//!
//! `node.sh` sets it up and cleans up after it. The node ends with this process, even if that is
//! killed, since the first process of the node lives as long as the pipe that is its standard input.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::run::{Run, Running};
use crate::{PATIENCE, wait_for};

const SCRIPT: &str = include_str!("node.sh");

/// A running node. All that runs in it is killed when this is dropped.
#[derive(Debug)]
pub struct Node {
    keeper: Option<Running>,
    door: Inside,
    cgroup: String,
    folder: TempDir,
}

impl Node {
    /// Makes a node in which nothing runs yet.
    ///
    /// # Errors
    /// When this is not root, or the machine lacks a tool or a right that the node needs.
    pub fn start() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("portcullis-test-")
            .tempdir()
            .context("cannot make the node's folder")?;
        // A name that nothing left over from before can have.
        let cgroup = folder.path().file_name().context("a folder has a name")?;
        let cgroup = cgroup.to_string_lossy().into_owned();
        let script = folder.path().join("node.sh");
        std::fs::write(&script, SCRIPT)?;
        let mut keeper =
            Run::new("sh").arg(script).arg(folder.path()).arg(&cgroup).hold_stdin().spawn()?;
        let ready = keeper
            .wait_for_text("ready\n")
            .context("cannot set up a node: are these tests run as root?");
        // From here on a failure cleans up, too.
        let mut node =
            Self { door: Inside { init: Pid::INIT }, keeper: Some(keeper), cgroup, folder };
        ready?;
        let script = node.keeper.as_ref().context("just started")?.pid();
        // The script's only child is `unshare`, and its only child is the node's first process.
        let unshare = children(script)?.first().copied().context("no unshare runs")?;
        let init = children(unshare)?.first().copied();
        node.door.init = init.context("the node has ended at once")?;
        Ok(node)
    }

    /// The node's own folder, seen under the same path inside and outside.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `/etc/portcullis` of the node, to be written from outside.
    pub fn etc_portcullis(&self) -> PathBuf {
        self.folder().join("etc/portcullis")
    }

    /// `/var/lib/portcullis` of the node, to be written from outside.
    pub fn var_lib_portcullis(&self) -> PathBuf {
        self.folder().join("var/lib/portcullis")
    }

    /// The way into the node.
    pub fn inside(&self) -> Inside {
        self.door
    }

    /// A command that runs inside.
    pub fn run(&self, program: impl AsRef<OsStr>) -> Run {
        self.door.run(program)
    }

    /// Where a path of the node is seen from outside.
    pub fn outside(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        let relative = path.strip_prefix("/").unwrap_or(path);
        self.door.proc("root").join(relative)
    }

    /// The mount table of the node.
    ///
    /// # Errors
    /// When the node is gone.
    pub fn mountinfo(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.door.proc("mountinfo"))?)
    }

    /// The root of the node's cgroups in each hierarchy, as the machine sees it.
    ///
    /// # Errors
    /// When the machine's mounts cannot be read.
    pub fn cgroups(&self) -> Result<Vec<PathBuf>> {
        let tops = hierarchies()?.into_iter();
        Ok(tops.map(|top| top.join(&self.cgroup)).collect())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Its input ends here.
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.wait();
        }
    }
}

/// The way into a node.
#[derive(Debug, Clone, Copy)]
pub struct Inside {
    init: Pid,
}

impl Inside {
    /// The first process of the node, by its id on the machine.
    pub fn init(self) -> Pid {
        self.init
    }

    /// A command that runs inside.
    pub fn run(self, program: impl AsRef<OsStr>) -> Run {
        self.prepared(&[], program)
    }

    /// A daemon that runs inside and belongs to the node's own cgroup, as do its descendants.
    pub fn daemon(self, program: impl AsRef<OsStr>) -> Run {
        const JOIN: &str = r#"for top in $(findmnt -rn -t cgroup,cgroup2 -o TARGET)
            do echo 0 >"$top/node/cgroup.procs" || exit; done; exec "$@""#;
        self.prepared(&["sh", "-c", JOIN, "sh"], program)
    }

    fn prepared(self, preparation: &[&str], program: impl AsRef<OsStr>) -> Run {
        let init = self.init.to_string();
        let target = ["nsenter", "--target", &init];
        let namespaces = ["--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup", "--"];
        Run::behind(&[&target[..], &namespaces[..], preparation].concat(), program)
    }

    fn proc(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.init))
    }
}

/// The process ids, on this machine, of the children of `parent`.
///
/// # Errors
/// When `parent` is gone.
pub fn children(parent: Pid) -> Result<Vec<Pid>> {
    // Each thread has those that it has started.
    let mut list = String::new();
    for thread in std::fs::read_dir(format!("/proc/{parent}/task"))? {
        // One that has just ended has none.
        list += &std::fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
    }
    let pids = list.split_whitespace().map(str::parse::<i32>);
    Ok(pids.collect::<Result<Vec<_>, _>>()?.into_iter().filter_map(Pid::from_raw).collect())
}

/// Sends a signal to one process that a test started.
///
/// # Errors
/// When it is gone.
pub fn signal(pid: Pid, signal: Signal) -> Result<()> {
    Ok(rustix::process::kill_process(pid, signal)?)
}

/// Stops a process, and waits until each of its threads stands still: one that has not yet could
/// answer somebody meanwhile.
///
/// # Errors
/// When it is gone, or goes on.
pub fn stand_still(pid: Pid) -> Result<()> {
    signal(pid, Signal::STOP)?;
    wait_for("all threads stand still", PATIENCE, || {
        for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let stat = std::fs::read_to_string(thread?.path().join("stat"))?;
            // The state is behind the name, which may hold anything (proc(5)).
            let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
            if state != Some('T') {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
}

/// Lets a process of a node that stood still go on, and with it the `nsenter` that started it, which
/// stops itself when its child stops and would never see that child's end.
///
/// # Errors
/// When either is gone.
pub fn go_on(pid: Pid) -> Result<()> {
    signal(pid, Signal::CONT)?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    let parent = parent.and_then(|parent| Pid::from_raw(parent.trim().parse().ok()?));
    signal(parent.context("a process without a parent")?, Signal::CONT)
}

/// The id that a process of this machine has inside its node.
///
/// # Errors
/// When it is gone.
pub fn inner_pid(pid: Pid) -> Result<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let inner = ids.and_then(|ids| ids.split_whitespace().nth(1));
    Ok(inner.context("not a process of a node")?.parse()?)
}

/// Where this machine mounts its cgroup hierarchies.
///
/// # Errors
/// When its mounts cannot be read.
pub fn hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    Ok(mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(|words| matches!(words[..], [_, _, "cgroup" | "cgroup2", ..]))
        .map(|words| PathBuf::from(words[1]))
        .collect())
}
