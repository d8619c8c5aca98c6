//! An expression as a tree, all names resolved.

use regex_lite::Regex;

use super::error::EvaluationError;
use super::function::Function;
use super::types::{Field, Variable};
use super::value::Value;

#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where it stands; of an operator, its sign.
    pub(super) column: u16,
    /// Nodes on the longest way down, so that no walk over the tree is deeper than the parser
    /// allows.
    pub(super) height: u8,
    pub(super) kind: Kind,
    /// What it evaluates to, if no input matters.
    pub(super) constant: Option<Result<Value<'static>, EvaluationError>>,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// In `constant`.
    Literal,
    Now,
    /// A variable whose fields are not asked for; nothing takes it.
    Object(Variable),
    /// The variable of a macro; counted from the outermost.
    Local(usize),
    Field(Field),
    HasField(Field),
    /// `map.key`
    Select(Box<Node>, Box<str>),
    HasKey(Box<Node>, Box<str>),
    /// `list[index]` or `map[key]`
    Index(Box<[Node; 2]>),
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    /// `test ? then : else`
    Conditional(Box<[Node; 3]>),
    Binary(Operator, Box<[Node; 2]>),
    List(Vec<Node>),
    Map(Vec<[Node; 2]>),
    /// A receiver is the first argument.
    Call(Function, Vec<Node>),
    Matches(Box<Matches>),
    Macro(Box<Macro>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Debug, Clone)]
pub(super) struct Matches {
    pub(super) text: Node,
    pub(super) pattern: Node,
    pub(super) compiled: Result<Pattern, EvaluationError>,
}

#[derive(Debug, Clone)]
pub(super) struct Pattern {
    pub(super) regex: Regex,
    /// Cost of each byte of a text.
    pub(super) weight: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Macro {
    pub(super) kind: MacroKind,
    pub(super) range: Node,
    /// As [`Kind::Local`] counts.
    pub(super) local: usize,
    /// Of `map` with two arguments there is none.
    pub(super) predicate: Option<Node>,
    /// Of `map` only.
    pub(super) transform: Option<Node>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MacroKind {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
}

impl MacroKind {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "all" => Self::All,
            "exists" => Self::Exists,
            "exists_one" => Self::ExistsOne,
            "map" => Self::Map,
            "filter" => Self::Filter,
            _ => return None,
        })
    }
}

impl Operator {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::In => "in",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

impl Node {
    /// The nodes directly below.
    pub(super) fn children(&self) -> Vec<&Self> {
        match &self.kind {
            Kind::Literal
            | Kind::Now
            | Kind::Object(_)
            | Kind::Local(_)
            | Kind::Field(_)
            | Kind::HasField(_) => Vec::new(),
            Kind::Select(node, _)
            | Kind::HasKey(node, _)
            | Kind::Not(node)
            | Kind::Negate(node) => {
                vec![node]
            }
            Kind::Index(nodes) | Kind::Binary(_, nodes) => nodes.iter().collect(),
            Kind::Conditional(nodes) => nodes.iter().collect(),
            Kind::And(nodes) | Kind::Or(nodes) | Kind::List(nodes) | Kind::Call(_, nodes) => {
                nodes.iter().collect()
            }
            Kind::Map(entries) => entries.iter().flatten().collect(),
            Kind::Matches(matches) => vec![&matches.text, &matches.pattern],
            Kind::Macro(it) => {
                std::iter::once(&it.range).chain(&it.predicate).chain(&it.transform).collect()
            }
        }
    }
}
