//! Maven's order of versions (POM reference, "Version Order Specification"; `ComparableVersion`).
//!
//! A version is split at dots, dashes and wherever digits turn into letters, which counts as a dash.
//! What stands before a token decides too: `.word` < `-word` < `-number` < `.number`.

use std::cmp::Ordering;

use crate::number::{self, is_number, run};

/// Words in their order; any other one is behind them. The empty word is a release.
const WORDS: [&str; 7] = ["alpha", "beta", "milestone", "rc", "snapshot", "", "sp"];

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    /// `.`, `-`, or `None` for the first.
    before: Option<char>,
    value: String,
    /// It stands for a token that the version does not have.
    is_padding: bool,
}

impl Token {
    fn new(before: Option<char>, value: &str) -> Self {
        Self { before, value: value.to_owned(), is_padding: false }
    }

    /// What a version without this token is taken to have in its place.
    fn padding(other: &Self) -> Self {
        let value = match other.before {
            // `sp` alone is behind a release, and so an empty word is compared with it.
            Some('.') if other.value != "sp" => "0",
            _ => "",
        };
        Self { before: other.before, value: value.to_owned(), is_padding: true }
    }

    fn is_null(&self) -> bool {
        matches!(self.value.as_str(), "0" | "")
    }

    fn compare(&self, other: &Self) -> Ordering {
        if self.before != other.before {
            return self.place().cmp(&other.place());
        }
        match (is_number(&self.value), is_number(&other.value)) {
            (true, true) => number::compare(&self.value, &other.value),
            // A number is behind words, unless nobody wrote it.
            (true, false) if !self.is_padding => Ordering::Greater,
            (false, true) if !other.is_padding => Ordering::Less,
            _ => {
                let word = |token: &Self| WORDS.iter().position(|word| *word == token.value);
                match (word(self), word(other)) {
                    (None, None) => self.value.cmp(&other.value),
                    (a, b) => a.unwrap_or(WORDS.len()).cmp(&b.unwrap_or(WORDS.len())),
                }
            }
        }
    }

    fn place(&self) -> u8 {
        match (self.before, is_number(&self.value)) {
            (Some('-'), true) => 2,
            (Some('.'), true) => 3,
            (Some('-'), false) => 1,
            _ => 0,
        }
    }
}

pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (tokens(a), tokens(b));
    for at in 0..a.len().max(b.len()) {
        let order = match (a.get(at), b.get(at)) {
            (Some(a), Some(b)) if a == b => Ordering::Equal,
            (Some(a), Some(b)) => a.compare(b),
            (Some(a), None) => a.compare(&Token::padding(a)),
            (None, Some(b)) => Token::padding(b).compare(b),
            (None, None) => Ordering::Equal,
        };
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut before = None;
    for part in text.split_inclusive(['.', '-']) {
        let (part, mark) = match part.strip_suffix(['.', '-']) {
            Some(without) => (without, part.chars().next_back()),
            None => (part, None),
        };
        add(part, before, &mut tokens);
        before = mark;
    }
    // A mark at the end, or an empty text, leaves one more empty part.
    if before.is_some() || tokens.is_empty() {
        add("", before, &mut tokens);
    }
    trim(&mut tokens);
    tokens
}

/// Adds what stands between two marks.
fn add(part: &str, before: Option<char>, tokens: &mut Vec<Token>) {
    let mut before = before;
    let mut rest = part;
    loop {
        let (token, after) = run(rest);
        tokens.push(Token::new(before, &normal(token, !after.is_empty())));
        if after.is_empty() {
            return;
        }
        before = Some('-');
        rest = after;
    }
}

/// One way to write what has several.
fn normal(token: &str, is_followed: bool) -> String {
    let token = token.to_lowercase();
    match token.as_str() {
        "" => "0".to_owned(),
        "cr" => "rc".to_owned(),
        "ga" | "final" | "release" => String::new(),
        "a" if is_followed => "alpha".to_owned(),
        "b" if is_followed => "beta".to_owned(),
        "m" if is_followed => "milestone".to_owned(),
        number if is_number(number) => match number.trim_start_matches('0') {
            "" => "0".to_owned(),
            number => number.to_owned(),
        },
        _ => token,
    }
}

/// Takes away what means nothing: at the end, and before each dash.
fn trim(tokens: &mut Vec<Token>) {
    let mut kept: Vec<Token> = Vec::with_capacity(tokens.len());
    for (at, token) in tokens.drain(..).enumerate() {
        if token.before == Some('-') {
            drop_nulls(&mut kept);
        }
        debug_assert!(at > 0 || token.before.is_none(), "only the first has nothing before it");
        kept.push(token);
    }
    drop_nulls(&mut kept);
    *tokens = kept;
}

/// The first token stays.
fn drop_nulls(tokens: &mut Vec<Token>) {
    while tokens.len() > 1 && tokens.last().is_some_and(Token::is_null) {
        tokens.pop();
    }
}
