//! What patterns match, and above all what they must not.

use super::*;
use proptest::prelude::*;

fn pattern(text: &str) -> ImagePattern {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

fn check(text: &str, reference: &str, wanted: bool) {
    let parsed: ImageRef = reference.parse().unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(pattern(text).matches_name(&parsed), wanted, "{text} on {reference}");
}

fn digest(letter: char) -> String {
    format!("sha256:{}", letter.to_string().repeat(64))
}

#[test]
fn a_pattern_without_wildcard_is_a_reference() {
    check("nginx", "docker.io/library/nginx:latest", true);
    check("nginx", "nginx", true);
    check("nginx", "nginx:1.25", false);
    check("nginx", &format!("nginx@{}", digest('a')), false);
    check("nginx:1.25", "index.docker.io/library/nginx:1.25", true);
    check("nginx:1.25", &format!("nginx:1.25@{}", digest('a')), true);
    check("nginx", "registry.example.com/nginx", false);
    check("nginx", "docker.io/evil/nginx", false);
    check("localhost:5000/app", "localhost:5000/app", true);
}

#[test]
fn a_star_stays_within_its_component() {
    check("registry.example.com/*", "registry.example.com/app:1", true);
    check("registry.example.com/*", "registry.example.com/team/app", false);
    check("registry.example.com/team-*/app", "registry.example.com/team-a/app", true);
    check("registry.example.com/team-*/app", "registry.example.com/team-a/b/app", false);
    check("*.example.com/**", "eu.registry.example.com/app", true);
    check("*.example.com/**", "evil.io/x.example.com/app", false);
    check("registry.example.com:*/**", "registry.example.com:5000/app", true);
    check("registry.example.com:*/**", "registry.example.com/app", false);
    check("nginx:1.*", "nginx:1.25", true);
    check("nginx:1.*", "nginx:2.0", false);
    check("nginx:*", "nginx:anything", true);
    check("nginx:*", &format!("nginx@{}", digest('a')), false);
    check("nginx*", "nginx-debug:3", true);
    check("team/*", "docker.io/team/app", true);
    check("docker.io/*", "nginx:1", true);
    check("docker.io/*", "team/app", false);
}

#[test]
fn two_stars_span_one_or_more_components() {
    for reference in ["registry.example.com/app", "registry.example.com/a/b/c/d:9"] {
        check("registry.example.com/**", reference, true);
        check("**", reference, true);
    }
    check("registry.example.com/team/**", "registry.example.com/team/app", true);
    check("registry.example.com/team/**", "registry.example.com/team", false);
    check("registry.example.com/**/app", "registry.example.com/a/b/app", true);
    check("registry.example.com/**/app", "registry.example.com/app", false);
    check("registry.example.com/**/x/**", "registry.example.com/x/x/x", true);
    check("registry.example.com/**/x/**", "registry.example.com/x/x", false);
    check("**/debug", "registry.example.com/debug:1", true);
    check("**/debug", "registry.example.com/tools/debug:1", true);
    check("**/debug", "registry.example.com/tools/not-debug", false);
    check("registry.example.com/**", &format!("registry.example.com/app@{}", digest('a')), true);
    check("registry.example.com/**:1", "registry.example.com/a/app:1", true);
    check("registry.example.com/**:1", "registry.example.com/a/app:2", false);
}

#[test]
fn a_name_that_only_begins_alike_never_matches() {
    for reference in [
        "registry.example.com.evil.io/x",
        "registry.example.com:5000/x",
        "registry.example.community/x",
        "evil.io/registry.example.com/x",
        "xregistry.example.com/x",
        "registry-example.com/x",
    ] {
        check("registry.example.com/**", reference, false);
        check("registry.example.com/*", reference, false);
    }
    check("registry.example.com/web/**", "registry.example.com/webx/app", false);
    check("registry.example.com/web:1", "registry.example.com/web:10", false);
    check("registry.example.com/web:1", "registry.example.com/web-2:1", false);
}

#[test]
fn hosts_are_compared_as_engines_write_them() {
    // The engines lower a host's case, so both spellings are one registry.
    check("registry.example.com/**", "Registry.Example.com/app", true);
    assert!("Registry.example.com/**".parse::<ImagePattern>().is_err());
    assert!("registry.example.com/Web".parse::<ImagePattern>().is_err());
}

#[test]
fn with_a_digest_only_the_digest_counts() {
    let entry = pattern(&format!("registry.example.com/app:1@{}", digest('a')));
    assert_eq!(entry.digest().unwrap().to_string(), digest('a'));
    assert!(!entry.matches_name(&"registry.example.com/app:1".parse().unwrap()));
}

#[test]
fn a_bad_pattern_says_why_and_what_to_write() {
    for (text, why) in [
        ("", "is empty"),
        ("*", "could be the host"),
        ("*/app", "could be the host"),
        ("registry.example.com/a**", "stands alone"),
        ("registry.example.com//*", "is empty"),
        ("registry.example.com/", "path component"),
        ("registry.example.com/a b*", "components take"),
        ("registry.example.com/*:", "the tag takes"),
        ("registry.example.com/*@sha256:1", "names one image"),
        ("registry.example.com/app@sha256:1", "64 lower-case"),
        ("registry.example.com/[ab]*", "components take"),
        (&digest('a'), "needs a name"),
        (&"a/".repeat(400), "longer than"),
    ] {
        let error = text.parse::<ImagePattern>().expect_err(text);
        assert!(error.to_string().contains(why), "{error}");
        assert!(!error.remedy().is_empty());
    }
    for text in ["", "**", "a/b", "a b", "ü", "[ab]"] {
        assert!(text.parse::<WordPattern>().is_err(), "{text}");
    }
}

/// The definition of the component match, without care for time.
fn by_definition(pattern: &[&str], names: &[&str]) -> bool {
    match pattern.split_first() {
        None => names.is_empty(),
        Some((&"**", rest)) => (1..=names.len()).any(|n| by_definition(rest, &names[n..])),
        Some((component, rest)) => names.split_first().is_some_and(|(name, names)| {
            Glob::new(component).matches(name) && by_definition(rest, names)
        }),
    }
}

proptest! {
    #[test]
    fn reading_never_panics_and_keeps_the_text(text in "\\PC{0,60}") {
        if let Ok(pattern) = text.parse::<ImagePattern>() {
            prop_assert_eq!(pattern.to_string(), text);
        }
    }

    #[test]
    fn components_agree_with_the_definition(
        pattern in prop::collection::vec(prop::sample::select(vec!["a", "b", "a*", "*", "**"]), 1..6),
        names in prop::collection::vec(prop::sample::select(vec!["a", "b", "ab"]), 1..7),
    ) {
        let components: Vec<Component> = pattern
            .iter()
            .map(|c| match *c {
                "**" => Component::OneOrMore,
                c => Component::One(Glob::new(c)),
            })
            .collect();
        let matched = components_match(&components, &names, |glob, name| glob.matches(name));
        prop_assert_eq!(matched, by_definition(&pattern, &names));
    }

    #[test]
    fn a_reference_matches_itself_and_its_registry(
        host in "[a-z]{1,4}\\.io(:[0-9]{1,4})?",
        path in "[a-z]{1,4}(/[a-z]{1,4}){0,3}",
        tag in "[a-z0-9]{1,4}",
        other in "[a-z.:]{1,5}",
    ) {
        let text = format!("{host}/{path}:{tag}");
        let reference: ImageRef = text.parse().unwrap();
        let everything: ImagePattern = format!("{host}/**").parse().unwrap();
        prop_assert!(text.parse::<ImagePattern>().unwrap().matches_name(&reference));
        prop_assert!(everything.matches_name(&reference));
        if let Ok(longer) = format!("{host}{other}/{path}:{tag}").parse::<ImageRef>()
            && longer.host() != reference.host()
        {
            prop_assert!(!everything.matches_name(&longer));
        }
    }
}
