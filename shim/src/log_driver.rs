//! Log drivers: programs that take a container's output, as `nerdctl run -d` starts them
//! (containerd, `core/runtime/v2/README.md`, "Logging"; its shim's `process/io.go`).
//!
//! A driver is named by the URI of stdout, `binary:///path?key=value`, and gets the query as
//! arguments, the container's or the process' id and the namespace in its environment, stdout at
//! descriptor 3, stderr at 4, and at 5 what it closes when it is ready. With `binary-v2` it must
//! write a byte there before. Nothing starts that its driver is not ready for.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Signal};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use crate::io::{IoError, Owner, pipe_pair};
use crate::reaper::{Exit, Reaper};
use crate::sys;

/// How long a driver may take to get ready.
const READY: Duration = Duration::from_secs(10);
/// How long the end of one that dies may take to be told.
const DYING: Duration = Duration::from_secs(2);
/// What a driver is given to end by itself, to end when it is asked to, and to be gone.
const END: [(Option<Signal>, Duration); 3] = [
    (None, Duration::from_secs(2)),
    (Some(Signal::TERM), Duration::from_secs(10)),
    (Some(Signal::KILL), Duration::from_secs(1)),
];

/// Why a URI names no log driver.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UriError {
    #[error("the path of a log driver is absolute")]
    Relative,
    #[error("a percent sign is followed by two hexadecimal digits")]
    Escape,
}

/// Why a log driver does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogDriverError {
    #[error("cannot start the log driver {program}")]
    Start { program: PathBuf, source: io::Error },
    #[error("the log driver {program} ended with status {status} before it was ready")]
    Ended { program: PathBuf, status: u32 },
    #[error("the log driver {program} did not say that it is ready")]
    Unready { program: PathBuf },
    #[error("the log driver {program} was not ready within {} seconds", READY.as_secs())]
    Silent { program: PathBuf },
}

/// A log driver as a URI names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Driver {
    program: PathBuf,
    arguments: Vec<String>,
    /// Only a byte says that it is ready, not the mere end of the descriptor.
    says_ready: bool,
}

impl Driver {
    /// The driver of a URI with this scheme and this rest; `None` for another scheme.
    ///
    /// # Errors
    /// [`UriError`] if the URI is one of a driver and wrong.
    pub(crate) fn of_uri(scheme: &str, rest: &str) -> Result<Option<Self>, UriError> {
        let says_ready = match scheme {
            "binary" => false,
            "binary-v2" => true,
            _ => return Ok(None),
        };
        let (path, query) = split(rest);
        let program = decoded(path, false).ok_or(UriError::Escape)?;
        if !program.starts_with('/') {
            return Err(UriError::Relative);
        }
        Ok(Some(Self { program: program.into(), arguments: arguments(query), says_ready }))
    }
}

/// The path of a URI, undone from its escapes.
///
/// # Errors
/// [`UriError::Escape`] for a broken one.
pub(crate) fn path_of(rest: &str) -> Result<PathBuf, UriError> {
    decoded(split(rest).0, false).map(PathBuf::from).ok_or(UriError::Escape)
}

/// Path and query; a fragment is neither's.
fn split(rest: &str) -> (&str, &str) {
    let whole = rest.split('#').next().unwrap_or_default();
    whole.split_once('?').unwrap_or((whole, ""))
}

/// Each key with its first value, in their order. Pairs that are no pairs are left out, as Go's
/// `net/url` does.
fn arguments(query: &str) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut arguments = Vec::new();
    for pair in query.split('&').filter(|p| !p.is_empty() && !p.contains(';')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let (Some(key), Some(value)) = (decoded(key, true), decoded(value, true))
            && seen.insert(key.clone())
        {
            arguments.extend([key, value]);
        }
    }
    arguments
}

/// Undoes percent escapes and, in a query, plus signs.
fn decoded(text: &str, in_query: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            b'+' if in_query => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A log driver that runs. Dropped, it is killed: only [`LogDriver::end`] lets it write what it
/// has.
pub(crate) struct LogDriver {
    pid: Option<Pid>,
    exit: oneshot::Receiver<Exit>,
}

/// The container's ends of the pipes to a driver.
pub(crate) struct Outputs {
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

impl LogDriver {
    /// Starts a driver for the process `id` and waits until it is ready.
    ///
    /// # Errors
    /// [`LogDriverError`] if it does not start or get ready; it does not run then.
    pub(crate) async fn start(
        driver: &Driver,
        id: &str,
        namespace: &str,
        owner: Owner,
        reaper: &Reaper,
    ) -> Result<(Self, Outputs), IoError> {
        let (out, stdout) = pipe_pair("stdout", owner)?;
        let (err, stderr) = pipe_pair("stderr", owner)?;
        let (ready, readies) = pipe_pair("readiness", Owner::default())?;
        let mut command = Command::new(&driver.program);
        command.args(&driver.arguments).env_clear();
        command.env("CONTAINER_ID", id).env("CONTAINER_NAMESPACE", namespace);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        sys::give_descriptors(&mut command, [out, err, readies]);
        let started = reaper.spawn(&mut command);
        let (child, exit) = started.map_err(|source| {
            IoError::from(LogDriverError::Start { program: driver.program.clone(), source })
        })?;
        // With our copies of its ends gone, their state tells of the driver alone.
        drop(command);
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let mut running = Self { pid, exit };
        let outputs = Outputs { stdout, stderr };
        match tokio::time::timeout(READY, running.readiness(driver, ready, &outputs)).await {
            Ok(ready) => ready?,
            Err(_) => return Err(LogDriverError::Silent { program: driver.program.clone() }.into()),
        }
        Ok((running, outputs))
    }

    async fn readiness(
        &mut self,
        driver: &Driver,
        ready: OwnedFd,
        outputs: &Outputs,
    ) -> Result<(), IoError> {
        let pipe = |source| IoError::Pipe { stream: "readiness", source };
        let mut ready = pipe::Receiver::from_owned_fd(ready).map_err(pipe)?;
        if ready.read(&mut [0_u8; 1]).await.map_err(pipe)? == 1 {
            return Ok(());
        }
        let program = driver.program.clone();
        // The descriptor of one that ends is closed, too: a living process has some still.
        if self.has_descriptors() {
            return match driver.says_ready {
                true => Err(LogDriverError::Unready { program }.into()),
                false => Ok(()),
            };
        }
        match tokio::time::timeout(DYING, &mut self.exit).await {
            // Another process may have taken its place.
            Ok(Ok(_)) if !driver.says_ready && is_read(&outputs.stdout) => {
                self.pid = None;
                Ok(())
            }
            Ok(Ok(exit)) => {
                self.pid = None;
                Err(LogDriverError::Ended { program, status: exit.status }.into())
            }
            _ => Err(LogDriverError::Unready { program }.into()),
        }
    }

    fn has_descriptors(&self) -> bool {
        let Some(pid) = self.pid else {
            return false;
        };
        let folder = std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero()));
        folder.is_ok_and(|mut descriptors| descriptors.next().is_some())
    }

    /// Its input is over: waits for its end, asks for it, and enforces it, each within a bound.
    pub(crate) async fn end(mut self) {
        for (signal, patience) in END {
            if let Some(signal) = signal {
                self.signal(signal);
            }
            if self.pid.is_none() || tokio::time::timeout(patience, &mut self.exit).await.is_ok() {
                self.pid = None;
                return;
            }
        }
        log::warn!("a log driver does not end");
    }

    /// As long as its exit has not been told it has not been reaped, and its pid is its own.
    fn signal(&mut self, signal: Signal) {
        if let (Some(pid), Err(TryRecvError::Empty)) = (self.pid, self.exit.try_recv()) {
            let _it_may_be_ending = rustix::process::kill_process(pid, signal);
        }
    }
}

impl Drop for LogDriver {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Whether somebody holds the other end of a pipe.
fn is_read(write_end: &OwnedFd) -> bool {
    let mut poll = [PollFd::new(write_end, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let polled = rustix::event::poll(&mut poll, Some(&now));
    polled.is_ok() && !poll[0].revents().contains(PollFlags::ERR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reaper::TURN;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn driver(uri: &str) -> Result<Option<Driver>, UriError> {
        let (scheme, rest) = uri.split_once("://").unwrap();
        Driver::of_uri(scheme, rest)
    }

    #[test]
    fn uris_are_read_as_go_reads_them() {
        let check = |uri, program: &str, arguments: &[&str]| {
            let driver = driver(uri).unwrap().unwrap();
            assert_eq!(driver.program, Path::new(program), "{uri}");
            assert_eq!(driver.arguments, arguments, "{uri}");
        };
        check("binary:///usr/bin/logger", "/usr/bin/logger", &[]);
        check("binary:///a%20b?k=v#f", "/a b", &["k", "v"]);
        check(
            "binary:///n?_NERDCTL_INTERNAL_LOGGING=%2Fvar%2Flib%2Fnerdctl%2F1935db59",
            "/n",
            &["_NERDCTL_INTERNAL_LOGGING", "/var/lib/nerdctl/1935db59"],
        );
        check("binary-v2:///n?a=1&b&a=2&c=x+y", "/n", &["a", "1", "b", "", "c", "x y"]);
        check("binary:///n?a;b=1&%zz=2&=3&&d", "/n", &["", "3", "d", ""]);
        assert!(driver("binary-v2:///n").unwrap().unwrap().says_ready);
        assert_eq!(driver("fifo:///n"), Ok(None));
        assert_eq!(driver("binary://n"), Err(UriError::Relative));
        assert_eq!(driver("binary:///%4"), Err(UriError::Escape));
        assert_eq!(path_of("/a%20b?x"), Ok("/a b".into()));
    }

    /// Starts a driver that is this script, and tells how it went and how long it took.
    async fn start(
        reaper: &Reaper,
        scheme: &str,
        script: &str,
    ) -> (Result<(LogDriver, Outputs), String>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("driver");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let to = folder.path().join("log");
        let uri = format!("{scheme}://{}?to={}", program.display(), to.display());
        let driver = driver(&uri).unwrap().unwrap();
        let started = LogDriver::start(&driver, "the-id", "space", Owner::default(), reaper).await;
        (started.map_err(|e| crate::status::chain(&e)), folder)
    }

    #[test]
    fn drivers_get_ready_or_say_why_not() {
        let _turn = TURN.lock().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let reaper = Reaper::default();
            reaper.start().unwrap();
            let copying = "exec 5>&-; echo $CONTAINER_NAMESPACE/$CONTAINER_ID >$2; cat <&3 >>$2";
            let (driver, folder) = start(&reaper, "binary", copying).await;
            let (driver, outputs) = driver.unwrap();
            rustix::io::write(&outputs.stdout, b"words\n").unwrap();
            drop(outputs);
            driver.end().await;
            let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
            assert_eq!(log, "space/the-id\nwords\n");

            for (scheme, script, wanted) in [
                ("binary", "exit 3", "ended with status 3"),
                ("binary", "kill -9 $$", "ended with status 137"),
                ("binary-v2", "exec 5>&-; exec cat <&3", "did not say"),
                ("binary-v2", "exit 0", "ended with status 0"),
            ] {
                let (driver, _folder) = start(&reaper, scheme, script).await;
                let error = driver.err().unwrap_or_default();
                assert!(error.contains(wanted), "{scheme} {script}: {error}");
            }
            let takes_over = "(cat <&3 >$2) 5>&- & exit 0";
            for (scheme, script) in
                [("binary-v2", "echo >&5; exec 5>&-; exec cat <&3"), ("binary", takes_over)]
            {
                let (driver, _folder) = start(&reaper, scheme, script).await;
                driver.unwrap().0.end().await;
            }
        });
    }
}
