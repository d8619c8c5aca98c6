//! Who was scanned and by whom: the head of a verdict, written with postcard, a specified encoding
//! without names that reads text in place.
//!
//! The structs here are the format, apart from the types of the program, so that neither binds
//! the other. Format 1 has them too, so a change here is a third format; but one more name at the end
//! of an enum leaves what is written as it was.

use std::collections::BTreeMap;

use portcullis_types::{
    Binding, Class, Coverage, Digest, ImageFacts, ScanReport, Scanner, Severity, Timestamp, Verdict,
};
use serde::{Deserialize, Serialize};

use super::SHAPE;
use crate::{Damage, Summary};

#[derive(Serialize, Deserialize)]
pub(super) struct HeadRecord<'a> {
    #[serde(borrow)]
    image: ImageRecord<'a>,
    reports: Vec<ReportRecord<'a>>,
    /// Distinct findings of all reports, by severity, so that a list need not read them.
    severities: Vec<(SeverityRecord, u32)>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ImageRecord<'a> {
    config: DigestRecord<'a>,
    #[serde(borrow)]
    chain_id: Option<DigestRecord<'a>>,
    manifests: Vec<DigestRecord<'a>>,
    references: Vec<&'a str>,
}

/// A digest as `algorithm:hex`.
#[derive(Serialize, Deserialize)]
pub(super) struct DigestRecord<'a>(std::borrow::Cow<'a, str>);

#[derive(Serialize, Deserialize)]
pub(super) struct ReportRecord<'a> {
    scanner_name: &'a str,
    scanner_version: Option<&'a str>,
    scanned_at: TimeRecord,
    database_at: Option<TimeRecord>,
    imported_at: TimeRecord,
    binding: BindingRecord,
    #[serde(borrow)]
    coverage: CoverageRecord<'a>,
    /// How many findings follow.
    findings: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct CoverageRecord<'a> {
    classes: Vec<ClassRecord>,
    #[serde(borrow)]
    ecosystems: Vec<&'a str>,
    uncovered: Vec<&'a str>,
    distribution: Option<&'a str>,
    end_of_life: bool,
}

/// Time since 1970, UTC.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct TimeRecord {
    seconds: i64,
    nanoseconds: i32,
}

/// An enum that sections of fixed-width numbers name by its place.
pub(super) trait Numbered: Sized {
    /// The value with this place.
    fn numbered(place: u8) -> Option<Self>;
}

/// An enum of the types and its twin in the format, whose order is the format's own.
macro_rules! twin {
    ($record:ident, $of:ident { $($variant:ident),+ }) => {
        #[derive(Clone, Copy, Serialize, Deserialize)]
        #[repr(u8)]
        #[allow(clippy::enum_variant_names, reason = "the names of another enum")]
        pub(super) enum $record { $($variant),+ }

        impl Numbered for $record {
            fn numbered(number: u8) -> Option<Self> {
                [$(Self::$variant),+].get(usize::from(number)).copied()
            }
        }

        impl From<$of> for $record {
            fn from(value: $of) -> Self {
                match value { $($of::$variant => Self::$variant),+ }
            }
        }

        impl From<$record> for $of {
            fn from(value: $record) -> Self {
                match value { $($record::$variant => Self::$variant),+ }
            }
        }
    };
}

twin!(BindingRecord, Binding { ByReport, ByImporter, ByScan, BySignature });
twin!(ClassRecord, Class { Vulnerability, Malware, Baseline, Secret, Workload, Authorization });
twin!(SeverityRecord, Severity { Critical, High, Medium, Low, Unknown });

impl<'a> HeadRecord<'a> {
    /// The head of a verdict. `None` if a count is too large for the format.
    pub(super) fn new(verdict: &'a Verdict) -> Option<Self> {
        let mut severities = BTreeMap::new();
        for finding in Verdict::merged([verdict]) {
            *severities.entry(finding.severity).or_insert(0) += 1;
        }
        Some(Self {
            image: (&verdict.image).into(),
            reports: verdict.reports.iter().map(ReportRecord::new).collect::<Option<_>>()?,
            severities: severities.into_iter().map(|(s, n)| (s.into(), n)).collect(),
        })
    }

    /// The head that these bytes are.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Damage> {
        let (head, rest): (Self, _) =
            postcard::take_from_bytes(bytes).map_err(|_| Damage::Body(SHAPE))?;
        if !rest.is_empty() {
            return Err(Damage::Body(super::BEHIND));
        }
        if head.reports.len() > Verdict::MAX_REPORTS {
            return Err(Damage::Body(super::REPORTS));
        }
        Ok(head)
    }

    /// The verdict without its findings, and how many each report has.
    pub(super) fn decode(&self) -> Result<(Verdict, Vec<usize>), Damage> {
        let counts = self.reports.iter().map(ReportRecord::findings).collect();
        let reports = self.reports.iter().map(ReportRecord::decode).collect::<Result<_, _>>()?;
        Ok((Verdict { image: self.image.decode()?, reports }, counts))
    }

    /// The verdict in short.
    pub(super) fn summary(&self) -> Result<Summary, Damage> {
        let (verdict, counts) = self.decode()?;
        Ok(Summary {
            image: verdict.image,
            reports: verdict.reports.into_iter().zip(counts).collect(),
            findings: self.severities.iter().map(|(s, n)| ((*s).into(), *n as usize)).collect(),
        })
    }
}

impl From<&Digest> for DigestRecord<'_> {
    fn from(digest: &Digest) -> Self {
        Self(digest.to_string().into())
    }
}

impl DigestRecord<'_> {
    fn decode(&self) -> Result<Digest, Damage> {
        self.0.parse().map_err(|_| Damage::Body("a digest is malformed"))
    }
}

impl From<Timestamp> for TimeRecord {
    fn from(time: Timestamp) -> Self {
        Self { seconds: time.as_second(), nanoseconds: time.subsec_nanosecond() }
    }
}

impl TimeRecord {
    pub(super) fn decode(self) -> Result<Timestamp, Damage> {
        Timestamp::new(self.seconds, self.nanoseconds)
            .map_err(|_| Damage::Body("a time is out of range"))
    }

    pub(super) fn decode_option(time: Option<Self>) -> Result<Option<Timestamp>, Damage> {
        time.map(Self::decode).transpose()
    }
}

impl<'a> From<&'a ImageFacts> for ImageRecord<'a> {
    fn from(image: &'a ImageFacts) -> Self {
        Self {
            config: (&image.config).into(),
            chain_id: image.chain_id.as_ref().map(Into::into),
            manifests: image.manifests.iter().map(Into::into).collect(),
            references: image.references.iter().map(String::as_str).collect(),
        }
    }
}

impl ImageRecord<'_> {
    pub(super) fn decode(&self) -> Result<ImageFacts, Damage> {
        Ok(ImageFacts {
            config: self.config.decode()?,
            chain_id: self.chain_id.as_ref().map(DigestRecord::decode).transpose()?,
            manifests: self.manifests.iter().map(DigestRecord::decode).collect::<Result<_, _>>()?,
            references: self.references.iter().map(|&r| r.to_owned()).collect(),
        })
    }
}

impl<'a> ReportRecord<'a> {
    fn new(report: &'a ScanReport) -> Option<Self> {
        let coverage = &report.coverage;
        Some(Self {
            scanner_name: &report.scanner.name,
            scanner_version: report.scanner.version.as_deref(),
            scanned_at: report.scanned_at.into(),
            database_at: report.database_at.map(Into::into),
            imported_at: report.imported_at.into(),
            binding: report.binding.into(),
            coverage: CoverageRecord {
                classes: coverage.classes.iter().map(|&c| c.into()).collect(),
                ecosystems: coverage.ecosystems.iter().map(String::as_str).collect(),
                uncovered: coverage.uncovered.iter().map(String::as_str).collect(),
                distribution: coverage.distribution.as_deref(),
                end_of_life: coverage.end_of_life,
            },
            findings: u32::try_from(report.findings.len()).ok()?,
        })
    }

    /// How many findings it has.
    pub(super) fn findings(&self) -> usize {
        self.findings as usize
    }

    /// The report without its findings.
    pub(super) fn decode(&self) -> Result<ScanReport, Damage> {
        let coverage = &self.coverage;
        Ok(ScanReport {
            scanner: Scanner {
                name: self.scanner_name.to_owned(),
                version: self.scanner_version.map(ToOwned::to_owned),
            },
            scanned_at: self.scanned_at.decode()?,
            database_at: TimeRecord::decode_option(self.database_at)?,
            imported_at: self.imported_at.decode()?,
            binding: self.binding.into(),
            coverage: Coverage {
                classes: coverage.classes.iter().map(|&c| c.into()).collect(),
                ecosystems: coverage.ecosystems.iter().map(|&e| e.to_owned()).collect(),
                uncovered: coverage.uncovered.iter().map(|&e| e.to_owned()).collect(),
                distribution: coverage.distribution.map(ToOwned::to_owned),
                end_of_life: coverage.end_of_life,
            },
            findings: Vec::new(),
        })
    }
}
