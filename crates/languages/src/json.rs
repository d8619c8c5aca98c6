//! Reading JSON and TOML for a few members, whatever else stands there.
//!
//! Real files break their own schemas: a version that is a number, a license that is a list, a
//! member twice. What has another type than wanted reads as nothing, and of members of one name the
//! last counts, as it does for the tools that these files are written for. What is not wanted is
//! passed over without being kept.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use toml_parser::Source;
use toml_parser::lexer::{Token, TokenKind};

use crate::LanguageError;
use crate::input::{text, without_mark};

/// Most entries of one list or map.
const MAX_ENTRIES: usize = 200_000;
/// Most bytes of TOML.
pub(crate) const MAX_TOML: u64 = 8 << 20;
/// What TOML may cost to read, see [`cost`]. A real lock file of 3 MB costs some 200,000.
const MAX_TOML_COST: usize = 1_000_000;

/// Reads JSON.
pub(crate) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, LanguageError> {
    serde_json::from_slice(without_mark(bytes)).map_err(LanguageError::Json)
}

/// Reads TOML.
pub(crate) fn toml<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, LanguageError> {
    let text = text(bytes);
    if cost(&text) > MAX_TOML_COST {
        return Err(LanguageError::Damaged("it has more values than any such file"));
    }
    toml::from_str(&text).map_err(|error| LanguageError::Toml(Box::new(error)))
}

/// What a document of TOML costs: its reader keeps all of it, with up to 250 bytes for each of these.
/// Braces and dots in keys make tables, and a table of one value takes as much as eight values;
/// brackets make lists, and tables with a line of their own.
fn cost(document: &str) -> usize {
    let cost = |token: Token| match token.kind() {
        TokenKind::Dot | TokenKind::LeftCurlyBracket => 8,
        TokenKind::LeftSquareBracket => 4,
        TokenKind::Comma
        | TokenKind::Equals
        | TokenKind::RightSquareBracket
        | TokenKind::Newline => 1,
        _ => 0,
    };
    Source::new(document).lex().map(cost).sum()
}

/// What is wanted of an object.
pub(crate) trait Members: Default {
    /// Takes the member of a name from the map, or passes over it with [`skip`].
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error>;
}

/// Passes over a member.
pub(crate) fn skip<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(drop)
}

/// An object, or nothing.
#[derive(Default)]
pub(crate) struct Object<T>(pub(crate) T);

/// A text, or nothing.
#[derive(Default)]
pub(crate) struct Text(pub(crate) Option<String>);

/// `"MIT"`, a list of one, or as old packages of npm have it `{"type": "MIT"}`; else nothing.
#[derive(Default)]
pub(crate) struct License(pub(crate) Option<String>);

/// `true`, or anything else.
#[derive(Default)]
pub(crate) struct Flag(pub(crate) bool);

/// A list, or nothing.
pub(crate) struct List<T>(pub(crate) Vec<T>);

/// The members of an object whose names are not known, or nothing.
pub(crate) struct Entries<T>(pub(crate) Vec<(String, T)>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl Text {
    /// The text; nothing is the empty one.
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

impl<T: DeserializeOwned> Members for Entries<T> {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        if self.0.len() >= MAX_ENTRIES {
            return Err(A::Error::custom("there are too many entries"));
        }
        self.0.push((name.to_owned(), map.next_value()?));
        Ok(())
    }
}

/// What is made of a value, by its type.
trait Shape: Default {
    fn text(_text: &str) -> Self {
        Self::default()
    }

    fn flag(_flag: bool) -> Self {
        Self::default()
    }

    fn list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }

    fn map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }
}

impl Shape for Text {
    fn text(text: &str) -> Self {
        Self(Some(text.to_owned()))
    }
}

impl Shape for License {
    fn text(text: &str) -> Self {
        Self(Some(text.to_owned()))
    }

    fn list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let Self(mut only) = list.next_element()?.unwrap_or_default();
        while list.next_element::<IgnoredAny>()?.is_some() {
            only = None;
        }
        Ok(Self(only))
    }

    fn map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut license = None;
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "type" => license = map.next_value::<Text>()?.0,
                _ => skip(&mut map)?,
            }
        }
        Ok(Self(license))
    }
}

impl Shape for Flag {
    fn flag(flag: bool) -> Self {
        Self(flag)
    }
}

impl<T: Members> Shape for Object<T> {
    fn map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut members = T::default();
        while let Some(name) = map.next_key::<String>()? {
            members.member(&name, &mut map)?;
        }
        Ok(Self(members))
    }
}

impl<T: DeserializeOwned> Shape for List<T> {
    fn list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            if items.len() >= MAX_ENTRIES {
                return Err(A::Error::custom("there are too many entries"));
            }
            items.push(item);
        }
        Ok(Self(items))
    }
}

struct ShapeVisitor<S>(PhantomData<S>);

impl<'de, S: Shape> Visitor<'de> for ShapeVisitor<S> {
    type Value = S;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<S, E> {
        Ok(S::flag(flag))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<S, E> {
        Ok(S::default())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<S, E> {
        Ok(S::default())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<S, E> {
        Ok(S::default())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<S, E> {
        Ok(S::text(text))
    }

    fn visit_unit<E: Error>(self) -> Result<S, E> {
        Ok(S::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<S, A::Error> {
        S::list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<S, A::Error> {
        S::map(map)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for License {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor(PhantomData))
    }
}

impl<'de, T: Members> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor(PhantomData))
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor(PhantomData))
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Object::deserialize(deserializer)?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Wanted {
        name: Text,
        is_dev: Flag,
        list: List<Text>,
        inner: Entries<Text>,
    }

    impl Members for Wanted {
        fn member<'de, A: MapAccess<'de>>(
            &mut self,
            name: &str,
            map: &mut A,
        ) -> Result<(), A::Error> {
            match name {
                "name" => self.name = map.next_value()?,
                "dev" => self.is_dev = map.next_value()?,
                "list" => self.list = map.next_value()?,
                "inner" => self.inner = map.next_value()?,
                _ => skip(map)?,
            }
            Ok(())
        }
    }

    fn check(document: &str, name: &str, is_dev: bool, items: usize, entries: usize) {
        let Object(wanted) = json::<Object<Wanted>>(document.as_bytes()).unwrap();
        let list = wanted.list.0.len();
        let inner = wanted.inner.0.len();
        let read = (wanted.name.as_str(), wanted.is_dev.0, list, inner);
        assert_eq!(read, (name, is_dev, items, entries), "{document}");
    }

    #[test]
    fn other_types_are_nothing_and_the_last_member_counts() {
        check(r#"{"name":"a","name":"b","dev":true}"#, "b", true, 0, 0);
        check(r#"{"name":{"x":[1]},"dev":"yes","list":{},"inner":[{}]}"#, "", false, 0, 0);
        check(r#"{"x":1.5,"list":["a",1,null],"inner":{"a":"b","c":[]}}"#, "", false, 3, 2);
        check("[1,-2,{}]", "", false, 0, 0);
        check("\u{feff}{\"name\":\"a\"}", "a", false, 0, 0);
        check("null", "", false, 0, 0);
    }

    #[test]
    fn depth_and_count_are_bounded() {
        // What is passed over takes no stack.
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        check(&deep, "", false, 0, 0);
        let many = format!("{{\"list\":[{}0]}}", "0,".repeat(MAX_ENTRIES));
        assert!(json::<Object<Wanted>>(many.as_bytes()).is_err());
        let deep = format!("x = {}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(toml::<Object<Wanted>>(deep.as_bytes()).is_err());
        let many = format!("x = [{}0]", "0,".repeat(MAX_TOML_COST));
        let error = toml::<Object<Wanted>>(many.as_bytes()).err();
        assert!(matches!(error, Some(LanguageError::Damaged(_))));
    }
}
