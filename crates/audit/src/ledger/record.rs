//! One record: an event and its place in the chain, as one line of JSON. `docs/ledger.md` has the
//! format.
//!
//! A line ends with its own hash, so that the very last one can be checked too; and it begins with
//! the hash of the line before, so that no line can be changed, dropped, moved or put in without
//! its neighbour telling.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use portcullis_types::Event;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// The last number of a record: what `jq` and JavaScript still count exactly.
const MAX_SEQ: u64 = 1 << 53;
/// Before and after the hash that ends a line.
const HASH_OPENS: &[u8] = b",\"hash\":\"";
const HASH_CLOSES: &[u8] = b"\"}";
const HEX: usize = 64;

/// How far the clock may be behind before it counts as set back; records are written out of order
/// by less.
pub(super) const TOLERANCE: SignedDuration = SignedDuration::from_mins(1);
/// How far ahead of the clock expiry may be judged, and how much a record may raise the mark.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// SHA-256 of a record: over its line up to the field `hash`. Written as 64 lowercase hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordHash([u8; 32]);

/// A text that is not 64 lowercase hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a record's hash is 64 lowercase hex digits")]
pub struct NotAHash;

impl RecordHash {
    /// Stands before the first record.
    pub(super) const ZERO: Self = Self([0; 32]);

    /// The SHA-256 of some bytes.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let (pairs, []) = text.as_chunks::<2>() else { return None };
        let mut bytes = [0; 32];
        if pairs.len() != bytes.len() {
            return None;
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RecordHash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        Self::parse(text.as_bytes()).ok_or(NotAHash)
    }
}

impl Serialize for RecordHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RecordHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The end of the chain at some time: whoever knows it can tell a ledger that was cut since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Head {
    /// Number of the last record, from 1.
    pub seq: u64,
    /// Its hash.
    pub hash: RecordHash,
}

/// The bytes that a marker closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Torn {
    /// How many, without the newline that ends them.
    pub(super) bytes: u64,
    /// Their SHA-256.
    pub(super) sha256: RecordHash,
}

impl Torn {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, sha256: RecordHash::of(bytes) }
    }
}

/// What the chain adds to an event.
#[derive(Debug, Serialize)]
pub(super) struct Chain {
    /// The record's number, from 1.
    pub(super) seq: u64,
    /// The hash of the record before.
    pub(super) prev: RecordHash,
    /// The latest time that the ledger has seen; see [`Marks::after`].
    pub(super) latest: Timestamp,
    /// For a marker: what it closes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) torn: Option<Torn>,
}

/// What a record says of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    /// The record's own time.
    time: Timestamp,
    /// The latest time that the ledger had seen then.
    latest: Timestamp,
}

impl Marks {
    /// What the record of `time` says after this one, or as the first.
    ///
    /// The mark never falls, and a record raises it by a day at most: one record of a clock that
    /// was a year ahead does not keep the mark a year ahead. A node that was off for a month comes
    /// up to the clock within thirty records.
    pub(super) fn after(before: Option<Self>, time: Timestamp) -> Self {
        let latest = match before {
            None => time,
            Some(before) => before.latest.max(time.min(later(before.latest))),
        };
        Self { time, latest }
    }

    pub(super) fn latest(self) -> Timestamp {
        self.latest
    }

    /// The latest time that is known of.
    pub(super) fn high(self) -> Timestamp {
        self.latest.max(self.time)
    }

    /// The clock stood behind already when this was written.
    pub(super) fn is_behind(self) -> bool {
        ahead(self.latest, self.time)
    }

    /// The clock has been set back since this was written.
    pub(super) fn ahead_of(self, clock: Timestamp) -> bool {
        ahead(self.high(), clock)
    }

    /// The time by which expiry is judged.
    pub(super) fn judged(self, clock: Timestamp) -> Timestamp {
        if self.ahead_of(clock) { self.high().min(later(clock)) } else { clock }
    }
}

fn ahead(high: Timestamp, clock: Timestamp) -> bool {
    high.duration_since(clock) > TOLERANCE
}

fn later(time: Timestamp) -> Timestamp {
    time.checked_add(DAY).unwrap_or(Timestamp::MAX)
}

/// What a line turned out to be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Line {
    /// A record that is as it was written.
    Record(Record),
    /// It ends like a record, and its bytes do not give its hash.
    Changed,
    /// No record of the chain.
    Foreign,
}

/// A record that is as it was written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    pub(super) head: Head,
    pub(super) prev: RecordHash,
    pub(super) torn: Option<Torn>,
    pub(super) marks: Marks,
}

/// Looks at one line, without its newline.
pub(super) fn line(line: &[u8]) -> Line {
    #[derive(Deserialize)]
    struct Fields {
        seq: u64,
        prev: RecordHash,
        latest: Timestamp,
        time: Timestamp,
        torn: Option<Torn>,
    }
    let Some((body, hash)) = unseal(line) else { return Line::Foreign };
    if RecordHash::of(body) != hash {
        return Line::Changed;
    }
    match serde_json::from_slice(line) {
        Ok(Fields { seq, prev, latest, time, torn }) if (1..MAX_SEQ).contains(&seq) => {
            let marks = Marks { time, latest };
            Line::Record(Record { head: Head { seq, hash }, prev, torn, marks })
        }
        _ => Line::Foreign,
    }
}

/// The line of a record, without its newline, and its hash.
pub(super) fn encode(
    chain: &Chain,
    event: &Event,
) -> Result<(Vec<u8>, RecordHash), serde_json::Error> {
    #[derive(Serialize)]
    struct Written<'a> {
        #[serde(flatten)]
        chain: &'a Chain,
        #[serde(flatten)]
        event: &'a Event,
    }
    Ok(seal(serde_json::to_vec(&Written { chain, event })?))
}

/// The number after, if there is one.
pub(super) fn next(seq: u64) -> Option<u64> {
    (seq + 1 < MAX_SEQ).then_some(seq + 1)
}

/// The event of a line: of a record that is as it was written, or from before the chain.
pub(super) fn event(bytes: &[u8]) -> Option<Event> {
    match line(bytes) {
        Line::Record(_) => serde_json::from_slice(bytes).ok(),
        Line::Changed => None,
        Line::Foreign => unchained(bytes),
    }
}

/// The event of a line that was written before there was a chain: it has none of its fields.
pub(super) fn unchained(bytes: &[u8]) -> Option<Event> {
    #[derive(Deserialize)]
    struct Fields {
        seq: Option<IgnoredAny>,
        prev: Option<IgnoredAny>,
        latest: Option<IgnoredAny>,
        hash: Option<IgnoredAny>,
    }
    let event = serde_json::from_slice(bytes).ok()?;
    let fields: Fields = serde_json::from_slice(bytes).ok()?;
    let chained = fields.seq.is_some()
        || fields.prev.is_some()
        || fields.latest.is_some()
        || fields.hash.is_some();
    (!chained).then_some(event)
}

/// Ends the text of a JSON object, which has a field, with the hash of all before it.
pub(super) fn seal(mut object: Vec<u8>) -> (Vec<u8>, RecordHash) {
    let closed = object.pop();
    debug_assert_eq!(closed, Some(b'}'), "only objects are sealed");
    let hash = RecordHash::of(&object);
    object.extend_from_slice(HASH_OPENS);
    object.extend_from_slice(hash.to_string().as_bytes());
    object.extend_from_slice(HASH_CLOSES);
    (object, hash)
}

/// What a hash at the end of a line is about, and the hash; not compared yet.
pub(super) fn unseal(line: &[u8]) -> Option<(&[u8], RecordHash)> {
    let rest = line.strip_suffix(HASH_CLOSES)?;
    let (rest, hash) = rest.split_at_checked(rest.len().checked_sub(HEX)?)?;
    Some((rest.strip_suffix(HASH_OPENS)?, RecordHash::parse(hash)?))
}
