//! Images made in memory: layers of any entries, as layouts and archives.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::io::Write;
use std::path::Path;

use portcullis_types::Digest;
use serde_json::{Value, json};

/// An entry of a layer.
pub struct Entry {
    header: tar::Header,
    path: Vec<u8>,
    target: Option<String>,
    content: Vec<u8>,
}

impl Entry {
    fn new(path: &str, kind: tar::EntryType, content: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        Self { header, path: path.into(), target: None, content: content.to_vec() }
    }

    /// Another name of a file of the same layer.
    pub fn hard_link(path: &str, target: &str) -> Self {
        Self { target: Some(target.to_owned()), ..Self::new(path, tar::EntryType::Link, b"") }
    }

    /// With a name that no writer would write.
    pub fn named(path: &[u8], content: &str) -> Self {
        Self { path: path.to_vec(), ..file("x", content) }
    }
}

/// A regular file.
pub fn file(path: &str, content: &str) -> Entry {
    Entry::new(path, tar::EntryType::Regular, content.as_bytes())
}

/// A regular file whose content is no text.
pub fn binary(path: &str, content: &[u8]) -> Entry {
    Entry::new(path, tar::EntryType::Regular, content)
}

/// A folder.
pub fn folder(path: &str) -> Entry {
    Entry::new(path, tar::EntryType::Directory, b"")
}

/// A symbolic link.
pub fn link(path: &str, target: &str) -> Entry {
    Entry { target: Some(target.to_owned()), ..Entry::new(path, tar::EntryType::Symlink, b"") }
}

/// An archive with one file of zeros.
pub fn bomb(size: usize) -> Vec<u8> {
    Builder::tar(&[Entry::new("bomb", tar::EntryType::Regular, &vec![0; size])])
}

/// Compressed with gzip.
pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(content).unwrap();
    writer.finish().unwrap()
}

/// Compressed with zstd.
pub fn zstd(content: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(content, ruzstd::encoding::CompressionLevel::Fastest)
}

/// Makes an image.
#[derive(Default)]
pub struct Builder {
    /// Layers as archives, and what they are diff IDs of.
    layers: Vec<(Vec<u8>, Digest)>,
}

impl Builder {
    /// Without layers.
    pub fn new() -> Self {
        Self::default()
    }

    /// These entries as an archive.
    pub fn tar(entries: &[Entry]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for Entry { header, path, target, content } in entries {
            let mut header = header.clone();
            if path.len() > 100 {
                // A long name of GNU's.
                let mut long = tar::Header::new_gnu();
                long.set_entry_type(tar::EntryType::GNULongName);
                long.set_size(path.len() as u64 + 1);
                long.set_cksum();
                archive.append(&long, [path.as_slice(), b"\0"].concat().as_slice()).unwrap();
            }
            let name = &path[..path.len().min(100)];
            header.as_mut_bytes()[..name.len()].copy_from_slice(name);
            if let Some(target) = target {
                header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
            }
            header.set_cksum();
            archive.append(&header, content.as_slice()).unwrap();
        }
        archive.into_inner().unwrap()
    }

    /// With another layer on top.
    pub fn layer(mut self, entries: Vec<Entry>) -> Self {
        let archive = Self::tar(&entries);
        let diff_id = Digest::of(&archive);
        self.layers.push((archive, diff_id));
        self
    }

    /// A layer whose bytes are these, whatever they are.
    pub fn raw_layer(mut self, bytes: Vec<u8>) -> Self {
        let diff_id = Digest::of(&bytes);
        self.layers.push((bytes, diff_id));
        self
    }

    fn config(&self) -> Vec<u8> {
        let diff_ids: Vec<&Digest> = self.layers.iter().map(|(_, diff_id)| diff_id).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": { "User": "app" },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        serde_json::to_vec(&config).unwrap()
    }

    /// The image ID.
    pub fn config_digest(&self) -> Digest {
        Digest::of(&self.config())
    }

    /// The files of a layout.
    fn files(&self, packed: impl Fn(&[u8]) -> Vec<u8>) -> Vec<(String, Vec<u8>)> {
        let mut files =
            vec![("oci-layout".to_owned(), b"{\"imageLayoutVersion\":\"1.0.0\"}".to_vec())];
        let mut blob = |bytes: Vec<u8>| -> Value {
            let digest = Digest::of(&bytes);
            let described = json!({ "mediaType": "application/octet-stream", "digest": digest, "size": bytes.len() });
            files.push((format!("blobs/sha256/{}", digest.hex()), bytes));
            described
        };
        let layers: Vec<Value> = self.layers.iter().map(|(layer, _)| blob(packed(layer))).collect();
        let config = blob(self.config());
        let manifest = json!({ "config": config, "layers": layers, "schemaVersion": 2 });
        let manifest = blob(serde_json::to_vec(&manifest).unwrap());
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        files.push(("index.json".to_owned(), serde_json::to_vec(&index).unwrap()));
        files
    }

    /// Writes a layout to a folder, with layers packed by this.
    pub fn write_layout(&self, folder: &Path, packed: impl Fn(&[u8]) -> Vec<u8>) {
        for (name, bytes) in self.files(packed) {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    /// The layout as an archive.
    pub fn oci_archive(&self, packed: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let files = self.files(packed);
        let entries =
            files.iter().map(|(name, bytes)| Entry::new(name, tar::EntryType::Regular, bytes));
        Self::tar(&entries.collect::<Vec<_>>())
    }

    /// As `docker save` wrote it before version 25: the second layer is a link to the first if they
    /// are alike, and the list comes last.
    pub fn docker_archive(&self) -> Vec<u8> {
        let config = self.config();
        let config_name = format!("{}.json", Digest::of(&config).hex());
        let mut entries = vec![Entry::new(&config_name, tar::EntryType::Regular, &config)];
        let mut names = Vec::new();
        for (at, (layer, _)) in self.layers.iter().enumerate() {
            let name = format!("{at}/layer.tar");
            entries.push(Entry::new(&name, tar::EntryType::Regular, layer));
            names.push(name);
        }
        let list = json!([{ "Config": config_name, "RepoTags": ["web:1.4"], "Layers": names }]);
        entries.push(Entry::new(
            "manifest.json",
            tar::EntryType::Regular,
            list.to_string().as_bytes(),
        ));
        Self::tar(&entries)
    }
}
