//! A client of a shim's own socket, for what containerd itself would ask while it stands still.
//!
//! ttrpc (containerd/ttrpc, `PROTOCOL.md`): ten bytes (length, stream, kind, flags) and protobuf.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use prost::Message;

use crate::PATIENCE;

/// The API that every containerd under test speaks with our shim.
const SERVICE: &str = "containerd.task.v2.Task";
/// A request of ttrpc.
#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(string, tag = "1")]
    service: String,
    #[prost(string, tag = "2")]
    method: String,
    #[prost(bytes = "vec", tag = "3")]
    payload: Vec<u8>,
}

/// A response of ttrpc.
#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
    #[prost(bytes = "vec", tag = "2")]
    payload: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// The fields that requests of the Task service share (`api/runtime/task/v3/shim.proto`): which
/// container, and which of its processes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Process {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Empty for its init.
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// `CreateTaskRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Create {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its bundle.
    #[prost(string, tag = "2")]
    pub bundle: String,
}

/// `KillRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Kill {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The signal.
    #[prost(uint32, tag = "3")]
    pub signal: u32,
}

/// `ExecProcessRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Exec {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The process to be.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Whether it has a terminal.
    #[prost(bool, tag = "3")]
    pub terminal: bool,
    /// Where its output goes.
    #[prost(string, tag = "5")]
    pub stdout: String,
    /// Its specification.
    #[prost(message, optional, tag = "7")]
    pub spec: Option<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Any {
    /// Its type.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// Its bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// `StateResponse`, `WaitResponse` and `DeleteResponse` as far as they are read.
#[derive(Clone, PartialEq, prost::Message)]
pub struct State {
    /// 2 is running, 3 stopped (`api/types/task/task.proto`).
    #[prost(int32, tag = "4")]
    pub status: i32,
}

/// `WaitResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Exit {
    /// The exit code.
    #[prost(uint32, tag = "1")]
    pub status: u32,
}

/// An answer of which nothing is read.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Nothing {}

/// A connection to a shim.
#[derive(Debug)]
pub struct Shim(UnixStream);

impl Shim {
    /// Connects to the socket of a shim.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("cannot connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// When the shim answers with an error, with its text, or does not answer.
    pub fn call<A: Message + Default>(
        &mut self,
        method: &str,
        question: &impl Message,
    ) -> Result<A> {
        let request = Request {
            service: SERVICE.to_owned(),
            method: method.to_owned(),
            payload: question.encode_to_vec(),
        };
        let body = request.encode_to_vec();
        let mut frame = u32::try_from(body.len())?.to_be_bytes().to_vec();
        // Stream 1, a request, no flags.
        frame.extend_from_slice(&[0, 0, 0, 1, 1, 0]);
        frame.extend_from_slice(&body);
        self.0.write_all(&frame)?;

        let mut head = [0; 10];
        self.0.read_exact(&mut head).with_context(|| format!("{method} is not answered"))?;
        let [a, b, c, d, ..] = head;
        let mut body = vec![0; usize::try_from(u32::from_be_bytes([a, b, c, d]))?];
        self.0.read_exact(&mut body)?;
        let response = Response::decode(body.as_slice())?;
        match response.status {
            Some(status) if status.code != 0 => {
                bail!("{method}: {}: {}", status.code, status.message)
            }
            _ => Ok(A::decode(response.payload.as_slice())?),
        }
    }
}
