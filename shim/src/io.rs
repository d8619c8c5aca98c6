//! Standard streams: pipes or a terminal on the container's side, containerd's fifos on the other.
//!
//! Output goes container -> pipe -> fifo. The fifo is opened for reading too, so that a containerd
//! that restarts never costs the container a SIGPIPE; input is held open for writing until
//! CloseIO, so that a client that comes and goes never ends it. No open here waits for a peer. A
//! plain file, or `file://`, takes the output without a copy, and so does a log driver.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Command, Stdio as ChildStdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::termios::Winsize;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixListener;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use crate::log_driver::{Driver, LogDriver, LogDriverError, Outputs, UriError, path_of};
use crate::reaper::Reaper;

/// After a process has ended, how long its last output may take to reach the fifo.
const DRAIN: Duration = Duration::from_secs(2);

/// The streams of one process, as a request names them; an empty path is no stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Streams {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) terminal: bool,
    /// The program that takes the output, if stdout names one; stderr names nothing then.
    pub(crate) driver: Option<Driver>,
}

/// Who owns the container's end of the pipes: root, or root of its user namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Why streams cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IoError {
    #[error(
        "the {stream} URI \"{uri}\" is not supported: this runtime takes fifos and, for the \
         output, file://, binary:// and binary-v2://"
    )]
    Scheme { stream: &'static str, uri: String },
    #[error("the {stream} URI \"{uri}\" is wrong")]
    Uri { stream: &'static str, uri: String, source: UriError },
    #[error(transparent)]
    Driver(#[from] LogDriverError),
    #[error("cannot open the {stream} stream {path}")]
    Open { stream: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot make a pipe for {stream}")]
    Pipe { stream: &'static str, source: io::Error },
    #[error("cannot set up the terminal")]
    Terminal(#[source] io::Error),
}

const FILE_SCHEME: &str = "file://";

impl Streams {
    /// Strips `fifo://`, finds the log driver, and refuses what is neither that, nor a path, nor a
    /// file's URI.
    ///
    /// # Errors
    /// [`IoError::Scheme`] for another scheme, [`IoError::Uri`] for a driver's that is wrong.
    pub(crate) fn checked(self) -> Result<Self, IoError> {
        let driver = match self.stdout.split_once("://") {
            Some((scheme, rest)) => Driver::of_uri(scheme, rest).map_err(|source| {
                IoError::Uri { stream: "stdout", uri: shown(&self.stdout), source }
            })?,
            None => None,
        };
        let plain = |stream, uri: String| match uri.split_once("://") {
            None => Ok(uri),
            Some(("fifo", path)) => Ok(path.to_owned()),
            Some(("file", _)) if stream != "stdin" && !self.terminal => Ok(uri),
            Some(_) if stream != "stdin" && driver.is_some() => Ok(uri),
            Some(_) => Err(IoError::Scheme { stream, uri: shown(&uri) }),
        };
        Ok(Self {
            stdin: plain("stdin", self.stdin)?,
            stdout: plain("stdout", self.stdout)?,
            stderr: plain("stderr", self.stderr)?,
            terminal: self.terminal,
            driver,
        })
    }
}

/// As much of a URI as an error holds.
fn shown(uri: &str) -> String {
    uri.chars().take(200).collect()
}

/// What the container's side needs, to be given to runc.
pub(crate) enum ContainerSide {
    /// Three file descriptors.
    Pipes { stdin: ChildStdio, stdout: ChildStdio, stderr: ChildStdio },
    /// runc sends the terminal's master to this socket.
    Terminal(ConsoleSocket),
}

/// Our side, before anything is copied.
#[derive(Default)]
pub(crate) struct Prepared {
    stdin: Option<(PathBuf, OwnedFd)>,
    outputs: Vec<(PathBuf, OwnedFd)>,
    driver: Option<LogDriver>,
    /// Where a terminal's output goes if a driver takes it.
    terminal_output: Option<OwnedFd>,
}

/// The copies of one process that run.
#[derive(Default)]
pub(crate) struct Copies {
    input: Option<JoinHandle<()>>,
    outputs: Vec<JoinHandle<()>>,
    stdin_hold: Arc<Mutex<Option<File>>>,
    terminal: Option<Terminal>,
    driver: Option<LogDriver>,
}

/// Whose streams these are, for a log driver.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whose<'a> {
    /// The container's id, or that of the process which is added.
    pub(crate) id: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) owner: Owner,
}

/// Sets up both sides, and waits until a log driver is ready.
///
/// # Errors
/// [`IoError`] names the stream and its path, or the driver; nothing is left open or running.
pub(crate) async fn prepare(
    streams: &Streams,
    whose: Whose<'_>,
    reaper: &Reaper,
) -> Result<(ContainerSide, Prepared), IoError> {
    let started = match &streams.driver {
        Some(driver) => {
            let Whose { id, namespace, owner } = whose;
            Some(LogDriver::start(driver, id, namespace, owner, reaper).await?)
        }
        None => None,
    };
    let (driver, outputs) = started.unzip();
    let (theirs, mut ours) = match (streams.terminal, outputs) {
        (true, outputs) => {
            let socket = ConsoleSocket::bind().map_err(IoError::Terminal)?;
            let terminal_output = outputs.map(|o| o.stdout);
            (ContainerSide::Terminal(socket), Prepared { terminal_output, ..Prepared::default() })
        }
        (false, outputs) => prepare_pipes(streams, whose.owner, outputs)?,
    };
    ours.driver = driver;
    Ok((theirs, ours))
}

fn prepare_pipes(
    streams: &Streams,
    owner: Owner,
    to_driver: Option<Outputs>,
) -> Result<(ContainerSide, Prepared), IoError> {
    let mut ours = Prepared::default();
    let stdin = if streams.stdin.is_empty() {
        ChildStdio::null()
    } else {
        let (theirs, mine) = pipe_pair("stdin", owner)?;
        ours.stdin = Some((streams.stdin.clone().into(), mine));
        theirs.into()
    };
    if let Some(Outputs { stdout, stderr }) = to_driver {
        let (stdout, stderr) = (stdout.into(), stderr.into());
        return Ok((ContainerSide::Pipes { stdin, stdout, stderr }, ours));
    }
    let mut output = |stream, path: &str| {
        if path.is_empty() {
            return Ok(ChildStdio::null());
        }
        if let Some(rest) = path.strip_prefix(FILE_SCHEME) {
            let uri = |source| IoError::Uri { stream, uri: shown(path), source };
            return log_file(stream, &path_of(rest).map_err(uri)?).map(Into::into);
        }
        let path = PathBuf::from(path);
        let open = |source| IoError::Open { stream, path: path.clone(), source };
        if !std::fs::metadata(&path).map_err(open)?.file_type().is_fifo() {
            // A plain file or a device needs no copying.
            let file = OpenOptions::new().append(true).custom_flags(libc::O_NOCTTY).open(&path);
            return file.map(Into::into).map_err(open);
        }
        let (mine, theirs) = pipe_pair(stream, owner)?;
        ours.outputs.push((path, mine));
        Ok(ChildStdio::from(theirs))
    };
    let stdout = output("stdout", &streams.stdout)?;
    let stderr = output("stderr", &streams.stderr)?;
    Ok((ContainerSide::Pipes { stdin, stdout, stderr }, ours))
}

/// A log file, made on demand, as containerd's own shim does (`pkg/process/io.go`).
fn log_file(stream: &'static str, path: &Path) -> Result<File, IoError> {
    let open = |source| IoError::Open { stream, path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(open)?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o644)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open(path)
        .map_err(open)
}

/// A pipe as (read end, write end), both owned by `owner`.
pub(crate) fn pipe_pair(stream: &'static str, owner: Owner) -> Result<(OwnedFd, OwnedFd), IoError> {
    let wrong = |e: rustix::io::Errno| IoError::Pipe { stream, source: e.into() };
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(wrong)?;
    if owner.uid != 0 || owner.gid != 0 {
        let uid = Some(rustix::process::Uid::from_raw(owner.uid));
        let gid = Some(rustix::process::Gid::from_raw(owner.gid));
        rustix::fs::fchown(&read, uid, gid).map_err(wrong)?;
        rustix::fs::fchown(&write, uid, gid).map_err(wrong)?;
    }
    Ok((read, write))
}

impl ContainerSide {
    /// Gives this side to a runtime command. The socket, if any, must live until it is used.
    pub(crate) fn attach(self, command: &mut Command) -> Option<ConsoleSocket> {
        match self {
            Self::Pipes { stdin, stdout, stderr } => {
                command.stdin(stdin).stdout(stdout).stderr(stderr);
                None
            }
            Self::Terminal(socket) => {
                command.stdin(ChildStdio::null());
                command.stdout(ChildStdio::null()).stderr(ChildStdio::null());
                Some(socket)
            }
        }
    }
}

impl Prepared {
    /// Starts copying between the fifos and the pipes or, if there is one, the terminal.
    ///
    /// # Errors
    /// If a fifo cannot be opened; what was started is stopped.
    pub(crate) fn start(
        self,
        streams: &Streams,
        terminal: Option<Terminal>,
    ) -> Result<Copies, IoError> {
        match terminal {
            Some(terminal) => self.start_terminal(streams, terminal),
            None => self.start_pipes(),
        }
    }

    fn start_pipes(self) -> Result<Copies, IoError> {
        let mut copies = Copies { driver: self.driver, ..Copies::default() };
        for (path, from) in self.outputs {
            let pipe = |source| IoError::Pipe { stream: "output", source };
            let from = pipe::Receiver::from_owned_fd(from).map_err(pipe)?;
            copies.outputs.push(tokio::spawn(copy(from, open_output(&path)?)));
        }
        if let Some((path, to)) = self.stdin {
            let to = pipe::Sender::from_owned_fd(to)
                .map_err(|source| IoError::Pipe { stream: "stdin", source })?;
            let (from, hold) = open_input(&path)?;
            copies.stdin_hold = Arc::new(Mutex::new(Some(hold)));
            copies.input = Some(tokio::spawn(copy(from, to)));
        }
        Ok(copies)
    }

    fn start_terminal(self, streams: &Streams, terminal: Terminal) -> Result<Copies, IoError> {
        let mut copies =
            Copies { terminal: Some(terminal.clone()), driver: self.driver, ..Copies::default() };
        let to = match self.terminal_output {
            Some(to) => Some(
                pipe::Sender::from_owned_fd(to)
                    .map_err(|source| IoError::Pipe { stream: "output", source })?,
            ),
            None if streams.stdout.is_empty() => None,
            None => Some(open_output(Path::new(&streams.stdout))?),
        };
        if let Some(to) = to {
            copies.outputs.push(tokio::spawn(copy(terminal.clone(), to)));
        }
        if !streams.stdin.is_empty() {
            let (from, hold) = open_input(Path::new(&streams.stdin))?;
            copies.stdin_hold = Arc::new(Mutex::new(Some(hold)));
            copies.input = Some(tokio::spawn(copy(from, terminal)));
        }
        Ok(copies)
    }
}

fn open_output(path: &Path) -> Result<pipe::Sender, IoError> {
    let open = |source| IoError::Open { stream: "output", path: path.to_owned(), source };
    pipe::OpenOptions::new().read_write(true).open_sender(path).map_err(open)
}

fn open_input(path: &Path) -> Result<(pipe::Receiver, File), IoError> {
    let open = |source| IoError::Open { stream: "stdin", path: path.to_owned(), source };
    let from = pipe::OpenOptions::new().open_receiver(path).map_err(open)?;
    let hold =
        OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(open)?;
    Ok((from, hold))
}

async fn copy(
    mut from: impl AsyncRead + Unpin + Send + 'static,
    mut to: impl AsyncWrite + Unpin + Send + 'static,
) {
    // A process that closes its input (EPIPE) ends a copy as normally as the stream's end does.
    if let Err(error) = tokio::io::copy(&mut from, &mut to).await {
        log::debug!("a stream ended: {error}");
    }
}

impl Copies {
    /// CloseIO: the input ends once its last writer is gone.
    pub(crate) fn close_input(&self) {
        self.stdin_hold.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Sets the terminal's size; nothing without a terminal.
    ///
    /// # Errors
    /// As `ioctl(TIOCSWINSZ)`.
    pub(crate) fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        let Some(terminal) = &self.terminal else {
            return Ok(());
        };
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(rustix::termios::tcsetwinsize(terminal.0.get_ref(), size)?)
    }

    /// The process has ended: its input goes at once.
    pub(crate) fn end_input(&mut self) {
        self.close_input();
        if let Some(input) = self.input.take() {
            input.abort();
        }
    }

    /// Lets the last output through, within a bound, and releases every fifo and the log driver: a
    /// reader that is gone for good cannot hold up a delete.
    pub(crate) async fn finish(mut self) {
        self.end_input();
        let deadline = tokio::time::Instant::now() + DRAIN;
        for mut output in std::mem::take(&mut self.outputs) {
            if tokio::time::timeout_at(deadline, &mut output).await.is_err() {
                log::warn!("output nobody reads is dropped");
                output.abort();
            }
        }
        if let Some(driver) = self.driver {
            driver.end().await;
        }
    }
}

/// A socket on which runc sends a terminal's master.
pub(crate) struct ConsoleSocket {
    folder: PathBuf,
    listener: UnixListener,
}

impl ConsoleSocket {
    fn bind() -> io::Result<Self> {
        // Below /run, since a bundle's path is too long for a socket's address.
        let name = format!("portcullis-{}-{}", std::process::id(), next_number());
        let folder = Path::new("/run").join(name);
        std::fs::DirBuilder::new().create(&folder)?;
        rustix::fs::chmod(&folder, rustix::fs::Mode::RWXU)?;
        match UnixListener::bind(folder.join("pty.sock")) {
            Ok(listener) => Ok(Self { folder, listener }),
            Err(error) => {
                let _already_failing = std::fs::remove_dir(&folder);
                Err(error)
            }
        }
    }

    /// The path to give to runc.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join("pty.sock")
    }

    /// Waits for runc to send the master.
    ///
    /// # Errors
    /// If what arrives is not one open terminal.
    pub(crate) async fn receive(&self) -> io::Result<Terminal> {
        let (stream, _) = self.listener.accept().await?;
        let fd = stream.async_io(Interest::READABLE, || receive_fd(&stream)).await?;
        Terminal::new(fd)
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        let _gone_is_well = std::fs::remove_dir_all(&self.folder);
    }
}

fn next_number() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

fn receive_fd(socket: impl AsFd) -> io::Result<OwnedFd> {
    let mut name = [0_u8; 4096];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    rustix::net::recvmsg(
        socket,
        &mut [io::IoSliceMut::new(&mut name)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message
            && let Some(fd) = fds.next()
        {
            return Ok(fd);
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the runtime sent no terminal"))
}

/// A terminal's master.
#[derive(Clone)]
pub(crate) struct Terminal(Arc<AsyncFd<OwnedFd>>);

impl Terminal {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        if !rustix::termios::isatty(&fd) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "what the runtime sent is no terminal",
            ));
        }
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
        Ok(Self(Arc::new(crate::sys::watched(fd)?)))
    }
}

/// A terminal whose last process is gone answers EIO: that is its end, and what was read before it
/// must still be written.
fn read_terminal(terminal: &OwnedFd, space: &mut [u8]) -> io::Result<usize> {
    match rustix::io::read(terminal, space) {
        Err(rustix::io::Errno::IO) => Ok(0),
        read => Ok(read?),
    }
}

impl AsyncRead for Terminal {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(context))?;
            let space = buffer.initialize_unfilled();
            match ready.try_io(|fd| read_terminal(fd.get_ref(), &mut *space)) {
                Ok(read) => return Poll::Ready(read.map(|n| buffer.advance(n))),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(context))?;
            match ready.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
                Ok(written) => return Poll::Ready(written),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_fifos_and_files_are_taken_and_nothing_else() {
        let streams = |stdout: &str| Streams {
            stdout: stdout.into(),
            stderr: stdout.into(),
            ..Streams::default()
        };
        assert_eq!(streams("fifo:///run/x").checked().unwrap().stdout, "/run/x");
        assert_eq!(streams("/run/x").checked().unwrap().stdout, "/run/x");
        assert_eq!(streams("file:///tmp/log").checked().unwrap().stdout, "file:///tmp/log");
        for uri in ["binary:///usr/bin/logger?x=y", "binary-v2:///x"] {
            let checked = streams(uri).checked().unwrap();
            assert!(checked.driver.is_some() && checked.stdout == uri, "{checked:?}");
            let stdin = Streams { stdin: uri.into(), ..streams(uri) };
            assert!(stdin.checked().unwrap_err().to_string().contains("stdin"));
        }
        for uri in ["npipe://x", "binary://relative", "binary:///%"] {
            let error = streams(uri).checked().unwrap_err().to_string();
            assert!(error.contains(uri) && error.contains("stdout"), "{error}");
        }
    }
}
