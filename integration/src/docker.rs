//! Docker of two generations in a node, on a containerd of its own: Debian 12's, and that of sid with
//! its images kept by itself or by containerd.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::json;

use crate::engine::{own_binaries, unpacked};
use crate::image::BuiltImage;
use crate::journal::Journal;
use crate::leak::Watched;
use crate::node::{Node, children, inner_pid};
use crate::run::{Run, Running};
use crate::starter::{Root, Settings, Start, Starter, Told, install_wrapper};
use crate::suite::Door;
use crate::{PATIENCE, wait_for};

/// A generation, and who keeps the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 20.10 on containerd 1.6, with the storage driver overlay2.
    Old,
    /// 28 on containerd 2.1, with the storage driver overlay2.
    New,
    /// 28 on containerd 2.1, which also keeps the images.
    Snapshotter,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Old, Self::New, Self::Snapshotter];

    /// Its name in the names of trials.
    pub fn name(self) -> &'static str {
        match self {
            Self::Old => "docker-20.10",
            Self::New => "docker-28",
            Self::Snapshotter => "docker-28-snapshotter",
        }
    }

    fn suite(self) -> &'static str {
        match self {
            Self::Old => "bookworm",
            Self::New | Self::Snapshotter => "sid",
        }
    }

    fn program(self, name: &str) -> PathBuf {
        unpacked(self.suite()).join(name)
    }

    /// Its version, or why it cannot be told.
    pub fn version(self) -> String {
        let version = Run::new(self.program("usr/sbin/dockerd")).arg("--version").ok();
        version.map_or_else(|error| format!("{error:#}"), |version| version.text())
    }
}

/// Where Docker keeps what lives as long as it runs.
const EXEC_ROOT: &str = "/run/docker";

const SOCKET: &str = "/run/docker.sock";

/// A Docker that runs. It ends, with its node, when this is dropped.
#[derive(Debug)]
pub struct Docker {
    kind: Kind,
    door: Door,
    daemon: Running,
    settings: Settings,
    journal: Journal,
    node: Node,
}

impl Docker {
    /// Starts it in a node of its own.
    ///
    /// # Errors
    /// When it is lacking, or does not come up.
    pub fn start(kind: Kind, door: Door) -> Result<Self> {
        let node = Node::start()?;
        let data = node.folder().join("docker");
        let mut runtimes = json!({});
        let settings = match door {
            Door::Wrapper => {
                let keys = format!(
                    "runtime = \"/usr/sbin/runc\"\ndata = \"{}\"\nsocket = \"{}\"\n",
                    data.display(),
                    containerd_socket().display(),
                );
                let (path, settings) = install_wrapper(&node, "portcullis-runc-docker", &keys)?;
                runtimes = json!({ "portcullis": { "path": path } });
                settings
            }
            _ => Settings::of_node(&node),
        };
        let mut config = json!({
            "data-root": data,
            "exec-root": EXEC_ROOT,
            "pidfile": "/run/docker.pid",
            "hosts": [format!("unix://{SOCKET}")],
            "iptables": false,
            "userland-proxy": false,
            "bridge": "none",
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "runtimes": runtimes,
        });
        if kind != Kind::Old {
            config["ip6tables"] = false.into();
            config["features"] = json!({ "containerd-snapshotter": kind == Kind::Snapshotter });
        }
        let file = node.folder().join("daemon.json");
        fs::write(&file, serde_json::to_vec_pretty(&config)?)?;
        let journal = Journal::start(&node)?;
        let daemon = start_daemon(&node, kind, &file)?;
        Ok(Self { kind, door, daemon, settings, journal, node })
    }

    /// Its client with these arguments.
    pub fn docker(&self, args: &[&str]) -> Run {
        let run = self.node.run(self.kind.program("usr/bin/docker")).args(["--host"]);
        let run = run.arg(format!("unix://{SOCKET}")).args(args);
        // What a user has configured for his own client is no part of this.
        run.env("DOCKER_CONFIG", self.node.folder().join("client"))
    }

    fn with(&self, verb: &[&str], start: &Start) -> Run {
        let mut run = self.docker(verb).args(["--network", "none", "--pull", "never"]);
        run = run.args(["--name", start.id]);
        match self.door {
            Door::Stock => {}
            Door::Portcullis => run = run.args(["--runtime", self.door.runtime()]),
            Door::Wrapper => run = run.args(["--runtime", "portcullis"]),
        }
        run = run.args(start.options);
        for (key, value) in start.notes {
            let note = format!("{key}={value}");
            run = run.args(["--label", &note]);
            if self.kind != Kind::Old {
                run = run.args(["--annotation", &note]);
            }
        }
        match start.root {
            Root::Image(name) => run.arg(name).args(start.command),
            Root::Folder(folder) => run.arg(folder).args(start.command),
        }
    }

    fn data(&self) -> PathBuf {
        self.node.folder().join("docker")
    }
}

fn containerd_socket() -> PathBuf {
    Path::new(EXEC_ROOT).join("containerd/containerd.sock")
}

fn start_daemon(node: &Node, kind: Kind, config: &Path) -> Result<Running> {
    let suite = unpacked(kind.suite());
    let path = [
        own_binaries(),
        suite.join("usr/bin"),
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
    ];
    let path: Vec<_> = path.iter().map(|p| p.display().to_string()).collect();
    let mut daemon = node
        .inside()
        .daemon(kind.program("usr/sbin/dockerd"))
        .arg("--config-file")
        .arg(config)
        .env("PATH", path.join(":"))
        .env("TMPDIR", node.folder())
        .spawn()?;
    let socket = node.outside(SOCKET);
    wait_for("Docker", PATIENCE, || {
        if let Some(status) = daemon.ended()? {
            bail!("dockerd ended with {status}: {}", daemon.errors_so_far());
        }
        let log = daemon.errors_so_far();
        let ready = log.contains("API listen on") && UnixStream::connect(&socket).is_ok();
        Ok(ready.then_some(()))
    })?;
    Ok(daemon)
}

impl Watched for Docker {
    fn node(&self) -> &Node {
        &self.node
    }

    fn journal(&self) -> &Journal {
        &self.journal
    }

    fn own_processes(&self) -> Result<Vec<u32>> {
        let daemon = self.daemon.inner()?;
        let mut own = vec![inner_pid(daemon)?];
        for containerd in children(daemon)? {
            own.push(inner_pid(containerd)?);
        }
        Ok(own)
    }

    fn places(&self) -> Vec<PathBuf> {
        let (run, data) = (Path::new(EXEC_ROOT), self.data());
        let tasks = "io.containerd.runtime.v2.task/moby";
        let mut places = vec![
            PathBuf::from("/run/containerd/s"),
            PathBuf::from("/run/containerd/fifo"),
            PathBuf::from("/run/containerd/runc/moby"),
            run.join("runtime-runc/moby"),
            run.join("runtime-portcullis/moby"),
            run.join("containerd"),
            run.join("containerd/daemon").join(tasks),
            data.join("containers"),
            data.join("containerd/daemon").join(tasks),
            data.join("containerd/daemon/io.containerd.snapshotter.v1.overlayfs/snapshots"),
            data.join("rootfs/overlayfs"),
        ];
        if self.kind != Kind::Old {
            // 20.10 removes the files of its unmounted networks only once a minute.
            places.push(run.join("netns"));
        }
        for driver in ["overlay2", "overlay2/l", "image/overlay2/layerdb/mounts"] {
            places.push(data.join(driver));
        }
        places
    }

    fn containers(&self) -> Result<Vec<String>> {
        let list = self.docker(&["ps", "--all", "--quiet", "--no-trunc"]).ok()?;
        Ok(list.text().lines().map(ToOwned::to_owned).collect())
    }
}

impl Starter for Docker {
    fn import(&self, image: &BuiltImage) -> Result<()> {
        self.docker(&["load", "--input"]).arg(&image.archive).ok().map(drop)
    }

    fn push(&self, name: &str) -> Result<()> {
        self.docker(&["push", name]).ok().map(drop)
    }

    fn forget(&self, name: &str) -> Result<()> {
        self.docker(&["image", "rm", "--force", "--no-prune", name]).ok().map(drop)
    }

    fn run(&self, start: &Start) -> Result<Told> {
        Ok(self.with(&["run", "--rm"], start).output()?.into())
    }

    fn create(&self, start: &Start) -> Result<()> {
        self.with(&["create"], start).ok().map(drop)
    }

    fn start(&self, id: &str) -> Result<Told> {
        Ok(self.docker(&["start", id]).output()?.into())
    }

    fn exec(&self, id: &str, command: &[&str]) -> Result<Told> {
        Ok(self.docker(&["exec", id]).args(command).output()?.into())
    }

    fn remove(&self, id: &str) -> Result<()> {
        self.docker(&["rm", "--force", id]).ok().map(drop)
    }

    fn tidy(&self) -> Result<()> {
        self.docker(&["image", "prune", "--force"]).ok().map(drop)
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn complaints(&self) -> String {
        crate::suite::complaints(&self.daemon.errors_so_far())
    }
}
