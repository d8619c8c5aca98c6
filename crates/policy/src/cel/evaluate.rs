//! Trees to values (langdef "Evaluation").

use regex_lite::RegexBuilder;

use super::cost::Meter;
use super::error::EvaluationError;
use super::input::Input;
use super::operator::{index, negate};
use super::syntax::{Kind, Macro, MacroKind, Matches, Node, Pattern};
use super::value::{Key, Lent, List, Map, Value};
use crate::fault::shown;

type Evaluated<T> = Result<T, EvaluationError>;

pub(super) struct Evaluation<'v> {
    input: &'v Input<'v>,
    meter: &'v mut Meter,
    /// Values of the variables of the macros around, from the outermost.
    locals: Vec<Value<'v>>,
}

impl<'v> Evaluation<'v> {
    pub(super) fn new(input: &'v Input<'v>, meter: &'v mut Meter) -> Self {
        Self { input, meter, locals: Vec::new() }
    }

    pub(super) fn value(&mut self, node: &'v Node) -> Evaluated<Value<'v>> {
        self.meter.charge(1)?;
        if let Some(constant) = &node.constant {
            return match constant {
                Ok(value) => Ok(value.lend()),
                Err(error) => Err(error.clone()),
            };
        }
        match &node.kind {
            // A literal is a constant, and nothing takes an object.
            Kind::Literal | Kind::Object(_) => {
                Err(EvaluationError::NoOverload { what: "a value", types: "object".into() })
            }
            Kind::Now => Ok(self.input.now()),
            Kind::Local(local) => match self.locals.get(*local) {
                Some(value) => Ok(value.clone()),
                None => Err(EvaluationError::NoOverload { what: "a macro", types: "it".into() }),
            },
            Kind::Field(field) => self.input.field(*field)?.ok_or(EvaluationError::NoSuchField {
                variable: field.variable().as_str(),
                field: field.name(),
            }),
            Kind::HasField(field) => Ok(Value::Bool(self.input.field(*field)?.is_some())),
            Kind::Select(operand, key) => self
                .entry(operand, key)?
                .ok_or_else(|| EvaluationError::NoSuchKey(shown(key).into())),
            Kind::HasKey(operand, key) => Ok(Value::Bool(self.entry(operand, key)?.is_some())),
            Kind::Index(nodes) => {
                let [container, at] = &**nodes;
                let (container, at) = (self.value(container)?, self.value(at)?);
                index(&container, &at, self.meter)
            }
            Kind::Not(operand) => Ok(Value::Bool(!self.truth(operand)?)),
            Kind::Negate(operand) => negate(&self.value(operand)?),
            Kind::And(operands) => self.logic(operands, false),
            Kind::Or(operands) => self.logic(operands, true),
            Kind::Conditional(nodes) => {
                let [test, then, otherwise] = &**nodes;
                let chosen = if self.truth(test)? { then } else { otherwise };
                self.value(chosen)
            }
            Kind::Binary(operator, nodes) => {
                let [left, right] = &**nodes;
                let (left, right) = (self.value(left)?, self.value(right)?);
                operator.apply(&left, &right, self.meter)
            }
            Kind::List(nodes) => {
                let values: Vec<_> =
                    nodes.iter().map(|node| self.value(node)).collect::<Evaluated<_>>()?;
                self.meter.charge(values.len() as u64)?;
                Ok(Value::list(values))
            }
            Kind::Map(entries) => {
                let mut values = Vec::with_capacity(entries.len());
                for [key, value] in entries {
                    values.push((self.value(key)?, self.value(value)?));
                }
                map_literal(values, self.meter)
            }
            // No function takes more than two.
            Kind::Call(function, arguments) => match arguments.as_slice() {
                [first, second] => {
                    let values = [self.value(first)?, self.value(second)?];
                    function.call(&values, self.meter)
                }
                [first] => {
                    let values = [self.value(first)?];
                    function.call(&values, self.meter)
                }
                _ => function.call(&[], self.meter),
            },
            Kind::Matches(matches) => self.matches(matches),
            Kind::Macro(it) => self.call_macro(it),
        }
    }

    pub(super) fn truth(&mut self, node: &'v Node) -> Evaluated<bool> {
        match self.value(node)? {
            Value::Bool(value) => Ok(value),
            other => Err(EvaluationError::NotBool(other.type_name())),
        }
    }

    /// `&&` and `||`: the operand that decides counts, whatever is wrong with the others (langdef
    /// "Logical Operators").
    fn logic(&mut self, operands: &'v [Node], decides: bool) -> Evaluated<Value<'v>> {
        let mut failed = None;
        for operand in operands {
            match self.truth(operand) {
                Ok(value) if value == decides => return Ok(Value::Bool(decides)),
                Ok(_) => {}
                Err(error) if error.is_absorbed() => failed = failed.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(Value::Bool(!decides)),
        }
    }

    fn entry(&mut self, operand: &'v Node, key: &'v str) -> Evaluated<Option<Value<'v>>> {
        match self.value(operand)? {
            Value::Map(map) => map.get(&Key::String(Lent::Borrowed(key)), self.meter),
            other => Err(EvaluationError::NoOverload {
                what: "a selection",
                types: other.type_name().into(),
            }),
        }
    }

    fn matches(&mut self, matches: &'v Matches) -> Evaluated<Value<'v>> {
        match (self.value(&matches.text)?, &matches.compiled) {
            (Value::String(text), Ok(pattern)) => {
                self.meter.charge(pattern.weight.saturating_mul(text.len() as u64 + 1))?;
                Ok(Value::Bool(pattern.regex.is_match(&text)))
            }
            (Value::String(_), Err(error)) => Err(error.clone()),
            (other, _) => Err(EvaluationError::NoOverload {
                what: "matches",
                types: other.type_name().into(),
            }),
        }
    }

    fn call_macro(&mut self, it: &'v Macro) -> Evaluated<Value<'v>> {
        let list = match self.value(&it.range)? {
            Value::List(list) => list,
            Value::Map(map) => {
                self.meter.charge(map.len() as u64)?;
                List::Values(Lent::Shared(map.keys().into()))
            }
            other => {
                return Err(EvaluationError::NoOverload {
                    what: "a macro",
                    types: other.type_name().into(),
                });
            }
        };
        // Parsed with as many variables around, so the place is the next one.
        self.locals.truncate(it.local);
        let depth = self.locals.len();
        let result = self.walk(it, &list);
        self.locals.truncate(depth);
        result
    }

    fn walk(&mut self, it: &'v Macro, list: &List<'v>) -> Evaluated<Value<'v>> {
        let mut made = Vec::new();
        let mut matched: u64 = 0;
        let mut failed = None;
        for element in list.iter() {
            self.locals.truncate(it.local);
            self.locals.push(element.clone());
            let holds = match &it.predicate {
                Some(predicate) => self.truth(predicate),
                None => Ok(true),
            };
            let absorbs = matches!(it.kind, MacroKind::All | MacroKind::Exists);
            let holds = match holds {
                Ok(holds) => holds,
                Err(error) if absorbs && error.is_absorbed() => {
                    failed = failed.or(Some(error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            match it.kind {
                MacroKind::All if !holds => return Ok(Value::Bool(false)),
                MacroKind::Exists if holds => return Ok(Value::Bool(true)),
                MacroKind::ExistsOne => matched += u64::from(holds),
                MacroKind::Filter if holds => {
                    self.meter.charge(1)?;
                    made.push(element);
                }
                MacroKind::Map if holds => {
                    if let Some(transform) = &it.transform {
                        let value = self.value(transform)?;
                        self.meter.charge(1)?;
                        made.push(value);
                    }
                }
                _ => {}
            }
        }
        match (it.kind, failed) {
            (_, Some(error)) => Err(error),
            (MacroKind::All, None) => Ok(Value::Bool(true)),
            (MacroKind::Exists, None) => Ok(Value::Bool(false)),
            (MacroKind::ExistsOne, None) => Ok(Value::Bool(matched == 1)),
            (MacroKind::Map | MacroKind::Filter, None) => Ok(Value::list(made)),
        }
    }
}

fn map_literal<'v>(
    entries: Vec<(Value<'v>, Value<'v>)>,
    meter: &mut Meter,
) -> Evaluated<Value<'v>> {
    // Sorting compares each key with some others.
    meter.charge(entries.len() as u64 * 2)?;
    let mut keyed = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        // A double finds a key but is none.
        let key = match (&key, key.to_key()) {
            (Value::Double(_), _) | (_, None) => {
                let types = key.type_name().into();
                return Err(EvaluationError::NoOverload { what: "a map's key", types });
            }
            (_, Some(key)) => key,
        };
        keyed.push((key, value));
    }
    match Map::new(keyed) {
        Ok(map) => Ok(Value::Map(map)),
        Err(key) => Err(EvaluationError::DuplicateKey(key.to_string().into())),
    }
}

/// What a node evaluates to if all below it are constants: no start then pays for it, and its
/// failure is found when the policy is checked.
pub(super) fn fold(kind: &Kind) -> Option<Evaluated<Value<'static>>> {
    let mut meter = Meter::unlimited();
    let known = |node: &Node| match &node.constant {
        Some(Ok(value)) => Some(value.clone()),
        _ => None,
    };
    let all = |nodes: &[Node]| nodes.iter().map(known).collect::<Option<Vec<_>>>();
    Some(match kind {
        Kind::Index(nodes) => match all(&**nodes)?.as_slice() {
            [container, at] => index(container, at, &mut meter),
            _ => return None,
        },
        Kind::Negate(operand) => negate(&known(operand)?),
        Kind::Binary(operator, nodes) => match all(&**nodes)?.as_slice() {
            [left, right] => operator.apply(left, right, &mut meter),
            _ => return None,
        },
        Kind::List(nodes) => Ok(Value::list(all(nodes)?)),
        Kind::Map(entries) => {
            let entries = entries
                .iter()
                .map(|[key, value]| Some((known(key)?, known(value)?)))
                .collect::<Option<Vec<_>>>()?;
            map_literal(entries, &mut meter)
        }
        Kind::Call(function, arguments) => function.call(&all(arguments)?, &mut meter),
        _ => return None,
    })
}

/// Compiles a pattern. What it may become in memory is bounded, and the bound it fits is its
/// weight: the engine's time for one byte grows with the size of the program.
pub(super) fn compile_pattern(text: &str) -> Evaluated<Pattern> {
    /// In bytes; the larger ones cost more to run.
    const SIZES: [usize; 4] = [1 << 10, 1 << 12, 1 << 14, 1 << 16];
    const NESTING: u32 = 32;
    let mut failed = None;
    for size in SIZES {
        match RegexBuilder::new(text).size_limit(size).nest_limit(NESTING).build() {
            Ok(regex) => return Ok(Pattern { regex, weight: (size >> 10) as u64 }),
            Err(error) => failed = Some(error),
        }
    }
    Err(EvaluationError::Pattern {
        pattern: shown(text).into(),
        why: failed.map(|error| shown(&error.to_string())).unwrap_or_default().into(),
    })
}
