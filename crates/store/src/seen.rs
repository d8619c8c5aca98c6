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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

#[cfg(test)]
mod tests {
    use portcullis_types::{Class, Severity};

    use super::*;

    #[test]
    fn each_part_of_a_key_counts_and_nothing_else() {
        let base = Finding::new(Class::Vulnerability, "A", Severity::High, "trivy");
        let text = |text: &str| Some(text.into());
        let different = [
            base.clone(),
            Finding { class: Class::Baseline, ..base.clone() },
            Finding { id: "B".into(), ..base.clone() },
            Finding { package: text("x"), ..base.clone() },
            Finding { version: text("x"), ..base.clone() },
            Finding { path: text("x"), ..base.clone() },
            Finding { package: text("x"), version: text("y"), ..base.clone() },
            Finding { package: text("xy"), ..base.clone() },
            Finding { package: text(""), ..base.clone() },
        ];
        let keys: HashSet<Key> = different.iter().map(Key::of).collect();
        assert_eq!(keys.len(), different.len());
        let same = Finding {
            severity: Severity::Low,
            source: "grype".into(),
            fixed_version: text("2"),
            ..base.clone()
        };
        assert_eq!(Key::of(&same), Key::of(&base));
    }

    /// Keys stand on disks, so they must be the same in each version of this program.
    #[test]
    fn a_key_is_the_one_that_was_written_before() {
        let finding = Finding {
            package: Some("p".into()),
            ..Finding::new(Class::Malware, "A", Severity::High, "trivy")
        };
        // Python: sha256(b'malware' + b''.join(bytes([t is not None]) + len(t or '').to_bytes(8,
        // 'little') + (t or '').encode() for t in ('A', 'p', None, None))).hexdigest()[:32]
        assert_eq!(Key::of(&finding), Key(0x7363_9740_deed_e0fc_c2e9_3e36_f1e7_987e));
    }

    #[test]
    fn what_vanished_first_is_forgotten_first() {
        let date = |n: usize| (Key(n as u128), Timestamp::UNIX_EPOCH);
        let vanished: Vanished = (0..MAX_FINDINGS + 2).map(date).collect();
        assert_eq!(vanished.iter().count(), MAX_FINDINGS);
        assert_eq!(vanished.iter().next(), Some(date(2)));
    }
}
