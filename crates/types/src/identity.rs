//! Which image a container runs, and how surely that is known.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::finding::words;
use crate::{Digest, ImageRef};

words! {
    /// How surely an identity is known; the smallest is the surest.
    Surety, "a surety" {
        /// Checked against the root filesystem that will be mounted.
        Bound = "bound",
        /// A name or an annotation only.
        Claimed = "claimed",
        /// Nothing names an image.
        Unknown = "unknown",
    }
}

/// A name under which the image was seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Name {
    /// The reference.
    pub reference: ImageRef,
    /// The engine's own image record holds this name for the image that is bound.
    pub held: bool,
    /// The start was asked for by this name.
    pub asked: bool,
}

/// Which image a container runs, fact by fact.
///
/// The chain ID proves the layers, the engine's record of the config digest proves the config if
/// its diff IDs give the chain ID, and a manifest is proven if it leads to that config. A name
/// proves nothing; see [`Name::held`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// How surely the digests below are known.
    pub surety: Surety,
    /// Chain ID of the layers.
    #[serde(default)]
    pub chain_id: Option<Digest>,
    /// Digest of the image configuration. `None` while bound means that several configs share
    /// the chain ID and none is proven.
    #[serde(default)]
    pub config: Option<Digest>,
    /// Manifests and indexes that lead to this image, each as sure as `surety` says.
    #[serde(default)]
    pub manifests: BTreeSet<Digest>,
    /// Names, in order.
    #[serde(default)]
    pub names: BTreeSet<Name>,
    /// Why it is not bound, or what was remarkable, in words for the event.
    #[serde(default)]
    pub note: Option<String>,
}

impl Identity {
    /// Nothing is known, for the reason given.
    pub fn unknown(note: impl Into<String>) -> Self {
        Self {
            surety: Surety::Unknown,
            chain_id: None,
            config: None,
            manifests: BTreeSet::new(),
            names: BTreeSet::new(),
            note: Some(note.into()),
        }
    }

    /// Whether it is checked against the root filesystem.
    pub fn is_bound(&self) -> bool {
        self.surety == Surety::Bound
    }

    /// The names that the engine's records hold for the bound image.
    pub fn held_names(&self) -> impl Iterator<Item = &ImageRef> {
        self.names.iter().filter(|n| n.held && self.is_bound()).map(|n| &n.reference)
    }

    /// Whether this digest is proven to be the image's config, manifest or index.
    pub fn proves(&self, digest: &Digest) -> bool {
        self.is_bound() && (self.config.as_ref() == Some(digest) || self.manifests.contains(digest))
    }
}

impl std::fmt::Display for Identity {
    /// As people know images: the name the start was asked for, then a digest.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self
            .names
            .iter()
            .find(|n| n.asked && n.held)
            .or_else(|| self.names.iter().find(|n| n.held))
            .or_else(|| self.names.iter().find(|n| n.asked))
            .or_else(|| self.names.first());
        let digest = self.config.as_ref().or(self.chain_id.as_ref());
        match (name, digest) {
            (Some(name), Some(digest)) => {
                write!(f, "{}", name.reference.repository())?;
                if let Some(tag) = name.reference.tag() {
                    write!(f, ":{tag}")?;
                }
                write!(f, "@{}:{}", digest.algorithm().as_str(), digest.short())
            }
            (Some(name), None) => write!(f, "{}", name.reference),
            (None, Some(digest)) => write!(f, "{digest}"),
            (None, None) => f.write_str("unknown"),
        }
    }
}
