//! Errors in words: what happened, and why.

/// An error with all its causes, from the outermost in: `cannot read x: No such file`.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", with_causes(source)),
        None => error.to_string(),
    }
}
