//! Images that Docker keeps with a graph driver of its own (moby, `daemon/internal/image/`).

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use portcullis_types::{Digest, Identity, ImageRef, Name, Surety, chain_id};

use super::files::{FileError, Files};
use super::layers::{Layers, is_overlay};
use super::record::Record;
use crate::containerd::client::MAX_DOCUMENT;
use crate::containerd::identify::MAX_NAMES;
use crate::documents::{DocumentError, diff_ids, image_config, members, parse};
use crate::mounted::Mounted;
use crate::notes::Notes;
use crate::{OciStart, Resolved};

/// The one driver whose mounts tell the layers. The others copy files (`vfs`), clone file systems
/// (`btrfs`, `zfs`, `devicemapper`) or are FUSE: of those the kernel knows no layers.
pub(super) const OVERLAY: &str = "overlay2";
/// Largest list of names that is read.
const MAX_REPOSITORIES: u64 = 16 << 20;

/// Why a configuration is not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("its content has another digest")]
    WrongDigest,
    #[error("what is recorded for the name {0} is not an id")]
    NoId(ImageRef),
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// What Docker's records say of the container and, with `overlay2`, what is mounted shows.
pub(super) fn resolve(
    files: &Files,
    data: &Path,
    record: &Record,
    start: &OciStart<'_>,
    mounted: Result<Option<&Mounted>, &io::Error>,
) -> Resolved {
    let mut graph =
        Graph { files, data, record, notes: Notes::default(), resolved: claimed(record) };
    graph.run(start, mounted);
    let Graph { mut resolved, notes, .. } = graph;
    resolved.deadline_hit = notes.deadline_hit;
    resolved.identity.note = notes.into_line();
    resolved
}

/// What the record says, unchecked.
fn claimed(record: &Record) -> Resolved {
    let identity = Identity {
        surety: Surety::Claimed,
        config: Some(record.image.clone()),
        names: record.asked.iter().map(|asked| name(asked.clone(), record, false)).collect(),
        ..Identity::unknown("")
    };
    Resolved { identity, ..Resolved::unknown("") }
}

fn name(reference: ImageRef, record: &Record, held: bool) -> Name {
    let asked = record.asked.as_ref() == Some(&reference);
    Name { reference, held, asked }
}

struct Graph<'a> {
    files: &'a Files,
    data: &'a Path,
    record: &'a Record,
    notes: Notes,
    resolved: Resolved,
}

impl Graph<'_> {
    fn run(&mut self, start: &OciStart<'_>, mounted: Result<Option<&Mounted>, &io::Error>) {
        let driver = &self.record.driver;
        let layers = match Layers::read(self.files, self.data, driver, start.container_id) {
            Ok(layers) => layers,
            Err(error) => return self.notes.trouble("the layers are not known", &error),
        };
        self.resolved.identity.chain_id = Some(layers.chain.clone());
        if driver != OVERLAY {
            let mut below = start.root.strip_prefix(self.data.join(driver)).into_iter().flatten();
            if !below.any(|part| part == layers.own.as_str()) {
                return self.is_elsewhere(start.root);
            }
            return self.notes.say(format!(
                "what Docker's driver {driver} gives a container cannot be compared with the \
                 image's layers: they are Docker's word alone"
            ));
        }
        let home = self.data.join(OVERLAY);
        if start.root != home.join(&layers.own).join("merged") {
            return self.is_elsewhere(start.root);
        }
        let same = match mounted {
            Ok(Some(mounted)) => is_overlay(self.files, &home, &layers, mounted),
            Ok(None) => Ok(false),
            Err(error) => {
                return self.notes.say(format!("the mount table cannot be read: {error}"));
            }
        };
        match same {
            Ok(true) => {}
            Ok(false) => {
                return self.is_another(
                    "what is mounted is not the container's layers, so what Docker recorded of \
                     them says nothing",
                );
            }
            Err(error) => return self.notes.trouble("the mounted layers", &error),
        }
        self.resolved.identity.surety = Surety::Bound;
        self.bind_config(&layers.chain);
    }

    fn is_elsewhere(&mut self, root: &Path) {
        let root = root.display().to_string();
        self.is_another(&format!(
            "the container's root is {}, not the folder that Docker gives it",
            root.escape_debug()
        ));
    }

    /// The container runs something else than what is recorded.
    fn is_another(&mut self, why: &str) {
        self.resolved.identity.surety = Surety::Unknown;
        self.resolved.identity.chain_id = None;
        self.resolved.identity.config = None;
        self.notes.say(why);
    }

    /// Binds the configuration that Docker recorded when it created the container, if its layers
    /// are the container's.
    fn bind_config(&mut self, chain: &Digest) {
        let config = &self.record.image;
        match read_config(self.files, self.data, &self.record.driver, config) {
            Ok(json) => match diff_ids(&json) {
                Ok(ids) if chain_id(&ids).as_ref() == Some(chain) => match image_config(&json) {
                    Ok(says) => self.resolved.image = Some(says),
                    Err(error) => {
                        self.notes.trouble("what the configuration says of the image", &error);
                    }
                },
                Ok(_) => {
                    self.resolved.identity.config = None;
                    return self.notes.say(format!(
                        "the configuration {config} that Docker recorded has other layers than the \
                         container: only the layers are bound"
                    ));
                }
                Err(error) => self.bound_by_record(&error.into()),
            },
            Err(error) => self.bound_by_record(&error),
        }
        if !self.notes.deadline_hit {
            self.hold_names();
        }
    }

    fn bound_by_record(&mut self, error: &ConfigError) {
        let step =
            format!("the configuration {} is bound by Docker's record alone", self.record.image);
        self.notes.trouble(&step, error);
    }

    /// Keeps the names that Docker holds for the image. One with a digest it writes when it pulled
    /// or pushed that manifest or index, whose content it checked then and does not keep.
    fn hold_names(&mut self) {
        let mut held = match self.repositories() {
            Ok(held) => held,
            Err(error) => return self.notes.trouble("the image's names", &error),
        };
        let identity = &mut self.resolved.identity;
        identity.manifests = held.iter().filter_map(|name| name.digest().cloned()).collect();
        if let Some(asked) = &self.record.asked {
            match held.iter().position(|name| name == asked) {
                Some(at) => held.swap(0, at),
                None => self.notes.say(format!(
                    "Docker's list of names does not show that {asked} is this image"
                )),
            }
        }
        held.truncate(MAX_NAMES);
        identity.names.retain(|name| !held.contains(&name.reference));
        identity.names.extend(held.into_iter().map(|held| name(held, self.record, true)));
    }

    /// The names of the image. Docker writes them short, which to it is the same.
    fn repositories(&self) -> Result<Vec<ImageRef>, ConfigError> {
        let all = read_names(self.files, self.data, &self.record.driver)?;
        let wanted = self.record.image.to_string();
        let names = all.into_iter().filter(|(_, image)| *image == wanted);
        Ok(names.filter_map(|(name, _)| name.parse().ok()).collect())
    }
}

/// The configuration that is an image of this driver's, which was checked; its digest is the
/// image's id.
pub(super) fn read_config(
    files: &Files,
    data: &Path,
    driver: &str,
    digest: &Digest,
) -> Result<Vec<u8>, ConfigError> {
    let mut path = data.join("image").join(driver).join("imagedb/content");
    path.extend([digest.algorithm().as_str(), digest.hex()]);
    let json = files.read(&path, MAX_DOCUMENT as u64)?;
    match Digest::of(&json) == *digest {
        true => Ok(json),
        false => Err(ConfigError::WrongDigest),
    }
}

/// All names of images of this driver's, which was checked, and the images' ids, as written.
pub(super) fn read_names(
    files: &Files,
    data: &Path,
    driver: &str,
) -> Result<Vec<(String, String)>, ConfigError> {
    let path = data.join("image").join(driver).join("repositories.json");
    let json = files.read(&path, MAX_REPOSITORIES)?;
    let [repositories] = members(&json, ["Repositories"])?;
    let Some(repositories) = repositories else {
        return Ok(Vec::new());
    };
    let all: BTreeMap<String, BTreeMap<String, String>> = parse(repositories)?;
    Ok(all.into_values().flatten().collect())
}
