//! What the formats have in common in JSON, read without copies.
//!
//! Unknown fields are passed over without being kept. A field that is read and has another type
//! than it should is an error with its place.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::path::Path;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{MAX_NOTE, VexError, VexFormat};
use crate::text::shortened;

/// Longest text that is needed: the longest package URL that is read.
const MAX_TEXT: usize = 4096;

/// Parses a document or the part of it that a type describes.
pub(super) fn parse<'b, T: Deserialize<'b>>(json: &'b [u8], file: &Path) -> Result<T, VexError> {
    serde_json::from_slice(json).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let place = format!(" at line {line} column {column}");
        let what = shortened(text.strip_suffix(&place).unwrap_or(&text), 200);
        VexError::Malformed { file: file.to_owned(), line, column, what }
    })
}

/// A text that is not too long. It may still hold what drives a terminal.
#[derive(Debug, Default)]
pub(super) struct Word<'a>(Cow<'a, str>);

impl Deref for Word<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// The text of an optional field; an empty one counts as absent.
pub(super) fn word<'w>(word: &'w Option<Word<'_>>) -> Option<&'w str> {
    word.as_deref().filter(|word| !word.is_empty())
}

struct WordVisitor;

impl<'de> Visitor<'de> for WordVisitor {
    type Value = Word<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Word<'de>, E> {
        checked(text).map(|text| Word(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Word<'de>, E> {
        checked(text).map(|text| Word(Cow::Owned(text.to_owned())))
    }
}

fn checked<E: Error>(text: &str) -> Result<&str, E> {
    match text.len() {
        0..=MAX_TEXT => Ok(text),
        length => Err(E::custom(format!("a text of {length} bytes, where {MAX_TEXT} may be"))),
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Word<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(WordVisitor)
    }
}

/// A text for people, of any length: its first line, short and printable.
#[derive(Debug)]
pub(super) struct Note(String);

impl Note {
    /// The text, if there is one.
    pub(super) fn shared(&self) -> Option<portcullis_types::Text> {
        (!self.0.is_empty()).then(|| self.0.as_str().into())
    }
}

impl<'de> Deserialize<'de> for Note {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NoteVisitor;
        impl Visitor<'_> for NoteVisitor {
            type Value = Note;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Note, E> {
                Ok(Note(shortened(text, MAX_NOTE)))
            }
        }
        deserializer.deserialize_str(NoteVisitor)
    }
}

/// What older versions of a format write as a text, and newer ones as an object.
#[derive(Debug)]
pub(super) enum Either<'a, T> {
    Text(Word<'a>),
    Object(Box<T>),
}

impl<'de: 'a, 'a, T: Deserialize<'de>> Deserialize<'de> for Either<'a, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EitherVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for EitherVisitor<T> {
            type Value = Either<'de, T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or an object")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                WordVisitor.visit_borrowed_str(text).map(Either::Text)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                WordVisitor.visit_str(text).map(Either::Text)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                let object = T::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Either::Object(Box::new(object)))
            }
        }
        deserializer.deserialize_any(EitherVisitor(PhantomData))
    }
}

/// What tells the formats apart.
#[derive(Debug, Deserialize)]
pub(super) struct Probe<'a> {
    #[serde(borrow, rename = "@context")]
    context: Option<Contexts<'a>>,
    #[serde(borrow)]
    document: Option<CsafHead<'a>>,
    #[serde(borrow, rename = "bomFormat")]
    bom_format: Option<Word<'a>>,
    #[serde(borrow, rename = "$schema")]
    schema: Option<Word<'a>>,
}

#[derive(Debug, Deserialize)]
struct CsafHead<'a> {
    #[serde(borrow)]
    category: Option<Word<'a>>,
    #[serde(borrow)]
    csaf_version: Option<Word<'a>>,
}

/// JSON-LD allows one context or several.
#[derive(Debug)]
struct Contexts<'a>(Vec<Word<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Contexts<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContextsVisitor;
        impl<'de> Visitor<'de> for ContextsVisitor {
            type Value = Contexts<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a context or a list of them")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                WordVisitor.visit_borrowed_str(text).map(|word| Contexts(vec![word]))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                WordVisitor.visit_str(text).map(|word| Contexts(vec![word]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = list.next_element()? {
                    words.push(word);
                }
                Ok(Contexts(words))
            }
        }
        deserializer.deserialize_any(ContextsVisitor)
    }
}

const OPENVEX: &str = "https://openvex.dev/ns";

impl Probe<'_> {
    /// The format, or what the document is instead.
    pub(super) fn format(&self) -> Result<VexFormat, String> {
        if let Some(Contexts(contexts)) = &self.context {
            return contexts
                .iter()
                .find_map(|context| context.strip_prefix(OPENVEX))
                .ok_or_else(|| "has a context that is not OpenVEX's".to_owned())
                .and_then(openvex);
        }
        if let Some(head) = &self.document {
            return csaf(head);
        }
        let is_cyclonedx = word(&self.bom_format) == Some("CycloneDX")
            || word(&self.schema).is_some_and(|s| s.contains("cyclonedx.org/schema/"));
        match is_cyclonedx {
            true => Ok(VexFormat::CycloneDx),
            false => Err("is JSON, but no VEX document".to_owned()),
        }
    }
}

fn openvex(version: &str) -> Result<VexFormat, String> {
    let version = version.trim_matches('/').trim_start_matches('v');
    match version.is_empty() || ["0.0", "0.1", "0.2"].iter().any(|v| version.starts_with(v)) {
        true => Ok(VexFormat::OpenVex),
        false => Err(format!("is OpenVEX of the version \"{}\"", shortened(version, 40))),
    }
}

fn csaf(head: &CsafHead<'_>) -> Result<VexFormat, String> {
    let version = word(&head.csaf_version).unwrap_or("none");
    let category = word(&head.category).unwrap_or("none");
    if !version.starts_with("2.") {
        return Err(format!("is CSAF of the version \"{}\"", shortened(version, 40)));
    }
    match category {
        "csaf_vex" => Ok(VexFormat::Csaf),
        other => Err(format!("is CSAF of the category \"{}\"", shortened(other, 40))),
    }
}
