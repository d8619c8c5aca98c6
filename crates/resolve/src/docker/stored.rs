//! Where Docker keeps the layers of an image, for those who read them (moby,
//! `daemon/internal/refstore/store.go`, `daemon/internal/image/fs.go`,
//! `daemon/internal/layer/filestore.go`, `daemon/graphdriver/overlay2/overlay.go`).

use std::collections::BTreeSet;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use portcullis_types::{Digest, ImageRef, chain_id};

use super::files::Files;
use super::graph::{ConfigError, OVERLAY, read_config, read_names};
use super::layers::below;
use super::{DockerResolver, is_docker_id, is_name, is_remapped};
use crate::containerd::identify::MAX_NAMES;
use crate::documents::{diff_ids, is_for};
use crate::{ContainerdResolver, ImageHad, MAX_IMAGES, StoredError, StoredImage, names};

/// Most entries of a folder that are looked at; Docker's have some twenty.
const MAX_ENTRIES: usize = 1024;
/// The folder of the configurations of `overlay2`, below the data folder.
const CONFIGS: &str = "image/overlay2/imagedb/content/sha256";
/// How long containerd may take to say that it does not have what was found already.
const CONTAINERD_TIME: Duration = Duration::from_secs(2);

/// An image of Docker's, by the way in which it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerStored {
    /// With the graph driver `overlay2`.
    Graph(DockerImage),
    /// In containerd, in the namespace [`DockerResolver::NAMESPACE`].
    Containerd(StoredImage),
}

/// An image that Docker keeps with its graph driver `overlay2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerImage {
    /// Its names, in full.
    pub names: Vec<String>,
    /// Its configuration, whose digest is the image's id.
    pub config: Vec<u8>,
    /// Digests of the manifests and indexes by which it was pulled or pushed.
    pub manifests: BTreeSet<Digest>,
    /// The folders of its layers, lowest first, as many as the configuration has.
    pub layers: Vec<PathBuf>,
}

/// Why an image of Docker's is not found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DockerImageError {
    /// Neither a graph driver nor containerd has it.
    #[error("Docker has no image \"{image}\" at {data}, nor has its containerd")]
    Unknown {
        /// As it was asked for.
        image: String,
        /// The data folder.
        data: PathBuf,
        /// What containerd says.
        #[source]
        source: StoredError,
    },
    /// A daemon that was switched from one way of keeping images to another has two of the name.
    #[error("\"{image}\" names several of Docker's images: ask by id for one of {ids}")]
    Several {
        /// As it was asked for.
        image: String,
        /// Ids, and by what each is kept.
        ids: String,
    },
    /// It is kept by a driver whose layers are not folders of changes.
    #[error(
        "Docker keeps the image {id} with its driver {driver}, whose layers cannot be read: only \
         those of overlay2 can; write it to an archive with `docker save` and scan that"
    )]
    Driver {
        /// The image's id.
        id: Digest,
        /// The driver.
        driver: String,
    },
    /// The records, or the image's configuration.
    #[error("Docker's records in {path} cannot be used")]
    Records {
        /// The folder that has them.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A layer is not there, or is another one than the configuration says.
    #[error("the layers of Docker's image {id} do not fit its configuration")]
    Layers {
        /// The image's id.
        id: Digest,
        /// What is missing or wrong.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// A layer's folder is missing.
#[derive(Debug, thiserror::Error)]
#[error("the layer's folder {} is not there", .0.display())]
struct NoFolder(PathBuf);

/// What is asked for. Docker itself also takes the beginning of an id.
#[derive(Debug)]
enum Asked {
    Id(Digest),
    Name(ImageRef),
}

impl Asked {
    /// As Docker reads it (`reference.ParseAnyReference`), and `None` for what cannot be either.
    fn of(image: &str) -> Option<Self> {
        let id = match is_docker_id(image) {
            true => format!("sha256:{image}").parse(),
            false => image.parse(),
        };
        id.map(Self::Id).ok().or_else(|| names::asked(image).map(Self::Name))
    }
}

/// Where an image is recorded.
#[derive(Debug)]
struct Place {
    /// The data folder, or that of a daemon that remaps its users.
    data: PathBuf,
    driver: String,
    id: Digest,
}

impl Place {
    fn is_overlay(&self) -> bool {
        self.driver == OVERLAY
    }

    fn records(&self) -> PathBuf {
        self.data.join("image").join(&self.driver)
    }
}

/// The image of a name or an id.
pub(super) fn find(
    data: &Path,
    containerd: &ContainerdResolver,
    image: &str,
    deadline: Instant,
) -> Result<DockerStored, DockerImageError> {
    let files = Files { deadline };
    let asked = Asked::of(image);
    let mut places = match &asked {
        Some(asked) => places(&files, data, asked)?,
        None => Vec::new(),
    };
    // What has the same id is the same image.
    places.sort_by_key(|place| !place.is_overlay());
    let mut seen = BTreeSet::new();
    places.retain(|place| seen.insert(place.id.clone()));

    let in_containerd = match (&asked, places.first()) {
        (Some(Asked::Id(_)), Some(place)) if place.is_overlay() => None,
        (_, found) => {
            let soon = deadline.min(Instant::now() + CONTAINERD_TIME);
            let until = found.map_or(deadline, |_| soon);
            Some(containerd.stored(image, Some(DockerResolver::NAMESPACE), until))
        }
    };
    let shown = || image.chars().take(200).flat_map(char::escape_debug).collect();
    match (places.as_slice(), in_containerd) {
        ([], Some(Ok(stored))) => Ok(DockerStored::Containerd(stored)),
        ([], Some(Err(source))) => {
            Err(DockerImageError::Unknown { image: shown(), data: data.to_owned(), source })
        }
        ([place], Some(Ok(stored))) if stored.manifests.iter().any(|m| m.config == place.id) => {
            match place.is_overlay() {
                true => read(&files, place).map(DockerStored::Graph),
                false => Ok(DockerStored::Containerd(stored)),
            }
        }
        ([place], None | Some(Err(_))) if place.is_overlay() => {
            read(&files, place).map(DockerStored::Graph)
        }
        ([place], None | Some(Err(_))) => {
            let (id, driver) = (place.id.clone(), place.driver.clone());
            Err(DockerImageError::Driver { id, driver })
        }
        (places, in_containerd) => {
            let mut ids: Vec<String> =
                places.iter().map(|place| format!("{} ({})", place.id, place.driver)).collect();
            let other = in_containerd.and_then(Result::ok);
            ids.extend(other.map(|stored| format!("{} (containerd)", stored.target)));
            Err(DockerImageError::Several { image: shown(), ids: ids.join(", ") })
        }
    }
}

/// The images of `overlay2` for a platform.
pub(super) fn list(
    data: &Path,
    platform: &str,
    deadline: Instant,
) -> Result<Vec<ImageHad>, DockerImageError> {
    let files = Files { deadline };
    let mut found = BTreeSet::new();
    for data in roots(data)? {
        let folder = data.join(CONFIGS);
        let wrong = |source: Box<dyn Error + Send + Sync>| DockerImageError::Records {
            path: folder.clone(),
            source,
        };
        let listed = match std::fs::read_dir(&folder) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(wrong(error.into())),
        };
        for entry in listed {
            if found.len() >= MAX_IMAGES {
                return Ok(found.into_iter().collect());
            }
            if Instant::now() >= deadline {
                return Err(wrong("the time was up before all images were read".into()));
            }
            let name = entry.map_err(|error| wrong(error.into()))?.file_name();
            let id = name.to_str().and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
            let Some(id) = id else { continue };
            let Ok(json) = read_config(&files, &data, OVERLAY, &id) else { continue };
            if is_for(&json, platform).unwrap_or(false) {
                found.insert(ImageHad { asked: id.clone(), config: id });
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// The folders in which `overlay2` has configurations.
pub(super) fn folders(data: &Path) -> Vec<PathBuf> {
    roots(data).unwrap_or_default().into_iter().map(|data| data.join(CONFIGS)).collect()
}

/// The data folder and those of daemons that remap their users; none if it is not there.
fn roots(data: &Path) -> Result<Vec<PathBuf>, DockerImageError> {
    let wrong = |path: &Path, source: io::Error| DockerImageError::Records {
        path: path.to_owned(),
        source: source.into(),
    };
    let data = match data.canonicalize() {
        Ok(data) => data,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(wrong(data, error)),
    };
    let mut roots = entries(&data).map_err(|error| wrong(&data, error))?;
    roots.retain(|name| is_remapped(name));
    let remapped = roots.into_iter().map(|ids| data.join(ids));
    Ok(std::iter::once(data.clone()).chain(remapped).collect())
}

/// Where it is recorded, by whatever graph driver.
fn places(files: &Files, data: &Path, asked: &Asked) -> Result<Vec<Place>, DockerImageError> {
    let wrong = |path: &Path, source: Box<dyn Error + Send + Sync>| DockerImageError::Records {
        path: path.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for root in roots(data)? {
        let images = root.join("image");
        let drivers = entries(&images).map_err(|error| wrong(&images, error.into()))?;
        for driver in drivers {
            let id = recorded(files, &root, &driver, asked)
                .map_err(|error| wrong(&images.join(&driver), error.into()))?;
            found.extend(id.map(|id| Place { data: root.clone(), driver, id }));
        }
    }
    Ok(found)
}

/// The names of the folders in a folder that Docker could have given, in order; none in one that is
/// not there.
fn entries(folder: &Path) -> io::Result<Vec<String>> {
    let listed = match std::fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in listed.take(MAX_ENTRIES) {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.extend(entry.file_name().into_string().ok().filter(|name| is_name(name)));
        }
    }
    names.sort();
    Ok(names)
}

/// The id that this driver's records give.
fn recorded(
    files: &Files,
    data: &Path,
    driver: &str,
    asked: &Asked,
) -> Result<Option<Digest>, ConfigError> {
    match asked {
        Asked::Id(id) => Ok(if_there(read_config(files, data, driver, id))?.map(|_| id.clone())),
        Asked::Name(asked) => {
            let all = if_there(read_names(files, data, driver))?.unwrap_or_default();
            let is_asked = |name: &str| name.parse().is_ok_and(|name: ImageRef| name == *asked);
            let found = all.into_iter().find(|(name, _)| is_asked(name));
            let id = found.map(|(_, id)| id.parse().map_err(|_| ConfigError::NoId(asked.clone())));
            id.transpose()
        }
    }
}

fn if_there<T>(read: Result<T, ConfigError>) -> Result<Option<T>, ConfigError> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(ConfigError::File(error)) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads what is recorded of an image of `overlay2`'s.
fn read(files: &Files, place: &Place) -> Result<DockerImage, DockerImageError> {
    let Place { data, driver, id } = place;
    let failed = |source: ConfigError| DockerImageError::Records {
        path: place.records(),
        source: source.into(),
    };
    let config = read_config(files, data, driver, id).map_err(failed)?;
    let diff_ids = diff_ids(&config).map_err(|error| failed(error.into()))?;
    let layers = layers(files, place, &diff_ids)
        .map_err(|source| DockerImageError::Layers { id: id.clone(), source })?;
    let wanted = id.to_string();
    let all = if_there(read_names(files, data, driver)).map_err(failed)?.unwrap_or_default();
    let names: Vec<ImageRef> = all
        .into_iter()
        .filter(|(_, image)| *image == wanted)
        .filter_map(|(name, _)| name.parse().ok())
        .take(MAX_NAMES)
        .collect();
    Ok(DockerImage {
        manifests: names.iter().filter_map(|name| name.digest().cloned()).collect(),
        names: names.iter().map(ToString::to_string).collect(),
        config,
        layers,
    })
}

/// The folders of the layers, lowest first. Each layer's record agrees with the chain ID that it is
/// named by, and the uppermost one's is that of the diff IDs: so they are these layers.
fn layers(
    files: &Files,
    place: &Place,
    diff_ids: &[Digest],
) -> Result<Vec<PathBuf>, Box<dyn Error + Send + Sync>> {
    // An image without layers has none recorded.
    let Some(chain) = chain_id(diff_ids) else { return Ok(Vec::new()) };
    let mut names = below(files, &place.records().join("layerdb"), &chain)?;
    names.reverse();
    let mut folders = Vec::with_capacity(names.len());
    for name in names {
        let layer = place.data.join(&place.driver).join(name);
        let folder = layer.join("diff");
        if !is_folder(&layer) || !is_folder(&folder) {
            return Err(NoFolder(folder).into());
        }
        folders.push(folder);
    }
    Ok(folders)
}

/// Whether it is a folder itself and not a link to one.
fn is_folder(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}
