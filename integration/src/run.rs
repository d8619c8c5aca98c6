//! External commands with a time limit, so that a hang is a failure that names the command.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::PATIENCE;

/// How long is waited for a command unless it says otherwise: longer than what it waits for itself.
pub const LIMIT: Duration = PATIENCE.saturating_mul(2);

/// A command to be run.
#[derive(Debug)]
pub struct Run {
    command: Command,
    /// What it is called in messages: without the way into the node.
    title: String,
    stdin: Input,
    limit: Duration,
}

#[derive(Debug)]
enum Input {
    Empty,
    Bytes(Vec<u8>),
    Held,
}

impl Run {
    /// A command of the machine.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self::behind(&[], program)
    }

    /// A command behind others that prepare its surroundings and are left out of its title.
    pub(crate) fn behind(way: &[&str], program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        let mut command = match way {
            [] => Command::new(program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        // A group of its own, so that a limit ends the command with all it started.
        command.process_group(0);
        Self {
            command,
            title: program.to_string_lossy().into_owned(),
            stdin: Input::Empty,
            limit: LIMIT,
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        let _ = write!(self.title, " {}", arg.as_ref().to_string_lossy());
        self.command.arg(arg);
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(self, args: impl IntoIterator<Item = A>) -> Self {
        args.into_iter().fold(self, |run, arg| run.arg(arg))
    }

    /// One more variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// What it reads before the end of its standard input; nothing, unless told.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Input::Bytes(bytes.into());
        self
    }

    /// Keeps its standard input open for [`Running::write`].
    #[must_use]
    pub fn hold_stdin(mut self) -> Self {
        self.stdin = Input::Held;
        self
    }

    /// How long may be waited for it, from when the waiting begins.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The same command on a terminal of its own, of this size: its output is what the terminal
    /// shows, errors included, and its input what is typed.
    #[must_use]
    pub fn on_terminal(self, rows: u16, columns: u16) -> Self {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        let words: Vec<_> = words.map(quoted).collect();
        let line = format!("stty rows {rows} columns {columns}; exec {}", words.join(" "));
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        command.process_group(0);
        Self { command, ..self }
    }

    /// Starts it and leaves it running.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(mut self) -> Result<Running> {
        let mut child = self
            .command
            .stdin(match self.stdin {
                Input::Empty => Stdio::null(),
                _ => Stdio::piped(),
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{}`", self.title))?;
        let stdout = child.stdout.take().context("its stdout is a pipe")?;
        let stderr = child.stderr.take().context("its stderr is a pipe")?;
        let held = match (self.stdin, child.stdin.take()) {
            (Input::Bytes(bytes), Some(mut pipe)) => {
                // A command may end before it has read all of it: no error.
                std::thread::spawn(move || pipe.write_all(&bytes));
                None
            }
            (_, held) => held,
        };
        Ok(Running {
            stdout: Collected::from(stdout),
            stderr: Collected::from(stderr),
            child,
            stdin: held,
            title: self.title,
            limit: self.limit,
        })
    }

    /// Runs it to its end, whatever its exit code.
    ///
    /// # Errors
    /// When it cannot be started or takes longer than its limit.
    pub fn output(self) -> Result<Output> {
        self.spawn()?.wait()
    }

    /// Runs it to its end, which must be a success.
    ///
    /// # Errors
    /// When it cannot be started, takes longer than its limit or exits with another code than 0.
    pub fn ok(self) -> Result<Output> {
        self.output()?.ok()
    }
}

/// A command that runs. It is killed, with all of its process group, when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Collected,
    stderr: Collected,
    title: String,
    limit: Duration,
}

impl Running {
    /// Its process id on the machine.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Writes to an input that was held.
    ///
    /// # Errors
    /// When the input is not held or the command no longer reads.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let pipe = self.stdin.as_mut().context("standard input is not held")?;
        pipe.write_all(bytes)?;
        Ok(pipe.flush()?)
    }

    /// Ends an input that was held.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// The process that it is about, if it is a daemon inside a node: the one behind `nsenter`.
    ///
    /// # Errors
    /// When that is gone.
    pub fn inner(&self) -> Result<Pid> {
        let inner = crate::node::children(self.pid())?.first().copied();
        inner.with_context(|| format!("`{}` is gone", self.title))
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Whether it has ended, and all that it printed has been read.
    fn has_said_all(&mut self) -> Result<bool> {
        let read = self.stdout.lock().ended && self.stderr.lock().ended;
        Ok(read && self.ended()?.is_some())
    }

    /// What it has printed so far.
    pub fn stdout_so_far(&self) -> String {
        String::from_utf8_lossy(&self.stdout.bytes()).into_owned()
    }

    /// What it has complained about so far.
    pub fn errors_so_far(&self) -> String {
        String::from_utf8_lossy(&self.stderr.bytes()).into_owned()
    }

    /// Waits until its output, with its errors, holds `text`.
    ///
    /// # Errors
    /// When it ends, or its limit passes, before `text` was seen.
    pub fn wait_for_text(&mut self, text: &str) -> Result<()> {
        let deadline = Instant::now() + self.limit;
        loop {
            let ended = self.has_said_all()?;
            let both = [self.stdout.bytes(), self.stderr.bytes()].concat();
            if String::from_utf8_lossy(&both).contains(text) {
                return Ok(());
            }
            if ended || Instant::now() > deadline {
                let printed = String::from_utf8_lossy(&both).into_owned();
                bail!("`{}` never printed {text:?}: {printed}", self.title);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until its output has so many bytes.
    ///
    /// # Errors
    /// When it ends, or its limit passes, before.
    pub fn wait_for_bytes(&mut self, wanted: usize) -> Result<()> {
        let deadline = Instant::now() + self.limit;
        loop {
            let ended = self.has_said_all()?;
            let seen = self.stdout.bytes().len();
            if seen >= wanted {
                return Ok(());
            }
            if ended || Instant::now() > deadline {
                bail!("`{}` printed {seen} of {wanted} bytes", self.title);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills it with all of its process group.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            rustix::process::kill_process_group(self.pid(), Signal::KILL)?;
        }
        self.child.wait()?;
        Ok(())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When its limit passes first, or when someone else still holds its output afterwards.
    pub fn wait(mut self) -> Result<Output> {
        self.close_stdin();
        let Some(status) = self.wait_limited()? else {
            let (seen, errors) = (self.stdout_so_far(), self.errors_so_far());
            self.kill()?;
            bail!(
                "`{}` took longer than {:?}\nstdout: {}\nstderr: {}",
                self.title,
                self.limit,
                shortened(&seen),
                shortened(&errors)
            );
        };
        let grace = Instant::now() + PATIENCE;
        if !(self.stdout.ended_by(grace) && self.stderr.ended_by(grace)) {
            bail!("`{}` ended, but its output is still held open", self.title);
        }
        Ok(Output {
            title: self.title.clone(),
            status,
            stdout: self.stdout.bytes().clone(),
            stderr: self.stderr.bytes().clone(),
        })
    }

    fn wait_limited(&mut self) -> Result<Option<ExitStatus>> {
        let pidfd = rustix::process::pidfd_open(self.pid(), PidfdFlags::empty())?;
        let mut ends = [PollFd::new(&pidfd, PollFlags::IN)];
        rustix::event::poll(&mut ends, Some(&self.limit.try_into()?))?;
        Ok(self.child.try_wait()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Output {
    /// The command, as messages name it.
    pub title: String,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: Vec<u8>,
    status: ExitStatus,
}

impl Output {
    /// Its exit code, with a signal as shells show it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Its standard output as text, without the space around it.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// Its standard error as text, without the space around it.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }

    /// Itself, if it was a success.
    ///
    /// # Errors
    /// When its exit code is not 0.
    pub fn ok(self) -> Result<Self> {
        self.expect_code(0)
    }

    /// Itself, if it ended with `code`.
    ///
    /// # Errors
    /// When it ended with another one.
    pub fn expect_code(self, code: i32) -> Result<Self> {
        if self.code() != code {
            bail!(
                "`{}` ended with {} instead of {code}\nstdout: {}\nstderr: {}",
                self.title,
                self.code(),
                shortened(&self.text()),
                shortened(&self.errors())
            );
        }
        Ok(self)
    }

    /// Itself, if it printed exactly `text`, space around it aside.
    ///
    /// # Errors
    /// When it printed something else.
    pub fn expect_text(self, text: &str) -> Result<Self> {
        if self.text() != text {
            bail!(
                "`{}` printed {:?} instead of {text:?}\nstderr: {}",
                self.title,
                shortened(&self.text()),
                shortened(&self.errors())
            );
        }
        Ok(self)
    }
}

/// A word as a shell reads it.
fn quoted(word: &OsStr) -> String {
    format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))
}

/// The beginning and the end of a long text.
fn shortened(text: &str) -> String {
    const HALF: usize = 1500;
    let all = text.len();
    let begin = text.char_indices().nth(HALF).map(|(at, _)| at);
    let end = text.char_indices().nth_back(HALF).map(|(at, _)| at);
    match (begin, end) {
        (Some(begin), Some(end)) if begin < end => {
            format!("{} … ({all} bytes) … {}", &text[..begin], &text[end..])
        }
        _ => text.to_owned(),
    }
}

/// What a pipe has delivered so far, read by a thread of its own.
#[derive(Debug)]
struct Collected {
    shared: Arc<(Mutex<Stream>, Condvar)>,
    _reader: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Stream {
    bytes: Vec<u8>,
    ended: bool,
}

impl Collected {
    fn from(mut pipe: impl Read + Send + 'static) -> Self {
        let shared = Arc::new((Mutex::new(Stream::default()), Condvar::new()));
        let filled = Arc::clone(&shared);
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let got = pipe.read(&mut buffer).unwrap_or(0);
                let mut stream = filled.0.lock().unwrap_or_else(PoisonError::into_inner);
                stream.bytes.extend_from_slice(&buffer[..got]);
                if got == 0 {
                    stream.ended = true;
                    filled.1.notify_all();
                    return;
                }
            }
        });
        Self { shared, _reader: reader }
    }

    fn lock(&self) -> MutexGuard<'_, Stream> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    fn ended_by(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        self.shared
            .1
            .wait_timeout_while(self.lock(), left, |stream| !stream.ended)
            .is_ok_and(|(stream, _)| stream.ended)
    }
}
