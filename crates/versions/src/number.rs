//! Numbers of any length, as texts of digits.

use std::cmp::Ordering;

/// Whether a text is a number: digits and nothing else.
pub(crate) fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Compares two texts of digits by their values; an empty one is zero.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// Splits what begins a text as long as `is_part` holds from the rest.
pub(crate) fn prefix(text: &str, is_part: impl Fn(u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|byte| !is_part(byte)).unwrap_or(text.len());
    // All parts that are asked for are ASCII, so the place is between two characters.
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// Splits the digits that begin a text from the rest.
pub(crate) fn digits(text: &str) -> (&str, &str) {
    prefix(text, |byte| byte.is_ascii_digit())
}

/// Splits the digits that begin a text, or else what is no digit, from the rest.
pub(crate) fn run(text: &str) -> (&str, &str) {
    match digits(text) {
        ("", _) => prefix(text, |byte| !byte.is_ascii_digit()),
        split => split,
    }
}

/// Compares numbers by value, words as texts, and a number with a word as `to_word` says.
pub(crate) fn compare_mixed(a: &str, b: &str, to_word: Ordering) -> Ordering {
    match (is_number(a), is_number(b)) {
        (true, true) => compare(a, b),
        (false, false) => a.cmp(b),
        (true, false) => to_word,
        (false, true) => to_word.reverse(),
    }
}

/// Compares lists of numbers and words by what is at each place; of two with one beginning, the
/// longer is newer.
pub(crate) fn compare_mixed_lists(a: &[&str], b: &[&str], to_word: Ordering) -> Ordering {
    let pairs = a.iter().zip(b).map(|(a, b)| compare_mixed(a, b, to_word));
    first(pairs.chain([a.len().cmp(&b.len())]))
}

/// The first order that decides.
pub(crate) fn first(mut orders: impl Iterator<Item = Ordering>) -> Ordering {
    orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

/// Compares lists of numbers; one that is missing is zero.
pub(crate) fn compare_lists(a: &[&str], b: &[&str]) -> Ordering {
    first((0..a.len().max(b.len())).map(|at| {
        let [a, b] = [a, b].map(|list| list.get(at).copied().unwrap_or("0"));
        compare(a, b)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_by_value() {
        for (a, b, order) in [
            ("1", "01", Ordering::Equal),
            ("", "0", Ordering::Equal),
            ("9", "10", Ordering::Less),
            ("99999999999999999999999", "100000000000000000000000", Ordering::Less),
            ("12", "11", Ordering::Greater),
        ] {
            assert_eq!(compare(a, b), order, "{a} {b}");
            assert_eq!(compare(b, a), order.reverse(), "{b} {a}");
        }
        assert_eq!(compare_lists(&["1"], &["1", "0", "0"]), Ordering::Equal);
        assert_eq!(compare_lists(&["1"], &["1", "0", "1"]), Ordering::Less);
    }

    #[test]
    fn a_prefix_ends_before_what_is_not_ascii() {
        assert_eq!(digits("12é"), ("12", "é"));
        assert_eq!(digits("é"), ("", "é"));
        assert_eq!(digits(""), ("", ""));
    }
}
