//! `Gem::Version`: numbers and words, wherever one turns into the other.

use std::cmp::Ordering;

use crate::number::{compare_mixed, first, is_number, run};

/// A word is before every number: it makes a pre-release. A segment that is missing is 0.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (segments(a), segments(b));
    first((0..a.len().max(b.len())).map(|at| {
        let [a, b] = [&a, &b].map(|list| list.get(at).copied().unwrap_or("0"));
        compare_mixed(a, b, Ordering::Greater)
    }))
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
            let (segment, after) = run(rest);
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
