//! What an archive is that no `pom.properties` tells of.
//!
//! Advisories name `group:artifact`. The artifact and the version stand in the archive's name, since
//! repositories call it so; a name without a version (`catalina.jar`) is completed by the manifest.
//! The group is, in this order: what the path of its only `pom.xml` says; what is known of well-known
//! projects whose builds write neither ([`groups`](super::groups)); what is left of
//! `Bundle-SymbolicName` when the artifact is taken from its end; `Implementation-Vendor-Id`;
//! `Implementation-Vendor`, where sbt puts it. `Automatic-Module-Name` and `Main-Class`, which others
//! take as well, name no group (syft#4611). If there is none of these the artifact stands alone.

use super::Pom;
use super::groups::group_of;
use super::manifest::Manifest;

/// An agent's copies of the classes of others carry their names (syft `archive_parser.go`).
const IMITATION: &str = "Weave-Classes";
/// Archives with the sources or the documentation of another.
const NO_CODE: [&str; 4] = ["-sources", "-javadoc", "-groovydoc", "-scaladoc"];
/// What may stand between a version and a number that belongs to it: `1.0-beta-2`.
const QUALIFIERS: [&str; 9] =
    ["alpha", "beta", "b", "rc", "cr", "m", "milestone", "build", "snapshot"];

/// The name and the version of an archive, unless what Maven says of its content names it.
pub(super) fn of_archive(
    path: &str,
    manifest: &Manifest,
    poms: &[Pom],
) -> Option<(String, String)> {
    let stem = stem(path)?;
    if NO_CODE.iter().any(|ending| stem.ends_with(ending)) || manifest.get(IMITATION).is_some() {
        return None;
    }
    let own_version = manifest.get("Implementation-Version").or(manifest.get("Bundle-Version"));
    let (artifact, version) = match parted(stem, own_version) {
        Some((artifact, version)) => (artifact, version),
        None => (artifact_of(stem, manifest), plugin_version(manifest).or(own_version)?),
    };
    let told: Vec<&Pom> = poms.iter().filter(|pom| pom.has_version).collect();
    if told.iter().any(|pom| pom.artifact == artifact) {
        return None;
    }
    match group(artifact, version, manifest, poms) {
        Some(group) => Some((format!("{group}:{artifact}"), version.to_owned())),
        // It is what was put into it, under another name.
        None if !told.is_empty() => None,
        None => Some((artifact.to_owned(), version.to_owned())),
    }
}

/// The name of a file without folders and ending.
fn stem(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next()?;
    name.rsplit_once('.').map(|(stem, _)| stem).filter(|stem| !stem.is_empty())
}

/// Parts `artifact-version` at the dash that the version in the manifest says, or at the last one
/// that a digit follows: `log4j-1.2-api-2.17.1`.
fn parted<'a>(stem: &'a str, version: Option<&str>) -> Option<(&'a str, &'a str)> {
    let part = |at: usize| Some((stem.get(..at)?, stem.get(at + 1..)?));
    let dashes: Vec<usize> = stem.match_indices('-').map(|(at, _)| at).collect();
    let mut cuts = dashes.iter().rev().filter_map(|at| part(*at)).filter(|(artifact, rest)| {
        !artifact.is_empty() && rest.starts_with(|c: char| c.is_ascii_digit())
    });
    if let Some(cut) = cuts.clone().find(|(_, rest)| Some(*rest) == version) {
        return Some(cut);
    }
    let mut cut = cuts.next()?;
    for other in cuts {
        let between = cut.0.rsplit('-').next().unwrap_or_default();
        let is_qualifier = QUALIFIERS.iter().any(|word| between.eq_ignore_ascii_case(word));
        if !is_qualifier && !between.starts_with(|c: char| c.is_ascii_digit()) {
            break;
        }
        cut = other;
    }
    Some(cut)
}

/// The artifact of an archive whose name has no version.
fn artifact_of<'a>(stem: &'a str, manifest: &'a Manifest) -> &'a str {
    let is_artifact = |text: &&str| {
        let is_char = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        text.chars().all(is_char) && text.contains(|c: char| c.is_ascii_lowercase())
    };
    let is_in_symbol =
        |name: &&str| symbol(manifest).and_then(|symbol| without_last(symbol, name)).is_some();
    // Tomcat's `catalina.jar` is the bundle `tomcat-catalina` of `org.apache.tomcat-catalina`.
    let bundle = manifest.get("Bundle-Name").filter(is_artifact).filter(is_in_symbol);
    let plugin = manifest.get("Short-Name").filter(|_| manifest.get("Plugin-Version").is_some());
    let title = manifest.get("Implementation-Title").filter(is_artifact);
    plugin.or(bundle).or(title).unwrap_or(stem)
}

/// The version of a plugin of Jenkins.
fn plugin_version(manifest: &Manifest) -> Option<&str> {
    // `1.2 (private-…)` is a build of somebody.
    manifest.get("Plugin-Version").and_then(|version| version.split(' ').next())
}

fn group(artifact: &str, version: &str, manifest: &Manifest, poms: &[Pom]) -> Option<String> {
    let mut own_poms = poms.iter().filter(|pom| !pom.has_version && pom.is_top);
    let own_pom = own_poms.next().filter(|_| own_poms.next().is_none());
    if let Some(pom) = own_pom.filter(|pom| pom.artifact == artifact) {
        return Some(pom.group.clone());
    }
    if let Some(group) = group_of(artifact, version) {
        return Some(group.to_owned());
    }
    let plugin = manifest.get("Group-Id").filter(|_| manifest.get("Plugin-Version").is_some());
    let bundle = || symbol(manifest).and_then(|symbol| of_symbol(symbol, artifact));
    let vendor = || {
        let fields = ["Implementation-Vendor-Id", "Implementation-Vendor"];
        fields.iter().find_map(|field| manifest.get(field).filter(|text| is_group(text)))
    };
    plugin.map(str::to_owned).or_else(bundle).or_else(|| vendor().map(str::to_owned))
}

/// The name of a bundle, without its directives.
fn symbol(manifest: &Manifest) -> Option<&str> {
    manifest.get("Bundle-SymbolicName").and_then(|symbol| symbol.split(';').next()).map(str::trim)
}

/// The group of a bundle: the tools of OSGi write `group.artifact`, and leave out of the artifact
/// what the group ends in: `org.apache.felix:felix-framework` becomes `org.apache.felix.framework`.
fn of_symbol(symbol: &str, artifact: &str) -> Option<String> {
    if let Some(group) = without_last(symbol, artifact).filter(|group| is_group(group)) {
        return Some(group.to_owned());
    }
    let (group, last) = symbol.rsplit_once('.').filter(|(group, _)| is_group(group))?;
    let part = group.rsplit('.').next()?;
    let rest = artifact.strip_prefix(part)?.strip_prefix(['-', '.'])?;
    (rest == last).then(|| group.to_owned())
}

/// What stands before `.last`.
fn without_last<'a>(text: &'a str, last: &str) -> Option<&'a str> {
    text.strip_suffix(last)?.strip_suffix('.').filter(|rest| !rest.is_empty())
}

/// Whether it looks like a group: `org.apache`.
fn is_group(text: &str) -> bool {
    let is_part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    };
    text.contains('.') && text.split('.').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, manifest: &str, paths: &[&str], wanted: Option<(&str, &str)>) {
        let poms: Vec<_> = paths.iter().map(|path| Pom::of_path(path).unwrap()).collect();
        let own = of_archive(path, &Manifest::read(manifest), &poms);
        let own = own.as_ref().map(|(name, version)| (name.as_str(), version.as_str()));
        assert_eq!(own, wanted, "{path} {manifest}");
    }

    #[test]
    fn names_are_parted_where_the_version_begins() {
        for (stem, version, wanted) in [
            ("spring-core-5.3.4", None, Some(("spring-core", "5.3.4"))),
            ("log4j-1.2-api-2.17.1", None, Some(("log4j-1.2-api", "2.17.1"))),
            ("a-1.0-beta-2", None, Some(("a", "1.0-beta-2"))),
            ("a-1.0-SNAPSHOT", None, Some(("a", "1.0-SNAPSHOT"))),
            ("a-1.0-20240101.120000-3", None, Some(("a", "1.0-20240101.120000-3"))),
            ("a-1.0-x-2", Some("1.0-x-2"), Some(("a", "1.0-x-2"))),
            ("guava-31.1-jre", None, Some(("guava", "31.1-jre"))),
            ("a", None, None),
            ("a-b", None, None),
            ("-1", None, None),
        ] {
            assert_eq!(parted(stem, version), wanted, "{stem}");
        }
    }

    #[test]
    fn groups_come_from_what_can_be_trusted() {
        let spring = "Implementation-Title: spring-web\nImplementation-Version: 5.3.24\n";
        check(
            "lib/spring-web-5.3.24.jar",
            spring,
            &[],
            Some(("org.springframework:spring-web", "5.3.24")),
        );
        check("spring-web.jar", spring, &[], Some(("org.springframework:spring-web", "5.3.24")));
        let tomcat = "Bundle-Name: tomcat-catalina\nBundle-SymbolicName: org.apache.tomcat-catalina\n\
            Implementation-Title: Apache Tomcat\nImplementation-Version: 10.1.54\n";
        check("catalina.jar", tomcat, &[], Some(("org.apache.tomcat:tomcat-catalina", "10.1.54")));
        let bundle = "Bundle-SymbolicName: com.a.gadgets.a-gadgets-api;singleton:=true\n";
        check("a-gadgets-api-8.1.jar", bundle, &[], Some(("com.a.gadgets:a-gadgets-api", "8.1")));
        let bundle = "Bundle-SymbolicName: org.apache.felix.framework\n";
        let felix = ("org.apache.felix:felix-framework", "7.0");
        check("felix-framework-7.0.jar", bundle, &[], Some(felix));
        let bundle = "Bundle-SymbolicName: org.other\nImplementation-Vendor-Id: com.vendor\n";
        check("x-1.0.jar", bundle, &[], Some(("com.vendor:x", "1.0")));
        let sbt = "Implementation-Vendor: com.typesafe.akka\n";
        check(
            "akka-actor_2.13-2.6.jar",
            sbt,
            &[],
            Some(("com.typesafe.akka:akka-actor_2.13", "2.6")),
        );
        let company = "Implementation-Vendor: Some Company Inc.\nAutomatic-Module-Name: a.b\n";
        check("x-1.0.jar", company, &[], Some(("x", "1.0")));
        check("x-1.0.jar", "", &["META-INF/maven/org.x/x/pom.xml"], Some(("org.x:x", "1.0")));
        check("x-1.0.jar", "", &["META-INF/maven/org.x/y/pom.xml"], Some(("x", "1.0")));
        let jenkins = "Group-Id: org.jenkins-ci.plugins\nShort-Name: git\n\
            Plugin-Version: 4.1 (private-x)\n";
        check("git.hpi", jenkins, &[], Some(("org.jenkins-ci.plugins:git", "4.1")));
    }

    #[test]
    fn what_tells_of_others_is_nothing() {
        check("tomcat-8.5.jar", "Weave-Classes: a\nImplementation-Title: tomcat\n", &[], None);
        check("a-1.0-sources.jar", "", &[], None);
        check("a.jar", "", &[], None);
        check("a-1.0.jar", "", &["META-INF/maven/g/a/pom.properties"], None);
        check("b-1.0.jar", "", &["META-INF/maven/g/a/pom.properties"], None);
        check(
            "grpc-netty-shaded-1.0.jar",
            "",
            &["META-INF/maven/io.netty/netty-all/pom.properties"],
            Some(("io.grpc:grpc-netty-shaded", "1.0")),
        );
    }
}
