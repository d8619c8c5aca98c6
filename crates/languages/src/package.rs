//! A package, and what can be its name and version.

use std::fmt::Write as _;

/// A family of packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Rust's crates.io.
    Cargo,
    /// Go modules; the standard library is the module `stdlib`.
    Go,
    /// Java and its like. A name is `group:artifact`, or the artifact alone where the group is not
    /// known, and then no advisory can name it.
    Maven,
    /// JavaScript.
    Npm,
    /// .NET.
    NuGet,
    /// PHP's Composer.
    Packagist,
    /// Python.
    PyPi,
    /// Ruby.
    RubyGems,
}

/// A package of one version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Package {
    /// Of what family it is.
    pub kind: Kind,
    /// Name as its ecosystem writes it, at most 256 bytes of printable ASCII.
    pub name: String,
    /// Version as it stands in the file, at most 128 bytes of printable ASCII.
    pub version: String,
    /// Where in an archive it is told of: `BOOT-INF/lib/a.jar!/META-INF/maven/g/a/pom.properties`.
    pub inner: Option<String>,
    /// A lock file says that only development needs it.
    pub is_dev: bool,
    /// What it says of its license, at most 128 bytes.
    pub license: Option<String>,
}

/// Most bytes of a name.
const MAX_NAME: usize = 256;
/// Most bytes of a version.
const MAX_VERSION: usize = 128;
/// Most bytes of a license; more is the text of one.
const MAX_LICENSE: usize = 128;

impl Kind {
    /// Its name in the OSV schema.
    pub fn ecosystem(self) -> &'static str {
        match self {
            Self::Cargo => "crates.io",
            Self::Go => "Go",
            Self::Maven => "Maven",
            Self::Npm => "npm",
            Self::NuGet => "NuGet",
            Self::Packagist => "Packagist",
            Self::PyPi => "PyPI",
            Self::RubyGems => "RubyGems",
        }
    }

    /// Its type in a package URL.
    fn purl_type(self) -> &'static str {
        match self {
            Self::Cargo => "cargo",
            Self::Go => "golang",
            Self::Maven => "maven",
            Self::Npm => "npm",
            Self::NuGet => "nuget",
            Self::Packagist => "composer",
            Self::PyPi => "pypi",
            Self::RubyGems => "gem",
        }
    }

    fn is_name(self, name: &str) -> bool {
        let is_plain = |text: &str, more: &str| {
            !text.is_empty()
                && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
                && text.contains(|c: char| c.is_ascii_alphanumeric())
        };
        if name.is_empty() || name.len() > MAX_NAME {
            return false;
        }
        match self {
            Self::Cargo => is_plain(name, "-_"),
            Self::Go => {
                is_plain(name, "-._~/")
                    && !name.starts_with(['/', '.', '-'])
                    && !name.ends_with('/')
            }
            Self::Maven => {
                name.split(':').count() <= 2 && name.split(':').all(|part| is_plain(part, "-_."))
            }
            Self::Npm => {
                let (scope, base) = match name.strip_prefix('@').map(|rest| rest.split_once('/')) {
                    Some(Some((scope, base))) => (Some(scope), base),
                    Some(None) => return false,
                    None => (None, name),
                };
                let is_part = |part: &str| is_plain(part, "-_.~!*'()") && !part.starts_with('.');
                scope.is_none_or(is_part) && is_part(base) && !base.starts_with('_')
            }
            Self::NuGet | Self::RubyGems => is_plain(name, "-_."),
            Self::Packagist => name
                .split_once('/')
                .is_some_and(|(vendor, base)| is_plain(vendor, "-_.") && is_plain(base, "-_.")),
            Self::PyPi => {
                let is_edge = |c: char| c.is_ascii_alphanumeric();
                is_plain(name, "-_.") && name.starts_with(is_edge) && name.ends_with(is_edge)
            }
        }
    }

    fn is_version(self, version: &str) -> bool {
        let is_char = |c: char| c.is_ascii_alphanumeric() || "-_.+!~:".contains(c);
        let starts_with_digit = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        if version.len() > MAX_VERSION || !version.chars().all(is_char) {
            return false;
        }
        match self {
            Self::Cargo | Self::Npm | Self::NuGet | Self::RubyGems => starts_with_digit(version),
            Self::Go => version.strip_prefix('v').is_some_and(starts_with_digit),
            Self::Packagist => starts_with_digit(version.trim_start_matches(['v', 'V'])),
            Self::Maven | Self::PyPi => version.contains(|c: char| c.is_ascii_digit()),
        }
    }
}

impl Package {
    /// A package, if the name and the version can be some in its ecosystem.
    pub(crate) fn new(kind: Kind, name: &str, version: &str) -> Option<Self> {
        let version = match kind {
            // npm reads `v1.2.3` and `=1.2.3` as `1.2.3`.
            Kind::Npm => version.trim().trim_start_matches(['v', '=']),
            _ => version.trim(),
        };
        let name = name.trim();
        let is_placeholder = kind == Kind::PyPi && name.eq_ignore_ascii_case("unknown");
        let is_valid = kind.is_name(name) && kind.is_version(version) && !is_placeholder;
        is_valid.then(|| Self {
            kind,
            name: name.to_owned(),
            version: version.to_owned(),
            inner: None,
            is_dev: false,
            license: None,
        })
    }

    /// With what it says of its license, if that is short and printable.
    pub(crate) fn with_license(mut self, license: Option<&str>) -> Self {
        let is_license = |text: &&str| {
            (1..=MAX_LICENSE).contains(&text.len())
                && !text.contains(char::is_control)
                && !text.eq_ignore_ascii_case("unknown")
        };
        self.license = license.map(str::trim).filter(is_license).map(str::to_owned);
        self
    }

    /// Its package URL (<https://github.com/package-url/purl-spec>): `pkg:npm/%40scope/name@1.2.3`.
    pub fn purl(&self) -> String {
        let name = match self.kind {
            Kind::Go | Kind::Packagist => self.name.to_ascii_lowercase(),
            Kind::PyPi => self.name.to_ascii_lowercase().replace('_', "-"),
            Kind::Maven => self.name.replace(':', "/"),
            _ => self.name.clone(),
        };
        let mut purl = format!("pkg:{}/", self.kind.purl_type());
        encode(&name, &mut purl);
        purl.push('@');
        encode(&self.version, &mut purl);
        purl
    }
}

/// Writes a text as it may stand in a URL; slashes part its segments.
fn encode(text: &str, url: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' | b':' => url.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => url.push(char::from(byte)),
            // Writing to a text cannot fail.
            _ => drop(write!(url, "%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_package_is_none() {
        let long = "a".repeat(257);
        let long_version = "1".repeat(129);
        for (kind, name, version, wanted) in [
            (Kind::Npm, "@scope/name", "1.2.3", true),
            (Kind::Npm, "name", "v1.2.3-rc.1+b", true),
            (Kind::Npm, "JSONStream", "1.0.0", true),
            (Kind::Npm, "@scope", "1.2.3", false),
            (Kind::Npm, "@scope/a/b", "1.2.3", false),
            (Kind::Npm, ".bin", "1.2.3", false),
            (Kind::Npm, "..", "1.2.3", false),
            (Kind::Npm, "a b", "1.2.3", false),
            (Kind::Npm, "a", "latest", false),
            (Kind::Npm, "a", "", false),
            (Kind::Npm, "", "1", false),
            (Kind::Npm, &long, "1", false),
            (Kind::Npm, "a", &long_version, false),
            (Kind::Npm, "a", "1.0\u{1b}[31m", false),
            (Kind::PyPi, "zope.interface", "1!2.0.post1+local.7", true),
            (Kind::PyPi, "UNKNOWN", "0.0.0", false),
            (Kind::PyPi, "-a", "1", false),
            (Kind::PyPi, "a", "1.*", false),
            (Kind::Go, "github.com/Azure/x/v2", "v2.0.0-20200101000000-abcdefabcdef", true),
            (Kind::Go, "stdlib", "v1.22.1", true),
            (Kind::Go, "github.com/a/b", "(devel)", false),
            (Kind::Go, "./local", "v1.0.0", false),
            (Kind::Go, "a/b", "1.0.0", false),
            (Kind::Maven, "org.a:b", "1.0-${rev}", false),
            (Kind::Maven, "org.a:b", "1.0.Final", true),
            (Kind::Maven, "org.a:b:c", "1.0", false),
            (Kind::Maven, "org.a:", "1.0", false),
            (Kind::Maven, "${g}:b", "1.0", false),
            (Kind::Cargo, "serde_json", "1.0.1", true),
            (Kind::Cargo, "a.b", "1.0.1", false),
            (Kind::RubyGems, "rails-html", "1.0.a", true),
            (Kind::NuGet, "Newtonsoft.Json", "13.0.1", true),
            (Kind::Packagist, "symfony/yaml", "v5.4.1", true),
            (Kind::Packagist, "symfony/yaml", "dev-main", false),
            (Kind::Packagist, "yaml", "1.0", false),
        ] {
            let package = Package::new(kind, name, version);
            assert_eq!(package.is_some(), wanted, "{kind:?} {name} {version}");
        }
        assert_eq!(Package::new(Kind::Npm, "a", "v1.2.3").unwrap().version, "1.2.3");
    }

    #[test]
    fn package_urls_are_encoded() {
        for (kind, name, version, wanted) in [
            (Kind::Npm, "@scope/a", "1.0.0+b", "pkg:npm/%40scope/a@1.0.0%2Bb"),
            (Kind::Maven, "org.a:b", "1.0", "pkg:maven/org.a/b@1.0"),
            (Kind::PyPi, "Zope_Interface", "1!2", "pkg:pypi/zope-interface@1%212"),
            (Kind::Go, "github.com/Azure/x", "v1.0.0", "pkg:golang/github.com/azure/x@v1.0.0"),
            (Kind::Packagist, "A/b", "1", "pkg:composer/a/b@1"),
            (Kind::RubyGems, "rails", "7.0.1", "pkg:gem/rails@7.0.1"),
            (Kind::NuGet, "A.B", "1.0.0", "pkg:nuget/A.B@1.0.0"),
            (Kind::Cargo, "a_b", "1.0.0", "pkg:cargo/a_b@1.0.0"),
        ] {
            assert_eq!(Package::new(kind, name, version).unwrap().purl(), wanted);
        }
    }

    #[test]
    fn a_license_is_short() {
        let license = |text: &str| {
            Package::new(Kind::Npm, "a", "1").unwrap().with_license(Some(text)).license
        };
        assert_eq!(license(" MIT ").as_deref(), Some("MIT"));
        assert_eq!(license("UNKNOWN"), None);
        assert_eq!(license(&"x".repeat(129)), None);
        assert_eq!(license("a\nb"), None);
    }
}
