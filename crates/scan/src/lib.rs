//! Scans of images: starts the scanner's process, keeps what it found layer by layer, and works out
//! the findings.
//!
//! A layer is read once on a node, whatever images have it. New advisories and new lists are asked
//! about what is kept, and no layer is read for them.

#![forbid(unsafe_code)]

mod engines;
mod kept;
mod node;
mod rematch;
mod target;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use portcullis_inventory::protocol::{Job, Limits, Source};
use portcullis_inventory::{Image, Layer, Merged, Wishes};
use portcullis_types::{Class, Digest};

pub use engines::{FindError, find};
pub use kept::{Kept, KeptError, KeptImage};
pub use node::{Known, Node, NodeError, clamd, own_platform, rules};
pub use rematch::{RematchError, rematch};
pub use target::{TargetError, source_at};
pub use worker::WorkerError;

/// Why an image was not scanned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// The scanner's process.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// What is kept of layers.
    #[error(transparent)]
    Kept(#[from] KeptError),
    /// The scanner did not tell of a layer.
    #[error("the scanner did not read the layer {0}")]
    Layer(Digest),
    /// Its layers together have more than any image that is made to run.
    #[error(
        "its layers have more than {MOST} paths together, a finding or a removed path counting eight times"
    )]
    TooMuch,
    /// Another image is there than the one that was asked for.
    #[error("the image that is there is not the one with the configuration {0}")]
    Other(Digest),
}

/// How images are read on this node.
#[derive(Debug, Clone)]
pub struct Scanner {
    /// The program `portcullis-scanner`.
    pub program: PathBuf,
    /// Where inventories are kept; `None` keeps nothing.
    pub kept: Option<Kept>,
    /// Rules of YARA, with the names of their files.
    pub rules: Vec<(String, Vec<u8>)>,
    /// The socket of clamd.
    pub clamd: Option<PathBuf>,
    /// Bounds.
    pub limits: Limits,
}

/// Told while an image is read.
pub trait Progress {
    /// The image was found: so many of its layers are read, the others are known.
    fn found(&mut self, image: &Image, read: usize, known: usize);
    /// So many bytes of a layer were read.
    fn read(&mut self, layer: usize, bytes: u64);
    /// A layer was read.
    fn done(&mut self);
    /// Whether nobody wants it any more: then the scan fails.
    fn is_stopped(&self) -> bool {
        false
    }
}

/// Which image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Where it is.
    pub source: Source,
    /// Which of several there, by its name.
    pub image: Option<String>,
    /// Which platform of several.
    pub platform: String,
    /// The digest of its configuration, if it is known: no other image is read then.
    pub config: Option<Digest>,
}

/// An image that was read.
#[derive(Debug, Clone)]
pub struct Scanned {
    /// The image.
    pub image: Image,
    /// What it has.
    pub merged: Merged,
    /// The classes that its layers were searched for.
    pub searched: BTreeSet<Class>,
    /// What confined the process that read it.
    pub confined: Vec<String>,
    /// Layers that were read, and those that were known.
    pub layers_read: usize,
    /// Layers that an earlier scan had read.
    pub layers_known: usize,
}

impl Scanner {
    /// Reads an image, but no layer that is known. The wishes are kept for later looks at it.
    ///
    /// # Errors
    /// [`ScanError`]: then nothing is known of it.
    pub fn scan(
        &self,
        chosen: Chosen,
        wishes: Wishes,
        progress: &mut dyn Progress,
    ) -> Result<Scanned, ScanError> {
        let job = Job {
            source: chosen.source,
            image: chosen.image,
            platform: chosen.platform,
            rules: self.rules.clone(),
            clamd: self.clamd.is_some(),
            scratch: PathBuf::new(),
            limits: self.limits,
        };
        let mut worker = worker::Worker::start(&self.program, job, self.clamd.as_deref())?;
        let found = worker.image()?;
        if let Some(asked) = chosen.config
            && found.image.config.as_ref() != Some(&asked)
        {
            return Err(ScanError::Other(asked));
        }
        let mut searched = BTreeSet::from([Class::Secret]);
        if !found.engines.is_empty() {
            searched.insert(Class::Malware);
        }
        let key = kept::key(&found.engines);
        let mut weight = Weight::default();
        // Without room, the ledger and the verdicts come first.
        let kept = self.kept.as_ref().filter(|kept| kept.has_room());
        let mut layers: BTreeMap<Digest, Layer> = BTreeMap::new();
        for diff_id in &found.image.diff_ids {
            if let Some(kept) = &self.kept
                && !layers.contains_key(diff_id)
                && let Some(layer) = kept.layer(diff_id, &key)?
            {
                weight.add(&layer)?;
                layers.insert(diff_id.clone(), layer);
            }
        }
        let all: BTreeSet<Digest> = found.image.diff_ids.iter().cloned().collect();
        let wanted: BTreeSet<Digest> =
            all.into_iter().filter(|d| !layers.contains_key(d)).collect();
        let (layers_read, layers_known) = (wanted.len(), layers.len());
        progress.found(
            &found.image,
            layers_read.max(usize::from(found.image.config.is_none())),
            layers_known,
        );
        let mut root = None;
        worker.layers(
            wanted,
            &mut |diff_id, layer| {
                weight.add(&layer)?;
                match diff_id {
                    Some(diff_id) => {
                        if let Some(kept) = kept {
                            kept.keep_layer(&diff_id, &key, &layer)?;
                        }
                        layers.insert(diff_id, layer);
                    }
                    None => root = Some(layer),
                }
                Ok::<_, ScanError>(())
            },
            progress,
        )?;
        let mut ordered = Vec::new();
        let mut rest = found.image.diff_ids.as_slice();
        while let Some((diff_id, later)) = rest.split_first() {
            // A layer may come more than once in an image.
            let layer = match later.contains(diff_id) {
                true => layers.get(diff_id).cloned(),
                false => layers.remove(diff_id),
            };
            ordered.push(layer.ok_or_else(|| ScanError::Layer(diff_id.clone()))?);
            rest = later;
        }
        ordered.extend(root);
        let mut image = found.image;
        if let Some(kept) = kept
            && image.config.is_some()
        {
            image =
                kept.keep_image(KeptImage { image, key, searched: searched.clone(), wishes })?;
        }
        let merged = Merged::new(ordered);
        Ok(Scanned { image, merged, searched, confined: found.confined, layers_read, layers_known })
    }
}

/// Most that the layers of an image may weigh together: some hundreds of megabytes of memory.
const MOST: usize = 8_000_000;

/// How much there is in the layers of an image so far.
#[derive(Default)]
struct Weight(usize);

impl Weight {
    fn add(&mut self, layer: &Layer) -> Result<(), ScanError> {
        let heavy = layer.items.len() + layer.removed.len() + layer.opaque.len();
        self.0 += layer.table.len() + 8 * heavy;
        if self.0 > MOST { Err(ScanError::TooMuch) } else { Ok(()) }
    }
}

/// A kept image as if it were read now, without reading a layer. `None` if a layer is not kept any
/// more.
///
/// # Errors
/// What is kept is damaged.
pub fn again(kept: &Kept, image: &KeptImage) -> Result<Option<Scanned>, ScanError> {
    let mut layers = Vec::new();
    for diff_id in &image.image.diff_ids {
        let Some(layer) = kept.layer(diff_id, &image.key)? else { return Ok(None) };
        layers.push(layer);
    }
    Ok(Some(Scanned {
        image: image.image.clone(),
        searched: image.searched.clone(),
        confined: Vec::new(),
        layers_read: 0,
        layers_known: layers.len(),
        merged: Merged::new(layers),
    }))
}

/// The scanner's program beside this one.
///
/// # Errors
/// It is not there.
pub fn program_beside(own: &Path) -> Result<PathBuf, WorkerError> {
    let program = own.with_file_name("portcullis-scanner");
    match program.is_file() {
        true => Ok(program),
        false => Err(WorkerError::Missing(program)),
    }
}
