//! The order of package versions, exactly as the package managers of each ecosystem have it.
//!
//! An advisory says "fixed in 1.2.3"; whether an installed version is before that is for the
//! ecosystem to say, and each says it differently: `1.0~rc1` is before `1.0` in Debian and `1.0a`
//! behind it, `1.0-1` is a release behind `1.0` for Python and before it for npm. No version is
//! refused that is found in the wild: what follows no rule is ordered as the ecosystem's own tools
//! order it.
//!
//! Numbers may have any length, and comparing takes a time that is linear in the length of the
//! texts. The ecosystems are those of the OSV schema.

#![forbid(unsafe_code)]

mod apk;
mod debian;
mod maven;
mod number;
mod packagist;
mod pypi;
mod rpm;
mod rubygems;
mod semver;

use std::cmp::Ordering;

/// Why two versions have no order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VersionError {
    /// Nothing is known of the ecosystem's versions.
    #[error("how versions of the ecosystem \"{0}\" are ordered is not known")]
    Ecosystem(String),
    /// The text is no version at all.
    #[error("\"{0}\" is no {1} version: its epoch is no number")]
    Epoch(String, &'static str),
    /// The text is longer than any version.
    #[error("a version has at most {MAX_LENGTH} bytes, not {0}")]
    TooLong(usize),
}

/// Most bytes of a version.
pub const MAX_LENGTH: usize = 1024;

/// A way to order versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// apk-tools, branch 2 (Alpine 3): `1.2.3_rc1-r0`.
    Apk,
    /// deb-version(7): `1:1.2.3~rc1-1+deb12u1`.
    Debian,
    /// Maven's `ComparableVersion`: `1.0-beta-2`.
    Maven,
    /// NuGet: four numbers, then as Semantic Versioning without case.
    NuGet,
    /// PHP's `version_compare`, as Composer uses it: `v1.0.0-RC1`.
    Packagist,
    /// PEP 440 and, before all of its versions, the older order of setuptools.
    PyPi,
    /// rpmvercmp of epoch, version and release: `1:1.2.3-4.el9`.
    Rpm,
    /// `Gem::Version`: `1.0.a10`.
    RubyGems,
    /// Semantic Versioning 2.0, read tolerantly: `v1.2`, `1.2.3-rc.1+build`.
    SemVer,
}

impl Scheme {
    /// The scheme of an ecosystem of the OSV schema, with or without a release behind a colon:
    /// `Debian:12`, `npm`.
    ///
    /// # Errors
    /// [`VersionError::Ecosystem`] for one that is not known.
    pub fn of_ecosystem(ecosystem: &str) -> Result<Self, VersionError> {
        let name = ecosystem.split_once(':').map_or(ecosystem, |(name, _)| name);
        Ok(match name {
            "Alpaquita"
            | "Alpine"
            | "BellSoft Hardened Containers"
            | "Chainguard"
            | "MinimOS"
            | "Wolfi" => Self::Apk,
            "Debian" | "Ubuntu" | "Echo" => Self::Debian,
            "AlmaLinux" | "Azure Linux" | "Mageia" | "openEuler" | "openSUSE" | "Photon OS"
            | "Red Hat" | "Rocky Linux" | "SUSE" => Self::Rpm,
            "Bioconductor"
            | "Bitnami"
            | "ConanCenter"
            | "crates.io"
            | "Docker Hardened Images"
            | "GHC"
            | "Go"
            | "Hex"
            | "Julia"
            | "npm"
            | "SwiftURL" => Self::SemVer,
            "Maven" => Self::Maven,
            "NuGet" => Self::NuGet,
            "Packagist" => Self::Packagist,
            "PyPI" => Self::PyPi,
            "RubyGems" => Self::RubyGems,
            _ => return Err(VersionError::Ecosystem(shown(name))),
        })
    }

    /// How the first version stands to the second.
    ///
    /// # Errors
    /// [`VersionError`] for what is longer than any version, and for epochs that are no numbers.
    pub fn compare(self, a: &str, b: &str) -> Result<Ordering, VersionError> {
        for text in [a, b] {
            if text.len() > MAX_LENGTH {
                return Err(VersionError::TooLong(text.len()));
            }
        }
        Ok(match self {
            Self::Apk => apk::compare(a, b),
            Self::Debian => debian::compare(a, b)?,
            Self::Maven => maven::compare(a, b),
            Self::NuGet => semver::compare_nuget(a, b),
            Self::Packagist => packagist::compare(a, b),
            Self::PyPi => pypi::compare(a, b),
            Self::Rpm => rpm::compare(a, b),
            Self::RubyGems => rubygems::compare(a, b),
            Self::SemVer => semver::compare(a, b),
        })
    }
}

/// How two versions of an ecosystem of the OSV schema stand to each other.
///
/// # Errors
/// [`VersionError`]: the ecosystem is not known, or one of the texts is no version.
pub fn compare(ecosystem: &str, a: &str, b: &str) -> Result<Ordering, VersionError> {
    Scheme::of_ecosystem(ecosystem)?.compare(a, b)
}

/// A text from outside, short and printable.
fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}
