//! What the doctor says: one thing, where it stands, why it matters and what to type.

use schemars::JsonSchema;
use serde::Serialize;

/// How bad a finding is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// A container starts past the gate although nobody asked for that, or because the author of a
    /// pod did.
    Bypass,
    /// The gate or the engine does not work as it is set up.
    Error,
    /// A way past the gate for who owns the engine's socket, or something that will break.
    Warning,
    /// Good to know.
    Info,
    /// As it should be.
    Ok,
}

impl Severity {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Ok => "ok",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Finding {
    pub(super) severity: Severity,
    /// Which check it is, as a word that does not change: `containerd.handler`.
    pub(super) check: &'static str,
    /// The file, as it is named on the node.
    pub(super) file: Option<String>,
    /// The line in it, from 1, of a text that cannot be read.
    pub(super) line: Option<usize>,
    /// The key in it.
    pub(super) key: Option<String>,
    /// What was seen.
    pub(super) seen: String,
    /// Why that matters.
    pub(super) why: String,
    /// What to type.
    pub(super) remedy: Option<String>,
}

/// A place in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: String,
    pub(super) key: String,
}

impl Finding {
    pub(super) fn new(severity: Severity, check: &'static str, seen: impl Into<String>) -> Self {
        let (file, line, key, remedy) = (None, None, None, None);
        Self { severity, check, file, line, key, seen: seen.into(), why: String::new(), remedy }
    }

    pub(super) fn ok(check: &'static str, seen: impl Into<String>) -> Self {
        Self::new(Severity::Ok, check, seen)
    }

    pub(super) fn file(self, file: impl Into<String>) -> Self {
        Self { file: Some(file.into()), ..self }
    }

    pub(super) fn line(self, line: Option<usize>) -> Self {
        Self { line, ..self }
    }

    pub(super) fn key(self, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// Where it stands, if it is written anywhere.
    pub(super) fn at(self, place: Option<&Place>) -> Self {
        match place {
            Some(place) => self.file(&place.file).key(&place.key),
            None => self,
        }
    }

    pub(super) fn why(self, why: impl Into<String>) -> Self {
        Self { why: why.into(), ..self }
    }

    pub(super) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}
