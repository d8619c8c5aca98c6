//! Reading others' JSON as a stream: what all importers share.
//!
//! Unknown members are passed over without being kept, however deep they nest: serde_json does that
//! without recursion. A member that we need and that has another type than it should is an error
//! with its place; one that we can do without ([`Loose`]) is then absent. Lists draw on a budget,
//! so that a small file cannot become a large allocation.

use std::cell::Cell;
use std::fmt;
use std::io::{BufRead, Read};
use std::marker::PhantomData;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use crate::input::Bounded;
use crate::text::{printable, shortened};
use crate::{Limits, ReportError};

/// Longest text that is needed: the longest path that Linux opens.
const MAX_TEXT: usize = 4096;

/// Longest title that is kept, in bytes.
const MAX_TITLE: usize = 256;

/// Most elements of a list that is short in every honest report: names of an image, its layers,
/// other ids of a vulnerability, its scores.
const MAX_FEW: usize = 1024;

/// Most elements of the long lists beside the findings: results, rules, components.
const MAX_ENTRIES: usize = 200_000;

/// Most elements of the lists that findings have, where those are kept.
const MAX_DETAILS: usize = 2_000_000;

/// A text that is short and printable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Text(pub(crate) String);

/// A title: its first line, short and printable.
#[derive(Debug)]
pub(crate) struct Title(pub(crate) String);

/// The beginning of a text of several lines, as it is: its lines are made printable by whoever
/// keeps them.
#[derive(Debug)]
pub(crate) struct Lines(pub(crate) String);

/// A value that we can do without: absent if it has another type.
#[derive(Debug)]
pub(crate) struct Loose<T>(pub(crate) Option<T>);

/// Bytes that are written in base64, for [`Loose`].
#[derive(Debug)]
pub(crate) struct Base64(pub(crate) Vec<u8>);

/// The names of an object's members, for [`Loose`].
#[derive(Debug)]
pub(crate) struct Keys(pub(crate) Vec<Text>);

/// The texts of a list, for [`Loose`]: what is none, or is one too many, is left out.
#[derive(Debug)]
pub(crate) struct Texts(pub(crate) Vec<Text>);

/// The members of an object, for [`Loose`].
#[derive(Debug)]
pub(crate) struct Fields<T>(pub(crate) T);

/// An object that we can do without: absent if something else stands there.
pub(crate) type Object<T> = Loose<Fields<T>>;

/// A list of at most [`MAX_FEW`] elements; `null` is an empty one.
#[derive(Debug)]
pub(crate) struct Few<T>(pub(crate) Vec<T>);

/// How many elements a list has that is not kept; 0 where something else stands.
#[derive(Debug, Default)]
pub(crate) struct Count(pub(crate) usize);

/// A short list of names.
pub(crate) type Names = Few<Text>;

impl<T> Default for Loose<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Object<T> {
    pub(crate) fn fields(self) -> Option<T> {
        self.0.map(|Fields(fields)| fields)
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_ref().map(|Fields(fields)| fields)
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// A text that is there and not empty.
pub(crate) fn some(text: Option<&Text>) -> Option<&str> {
    text.map(|Text(text)| text.as_str()).filter(|t| !t.is_empty())
}

/// A title that is there and not empty.
pub(crate) fn title(title: Loose<Title>) -> Option<String> {
    title.0.map(|Title(title)| title).filter(|t| !t.is_empty())
}

/// A base score of CVSS, which is 0 to 10.
pub(crate) fn base_score(score: &Loose<f64>) -> Option<f32> {
    score.0.filter(|s| (0.0..=10.0).contains(s)).map(|s| s as f32)
}

/// A probability, which is 0 to 1.
pub(crate) fn probability(value: &Loose<f64>) -> Option<f32> {
    value.0.filter(|p| (0.0..=1.0).contains(p)).map(|p| p as f32)
}

/// Reads one JSON document.
pub(crate) fn read<T: Budgeted>(
    input: impl Read,
    file: &Path,
    limits: &Limits,
) -> Result<T, ReportError> {
    let mut input = Bounded::new(input, limits.bytes);
    check_start(&mut input, file)?;
    let budgets = Budgets::new(limits);
    let mut json = serde_json::Deserializer::from_reader(&mut input);
    let parsed = T::read(&budgets, &mut json).and_then(|read| json.end().map(|()| read));
    // A report that goes on past the limit looks cut off to the parser.
    if input.is_exhausted() {
        return Err(ReportError::TooLarge {
            file: file.to_owned(),
            size: None,
            limit: limits.bytes,
        });
    }
    parsed.map_err(|error| json_error(error, file))
}

/// Says what a file is that cannot be JSON, and passes over a byte order mark.
pub(crate) fn check_start(input: &mut Bounded<impl Read>, file: &Path) -> Result<(), ReportError> {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let start = input
        .fill_buf()
        .map_err(|source| ReportError::Unreadable { file: file.to_owned(), source })?;
    let what = match start {
        [] => {
            let file = file.to_owned();
            return Err(ReportError::Empty { file });
        }
        // PowerShell's `>` writes UTF-16.
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "is UTF-16 and not UTF-8",
        [0x1f, 0x8b, ..] => "is compressed (gzip)",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "is compressed (zstd)",
        [b'P', b'K', ..] => "is compressed (zip)",
        _ => {
            let marked = start.starts_with(BYTE_ORDER_MARK);
            let skipped = if marked { BYTE_ORDER_MARK.len() } else { 0 };
            match start[skipped..].iter().find(|b| !b.is_ascii_whitespace()) {
                None | Some(b'{') => {
                    input.consume(skipped);
                    return Ok(());
                }
                Some(b'<') => "is XML or HTML and not JSON",
                Some(_) => "is not a JSON object",
            }
        }
    };
    Err(ReportError::UnknownFormat { file: file.to_owned(), what: what.to_owned() })
}

/// What is wrong with a document, and where.
pub(crate) fn json_error(error: serde_json::Error, file: &Path) -> ReportError {
    let file = file.to_owned();
    if error.is_io() {
        let source = error.into();
        return ReportError::Unreadable { file, source };
    }
    let (line, column, what) = place(&error);
    ReportError::Malformed { file, line, column, what }
}

/// Line, column and the rest of an error's text.
pub(crate) fn place(error: &serde_json::Error) -> (usize, usize, String) {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let place = format!(" at line {line} column {column}");
    (line, column, shortened(text.strip_suffix(&place).unwrap_or(&text), 200))
}

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

/// What [`Loose`] can hold: each kind of value is absent unless said otherwise.
pub(crate) trait Kind: Sized {
    fn from_text(_: &str) -> Option<Self> {
        None
    }

    fn from_number(_: f64) -> Option<Self> {
        None
    }

    fn from_list<'de, A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        pass_list(list)?;
        Ok(None)
    }

    fn from_object<'de, A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

impl<T: DeserializeOwned> Kind for Fields<T> {
    fn from_object<'de, A: MapAccess<'de>>(map: A) -> Result<Option<Self>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|fields| Some(Self(fields)))
    }
}

impl Kind for Title {
    fn from_text(text: &str) -> Option<Self> {
        Some(Self(shortened(text, MAX_TITLE)))
    }
}

impl Kind for Text {
    fn from_text(text: &str) -> Option<Self> {
        (text.len() <= MAX_TEXT).then(|| Self(printable(text)))
    }
}

impl Kind for Lines {
    fn from_text(text: &str) -> Option<Self> {
        let end = (0..=MAX_TEXT.min(text.len())).rev().find(|&at| text.is_char_boundary(at))?;
        Some(Self(text[..end].to_owned()))
    }
}

impl Kind for Base64 {
    fn from_text(text: &str) -> Option<Self> {
        BASE64_STANDARD.decode(text).ok().map(Self)
    }
}

impl Kind for Texts {
    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut texts = Vec::new();
        while let Some(Loose(text)) = list.next_element::<Loose<Text>>()? {
            texts.extend(text.filter(|_| texts.len() < MAX_FEW));
        }
        Ok(Some(Self(texts)))
    }
}

impl Kind for Keys {
    fn from_object<'de, A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        let mut keys = Vec::new();
        while let Some((key, IgnoredAny)) = map.next_entry::<Text, IgnoredAny>()? {
            if keys.len() < MAX_FEW {
                keys.push(key);
            }
        }
        Ok(Some(Self(keys)))
    }
}

impl Kind for f64 {
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn from_number(number: f64) -> Option<Self> {
        Some(number)
    }
}

impl<'de, T: Kind> Deserialize<'de> for Loose<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LooseVisitor<T>(PhantomData<T>);
        impl<'de, T: Kind> Visitor<'de> for LooseVisitor<T> {
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

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Loose<T>, A::Error> {
                T::from_list(list).map(Loose)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Loose<T>, A::Error> {
                T::from_object(map).map(Loose)
            }
        }
        deserializer.deserialize_any(LooseVisitor(PhantomData))
    }
}

pub(crate) fn pass_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<usize, A::Error> {
    let mut elements = 0;
    while list.next_element::<IgnoredAny>()?.is_some() {
        elements += 1;
    }
    Ok(elements)
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let budget = Budget::new(MAX_FEW, "entries in a list that is short");
        List::of(PhantomData, &budget).deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountVisitor;
        impl<'de> Visitor<'de> for CountVisitor {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_unit<E>(self) -> Result<Count, E> {
                Ok(Count(0))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Count, A::Error> {
                pass_list(list).map(Count)
            }
        }
        deserializer.deserialize_any(CountVisitor)
    }
}

/// How many elements lists may still have, together.
pub(crate) struct Budget {
    left: Cell<usize>,
    limit: usize,
    of: &'static str,
}

impl Budget {
    pub(crate) fn new(limit: usize, of: &'static str) -> Self {
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

/// What a report's lists may hold: findings, the entries of the lists around them, and what is
/// told of each finding.
pub(crate) struct Budgets {
    pub(crate) findings: Budget,
    pub(crate) entries: Budget,
    pub(crate) details: Budget,
}

impl Budgets {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            findings: Budget::new(limits.findings, "findings"),
            entries: Budget::new(MAX_ENTRIES, "results, rules or components"),
            details: Budget::new(MAX_DETAILS, "ratings or references"),
        }
    }
}

/// Reads a list on a budget; `null` is an empty one.
pub(crate) struct List<'b, S> {
    element: S,
    budget: &'b Budget,
}

impl<'b, S> List<'b, S> {
    pub(crate) fn of(element: S, budget: &'b Budget) -> Self {
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

/// An object whose lists draw on the budgets; see [`budgeted`].
pub(crate) trait Budgeted: Sized {
    fn read<'de, D: Deserializer<'de>>(budgets: &Budgets, object: D) -> Result<Self, D::Error>;
}

/// Reads an object on the budgets.
pub(crate) struct Seed<'b, T>(&'b Budgets, PhantomData<T>);

impl<'b, T> Seed<'b, T> {
    pub(crate) fn new(budgets: &'b Budgets) -> Self {
        Self(budgets, PhantomData)
    }
}

impl<T> Clone for Seed<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Seed<'_, T> {}

impl<'de, T: Budgeted> DeserializeSeed<'de> for Seed<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::read(self.0, deserializer)
    }
}

/// Reads what needs no budget, for [`budgeted`].
pub(crate) fn plain<T>(_: &Budgets) -> PhantomData<T> {
    PhantomData
}

/// Implements [`Budgeted`] for a struct with a default.
///
/// Each member is read as its field's type says; with `[element; budget]` as a list of such
/// elements into an `Option` of a list; with `{Object}` as another object on the budgets. A member
/// that comes twice is an error, as it is for derived readers; unknown members are passed over.
macro_rules! budgeted {
    ($object:ident, $what:literal {
        $($member:ident = $name:literal => $field:ident
            $([$element:expr; $budget:ident])? $({$inner:ident})?),+ $(,)?
    }) => {
        impl $crate::json::Budgeted for $object {
            fn read<'de, D: serde::Deserializer<'de>>(
                budgets: &$crate::json::Budgets,
                object: D,
            ) -> Result<Self, D::Error> {
                #[derive(Clone, Copy, serde::Deserialize)]
                #[serde(field_identifier)]
                enum Member {
                    $(#[serde(rename = $name)] $member,)+
                    #[serde(other)]
                    Unknown,
                }
                const NAMES: &[&str] = &[$($name),+];
                struct ObjectVisitor<'b>(&'b $crate::json::Budgets);
                impl<'de> serde::de::Visitor<'de> for ObjectVisitor<'_> {
                    type Value = $object;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($what)
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        mut map: A,
                    ) -> Result<$object, A::Error> {
                        let budgets = self.0;
                        let mut seen = [false; NAMES.len()];
                        let mut object = $object::default();
                        while let Some(member) = map.next_key::<Member>()? {
                            let number = member as usize;
                            if seen.get(number) == Some(&true) {
                                return Err(serde::de::Error::duplicate_field(NAMES[number]));
                            }
                            if let Some(seen) = seen.get_mut(number) {
                                *seen = true;
                            }
                            match member {
                                $(Member::$member => object.$field = $crate::json::budgeted!(
                                    @value map, budgets $(, $element, $budget)? $({$inner})?
                                ),)+
                                Member::Unknown => {
                                    map.next_value::<serde::de::IgnoredAny>()?;
                                }
                            }
                        }
                        Ok(object)
                    }
                }
                object.deserialize_map(ObjectVisitor(budgets))
            }
        }
    };
    (@value $map:ident, $budgets:ident) => { $map.next_value()? };
    (@value $map:ident, $budgets:ident {$inner:ident}) => {
        $map.next_value_seed($crate::json::Seed::<$inner>::new($budgets))?
    };
    (@value $map:ident, $budgets:ident, $element:expr, $budget:ident) => {{
        let element = $element($budgets);
        Some($map.next_value_seed($crate::json::List::of(element, &$budgets.$budget))?)
    }};
}
pub(crate) use budgeted;
