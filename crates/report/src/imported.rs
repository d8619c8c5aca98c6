//! A report that was read, and how it is tied to an image.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portcullis_types::{
    Binding, Coverage, Digest, Finding, ImageFacts, ImageRef, ScanReport, Scanner, Severity,
    Timestamp, chain_id,
};

use crate::ReportError;

/// How far a report's date may be ahead of our clock: clocks differ, and days begin apart.
const AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// What a report says.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// Where it was read from, for messages.
    pub file: PathBuf,
    /// Which image it is about, as it says itself.
    pub image: ReportImage,
    /// Which scanner wrote it.
    pub scanner: Scanner,
    /// When it was made, if it says so.
    pub created_at: Option<Timestamp>,
    /// The date of the advisories that were used, if it says so.
    pub database_at: Option<Timestamp>,
    /// What was looked at.
    pub coverage: Coverage,
    /// What was found: one for each entry of the report, in its order, also where two entries are
    /// the same problem; [`Verdict::merged`](portcullis_types::Verdict::merged) counts those once.
    /// An entry about several CVEs, as an advisory of a distribution, is a finding for each, with
    /// the advisory's id among the aliases.
    pub findings: Vec<Finding>,
    /// How many entries of the report have each severity: its own count, so fewer than `findings`
    /// where an entry is about several CVEs.
    pub counts_by_severity: BTreeMap<Severity, usize>,
    /// What was passed over, each a sentence for the user.
    pub warnings: Vec<String>,
}

/// Which image a report is about, as it says itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportImage {
    /// Digest of the image configuration: the image ID.
    pub config: Option<Digest>,
    /// Names with the digest of the manifest or index that was scanned under them.
    pub repo_digests: Vec<ImageRef>,
    /// Digests of the manifest or index where no name comes with them.
    pub manifests: Vec<Digest>,
    /// Digests of the layers, unpacked, from the lowest up.
    pub diff_ids: Vec<Digest>,
    /// Names.
    pub references: BTreeSet<ImageRef>,
}

impl ReportImage {
    fn manifests(&self) -> impl Iterator<Item = &Digest> {
        self.repo_digests.iter().filter_map(ImageRef::digest).chain(&self.manifests)
    }
}

impl Imported {
    /// The same report, made at `told` if it has no date itself.
    ///
    /// For formats that need not say it, as SARIF: its importer answers for the date. The report's
    /// own date decides where there is one; being told another is a warning.
    #[must_use]
    pub fn or_scanned_at(mut self, told: Option<Timestamp>) -> Self {
        match (self.created_at, told) {
            (None, told) => self.created_at = told,
            (Some(own), Some(told)) if own != told => self
                .warnings
                .push(format!("the report says that it was made at {own}: {told} is passed over")),
            (Some(_), _) => {}
        }
        self
    }

    /// Ties the report to an image, as of `now`.
    ///
    /// The report's own image ID decides. `chosen` may repeat it, or name a manifest that the
    /// report names too; only a report without an image ID is taken for the image whose ID is
    /// chosen, and then [by its importer](Binding::ByImporter).
    ///
    /// # Errors
    /// The report is about another image than the chosen one, or about none while none is chosen;
    /// it has no date, or one that is more than a day ahead of `now`.
    pub fn bind(
        self,
        chosen: Option<&Digest>,
        now: Timestamp,
    ) -> Result<(ImageFacts, ScanReport), ReportError> {
        let (config, binding) = self.config(chosen)?;
        let scanned_at = self.scanned_at(now)?;
        let image = ImageFacts {
            config,
            chain_id: chain_id(&self.image.diff_ids),
            manifests: self.image.manifests().cloned().collect(),
            references: self.image.references.iter().map(ToString::to_string).collect(),
        };
        let report = ScanReport {
            scanner: self.scanner,
            scanned_at,
            database_at: self.database_at,
            imported_at: now,
            binding,
            coverage: self.coverage,
            findings: self.findings.into_iter().map(Arc::new).collect(),
        };
        Ok((image, report))
    }

    fn config(&self, chosen: Option<&Digest>) -> Result<(Digest, Binding), ReportError> {
        match (&self.image.config, chosen) {
            (Some(config), Some(chosen))
                if chosen != config && !self.image.manifests().any(|m| m == chosen) =>
            {
                Err(ReportError::OtherImage {
                    file: self.file.clone(),
                    config: config.clone(),
                    chosen: chosen.clone(),
                })
            }
            (Some(config), _) => Ok((config.clone(), Binding::ByReport)),
            (None, Some(chosen)) if !self.image.manifests().any(|m| m == chosen) => {
                Ok((chosen.clone(), Binding::ByImporter))
            }
            // A manifest that was chosen is no image ID either.
            (None, _) => Err(ReportError::NoImage { file: self.file.clone() }),
        }
    }

    fn scanned_at(&self, now: Timestamp) -> Result<Timestamp, ReportError> {
        let Some(created_at) = self.created_at else {
            return Err(ReportError::Undated { file: self.file.clone() });
        };
        let latest = now.checked_add(AHEAD).unwrap_or(Timestamp::MAX);
        if created_at > latest {
            return Err(ReportError::Future { file: self.file.clone(), created_at, now });
        }
        // Clocks differ; but no report is newer than the moment at which it came.
        Ok(created_at.min(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: u8) -> Digest {
        Digest::sha256([byte; 32])
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Made at second 1000, about the image 1, whose manifest is 2.
    fn imported() -> Imported {
        Imported {
            file: "report.json".into(),
            image: ReportImage {
                config: Some(digest(1)),
                repo_digests: vec![format!("a.io/b@{}", digest(2)).parse().unwrap()],
                manifests: Vec::new(),
                diff_ids: vec![digest(3)],
                references: ["a.io/b:1".parse().unwrap()].into(),
            },
            scanner: Scanner { name: "trivy".into(), version: None },
            created_at: Some(at(1000)),
            database_at: None,
            coverage: Coverage::default(),
            findings: Vec::new(),
            counts_by_severity: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_report_names_its_image() {
        for chosen in [None, Some(digest(1)), Some(digest(2))] {
            let (image, report) = imported().bind(chosen.as_ref(), at(2000)).unwrap();
            assert_eq!(image.config, digest(1));
            assert_eq!(image.chain_id, Some(digest(3)));
            assert_eq!(image.manifests, [digest(2)].into());
            assert_eq!(image.references, ["a.io/b:1".to_owned()].into());
            assert_eq!(report.binding, Binding::ByReport);
            assert_eq!((report.scanned_at, report.imported_at), (at(1000), at(2000)));
        }
    }

    #[test]
    fn a_report_is_not_taken_for_another_image() {
        let error = imported().bind(Some(&digest(9)), at(2000)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&digest(1).to_string()), "{text}");
        assert!(text.contains(&digest(9).to_string()), "{text}");
    }

    #[test]
    fn a_report_without_an_image_is_claimed_by_its_importer() {
        let mut unnamed = imported();
        unnamed.image = ReportImage::default();
        let error = unnamed.clone().bind(None, at(2000)).unwrap_err();
        assert!(error.to_string().contains("--image DIGEST"), "{error}");
        let (image, report) = unnamed.bind(Some(&digest(9)), at(2000)).unwrap();
        assert_eq!((image.config, image.chain_id), (digest(9), None));
        assert_eq!(report.binding, Binding::ByImporter);
    }

    #[test]
    fn a_report_from_the_future_is_refused() {
        let day = 24 * 60 * 60;
        assert!(imported().bind(None, at(1000 - day)).is_ok());
        let error = imported().bind(None, at(999 - day)).unwrap_err();
        assert!(error.to_string().contains("clock"), "{error}");
        assert!(imported().bind(None, Timestamp::MAX).is_ok());
    }

    #[test]
    fn a_report_without_a_date_is_refused() {
        let undated = Imported { created_at: None, ..imported() };
        let error = undated.bind(None, at(0)).unwrap_err();
        assert!(matches!(error, ReportError::Undated { .. }));
        assert!(error.to_string().contains("--scanned-at"), "{error}");
    }

    #[test]
    fn an_importer_dates_only_what_has_no_date() {
        let scanned_at = |report: Imported, told| {
            let report = report.or_scanned_at(told);
            let warnings = report.warnings.len();
            report.bind(None, at(2000)).map(|(_, report)| (report.scanned_at, warnings)).ok()
        };
        let undated = || Imported { created_at: None, ..imported() };
        assert_eq!(scanned_at(undated(), Some(at(5))), Some((at(5), 0)));
        assert_eq!(scanned_at(undated(), None), None);
        assert_eq!(scanned_at(undated(), Some(at(1_000_000))), None, "it is in the future");
        assert_eq!(scanned_at(imported(), Some(at(5))), Some((at(1000), 1)));
        assert_eq!(scanned_at(imported(), Some(at(1000))), Some((at(1000), 0)));
        assert_eq!(scanned_at(imported(), None), Some((at(1000), 0)));
    }

    #[test]
    fn a_manifest_without_a_name_is_the_images_too() {
        let mut unnamed = imported();
        unnamed.image.manifests = vec![digest(7)];
        let (image, _) = unnamed.clone().bind(Some(&digest(7)), at(2000)).unwrap();
        assert_eq!(image.manifests, [digest(2), digest(7)].into());
        unnamed.image.config = None;
        let error = unnamed.bind(Some(&digest(7)), at(2000)).unwrap_err();
        assert!(matches!(error, ReportError::NoImage { .. }), "a manifest is no image ID");
    }
}
