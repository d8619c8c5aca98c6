//! PEP 440; versions that it does not know are before all that it knows, in setuptools' older order.

use std::cmp::Ordering;

use crate::number::{self, compare_lists, compare_mixed_lists, digits, is_number, prefix};

pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    match (Version::read(&a), Version::read(&b)) {
        (Some(a), Some(b)) => a.compare(&b),
        (Some(_), None) => Ordering::Greater,
        (None, Some(_)) => Ordering::Less,
        (None, None) => legacy(&a).cmp(&legacy(&b)),
    }
}

#[derive(Debug)]
struct Version<'a> {
    epoch: &'a str,
    release: Vec<&'a str>,
    /// Place of its letter, and a number.
    pre: Option<(u8, &'a str)>,
    post: Option<&'a str>,
    dev: Option<&'a str>,
    local: Vec<&'a str>,
}

/// Words for a pre-release, a longer one before those that it begins with.
const PRE: [(&str, u8); 8] = [
    ("alpha", 0),
    ("a", 0),
    ("beta", 1),
    ("b", 1),
    ("c", 2),
    ("rc", 2),
    ("preview", 2),
    ("pre", 2),
];

impl<'a> Version<'a> {
    /// As the expression of PEP 440, appendix B, reads it.
    fn read(text: &'a str) -> Option<Self> {
        let text = text.trim_matches(|c: char| c.is_ascii_whitespace());
        let text = text.strip_prefix('v').unwrap_or(text);
        let (epoch, text) = match digits(text) {
            (epoch, rest) if !epoch.is_empty() && rest.starts_with('!') => (epoch, &rest[1..]),
            _ => ("0", text),
        };
        let (first, mut rest) = digits(text);
        if first.is_empty() {
            return None;
        }
        let mut release = vec![first];
        while let Some((number, after)) = rest.strip_prefix('.').map(digits)
            && !number.is_empty()
        {
            release.push(number);
            rest = after;
        }
        let (pre, rest) = word(rest, &PRE);
        let (post, rest) = match rest.strip_prefix('-').map(digits) {
            Some((number, after)) if !number.is_empty() => (Some((0, number)), after),
            _ => word(rest, &[("post", 0), ("rev", 0), ("r", 0)]),
        };
        let (dev, rest) = word(rest, &[("dev", 0)]);
        let local = match rest.strip_prefix('+') {
            Some(local) => local.split(['.', '-', '_']).collect(),
            None if rest.is_empty() => Vec::new(),
            None => return None,
        };
        let is_part =
            |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
        let number = |found: Option<(u8, &'a str)>| found.map(|(_, number)| number);
        local.iter().all(is_part).then(|| Self {
            epoch,
            release,
            pre,
            post: number(post),
            dev: number(dev),
            local,
        })
    }

    fn compare(&self, other: &Self) -> Ordering {
        number::compare(self.epoch, other.epoch)
            .then_with(|| compare_lists(&self.release, &other.release))
            .then_with(|| self.stage().cmp(&other.stage()))
            .then_with(|| match (self.pre, other.pre) {
                (Some((_, a)), Some((_, b))) => number::compare(a, b),
                _ => Ordering::Equal,
            })
            .then_with(|| optional(self.post, other.post, Ordering::Less))
            .then_with(|| optional(self.dev, other.dev, Ordering::Greater))
            // Numbers are behind words here.
            .then_with(|| compare_mixed_lists(&self.local, &other.local, Ordering::Greater))
    }

    /// A development version of the release itself is before its pre-releases, and those are before
    /// it.
    fn stage(&self) -> u8 {
        match (self.pre, self.post, self.dev) {
            (None, None, Some(_)) => 0,
            (Some((letter, _)), ..) => 1 + letter,
            (None, ..) => 9,
        }
    }
}

/// Two numbers, of which one that is missing stands so to any other.
fn optional(a: Option<&str>, b: Option<&str>, missing: Ordering) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => number::compare(a, b),
        (None, None) => Ordering::Equal,
        (None, Some(_)) => missing,
        (Some(_), None) => missing.reverse(),
    }
}

/// One of the words with a number, each with a separator before it or none; the number may be
/// missing and is 0 then. With what follows.
fn word<'a>(text: &'a str, words: &[(&str, u8)]) -> (Option<(u8, &'a str)>, &'a str) {
    let separated = |text: &'a str| text.strip_prefix(['.', '-', '_']).unwrap_or(text);
    let begins = separated(text);
    let found = words.iter().find_map(|(word, place)| Some((begins.strip_prefix(word)?, *place)));
    let Some((after, place)) = found else { return (None, text) };
    match digits(separated(after)) {
        // A separator without a number is the word's.
        ("", rest) => (Some((place, "0")), rest),
        (number, rest) => (Some((place, number)), rest),
    }
}

/// What setuptools made of a version before PEP 440: words and padded numbers, as one text.
fn legacy(text: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut rest = text;
    let mut is_end = false;
    while !is_end {
        let (part, after) = next_part(rest);
        rest = after;
        is_end = part.is_empty();
        let part = match part {
            "" => "*final".to_owned(),
            "." => continue,
            "-" => "*final-".to_owned(),
            "pre" | "preview" | "rc" => "*c".to_owned(),
            "dev" => "*@".to_owned(),
            number if is_number(number) => format!("{number:0>8}"),
            word => format!("*{word}"),
        };
        if part.starts_with('*') {
            if *part < *"*final" {
                while parts.last().is_some_and(|last| last == "*final-") {
                    parts.pop();
                }
            }
            while parts.last().is_some_and(|last| last == "00000000") {
                parts.pop();
            }
        }
        parts.push(part);
    }
    parts.concat()
}

/// The next digits, letters, dot or dash of a text, whatever else is before; empty at the end.
fn next_part(text: &str) -> (&str, &str) {
    let is_one = |c: char| c.is_ascii_digit() || c.is_ascii_lowercase() || c == '.' || c == '-';
    let Some(at) = text.find(is_one) else { return ("", "") };
    let text = &text[at..];
    match text.as_bytes()[0] {
        b'.' | b'-' => text.split_at(1),
        byte if byte.is_ascii_digit() => digits(text),
        _ => prefix(text, |byte| byte.is_ascii_lowercase()),
    }
}
