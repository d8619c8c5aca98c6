//! A containerd of the test's own: private folders, socket and mount namespace.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use portcullis_resolve::{ContainerdResolver, Resolved, RootfsMount, Start};
use tempfile::TempDir;

/// Where the engine is, unless `PORTCULLIS_TEST_CONTAINERD` names another folder with `containerd`
/// and `ctr`.
const FOLDER: &str = "/usr/bin";
/// containerd's namespace in which the tests work.
pub(crate) const NAMESPACE: &str = "tests";
/// What a test is asked that runs where the engine's folders are.
pub(crate) const ASKED: &str = "PORTCULLIS_TEST_ASKED";
/// The folder that has `containerd.sock`, for such a test, and takes its answer.
pub(crate) const FOLDER_OF_ENGINE: &str = "PORTCULLIS_TEST_FOLDER";

/// A running containerd; it ends with the value.
pub(crate) struct Engine {
    process: Child,
    binaries: PathBuf,
    folder: TempDir,
}

impl Engine {
    /// Starts it; a test without it proves nothing, so it fails where there is none.
    pub(crate) fn start() -> Self {
        let binaries: PathBuf = std::env::var_os("PORTCULLIS_TEST_CONTAINERD")
            .map_or_else(|| FOLDER.into(), PathBuf::from);
        let binary = binaries.join("containerd");
        assert!(
            binary.exists(),
            "this test needs containerd and root: there is no {} (Debian: apt-get install \
             containerd)",
            binary.display()
        );
        let folder = TempDir::new().unwrap();
        let path = folder.path().display();
        let settings = format!(
            "version = 2\nroot = \"{path}/root\"\nstate = \"{path}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{path}/containerd.sock\"\n\
             [debug]\naddress = \"{path}/debug.sock\"\n"
        );
        std::fs::create_dir(folder.path().join("root")).unwrap();
        std::fs::write(folder.path().join("config.toml"), settings).unwrap();
        // The snapshots' folder is a tmpfs that goes with the mount namespace, since overlay
        // file systems cannot be stacked on every file system that may be below /tmp.
        let script = "mount -t tmpfs tmpfs \"$1/root\" && exec \"$2\" -c \"$1/config.toml\"";
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new("unshare")
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(folder.path())
            .arg(binary)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("unshare (util-linux) starts");
        let mut engine = Self { process, binaries, folder };
        engine.wait();
        engine
    }

    fn wait(&mut self) {
        let until = Instant::now() + Duration::from_secs(120);
        while !self.try_ctr(&["version"]).status.success() {
            let ended = self.process.try_wait().unwrap();
            if ended.is_some() || Instant::now() > until {
                let log = std::fs::read_to_string(self.folder.path().join("log"));
                panic!("containerd does not start (it takes root):\n{}", log.unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("containerd.sock")
    }

    /// A folder for the test's files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn try_ctr(&self, arguments: &[&str]) -> Output {
        // It mounts the snapshot to look up users in it, so it goes where the snapshots are.
        Command::new("nsenter")
            .arg(format!("--mount=/proc/{}/ns/mnt", self.process.id()))
            .arg(self.binaries.join("ctr"))
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", NAMESPACE])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("nsenter (util-linux) starts")
    }

    /// Runs `ctr`, which has to succeed; returns what it printed.
    pub(crate) fn ctr(&self, arguments: &[&str]) -> String {
        let output = self.try_ctr(arguments);
        assert!(
            output.status.success(),
            "ctr {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs an ignored test of this program's where the engine's folders are; `asked` is in its
    /// environment, beside the socket. Returns what it wrote to the file `answer`.
    pub(crate) fn inside(&self, test: &str, asked: &str) -> String {
        let answer = self.folder.path().join("answer");
        let output = Command::new("nsenter")
            .arg(format!("--mount=/proc/{}/ns/mnt", self.process.id()))
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored"])
            .env(ASKED, asked)
            .env(FOLDER_OF_ENGINE, self.folder.path())
            .output()
            .expect("nsenter (util-linux) starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let told = std::fs::read_to_string(&answer).unwrap();
        std::fs::remove_file(answer).unwrap();
        told
    }

    /// The mounts that a client hands to the task of a container with this snapshot.
    pub(crate) fn mounts(&self, snapshot: &str) -> Vec<RootfsMount> {
        let lines = self.ctr(&["snapshots", "mounts", "/target", snapshot]);
        lines.lines().map(mount).collect()
    }

    /// Resolves a container as its start would, with the mounts of its own snapshot.
    pub(crate) fn resolve(&self, container_id: &str) -> Resolved {
        let rootfs = self.mounts(container_id);
        self.resolve_with(container_id, &rootfs)
    }

    /// Resolves a container whose start hands over these mounts.
    pub(crate) fn resolve_with(&self, container_id: &str, rootfs: &[RootfsMount]) -> Resolved {
        let address = format!("unix://{}", self.socket().display());
        ContainerdResolver::new(&address).resolve(&Start {
            namespace: NAMESPACE,
            container_id,
            rootfs,
            deadline: Instant::now() + Duration::from_secs(5),
        })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads `mount -t TYPE SOURCE TARGET -o OPTIONS`.
fn mount(line: &str) -> RootfsMount {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ["mount", "-t", kind, source, "/target", "-o", options] = words.as_slice() else {
        panic!("ctr snapshots mounts printed {line:?}");
    };
    RootfsMount {
        kind: (*kind).to_owned(),
        source: (*source).to_owned(),
        options: options.split(',').map(ToOwned::to_owned).collect(),
    }
}
