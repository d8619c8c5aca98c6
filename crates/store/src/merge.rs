//! What every store does with a report before it writes anything.

use portcullis_types::{ImageFacts, ScanReport, Verdict};

use crate::record::Entry;
use crate::seen::Dates;
use crate::{Change, MAX_FINDINGS, StoreError};

/// Joins a report to what is known about its image.
///
/// Returns the entry as it should be stored. It may differ from the one that is known even where
/// the findings are [`Change::Unchanged`]: a date may be earlier.
///
/// # Errors
/// The verdict would grow beyond its bounds, or the report contradicts it.
pub(crate) fn merge(
    known: Option<Entry>,
    image: &ImageFacts,
    report: ScanReport,
) -> Result<(Change, Entry), StoreError> {
    let is_new = known.is_none();
    let Entry { mut verdict, vanished } =
        known.unwrap_or_else(|| Entry::new(Verdict { image: image.clone(), reports: Vec::new() }));
    if let (Some(stored), Some(reported)) = (&verdict.image.chain_id, &image.chain_id)
        && stored != reported
    {
        return Err(StoreError::OtherLayers {
            config: image.config.clone(),
            stored: stored.clone(),
            reported: reported.clone(),
        });
    }
    let dates = Dates::new(&vanished, &verdict, &report);
    let changed = verdict.absorb(image, report);
    if verdict.reports.len() > Verdict::MAX_REPORTS {
        return Err(StoreError::TooManyReports { config: image.config.clone() });
    }
    let findings: usize = verdict.reports.iter().map(|r| r.findings.len()).sum();
    if findings > MAX_FINDINGS {
        return Err(StoreError::TooLarge { config: image.config.clone() });
    }
    let vanished = dates.give_to(&mut verdict);
    let change = match (is_new, changed) {
        (true, _) => Change::Created,
        (false, true) => Change::Updated,
        (false, false) => Change::Unchanged,
    };
    Ok((change, Entry { verdict, vanished }))
}
