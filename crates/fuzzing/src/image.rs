//! What an engine says of images: documents, records, the connection they come by, and mounts.

use std::path::Path;

use portcullis_resolve::fuzzing;
use serde_json::Value;

use crate::text::told;

/// An index, a manifest or a configuration of an image.
///
/// Accepted: what was read is within its bounds, and what a plain JSON reader finds in the same
/// places.
pub fn image_documents(data: &[u8]) -> bool {
    let plain: Option<Value> = serde_json::from_slice(data).ok();
    let layers = fuzzing::diff_ids(data);
    let document = fuzzing::document(data);
    let config = fuzzing::image_config(data);
    let accepted = layers.is_ok() || document.is_ok() || config.is_ok();
    if let Ok(layers) = layers {
        assert!(layers.len() <= 1024, "{} layers", layers.len());
        agree(plain.as_ref(), &["rootfs", "diff_ids"], &layers);
    }
    if let Ok(document) = document {
        match document {
            fuzzing::Named::Index(digests) => {
                assert!(digests.len() <= 128, "{} manifests", digests.len());
                if let Some(plain) = &plain {
                    let named = plain["manifests"].as_array().expect("an index has manifests");
                    let named: Vec<_> = named.iter().map(|entry| &entry["digest"]).collect();
                    assert!(digests.iter().all(|d| named.iter().any(|n| **n == d.to_string())));
                }
            }
            fuzzing::Named::Manifest(digest) => {
                if let Some(plain) = &plain {
                    assert_eq!(plain["config"]["digest"], digest.to_string());
                }
            }
        }
    }
    if let Ok(config) = config {
        assert!(config.labels.len() <= 512, "{} labels", config.labels.len());
        if let Some(plain) = &plain {
            assert_eq!(plain["config"]["User"].as_str().unwrap_or_default(), config.user);
            if !config.labels.is_empty() {
                assert_eq!(plain["config"]["Labels"], serde_json::json!(config.labels));
            }
        }
    }
    accepted
}

fn agree(plain: Option<&Value>, path: &[&str], read: &[portcullis_types::Digest]) {
    let Some(plain) = plain else { return };
    let found = path.iter().fold(plain, |value, name| &value[*name]);
    let found: Vec<&str> =
        found.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert!(read.iter().map(ToString::to_string).eq(found.iter().map(ToString::to_string)));
}

/// A message of containerd's API, whose kind is told by the first byte, and the JSON in it.
///
/// Accepted: what is written anew is read as the same message.
pub fn containerd_records(data: &[u8]) -> bool {
    let Some((kind, message)) = data.split_first() else { return false };
    fuzzing::record(*kind, message)
}

/// What a server sends on a connection; the first byte tells whether it does so before the request
/// or in answer to it.
///
/// The call ends when the connection does, and never waits for its deadline. How the bytes are cut
/// into pieces does not change which messages are in them.
pub fn grpc(data: &[u8]) -> bool {
    let Some((when, data)) = data.split_first() else { return false };
    let whole = fuzzing::messages(data, data.len().max(1));
    for size in [1, 3, 7] {
        assert_eq!(fuzzing::messages(data, size), whole, "cut into pieces of {size}");
    }
    match fuzzing::call(data, when & 1 != 0) {
        Ok(()) => true,
        Err(error) => {
            told(&*error);
            false
        }
    }
}

/// A file of records of containers/storage.
///
/// What is found has the id that was asked for, once, and ids in it are ids.
pub fn storage(data: &[u8]) -> bool {
    fuzzing::storage(data, &"a".repeat(64))
}

/// A mount table of the kernel.
///
/// What is found is at the place that was asked for; lines about other places change nothing; there
/// are no more lower directories than colons allow, and none is empty.
pub fn mounts(data: &[u8]) -> bool {
    let place = Path::new("/m");
    let lower = fuzzing::lower(data, place);
    let elsewhere = b"\n1 0 0:1 / /n rw - overlay o rw,lowerdir=/x\n";
    assert_eq!(fuzzing::lower(&[data, elsewhere].concat(), place), lower);
    let Some(lower) = lower else { return false };
    let separators = data.iter().filter(|byte| matches!(byte, b':' | b',' | b'\\')).count();
    assert!(lower.len() <= separators + 1, "{lower:?}");
    assert!(lower.iter().all(|dir| !dir.as_os_str().is_empty()), "{lower:?}");
    true
}
