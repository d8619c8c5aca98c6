//! Image references, normalised as container engines do (distribution/reference, `normalize.go`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Digest, DigestError};

/// Longest reference that is read, in bytes; the distribution project allows 255 for the name.
const MAX_LENGTH: usize = 512;

/// A parsed, normalised image reference: `nginx` is `docker.io/library/nginx:latest`.
///
/// `latest` is added only where neither tag nor digest is given. The host keeps its port and is
/// lower case, since registries' names are host names, unless its case alone shows that it is one
/// (`HUB/app`); an upper-case path is an error, as it is for the engines.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef {
    /// Host with optional port, for example `registry.example.com:5000`.
    host: Box<str>,
    /// Path components joined by `/`, for example `library/nginx`.
    path: Box<str>,
    tag: Option<Box<str>>,
    digest: Option<Digest>,
}

/// Why a text is not an [`ImageRef`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Empty, too long, or a character that no part of a reference may have.
    #[error("\"{0}\" is not an image reference: {1}")]
    Malformed(String, &'static str),
    /// The part behind `@` is not a digest.
    #[error("in the image reference \"{0}\"")]
    Digest(String, #[source] DigestError),
}

impl ImageRef {
    /// Host with optional port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path's components, in order; never empty.
    pub fn path(&self) -> impl Iterator<Item = &str> {
        self.path.split('/')
    }

    /// Host and path without tag and digest.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.host, self.path)
    }

    /// The tag, if the reference has one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest behind `@`, if the reference has one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

fn path_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    // Between alphanumerics stands one `.`, one or two `_`, or any number of `-`.
    let mut separators = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    separators.all(|s| {
        matches!(s, "" | "." | "_" | "__") || (!s.is_empty() && s.bytes().all(|b| b == b'-'))
    })
}

fn host(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        return address.parse::<std::net::Ipv6Addr>().is_ok()
            && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (text, None),
    };
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_tag(text: &str) -> bool {
    let bytes = text.as_bytes();
    let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    bytes.len() <= 128
        && bytes.first().is_some_and(word)
        && bytes.iter().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

impl FromStr for ImageRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let shown =
            |text: &str| text.chars().take(120).flat_map(char::escape_default).collect::<String>();
        let wrong = |why| ReferenceError::Malformed(shown(text), why);
        if text.is_empty() {
            return Err(wrong("it is empty"));
        }
        if text.len() > MAX_LENGTH {
            return Err(wrong("it is longer than 512 bytes"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|e| ReferenceError::Digest(shown(rest), e))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (name, tag) = match rest.rfind(':') {
            Some(colon) if !rest[colon..].contains('/') => {
                (&rest[..colon], Some(&rest[colon + 1..]))
            }
            _ => (rest, None),
        };
        if tag.is_some_and(|t| !is_tag(t)) {
            return Err(wrong("the tag takes letters, digits, '_', '.' and '-', at most 128"));
        }
        // The first component is a host if it has a dot or a port, or is localhost, or upper case.
        let (host_text, path) = match name.split_once('/') {
            Some((first, path))
                if first.contains(['.', ':'])
                    || first == "localhost"
                    || first.bytes().any(|b| b.is_ascii_uppercase()) =>
            {
                (first, path.to_owned())
            }
            _ => ("docker.io", name.to_owned()),
        };
        if !host(host_text) {
            return Err(wrong("the host is not a host name with an optional port"));
        }
        let lower = host_text.to_ascii_lowercase();
        let host: Box<str> = match lower.as_str() {
            "index.docker.io" => "docker.io".into(),
            other if other.contains(['.', ':']) || other == "localhost" => other.into(),
            // Only its case tells it from a path of Docker Hub.
            _ => host_text.into(),
        };
        let path = match path.contains('/') {
            false if &*host == "docker.io" => format!("library/{path}"),
            _ => path,
        };
        if !path.split('/').all(path_component) {
            return Err(wrong(
                "each path component takes lower-case letters and digits, joined by '.', '_' or '-'",
            ));
        }
        let tag = match (tag, &digest) {
            (None, None) => Some("latest".into()),
            (tag, _) => tag.map(Into::into),
        };
        Ok(Self { host, path: path.into(), tag, digest })
    }
}

impl TryFrom<String> for ImageRef {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<ImageRef> for String {
    fn from(reference: ImageRef) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, wanted: &str) {
        let reference: ImageRef = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(reference.to_string(), wanted, "{text}");
    }

    #[test]
    fn short_names_are_normalised_as_engines_do() {
        check("nginx", "docker.io/library/nginx:latest");
        check("bitnami/redis", "docker.io/bitnami/redis:latest");
        check("index.docker.io/nginx:1", "docker.io/library/nginx:1");
        check("localhost/app", "localhost/app:latest");
        check("localhost:5000/app:1", "localhost:5000/app:1");
        check("Registry.Example.com/team/app", "registry.example.com/team/app:latest");
        check("LOCALHOST/app", "localhost/app:latest");
        check("HUB/team/app", "HUB/team/app:latest");
        check("[::1]:5000/app", "[::1]:5000/app:latest");
        let digest = format!("sha256:{}", "a".repeat(64));
        check(&format!("nginx@{digest}"), &format!("docker.io/library/nginx@{digest}"));
        check(&format!("a.io/b:1@{digest}"), &format!("a.io/b:1@{digest}"));
    }

    #[test]
    fn what_engines_refuse_is_refused() {
        for wrong in [
            "",
            "Nginx",
            "nginx:",
            "nginx:-x",
            "nginx@sha256:abc",
            "a.io/",
            "a.io//b",
            "a.io/b/../c",
            "a.io/B",
            "a.io/b c",
            "a.io/b\nc",
            "-a.io/b",
            "a.io:port/b",
            "a.io/_b",
            "a.io/b___c",
            "a.io/b..c",
        ] {
            assert!(wrong.parse::<ImageRef>().is_err(), "{wrong:?} was taken for a reference");
        }
        assert!("a".repeat(600).parse::<ImageRef>().is_err());
    }

    #[test]
    fn errors_steer_no_terminal() {
        for wrong in ["a\u{1b}[2J", "a\u{1b}[2J@sha256:0", "a@\u{1b}[2J:0"] {
            let error = crate::with_causes(&wrong.parse::<ImageRef>().unwrap_err());
            assert!(!error.contains(char::is_control), "{error:?}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_normal_form_is_stable(text in "\\PC{0,80}") {
            if let Ok(reference) = text.parse::<ImageRef>() {
                let normal = reference.to_string();
                prop_assert_eq!(normal.parse::<ImageRef>().unwrap().to_string(), normal);
            }
        }

        #[test]
        fn references_survive_a_round_trip(
            text in "([a-z]{1,5}\\.io(:[0-9]{1,4})?/)?[a-z0-9]{1,6}(/[a-z0-9]{1,6}){0,2}(:[a-z0-9.]{1,5})?"
        ) {
            if let Ok(reference) = text.parse::<ImageRef>() {
                prop_assert_eq!(reference.to_string().parse::<ImageRef>().unwrap(), reference);
            }
        }
    }
}
