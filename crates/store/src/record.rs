//! How a verdict is written in the sections of its file: format 2; and how format 1 is read.
//!
//! | section | what | who reads it |
//! | --- | --- | --- |
//! | head | the image, each report without its findings | all, and lists read no more |
//! | findings | what a decision asks of each finding | each start |
//! | rest | titles, and the dates of problems that are gone | imports and people |

mod findings;
mod head;
mod old;
mod rest;

use std::sync::Arc;

use portcullis_types::Verdict;

use crate::frame::{Body, Part};
use crate::seen::Vanished;
use crate::{Annotate, Damage, Detail, Summary};
use head::HeadRecord;

const SHAPE: &str = "it does not have the format's shape";
const BEHIND: &str = "there are bytes behind its end";
const REPORTS: &str = "it has too many reports";
const TOO_MANY: &str = "it names more findings than it can hold";
const NO_TEXT: &str = "a finding names a text that is not there";
const NO_ID: &str = "a finding has no id or no source";
const NO_NUMBER: &str = "a score is not a number";

/// All that is kept about an image.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// What scanners found.
    pub(crate) verdict: Verdict,
    /// When problems that they do not name any more were first seen.
    pub(crate) vanished: Vanished,
}

impl Entry {
    /// An entry that remembers nothing beside its verdict.
    pub(crate) fn new(verdict: Verdict) -> Self {
        Self { verdict, vanished: Vanished::default() }
    }

    /// Puts each finding before `annotate`, and says whether that changed any.
    pub(crate) fn annotate(&mut self, annotate: Annotate<'_>) -> bool {
        let mut changed = false;
        for finding in self.verdict.reports.iter_mut().flat_map(|report| &mut report.findings) {
            changed |= annotate(Arc::make_mut(finding));
        }
        changed
    }
}

/// A score that was read. One that is not a number would meet no bound of any rule.
fn score(read: Option<f32>) -> Result<Option<f32>, &'static str> {
    match read {
        Some(score) if score.is_nan() => Err(NO_NUMBER),
        read => Ok(read),
    }
}

/// How much of a file must be read for this much detail.
pub(crate) fn part(detail: Detail) -> Part {
    match detail {
        Detail::Decision => Part::Findings,
        Detail::Full => Part::Rest,
    }
}

/// The sections for an entry. `None` if it has more than the format can number.
pub(crate) fn encode(entry: &Entry) -> Option<[Vec<u8>; 3]> {
    let Entry { verdict, vanished } = entry;
    let findings = || verdict.reports.iter().flat_map(|report| &report.findings);
    let head = postcard::to_extend(&HeadRecord::new(verdict)?, Vec::new()).ok()?;
    Some([head, findings::encode(findings)?, rest::encode(findings(), vanished)?])
}

/// The entry of a body that was opened as far as [`part`] says. With [`Detail::Decision`] it has
/// no titles and remembers nothing.
///
/// Never panics and never allocates much more than a verdict within its bounds takes, whatever
/// the body is.
pub(crate) fn decode(body: Body<'_>, detail: Detail) -> Result<Entry, Damage> {
    let [head, findings, rest] = match body {
        Body::First(body) => return old::decode(body),
        Body::Second(sections) => sections,
    };
    let (mut verdict, counts) = HeadRecord::read(head)?.decode()?;
    let (titles, vanished) = match detail {
        Detail::Decision => (None, Vanished::default()),
        Detail::Full => rest::decode(rest).map(|(titles, vanished)| (Some(titles), vanished))?,
    };
    let mut findings = findings::Reader::new(findings, titles).map_err(Damage::Body)?;
    for (report, count) in verdict.reports.iter_mut().zip(counts) {
        report.findings = findings.next(count).map_err(Damage::Body)?;
    }
    findings.end().map_err(Damage::Body)?;
    Ok(Entry { verdict, vanished })
}

/// The verdict of a body in short. Of the findings only the head is read.
pub(crate) fn summary(body: Body<'_>) -> Result<Summary, Damage> {
    match body {
        Body::First(body) => Ok(old::decode(body)?.verdict.into()),
        Body::Second([head, ..]) => HeadRecord::read(head)?.summary(),
    }
}

#[cfg(test)]
mod tests;
