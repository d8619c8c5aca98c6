//! One advisory, as far as matching it and telling of it need.

use portcullis_types::Timestamp;
use serde::de::{DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most bytes of a record: the largest of all ecosystems have some 2 MB.
pub const MAX_RECORD: usize = 16 << 20;
/// Most bytes of an id; the longest that is known has 30.
const MAX_ID: usize = 128;

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Far larger than any.
    #[error("it has {0} bytes, and a record has at most {MAX_RECORD}")]
    TooLarge(usize),
    /// Not JSON, or not of the schema where it matters.
    #[error("it is not an OSV record")]
    Json(#[from] serde_json::Error),
    /// An id that cannot be one.
    #[error("it has no id that can be told")]
    Id,
}

/// An advisory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Advisory {
    /// Its id, for example `GO-2024-2687`.
    pub id: String,
    /// Other names of the same problem.
    #[serde(default, deserialize_with = "or_default")]
    pub aliases: Vec<String>,
    /// What a distribution's advisory passes on: names of problems, not of this record.
    #[serde(default, deserialize_with = "or_default")]
    pub upstream: Vec<String>,
    /// Closely related; AlmaLinux puts the CVEs of its advisories here.
    #[serde(default, deserialize_with = "or_default")]
    pub related: Vec<String>,
    /// When it was changed last.
    #[serde(default, deserialize_with = "lenient")]
    pub modified: Option<Timestamp>,
    /// When it was published.
    #[serde(default, deserialize_with = "lenient")]
    pub published: Option<Timestamp>,
    /// Since when it does not hold any more.
    #[serde(default, deserialize_with = "lenient")]
    pub withdrawn: Option<Timestamp>,
    /// One line.
    #[serde(default, deserialize_with = "or_default")]
    pub summary: String,
    /// How bad it is, for all packages that have none of their own.
    #[serde(default, deserialize_with = "or_default")]
    pub severity: Vec<Severity>,
    /// How bad it is in the source's own word, as many databases give it beside the schema:
    /// `HIGH`, `not yet assigned`.
    #[serde(
        default,
        rename = "database_specific",
        with = "rating",
        skip_serializing_if = "Option::is_none"
    )]
    pub rating: Option<String>,
    /// What is affected.
    #[serde(default, deserialize_with = "or_default")]
    pub affected: Vec<Affected>,
}

/// A score or a word for how bad it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Severity {
    /// What the score is.
    #[serde(rename = "type")]
    pub kind: SeverityKind,
    /// A CVSS vector, or a distribution's word.
    pub score: String,
}

/// What a score is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum SeverityKind {
    /// A vector of CVSS 2.
    #[serde(rename = "CVSS_V2")]
    CvssV2,
    /// A vector of CVSS 3.0 or 3.1.
    #[serde(rename = "CVSS_V3")]
    CvssV3,
    /// A vector of CVSS 4.
    #[serde(rename = "CVSS_V4")]
    CvssV4,
    /// Ubuntu's own word.
    Ubuntu,
    /// Something that did not exist when this was written.
    #[serde(other)]
    Other,
}

/// One package, and which of its versions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Affected {
    /// The package; records of source code alone have none.
    #[serde(default, deserialize_with = "or_default")]
    pub package: Package,
    /// Ranges of versions. Those of Git commits are left out.
    #[serde(default, deserialize_with = "ranges")]
    pub ranges: Vec<Range>,
    /// Single versions.
    #[serde(default, deserialize_with = "or_default")]
    pub versions: Vec<String>,
    /// How bad it is for this package.
    #[serde(default, deserialize_with = "or_default")]
    pub severity: Vec<Severity>,
    /// How bad it is for this package, in the distribution's own word (Debian's and Alpaquita's
    /// `urgency`, others' `severity`).
    #[serde(
        default,
        rename = "ecosystem_specific",
        with = "rating",
        skip_serializing_if = "Option::is_none"
    )]
    pub rating: Option<String>,
}

/// A package of an ecosystem.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Package {
    /// Ecosystem, with a release where it has some: `Debian:12`.
    #[serde(default, deserialize_with = "or_default")]
    pub ecosystem: String,
    /// Name, as the ecosystem writes it.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
}

/// Versions between events. Written as one of the kind that the ecosystem's order decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename = "ECOSYSTEM")]
pub struct Range {
    /// In the order of the record.
    pub events: Vec<Event>,
}

/// Where something begins or ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Affected from here on; `0` is before all versions.
    Introduced(String),
    /// Not any more from here on.
    Fixed(String),
    /// Affected up to and with this one.
    LastAffected(String),
    /// What the record says holds only before this one.
    Limit(String),
}

impl Advisory {
    /// Reads a record.
    ///
    /// # Errors
    /// [`RecordError`]: it is too large, not of the schema, or has no id.
    pub fn read(json: &[u8]) -> Result<Self, RecordError> {
        if json.len() > MAX_RECORD {
            return Err(RecordError::TooLarge(json.len()));
        }
        let mut advisory: Self = serde_json::from_slice(json)?;
        if !is_id(&advisory.id) {
            return Err(RecordError::Id);
        }
        for list in [&mut advisory.aliases, &mut advisory.upstream, &mut advisory.related] {
            list.retain(|id| is_id(id));
        }
        Ok(advisory)
    }
}

/// Whether it can be the id of a record: it is told, and written into names of files.
fn is_id(text: &str) -> bool {
    let is_part =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    (1..=MAX_ID).contains(&text.len()) && text.bytes().all(is_part) && !text.starts_with('.')
}

/// `null` is the same as nothing.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The word for how bad something is, within an object that may hold anything.
mod rating {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    /// Most bytes of a word.
    const MAX_WORD: usize = 40;

    #[derive(Serialize)]
    struct Written<'a> {
        severity: &'a Option<String>,
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<String>, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let word = |key: &str| value.get(key).and_then(Value::as_str);
        let word = word("severity").or_else(|| word("urgency"));
        Ok(word.filter(|w| (1..=MAX_WORD).contains(&w.len())).map(ToOwned::to_owned))
    }

    #[expect(clippy::ref_option, reason = "as serde calls it")]
    pub(super) fn serialize<S: Serializer>(
        word: &Option<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        Written { severity: word }.serialize(serializer)
    }
}

/// What cannot be read is not there.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).ok())
}

fn ranges<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Range>, D::Error> {
    /// A range as it stands there.
    #[derive(Deserialize)]
    struct Raw {
        #[serde(rename = "type")]
        kind: String,
        #[serde(default, deserialize_with = "or_default")]
        events: Vec<RawEvent>,
    }
    /// An event should have one member; each of them is one.
    #[derive(Deserialize)]
    struct RawEvent {
        introduced: Option<String>,
        fixed: Option<String>,
        last_affected: Option<String>,
        limit: Option<String>,
    }
    let raw: Vec<Raw> = or_default(deserializer)?;
    let of_versions = raw.into_iter().filter(|range| range.kind != "GIT");
    let range = |raw: Raw| {
        let events = raw.events.into_iter().flat_map(|event| {
            [
                event.introduced.map(Event::Introduced),
                event.fixed.map(Event::Fixed),
                event.last_affected.map(Event::LastAffected),
                event.limit.map(Event::Limit),
            ]
        });
        Range { events: events.flatten().collect() }
    };
    Ok(of_versions.map(range).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Advisory, RecordError> {
        Advisory::read(json.as_bytes())
    }

    #[test]
    fn what_matters_of_a_record_is_read() {
        let advisory = read(
            r#"{ "schema_version": "1.7.0", "id": "TEST-2026-1", "aliases": ["CVE-2026-1", "a b"],
            "modified": "2026-01-02T03:04:05Z", "withdrawn": null, "published": "yesterday",
            "related": null, "upstream": ["CVE-2026-2"], "details": 7, "summary": "One line.",
            "database_specific": { "severity": "HIGH", "x": {} },
            "severity": [{ "type": "CVSS_V3", "score": "CVSS:3.1/AV:N" }, { "type": "New", "score": "x" }],
            "affected": [{
                "package": { "ecosystem": "Debian:12", "name": "a", "purl": 5 },
                "ranges": [
                    { "type": "GIT", "repo": "r", "events": [{ "introduced": "0" }] },
                    { "type": "ECOSYSTEM", "events": [{ "introduced": "0" }, { "fixed": "1.2-3" },
                      { "introduced": "2", "last_affected": "3" }, { "limit": "4" }, {}] }
                ],
                "versions": ["1.0"], "ecosystem_specific": { "any": [1], "urgency": "low" }
            }, { "ranges": null }] }"#,
        )
        .unwrap();
        assert_eq!(
            (advisory.id.as_str(), &*advisory.aliases),
            ("TEST-2026-1", &["CVE-2026-1".to_owned()][..])
        );
        assert_eq!(advisory.modified.unwrap().to_string(), "2026-01-02T03:04:05Z");
        assert_eq!((advisory.published, advisory.withdrawn), (None, None));
        assert_eq!(advisory.severity[0].kind, SeverityKind::CvssV3);
        assert_eq!(advisory.severity[1].kind, SeverityKind::Other);
        assert_eq!(advisory.affected.len(), 2);
        let affected = &advisory.affected[0];
        assert_eq!(affected.package.name, "a");
        assert_eq!(affected.versions, ["1.0"]);
        assert_eq!(
            (advisory.rating.as_deref(), affected.rating.as_deref()),
            (Some("HIGH"), Some("low"))
        );
        let text = |text: &str| text.to_owned();
        let events = vec![
            Event::Introduced(text("0")),
            Event::Fixed(text("1.2-3")),
            Event::Introduced(text("2")),
            Event::LastAffected(text("3")),
            Event::Limit(text("4")),
        ];
        assert_eq!(affected.ranges, [Range { events }]);
        let written = serde_json::to_vec(&advisory).unwrap();
        assert_eq!(Advisory::read(&written).unwrap(), advisory);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for json in [
            "",
            "[]",
            "{}",
            r#"{"id": ""}"#,
            r#"{"id": 5}"#,
            r#"{"id": "a/../b"}"#,
            r#"{"id": "a b"}"#,
            r#"{"id": ".a"}"#,
            r#"{"id": "A", "affected": [{"ranges": [{"events": []}]}]}"#,
            r#"{"id": "A", "affected": [{"ranges": [{"type": "SEMVER", "events": [{"fixed": 1}]}]}]}"#,
            r#"{"id": "A", "affected": [{"versions": "1"}]}"#,
        ] {
            assert!(read(json).is_err(), "{json}");
        }
        let long = format!(r#"{{"id": "A", "summary": "{}"}}"#, "x".repeat(MAX_RECORD));
        assert!(matches!(read(&long), Err(RecordError::TooLarge(_))));
    }
}
