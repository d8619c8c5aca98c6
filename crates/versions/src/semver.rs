//! Semantic Versioning 2.0, read as tolerantly as OSV's own tools do; NuGet's variant of it.

use std::cmp::Ordering;

use crate::number::{compare_lists, compare_mixed_lists, digits};

/// Numbers of a version; more of them count as part of what is behind.
const NUMBERS: usize = 3;
/// NuGet's versions have one more.
const NUMBERS_OF_NUGET: usize = 4;

pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (Version::read(a, NUMBERS), Version::read(b, NUMBERS));
    a.compare(&b)
}

pub(crate) fn compare_nuget(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let [a, b] = [&a, &b].map(|text| Version::read(text, NUMBERS_OF_NUGET));
    a.compare(&b)
}

struct Version<'a> {
    numbers: Vec<&'a str>,
    /// What makes it a pre-release; empty for a release.
    pre: Vec<&'a str>,
}

impl<'a> Version<'a> {
    fn read(text: &'a str, most: usize) -> Self {
        let mut rest = text.strip_prefix('v').unwrap_or(text);
        let mut numbers = Vec::new();
        loop {
            let (number, after) = digits(rest);
            if !number.is_empty() {
                numbers.push(number);
            }
            match after.strip_prefix('.') {
                Some(after) => rest = after,
                None => {
                    rest = after;
                    break;
                }
            }
        }
        // Build metadata behind a plus has no say.
        let behind = rest.split_once('+').map_or(rest, |(behind, _)| behind);
        let more = numbers.split_off(numbers.len().min(most));
        let mut pre: Vec<&str> = match (behind.strip_prefix('-').unwrap_or(behind), more.is_empty())
        {
            ("", true) => Vec::new(),
            // An empty identifier before those that are too many.
            (behind, _) => behind.split('.').collect(),
        };
        if !rest.contains('+') {
            pre.extend(more);
        }
        Self { numbers, pre }
    }

    fn compare(&self, other: &Self) -> Ordering {
        let pre = || match (self.pre.is_empty(), other.pre.is_empty()) {
            // Numbers are before words.
            (false, false) => compare_mixed_lists(&self.pre, &other.pre, Ordering::Less),
            // A release is newer than what leads to it.
            (a, b) => a.cmp(&b),
        };
        compare_lists(&self.numbers, &other.numbers).then_with(pre)
    }
}
