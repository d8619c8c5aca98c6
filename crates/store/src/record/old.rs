//! Format 1, which is only read: a node that was upgraded still knows its images.
//!
//! A body is one [`VerdictRecord`] and, for each report, one [`ReportRecord`] followed by its
//! [`FindingRecord`]s. Each distinct text of the findings stands once, in a table in front.

use std::sync::Arc;

use portcullis_types::{Finding, ScanReport, Text, Verdict};
use serde::Deserialize;

use super::head::{ClassRecord, ImageRecord, ReportRecord, SeverityRecord, TimeRecord};
use super::{BEHIND, Entry, REPORTS, SHAPE, TOO_MANY};
use crate::{Damage, MAX_FINDINGS};

/// A finding takes at least this many bytes: one for each field.
const MIN_FINDING: usize = 15;

#[derive(Deserialize)]
struct VerdictRecord<'a> {
    #[serde(borrow)]
    image: ImageRecord<'a>,
    /// Each distinct text of the findings.
    texts: Vec<&'a str>,
    /// How many reports follow.
    reports: u32,
}

#[derive(Deserialize)]
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
#[derive(Clone, Copy, Deserialize)]
struct TextRecord(u32);

/// What a body of format 1 says.
///
/// That format had no order of findings and no dates: each report is put in order, and its
/// findings were first seen when it was imported.
///
/// Never panics and never allocates much more than a verdict within its bounds takes, whatever
/// the body is.
pub(super) fn decode(body: &[u8]) -> Result<Entry, Damage> {
    let mut body = Body(body);
    let record: VerdictRecord<'_> = body.next()?;
    if record.reports as usize > Verdict::MAX_REPORTS {
        return Err(Damage::Body(REPORTS));
    }
    let texts: Vec<Text> = record.texts.iter().map(|&text| text.into()).collect();
    let mut left = MAX_FINDINGS;
    let mut reports = Vec::with_capacity(record.reports as usize);
    for _ in 0..record.reports {
        reports.push(body.report(&texts, &mut left)?);
    }
    if !body.0.is_empty() {
        return Err(Damage::Body(BEHIND));
    }
    Ok(Entry::new(Verdict { image: record.image.decode()?, reports }))
}

/// What is left of a body while it is read.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn next<T: Deserialize<'a>>(&mut self) -> Result<T, Damage> {
        let (record, rest) = postcard::take_from_bytes(self.0).map_err(|_| Damage::Body(SHAPE))?;
        self.0 = rest;
        Ok(record)
    }

    /// The next report. `left` is how many findings there may still be.
    fn report(&mut self, texts: &[Text], left: &mut usize) -> Result<ScanReport, Damage> {
        let record: ReportRecord<'_> = self.next()?;
        let mut report = record.decode()?;
        let count = record.findings();
        *left = left
            .checked_sub(count)
            .filter(|_| count <= self.0.len() / MIN_FINDING)
            .ok_or(Damage::Body(TOO_MANY))?;
        report.findings.reserve_exact(count);
        for _ in 0..count {
            let finding = self.next::<FindingRecord>()?.decode(texts)?;
            let first_seen = Some(report.imported_at);
            report.findings.push(Arc::new(Finding { first_seen, ..finding }));
        }
        report.put_in_order();
        Ok(report)
    }
}

impl TextRecord {
    fn decode(self, texts: &[Text]) -> Result<Option<Text>, Damage> {
        let Some(index) = self.0.checked_sub(1) else {
            return Ok(None);
        };
        let text = texts.get(index as usize).ok_or(Damage::Body(super::NO_TEXT))?;
        Ok(Some(Arc::clone(text)))
    }

    fn decode_known(self, texts: &[Text]) -> Result<Text, Damage> {
        self.decode(texts)?.ok_or(Damage::Body(super::NO_ID))
    }
}

impl FindingRecord {
    fn decode(&self, texts: &[Text]) -> Result<Finding, Damage> {
        Ok(Finding {
            package: self.package.decode(texts)?,
            version: self.version.decode(texts)?,
            fixed_version: self.fixed_version.decode(texts)?,
            path: self.path.decode(texts)?,
            sha256: self.sha256.decode(texts)?,
            title: self.title.decode(texts)?,
            cvss: super::score(self.cvss).map_err(Damage::Body)?,
            epss: super::score(self.epss).map_err(Damage::Body)?,
            kev: self.kev,
            published: TimeRecord::decode_option(self.published)?,
            fixed: TimeRecord::decode_option(self.fixed)?,
            ..Finding::new(
                self.class.into(),
                self.id.decode_known(texts)?,
                self.severity.into(),
                self.source.decode_known(texts)?,
            )
        })
    }
}
