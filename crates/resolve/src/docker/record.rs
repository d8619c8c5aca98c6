//! Docker's record of a container: `containers/<id>/config.v2.json` (moby,
//! `daemon/container/container.go`).

use std::collections::BTreeMap;
use std::path::Path;

use portcullis_types::{Digest, ImageRef};
use serde::de::IgnoredAny;

use super::files::{FileError, Files};
use super::is_name;
use crate::documents::{Descriptor, DocumentError, descriptor, members, parse};
use crate::names;

/// Largest record that is read; environment and labels of a container are in it.
const MAX_RECORD: u64 = 8 << 20;
/// With these labels, Kubernetes' clients of Docker (`cri-dockerd`) say which pod it is.
const POD_LABELS: &str = "io.kubernetes.";

/// Why the record cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    /// It is not to be had.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not of the form that Docker writes.
    #[error("it cannot be understood")]
    Document(#[from] DocumentError),
    /// It is another container's.
    #[error("it is about another container")]
    OtherContainer,
    /// Its driver has a name that cannot be one.
    #[error("{0:?} is not the name of a driver")]
    Driver(String),
}

/// What the record says, as far as it matters. Docker writes it when it creates the container;
/// neither image nor user can change these parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// The image: its configuration or, if images are in containerd, its index or manifest.
    pub(super) image: Digest,
    /// The manifest, if images are in containerd.
    pub(super) manifest: Option<Descriptor>,
    /// Graph driver or snapshotter.
    pub(super) driver: String,
    /// The name that the user asked for.
    pub(super) asked: Option<ImageRef>,
    /// It has labels as containers of pods have.
    pub(super) of_pod: bool,
}

impl Record {
    /// Reads the record of the container with this id, which was checked.
    pub(super) fn read(files: &Files, data: &Path, id: &str) -> Result<Self, RecordError> {
        let path = data.join("containers").join(id).join("config.v2.json");
        Self::parse(&files.read(&path, MAX_RECORD)?, id)
    }

    fn parse(json: &[u8], id: &str) -> Result<Self, RecordError> {
        let [own_id, image, manifest, driver, config] =
            members(json, ["ID", "Image", "ImageManifest", "Driver", "Config"])?;
        if parse::<String>(own_id.ok_or(DocumentError::Missing("ID"))?)? != id {
            return Err(RecordError::OtherContainer);
        }
        let driver: String = parse(driver.ok_or(DocumentError::Missing("Driver"))?)?;
        if !is_name(&driver) {
            return Err(RecordError::Driver(driver.chars().take(100).collect()));
        }
        let image: Digest = parse(image.ok_or(DocumentError::Missing("Image"))?)?;
        let manifest = manifest.filter(|json| json.get() != "null").map(descriptor).transpose()?;
        let config = config.ok_or(DocumentError::Missing("Config"))?;
        let [name, labels] = members(config.get().as_bytes(), ["Image", "Labels"])?;
        let name: Option<String> = name.map(parse::<Option<_>>).transpose()?.flatten();
        let labels: Option<BTreeMap<String, IgnoredAny>> =
            labels.map(parse::<Option<_>>).transpose()?.flatten();
        Ok(Self {
            asked: name.and_then(|name| asked(&name, &image)),
            of_pod: labels.is_some_and(|all| all.keys().any(|key| key.starts_with(POD_LABELS))),
            image,
            manifest,
            driver,
        })
    }
}

/// The name that was asked for; none if it was an id or the beginning of one.
fn asked(name: &str, image: &Digest) -> Option<ImageRef> {
    let id = name.strip_prefix("sha256:").unwrap_or(name);
    if image.hex().starts_with(id) { None } else { names::asked(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "50f6585d88bcb5a1fdb0962ae1a84496f6e7bedb7a07e71139405a73ec896555";

    fn json(image: &str, more: &str) -> String {
        format!(
            r#"{{"StreamConfig":{{}},"State":{{"Image":"x"}},"ID":"{ID}","Image":"{}",
            "Config":{{"Hostname":"50f6585d88bc","Image":"{image}","Labels":{{"a":"b"}}}},
            "Driver":"overlay2"{more}}}"#,
            Digest::of(b"config")
        )
    }

    fn read(json: &str) -> Result<Record, RecordError> {
        Record::parse(json.as_bytes(), ID)
    }

    #[test]
    fn what_it_says_is_read() {
        let record = read(&json("app:1", r#","ImageManifest":null"#)).unwrap();
        assert_eq!(record.image, Digest::of(b"config"));
        assert_eq!((record.driver.as_str(), record.manifest), ("overlay2", None));
        assert_eq!(record.asked.unwrap().to_string(), "docker.io/library/app:1");
        assert!(!record.of_pod);
        let more = format!(
            r#","ImageManifest":{{"mediaType":"m","digest":"{}","size":1}}"#,
            Digest::of(b"manifest")
        );
        let manifest = read(&json("app:1", &more)).unwrap().manifest.unwrap();
        assert_eq!((manifest.media_type.as_str(), manifest.digest), ("m", Digest::of(b"manifest")));
    }

    #[test]
    fn ids_are_no_names() {
        let image = Digest::of(b"config");
        for name in [
            &image.to_string(),
            image.hex(),
            image.short(),
            &format!("sha256:{}", &image.hex()[..5]),
            "",
        ] {
            assert_eq!(read(&json(name, "")).unwrap().asked, None, "{name}");
        }
        let other = Digest::of(b"other").to_string();
        assert_eq!(read(&json(&other, "")).unwrap().asked, None);
        assert!(read(&json("beefbeef", "")).unwrap().asked.is_some());
    }

    #[test]
    fn a_pods_labels_are_seen() {
        let labels = r#""Labels":{"io.kubernetes.pod.namespace":"kube-system"}"#;
        let json = json("app", "").replace(r#""Labels":{"a":"b"}"#, labels);
        assert!(read(&json).unwrap().of_pod);
        assert!(!read(&json.replace(labels, r#""Labels":null"#)).unwrap().of_pod);
    }

    #[test]
    fn what_docker_does_not_write_is_refused() {
        let good = json("app", "");
        assert!(read(&good).is_ok());
        for (from, to) in [
            ("\"ID\"", "\"Id\""),
            ("\"Driver\"", "\"driver\""),
            ("overlay2", ".."),
            ("overlay2", "a/b"),
            (ID, "another"),
            ("sha256:", "sha256"),
            (r#""Labels":{"a":"b"}"#, r#""Labels":1"#),
            (r#""Labels":{"a":"b"}"#, r#""Labels":{},"labels":{}"#),
            ("\"Config\"", "\"Other\""),
            ("{\"StreamConfig\"", "[\"StreamConfig\""),
        ] {
            assert!(read(&good.replace(from, to)).is_err(), "{to}");
        }
        for more in [r#","IMAGE":"x""#, r#","Image":"x""#, r#","ImageManifest":{}"#, "} x {"] {
            assert!(read(&json("app", more)).is_err(), "{more}");
        }
    }
}
