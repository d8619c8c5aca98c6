//! Hostile text made plain.

/// Words that engines look for in a runtime's error and then put a message or an exit code of
/// their own in its place (Podman's `getOCIRuntimeError`, Docker's `translateContainerdStartErr`).
const ENGINE_ERRORS: [&str; 6] = [
    "permission denied",
    "operation not permitted",
    "no such file",
    "executable file not found",
    "is a directory",
    "not a directory",
];

/// ASCII without control characters.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect()
}

/// The same without the `;` that separates the parts of the line.
pub(super) fn plain(text: &str) -> String {
    printable(text).replace(';', ",")
}

/// At most `length` bytes of a plain text, cut in the middle: the beginning says what it is, the
/// end holds version or digest.
pub(super) fn shortened(text: &str, length: usize) -> String {
    const CUT: &str = "...";
    if text.len() <= length {
        return text.to_owned();
    }
    let kept = length.saturating_sub(CUT.len());
    let end = kept / 3;
    let begin = kept - end;
    format!("{}{CUT}{}", &text[..begin], &text[text.len() - end..])
}

/// The same text with a `_` in each phrase that an engine would take for its own error.
pub(super) fn without_engine_errors(mut text: String) -> String {
    for phrase in ENGINE_ERRORS {
        while let Some(at) = text.to_ascii_lowercase().find(phrase) {
            let blank = at + phrase.find(' ').unwrap_or(0);
            text.replace_range(blank..=blank, "_");
        }
    }
    text
}
