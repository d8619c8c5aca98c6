//! Where an engine has an image, as a source that the scanner reads.

use std::collections::BTreeSet;
use std::time::Instant;

use portcullis_inventory::protocol::{Source, StoredLayer};
use portcullis_resolve::{
    ContainerdResolver, DockerResolver, StorageEngine, StorageImage, StorageImageError,
    StorageResolver, StoredError,
};
use portcullis_types::Place;

/// Why an engine's image cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// containerd does not have it, or does not answer.
    #[error(transparent)]
    Containerd(#[from] StoredError),
    /// containers/storage does not have it, or it is damaged.
    #[error(transparent)]
    Storage(#[from] StorageImageError),
}

/// The source of an image that an engine has, by a name or a digest of it.
///
/// # Errors
/// [`FindError`]: it is not there, or the engine does not answer by the deadline.
pub fn find(place: &Place, image: &str, deadline: Instant) -> Result<Source, FindError> {
    match place {
        Place::Containerd { socket, namespace } => {
            let resolver = ContainerdResolver::new(&socket.to_string_lossy());
            let stored = resolver.stored(image, namespace.as_deref(), deadline)?;
            let references = BTreeSet::from([stored.name]);
            Ok(Source::Blobs { folder: stored.folder, target: stored.target, references })
        }
        Place::Storage { roots } => {
            let resolver = StorageResolver::new(StorageEngine::Podman, roots.clone());
            Ok(of_storage(resolver.stored(image, deadline)?))
        }
        Place::Docker { socket, .. } => {
            let namespace = Some(DockerResolver::NAMESPACE.to_owned());
            find(&Place::Containerd { socket: socket.clone(), namespace }, image, deadline)
        }
    }
}

fn of_storage(image: StorageImage) -> Source {
    Source::Stored {
        config: image.config,
        layers: image.layers.into_iter().map(StoredLayer::Folder).collect(),
        manifests: BTreeSet::new(),
        references: image.names.into_iter().collect(),
    }
}
