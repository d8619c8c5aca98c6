//! An image's configuration and manifests, as containers/storage keeps them: files in the image's
//! folder, each under the key by which containers/image stored it (`storage/storage_dest.go`).

use std::collections::{BTreeMap, BTreeSet};

use portcullis_types::{Digest, ImageConfig};

use super::files::{Folder, ReadError, if_there};
use super::records::ImageRecord;
use crate::documents::{
    Descriptor, Document, DocumentError, INDEXES, MANIFESTS, diff_ids, document, image_config,
};
use crate::notes::Notes;

/// Most bytes of a configuration or a manifest; containers/image takes 4 MiB.
const MAX_DOCUMENT: u64 = 8 << 20;
/// Most configurations, and most manifests, of one image; each name under which it is pulled again
/// in another form adds a manifest, and an index.
const MAX_DOCUMENTS: usize = 64;
/// The key of the manifest by which the image was stored last.
const MANIFEST: &str = "manifest";

/// Why a document of an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImageError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("it has another digest than its name")]
    Digest,
}

/// An image's bound configuration.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) digest: Digest,
    /// Digests of the layers, from the lowest up.
    pub(super) diff_ids: Vec<Digest>,
    /// What else it says.
    pub(super) says: Result<ImageConfig, DocumentError>,
}

/// The image's configurations, of which `are_its_layers` says whether the container has their
/// layers. An ordinary image has one.
pub(super) fn configurations(
    folder: &Folder,
    record: &ImageRecord,
    are_its_layers: impl Fn(&[Digest]) -> bool,
    notes: &mut Notes,
) -> Found {
    let mut found = Found::default();
    let digests = record.big_data.iter().filter_map(|key| key.parse::<Digest>().ok());
    for digest in digests.take(MAX_DOCUMENTS) {
        found.stored += 1;
        let step = format!("the configuration {digest}");
        let read = stored(folder, &digest.to_string()).and_then(|json| {
            if Digest::of(&json) != digest {
                return Err(ImageError::Digest);
            }
            Ok((diff_ids(&json)?, json))
        });
        match read {
            Ok((diff_ids, json)) if are_its_layers(&diff_ids) => {
                let says = image_config(&json);
                found.matching.push(Configuration { digest, diff_ids, says });
            }
            Ok(_) => {}
            Err(error) => {
                found.is_unread |= matches!(error, ImageError::Read(ReadError::Missing(_)));
                notes.deadline_hit |= is_deadline(&error);
                notes.trouble(&step, &error);
            }
        }
    }
    found
}

/// The configurations that were found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// How many the record names.
    pub(super) stored: usize,
    /// One of them is no longer there, though the record names it.
    pub(super) is_unread: bool,
    /// Those with the container's layers.
    pub(super) matching: Vec<Configuration>,
}

/// The stored manifests and indexes that lead to the configuration.
pub(super) fn leading_to(
    folder: &Folder,
    record: &ImageRecord,
    config: &Digest,
    notes: &mut Notes,
) -> BTreeSet<Digest> {
    let mut proven = BTreeSet::new();
    let mut indexes: BTreeMap<Digest, Vec<Descriptor>> = BTreeMap::new();
    for key in record.big_data.iter().filter_map(|key| manifest_key(key)).take(MAX_DOCUMENTS) {
        let name = key.as_ref().map_or(MANIFEST.to_owned(), |d| format!("{MANIFEST}-{d}"));
        match manifest(folder, &name, key.as_ref()) {
            Ok((digest, Document::Manifest(named))) if named.digest == *config => {
                proven.insert(digest);
            }
            Ok((_, Document::Manifest(_))) => {}
            Ok((digest, Document::Index(manifests))) => {
                indexes.insert(digest, manifests);
            }
            Err(error) => {
                notes.deadline_hit |= is_deadline(&error);
                notes.trouble(&format!("the image's {name}"), &error);
            }
        }
    }
    // Indexes may name indexes: until nothing more is proven.
    loop {
        let leads = |named: &Vec<Descriptor>| named.iter().any(|d| proven.contains(&d.digest));
        let more: Vec<Digest> = indexes
            .iter()
            .filter(|(digest, named)| !proven.contains(*digest) && leads(named))
            .map(|(digest, _)| digest.clone())
            .collect();
        if more.is_empty() {
            return proven;
        }
        proven.extend(more);
    }
}

/// Whether a key is a manifest's, and the digest in it: `manifest` or `manifest-sha256:…`.
fn manifest_key(key: &str) -> Option<Option<Digest>> {
    match key.strip_prefix(MANIFEST)? {
        "" => Some(None),
        rest => rest.strip_prefix('-')?.parse().ok().map(Some),
    }
}

fn manifest(
    folder: &Folder,
    name: &str,
    named: Option<&Digest>,
) -> Result<(Digest, Document), ImageError> {
    let json = stored(folder, name)?;
    let digest = Digest::of(&json);
    if named.is_some_and(|named| *named != digest) {
        return Err(ImageError::Digest);
    }
    // Nothing names a type beside the file, and a document of the OCI need not say its own: what it
    // has tells, and one that has both is refused (containers/image, `manifest/manifest.go`).
    let read = match document(&json, "") {
        Err(DocumentError::MediaType(own)) if own.is_empty() => document(&json, MANIFESTS[0])
            .or_else(|error| match error {
                DocumentError::Missing(_) => document(&json, INDEXES[0]),
                error => Err(error),
            }),
        read => read,
    };
    Ok((digest, read?))
}

pub(super) fn stored(folder: &Folder, key: &str) -> Result<Vec<u8>, ImageError> {
    Ok(folder.read(&file_name(key), MAX_DOCUMENT)?)
}

fn is_deadline(error: &ImageError) -> bool {
    matches!(error, ImageError::Read(ReadError::Deadline(_)))
}

/// The folder of an image, if there is one.
pub(super) fn folder(images: &Folder, id: &str) -> Result<Option<Folder>, ReadError> {
    if_there(images.folder(id))
}

/// The name of the file under a key: the key itself if it is plain, otherwise `=` and its Base64
/// (containers/storage, `makeBigDataBaseName`).
fn file_name(key: &str) -> String {
    let is_plain = |b: u8| b == b'.' || b.is_ascii_digit() || b.is_ascii_lowercase();
    match key.bytes().all(is_plain) {
        true => key.to_owned(),
        false => format!("={}", base64(key.as_bytes())),
    }
}

/// RFC 4648, section 4.
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at > three.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of RFC 4648, section 10.
    #[test]
    fn base64_as_the_rfc_has_it() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn keys_of_files() {
        assert_eq!(file_name("manifest"), "manifest");
        assert_eq!(file_name("signature-1"), "=c2lnbmF0dXJlLTE=");
        assert_eq!(manifest_key("manifest"), Some(None));
        let digest = Digest::of(b"");
        assert_eq!(manifest_key(&format!("manifest-{digest}")), Some(Some(digest)));
        for other in ["manifests", "manifest-", "manifest-../../x", "signatures"] {
            assert_eq!(manifest_key(other), None, "{other}");
        }
    }
}
