//! Package URLs (package-url/purl-spec), as far as importers need them.
//!
//! Lenient: what a scanner writes is kept as it is; this only looks into it.

/// The parts of `pkg:kind/namespace/name@version?qualifiers`, unescaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Purl {
    /// The type, lower case: `deb`, `npm`, `oci`.
    pub(crate) kind: String,
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    /// The qualifier `repository_url`.
    pub(crate) repository_url: Option<String>,
}

impl Purl {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("pkg:")?.trim_start_matches('/');
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (rest, qualifiers) = rest.split_once('?').unwrap_or((rest, ""));
        let (path, version) = match rest.rsplit_once('@') {
            // A scope of npm that is not escaped, `pkg:npm/@babel/core`, is no version.
            Some((path, version)) if !version.contains('/') => (path, Some(unescaped(version))),
            _ => (rest, None),
        };
        let (kind, path) = path.split_once('/')?;
        let (namespace, name) = match path.trim_end_matches('/').rsplit_once('/') {
            Some((namespace, name)) => (Some(unescaped(namespace.trim_matches('/'))), name),
            None => (None, path.trim_end_matches('/')),
        };
        let repository_url = qualifiers.split('&').find_map(|q| q.strip_prefix("repository_url="));
        if kind.is_empty() || name.is_empty() {
            return None;
        }
        Some(Self {
            kind: kind.to_ascii_lowercase(),
            namespace: namespace.filter(|n| !n.is_empty()),
            name: unescaped(name),
            version: version.filter(|v| !v.is_empty()),
            repository_url: repository_url.map(unescaped),
        })
    }
}

/// The text with `%2F` and the like undone (RFC 3986, section 2.1); what is no escape stays, and
/// so does an escape that would not leave a text or would drive a terminal.
pub(crate) fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escape = (*first == b'%').then(|| after.get(..2)).flatten();
        let byte = escape.and_then(|e| std::str::from_utf8(e).ok());
        // from_str_radix takes a sign.
        let byte = byte.filter(|e| e.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = byte.and_then(|e| u8::from_str_radix(e, 16).ok());
        match byte {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) => crate::text::printable(&text),
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_told_apart() {
        for (text, kind, namespace, name, version) in [
            (
                "pkg:deb/debian/xz-utils@5.6.0-0.1?arch=amd64",
                "deb",
                Some("debian"),
                "xz-utils",
                Some("5.6.0-0.1"),
            ),
            ("pkg:npm/%40babel/core@7.0.0", "npm", Some("@babel"), "core", Some("7.0.0")),
            ("pkg:npm/@babel/core", "npm", Some("@babel"), "core", None),
            (
                "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1",
                "maven",
                Some("org.apache.logging.log4j"),
                "log4j-core",
                Some("2.14.1"),
            ),
            (
                "pkg:golang/golang.org/x/net@v0.1.0#http2",
                "golang",
                Some("golang.org/x"),
                "net",
                Some("v0.1.0"),
            ),
            (
                "pkg:oci/web@sha256%3Aab?repository_url=r.example.com%2Fweb",
                "oci",
                None,
                "web",
                Some("sha256:ab"),
            ),
            ("pkg:PyPI/setuptools", "pypi", None, "setuptools", None),
        ] {
            let purl = Purl::parse(text).unwrap_or_else(|| panic!("{text}"));
            let parts = (
                purl.kind.as_str(),
                purl.namespace.as_deref(),
                purl.name.as_str(),
                purl.version.as_deref(),
            );
            assert_eq!(parts, (kind, namespace, name, version), "{text}");
        }
        for wrong in ["", "pkg:", "pkg:npm", "pkg:npm/", "npm/lodash", "pkg:/x/"] {
            assert_eq!(Purl::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_no_escape_stays() {
        for (text, wanted) in [
            ("a%2Fb", "a/b"),
            ("100%", "100%"),
            ("%zz%4", "%zz%4"),
            ("%ff", "%ff"),
            ("%1b[2J", "\\u{1b}[2J"),
            ("%c3%a4", "ä"),
            ("%+1", "%+1"),
        ] {
            assert_eq!(unescaped(text), wanted);
        }
    }
}
