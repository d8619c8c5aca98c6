//! One process of a container, its init or one that was added, and its legal moves.

use std::sync::{Mutex, MutexGuard, PoisonError};

use containerd_shim_protos::ttrpc::{self, Code};
use containerd_shim_protos::types::task::Status;
use tokio::sync::watch;

use crate::io::{Copies, Streams};
use crate::reaper::Exit;
use crate::status::status;

/// Where a process stands. It moves forward only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Asked for; the runtime knows nothing of it.
    Added,
    /// The runtime has made it; its program does not run yet.
    Created { pid: i32 },
    /// Its program runs.
    Running { pid: i32 },
    /// It has ended.
    Stopped { pid: i32, exit: Exit },
}

/// A process.
pub(crate) struct Process {
    /// Empty for the init process.
    pub(crate) exec_id: String,
    pub(crate) streams: Streams,
    /// The OCI process specification, for a process that is added.
    pub(crate) spec: Vec<u8>,
    /// Start, end and deletion take turns, so that events keep their order.
    pub(crate) turn: tokio::sync::Mutex<()>,
    state: watch::Sender<State>,
    copies: Mutex<Option<Copies>>,
}

impl Process {
    pub(crate) fn new(exec_id: String, streams: Streams, spec: Vec<u8>) -> Self {
        Self {
            exec_id,
            streams,
            spec,
            turn: tokio::sync::Mutex::new(()),
            state: watch::Sender::new(State::Added),
            copies: Mutex::new(None),
        }
    }

    pub(crate) fn state(&self) -> State {
        *self.state.borrow()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.state(), State::Stopped { .. })
    }

    /// The pid; 0 before there is one.
    pub(crate) fn pid(&self) -> u32 {
        match self.state() {
            State::Added => 0,
            State::Created { pid } | State::Running { pid } | State::Stopped { pid, .. } => {
                pid.unsigned_abs()
            }
        }
    }

    pub(crate) fn status(&self) -> Status {
        match self.state() {
            State::Added | State::Created { .. } => Status::CREATED,
            State::Running { .. } => Status::RUNNING,
            State::Stopped { .. } => Status::STOPPED,
        }
    }

    /// The runtime has made it.
    pub(crate) fn created(&self, pid: i32, copies: Copies) {
        *self.copies() = Some(copies);
        self.advance(State::Created { pid });
    }

    /// Its program runs, unless it has ended already.
    pub(crate) fn running(&self, pid: i32) {
        self.advance(State::Running { pid });
    }

    /// It has ended.
    pub(crate) fn stopped(&self, exit: Exit) {
        if let Some(copies) = self.copies().as_mut() {
            copies.end_input();
        }
        let pid = i32::try_from(self.pid()).unwrap_or_default();
        self.advance(State::Stopped { pid, exit });
    }

    fn advance(&self, next: State) {
        self.state.send_if_modified(|state| {
            let ended = matches!(state, State::Stopped { .. });
            if !ended {
                *state = next;
            }
            !ended
        });
    }

    /// Waits for its end.
    pub(crate) async fn wait(&self) -> Exit {
        let mut changes = self.state.subscribe();
        loop {
            if let State::Stopped { exit, .. } = *changes.borrow_and_update() {
                return exit;
            }
            // The sender lives as long as `self`.
            if changes.changed().await.is_err() {
                return Exit { status: 255, at: jiff::Timestamp::now() };
            }
        }
    }

    /// Input ends once its last writer is gone.
    pub(crate) fn close_input(&self) {
        if let Some(copies) = self.copies().as_ref() {
            copies.close_input();
        }
    }

    /// Sets its terminal's size.
    pub(crate) fn resize(&self, columns: u32, rows: u32) -> ttrpc::Result<()> {
        let size = |n: u32| {
            u16::try_from(n)
                .map_err(|_| status(Code::INVALID_ARGUMENT, format!("{n} is no terminal size")))
        };
        let (columns, rows) = (size(columns)?, size(rows)?);
        match self.copies().as_ref() {
            Some(copies) => copies
                .resize(columns, rows)
                .map_err(|e| status(Code::UNKNOWN, format!("cannot resize the terminal: {e}"))),
            None => Ok(()),
        }
    }

    /// Lets the last output through and releases the fifos.
    pub(crate) async fn finish_io(&self) {
        let copies = self.copies().take();
        if let Some(copies) = copies {
            copies.finish().await;
        }
    }

    fn copies(&self) -> MutexGuard<'_, Option<Copies>> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_final() {
        let process = Process::new(String::new(), Streams::default(), Vec::new());
        process.created(7, Copies::default());
        let exit = Exit { status: 3, at: jiff::Timestamp::UNIX_EPOCH };
        process.stopped(exit);
        process.running(7);
        assert_eq!(process.state(), State::Stopped { pid: 7, exit });
        assert_eq!((process.status(), process.pid()), (Status::STOPPED, 7));
    }
}
