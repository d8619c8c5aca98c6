//! PHP's `version_compare`, without the `v` that Composer takes away.

use std::cmp::Ordering;

use crate::number::{self, first, is_number, run};

/// What stands for a number where a word is compared with one.
const NUMBER: &str = "#";

pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (parts(a), parts(b));
    let common = a.len().min(b.len());
    let pairs = a.iter().zip(&b).map(|(a, b)| part(a, b));
    first(pairs).then_with(|| longer(&a[common..])).then_with(|| longer(&b[common..]).reverse())
}

/// What more parts than the other version has make of a version: a number makes it newer, a word is
/// compared with a number.
fn longer(more: &[String]) -> Ordering {
    for next in more {
        if is_number(next) {
            return Ordering::Greater;
        }
        let order = weight(next).cmp(&weight(NUMBER));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

fn part(a: &str, b: &str) -> Ordering {
    match (is_number(a), is_number(b)) {
        (true, true) => number::compare(a, b),
        (a_is, b_is) => {
            let word = |text, is_number| weight(if is_number { NUMBER } else { text });
            word(a, a_is).cmp(&word(b, b_is))
        }
    }
}

/// Words in the order in which PHP has them, by how they begin; any other is as `dev`.
fn weight(word: &str) -> usize {
    const WORDS: [&[&str]; 6] = [&["dev"], &["a"], &["b"], &["RC", "rc"], &[NUMBER], &["p"]];
    let is_one = |begins: &&[&str]| begins.iter().any(|begin| word.starts_with(begin));
    WORDS.iter().position(is_one).unwrap_or(0)
}

/// The parts between dots, dashes, underscores and pluses, and between digits and all else.
fn parts(text: &str) -> Vec<String> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let text = text.strip_prefix('V').unwrap_or(text);
    let mut parts = Vec::new();
    for between in text.split(['.', '-', '_', '+']) {
        let mut rest = between;
        if rest.is_empty() {
            parts.push(String::new());
        }
        while !rest.is_empty() {
            let (part, after) = run(rest);
            parts.push(part.to_owned());
            rest = after;
        }
    }
    parts
}
