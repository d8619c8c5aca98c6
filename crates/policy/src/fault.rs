//! What is wrong with a document, where, and what to write instead.

use std::fmt;

/// Where in a file, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file's name as it was given.
    pub file: String,
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// One fault of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where in the file; absent if the document did not come from one.
    pub place: Option<Place>,
    /// The policy's name, as far as it could be read.
    pub policy: Option<String>,
    /// Which field: `spec.rules[2].severity[0]`. Empty for the document as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What is expected; may be empty.
    pub remedy: String,
}

/// A text that came from outside, fit to stand in a message: short, on one line, and without what
/// moves a cursor or turns the direction of writing.
pub(crate) fn shown(text: &str) -> String {
    const LENGTH: usize = 120;
    let mut shown = String::new();
    for c in text.chars().take(LENGTH) {
        if c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric() {
            shown.push(c);
        } else {
            shown.extend(c.escape_unicode());
        }
    }
    if text.chars().nth(LENGTH).is_some() {
        shown.push_str("...");
    }
    shown
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl fmt::Display for Fault {
    /// `prod.yaml:12:7: spec.rules[0].severity[0]: "sever" is not a severity: use critical, …`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, &self.policy) {
            (Some(place), _) => write!(f, "{place}: ")?,
            (None, Some(policy)) => write!(f, "policy {policy}: ")?,
            (None, None) => {}
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if !self.remedy.is_empty() {
            write!(f, ": {}", self.remedy)?;
        }
        Ok(())
    }
}
