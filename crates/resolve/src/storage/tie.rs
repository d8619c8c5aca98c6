//! Whether the root filesystem is the container's layer on top of layers of the store, as the
//! kernel's table of mounts shows it.
//!
//! The options are those that the overlay driver of containers/storage makes (`drivers/overlay/
//! overlay.go`, `get`, and `mount.go`): lower folders stand as `…/overlay/l/<short>`, links to
//! `../<layer>/diff`; in a user namespace below `…/overlay/<layer>/mapped/<n>/`, where the driver
//! mounted them with other owners and took the mounts away again, or, where it copied a layer to
//! change its owners, with what was there before as `…/diff1` right below; with composefs as
//! `…/overlay/<layer>/composefs-layers/<n>`, likewise; and as numbers of open files where their
//! paths do not fit into one call of mount(2).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::files::{Folder, ReadError};
use super::records::is_id;
use crate::mounted::Mounted;

/// Most bytes of a layer's `lower` file; the driver allows 500 layers of 28 bytes.
const MAX_LOWER_FILE: u64 = 64 << 10;

/// A layer in one of the stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Which of the roots.
    pub(super) root: usize,
    /// Id of the layer.
    pub(super) layer: String,
}

/// What the root filesystem shows of the layers below the container's.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tie {
    /// These layers, the uppermost first.
    Layers(Vec<Place>),
    /// As many layers as these, which a file of the driver names: the kernel tells numbers of open
    /// files alone.
    Told(Vec<Place>),
    /// The folder is the container's layer; what lies below it is told by records alone, because
    /// the driver copies.
    Copied,
    /// A process serves the folder, and nothing tells from which layers.
    Served,
}

/// Why the root filesystem is not the container's layer.
#[derive(Debug, thiserror::Error)]
pub(super) enum TieError {
    #[error("nothing is mounted at the container's root {0}")]
    NotMounted(PathBuf),
    #[error("a file system of type \"{0}\" is mounted at the container's root")]
    Kind(String),
    #[error("a part of a file system is mounted at the container's root")]
    Part,
    #[error("the container's root {0} is not the folder of its layer")]
    Elsewhere(PathBuf),
    #[error("the upper folder of the container's root is not that of its layer")]
    Upper,
    #[error("{0} lies below the container's root and is no layer of a known store")]
    Lower(PathBuf),
    #[error("data-only layers lie below the container's root, which the driver does not make")]
    DataOnly,
    #[error("the layers below the container's root are told by number, and {0} tells of others")]
    Numbers(PathBuf),
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The stores' folders of one driver.
#[derive(Debug, Clone, Copy)]
pub(super) struct Homes<'a> {
    /// The graph roots, without links.
    pub(super) roots: &'a [PathBuf],
    /// `overlay` or `vfs`.
    pub(super) driver: &'static str,
}

impl Homes<'_> {
    fn home(&self, root: usize) -> PathBuf {
        self.roots[root].join(self.driver)
    }

    /// Which layer's folder an absolute path leads to, and which of its folders that is: 0 for
    /// `diff`, 1 for `diff1` and so on.
    fn part_at(&self, path: &Path) -> Option<(Place, usize)> {
        let target = match path.parent()?.file_name() == Some(OsStr::new("l")) {
            true => path.parent()?.join(std::fs::read_link(path).ok()?),
            false => path.to_owned(),
        };
        // The folder itself may be a link, into an additional layer store.
        let part = match target.file_name()?.to_str()?.strip_prefix("diff")? {
            "" => 0,
            number => number.parse().ok().filter(|part| *part > 0)?,
        };
        let folder = std::fs::canonicalize(target.parent()?).ok()?;
        (0..self.roots.len()).find_map(|root| {
            let rest = folder.strip_prefix(self.home(root)).ok()?;
            let layer = rest.to_str().filter(|text| is_id(text))?.to_owned();
            Some((Place { root, layer }, part))
        })
    }

    /// Which layer a path below a home leads to: in the container's own home first, as the driver
    /// looks.
    fn part_below(&self, own: &Place, rest: &Path) -> Option<(Place, usize)> {
        let others = (0..self.roots.len()).filter(|root| *root != own.root);
        std::iter::once(own.root)
            .chain(others)
            .find_map(|root| self.part_at(&self.home(root).join(rest)))
    }
}

/// The id of the layer that is mounted as the container's own, if the mount shows one: to look for
/// a record by, proven only by [`tie`].
pub(super) fn mounted_layer(mounted: &Mounted) -> Option<String> {
    let upper = mounted.option("upperdir").filter(|_| mounted.kind == "overlay");
    let folder = match &upper {
        Some(upper) => upper.parent()?,
        None => &mounted.root,
    };
    folder.file_name()?.to_str().filter(|name| is_id(name)).map(str::to_owned)
}

/// What the root filesystem shows of the layers below `own`, the container's layer.
pub(super) fn tie(
    homes: Homes<'_>,
    own: &Place,
    place: &Path,
    mounted: Option<Mounted>,
    root: &Folder,
) -> Result<Tie, TieError> {
    if homes.driver == "vfs" {
        return copied(homes, own, place, mounted);
    }
    let mounted = mounted.ok_or_else(|| TieError::NotMounted(place.to_owned()))?;
    if mounted.root != Path::new("/") {
        return Err(TieError::Part);
    }
    match mounted.kind.as_str() {
        "overlay" => overlay(homes, own, &mounted, root),
        "fuse.fuse-overlayfs" => {
            match place == homes.home(own.root).join(&own.layer).join("merged") {
                true => Ok(Tie::Served),
                false => Err(TieError::Elsewhere(place.to_owned())),
            }
        }
        other => Err(TieError::Kind(other.escape_debug().take(40).collect())),
    }
}

/// The driver that copies gives the folder itself; Buildah mounts it at a place of its own.
fn copied(
    homes: Homes<'_>,
    own: &Place,
    place: &Path,
    mounted: Option<Mounted>,
) -> Result<Tie, TieError> {
    let folder = homes.home(own.root).join("dir").join(&own.layer);
    let Some(mounted) = mounted else {
        return match place == folder {
            true => Ok(Tie::Copied),
            false => Err(TieError::Elsewhere(place.to_owned())),
        };
    };
    let is_bound = place != folder
        && mounted.root.ends_with(Path::new("vfs/dir").join(&own.layer))
        && is_one_folder(place, &folder);
    match is_bound {
        true => Ok(Tie::Copied),
        false => Err(TieError::Kind(mounted.kind)),
    }
}

/// Whether both paths lead to one folder of one file system.
fn is_one_folder(one: &Path, other: &Path) -> bool {
    let inode = |path| std::fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    inode(one).is_some() && inode(one) == inode(other)
}

fn overlay(
    homes: Homes<'_>,
    own: &Place,
    mounted: &Mounted,
    root: &Folder,
) -> Result<Tie, TieError> {
    let mut lower = mounted.lower();
    let is_own = match mounted.option("upperdir") {
        Some(upper) => part_of(homes, own, &upper),
        // A read-only root has the container's layer as the first of the lower ones.
        None if lower.is_empty() => None,
        None => part_of(homes, own, &lower.remove(0)),
    };
    if is_own != Some((own.clone(), 0)) {
        return Err(TieError::Upper);
    }
    let own_folder = homes.home(own.root).join(&own.layer);
    if !lower.is_empty() && lower.iter().all(|path| is_number(path)) {
        return by_lower_file(homes, own, lower.len(), root).map(Tie::Told);
    }
    // The driver puts an empty folder below a layer that has none.
    if let [only] = lower.as_slice()
        && is_same_folder(only, &own_folder.join("empty"))
    {
        return Ok(Tie::Layers(Vec::new()));
    }
    let lower = without_composefs(lower, &own_folder, mounted.has_data_only())?;
    let mut layers = vec![own.clone()];
    let mut last = 0;
    for path in lower {
        match part_of(homes, own, &path) {
            Some((layer, 0)) => {
                layers.push(layer);
                last = 0;
            }
            // What lay in a layer before its owners were changed lies right below it.
            Some((layer, part)) if layers.last() == Some(&layer) && part == last + 1 => last = part,
            _ => return Err(TieError::Lower(path)),
        }
    }
    layers.remove(0);
    Ok(Tie::Layers(layers))
}

/// The layer, and which of its folders, that an option of the container's mount names.
fn part_of(homes: Homes<'_>, own: &Place, path: &Path) -> Option<(Place, usize)> {
    if let Some(rest) = behind_mapping(path, &own.layer) {
        return homes.part_below(own, &rest);
    }
    match path.is_absolute() {
        true => homes.part_at(path),
        false => homes.part_below(own, path),
    }
}

/// `l/<short>` in `…/<layer>/mapped/<n>/l/<short>`.
fn behind_mapping(path: &Path, own: &str) -> Option<PathBuf> {
    let parts: Vec<Component<'_>> = path.components().collect();
    let at = parts.windows(3).position(|part| {
        part[0].as_os_str() == own && part[1].as_os_str() == "mapped" && is_number(part[2].as_ref())
    })?;
    Some(parts[at + 3..].iter().collect())
}

fn is_number(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    !bytes.is_empty() && bytes.len() < 10 && bytes.iter().all(u8::is_ascii_digit)
}

/// Whether both are one folder, of which the second is written without links.
fn is_same_folder(path: &Path, wanted: &Path) -> bool {
    path == wanted || std::fs::canonicalize(path).is_ok_and(|path| path == wanted)
}

/// Puts in place of each composefs image the folder with the layer's files, which the driver adds
/// behind all others, in the same order; only then are there data-only layers.
fn without_composefs(
    mut lower: Vec<PathBuf>,
    own_folder: &Path,
    has_data_only: bool,
) -> Result<Vec<PathBuf>, TieError> {
    let is_image = |path: &PathBuf| {
        path.parent().is_some_and(|folder| {
            folder.file_name() == Some(OsStr::new("composefs-layers"))
                && folder.parent().is_some_and(|folder| is_same_folder(folder, own_folder))
        })
    };
    let images = lower.iter().filter(|path| is_image(path)).count();
    if has_data_only && images == 0 {
        return Err(TieError::DataOnly);
    }
    let Some(layers) = lower.len().checked_sub(images).filter(|layers| *layers >= images) else {
        return Err(TieError::Lower(own_folder.join("composefs-layers")));
    };
    let mut files = lower.split_off(layers).into_iter();
    for (at, path) in lower.iter_mut().enumerate() {
        if !is_image(path) {
            continue;
        }
        // The driver counts from the container's own layer, 0.
        if path.file_name() != Some(OsStr::new(&(at + 1).to_string())) {
            return Err(TieError::Lower(path.clone()));
        }
        if let Some(files) = files.next() {
            *path = files;
        }
    }
    match files.next() {
        Some(more) => Err(TieError::Lower(more)),
        None => Ok(lower),
    }
}

/// The layers that the driver wrote down when it made the container's layer, if they are as many
/// as the kernel knows.
fn by_lower_file(
    homes: Homes<'_>,
    own: &Place,
    count: usize,
    root: &Folder,
) -> Result<Vec<Place>, TieError> {
    let folder = root.folder(homes.driver)?.folder(&own.layer)?;
    let text = String::from_utf8(folder.read("lower", MAX_LOWER_FILE)?).unwrap_or_default();
    let wrong = || TieError::Numbers(folder.path().join("lower"));
    let layers: Option<Vec<Place>> = text
        .trim_end()
        .split(':')
        .map(|link| {
            let is_link = link.strip_prefix("l/").is_some_and(|l| !l.contains(['/', '.']));
            let (layer, _) = homes.part_below(own, Path::new(link)).filter(|_| is_link)?;
            Some(layer)
        })
        .collect();
    layers.filter(|layers| layers.len() == count).ok_or_else(wrong)
}
