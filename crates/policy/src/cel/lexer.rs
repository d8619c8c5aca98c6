//! Text to tokens (langdef "Syntax", the lexis).

use std::str::Chars;

use super::error::ExpressionError;
use crate::fault::shown;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token<'t> {
    /// A name or a reserved word.
    Word(&'t str),
    /// A name between backticks, which may be no plain name.
    Quoted(&'t str),
    /// Without its sign.
    Int(u64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
    /// An operator or a bracket.
    Sign(&'static str),
    End,
}

/// Longer ones first.
const SIGNS: [&str; 25] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!",
    "?", ":", "+", "*", "/", "%", "=",
];

#[derive(Debug, Clone)]
pub(super) struct Lexer<'t> {
    rest: &'t str,
    /// Column of the first character of `rest`, from 1.
    column: u16,
}

type Lexed<T> = Result<T, ExpressionError>;

impl<'t> Lexer<'t> {
    /// The text must be short enough for its columns to be counted in 16 bits.
    pub(super) fn new(text: &'t str) -> Self {
        Self { rest: text, column: 1 }
    }

    /// The next token and its column.
    pub(super) fn next(&mut self) -> Lexed<(Token<'t>, u16)> {
        self.skip_blanks();
        let column = self.column;
        let Some(first) = self.rest.chars().next() else {
            return Ok((Token::End, column));
        };
        let token = match first {
            '0'..='9' => self.number()?,
            '.' if self.rest[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number()?,
            '`' => self.backticks()?,
            '"' | '\'' => self.quoted(Prefix { raw: false, bytes: false })?,
            'a'..='z' | 'A'..='Z' | '_' => match self.prefix() {
                Some((length, prefix)) => {
                    self.skip(length);
                    self.quoted(prefix)?
                }
                None => {
                    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    Token::Word(self.take_while(word))
                }
            },
            _ => self.sign(first)?,
        };
        Ok((token, column))
    }

    /// Steps over this many bytes, which end between characters.
    fn skip(&mut self, bytes: usize) -> &'t str {
        let (skipped, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        self.column = self.column.saturating_add(skipped.chars().count() as u16);
        skipped
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'t str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        self.skip(end)
    }

    fn skip_blanks(&mut self) {
        loop {
            self.take_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c'));
            if !self.rest.starts_with("//") {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    fn sign(&mut self, first: char) -> Lexed<Token<'t>> {
        let column = self.column;
        match SIGNS.into_iter().find(|sign| self.rest.starts_with(sign)) {
            Some("=") => Err(ExpressionError::new(column, "= compares nothing", "write ==")),
            Some(sign) => {
                self.skip(sign.len());
                Ok(Token::Sign(sign))
            }
            None => Err(ExpressionError::new(
                column,
                format!("the character \"{}\" has no meaning here", shown(&first.to_string())),
                match first {
                    '&' => "write &&",
                    '|' => "write ||",
                    _ => "put text between quotes",
                },
            )),
        }
    }

    /// As the suite's `fields.textproto` has it, for keys such as `org.opencontainers.image.title`.
    fn backticks(&mut self) -> Lexed<Token<'t>> {
        let column = self.column;
        self.skip(1);
        let name = self
            .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ' '));
        if name.is_empty() || !self.rest.starts_with('`') {
            let remedy = "it takes letters, digits, '_', '.', '-', '/' and spaces, and ends with `";
            return Err(ExpressionError::new(column, "this is no name between backticks", remedy));
        }
        self.skip(1);
        Ok(Token::Quoted(name))
    }

    fn number(&mut self) -> Lexed<Token<'t>> {
        let column = self.column;
        let wrong = |message: &str| Err(ExpressionError::new(column, message, ""));
        let digit = |c: char| c.is_ascii_digit();
        if self.rest.starts_with("0x") || self.rest.starts_with("0X") {
            self.skip(2);
            let digits = self.take_while(|c| c.is_ascii_hexdigit());
            let Ok(value) = u64::from_str_radix(digits, 16) else {
                return wrong("the hexadecimal number has no digits or does not fit 64 bits");
            };
            return self.whole(value, column);
        }
        let start = self.rest;
        let start_column = self.column;
        self.take_while(digit);
        let mut is_double = false;
        let mut after = self.rest.chars();
        if after.next() == Some('.') && after.next().is_some_and(digit) {
            is_double = true;
            self.skip(1);
            self.take_while(digit);
        }
        let exponent = self.rest.strip_prefix(['e', 'E']).map(|after| {
            let unsigned = after.strip_prefix(['+', '-']).unwrap_or(after);
            (self.rest.len() - unsigned.len(), unsigned.starts_with(digit))
        });
        if let Some((length, true)) = exponent {
            is_double = true;
            self.skip(length);
            self.take_while(digit);
        }
        let text = &start[..start.len() - self.rest.len()];
        if !is_double {
            return match text.parse() {
                Ok(value) => self.whole(value, start_column),
                Err(_) => wrong("the number does not fit 64 bits"),
            };
        }
        self.end_of_number(start_column)?;
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Token::Double(value)),
            _ => wrong("the number is too large for a double"),
        }
    }

    fn whole(&mut self, value: u64, column: u16) -> Lexed<Token<'t>> {
        let unsigned = self.rest.starts_with(['u', 'U']);
        if unsigned {
            self.skip(1);
        }
        self.end_of_number(column)?;
        Ok(if unsigned { Token::Uint(value) } else { Token::Int(value) })
    }

    fn end_of_number(&self, column: u16) -> Lexed<()> {
        if self.rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            let remedy = "write 12, 12u, 0x1f, 1.5 or 1e3; a length of time is duration(\"12h\")";
            return Err(ExpressionError::new(column, "the number runs into a name", remedy));
        }
        Ok(())
    }

    /// Whether a string begins here with letters in front of its quotes, and how many.
    fn prefix(&self) -> Option<(usize, Prefix)> {
        let length = self.rest.bytes().take(3).position(|b| matches!(b, b'"' | b'\''))?;
        let prefix = match &self.rest[..length] {
            "r" | "R" => Prefix { raw: true, bytes: false },
            "b" | "B" => Prefix { raw: false, bytes: true },
            "br" | "bR" | "Br" | "BR" => Prefix { raw: true, bytes: true },
            _ => return None,
        };
        Some((length, prefix))
    }

    fn quoted(&mut self, prefix: Prefix) -> Lexed<Token<'t>> {
        let start = self.column;
        let quote = if self.rest.starts_with('"') { "\"" } else { "'" };
        let triple = if quote == "\"" { "\"\"\"" } else { "'''" };
        let quote = if self.rest.starts_with(triple) { triple } else { quote };
        self.skip(quote.len());
        let mut content = Vec::new();
        loop {
            if self.rest.starts_with(quote) {
                self.skip(quote.len());
                break;
            }
            let mut chars = self.rest.chars();
            match chars.next() {
                None => {
                    return Err(ExpressionError::new(
                        start,
                        "the text has no end",
                        format!("close it with {quote}"),
                    ));
                }
                Some('\r' | '\n') if quote.len() == 1 => {
                    let remedy = "write \\n, or put the text between triple quotes";
                    return Err(ExpressionError::new(
                        self.column,
                        "the text runs over the end of its line",
                        remedy,
                    ));
                }
                Some('\\') if !prefix.raw => {
                    let column = self.column;
                    let Some(length) = unescape(chars, prefix.bytes, &mut content) else {
                        let remedy = if prefix.bytes {
                            "bytes know \\n \\r \\t \\a \\b \\f \\v \\\\ \\? \\\" \\' \\` \\x41 \\101"
                        } else {
                            "texts know \\n \\r \\t \\a \\b \\f \\v \\\\ \\? \\\" \\' \\` \\x41 \\101 \\u0041 \\U00000041; a raw text r\"...\" knows none"
                        };
                        return Err(ExpressionError::new(
                            column,
                            "the escape sequence is not known",
                            remedy,
                        ));
                    };
                    self.skip(1 + length);
                }
                Some(c) => {
                    content.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    self.skip(c.len_utf8());
                }
            }
        }
        Ok(match prefix.bytes {
            true => Token::Bytes(content),
            // Only whole characters were put in.
            false => Token::String(String::from_utf8(content).unwrap_or_default()),
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Prefix {
    raw: bool,
    bytes: bool,
}

/// Reads what follows a backslash and appends its meaning. Gives the bytes read; `None` is an
/// escape that does not exist. Of texts, octal and `\x` are code points; of bytes, single bytes.
fn unescape(mut chars: Chars<'_>, bytes: bool, content: &mut Vec<u8>) -> Option<usize> {
    let first = chars.next()?;
    let (digits, radix) = match first {
        'x' | 'X' => (2, 16),
        'u' if !bytes => (4, 16),
        'U' if !bytes => (8, 16),
        '0'..='3' => (2, 8),
        _ => {
            content.push(match first {
                'a' => 0x07,
                'b' => 0x08,
                'f' => 0x0c,
                'n' => b'\n',
                'r' => b'\r',
                't' => b'\t',
                'v' => 0x0b,
                '\\' | '?' | '"' | '\'' | '`' => first as u8,
                _ => return None,
            });
            return Some(1);
        }
    };
    let mut value = if radix == 8 { first.to_digit(8)? } else { 0 };
    for _ in 0..digits {
        value = value.checked_mul(radix)?.checked_add(chars.next()?.to_digit(radix)?)?;
    }
    if bytes {
        content.push(u8::try_from(value).ok()?);
    } else {
        let c = char::from_u32(value)?;
        content.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Some(1 + digits)
}
