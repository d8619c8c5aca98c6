//! The scanner's process: started, talked with, and ended whatever happens.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use portcullis_inventory::protocol::{Asked, Job, Said, receive, send};
use portcullis_inventory::{Image, Layer};
use portcullis_settings::socket::connect_at_once;
use portcullis_types::Digest;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tempfile::TempDir;

use crate::Progress;

/// How long clamd may take to answer.
const CLAMD: Duration = Duration::from_secs(120);

/// Why the scanner did not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// It is not installed.
    #[error("{0} is not there: install it beside this program")]
    Missing(PathBuf),
    /// It cannot be started.
    #[error("{0} cannot be started")]
    Start(PathBuf, #[source] io::Error),
    /// It cannot be talked with.
    #[error("the scanner cannot be talked with")]
    Talk(#[source] io::Error),
    /// It says that it cannot be done.
    #[error("{0}")]
    Failed(String),
    /// It took too long.
    #[error("the image was not read within {0} seconds")]
    Time(u64),
    /// It ended without a word.
    #[error("the scanner ended without an answer ({0}); it may use {1} MB of memory")]
    Ended(String, u64),
    /// Nobody wants it any more.
    #[error("it was stopped")]
    Stopped,
    /// It said something else than it should.
    #[error("the scanner said something that was not asked")]
    Unexpected,
}

/// A process that reads an image.
pub(crate) struct Worker {
    child: Child,
    input: UnixStream,
    output: BufReader<ChildStdout>,
    clamd: Option<PathBuf>,
    seconds: u64,
    memory: u64,
    timer: Timer,
    /// Gone when the worker is.
    _scratch: TempDir,
}

/// An image that a worker has found.
pub(crate) struct Found {
    pub(crate) image: Image,
    pub(crate) confined: Vec<String>,
    pub(crate) engines: Vec<String>,
}

impl Worker {
    pub(crate) fn start(
        program: &Path,
        mut job: Job,
        clamd: Option<&Path>,
    ) -> Result<Self, WorkerError> {
        let start = |error| WorkerError::Start(program.to_owned(), error);
        let scratch = tempfile::Builder::new().prefix("portcullis-scan-").tempdir_in("/var/tmp");
        let scratch = scratch.map_err(start)?;
        job.scratch = scratch.path().to_owned();
        let (input, theirs) = UnixStream::pair().map_err(start)?;
        let mut command = Command::new(program);
        command
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // A Ctrl-C is for who started it, which ends it.
            .process_group(0);
        let mut child = command.spawn().map_err(start)?;
        let output = child.stdout.take().ok_or_else(|| start(io::ErrorKind::BrokenPipe.into()))?;
        let timer = Timer::start(&child, Duration::from_secs(job.limits.seconds));
        let mut worker = Self {
            child,
            input,
            output: BufReader::with_capacity(1 << 20, output),
            clamd: clamd.map(Path::to_owned),
            seconds: job.limits.seconds,
            memory: job.limits.memory >> 20,
            timer,
            _scratch: scratch,
        };
        worker.tell(&job)?;
        Ok(worker)
    }

    /// The image that it has found.
    pub(crate) fn image(&mut self) -> Result<Found, WorkerError> {
        match self.hear()? {
            Said::Image { image, confined, engines } => Ok(Found { image, confined, engines }),
            _ => Err(WorkerError::Unexpected),
        }
    }

    /// Lets it read layers.
    pub(crate) fn layers<E: From<WorkerError>>(
        mut self,
        layers: BTreeSet<Digest>,
        take: &mut dyn FnMut(Option<Digest>, Layer) -> Result<(), E>,
        progress: &mut dyn Progress,
    ) -> Result<(), E> {
        let mut left = layers.clone();
        self.tell(&Asked { layers })?;
        loop {
            if progress.is_stopped() {
                return Err(WorkerError::Stopped.into());
            }
            match self.hear()? {
                Said::Progress { layer, bytes } => progress.read(layer as usize, bytes),
                Said::Layer { diff_id, layer } => {
                    if diff_id.as_ref().is_some_and(|diff_id| !left.remove(diff_id)) {
                        return Err(WorkerError::Unexpected.into());
                    }
                    take(diff_id, layer)?;
                    progress.done();
                }
                Said::Done => return Ok(()),
                _ => return Err(WorkerError::Unexpected.into()),
            }
        }
    }

    fn tell(&mut self, message: &impl serde::Serialize) -> Result<(), WorkerError> {
        // One that has ended says why.
        send(&mut self.input, message).or_else(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Ok(()),
            _ => Err(WorkerError::Talk(error)),
        })
    }

    /// What it says next. What is broken is answered with why it ended.
    fn hear(&mut self) -> Result<Said, WorkerError> {
        loop {
            match receive(&mut self.output) {
                Ok(Some(Said::Failed(why))) => return Err(WorkerError::Failed(plain(&why))),
                Ok(Some(Said::Connect)) => self.connect()?,
                Ok(Some(said)) => return Ok(said),
                Ok(None) => return Err(self.ended()),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(self.ended());
                }
                Err(error) => return Err(WorkerError::Talk(error)),
            }
        }
    }

    fn ended(&mut self) -> WorkerError {
        let status = self.child.wait();
        if self.timer.has_struck() {
            return WorkerError::Time(self.seconds);
        }
        let how = status.map_or_else(
            |error| error.to_string(),
            |status| match status.signal() {
                Some(signal) => format!("signal {signal}"),
                None => status.to_string(),
            },
        );
        WorkerError::Ended(how, self.memory)
    }

    /// Gives it a connection to clamd; a byte alone if there is none.
    fn connect(&mut self) -> Result<(), WorkerError> {
        let connected = self.clamd.as_deref().and_then(|path| connect_at_once(path).ok());
        let Some(stream) = connected else {
            return self.input.write_all(b"0").map_err(WorkerError::Talk);
        };
        for set in [UnixStream::set_read_timeout, UnixStream::set_write_timeout] {
            set(&stream, Some(CLAMD)).map_err(WorkerError::Talk)?;
        }
        let descriptors = [stream.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let byte = [io::IoSlice::new(b"1")];
        rustix::net::sendmsg(&self.input, &byte, &mut control, SendFlags::NOSIGNAL)
            .map_err(|error| WorkerError::Talk(error.into()))?;
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Nobody else's process must get the signal.
        self.timer.stop();
    }
}

/// Kills a process after a time.
struct Timer {
    stop: Option<Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    struck: Arc<AtomicBool>,
}

impl Timer {
    fn start(child: &Child, after: Duration) -> Self {
        let (stop, stopped) = channel();
        let struck = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&struck);
        let pid = rustix::process::Pid::from_child(child);
        // A descriptor, since a number may be another process' by then.
        let process = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty());
        let thread = std::thread::spawn(move || {
            if stopped.recv_timeout(after) == Err(RecvTimeoutError::Timeout) {
                flag.store(true, Ordering::SeqCst);
                if let Ok(process) = process {
                    let kill = rustix::process::Signal::KILL;
                    let _ = rustix::process::pidfd_send_signal(process, kill);
                }
            }
        });
        Self { stop: Some(stop), thread: Some(thread), struck }
    }

    fn has_struck(&self) -> bool {
        self.struck.load(Ordering::SeqCst)
    }

    fn stop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One line of what a process says that may be another's by now.
fn plain(text: &str) -> String {
    text.chars().take(2000).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
