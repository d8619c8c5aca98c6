//! From an image record's target down to configurations and their chain IDs.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_types::{Digest, ImageConfig, chain_id};

use super::client::{Client, ContentError, together};
use crate::documents::{Descriptor, Document, DocumentError, diff_ids, document, image_config};
use crate::notes::Notes;

/// How many documents are read at the same time; with their largest size this bounds the memory.
const AT_ONCE: usize = 4;
/// Indexes may name indexes; no image is known to go deeper than two.
const MAX_DEPTH: usize = 4;

/// How much of an image's documents was read, and how much may still be.
#[derive(Debug)]
pub(crate) struct Reading {
    left: usize,
    /// Everything that is stored was read and understood: what was not found is not there.
    pub(crate) complete: bool,
}

impl Reading {
    /// At most so many documents.
    pub(crate) fn of_at_most(documents: usize) -> Self {
        Self { left: documents, complete: true }
    }

    /// As many of `wanted` as may still be read.
    fn take(&mut self, wanted: usize, notes: &mut Notes) -> usize {
        let granted = wanted.min(self.left);
        self.left -= granted;
        if granted < wanted {
            self.complete = false;
            notes.say("not all documents of the image were read: there are too many");
        }
        granted
    }

    /// A document that is there could not be read.
    fn missed(&mut self, what: &str, digest: &Digest, error: &ConfigError, notes: &mut Notes) {
        self.complete = false;
        notes.trouble(&format!("the {what} {digest}"), error);
    }
}

/// A way from a record's target to a configuration.
#[derive(Debug)]
pub(crate) struct Way {
    /// The indexes and the manifest on the way, the target first.
    pub(crate) through: Vec<Digest>,
    /// The configuration.
    pub(crate) config: Digest,
}

/// What was read of a configuration.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// The chain ID of its layers; `None` for an image without layers.
    pub(crate) chain: Option<Digest>,
    /// What else it says; an error where the layers alone could be read.
    pub(crate) says: Result<ImageConfig, DocumentError>,
}

/// Why a configuration's chain ID is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The blob is not to be had.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The blob is not a configuration.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// All ways from a target to configurations.
///
/// A manifest that is not in the content store is another platform's and leads nowhere.
pub(crate) async fn ways(
    client: &Client,
    target: &Descriptor,
    reading: &mut Reading,
    notes: &mut Notes,
) -> Vec<Way> {
    let mut found = Vec::new();
    let mut level = vec![(Vec::new(), target.clone())];
    for _ in 0..MAX_DEPTH {
        let granted = reading.take(level.len(), notes);
        let mut below = Vec::new();
        for batch in level[..granted].chunks(AT_ONCE) {
            let contents = together(batch.iter().map(|(_, named)| {
                let (client, digest) = (client.clone(), named.digest.clone());
                async move { client.content(&digest).await }
            }))
            .await;
            for ((through, named), content) in batch.iter().zip(contents) {
                let mut through = through.clone();
                through.push(named.digest.clone());
                let read = match content {
                    Err(error) if error.is_not_found() => continue,
                    Err(error) => Err(ConfigError::from(error)),
                    Ok(json) => document(&json, &named.media_type).map_err(ConfigError::from),
                };
                match read {
                    Ok(Document::Index(manifests)) => {
                        below.extend(manifests.into_iter().map(|m| (through.clone(), m)));
                    }
                    Ok(Document::Manifest(config)) => {
                        found.push(Way { through, config: config.digest })
                    }
                    Err(error) => reading.missed("manifest", &named.digest, &error, notes),
                }
            }
        }
        level = below;
    }
    if !level.is_empty() {
        reading.complete = false;
        notes.say("not all documents of the image were read: its indexes are too deep");
    }
    found
}

/// Those of the configurations whose layers are exactly the chain, with what else they say.
pub(crate) async fn with_chain(
    client: &Client,
    configs: BTreeSet<Digest>,
    chain: &Digest,
    reading: &mut Reading,
    notes: &mut Notes,
) -> BTreeMap<Digest, Result<ImageConfig, DocumentError>> {
    let mut matching = BTreeMap::new();
    let granted = reading.take(configs.len(), notes);
    let configs: Vec<Digest> = configs.into_iter().take(granted).collect();
    for batch in configs.chunks(AT_ONCE) {
        let chains = together(batch.iter().map(|config| {
            let (client, config) = (client.clone(), config.clone());
            async move { configuration(&client, &config).await }
        }))
        .await;
        for (config, found) in batch.iter().zip(chains) {
            match found {
                Ok(found) if found.chain.as_ref() == Some(chain) => {
                    matching.insert(config.clone(), found.says);
                }
                Ok(_) => {}
                Err(ConfigError::Content(error)) if error.is_not_found() => {}
                Err(error) => reading.missed("configuration", config, &error, notes),
            }
        }
    }
    matching
}

/// Reads a configuration.
pub(crate) async fn configuration(
    client: &Client,
    config: &Digest,
) -> Result<Configuration, ConfigError> {
    let json = client.content(config).await?;
    Ok(Configuration { chain: chain_id(&diff_ids(&json)?), says: image_config(&json) })
}
