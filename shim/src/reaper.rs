//! Reaps every child, those of runc that fall to us as subreaper among them, and tells who waits.
//!
//! One `waitpid(-1)` loop, as in containerd's own shim: nothing else here may wait for a process,
//! and so no waiter races it.

use std::collections::HashMap;
use std::io;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::process::{Pid, WaitOptions, WaitStatus};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    /// Exit code, or 128 and the signal's number.
    pub(crate) status: u32,
    /// When it was reaped.
    pub(crate) at: jiff::Timestamp,
}

/// Hands out exits.
#[derive(Default, Clone)]
pub(crate) struct Reaper {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    waiting: HashMap<i32, oneshot::Sender<Exit>>,
    windows: Vec<Weak<Mutex<Early>>>,
}

type Early = HashMap<i32, Exit>;

/// A time during which exits are remembered: a process may end before its pid is known to us.
pub(crate) struct Window {
    reaper: Reaper,
    early: Arc<Mutex<Early>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reaper {
    /// Starts reaping; ends with the runtime.
    ///
    /// # Errors
    /// If the signal handler cannot be installed.
    pub(crate) fn start(&self) -> io::Result<()> {
        let mut children = signal(SignalKind::child())?;
        let reaper = self.clone();
        tokio::spawn(async move {
            loop {
                reaper.reap();
                if children.recv().await.is_none() {
                    return;
                }
            }
        });
        Ok(())
    }

    /// Opens a window before something is started whose pid is learnt later.
    pub(crate) fn window(&self) -> Window {
        let early = Arc::new(Mutex::new(Early::new()));
        lock(&self.inner).windows.push(Arc::downgrade(&early));
        Window { reaper: self.clone(), early }
    }

    /// Starts a child and returns it with what tells its exit. The child must not be waited for.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn spawn(
        &self,
        command: &mut Command,
    ) -> io::Result<(Child, oneshot::Receiver<Exit>)> {
        let window = self.window();
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        Ok((child, window.claim(pid)))
    }

    fn reap(&self) {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.note(pid, status),
                Err(rustix::io::Errno::INTR) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn note(&self, pid: Pid, status: WaitStatus) {
        let status = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => code,
            (None, Some(signal)) => 128 + signal,
            (None, None) => return,
        };
        let exit = Exit { status: status.unsigned_abs(), at: jiff::Timestamp::now() };
        let pid = pid.as_raw_nonzero().get();
        let mut inner = lock(&self.inner);
        if let Some(waiter) = inner.waiting.remove(&pid) {
            // Who gave up waiting needs no answer.
            let _gone = waiter.send(exit);
            return;
        }
        inner.windows.retain(|window| match window.upgrade() {
            Some(early) => {
                lock(&early).insert(pid, exit);
                true
            }
            None => false,
        });
    }
}

impl Window {
    /// What tells the exit of `pid`, even if it has ended since the window was opened.
    pub(crate) fn claim(&self, pid: i32) -> oneshot::Receiver<Exit> {
        let (sender, receiver) = oneshot::channel();
        let mut inner = lock(&self.reaper.inner);
        match lock(&self.early).remove(&pid) {
            Some(exit) => {
                let _receiver_lives = sender.send(exit);
            }
            None => {
                inner.waiting.insert(pid, sender);
            }
        }
        receiver
    }
}

/// A process has one reaper: tests that start one take turns.
#[cfg(test)]
pub(crate) static TURN: Mutex<()> = Mutex::new(());

#[cfg(test)]
mod tests {
    use super::*;

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test);
    }

    #[test]
    fn exits_reach_who_waits_and_early_exits_are_kept_for_an_open_window() {
        let _turn = lock(&TURN);
        run(async {
            let reaper = Reaper::default();
            reaper.start().unwrap();
            let (_child, exit) = reaper.spawn(Command::new("sh").args(["-c", "exit 7"])).unwrap();
            assert_eq!(exit.await.unwrap().status, 7);
            let (_child, exit) =
                reaper.spawn(Command::new("sh").args(["-c", "kill -9 $$"])).unwrap();
            assert_eq!(exit.await.unwrap().status, 137);

            let window = reaper.window();
            #[expect(clippy::zombie_processes, reason = "the reaper waits for it")]
            let child = Command::new("true").spawn().unwrap();
            let pid = i32::try_from(child.id()).unwrap();
            while lock(&window.early).is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            assert_eq!(window.claim(pid).await.unwrap().status, 0);
        });
    }
}
