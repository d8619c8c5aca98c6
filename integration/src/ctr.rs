//! containerd as `ctr` drives it, as one of the engines of the table of decisions.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::engine::{Engine, RunningEngine};
use crate::image::BuiltImage;
use crate::journal::Journal;
use crate::leak::Watched;
use crate::node::Node;
use crate::run::Run;
use crate::starter::{Root, Settings, Start, Starter, Told};
use crate::suite::Door;
use crate::{PATIENCE, wait_for};

/// A containerd that runs, with `ctr` and one door.
#[derive(Debug)]
pub struct Ctr {
    engine: RunningEngine,
    door: Door,
    knows_annotations: bool,
}

impl Ctr {
    /// Starts it in a node of its own.
    ///
    /// # Errors
    /// When it is lacking, or does not come up.
    pub fn start(engine: &Engine, door: Door, sandbox_image: &BuiltImage) -> Result<Self> {
        let engine = engine.start_with(door, sandbox_image)?;
        // Debian's 1.6 has no such flag.
        let help = engine.ctr("default").args(["run", "--help"]).ok()?.text();
        let knows_annotations = help.contains("--annotation");
        Ok(Self { engine, door, knows_annotations })
    }

    fn ctr(&self, args: &[&str]) -> Run {
        self.engine.ctr("default").args(args)
    }

    fn with(&self, verb: &[&str], start: &Start) -> Run {
        let mut run = self.ctr(verb);
        run = match verb {
            ["run", ..] => run.args(self.engine.runtime_flags(self.door)),
            _ => run.args(["--runtime", self.door.runtime()]),
        };
        run = run.args(start.options);
        for (key, value) in start.notes {
            let note = format!("{key}={value}");
            run = run.args(["--label", &note]);
            if self.knows_annotations {
                run = run.args(["--annotation", &note]);
            }
        }
        let run = match start.root {
            Root::Image(name) => run.arg(name),
            Root::Folder(folder) => run.arg("--rootfs").arg(folder),
        };
        run.arg(start.id).args(start.command)
    }

    /// Whether `ctr` still lists what a refused `ctr run --rm` left: some versions do.
    fn knows(&self, id: &str) -> Result<bool> {
        let list = self.ctr(&["containers", "list", "--quiet"]).ok()?.text();
        Ok(list.lines().any(|line| line == id))
    }

    fn state(&self, id: &str) -> Result<Option<String>> {
        let list = self.ctr(&["tasks", "list"]).ok()?.text();
        let mut lines = list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let line = lines.find(|words| words.first() == Some(&id));
        Ok(line.and_then(|words| words.get(2).map(ToString::to_string)))
    }
}

impl Watched for Ctr {
    fn node(&self) -> &Node {
        self.engine.node()
    }

    fn journal(&self) -> &Journal {
        self.engine.journal()
    }

    fn own_processes(&self) -> Result<Vec<u32>> {
        self.engine.own_processes()
    }

    fn places(&self) -> Vec<PathBuf> {
        self.engine.places()
    }

    fn containers(&self) -> Result<Vec<String>> {
        self.engine.containers()
    }
}

impl Starter for Ctr {
    fn import(&self, image: &BuiltImage) -> Result<()> {
        self.engine.import("default", image)
    }

    fn push(&self, name: &str) -> Result<()> {
        self.ctr(&["images", "push", "--plain-http", name]).ok().map(drop)
    }

    fn forget(&self, name: &str) -> Result<()> {
        self.ctr(&["images", "delete", "--sync", name]).ok().map(drop)
    }

    fn run(&self, start: &Start) -> Result<Told> {
        let told = self.with(&["run", "--rm"], start).output()?;
        if self.knows(start.id)? {
            self.ctr(&["containers", "delete", start.id]).ok()?;
        }
        Ok(told.into())
    }

    fn create(&self, start: &Start) -> Result<()> {
        self.with(&["containers", "create"], start).ok().map(drop)
    }

    fn start(&self, id: &str) -> Result<Told> {
        Ok(self.ctr(&["tasks", "start", "--detach", "--null-io", id]).output()?.into())
    }

    fn exec(&self, id: &str, command: &[&str]) -> Result<Told> {
        let exec = ["tasks", "exec", "--exec-id", "e", id];
        Ok(self.ctr(&exec).args(command).output()?.into())
    }

    fn remove(&self, id: &str) -> Result<()> {
        if self.state(id)?.is_some() {
            self.ctr(&["tasks", "kill", "--signal", "KILL", id]).ok()?;
            wait_for("the end of a task", PATIENCE, || {
                Ok((self.state(id)?.as_deref() == Some("STOPPED")).then_some(()))
            })?;
            let deleted = self.ctr(&["tasks", "delete", id]).output()?;
            // Its code is that of the container, which was killed.
            if self.state(id)?.is_some() {
                bail!("the task {id} stays: {}", deleted.errors());
            }
        }
        self.ctr(&["containers", "delete", id]).ok().map(drop)
    }

    fn tidy(&self) -> Result<()> {
        Ok(())
    }

    fn settings(&self) -> &Settings {
        self.engine.settings()
    }

    fn complaints(&self) -> String {
        crate::suite::complaints(&self.engine.log())
    }
}
