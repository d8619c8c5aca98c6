//! Manifests and indexes as registries have them (OCI image specification, `manifest.md`,
//! `image-index.md`; Docker's schema 2): hostile JSON.

use std::collections::BTreeMap;

use portcullis_types::Digest;
use serde::{Deserialize, Serialize};

/// Most bytes of a manifest, an index, or an image's configuration.
pub(crate) const MAX_DOCUMENT: usize = 4 << 20;
/// Most layers of an image (containers run on overlayfs, which takes 500).
const MAX_LAYERS: usize = 500;
/// Most entries of an index of platforms.
const MAX_PLATFORMS: usize = 256;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// What a client that understands both asks for.
pub(crate) const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";

/// What one document says of another (OCI image specification, `descriptor.md`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// What its bytes are.
    pub digest: Digest,
    /// How many.
    pub size: u64,
    /// Which artifact it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// What is said of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// For which platform it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// A platform that an image is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    architecture: String,
    os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
}

impl Platform {
    /// Whether it is the one that is written `linux/arm64` or `linux/arm/v7`.
    fn is(&self, wanted: &str) -> bool {
        let mut parts = wanted.split('/');
        parts.next() == Some(&self.os)
            && parts.next() == Some(&self.architecture)
            && parts.next().is_none_or(|variant| self.variant.as_deref() == Some(variant))
            && parts.next().is_none()
    }
}

/// A manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) artifact_type: Option<String>,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    pub(crate) subject: Option<Descriptor>,
}

/// What a tag or a digest may lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Document {
    Manifest(Manifest),
    /// What it leads to, as far as it is an image.
    Index(Vec<Descriptor>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    manifests: Option<Vec<Descriptor>>,
}

impl Document {
    /// Reads a document; `media_type` is what the registry calls it.
    ///
    /// # Errors
    /// It could mean different things to different readers (CVE-2021-41190), or nothing.
    pub(crate) fn read(json: &[u8], media_type: &str) -> Result<Self, String> {
        let raw: Raw = serde_json::from_slice(json).map_err(|error| told(&error))?;
        let told = media_type.split(';').next().unwrap_or_default().trim();
        let told = match raw.media_type.as_deref() {
            Some(own) if !told.is_empty() && own != told => {
                return Err("its media type is not the one that it is sent with".to_owned());
            }
            Some(own) => own,
            None => told,
        };
        match (told, raw.config, raw.layers, raw.manifests) {
            (OCI_MANIFEST | DOCKER_MANIFEST, Some(config), Some(layers), None) => {
                if layers.len() > MAX_LAYERS {
                    return Err(format!("it has more than {MAX_LAYERS} layers"));
                }
                let Raw { artifact_type, subject, .. } = raw;
                Ok(Self::Manifest(Manifest { artifact_type, config, layers, subject }))
            }
            (OCI_INDEX | DOCKER_LIST, None, None, Some(mut manifests)) => {
                if manifests.len() > MAX_PLATFORMS {
                    return Err(format!("it has more than {MAX_PLATFORMS} entries"));
                }
                manifests
                    .retain(|entry| matches!(&*entry.media_type, OCI_MANIFEST | DOCKER_MANIFEST));
                Ok(Self::Index(manifests))
            }
            (OCI_MANIFEST | DOCKER_MANIFEST | OCI_INDEX | DOCKER_LIST, ..) => {
                Err("it is not what its media type says".to_owned())
            }
            _ => Err(format!("its media type is {}", crate::error::shown(told))),
        }
    }
}

/// What is wrong with JSON, which may say so in the words of whoever wrote it.
pub(crate) fn told(error: &serde_json::Error) -> String {
    crate::error::shown(&error.to_string())
}

/// The manifests of an index that are for a platform, as `linux/amd64`.
pub(crate) fn of_platform<'d>(
    entries: &'d [Descriptor],
    platform: &'d str,
) -> impl Iterator<Item = &'d Descriptor> {
    entries.iter().filter(move |entry| entry.platform.as_ref().is_some_and(|p| p.is(platform)))
}

/// The entries of an index of what refers to an image, as far as they are artifacts of this type.
///
/// # Errors
/// It is no index.
pub(crate) fn referrers(json: &[u8], artifact_type: &str) -> Result<Vec<Descriptor>, String> {
    #[derive(Deserialize)]
    struct Index {
        manifests: Vec<serde_json::Value>,
    }
    let index: Index = serde_json::from_slice(json).map_err(|error| told(&error))?;
    // What others have put there is theirs, whatever it looks like.
    let of_type = |entry: &serde_json::Value| entry["artifactType"] == artifact_type;
    Ok(index
        .manifests
        .into_iter()
        .filter(of_type)
        .filter_map(|entry| serde_json::from_value(entry).ok())
        .collect())
}

/// The layers of an image's configuration, as they are when unpacked, from the lowest up.
///
/// # Errors
/// It is none of an image.
pub(crate) fn diff_ids(json: &[u8]) -> Result<Vec<Digest>, String> {
    #[derive(Deserialize)]
    struct Config {
        rootfs: Rootfs,
    }
    #[derive(Deserialize)]
    struct Rootfs {
        diff_ids: Vec<Digest>,
    }
    let config: Config = serde_json::from_slice(json).map_err(|error| told(&error))?;
    match config.rootfs.diff_ids.len() {
        1..=MAX_LAYERS => Ok(config.rootfs.diff_ids),
        layers => Err(format!("it has {layers} layers, and an image has 1 to {MAX_LAYERS}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> Digest {
        Digest::sha256([n; 32])
    }

    fn entry(n: u8, more: &str) -> String {
        format!(r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":1{more}}}"#, digest(n))
    }

    #[test]
    fn what_could_be_two_things_is_refused() {
        let config = entry(1, "");
        let of = |text: &str, told: &str| Document::read(text.as_bytes(), told);
        let manifest = format!(r#"{{"config":{config},"layers":[]}}"#);
        assert!(matches!(of(&manifest, OCI_MANIFEST), Ok(Document::Manifest(_))));
        let with = format!("{OCI_MANIFEST}; charset=utf-8");
        assert!(matches!(of(&manifest, &with), Ok(Document::Manifest(_))));
        for (text, told) in [
            (manifest.as_str(), OCI_INDEX),
            (&manifest, "text/html"),
            (&manifest, ""),
            (&format!(r#"{{"config":{config},"layers":[],"manifests":[]}}"#), OCI_MANIFEST),
            (&format!(r#"{{"config":{config},"layers":[],"manifests":[]}}"#), OCI_INDEX),
            (
                &format!(r#"{{"mediaType":"{OCI_INDEX}","config":{config},"layers":[]}}"#),
                OCI_MANIFEST,
            ),
            (&format!(r#"{{"mediaType":"{OCI_INDEX}","config":{config},"layers":[]}}"#), ""),
            (&format!(r#"{{"config":{config},"config":{config},"layers":[]}}"#), OCI_MANIFEST),
            (r#"{"layers":[]}"#, OCI_MANIFEST),
            (r#"{"manifests":{}}"#, OCI_INDEX),
            ("", OCI_INDEX),
        ] {
            assert!(of(text, told).is_err(), "{text} {told}");
        }
        let many = vec![entry(1, ""); 501].join(",");
        let error = of(&format!(r#"{{"config":{config},"layers":[{many}]}}"#), OCI_MANIFEST);
        assert!(error.unwrap_err().contains("500"));
        let error = of(&format!(r#"{{"manifests":[{many}]}}"#), OCI_INDEX).unwrap_err();
        assert!(error.contains("256"), "{error}");
    }

    #[test]
    fn a_platform_is_chosen_whole() {
        let of = |n, os: &str, architecture: &str, more: &str| {
            let platform =
                format!(r#","platform":{{"os":"{os}","architecture":"{architecture}"{more}}}"#);
            entry(n, &platform)
        };
        let entries = [
            of(1, "linux", "amd64", ""),
            of(2, "linux", "arm", r#","variant":"v6""#),
            of(3, "linux", "arm", r#","variant":"v7""#),
            of(4, "unknown", "unknown", ""),
            entry(5, ""),
        ];
        let text = format!(r#"{{"manifests":[{}]}}"#, entries.join(","));
        let Ok(Document::Index(entries)) = Document::read(text.as_bytes(), OCI_INDEX) else {
            panic!("no index");
        };
        for (platform, wanted) in [
            ("linux/amd64", &[1][..]),
            ("linux/arm/v7", &[3]),
            ("linux/arm", &[2, 3]),
            ("linux/arm64", &[]),
            ("linux", &[]),
            ("linux/amd64/v1/x", &[]),
        ] {
            let found: Vec<Digest> =
                of_platform(&entries, platform).map(|e| e.digest.clone()).collect();
            let wanted: Vec<Digest> = wanted.iter().map(|n| digest(*n)).collect();
            assert_eq!(found, wanted, "{platform}");
        }
    }

    #[test]
    fn of_what_refers_to_an_image_only_ours_is_read() {
        let ours = r#","artifactType":"a/b""#;
        let text = format!(
            r#"{{"manifests":[{},{},7,{{"artifactType":"a/b"}},{}]}}"#,
            entry(1, ours),
            entry(2, r#","artifactType":"c/d""#),
            entry(3, ours)
        );
        let found = referrers(text.as_bytes(), "a/b").unwrap();
        assert_eq!(
            found.iter().map(|d| d.digest.clone()).collect::<Vec<_>>(),
            [digest(1), digest(3)]
        );
        assert!(referrers(b"<html>", "a/b").is_err());
    }
}
