//! `when`: conditions in CEL, the Common Expression Language.
//!
//! Follows the language definition of google/cel-spec, `doc/langdef.md` ("langdef" in comments).
//! A text is read, with all its names resolved ([`Expression`]), checked against its place
//! ([`Expression::check`]), and evaluated for starts and findings ([`Expression::evaluate`]).
//!
//! # What there is
//!
//! - Variables. A field that is not known is absent: `has(finding.cvss)` is then false, and
//!   reading it is an error.
//!   - `finding` (only for rules with a class): `id`, `aliases` (list), `class`, `severity`,
//!     `package`, `version`, `fixedVersion`, `fixable` (bool), `path`, `cvss`, `epss` (doubles),
//!     `kev` (bool), `published`, `fixed`, `firstSeen` (timestamps), `source`.
//!   - `image`: `digest` of the configuration, `manifestDigest` (the first), `manifestDigests` and
//!     `references` (lists), all as far as they are proven; `created` (timestamp), `labels` (map of
//!     strings) and `user`, if the configuration was read.
//!   - `request`: `namespace`, `pod`, `podLabels` (map of strings), `container`, `engine`, `node`,
//!     `kind`. Outside Kubernetes the texts of the pod are empty; where the pod is not fully known,
//!     they are absent.
//!   - `now` (timestamp).
//! - Literals: `1`, `1u`, `0x1f`, `1.5`, `1e3`, `true`, `null`, `"text"`, `'text'`, `"""text"""`,
//!   raw `r"text"`, bytes `b"..."`, lists `[1, 2]`, maps `{"a": 1}`; comments begin with `//`. A key
//!   of a map that is no plain name stands in brackets, `image.labels["a.b/c"]`, or after a point
//!   in backticks, as `has` needs it.
//! - Operators: `? :`, `||`, `&&`, `== != < <= > >= in`, `+ -`, `* / %`, `!`, unary `-`, `.`, `[]`.
//!   `&&` and `||` ignore an error on one side if the other side decides.
//! - Macros: `has`, `all`, `exists`, `exists_one`, `map` (two forms), `filter`.
//! - Functions: `size`, `contains`, `startsWith`, `endsWith`, `matches`; the conversions `bool`,
//!   `int`, `uint`, `double`, `string`, `bytes`, `duration`, `timestamp`; of timestamps
//!   `getFullYear`, `getMonth`, `getDate`, `getDayOfMonth`, `getDayOfWeek`, `getDayOfYear`, and of
//!   timestamps and durations `getHours`, `getMinutes`, `getSeconds`, `getMilliseconds`. A time
//!   zone is `"UTC"` or an offset, `"+02:00"`.
//!
//! # What there is not
//!
//! - `dyn` and `type`: everything has a static type. Lists and maps are of one type each, and
//!   `==` compares equal types; numbers of different types are ordered (`finding.cvss >= 9`).
//! - Messages, and names of types such as `google.protobuf.Timestamp`.
//! - Names of time zones (`"Europe/Paris"`): a door carries no database of them.
//! - Patterns of `matches` that are not written out: only those are compiled once and bounded.
//! - Unicode classes in patterns (`\p{Greek}`); `\d`, `\w`, `\s` and `\b` mean ASCII, as in RE2.
//! - Extensions: optional values, `cel.bind`, further functions of strings, lists, sets, addresses.
//!
//! # Bounds
//!
//! A text has at most 4 KiB and nests at most 64 levels, so that no walk over it is deep. An
//! evaluation costs at most [`COST_LIMIT`], and all of one start draw on one [`Cost`].

mod check;
mod cost;
mod error;
mod evaluate;
mod function;
mod input;
mod lexer;
mod operator;
mod parser;
mod syntax;
mod time;
mod types;
mod value;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use cost::{COST_LIMIT, Cost, START_COST_LIMIT};
pub use error::{EvaluationError, ExpressionError};
pub use input::Input;

/// A condition, as written and as read. Two are equal if their texts are.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Expression {
    text: Arc<str>,
    root: Arc<syntax::Node>,
}

/// How often a condition is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// For each finding of the rule's class.
    PerFinding,
    /// Once per start; there is no variable `finding`.
    PerStart,
}

impl Expression {
    /// The expression as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Checks the types: each operator and function takes what it is given, the answer is a bool,
    /// every variable is there. Also finds what fails at every start: a constant that is no
    /// duration or timestamp, a pattern that is none, a word that is no severity.
    pub fn check(&self, asked: Asked) -> Result<(), ExpressionError> {
        check::check(&self.root, asked)
    }

    /// Asks it. What a checked expression can still meet: a field or key that is absent, numbers
    /// out of range, a text that cannot be converted, and the limit of costs.
    pub fn evaluate(&self, input: &Input<'_>, cost: &mut Cost) -> Result<bool, EvaluationError> {
        cost.spend(|meter| evaluate::Evaluation::new(input, meter).truth(&self.root))
    }
}

impl FromStr for Expression {
    type Err = ExpressionError;

    fn from_str(text: &str) -> Result<Self, ExpressionError> {
        let root = parser::parse(text)?;
        Ok(Self { text: text.into(), root: Arc::new(root) })
    }
}

impl TryFrom<String> for Expression {
    type Error = ExpressionError;

    fn try_from(text: String) -> Result<Self, ExpressionError> {
        text.parse()
    }
}

impl From<Expression> for String {
    fn from(expression: Expression) -> Self {
        expression.text.as_ref().into()
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Expression {}

#[cfg(test)]
mod tests;
