//! Where an engine has an image, as a source that the scanner reads.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use portcullis_inventory::protocol::{Source, StoredLayer};
use portcullis_resolve::{
    ContainerdResolver, DockerImageError, DockerResolver, DockerStored, StorageEngine,
    StorageImageError, StorageResolver, StoredError, StoredImage, UnpackedError,
};
use portcullis_types::Place;

/// Why an engine's image cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// containerd does not have it, or does not answer.
    #[error(transparent)]
    Containerd(#[from] StoredError),
    /// containerd has thrown away what it was unpacked from, and what is unpacked cannot be read.
    #[error(
        "{missing} of the image's layers are not in containerd's content store, and what it has unpacked cannot be read"
    )]
    Unpacked {
        /// How many layers.
        missing: usize,
        /// Why.
        source: UnpackedError,
    },
    /// containers/storage does not have it, or it is damaged.
    #[error(transparent)]
    Storage(#[from] StorageImageError),
    /// Docker does not have it, or keeps it where it cannot be read.
    #[error(transparent)]
    Docker(#[from] DockerImageError),
}

/// The source of an image that an engine has, by a name or a digest of it, and for a platform where
/// there are several.
///
/// # Errors
/// [`FindError`]: it is not there, or the engine does not answer by the deadline.
pub fn find(
    place: &Place,
    image: &str,
    platform: &str,
    deadline: Instant,
) -> Result<Source, FindError> {
    match place {
        Place::Containerd { socket, namespace } => {
            let resolver = ContainerdResolver::new(&socket.to_string_lossy());
            let stored = resolver.stored(image, namespace.as_deref(), deadline)?;
            in_containerd(socket, stored, platform, deadline)
        }
        Place::Storage { roots } => {
            let resolver = StorageResolver::new(StorageEngine::Podman, roots.clone());
            let stored = resolver.stored(image, deadline)?;
            Ok(Source::Stored {
                config: stored.config,
                layers: stored.layers.into_iter().map(StoredLayer::Folder).collect(),
                manifests: BTreeSet::new(),
                references: stored.names.into_iter().collect(),
            })
        }
        Place::Docker { data, socket } => {
            let resolver = DockerResolver::new(data.clone(), &socket.to_string_lossy());
            match resolver.stored(image, deadline)? {
                DockerStored::Graph(stored) => Ok(Source::Stored {
                    config: stored.config,
                    layers: stored.layers.into_iter().map(StoredLayer::Folder).collect(),
                    manifests: stored.manifests,
                    references: stored.names.into_iter().collect(),
                }),
                DockerStored::Containerd(stored) => {
                    in_containerd(socket, stored, platform, deadline)
                }
            }
        }
    }
}

/// The blobs of the content store; the unpacked layers where the blobs are gone.
fn in_containerd(
    socket: &Path,
    stored: StoredImage,
    platform: &str,
    deadline: Instant,
) -> Result<Source, FindError> {
    let manifest = stored.manifest(platform).filter(|manifest| !manifest.missing.is_empty());
    let Some(manifest) = manifest else {
        let references = BTreeSet::from([stored.name]);
        return Ok(Source::Blobs { folder: stored.folder, target: stored.target, references });
    };
    let resolver = ContainerdResolver::new(&socket.to_string_lossy());
    let snapshotter = ContainerdResolver::SNAPSHOTTER;
    let unpacked = resolver
        .unpacked(&manifest.config, &stored.namespace, snapshotter, deadline)
        .map_err(|source| FindError::Unpacked { missing: manifest.missing.len(), source })?;
    Ok(Source::Stored {
        config: unpacked.config,
        layers: unpacked.layers.into_iter().map(StoredLayer::Folder).collect(),
        manifests: manifest.through.iter().cloned().collect(),
        references: BTreeSet::from([stored.name.clone()]),
    })
}
