//! Errors in words: what happened, and why.

/// An error with all its causes, from the outermost in: `cannot read x: No such file`.
///
/// On one line and without what steers a terminal, since libraries put into their errors what they
/// were given: control characters are escaped.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut told = printable(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        told.push_str(": ");
        told.push_str(&printable(&error.to_string()));
        cause = error.source();
    }
    told
}

fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => printable.extend(c.escape_default()),
            false => printable.push(c),
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_library_was_given_steers_no_terminal() {
        let cause = serde_json::from_str::<crate::Severity>("\"\\u001b[2J\\n\"").unwrap_err();
        let error = std::io::Error::other(cause);
        assert!(error.to_string().contains('\u{1b}'));
        let told = with_causes(&error);
        assert!(told.contains("\\u{1b}[2J\\n"), "{told}");
        assert!(!told.contains(char::is_control), "{told:?}");
    }
}
