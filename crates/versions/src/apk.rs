//! apk-tools: `number{.number}...{letter}{_suffix{number}}...{~hash}{-r#}` (apk-package(5)).
//!
//! Ordered as apk-tools 2 orders, which Alpine 3 has; what follows no rule comes out as there.

use std::cmp::Ordering;

use crate::number::{self, digits, first, prefix};

/// Suffixes in their order. A version without one stands where the empty text is.
const SUFFIXES: [&str; 10] = ["alpha", "beta", "pre", "rc", "", "cvs", "svn", "git", "hg", "p"];
/// The place of no suffix.
const NO_SUFFIX: usize = 4;

struct Version<'a> {
    text: &'a str,
    numbers: Vec<&'a str>,
    letter: &'a str,
    /// Place in [`SUFFIXES`], and a number.
    suffixes: Vec<(usize, &'a str)>,
    build: &'a str,
    /// What is left.
    rest: &'a str,
    is_valid: bool,
}

pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (parse(a), parse(b));
    if !a.is_valid && !b.is_valid {
        return a.text.cmp(b.text);
    }
    numbers(&a, &b)
        .then_with(|| a.letter.cmp(b.letter))
        .then_with(|| suffixes(&a, &b))
        .then_with(|| number::compare(a.build, b.build))
        .then_with(|| b.rest.is_empty().cmp(&a.rest.is_empty()).reverse())
}

/// Behind the first, numbers with zeros before them are compared as texts.
fn numbers(a: &Version<'_>, b: &Version<'_>) -> Ordering {
    let compare = |at: usize| match (a.numbers.get(at), b.numbers.get(at)) {
        (Some(a), Some(b)) if at > 0 && (a.starts_with('0') || b.starts_with('0')) => a.cmp(b),
        (a, b) => number::compare(a.unwrap_or(&"0"), b.unwrap_or(&"0")),
    };
    first((0..a.numbers.len().max(b.numbers.len())).map(compare))
}

fn suffixes(a: &Version<'_>, b: &Version<'_>) -> Ordering {
    first((0..a.suffixes.len().max(b.suffixes.len())).map(|at| {
        let [(a, a_number), (b, b_number)] =
            [a, b].map(|of| of.suffixes.get(at).copied().unwrap_or((NO_SUFFIX, "")));
        a.cmp(&b).then_with(|| number::compare(a_number, b_number))
    }))
}

fn parse(text: &str) -> Version<'_> {
    let mut rest = text;
    let mut numbers = Vec::new();
    loop {
        let (number, after) = digits(rest);
        if number.is_empty() {
            break;
        }
        numbers.push(number);
        rest = after.strip_prefix('.').unwrap_or(after);
        if rest.len() == after.len() {
            break;
        }
    }
    let has_letter = rest.starts_with(|c: char| c.is_ascii_lowercase());
    let (letter, after) = rest.split_at(usize::from(has_letter));
    let (suffixes, after) = read_suffixes(after);
    let hash = after.strip_prefix('~').map(|after| prefix(after, is_hex));
    let after = match hash {
        Some((hash, after)) if !hash.is_empty() => after,
        _ => after,
    };
    let build = after.strip_prefix("-r").map(digits);
    let is_valid = after.is_empty() || build.is_some();
    let (build, rest) = build.unwrap_or(("", after));
    Version { text, numbers, letter, suffixes, build, rest, is_valid }
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// The suffixes of a text, wherever they stand, and what follows those that begin it.
fn read_suffixes(text: &str) -> (Vec<(usize, &str)>, &str) {
    let mut suffixes = Vec::new();
    let (mut rest, mut after) = (text, text);
    while let Some(at) = rest.find('_') {
        let behind = &rest[at + 1..];
        let known = SUFFIXES.iter().enumerate().filter(|(_, name)| !name.is_empty());
        // `p` begins `pre`, which is tried before it.
        let found = known.filter_map(|(place, name)| Some((place, behind.strip_prefix(name)?)));
        let Some((place, behind)) = found.min_by_key(|(place, _)| *place) else {
            rest = behind;
            continue;
        };
        let (number, behind) = digits(behind);
        if at == 0 && rest.len() == after.len() {
            after = behind;
        }
        suffixes.push((place, number));
        rest = behind;
    }
    (suffixes, after)
}
