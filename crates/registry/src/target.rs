//! Which image a reference leads to at a registry: from manifest to configuration to layers, each by
//! its content.

use std::collections::BTreeSet;

use portcullis_types::{Digest, ImageFacts, ImageRef, chain_id};

use crate::client::Repository;
use crate::document::{Descriptor, Document, MAX_DOCUMENT, Manifest, diff_ids, of_platform};
use crate::error::RegistryError;
use crate::share::Wanted;

/// Most manifests of an index that are read to find a configuration.
const MAX_TRIED: usize = 32;

/// An image at a registry.
#[derive(Debug)]
pub(crate) struct Target {
    /// Its manifest.
    pub(crate) manifest: Descriptor,
    /// Its configuration.
    pub(crate) config: Descriptor,
    /// The manifest, and the index that led to it.
    through: BTreeSet<Digest>,
}

/// Finds the image that a reference leads to.
///
/// # Errors
/// It is not there, or is another one than is wanted.
pub(crate) fn find(
    repository: &Repository<'_>,
    reference: &ImageRef,
    wanted: Wanted<'_>,
) -> Result<Target, RegistryError> {
    let name = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    };
    let missing = || RegistryError::Missing(reference.to_string());
    let (document, first) = document(repository, &name)?.ok_or_else(missing)?;
    let mut through = BTreeSet::from([first.digest.clone()]);
    let entries = match document {
        Document::Manifest(manifest) => {
            return match wanted {
                Wanted::Config(config) if manifest.config.digest != *config => {
                    Err(other(reference, config))
                }
                _ => Ok(Target { manifest: first, config: manifest.config, through }),
            };
        }
        Document::Index(entries) => entries,
    };
    let tried: Vec<&Descriptor> = match wanted {
        Wanted::Platform(platform) => of_platform(&entries, platform).take(1).collect(),
        Wanted::Config(_) => entries.iter().take(MAX_TRIED).collect(),
    };
    for entry in tried {
        let Some((manifest, found)) = manifest(repository, &entry.digest)? else { continue };
        if let Wanted::Config(config) = wanted
            && manifest.config.digest != *config
        {
            continue;
        }
        through.insert(found.digest.clone());
        return Ok(Target { manifest: found, config: manifest.config, through });
    }
    Err(match wanted {
        Wanted::Platform(platform) => {
            RegistryError::Missing(format!("an image for {platform} at {reference}"))
        }
        Wanted::Config(config) => other(reference, config),
    })
}

fn other(reference: &ImageRef, config: &Digest) -> RegistryError {
    RegistryError::Missing(format!("the image {config} at {reference}: another one"))
}

fn document(
    repository: &Repository<'_>,
    name: &str,
) -> Result<Option<(Document, Descriptor)>, RegistryError> {
    let Some((bytes, descriptor)) = repository.manifest(name)? else { return Ok(None) };
    let document = Document::read(&bytes, &descriptor.media_type)
        .map_err(|why| RegistryError::Malformed { what: descriptor.digest.to_string(), why })?;
    Ok(Some((document, descriptor)))
}

fn manifest(
    repository: &Repository<'_>,
    digest: &Digest,
) -> Result<Option<(Manifest, Descriptor)>, RegistryError> {
    match document(repository, &digest.to_string())? {
        Some((Document::Manifest(manifest), descriptor)) => Ok(Some((manifest, descriptor))),
        Some((Document::Index(_), _)) | None => Ok(None),
    }
}

impl Target {
    /// By what the verdict store knows the image. Its names are not there: they prove nothing, and
    /// whoever asked knows by which name.
    ///
    /// # Errors
    /// Its configuration is not there, or none.
    pub(crate) fn facts(&self, repository: &Repository<'_>) -> Result<ImageFacts, RegistryError> {
        let json = repository.blob(&self.config, MAX_DOCUMENT)?;
        let malformed = |why| RegistryError::Malformed {
            what: format!("the image {}", self.config.digest),
            why,
        };
        let layers = diff_ids(&json).map_err(malformed)?;
        Ok(ImageFacts {
            config: self.config.digest.clone(),
            chain_id: chain_id(&layers),
            manifests: self.through.clone(),
            references: BTreeSet::new(),
        })
    }
}
