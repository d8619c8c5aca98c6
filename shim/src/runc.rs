//! Running the OCI runtime. Creating takes a [`Permit`]: without one this does not compile.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use portcullis_gate::Permit;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::oneshot::error::TryRecvError;

use crate::io::{ConsoleSocket, ContainerSide, Terminal};
use crate::options::{CheckpointOptions, RuntimeOptions};
use crate::reaper::{Exit, Reaper};

/// Most of a runtime's output that is read, in bytes.
const MAX_OUTPUT: u64 = 4 << 20;

/// Why the runtime did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuncError {
    #[error("cannot run {binary}")]
    Spawn { binary: PathBuf, source: io::Error },
    #[error("OCI runtime {verb} failed: {message}")]
    Failed { verb: &'static str, message: String },
    #[error("the OCI runtime's {what} cannot be read")]
    Answer { what: &'static str, source: io::Error },
    #[error("OCI runtime {verb} failed: the terminal did not arrive")]
    Terminal { verb: &'static str, source: io::Error },
}

impl RuncError {
    /// The container or the process is not there any more.
    pub(crate) fn is_gone(&self) -> bool {
        let Self::Failed { message, .. } = self else {
            return false;
        };
        let message = message.to_ascii_lowercase();
        ["process already finished", "container not running", "no such process", "does not exist"]
            .iter()
            .any(|gone| message.contains(gone))
    }
}

/// One container's runtime.
#[derive(Clone)]
pub(crate) struct Runc {
    pub(crate) options: RuntimeOptions,
    pub(crate) bundle: PathBuf,
    pub(crate) reaper: Reaper,
}

/// What a container is restored from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// The folder of CRIU's images.
    pub(crate) images: String,
    /// The folder of an earlier checkpoint which this one builds on; empty for none.
    pub(crate) parent: String,
}

/// A process that the runtime made.
pub(crate) struct Started {
    pub(crate) pid: i32,
    pub(crate) exit: tokio::sync::oneshot::Receiver<Exit>,
    pub(crate) terminal: Option<Terminal>,
}

impl Runc {
    /// `runc create`: the container exists, its init waits.
    ///
    /// # Errors
    /// [`RuncError::Failed`] with the runtime's own last words.
    pub(crate) async fn create(
        &self,
        permit: Permit,
        streams: ContainerSide,
        given_up: Option<tokio::time::Instant>,
    ) -> Result<Started, RuncError> {
        let pid_file = self.bundle.join("init.pid");
        let mut command = Invocation::new(self, "create");
        command.arg("--bundle").arg(&self.bundle).arg("--pid-file").arg(&pid_file);
        if self.options.no_pivot_root {
            command.arg("--no-pivot");
        }
        if self.options.no_new_keyring {
            command.arg("--no-new-keyring");
        }
        command.given_up = given_up;
        command.start_process(permit.container_id(), streams, &pid_file).await
    }

    /// `runc restore --detach`: the container runs on from a checkpoint.
    ///
    /// # Errors
    /// [`RuncError::Failed`] with the runtime's own last words.
    pub(crate) async fn restore(
        &self,
        permit: Permit,
        from: &Checkpoint,
        streams: ContainerSide,
    ) -> Result<Started, RuncError> {
        let pid_file = self.bundle.join("init.pid");
        let mut command = Invocation::new(self, "restore");
        command.arg("--image-path").arg(&from.images);
        command.arg("--work-path").arg(self.criu_work());
        if !from.parent.is_empty() {
            command.arg("--parent-path").arg(&from.parent);
        }
        command.arg("--detach").arg("--pid-file").arg(&pid_file);
        if self.options.no_pivot_root {
            command.arg("--no-pivot");
        }
        command.arg("-no-subreaper").arg("--bundle").arg(&self.bundle);
        command.start_process(permit.container_id(), streams, &pid_file).await
    }

    /// `runc checkpoint`: what the container is, in a folder. As in containerd's own shim the
    /// cgroups' mode stays CRIU's own.
    ///
    /// # Errors
    /// [`RuncError::Failed`] with the runtime's own last words, and where CRIU's log is.
    pub(crate) async fn checkpoint(
        &self,
        id: &str,
        images: &str,
        options: &CheckpointOptions,
    ) -> Result<(), RuncError> {
        let own_work = self.bundle.join("work/criu-work");
        let work = match options.sent.work_path.as_str() {
            "" => own_work.as_path(),
            work => Path::new(work),
        };
        let done = self.checkpoint_in(work, id, images, options).await;
        let done = done.map_err(|error| self.with_dump_log(error, work));
        if work == own_work {
            let _gone_is_well = std::fs::remove_dir_all(&own_work);
        }
        done
    }

    async fn checkpoint_in(
        &self,
        work: &Path,
        id: &str,
        images: &str,
        CheckpointOptions { sent, parent }: &CheckpointOptions,
    ) -> Result<(), RuncError> {
        let mut command = Invocation::new(self, "checkpoint");
        if !images.is_empty() {
            command.arg("--image-path").arg(images);
        }
        command.arg("--work-path").arg(work);
        if !parent.is_empty() {
            command.arg("--parent-path").arg(parent);
        }
        for (wanted, flag) in [
            (sent.open_tcp, "--tcp-established"),
            (sent.external_unix_sockets, "--ext-unix-sk"),
            (sent.terminal, "--shell-job"),
            (sent.file_locks, "--file-locks"),
        ] {
            if wanted {
                command.arg(flag);
            }
        }
        for namespace in &sent.empty_namespaces {
            command.arg("--empty-ns").arg(namespace);
        }
        if !sent.exit {
            command.arg("--leave-running");
        }
        command.run(id).await
    }

    /// Keeps CRIU's log in the bundle, and says so.
    fn with_dump_log(&self, error: RuncError, work: &Path) -> RuncError {
        let kept = self.bundle.join("criu-dump.log");
        match (error, std::fs::copy(work.join("dump.log"), &kept)) {
            (RuncError::Failed { verb, message }, Ok(_)) => {
                let message = format!("{message} (CRIU's log is {})", kept.display());
                RuncError::Failed { verb, message }
            }
            (error, _) => error,
        }
    }

    /// Where CRIU works on a restore.
    fn criu_work(&self) -> PathBuf {
        match self.options.criu_work_path.as_os_str().is_empty() {
            true => self.bundle.join("work"),
            false => self.options.criu_work_path.clone(),
        }
    }

    /// `runc exec --detach`: one more process in the container.
    ///
    /// # Errors
    /// [`RuncError::Failed`] with the runtime's own last words.
    pub(crate) async fn exec(
        &self,
        id: &str,
        exec_id: &str,
        process: &[u8],
        streams: ContainerSide,
    ) -> Result<Started, RuncError> {
        let pid_file = self.bundle.join(format!("{exec_id}.pid"));
        let spec = self.bundle.join(format!("{exec_id}.process.json"));
        std::fs::write(&spec, process)
            .map_err(|source| RuncError::Answer { what: "process file", source })?;
        let mut command = Invocation::new(self, "exec");
        command.arg("--process").arg(&spec).arg("--detach").arg("--pid-file").arg(&pid_file);
        let started = command.start_process(id, streams, &pid_file).await;
        remove(&spec);
        remove(&pid_file);
        started
    }

    /// `runc start`.
    pub(crate) async fn start(&self, id: &str) -> Result<(), RuncError> {
        Invocation::new(self, "start").run(id).await
    }

    /// `runc kill`, to all processes if `all`.
    pub(crate) async fn kill(&self, id: &str, signal: u32, all: bool) -> Result<(), RuncError> {
        let mut command = Invocation::new(self, "kill");
        if all {
            command.arg("--all");
        }
        command.arg_after_id(signal.to_string());
        command.run(id).await
    }

    /// `runc delete`; what is not there is deleted.
    pub(crate) async fn delete(&self, id: &str) -> Result<(), RuncError> {
        Invocation::new(self, "delete").run_if_there(id).await
    }

    /// `runc delete --force` of what was not made whole. Whoever gave it up may be removing its bundle:
    /// a log there could not be opened, or would keep the bundle from being removed.
    pub(crate) async fn undo(&self, id: &str) -> Result<(), RuncError> {
        let mut command = Invocation::with_log(self, "delete", None);
        command.arg("--force");
        command.run_if_there(id).await
    }

    /// `runc pause`.
    pub(crate) async fn pause(&self, id: &str) -> Result<(), RuncError> {
        Invocation::new(self, "pause").run(id).await
    }

    /// `runc resume`.
    pub(crate) async fn resume(&self, id: &str) -> Result<(), RuncError> {
        Invocation::new(self, "resume").run(id).await
    }

    /// `runc update` with the resources' JSON.
    pub(crate) async fn update(&self, id: &str, resources: &[u8]) -> Result<(), RuncError> {
        let mut command = Invocation::new(self, "update");
        command.arg("--resources").arg("-");
        command.talk(id, Some(resources)).await.map(drop)
    }

    /// The pids of all processes in the container.
    ///
    /// # Errors
    /// If the runtime's answer is not a JSON list.
    pub(crate) async fn pids(&self, id: &str) -> Result<Vec<u32>, RuncError> {
        let mut command = Invocation::new(self, "ps");
        command.arg("--format").arg("json");
        let answer = command.talk(id, None).await?;
        // runc writes `null` for no process.
        serde_json::from_slice::<Option<Vec<u32>>>(&answer)
            .map(Option::unwrap_or_default)
            .map_err(|e| RuncError::Answer { what: "list of processes", source: e.into() })
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warn!("cannot remove {}: {error}", path.display());
    }
}

/// One call of the runtime.
struct Invocation<'a> {
    runc: &'a Runc,
    verb: &'static str,
    command: Command,
    /// A file of its own; without one it logs to its stderr.
    log: Option<PathBuf>,
    after_id: Option<String>,
    /// When nobody waits for a process to be started any more.
    given_up: Option<tokio::time::Instant>,
}

impl<'a> Invocation<'a> {
    fn new(runc: &'a Runc, verb: &'static str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let log = runc.bundle.join(format!("runc-{verb}-{}-{number}.json", std::process::id()));
        Self::with_log(runc, verb, Some(log))
    }

    fn with_log(runc: &'a Runc, verb: &'static str, log: Option<PathBuf>) -> Self {
        let mut command = Command::new(&runc.options.binary);
        command.arg("--root").arg(&runc.options.root);
        if let Some(log) = &log {
            command.arg("--log").arg(log);
        }
        command.args(["--log-format", "json"]);
        if runc.options.systemd_cgroup {
            command.arg("--systemd-cgroup");
        }
        command.arg(verb);
        // The readiness socket of the engine is not the container's.
        command.env_remove("NOTIFY_SOCKET");
        Self { runc, verb, command, log, after_id: None, given_up: None }
    }

    fn arg(&mut self, arg: impl AsRef<std::ffi::OsStr>) -> &mut Self {
        self.command.arg(arg);
        self
    }

    fn arg_after_id(&mut self, arg: String) {
        self.after_id = Some(arg);
    }

    async fn run(self, id: &str) -> Result<(), RuncError> {
        self.talk(id, None).await.map(drop)
    }

    /// The same; nothing is to be done about what is not there.
    async fn run_if_there(self, id: &str) -> Result<(), RuncError> {
        match self.run(id).await {
            Err(error) if error.is_gone() => Ok(()),
            other => other,
        }
    }

    /// Starts a container process: its streams are the command's own.
    async fn start_process(
        mut self,
        id: &str,
        streams: ContainerSide,
        pid_file: &Path,
    ) -> Result<Started, RuncError> {
        let socket = streams.attach(&mut self.command);
        if let Some(socket) = &socket {
            self.command.arg("--console-socket").arg(socket.path());
        }
        self.command.arg(id);
        let window = self.runc.reaper.window();
        let (child, mut exit) = self.spawn()?;
        let done = async {
            match &socket {
                None => {
                    let exit = (&mut exit).await;
                    self.check(exit.ok(), b"").map(|()| None)
                }
                Some(socket) => self.with_terminal(&mut exit, socket).await,
            }
        };
        let terminal = match self.given_up {
            None => done.await?,
            Some(moment) => match tokio::time::timeout_at(moment, done).await {
                Ok(done) => done?,
                Err(_) => return Err(self.stop(&child, exit).await),
            },
        };
        let pid =
            read_pid(pid_file).map_err(|source| RuncError::Answer { what: "pid file", source })?;
        Ok(Started { pid, exit: window.claim(pid), terminal })
    }

    async fn with_terminal(
        &self,
        exit: &mut tokio::sync::oneshot::Receiver<Exit>,
        socket: &ConsoleSocket,
    ) -> Result<Option<Terminal>, RuncError> {
        let lost = |source| RuncError::Terminal { verb: self.verb, source };
        tokio::select! {
            biased;
            terminal = socket.receive() => {
                let terminal = terminal.map_err(lost)?;
                self.check(exit.await.ok(), b"")?;
                Ok(Some(terminal))
            }
            ended = &mut *exit => {
                self.check(ended.ok(), b"")?;
                // It ended well, so the terminal is on its way.
                let wait = std::time::Duration::from_secs(5);
                match tokio::time::timeout(wait, socket.receive()).await {
                    Ok(terminal) => terminal.map(Some).map_err(lost),
                    Err(_) => Err(lost(io::ErrorKind::TimedOut.into())),
                }
            }
        }
    }

    /// Ends a runtime that nobody waits for any more.
    async fn stop(
        &self,
        child: &std::process::Child,
        mut exit: tokio::sync::oneshot::Receiver<Exit>,
    ) -> RuncError {
        // As long as its exit has not been told it has not been reaped, and its pid is its own.
        let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let (Err(TryRecvError::Empty), Some(pid)) = (exit.try_recv(), pid) {
            let _it_may_be_ending =
                rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            let _reaped = exit.await;
        }
        let message = "it took longer than its caller waits".to_owned();
        RuncError::Failed { verb: self.verb, message }
    }

    /// Runs the command with input, and returns what it printed.
    async fn talk(mut self, id: &str, input: Option<&[u8]>) -> Result<Vec<u8>, RuncError> {
        self.command.arg(id);
        if let Some(last) = self.after_id.take() {
            self.command.arg(last);
        }
        self.command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let (mut child, exit) = self.spawn()?;
        let answer = |source| RuncError::Answer { what: "output", source };
        if let (Some(input), Some(stdin)) = (input, child.stdin.take()) {
            let mut to = pipe::Sender::from_owned_fd(stdin.into()).map_err(answer)?;
            // A runtime that does not read its input says why in its error.
            let _told_by_its_exit = to.write_all(input).await;
        }
        let out = read_all(child.stdout.take().map(Into::into));
        let err = read_all(child.stderr.take().map(Into::into));
        let (out, err) = tokio::join!(out, err);
        let (out, err) = (out.map_err(answer)?, err.map_err(answer)?);
        self.check(exit.await.ok(), &err)?;
        Ok(out)
    }

    fn spawn(
        &mut self,
    ) -> Result<(std::process::Child, tokio::sync::oneshot::Receiver<Exit>), RuncError> {
        let spawned = self.runc.reaper.spawn(&mut self.command).map_err(|source| {
            RuncError::Spawn { binary: self.runc.options.binary.clone(), source }
        })?;
        // The command holds the container's ends of the pipes: with them open no copy ever ends.
        self.command = Command::new("");
        Ok(spawned)
    }

    /// The runtime's own words if it failed: the last error of its log, else its stderr.
    fn check(&self, exit: Option<Exit>, stderr: &[u8]) -> Result<(), RuncError> {
        let status = match exit {
            Some(Exit { status: 0, .. }) => return Ok(()),
            Some(exit) => format!("exit status {}", exit.status),
            None => "its exit was lost".to_owned(),
        };
        let message = match &self.log {
            Some(log) => last_error(log),
            None => last_error_in(stderr),
        };
        let message = message
            .or_else(|| {
                let text = String::from_utf8_lossy(stderr).trim().to_owned();
                (!text.is_empty()).then_some(text)
            })
            .unwrap_or(status);
        Err(RuncError::Failed { verb: self.verb, message })
    }
}

impl Drop for Invocation<'_> {
    fn drop(&mut self) {
        if let Some(log) = &self.log {
            remove(log);
        }
    }
}

async fn read_all(fd: Option<std::os::fd::OwnedFd>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(fd) = fd {
        let from = pipe::Receiver::from_owned_fd(fd)?;
        from.take(MAX_OUTPUT).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// A line of runc's log (`--log-format json`).
#[derive(Deserialize)]
struct LogLine {
    level: String,
    msg: String,
}

/// The last error in a runtime's log file.
fn last_error(log: &Path) -> Option<String> {
    let mut text = Vec::new();
    std::fs::File::open(log).ok()?.take(MAX_OUTPUT).read_to_end(&mut text).ok()?;
    last_error_in(&text)
}

/// The last error in what a runtime logged; lines that are not JSON are passed over, so that one of
/// them cannot hide it.
fn last_error_in(text: &[u8]) -> Option<String> {
    text.split(|b| *b == b'\n')
        .filter_map(|line| serde_json::from_slice::<LogLine>(line).ok())
        .rfind(|line| line.level == "error")
        .map(|line| line.msg.trim().to_owned())
}

fn read_pid(path: &Path) -> io::Result<i32> {
    let text = std::fs::read_to_string(path)?;
    text.trim().parse().map_err(|_| {
        let shown: String = text.chars().take(20).collect();
        io::Error::new(io::ErrorKind::InvalidData, format!("\"{shown}\" is not a pid"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_found_among_other_lines() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log.json");
        std::fs::write(
            &log,
            "{\"level\":\"warning\",\"msg\":\"w\",\"time\":\"\"}\nnot json\n\
             {\"level\":\"error\",\"msg\":\"first\"}\n{\"level\":\"error\",\"msg\":\" last \"}\n{",
        )
        .unwrap();
        assert_eq!(last_error(&log).as_deref(), Some("last"));
        assert_eq!(last_error(&folder.path().join("none")), None);
    }

    #[test]
    fn what_is_gone_is_known_by_the_runtimes_words() {
        let failed = |message: &str| RuncError::Failed { verb: "kill", message: message.into() };
        assert!(failed("container not running").is_gone());
        assert!(failed("container does not exist").is_gone());
        assert!(!failed("cgroup is busy").is_gone());
    }
}
