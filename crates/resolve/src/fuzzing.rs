//! Entry points for fuzzers, where types are private.

use std::error::Error;
use std::io::{Read, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use portcullis_types::{Digest, ImageConfig};
use prost::Message;

use crate::containerd::{api, records};
use crate::documents::{self, Document};
use crate::grpc::{Channel, GrpcError, unframe};

type Refused = Box<dyn Error>;

/// What a document names.
#[derive(Debug)]
pub enum Named {
    /// Digests of manifests and indexes.
    Index(Vec<Digest>),
    /// Digest of the configuration.
    Manifest(Digest),
}

/// Reads an index or a manifest that names its own type.
///
/// # Errors
/// Why it is none.
pub fn document(json: &[u8]) -> Result<Named, Refused> {
    Ok(match documents::document(json, "")? {
        Document::Index(named) => Named::Index(named.into_iter().map(|d| d.digest).collect()),
        Document::Manifest(config) => Named::Manifest(config.digest),
    })
}

/// Reads the layers of a configuration.
///
/// # Errors
/// Why it is none.
pub fn diff_ids(json: &[u8]) -> Result<Vec<Digest>, Refused> {
    Ok(documents::diff_ids(json)?)
}

/// Reads the rest of a configuration.
///
/// # Errors
/// Why it is none.
pub fn image_config(json: &[u8]) -> Result<ImageConfig, Refused> {
    Ok(documents::image_config(json)?)
}

/// Reads a message of containerd's API, and what is in it. Says whether it was accepted.
pub fn record(kind: u8, message: &[u8]) -> bool {
    match kind % 7 {
        0 => again::<api::GetContainerResponse>(message).is_some_and(|answer| {
            answer.container.is_none_or(|container| records::are_read(&container))
        }),
        1 => again::<api::StatSnapshotResponse>(message).is_some(),
        2 => again::<api::MountsResponse>(message).is_some(),
        3 => again::<api::ActivationResponse>(message).is_some(),
        4 => again::<api::ListImagesResponse>(message).is_some(),
        5 => again::<api::ReadContentResponse>(message).is_some(),
        _ => again::<api::StoreGetResponse>(message).is_some(),
    }
}

/// Reads a file of records of containers/storage for the thing with this id. Says whether it was
/// found.
pub fn storage(json: &[u8], id: &str) -> bool {
    crate::storage::fuzzing::records(json, id)
}

/// The lower directories of what a mount table says is mounted at a place, if anything is.
pub fn lower(table: &[u8], place: &Path) -> Option<Vec<PathBuf>> {
    let mounted = crate::mounted::find(table, place)?;
    assert_eq!(mounted.at, place);
    Some(mounted.lower())
}

fn again<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    assert_eq!(M::decode(&*message.encode_to_vec()).as_ref(), Ok(&message));
    Some(message)
}

/// The gRPC messages in a stream that comes in pieces of `size` bytes, up to the first fault, and
/// whether there was one.
pub fn messages(stream: &[u8], size: usize) -> (Vec<Bytes>, bool) {
    let mut received = BytesMut::new();
    let mut messages = Vec::new();
    for piece in stream.chunks(size) {
        received.extend_from_slice(piece);
        loop {
            match unframe(&mut received) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(_) => return (messages, true),
            }
        }
    }
    (messages, false)
}

/// A call whose server sends these bytes, before the request or in answer to it, and then says no
/// more.
///
/// # Errors
/// Why it failed; but never that its deadline has passed, since the server hung up before.
pub fn call(server: &[u8], in_answer: bool) -> Result<(), Refused> {
    let (ours, mut theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut serve = move || -> std::io::Result<()> {
        if in_answer {
            read_request(&mut theirs)?;
        }
        theirs.write_all(server)?;
        theirs.shutdown(Shutdown::Write)?;
        std::io::copy(&mut theirs, &mut std::io::sink()).map(drop)
    };
    let called = std::thread::scope(|scope| {
        // What the server meets when the client hangs up on it does not matter.
        scope.spawn(move || serve().ok());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let called = runtime.block_on(async {
            let ours = tokio::net::UnixStream::from_std(ours).map_err(GrpcError::Unreachable)?;
            let channel = Channel::over(ours, HeaderValue::from_static("k8s.io"), deadline).await?;
            let request = api::GetContainerRequest { id: "c1".to_owned() };
            channel.unary::<api::GetContainerResponse>(api::CONTAINERS_GET, &request).await
        });
        called.map(drop).map_err(Refused::from)
    });
    assert!(Instant::now() < deadline, "the call waited for its deadline");
    called
}

/// Reads a client's preface and frames up to the end of its request (RFC 9113, sections 3.4, 4.1).
fn read_request(client: &mut impl Read) -> std::io::Result<()> {
    const DATA: u8 = 0;
    client.read_exact(&mut [0; 24])?;
    loop {
        let mut head = [0; 9];
        client.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        std::io::copy(&mut client.take(length.into()), &mut std::io::sink())?;
        if head[3] == DATA {
            return Ok(());
        }
    }
}
