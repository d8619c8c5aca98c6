//! Values while an expression is evaluated. They borrow from the input and from the expression, so
//! that comparing costs no allocation.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use super::cost::Meter;
use super::error::EvaluationError;
use super::time::Instant;

/// Borrowed where it stands, or made during the evaluation and shared.
#[derive(Debug)]
pub(super) enum Lent<'a, T: ?Sized> {
    Borrowed(&'a T),
    Shared(Arc<T>),
}

impl<T: ?Sized> Clone for Lent<'_, T> {
    fn clone(&self) -> Self {
        match self {
            Self::Borrowed(value) => Self::Borrowed(value),
            Self::Shared(value) => Self::Shared(Arc::clone(value)),
        }
    }
}

impl<T: ?Sized> Deref for Lent<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Borrowed(value) => value,
            Self::Shared(value) => value,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Lent<'a, str>),
    Bytes(Lent<'a, [u8]>),
    Timestamp(Instant),
    /// In nanoseconds (langdef "Overflow": one int64).
    Duration(i64),
    List(List<'a>),
    Map(Map<'a>),
}

#[derive(Debug, Clone)]
pub(super) enum List<'a> {
    Values(Lent<'a, [Value<'a>]>),
    Texts(&'a [Arc<str>]),
}

#[derive(Debug, Clone)]
pub(super) enum Map<'a> {
    Texts(&'a BTreeMap<String, String>),
    /// Sorted by key, each once.
    Entries(Lent<'a, [(Key<'a>, Value<'a>)]>),
}

/// What may be a map's key (langdef "Aggregate Values"). Equal numbers are equal keys, whatever
/// their type.
#[derive(Debug, Clone)]
pub(super) enum Key<'a> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(Lent<'a, str>),
}

impl<'a> Value<'a> {
    pub(super) fn text(text: &'a str) -> Self {
        Self::String(Lent::Borrowed(text))
    }

    pub(super) fn shared_text(text: impl Into<Arc<str>>) -> Self {
        Self::String(Lent::Shared(text.into()))
    }

    pub(super) fn list(values: Vec<Self>) -> Self {
        Self::List(List::Values(Lent::Shared(values.into())))
    }

    /// The same value, borrowed from this one where that spares a count of references.
    pub(super) fn lend(&self) -> Value<'_> {
        match self {
            Self::String(text) => Value::String(Lent::Borrowed(text)),
            Self::Bytes(bytes) => Value::Bytes(Lent::Borrowed(bytes)),
            Self::List(List::Values(values)) => Value::List(List::Values(Lent::Borrowed(values))),
            Self::Map(Map::Entries(entries)) => Value::Map(Map::Entries(Lent::Borrowed(entries))),
            other => other.clone(),
        }
    }

    /// The type's name, for messages.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Timestamp(_) => "timestamp",
            Self::Duration(_) => "duration",
            Self::List(_) => "list",
            Self::Map(_) => "map",
        }
    }

    /// Equality across types (langdef "Equality"): numbers lie on one line, other types that
    /// differ are unequal.
    pub(super) fn equals(&self, other: &Self, meter: &mut Meter) -> Result<bool, EvaluationError> {
        Ok(match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::String(a), Self::String(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                meter.read(a.len())?;
                **a == **b
            }
            (Self::Bytes(a), Self::Bytes(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                meter.read(a.len())?;
                **a == **b
            }
            (Self::Timestamp(a), Self::Timestamp(b)) => a == b,
            (Self::Duration(a), Self::Duration(b)) => a == b,
            (Self::List(a), Self::List(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                for (a, b) in a.iter().zip(b.iter()) {
                    meter.charge(1)?;
                    if !a.equals(&b, meter)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Self::Map(a), Self::Map(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                for (key, value) in a.iter() {
                    meter.charge(1)?;
                    match b.get(&key, meter)? {
                        Some(other) if value.equals(&other, meter)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            _ => self.compare_numbers(other) == Some(Some(Ordering::Equal)),
        })
    }

    /// Order (langdef "Ordering"). `Ok(None)`: a number is not one, so no order holds.
    pub(super) fn compare(
        &self,
        other: &Self,
        meter: &mut Meter,
    ) -> Result<Option<Ordering>, EvaluationError> {
        Ok(Some(match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::String(a), Self::String(b)) => {
                meter.read(a.len().min(b.len()))?;
                (**a).cmp(&**b)
            }
            (Self::Bytes(a), Self::Bytes(b)) => {
                meter.read(a.len().min(b.len()))?;
                (**a).cmp(&**b)
            }
            (Self::Timestamp(a), Self::Timestamp(b)) => a.cmp(b),
            (Self::Duration(a), Self::Duration(b)) => a.cmp(b),
            _ => {
                return self.compare_numbers(other).ok_or_else(|| EvaluationError::NoOverload {
                    what: "order",
                    types: format!("{}, {}", self.type_name(), other.type_name()).into(),
                });
            }
        }))
    }

    /// `None` if one of them is no number at all.
    fn compare_numbers(&self, other: &Self) -> Option<Option<Ordering>> {
        Some(match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Uint(a), Self::Uint(b)) => Some(a.cmp(b)),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b),
            (Self::Int(a), Self::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            (Self::Uint(a), Self::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            // The reference implementations round here (suite `comparisons.textproto`, "lossy").
            (Self::Int(a), Self::Double(b)) => (*a as f64).partial_cmp(b),
            (Self::Uint(a), Self::Double(b)) => (*a as f64).partial_cmp(b),
            (Self::Double(a), Self::Int(b)) => a.partial_cmp(&(*b as f64)),
            (Self::Double(a), Self::Uint(b)) => a.partial_cmp(&(*b as f64)),
            _ => return None,
        })
    }

    /// As a key. A double is a key if it is a whole number (langdef "Numbers").
    pub(super) fn to_key(&self) -> Option<Key<'a>> {
        /// 2^63 and 2^64, which doubles hold exactly.
        const INT_END: f64 = 9_223_372_036_854_775_808.0;
        const UINT_END: f64 = 18_446_744_073_709_551_616.0;
        match self {
            Self::Bool(value) => Some(Key::Bool(*value)),
            Self::Int(value) => Some(Key::Int(*value)),
            Self::Uint(value) => Some(Key::Uint(*value)),
            Self::String(text) => Some(Key::String(text.clone())),
            Self::Double(value) if value.fract() == 0.0 => {
                if (-INT_END..INT_END).contains(value) {
                    Some(Key::Int(*value as i64))
                } else if (0.0..UINT_END).contains(value) {
                    Some(Key::Uint(*value as u64))
                } else {
                    None
                }
            }
            _ => None,
        }
    }
}

impl<'a> List<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Values(values) => values.len(),
            Self::Texts(texts) => texts.len(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            Self::Values(Lent::Borrowed(values)) => values.get(index).map(Value::lend),
            Self::Values(Lent::Shared(values)) => values.get(index).cloned(),
            Self::Texts(texts) => texts.get(index).map(|text| Value::text(text)),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Value<'a>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl<'a> Map<'a> {
    /// Sorts the entries; `Err` is a key that is there twice.
    pub(super) fn new(mut entries: Vec<(Key<'a>, Value<'a>)>) -> Result<Self, Key<'a>> {
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        match entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(pair[0].0.clone()),
            None => Ok(Self::Entries(Lent::Shared(entries.into()))),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Entries(entries) => entries.len(),
        }
    }

    pub(super) fn get(
        &self,
        key: &Key<'_>,
        meter: &mut Meter,
    ) -> Result<Option<Value<'a>>, EvaluationError> {
        if let Key::String(text) = key {
            meter.read(text.len())?;
        }
        Ok(match self {
            Self::Texts(texts) => match key {
                Key::String(text) => texts.get(&**text).map(|text| Value::text(text)),
                _ => None,
            },
            Self::Entries(entries) => {
                let found = entries.binary_search_by(|(own, _)| own.cmp(key)).ok();
                match (entries, found) {
                    (_, None) => None,
                    (Lent::Borrowed(entries), Some(at)) => Some(entries[at].1.lend()),
                    (Lent::Shared(entries), Some(at)) => Some(entries[at].1.clone()),
                }
            }
        })
    }

    /// The keys as a list, for macros. Texts are borrowed.
    pub(super) fn keys(&self) -> Vec<Value<'a>> {
        self.iter().map(|(key, _)| key.into_value()).collect()
    }

    fn iter(&self) -> Box<dyn Iterator<Item = (Key<'a>, Value<'a>)> + '_> {
        match self {
            Self::Texts(texts) => Box::new(
                texts.iter().map(|(k, v)| (Key::String(Lent::Borrowed(k)), Value::text(v))),
            ),
            Self::Entries(entries) => Box::new(entries.iter().cloned()),
        }
    }
}

impl<'a> Key<'a> {
    fn into_value(self) -> Value<'a> {
        match self {
            Self::Bool(value) => Value::Bool(value),
            Self::Int(value) => Value::Int(value),
            Self::Uint(value) => Value::Uint(value),
            Self::String(text) => Value::String(text),
        }
    }

    /// Bools, then numbers, then texts.
    fn rank(&self) -> (u8, i128) {
        match self {
            Self::Bool(value) => (0, (*value).into()),
            Self::Int(value) => (1, (*value).into()),
            Self::Uint(value) => (1, (*value).into()),
            Self::String(_) => (2, 0),
        }
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::String(a), Self::String(b)) => (**a).cmp(&**b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Key<'_> {}

impl std::fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Uint(value) => write!(f, "{value}"),
            Self::String(text) => f.write_str(&crate::fault::shown(text)),
        }
    }
}
