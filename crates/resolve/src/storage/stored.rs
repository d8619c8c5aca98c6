//! Where CRI-O and Podman keep the layers of an image, for those who read them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use portcullis_types::{Digest, ImageRef};

use super::files::{Folder, Owners, ReadError, if_there};
use super::image;
use super::records::{Layers, RecordError, add_layers, is_id, list_of, text_of};
use super::resolve::MAX_RECORDS_FILE;
use crate::documents::{diff_ids, each, is_for};
use crate::{ImageHad, MAX_IMAGES};

/// The driver whose layers lie as folders of changes.
const DRIVER: &str = "overlay";
/// The folder of its images' records.
pub(super) const IMAGES: &str = "overlay-images";
/// Most layers of an image; the driver allows 500.
const MAX_LAYERS: usize = 500;

/// An image, and its layers as overlayfs has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageImage {
    /// Its names.
    pub names: Vec<String>,
    /// Its configuration, whose digest is the image ID.
    pub config: Vec<u8>,
    /// The folders of its layers, lowest first, as many as the configuration has.
    pub layers: Vec<PathBuf>,
}

/// Why an image is not found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageImageError {
    /// No graph root has it.
    #[error("containers/storage has no image \"{image}\" at {looked}")]
    Unknown {
        /// As it was asked for.
        image: String,
        /// Where.
        looked: String,
    },
    /// The records, or the image's own files.
    #[error("the records of containers/storage in {path} cannot be used")]
    Records {
        /// The graph root.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A layer is not there, or is another one than the configuration says.
    #[error("the layers of the image do not fit its configuration: {0}")]
    Layers(String),
}

/// The image of a name or an id in the first of the graph roots that has it.
pub(super) fn find(
    roots: &[PathBuf],
    image: &str,
    deadline: Instant,
) -> Result<StorageImage, StorageImageError> {
    let roots: Vec<PathBuf> = roots.iter().filter_map(|root| root.canonicalize().ok()).collect();
    for root in &roots {
        let failed = |source| StorageImageError::Records { path: root.clone(), source };
        if let Some(Record { id, names, top }) = record(root, image, deadline).map_err(failed)? {
            let config = config(root, &id, deadline).map_err(failed)?;
            let layers = layers(&roots, &top, &config, deadline)?;
            return Ok(StorageImage { names, config, layers });
        }
    }
    let looked: Vec<String> = roots.iter().map(|root| root.display().to_string()).collect();
    Err(StorageImageError::Unknown {
        image: image.chars().take(200).flat_map(char::escape_debug).collect(),
        looked: if looked.is_empty() { "any place".to_owned() } else { looked.join(", ") },
    })
}

/// The images of all graph roots for a platform.
pub(super) fn list(
    roots: &[PathBuf],
    platform: &str,
    deadline: Instant,
) -> Result<Vec<ImageHad>, StorageImageError> {
    let mut found = BTreeSet::new();
    for root in roots.iter().filter_map(|root| root.canonicalize().ok()) {
        let failed = |source| StorageImageError::Records { path: root.clone(), source };
        for id in ids(&root, deadline).map_err(failed)? {
            if found.len() >= MAX_IMAGES {
                return Ok(found.into_iter().collect());
            }
            if Instant::now() >= deadline {
                return Err(failed(Box::new(ReadError::Deadline(root.clone()))));
            }
            let Ok(json) = config(&root, &id, deadline) else { continue };
            if is_for(&json, platform).unwrap_or(false) {
                let config = Digest::of(&json);
                found.insert(ImageHad { asked: config.clone(), config });
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// The ids in a graph root's records.
fn ids(root: &Path, deadline: Instant) -> Result<Vec<String>, Source> {
    let Some(images) = folder(root, "images", deadline)? else { return Ok(Vec::new()) };
    let Some(json) = if_there(images.read("images.json", MAX_RECORDS_FILE))? else {
        return Ok(Vec::new());
    };
    let mut ids = Vec::new();
    each(&json, ["id"], |[id]| {
        // One that is none is no image that could be started.
        ids.extend(text_of(id).ok().filter(|id| is_id(id)).filter(|_| ids.len() < MAX_IMAGES));
        Ok(())
    })?;
    Ok(ids)
}

type Source = Box<dyn std::error::Error + Send + Sync>;

fn folder(root: &Path, kind: &str, deadline: Instant) -> Result<Option<Folder>, ReadError> {
    let root = Folder::open(root, deadline, Owners::Ours)?;
    if_there(root.folder(&format!("{DRIVER}-{kind}")))
}

/// What is recorded of an image.
struct Record {
    id: String,
    names: Vec<String>,
    /// Its uppermost layer.
    top: String,
}

fn record(root: &Path, image: &str, deadline: Instant) -> Result<Option<Record>, Source> {
    let Some(images) = folder(root, "images", deadline)? else { return Ok(None) };
    let Some(json) = if_there(images.read("images.json", MAX_RECORDS_FILE))? else {
        return Ok(None);
    };
    let whole = image.parse::<ImageRef>().ok().map(|image| image.to_string());
    let id_asked = image.strip_prefix("sha256:").unwrap_or(image);
    let (mut found, mut wrong) = (None, None);
    each(&json, ["id", "names", "layer"], |[id, names, layer]| {
        match (text_of(id), list_of(names), text_of(layer)) {
            (Ok(id), Ok(names), Ok(top)) => {
                let is_named = |name: &String| name == image || Some(name) == whole.as_ref();
                if id == id_asked || names.iter().any(is_named) {
                    found = Some(Record { id, names, top });
                }
            }
            (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => {
                wrong.get_or_insert(error);
            }
        }
        Ok(())
    })?;
    if let Some(error) = wrong {
        return Err(Box::new(error));
    }
    match found {
        Some(Record { id, top, .. }) if !is_id(&id) || !is_id(&top) => {
            Err(Box::new(RecordError::id(&format!("{id} {top}"))))
        }
        found => Ok(found),
    }
}

/// The configuration, which has the digest that is the image's id.
fn config(root: &Path, id: &str, deadline: Instant) -> Result<Vec<u8>, Source> {
    let images = folder(root, "images", deadline)?.ok_or("there are no images")?;
    let own = image::folder(&images, id)?.ok_or("the image has no folder")?;
    let json = image::stored(&own, &format!("sha256:{id}"))?;
    match Digest::of(&json).hex() == id {
        true => Ok(json),
        false => Err("the configuration has another digest than the image's id".into()),
    }
}

/// From the uppermost layer down, in any of the graph roots.
fn layers(
    roots: &[PathBuf],
    top: &str,
    config: &[u8],
    deadline: Instant,
) -> Result<Vec<PathBuf>, StorageImageError> {
    let mut files: Vec<(usize, Vec<u8>)> = Vec::new();
    for (at, root) in roots.iter().enumerate() {
        let failed = |error: ReadError| StorageImageError::Records {
            path: root.clone(),
            source: Box::new(error),
        };
        let Some(layers) = folder(root, "layers", deadline).map_err(failed)? else { continue };
        for name in ["layers.json", "volatile-layers.json"] {
            let json = if_there(layers.read(name, MAX_RECORDS_FILE)).map_err(failed)?;
            files.extend(json.map(|json| (at, json)));
        }
    }
    let mut stores: Vec<Layers<'_>> = vec![Layers::new(); roots.len()];
    for (at, json) in &files {
        add_layers(json, &mut stores[*at]).map_err(|error| StorageImageError::Records {
            path: roots[*at].clone(),
            source: Box::new(error),
        })?;
    }
    let wrong = |why: String| StorageImageError::Layers(why);
    let mut wanted = diff_ids(config).map_err(|error| wrong(error.to_string()))?;
    let (mut folders, mut id) = (Vec::new(), top);
    while !id.is_empty() {
        if folders.len() >= MAX_LAYERS || !is_id(id) {
            return Err(wrong(format!("there are more than {MAX_LAYERS}")));
        }
        let found = stores.iter().enumerate().find_map(|(at, store)| Some((at, store.get(id)?)));
        let (at, layer) = found.ok_or_else(|| wrong(format!("the layer {id} has no record")))?;
        let diff_id =
            wanted.pop().ok_or_else(|| wrong("there are more than it names".to_owned()))?;
        // A layer that was not read as a whole when it was pulled has none.
        let recorded = layer.diff_id().map_err(|error| wrong(error.to_string()))?;
        if recorded.is_some_and(|recorded| recorded != diff_id) {
            return Err(wrong(format!("the layer {id} has another diff ID than {diff_id}")));
        }
        let own = roots[at].join(DRIVER).join(id);
        // Then `diff` has contents by their digests (drivers/overlay/overlay.go, getComposefsData).
        if own.join("composefs-data").exists() {
            return Err(wrong(format!(
                "the layer {id} is kept with composefs: write the image to an archive, with podman \
                 save, and scan that"
            )));
        }
        let path = own.join("diff");
        if !path.is_dir() {
            return Err(wrong(format!("the layer {id} is not a folder: {}", path.display())));
        }
        folders.push(path);
        id = layer.parent;
    }
    match wanted.is_empty() {
        true => {
            folders.reverse();
            Ok(folders)
        }
        false => Err(wrong(format!("{} of them are not there", wanted.len()))),
    }
}
