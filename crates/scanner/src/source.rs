//! Where an image is read from: a layout, an archive, an engine's folders, a root filesystem.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use portcullis_inventory::protocol::{Job, Source, StoredLayer};
use portcullis_inventory::{Image, Layer, escaped, normal};
use portcullis_types::Digest;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::documents::{self, DocumentError, Documents, Found, MAX_DOCUMENT};
use crate::gather::{Gatherer, LayerError};
use crate::stream::{Bounded, Hashed, decompressed};
use crate::tar::{EntryKind, Tar, TarError};
use crate::{folder, layer};

/// Most bytes of all documents of an archive.
const MAX_DOCUMENTS: u64 = 64 << 20;
/// Most members of an archive of an image.
const MAX_MEMBERS: usize = 100_000;

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SourceError {
    /// Where it should be.
    #[error("cannot open {0}")]
    Open(PathBuf, #[source] io::Error),
    /// The archive around the layers.
    #[error("{0} is no archive of an image")]
    Archive(PathBuf, #[source] TarError),
    /// The way to its layers.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A layer.
    #[error("the layer {0} cannot be read")]
    Layer(String, #[source] LayerError),
    /// A layer is not the one that the configuration names.
    #[error("the layer at {place} has the diff ID {found}, and the configuration says {wanted}")]
    DiffId {
        /// Where it lies.
        place: String,
        /// What it is.
        found: Digest,
        /// What it should be.
        wanted: Digest,
    },
    /// A layer is not there.
    #[error("the layer {0} is not there")]
    Missing(String),
    /// Nobody hears it any more.
    #[error("what was found cannot be told")]
    Told(#[source] io::Error),
}

/// Makes the collector of each layer, and takes what it has collected.
pub(crate) trait Reading {
    /// For the layer with this number.
    fn gatherer(&mut self, layer: usize) -> Gatherer<'_>;
    /// It was read.
    fn done(&mut self, diff_id: Option<&Digest>, layer: Layer) -> io::Result<()>;
}

/// An image that was found, and how to read it.
pub(crate) struct Opened {
    pub(crate) image: Image,
    way: Way,
}

enum Way {
    Layout {
        root: OwnedFd,
        layers: Vec<String>,
    },
    Archive {
        path: PathBuf,
        layers: Vec<String>,
    },
    /// With the time at which they were asked for.
    Stored(Vec<StoredLayer>, folder::Moment),
    Root(PathBuf),
}

/// Finds the image of a job.
pub(crate) fn open(job: &Job) -> Result<Opened, SourceError> {
    let wanted = job.image.as_deref();
    match &job.source {
        Source::Layout(path) => {
            let root = folder_at(path)?;
            let found = documents::of_layout(&mut Folder(&root), wanted, &job.platform)?;
            Ok(Opened { image: found.image, way: Way::Layout { root, layers: found.layers } })
        }
        Source::Blobs { folder, target, references } => {
            let root = folder_at(folder)?;
            let mut found =
                documents::of_target(&mut Folder(&root), target.clone(), &job.platform)?;
            found.image.references.clone_from(references);
            Ok(Opened { image: found.image, way: Way::Layout { root, layers: found.layers } })
        }
        Source::Archive(path) => {
            let Found { image, layers } = in_archive(path, wanted, &job.platform)?;
            Ok(Opened { image, way: Way::Archive { path: path.clone(), layers } })
        }
        Source::Root(path) => {
            let image = Image::root_filesystem(path.display().to_string());
            Ok(Opened { image, way: Way::Root(path.clone()) })
        }
        Source::Stored { config, layers, manifests, references } => {
            let mut image = Image::of_config(config.clone()).map_err(DocumentError::from)?;
            if layers.len() != image.diff_ids.len() {
                return Err(DocumentError::Layers(layers.len(), image.diff_ids.len()).into());
            }
            image.manifests.clone_from(manifests);
            image.references.clone_from(references);
            Ok(Opened { image, way: Way::Stored(layers.clone(), folder::now()) })
        }
    }
}

impl Opened {
    /// Reads the layers that are wanted, each once.
    pub(crate) fn read(
        self,
        wanted: &BTreeSet<Digest>,
        limits: &portcullis_inventory::protocol::Limits,
        reading: &mut dyn Reading,
    ) -> Result<(), SourceError> {
        let mut seen = BTreeSet::new();
        let diff_ids = self.image.diff_ids.clone();
        let mut next = diff_ids
            .iter()
            .enumerate()
            .filter(|(_, diff_id)| wanted.contains(*diff_id) && seen.insert((*diff_id).clone()));
        match self.way {
            Way::Root(path) => {
                unpacked(reading, 0, &path, folder::Style::Plain, None, limits.depth)
            }
            Way::Layout { root, layers } => next.try_for_each(|(at, diff_id)| {
                let path = &layers[at];
                let mut open = || beneath(&root, path);
                one(reading, at, path, diff_id, limits.layer_bytes, &mut open)
            }),
            Way::Stored(layers, since) => next.try_for_each(|(at, diff_id)| match &layers[at] {
                StoredLayer::Archive(path) => {
                    let mut open = || File::open(path);
                    one(
                        reading,
                        at,
                        &path.display().to_string(),
                        diff_id,
                        limits.layer_bytes,
                        &mut open,
                    )
                }
                StoredLayer::Folder(path) => {
                    let style = folder::Style::Overlay { since };
                    unpacked(reading, at, path, style, Some(diff_id), limits.depth)
                }
            }),
            Way::Archive { path, layers } => {
                let mut places: BTreeMap<String, (usize, &Digest)> = BTreeMap::new();
                for (at, diff_id) in next {
                    // Docker's older archives have links from one layer to an equal one.
                    places.insert(layers[at].clone(), (at, diff_id));
                }
                from_archive(&path, places, limits.layer_bytes, reading)
            }
        }
    }
}

/// Reads a layer, or a root filesystem, that lies unpacked in a folder.
fn unpacked(
    reading: &mut dyn Reading,
    at: usize,
    path: &Path,
    style: folder::Style,
    diff_id: Option<&Digest>,
    depth: u64,
) -> Result<(), SourceError> {
    let gathered = folder::read(reading.gatherer(at), path, style, depth);
    let gathered =
        gathered.map_err(|error| SourceError::Layer(path.display().to_string(), error))?;
    reading.done(diff_id, gathered).map_err(SourceError::Told)
}

/// Reads a layer that is a file of its own.
fn one(
    reading: &mut dyn Reading,
    at: usize,
    place: &str,
    diff_id: &Digest,
    most: u64,
    open: &mut dyn FnMut() -> io::Result<File>,
) -> Result<(), SourceError> {
    let mut found = None;
    let gathered = layer::read(reading.gatherer(at), &mut |with| {
        let file = io::BufReader::with_capacity(1 << 20, open()?);
        let digest = through(file, most, with)?;
        found.get_or_insert(digest);
        Ok(())
    });
    let gathered = gathered.map_err(|error| SourceError::Layer(place.to_owned(), error))?;
    compared(place, found, diff_id)?;
    reading.done(Some(diff_id), gathered).map_err(SourceError::Told)
}

/// Gives the content of a layer to `with`, and its diff ID.
fn through(
    compressed: impl Read,
    most: u64,
    with: layer::Unpack<'_>,
) -> Result<Digest, LayerError> {
    let mut content = Hashed::new(Bounded::new(decompressed(compressed)?, most));
    with(&mut content)?;
    Ok(content.finish()?)
}

fn compared(place: &str, found: Option<Digest>, wanted: &Digest) -> Result<(), SourceError> {
    match found {
        Some(found) if found == *wanted => Ok(()),
        Some(found) => {
            Err(SourceError::DiffId { place: place.to_owned(), found, wanted: wanted.clone() })
        }
        None => Err(SourceError::Missing(place.to_owned())),
    }
}

fn folder_at(path: &Path) -> Result<OwnedFd, SourceError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(rustix::fs::CWD, path, flags, Mode::empty());
    root.map_err(|error| SourceError::Open(path.to_owned(), error.into()))
}

/// Documents of a folder.
struct Folder<'f>(&'f OwnedFd);

impl Documents for Folder<'_> {
    fn read(&mut self, path: &str) -> Result<Vec<u8>, DocumentError> {
        let wrong = |error| DocumentError::Read(path.to_owned(), error);
        let file = beneath(self.0, path).map_err(wrong)?;
        let mut bytes = Vec::new();
        file.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes).map_err(wrong)?;
        match bytes.len() as u64 > MAX_DOCUMENT {
            true => Err(wrong(io::ErrorKind::FileTooLarge.into())),
            false => Ok(bytes),
        }
    }
}

/// A regular file below a folder; links lead nowhere else.
fn beneath(root: &OwnedFd, path: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
    }
}

/// Documents of an archive, read in one go.
struct Members {
    documents: BTreeMap<String, Vec<u8>>,
    /// Links to other members.
    links: BTreeMap<String, String>,
}

impl Documents for Members {
    fn read(&mut self, path: &str) -> Result<Vec<u8>, DocumentError> {
        let missing = || DocumentError::Read(path.to_owned(), io::ErrorKind::NotFound.into());
        let name = normal(path.as_bytes()).ok_or_else(missing)?;
        let name = self.links.get(&name).unwrap_or(&name);
        self.documents.get(name).cloned().ok_or_else(missing)
    }
}

fn archive(path: &Path) -> Result<Tar<Box<dyn Read>>, SourceError> {
    let opened = File::open(path).and_then(|file| {
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        decompressed(io::BufReader::with_capacity(1 << 20, file))
    });
    Ok(Tar::new(opened.map_err(|error| SourceError::Open(path.to_owned(), error))?))
}

fn in_archive(path: &Path, wanted: Option<&str>, platform: &str) -> Result<Found, SourceError> {
    let wrong = |error| SourceError::Archive(path.to_owned(), error);
    let mut tar = archive(path)?;
    let mut members = Members { documents: BTreeMap::new(), links: BTreeMap::new() };
    let (mut bytes, mut count) = (0, 0);
    while let Some(entry) = tar.next_entry().map_err(wrong)? {
        count += 1;
        if count > MAX_MEMBERS {
            return Err(wrong(TarError::Header("it has too many members")));
        }
        let Some(name) = normal(&entry.path) else { continue };
        match entry.kind {
            EntryKind::File if entry.size <= MAX_DOCUMENT => {
                let mut begin = [0; 1];
                let has_begun = tar.read(&mut begin).map_err(|e| wrong(e.into()))? == 1;
                // Everything that is of use here is JSON.
                if !has_begun || !matches!(begin[0], b'{' | b'[' | b' ' | b'\n' | b'\r' | b'\t') {
                    continue;
                }
                bytes += entry.size;
                if bytes > MAX_DOCUMENTS {
                    return Err(wrong(TarError::Header("its documents are larger than any")));
                }
                let mut content = begin.to_vec();
                (&mut tar)
                    .take(entry.size - 1)
                    .read_to_end(&mut content)
                    .map_err(|e| wrong(e.into()))?;
                members.documents.insert(name, content);
            }
            EntryKind::SymbolicLink | EntryKind::HardLink => {
                if let Some(target) = linked(&name, entry.kind, &entry.link) {
                    members.links.insert(name, target);
                }
            }
            _ => {}
        }
    }
    // Docker's archives since 25 have both; its own list names the images as it does.
    let found = if members.documents.contains_key("manifest.json") {
        documents::of_docker(&mut members, wanted)?
    } else if members.documents.contains_key("index.json") {
        documents::of_layout(&mut members, wanted, platform)?
    } else {
        return Err(DocumentError::None(
            ": it has neither manifest.json nor index.json".to_owned(),
        )
        .into());
    };
    let resolve = |path: &String| -> Option<String> {
        let name = normal(path.as_bytes())?;
        Some(members.links.get(&name).cloned().unwrap_or(name))
    };
    let layers = found
        .layers
        .iter()
        .map(|path| resolve(path).ok_or_else(|| SourceError::Missing(path.clone())));
    Ok(Found { layers: layers.collect::<Result<_, _>>()?, image: found.image })
}

/// What a link among members leads to.
fn linked(name: &str, kind: EntryKind, link: &[u8]) -> Option<String> {
    let link = escaped(link);
    if kind == EntryKind::HardLink {
        return normal(link.as_bytes());
    }
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    normal(parts.join("/").as_bytes())
}

/// Reads the layers as they come in the archive.
fn from_archive(
    path: &Path,
    mut places: BTreeMap<String, (usize, &Digest)>,
    most: u64,
    reading: &mut dyn Reading,
) -> Result<(), SourceError> {
    let wrong = |error| SourceError::Archive(path.to_owned(), error);
    let mut tar = archive(path)?;
    while !places.is_empty() {
        let Some(entry) = tar.next_entry().map_err(wrong)? else { break };
        let Some(name) = normal(&entry.path) else { continue };
        if entry.kind != EntryKind::File {
            continue;
        }
        let Some((at, diff_id)) = places.remove(&name) else { continue };
        let mut found = None;
        let mut first = Some(&mut tar);
        let gathered = layer::read(reading.gatherer(at), &mut |with| match first.take() {
            Some(tar) => {
                found = Some(through(tar, most, with)?);
                Ok(())
            }
            // Only layers with other names of files that matter are looked for again.
            None => {
                let again = || io::Error::other("the archive has changed");
                let mut tar = archive(path).map_err(io::Error::other)?;
                while let Some(entry) = tar.next_entry()? {
                    if entry.kind == EntryKind::File && normal(&entry.path).as_ref() == Some(&name)
                    {
                        through(&mut tar, most, with)?;
                        return Ok(());
                    }
                }
                Err(again().into())
            }
        });
        let gathered = gathered.map_err(|error| SourceError::Layer(name.clone(), error))?;
        compared(&name, found, diff_id)?;
        reading.done(Some(diff_id), gathered).map_err(SourceError::Told)?;
    }
    match places.into_keys().next() {
        Some(missing) => Err(SourceError::Missing(missing)),
        None => Ok(()),
    }
}
