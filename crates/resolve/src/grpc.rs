//! gRPC calls over a unix socket: only what reading from a container engine takes.
//!
//! Framing, status and message bounds are those of gRPC over HTTP/2
//! (`grpc/doc/PROTOCOL-HTTP2.md`). One connection carries all calls of one resolution and all of
//! them share its deadline, so that no answer, however slow, can hold a container's start.

use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::RecvStream;
use h2::client::{ResponseFuture, SendRequest};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE};
use http::{Method, Request, StatusCode, Uri};
use prost::Message;
use tokio::net::UnixStream;

/// Largest single message that is accepted, which is also the most that containerd sends unless
/// its settings say otherwise (`defaults.DefaultMaxSendMsgSize`).
pub(crate) const MAX_MESSAGE: usize = 16 << 20;
/// At most this much of a server's own words goes into an error.
const MAX_STATUS_TEXT: usize = 300;
/// Compression flag and length in front of each message.
const PREFIX: usize = 5;
/// How often whoever waits for a message that may never come is asked whether it goes on.
const LOOK: Duration = Duration::from_millis(250);
/// How long to wait before a full backlog of the socket is tried again.
const BACKLOG_PAUSE: Duration = Duration::from_millis(5);
/// Flow control windows: a blob or a long list then needs no extra round trips.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

const GRPC_STATUS: &str = "grpc-status";
const GRPC_MESSAGE: &str = "grpc-message";
const NAMESPACE: HeaderName = HeaderName::from_static("containerd-namespace");

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrpcError {
    /// The deadline passed.
    #[error("the time was up")]
    Deadline,
    /// The socket cannot be connected to.
    #[error("its socket cannot be reached")]
    Unreachable(#[source] io::Error),
    /// The connection broke, or the server sent what HTTP/2 does not allow.
    #[error("the connection failed")]
    Connection(#[source] h2::Error),
    /// The namespace or the method cannot be sent as HTTP header or path.
    #[error("\"{0}\" cannot be sent in a request")]
    Unsendable(String),
    /// Status `NOT_FOUND`.
    #[error("not found")]
    NotFound,
    /// Status `UNIMPLEMENTED`: an older server.
    #[error("it does not offer this call")]
    Unimplemented,
    /// Status `UNAVAILABLE`.
    #[error("it is not available: {0}")]
    Unavailable(String),
    /// Any other status but `OK`.
    #[error("it answered with status {code}: {message}")]
    Status {
        /// The number of the status, see `grpc/doc/statuscodes.md`.
        code: u32,
        /// The server's words, made safe to print.
        message: String,
    },
    /// An answer is larger than allowed.
    #[error("its answer is larger than {0} bytes")]
    TooLarge(usize),
    /// What came is not gRPC.
    #[error("its answer is malformed: {0}")]
    Malformed(&'static str),
    /// A message is not what the method returns.
    #[error("its answer cannot be decoded")]
    Undecodable(#[source] prost::DecodeError),
}

/// One connection and the deadline of all calls on it. Clones share the connection.
#[derive(Clone)]
pub(crate) struct Channel {
    requests: SendRequest<Bytes>,
    namespace: HeaderValue,
    deadline: Instant,
}

impl Channel {
    /// Connects to the socket at `path`; calls are for `namespace`.
    ///
    /// Runs the connection as a task of the runtime that polls this future.
    pub(crate) async fn connect(
        path: &Path,
        namespace: &str,
        deadline: Instant,
    ) -> Result<Self, GrpcError> {
        let namespace = HeaderValue::from_str(namespace)
            .map_err(|_| GrpcError::Unsendable(namespace.escape_debug().to_string()))?;
        let stream = until(deadline, connect_socket(path)).await?;
        Self::over(stream, namespace, deadline).await
    }

    /// The same over a connection that stands.
    pub(crate) async fn over(
        stream: UnixStream,
        namespace: HeaderValue,
        deadline: Instant,
    ) -> Result<Self, GrpcError> {
        let requests = until(deadline, async {
            let (requests, connection) = h2::client::Builder::new()
                .initial_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_header_list_size(16 << 10)
                .enable_push(false)
                .handshake(stream)
                .await
                .map_err(GrpcError::Connection)?;
            // It ends with the runtime; what broke is told to each call that waits.
            tokio::spawn(async move {
                let _ = connection.await;
            });
            Ok(requests)
        })
        .await?;
        Ok(Self { requests, namespace, deadline })
    }

    /// A call with one answer.
    pub(crate) async fn unary<A>(
        &self,
        method: &str,
        message: &impl Message,
    ) -> Result<A, GrpcError>
    where
        A: Message + Default,
    {
        let request = self.request(method)?;
        let message = framed(message);
        until(self.deadline, async {
            let mut answers = self.send(request, message).await?;
            let answer =
                answers.next().await?.ok_or(GrpcError::Malformed("there is no message"))?;
            // The status comes behind the message, and only OK makes it an answer.
            match answers.next::<A>().await? {
                None => Ok(answer),
                Some(_) => Err(GrpcError::Malformed("there is more than one message")),
            }
        })
        .await
    }

    /// A call with a stream of answers, each handed to `take`; an error of `take` ends the call.
    pub(crate) async fn streaming<A>(
        &self,
        method: &str,
        message: &impl Message,
        mut take: impl FnMut(A) -> Result<(), GrpcError>,
    ) -> Result<(), GrpcError>
    where
        A: Message + Default,
    {
        let request = self.request(method)?;
        let message = framed(message);
        until(self.deadline, async {
            let mut answers = self.send(request, message).await?;
            while let Some(answer) = answers.next().await? {
                take(answer)?;
            }
            Ok(())
        })
        .await
    }

    /// A call whose answers come whenever there is something to tell, each of at most `most` bytes
    /// and handed to `take`. The deadline is that of the question alone; it ends when the server
    /// ends it, or a moment after `goes_on` says no.
    pub(crate) async fn watching<A>(
        &self,
        method: &str,
        message: &impl Message,
        most: usize,
        goes_on: &dyn Fn() -> bool,
        mut take: impl FnMut(A),
    ) -> Result<(), GrpcError>
    where
        A: Message + Default,
    {
        let request = self.request(method)?;
        let response = until(self.deadline, self.begin(request, framed(message))).await?;
        // A server may send nothing, not even headers, until there is a first answer.
        let Some(answers) = going_on(goes_on, Answers::of(response)).await else { return Ok(()) };
        let mut answers = Answers { most, ..answers? };
        while let Some(answer) = going_on(goes_on, answers.next()).await {
            match answer? {
                Some(answer) => take(answer),
                None => break,
            }
        }
        Ok(())
    }

    /// The same connection for calls that end by then.
    pub(crate) fn by(&self, deadline: Instant) -> Self {
        Self { deadline, ..self.clone() }
    }

    fn request(&self, method: &str) -> Result<Request<()>, GrpcError> {
        let unsendable = || GrpcError::Unsendable(method.to_owned());
        let uri = Uri::builder()
            .scheme("http")
            .authority("localhost")
            .path_and_query(method)
            .build()
            .map_err(|_| unsendable())?;
        Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header(TE, "trailers")
            .header(CONTENT_TYPE, "application/grpc")
            .header(NAMESPACE, &self.namespace)
            .body(())
            .map_err(|_| unsendable())
    }

    async fn send(&self, request: Request<()>, message: Bytes) -> Result<Answers, GrpcError> {
        Answers::of(self.begin(request, message).await?).await
    }

    async fn begin(
        &self,
        request: Request<()>,
        message: Bytes,
    ) -> Result<ResponseFuture, GrpcError> {
        // `ready` waits where the server limits the streams that may be open at once.
        let mut requests = self.requests.clone().ready().await.map_err(GrpcError::Connection)?;
        let (response, mut body) =
            requests.send_request(request, false).map_err(GrpcError::Connection)?;
        body.send_data(message, true).map_err(GrpcError::Connection)?;
        Ok(response)
    }
}

/// The messages of one response.
struct Answers {
    body: RecvStream,
    received: BytesMut,
    /// The status has been read, and it is OK.
    ended: bool,
    /// Largest message that is accepted.
    most: usize,
}

impl Answers {
    async fn of(response: ResponseFuture) -> Result<Self, GrpcError> {
        let (head, body) = response.await.map_err(GrpcError::Connection)?.into_parts();
        if head.status != StatusCode::OK {
            return Err(GrpcError::Malformed("the HTTP status is not 200"));
        }
        // A call without messages may carry its status in the headers ("Trailers-Only").
        let ended = head.headers.contains_key(GRPC_STATUS);
        if ended {
            status(&head.headers)?;
        }
        Ok(Self { body, received: BytesMut::new(), ended, most: MAX_MESSAGE })
    }

    /// The next message; `None` once the server said that all went well.
    async fn next<A: Message + Default>(&mut self) -> Result<Option<A>, GrpcError> {
        loop {
            if let Some(message) = unframe_within(&mut self.received, self.most)? {
                let message = A::decode(message).map_err(GrpcError::Undecodable)?;
                return Ok(Some(message));
            }
            match self.body.data().await {
                Some(chunk) => {
                    let chunk = chunk.map_err(GrpcError::Connection)?;
                    self.received.extend_from_slice(&chunk);
                    // What was taken off the wire no longer counts against the window; `unframe`
                    // bounds what is kept.
                    self.body
                        .flow_control()
                        .release_capacity(chunk.len())
                        .map_err(GrpcError::Connection)?;
                }
                None if !self.received.is_empty() => {
                    return Err(GrpcError::Malformed("a message is cut off"));
                }
                None if self.ended => return Ok(None),
                None => {
                    let trailers = self.body.trailers().await.map_err(GrpcError::Connection)?;
                    let trailers = trailers.ok_or(GrpcError::Malformed("there is no status"))?;
                    status(&trailers)?;
                    self.ended = true;
                    return Ok(None);
                }
            }
        }
    }
}

/// Takes one whole message off what was received.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn unframe(received: &mut BytesMut) -> Result<Option<Bytes>, GrpcError> {
    unframe_within(received, MAX_MESSAGE)
}

/// The same of a message that may have so many bytes.
fn unframe_within(received: &mut BytesMut, most: usize) -> Result<Option<Bytes>, GrpcError> {
    let Some(mut prefix) = received.get(..PREFIX) else {
        return Ok(None);
    };
    if prefix.get_u8() != 0 {
        return Err(GrpcError::Malformed("a message is compressed"));
    }
    let length = prefix.get_u32() as usize;
    if length > most {
        return Err(GrpcError::TooLarge(most));
    }
    if received.len() < PREFIX + length {
        return Ok(None);
    }
    received.advance(PREFIX);
    Ok(Some(received.split_to(length).freeze()))
}

/// The message with its prefix.
fn framed(message: &impl Message) -> Bytes {
    let message = message.encode_to_vec();
    let mut out = BytesMut::with_capacity(PREFIX + message.len());
    out.put_u8(0);
    // Requests are names, digests and filters: far below 4 GiB.
    out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    out.put_slice(&message);
    out.freeze()
}

/// The status of a call as headers or trailers give it.
fn status(headers: &HeaderMap) -> Result<(), GrpcError> {
    let code = headers
        .get(GRPC_STATUS)
        .and_then(|code| code.to_str().ok()?.parse().ok())
        .ok_or(GrpcError::Malformed("there is no status"))?;
    let message = || {
        let message = headers.get(GRPC_MESSAGE).map(HeaderValue::as_bytes);
        printable(message.unwrap_or_default())
    };
    match code {
        0 => Ok(()),
        4 => Err(GrpcError::Deadline),
        5 => Err(GrpcError::NotFound),
        12 => Err(GrpcError::Unimplemented),
        14 => Err(GrpcError::Unavailable(message())),
        code => Err(GrpcError::Status { code, message: message() }),
    }
}

/// A status message with its percent-encoding undone, bounded, and without control characters,
/// since it ends in log lines.
fn printable(message: &[u8]) -> String {
    let mut plain = Vec::new();
    let mut rest = message;
    while let Some((&byte, tail)) = rest.split_first() {
        if plain.len() >= MAX_STATUS_TEXT {
            break;
        }
        let encoded = (byte == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        plain.push(encoded.unwrap_or(byte));
        rest = if encoded.is_some() { &tail[2..] } else { tail };
    }
    let mut text = String::new();
    for c in String::from_utf8_lossy(&plain).chars() {
        if c.is_control() {
            let _ = write!(text, "{}", c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}

/// Connects, waiting while the server's backlog is full: for a unix socket the kernel then says
/// `EAGAIN` at once.
async fn connect_socket(path: &Path) -> Result<UnixStream, GrpcError> {
    loop {
        match UnixStream::connect(path).await {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(BACKLOG_PAUSE).await;
            }
            Err(error) => return Err(GrpcError::Unreachable(error)),
        }
    }
}

/// The outcome of `call`, or [`GrpcError::Deadline`] as soon as the deadline has passed.
async fn until<T>(
    deadline: Instant,
    call: impl Future<Output = Result<T, GrpcError>>,
) -> Result<T, GrpcError> {
    tokio::time::timeout_at(deadline.into(), call).await.unwrap_or(Err(GrpcError::Deadline))
}

/// What comes of waiting, or `None` once `goes_on` says no.
async fn going_on<T>(goes_on: &dyn Fn() -> bool, waiting: impl Future<Output = T>) -> Option<T> {
    let mut waiting = std::pin::pin!(waiting);
    while goes_on() {
        if let Ok(come) = tokio::time::timeout(LOOK, &mut waiting).await {
            return Some(come);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_are_cut_where_they_end() {
        let mut received = BytesMut::new();
        for text in ["a", "", "bcd"] {
            received.extend_from_slice(&framed(&text.to_owned()));
        }
        received.extend_from_slice(&[0, 0, 0, 0, 9, b'e']);
        for wanted in ["a", "", "bcd"] {
            let message = unframe(&mut received).unwrap().unwrap();
            assert_eq!(String::decode(message).unwrap(), wanted);
        }
        assert!(unframe(&mut received).unwrap().is_none());
    }

    #[test]
    fn a_message_may_not_be_compressed_or_huge() {
        let unframed = |bytes: &[u8]| unframe(&mut BytesMut::from(bytes));
        assert!(matches!(unframed(&[1, 0, 0, 0, 0]), Err(GrpcError::Malformed(_))));
        assert!(matches!(unframed(&[0, 255, 255, 255, 255]), Err(GrpcError::TooLarge(_))));
    }

    proptest! {
        #[test]
        fn what_is_no_message_never_panics(bytes: Vec<u8>) {
            let mut received = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = unframe(&mut received) {}
        }
    }

    #[test]
    fn a_servers_words_are_decoded_bounded_and_printable() {
        assert_eq!(printable(b"no such%20thing 100%"), "no such thing 100%");
        assert_eq!(printable(b"a%0Ab%1b[31m"), "a\\nb\\u{1b}[31m");
        assert_eq!(printable(b"%zz%f"), "%zz%f");
        assert!(printable(&[b'x'; 10_000]).len() <= MAX_STATUS_TEXT);
    }

    #[test]
    fn statuses_that_matter_have_their_own_error() {
        let with = |code: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_STATUS, code.parse().unwrap());
            status(&headers)
        };
        assert!(with("0").is_ok());
        assert!(matches!(with("4"), Err(GrpcError::Deadline)));
        assert!(matches!(with("5"), Err(GrpcError::NotFound)));
        assert!(matches!(with("12"), Err(GrpcError::Unimplemented)));
        assert!(matches!(with("14"), Err(GrpcError::Unavailable(_))));
        assert!(matches!(with("7"), Err(GrpcError::Status { code: 7, .. })));
        assert!(matches!(with("ok"), Err(GrpcError::Malformed(_))));
        assert!(matches!(status(&HeaderMap::new()), Err(GrpcError::Malformed(_))));
    }
}
