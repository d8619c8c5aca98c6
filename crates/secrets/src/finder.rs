//! One pass for the keywords, and a look at what surrounds each.
//!
//! Time is linear in the size of the text: what follows a keyword is read once, in a window of its own
//! length, and a rule that has spoken [`MAX_PER_RULE`] times is asked no more.

use crate::keywords::Keywords;
use crate::rules::{Id, Rule};
use crate::tokens::{SHAPES, Shape};
use crate::{context, files, keys, paths, tokens};

/// How many findings of one rule are kept for one text. More of the same tell nothing new.
pub const MAX_PER_RULE: u8 = 16;

/// A secret, and where it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// What it is.
    pub rule: &'static Rule,
    /// Line, from 1; 0 in a variable.
    pub line: u32,
    /// Its first characters and `…`, or what stands around it: never enough to use it.
    pub shown: String,
}

/// Finds secrets in files and variables. One may be shared by threads.
pub struct Finder {
    keywords: Keywords,
    actions: Vec<Action>,
}

/// Reads what stands around a keyword that begins at a byte.
pub(crate) type Call = fn(&Text<'_>, usize, &mut Found);

/// What to do at a keyword.
enum Action {
    Tokens(&'static [Shape]),
    Call(Call),
}

impl Default for Finder {
    fn default() -> Self {
        Self::new()
    }
}

impl Finder {
    /// Compiles the keywords.
    pub fn new() -> Self {
        let mut words: Vec<&'static str> = Vec::new();
        let mut actions = Vec::new();
        for shapes in SHAPES.chunk_by(|a, b| a.prefix == b.prefix) {
            words.push(shapes[0].prefix);
            actions.push(Action::Tokens(shapes));
        }
        for (word, call) in keys::KEYWORDS.iter().chain(context::KEYWORDS) {
            words.push(word);
            actions.push(Action::Call(*call));
        }
        Self { keywords: Keywords::new(&words), actions }
    }

    /// Whether a file of `size` bytes at `path` is worth reading: it may be text, is not too large, and
    /// is no documentation or test data that distributions and languages ship with sample keys.
    pub fn wants(path: &str, size: u64) -> bool {
        paths::wants(path, size)
    }

    /// The secrets in a file, by line. Nothing is found in what is binary: a zero byte in the first
    /// 8,000. `path` is the place in the image, with or without `/` in front; some names say more about
    /// what is in a file.
    pub fn in_file(&self, path: &str, content: &[u8]) -> Vec<Secret> {
        if content.iter().take(8000).any(|b| *b == 0) {
            return Vec::new();
        }
        let text = Text { bytes: content, path };
        let mut found = Found::default();
        self.search(&text, &mut found);
        files::read(&text, &mut found);
        found.finish(content)
    }

    /// The secrets in a variable of the environment, as in an image's configuration. A name that says
    /// password, token or key is enough if the value may be one.
    pub fn in_env(&self, name: &str, value: &str) -> Vec<Secret> {
        let line = format!("{name}={value}");
        let text = Text { bytes: line.as_bytes(), path: "" };
        let mut found = Found::default();
        self.search(&text, &mut found);
        if found.hits.is_empty() {
            files::variable(name.as_bytes(), value.as_bytes(), 0, &mut found);
        }
        let mut secrets = found.finish(line.as_bytes());
        for secret in &mut secrets {
            secret.line = 0;
        }
        secrets
    }

    fn search(&self, text: &Text<'_>, found: &mut Found) {
        self.keywords.find(text.bytes, |number, at| match &self.actions[number] {
            Action::Tokens(shapes) => tokens::read(text, at, shapes, found),
            Action::Call(call) => call(text, at, found),
        });
    }
}

/// A file's content and name.
pub(crate) struct Text<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) path: &'a str,
}

impl Text<'_> {
    /// Whether a word begins at `at`: what is before is no letter, digit or `_`, or is the `n` of `\n`.
    pub(crate) fn begins_at(&self, at: usize) -> bool {
        match at.checked_sub(1).map(|before| self.bytes[before]) {
            None => true,
            Some(byte) if byte.is_ascii_alphanumeric() || byte == b'_' => self.is_escape_before(at),
            Some(_) => true,
        }
    }

    /// Whether `\n`, `\r` or `\t` is written out right before `at`.
    pub(crate) fn is_escape_before(&self, at: usize) -> bool {
        at >= 2 && self.bytes[at - 2] == b'\\' && matches!(self.bytes[at - 1], b'n' | b'r' | b't')
    }
}

/// What was found in one text.
#[derive(Default)]
pub(crate) struct Found {
    hits: Vec<(usize, Id, String)>,
    counts: std::collections::BTreeMap<Id, u8>,
}

impl Found {
    /// Whether there is enough of a rule.
    pub(crate) fn is_full(&self, id: Id) -> bool {
        self.counts.get(&id).is_some_and(|count| *count >= MAX_PER_RULE)
    }

    /// Adds a secret that begins at byte `at`. What was found at that byte already stays.
    pub(crate) fn push(&mut self, at: usize, id: Id, shown: String) {
        if !self.is_full(id) && !self.hits.iter().any(|(known, ..)| *known == at) {
            *self.counts.entry(id).or_default() += 1;
            self.hits.push((at, id, shown));
        }
    }

    fn finish(mut self, content: &[u8]) -> Vec<Secret> {
        self.hits.sort_by_key(|(at, id, _)| (*at, *id));
        let (mut line, mut counted) = (1u32, 0);
        let mut secrets: Vec<Secret> = Vec::with_capacity(self.hits.len());
        for (at, id, shown) in self.hits {
            let breaks = memchr::memchr_iter(b'\n', &content[counted..at]).count();
            line = line.saturating_add(u32::try_from(breaks).unwrap_or(u32::MAX));
            counted = at;
            let secret = Secret { rule: id.rule(), line, shown };
            if secrets.last() != Some(&secret) {
                secrets.push(secret);
            }
        }
        secrets
    }
}
