//! Static types (langdef "Gradual Type Checking"), and what else can be known before a start.

use super::Asked;
use super::error::{EvaluationError, ExpressionError};
use super::function::Function;
use super::operator;
use super::syntax::{Kind, Macro, MacroKind, Node, Operator};
use super::time::parse_zone;
use super::types::{Field, Type, Variable};
use super::value::Value;
use portcullis_types::{Class, Engine, Kind as ContainerKind, Severity, UnknownWord};

type Checked<T> = Result<T, ExpressionError>;

struct Check {
    asked: Asked,
    /// Types of the variables of the macros around, from the outermost.
    locals: Vec<Type>,
}

/// Checks a whole expression, whose answer is a bool.
pub(super) fn check(root: &Node, asked: Asked) -> Checked<()> {
    match type_of(root, asked)? {
        Type::Bool | Type::Nothing => Ok(()),
        other => Err(wrong(
            root,
            format!("the expression gives {}, not bool", described(&other)),
            match other {
                Type::Object(variable) => variable.fields(),
                _ => "compare it, for example with ==".to_owned(),
            },
        )),
    }
}

/// The type of a whole expression.
pub(super) fn type_of(root: &Node, asked: Asked) -> Checked<Type> {
    Check { asked, locals: Vec::new() }.of(root)
}

fn wrong(node: &Node, message: String, remedy: impl Into<String>) -> ExpressionError {
    ExpressionError::new(node.column, message, remedy)
}

fn described(found: &Type) -> String {
    match found {
        Type::Object(variable) => format!("{} as a whole", variable.as_str()),
        other => other.to_string(),
    }
}

impl Check {
    fn of(&mut self, node: &Node) -> Checked<Type> {
        let found = self.kind(node)?;
        if let Some(Err(error)) = &node.constant {
            return Err(wrong(node, format!("this always fails: {error}"), ""));
        }
        Ok(found)
    }

    fn kind(&mut self, node: &Node) -> Checked<Type> {
        match &node.kind {
            Kind::Literal => Ok(match &node.constant {
                Some(Ok(value)) => Type::of(value),
                _ => Type::Nothing,
            }),
            Kind::Now => Ok(Type::Timestamp),
            Kind::Object(variable) => self.object(node, *variable),
            Kind::Local(local) => Ok(self.locals.get(*local).cloned().unwrap_or(Type::Nothing)),
            Kind::Field(field) => {
                self.object(node, field.variable())?;
                Ok(field.holds())
            }
            Kind::HasField(field) => {
                self.object(node, field.variable())?;
                Ok(Type::Bool)
            }
            Kind::Select(operand, key) => self.select(node, operand, key),
            Kind::HasKey(operand, key) => self.select(node, operand, key).map(|_| Type::Bool),
            Kind::Index(nodes) => self.index(node, &nodes[0], &nodes[1]),
            Kind::Not(operand) => {
                self.bool(operand, "!")?;
                Ok(Type::Bool)
            }
            Kind::Negate(operand) => {
                let found = self.of(operand)?;
                match found {
                    Type::Nothing | Type::Int | Type::Double => Ok(found),
                    other => Err(wrong(
                        node,
                        format!("- does not take {}", described(&other)),
                        "it takes int and double",
                    )),
                }
            }
            Kind::And(operands) => self.logic(operands, "&&"),
            Kind::Or(operands) => self.logic(operands, "||"),
            Kind::Conditional(nodes) => self.conditional(node, &nodes[0], &nodes[1], &nodes[2]),
            Kind::Binary(operator, nodes) => self.binary(node, *operator, &nodes[0], &nodes[1]),
            Kind::List(nodes) => {
                let element = self.one_type(nodes.iter(), "the elements of a list")?;
                Ok(Type::List(Box::new(element)))
            }
            Kind::Map(entries) => self.map(entries),
            Kind::Call(function, arguments) => self.call(node, *function, arguments),
            Kind::Matches(matches) => {
                self.text(&matches.text, "matches")?;
                self.text(&matches.pattern, "matches")?;
                match &matches.compiled {
                    Ok(_) => Ok(Type::Bool),
                    Err(error) => {
                        Err(wrong(&matches.pattern, error.to_string(), pattern_remedy(error)))
                    }
                }
            }
            Kind::Macro(it) => self.call_macro(node, it),
        }
    }

    fn object(&self, node: &Node, variable: Variable) -> Checked<Type> {
        if variable == Variable::Finding && self.asked == Asked::PerStart {
            return Err(wrong(
                node,
                "there is no finding here, since the rule is asked once per start".to_owned(),
                "give the rule a class, or ask for image, request or now",
            ));
        }
        Ok(Type::Object(variable))
    }

    fn bool(&mut self, node: &Node, what: &str) -> Checked<()> {
        match self.of(node)? {
            Type::Bool | Type::Nothing => Ok(()),
            other => Err(wrong(
                node,
                format!("{what} does not take {}", described(&other)),
                "it takes bool",
            )),
        }
    }

    fn text(&mut self, node: &Node, what: &str) -> Checked<()> {
        match self.of(node)? {
            Type::String | Type::Nothing => Ok(()),
            other => Err(wrong(
                node,
                format!("{what} does not take {}", described(&other)),
                "it takes string",
            )),
        }
    }

    fn logic(&mut self, operands: &[Node], what: &str) -> Checked<Type> {
        operands.iter().try_for_each(|operand| self.bool(operand, what))?;
        Ok(Type::Bool)
    }

    fn select(&mut self, node: &Node, operand: &Node, key: &str) -> Checked<Type> {
        match self.of(operand)? {
            Type::Nothing => Ok(Type::Nothing),
            Type::Map(keys, value) if keys.fits(&Type::String) => Ok(*value),
            other => Err(wrong(
                node,
                format!("{} has no field \"{}\"", described(&other), crate::fault::shown(key)),
                "only finding, image, request and maps with string keys have fields",
            )),
        }
    }

    fn index(&mut self, node: &Node, container: &Node, at: &Node) -> Checked<Type> {
        let (container, at) = (self.of(container)?, self.of(at)?);
        match &container {
            Type::Nothing => Ok(Type::Nothing),
            Type::List(element) if at.fits(&Type::Int) => Ok((**element).clone()),
            Type::Map(key, value) if at.fits(key) && at.is_key() => Ok((**value).clone()),
            _ => Err(wrong(
                node,
                format!("[] does not take {} of {}", described(&at), described(&container)),
                match &container {
                    Type::List(_) => "a list takes int".to_owned(),
                    Type::Map(key, _) if **key == Type::Nothing => {
                        "this map takes string, int, uint or bool".to_owned()
                    }
                    Type::Map(key, _) => format!("this map takes {key}"),
                    Type::Object(variable) => variable.fields(),
                    _ => "it takes lists and maps".to_owned(),
                },
            )),
        }
    }

    fn conditional(
        &mut self,
        node: &Node,
        test: &Node,
        then: &Node,
        otherwise: &Node,
    ) -> Checked<Type> {
        self.bool(test, "?")?;
        let (then, otherwise) = (self.of(then)?, self.of(otherwise)?);
        then.join(&otherwise).ok_or_else(|| {
            wrong(
                node,
                format!("? gives {} or {}", described(&then), described(&otherwise)),
                "both must be of one type",
            )
        })
    }

    fn binary(
        &mut self,
        node: &Node,
        operator: Operator,
        left: &Node,
        right: &Node,
    ) -> Checked<Type> {
        let (left_type, right_type) = (self.of(left)?, self.of(right)?);
        let Some(result) = operator.result(&left_type, &right_type) else {
            return Err(wrong(
                node,
                format!(
                    "{} does not take {} and {}",
                    operator.as_str(),
                    described(&left_type),
                    described(&right_type)
                ),
                operator::remedy(operator, &left_type, &right_type),
            ));
        };
        words(operator, left, right)?;
        Ok(result)
    }

    /// The type that all of these are of.
    fn one_type<'n>(&mut self, nodes: impl Iterator<Item = &'n Node>, what: &str) -> Checked<Type> {
        let mut joined = Type::Nothing;
        for node in nodes {
            let found = self.of(node)?;
            if let Type::Object(variable) = found {
                let message = format!("{} as a whole is no value", variable.as_str());
                return Err(wrong(node, message, variable.fields()));
            }
            joined = joined.join(&found).ok_or_else(|| {
                let message = format!("{what} are {joined} and {found}");
                wrong(node, message, "all must be of one type")
            })?;
        }
        Ok(joined)
    }

    fn map(&mut self, entries: &[[Node; 2]]) -> Checked<Type> {
        let key = self.one_type(entries.iter().map(|[key, _]| key), "the keys of a map")?;
        let value = self.one_type(entries.iter().map(|[_, value]| value), "the values of a map")?;
        if let Some([node, _]) = entries.first()
            && !key.is_key()
        {
            let message = format!("{key} is no key of a map");
            return Err(wrong(node, message, "keys are string, int, uint or bool"));
        }
        Ok(Type::Map(Box::new(key), Box::new(value)))
    }

    fn call(&mut self, node: &Node, function: Function, arguments: &[Node]) -> Checked<Type> {
        let types = arguments.iter().map(|node| self.of(node)).collect::<Checked<Vec<_>>>()?;
        let Some(result) = function.result(&types) else {
            let given: Vec<String> = types.iter().map(described).collect();
            let message = format!("{} does not take {}", function.name(), given.join(" and "));
            return Err(wrong(node, message, function.takes()));
        };
        if let (Function::Get(_), [_, zone]) = (function, arguments)
            && let Some(Ok(Value::String(text))) = &zone.constant
            && let Err(error) = parse_zone(text)
        {
            return Err(wrong(zone, format!("this always fails: {error}"), ""));
        }
        Ok(result)
    }

    fn call_macro(&mut self, node: &Node, it: &Macro) -> Checked<Type> {
        let element = match self.of(&it.range)? {
            Type::Nothing => Type::Nothing,
            Type::List(element) => *element,
            Type::Map(key, _) => *key,
            other => {
                let message = format!("{} has no elements", described(&other));
                return Err(wrong(node, message, "macros take lists and maps"));
            }
        };
        self.locals.push(element.clone());
        let checked = self.parts(it, element);
        self.locals.pop();
        checked
    }

    fn parts(&mut self, it: &Macro, element: Type) -> Checked<Type> {
        if let Some(predicate) = &it.predicate {
            self.bool(predicate, "the condition of a macro")?;
        }
        let transformed = match &it.transform {
            Some(transform) => self.one_type(std::iter::once(transform), "the values of map")?,
            None => Type::Nothing,
        };
        Ok(match it.kind {
            MacroKind::All | MacroKind::Exists | MacroKind::ExistsOne => Type::Bool,
            MacroKind::Filter => Type::List(Box::new(element)),
            MacroKind::Map => Type::List(Box::new(transformed)),
        })
    }
}

fn pattern_remedy(error: &EvaluationError) -> &'static str {
    match error {
        EvaluationError::VariablePattern => "write it as a text, for example \"^lib.*\"",
        _ => "a raw text r\"...\" spares doubled backslashes",
    }
}

/// Some fields hold one of a few words; comparing them with another word would never hold, and the
/// rule would never speak.
fn words(operator: Operator, left: &Node, right: &Node) -> Checked<()> {
    let listed = |node: &Node| match &node.kind {
        Kind::List(elements) => elements.clone(),
        _ => Vec::new(),
    };
    let (field, candidates) = match (operator, &left.kind, &right.kind) {
        (Operator::Equal | Operator::NotEqual, Kind::Field(field), _) => {
            (*field, vec![right.clone()])
        }
        (Operator::Equal | Operator::NotEqual, _, Kind::Field(field)) => {
            (*field, vec![left.clone()])
        }
        (Operator::In, Kind::Field(field), _) => (*field, listed(right)),
        _ => return Ok(()),
    };
    for node in &candidates {
        if let Some(Ok(Value::String(word))) = &node.constant
            && let Err(unknown) = known_word(field, word)
        {
            let message = format!("\"{}\" is not {}", unknown.word, unknown.what);
            return Err(wrong(node, message, format!("use {}", unknown.known)));
        }
    }
    Ok(())
}

fn known_word(field: Field, word: &str) -> Result<(), UnknownWord> {
    match field {
        Field::Class => word.parse::<Class>().map(drop),
        Field::Severity => word.parse::<Severity>().map(drop),
        Field::Engine => word.parse::<Engine>().map(drop),
        Field::Kind => word.parse::<ContainerKind>().map(drop),
        _ => Ok(()),
    }
}
