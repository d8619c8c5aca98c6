//! The verdict store: what scanners found about an image, by digest.
//!
//! It keeps findings, never decisions. A door only reads: without a lock, without waiting for a
//! writer, and without trusting what it opens. Nothing stored and a store that cannot be read are
//! different answers, and so is a verdict that is damaged: see [`StoreError::cause`].

#![forbid(unsafe_code)]

mod error;
mod file;
mod folder;
mod frame;
mod memory;
mod merge;
mod record;
#[cfg(any(test, feature = "suite"))]
pub mod suite;

use portcullis_types::{Digest, ImageFacts, ScanReport, Verdict};

pub use error::{Damage, StoreError};
pub use file::FileStore;
pub use memory::MemoryStore;

/// Most findings kept about one image, over all its reports; more are refused, since each is
/// decoded at every start of the image.
pub const MAX_FINDINGS: usize = 200_000;

/// Where verdicts are kept.
///
/// Several processes may use one store at once. Readers see a verdict as it was before or after
/// a change, never between.
pub trait VerdictStore: Send + Sync {
    /// The verdict about the image with this config digest. `None` means that the store was read
    /// and holds nothing for it.
    ///
    /// # Errors
    /// The store cannot be read, or the verdict is damaged.
    fn by_config(&self, config: &Digest) -> Result<Option<Verdict>, StoreError>;

    /// The verdicts about all images whose layers have this chain ID, by config digest.
    ///
    /// A damaged verdict is an element of its own, so that it hides none beside it.
    ///
    /// # Errors
    /// The store cannot be read.
    fn by_chain(&self, chain: &Digest) -> Result<Vec<Result<Verdict, StoreError>>, StoreError>;

    /// Takes in what a report says of an image, by the rule of [`Verdict::absorb`].
    ///
    /// # Errors
    /// The store cannot be read or written; the verdict known so far is damaged (it stays, since
    /// what it said is not known to be outdone); it would hold more than
    /// [`Verdict::MAX_REPORTS`] or [`MAX_FINDINGS`]; or the report contradicts it.
    fn absorb(&self, image: &ImageFacts, report: ScanReport) -> Result<Absorbed, StoreError>;

    /// All entries, by config digest.
    ///
    /// # Errors
    /// The store cannot be read. A damaged entry is listed, with its error.
    fn list(&self) -> Result<Vec<Listed>, StoreError>;

    /// Removes what is stored about an image, damaged or not. Returns whether there was anything.
    ///
    /// # Errors
    /// The store cannot be read or written.
    fn remove(&self, config: &Digest) -> Result<bool, StoreError>;
}

/// What became of a report that was absorbed.
#[derive(Debug, Clone, PartialEq)]
pub struct Absorbed {
    /// What it changed.
    pub change: Change,
    /// What is now stored about the image.
    pub verdict: Verdict,
}

/// What a report changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is the first about its image.
    Created,
    /// The verdict knows more, or newer things, than before.
    Updated,
    /// It repeats what is stored, or a stored report takes its place.
    Unchanged,
}

/// An entry of a store.
#[derive(Debug)]
pub struct Listed {
    /// Config digest of the image.
    pub config: Digest,
    /// What is stored about it, in short; or why that cannot be said.
    pub entry: Result<Summary, StoreError>,
}

/// A verdict in short: without the findings, so that a list of many stays small.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Which image.
    pub image: ImageFacts,
    /// Each report without its findings, and how many it has; oldest first.
    pub reports: Vec<(ScanReport, usize)>,
    /// Distinct findings of all reports, by severity.
    pub findings: std::collections::BTreeMap<portcullis_types::Severity, usize>,
}

impl From<Verdict> for Summary {
    fn from(verdict: Verdict) -> Self {
        let mut findings = std::collections::BTreeMap::new();
        for finding in Verdict::merged([&verdict]) {
            *findings.entry(finding.severity).or_insert(0) += 1;
        }
        let reports = verdict
            .reports
            .into_iter()
            .map(|mut report| {
                let count = std::mem::take(&mut report.findings).len();
                (report, count)
            })
            .collect();
        Self { image: verdict.image, reports, findings }
    }
}
