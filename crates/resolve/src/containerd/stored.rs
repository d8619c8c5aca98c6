//! Where containerd keeps an image, for those who read its layers.

use std::path::{Path, PathBuf};
use std::time::Instant;

use portcullis_types::{Digest, ImageRef};

use super::client::Client;
use crate::documents::Descriptor;
use crate::grpc::GrpcError;

/// An image in a content store, which has the blobs of an OCI layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    /// The name of its record.
    pub name: String,
    /// The namespace of the record.
    pub namespace: String,
    /// What the record points to: an index or a manifest.
    pub target: Digest,
    /// The folder that has `blobs`.
    pub folder: PathBuf,
}

/// Why an image is not found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoredError {
    /// The socket cannot be connected to, or a call fails.
    #[error("containerd at {address} does not answer")]
    Call {
        /// The socket's path.
        address: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No namespace has it.
    #[error("containerd has no image \"{0}\" in {1}")]
    Unknown(String, String),
    /// It does not say where its content is.
    #[error("containerd does not say where its content store is")]
    Folder,
    /// No call could be made.
    #[error("containerd could not be asked")]
    Runtime(#[source] std::io::Error),
}

pub(super) async fn find(
    address: &Path,
    image: &str,
    namespace: Option<&str>,
    deadline: Instant,
) -> Result<StoredImage, StoredError> {
    let failed = |source: GrpcError| StoredError::Call {
        address: address.display().to_string(),
        source: source.into(),
    };
    let first = namespace.unwrap_or("default");
    let client = Client::connect(address, first, deadline).await.map_err(failed)?;
    let mut namespaces = match namespace {
        Some(namespace) => vec![namespace.to_owned()],
        None => client.namespaces().await.map_err(failed)?,
    };
    namespaces.sort();
    let folder = client.content_folder().await.map_err(failed)?.ok_or(StoredError::Folder)?;
    for namespace in &namespaces {
        let client = Client::connect(address, namespace, deadline).await.map_err(failed)?;
        if let Some((name, target)) = within(&client, image).await.map_err(failed)? {
            let (namespace, target) = (namespace.clone(), target.digest);
            return Ok(StoredImage { name, namespace, target, folder });
        }
    }
    let asked = match namespaces.as_slice() {
        [] => "any namespace".to_owned(),
        names => format!("the namespaces {}", names.join(", ")),
    };
    Err(StoredError::Unknown(image.chars().take(200).flat_map(char::escape_debug).collect(), asked))
}

/// By the name as it is, by the name in full, or by the digest of the target.
async fn within(client: &Client, image: &str) -> Result<Option<(String, Descriptor)>, GrpcError> {
    if let Ok(digest) = image.parse::<Digest>() {
        return Ok(client.images([&digest]).await?.into_iter().next());
    }
    let whole = image.parse::<ImageRef>().map(|image| image.to_string());
    for name in [Some(image.to_owned()), whole.ok()].into_iter().flatten() {
        if let Some(target) = client.image(&name).await? {
            return Ok(Some((name, target)));
        }
    }
    Ok(None)
}
