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
    let too_large = || StoreError::TooLarge { config: image.config.clone() };
    if report.findings.len() > MAX_FINDINGS {
        return Err(too_large());
    }
    let dates = Dates::new(&vanished, &verdict, &report);
    let changed = verdict.absorb(image, report);
    if verdict.reports.len() > Verdict::MAX_REPORTS {
        return Err(StoreError::TooManyReports { config: image.config.clone() });
    }
    let findings: usize = verdict.reports.iter().map(|r| r.findings.len()).sum();
    if findings > MAX_FINDINGS {
        return Err(too_large());
    }
    let vanished = dates.give_to(&mut verdict);
    let change = match (is_new, changed) {
        (true, _) => Change::Created,
        (false, true) => Change::Updated,
        (false, false) => Change::Unchanged,
    };
    Ok((change, Entry { verdict, vanished }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use portcullis_types::{Class, Finding, Severity, Timestamp};
    use proptest::prelude::*;

    use super::*;
    use crate::seen::Key;
    use crate::suite;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn finding(id: u8) -> Finding {
        Finding::new(Class::Vulnerability, id.to_string(), Severity::High, "trivy")
    }

    prop_compose! {
        fn any_report()(
            scanner in prop::sample::select(vec!["trivy", "grype"]),
            scanned in 0..5_i64,
            imported in 0..20_i64,
            is_blind in any::<bool>(),
            ids in prop::collection::vec(0..6_u8, 0..5),
        ) -> ScanReport {
            let mut report = suite::report(scanner, scanned, 0);
            report.imported_at = at(imported);
            report.findings = ids.into_iter().map(|id| Arc::new(finding(id))).collect();
            if is_blind {
                report.coverage.classes.clear();
            }
            report
        }
    }

    /// The date of each problem in an entry, wherever it stands.
    fn dates(entry: &Entry) -> BTreeMap<String, Timestamp> {
        let mut dates = BTreeMap::new();
        for report in &entry.verdict.reports {
            for finding in &report.findings {
                let date = finding.first_seen.unwrap();
                assert!(date <= report.imported_at, "it was seen after its import");
                let known = dates.insert(finding.id.to_string(), date);
                assert!(known.is_none_or(|known| known == date), "two dates of one problem");
            }
        }
        let vanished: BTreeMap<Key, Timestamp> = entry.vanished.iter().collect();
        for id in 0..6 {
            if let Some(date) = vanished.get(&Key::of(&finding(id))) {
                assert!(dates.insert(id.to_string(), *date).is_none(), "it stands and is gone");
            }
        }
        dates
    }

    proptest! {
        /// So the order of imports does not matter, nor what stands at the end.
        #[test]
        fn a_problem_has_the_date_of_the_first_import_that_named_it(
            reports in prop::collection::vec(any_report(), 1..8)
        ) {
            let image = suite::image('a');
            let mut entry = None;
            let mut wanted: BTreeMap<String, Timestamp> = BTreeMap::new();
            for report in reports {
                let import = report.imported_at;
                for finding in &report.findings {
                    let date = wanted.entry(finding.id.to_string()).or_insert(import);
                    *date = import.min(*date);
                }
                let (_, merged) = merge(entry, &image, report.clone()).unwrap();
                prop_assert_eq!(&dates(&merged), &wanted);
                let (change, again) = merge(Some(merged.clone()), &image, report).unwrap();
                prop_assert_eq!(change, Change::Unchanged);
                prop_assert_eq!(&again, &merged);
                entry = Some(merged);
            }
        }
    }
}
