//! What every store does with a report before it writes anything.

use portcullis_types::{ImageFacts, ScanReport, Verdict};

use crate::{Absorbed, Change, MAX_FINDINGS, StoreError};

/// Joins a report to what is known about its image.
///
/// # Errors
/// The verdict would grow beyond its bounds, or the report contradicts it.
pub(crate) fn merge(
    known: Option<Verdict>,
    image: &ImageFacts,
    report: ScanReport,
) -> Result<Absorbed, StoreError> {
    let is_new = known.is_none();
    let mut verdict =
        known.unwrap_or_else(|| Verdict { image: image.clone(), reports: Vec::new() });
    if let (Some(stored), Some(reported)) = (&verdict.image.chain_id, &image.chain_id)
        && stored != reported
    {
        return Err(StoreError::OtherLayers {
            config: image.config.clone(),
            stored: stored.clone(),
            reported: reported.clone(),
        });
    }
    let changed = verdict.absorb(image, report);
    if verdict.reports.len() > Verdict::MAX_REPORTS {
        return Err(StoreError::TooManyReports { config: image.config.clone() });
    }
    let findings: usize = verdict.reports.iter().map(|r| r.findings.len()).sum();
    if findings > MAX_FINDINGS {
        return Err(StoreError::TooLarge { config: image.config.clone() });
    }
    let change = match (is_new, changed) {
        (true, _) => Change::Created,
        (false, true) => Change::Updated,
        (false, false) => Change::Unchanged,
    };
    Ok(Absorbed { change, verdict })
}
