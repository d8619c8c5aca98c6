//! Images for the tests, written as an OCI layout and imported.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use portcullis_types::{Digest, chain_id};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::engine::Engine;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// One image for one platform and the documents it is made of.
#[derive(Clone)]
pub(crate) struct Image {
    blobs: BTreeMap<Digest, Vec<u8>>,
    /// What a record of it points to, and its media type.
    pub(crate) target: Digest,
    media_type: &'static str,
    pub(crate) manifest: Digest,
    pub(crate) config: Digest,
    pub(crate) chain: Digest,
    /// Its layers, which are not compressed, the lowest first.
    pub(crate) layers: Vec<Digest>,
}

impl Image {
    /// An image with one layer per text (its only file has it) and `more` in its configuration.
    pub(crate) fn new(layers: &[&str], more: Value) -> Self {
        let mut blobs = BTreeMap::new();
        let layers: Vec<(Digest, usize)> = layers
            .iter()
            .map(|text| {
                let tar = layer(text);
                let size = tar.len();
                (add(&mut blobs, tar), size)
            })
            .collect();
        let diff_ids: Vec<Digest> = layers.iter().map(|(digest, _)| digest.clone()).collect();
        let mut config = json!({
            "architecture": architecture(),
            "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        config["config"] = more;
        let (config, config_size) = add_json(&mut blobs, &config);
        let layers: Vec<Value> =
            layers.iter().map(|(digest, size)| descriptor(LAYER, digest, *size)).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config, config_size),
            "layers": layers,
        });
        let (manifest, _) = add_json(&mut blobs, &manifest);
        Self {
            blobs,
            target: manifest.clone(),
            media_type: MANIFEST,
            manifest,
            config,
            chain: chain_id(&diff_ids).unwrap(),
            layers: diff_ids,
        }
    }

    /// The same image behind an index, beside a platform that is not in the layout.
    pub(crate) fn behind_index(mut self) -> Self {
        let size = self.blobs[&self.manifest].len();
        let mut own = descriptor(MANIFEST, &self.manifest, size);
        own["platform"] = json!({ "architecture": architecture(), "os": "linux" });
        let mut other = descriptor(MANIFEST, &digest(b"another platform's"), 19);
        other["platform"] = json!({ "architecture": "s390x", "os": "linux" });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [other, own],
        });
        (self.target, _) = add_json(&mut self.blobs, &index);
        self.media_type = INDEX;
        self
    }

    /// Imports it under a name, as `ctr images import` does for a file.
    pub(crate) fn import(&self, engine: &Engine, name: &str) {
        self.import_with(engine, name, &[]);
    }

    /// The same with options.
    pub(crate) fn import_with(&self, engine: &Engine, name: &str, options: &[&str]) {
        let layout = tempfile::tempdir_in(engine.folder()).unwrap();
        let blobs = layout.path().join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        for (digest, blob) in &self.blobs {
            std::fs::write(blobs.join(digest.hex()), blob).unwrap();
        }
        let size = self.blobs[&self.target].len();
        let mut entry = descriptor(self.media_type, &self.target, size);
        entry["annotations"] = json!({ "io.containerd.image.name": name });
        let index = json!({ "schemaVersion": 2, "manifests": [entry] });
        std::fs::write(layout.path().join("index.json"), index.to_string()).unwrap();
        std::fs::write(layout.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
            .unwrap();
        let archive = engine.folder().join("image.tar");
        tar(&archive, layout.path());
        let mut arguments = vec!["images", "import"];
        arguments.extend(options);
        arguments.push(archive.to_str().unwrap());
        engine.ctr(&arguments);
    }
}

/// The name of this machine's architecture in images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn descriptor(media_type: &str, digest: &Digest, size: usize) -> Value {
    json!({ "mediaType": media_type, "digest": digest, "size": size })
}

fn layer(text: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("file"), text).unwrap();
    let archive = folder.path().join("layer.tar");
    tar(&archive, &root);
    std::fs::read(archive).unwrap()
}

/// Packs a folder so that equal content makes equal bytes.
fn tar(archive: &Path, folder: &Path) {
    let status = Command::new("tar")
        .args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "-cf"])
        .arg(archive)
        .arg("-C")
        .arg(folder)
        .arg(".")
        .status()
        .expect("tar starts");
    assert!(status.success());
}

fn add_json(blobs: &mut BTreeMap<Digest, Vec<u8>>, json: &Value) -> (Digest, usize) {
    let bytes = json.to_string().into_bytes();
    let size = bytes.len();
    (add(blobs, bytes), size)
}

fn add(blobs: &mut BTreeMap<Digest, Vec<u8>>, bytes: Vec<u8>) -> Digest {
    let digest = digest(&bytes);
    blobs.insert(digest.clone(), bytes);
    digest
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::sha256(Sha256::digest(bytes).into())
}
