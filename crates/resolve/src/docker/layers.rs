//! Docker's own layers: what its layer store and the driver `overlay2` keep on disk (moby,
//! `daemon/internal/layer/filestore.go` and `daemon/graphdriver/overlay2/overlay.go`).

use std::path::{Component, Path, PathBuf};

use portcullis_types::Digest;

use super::files::{FileError, Files};
use super::is_name;
use crate::mounted::Mounted;

/// Most layers below a container; Docker stops at 125.
const MAX_LAYERS: usize = 512;

/// Why the layers are not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum LayersError {
    #[error(transparent)]
    File(#[from] FileError),
    /// The container was made from nothing.
    #[error("the container has no layers below it")]
    NoParent,
    /// A layer's name is not the chain ID of what it says of itself.
    #[error("the layer {0} says that it is another one")]
    WrongChain(Digest),
    /// Layers without end.
    #[error("there are more than {MAX_LAYERS}")]
    TooMany,
}

/// The layers of one container, by the names of their folders in the driver's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layers {
    /// The container's own layer, which it may write.
    pub(super) own: String,
    /// The layer with mount points that Docker puts below it.
    pub(super) init: String,
    /// The chain ID of the image's.
    pub(super) chain: Digest,
    /// The image's layers, the uppermost first.
    pub(super) image: Vec<String>,
}

impl Layers {
    /// What Docker recorded for the container with this id under this driver; both were checked.
    pub(super) fn read(
        files: &Files,
        data: &Path,
        driver: &str,
        id: &str,
    ) -> Result<Self, LayersError> {
        let store = data.join("image").join(driver).join("layerdb");
        let mount = store.join("mounts").join(id);
        let chain = match digest(files, &mount.join("parent")) {
            Err(error) if error.is_not_found() => return Err(LayersError::NoParent),
            chain => chain?,
        };
        Ok(Self {
            own: name(files, &mount.join("mount-id"))?,
            init: name(files, &mount.join("init-id"))?,
            image: below(files, &store, &chain)?,
            chain,
        })
    }
}

/// The folders of the layers of this chain. Each layer says its diff ID and its parent, which its
/// name, the chain ID, has to agree with: so the diff IDs need no other source.
pub(super) fn below(
    files: &Files,
    store: &Path,
    chain: &Digest,
) -> Result<Vec<String>, LayersError> {
    let mut folders = Vec::new();
    let mut next = Some(chain.clone());
    while let Some(chain) = next {
        if folders.len() == MAX_LAYERS {
            return Err(LayersError::TooMany);
        }
        let layer = store.join(chain.algorithm().as_str()).join(chain.hex());
        let diff = digest(files, &layer.join("diff"))?;
        let parent = match digest(files, &layer.join("parent")) {
            Ok(parent) => Some(parent),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        let told = match &parent {
            Some(parent) => Digest::of(format!("{parent} {diff}").as_bytes()),
            None => diff,
        };
        if told != chain {
            return Err(LayersError::WrongChain(chain));
        }
        folders.push(name(files, &layer.join("cache-id"))?);
        next = parent;
    }
    Ok(folders)
}

fn digest(files: &Files, path: &Path) -> Result<Digest, FileError> {
    files
        .word(path)?
        .parse()
        .map_err(|_| FileError::Malformed { path: path.to_owned(), what: "a digest" })
}

fn name(files: &Files, path: &Path) -> Result<String, FileError> {
    let name = files.word(path)?;
    match is_name(&name) {
        true => Ok(name),
        false => Err(FileError::Malformed { path: path.to_owned(), what: "a name" }),
    }
}

/// Whether this is the overlay of these layers, as the driver `overlay2` mounts it at
/// `<home>/<own>/merged`: the container's own layer, below it the init layer, then the image's, and
/// nothing else.
pub(super) fn is_overlay(
    files: &Files,
    home: &Path,
    layers: &Layers,
    mounted: &Mounted,
) -> Result<bool, FileError> {
    let inside = |path: PathBuf| within(home, &path);
    let own = |part: &str| Some(Path::new(&layers.own).join(part));
    let alike = mounted.kind == "overlay"
        && mounted.root == Path::new("/")
        && mounted.option("upperdir").and_then(inside) == own("diff")
        && mounted.option("workdir").and_then(inside) == own("work")
        && !mounted.has_data_only();
    let lower = mounted.lower();
    if !alike || lower.len() != layers.image.len() + 1 {
        return Ok(false);
    }
    let wanted = std::iter::once(&layers.init).chain(&layers.image);
    for (dir, layer) in lower.iter().zip(wanted) {
        if !is_layer(files, home, dir, layer)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a lower directory is this layer: its folder or a link `l/<short name>` to it.
fn is_layer(files: &Files, home: &Path, dir: &Path, layer: &str) -> Result<bool, FileError> {
    let Some(dir) = within(home, dir) else {
        return Ok(false);
    };
    let parts: Vec<Component<'_>> = dir.components().collect();
    match parts.as_slice() {
        [Component::Normal(folder), Component::Normal(short)] if *folder == "l" => {
            if !short.to_str().is_some_and(is_name) {
                return Ok(false);
            }
            let target = files.link(&home.join(&dir))?;
            Ok(target == Path::new("..").join(layer).join("diff"))
        }
        _ => Ok(dir == Path::new(layer).join("diff")),
    }
}

/// The path below the driver's folder; Docker changes into it for a mount with many layers, so a
/// relative one is below it too.
fn within(home: &Path, path: &Path) -> Option<PathBuf> {
    match path.is_relative() {
        true => Some(path.to_owned()),
        false => path.strip_prefix(home).ok().map(Path::to_owned),
    }
}
