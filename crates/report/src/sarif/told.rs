//! What the texts of Trivy's and Grype's SARIF tell, for which SARIF has no members.
//!
//! Trivy writes lines into each message; Grype writes lines into each rule's help, and one
//! sentence into each message. Whoever made the image chose some of the words in them, so of a
//! line that comes twice the first counts, and nothing else is derived from these texts.

use crate::text::printable;

/// What is told; an empty text means that it is told to be nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) vulnerability: Option<String>,
    pub(super) severity: Option<String>,
    pub(super) package: Option<String>,
    pub(super) version: Option<String>,
    pub(super) fixed_version: Option<String>,
    /// Grype's type of the package: `deb`, `npm`.
    pub(super) kind: Option<String>,
    /// Where the package lies in the image.
    pub(super) path: Option<String>,
}

impl Told {
    /// Reads a message: Grype's sentence, or Trivy's lines.
    pub(super) fn of_message(text: &str) -> Self {
        Self::of_sentence(text).unwrap_or_else(|| Self::of_lines(text))
    }

    /// `Package: openssl`, one a line.
    pub(super) fn of_lines(text: &str) -> Self {
        let mut told = Self::default();
        for line in text.lines() {
            let (field, value) = match line.split_once(':') {
                Some(("Package", value)) => (&mut told.package, value),
                Some(("Installed Version" | "Version", value)) => (&mut told.version, value),
                Some(("Fixed Version" | "Fix Version", value)) => (&mut told.fixed_version, value),
                Some(("Severity", value)) => (&mut told.severity, value),
                Some(("Type", value)) => (&mut told.kind, value),
                Some(("Location", value)) => (&mut told.path, value),
                _ => match line.strip_prefix("Vulnerability ") {
                    Some(value) => (&mut told.vulnerability, value),
                    None => continue,
                },
            };
            if field.is_none() {
                *field = Some(printable(value.trim()));
            }
        }
        told
    }

    /// `A high vulnerability in deb package: openssl, version 3.0.11-1 was found in image web at:
    /// /var/lib/dpkg/status`.
    fn of_sentence(text: &str) -> Option<Self> {
        let (severity, rest) = text.strip_prefix("A ")?.split_once(" vulnerability in ")?;
        let (kind, rest) = rest.split_once(" package: ")?;
        let (package, rest) = rest.split_once(", version ")?;
        let (version, place) = rest.split_once(" was found ")?;
        let path = place.split_once("at: ").map(|(_, path)| printable(path.trim()));
        Some(Self {
            severity: Some(printable(severity)),
            kind: Some(printable(kind)),
            package: Some(printable(package)),
            version: Some(printable(version)),
            path,
            ..Self::default()
        })
    }
}

/// A text that is told and not empty.
pub(super) fn word(told: &Option<String>) -> Option<&str> {
    told.as_deref().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(told: &Told) -> [Option<&str>; 6] {
        [
            told.vulnerability.as_deref(),
            told.package.as_deref(),
            told.version.as_deref(),
            told.fixed_version.as_deref(),
            told.kind.as_deref(),
            told.path.as_deref(),
        ]
    }

    #[test]
    fn the_known_forms_are_read() {
        let trivy = "Package: libssl1.1\nInstalled Version: 1.1.1c-r0\nVulnerability CVE-2019-1549\n\
                     Severity: MEDIUM\nFixed Version: 1.1.1d-r0\nLink: [x](https://x)";
        let wanted = [
            Some("CVE-2019-1549"),
            Some("libssl1.1"),
            Some("1.1.1c-r0"),
            Some("1.1.1d-r0"),
            None,
            None,
        ];
        assert_eq!(parts(&Told::of_message(trivy)), wanted);
        let grype = "A high vulnerability in deb package: bash, version 5.0-4 was found in image \
                     a.io/b:1 at: /var/lib/dpkg/status";
        let wanted =
            [None, Some("bash"), Some("5.0-4"), None, Some("deb"), Some("/var/lib/dpkg/status")];
        assert_eq!(parts(&Told::of_message(grype)), wanted);
        let help = "Vulnerability CVE-2024-1234\nSeverity: high\nPackage: bash\nVersion: 5.0-4\n\
                    Fix Version: 5.1,5.2\nType: deb\nLocation: /var/lib/dpkg/status";
        let told = Told::of_lines(help);
        assert_eq!(
            (told.fixed_version.as_deref(), told.severity.as_deref()),
            (Some("5.1,5.2"), Some("high"))
        );
    }

    #[test]
    fn other_texts_tell_nothing_and_the_first_line_counts() {
        for text in
            ["", "Something is wrong.", "A vulnerability", "A x vulnerability in y package: z"]
        {
            assert_eq!(Told::of_message(text), Told::default(), "{text}");
        }
        let told =
            Told::of_lines("Fixed Version: \nFixed Version: 1\nPackage: a\u{1b}b\nPackage: c");
        assert_eq!(word(&told.fixed_version), None);
        assert_eq!(told.package.as_deref(), Some("a\\u{1b}b"));
    }
}
