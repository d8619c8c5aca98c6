//! Writes a store as containers/storage lays it out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use portcullis_types::{Digest, chain_id};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::image::base64;

/// The name of the usual image.
pub(super) const APP: &str = "docker.io/library/app:1";

/// An id made from a word.
pub(super) fn hex(word: &str) -> String {
    Digest::of(word.as_bytes()).hex().to_owned()
}

/// An image in a store.
pub(super) struct Image {
    pub(super) id: String,
    /// Ids of its layers, from the lowest up.
    pub(super) layers: Vec<String>,
    pub(super) config: Digest,
    pub(super) chain: Option<Digest>,
    /// Its manifest and the index above it.
    pub(super) manifests: BTreeSet<Digest>,
}

impl Image {
    pub(super) fn top(&self) -> &str {
        self.layers.last().map_or("", String::as_str)
    }
}

/// The records of one graph root.
#[derive(Default)]
struct Root {
    containers: Vec<Value>,
    images: Vec<Value>,
    layers: Vec<Value>,
    /// Ids of the layers that are written to the volatile file.
    volatile: Vec<String>,
    /// Run root with the volatile files.
    run: Option<&'static str>,
}

/// A folder with graph roots.
pub(super) struct Store {
    folder: TempDir,
    roots: BTreeMap<&'static str, Root>,
    pub(super) driver: &'static str,
    /// Nothing is to be written any more.
    pub(super) is_written: bool,
    instead: Vec<(PathBuf, String)>,
    specs: Vec<(&'static str, String, String)>,
    data: Vec<(&'static str, String, String, String)>,
}

impl Store {
    pub(super) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            roots: BTreeMap::new(),
            driver: "overlay",
            is_written: false,
            instead: Vec::new(),
            specs: Vec::new(),
            data: Vec::new(),
        }
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        std::fs::canonicalize(self.folder.path()).unwrap().join(below)
    }

    /// The short name of a layer's link.
    pub(super) fn link(layer: &str) -> String {
        hex(layer)[..26].to_uppercase()
    }

    fn of(&mut self, root: &'static str) -> &mut Root {
        self.roots.entry(root).or_default()
    }

    /// An image whose layers have the given words as their archives.
    pub(super) fn image(&mut self, root: &'static str, name: &str, words: &[&str]) -> Image {
        let diff_ids: Vec<Digest> = words.iter().map(|word| Digest::of(word.as_bytes())).collect();
        let mut layers: Vec<String> = Vec::new();
        for (at, diff_id) in diff_ids.iter().enumerate() {
            let id = chain_id(&diff_ids[..=at]).unwrap().hex().to_owned();
            if !self.of(root).layers.iter().any(|layer| layer["id"] == *id) {
                let layer = json!({
                    "id": id, "parent": layers.last(), "created": "2026-01-01T00:00:00Z",
                    "compressed-diff-digest": Digest::of(b"compressed"), "diff-digest": diff_id,
                    "diff-size": 7, "uidset": [0], "gidset": [0],
                });
                self.add_layer(root, layer);
            }
            layers.push(id);
        }
        let config = json!({
            "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z",
            "config": { "User": "1000", "Labels": { "made": "here" } },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        })
        .to_string();
        let digest = Digest::of(config.as_bytes());
        // As containers/image wrote them for years: an OCI manifest without its own type.
        let manifest = json!({
            "schemaVersion": 2, "layers": [],
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest, "size": config.len() },
        })
        .to_string();
        let manifest_digest = Digest::of(manifest.as_bytes());
        let index = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{ "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": manifest_digest, "size": manifest.len() }],
        })
        .to_string();
        let index_digest = Digest::of(index.as_bytes());
        let id = digest.hex().to_owned();
        let files = [
            (digest.to_string(), config),
            (format!("manifest-{manifest_digest}"), manifest.clone()),
            (format!("manifest-{index_digest}"), index),
            ("manifest".to_owned(), manifest),
        ];
        let keys: Vec<&String> = files.iter().map(|(key, _)| key).collect();
        let record = json!({
            "id": id, "digest": manifest_digest, "names": [name],
            "names-history": [name, "docker.io/library/former:1"], "layer": layers.last(),
            "metadata": "{}", "big-data-names": keys, "created": "2026-01-01T00:00:00Z",
        });
        let images = &mut self.of(root).images;
        images.retain(|image| image["id"] != *id);
        images.push(record);
        for (key, text) in files {
            self.data.push((root, id.clone(), key, text));
        }
        Image {
            id,
            layers,
            config: digest,
            chain: chain_id(&diff_ids),
            manifests: [manifest_digest, index_digest].into(),
        }
    }

    /// A container; its layer's id.
    pub(super) fn container(
        &mut self,
        root: &'static str,
        id: &str,
        image: &str,
        top: &str,
        name: &str,
    ) -> String {
        let layer = hex(&format!("layer of {id}"));
        let metadata = json!({ "image-name": name, "image-id": image, "name": "c" }).to_string();
        self.of(root).containers.push(json!({
            "id": id, "names": ["c"], "image": image, "layer": layer, "metadata": metadata,
            "created": "2026-01-01T00:00:00Z", "flags": { "Volatile": true },
        }));
        self.add_layer(root, json!({ "id": layer, "parent": top, "names": ["c-layer"] }));
        self.of(root).volatile.push(layer.clone());
        layer
    }

    pub(super) fn add_layer(&mut self, root: &'static str, layer: Value) {
        self.of(root).layers.push(layer);
    }

    pub(super) fn layers(&mut self, root: &'static str) -> &mut Vec<Value> {
        &mut self.of(root).layers
    }

    pub(super) fn layer(&mut self, root: &'static str, id: &str) -> &mut Value {
        self.layers(root).iter_mut().find(|layer| layer["id"] == *id).unwrap()
    }

    pub(super) fn images(&mut self, root: &'static str) -> &mut Vec<Value> {
        &mut self.of(root).images
    }

    pub(super) fn containers(&mut self, root: &'static str) -> &mut Vec<Value> {
        &mut self.of(root).containers
    }

    pub(super) fn last_container(&mut self, root: &'static str) -> &mut Value {
        self.containers(root).last_mut().unwrap()
    }

    /// The volatile files stand in a run root.
    pub(super) fn move_volatile(&mut self, root: &'static str, run: &'static str) {
        self.of(root).run = Some(run);
    }

    /// This text in place of a file.
    pub(super) fn instead(&mut self, root: &'static str, file: &str, text: &str) {
        let file = self.path(root).join(file);
        self.instead.push((file, text.to_owned()));
    }

    /// The specification of a container.
    pub(super) fn spec(&mut self, root: &'static str, id: &str, text: &str) {
        self.specs.push((root, id.to_owned(), text.to_owned()));
    }

    /// The driver's own list of the layers below one.
    pub(super) fn lower_file(&mut self, root: &'static str, layer: &str, layers: &[String]) {
        let links: Vec<_> = layers.iter().rev().map(|l| format!("l/{}", Self::link(l))).collect();
        self.instead(root, &format!("overlay/{layer}/lower"), &links.join(":"));
    }

    /// Puts another text under a key of an image.
    pub(super) fn change_data(&mut self, id: &str, key: &str, change: impl Fn(&str) -> String) {
        let data = self.data.iter_mut().find(|(_, of, k, _)| of == id && k == key).unwrap();
        data.3 = change(&data.3);
    }

    pub(super) fn write(&self) {
        if self.is_written {
            return;
        }
        for (name, root) in &self.roots {
            self.write_root(&self.path(name), root);
        }
        for (root, id, key, text) in &self.data {
            let name = match key == "manifest" {
                true => key.clone(),
                false => format!("={}", base64(key.as_bytes())),
            };
            let folder = format!("{}-images/{id}", self.driver);
            write(&self.path(root).join(folder).join(name), text);
        }
        for (root, id, text) in &self.specs {
            let folder = format!("{}-containers/{id}/userdata", self.driver);
            write(&self.path(root).join(folder).join("config.json"), text);
        }
        for (file, text) in &self.instead {
            write(file, text);
        }
    }

    fn write_root(&self, path: &Path, root: &Root) {
        let driver = self.driver;
        let volatile = root.run.map_or(path.to_owned(), |run| self.path(run));
        let json = |list: &[&Value]| serde_json::to_string(list).unwrap();
        let (own, image): (Vec<&Value>, Vec<&Value>) =
            root.layers.iter().partition(|l| root.volatile.iter().any(|id| l["id"] == *id));
        write(&path.join(format!("{driver}-layers/layers.json")), &json(&image));
        write(&volatile.join(format!("{driver}-layers/volatile-layers.json")), &json(&own));
        let images: Vec<&Value> = root.images.iter().collect();
        write(&path.join(format!("{driver}-images/images.json")), &json(&images));
        let containers: Vec<&Value> = root.containers.iter().collect();
        let file = format!("{driver}-containers/volatile-containers.json");
        write(&volatile.join(file), &json(&containers));
        write(&path.join(format!("{driver}-containers/containers.json")), "[]");
        for layer in root.layers.iter().filter_map(|layer| layer["id"].as_str()) {
            if driver == "vfs" {
                std::fs::create_dir_all(path.join("vfs/dir").join(layer)).unwrap();
                continue;
            }
            std::fs::create_dir_all(path.join("overlay").join(layer).join("diff")).unwrap();
            std::fs::create_dir_all(path.join("overlay/l")).unwrap();
            let link = path.join("overlay/l").join(Self::link(layer));
            // A test may write twice.
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(format!("../{layer}/diff"), link).unwrap();
        }
    }
}

fn write(file: &Path, text: &str) {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, text).unwrap();
}
