//! All images that containerd has, and word of those that come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use portcullis_types::Digest;

use super::client::Client;
use super::image::{Reading, ways};
use super::stored::StoredError;
use crate::documents::{Descriptor, is_for};
use crate::grpc::GrpcError;
use crate::notes::{Notes, is_deadline};
use crate::{ImageHad, MAX_IMAGES, Patience};

/// Documents that are read of one image; see `stored.rs`.
const DOCUMENTS: usize = 256;
/// Most namespaces that are looked into; a node has a handful.
const MAX_NAMESPACES: usize = 64;

/// What is asked for.
pub(super) struct Asked<'a> {
    /// Which namespaces.
    pub(super) wanted: &'a dyn Fn(&str) -> bool,
    pub(super) platform: &'a str,
    /// Configurations by targets.
    pub(super) known: &'a BTreeMap<Digest, Digest>,
    pub(super) patience: Patience<'a>,
}

pub(super) async fn list(address: &Path, asked: &Asked<'_>) -> Result<Vec<ImageHad>, StoredError> {
    let failed = |source| failed(address, source);
    let client =
        Client::connect(address, "default", asked.patience.next()?).await.map_err(failed)?;
    let mut namespaces = client.namespaces().await.map_err(failed)?;
    namespaces.retain(|namespace| (asked.wanted)(namespace));
    namespaces.sort();
    namespaces.truncate(MAX_NAMESPACES);
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for namespace in namespaces {
        let client = Client::connect(address, &namespace, asked.patience.next()?);
        let client = client.await.map_err(failed)?;
        for (_, target) in client.images([]).await.map_err(failed)? {
            if found.len() >= MAX_IMAGES {
                return Ok(found);
            }
            if !seen.insert(target.digest.clone()) {
                continue;
            }
            let config = match asked.known.get(&target.digest) {
                Some(config) => Some(config.clone()),
                None => {
                    let client = client.by(asked.patience.next()?);
                    config(&client, &target, asked.platform).await.map_err(failed)?
                }
            };
            found.extend(config.map(|config| ImageHad { config, asked: target.digest }));
        }
    }
    Ok(found)
}

/// The configuration of the image for a platform that a target leads to; an error only if the time was
/// up.
async fn config(
    client: &Client,
    target: &Descriptor,
    platform: &str,
) -> Result<Option<Digest>, GrpcError> {
    let (mut reading, mut notes) = (Reading::of_at_most(DOCUMENTS), Notes::default());
    let ways = ways(client, target, &mut reading, &mut notes).await;
    if notes.deadline_hit {
        return Err(GrpcError::Deadline);
    }
    for way in ways {
        match client.content(&way.config).await {
            // One that cannot be read is no configuration of an image that runs.
            Ok(json) if is_for(&json, platform).unwrap_or(false) => return Ok(Some(way.config)),
            Ok(_) => {}
            Err(error) if is_deadline(&error) => return Err(GrpcError::Deadline),
            Err(_) => {}
        }
    }
    Ok(None)
}

pub(super) async fn changes(
    address: &Path,
    patience: Patience<'_>,
    tell: impl FnMut(&str),
) -> Result<(), StoredError> {
    let failed = |source| failed(address, source);
    let client = Client::connect(address, "default", patience.next()?).await.map_err(failed)?;
    client.image_changes(patience.goes_on, tell).await.map_err(failed)
}

fn failed(address: &Path, source: GrpcError) -> StoredError {
    StoredError::Call { address: address.display().to_string(), source: source.into() }
}
