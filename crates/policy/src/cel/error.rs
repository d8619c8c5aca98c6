//! What can be wrong with an expression, before and during its evaluation.

use crate::fault::shown;

/// Why a text is not an expression, or not one that fits its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (column {column})")]
#[non_exhaustive]
pub struct ExpressionError {
    /// What is wrong; one line.
    pub message: String,
    /// Where in the expression, in characters from 1.
    pub column: usize,
    /// What to write instead; may be empty.
    pub remedy: String,
}

impl ExpressionError {
    pub(super) fn new(column: u16, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { column: column.into(), message: message.into(), remedy: remedy.into() }
    }
}

/// Why an evaluation gave no answer (langdef "Runtime Errors" and "Overflow").
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluationError {
    /// A field of a variable is not known for this start or finding.
    #[error("no such key: {variable}.{field}")]
    NoSuchField {
        /// `finding`, `image` or `request`.
        variable: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A map has no such key.
    #[error("no such key: {0}")]
    NoSuchKey(Box<str>),
    /// A list has no such index.
    #[error("no element {0} in a list of {1}")]
    NoSuchIndex(i64, usize),
    /// A map literal names a key twice.
    #[error("the key {0} stands twice in a map")]
    DuplicateKey(Box<str>),
    /// An operator or a function does not take these types. A checked expression never meets it.
    #[error("{what} does not take {types}")]
    NoOverload {
        /// The operator or function.
        what: &'static str,
        /// The types it was given.
        types: Box<str>,
    },
    /// The result does not fit its type.
    #[error("the result of {0} is out of range")]
    Overflow(&'static str),
    /// Divided by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// A text or number cannot be converted.
    #[error("\"{value}\" is not {what}")]
    Malformed {
        /// What was wanted, with its article and an example.
        what: &'static str,
        /// What was given, shortened.
        value: Box<str>,
    },
    /// The text of a regular expression is none.
    #[error("\"{pattern}\" is not a regular expression: {why}")]
    Pattern {
        /// The text, shortened.
        pattern: Box<str>,
        /// What is wrong with it.
        why: Box<str>,
    },
    /// `matches` was given a text that is only known now.
    #[error("the regular expression of matches is not written out")]
    VariablePattern,
    /// `finding` was asked for where there is none.
    #[error("there is no finding here")]
    NoFinding,
    /// The answer is not a bool. A checked expression never meets it.
    #[error("the answer is {0}, not bool")]
    NotBool(&'static str),
    /// The limit of costs is reached.
    #[error("the expression costs too much to evaluate")]
    TooCostly,
}

impl EvaluationError {
    pub(super) fn malformed(what: &'static str, value: &str) -> Self {
        Self::Malformed { what, value: shown(value).into() }
    }

    /// Whether `&&` and `||` may ignore it. The end of the budget ends the evaluation.
    pub(super) fn is_absorbed(&self) -> bool {
        !matches!(self, Self::TooCostly)
    }
}
