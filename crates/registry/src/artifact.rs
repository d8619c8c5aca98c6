//! The artifact that holds a verdict: an image manifest whose one layer is the envelope, and which
//! refers to the image (OCI image specification 1.1, `manifest.md`, "Guidelines for Artifact Usage").

use std::collections::BTreeMap;

use portcullis_types::{Digest, Timestamp};
use serde_json::json;

use crate::document::{Descriptor, Document, OCI_MANIFEST};

/// The type of the artifact.
pub const ARTIFACT: &str = "application/vnd.portcullis.verdict.v1+json";
/// What its layer is.
const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";
/// What stands where images have a configuration.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// The bytes of that.
pub(crate) const EMPTY_CONFIG: &[u8] = b"{}";
/// When a verdict was made; nobody signed that, so that it only orders what is asked for first.
pub(crate) const CREATED: &str = "org.opencontainers.image.created";
/// Most bytes of an envelope.
pub(crate) const MAX_ENVELOPE: usize = 64 << 20;

/// The manifest for an envelope about the image with this manifest, and what a list of what refers to
/// the image says of it.
pub(crate) fn manifest(
    subject: &Descriptor,
    envelope: &[u8],
    newest: Option<Timestamp>,
) -> (Vec<u8>, Descriptor) {
    let created = newest.map(|at| (CREATED.to_owned(), at.to_string()));
    let annotations: BTreeMap<String, String> = created.into_iter().collect();
    let json = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": ARTIFACT,
        "config": {
            "mediaType": EMPTY,
            "digest": Digest::of(EMPTY_CONFIG),
            "size": EMPTY_CONFIG.len(),
        },
        "layers": [{
            "mediaType": ENVELOPE,
            "digest": Digest::of(envelope),
            "size": envelope.len(),
        }],
        "subject": {
            "mediaType": subject.media_type,
            "digest": subject.digest,
            "size": subject.size,
        },
        "annotations": annotations,
    })
    .to_string()
    .into_bytes();
    let descriptor = Descriptor {
        media_type: OCI_MANIFEST.to_owned(),
        digest: Digest::of(&json),
        size: json.len() as u64,
        artifact_type: Some(ARTIFACT.to_owned()),
        annotations,
        platform: None,
    };
    (json, descriptor)
}

/// The envelope of an artifact that refers to the image with this manifest.
///
/// # Errors
/// It is another kind of artifact, or refers to something else.
pub(crate) fn envelope(json: &[u8], subject: &Digest) -> Result<Descriptor, String> {
    let Document::Manifest(manifest) = Document::read(json, OCI_MANIFEST)? else {
        return Err("it is an index".to_owned());
    };
    if manifest.artifact_type.as_deref() != Some(ARTIFACT) {
        return Err(format!("it is no {ARTIFACT}"));
    }
    if manifest.subject.is_none_or(|named| named.digest != *subject) {
        return Err("it refers to another image".to_owned());
    }
    match <[Descriptor; 1]>::try_from(manifest.layers) {
        Ok([layer]) if layer.media_type == ENVELOPE => Ok(layer),
        _ => Err(format!("it has not one layer of the type {ENVELOPE}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(n: u8) -> Descriptor {
        Descriptor {
            media_type: OCI_MANIFEST.to_owned(),
            digest: Digest::sha256([n; 32]),
            size: 7,
            artifact_type: None,
            annotations: BTreeMap::new(),
            platform: None,
        }
    }

    #[test]
    fn an_artifact_leads_to_its_envelope_and_from_its_image_alone() {
        let newest = "2026-11-01T10:00:00Z".parse().unwrap();
        let (json, descriptor) = manifest(&subject(1), b"envelope", Some(newest));
        assert!(descriptor.digest.is_of(&json));
        assert_eq!(descriptor.annotations[CREATED], "2026-11-01T10:00:00Z");
        let layer = envelope(&json, &subject(1).digest).unwrap();
        assert!(layer.digest.is_of(b"envelope"));
        assert!(envelope(&json, &subject(2).digest).unwrap_err().contains("another image"));
        let text = String::from_utf8(json).unwrap();
        for (from, to, wanted) in [
            ("portcullis.verdict.v1", "portcullis.verdict.v2", "it is no"),
            ("dsse.envelope.v1", "dsse.envelope.v2", "not one layer"),
            ("\"subject\"", "\"object\"", "another image"),
        ] {
            let changed = text.replacen(from, to, 1);
            let error = envelope(changed.as_bytes(), &subject(1).digest).unwrap_err();
            assert!(error.contains(wanted), "{changed}: {error}");
        }
    }
}
