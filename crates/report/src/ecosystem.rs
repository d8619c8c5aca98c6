//! One vocabulary for what scanners cover.
//!
//! Ecosystems and distributions are stored in Trivy's words (aquasecurity/trivy
//! `pkg/fanal/types/const.go`), which are the finest: `node-pkg` is what is installed, `npm` a lock
//! file. Trivy's own reports keep them as they are. Other scanners' words are translated by the
//! two tables here; what no table knows is kept, lower case. An image holds what is installed, so
//! that is what a word that could mean either becomes.

use crate::purl::Purl;

/// Package types: how Syft and Grype call them (anchore/syft `syft/pkg/type.go`), as a package URL
/// calls them, and our word.
const PACKAGES: &[(&str, &str, &str)] = &[
    ("conan", "conan", "conan"),
    ("conda", "conda", "conda-pkg"),
    ("dart-pub", "pub", "pub"),
    ("dotnet", "nuget", "dotnet-core"),
    ("gem", "gem", "gemspec"),
    ("go-module", "golang", "gobinary"),
    ("hex", "hex", "hex"),
    ("java-archive", "maven", "jar"),
    ("jenkins-plugin", "jenkins", "jar"),
    ("npm", "npm", "node-pkg"),
    ("php-composer", "composer", "composer-vendor"),
    ("pod", "cocoapods", "cocoapods"),
    ("python", "pypi", "python-pkg"),
    ("rust-crate", "cargo", "rustbinary"),
    ("swift", "swift", "swift"),
    ("bitnami", "bitnami", "bitnami"),
];

/// Package types of distributions, which are called alike by all.
const OF_DISTRIBUTIONS: &[&str] = &["alpm", "apk", "deb", "portage", "rpm"];

/// Distributions: a name as `os-release`, Syft, Grype or a package URL has it, our word, and the
/// provider of advisories in Grype's database (anchore/vunnel `src/vunnel/providers`).
const DISTRIBUTIONS: &[(&str, &str, &str)] = &[
    ("almalinux", "alma", "alma"),
    ("alma", "alma", "alma"),
    ("alpine", "alpine", "alpine"),
    ("amazon", "amazon", "amazon"),
    ("amazonlinux", "amazon", "amazon"),
    ("amzn", "amazon", "amazon"),
    ("arch", "arch", "arch"),
    ("archlinux", "arch", "arch"),
    ("azurelinux", "azurelinux", "mariner"),
    ("cbl-mariner", "cbl-mariner", "mariner"),
    ("centos", "centos", "rhel"),
    ("chainguard", "chainguard", "chainguard"),
    ("debian", "debian", "debian"),
    ("echo", "echo", "echo"),
    ("fedora", "fedora", "fedora"),
    ("mariner", "cbl-mariner", "mariner"),
    ("minimos", "minimos", "minimos"),
    ("ol", "oracle", "oracle"),
    ("opensuse-leap", "opensuse-leap", "sles"),
    ("opensuse-tumbleweed", "opensuse-tumbleweed", "sles"),
    ("opensuseleap", "opensuse-leap", "sles"),
    ("oracle", "oracle", "oracle"),
    ("oraclelinux", "oracle", "oracle"),
    ("photon", "photon", "photon"),
    ("redhat", "redhat", "rhel"),
    ("rhel", "redhat", "rhel"),
    ("rocky", "rocky", "rhel"),
    ("rockylinux", "rocky", "rhel"),
    ("sles", "sles", "sles"),
    ("suse", "sles", "sles"),
    ("ubuntu", "ubuntu", "ubuntu"),
    ("wolfi", "wolfi", "wolfi"),
];

/// Our word for a distribution.
pub(crate) fn distribution(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    match known_distribution(&name) {
        Some((_, ours, _)) => (*ours).to_owned(),
        None => name,
    }
}

/// The name of the provider in Grype's database that has a distribution's advisories.
pub(crate) fn grype_provider(name: &str) -> Option<&'static str> {
    known_distribution(&name.to_ascii_lowercase()).map(|(_, _, provider)| *provider)
}

fn known_distribution(name: &str) -> Option<&'static (&'static str, &'static str, &'static str)> {
    DISTRIBUTIONS.iter().find(|(theirs, _, _)| *theirs == name)
}

/// Whether packages of this type, Syft's or a package URL's, lie in a distribution's database.
pub(crate) fn is_of_distribution(kind: &str) -> bool {
    OF_DISTRIBUTIONS.contains(&kind)
}

/// Our word for packages of this type, Syft's or a package URL's. Those of a distribution have
/// the distribution's, which the package URL's namespace tells where nothing else does.
pub(crate) fn of_package(kind: &str, purl: Option<&Purl>, known: Option<&str>) -> Option<String> {
    if is_of_distribution(kind) {
        let namespace = || purl.and_then(|purl| purl.namespace.as_deref()).map(distribution);
        return known.map(ToOwned::to_owned).or_else(namespace);
    }
    let row = PACKAGES.iter().find(|(syft, purl, _)| *syft == kind || *purl == kind);
    let word = row.map_or(kind, |(_, _, ours)| ours).to_ascii_lowercase();
    (!word.is_empty()).then_some(word)
}

/// A package's name as Trivy writes it, where a package URL tells more than a bare name: Maven's
/// artifacts go by `group:artifact`.
pub(crate) fn package_name(name: &str, purl: Option<&Purl>) -> String {
    match purl {
        Some(Purl { kind, namespace: Some(group), name: artifact, .. })
            if kind == "maven" && artifact == name =>
        {
            format!("{group}:{name}")
        }
        _ => name.to_owned(),
    }
}

/// A package's version as Trivy writes it: an epoch of 0 is not written, and Go's standard library
/// is `v1.22.1`, not `go1.22.1`.
pub(crate) fn package_version<'v>(
    name: &str,
    kind: &str,
    version: &'v str,
) -> std::borrow::Cow<'v, str> {
    if is_of_distribution(kind) {
        return version.strip_prefix("0:").unwrap_or(version).into();
    }
    match version.strip_prefix("go") {
        Some(number) if name == "stdlib" => format!("v{number}").into(),
        _ => version.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_scanners_words_become_one() {
        for (theirs, ours) in [
            ("amzn", "amazon"),
            ("Debian", "debian"),
            ("oraclelinux", "oracle"),
            ("rhel", "redhat"),
            ("NixOS", "nixos"),
        ] {
            assert_eq!(distribution(theirs), ours);
        }
        for (kind, purl, known, ours) in [
            ("npm", None, None, Some("node-pkg")),
            ("python", None, None, Some("python-pkg")),
            ("pypi", None, None, Some("python-pkg")),
            ("gem", None, None, Some("gemspec")),
            ("deb", None, Some("debian"), Some("debian")),
            ("rpm", Some("pkg:rpm/rhel/bash@5"), None, Some("redhat")),
            ("deb", None, None, None),
            ("nix", None, None, Some("nix")),
            ("", None, None, None),
        ] {
            let purl = purl.and_then(Purl::parse);
            assert_eq!(of_package(kind, purl.as_ref(), known).as_deref(), ours, "{kind}");
        }
    }

    #[test]
    fn the_tables_have_each_name_once() {
        for (at, (name, _, _)) in DISTRIBUTIONS.iter().enumerate() {
            assert!(!DISTRIBUTIONS[..at].iter().any(|(other, _, _)| other == name), "{name}");
        }
        for (at, (syft, purl, _)) in PACKAGES.iter().enumerate() {
            let twice = |(s, p, _): &(&str, &str, &str)| s == syft || p == purl;
            assert!(!PACKAGES[..at].iter().any(twice), "{syft}");
        }
    }

    #[test]
    fn names_and_versions_are_written_as_trivy_does() {
        let log4j = Purl::parse("pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1");
        let name = package_name("log4j-core", log4j.as_ref());
        assert_eq!(name, "org.apache.logging.log4j:log4j-core");
        assert_eq!(package_name(&name, log4j.as_ref()), name);
        assert_eq!(package_name("lodash", None), "lodash");
        for (name, kind, version, wanted) in [
            ("bash", "rpm", "0:5.1-6", "5.1-6"),
            ("bash", "rpm", "1:5.1-6", "1:5.1-6"),
            ("stdlib", "go-module", "go1.22.1", "v1.22.1"),
            ("gopher", "npm", "go1", "go1"),
            ("x", "npm", "0:1", "0:1"),
        ] {
            assert_eq!(package_version(name, kind, version), wanted);
        }
    }
}
