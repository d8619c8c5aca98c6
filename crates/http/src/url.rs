//! Addresses of files.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use ureq::http::Uri;
use ureq::http::uri::InvalidUri;

/// What a segment of a path is written with as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Why a text is no [`Url`]. Logins are not told.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// Not of the form of one.
    #[error("\"{0}\" is no URL")]
    Malformed(String, #[source] InvalidUri),
    /// Of another kind, or without a host.
    #[error("\"{0}\" is no URL: it must begin with http:// or https:// and a host")]
    Other(String),
    /// Of another kind.
    #[error("{0} cannot be fetched: only http:// and https:// can")]
    Scheme(String),
    /// A server sends us there.
    #[error("it redirects to {0}")]
    Redirect(String, #[source] Box<UrlError>),
}

/// What a stranger wrote must not move a terminal's cursor, nor fill it.
fn shown(text: &str) -> String {
    text.chars().take(300).flat_map(char::escape_debug).collect()
}

/// An `http` or `https` address. As text it has neither a login nor a query, which may be secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// Without the login.
    uri: Uri,
    /// As the header has it.
    login: Option<String>,
}

impl Url {
    /// A source that is an address, and no path.
    ///
    /// # Errors
    /// It is no address that can be fetched.
    pub fn of_source(source: &Path) -> Option<Result<Self, UrlError>> {
        let text = source.to_str()?;
        let (scheme, _) = text.split_once("://")?;
        if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Some(Self::parse(text));
        }
        let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (is_scheme && !source.exists()).then(|| Err(UrlError::Scheme(shown(text))))
    }

    /// Reads an address, which may have a login before its host.
    ///
    /// # Errors
    /// [`UrlError`].
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        // Nobody sends a fragment.
        let text = text.split('#').next().unwrap_or_default();
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Some(login), host),
            None => (None, authority),
        };
        let told = || shown(&format!("{scheme}://{host}{path}"));
        let uri: Uri = format!("{}://{host}{path}", scheme.to_ascii_lowercase())
            .parse()
            .map_err(|error| UrlError::Malformed(told(), error))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || host.is_empty() {
            return Err(UrlError::Other(told()));
        }
        let login = login.map(|login| {
            let decoded: Vec<u8> = percent_decode_str(login).collect();
            format!("Basic {}", BASE64_STANDARD.encode(decoded))
        });
        Ok(Self { uri, login })
    }

    /// Where an answer's `Location` leads. A login is for its own host only.
    ///
    /// # Errors
    /// It leads nowhere that could be asked.
    pub fn join(&self, location: &str) -> Result<Self, UrlError> {
        let base = &self.uri;
        let (scheme, authority) = (base.scheme_str().unwrap_or_default(), self.host());
        let is_absolute = location.split(['/', '?', '#']).next().is_some_and(|s| s.ends_with(':'));
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        let text = match location {
            _ if is_absolute => location.to_owned(),
            _ if location.starts_with("//") => format!("{scheme}:{location}"),
            _ if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
            _ if location.starts_with('?') => {
                format!("{scheme}://{authority}{}{location}", base.path())
            }
            _ => format!("{scheme}://{authority}{folder}/{location}"),
        };
        let mut joined = Self::parse(&text)
            .map_err(|error| UrlError::Redirect(shown(location), Box::new(error)))?;
        if joined.is_at_the_same_host(self) && joined.login.is_none() {
            joined.login.clone_from(&self.login);
        }
        Ok(joined)
    }

    /// The address of something below this one; each segment is escaped.
    ///
    /// # Errors
    /// It grows too long.
    pub fn below(&self, segments: &[&str]) -> Result<Self, UrlError> {
        let mut text = self.to_string();
        for segment in segments {
            if !text.ends_with('/') {
                text.push('/');
            }
            text.extend(utf8_percent_encode(segment, SEGMENT));
        }
        Ok(Self { login: self.login.clone(), ..Self::parse(&text)? })
    }

    /// The same address with more in its query; names are written as they are.
    ///
    /// # Errors
    /// It grows too long.
    pub fn with_query(&self, pairs: &[(&str, &str)]) -> Result<Self, UrlError> {
        let mut text = self.uri.to_string();
        for (name, value) in pairs {
            text.push(if text.contains('?') { '&' } else { '?' });
            text.push_str(name);
            text.push('=');
            text.extend(utf8_percent_encode(value, SEGMENT));
        }
        Ok(Self { login: self.login.clone(), ..Self::parse(&text)? })
    }

    /// The last segments of the path, decoded: of `/osv/PyPI/all.zip` it is `PyPI` and `all.zip`.
    pub fn end(&self) -> (String, String) {
        let decoded = |text: Option<&str>| {
            percent_decode_str(text.unwrap_or_default()).decode_utf8_lossy().into_owned()
        };
        let mut segments = self.uri.path().rsplit('/');
        let last = decoded(segments.next());
        (decoded(segments.next()), last)
    }

    /// Whether both are asked of the same host, at the same port, in the same way: what is secret to
    /// one may then be told to the other.
    pub fn is_at_the_same_host(&self, other: &Self) -> bool {
        self.uri.scheme() == other.uri.scheme() && self.host().eq_ignore_ascii_case(other.host())
    }

    /// As a request names it: with the query, without the login.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The login, as the header `Authorization` has it.
    pub fn login(&self) -> Option<&str> {
        self.login.as_deref()
    }

    /// Whether nobody on the way can read or change what is asked and answered.
    pub fn is_https(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// With the port, if there is one.
    pub fn host(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    /// Whether a query follows the path.
    pub fn has_query(&self) -> bool {
        self.uri.query().is_some()
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        write!(f, "{scheme}://{}{}", self.host(), self.uri.path())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_an_address_or_a_path() {
        let of = |text: &str| Url::of_source(Path::new(text));
        for path in ["osv", "/osv/PyPI/all.zip", "./http", "c:/x", "a/b://c"] {
            assert!(of(path).is_none(), "{path}");
        }
        for url in ["http://a", "https://a/b", "HTTPS://a:1/"] {
            assert!(of(url).unwrap().is_ok(), "{url}");
        }
        for wrong in ["http://", "https:///a", "http://a b/", "http://user@/", "ftp://a/b"] {
            assert!(of(wrong).unwrap().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_secret_is_not_told() {
        let url = Url::parse("https://us%40er:pass@mirror.example:8443/a/all.zip?key=1#x").unwrap();
        assert_eq!(url.to_string(), "https://mirror.example:8443/a/all.zip");
        assert_eq!(url.login(), Some("Basic dXNAZXI6cGFzcw=="));
        assert_eq!(url.uri().to_string(), "https://mirror.example:8443/a/all.zip?key=1");
        let error = format!("{:?}", Url::parse("https://user:pass@a b/").unwrap_err());
        assert!(!error.contains("pass"), "{error}");
    }

    #[test]
    fn names_are_escaped() {
        let base = Url::parse("https://u:p@mirror.example/osv/").unwrap();
        for (name, wanted) in [
            ("PyPI", "PyPI"),
            ("crates.io", "crates.io"),
            ("Debian:12", "Debian%3A12"),
            ("Red Hat", "Red%20Hat"),
            ("Ubuntu:22.04:LTS", "Ubuntu%3A22.04%3ALTS"),
            ("a/../b?c#d", "a%2F..%2Fb%3Fc%23d"),
        ] {
            let url = base.below(&[name, "all.zip"]).unwrap();
            assert_eq!(url.to_string(), format!("https://mirror.example/osv/{wanted}/all.zip"));
            assert_eq!(url.end(), (name.to_owned(), "all.zip".to_owned()));
            assert_eq!(url.login(), base.login());
        }
        assert_eq!(
            Url::parse("http://a").unwrap().below(&["b"]).unwrap().to_string(),
            "http://a/b"
        );
    }

    #[test]
    fn a_query_grows() {
        let url = Url::parse("https://u:p@a.example/b").unwrap();
        let longer = url.with_query(&[("c", "d:e/f&g"), ("h", "i")]).unwrap();
        assert_eq!(longer.uri().to_string(), "https://a.example/b?c=d%3Ae%2Ff%26g&h=i");
        assert_eq!(longer.login(), url.login());
        let more = longer.with_query(&[("j", "")]).unwrap();
        assert_eq!(more.uri().query(), Some("c=d%3Ae%2Ff%26g&h=i&j="));
    }

    #[test]
    fn redirects_lead_somewhere() {
        let from = Url::parse("https://u:p@a.example:1/b/c?d").unwrap();
        for (location, wanted, keeps_login) in [
            ("https://b.example/x?y", "https://b.example/x?y", false),
            ("http://a.example:1/x", "http://a.example:1/x", false),
            ("//b.example/x", "https://b.example/x", false),
            ("/x", "https://a.example:1/x", true),
            ("x/y:z", "https://a.example:1/b/x/y:z", true),
            ("?e", "https://a.example:1/b/c?e", true),
        ] {
            let to = from.join(location).unwrap();
            assert_eq!(to.uri().to_string(), wanted);
            assert_eq!(to.login.is_some(), keeps_login, "{location}");
        }
        for location in ["ftp://a/", "file:///etc/passwd", "https://"] {
            assert!(from.join(location).is_err(), "{location}");
        }
    }
}
