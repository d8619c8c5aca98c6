//! The functions (langdef "Standard Environment"): names, types, and what they do.

use super::cost::Meter;
use super::error::EvaluationError;
use super::time::{Instant, Part, duration_part, duration_text, parse_duration};
use super::types::Type;
use super::value::{Lent, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    ToBool,
    ToInt,
    ToUint,
    ToDouble,
    ToString,
    ToBytes,
    ToDuration,
    ToTimestamp,
    Get(Part),
}

/// How a function is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `f(x)`
    Global,
    /// `x.f()`
    Receiver,
}

/// Name, function, and the styles it has. `matches` is apart, since its pattern is compiled.
const FUNCTIONS: [(&str, Function, &[Style]); 22] = {
    use Style::{Global, Receiver};
    [
        ("size", Function::Size, &[Global, Receiver]),
        ("contains", Function::Contains, &[Receiver]),
        ("startsWith", Function::StartsWith, &[Receiver]),
        ("endsWith", Function::EndsWith, &[Receiver]),
        ("bool", Function::ToBool, &[Global]),
        ("int", Function::ToInt, &[Global]),
        ("uint", Function::ToUint, &[Global]),
        ("double", Function::ToDouble, &[Global]),
        ("string", Function::ToString, &[Global]),
        ("bytes", Function::ToBytes, &[Global]),
        ("duration", Function::ToDuration, &[Global]),
        ("timestamp", Function::ToTimestamp, &[Global]),
        ("getFullYear", Function::Get(Part::FullYear), &[Receiver]),
        ("getMonth", Function::Get(Part::Month), &[Receiver]),
        ("getDate", Function::Get(Part::Date), &[Receiver]),
        ("getDayOfMonth", Function::Get(Part::DayOfMonth), &[Receiver]),
        ("getDayOfWeek", Function::Get(Part::DayOfWeek), &[Receiver]),
        ("getDayOfYear", Function::Get(Part::DayOfYear), &[Receiver]),
        ("getHours", Function::Get(Part::Hours), &[Receiver]),
        ("getMinutes", Function::Get(Part::Minutes), &[Receiver]),
        ("getSeconds", Function::Get(Part::Seconds), &[Receiver]),
        ("getMilliseconds", Function::Get(Part::Milliseconds), &[Receiver]),
    ]
};

/// What can be called, for a remedy.
pub(super) fn known(style: Style) -> String {
    let mut names: Vec<&str> = FUNCTIONS
        .iter()
        .filter(|(.., styles)| styles.contains(&style))
        .map(|(name, ..)| *name)
        .collect();
    names.push("matches");
    match style {
        Style::Global => {
            names.push("has");
            format!("the functions are {}", names.join(", "))
        }
        Style::Receiver => {
            names.extend(["all", "exists", "exists_one", "map", "filter"]);
            format!("what can be called on a value is {}", names.join(", "))
        }
    }
}

impl Function {
    /// The function of this name, if it can be called in this style; `Err` is the style it has.
    pub(super) fn named(name: &str, style: Style) -> Option<Result<Self, Style>> {
        let (_, function, styles) = FUNCTIONS.iter().find(|(n, ..)| *n == name)?;
        Some(if styles.contains(&style) { Ok(*function) } else { Err(styles[0]) })
    }

    pub(super) fn name(self) -> &'static str {
        FUNCTIONS.iter().find(|(_, function, _)| *function == self).map_or("", |(name, ..)| name)
    }

    /// Fewest and most arguments, a receiver among them.
    pub(super) fn arity(self) -> (usize, usize) {
        match self {
            Self::Contains | Self::StartsWith | Self::EndsWith => (2, 2),
            Self::Get(_) => (1, 2),
            _ => (1, 1),
        }
    }

    /// The type of the result; `None` if no overload takes these types.
    pub(super) fn result(self, arguments: &[Type]) -> Option<Type> {
        use Type::{
            Bool, Bytes, Double, Duration, Int, List, Map, Nothing, String, Timestamp, Uint,
        };
        let [first, rest @ ..] = arguments else {
            return None;
        };
        let takes = |types: &[Type], result: Type| {
            (*first == Nothing || types.contains(first)).then_some(result)
        };
        match self {
            Self::Size => {
                matches!(first, Nothing | String | Bytes | List(_) | Map(..)).then_some(Int)
            }
            Self::Contains | Self::StartsWith | Self::EndsWith => {
                (first.fits(&String) && rest.iter().all(|t| t.fits(&String))).then_some(Bool)
            }
            Self::ToBool => takes(&[Bool, String], Bool),
            Self::ToInt => takes(&[Int, Uint, Double, String, Timestamp], Int),
            Self::ToUint => takes(&[Uint, Int, Double, String], Uint),
            Self::ToDouble => takes(&[Double, Int, Uint, String], Double),
            Self::ToString => {
                takes(&[String, Bool, Int, Uint, Double, Bytes, Timestamp, Duration], String)
            }
            Self::ToBytes => takes(&[Bytes, String], Bytes),
            Self::ToDuration => takes(&[Duration, String], Duration),
            Self::ToTimestamp => takes(&[Timestamp, String, Int], Timestamp),
            Self::Get(part) => match (first, rest) {
                (Nothing | Timestamp, []) => Some(Int),
                (Nothing | Timestamp, [zone]) => zone.fits(&String).then_some(Int),
                (Duration, []) => duration_part(0, part).map(|_| Int),
                _ => None,
            },
        }
    }

    /// What it takes, for a remedy.
    pub(super) fn takes(self) -> &'static str {
        match self {
            Self::Size => "it takes string, bytes, list or map",
            Self::Contains | Self::StartsWith | Self::EndsWith => "both are string",
            Self::ToBool => "it takes string",
            Self::ToInt => "it takes uint, double, string or timestamp",
            Self::ToUint => "it takes int, double or string",
            Self::ToDouble => "it takes int, uint or string",
            Self::ToString => "it takes bool, numbers, bytes, timestamp or duration",
            Self::ToBytes => "it takes string",
            Self::ToDuration => "it takes string, for example duration(\"8760h\")",
            Self::ToTimestamp => {
                "it takes string, for example timestamp(\"2026-01-31T12:00:00Z\"), or int"
            }
            Self::Get(part) => match duration_part(0, part) {
                Some(_) => "it is called on a timestamp, with an optional time zone, or a duration",
                None => "it is called on a timestamp, with an optional time zone",
            },
        }
    }
    pub(super) fn call<'v>(
        self,
        arguments: &[Value<'v>],
        meter: &mut Meter,
    ) -> Result<Value<'v>, EvaluationError> {
        self.overload(arguments, meter)?.ok_or_else(|| EvaluationError::NoOverload {
            what: self.name(),
            types: type_names(arguments),
        })
    }

    /// `Ok(None)`: no overload takes these values.
    fn overload<'v>(self, arguments: &[Value<'v>], meter: &mut Meter) -> Called<'v> {
        Ok(Some(match (self, arguments) {
            (Self::Size, [value]) => return size(value, meter),
            (Self::Contains, [Value::String(text), Value::String(part)]) => {
                // The search of the standard library takes linear time.
                meter.read((text.len() + part.len()) * 2)?;
                Value::Bool(text.contains(&**part))
            }
            (Self::StartsWith, [Value::String(text), Value::String(part)]) => {
                meter.read(part.len())?;
                Value::Bool(text.starts_with(&**part))
            }
            (Self::EndsWith, [Value::String(text), Value::String(part)]) => {
                meter.read(part.len())?;
                Value::Bool(text.ends_with(&**part))
            }
            (Self::ToBool, [value]) => return to_bool(value),
            (Self::ToInt, [value]) => return to_int(value, meter),
            (Self::ToUint, [value]) => return to_uint(value, meter),
            (Self::ToDouble, [value]) => return to_double(value, meter),
            (Self::ToString, [value]) => return to_string(value, meter),
            (Self::ToBytes, [value]) => return to_bytes(value, meter),
            (Self::ToDuration, [value @ Value::Duration(_)])
            | (Self::ToTimestamp, [value @ Value::Timestamp(_)]) => value.clone(),
            (Self::ToDuration, [Value::String(text)]) => {
                meter.read(text.len())?;
                Value::Duration(parse_duration(text)?)
            }
            (Self::ToTimestamp, [Value::String(text)]) => Value::Timestamp(Instant::parse(text)?),
            (Self::ToTimestamp, [Value::Int(seconds)]) => match Instant::of_seconds(*seconds) {
                Some(time) => Value::Timestamp(time),
                None => return Err(EvaluationError::Overflow(self.name())),
            },
            (Self::Get(part), [Value::Timestamp(time)]) => Value::Int(time.part(part, None)?),
            (Self::Get(part), [Value::Timestamp(time), Value::String(zone)]) => {
                Value::Int(time.part(part, Some(zone))?)
            }
            (Self::Get(part), [Value::Duration(nanos)]) => {
                return Ok(duration_part(*nanos, part).map(Value::Int));
            }
            _ => return Ok(None),
        }))
    }
}

/// `Ok(None)`: the function does not take this.
type Called<'v> = Result<Option<Value<'v>>, EvaluationError>;

pub(super) fn type_names(values: &[Value<'_>]) -> Box<str> {
    values.iter().map(Value::type_name).collect::<Vec<_>>().join(", ").into()
}

fn size<'v>(value: &Value<'v>, meter: &mut Meter) -> Called<'v> {
    let size = match value {
        Value::String(text) => {
            meter.read(text.len())?;
            text.chars().count()
        }
        Value::Bytes(bytes) => bytes.len(),
        Value::List(list) => list.len(),
        Value::Map(map) => map.len(),
        _ => return Ok(None),
    };
    Ok(Some(Value::Int(i64::try_from(size).unwrap_or(i64::MAX))))
}

fn to_bool<'v>(value: &Value<'v>) -> Called<'v> {
    match value {
        Value::Bool(value) => Ok(Some(Value::Bool(*value))),
        Value::String(text) => match &**text {
            "true" | "True" | "TRUE" | "t" | "1" => Ok(Some(Value::Bool(true))),
            "false" | "False" | "FALSE" | "f" | "0" => Ok(Some(Value::Bool(false))),
            _ => Err(EvaluationError::malformed("a bool: use true or false", text)),
        },
        _ => Ok(None),
    }
}

/// 2^63 and 2^64. The ends are not included, as "Overflow" asks for.
const INT_END: f64 = 9_223_372_036_854_775_808.0;
const UINT_END: f64 = 18_446_744_073_709_551_616.0;

fn to_int<'v>(value: &Value<'v>, meter: &mut Meter) -> Called<'v> {
    let overflow = EvaluationError::Overflow("int");
    let converted = match value {
        Value::Int(value) => *value,
        Value::Uint(value) => i64::try_from(*value).map_err(|_| overflow)?,
        Value::Double(value) if *value > -INT_END && *value < INT_END => value.trunc() as i64,
        Value::Double(_) => return Err(overflow),
        Value::String(text) => {
            meter.read(text.len())?;
            text.parse().map_err(|_| EvaluationError::malformed("an int", text))?
        }
        Value::Timestamp(time) => time.seconds(),
        _ => return Ok(None),
    };
    Ok(Some(Value::Int(converted)))
}

fn to_uint<'v>(value: &Value<'v>, meter: &mut Meter) -> Called<'v> {
    let overflow = EvaluationError::Overflow("uint");
    let converted = match value {
        Value::Uint(value) => *value,
        Value::Int(value) => u64::try_from(*value).map_err(|_| overflow)?,
        Value::Double(value) if *value >= 0.0 && *value < UINT_END => value.trunc() as u64,
        Value::Double(_) => return Err(overflow),
        Value::String(text) => {
            meter.read(text.len())?;
            text.parse().map_err(|_| EvaluationError::malformed("a uint", text))?
        }
        _ => return Ok(None),
    };
    Ok(Some(Value::Uint(converted)))
}

fn to_double<'v>(value: &Value<'v>, meter: &mut Meter) -> Called<'v> {
    let converted = match value {
        Value::Double(value) => *value,
        Value::Int(value) => *value as f64,
        Value::Uint(value) => *value as f64,
        Value::String(text) => {
            meter.read(text.len())?;
            text.parse().map_err(|_| EvaluationError::malformed("a double", text))?
        }
        _ => return Ok(None),
    };
    Ok(Some(Value::Double(converted)))
}

fn to_string<'v>(value: &Value<'v>, meter: &mut Meter) -> Called<'v> {
    let text = match value {
        Value::String(text) => return Ok(Some(Value::String(text.clone()))),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        Value::Bytes(bytes) => {
            meter.read(bytes.len() * 2)?;
            match std::str::from_utf8(bytes) {
                Ok(text) => text.to_owned(),
                Err(_) => {
                    let shown = String::from_utf8_lossy(bytes);
                    return Err(EvaluationError::malformed("text in UTF-8", &shown));
                }
            }
        }
        Value::Timestamp(time) => time.to_string(),
        Value::Duration(nanos) => duration_text(*nanos),
        _ => return Ok(None),
    };
    meter.charge(1)?;
    meter.read(text.len())?;
    Ok(Some(Value::shared_text(text)))
}

fn to_bytes<'v>(value: &Value<'v>, meter: &mut Meter) -> Called<'v> {
    match value {
        Value::Bytes(bytes) => Ok(Some(Value::Bytes(bytes.clone()))),
        Value::String(Lent::Borrowed(text)) => {
            Ok(Some(Value::Bytes(Lent::Borrowed(text.as_bytes()))))
        }
        Value::String(Lent::Shared(text)) => {
            meter.read(text.len())?;
            Ok(Some(Value::Bytes(Lent::Shared(text.as_bytes().into()))))
        }
        _ => Ok(None),
    }
}
