//! What every text must be that ends on somebody's terminal.

/// Panics unless the text has at most `most` bytes and no control characters.
pub(crate) fn printable(what: &str, text: &str, most: usize) {
    assert!(text.len() <= most, "{what} has {} bytes, more than {most}", text.len());
    assert!(!text.chars().any(char::is_control), "{what} has control characters: {text:?}");
}

/// An error with all its causes must be short and printable.
pub(crate) fn told(error: &(dyn std::error::Error + 'static)) {
    printable("an error", &portcullis_types::with_causes(error), 16 << 10);
}
