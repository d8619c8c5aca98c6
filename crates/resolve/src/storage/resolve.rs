//! The steps from a container's id to a bound identity.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use portcullis_types::{Digest, ImageRef, Kind, Name, Surety, chain_id};

use super::StorageEngine;
use super::files::{Folder, Owners, ReadError, if_there};
use super::image::{Configuration, configurations, folder, leading_to};
use super::pod::{self, Metadata};
use super::records::{
    ContainerRecord, ImageRecord, LayerRecord, Layers, RecordError, Wanted, add_layers, container,
    image, is_id,
};
use super::tie::{Homes, Place, Tie, mounted_layer, tie};
use crate::mounted::Mounted;
use crate::names;
use crate::notes::Notes;
use crate::{OciStart, Resolved};

/// Most bytes of a file of records: a node with 500 images and 2,000 layers has 2 MB of them.
pub(super) const MAX_RECORDS_FILE: u64 = 32 << 20;
/// Most names of one image that are kept. One that is left out can only make a policy stricter.
const MAX_NAMES: usize = 256;
/// Most layers below a container; the driver allows 500.
const MAX_DEPTH: usize = 1024;
/// The drivers that are known, the usual one first.
pub(super) const DRIVERS: [&str; 2] = ["overlay", "vfs"];

/// Tells what is mounted at a place.
pub(super) type MountTable<'a> = &'a dyn Fn(&Path) -> io::Result<Option<Mounted>>;

/// Everything that is known of the container by the deadline.
pub(super) fn resolve(
    engine: StorageEngine,
    roots: &[PathBuf],
    start: &OciStart<'_>,
    mounts: MountTable<'_>,
) -> Resolved {
    let first = Attempt::new(engine, start).run(roots, mounts);
    // Files that were read before and after a change of the engine's can contradict each other.
    let attempt = match first.is_contradictory && Instant::now() < start.deadline {
        true => Attempt::new(engine, start).run(roots, mounts),
        false => first,
    };
    let Attempt { mut resolved, notes, .. } = attempt;
    resolved.deadline_hit = notes.deadline_hit;
    resolved.identity.note = notes.into_line();
    resolved
}

/// Why the layers below a container are not known.
#[derive(Debug, thiserror::Error)]
enum LayersError {
    #[error("the layer {0} has no record")]
    NoRecord(String),
    #[error("the layer {found} is mounted where the records have {wanted}")]
    Other { found: String, wanted: String },
    #[error("the records have more layers than are mounted: {0} is missing")]
    Hidden(String),
    #[error("there are more than {MAX_DEPTH}")]
    TooDeep,
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// The files with the records of layers, per root.
type LayerFiles = Vec<Vec<Vec<u8>>>;

/// The container's record, and where it stands.
struct Found {
    record: ContainerRecord,
    root: usize,
    driver: &'static str,
}

/// A file with records of containers.
struct ContainerFile {
    root: usize,
    driver: &'static str,
    json: Vec<u8>,
}

/// What is known so far; each step adds to it, so that whatever ends the steps leaves the rest.
struct Attempt<'a> {
    engine: StorageEngine,
    start: &'a OciStart<'a>,
    /// The graph roots that exist, without links, and the open folders.
    paths: Vec<PathBuf>,
    roots: Vec<Folder>,
    containers: Vec<ContainerFile>,
    resolved: Resolved,
    asked: Option<ImageRef>,
    notes: Notes,
    /// Records contradict each other, as they do while the engine changes them.
    is_contradictory: bool,
}

impl<'a> Attempt<'a> {
    fn new(engine: StorageEngine, start: &'a OciStart<'a>) -> Self {
        let mut resolved = Resolved::unknown("");
        // Podman's containers are not Kubernetes', so there is nothing else to know.
        resolved.pod_known = engine == StorageEngine::Podman;
        Self {
            engine,
            start,
            paths: Vec::new(),
            roots: Vec::new(),
            containers: Vec::new(),
            resolved,
            asked: None,
            notes: Notes::default(),
            is_contradictory: false,
        }
    }

    fn run(mut self, roots: &[PathBuf], mounts: MountTable<'_>) -> Self {
        self.open(roots);
        if self.roots.is_empty() {
            let looked: Vec<_> = roots.iter().map(|path| path.display().to_string()).collect();
            self.notes.say(format!("no folder of containers/storage is at {}", looked.join(", ")));
            return self;
        }
        self.read_containers();
        let mounted = match mounts(self.start.root) {
            Ok(mounted) => mounted,
            Err(error) => {
                self.notes.trouble("the table of mounts", &error);
                return self;
            }
        };
        if let Some(found) = self.find(mounted.as_ref()) {
            self.describe(&found);
            self.identify(&found, mounted);
        }
        if let Some(reference) = self.asked.take() {
            let names = &mut self.resolved.identity.names;
            let held = names.iter().any(|name| name.reference == reference && name.held);
            names.retain(|name| name.reference != reference);
            names.insert(Name { reference, held, asked: true });
        }
        self
    }

    fn open(&mut self, roots: &[PathBuf]) {
        for root in roots {
            let opened = match std::fs::canonicalize(root) {
                Ok(path) if self.paths.contains(&path) => continue,
                Ok(path) => Folder::open(&path, self.start.deadline, Owners::Ours),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => Err(ReadError::Read(root.clone(), error)),
            };
            match opened {
                Ok(folder) => {
                    self.paths.push(folder.path().to_owned());
                    self.roots.push(folder);
                }
                Err(error) => self.cannot_read("the storage", &error),
            }
        }
    }

    fn cannot_read(&mut self, step: &str, error: &ReadError) {
        self.notes.deadline_hit |= matches!(error, ReadError::Deadline(_));
        self.notes.trouble(step, error);
    }

    /// The container's record: by its id or, for the steps of a build, which Buildah runs under ids
    /// of their own, by the layer that is mounted.
    fn find(&mut self, mounted: Option<&Mounted>) -> Option<Found> {
        let id = self.start.container_id;
        if is_id(id) {
            let found = self.find_by(Wanted::Id(id));
            if found.is_some() {
                return found;
            }
        }
        let layer = mounted.and_then(mounted_layer);
        let found = layer.and_then(|layer| self.find_by(Wanted::Layer(&layer)));
        if found.is_none() {
            self.notes.say(
                "containers/storage has no record of the container: it has a root filesystem of \
                 its own (--rootfs), or another engine's storage",
            );
        }
        found
    }

    fn find_by(&mut self, wanted: Wanted<'_>) -> Option<Found> {
        for file in &self.containers {
            match container(&file.json, wanted) {
                Ok(Some(record)) => {
                    return Some(Found { record, root: file.root, driver: file.driver });
                }
                Ok(None) => {}
                Err(error) => self.notes.trouble("the records of containers", &error),
            }
        }
        None
    }

    /// Reads the files with the records of containers, of all drivers.
    fn read_containers(&mut self) {
        const VOLATILE: &str = "volatile-containers.json";
        let mut troubles = Vec::new();
        for driver in DRIVERS {
            let mut read = |root, folder: Result<Option<Folder>, ReadError>, names: &[&str]| {
                let read = folder.and_then(|folder| {
                    let Some(folder) = folder else { return Ok(()) };
                    for name in names {
                        let json = if_there(folder.read(name, MAX_RECORDS_FILE))?;
                        let file = json.map(|json| ContainerFile { root, driver, json });
                        self.containers.extend(file);
                    }
                    Ok(())
                });
                troubles.extend(read.err());
            };
            for (at, root) in self.roots.iter().enumerate() {
                let folder = if_there(root.folder(&format!("{driver}-containers")));
                read(at, folder, &["containers.json", VOLATILE]);
            }
            let transient = transient(self.start, &self.paths, driver, "containers");
            read(0, transient, &[VOLATILE]);
        }
        for error in troubles {
            self.cannot_read("the records of containers", &error);
        }
    }

    fn trouble(&mut self, step: &str, error: &StepError) {
        self.notes.deadline_hit |= matches!(error, StepError::Read(ReadError::Deadline(_)));
        self.notes.trouble(step, error);
    }

    /// What the engine says of the container and its pod.
    fn describe(&mut self, found: &Found) {
        let step = "the metadata of the container's record";
        // Buildah's working containers have none.
        if self.engine == StorageEngine::Podman && found.record.metadata.is_empty() {
            return;
        }
        let metadata = match pod::metadata(&found.record.metadata) {
            Ok(metadata) => metadata,
            Err(error) => return self.notes.trouble(step, &error),
        };
        self.asked = names::asked(&metadata.image_name);
        if self.engine == StorageEngine::Podman {
            return;
        }
        let metadata = match metadata.of_cri_o(&found.record.id) {
            Ok(metadata) => metadata,
            Err(error) => return self.notes.trouble(step, &error),
        };
        let sandbox_id = metadata.pod_id.clone();
        let sandbox = match metadata.is_sandbox {
            true => {
                self.resolved.kind = Kind::Sandbox;
                Some(metadata)
            }
            false => {
                self.resolved.container = metadata.name;
                self.sandbox(&sandbox_id)
            }
        };
        let Some(sandbox) = sandbox else { return };
        self.resolved.namespace = sandbox.namespace;
        self.resolved.pod = sandbox.name;
        self.resolved.pod_uid = sandbox.uid;
        self.labels(found, &sandbox_id);
    }

    /// The metadata of the pod's sandbox.
    fn sandbox(&mut self, id: &str) -> Option<Metadata> {
        let step = "the record of the pod's sandbox";
        let Some(found) = self.find_by(Wanted::Id(id)) else {
            self.notes.say("the pod's sandbox has no record, so the pod is not known");
            return None;
        };
        match pod::metadata(&found.record.metadata)
            .map_err(pod::PodError::from)
            .and_then(|metadata| metadata.of_cri_o(id))
        {
            Ok(metadata) if metadata.is_sandbox => Some(metadata),
            Ok(_) => {
                self.notes.trouble(step, &pod::PodError::NotCriO);
                None
            }
            Err(error) => {
                self.notes.trouble(step, &error);
                None
            }
        }
    }

    /// The pod's labels: from the graph root, or from the run root beside the bundle.
    fn labels(&mut self, found: &Found, sandbox: &str) {
        let folder = format!("{}-containers", found.driver);
        let labels = self.roots[found.root]
            .folder(&folder)
            .map_err(pod::PodError::from)
            .and_then(|containers| pod::labels(&containers, sandbox))
            .or_else(|first| {
                match transient(self.start, &self.paths, found.driver, "containers") {
                    Ok(Some(containers)) => pod::labels(&containers, sandbox),
                    _ => Err(first),
                }
            });
        match labels {
            Ok(labels) => {
                self.resolved.pod_labels = labels;
                self.resolved.pod_known = true;
            }
            Err(error) => {
                self.notes.deadline_hit |=
                    matches!(error, pod::PodError::Read(ReadError::Deadline(_)));
                self.notes.trouble("the labels of the pod are not known", &error);
            }
        }
    }

    /// Which image the container runs.
    fn identify(&mut self, found: &Found, mounted: Option<Mounted>) {
        if found.record.image.is_empty() {
            return self.notes.say(
                "the container was made without an image: with a root filesystem of its own \
                 (--rootfs), or from nothing",
            );
        }
        let own = Place { root: found.root, layer: found.record.layer.clone() };
        let homes = Homes { roots: &self.paths, driver: found.driver };
        let tied = tie(homes, &own, self.start.root, mounted, &self.roots[found.root]);
        let tied = match tied {
            Ok(tied) => tied,
            Err(error) => {
                return self.notes.trouble(
                    "the records of the container say nothing of what it will run",
                    &error,
                );
            }
        };
        let image = self.image(found);
        let files = self.layer_files(found.driver);
        let layers = self.layers(found, &own, &tied, &files);
        let Some(layers) = layers else {
            return self.claim(image.as_ref());
        };
        let unshown = match tied {
            Tie::Layers(_) => None,
            Tie::Told(_) => {
                Some("the kernel tells the layers below the container's root by number")
            }
            Tie::Copied => Some("the driver vfs copies layers"),
            Tie::Served => Some("fuse-overlayfs serves the container's root"),
        };
        self.resolved.identity.surety = match unshown {
            None => Surety::Bound,
            Some(why) => {
                self.notes.say(format!(
                    "{why}, so that nothing but the records tells which they are: the identity is \
                     theirs alone"
                ));
                Surety::Claimed
            }
        };
        let known: Option<Vec<Digest>> = layers.iter().cloned().collect();
        match &known {
            Some(known) => self.resolved.identity.chain_id = chain_id(known),
            None => {
                self.resolved.identity.surety = Surety::Claimed;
                self.notes.say(
                    "a layer was pulled in part, so that its record has no digest of the whole: \
                     what it holds is not proven to be the image's",
                );
            }
        }
        if let Some((folder, record)) = image {
            self.bind(&folder, &record, &layers);
        }
        self.is_empty_without_image();
    }

    /// Without layers and without a configuration nothing is known.
    fn is_empty_without_image(&mut self) {
        let identity = &mut self.resolved.identity;
        if identity.chain_id.is_none() && identity.config.is_none() {
            identity.surety = Surety::Unknown;
        }
    }

    /// The time was up, or the layers are not known: what the container's record claims is kept.
    fn claim(&mut self, image: Option<&(Folder, ImageRecord)>) {
        if !self.notes.deadline_hit {
            return;
        }
        if image.is_some() || self.asked.is_some() {
            self.resolved.identity.surety = Surety::Claimed;
        }
    }

    /// The image's folder and record: in the first store that has it.
    fn image(&mut self, found: &Found) -> Option<(Folder, ImageRecord)> {
        let id = &found.record.image;
        let mut troubles = Vec::new();
        let mut image_of = None;
        for root in &self.roots {
            let read = || -> Result<_, StepError> {
                let Some(images) = if_there(root.folder(&format!("{}-images", found.driver)))?
                else {
                    return Ok(None);
                };
                let Some(json) = if_there(images.read("images.json", MAX_RECORDS_FILE))? else {
                    return Ok(None);
                };
                let Some(record) = image(&json, id)? else { return Ok(None) };
                Ok(folder(&images, id)?.map(|folder| (folder, record)))
            };
            match read() {
                Ok(Some(found)) => {
                    image_of = Some(found);
                    break;
                }
                Ok(None) => {}
                Err(error) => troubles.push(error),
            }
        }
        if image_of.is_none() {
            self.is_contradictory = true;
            self.notes.say(format!(
                "the image {id} of the container has no record any more: only the layers are bound"
            ));
        }
        for error in troubles {
            self.trouble("the records of images", &error);
        }
        image_of
    }

    /// The files with the records of layers. Those of a store that forgets its containers at boot
    /// count to the first root.
    fn layer_files(&mut self, driver: &str) -> LayerFiles {
        let mut files = Vec::new();
        let mut troubles = Vec::new();
        let mut read = |folder: Result<Option<Folder>, ReadError>, names: &[&str]| {
            let mut found = Vec::new();
            match folder {
                Ok(Some(folder)) => {
                    for name in names {
                        match if_there(folder.read(name, MAX_RECORDS_FILE)) {
                            Ok(json) => found.extend(json),
                            Err(error) => troubles.push(error),
                        }
                    }
                }
                Ok(None) => {}
                Err(error) => troubles.push(error),
            }
            found
        };
        for root in &self.roots {
            let folder = if_there(root.folder(&format!("{driver}-layers")));
            files.push(read(folder, &["layers.json", "volatile-layers.json"]));
        }
        let transient =
            read(transient(self.start, &self.paths, driver, "layers"), &["volatile-layers.json"]);
        if let Some(first) = files.first_mut() {
            first.extend(transient);
        }
        for error in troubles {
            self.cannot_read("the records of layers", &error);
        }
        files
    }

    /// The digests of the layers below the container's, from the lowest up; `None` in the list for
    /// a layer without one. `None` for all if they are not known.
    fn layers(
        &mut self,
        found: &Found,
        own: &Place,
        tied: &Tie,
        files: &LayerFiles,
    ) -> Option<Vec<Option<Digest>>> {
        let walked = indexed(files).map_err(LayersError::from).and_then(|layers| match tied {
            Tie::Layers(places) | Tie::Told(places) => mounted_layers(&layers, own, places),
            Tie::Copied | Tie::Served => recorded_layers(&layers, own),
        });
        match walked {
            Ok(layers) => Some(layers),
            Err(error) => {
                self.is_contradictory = true;
                let step = format!("the layers below {} are not known", found.record.layer);
                self.notes.trouble(&step, &error);
                None
            }
        }
    }

    /// Binds the image's configuration, if its layers are the container's, and what leads to it.
    fn bind(&mut self, folder: &Folder, record: &ImageRecord, layers: &[Option<Digest>]) {
        let are_its_layers = |ids: &[Digest]| {
            ids.len() == layers.len()
                && ids.iter().zip(layers).all(|(id, layer)| layer.as_ref().is_none_or(|l| l == id))
        };
        let mut found = configurations(folder, record, are_its_layers, &mut self.notes);
        let Some(config) = found.matching.pop() else {
            self.is_contradictory |= found.is_unread;
            if self.notes.deadline_hit {
                return;
            }
            return self.notes.say(match found.stored {
                0 => "the image has no configuration (schema 1): only the layers are bound",
                _ => {
                    "the image's configuration has other layers than the container, or is not \
                     readable: only the layers are bound"
                }
            });
        };
        if !found.matching.is_empty() {
            return self.notes.say(
                "the image has several configurations with the container's layers: only the \
                 layers are bound",
            );
        }
        let Configuration { digest, diff_ids, says } = config;
        match says {
            Ok(says) => self.resolved.image = Some(says),
            Err(error) => self.notes.trouble("what the configuration says of the image", &error),
        }
        let identity = &mut self.resolved.identity;
        identity.chain_id = chain_id(&diff_ids);
        identity.manifests = leading_to(folder, record, &digest, &mut self.notes);
        identity.config = Some(digest);
        self.hold_names(record);
    }

    /// Keeps the names that the image's record has.
    fn hold_names(&mut self, record: &ImageRecord) {
        let identity = &mut self.resolved.identity;
        let proven = &identity.manifests;
        let held: Vec<ImageRef> = record
            .names
            .iter()
            .filter_map(|name| names::recorded(name))
            // A name with a digest is only true of that digest.
            .filter(|name| name.digest().is_none_or(|digest| proven.contains(digest)))
            .collect();
        if let Some(asked) = self.asked.as_ref().filter(|asked| !held.contains(asked)) {
            self.notes.say(format!("no image record shows that {asked} is this image"));
        }
        let is_asked = |name: &ImageRef| self.asked.as_ref() == Some(name);
        let (first, rest): (Vec<_>, Vec<_>) = held.into_iter().partition(is_asked);
        let kept = first.into_iter().chain(rest).take(MAX_NAMES);
        let kept = kept.map(|reference| Name { reference, held: true, asked: false });
        identity.names.extend(kept);
    }
}

/// Why a step over files of records failed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// The folder in the run root with records of a store that forgets its containers at boot
/// (`transient_store`); they count to the first root. The bundle's path tells the run root:
/// `<run root>/<driver>-containers/<id>/userdata`.
fn transient(
    start: &OciStart<'_>,
    roots: &[PathBuf],
    driver: &str,
    kind: &str,
) -> Result<Option<Folder>, ReadError> {
    let containers = start.bundle.parent().and_then(Path::parent);
    let wanted = format!("{driver}-containers");
    let run_root = containers
        .filter(|path| path.file_name().is_some_and(|name| name == wanted.as_str()))
        .and_then(Path::parent)
        .filter(|root| !roots.iter().any(|path| path == root));
    let Some(run_root) = run_root else { return Ok(None) };
    let folder = run_root.join(format!("{driver}-{kind}"));
    if_there(Folder::open(&folder, start.deadline, Owners::Ours))
}

/// The records of layers, per root.
fn indexed(files: &LayerFiles) -> Result<Vec<Layers<'_>>, RecordError> {
    let mut stores = Vec::new();
    for files in files {
        let mut layers = Layers::new();
        for json in files {
            add_layers(json, &mut layers)?;
        }
        stores.push(layers);
    }
    Ok(stores)
}

/// The digests of the layers that are mounted, from the lowest up, if the records name each other
/// in the same order, to the last one.
fn mounted_layers(
    stores: &[Layers<'_>],
    own: &Place,
    places: &[Place],
) -> Result<Vec<Option<Digest>>, LayersError> {
    let mut wanted = record_of(stores, own)?.parent;
    let mut digests = Vec::new();
    for place in places {
        let record = record_of(stores, place)?;
        let diff_id = record.diff_id()?;
        if place.layer == wanted {
            digests.push(diff_id);
            wanted = record.parent;
            continue;
        }
        // Where the driver copied a layer to change its owners, it left what it copied right below
        // the copy; both have the same content and the same layer below.
        let is_copied =
            record.parent == wanted && diff_id.is_some() && digests.last() == Some(&diff_id);
        if !is_copied {
            let (found, wanted) = (place.layer.clone(), shown(wanted));
            return Err(LayersError::Other { found, wanted });
        }
    }
    if !wanted.is_empty() {
        return Err(LayersError::Hidden(shown(wanted)));
    }
    digests.reverse();
    Ok(digests)
}

/// The digests of the layers that the records name, from the lowest up.
fn recorded_layers(stores: &[Layers<'_>], own: &Place) -> Result<Vec<Option<Digest>>, LayersError> {
    let mut wanted = record_of(stores, own)?.parent;
    let mut digests = Vec::new();
    while !wanted.is_empty() {
        if digests.len() == MAX_DEPTH {
            return Err(LayersError::TooDeep);
        }
        let record = stores.iter().find_map(|layers| layers.get(wanted));
        let record = record.ok_or_else(|| LayersError::NoRecord(shown(wanted)))?;
        digests.push(record.diff_id()?);
        wanted = record.parent;
    }
    digests.reverse();
    Ok(digests)
}

fn record_of<'a>(stores: &[Layers<'a>], place: &Place) -> Result<LayerRecord<'a>, LayersError> {
    let record = stores.get(place.root).and_then(|layers| layers.get(place.layer.as_str()));
    record.copied().ok_or_else(|| LayersError::NoRecord(place.layer.clone()))
}

/// An id of a record, which may be anything.
fn shown(id: &str) -> String {
    match id {
        "" => "no more".to_owned(),
        id => id.chars().take(80).flat_map(char::escape_default).collect(),
    }
}
