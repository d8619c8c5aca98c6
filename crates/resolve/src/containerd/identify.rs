//! Which image a container runs: the steps from its record to a bound identity.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use portcullis_types::{Digest, Identity, ImageConfig, ImageRef, Name, Surety};

use super::api;
use super::client::{Client, together};
use super::cri::ContainerMetadata;
use super::image::{ConfigError, Configuration, Reading, Way, configuration, ways, with_chain};
use super::snapshot::{ChainError, chain_below};
use super::spec::Spec;
use super::{OfDocker, Starting};
use crate::documents::{Descriptor, DocumentError};
use crate::grpc::GrpcError;
use crate::names;
use crate::notes::{Notes, is_deadline};
use crate::rootfs::{Compared, Given, compare, compare_once_activated, needs_activation};

/// Documents that are read for the image that a start names: an index for many platforms, all
/// pulled, has about thirty manifests and as many configurations.
const DOCUMENTS: usize = 256;
/// Documents and time for looking through all images. What is found there is only told, so it
/// must not cost a start much.
const SEARCHED_DOCUMENTS: usize = 2048;
const SEARCH_TIME: Duration = Duration::from_millis(250);
/// Most names of one image that are kept. One that is left out can only make a policy stricter.
pub(crate) const MAX_NAMES: usize = 256;

/// What was found out.
pub(super) struct Identified {
    /// Which image the container runs.
    pub(super) identity: Identity,
    /// What the bound configuration says of the image.
    pub(super) image: Option<ImageConfig>,
    pub(super) notes: Notes,
}

/// Which image the container runs.
pub(super) async fn identify(
    client: &Client,
    start: &Starting<'_>,
    record: &api::Container,
    metadata: Option<&ContainerMetadata>,
) -> Identified {
    let mut search = Identification {
        client,
        start,
        record,
        recorded_config: metadata.and_then(|m| m.config.clone()),
        recorded_target: metadata.and_then(|m| m.target.clone()),
        asked: match start.docker {
            Some(docker) => docker.asked.clone(),
            None => metadata.and_then(|m| m.asked.clone()).or_else(|| names::asked(&record.image)),
        },
        notes: Notes::default(),
        reading: Reading::of_at_most(DOCUMENTS),
        identity: Identity::unknown(""),
        image: None,
        names: BTreeMap::new(),
    };
    search.run().await;
    let Identification { mut identity, image, notes, asked, mut names, .. } = search;
    if let Some(asked) = &asked {
        names.entry(asked.clone()).or_default();
    }
    identity.names = names
        .into_iter()
        .map(|(reference, held)| Name {
            asked: asked.as_ref() == Some(&reference),
            held: held == Held::Yes,
            reference,
        })
        .collect();
    Identified { identity, image, notes }
}

/// Whether the engine's records hold a name for the bound image.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Held {
    #[default]
    No,
    Yes,
}

/// Why the layers are not bound.
#[derive(Debug, thiserror::Error)]
enum LayersError {
    #[error("the container's snapshot could not be looked up")]
    Snapshot(#[source] GrpcError),
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// What is known so far; each step adds to it, so that whatever ends the steps leaves the rest.
struct Identification<'a> {
    client: &'a Client,
    start: &'a Starting<'a>,
    record: &'a api::Container,
    /// The configuration that the CRI plug-in resolved when it created the container.
    recorded_config: Option<Digest>,
    /// The manifest or index, likewise.
    recorded_target: Option<Digest>,
    asked: Option<ImageRef>,
    notes: Notes,
    reading: Reading,
    identity: Identity,
    image: Option<ImageConfig>,
    names: BTreeMap<ImageRef, Held>,
}

impl Identification<'_> {
    async fn run(&mut self) {
        if !self.has_snapshot() {
            return;
        }
        let spec = match Spec::of(self.record) {
            Ok(spec) if self.is_root(&spec) => spec,
            Ok(spec) => {
                let root = spec.root.escape_debug();
                return self.notes.say(format!(
                    "the container's root is {root}, not the snapshot that containerd mounts"
                ));
            }
            Err(error) => return self.notes.trouble("the container's specification", &error),
        };
        let (client, record) = (self.client, self.record);
        let (snapshot, mounts, targets, recorded) = tokio::join!(
            client.snapshot(&record.snapshotter, &record.snapshot_key),
            client.mounts(&record.snapshotter, &record.snapshot_key),
            self.targets(),
            self.recorded(),
        );

        let chain = match snapshot.map_err(LayersError::Snapshot) {
            Err(error) => Err(error),
            Ok(info) => chain_below(client, &record.snapshotter, &info, spec.mappings)
                .await
                .map_err(LayersError::from),
        };
        let chain = match chain {
            Ok(chain) => chain,
            Err(error) => {
                if is_deadline(&error) {
                    self.claim(None);
                }
                return self.notes.trouble("the layers are not known", &error);
            }
        };
        match self.is_mounted(mounts).await {
            Ok(Compared::Same) => {}
            Ok(Compared::Other) => {
                return self.notes.say(match self.start.given {
                    Given::Mounted(..) => {
                        "what is mounted is not the container's snapshot, so the layers that \
                         containerd recorded say nothing"
                    }
                    _ => {
                        "what will be mounted is not the container's snapshot, so the layers that \
                         containerd recorded say nothing"
                    }
                });
            }
            Ok(Compared::Untold) => {
                self.claim(Some(chain));
                return self.notes.say(
                    "the kernel does not tell which layers are mounted: that they are the \
                     container's snapshot is containerd's word alone",
                );
            }
            Err(error) => {
                if is_deadline(&error) {
                    self.claim(Some(chain));
                }
                return self.notes.trouble("the snapshot's mounts", &error);
            }
        }
        self.identity.surety = Surety::Bound;
        self.identity.chain_id = Some(chain.clone());

        let targets = self.followable(targets);
        match (recorded, self.start.docker) {
            (_, Some(docker)) => self.bind_by_docker(&chain, docker).await,
            (Some(found), None) => self.bind_recorded(&chain, found, &targets).await,
            (None, None) => self.bind_by_name(&chain, &targets).await,
        }
    }

    /// Whether the specification names the folder on which the snapshot is mounted.
    fn is_root(&self, spec: &Spec) -> bool {
        match (self.start.docker, self.start.given) {
            (Some(_), Given::Mounted(at, _)) => Path::new(&spec.root) == at,
            _ => spec.uses_bundle(self.start.container_id),
        }
    }

    /// Whether the container has a snapshot and is given a root filesystem at all.
    fn has_snapshot(&mut self) -> bool {
        if self.record.snapshot_key.is_empty() || self.record.snapshotter.is_empty() {
            self.notes.say(
                "the container has no snapshot: it was started with --rootfs, or by a client that \
                 brings its own root filesystem",
            );
            return false;
        }
        match self.start.given {
            Given::Requested([]) => {
                self.notes.say("containerd mounts no root filesystem for the container");
                false
            }
            Given::Nothing(why) => {
                self.notes.say(why);
                false
            }
            Given::Requested(_) | Given::Mounted(..) => true,
        }
    }

    /// It could not be checked: what the engine's record claims is kept.
    fn claim(&mut self, chain: Option<Digest>) {
        self.identity.chain_id = chain;
        self.identity.config.clone_from(&self.recorded_config);
        let anything = self.identity.chain_id.is_some()
            || self.identity.config.is_some()
            || self.asked.is_some();
        if anything {
            self.identity.surety = Surety::Claimed;
        }
    }

    /// What the names point to under which the image may be recorded: the container record's, the
    /// one that was asked for, and the configuration's digest, by which the CRI plug-in records
    /// each image that it manages.
    async fn targets(&self) -> Vec<(String, Result<Option<Descriptor>, GrpcError>)> {
        if self.start.docker.is_some() {
            return Vec::new();
        }
        let names: BTreeSet<String> = [
            Some(self.record.image.clone()),
            self.asked.as_ref().map(ImageRef::to_string),
            self.recorded_config.as_ref().map(Digest::to_string),
        ]
        .into_iter()
        .flatten()
        .filter(|name| !name.is_empty())
        .collect();
        together(names.into_iter().map(|name| {
            let client = self.client.clone();
            async move {
                let target = client.image(&name).await;
                (name, target)
            }
        }))
        .await
    }

    /// The configuration that the CRI plug-in recorded, if it recorded one.
    async fn recorded(&self) -> Option<Result<Configuration, ConfigError>> {
        let config = self.recorded_config.as_ref()?;
        Some(configuration(self.client, config).await)
    }

    /// Whether what the container is given is what the snapshot records.
    async fn is_mounted(
        &self,
        recorded: Result<Vec<api::Mount>, GrpcError>,
    ) -> Result<Compared, GrpcError> {
        let recorded = recorded?;
        let compared = compare(&recorded, self.start.given);
        if compared == Compared::Same || !needs_activation(&recorded) {
            return Ok(compared);
        }
        let active = self.client.activation(self.start.container_id).await?;
        Ok(compare_once_activated(&recorded, &active, self.start.given))
    }

    /// The targets of the names that have an image record.
    fn followable(
        &mut self,
        targets: Vec<(String, Result<Option<Descriptor>, GrpcError>)>,
    ) -> BTreeMap<String, Descriptor> {
        let mut found = BTreeMap::new();
        for (name, target) in targets {
            match target {
                Ok(Some(target)) => {
                    found.insert(name, target);
                }
                Ok(None) => {}
                Err(error) => {
                    let step = format!("the image record {}", name.escape_debug());
                    self.notes.trouble(&step, &error);
                }
            }
        }
        found
    }

    /// Binds the configuration that the CRI plug-in resolved when it created the container: its
    /// record is immutable and no image or pod can write it.
    async fn bind_recorded(
        &mut self,
        chain: &Digest,
        found: Result<Configuration, ConfigError>,
        targets: &BTreeMap<String, Descriptor>,
    ) {
        let Some(config) = self.recorded_config.clone() else {
            return;
        };
        match found {
            Ok(found) if found.chain.as_ref() == Some(chain) => self.keep(found.says),
            Ok(_) => {
                return self.notes.say(format!(
                    "the configuration {config} that containerd recorded has other layers than \
                     the container: only the layers are bound"
                ));
            }
            // Collected with its image, or not to be read: it cannot be compared with the layers,
            // but what the engine recorded stays true.
            Err(ConfigError::Content(error)) if error.is_not_found() => self.notes.say(format!(
                "the configuration {config} is no longer stored: containerd's record alone binds it"
            )),
            Err(error) => {
                let step =
                    format!("the configuration {config} is bound by containerd's record alone");
                self.notes.trouble(&step, &error);
            }
        }
        self.identity.config = Some(config.clone());

        let mut targets: Vec<Descriptor> = targets.values().cloned().collect();
        if let Some(digest) = self.recorded_target.clone() {
            let media_type = String::new();
            targets.push(Descriptor { media_type, digest });
        }
        let mut seen = BTreeSet::new();
        targets.retain(|target| seen.insert(target.digest.clone()));
        for target in targets {
            let ways = ways(self.client, &target, &mut self.reading, &mut self.notes).await;
            self.prove(ways.into_iter().filter(|way| way.config == config));
        }
        let records = images(self.client, &self.identity.manifests).await;
        self.hold_names(records);
    }

    /// Binds the configuration to which the container record's image name leads, if its layers are
    /// the container's.
    ///
    /// The name could have moved since the container was created to an image with the same layers
    /// and another configuration. Then the engine's own records say of this container that it is
    /// that image, and everything in it but the configuration's defaults is; asking for more would
    /// leave every container of every client but Kubernetes with half an identity.
    async fn bind_by_name(&mut self, chain: &Digest, targets: &BTreeMap<String, Descriptor>) {
        let name = self.record.image.escape_debug().to_string();
        let Some(target) = targets.get(&self.record.image) else {
            self.notes.say(match self.record.image.as_str() {
                "" => "containerd's record names no image: only the layers are bound".to_owned(),
                _ => format!("no image is named {name} any more: only the layers are bound"),
            });
            return self.search(chain).await;
        };
        let ways = ways(self.client, target, &mut self.reading, &mut self.notes).await;
        let none = "has moved to another image since the container was created, or is not readable";
        self.bind_one_of(chain, ways, &name, none).await;
    }

    /// Binds the configuration to which the image leads that Docker recorded when it created the
    /// container, if its layers are the container's.
    async fn bind_by_docker(&mut self, chain: &Digest, docker: &OfDocker) {
        let mut followed: Vec<Descriptor> = docker.manifest.iter().cloned().collect();
        // Records tell the media type, without which not each index or manifest can be read.
        match images(self.client, &BTreeSet::from([docker.target.clone()])).await {
            Ok(records) => followed.extend(records.into_iter().map(|(_, target)| target).take(1)),
            Err(error) => self.notes.trouble("the image's names", &error),
        }
        if followed.is_empty() {
            let (media_type, digest) = (String::new(), docker.target.clone());
            followed.push(Descriptor { media_type, digest });
        }
        followed.dedup_by(|a, b| a.digest == b.digest);
        let mut found = Vec::new();
        for target in followed {
            found.extend(ways(self.client, &target, &mut self.reading, &mut self.notes).await);
        }
        if let Some(manifest) = &docker.manifest {
            found.retain(|way| way.through.contains(&manifest.digest));
        }
        let name = format!("the image {}", docker.target);
        self.bind_one_of(chain, found, &name, "has other layers, or is not readable").await;
    }

    /// Binds the one configuration with the container's layers to which these ways lead; `none`
    /// says of `name` why there may be no such.
    async fn bind_one_of(&mut self, chain: &Digest, ways: Vec<Way>, name: &str, none: &str) {
        let configs = ways.iter().map(|way| way.config.clone()).collect();
        let through: BTreeSet<Digest> = ways.iter().flat_map(|way| way.through.clone()).collect();
        let (reading, notes) = (&mut self.reading, &mut self.notes);
        let (mut matching, records) = tokio::join!(
            with_chain(self.client, configs, chain, reading, notes),
            images(self.client, &through),
        );
        match (matching.pop_first(), matching.is_empty()) {
            (Some((config, says)), true) if self.reading.complete => {
                self.keep(says);
                self.identity.config = Some(config.clone());
                self.prove(ways.into_iter().filter(|way| way.config == config));
                self.hold_names(records);
            }
            // The engine may have taken a configuration that this crate could not read.
            (Some(_), true) => self.notes.say(format!(
                "{name} leads to documents that were not read: only the layers are bound"
            )),
            (Some(_), false) => self.notes.say(format!(
                "{name} leads to several configurations with the container's layers: only the \
                 layers are bound"
            )),
            (None, _) if self.notes.deadline_hit => {}
            (None, _) => {
                self.notes.say(format!("{name} {none}: only the layers are bound"));
                self.search(chain).await;
            }
        }
    }

    /// What the bound configuration says of the image.
    fn keep(&mut self, says: Result<ImageConfig, DocumentError>) {
        match says {
            Ok(says) => self.image = Some(says),
            Err(error) => self.notes.trouble("what the configuration says of the image", &error),
        }
    }

    /// These ways lead to the bound configuration.
    fn prove(&mut self, ways: impl Iterator<Item = Way>) {
        self.identity.manifests.extend(ways.flat_map(|way| way.through));
    }

    /// Keeps the names of the image records that point to a proven manifest or index.
    fn hold_names(&mut self, records: Result<Vec<(String, Descriptor)>, GrpcError>) {
        let records = match records {
            Ok(records) => records,
            Err(error) => return self.notes.trouble("the image's names", &error),
        };
        let proven = &self.identity.manifests;
        let mut held: BTreeSet<ImageRef> = records
            .into_iter()
            .filter(|(_, target)| proven.contains(&target.digest))
            .filter_map(|(name, _)| names::recorded(&name))
            // A name with a digest is only true of that digest.
            .filter(|name| name.digest().is_none_or(|digest| proven.contains(digest)))
            .collect();
        if let Some(asked) = &self.asked {
            match held.take(asked) {
                Some(asked) => {
                    self.names.insert(asked, Held::Yes);
                }
                None => {
                    let remark = format!("no image record shows that {asked} is this image");
                    self.notes.say(remark);
                }
            }
        }
        let held = held.into_iter().take(MAX_NAMES);
        self.names.extend(held.map(|name| (name, Held::Yes)));
    }

    /// Looks through all image records for images with these layers.
    ///
    /// Their names are told, not held, and no configuration is bound: several can have the same
    /// layers, and the one that the container was made from may be gone.
    async fn search(&mut self, chain: &Digest) {
        let left = self.start.deadline.saturating_duration_since(Instant::now());
        let mut notes = Notes::default();
        let names = &mut self.names;
        let search = async {
            let records = match self.client.images([]).await {
                Ok(records) => records,
                Err(error) => return notes.trouble("the list of images", &error),
            };
            let mut reading = Reading::of_at_most(SEARCHED_DOCUMENTS);
            let mut by_target: BTreeMap<Digest, (Descriptor, Vec<String>)> = BTreeMap::new();
            for (name, target) in records {
                let digest = target.digest.clone();
                let entry = by_target.entry(digest).or_insert((target, Vec::new()));
                entry.1.push(name);
            }
            for (target, recorded_names) in by_target.into_values() {
                // What is wrong with other images is no remark on this container.
                let mut unsaid = Notes::default();
                let ways = ways(self.client, &target, &mut reading, &mut unsaid).await;
                let configs = ways.into_iter().map(|way| way.config).collect();
                let found =
                    with_chain(self.client, configs, chain, &mut reading, &mut unsaid).await;
                if !found.is_empty() {
                    for reference in recorded_names.iter().filter_map(|name| names::recorded(name))
                    {
                        if names.len() < MAX_NAMES {
                            names.entry(reference).or_default();
                        }
                    }
                }
            }
        };
        let in_time = tokio::time::timeout(SEARCH_TIME.min(left / 2), search).await;
        if in_time.is_err() {
            notes.say("not all images were searched for the same layers");
        }
        self.notes.append(notes);
    }
}

/// The image records that point to one of the targets; none for no targets, for which containerd
/// would list all.
async fn images(
    client: &Client,
    targets: &BTreeSet<Digest>,
) -> Result<Vec<(String, Descriptor)>, GrpcError> {
    match targets.is_empty() {
        true => Ok(Vec::new()),
        false => client.images(targets).await,
    }
}
