//! Where containerd keeps an image, for those who read its layers.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use portcullis_types::{Digest, ImageRef};
use serde_json::value::RawValue;

use super::client::{Client, ContentError};
use super::image::{Reading, Way, ways};
use crate::documents::{Descriptor, DocumentError, descriptor, members, parse};
use crate::grpc::GrpcError;
use crate::names;
use crate::notes::{Notes, is_deadline};

/// Documents that are read of one image: an index for many platforms, all pulled, has about thirty
/// manifests.
const DOCUMENTS: usize = 256;
/// Documents that are read to find what a digest belongs to: a node has some hundred images, each
/// with an index and some ten platforms that are not there.
const SEARCHED_DOCUMENTS: usize = 16384;
/// Most layers of a manifest.
const MAX_LAYERS: usize = 1024;

/// An image in a content store, which has the blobs of an OCI layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    /// The name of its record.
    pub name: String,
    /// The namespace of the record.
    pub namespace: String,
    /// An index or a manifest: what the record points to, or, if a digest was asked for, the
    /// manifest or index below it that this digest leads to.
    pub target: Digest,
    /// The folder that has `blobs`.
    pub folder: PathBuf,
    /// The manifests in the content store to which the target leads, as far as they can be read, in
    /// the order in which the index names them.
    pub manifests: Vec<StoredManifest>,
}

/// One platform's image in a content store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredManifest {
    /// The indexes that lead to it, and the manifest, the target first.
    pub through: Vec<Digest>,
    /// `os/architecture` and perhaps `/variant`, as its index says; `None` if the manifest is the
    /// target, or its index says nothing.
    pub platform: Option<String>,
    /// Its configuration, by which it may be asked for if it is unpacked
    /// ([`ContainerdResolver::unpacked`](crate::ContainerdResolver::unpacked)).
    pub config: Digest,
    /// The blobs of layers that are not in the folder, each once, lowest layer first.
    pub missing: Vec<Digest>,
}

impl StoredImage {
    /// The manifest that is the image for a platform, `os[/architecture[/variant]]`: the first whose
    /// index says so, or says nothing.
    pub fn manifest(&self, platform: &str) -> Option<&StoredManifest> {
        self.manifests.iter().find(|manifest| {
            let Some(own) = &manifest.platform else { return true };
            let mut own = own.split('/');
            platform.split('/').all(|wanted| own.next() == Some(wanted))
        })
    }
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
    /// Whoever asked does not want to know any more.
    #[error("it was stopped")]
    Stopped,
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
    let digest = digest_of(image);
    for namespace in &namespaces {
        let client = Client::connect(address, namespace, deadline).await.map_err(failed)?;
        let found = match &digest {
            Some(digest) => named_best(client.images([digest]).await.map_err(failed)?),
            None => by_name(&client, image).await.map_err(failed)?,
        };
        if let Some((name, target)) = found {
            let (mut reading, mut notes) = (Reading::of_at_most(DOCUMENTS), Notes::default());
            let ways = followed(&client, &target, &mut reading, &mut notes).await;
            let ways = ways.map_err(failed)?;
            let manifests = manifests(&client, &folder, &ways).await.map_err(failed)?;
            let (namespace, target) = (namespace.clone(), target.digest);
            return Ok(StoredImage { name, namespace, target, folder, manifests });
        }
    }
    let mut reading = Reading::of_at_most(SEARCHED_DOCUMENTS);
    if let Some(digest) = &digest {
        let mut found = None;
        for namespace in &namespaces {
            let client = Client::connect(address, namespace, deadline).await.map_err(failed)?;
            let search = Search { client, namespace, folder: &folder, digest };
            match search.run(&mut reading).await.map_err(failed)? {
                Some(image) if image.is_whole() => return Ok(image),
                image => found = found.or(image),
            }
        }
        if let Some(found) = found {
            return Ok(found);
        }
    }
    let asked = match namespaces.as_slice() {
        [] => "any namespace".to_owned(),
        names => format!("the namespaces {}", names.join(", ")),
    };
    let shown = image.chars().take(200).flat_map(char::escape_debug).collect();
    Err(StoredError::Unknown(
        shown,
        match reading.complete {
            true => asked,
            false => format!("{asked}, as far as their images could be read"),
        },
    ))
}

/// A digest, perhaps without its algorithm.
fn digest_of(image: &str) -> Option<Digest> {
    image.parse().ok().or_else(|| format!("sha256:{image}").parse().ok())
}

/// By the name as it is, by the name in full, or, as engines pull it, without the tag beside a
/// digest.
async fn by_name(client: &Client, image: &str) -> Result<Option<(String, Descriptor)>, GrpcError> {
    let whole = image.parse::<ImageRef>().map(|image| image.to_string());
    let pulled = names::asked(image).map(|image| image.to_string());
    let mut all = vec![image.to_owned()];
    all.extend(whole.ok());
    all.extend(pulled);
    all.dedup();
    for name in all {
        if let Some(target) = client.image(&name).await? {
            return Ok(Some((name, target)));
        }
    }
    Ok(None)
}

/// One of several records of the same image; the CRI plug-in also makes one that is named by the
/// configuration's digest.
fn named_best(records: Vec<(String, Descriptor)>) -> Option<(String, Descriptor)> {
    records.into_iter().min_by_key(|(name, _)| names::recorded(name).is_none())
}

/// All ways from a target to configurations; an error only if the time was up.
async fn followed(
    client: &Client,
    target: &Descriptor,
    reading: &mut Reading,
    notes: &mut Notes,
) -> Result<Vec<Way>, GrpcError> {
    let ways = ways(client, target, reading, notes).await;
    match notes.deadline_hit {
        true => Err(GrpcError::Deadline),
        false => Ok(ways),
    }
}

/// A search through all images of a namespace.
struct Search<'a> {
    client: Client,
    namespace: &'a str,
    folder: &'a Path,
    digest: &'a Digest,
}

impl Search<'_> {
    /// The first whose layers are all there, or else the first.
    async fn run(&self, reading: &mut Reading) -> Result<Option<StoredImage>, GrpcError> {
        let Self { client, digest, .. } = self;
        let mut records = client.images([]).await?;
        // The CRI plug-in's record that is named by the configuration leads there at once.
        let own = digest.to_string();
        let own: BTreeSet<Digest> = records
            .iter()
            .filter(|(name, _)| *name == own)
            .map(|(_, target)| target.digest.clone())
            .collect();
        records.sort_by_key(|(name, target)| {
            (!own.contains(&target.digest), names::recorded(name).is_none())
        });
        let mut seen = BTreeSet::new();
        records.retain(|(_, target)| seen.insert(target.digest.clone()));
        let mut found = None;
        for (name, target) in records {
            // What is wrong with other images is told by `reading` alone.
            let mut notes = Notes::default();
            let ways = followed(client, &target, reading, &mut notes).await?;
            match self.among(name, ways).await? {
                Some(image) if image.is_whole() => return Ok(Some(image)),
                image => found = found.or(image),
            }
        }
        Ok(found)
    }

    /// What the digest leads to among the ways of an image.
    async fn among(
        &self,
        name: String,
        mut ways: Vec<Way>,
    ) -> Result<Option<StoredImage>, GrpcError> {
        for way in &mut ways {
            let through = &mut way.through;
            let at = match through.iter().position(|digest| digest == self.digest) {
                Some(at) => at,
                None if way.config == *self.digest => through.len().saturating_sub(1),
                None => through.len(),
            };
            through.drain(..at);
        }
        ways.retain(|way| !way.through.is_empty());
        let mut manifests = manifests(&self.client, self.folder, &ways).await?;
        if manifests.iter().any(|manifest| manifest.through.first() != Some(self.digest)) {
            // Several manifests may have this configuration.
            let best = manifests.iter().position(|manifest| manifest.missing.is_empty());
            manifests = vec![manifests.swap_remove(best.unwrap_or(0))];
        }
        let through = match manifests.first() {
            Some(manifest) => Some(&manifest.through),
            None => ways.first().map(|way| &way.through),
        };
        Ok(through.and_then(|through| through.first()).cloned().map(|target| StoredImage {
            name,
            namespace: self.namespace.to_owned(),
            target,
            folder: self.folder.to_owned(),
            manifests,
        }))
    }
}

impl StoredImage {
    /// Whether a manifest has all its layers.
    fn is_whole(&self) -> bool {
        self.manifests.iter().any(|manifest| manifest.missing.is_empty())
    }
}

/// Why a manifest is not told of.
#[derive(Debug, thiserror::Error)]
enum ManifestError {
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// What the manifests say, each of which was read before; an error only if the time was up.
async fn manifests(
    client: &Client,
    folder: &Path,
    ways: &[Way],
) -> Result<Vec<StoredManifest>, GrpcError> {
    let mut found: Vec<StoredManifest> = Vec::new();
    for way in ways {
        if found.iter().any(|known| known.through.last() == way.through.last()) {
            continue;
        }
        match manifest(client, folder, way).await {
            Ok(manifest) => found.extend(manifest),
            Err(error) if is_deadline(&error) => return Err(GrpcError::Deadline),
            // Whoever reads the layers reads the documents again, and tells what is wrong with them.
            Err(_) => {}
        }
    }
    Ok(found)
}

async fn manifest(
    client: &Client,
    folder: &Path,
    way: &Way,
) -> Result<Option<StoredManifest>, ManifestError> {
    let (digest, index) = match way.through.as_slice() {
        [] => return Ok(None),
        [digest] => (digest, None),
        [.., index, digest] => (digest, Some(index)),
    };
    let platform = match index {
        Some(index) => platform(&client.content(index).await?, digest)?,
        None => None,
    };
    let mut missing: Vec<Digest> = Vec::new();
    for layer in layers(&client.content(digest).await?)? {
        if !missing.contains(&layer) && !is_there(folder, &layer) {
            missing.push(layer);
        }
    }
    let (through, config) = (way.through.clone(), way.config.clone());
    Ok(Some(StoredManifest { through, platform, config, missing }))
}

/// The blobs of a manifest's layers, lowest first.
fn layers(json: &[u8]) -> Result<Vec<Digest>, DocumentError> {
    let [layers] = members(json, ["layers"])?;
    let layers: Option<Vec<&RawValue>> = layers.map(parse).transpose()?.flatten();
    let layers = layers.unwrap_or_default();
    if layers.len() > MAX_LAYERS {
        return Err(DocumentError::TooMany("layers", MAX_LAYERS));
    }
    layers.into_iter().map(|layer| Ok(descriptor(layer)?.digest)).collect()
}

/// What an index says of a manifest's platform (image-spec `image-index.md`).
fn platform(json: &[u8], manifest: &Digest) -> Result<Option<String>, DocumentError> {
    let [manifests] = members(json, ["manifests"])?;
    let manifests: Vec<&RawValue> = manifests.map(parse).transpose()?.unwrap_or_default();
    for entry in manifests {
        // One that is not followed may have any digest.
        if !descriptor(entry).is_ok_and(|entry| entry.digest == *manifest) {
            continue;
        }
        let [platform] = members(entry.get().as_bytes(), ["platform"])?;
        let Some(platform) = platform.filter(|json| json.get() != "null") else { return Ok(None) };
        let [os, architecture, variant] =
            members(platform.get().as_bytes(), ["os", "architecture", "variant"])?;
        let text = |json: Option<&RawValue>| json.map(parse::<String>).transpose();
        let mut told = vec![text(os)?.unwrap_or_default(), text(architecture)?.unwrap_or_default()];
        told.extend(text(variant)?);
        return Ok(Some(told.join("/")));
    }
    Ok(None)
}

/// Whether the folder has a blob, as a file.
fn is_there(folder: &Path, blob: &Digest) -> bool {
    let path = folder.join("blobs").join(blob.algorithm().as_str()).join(blob.hex());
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}
