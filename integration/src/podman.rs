//! Podman of Debian 12 in a node: as root with runc or crun, or as a user without rights.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::image::BuiltImage;
use crate::journal::Journal;
use crate::leak::Watched;
use crate::node::Node;
use crate::run::Run;
use crate::starter::{Root, Settings, Start, Starter, Told, install_wrapper};
use crate::suite::Door;

const PODMAN: &str = "/usr/bin/podman";

/// Who runs Podman, and on which runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Root, on runc.
    Runc,
    /// Root, on crun.
    Crun,
    /// A user of the node, on runc. Such a user can start the runtime himself, so a gate only advises.
    Rootless,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Runc, Self::Crun, Self::Rootless];

    /// Its name in the names of trials.
    pub fn name(self) -> &'static str {
        match self {
            Self::Runc => "podman-4.3-runc",
            Self::Crun => "podman-4.3-crun",
            Self::Rootless => "podman-4.3-rootless",
        }
    }

    fn runtime(self) -> &'static str {
        match self {
            Self::Runc | Self::Rootless => "/usr/sbin/runc",
            Self::Crun => "/usr/bin/crun",
        }
    }
}

/// The user of the node that runs Podman without rights.
const USER: &str = "5000";

/// A Podman that can be called. It has no daemon.
#[derive(Debug)]
pub struct Podman {
    kind: Kind,
    runtime: PathBuf,
    settings: Settings,
    journal: Journal,
    node: Node,
}

impl Podman {
    /// Its version, or why it cannot be told.
    pub fn version() -> String {
        let version = Run::new(PODMAN).arg("--version").ok();
        version.map_or_else(|error| format!("{error:#}"), |version| version.text())
    }

    /// Prepares a node for it.
    ///
    /// # Errors
    /// When it is lacking, or the node cannot be set up.
    pub fn start(kind: Kind, door: Door) -> Result<Self> {
        let node = Node::start()?;
        leave_hybrid_mode(&node)?;
        let storage = storage(&node, kind);
        let (runtime, settings) = match door {
            Door::Stock => (PathBuf::from(kind.runtime()), Settings::of_node(&node)),
            _ => {
                let keys = format!(
                    "runtime = \"{}\"\nstorage = [\"{}\"]\n",
                    kind.runtime(),
                    storage.display()
                );
                install_wrapper(&node, "portcullis-runc-podman", &keys)?
            }
        };
        configure(&node, &storage)?;
        if kind == Kind::Rootless {
            add_user(&node)?;
        }
        let journal = Journal::start(&node)?;
        let podman = Self { kind, runtime, settings, journal, node };
        // The first call of a user leaves a process that holds his namespaces.
        podman.podman(&["info"]).ok()?;
        Ok(podman)
    }

    /// Podman with these arguments.
    pub fn podman(&self, args: &[&str]) -> Run {
        let folder = self.node.folder();
        let tmp = folder.join("tmp");
        // Version 1 finds a container's cgroup only below the cgroup that the node sees as root.
        let run = match self.kind {
            Kind::Runc | Kind::Crun => self.node.inside().daemon(PODMAN),
            Kind::Rootless => self
                .node
                .inside()
                .daemon("setpriv")
                .args(["--reuid", USER, "--regid", USER, "--clear-groups", "--", PODMAN])
                .env("HOME", folder.join("home"))
                .env("XDG_RUNTIME_DIR", runtime_folder()),
        };
        run.env("TMPDIR", tmp).arg("--runtime").arg(&self.runtime).args(args)
    }

    fn with(&self, verb: &[&str], start: &Start) -> Run {
        let run = self.podman(verb).args(["--network", "none", "--log-driver", "k8s-file"]);
        let mut run = run.args(["--pull", "never", "--name", start.id]);
        run = run.args(start.options);
        for (key, value) in start.notes {
            let note = format!("{key}={value}");
            run = run.args(["--annotation", &note, "--label", &note]);
        }
        let run = match start.root {
            Root::Image(name) => run.arg(name),
            Root::Folder(folder) => run.arg("--rootfs").arg(folder),
        };
        run.args(start.command)
    }
}

/// crun refuses to run where version 2 of cgroups has a controller beside version 1. The node's
/// containers then live in version 1 alone.
fn leave_hybrid_mode(node: &Node) -> Result<()> {
    const UNIFIED: &str = "/sys/fs/cgroup/unified";
    let mounted = node.mountinfo()?.lines().any(|line| line.split(' ').nth(4) == Some(UNIFIED));
    if mounted {
        node.run("umount").arg(UNIFIED).ok()?;
    }
    Ok(())
}

fn storage(node: &Node, kind: Kind) -> PathBuf {
    match kind {
        Kind::Runc | Kind::Crun => node.folder().join("storage"),
        Kind::Rootless => node.folder().join("home/.local/share/containers/storage"),
    }
}

fn runtime_folder() -> PathBuf {
    Path::new("/run/user").join(USER)
}

/// Writes the files that Podman reads at fixed places, which are the node's own.
fn configure(node: &Node, storage: &Path) -> Result<()> {
    let etc = node.outside("/etc/containers");
    fs::create_dir_all(&etc)?;
    fs::write(
        etc.join("storage.conf"),
        format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{0}\"\nrootless_storage_path = \"{0}\"\n\
             runroot = \"/run/containers/storage\"\n",
            storage.display()
        ),
    )?;
    fs::write(
        etc.join("containers.conf"),
        "[engine]\n\
         cgroup_manager = \"cgroupfs\"\n\
         events_logger = \"file\"\n\
         runtime_supports_json = [\"runc\", \"crun\", \"portcullis-runc-podman\"]\n",
    )?;
    let tmp = node.folder().join("tmp");
    fs::create_dir_all(&tmp)?;
    node.run("chmod").arg("1777").arg(tmp).ok().map(drop)
}

/// A user with ids of his own to hand out, who can reach the node's folder.
fn add_user(node: &Node) -> Result<()> {
    let (home, run) = (node.folder().join("home"), runtime_folder());
    for (file, line) in [
        ("passwd", format!("tester:x:{USER}:{USER}::{}:/bin/sh", home.display())),
        ("group", format!("tester:x:{USER}:")),
        ("subuid", "tester:200000:65536".to_owned()),
        ("subgid", "tester:200000:65536".to_owned()),
    ] {
        let file = node.outside("/etc").join(file);
        let old = fs::read_to_string(&file).unwrap_or_default();
        fs::write(&file, format!("{old}{line}\n"))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    node.run("chmod").arg("711").arg(node.folder()).ok()?;
    let make = node.run("install").args(["-d", "-m", "700", "-o", USER, "-g", USER]);
    make.arg(home).arg(run).ok().map(drop)
}

impl Watched for Podman {
    fn node(&self) -> &Node {
        &self.node
    }

    fn journal(&self) -> &Journal {
        &self.journal
    }

    fn own_processes(&self) -> Result<Vec<u32>> {
        let pause = runtime_folder().join("libpod/tmp/pause.pid");
        match fs::read_to_string(self.node.outside(pause)) {
            Ok(pid) => Ok(vec![pid.trim().parse()?]),
            Err(_) => Ok(Vec::new()),
        }
    }

    fn places(&self) -> Vec<PathBuf> {
        let (run, runtimes) = match self.kind {
            Kind::Rootless => (runtime_folder(), runtime_folder()),
            _ => (PathBuf::from("/run"), PathBuf::from("/run")),
        };
        let runroot = run.join("containers/storage");
        let run =
            if self.kind == Kind::Rootless { run.join("libpod/tmp") } else { run.join("libpod") };
        let storage = storage(&self.node, self.kind);
        vec![
            run.join("exits"),
            run.join("persist"),
            run.join("socket"),
            runroot.join("overlay-containers"),
            runroot,
            storage.join("overlay-containers"),
            storage.join("overlay"),
            storage.join("overlay/l"),
            runtimes.join("runc"),
            runtimes.join("crun"),
        ]
    }

    fn containers(&self) -> Result<Vec<String>> {
        let list = self.podman(&["ps", "--all", "--quiet", "--external", "--no-trunc"]).ok()?;
        Ok(list.text().lines().map(ToOwned::to_owned).collect())
    }
}

impl Starter for Podman {
    fn import(&self, image: &BuiltImage) -> Result<()> {
        // A user cannot read the folder of the images, so it comes through a pipe.
        let archive = fs::read(&image.archive)?;
        self.podman(&["load"]).stdin(archive).ok().map(drop)
    }

    fn push(&self, name: &str) -> Result<()> {
        self.podman(&["push", "--tls-verify=false", name]).ok().map(drop)
    }

    fn forget(&self, name: &str) -> Result<()> {
        self.podman(&["untag", name]).ok().map(drop)
    }

    fn run(&self, start: &Start) -> Result<Told> {
        Ok(self.with(&["run", "--rm"], start).output()?.into())
    }

    fn create(&self, start: &Start) -> Result<()> {
        self.with(&["create"], start).ok().map(drop)
    }

    fn start(&self, id: &str) -> Result<Told> {
        Ok(self.podman(&["start", id]).output()?.into())
    }

    fn exec(&self, id: &str, command: &[&str]) -> Result<Told> {
        Ok(self.podman(&["exec", id]).args(command).output()?.into())
    }

    fn remove(&self, id: &str) -> Result<()> {
        self.podman(&["rm", "--force", "--time", "0", id]).ok().map(drop)
    }

    fn tidy(&self) -> Result<()> {
        self.podman(&["image", "prune", "--force"]).ok().map(drop)
    }

    fn inspector(&self, program: &Path) -> Run {
        match self.kind {
            Kind::Runc | Kind::Crun => self.node.run(program),
            // Only there are the owners of his layers what he gave them.
            Kind::Rootless => self.podman(&["unshare"]).arg(program),
        }
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn complaints(&self) -> String {
        String::new()
    }
}
