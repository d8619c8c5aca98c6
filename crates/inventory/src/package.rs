//! Packages, as their package manager has them.

use serde::{Deserialize, Serialize};

/// What kind of package it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PackageKind {
    /// Debian and its relatives.
    Deb,
    /// Alpine and its relatives.
    Apk,
    /// Red Hat, SUSE and their relatives.
    Rpm,
    /// Node.js.
    Npm,
    /// Python.
    PyPi,
    /// Go modules.
    Go,
    /// Rust.
    Cargo,
    /// Java.
    Maven,
    /// Ruby.
    RubyGems,
    /// .NET.
    NuGet,
    /// PHP.
    Packagist,
}

/// A package of an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// What kind it is.
    pub kind: PackageKind,
    /// Its name; Maven's as `group:artifact`.
    pub name: String,
    /// Its whole version, with epoch and release.
    pub version: String,
    /// The architecture it is built for.
    pub architecture: Option<String>,
    /// Name and version of what it was built from, where distributions tell it.
    pub source: Option<(String, String)>,
    /// The module it is of, in distributions that have some: `nodejs:18:820…`.
    pub module: Option<String>,
    /// Where within the file: `BOOT-INF/lib/a.jar`.
    pub within: Option<String>,
    /// A file that asks for packages tells of it, and none that is made when they are installed.
    pub is_wish: bool,
}

impl Package {
    /// One of which nothing else is known.
    pub fn new(kind: PackageKind, name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.into(),
            version: version.into(),
            architecture: None,
            source: None,
            module: None,
            within: None,
            is_wish: false,
        }
    }

    /// Its package URL (package-url/purl-spec), with the distribution's word and release where it
    /// is of one.
    pub fn purl(&self, distribution: Option<(&str, &str)>) -> String {
        let mut purl = format!("pkg:{}/", self.kind.purl_type());
        let (namespace, name) = match self.kind {
            PackageKind::Deb | PackageKind::Apk | PackageKind::Rpm => {
                (distribution.map(|(word, _)| word), self.name.as_str())
            }
            PackageKind::Maven => split(&self.name, ':'),
            PackageKind::Npm | PackageKind::Go | PackageKind::Packagist => split(&self.name, '/'),
            _ => (None, self.name.as_str()),
        };
        for part in namespace.iter().flat_map(|n| n.split('/')).chain([name]) {
            encode(&mut purl, part);
            purl.push('/');
        }
        purl.pop();
        // An epoch is a qualifier for rpm, a part of the version for Debian.
        let (epoch, version) = match self.kind {
            PackageKind::Rpm => split(&self.version, ':'),
            _ => (None, self.version.as_str()),
        };
        purl.push('@');
        encode(&mut purl, version);
        let distro = distribution.filter(|_| self.kind.is_of_distribution());
        let distro = distro.map(|(word, release)| format!("{word}-{release}"));
        let qualifiers = [
            ("arch", self.architecture.as_deref()),
            ("distro", distro.as_deref()),
            ("epoch", epoch),
        ];
        let mut sign = '?';
        for (key, value) in qualifiers {
            let Some(value) = value else { continue };
            purl.push(sign);
            purl.push_str(key);
            purl.push('=');
            encode(&mut purl, value);
            sign = '&';
        }
        purl
    }
}

fn split(name: &str, at: char) -> (Option<&str>, &str) {
    name.rsplit_once(at).map_or((None, name), |(before, behind)| (Some(before), behind))
}

/// Percent-encoding as purl-spec has it.
fn encode(into: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => {
                into.push(char::from(byte));
            }
            _ => into.push_str(&format!("%{byte:02X}")),
        }
    }
}

impl PackageKind {
    /// The type of its package URLs.
    pub const fn purl_type(self) -> &'static str {
        match self {
            Self::Deb => "deb",
            Self::Apk => "apk",
            Self::Rpm => "rpm",
            Self::Npm => "npm",
            Self::PyPi => "pypi",
            Self::Go => "golang",
            Self::Cargo => "cargo",
            Self::Maven => "maven",
            Self::RubyGems => "gem",
            Self::NuGet => "nuget",
            Self::Packagist => "composer",
        }
    }

    /// The ecosystem of the OSV schema, for those that are of no distribution.
    pub const fn ecosystem(self) -> Option<&'static str> {
        Some(match self {
            Self::Deb | Self::Apk | Self::Rpm => return None,
            Self::Npm => "npm",
            Self::PyPi => "PyPI",
            Self::Go => "Go",
            Self::Cargo => "crates.io",
            Self::Maven => "Maven",
            Self::RubyGems => "RubyGems",
            Self::NuGet => "NuGet",
            Self::Packagist => "Packagist",
        })
    }

    /// All kinds.
    pub const ALL: [Self; 11] = [
        Self::Deb,
        Self::Apk,
        Self::Rpm,
        Self::Npm,
        Self::PyPi,
        Self::Go,
        Self::Cargo,
        Self::Maven,
        Self::RubyGems,
        Self::NuGet,
        Self::Packagist,
    ];

    /// Whether a distribution's package manager has it.
    pub const fn is_of_distribution(self) -> bool {
        self.ecosystem().is_none()
    }

    /// The word for what a report covers: of installed packages, as Trivy calls them, so that all
    /// scanners' reports are compared in one vocabulary.
    pub const fn coverage(self) -> Option<&'static str> {
        Some(match self {
            Self::Deb | Self::Apk | Self::Rpm => return None,
            Self::Npm => "node-pkg",
            Self::PyPi => "python-pkg",
            Self::Go => "gobinary",
            Self::Cargo => "rustbinary",
            Self::Maven => "jar",
            Self::RubyGems => "gemspec",
            Self::NuGet => "dotnet-core",
            Self::Packagist => "composer-vendor",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_urls_are_what_purl_spec_says() {
        let of = |kind, name: &str, version: &str| Package::new(kind, name, version);
        let debian = Some(("debian", "12"));
        for (package, distribution, wanted) in [
            (
                Package {
                    architecture: Some("amd64".into()),
                    ..of(PackageKind::Deb, "libstdc++6", "1:12.2.0-14+deb12u1")
                },
                debian,
                "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12",
            ),
            (
                of(PackageKind::Rpm, "bind", "32:9.16-1.el9"),
                Some(("alma", "9.4")),
                "pkg:rpm/alma/bind@9.16-1.el9?distro=alma-9.4&epoch=32",
            ),
            (of(PackageKind::Npm, "@babel/core", "7.0.0"), debian, "pkg:npm/%40babel/core@7.0.0"),
            (of(PackageKind::Maven, "org.a:b", "1"), None, "pkg:maven/org.a/b@1"),
            (
                of(PackageKind::Go, "github.com/a/b/v2", "v2.0.0"),
                None,
                "pkg:golang/github.com/a/b/v2@v2.0.0",
            ),
            (of(PackageKind::PyPi, "flask", "2"), None, "pkg:pypi/flask@2"),
        ] {
            assert_eq!(package.purl(distribution), wanted);
            assert!(portcullis_types::Purl::parse(wanted).is_ok(), "{wanted}");
        }
    }
}
