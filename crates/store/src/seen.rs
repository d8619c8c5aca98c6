//! When each problem of an image was first seen, so that a grace period is counted from there.
//!
//! A date is that of the first report in which this node heard of the problem. It outlives the
//! report: one that is replaced, one that another scanner repeats, and one from which the problem
//! vanishes for a while. Otherwise a scanner whose database flaps would start the grace period
//! again each time. It goes with the verdict, when that is removed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use portcullis_types::{Digest, Finding, ScanReport, Timestamp, Verdict};
use serde::{Deserialize, Serialize};

use crate::MAX_FINDINGS;

/// A problem in short: half of the SHA-256 of its [`FindingKey`](portcullis_types::FindingKey), so
/// that nobody can make two that are taken for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Key(u128);

impl Key {
    pub(crate) fn of(finding: &Finding) -> Self {
        let key = finding.key();
        let mut bytes = key.class.as_str().as_bytes().to_vec();
        for text in [Some(key.id), key.package, key.version, key.path] {
            bytes.push(u8::from(text.is_some()));
            let text = text.unwrap_or_default();
            bytes.extend((text.len() as u64).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        // The digits are hexadecimal, and thirty-two of them fit.
        Self(u128::from_str_radix(&Digest::of(&bytes).hex()[..32], 16).unwrap_or_default())
    }
}

/// Dates of problems that no report names any more. Those that vanished first come first.
///
/// There are at most [`MAX_FINDINGS`]; what vanished longest ago is forgotten first. That is safe:
/// a problem comes back at once or after a few scans if a database flaps, not after so many others
/// have vanished; and one that does is still found and still counts, only its grace period begins
/// anew. Whoever may import that many reports may also remove the verdict.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Vanished(VecDeque<(Key, Timestamp)>);

impl Vanished {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, Timestamp)> {
        self.0.iter().copied()
    }
}

impl FromIterator<(Key, Timestamp)> for Vanished {
    /// Keeps the last [`MAX_FINDINGS`].
    fn from_iter<I: IntoIterator<Item = (Key, Timestamp)>>(dates: I) -> Self {
        let mut vanished: VecDeque<_> = dates.into_iter().collect();
        vanished.drain(..vanished.len().saturating_sub(MAX_FINDINGS));
        Self(vanished)
    }
}

/// The earliest date of each problem that was ever reported of an image.
pub(crate) struct Dates {
    earliest: HashMap<Key, Timestamp>,
    /// Those that are gone already come first.
    order: Vec<Key>,
}

impl Dates {
    /// What is known before and from this report.
    pub(crate) fn new(vanished: &Vanished, verdict: &Verdict, report: &ScanReport) -> Self {
        let mut dates = Self { earliest: HashMap::new(), order: Vec::new() };
        for (key, date) in vanished.iter() {
            dates.add(key, date);
        }
        for report in &verdict.reports {
            for finding in &report.findings {
                dates.add(Key::of(finding), finding.first_seen.unwrap_or(report.imported_at));
            }
        }
        // What the report says of this itself was seen elsewhere.
        for finding in &report.findings {
            dates.add(Key::of(finding), report.imported_at);
        }
        dates
    }

    fn add(&mut self, key: Key, date: Timestamp) {
        let earliest = self.earliest.entry(key).or_insert_with(|| {
            self.order.push(key);
            date
        });
        *earliest = date.min(*earliest);
    }

    /// Dates the findings, and returns what is left.
    pub(crate) fn give_to(self, verdict: &mut Verdict) -> Vanished {
        let mut standing = HashSet::new();
        for finding in verdict.reports.iter_mut().flat_map(|report| &mut report.findings) {
            let key = Key::of(finding);
            standing.insert(key);
            let date = self.earliest.get(&key).copied();
            if finding.first_seen != date {
                Arc::make_mut(finding).first_seen = date;
            }
        }
        let gone = self.order.iter().filter(|key| !standing.contains(key));
        gone.filter_map(|key| Some((*key, *self.earliest.get(key)?))).collect()
    }
}
