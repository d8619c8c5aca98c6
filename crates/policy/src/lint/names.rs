//! Image patterns that trust what can be moved, or that do not mean what they look like.

use std::collections::BTreeMap;

use super::{Level, MAX_COMPARED, Report, Warning};
use crate::document::Spec;
use crate::pattern::Reach;
use crate::{ImagePattern, PolicySet};

/// What a pattern is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Include,
    Exclude,
    Authorized,
    Whitelist { malware: bool },
    Exception,
}

/// All image patterns of a policy, with their places.
fn all(spec: &Spec) -> Vec<(String, Role, &ImagePattern)> {
    let mut all = Vec::new();
    if let Some(images) = &spec.scope.images {
        for (list, role, patterns) in [
            ("include", Role::Include, &images.include),
            ("exclude", Role::Exclude, &images.exclude),
        ] {
            for (index, pattern) in patterns.iter().enumerate() {
                all.push((format!("spec.scope.images.{list}[{index}]"), role, pattern));
            }
        }
    }
    for (index, pattern) in spec.authorized.iter().flat_map(|a| &a.images).enumerate() {
        all.push((format!("spec.authorized.images[{index}]"), Role::Authorized, pattern));
    }
    for (index, entry) in spec.whitelist.iter().enumerate() {
        let role = Role::Whitelist { malware: entry.malware };
        all.push((format!("spec.whitelist[{index}].image"), role, &entry.image));
    }
    for (index, exception) in spec.exceptions.iter().enumerate() {
        if let Some(image) = &exception.image {
            all.push((format!("spec.exceptions[{index}].image"), Role::Exception, image));
        }
    }
    all
}

pub(super) fn patterns(spec: &Spec, report: &mut Report<'_>) {
    for (path, role, pattern) in all(spec) {
        by_name(&path, role, pattern, report);
        not_as_it_looks(&path, role, pattern, report);
    }
    authorized_by_name(spec, report);
}

/// An entry that softens a policy for whatever a tag or a name leads to.
fn by_name(path: &str, role: Role, pattern: &ImagePattern, report: &mut Report<'_>) {
    // That a whole registry is trusted is reported as such.
    if pattern.digest().is_some() || pattern.reach() != Reach::Part {
        return;
    }
    let level = match role {
        Role::Whitelist { malware: true } => Level::Warning,
        Role::Whitelist { malware: false } | Role::Exception => Level::Note,
        Role::Include | Role::Exclude | Role::Authorized => return,
    };
    report.add(
        level,
        "by-name",
        path,
        format!("{pattern} names no digest, and a name can be moved to another image"),
        "write name@sha256:... of the image that you have looked at",
    );
}

/// Registries are authorized by name as a rule; one note for all is enough.
fn authorized_by_name(spec: &Spec, report: &mut Report<'_>) {
    let images = spec.authorized.as_ref().map_or(&[][..], |authorized| &authorized.images);
    let by_name = images.iter().filter(|image| image.digest().is_none()).count();
    if by_name > 0 {
        report.add(
            Level::Note,
            "by-name",
            "spec.authorized.images",
            format!(
                "{by_name} of {} name no digest: what may start is up to who may push there",
                images.len()
            ),
            "know who may push, or name images by their digests",
        );
    }
}

fn not_as_it_looks(path: &str, role: Role, pattern: &ImagePattern, report: &mut Report<'_>) {
    if pattern.digest().is_some() {
        return;
    }
    let (text, normal) = (pattern.as_str(), pattern.normal());
    let first = text.split(['/', ':']).next().unwrap_or_default();
    let implied = normal.starts_with("docker.io/")
        && !matches!(first, "docker.io" | "index.docker.io")
        && text.contains('/');
    if implied && text.contains('*') {
        report.add(
            Level::Warning,
            "implied-host",
            path,
            format!("{text} means {normal}, since {first} is no name of a host"),
            format!("write {normal}, or the host in full, with its dot or port"),
        );
    } else if !text.contains('*') && normal.ends_with(":latest") && !text.ends_with(":latest") {
        // A policy that is about less than it looks is worse than an entry that lets less through.
        report.add(
            if role == Role::Include { Level::Warning } else { Level::Note },
            "latest-only",
            path,
            format!("{text} means {normal}, and no other tag"),
            format!("write {text}:* for every tag, or {text}:latest if that is meant"),
        );
    }
}

/// Registries that nearly everybody uses.
const WELL_KNOWN: [&str; 8] = [
    "docker.io",
    "gcr.io",
    "ghcr.io",
    "mcr.microsoft.com",
    "public.ecr.aws",
    "quay.io",
    "registry.k8s.io",
    "registry.redhat.io",
];

/// A registry that is named, without its port, and where.
struct Named {
    host: String,
    looks: String,
    places: Vec<(String, String)>,
}

/// Registries that look like others which the set names, or which everybody knows.
pub(super) fn look_alikes(set: &PolicySet, warnings: &mut Vec<Warning>) {
    let named = hosts(set);
    if named.len() > MAX_COMPARED
        && let Some((policy, path)) = named.first().and_then(|first| first.places.first())
    {
        let message = format!(
            "the set names {} registries: more than {MAX_COMPARED} are not compared to each other",
            named.len()
        );
        let remedy = "name fewer, or look for look-alikes in another way";
        Report { policy, warnings }.add(Level::Note, "not-compared", path, message, remedy);
        return;
    }
    for (index, one) in named.iter().enumerate() {
        for known in WELL_KNOWN {
            if let Some(how) = alike((&one.host, &one.looks), (known, known)) {
                add(one, known, how, "which is well known", warnings);
            }
        }
        for other in &named[index + 1..] {
            let Some(how) = alike((&one.host, &one.looks), (&other.host, &other.looks)) else {
                continue;
            };
            // The slip is more likely in the one that is named less often, then in the later one.
            let (slip, meant) =
                if one.places.len() < other.places.len() { (one, other) } else { (other, one) };
            if let Some((policy, path)) = meant.places.first() {
                let where_from = format!("which policy {policy} names in {path}");
                add(slip, &meant.host, how, &where_from, warnings);
            }
        }
    }
}

fn add(slip: &Named, meant: &str, how: &str, known_from: &str, warnings: &mut Vec<Warning>) {
    if let Some((policy, path)) = slip.places.first() {
        Report { policy, warnings }.add(
            Level::Warning,
            "look-alike-host",
            path.as_str(),
            format!("the registry {} {how} {meant}, {known_from}", slip.host),
            "make sure that both are meant",
        );
    }
}

/// In the order in which the set names them first.
fn hosts(set: &PolicySet) -> Vec<Named> {
    let mut named: Vec<Named> = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for policy in set.policies() {
        for (path, _, pattern) in all(&policy.spec) {
            let Some(mut host) = pattern.host() else {
                continue;
            };
            host.truncate(host.find(':').unwrap_or(host.len()));
            let index = *seen.entry(host.clone()).or_insert_with(|| {
                named.push(Named { looks: looks(&host), host, places: Vec::new() });
                named.len() - 1
            });
            named[index].places.push((policy.metadata.name.clone(), path));
        }
    }
    named
}

/// How two registries look alike, if they do; each with what the eye makes of it. Patterns are
/// ASCII, so no letter of another script can be among them.
fn alike((one, one_looks): (&str, &str), (two, two_looks): (&str, &str)) -> Option<&'static str> {
    let begins = |long: &str, short: &str| {
        long.strip_prefix(short).is_some_and(|rest| rest.starts_with('.'))
    };
    if one == two {
        None
    } else if one_looks == two_looks {
        Some("looks like")
    } else if begins(one, two) || begins(two, one) {
        Some("begins like")
    } else if one_slip_apart(one, two) {
        Some("is one letter away from")
    } else {
        None
    }
}

/// What the eye makes of it: letters that are taken for each other are one.
fn looks(host: &str) -> String {
    host.replace("rn", "m").replace("vv", "w").replace('1', "l").replace('0', "o")
}

/// Shorter words are often different on purpose: `eu` and `us`, `gcr` and `ghcr`.
const SHORTEST_WORD: usize = 5;

/// Whether a single word differs, by one letter that is wrong, missing, added or swapped with the
/// next. Numbers tell machines apart and are no slips.
fn one_slip_apart(one: &str, two: &str) -> bool {
    let words =
        |host: &'_ str| -> Vec<String> { host.split(['.', '-']).map(ToOwned::to_owned).collect() };
    let (one, two) = (words(one), words(two));
    if one.len() != two.len() {
        return false;
    }
    let mut differing = one.iter().zip(&two).filter(|(a, b)| a != b);
    let (Some((a, b)), None) = (differing.next(), differing.next()) else {
        return false;
    };
    let without_digits =
        |word: &str| -> String { word.chars().filter(|c| !c.is_ascii_digit()).collect() };
    a.len().min(b.len()) >= SHORTEST_WORD
        && without_digits(a) != without_digits(b)
        && one_edit_apart(a.as_bytes(), b.as_bytes())
}

fn one_edit_apart(a: &[u8], b: &[u8]) -> bool {
    let head = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[head..], &b[head..]);
    match (a, b) {
        ([_, rest @ ..], [_, other @ ..]) if rest == other => true,
        ([_, rest @ ..], _) if rest == b => true,
        (_, [_, rest @ ..]) if rest == a => true,
        ([p, q, rest @ ..], [r, s, other @ ..]) => p == s && q == r && rest == other,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_well_known_looks_like_itself() {
        assert!(WELL_KNOWN.iter().all(|known| looks(known) == *known));
    }

    #[test]
    fn registries_look_alike() {
        for (one, two, wanted) in [
            ("registry.example.com", "registry.exarnple.com", Some("looks like")),
            ("reg1stry.k8s.io", "registry.k8s.io", Some("is one letter away from")),
            ("docker.io", "d0cker.io", Some("looks like")),
            ("gitlab.example.com", "git1ab.example.com", Some("looks like")),
            ("registry.example.com", "registry.example.com.evil.io", Some("begins like")),
            ("registry.example.com", "registry.exmaple.com", Some("is one letter away from")),
            ("registry1.example.com", "registry2.example.com", None),
            ("registry.example.com", "registry2.example.com", None),
            ("eu.gcr.io", "us.gcr.io", None),
            ("gcr.io", "ghcr.io", None),
            ("team-a.example.com", "team-b.example.com", None),
            ("registry.example.com", "mirror.example.com", None),
        ] {
            let alike = |a: &str, b: &str| alike((a, &looks(a)), (b, &looks(b)));
            assert_eq!(alike(one, two), wanted, "{one} {two}");
            assert_eq!(alike(two, one), wanted, "{two} {one}");
        }
    }
}
