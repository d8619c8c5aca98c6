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

/// Compares lists of numbers; one that is missing is zero.
pub(crate) fn compare_lists(a: &[&str], b: &[&str]) -> Ordering {
    (0..a.len().max(b.len()))
        .map(|at| compare(a.get(at).copied().unwrap_or("0"), b.get(at).copied().unwrap_or("0")))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
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
