//! What no start reads: titles, and what is remembered of problems that are gone.

use std::collections::HashMap;
use std::sync::Arc;

use portcullis_types::{Finding, Text};
use serde::{Deserialize, Serialize};

use super::head::TimeRecord;
use super::{BEHIND, NO_TEXT, SHAPE, TOO_MANY};
use crate::seen::{Key, Vanished};
use crate::{Damage, MAX_FINDINGS};

#[derive(Serialize, Deserialize)]
struct RestRecord<'a> {
    /// Each distinct title.
    #[serde(borrow)]
    titles: Vec<&'a str>,
    /// Of each finding, one more than its title's place; 0 is none.
    numbers: Vec<u32>,
    /// Those that vanished first come first.
    vanished: Vec<VanishedRecord>,
}

#[derive(Serialize, Deserialize)]
struct VanishedRecord {
    key: Key,
    first_seen: TimeRecord,
}

/// The section for these findings and what is remembered. `None` if there is more than the format
/// can number.
pub(super) fn encode<'a>(
    findings: impl Iterator<Item = &'a Arc<Finding>>,
    vanished: &Vanished,
) -> Option<Vec<u8>> {
    let mut record = RestRecord { titles: Vec::new(), numbers: Vec::new(), vanished: Vec::new() };
    let mut known: HashMap<&str, u32> = HashMap::new();
    for finding in findings {
        let number = match finding.title.as_deref() {
            None => 0,
            Some(title) => match known.get(title) {
                Some(number) => *number,
                None => {
                    record.titles.push(title);
                    let number = u32::try_from(record.titles.len()).ok()?;
                    known.insert(title, number);
                    number
                }
            },
        };
        record.numbers.push(number);
    }
    let dates = vanished.iter();
    record.vanished =
        dates.map(|(key, time)| VanishedRecord { key, first_seen: time.into() }).collect();
    postcard::to_extend(&record, Vec::new()).ok()
}

/// The titles of a section and what it remembers.
pub(super) fn decode(section: &[u8]) -> Result<(Titles, Vanished), Damage> {
    let (record, rest): (RestRecord<'_>, _) =
        postcard::take_from_bytes(section).map_err(|_| Damage::Body(SHAPE))?;
    if !rest.is_empty() {
        return Err(Damage::Body(BEHIND));
    }
    if record.vanished.len() > MAX_FINDINGS {
        return Err(Damage::Body(TOO_MANY));
    }
    let titles = Titles {
        texts: record.titles.into_iter().map(Text::from).collect(),
        numbers: record.numbers.into_iter(),
    };
    let vanished = record.vanished.into_iter();
    let vanished = vanished.map(|v| Ok((v.key, v.first_seen.decode()?)));
    Ok((titles, vanished.collect::<Result<_, Damage>>()?))
}

/// The titles of the findings, one after the other.
pub(super) struct Titles {
    texts: Vec<Text>,
    numbers: std::vec::IntoIter<u32>,
}

impl Titles {
    /// The title of the next finding.
    pub(super) fn next(&mut self) -> Result<Option<Text>, &'static str> {
        let number = self.numbers.next().ok_or(SHAPE)?;
        let Some(place) = number.checked_sub(1) else {
            return Ok(None);
        };
        let title = self.texts.get(place as usize).ok_or(NO_TEXT)?;
        Ok(Some(Arc::clone(title)))
    }

    /// Whether no finding is left.
    pub(super) fn is_empty(&self) -> bool {
        self.numbers.len() == 0
    }
}
