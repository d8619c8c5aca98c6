//! One unary gRPC call over a unix socket: all of gRPC that these tests need.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use h2::RecvStream;
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use prost::bytes::Bytes;
use tokio::net::UnixStream;

/// The error that a server answered with.
#[derive(Debug)]
pub struct Status {
    /// The code, as <https://grpc.io/docs/guides/status-codes/> numbers them.
    pub code: u32,
    /// The text.
    pub message: String,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "gRPC status {}: {}", self.code, self.message)
    }
}

impl std::error::Error for Status {}

/// Calls `path` on the server at `socket`.
pub(super) async fn unary<Q: prost::Message, A: prost::Message + Default>(
    socket: &Path,
    path: &str,
    request: &Q,
) -> Result<A> {
    let stream = UnixStream::connect(socket).await?;
    let (client, connection) = h2::client::handshake(stream).await?;
    let driver = tokio::spawn(connection);
    let answer = exchange(client, path, framed(&request.encode_to_vec())?).await;
    driver.abort();
    let message = answer.with_context(|| format!("{path} failed"))?;
    Ok(A::decode(message.as_slice())?)
}

async fn exchange(client: SendRequest<Bytes>, path: &str, body: Bytes) -> Result<Vec<u8>> {
    let request = Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut sending) = client.ready().await?.send_request(request, false)?;
    sending.send_data(body, true)?;

    let (head, mut body) = response.await?.into_parts();
    ensure!(head.status.is_success(), "HTTP status {}", head.status);
    let message = collect(&mut body).await?;
    // An answer that is an error and nothing else has its status in the head.
    let trailers = body.trailers().await?;
    check(trailers.as_ref().unwrap_or(&head.headers))?;
    unframed(&message)
}

async fn collect(body: &mut RecvStream) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(part) = body.data().await {
        let part = part?;
        all.extend_from_slice(&part);
        body.flow_control().release_capacity(part.len())?;
    }
    Ok(all)
}

fn check(trailers: &HeaderMap) -> Result<()> {
    let text = |name| trailers.get(name).and_then(|value| value.to_str().ok());
    let code = text("grpc-status").context("an answer without a status")?;
    let code = code.parse()?;
    if code != 0 {
        let message = unescaped(text("grpc-message").unwrap_or_default());
        return Err(Status { code, message }.into());
    }
    Ok(())
}

/// A message behind its five bytes of head: not compressed, and its length.
fn framed(message: &[u8]) -> Result<Bytes> {
    let length = u32::try_from(message.len())?;
    Ok([&[0], &length.to_be_bytes()[..], message].concat().into())
}

fn unframed(frame: &[u8]) -> Result<Vec<u8>> {
    let (head, message) = frame.split_at_checked(5).context("a cut answer")?;
    ensure!(
        head == [&[0], &u32::try_from(message.len())?.to_be_bytes()[..]].concat(),
        "an answer that is not one plain message"
    );
    Ok(message.to_vec())
}

/// Status messages are percent-encoded.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escape = after.get(..2).filter(|_| first == b'%');
        let escape = escape.and_then(|hex| std::str::from_utf8(hex).ok());
        match escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_undone() {
        assert_eq!(unframed(&framed(b"abc").unwrap()).unwrap(), b"abc");
        assert!(unframed(b"\0\0\0\0\x02a").is_err());
    }

    #[test]
    fn escapes_are_undone_and_others_are_kept() {
        assert_eq!(unescaped("a%20b%0Ac"), "a b\nc");
        assert_eq!(unescaped("100% of %"), "100% of %");
    }
}
