//! Findings: one problem each, of a class and a severity, at a place.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A word that is none of the words expected; the message lists those.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{word}\" is not {what}: use {known}")]
pub struct UnknownWord {
    /// The word that was given, shortened.
    pub word: String,
    /// What it should have been, with its article, for example `a severity`.
    pub what: &'static str,
    /// The words that are known, separated by commas.
    pub known: String,
}

/// Declares an enum whose variants are words of the policy language: one place for the words.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident, $what:literal { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$doc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// All values, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word as policies and JSON write it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            /// One of the words. A plain `enum`, as a structural schema of Kubernetes asks for.
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let words: Vec<&str> = Self::ALL.iter().map(|v| v.as_str()).collect();
                schemars::json_schema!({ "type": "string", "enum": words })
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::UnknownWord;

            fn from_str(text: &str) -> Result<Self, $crate::UnknownWord> {
                Self::ALL.iter().copied().find(|v| v.as_str() == text).ok_or_else(|| {
                    $crate::UnknownWord {
                        word: text.chars().take(40).flat_map(char::escape_default).collect(),
                        what: $what,
                        known: Self::ALL.iter().map(|v| v.as_str()).collect::<Vec<_>>().join(", "),
                    }
                })
            }
        }
    };
}
pub(crate) use words;

words! {
    /// What kind of problem a finding is.
    Class, "a class" {
        /// A known vulnerability of a package in the image.
        Vulnerability = "vulnerability",
        /// A malicious file in the image.
        Malware = "malware",
        /// A non-compliant setting of the image: accounts, permissions, build habits.
        Baseline = "baseline",
        /// A key, token or password left in the image.
        Secret = "secret",
        /// A dangerous setting of this start, from the OCI runtime specification.
        Workload = "workload",
        /// The image may not start here at all, or not by this name.
        Authorization = "authorization",
    }
}

impl Class {
    /// Whether scanners find this class in images, so that coverage is a question.
    pub const fn is_scanned(self) -> bool {
        matches!(self, Self::Vulnerability | Self::Malware | Self::Baseline | Self::Secret)
    }
}

words! {
    /// How bad a finding is, as its scanner says; the smallest value is the worst.
    Severity, "a severity" {
        /// Critical.
        Critical = "critical",
        /// High.
        High = "high",
        /// Medium.
        Medium = "medium",
        /// Low, negligible and informational.
        Low = "low",
        /// The scanner gave none.
        Unknown = "unknown",
    }
}

/// A text of a finding. Package names, versions and paths come again and again in one verdict, so
/// they are shared; a start decodes some thousands of them.
pub type Text = Arc<str>;

/// One problem of an image or a start.
///
/// Times are UTC. Fields that a scanner does not know are `None`; an empty text is never stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Kind of problem.
    pub class: Class,
    /// Identifier: a CVE or advisory id, a baseline item, a signature's name. Where a scanner
    /// gives several ids of one vulnerability, the CVE's.
    pub id: Text,
    /// Other ids of the same vulnerability, sorted: `GHSA-jfh8-c2jp-5v3q`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Text>,
    /// How bad.
    pub severity: Severity,
    /// Package name, for vulnerabilities.
    #[serde(default)]
    pub package: Option<Text>,
    /// Installed version.
    #[serde(default)]
    pub version: Option<Text>,
    /// Version that mends it; several are separated by `, `. `Some` means fixable.
    #[serde(default)]
    pub fixed_version: Option<Text>,
    /// Where: a file below the image's root or a lock file. `None` for a package of the
    /// distribution, which lies in its package database.
    #[serde(default)]
    pub path: Option<Text>,
    /// Package URL of the package, as the scanner gives it (`pkg:deb/debian/openssl@3.0.11`).
    #[serde(default)]
    pub purl: Option<Text>,
    /// SHA-256 of the file, 64 lower-case hexadecimal digits, for malware.
    #[serde(default)]
    pub sha256: Option<Text>,
    /// One line for people.
    #[serde(default)]
    pub title: Option<Text>,
    /// CVSS base score, 0 to 10.
    #[serde(default)]
    pub cvss: Option<f32>,
    /// EPSS probability, 0 to 1.
    #[serde(default)]
    pub epss: Option<f32>,
    /// Listed in CISA's catalogue of known exploited vulnerabilities.
    #[serde(default)]
    pub kev: bool,
    /// When the advisory was published.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::TimeSchema>"))]
    pub published: Option<Timestamp>,
    /// When a fixed version appeared.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::TimeSchema>"))]
    pub fixed: Option<Timestamp>,
    /// When this node first heard of it in this image; set by the store.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::TimeSchema>"))]
    pub first_seen: Option<Timestamp>,
    /// Which scanner or rule spoke, for example `trivy`; several are separated by `, `.
    pub source: Text,
}

impl Finding {
    /// A finding with the given core and nothing else known.
    pub fn new(
        class: Class,
        id: impl Into<Text>,
        severity: Severity,
        source: impl Into<Text>,
    ) -> Self {
        Self {
            class,
            id: id.into(),
            aliases: Vec::new(),
            severity,
            package: None,
            version: None,
            fixed_version: None,
            path: None,
            purl: None,
            sha256: None,
            title: None,
            cvss: None,
            epss: None,
            kev: false,
            published: None,
            fixed: None,
            first_seen: None,
            source: source.into(),
        }
    }

    /// Whether a version that mends it exists.
    pub fn is_fixable(&self) -> bool {
        self.fixed_version.is_some()
    }

    /// Whether this is one of its ids, upper and lower case alike.
    pub fn is_called(&self, id: &str) -> bool {
        self.id.eq_ignore_ascii_case(id) || self.aliases.iter().any(|a| a.eq_ignore_ascii_case(id))
    }

    /// Whether both say the same of their problem, apart from what this node adds: when it was
    /// first seen here, and what the EPSS and KEV feeds say of it.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let Self { first_seen, epss, kev, .. } = *other;
        Self { first_seen, epss, kev, ..self.clone() } == *other
    }

    /// What makes two findings the same problem, whoever reports it.
    pub fn key(&self) -> FindingKey<'_> {
        FindingKey {
            class: self.class,
            id: &self.id,
            package: self.package.as_deref(),
            version: self.version.as_deref(),
            path: self.path.as_deref(),
        }
    }
}

/// Identity of a finding: class, id, package with version, and place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FindingKey<'a> {
    /// Kind of problem.
    pub class: Class,
    /// Identifier.
    pub id: &'a str,
    /// Package name.
    pub package: Option<&'a str>,
    /// Installed version.
    pub version: Option<&'a str>,
    /// Place.
    pub path: Option<&'a str>,
}

impl fmt::Display for Finding {
    /// `CVE-2024-3094 xz-utils 5.6.0 -> 5.6.1`, as short as a refusal needs it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        if let Some(package) = &self.package {
            write!(f, " {package}")?;
            if let Some(version) = &self.version {
                write!(f, " {version}")?;
            }
            if let Some(fixed) = &self.fixed_version {
                write!(f, " -> {fixed}")?;
            }
        } else if let Some(path) = &self.path {
            write!(f, " {path}")?;
        }
        Ok(())
    }
}

impl Severity {
    /// Reads the words other scanners use, in any case; what is not known is [`Severity::Unknown`].
    pub fn from_scanner(word: &str) -> Self {
        let word = word.to_ascii_lowercase();
        match word.as_str() {
            "negligible" | "informational" | "info" | "minor" => Self::Low,
            "moderate" => Self::Medium,
            "important" | "serious" => Self::High,
            _ => Self::from_str(&word).unwrap_or(Self::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_written_alike() {
        for class in Class::ALL {
            assert_eq!(class.as_str().parse::<Class>().unwrap(), *class);
            assert_eq!(serde_json::to_string(class).unwrap(), format!("\"{class}\""));
        }
        let error = "sever".parse::<Severity>().unwrap_err().to_string();
        assert_eq!(error, "\"sever\" is not a severity: use critical, high, medium, low, unknown");
    }

    #[test]
    fn other_scanners_words_are_understood() {
        for (word, wanted) in [
            ("CRITICAL", Severity::Critical),
            ("Negligible", Severity::Low),
            ("moderate", Severity::Medium),
            ("Important", Severity::High),
            ("", Severity::Unknown),
            ("dire", Severity::Unknown),
        ] {
            assert_eq!(Severity::from_scanner(word), wanted, "{word}");
        }
    }
}
