//! Tokens to a tree (langdef "Syntax", the grammar), with all names resolved.
//!
//! Neither brackets nor operators can make a walk over the tree deep: both are counted, and `&&`
//! and `||` in a row are one node.

use super::error::{EvaluationError, ExpressionError};
use super::evaluate::{compile_pattern, fold};
use super::function::{self, Function, Style};
use super::lexer::{Lexer, Token};
use super::syntax::{Kind, Macro, MacroKind, Matches, Node, Operator};
use super::types::Variable;
use super::value::{Lent, Value};
use crate::fault::shown;

/// Longest text that is read, in bytes.
pub(super) const MAX_LENGTH: usize = 4096;
/// Brackets and operators within each other. The language definition asks for 24 operators in a
/// row and 12 levels of brackets.
const MAX_DEPTH: u8 = 64;

type Parsed<T> = Result<T, ExpressionError>;

/// Reads a text, from end to end.
pub(super) fn parse(text: &str) -> Parsed<Node> {
    if text.len() > MAX_LENGTH {
        return Err(ExpressionError::new(
            1,
            format!("the expression is longer than {MAX_LENGTH} bytes"),
            "split it into several rules",
        ));
    }
    let mut parser = Parser {
        lexer: Lexer::new(text),
        token: Token::End,
        column: 1,
        depth: 0,
        locals: Vec::new(),
    };
    parser.advance()?;
    if parser.token == Token::End {
        let remedy = "write for example finding.cvss >= 9.0";
        return Err(ExpressionError::new(1, "the expression is empty", remedy));
    }
    let node = parser.expression()?;
    match parser.token {
        Token::End => Ok(node),
        _ => Err(parser.unexpected("an operator or the end")),
    }
}

struct Parser<'t> {
    lexer: Lexer<'t>,
    /// The token that is looked at, and where it begins.
    token: Token<'t>,
    column: u16,
    depth: u8,
    /// Variables of the macros around, from the outermost.
    locals: Vec<&'t str>,
}

/// From loosest to tightest, without the logical operators.
fn binary(token: &Token<'_>) -> Option<(u8, Operator)> {
    Some(match token {
        Token::Sign("==") => (1, Operator::Equal),
        Token::Sign("!=") => (1, Operator::NotEqual),
        Token::Sign("<") => (1, Operator::Less),
        Token::Sign("<=") => (1, Operator::LessOrEqual),
        Token::Sign(">") => (1, Operator::Greater),
        Token::Sign(">=") => (1, Operator::GreaterOrEqual),
        Token::Word("in") => (1, Operator::In),
        Token::Sign("+") => (2, Operator::Add),
        Token::Sign("-") => (2, Operator::Subtract),
        Token::Sign("*") => (3, Operator::Multiply),
        Token::Sign("/") => (3, Operator::Divide),
        Token::Sign("%") => (3, Operator::Remainder),
        _ => return None,
    })
}

fn is_keyword(word: &str) -> bool {
    matches!(word, "true" | "false" | "null" | "in")
}

fn is_reserved(word: &str) -> bool {
    matches!(
        word,
        "as" | "break"
            | "const"
            | "continue"
            | "else"
            | "for"
            | "function"
            | "if"
            | "import"
            | "let"
            | "loop"
            | "package"
            | "namespace"
            | "return"
            | "var"
            | "void"
            | "while"
    )
}

impl<'t> Parser<'t> {
    fn advance(&mut self) -> Parsed<()> {
        (self.token, self.column) = self.lexer.next()?;
        Ok(())
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.token, Token::Sign(own) if own == sign)
    }

    /// Steps over this sign if it stands here.
    fn take(&mut self, sign: &str) -> Parsed<bool> {
        let found = self.is(sign);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect(&mut self, sign: &str) -> Parsed<()> {
        match self.take(sign)? {
            true => Ok(()),
            false => Err(self.unexpected(sign)),
        }
    }

    fn unexpected(&self, wanted: &str) -> ExpressionError {
        let message = match &self.token {
            Token::End => "the expression ends too early".to_owned(),
            Token::Word(word) | Token::Quoted(word) => {
                format!("\"{}\" is not expected here", shown(word))
            }
            Token::Sign(sign) => format!("\"{sign}\" is not expected here"),
            Token::String(_) | Token::Bytes(_) => "a text is not expected here".to_owned(),
            Token::Int(_) | Token::Uint(_) | Token::Double(_) => {
                "a number is not expected here".to_owned()
            }
        };
        ExpressionError::new(self.column, message, format!("expected is {wanted}"))
    }

    fn too_deep(column: u16) -> ExpressionError {
        ExpressionError::new(
            column,
            format!("the expression is nested more than {MAX_DEPTH} levels deep"),
            "split it into several rules",
        )
    }

    /// Runs a part that brackets or signs nest.
    fn deeper<T>(&mut self, part: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth == MAX_DEPTH {
            return Err(Self::too_deep(self.column));
        }
        self.depth += 1;
        let parsed = part(self);
        self.depth -= 1;
        parsed
    }

    fn node(column: u16, kind: Kind) -> Parsed<Node> {
        let mut node = Node { column, height: 0, kind, constant: None };
        let below = node.children().iter().map(|n| n.height).max().unwrap_or(0);
        if below >= MAX_DEPTH {
            return Err(Self::too_deep(column));
        }
        node.height = below + 1;
        node.constant = fold(&node.kind);
        Ok(node)
    }

    fn literal(column: u16, value: Value<'static>) -> Node {
        Node { column, height: 1, kind: Kind::Literal, constant: Some(Ok(value)) }
    }

    fn expression(&mut self) -> Parsed<Node> {
        self.deeper(|parser| {
            let test = parser.or()?;
            let column = parser.column;
            if !parser.take("?")? {
                return Ok(test);
            }
            let then = parser.or()?;
            parser.expect(":")?;
            let otherwise = parser.expression()?;
            Self::node(column, Kind::Conditional(Box::new([test, then, otherwise])))
        })
    }

    fn or(&mut self) -> Parsed<Node> {
        let first = self.and()?;
        let column = self.column;
        if !self.is("||") {
            return Ok(first);
        }
        let mut operands = vec![first];
        while self.take("||")? {
            operands.push(self.and()?);
        }
        Self::node(column, Kind::Or(operands))
    }

    fn and(&mut self) -> Parsed<Node> {
        let first = self.binary(1)?;
        let column = self.column;
        if !self.is("&&") {
            return Ok(first);
        }
        let mut operands = vec![first];
        while self.take("&&")? {
            operands.push(self.binary(1)?);
        }
        Self::node(column, Kind::And(operands))
    }

    /// Operators of this rank and tighter ones; all are grouped from the left.
    fn binary(&mut self, rank: u8) -> Parsed<Node> {
        let mut left = self.unary()?;
        while let Some((own, operator)) = binary(&self.token)
            && own >= rank
        {
            let column = self.column;
            self.advance()?;
            let right = self.binary(own + 1)?;
            left = Self::node(column, Kind::Binary(operator, Box::new([left, right])))?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parsed<Node> {
        let column = self.column;
        if self.take("!")? {
            let operand = self.deeper(Self::unary)?;
            return Self::node(column, Kind::Not(Box::new(operand)));
        }
        if !self.take("-")? {
            return self.member();
        }
        // The sign belongs to the literal, or the smallest int could not be written.
        let literal = match self.token {
            Token::Int(value) => Some(Value::Int(
                0_i64.checked_sub_unsigned(value).ok_or_else(|| Self::too_large(column))?,
            )),
            Token::Double(value) => Some(Value::Double(-value)),
            _ => None,
        };
        if let Some(value) = literal {
            self.advance()?;
            return self.postfix(Self::literal(column, value));
        }
        let operand = self.deeper(Self::unary)?;
        Self::node(column, Kind::Negate(Box::new(operand)))
    }

    fn too_large(column: u16) -> ExpressionError {
        let remedy = "write 1.0 for a double or 1u for a uint";
        ExpressionError::new(column, "the number does not fit an int", remedy)
    }

    fn member(&mut self) -> Parsed<Node> {
        let primary = self.primary()?;
        self.postfix(primary)
    }

    /// What follows a value: `.name`, `.name(...)`, `[...]`.
    fn postfix(&mut self, mut node: Node) -> Parsed<Node> {
        loop {
            let column = self.column;
            if self.take(".")? {
                let (name, name_column) = self.selector()?;
                node = if self.is("(") {
                    self.receiver_call(node, name, name_column)?
                } else {
                    Self::select(node, name, name_column)?
                };
            } else if self.take("[")? {
                let index = self.expression()?;
                self.expect("]")?;
                node = Self::node(column, Kind::Index(Box::new([node, index])))?;
            } else if self.is("{") {
                return Err(self.message());
            } else {
                return Ok(node);
            }
        }
    }

    fn message(&self) -> ExpressionError {
        let remedy = "write a map as {\"key\": value}";
        ExpressionError::new(self.column, "messages cannot be built here", remedy)
    }

    fn selector(&mut self) -> Parsed<(&'t str, u16)> {
        match self.token {
            Token::Word(word) if !is_keyword(word) => {
                let column = self.column;
                self.advance()?;
                Ok((word, column))
            }
            Token::Quoted(name) => {
                let column = self.column;
                self.advance()?;
                match self.is("(") {
                    true => Err(self.unexpected("an operator, since backticks are for fields")),
                    false => Ok((name, column)),
                }
            }
            _ => Err(self.unexpected("the name of a field or a function")),
        }
    }

    fn select(operand: Node, name: &str, column: u16) -> Parsed<Node> {
        let Kind::Object(variable) = operand.kind else {
            return Self::node(column, Kind::Select(Box::new(operand), name.into()));
        };
        match variable.field(name) {
            Some(field) => Self::node(column, Kind::Field(field)),
            None => Err(ExpressionError::new(
                column,
                format!("{} has no field \"{}\"", variable.as_str(), shown(name)),
                variable.fields(),
            )),
        }
    }

    fn primary(&mut self) -> Parsed<Node> {
        let column = self.column;
        let token = std::mem::replace(&mut self.token, Token::End);
        let value = match token {
            Token::Int(value) => {
                Value::Int(i64::try_from(value).map_err(|_| Self::too_large(column))?)
            }
            Token::Uint(value) => Value::Uint(value),
            Token::Double(value) => Value::Double(value),
            Token::String(text) => Value::shared_text(text),
            Token::Bytes(bytes) => Value::Bytes(Lent::Shared(bytes.into())),
            Token::Word("true") => Value::Bool(true),
            Token::Word("false") => Value::Bool(false),
            Token::Word("null") => Value::Null,
            token => {
                self.token = token;
                return self.compound();
            }
        };
        self.advance()?;
        Ok(Self::literal(column, value))
    }

    fn compound(&mut self) -> Parsed<Node> {
        let column = self.column;
        if self.take("(")? {
            let inner = self.expression()?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.take("[")? {
            return Self::node(column, Kind::List(self.list("]", Self::expression)?));
        }
        if self.take("{")? {
            let entries = self.list("}", |parser| {
                let key = parser.expression()?;
                parser.expect(":")?;
                Ok([key, parser.expression()?])
            })?;
            return Self::node(column, Kind::Map(entries));
        }
        if self.take(".")? {
            return self.name(Names::Outermost);
        }
        self.name(Names::All)
    }

    /// Items up to this bracket; one comma may stand before it.
    fn list<T>(&mut self, end: &str, item: fn(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        while !self.take(end)? {
            items.push(item(self)?);
            if !self.take(",")? {
                self.expect(end)?;
                break;
            }
        }
        Ok(items)
    }

    fn arguments(&mut self) -> Parsed<Vec<Node>> {
        self.expect("(")?;
        let mut arguments = Vec::new();
        if self.take(")")? {
            return Ok(arguments);
        }
        loop {
            arguments.push(self.expression()?);
            if !self.take(",")? {
                self.expect(")")?;
                return Ok(arguments);
            }
        }
    }

    fn name(&mut self, names: Names) -> Parsed<Node> {
        let Token::Word(word) = self.token else {
            return Err(self.unexpected("a value"));
        };
        let column = self.column;
        if is_keyword(word) {
            return Err(self.unexpected("a value"));
        }
        if is_reserved(word) {
            return Err(ExpressionError::new(
                column,
                format!("\"{word}\" is reserved in CEL and names nothing"),
                "",
            ));
        }
        self.advance()?;
        if self.is("(") {
            return self.global_call(word, column);
        }
        let local = match names {
            Names::All => self.locals.iter().rposition(|name| *name == word),
            Names::Outermost => None,
        };
        let kind = match (local, Variable::named(word)) {
            (Some(local), _) => Kind::Local(local),
            (None, Some(variable)) => Kind::Object(variable),
            (None, None) if word == "now" => Kind::Now,
            (None, None) => return Err(self.unknown_variable(word, column)),
        };
        Self::node(column, kind)
    }

    fn unknown_variable(&self, name: &str, column: u16) -> ExpressionError {
        // `a.b.Message{...}` names a type, not a variable.
        let mut ahead = self.lexer.clone();
        let mut token = self.token.clone();
        while matches!(token, Token::Sign(".") | Token::Word(_)) {
            token = ahead.next().map_or(Token::End, |(token, _)| token);
        }
        if token == Token::Sign("{") {
            return ExpressionError { column: column.into(), ..self.message() };
        }
        let macros: String = self.locals.iter().map(|name| format!(", {}", shown(name))).collect();
        ExpressionError::new(
            column,
            format!("there is no variable \"{}\"", shown(name)),
            format!(
                "the variables are finding, image, request, now{macros}; text stands in quotes"
            ),
        )
    }

    fn global_call(&mut self, name: &str, column: u16) -> Parsed<Node> {
        match name {
            "has" => return self.has(column),
            "matches" => {
                let arguments = self.arguments()?;
                return Self::matches(column, arguments);
            }
            _ => {}
        }
        let function = Self::function(name, column, Style::Global)?;
        let arguments = self.arguments()?;
        Self::call(function, column, arguments)
    }

    fn receiver_call(&mut self, receiver: Node, name: &'t str, column: u16) -> Parsed<Node> {
        if let Some(kind) = MacroKind::named(name) {
            return self.call_macro(kind, receiver, name, column);
        }
        if name == "matches" {
            let mut arguments = vec![receiver];
            arguments.extend(self.arguments()?);
            return Self::matches(column, arguments);
        }
        let function = Self::function(name, column, Style::Receiver)?;
        let mut arguments = vec![receiver];
        arguments.extend(self.arguments()?);
        Self::call(function, column, arguments)
    }

    fn function(name: &str, column: u16, style: Style) -> Parsed<Function> {
        match Function::named(name, style) {
            Some(Ok(function)) => Ok(function),
            Some(Err(Style::Receiver)) => Err(ExpressionError::new(
                column,
                format!("{name} is called on a value"),
                format!("write value.{name}(...)"),
            )),
            Some(Err(Style::Global)) => Err(ExpressionError::new(
                column,
                format!("{name} is not called on a value"),
                format!("write {name}(value)"),
            )),
            None => Err(ExpressionError::new(
                column,
                format!("there is no function \"{}\"", shown(name)),
                function::known(style),
            )),
        }
    }

    fn call(function: Function, column: u16, arguments: Vec<Node>) -> Parsed<Node> {
        let (fewest, most) = function.arity();
        if !(fewest..=most).contains(&arguments.len()) {
            return Err(Self::wrong_count(function.name(), column));
        }
        Self::node(column, Kind::Call(function, arguments))
    }

    fn wrong_count(name: &str, column: u16) -> ExpressionError {
        let remedy = match name {
            "contains" | "startsWith" | "endsWith" => format!("write text.{name}(\"part\")"),
            "matches" => "write text.matches(\"pattern\")".to_owned(),
            "size" => "write size(value) or value.size()".to_owned(),
            _ if name.starts_with("get") => {
                format!("write time.{name}() or time.{name}(\"+02:00\")")
            }
            _ => format!("write {name}(value)"),
        };
        ExpressionError::new(column, format!("{name} has a wrong number of arguments"), remedy)
    }

    fn matches(column: u16, arguments: Vec<Node>) -> Parsed<Node> {
        let Ok([text, pattern]) = <[Node; 2]>::try_from(arguments) else {
            return Err(Self::wrong_count("matches", column));
        };
        let compiled = match &pattern.constant {
            Some(Ok(Value::String(pattern))) => compile_pattern(pattern),
            _ => Err(EvaluationError::VariablePattern),
        };
        Self::node(column, Kind::Matches(Box::new(Matches { text, pattern, compiled })))
    }

    fn has(&mut self, column: u16) -> Parsed<Node> {
        let arguments = self.arguments()?;
        let kind = match <[Node; 1]>::try_from(arguments).map(|[node]| node.kind) {
            Ok(Kind::Field(field)) => Kind::HasField(field),
            Ok(Kind::Select(operand, key)) => Kind::HasKey(operand, key),
            _ => {
                return Err(ExpressionError::new(
                    column,
                    "has takes one field",
                    "write has(finding.cvss); for a key write \"key\" in map",
                ));
            }
        };
        Self::node(column, kind)
    }

    fn call_macro(
        &mut self,
        kind: MacroKind,
        range: Node,
        name: &str,
        column: u16,
    ) -> Parsed<Node> {
        let remedy = match kind {
            MacroKind::Map => {
                "write list.map(x, value) or list.map(x, condition, value)".to_owned()
            }
            _ => format!("write list.{name}(x, condition)"),
        };
        let wrong = |column, message: String| Err(ExpressionError::new(column, message, &*remedy));
        self.expect("(")?;
        let local = match self.token {
            Token::Word(word) if !is_keyword(word) && !is_reserved(word) => word,
            _ => return wrong(self.column, format!("{name} begins with the name of a variable")),
        };
        self.advance()?;
        if !self.is(",") {
            return wrong(self.column, format!("{name} has a wrong number of arguments"));
        }
        self.locals.push(local);
        let mut parts = Vec::new();
        while self.take(",")? {
            parts.push(self.expression()?);
        }
        self.locals.pop();
        self.expect(")")?;
        let mut parts = parts.into_iter();
        let (predicate, transform) = match (kind, parts.len()) {
            (MacroKind::Map, 1) => (None, parts.next()),
            (MacroKind::Map, 2) => (parts.next(), parts.next()),
            (MacroKind::Map, _) => (None, None),
            (_, 1) => (parts.next(), None),
            _ => (None, None),
        };
        if predicate.is_none() && transform.is_none() {
            return wrong(column, format!("{name} has a wrong number of arguments"));
        }
        let local = self.locals.len();
        Self::node(
            column,
            Kind::Macro(Box::new(Macro { kind, range, local, predicate, transform })),
        )
    }
}

/// Which names count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    All,
    /// `.name` passes by the variables of macros (langdef "Name Resolution").
    Outermost,
}
