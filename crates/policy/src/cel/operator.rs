//! The operators (langdef "Equality", "Ordering", "Arithmetic Operators").

use std::cmp::Ordering;
use std::sync::Arc;

use super::cost::Meter;
use super::error::EvaluationError;
use super::function::type_names;
use super::syntax::Operator;
use super::types::Type;
use super::value::{Key, Lent, Value};

impl Operator {
    /// The type of the result; `None` if no overload takes these types.
    ///
    /// Numbers of different types are ordered, as Kubernetes allows too, but are not compared for
    /// equality, since that hides slips (langdef "Equality").
    pub(super) fn result(self, left: &Type, right: &Type) -> Option<Type> {
        let joined = left.join(right);
        match self {
            Self::Equal | Self::NotEqual => {
                let objects = matches!(left, Type::Object(_)) || matches!(right, Type::Object(_));
                (joined.is_some() && !objects).then_some(Type::Bool)
            }
            Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual => {
                let numbers = left.is_number() && right.is_number();
                let ordered = joined.is_some_and(|joined| {
                    use Type::{Bool, Bytes, Duration, Nothing, String, Timestamp};
                    matches!(joined, Nothing | Bool | Bytes | Duration | String | Timestamp)
                });
                (numbers || ordered).then_some(Type::Bool)
            }
            Self::In => match right {
                Type::Nothing => Some(Type::Bool),
                Type::List(inner) | Type::Map(inner, _) => left.fits(inner).then_some(Type::Bool),
                _ => None,
            },
            _ => arithmetic_result(self, left, right),
        }
    }

    pub(super) fn apply<'v>(
        self,
        left: &Value<'v>,
        right: &Value<'v>,
        meter: &mut Meter,
    ) -> Result<Value<'v>, EvaluationError> {
        let ordered = |meter: &mut Meter, wanted: fn(Ordering) -> bool| {
            left.compare(right, meter).map(|order| Value::Bool(order.is_some_and(wanted)))
        };
        match self {
            Self::Equal => left.equals(right, meter).map(Value::Bool),
            Self::NotEqual => left.equals(right, meter).map(|equal| Value::Bool(!equal)),
            Self::Less => ordered(meter, Ordering::is_lt),
            Self::LessOrEqual => ordered(meter, Ordering::is_le),
            Self::Greater => ordered(meter, Ordering::is_gt),
            Self::GreaterOrEqual => ordered(meter, Ordering::is_ge),
            Self::In => self.is_in(left, right, meter),
            _ => self.calculate(left, right, meter),
        }
    }

    fn is_in<'v>(
        self,
        left: &Value<'v>,
        right: &Value<'v>,
        meter: &mut Meter,
    ) -> Result<Value<'v>, EvaluationError> {
        match right {
            Value::List(list) => {
                // Comparing most elements ends at their lengths.
                meter.charge(list.len() as u64 / 4)?;
                for element in list.iter() {
                    if left.equals(&element, meter)? {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
            Value::Map(map) => match left.to_key() {
                Some(key) => Ok(Value::Bool(map.get(&key, meter)?.is_some())),
                None => Ok(Value::Bool(false)),
            },
            _ => Err(self.no_overload(left, right)),
        }
    }

    fn calculate<'v>(
        self,
        left: &Value<'v>,
        right: &Value<'v>,
        meter: &mut Meter,
    ) -> Result<Value<'v>, EvaluationError> {
        let overflow = || EvaluationError::Overflow(self.as_str());
        match (left, right) {
            (Value::Int(a), Value::Int(b)) => {
                let (a, b) = (*a, *b);
                match self {
                    Self::Add => a.checked_add(b),
                    Self::Subtract => a.checked_sub(b),
                    Self::Multiply => a.checked_mul(b),
                    _ if b == 0 => return Err(EvaluationError::DivisionByZero),
                    Self::Divide => a.checked_div(b),
                    _ => a.checked_rem(b),
                }
                .map(Value::Int)
                .ok_or_else(overflow)
            }
            (Value::Uint(a), Value::Uint(b)) => {
                let (a, b) = (*a, *b);
                match self {
                    Self::Add => a.checked_add(b),
                    Self::Subtract => a.checked_sub(b),
                    Self::Multiply => a.checked_mul(b),
                    _ if b == 0 => return Err(EvaluationError::DivisionByZero),
                    Self::Divide => a.checked_div(b),
                    _ => a.checked_rem(b),
                }
                .map(Value::Uint)
                .ok_or_else(overflow)
            }
            (Value::Double(a), Value::Double(b)) => Ok(Value::Double(match self {
                Self::Add => a + b,
                Self::Subtract => a - b,
                Self::Multiply => a * b,
                Self::Divide => a / b,
                _ => return Err(self.no_overload(left, right)),
            })),
            _ => match self {
                Self::Add => self.add(left, right, meter),
                Self::Subtract => self.subtract(left, right),
                _ => Err(self.no_overload(left, right)),
            },
        }
    }

    fn add<'v>(
        self,
        left: &Value<'v>,
        right: &Value<'v>,
        meter: &mut Meter,
    ) -> Result<Value<'v>, EvaluationError> {
        let overflow = EvaluationError::Overflow(self.as_str());
        match (left, right) {
            (Value::String(a), Value::String(b)) => {
                meter.read((a.len() + b.len()) * 2)?;
                Ok(Value::shared_text([&**a, &**b].concat()))
            }
            (Value::Bytes(a), Value::Bytes(b)) => {
                meter.read((a.len() + b.len()) * 2)?;
                Ok(Value::Bytes(Lent::Shared(Arc::from([&**a, &**b].concat()))))
            }
            (Value::List(a), Value::List(b)) => {
                meter.charge((a.len() + b.len()) as u64)?;
                Ok(Value::list(a.iter().chain(b.iter()).collect()))
            }
            (Value::Timestamp(time), Value::Duration(nanos))
            | (Value::Duration(nanos), Value::Timestamp(time)) => {
                time.plus(*nanos).map(Value::Timestamp).ok_or(overflow)
            }
            (Value::Duration(a), Value::Duration(b)) => {
                a.checked_add(*b).map(Value::Duration).ok_or(overflow)
            }
            _ => Err(self.no_overload(left, right)),
        }
    }

    fn subtract<'v>(
        self,
        left: &Value<'v>,
        right: &Value<'v>,
    ) -> Result<Value<'v>, EvaluationError> {
        match (left, right) {
            (Value::Timestamp(a), Value::Timestamp(b)) => a.since(*b).map(Value::Duration),
            (Value::Timestamp(time), Value::Duration(nanos)) => {
                time.minus(*nanos).map(Value::Timestamp)
            }
            (Value::Duration(a), Value::Duration(b)) => a.checked_sub(*b).map(Value::Duration),
            _ => return Err(self.no_overload(left, right)),
        }
        .ok_or(EvaluationError::Overflow(self.as_str()))
    }

    fn no_overload(self, left: &Value<'_>, right: &Value<'_>) -> EvaluationError {
        let types = type_names(&[left.clone(), right.clone()]);
        EvaluationError::NoOverload { what: self.as_str(), types }
    }
}

fn arithmetic_result(operator: Operator, left: &Type, right: &Type) -> Option<Type> {
    use Type::{Bytes, Double, Duration, Int, List, Nothing, String, Timestamp, Uint};
    match operator {
        Operator::Add => match (left, right) {
            (Timestamp, Duration) | (Duration, Timestamp) => return Some(Timestamp),
            _ => {}
        },
        Operator::Subtract => match (left, right) {
            (Timestamp, Timestamp) => return Some(Duration),
            (Timestamp, Duration) => return Some(Timestamp),
            _ => {}
        },
        _ => {}
    }
    let joined = left.join(right)?;
    let taken = match (operator, &joined) {
        (_, Nothing | Int | Uint) => true,
        (Operator::Remainder, _) => false,
        (_, Double) => true,
        (Operator::Add, String | Bytes | Duration | List(_)) => true,
        (Operator::Subtract, Duration) => true,
        _ => false,
    };
    taken.then_some(joined)
}

/// `-x`. Nothing else has a sign.
pub(super) fn negate<'v>(value: &Value<'v>) -> Result<Value<'v>, EvaluationError> {
    match value {
        Value::Int(value) => {
            value.checked_neg().map(Value::Int).ok_or(EvaluationError::Overflow("-"))
        }
        Value::Double(value) => Ok(Value::Double(-value)),
        _ => Err(EvaluationError::NoOverload {
            what: "-",
            types: type_names(std::slice::from_ref(value)),
        }),
    }
}

/// `list[index]` or `map[key]`.
pub(super) fn index<'v>(
    container: &Value<'v>,
    index: &Value<'v>,
    meter: &mut Meter,
) -> Result<Value<'v>, EvaluationError> {
    let no_overload = || EvaluationError::NoOverload {
        what: "[]",
        types: type_names(&[container.clone(), index.clone()]),
    };
    match container {
        Value::Map(map) => {
            let key = index.to_key().ok_or_else(no_overload)?;
            map.get(&key, meter)?.ok_or_else(|| EvaluationError::NoSuchKey(key.to_string().into()))
        }
        Value::List(list) => {
            let missing = |at| EvaluationError::NoSuchIndex(at, list.len());
            match index.to_key() {
                Some(Key::Int(at)) => {
                    let found = usize::try_from(at).ok().and_then(|at| list.get(at));
                    found.ok_or_else(|| missing(at))
                }
                Some(Key::Uint(at)) => {
                    let found = usize::try_from(at).ok().and_then(|at| list.get(at));
                    found.ok_or_else(|| missing(i64::try_from(at).unwrap_or(i64::MAX)))
                }
                _ => Err(no_overload()),
            }
        }
        _ => Err(no_overload()),
    }
}

/// What to write instead of an operator between these types.
pub(super) fn remedy(operator: Operator, left: &Type, right: &Type) -> String {
    match (left, right) {
        (Type::Object(variable), _) | (_, Type::Object(variable)) => return variable.fields(),
        (Type::Null, _) | (_, Type::Null) => {
            return "nothing here is null; ask for what may be absent with has(finding.cvss)"
                .into();
        }
        _ => {}
    }
    match operator {
        Operator::In => "write value in list, or key in map, of one type",
        Operator::Remainder => "it takes two int or two uint",
        Operator::Multiply | Operator::Divide => "it takes two numbers of one type",
        Operator::Add => {
            "it takes two numbers, strings, bytes, lists or durations of one type, or a timestamp and a duration"
        }
        Operator::Subtract => {
            "it takes two numbers, timestamps or durations of one type, or a timestamp and a duration"
        }
        Operator::Equal | Operator::NotEqual if left.is_number() && right.is_number() => {
            "write both as one type, for example 9.0 for a double"
        }
        _ => "both sides must be of one type",
    }
    .into()
}
