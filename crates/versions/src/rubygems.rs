//! `Gem::Version`: numbers and words, wherever one turns into the other.

use std::cmp::Ordering;

use crate::number::{self, digits, is_number, prefix};

pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (segments(a), segments(b));
    let at =
        |list: &[&str], at: usize| -> String { list.get(at).copied().unwrap_or("0").to_owned() };
    (0..a.len().max(b.len()))
        .map(|n| segment(&at(&a, n), &at(&b, n)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// A word is before every number: it makes a pre-release.
fn segment(a: &str, b: &str) -> Ordering {
    match (is_number(a), is_number(b)) {
        (true, true) => number::compare(a, b),
        (false, false) => a.cmp(b),
        (a, b) => a.cmp(&b),
    }
}

/// The segments without the zeros at the end of the release and of the whole.
fn segments(text: &str) -> Vec<&str> {
    let mut all = Vec::new();
    for part in text.split('.') {
        let mut rest = part;
        if rest.is_empty() {
            all.push(rest);
        }
        while !rest.is_empty() {
            let is_digit = rest.starts_with(|c: char| c.is_ascii_digit());
            let (segment, after) = match is_digit {
                true => digits(rest),
                false => prefix(rest, |byte| !byte.is_ascii_digit()),
            };
            all.push(segment);
            rest = after;
        }
    }
    let words = all.iter().position(|segment| !is_number(segment)).unwrap_or(all.len());
    let mut pre = all.split_off(words);
    for list in [&mut all, &mut pre] {
        while list.last() == Some(&"0") {
            list.pop();
        }
    }
    all.append(&mut pre);
    all
}
