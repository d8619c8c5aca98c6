//! rpmvercmp(3), of epoch, version and release in turn: `[epoch:]version[-release]`.

use std::cmp::Ordering;

use crate::number::{self, digits, prefix};

pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let ([a_epoch, a_version, a_release], [b_epoch, b_version, b_release]) = (parts(a), parts(b));
    part(a_epoch, b_epoch)
        .then_with(|| part(a_version, b_version))
        .then_with(|| part(a_release, b_release))
}

fn parts(text: &str) -> [&str; 3] {
    let (epoch, rest) = match text.split_once(':') {
        Some((epoch, rest)) if epoch.bytes().all(|byte| byte.is_ascii_digit()) => (epoch, rest),
        _ => ("", text),
    };
    let epoch = if epoch.is_empty() { "0" } else { epoch };
    // With its dash, so that an empty release is more than none.
    let at = rest.find('-').unwrap_or(rest.len());
    let (version, release) = rest.split_at(at);
    [epoch, version, release]
}

fn part<'a>(mut a: &'a str, mut b: &'a str) -> Ordering {
    if a.is_empty() || b.is_empty() {
        return b.is_empty().cmp(&a.is_empty());
    }
    loop {
        a = a.trim_start_matches(is_separator);
        b = b.trim_start_matches(is_separator);
        // A tilde is before everything, the end too; a caret is behind the end alone.
        match (a.strip_prefix('~'), b.strip_prefix('~')) {
            (Some(a_rest), Some(b_rest)) => {
                (a, b) = (a_rest, b_rest);
                continue;
            }
            (Some(_), None) => return Ordering::Less,
            (None, Some(_)) => return Ordering::Greater,
            (None, None) => {}
        }
        match (a.strip_prefix('^'), b.strip_prefix('^')) {
            (Some(a_rest), Some(b_rest)) => {
                (a, b) = (a_rest, b_rest);
                continue;
            }
            (Some(_), None) if b.is_empty() => return Ordering::Greater,
            (Some(_), None) => return Ordering::Less,
            (None, Some(_)) if a.is_empty() => return Ordering::Less,
            (None, Some(_)) => return Ordering::Greater,
            (None, None) => {}
        }
        if a.is_empty() || b.is_empty() {
            return a.len().cmp(&b.len());
        }
        let is_number = a.starts_with(|c: char| c.is_ascii_digit());
        let split = |text| match is_number {
            true => digits(text),
            false => prefix(text, |byte| byte.is_ascii_alphabetic()),
        };
        let ((a_part, a_rest), (b_part, b_rest)) = (split(a), split(b));
        if b_part.is_empty() {
            // A number is newer than letters.
            return if is_number { Ordering::Greater } else { Ordering::Less };
        }
        let order = match is_number {
            true => number::compare(a_part, b_part),
            false => a_part.cmp(b_part),
        };
        if order.is_ne() {
            return order;
        }
        (a, b) = (a_rest, b_rest);
    }
}

fn is_separator(c: char) -> bool {
    !c.is_ascii_alphanumeric() && c != '~' && c != '^'
}
