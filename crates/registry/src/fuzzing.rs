//! Parsers that only this crate calls, for fuzzers.

use portcullis_types::Digest;

use crate::document::{Document, diff_ids, of_platform, referrers};
use crate::{ARTIFACT, artifact};

/// Everything that is read as a document of a registry. Says whether it was one of an image or of what
/// refers to it.
///
/// # Panics
/// An invariant does not hold.
pub fn documents(json: &[u8], media_type: &str, subject: &Digest) -> bool {
    let layers = diff_ids(json).map(|layers| assert!((1..=500).contains(&layers.len()))).is_ok();
    let referrers = referrers(json, ARTIFACT).map(|found| {
        assert!(found.iter().all(|entry| entry.artifact_type.as_deref() == Some(ARTIFACT)));
    });
    if let Ok(layer) = artifact::envelope(json, subject) {
        assert!(layer.media_type.contains("dsse"));
    }
    let is_document = match Document::read(json, media_type) {
        Err(why) => {
            assert!(!why.is_empty());
            false
        }
        Ok(Document::Manifest(manifest)) => {
            assert!(manifest.layers.len() <= 500);
            true
        }
        Ok(Document::Index(entries)) => {
            assert!(entries.len() <= 256);
            assert!(of_platform(&entries, "linux/amd64").count() <= entries.len());
            true
        }
    };
    layers || referrers.is_ok() || is_document
}
