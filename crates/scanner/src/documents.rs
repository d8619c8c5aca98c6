//! Indexes, manifests and configurations (OCI image spec; Docker's image manifest v2, schema 2, and
//! `manifest.json` of `docker save`): from the first of them to the layers.

use std::collections::BTreeSet;

use portcullis_inventory::{Image, ImageConfigError, MAX_LAYERS};
use portcullis_types::Digest;
use serde::Deserialize;
use serde_json::Value;

/// Most bytes of an index or manifest; registries take 4 MB.
pub(crate) const MAX_DOCUMENT: u64 = 8 << 20;
/// Most manifests of an index that are looked at.
const MAX_MANIFESTS: usize = 10_000;
/// Most indexes within each other.
const MAX_DEPTH: usize = 4;
/// Where a name stands (image-spec `annotations.md`; containerd's own name for it is whole).
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DocumentError {
    /// A document is not there, or cannot be read.
    #[error("{0} cannot be read")]
    Read(String, #[source] std::io::Error),
    /// A document is not what its digest says.
    #[error("{0} has another content than its digest says")]
    Digest(String),
    /// A document is none.
    #[error("{0} is no document of an image")]
    Json(String, #[source] serde_json::Error),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ImageConfigError),
    /// The manifest and the configuration do not fit.
    #[error("the manifest has {0} layers and the configuration {1}")]
    Layers(usize, usize),
    /// There is no such image.
    #[error("there is no image here{0}")]
    None(String),
    /// There are several.
    #[error("there are several images here: choose one with --image: {0}")]
    Several(String),
    /// Something that is not understood.
    #[error("{0}")]
    Unsupported(String),
}

/// Gives documents by where they lie.
pub(crate) trait Documents {
    /// The content, of at most [`MAX_DOCUMENT`] bytes.
    fn read(&mut self, path: &str) -> Result<Vec<u8>, DocumentError>;
}

/// An image, and where its layers lie.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) image: Image,
    /// Paths, lowest layer first.
    pub(crate) layers: Vec<String>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Clone, Deserialize)]
struct Descriptor {
    #[serde(default, rename = "mediaType")]
    media_type: String,
    digest: Digest,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: Value,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

impl Descriptor {
    fn names(&self) -> impl Iterator<Item = &str> {
        NAMES.iter().filter_map(|key| self.annotations.get(key)?.as_str())
    }

    /// Attestations of BuildKit stand among the platforms, and are no images.
    fn is_image(&self) -> bool {
        let kind = self.annotations.get("vnd.docker.reference.type");
        kind.and_then(Value::as_str) != Some("attestation-manifest")
    }

    fn is_for(&self, wanted: &str) -> bool {
        let Some(platform) = &self.platform else { return true };
        let mut parts = wanted.split('/');
        let (os, architecture, variant) = (parts.next(), parts.next(), parts.next());
        os == Some(&platform.os)
            && architecture.is_none_or(|wanted| wanted == platform.architecture)
            && variant.is_none_or(|wanted| platform.variant.as_deref() == Some(wanted))
    }

    fn path(&self) -> String {
        format!("blobs/{}/{}", self.digest.algorithm().as_str(), self.digest.hex())
    }
}

/// The image of a layout, by its name if there are several.
pub(crate) fn of_layout(
    documents: &mut dyn Documents,
    wanted: Option<&str>,
    platform: &str,
) -> Result<Found, DocumentError> {
    let index: Index = parsed("index.json", &documents.read("index.json")?)?;
    let entries: Vec<Descriptor> =
        index.manifests.into_iter().filter(Descriptor::is_image).collect();
    let is_wanted = |entry: &&Descriptor| match wanted {
        None => true,
        Some(wanted) => {
            entry.names().any(|name| name == wanted) || entry.digest.to_string() == wanted
        }
    };
    let mut fitting: Vec<&Descriptor> = entries.iter().filter(is_wanted).collect();
    // One that has no platform itself leads to an index that has some.
    if fitting.len() > 1 {
        fitting.retain(|entry| entry.is_for(platform));
    }
    let told = || -> String {
        let names = entries.iter().take(20).map(|entry| {
            entry.names().next().map_or_else(|| entry.digest.to_string(), ToOwned::to_owned)
        });
        names.collect::<Vec<_>>().join(", ")
    };
    fitting.dedup_by(|a, b| a.digest == b.digest);
    let entry = match fitting.as_slice() {
        [entry] => (*entry).clone(),
        [] if entries.is_empty() => return Err(DocumentError::None(String::new())),
        [] => return Err(DocumentError::None(format!(" of that name or platform: {}", told()))),
        _ => return Err(DocumentError::Several(told())),
    };
    let references: BTreeSet<String> = entry.names().map(ToOwned::to_owned).collect();
    let mut found = of_target(documents, entry.digest, platform)?;
    found.image.references = references;
    Ok(found)
}

/// The image that an index or manifest leads to.
pub(crate) fn of_target(
    documents: &mut dyn Documents,
    digest: Digest,
    platform: &str,
) -> Result<Found, DocumentError> {
    let target =
        Descriptor { media_type: String::new(), digest, platform: None, annotations: Value::Null };
    let mut manifests = BTreeSet::new();
    let mut found = of_descriptor(documents, &target, platform, &mut manifests, 0)?;
    found.image.manifests = manifests;
    Ok(found)
}

fn of_descriptor(
    documents: &mut dyn Documents,
    descriptor: &Descriptor,
    platform: &str,
    manifests: &mut BTreeSet<Digest>,
    depth: usize,
) -> Result<Found, DocumentError> {
    let path = descriptor.path();
    let json = checked(documents, descriptor)?;
    manifests.insert(descriptor.digest.clone());
    let shape: Value = parsed(&path, &json)?;
    if shape["manifests"].is_array() {
        if depth >= MAX_DEPTH {
            return Err(DocumentError::Unsupported(
                "indexes lie too deep within each other".to_owned(),
            ));
        }
        let index: Index = parsed(&path, &json)?;
        let mut images = index.manifests.into_iter().take(MAX_MANIFESTS);
        let image = images.find(|entry| entry.is_image() && entry.is_for(platform));
        let image = image.ok_or_else(|| {
            DocumentError::None(format!(" for the platform {platform}: choose one with --platform"))
        })?;
        return of_descriptor(documents, &image, platform, manifests, depth + 1);
    }
    if shape["schemaVersion"].as_u64() == Some(1) || !shape["config"].is_object() {
        return Err(DocumentError::Unsupported(format!(
            "{path} is neither an index nor a manifest of an image"
        )));
    }
    let manifest: Manifest = parsed(&path, &json)?;
    let image = Image::of_config(checked(documents, &manifest.config)?)?;
    if let Some(layer) =
        manifest.layers.iter().find(|layer| layer.media_type.ends_with("+encrypted"))
    {
        return Err(DocumentError::Unsupported(format!("its layer {} is encrypted", layer.digest)));
    }
    fits(&image, manifest.layers.len())?;
    let layers = manifest.layers.iter().map(Descriptor::path).collect();
    Ok(Found { image, layers })
}

/// The image of an archive of `docker save`, by one of its names if there are several.
pub(crate) fn of_docker(
    documents: &mut dyn Documents,
    wanted: Option<&str>,
) -> Result<Found, DocumentError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Saved {
        config: String,
        #[serde(default)]
        repo_tags: Option<Vec<String>>,
        layers: Vec<String>,
    }
    let saved: Vec<Saved> = parsed("manifest.json", &documents.read("manifest.json")?)?;
    let tags = |saved: &Saved| saved.repo_tags.clone().unwrap_or_default();
    let is_wanted = |saved: &&Saved| {
        wanted.is_none_or(|wanted| {
            tags(saved).iter().any(|tag| tag == wanted)
                || saved.config.contains(wanted.trim_start_matches("sha256:"))
        })
    };
    let told = || {
        saved
            .iter()
            .take(20)
            .map(|saved| tags(saved).first().cloned().unwrap_or_else(|| saved.config.clone()))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let fitting: Vec<&Saved> = saved.iter().filter(is_wanted).collect();
    let saved = match fitting.as_slice() {
        [saved] => saved,
        [] if saved.is_empty() => return Err(DocumentError::None(String::new())),
        [] => return Err(DocumentError::None(format!(" of that name: {}", told()))),
        _ => return Err(DocumentError::Several(told())),
    };
    let json = documents.read(&saved.config)?;
    let mut image = Image::of_config(json)?;
    fits(&image, saved.layers.len())?;
    image.references = tags(saved).into_iter().collect();
    Ok(Found { image, layers: saved.layers.clone() })
}

fn fits(image: &Image, layers: usize) -> Result<(), DocumentError> {
    match layers == image.diff_ids.len() && layers <= MAX_LAYERS {
        true => Ok(()),
        false => Err(DocumentError::Layers(layers, image.diff_ids.len())),
    }
}

/// A document that is what its digest says.
fn checked(
    documents: &mut dyn Documents,
    descriptor: &Descriptor,
) -> Result<Vec<u8>, DocumentError> {
    let path = descriptor.path();
    let bytes = documents.read(&path)?;
    match descriptor.digest.is_of(&bytes) {
        true => Ok(bytes),
        false => Err(DocumentError::Digest(path)),
    }
}

fn parsed<'a, T: Deserialize<'a>>(path: &str, json: &'a [u8]) -> Result<T, DocumentError> {
    serde_json::from_slice(json).map_err(|error| DocumentError::Json(path.to_owned(), error))
}
