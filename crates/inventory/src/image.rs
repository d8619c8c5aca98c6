//! One image: its configuration, and the layers it is made of.

use std::collections::BTreeSet;

use portcullis_baseline::Config;
use portcullis_types::{Digest, ImageFacts, chain_id};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most bytes of an image configuration.
const MAX_CONFIG: usize = 4 << 20;
/// Most layers of an image. Overlayfs takes 500, and engines refuse images of more than 127.
pub const MAX_LAYERS: usize = 500;

/// An image, without what is in its layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Digest of its configuration: the image ID. `None` for a root filesystem of no image.
    pub config: Option<Digest>,
    /// The configuration as it is (OCI image spec, `config.md`); empty for none.
    pub config_json: Vec<u8>,
    /// The layers, lowest first.
    pub diff_ids: Vec<Digest>,
    /// Digests of manifests and indexes that lead to it.
    pub manifests: BTreeSet<Digest>,
    /// The names it was asked for by, or goes by. They prove nothing.
    pub references: BTreeSet<String>,
}

/// Why a configuration is none of an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageConfigError {
    /// Far larger than any.
    #[error("the image configuration has {0} bytes, and at most {MAX_CONFIG} are read")]
    TooLarge(usize),
    /// Not JSON of the right form.
    #[error("the image configuration cannot be understood")]
    Json(#[from] serde_json::Error),
    /// Layers are missing, or too many.
    #[error("the image configuration has {0} layers, and an image has 1 to {MAX_LAYERS}")]
    Layers(usize),
}

impl Image {
    /// The image of a configuration.
    ///
    /// # Errors
    /// [`ImageConfigError`].
    pub fn of_config(json: Vec<u8>) -> Result<Self, ImageConfigError> {
        #[derive(Deserialize)]
        struct Raw {
            rootfs: RawRoot,
        }
        #[derive(Deserialize)]
        struct RawRoot {
            diff_ids: Vec<Digest>,
        }
        if json.len() > MAX_CONFIG {
            return Err(ImageConfigError::TooLarge(json.len()));
        }
        let raw: Raw = serde_json::from_slice(&json)?;
        let diff_ids = raw.rootfs.diff_ids;
        if diff_ids.is_empty() || diff_ids.len() > MAX_LAYERS {
            return Err(ImageConfigError::Layers(diff_ids.len()));
        }
        Ok(Self {
            config: Some(Digest::of(&json)),
            config_json: json,
            diff_ids,
            manifests: BTreeSet::new(),
            references: BTreeSet::new(),
        })
    }

    /// A root filesystem of no image.
    pub fn root_filesystem(name: String) -> Self {
        Self {
            config: None,
            config_json: Vec::new(),
            diff_ids: Vec::new(),
            manifests: BTreeSet::new(),
            references: BTreeSet::from([name]),
        }
    }

    /// By what the verdict store knows it; `None` if it is none.
    pub fn facts(&self) -> Option<ImageFacts> {
        Some(ImageFacts {
            config: self.config.clone()?,
            chain_id: chain_id(&self.diff_ids),
            manifests: self.manifests.clone(),
            references: self.references.clone(),
        })
    }

    /// What the configuration says, as far as checks ask. What is not of the right form is not
    /// there.
    pub fn settings(&self) -> Config {
        let config: Value = serde_json::from_slice(&self.config_json).unwrap_or_default();
        let inner = &config["config"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().map(text).collect()
        };
        let keys = |value: &Value| -> Vec<String> {
            value.as_object().into_iter().flat_map(|map| map.keys().cloned()).collect()
        };
        let history = config["history"].as_array().into_iter().flatten();
        Config {
            user: text(&inner["User"]),
            env: list(&inner["Env"]),
            healthcheck: inner["Healthcheck"]
                .is_object()
                .then(|| list(&inner["Healthcheck"]["Test"])),
            volumes: keys(&inner["Volumes"]),
            exposed_ports: keys(&inner["ExposedPorts"]),
            history: history.map(|step| text(&step["created_by"])).collect(),
            tags: self.references.iter().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_makes_an_image() {
        let diff = Digest::sha256([7; 32]);
        let json = format!(
            r#"{{"architecture":"amd64","config":{{"User":"app","Env":["A=b",5],"Volumes":{{"/data":{{}}}}}},
            "history":[{{"created_by":"RUN a"}},{{"empty_layer":true}}],"rootfs":{{"type":"layers","diff_ids":["{diff}"]}}}}"#
        );
        let image = Image::of_config(json.clone().into_bytes()).unwrap();
        assert_eq!(image.config, Some(Digest::of(json.as_bytes())));
        assert_eq!(image.facts().unwrap().chain_id, Some(diff));
        let settings = image.settings();
        assert_eq!((settings.user.as_str(), settings.volumes), ("app", vec!["/data".to_owned()]));
        assert_eq!(settings.history, ["RUN a", ""]);
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        for json in ["", "{}", r#"{"rootfs":{"diff_ids":[]}}"#, r#"{"rootfs":{"diff_ids":["x"]}}"#]
        {
            assert!(Image::of_config(json.into()).is_err(), "{json}");
        }
        assert!(Image::of_config(vec![b' '; MAX_CONFIG + 1]).is_err());
    }
}
