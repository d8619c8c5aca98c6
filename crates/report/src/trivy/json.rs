//! The part of Trivy's JSON that we read (aquasecurity/trivy `pkg/types/report.go`,
//! `SchemaVersion` 2), read as a stream.
//!
//! Unknown fields are passed over without being kept, however deep they nest: serde_json does that
//! without recursion, and no type that we read nests. A field that we need and that has another
//! type than it should is an error with its place; one that we can do without ([`Loose`]) is then
//! absent. Lists draw on a budget, so that a small file cannot become a large allocation.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use crate::text::{printable, shortened};

/// Longest text that is needed: the longest path that Linux opens.
const MAX_TEXT: usize = 4096;

/// Longest title that is kept, in bytes.
const MAX_TITLE: usize = 256;

/// Most entries of `Results`: one for each lock file, configuration file and file with a secret.
const MAX_RESULTS: usize = 100_000;

/// Most layers, tags and repository digests of an image.
const MAX_NAMES: usize = 1024;

/// Most sources of scores for one vulnerability.
const MAX_SOURCES: usize = 64;

/// A text that is short and printable.
#[derive(Debug, Default)]
pub(super) struct Text(pub(super) String);

/// A title: its first line, short and printable.
#[derive(Debug)]
pub(super) struct Title(pub(super) String);

/// A value that we can do without: absent if it has another type.
#[derive(Debug)]
pub(super) struct Loose<T>(pub(super) Option<T>);

impl<T> Default for Loose<T> {
    fn default() -> Self {
        Self(None)
    }
}

#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) schema_version: Option<u64>,
    pub(super) trivy: Option<Tool>,
    pub(super) created_at: Option<Text>,
    pub(super) artifact_name: Option<Text>,
    pub(super) metadata: Option<Metadata>,
    pub(super) results: Option<Vec<ResultEntry>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Tool {
    pub(super) version: Loose<Title>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Metadata {
    #[serde(rename = "OS")]
    pub(super) os: Option<Os>,
    #[serde(rename = "ImageID")]
    pub(super) image_id: Option<Text>,
    #[serde(rename = "DiffIDs")]
    pub(super) diff_ids: Names,
    pub(super) repo_tags: Names,
    pub(super) repo_digests: Names,
    pub(super) image_config: Option<ImageConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Os {
    pub(super) family: Option<Text>,
    pub(super) name: Option<Text>,
    #[serde(rename = "EOSL")]
    pub(super) end_of_life: Option<bool>,
}

/// The image configuration, in the OCI image specification's spelling.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ImageConfig {
    pub(super) rootfs: Option<RootFs>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RootFs {
    pub(super) diff_ids: Names,
}

#[derive(Debug, Default)]
pub(super) struct ResultEntry {
    pub(super) target: Option<Text>,
    pub(super) class: Option<Text>,
    pub(super) kind: Option<Text>,
    pub(super) vulnerabilities: Vec<Vulnerability>,
    pub(super) secrets: Vec<Secret>,
    pub(super) misconfigurations: Vec<Misconfiguration>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Vulnerability {
    #[serde(rename = "VulnerabilityID")]
    pub(super) id: Option<Text>,
    #[serde(rename = "PkgName")]
    pub(super) package: Option<Text>,
    #[serde(rename = "PkgPath")]
    pub(super) path: Option<Text>,
    pub(super) installed_version: Option<Text>,
    pub(super) fixed_version: Option<Text>,
    pub(super) severity: Option<Text>,
    pub(super) severity_source: Loose<Title>,
    pub(super) title: Loose<Title>,
    #[serde(rename = "CVSS")]
    pub(super) scores: Scores,
    pub(super) published_date: Loose<Title>,
}

/// A secret. What was found of it (`Match`, `Code`) is never read.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Secret {
    #[serde(rename = "RuleID")]
    pub(super) id: Option<Text>,
    pub(super) severity: Option<Text>,
    pub(super) title: Loose<Title>,
    pub(super) start_line: Loose<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Misconfiguration {
    #[serde(rename = "ID")]
    pub(super) id: Option<Text>,
    pub(super) severity: Option<Text>,
    pub(super) status: Option<Text>,
    pub(super) title: Loose<Title>,
}

/// CVSS base scores by source, of version 3 or, where a source has none, 4.
#[derive(Debug, Default)]
pub(super) struct Scores(pub(super) Vec<(String, f64)>);

/// A short list of texts; `null` is an empty one.
#[derive(Debug, Default)]
pub(super) struct Names(pub(super) Vec<Text>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl Visitor<'_> for TextVisitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text, E> {
                if text.len() > MAX_TEXT {
                    let length = text.len();
                    let message = format!("a text of {length} bytes, where {MAX_TEXT} may be");
                    return Err(E::custom(message));
                }
                Ok(Text(printable(text)))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// What [`Loose`] can hold.
trait Scalar: Sized {
    fn from_text(_: &str) -> Option<Self> {
        None
    }

    fn from_number(_: f64) -> Option<Self> {
        None
    }
}

impl Scalar for Title {
    fn from_text(text: &str) -> Option<Self> {
        Some(Self(shortened(text, MAX_TITLE)))
    }
}

impl Scalar for f64 {
    fn from_number(number: f64) -> Option<Self> {
        Some(number)
    }
}

impl<'de, T: Scalar> Deserialize<'de> for Loose<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LooseVisitor<T>(PhantomData<T>);
        impl<'de, T: Scalar> Visitor<'de> for LooseVisitor<T> {
            type Value = Loose<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_str<E>(self, text: &str) -> Result<Loose<T>, E> {
                Ok(Loose(T::from_text(text)))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Loose<T>, E> {
                Ok(Loose(T::from_number(number)))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Loose<T>, E> {
                Ok(Loose(T::from_number(number as f64)))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Loose<T>, E> {
                Ok(Loose(T::from_number(number as f64)))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Loose<T>, E> {
                Ok(Loose(None))
            }

            fn visit_unit<E>(self) -> Result<Loose<T>, E> {
                Ok(Loose(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Loose<T>, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Loose(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Loose<T>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Loose(None))
            }
        }
        deserializer.deserialize_any(LooseVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let budget = Budget::new(MAX_NAMES, "names or layers of an image");
        List::of(PhantomData, &budget).deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Scores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Score {
            #[serde(rename = "V3Score")]
            v3: Loose<f64>,
            #[serde(rename = "V40Score")]
            v4: Loose<f64>,
        }
        struct ScoresVisitor;
        impl<'de> Visitor<'de> for ScoresVisitor {
            type Value = Scores;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("scores by source")
            }

            fn visit_unit<E>(self) -> Result<Scores, E> {
                Ok(Scores::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scores, A::Error> {
                let mut scores = Vec::new();
                while let Some((Text(source), score)) = map.next_entry::<Text, Option<Score>>()? {
                    let score = score.unwrap_or_default();
                    let score = score.v3.0.or(score.v4.0);
                    if let Some(score) = score.filter(|s| (0.0..=10.0).contains(s)) {
                        scores.push((source, score));
                    }
                    if scores.len() > MAX_SOURCES {
                        return Err(A::Error::custom("too many sources of scores"));
                    }
                }
                Ok(Scores(scores))
            }
        }
        deserializer.deserialize_any(ScoresVisitor)
    }
}

/// How many elements lists may still have, together.
pub(super) struct Budget {
    left: Cell<usize>,
    limit: usize,
    of: &'static str,
}

impl Budget {
    pub(super) fn new(limit: usize, of: &'static str) -> Self {
        Self { left: Cell::new(limit), limit, of }
    }

    fn take<E: serde::de::Error>(&self) -> Result<(), E> {
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(E::custom(format!("more than {} {}", self.limit, self.of))),
        }
    }
}

/// Reads a list on a budget; `null` is an empty one.
struct List<'b, S> {
    element: S,
    budget: &'b Budget,
}

impl<'b, S> List<'b, S> {
    fn of(element: S, budget: &'b Budget) -> Self {
        Self { element, budget }
    }
}

impl<'de, S: DeserializeSeed<'de> + Copy> DeserializeSeed<'de> for List<'_, S> {
    type Value = Vec<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, S: DeserializeSeed<'de> + Copy> Visitor<'de> for List<'_, S> {
    type Value = Vec<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element_seed(self.element)? {
            self.budget.take()?;
            elements.push(element);
        }
        Ok(elements)
    }
}

/// Reads a whole report, whose findings are on the budget.
#[derive(Clone, Copy)]
pub(super) struct ReportSeed<'b>(pub(super) &'b Budget);

impl<'de> DeserializeSeed<'de> for ReportSeed<'_> {
    type Value = Report;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Report, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ReportSeed<'_> {
    type Value = Report;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a report")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Report, A::Error> {
        #[derive(Deserialize)]
        #[serde(field_identifier)]
        enum Field {
            SchemaVersion,
            Trivy,
            CreatedAt,
            ArtifactName,
            Metadata,
            Results,
            #[serde(other)]
            Other,
        }
        let mut report = Report::default();
        while let Some(field) = map.next_key()? {
            match field {
                Field::SchemaVersion => report.schema_version = map.next_value()?,
                Field::Trivy => report.trivy = map.next_value()?,
                Field::CreatedAt => report.created_at = map.next_value()?,
                Field::ArtifactName => report.artifact_name = map.next_value()?,
                Field::Metadata if report.metadata.is_some() => {
                    return Err(A::Error::duplicate_field("Metadata"));
                }
                Field::Metadata => report.metadata = map.next_value()?,
                Field::Results if report.results.is_some() => {
                    return Err(A::Error::duplicate_field("Results"));
                }
                Field::Results => {
                    let results = Budget::new(MAX_RESULTS, "results");
                    let list = List::of(ResultSeed(self.0), &results);
                    report.results = Some(map.next_value_seed(list)?);
                }
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(report)
    }
}

#[derive(Clone, Copy)]
struct ResultSeed<'b>(&'b Budget);

impl<'de> DeserializeSeed<'de> for ResultSeed<'_> {
    type Value = ResultEntry;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ResultEntry, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ResultSeed<'_> {
    type Value = ResultEntry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a result")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ResultEntry, A::Error> {
        #[derive(Deserialize)]
        #[serde(field_identifier)]
        enum Field {
            Target,
            Class,
            Type,
            Vulnerabilities,
            Secrets,
            Misconfigurations,
            #[serde(other)]
            Other,
        }
        let mut result = ResultEntry::default();
        while let Some(field) = map.next_key()? {
            match field {
                Field::Target => result.target = map.next_value()?,
                Field::Class => result.class = map.next_value()?,
                Field::Type => result.kind = map.next_value()?,
                // A list that comes twice counts twice: nothing that was found is dropped.
                Field::Vulnerabilities => {
                    let list = List::of(PhantomData, self.0);
                    result.vulnerabilities.extend(map.next_value_seed(list)?);
                }
                Field::Secrets => {
                    let list = List::of(PhantomData, self.0);
                    result.secrets.extend(map.next_value_seed(list)?);
                }
                Field::Misconfigurations => {
                    let list = List::of(PhantomData, self.0);
                    result.misconfigurations.extend(map.next_value_seed(list)?);
                }
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(result)
    }
}
