//! A real `systemd-journald` inside a node, started without systemd.

use anyhow::{Context as _, Result};
use rustix::process::Pid;
use serde_json::Value;

use crate::node::{Inside, Node};
use crate::run::{Run, Running};
use crate::{PATIENCE, wait_for};

const JOURNALD: &str = "/usr/lib/systemd/systemd-journald";

/// The journal of a node. It ends when this is dropped.
#[derive(Debug)]
pub struct Journal {
    daemon: Running,
    inside: Inside,
}

/// A place in a journal, to read from there on; its beginning by default.
#[derive(Debug, Clone, Default)]
pub struct Mark(Option<String>);

impl Journal {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(node: &Node) -> Result<Self> {
        let mut daemon = node.inside().daemon(JOURNALD).spawn()?;
        let socket = node.outside("/run/systemd/journal/socket");
        wait_for("journald", PATIENCE, || {
            if let Some(status) = daemon.ended()? {
                let log = daemon.errors_so_far();
                anyhow::bail!("{JOURNALD} ended with {status}: {log}");
            }
            Ok(socket.exists().then_some(()))
        })?;
        let inside = node.inside();
        Ok(Self { daemon, inside })
    }

    /// Its process id on the machine.
    ///
    /// # Errors
    /// When it is gone.
    pub fn pid(&self) -> Result<Pid> {
        self.daemon.inner()
    }

    /// The present end of what `identifier` has logged.
    ///
    /// # Errors
    /// When `journalctl` fails.
    pub fn mark(&self, identifier: &str) -> Result<Mark> {
        let run = self.journalctl(identifier).args(["-n", "1"]);
        let last = entries(&run.ok()?.stdout)?.pop();
        let cursor = last.and_then(|entry| Some(entry["__CURSOR"].as_str()?.to_owned()));
        Ok(Mark(cursor))
    }

    /// What `identifier` has logged after `mark`.
    ///
    /// # Errors
    /// When `journalctl` fails.
    pub fn since(&self, identifier: &str, mark: &Mark) -> Result<Vec<Value>> {
        let mut run = self.journalctl(identifier);
        if let Mark(Some(cursor)) = mark {
            run = run.arg("--after-cursor").arg(cursor);
        }
        entries(&run.ok()?.stdout)
    }

    /// Waits for an entry of `identifier` after `mark` that `wanted` accepts.
    ///
    /// # Errors
    /// When none comes in time; the error shows those that came.
    pub fn wait_for(
        &self,
        identifier: &str,
        mark: &Mark,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut seen = Vec::new();
        wait_for("a journal entry", PATIENCE, || {
            seen = self.since(identifier, mark)?;
            Ok(seen.iter().find(|entry| wanted(entry)).cloned())
        })
        .with_context(|| format!("entries of {identifier}: {seen:#?}"))
    }

    fn journalctl(&self, identifier: &str) -> Run {
        let run = self.inside.run("journalctl");
        run.args(["--output", "json", "--no-pager", "--quiet"]).args(["--identifier", identifier])
    }
}

/// One JSON object a line.
fn entries(printed: &[u8]) -> Result<Vec<Value>> {
    serde_json::Deserializer::from_slice(printed)
        .into_iter()
        .collect::<Result<_, _>>()
        .context("journalctl printed no JSON")
}
