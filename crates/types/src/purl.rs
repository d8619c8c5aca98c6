//! Package URLs (package-url/purl-spec, `PURL-SPECIFICATION` and the types' definitions), read for
//! comparison: decoded, and in the case that the type prescribes.
//!
//! A type that is not known is no error, nor is a type's rule on which parts must be there: what
//! scanners and vendors write is compared as it stands.

use std::borrow::Cow;

/// Longest package URL that is read, in bytes.
const MAX_LENGTH: usize = 4096;

/// A package URL: `pkg:type/namespace/name@version?qualifiers#subpath`.
///
/// Two that name the same package compare equal, whatever their case and escapes. The subpath is
/// checked and left out, since it names a place within the package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purl<'a> {
    kind: Cow<'a, str>,
    namespace: Option<Cow<'a, str>>,
    name: Cow<'a, str>,
    version: Option<Cow<'a, str>>,
    qualifiers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// Why a text is no package URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{purl}\" is not a package URL: {why}")]
pub struct PurlError {
    /// The text, shortened and safe to print.
    pub purl: String,
    /// What is wrong, as a sentence.
    pub why: &'static str,
}

impl<'a> Purl<'a> {
    /// Reads a package URL.
    ///
    /// # Errors
    /// It is longer than 4,096 bytes, has no scheme, type or name, or a part of it is wrongly
    /// encoded or decodes to control characters.
    pub fn parse(text: &'a str) -> Result<Self, PurlError> {
        Self::read(text).map_err(|why| PurlError {
            purl: text.chars().take(120).flat_map(char::escape_debug).collect(),
            why,
        })
    }

    fn read(text: &'a str) -> Result<Self, &'static str> {
        if text.len() > MAX_LENGTH {
            return Err("it is longer than 4096 bytes");
        }
        let (scheme, rest) = text.split_once(':').ok_or("it does not begin with pkg:")?;
        if !scheme.eq_ignore_ascii_case("pkg") {
            return Err("it does not begin with pkg:");
        }
        let (rest, subpath) = cut_last(rest, '#');
        decoded(subpath.unwrap_or_default())?;
        let (rest, qualifiers) = cut_last(rest, '?');
        let (kind, rest) =
            rest.trim_matches('/').split_once('/').ok_or("it has no type and name")?;
        let kind = lower(Cow::Borrowed(kind));
        if !is_kind(&kind) {
            return Err("its type has characters that no type has");
        }
        // An `@` that begins a part with others behind it is an npm scope that nobody encoded.
        let is_of_name = |before: &str| before.is_empty() || before.ends_with('/');
        let (rest, version) = match rest.rsplit_once('@') {
            Some((before, after)) if is_of_name(before) && after.contains('/') => (rest, None),
            Some((before, after)) => (before, Some(after)),
            None => (rest, None),
        };
        let (namespace, name) = match rest.trim_start_matches('/').rsplit_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, rest),
        };
        let rules = Rules::of(&kind);
        let name = rules.name(decoded(name)?);
        if name.is_empty() {
            return Err("it has no name");
        }
        let namespace = namespace.map(segments).transpose()?.filter(|n| !n.is_empty());
        let version = version.map(decoded).transpose()?.filter(|v| !v.is_empty());
        Ok(Self {
            namespace: namespace.map(|n| if rules.lower_namespace { lower(n) } else { n }),
            name,
            version: version.map(|v| if rules.lower_version { lower(v) } else { v }),
            qualifiers: pairs(qualifiers.unwrap_or_default())?,
            kind,
        })
    }

    /// The type, in lower case: `deb`, `npm`, `oci`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The namespace with `/` between its parts: `debian`, `@babel`, `org.apache.logging.log4j`.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The name; never empty.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version, as it stands before any qualifier.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The qualifier of this name, which is given in lower case.
    pub fn qualifier(&self, key: &str) -> Option<&str> {
        self.qualifiers.iter().find(|(k, _)| k == key).map(|(_, value)| &**value)
    }

    /// All qualifiers, as names in lower case and values, in the order written.
    pub fn qualifiers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.qualifiers.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Whether it names an image: type `oci` or `docker`.
    pub fn is_image(&self) -> bool {
        matches!(&*self.kind, "oci" | "docker")
    }

    /// Another package's name in the case of this one's type, for comparison with [`Self::name`]
    /// or [`Self::namespace`].
    pub fn in_its_case<'b>(&self, name: &'b str) -> Cow<'b, str> {
        Rules::of(&self.kind).name(Cow::Borrowed(name))
    }
}

/// How a type writes its parts (purl-spec `types/*-definition.json`).
struct Rules {
    lower_namespace: bool,
    lower_name: bool,
    lower_version: bool,
    /// `_` in a name is `-`.
    dashes: bool,
}

impl Rules {
    fn of(kind: &str) -> Self {
        let (lower_namespace, lower_name) = match kind {
            "alpm" | "apk" | "bitbucket" | "bitnami" | "brew" | "composer" | "deb" | "github"
            | "gitlab" | "golang" | "hex" | "npm" | "oci" | "pub" | "pypi" => (true, true),
            "qpkg" | "rpm" | "luarocks" => (true, kind == "luarocks"),
            _ => (false, false),
        };
        Self {
            lower_namespace,
            lower_name,
            lower_version: matches!(kind, "huggingface" | "oci"),
            dashes: matches!(kind, "pypi"),
        }
    }

    fn name<'a>(&self, name: Cow<'a, str>) -> Cow<'a, str> {
        let name = if self.lower_name { lower(name) } else { name };
        match self.dashes && name.contains('_') {
            true => name.replace('_', "-").into(),
            false => name,
        }
    }
}

fn cut_last(text: &str, separator: char) -> (&str, Option<&str>) {
    match text.rsplit_once(separator) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

fn is_kind(kind: &str) -> bool {
    kind.starts_with(|c: char| c.is_ascii_lowercase())
        && kind.bytes().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+')
        })
}

fn lower(text: Cow<'_, str>) -> Cow<'_, str> {
    match text.bytes().any(|b| b.is_ascii_uppercase()) {
        true => text.to_ascii_lowercase().into(),
        false => text,
    }
}

/// The parts of a namespace, decoded; empty ones and those of a relative path are left out.
fn segments(text: &str) -> Result<Cow<'_, str>, &'static str> {
    let is_left_out = |part: &str| matches!(part, "" | "." | "..");
    if !text.split('/').any(is_left_out) && !text.contains('%') {
        return decoded(text);
    }
    let parts: Result<Vec<_>, _> =
        text.split('/').filter(|part| !is_left_out(part)).map(decoded).collect();
    Ok(parts?.join("/").into())
}

type Pairs<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// Qualifiers; one without a value counts as absent, and of two the first counts.
fn pairs(text: &str) -> Result<Pairs<'_>, &'static str> {
    let mut pairs = Pairs::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let is_key = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if key.is_empty() || !key.bytes().all(is_key) {
            return Err("a qualifier's name has characters that none has");
        }
        if pairs.len() == 64 {
            return Err("it has more than 64 qualifiers");
        }
        if !value.is_empty() {
            pairs.push((lower(Cow::Borrowed(key)), decoded(value)?));
        }
    }
    Ok(pairs)
}

/// Undoes percent-encoding (RFC 3986 section 2.1).
fn decoded(text: &str) -> Result<Cow<'_, str>, &'static str> {
    let decoded = match text.contains('%') {
        true => Cow::Owned(undone(text)?),
        false => Cow::Borrowed(text),
    };
    match decoded.chars().any(char::is_control) {
        true => Err("it has control characters"),
        false => Ok(decoded),
    }
}

fn undone(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "a % in it does not begin an encoded character";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16)).ok_or(WRONG);
        let value = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(value).map_err(|_| WRONG)?);
    }
    String::from_utf8(bytes).map_err(|_| "an encoded character in it is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `type|namespace|name|version|qualifiers`, with `-` for what is not there.
    fn shown(purl: &Purl<'_>) -> String {
        let qualifiers: Vec<_> = purl.qualifiers().map(|(k, v)| format!("{k}={v}")).collect();
        [
            purl.kind(),
            purl.namespace().unwrap_or("-"),
            purl.name(),
            purl.version().unwrap_or("-"),
            &qualifiers.join(","),
        ]
        .join("|")
    }

    /// The shapes of the specification's own tests (`tests/spec` and `tests/types`).
    #[test]
    fn package_urls_are_read_in_their_types_case() {
        for (text, wanted) in [
            ("pkg:deb/debian/curl@7.50.3-1?arch=i386", "deb|debian|curl|7.50.3-1|arch=i386"),
            ("pkg:deb/Debian/Curl", "deb|debian|curl|-|"),
            ("PKG:RPM/Fedora/Curl@7?Arch=i386", "rpm|fedora|Curl|7|arch=i386"),
            ("pkg:rpm/redhat/vim@8.0?epoch=2", "rpm|redhat|vim|8.0|epoch=2"),
            ("pkg:npm/%40angular/animation@12.3.1", "npm|@angular|animation|12.3.1|"),
            ("pkg:npm/@angular/animation@12.3.1", "npm|@angular|animation|12.3.1|"),
            ("pkg:npm/@angular/animation", "npm|@angular|animation|-|"),
            ("pkg:pypi/Django_Package@1.11.1", "pypi|-|django-package|1.11.1|"),
            (
                "pkg:golang/GitHub.com/Gorilla/context@234fd47e",
                "golang|github.com/gorilla|context|234fd47e|",
            ),
            ("pkg:golang/a.io/b@v1#api/v1", "golang|a.io|b|v1|"),
            (
                "pkg:maven/org.Apache/Log4J@2.0?type=zip&classifier=dist",
                "maven|org.Apache|Log4J|2.0|type=zip,classifier=dist",
            ),
            (
                "pkg:maven/mygroup/myartifact@1.0%20Final?mykey=my%20value",
                "maven|mygroup|myartifact|1.0 Final|mykey=my value",
            ),
            (
                "pkg:gem/Jruby-launcher@1.1.2?Platform=java",
                "gem|-|Jruby-launcher|1.1.2|platform=java",
            ),
            ("pkg:github/Package-url/purl-Spec@244fd47e", "github|package-url|purl-spec|244fd47e|"),
            (
                "pkg:oci/Debian@sha256%3A244FD47e?repository_url=docker.io/library/debian&tag=latest",
                "oci|-|debian|sha256:244fd47e|repository_url=docker.io/library/debian,tag=latest",
            ),
            (
                "pkg:docker/customer/dockerimage@sha256:244fd47e?repository_url=gcr.io",
                "docker|customer|dockerimage|sha256:244fd47e|repository_url=gcr.io",
            ),
            (
                "pkg:oci/app?repository_url=docker.io%2Flibrary",
                "oci|-|app|-|repository_url=docker.io/library",
            ),
            ("pkg://maven//a/./../b//name@1", "maven|a/b|name|1|"),
            ("pkg:///npm/foobar@12.3.1/", "npm|-|foobar|12.3.1|"),
            ("pkg:cargo/rand@0.7.2?empty=&arch=x", "cargo|-|rand|0.7.2|arch=x"),
            ("pkg:deb/debian/a@1%3a2.3%2Bdfsg", "deb|debian|a|1:2.3+dfsg|"),
            ("pkg:apk/wolfi/glibc@", "apk|wolfi|glibc|-|"),
            ("pkg:npm/lodash@vers:npm/<4", "npm|-|lodash|vers:npm/<4|"),
        ] {
            let purl = Purl::parse(text).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(shown(&purl), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_no_package_url_is_refused() {
        for wrong in [
            "",
            "pkg",
            "pkg:",
            "pkg:deb",
            "pkg:deb/",
            "pkg:/deb",
            "deb/debian/curl",
            "cpe:2.3:a:b",
            "https://example.com/a/b",
            "pkg:d_b/x",
            "pkg:1deb/x",
            "pkg:maven/@1.3.4",
            "pkg:swift/github.com/Alamofire/@5.4.3",
            "pkg:deb/debian/curl@1%2",
            "pkg:deb/debian/curl@1%zz",
            "pkg:deb/debian/%ff",
            "pkg:deb/debian/a%1b[2J",
            "pkg:deb/debian/a\nb",
            "pkg:deb/debian/a?k y=1",
            "pkg:deb/debian/a?=1",
        ] {
            assert!(Purl::parse(wrong).is_err(), "{wrong:?} was taken for a package URL");
        }
        assert!(Purl::parse(&format!("pkg:deb/{}", "a".repeat(5000))).is_err());
        let many = format!("pkg:deb/a?{}", "k=v&".repeat(100));
        assert!(Purl::parse(&many).is_err());
        let error = Purl::parse("pkg:deb/a\u{1b}b").unwrap_err().to_string();
        assert_eq!(error, "\"pkg:deb/a\\u{1b}b\" is not a package URL: it has control characters");
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "(pkg:)?[a-z%/@?#&=:.\u{e4}_0-9\\PC]{0,60}") {
            let _ = Purl::parse(&text);
        }

        #[test]
        fn every_byte_can_be_encoded(name in "[a-z]{1,8}", version in "[!-~ä]{1,12}") {
            let version: String = version.bytes().map(|b| format!("%{b:02X}")).collect();
            let text = format!("pkg:cargo/{name}@{version}");
            let purl = Purl::parse(&text).unwrap();
            prop_assert_eq!(purl.name(), name);
            let again: String =
                purl.version().unwrap().bytes().map(|b| format!("%{b:02X}")).collect();
            prop_assert_eq!(again, version);
        }
    }
}
