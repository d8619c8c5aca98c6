//! Reading JSON as a runtime written in Go reads it, or not at all.
//!
//! Go's `encoding/json` matches the names of members without regard to case and lets the last of
//! several win. A document in which that would matter is refused: the runtime could read another
//! setting than this crate. As in Go, `null` leaves a member at its zero value.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected,
    Visitor,
};

use crate::WorkloadError;

/// Most entries of one list or map that is read. Engines write some hundreds at worst; a privileged
/// container on a node with many disks has thousands of devices.
const MOST_ENTRIES: usize = 8 << 10;

/// What goes beside the reader: where it is, and what serde's own error cannot carry.
#[derive(Default)]
pub(crate) struct Context {
    fault: Cell<Option<Fault>>,
    trail: RefCell<String>,
}

#[derive(Clone, Copy)]
enum Fault {
    Ambiguous,
    TooMany,
}

impl Context {
    fn fail<E: serde::de::Error>(&self, fault: Fault) -> E {
        self.fault.set(Some(fault));
        E::custom("refused")
    }

    /// On the way out of a failed member: puts its name before what failed within it.
    fn came_from(&self, member: fmt::Arguments<'_>) {
        let mut trail = self.trail.borrow_mut();
        let dot = if trail.is_empty() || trail.starts_with('[') { "" } else { "." };
        *trail = format!("{member}{dot}{trail}");
    }
}

/// Reads one document.
pub(crate) fn read<T: FromJson>(json: &[u8]) -> Result<T, WorkloadError> {
    let context = Context::default();
    let mut reader = serde_json::Deserializer::from_slice(json);
    let read = Seed::<T>(&context, PhantomData).deserialize(&mut reader);
    read.and_then(|value| reader.end().map(|()| value)).map_err(|source| {
        let member = match context.trail.into_inner() {
            empty if empty.is_empty() => "the document".to_owned(),
            trail => trail,
        };
        match context.fault.get() {
            Some(Fault::Ambiguous) => WorkloadError::Ambiguous { member },
            Some(Fault::TooMany) => WorkloadError::TooMany { member, most: MOST_ENTRIES },
            None => WorkloadError::Malformed { member, source },
        }
    })
}

/// A type that can be read from JSON; [`Default`] is what `null` and absence mean.
pub(crate) trait FromJson: Default {
    /// What was wanted, for a person.
    const WANTED: &'static str;

    fn from_bool(value: bool) -> Option<Self> {
        let _ = value;
        None
    }

    fn from_integer(value: i128) -> Option<Self> {
        let _ = value;
        None
    }

    fn from_text(value: Cow<'_, str>) -> Option<Self> {
        let _ = value;
        None
    }

    fn from_list<'de, A: SeqAccess<'de>>(_: &Context, _: A) -> Result<Self, A::Error> {
        Err(A::Error::invalid_type(Unexpected::Seq, &Self::WANTED))
    }

    fn from_object<'de, A: MapAccess<'de>>(_: &Context, _: A) -> Result<Self, A::Error> {
        Err(A::Error::invalid_type(Unexpected::Map, &Self::WANTED))
    }
}

pub(crate) struct Seed<'c, T>(&'c Context, PhantomData<T>);

impl<'de, T: FromJson> DeserializeSeed<'de> for Seed<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: FromJson> Visitor<'de> for Seed<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::WANTED)
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<T, E> {
        T::from_bool(value).ok_or_else(|| E::invalid_type(Unexpected::Bool(value), &self))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<T, E> {
        T::from_integer(value.into())
            .ok_or_else(|| E::invalid_type(Unexpected::Unsigned(value), &self))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<T, E> {
        T::from_integer(value.into())
            .ok_or_else(|| E::invalid_type(Unexpected::Signed(value), &self))
    }

    // The text itself stays out of the error: it is hostile and has no bound.
    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<T, E> {
        T::from_text(Cow::Borrowed(value))
            .ok_or_else(|| E::invalid_type(Unexpected::Other("a text"), &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<T, A::Error> {
        T::from_list(self.0, list)
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<T, A::Error> {
        T::from_object(self.0, object)
    }
}

impl FromJson for bool {
    const WANTED: &'static str = "true or false";

    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
}

impl FromJson for String {
    const WANTED: &'static str = "a text";

    fn from_text(value: Cow<'_, str>) -> Option<Self> {
        Some(value.into_owned())
    }
}

impl FromJson for u32 {
    const WANTED: &'static str = "a whole number";

    fn from_integer(value: i128) -> Option<Self> {
        value.try_into().ok()
    }
}

impl FromJson for i64 {
    const WANTED: &'static str = "a whole number";

    fn from_integer(value: i128) -> Option<Self> {
        value.try_into().ok()
    }
}

impl<T: FromJson> FromJson for Option<T> {
    const WANTED: &'static str = T::WANTED;

    fn from_bool(value: bool) -> Option<Self> {
        T::from_bool(value).map(Some)
    }

    fn from_integer(value: i128) -> Option<Self> {
        T::from_integer(value).map(Some)
    }

    fn from_text(value: Cow<'_, str>) -> Option<Self> {
        T::from_text(value).map(Some)
    }

    fn from_list<'de, A: SeqAccess<'de>>(context: &Context, list: A) -> Result<Self, A::Error> {
        T::from_list(context, list).map(Some)
    }

    fn from_object<'de, A: MapAccess<'de>>(context: &Context, map: A) -> Result<Self, A::Error> {
        T::from_object(context, map).map(Some)
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    const WANTED: &'static str = "a list";

    fn from_list<'de, A: SeqAccess<'de>>(context: &Context, mut list: A) -> Result<Self, A::Error> {
        let mut entries = Self::new();
        loop {
            let next = list.next_element_seed(Seed(context, PhantomData));
            let next = next.inspect_err(|_| context.came_from(format_args!("[{}]", entries.len())));
            let Some(entry) = next? else { return Ok(entries) };
            if entries.len() == MOST_ENTRIES {
                return Err(context.fail(Fault::TooMany));
            }
            entries.push(entry);
        }
    }
}

/// How many entries a list has; what they are is not read.
#[derive(Debug, Default)]
pub(crate) struct Count(pub(crate) usize);

impl FromJson for Count {
    const WANTED: &'static str = "a list";

    fn from_list<'de, A: SeqAccess<'de>>(_: &Context, mut list: A) -> Result<Self, A::Error> {
        let mut count = 0;
        while list.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Self(count))
    }
}

/// A map with names of any kind, in order. Go takes names of maps as they are, so only a name that
/// comes twice could mean two things; both are kept, and whoever reads them must mind both.
#[derive(Debug, Default)]
pub(crate) struct Pairs(pub(crate) Vec<(String, String)>);

impl FromJson for Pairs {
    const WANTED: &'static str = "an object of texts";

    fn from_object<'de, A: MapAccess<'de>>(
        context: &Context,
        mut map: A,
    ) -> Result<Self, A::Error> {
        let mut pairs = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(Seed(context, PhantomData))?;
            if pairs.len() == MOST_ENTRIES {
                return Err(context.fail(Fault::TooMany));
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }
}

/// Which member of an object a name means to Go: the one that it is, or is in another case.
fn member(name: &str, wanted: &[&'static str]) -> Option<usize> {
    wanted.iter().position(|w| *w == name).or_else(|| match name.is_ascii() {
        true => wanted.iter().position(|w| w.eq_ignore_ascii_case(name)),
        // Go folds `s` and `k` beyond ASCII too.
        false => {
            let folded = name.to_uppercase().to_lowercase();
            wanted.iter().position(|w| w.to_lowercase() == folded)
        }
    })
}

/// Reads the members of an object, each into the place that `place` has for it, and skips others.
pub(crate) fn object<'de, A: MapAccess<'de>, const N: usize>(
    context: &Context,
    mut map: A,
    wanted: [&'static str; N],
    mut place: impl FnMut(usize, Member<'_, '_, A>) -> Result<(), A::Error>,
) -> Result<(), A::Error> {
    let mut seen = [false; N];
    while let Some(Name(name)) = map.next_key()? {
        let Some(at) = member(&name, &wanted) else {
            map.next_value::<IgnoredAny>()?;
            continue;
        };
        let read = match name != wanted[at] || std::mem::replace(&mut seen[at], true) {
            true => Err(context.fail(Fault::Ambiguous)),
            false => place(at, Member(context, &mut map)),
        };
        read.inspect_err(|_| context.came_from(format_args!("{}", wanted[at])))?;
    }
    Ok(())
}

/// The value of the member whose name was just read.
pub(crate) struct Member<'c, 'm, A>(&'c Context, &'m mut A);

impl<'de, A: MapAccess<'de>> Member<'_, '_, A> {
    pub(crate) fn read<T: FromJson>(self) -> Result<T, A::Error> {
        self.1.next_value_seed(Seed(self.0, PhantomData))
    }
}

/// The name of a member, borrowed where it has no escapes.
struct Name<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// Declares a struct that is read from a JSON object, with the name of each member.
macro_rules! objects {
    ($($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $field:ident: $type:ty = $member:literal),+ $(,)? })+) => {$(
        $(#[$meta])*
        #[derive(Debug, Default)]
        pub(crate) struct $name { $($(#[$doc])* pub(crate) $field: $type),+ }

        impl $crate::json::FromJson for $name {
            const WANTED: &'static str = "an object";

            fn from_object<'de, A: serde::de::MapAccess<'de>>(
                context: &$crate::json::Context,
                map: A,
            ) -> Result<Self, A::Error> {
                let mut read = Self::default();
                #[allow(non_camel_case_types, reason = "one variant per field, named as it is")]
                enum At { $($field),+ }
                const PLACES: &[At] = &[$(At::$field),+];
                $crate::json::object(context, map, [$($member),+], |at, member| {
                    match PLACES[at] { $(At::$field => read.$field = member.read()?),+ }
                    Ok(())
                })?;
                Ok(read)
            }
        }
    )+};
}
pub(crate) use objects;
