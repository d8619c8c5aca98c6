//! The agent's socket: who may ask, how long a question and an answer may take.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use portcullis_gate::agent::{AgentAnswer, AgentAsk, AgentStatus, read_line};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, flock};

use crate::queue::{Counts, NotTaken, Queue};

/// Most who may be connected at once: each has a thread.
const MAX_CONNECTED: usize = 128;

/// How long a question may take to come, and an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest that anybody waits for a scan; a door waits a second or two.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// Another agent has it.
    #[error("another agent of this node listens at {0}")]
    Taken(PathBuf),
    /// It cannot be made.
    #[error("cannot listen at {0}")]
    Listen(PathBuf, #[source] io::Error),
}

/// The socket of an agent; gone when it is dropped.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    listener: UnixListener,
    /// Held as long as this lives, so that there is one agent only.
    _lock: File,
}

impl Socket {
    /// Listens, in a folder that only root may enter.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn listen(path: &Path) -> Result<Self, SocketError> {
        let failed = |error| SocketError::Listen(path.to_owned(), error);
        let folder = path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.with_extension("lock"))
            .map_err(failed)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(SocketError::Taken(path.to_owned()));
        }
        // One that an agent left behind which was killed.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self { path: path.to_owned(), listener, _lock: lock })
    }

    /// Answers whoever asks, until `ending` can be read.
    ///
    /// # Errors
    /// The socket does not work any more.
    pub fn serve(&self, queue: &Arc<Queue>, ending: &UnixStream) -> io::Result<()> {
        let connected = Arc::new(AtomicUsize::new(0));
        loop {
            let mut both = [
                PollFd::new(&self.listener, PollFlags::IN),
                PollFd::from_borrowed_fd(ending.as_fd(), PollFlags::IN),
            ];
            match poll(&mut both, None) {
                Err(rustix::io::Errno::INTR) => continue,
                result => result?,
            };
            if !both[1].revents().is_empty() {
                return Ok(());
            }
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                // Gone again, or no descriptor is left for now.
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        log::warn!("a connection was not accepted: {error}");
                        std::thread::sleep(Duration::from_millis(50));
                    }
                    continue;
                }
            };
            let guard = Connected::count(&connected);
            if guard.is_too_many() {
                let _gone = say(&stream, &AgentAnswer::Busy);
                continue;
            }
            let queue = queue.clone();
            let thread = std::thread::Builder::new().name("asked".to_owned());
            let spawned = thread.spawn(move || {
                let _guard = guard;
                if let Err(error) = answer(&stream, &queue) {
                    log::info!("whoever asked is not answered: {error}");
                }
            });
            if let Err(error) = spawned {
                log::warn!("no thread for whoever asks: {error}");
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _already_gone = fs::remove_file(&self.path);
    }
}

/// One who is connected.
struct Connected(Arc<AtomicUsize>);

impl Connected {
    fn count(all: &Arc<AtomicUsize>) -> Self {
        all.fetch_add(1, Ordering::SeqCst);
        Self(all.clone())
    }

    fn is_too_many(&self) -> bool {
        self.0.load(Ordering::SeqCst) > MAX_CONNECTED
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn answer(stream: &UnixStream, queue: &Queue) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    let peer = rustix::net::sockopt::socket_peercred(stream)?;
    if !peer.uid.is_root() && peer.uid != rustix::process::geteuid() {
        log::warn!("refused: user {} asked (pid {})", peer.uid, peer.pid);
        let why = "only root may ask".to_owned();
        return say(stream, &AgentAnswer::Refused { why });
    }
    let line = read_line(stream, Instant::now() + PATIENCE)?;
    let answer = match serde_json::from_slice(&line) {
        Ok(ask) => answer_to(ask, queue),
        Err(error) => {
            AgentAnswer::Refused { why: format!("the question is not understood: {error}") }
        }
    };
    say(stream, &answer)
}

fn answer_to(ask: AgentAsk, queue: &Queue) -> AgentAnswer {
    match ask {
        AgentAsk::Scan { image, place, wait_millis } => {
            let until = Instant::now() + Duration::from_millis(wait_millis).min(MAX_WAIT);
            match queue.want(image, place) {
                Err(NotTaken::Full) => AgentAnswer::Busy,
                Err(NotTaken::Ending) => AgentAnswer::Refused { why: "it is ending".to_owned() },
                Ok(scan) => match scan.wait(until) {
                    None => AgentAnswer::Pending,
                    Some(Ok(())) => AgentAnswer::Scanned,
                    Some(Err(why)) => AgentAnswer::Failed { why },
                },
            }
        }
        AgentAsk::Status {} => {
            let Counts { scanning, waiting, scanned, failed, images, unscanned, runs, .. } =
                queue.counts();
            AgentAnswer::Status(AgentStatus {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                scanning,
                waiting,
                scanned,
                failed,
                images,
                unscanned,
                violations: runs.violating,
            })
        }
    }
}

fn say(stream: &UnixStream, answer: &AgentAnswer) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    (&mut &*stream).write_all(&line)
}
