//! How a verdict is written in the body of its file: format 1.
//!
//! The structs here are the format, apart from the types of the program, so that neither binds
//! the other. They are written with postcard: a specified encoding without names, that reads text
//! in place. A change of these structs is a new [`VERSION`](crate::frame::VERSION).
//!
//! A body is one [`VerdictRecord`] and, for each report, one [`ReportRecord`] followed by its
//! [`FindingRecord`]s, one after the other, so that each becomes a finding as it is read. Each
//! distinct text of the findings stands once, in a table in front, and they name it by number:
//! package names, versions, paths and sources come again and again.

use std::collections::HashMap;
use std::sync::Arc;

use portcullis_types::{
    Binding, Class, Coverage, Digest, Finding, ImageFacts, ScanReport, Scanner, Severity, Text,
    Timestamp, Verdict,
};
use serde::{Deserialize, Serialize};

use crate::{Damage, MAX_FINDINGS};

/// A finding takes at least this many bytes: one for each field.
const MIN_FINDING: usize = 15;

/// Most bytes of text that one verdict may unfold to: a table could otherwise repeat a long text
/// in each finding and turn a small file into a large allocation.
const MAX_TEXT: usize = 256 << 20;

#[derive(Serialize, Deserialize)]
struct VerdictRecord<'a> {
    #[serde(borrow)]
    image: ImageRecord<'a>,
    /// Each distinct text of the findings.
    texts: Vec<&'a str>,
    /// How many reports follow.
    reports: u32,
}

#[derive(Serialize, Deserialize)]
struct ImageRecord<'a> {
    config: DigestRecord<'a>,
    #[serde(borrow)]
    chain_id: Option<DigestRecord<'a>>,
    manifests: Vec<DigestRecord<'a>>,
    references: Vec<&'a str>,
}

/// A digest as `algorithm:hex`.
#[derive(Serialize, Deserialize)]
struct DigestRecord<'a>(std::borrow::Cow<'a, str>);

#[derive(Serialize, Deserialize)]
struct ReportRecord<'a> {
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
struct CoverageRecord<'a> {
    classes: Vec<ClassRecord>,
    #[serde(borrow)]
    ecosystems: Vec<&'a str>,
    uncovered: Vec<&'a str>,
    distribution: Option<&'a str>,
    end_of_life: bool,
}

#[derive(Serialize, Deserialize)]
struct FindingRecord {
    class: ClassRecord,
    severity: SeverityRecord,
    id: TextRecord,
    package: TextRecord,
    version: TextRecord,
    fixed_version: TextRecord,
    path: TextRecord,
    sha256: TextRecord,
    title: TextRecord,
    source: TextRecord,
    cvss: Option<f32>,
    epss: Option<f32>,
    kev: bool,
    published: Option<TimeRecord>,
    fixed: Option<TimeRecord>,
}

/// One more than the place in the table; 0 is no text.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct TextRecord(u32);

/// Time since 1970, UTC.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct TimeRecord {
    seconds: i64,
    nanoseconds: i32,
}

/// An enum of the types and its twin in the format, whose order is the format's own.
macro_rules! twin {
    ($record:ident, $of:ident { $($variant:ident),+ }) => {
        #[derive(Clone, Copy, Serialize, Deserialize)]
        enum $record { $($variant),+ }

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

twin!(BindingRecord, Binding { ByReport, ByImporter });
twin!(ClassRecord, Class { Vulnerability, Malware, Baseline, Secret, Workload, Authorization });
twin!(SeverityRecord, Severity { Critical, High, Medium, Low, Unknown });

/// The body for a verdict. `None` if it has more texts than the format can number.
pub(crate) fn encode(verdict: &Verdict) -> Option<Vec<u8>> {
    let mut table = Table::default();
    let mut reports = Vec::new();
    for report in &verdict.reports {
        append(&mut reports, &ReportRecord::new(report)?)?;
        for finding in &report.findings {
            append(&mut reports, &FindingRecord::new(finding, &mut table)?)?;
        }
    }
    let mut body = Vec::new();
    let record = VerdictRecord {
        image: (&verdict.image).into(),
        texts: table.texts,
        reports: u32::try_from(verdict.reports.len()).ok()?,
    };
    append(&mut body, &record)?;
    body.append(&mut reports);
    Some(body)
}

fn append(body: &mut Vec<u8>, record: &impl Serialize) -> Option<()> {
    *body = postcard::to_extend(record, std::mem::take(body)).ok()?;
    Some(())
}

/// The verdict of a body.
///
/// Never panics and never allocates much more than a verdict within its bounds takes, whatever
/// the body is.
pub(crate) fn decode(body: &[u8]) -> Result<Verdict, Damage> {
    let mut body = Body(body);
    let record: VerdictRecord<'_> = body.next()?;
    if record.reports as usize > Verdict::MAX_REPORTS {
        return Err(Damage::Body("it has too many reports"));
    }
    let mut bounds = Bounds { findings: MAX_FINDINGS, text: MAX_TEXT };
    let mut reports = Vec::with_capacity(record.reports as usize);
    for _ in 0..record.reports {
        reports.push(body.report(&record.texts, &mut bounds)?);
    }
    if !body.0.is_empty() {
        return Err(Damage::Body("there are bytes behind its end"));
    }
    Ok(Verdict { image: record.image.decode()?, reports })
}

/// What is left of a body while it is read.
struct Body<'a>(&'a [u8]);

/// What a verdict may still hold while it is read.
struct Bounds {
    findings: usize,
    text: usize,
}

impl<'a> Body<'a> {
    fn next<T: Deserialize<'a>>(&mut self) -> Result<T, Damage> {
        let (record, rest) = postcard::take_from_bytes(self.0)
            .map_err(|_| Damage::Body("it does not have the format's shape"))?;
        self.0 = rest;
        Ok(record)
    }

    fn report(&mut self, texts: &[&str], bounds: &mut Bounds) -> Result<ScanReport, Damage> {
        let record: ReportRecord<'_> = self.next()?;
        let count = record.findings as usize;
        bounds.findings = bounds
            .findings
            .checked_sub(count)
            .filter(|_| count <= self.0.len() / MIN_FINDING)
            .ok_or(Damage::Body("it names more findings than it can hold"))?;
        let mut findings = Vec::with_capacity(count);
        for _ in 0..count {
            let record: FindingRecord = self.next()?;
            findings.push(Arc::new(record.decode(texts, bounds)?));
        }
        record.decode(findings)
    }
}

/// The table while it is filled.
#[derive(Default)]
struct Table<'a> {
    texts: Vec<&'a str>,
    places: HashMap<&'a str, TextRecord>,
}

impl<'a> Table<'a> {
    fn put(&mut self, text: &'a str) -> Option<TextRecord> {
        if let Some(known) = self.places.get(text) {
            return Some(*known);
        }
        self.texts.push(text);
        let place = TextRecord(u32::try_from(self.texts.len()).ok()?);
        self.places.insert(text, place);
        Some(place)
    }

    fn put_option(&mut self, text: &'a Option<Text>) -> Option<TextRecord> {
        match text {
            Some(text) => self.put(text),
            None => Some(TextRecord(0)),
        }
    }
}

impl TextRecord {
    fn decode_option(self, texts: &[&str], bounds: &mut Bounds) -> Result<Option<Text>, Damage> {
        let Some(index) = self.0.checked_sub(1) else {
            return Ok(None);
        };
        let text = *texts
            .get(index as usize)
            .ok_or(Damage::Body("a finding names a text that is not there"))?;
        bounds.text = bounds
            .text
            .checked_sub(text.len())
            .ok_or(Damage::Body("it unfolds to too much text"))?;
        Ok(Some(text.into()))
    }

    fn decode(self, texts: &[&str], bounds: &mut Bounds) -> Result<Text, Damage> {
        self.decode_option(texts, bounds)?.ok_or(Damage::Body("a finding has no id or no source"))
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
    fn decode(self) -> Result<Timestamp, Damage> {
        Timestamp::new(self.seconds, self.nanoseconds)
            .map_err(|_| Damage::Body("a time is out of range"))
    }

    fn decode_option(time: Option<Self>) -> Result<Option<Timestamp>, Damage> {
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
    fn decode(&self) -> Result<ImageFacts, Damage> {
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

    fn decode(&self, findings: Vec<Arc<Finding>>) -> Result<ScanReport, Damage> {
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
            findings,
        })
    }
}

impl FindingRecord {
    fn new<'a>(finding: &'a Finding, table: &mut Table<'a>) -> Option<Self> {
        Some(Self {
            class: finding.class.into(),
            severity: finding.severity.into(),
            id: table.put(&finding.id)?,
            package: table.put_option(&finding.package)?,
            version: table.put_option(&finding.version)?,
            fixed_version: table.put_option(&finding.fixed_version)?,
            path: table.put_option(&finding.path)?,
            sha256: table.put_option(&finding.sha256)?,
            title: table.put_option(&finding.title)?,
            source: table.put(&finding.source)?,
            cvss: finding.cvss,
            epss: finding.epss,
            kev: finding.kev,
            published: finding.published.map(Into::into),
            fixed: finding.fixed.map(Into::into),
        })
    }

    fn decode(&self, texts: &[&str], bounds: &mut Bounds) -> Result<Finding, Damage> {
        Ok(Finding {
            class: self.class.into(),
            id: self.id.decode(texts, bounds)?,
            severity: self.severity.into(),
            package: self.package.decode_option(texts, bounds)?,
            version: self.version.decode_option(texts, bounds)?,
            fixed_version: self.fixed_version.decode_option(texts, bounds)?,
            path: self.path.decode_option(texts, bounds)?,
            aliases: Vec::new(),
            purl: None,
            first_seen: None,
            sha256: self.sha256.decode_option(texts, bounds)?,
            title: self.title.decode_option(texts, bounds)?,
            cvss: self.cvss,
            epss: self.epss,
            kev: self.kev,
            published: TimeRecord::decode_option(self.published)?,
            fixed: TimeRecord::decode_option(self.fixed)?,
            source: self.source.decode(texts, bounds)?,
        })
    }
}

#[cfg(test)]
mod tests;
