//! containerd of three generations, each run in a node of its own with its own `ctr` and shim.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal};

use crate::config::{CNI, Config};
use crate::image::BuiltImage;
use crate::journal::Journal;
use crate::leak::Watched;
use crate::node::{self, Node, inner_pid};
use crate::run::{Run, Running};
use crate::starter::{Settings, WRAPPER, install_wrapper};
use crate::suite::Door;
use crate::{PATIENCE, cri, wait_for};

/// The file name of our shim, which follows from its runtime type `io.containerd.portcullis.v2`.
pub const SHIM: &str = "containerd-shim-portcullis-v2";

/// The suite of the newest generation.
const NEWEST: &str = "sid";

/// Its namespaces that are used here: of `ctr` and of Kubernetes.
const NAMESPACES: [&str; 2] = ["default", "k8s.io"];

/// A generation of containerd that this machine has, or should have.
#[derive(Debug, Clone)]
pub struct Engine {
    name: String,
    /// The folder of `containerd`, `ctr` and `containerd-shim-runc-v2`.
    bin: PathBuf,
    /// What it answered to `--version`, or why it did not.
    version: Result<Version, String>,
}

#[derive(Debug, Clone)]
struct Version {
    numbers: (u32, u32),
    text: String,
}

impl Engine {
    /// All generations under test, oldest first: the machine's own and those that `packages.sh`
    /// unpacks. One that is lacking is listed as well, and fails when it is started.
    pub fn all() -> Vec<Self> {
        vec![
            Self::at("machine", PathBuf::from("/usr/bin")),
            Self::at("trixie", unpacked("trixie").join("usr/bin")),
            Self::at(NEWEST, unpacked(NEWEST).join("usr/bin")),
        ]
    }

    fn at(origin: &str, bin: PathBuf) -> Self {
        let version = version(&bin.join("containerd")).map_err(|error| format!("{error:#}"));
        let name = match &version {
            Ok(Version { numbers, .. }) => format!("containerd-{}.{}", numbers.0, numbers.1),
            Err(_) => format!("containerd-of-{origin}"),
        };
        Self { name, bin, version }
    }

    /// Its name with the first two numbers of its version, such as `containerd-1.6`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is the newest generation, for what is shown on one only.
    pub fn is_newest(&self) -> bool {
        self.bin.starts_with(unpacked(NEWEST))
    }

    /// A program of its own, such as its `ctr` or its shim.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// Its whole version, or why it cannot be told.
    pub fn version(&self) -> &str {
        match &self.version {
            Ok(version) => &version.text,
            Err(problem) => problem,
        }
    }

    /// Starts it in a node of its own, with a journal and with `sandbox_image` for pods.
    ///
    /// # Errors
    /// When it is lacking, or does not come up.
    pub fn start(&self, sandbox_image: &BuiltImage) -> Result<RunningEngine> {
        self.start_with(Door::Portcullis, sandbox_image)
    }

    /// The same, prepared for one door: the wrapper is put into the node for its own door only.
    ///
    /// # Errors
    /// When it is lacking, or does not come up.
    pub fn start_with(&self, door: Door, sandbox_image: &BuiltImage) -> Result<RunningEngine> {
        let version = self.version.as_ref().map_err(|problem| {
            anyhow::anyhow!("{problem}: `integration/packages.sh` gets what is lacking")
        })?;
        let node = Node::start()?;
        let (wrapper, settings) = match door {
            Door::Stock | Door::Portcullis => (None, Settings::of_node(&node)),
            Door::Wrapper => {
                let socket = node.folder().join("containerd.sock");
                let keys =
                    format!("runtime = \"/usr/sbin/runc\"\nsocket = \"{}\"\n", socket.display());
                let (path, settings) = install_wrapper(&node, WRAPPER, &keys)?;
                // `ctr containers create` cannot name a runtime's path, and some clients drop it: as
                // on a real node the wrapper is also the first `runc` that containerd finds.
                std::os::unix::fs::symlink(&path, path.with_file_name("runc"))?;
                (Some(path), settings)
            }
        };
        let config = Config {
            folder: node.folder(),
            shim: &own_binaries().join(SHIM),
            wrapper: wrapper.as_deref(),
            sandbox_image: &sandbox_image.name,
            version: version.numbers,
        };
        std::fs::write(node.folder().join("config.toml"), config.text())?;
        for folder in ["cni", "tmp"] {
            std::fs::create_dir(node.folder().join(folder))?;
        }
        std::fs::write(node.folder().join("cni/pods.conflist"), CNI)?;

        let journal = Journal::start(&node)?;
        let running = RunningEngine {
            containerd: Mutex::default(),
            earlier_log: Mutex::default(),
            journal,
            node,
            engine: self.clone(),
            wrapper,
            settings,
        };
        running.start_containerd()?;
        running.import("k8s.io", sandbox_image)?;
        Ok(running)
    }
}

/// A containerd that runs. It ends, with its node, when this is dropped.
#[derive(Debug)]
pub struct RunningEngine {
    /// None while a test has it stopped.
    containerd: Mutex<Option<Running>>,
    earlier_log: Mutex<String>,
    journal: Journal,
    node: Node,
    engine: Engine,
    wrapper: Option<PathBuf>,
    settings: Settings,
}

impl RunningEngine {
    /// The node it runs in.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The journal of its node.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Its generation.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Its gRPC socket.
    pub fn socket(&self) -> PathBuf {
        self.node.folder().join("containerd.sock")
    }

    /// Its state folder, which holds the bundles.
    pub fn state(&self) -> PathBuf {
        self.node.folder().join("state")
    }

    /// A `ctr` of its own generation.
    pub fn ctr(&self, namespace: &str) -> Run {
        self.node
            .run(self.engine.program("ctr"))
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", namespace])
    }

    /// The file that its door reads its settings from.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What `ctr run` must be told to use a door.
    pub fn runtime_flags(&self, door: Door) -> Vec<String> {
        let mut flags = vec!["--runtime".to_owned(), door.runtime().to_owned()];
        if let Some(wrapper) = self.wrapper.as_ref().filter(|_| door == Door::Wrapper) {
            flags.extend(["--runc-binary".to_owned(), wrapper.display().to_string()]);
        }
        flags
    }

    /// A client of its Kubernetes interface.
    ///
    /// # Errors
    /// When it cannot be set up.
    pub fn cri(&self) -> Result<cri::Client> {
        cri::Client::new(&self.socket())
    }

    /// Puts an image into its store.
    ///
    /// # Errors
    /// When `ctr` fails.
    pub fn import(&self, namespace: &str, image: &BuiltImage) -> Result<()> {
        let ctr = self.ctr(namespace).args(["images", "import"]);
        ctr.arg(&image.archive).ok().map(drop)
    }

    /// The process id, on the machine, of containerd itself.
    ///
    /// # Errors
    /// When it does not run.
    pub fn containerd_pid(&self) -> Result<Pid> {
        let containerd = locked(&self.containerd);
        containerd.as_ref().context("containerd is stopped")?.inner()
    }

    /// All that containerd logged.
    pub fn log(&self) -> String {
        let containerd = locked(&self.containerd);
        let latest = containerd.as_ref().map(Running::errors_so_far);
        format!("{}{}", locked(&self.earlier_log), latest.unwrap_or_default())
    }

    /// Ends containerd alone, and leaves its shims.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop_containerd(&self, signal: Signal) -> Result<()> {
        node::signal(self.containerd_pid()?, signal)?;
        let containerd = locked(&self.containerd).take().context("just seen")?;
        let ended = containerd.wait()?;
        locked(&self.earlier_log).push_str(&ended.errors());
        Ok(())
    }

    /// Starts containerd on what an earlier one left.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_containerd(&self) -> Result<()> {
        ensure!(locked(&self.containerd).is_none(), "containerd runs already");
        let path = [
            self.node.folder().join("bin").display().to_string(),
            own_binaries().display().to_string(),
            self.engine.bin.display().to_string(),
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        ];
        let mut containerd = self
            .node
            .inside()
            .daemon(self.engine.program("containerd"))
            .arg("--config")
            .arg(self.node.folder().join("config.toml"))
            .env("PATH", path.join(":"))
            .env("TMPDIR", self.node.folder().join("tmp"))
            .spawn()?;
        let socket = self.socket();
        let up = wait_for("containerd", PATIENCE, || {
            if let Some(status) = containerd.ended()? {
                bail!("containerd ended with {status}");
            }
            Ok(UnixStream::connect(&socket).ok())
        });
        let log = containerd.errors_so_far();
        up.with_context(|| log)?;
        *locked(&self.containerd) = Some(containerd);
        // The Kubernetes interface answers only after it has looked at what runs.
        wait_for("containerd's CRI", PATIENCE, || Ok(self.cri()?.version().ok()))
            .with_context(|| self.log())?;
        Ok(())
    }
}

impl Watched for RunningEngine {
    fn node(&self) -> &Node {
        &self.node
    }

    fn journal(&self) -> &Journal {
        &self.journal
    }

    fn own_processes(&self) -> Result<Vec<u32>> {
        Ok(vec![inner_pid(self.containerd_pid()?)?])
    }

    fn places(&self) -> Vec<PathBuf> {
        let mut places: Vec<_> =
            ["/run/containerd/s", "/run/containerd/fifo", "/run/netns"].map(PathBuf::from).into();
        for namespace in NAMESPACES {
            places.push(Path::new("/run/containerd/runc").join(namespace));
        }
        for place in ["state", "root"] {
            let place = self.node.folder().join(place);
            let tasks = place.join("io.containerd.runtime.v2.task");
            places.extend(NAMESPACES.map(|namespace| tasks.join(namespace)));
            let cri = place.join("io.containerd.grpc.v1.cri");
            places.extend(["containers", "sandboxes"].map(|kind| cri.join(kind)));
        }
        places
    }

    fn containers(&self) -> Result<Vec<String>> {
        let mut containers = Vec::new();
        for namespace in NAMESPACES {
            let list = self.ctr(namespace).args(["containers", "list", "-q"]);
            let list = list.ok()?.text();
            containers.extend(list.lines().map(|id| format!("{namespace}/{id}")));
        }
        Ok(containers)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where our own built binaries are: beside this program's, unless `PORTCULLIS_BIN_DIR` says where.
pub fn own_binaries() -> PathBuf {
    if let Some(folder) = std::env::var_os("PORTCULLIS_BIN_DIR") {
        return PathBuf::from(folder);
    }
    // Programs stand in `<target>/<profile>/`, tests in its `deps/`.
    let program = std::env::current_exe().unwrap_or_default();
    let folder = program.parent().unwrap_or(Path::new(""));
    let folder = if folder.ends_with("deps") { folder.parent() } else { Some(folder) };
    folder.unwrap_or(Path::new("")).to_path_buf()
}

/// Where `packages.sh` has unpacked the engines of a suite.
pub(crate) fn unpacked(suite: &str) -> PathBuf {
    cache().join("engines").join(suite)
}

/// Where `packages.sh` unpacks.
pub fn cache() -> PathBuf {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    variable("PORTCULLIS_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("portcullis")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/portcullis")))
        .unwrap_or_default()
}

/// Reads a line such as `containerd github.com/containerd/containerd 1.6.20~ds1 …`.
fn version(containerd: &Path) -> Result<Version> {
    let line = Run::new(containerd).arg("--version").ok()?.text();
    let text = line.split_whitespace().nth(2).unwrap_or_default();
    let text = text.trim_start_matches('v');
    let mut numbers = text.split('.').map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        bail!("{} calls itself {line:?}", containerd.display());
    };
    Ok(Version { numbers: (major, minor), text: text.to_owned() })
}
