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
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod memory;
mod merge;
mod record;
mod seen;
#[cfg(any(test, feature = "suite"))]
pub mod suite;

use portcullis_types::{Digest, Finding, ImageFacts, ScanReport, Verdict};

pub use error::{Damage, StoreError};
pub use file::FileStore;
pub use memory::MemoryStore;

/// Most findings kept about one image, over all its reports; more are refused, since each is
/// decoded at every start of the image.
pub const MAX_FINDINGS: usize = 200_000;

/// How much of each finding is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// What a decision needs: all but the titles. Damage of what is not read goes unnoticed.
    Decision,
    /// All of it, for people.
    Full,
}

/// How much of each verdict a list reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What stands in front of the findings. Damage of what is not read goes unnoticed.
    Heads,
    /// All of it, so that each damaged verdict is noticed.
    Whole,
}

/// Changes what a feed knows of a finding, and says whether that was a change.
///
/// It must leave what makes the [key](Finding::key) and `first_seen` as they are.
pub type Annotate<'a> = &'a dyn Fn(&mut Finding) -> bool;

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
    fn by_config(&self, config: &Digest, detail: Detail) -> Result<Option<Verdict>, StoreError>;

    /// The verdicts about all images whose layers have this chain ID, by config digest.
    ///
    /// A damaged verdict is an element of its own, so that it hides none beside it.
    ///
    /// # Errors
    /// The store cannot be read.
    fn by_chain(
        &self,
        chain: &Digest,
        detail: Detail,
    ) -> Result<Vec<Result<Verdict, StoreError>>, StoreError>;

    /// Takes in what a report says of an image, by the rule of [`Verdict::absorb`].
    ///
    /// Each finding gets the date at which the image was first reported to have it: the earliest
    /// `imported_at` of all reports with a finding of this [key](Finding::key) that were ever
    /// given here, be they replaced, refused for a newer one, or of another scanner. What the
    /// report itself says of that date does not count. [`remove`](Self::remove) forgets the dates.
    ///
    /// EPSS and KEV of a report that repeats a stored one change nothing: see
    /// [`annotate`](Self::annotate).
    ///
    /// # Errors
    /// The store cannot be read or written; the verdict known so far is damaged (it stays, since
    /// what it said is not known to be outdone); it would hold more than
    /// [`Verdict::MAX_REPORTS`] or [`MAX_FINDINGS`]; or the report contradicts it.
    fn absorb(&self, image: &ImageFacts, report: ScanReport) -> Result<Absorbed, StoreError>;

    /// Puts each stored finding before `annotate`, as when a new EPSS or KEV feed comes, and writes
    /// the verdicts that changed. Says of each image whether its verdict did, or why that cannot
    /// be said; one that is damaged does not stop the rest.
    ///
    /// Other writers have their turn between two verdicts.
    ///
    /// # Errors
    /// The store cannot be read or written. Some verdicts may have changed by then; doing it again
    /// does the rest.
    fn annotate(&self, annotate: Annotate<'_>) -> Result<Vec<Annotated>, StoreError>;

    /// How many entries there are, damaged or not. Reads only their names.
    ///
    /// # Errors
    /// The store cannot be read.
    fn count(&self) -> Result<usize, StoreError>;

    /// All entries, by config digest.
    ///
    /// # Errors
    /// The store cannot be read. A damaged entry is listed, with its error.
    fn list(&self, depth: Depth) -> Result<Vec<Listed>, StoreError>;

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

/// What annotating did to one entry.
#[derive(Debug)]
pub struct Annotated {
    /// Config digest of the image.
    pub config: Digest,
    /// Whether its verdict changed; or why that cannot be said.
    pub changed: Result<bool, StoreError>,
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
