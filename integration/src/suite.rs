//! One table of cases, run for every engine through every door, one after another.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use tempfile::TempDir;

use crate::again::{SecondTries, told};
use crate::cri::Client;
use crate::engine::{Engine, RunningEngine, SHIM, own_binaries};
use crate::image::{BuiltImage, Entry, ImageBuilder, busybox_layer};
use crate::journal::Journal;
use crate::leak::Snapshot;
use crate::node::Node;
use crate::run::Run;
use crate::starter::WRAPPER;
use crate::{PATIENCE, wait_for};

/// The way by which an engine reaches runc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The shim that each containerd ships with: no gate, and the measure for the life cycle.
    Stock,
    /// Our shim.
    Portcullis,
    /// Our wrapper, called by the shim or monitor that the engine ships with.
    Wrapper,
}

impl Door {
    /// Its name in the names of trials.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Portcullis => "portcullis",
            Self::Wrapper => "wrapper",
        }
    }

    /// The runtime type, for `ctr`.
    pub fn runtime(self) -> &'static str {
        match self {
            Self::Stock | Self::Wrapper => "io.containerd.runc.v2",
            Self::Portcullis => "io.containerd.portcullis.v2",
        }
    }

    /// The name of the handler, for Kubernetes.
    pub fn handler(self) -> &'static str {
        match self {
            Self::Stock => "runc",
            Self::Portcullis => "portcullis",
            Self::Wrapper => "wrapper",
        }
    }

    /// The file name of the shim.
    pub fn shim(self) -> &'static str {
        match self {
            Self::Stock | Self::Wrapper => "containerd-shim-runc-v2",
            Self::Portcullis => SHIM,
        }
    }

    /// Fails if it is not built.
    pub(crate) fn check(self) -> Result<()> {
        let binary = match self {
            Self::Stock => return Ok(()),
            Self::Portcullis => own_binaries().join(SHIM),
            Self::Wrapper => own_binaries().join(WRAPPER),
        };
        ensure!(
            binary.is_file(),
            "{} is not there: build the workspace first, or set PORTCULLIS_BIN_DIR",
            binary.display()
        );
        Ok(())
    }
}

/// What a machine may lack. Nothing else is a reason to skip a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Controllers in cgroup version 1.
    CgroupV1,
    /// Controllers in cgroup version 2.
    CgroupV2,
}

impl Capability {
    /// Why this machine lacks it, if it does.
    fn lack(self) -> Option<&'static str> {
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        match (self, unified) {
            (Self::CgroupV1, true) => Some("this machine has its controllers in cgroup v2"),
            (Self::CgroupV2, false) => Some("this machine has its controllers in cgroup v1"),
            _ => None,
        }
    }
}

/// One case: a function, and for what it makes sense.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name, which tells the story when it fails.
    pub name: &'static str,
    /// What it does. It leaves nothing behind.
    pub run: fn(&Ctx) -> Result<()>,
    /// Through which doors it is run.
    pub doors: &'static [Door],
    /// What the machine must have.
    pub needs: &'static [Capability],
}

impl Case {
    /// A case for all doors on all machines.
    pub const fn new(name: &'static str, run: fn(&Ctx) -> Result<()>) -> Self {
        Self { name, run, doors: &[Door::Stock, Door::Portcullis], needs: &[] }
    }

    /// The same case for these doors only.
    #[must_use]
    pub const fn only(mut self, doors: &'static [Door]) -> Self {
        self.doors = doors;
        self
    }

    /// The same case, skipped on machines that lack one of these.
    #[must_use]
    pub const fn needs(mut self, needs: &'static [Capability]) -> Self {
        self.needs = needs;
        self
    }
}

/// What a case works with.
#[derive(Debug)]
pub struct Ctx<'a> {
    engine: &'a RunningEngine,
    images: &'a Images,
    door: Door,
    case: &'static str,
}

impl Ctx<'_> {
    /// The engine under test.
    pub fn engine(&self) -> &RunningEngine {
        self.engine
    }

    /// The node it runs in.
    pub fn node(&self) -> &Node {
        self.engine.node()
    }

    /// The journal of that node.
    pub fn journal(&self) -> &Journal {
        self.engine.journal()
    }

    /// The door under test.
    pub fn door(&self) -> Door {
        self.door
    }

    /// The images that every engine has, in the namespaces of `ctr` and of Kubernetes.
    pub fn images(&self) -> &Images {
        self.images
    }

    /// Writes one more image, and puts it into the namespaces of `ctr` and of Kubernetes.
    ///
    /// # Errors
    /// When it cannot be written or imported.
    pub fn import(&self, image: ImageBuilder) -> Result<BuiltImage> {
        let image = image.build(self.images.folder.path())?;
        self.engine.import("default", &image)?;
        self.engine.import("k8s.io", &image)?;
        Ok(image)
    }

    /// An id for this case's container.
    pub fn id(&self) -> String {
        self.case.replace('_', "-")
    }

    /// A command of the node.
    pub fn in_namespace(&self, program: &str) -> Run {
        self.node().run(program)
    }

    /// The engine's `ctr`, in its default namespace.
    pub fn ctr(&self, args: &[&str]) -> Run {
        self.engine.ctr("default").args(args)
    }

    /// Our command line.
    pub fn portcullis(&self, args: &[&str]) -> Run {
        self.node().run(own_binaries().join("portcullis")).args(args)
    }

    /// What `ctr` tells of a task: its process id in the node and its state, if it has it.
    ///
    /// # Errors
    /// When `ctr` fails.
    pub fn task(&self, id: &str) -> Result<Option<(u32, String)>> {
        let list = self.ctr(&["tasks", "list"]).ok()?.text();
        let words = list.lines().map(|line| line.split_whitespace().collect());
        for words in words.collect::<Vec<Vec<_>>>() {
            if let [of, pid, state] = words[..]
                && of == id
            {
                return Ok(Some((pid.parse()?, state.to_owned())));
            }
        }
        Ok(None)
    }

    /// Waits until `ctr` tells that a task is in a state.
    ///
    /// # Errors
    /// When it never is, or `ctr` fails.
    pub fn wait_for_task(&self, id: &str, wanted: &str) -> Result<()> {
        let mut last = None;
        let seen = wait_for(wanted, PATIENCE, || {
            last = self.task(id)?;
            Ok(last.iter().any(|(_, state)| state == wanted).then_some(()))
        });
        seen.with_context(|| format!("the task {id} is {last:?}"))
    }

    /// The shim of the door under test.
    pub fn shim(&self) -> PathBuf {
        match self.door {
            Door::Stock | Door::Wrapper => self.engine.engine().program(self.door.shim()),
            Door::Portcullis => own_binaries().join(SHIM),
        }
    }

    /// The process ids, in the node, of the shims of the door under test.
    pub fn shims(&self) -> Vec<u32> {
        let processes = std::fs::read_dir(self.node().outside("/proc"));
        let processes = processes.into_iter().flatten().flatten();
        processes
            .filter(|process| {
                let program = std::fs::read_link(process.path().join("exe")).unwrap_or_default();
                program.ends_with(self.door.shim())
            })
            .filter_map(|process| process.file_name().to_str()?.parse().ok())
            .collect()
    }

    /// A client of the engine's Kubernetes interface.
    ///
    /// # Errors
    /// When it cannot be set up.
    pub fn cri(&self) -> Result<Client> {
        self.engine.cri()
    }

    /// `ctr run` through the door under test: flags, the container's id, and its command.
    pub fn run(&self, flags: &[&str], id: &str, command: &[&str]) -> Run {
        self.run_image(&self.images.busybox.name, flags, id, command)
    }

    /// The same with another image.
    pub fn run_image(&self, image: &str, flags: &[&str], id: &str, command: &[&str]) -> Run {
        let run = self.ctr(&["run"]).args(self.engine.runtime_flags(self.door));
        run.args(flags).arg(image).arg(id).args(command)
    }
}

/// The images that every engine has.
#[derive(Debug)]
pub struct Images {
    folder: TempDir,
    /// Holds busybox, in two layers, and runs a shell.
    pub busybox: BuiltImage,
    /// What runs as the sandbox of a pod.
    pub sandbox: BuiltImage,
}

impl Images {
    /// Where more of them may be written.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes them.
    ///
    /// # Errors
    /// When they cannot be written, or the machine has no busybox.
    pub fn build() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("portcullis-images-").tempdir()?;
        let busybox = ImageBuilder::new("docker.io/portcullis-test/busybox:1")
            .layer(busybox_layer()?)
            .layer([Entry::File("etc/release".into(), 0o644, b"test\n".to_vec())])
            .build(folder.path())?;
        let sandbox = ImageBuilder::new("docker.io/portcullis-test/sandbox:1")
            .layer(busybox_layer()?)
            .command(["/bin/sleep", "2147483647"])
            .build(folder.path())?;
        Ok(Self { folder, busybox, sandbox })
    }
}

/// Runs the cases as the command line asks, one at a time, and prints what was skipped and why.
#[expect(clippy::print_stdout, reason = "the main of a test talks to whoever runs it")]
pub fn main(cases: &[Case]) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The trials of one engine share it, so more threads would only wait for each other.
    arguments.test_threads = Some(1);
    let stage = Arc::new(Mutex::new(Stage::default()));
    let tries = Arc::new(SecondTries::default());
    let mut trials = Vec::new();
    let mut skipped = Vec::new();
    for engine in Engine::all() {
        if !arguments.list {
            println!("{}: {}", engine.name(), engine.version());
        }
        for door in [Door::Stock, Door::Portcullis, Door::Wrapper] {
            for &case in cases.iter().filter(|case| case.doors.contains(&door)) {
                let name = format!("{}::{}::{}", engine.name(), door.name(), case.name);
                let lack = case.needs.iter().find_map(|need| need.lack());
                let (engine, stage) = (engine.clone(), Arc::clone(&stage));
                let tries = Arc::clone(&tries);
                let trial = Trial::test(name.clone(), move || {
                    let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
                    tries.play(&name, || stage.play(&engine, door, case)).map_err(failed)
                });
                let trial = trial.with_ignored_flag(lack.is_some());
                if let Some(reason) = lack.filter(|_| !arguments.is_filtered_out(&trial)) {
                    skipped.push(format!("skipped: {}: {reason}", trial.name()));
                }
                trials.push(trial);
            }
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Ends the last engine, which the exit below would leave to the kernel.
    drop(stage);
    if arguments.list {
        return conclusion.exit_code();
    }
    for line in skipped {
        println!("{line}");
    }
    tries.conclude(&conclusion)
}

/// An error with all its causes, as a trial tells it.
pub fn failed(error: anyhow::Error) -> Failed {
    told(&error).into()
}

/// The one engine that runs at a time, kept from trial to trial.
#[derive(Default)]
struct Stage {
    images: Option<Images>,
    running: Option<(String, Door, RunningEngine)>,
}

impl Stage {
    fn play(&mut self, engine: &Engine, door: Door, case: Case) -> Result<()> {
        door.check()?;
        if self.images.is_none() {
            self.images = Some(Images::build()?);
        }
        let images = self.images.as_ref().context("just built")?;

        let fits = |(name, of, _): &(String, Door, _)| name == engine.name() && *of == door;
        let running = match self.running.take().filter(fits) {
            Some((_, _, running)) => running,
            None => started(engine, door, images)?,
        };
        let ctx = Ctx { engine: &running, images, door, case: case.name };
        let before = Snapshot::of(&running)?;
        let played = (case.run)(&ctx).and_then(|()| before.expect_nothing_more(&running));
        // An engine on which a case failed is not used again.
        played.with_context(|| format!("containerd logged: {}", complaints(&running.log())))?;
        self.running = Some((engine.name().to_owned(), door, running));
        Ok(())
    }
}

fn started(engine: &Engine, door: Door, images: &Images) -> Result<RunningEngine> {
    let running = engine.start_with(door, &images.sandbox)?;
    for namespace in ["default", "k8s.io"] {
        running.import(namespace, &images.busybox)?;
    }
    Ok(running)
}

/// The last that an engine complained about, from its log.
pub(crate) fn complaints(log: &str) -> String {
    const MOST: usize = 8;
    let lines = log.lines().filter(|line| !line.contains("level=info"));
    let lines: Vec<_> = lines.collect();
    lines[lines.len().saturating_sub(MOST)..].join("\n")
}
