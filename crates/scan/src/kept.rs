//! Inventories that are kept on a node.
//!
//! ```text
//! layers/<2 hex>/<hex>.<key>     one for each layer and way of reading it: gzip of postcard
//! images/<2 hex>/<hex>           one for each image configuration
//! ```
//!
//! They hold what was in images, password hashes too, and are for root alone. Writers put whole files
//! in place by a rename; readers take no lock.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use portcullis_inventory::{Image, Layer, Wishes};
use portcullis_types::{Class, Digest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Changes whenever layers are read in another way, or written in another form.
const FORM: u32 = 1;
/// Most bytes of an inventory, out of its compression.
const MAX_BYTES: u64 = 400 << 20;

/// The folder in which inventories are kept.
#[derive(Debug, Clone)]
pub struct Kept {
    root: PathBuf,
}

/// An image whose layers are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptImage {
    /// The image.
    pub image: Image,
    /// The way its layers were read.
    pub key: String,
    /// The classes that they were searched for.
    pub searched: BTreeSet<Class>,
    /// Whether what lock files ask for counts.
    pub wishes: Wishes,
}

/// Why what is kept cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeptError {
    /// A file or folder.
    #[error("cannot use {0}")]
    File(PathBuf, #[source] io::Error),
    /// It cannot be written.
    #[error("an inventory cannot be written")]
    Form(#[source] postcard::Error),
}

/// Bytes that stay free.
const LEFT_FREE: u64 = 1 << 30;

impl Kept {
    /// In this folder, which need not be there yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Whether there is room for more: the file system is that of the ledger and of the verdicts,
    /// without which nothing starts.
    pub(crate) fn has_room(&self) -> bool {
        let there = self.root.ancestors().find(|folder| folder.exists());
        let room = there.and_then(|folder| rustix::fs::statvfs(folder).ok());
        room.is_none_or(|room| room.f_bavail.saturating_mul(room.f_frsize) >= LEFT_FREE)
    }

    /// What a layer has, if it was read in this way. One that is damaged was not.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn layer(&self, diff_id: &Digest, key: &str) -> Result<Option<Layer>, KeptError> {
        read(&self.of_layer(diff_id, key))
    }

    /// Keeps a layer.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep_layer(&self, diff_id: &Digest, key: &str, layer: &Layer) -> Result<(), KeptError> {
        write(&self.of_layer(diff_id, key), layer)
    }

    /// Keeps an image, with the names and manifests by which it was known before.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep_image(&self, mut image: KeptImage) -> Result<Image, KeptError> {
        let Some(config) = image.image.config.clone() else { return Ok(image.image) };
        let path = self.of_image(&config);
        if let Some(before) = read::<KeptImage>(&path)? {
            image.image.manifests.extend(before.image.manifests);
            image.image.references.extend(before.image.references);
        }
        write(&path, &image)?;
        Ok(image.image)
    }

    /// All images that are kept, and the files that are none.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn images(&self) -> Result<Vec<KeptImage>, KeptError> {
        let mut images = Vec::new();
        for folder in entries(&self.root.join("images"))? {
            for file in entries(&folder)? {
                images.extend(read::<KeptImage>(&file)?);
            }
        }
        images.sort_by(|a, b| a.image.config.cmp(&b.image.config));
        Ok(images)
    }

    /// Removes an image, and the layers that no other one has.
    ///
    /// # Errors
    /// Something cannot be read or removed.
    pub fn forget(&self, config: &Digest) -> Result<bool, KeptError> {
        let path = self.of_image(config);
        let Some(image) = read::<KeptImage>(&path)? else { return Ok(false) };
        remove(&path)?;
        let others = self.images()?;
        let used = |diff_id: &Digest| others.iter().any(|o| o.image.diff_ids.contains(diff_id));
        for diff_id in image.image.diff_ids.iter().filter(|diff_id| !used(diff_id)) {
            remove(&self.of_layer(diff_id, &image.key))?;
        }
        Ok(true)
    }

    fn of_layer(&self, diff_id: &Digest, key: &str) -> PathBuf {
        let hex = diff_id.hex();
        self.root.join("layers").join(&hex[..2]).join(format!("{hex}.{key}"))
    }

    fn of_image(&self, config: &Digest) -> PathBuf {
        let hex = config.hex();
        self.root.join("images").join(&hex[..2]).join(hex)
    }
}

/// Stands for the way in which layers are read: our own analysers, and the engines beside them.
pub(crate) fn key(engines: &[String]) -> String {
    let way = format!("{FORM} {} {}", env!("CARGO_PKG_VERSION"), engines.join("\n"));
    Digest::of(way.as_bytes()).hex()[..16].to_owned()
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> KeptError {
    let path = path.to_owned();
    move |error| KeptError::File(path, error)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, KeptError> {
    let open = match File::open(path) {
        Ok(open) => open,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file(path)(error)),
    };
    let mut bytes = Vec::new();
    let decoder = GzDecoder::new(BufReader::new(open));
    // Its checksum is in it; what is damaged is read anew from the image.
    let is_whole = decoder.take(MAX_BYTES).read_to_end(&mut bytes).is_ok();
    Ok(is_whole.then(|| postcard::from_bytes(&bytes).ok()).flatten())
}

fn write(path: &Path, value: &impl Serialize) -> Result<(), KeptError> {
    let bytes = postcard::to_stdvec(value).map_err(KeptError::Form)?;
    let folder = path.parent().unwrap_or(path);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(file(folder))?;
    let put = || -> io::Result<()> {
        let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
        let mut encoder = GzEncoder::new(&mut temporary, Compression::fast());
        encoder.write_all(&bytes)?;
        encoder.finish()?;
        temporary.as_file().sync_data()?;
        temporary.persist(path)?;
        Ok(())
    };
    put().map_err(file(path))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, KeptError> {
    let read = match fs::read_dir(folder) {
        Ok(read) => read,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(file(folder)(error)),
    };
    let paths = read.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>();
    paths.map_err(file(folder))
}

fn remove(path: &Path) -> Result<(), KeptError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file(path)(error)),
        _ => Ok(()),
    }
}
