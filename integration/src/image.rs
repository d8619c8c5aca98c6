//! Test images, written here, so that every digest is known and the same each time: several layers,
//! equal layers under different configs, a manifest or an index on top. Each archive is an OCI layout
//! and what `docker save` writes at once, over the same blobs, so that every engine can load it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The static binary that runs in every test image, as Debian's `busybox-static` installs it.
const BUSYBOX: &str = "/bin/busybox";

/// The commands that [`busybox_layer`] offers beside `busybox` itself.
const APPLETS: &[&str] = &[
    "cat", "dd", "echo", "env", "false", "head", "id", "kill", "ls", "mkdir", "mount", "ps", "sh",
    "sleep", "stat", "stty", "tail", "touch", "tr", "true", "tty", "wc", "yes",
];

/// One thing in a layer.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A folder with mode 0755.
    Folder(String),
    /// A file: its path, mode and content.
    File(String, u32, Vec<u8>),
    /// A symbolic link: its path and target.
    Link(String, String),
}

/// A layer that holds busybox with links for its most used commands.
///
/// # Errors
/// When the machine has no busybox.
pub fn busybox_layer() -> Result<Vec<Entry>> {
    let binary = std::fs::read(BUSYBOX).with_context(|| format!("cannot read {BUSYBOX}"))?;
    let folders = ["bin", "dev", "etc", "proc", "root", "sys", "tmp"];
    let mut layer: Vec<_> = folders.map(|f| Entry::Folder(f.to_owned())).into();
    layer.push(Entry::File("bin/busybox".into(), 0o755, binary));
    for applet in APPLETS {
        layer.push(Entry::Link(format!("bin/{applet}"), "busybox".into()));
    }
    Ok(layer)
}

/// What stands on top of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Top {
    Manifest,
    Index,
}

/// An image that is being put together.
#[derive(Debug, Clone)]
pub struct ImageBuilder {
    name: String,
    /// Each as a tar file.
    layers: Vec<Result<Vec<u8>, String>>,
    command: Vec<String>,
    environment: Vec<String>,
    labels: BTreeMap<String, String>,
    top: Top,
}

impl ImageBuilder {
    /// An empty image with a full name, such as `docker.io/portcullis-test/allowed:1`.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            layers: Vec::new(),
            command: vec!["/bin/sh".into()],
            environment: vec!["PATH=/bin".into()],
            labels: BTreeMap::new(),
            top: Top::Manifest,
        }
    }

    /// One more layer, above the others.
    #[must_use]
    pub fn layer(mut self, entries: impl IntoIterator<Item = Entry>) -> Self {
        let entries: Vec<Entry> = entries.into_iter().collect();
        self.layers.push(tarball(&entries).map_err(|error| format!("{error:#}")));
        self
    }

    /// One more layer, above the others, that is a tar file already.
    #[must_use]
    pub fn tarball(mut self, tar: Vec<u8>) -> Self {
        self.layers.push(Ok(tar));
        self
    }

    /// What runs unless told otherwise.
    #[must_use]
    pub fn command<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.command = words.into_iter().map(Into::into).collect();
        self
    }

    /// One more variable, as `NAME=value`.
    #[must_use]
    pub fn env(mut self, variable: impl Into<String>) -> Self {
        self.environment.push(variable.into());
        self
    }

    /// A label in the image's config.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Puts an index with this one platform on top, as multi-platform images have.
    #[must_use]
    pub fn indexed(mut self) -> Self {
        self.top = Top::Index;
        self
    }

    /// Writes the image as an archive into `folder`.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn build(self, folder: &Path) -> Result<BuiltImage> {
        let mut blobs = Blobs::default();
        let layers = self.layers.into_iter().collect::<Result<Vec<_>, _>>();
        let layers = layers.map_err(anyhow::Error::msg)?;
        let diff_ids: Vec<_> = layers.iter().map(|layer| digest(layer)).collect();

        let config = blobs.add_json(
            "application/vnd.oci.image.config.v1+json",
            &json!({
                "created": "1970-01-01T00:00:00Z",
                "architecture": architecture(),
                "os": "linux",
                "config": { "Cmd": self.command, "Env": self.environment, "Labels": self.labels },
                "rootfs": { "type": "layers", "diff_ids": diff_ids },
            }),
        )?;
        let mut descriptors = Vec::new();
        for layer in &layers {
            let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
            descriptors.push(blobs.add(kind, compressed(layer)?));
        }
        let manifest = blobs.add_json(
            "application/vnd.oci.image.manifest.v1+json",
            &json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": config,
                "layers": descriptors,
            }),
        )?;
        let index = match self.top {
            Top::Manifest => None,
            Top::Index => {
                let mut manifest = manifest.clone();
                manifest["platform"] = json!({ "architecture": architecture(), "os": "linux" });
                let kind = "application/vnd.oci.image.index.v1+json";
                let index =
                    json!({ "schemaVersion": 2, "mediaType": kind, "manifests": [manifest] });
                Some(blobs.add_json(kind, &index)?)
            }
        };

        let mut top = index.clone().unwrap_or_else(|| manifest.clone());
        top["annotations"] = json!({
            "io.containerd.image.name": self.name,
            // What Podman takes for the name, though the specification has only the tag there.
            "org.opencontainers.image.ref.name": self.name,
        });
        let saved = json!([{
            "Config": blob_path(&config),
            "RepoTags": [self.name],
            "Layers": descriptors.iter().map(blob_path).collect::<Vec<_>>(),
        }]);
        let file_name = self.name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let archive = folder.join(format!("{file_name}.tar"));
        blobs.write(&archive, &top, &saved)?;
        Ok(BuiltImage {
            name: self.name,
            archive,
            config_digest: digest_of(&config),
            manifest_digest: digest_of(&manifest),
            index_digest: index.as_ref().map(digest_of),
            chain_id: chain_id(&diff_ids),
            diff_ids,
        })
    }
}

/// An image as it was written, with all that identifies it.
#[derive(Debug, Clone)]
pub struct BuiltImage {
    /// Its full name.
    pub name: String,
    /// The tar file to be imported.
    pub archive: PathBuf,
    /// The digest of its config, which Kubernetes calls its id.
    pub config_digest: String,
    /// The digest of its manifest for this platform.
    pub manifest_digest: String,
    /// The digest of its index, if it has one.
    pub index_digest: Option<String>,
    /// The name of the snapshot that holds all of its layers.
    pub chain_id: String,
    /// The digests of its layers as they are unpacked, lowest first.
    pub diff_ids: Vec<String>,
}

impl BuiltImage {
    /// What an image store's record of this name points to.
    pub fn target_digest(&self) -> &str {
        self.index_digest.as_deref().unwrap_or(&self.manifest_digest)
    }
}

/// The blobs of a layout, by digest.
#[derive(Default)]
struct Blobs(BTreeMap<String, Vec<u8>>);

impl Blobs {
    /// Adds a blob and describes it.
    fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let digest = digest(&bytes);
        let descriptor = json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
        self.0.insert(digest, bytes);
        descriptor
    }

    fn add_json(&mut self, media_type: &str, document: &Value) -> Result<Value> {
        Ok(self.add(media_type, serde_json::to_vec(document)?))
    }

    fn write(&self, archive: &Path, top: &Value, saved: &Value) -> Result<()> {
        let file = std::fs::File::create(archive)
            .with_context(|| format!("cannot write {}", archive.display()))?;
        let mut tar = tar::Builder::new(file);
        append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        for (digest, bytes) in &self.0 {
            append(&mut tar, &path_of(digest), bytes)?;
        }
        let index = json!({ "schemaVersion": 2, "manifests": [top] });
        append(&mut tar, "index.json", &serde_json::to_vec(&index)?)?;
        append(&mut tar, "manifest.json", &serde_json::to_vec(saved)?)?;
        tar.into_inner()?;
        Ok(())
    }
}

fn append<W: std::io::Write>(tar: &mut tar::Builder<W>, path: &str, bytes: &[u8]) -> Result<()> {
    let mut header = header(tar::EntryType::Regular, 0o644);
    header.set_size(bytes.len() as u64);
    Ok(tar.append_data(&mut header, path, bytes)?)
}

fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(0);
    header
}

fn tarball(entries: &[Entry]) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        match entry {
            Entry::Folder(path) => {
                let mut header = header(tar::EntryType::Directory, 0o755);
                tar.append_data(&mut header, path, std::io::empty())?;
            }
            Entry::File(path, mode, bytes) => {
                let mut header = header(tar::EntryType::Regular, *mode);
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, path, bytes.as_slice())?;
            }
            Entry::Link(path, target) => {
                let mut header = header(tar::EntryType::Symlink, 0o777);
                tar.append_link(&mut header, path, target)?;
            }
        }
    }
    Ok(tar.into_inner()?)
}

fn compressed(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::fast());
    gzip.write_all(bytes)?;
    Ok(gzip.finish()?)
}

/// The digest of some bytes, as registries write it.
pub fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Where a blob stands in a layout.
fn path_of(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

fn blob_path(descriptor: &Value) -> String {
    path_of(&digest_of(descriptor))
}

fn digest_of(descriptor: &Value) -> String {
    descriptor["digest"].as_str().unwrap_or_default().to_owned()
}

/// The chain id of layers, as the OCI image specification defines it.
fn chain_id(diff_ids: &[String]) -> String {
    let ids = diff_ids.iter().cloned();
    ids.reduce(|chain, layer| digest(format!("{chain} {layer}").as_bytes())).unwrap_or_default()
}

/// This machine's architecture, as OCI names it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(builder: ImageBuilder) -> BuiltImage {
        builder.build(tempfile::tempdir().unwrap().path()).unwrap()
    }

    fn sample() -> ImageBuilder {
        ImageBuilder::new("docker.io/portcullis-test/sample:1")
            .layer([Entry::File("a".into(), 0o644, b"a".to_vec())])
            .layer([Entry::Link("b".into(), "a".into())])
    }

    #[test]
    fn the_same_image_has_the_same_digests() {
        let (one, two) = (build(sample()), build(sample()));
        assert_eq!(one.manifest_digest, two.manifest_digest);
        assert_eq!(one.target_digest(), one.manifest_digest);
    }

    #[test]
    fn another_label_is_another_image_over_the_same_layers() {
        let (one, two) = (build(sample()), build(sample().label("k", "v")));
        assert_ne!(one.config_digest, two.config_digest);
        assert_eq!(one.chain_id, two.chain_id);
    }

    #[test]
    fn an_index_names_the_same_manifest() {
        let (one, two) = (build(sample()), build(sample().indexed()));
        assert_eq!(one.manifest_digest, two.manifest_digest);
        assert_eq!(two.target_digest(), two.index_digest.as_deref().unwrap());
    }

    #[test]
    fn the_chain_of_one_layer_is_the_layer() {
        assert_eq!(chain_id(&["sha256:a".into()]), "sha256:a");
    }
}
