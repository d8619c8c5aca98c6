//! The node's agent, as those see it who ask it something: one line of JSON each way on its socket.
//!
//! A door asks it to scan an image that nobody has scanned, if a policy wants that, and waits for
//! what is left of its time. Whatever goes wrong with that, the image is unscanned as before.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use portcullis_settings::socket::connect_at_once;
use portcullis_types::{Digest, Place};
use serde::{Deserialize, Serialize};

/// Most bytes of a line.
pub const MAX_LINE: u64 = 64 << 10;

/// What an agent is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "ask",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum AgentAsk {
    /// Scan an image, and put what is found into the verdict store.
    Scan {
        /// The digest of its configuration.
        image: Digest,
        /// Where the engine has it.
        place: Place,
        /// How long whoever asks waits for the end, in milliseconds. The scan goes on after that.
        wait_millis: u64,
    },
    /// How it fares.
    Status {},
}

/// What an agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum AgentAnswer {
    /// The image is scanned, and the store knows it.
    Scanned,
    /// The scan goes on, or has yet to begin.
    Pending,
    /// Too many images wait already.
    Busy,
    /// The image could not be scanned.
    Failed {
        /// Why, in one line.
        why: String,
    },
    /// The agent does not do what it was asked.
    Refused {
        /// Why, in one line.
        why: String,
    },
    /// How it fares.
    Status(AgentStatus),
}

/// How an agent fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// Its version.
    pub version: String,
    /// Images that are being scanned.
    pub scanning: usize,
    /// Images that wait for it.
    pub waiting: usize,
    /// Images that it has scanned since it began.
    pub scanned: u64,
    /// Images that it could not scan since it began.
    pub failed: u64,
    /// Images that the engines have which it follows.
    #[serde(default)]
    pub images: usize,
    /// Of these, images that nobody has scanned yet.
    #[serde(default)]
    pub unscanned: usize,
    /// Running containers that have come to violate a policy since they were started.
    #[serde(default)]
    pub violations: usize,
}

/// Why an agent did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// Nothing listens there.
    #[error("no agent answers at {}", path.display())]
    Absent {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It was asked, and no answer came in time.
    #[error("the agent did not answer")]
    Silent(#[source] io::Error),
    /// What it said is no answer.
    #[error("the agent answered with something else than an answer")]
    Garbled(#[source] serde_json::Error),
    /// It answered something that was not asked.
    #[error("the agent answered something else")]
    Other,
}

/// Has an image scanned, and waits for it until then.
///
/// # Errors
/// Why it is not scanned yet, in words for the on-call engineer.
pub(crate) fn scan(
    socket: &Path,
    image: &Digest,
    place: &Place,
    until: Instant,
) -> Result<(), String> {
    // It has to have answered by then.
    let wait = until.saturating_duration_since(Instant::now()).mul_f32(ANSWERING);
    let wanted = AgentAsk::Scan {
        image: image.clone(),
        place: place.clone(),
        wait_millis: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
    };
    match ask(socket, &wanted, until) {
        Ok(AgentAnswer::Scanned) => Ok(()),
        Ok(AgentAnswer::Pending) => Err("the agent is scanning it".to_owned()),
        Ok(AgentAnswer::Busy) => Err("the agent has many images to scan".to_owned()),
        Ok(AgentAnswer::Failed { why }) => Err(format!("the agent could not scan it: {why}")),
        Ok(AgentAnswer::Refused { why }) => Err(format!("the agent does not scan it: {why}")),
        Ok(AgentAnswer::Status(_)) => Err(AgentError::Other.to_string()),
        Err(AgentError::Silent(_)) => Err("the agent did not answer in time".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// How an agent fares; it has two seconds to say so.
///
/// # Errors
/// [`AgentError`].
pub fn status(socket: &Path) -> Result<AgentStatus, AgentError> {
    match ask(socket, &AgentAsk::Status {}, Instant::now() + PATIENCE)? {
        AgentAnswer::Status(status) => Ok(status),
        _ => Err(AgentError::Other),
    }
}

/// How long an agent may take to say how it fares.
const PATIENCE: Duration = Duration::from_secs(2);

/// The part of the time left that an agent may scan; the rest is for its answer.
const ANSWERING: f32 = 0.9;

/// Asks an agent, and waits for its answer until then.
///
/// # Errors
/// [`AgentError`].
pub fn ask(socket: &Path, ask: &AgentAsk, until: Instant) -> Result<AgentAnswer, AgentError> {
    let absent = |source| AgentError::Absent { path: socket.to_owned(), source };
    let stream = connect_at_once(socket).map_err(absent)?;
    let mut line = serde_json::to_vec(ask).map_err(AgentError::Garbled)?;
    line.push(b'\n');
    let answer = exchange(&stream, &line, until).map_err(AgentError::Silent)?;
    serde_json::from_slice(&answer).map_err(AgentError::Garbled)
}

fn exchange(stream: &UnixStream, line: &[u8], until: Instant) -> io::Result<Vec<u8>> {
    // Though no time be left: it shall know what is wanted, for the next attempt. A line like ours
    // fits into the socket's buffer.
    stream.set_write_timeout(Some(left(until).unwrap_or(AT_LEAST)))?;
    match (&mut &*stream).write_all(line) {
        // Who does not want to hear it has said why, and gone.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    read_line(stream, until)
}

/// How long a question may take to be taken, at least.
const AT_LEAST: Duration = Duration::from_millis(10);

/// One line that comes by then, without its end.
///
/// # Errors
/// It does not come in time, ends early, or is longer than [`MAX_LINE`].
pub fn read_line(stream: &UnixStream, until: Instant) -> io::Result<Vec<u8>> {
    let mut reader = BufReader::new(Until { stream, until }.take(MAX_LINE));
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    match line.pop() {
        Some(b'\n') => Ok(line),
        _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the line has no end")),
    }
}

/// A stream of which each read ends by then: a timeout of the socket alone begins anew with each
/// byte.
struct Until<'s> {
    stream: &'s UnixStream,
    until: Instant,
}

impl Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.until)?))?;
        self.stream.read(buffer)
    }
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(io::Error::from(io::ErrorKind::TimedOut)),
        false => Ok(left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An agent refuses somebody, or is busy, before it has read a question.
    #[test]
    fn an_answer_counts_that_came_before_the_question_was_heard() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (&theirs).write_all(b"no\n").unwrap();
        drop(theirs);
        let until = Instant::now() + Duration::from_secs(20);
        assert_eq!(exchange(&ours, b"may I?\n", until).unwrap(), b"no");
        assert!(exchange(&ours, b"may I?\n", until).is_err());
    }
}
