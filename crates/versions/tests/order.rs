//! Lists of versions and how they stand to each other: our own, and OSV's where they are at hand.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

use std::cmp::Ordering;
use std::fs;

use portcullis_testkit::samples;
use portcullis_versions::{MAX_LENGTH, Scheme, VersionError, compare};
use proptest::prelude::*;

/// Names the folder with OSV's lists (osv-scalibr, `semantic/testdata`), where it is not beside the
/// project.
const FOLDER: &str = "PORTCULLIS_VERSIONS";

/// OSV's name of a list, and an ecosystem.
const ECOSYSTEMS: [(&str, &str); 9] = [
    ("alpine", "Alpine"),
    ("debian", "Debian"),
    ("maven", "Maven"),
    ("nuget", "NuGet"),
    ("packagist", "Packagist"),
    ("pypi", "PyPI"),
    ("redhat", "Red Hat"),
    ("rubygems", "RubyGems"),
    ("semver", "npm"),
];

/// `A < B`, `A = B` or `A > B`; both directions must hold.
fn check(ecosystem: &str, line: &str) -> Result<(), String> {
    let words: Vec<_> = line.split(' ').collect();
    let [a, sign, b] = words[..] else { return Err(format!("not a comparison: {line}")) };
    let wanted = match sign {
        "<" => Ordering::Less,
        "=" => Ordering::Equal,
        ">" => Ordering::Greater,
        _ => return Err(format!("not a comparison: {line}")),
    };
    let there = compare(ecosystem, a, b).unwrap();
    let back = compare(ecosystem, b, a).unwrap();
    match there == wanted && back == wanted.reverse() {
        true => Ok(()),
        false => Err(format!("{ecosystem}: {line}: {there:?}, back {back:?}")),
    }
}

#[test]
fn versions_that_osv_lists() {
    // Where there are none, the test of our own lists stands for the rules.
    let Some(folder) = samples::folder(FOLDER, "versions") else { return };
    let mut wrong = Vec::new();
    let mut count = 0;
    for (name, ecosystem) in ECOSYSTEMS {
        for file in [format!("{name}-versions.txt"), format!("{name}-versions-generated.txt")] {
            let Ok(text) = fs::read_to_string(folder.join(&file)) else { continue };
            let lines = text.lines().map(str::trim).filter(|line| {
                !line.is_empty() && !line.starts_with('#') && !line.starts_with("//")
            });
            for line in lines {
                count += 1;
                wrong.extend(check(ecosystem, line).err());
            }
        }
    }
    assert!(count > 1000, "only {count} comparisons");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    println!("{count} comparisons");
}

/// Each line holds versions in their order; those joined by `=` are equal.
const ORDERED: &[(&str, &[&str])] = &[
    (
        "Alpine:v3.20",
        &[
            "1.2_alpha 1.2_alpha1 1.2_beta 1.2_pre 1.2_rc1 1.2_rc2 1.2 1.2_cvs1 1.2_git20240101 1.2_hg 1.2_p1",
            "1.2-r0 1.2-r1 1.2-r10 1.2a-r0 1.2b 1.2.1 1.10",
            "1.001 1.01 1.1",
            "1.2~abcdef-r1=1.2-r1 1.2-r2",
            "99999999999999999999999999 100000000000000000000000000",
        ],
    ),
    (
        "Debian:12",
        &[
            "1.0~~ 1.0~~a 1.0~ 1.0=1.0-0=0:1.0 1.0-1 1.0-1+b1 1.0a 1.0+ 1.0.1 1:0.1",
            "2.36-9 2.36-9+deb12u1 2.36-9+deb12u10 2.37-1~bpo12+1 2.37-1",
        ],
    ),
    (
        "AlmaLinux:9",
        &[
            "1.0~rc1 1.0 1.0^20240101 1.0^20240102 1.0a 1.0.1 1.1 0:1.10=1.10 1:0.1",
            "4.18.0-80.el8 4.18.0-80.1.el8 4.18.0-80.11.el8 4.18.0-477.el8",
            "1 1-1",
        ],
    ),
    (
        "npm",
        &[
            "1.0.0-1 1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0=v1.0.0=1.0.0+5=1.0 1.0.1 1.10.0",
            "0.0.0-20190101000000-abcdef 0.0.0-20200101000000-abcdef 0.0.0",
        ],
    ),
    ("NuGet", &["1.0.0-BETA=1.0.0-beta 1.0.0=1.0 1.0.0.1 1.0.1"]),
    (
        "Maven",
        &[
            "1.0-alpha-1=1.0a1=1-alpha-1 1.0-beta-1 1.0-milestone-1 1.0-rc1=1.0-cr1 1.0-SNAPSHOT 1.0=1=1.0.0=1-ga=1.0-final=1.0.0.RELEASE 1.0-sp 1.0-abc 1.0-1 1.0.1 1.0.10 1.1",
        ],
    ),
    (
        "Packagist",
        &["1.0-dev 1.0a1=1.0.alpha.1 1.0b1 1.0RC1=1.0rc1 1.0 1.0.0 1.0.1 1.0.1p1 v1.1=1.1"],
    ),
    (
        "PyPI",
        &[
            "0.9-fearow 0.9-gyarados 1.0.dev1 1.0a1.dev2 1.0a1=1.0alpha1=1.0-a.1 1.0a1.post1 1.0b2 1.0rc1=1.0c1=1.0.preview1 1.0=1=v1.0.0 1.0+abc 1.0+abc.1 1.0+1 1.0.post1.dev1 1.0.post1=1.0-1=1.0rev1 1.1.dev1 1.10 1!0.1",
        ],
    ),
    ("RubyGems", &["1.0.a 1.0.a2=1.0.a.2 1.0.a10 1.0.b 1.0.rc1 1.0=1=1.0.0 1.0.1 1.2 1.10"]),
];

#[test]
fn versions_are_in_their_ecosystems_order() {
    for (ecosystem, lines) in ORDERED {
        for line in *lines {
            let steps: Vec<Vec<&str>> =
                line.split(' ').map(|equal| equal.split('=').collect()).collect();
            let all = steps.iter().enumerate();
            let all: Vec<(usize, &str)> =
                all.flat_map(|(at, equal)| equal.iter().map(move |text| (at, *text))).collect();
            for (a_at, a) in &all {
                for (b_at, b) in &all {
                    let order = compare(ecosystem, a, b).unwrap();
                    assert_eq!(order, a_at.cmp(b_at), "{ecosystem}: {a} to {b}");
                }
            }
        }
    }
}

#[test]
fn what_has_no_order_is_an_error() {
    let error = compare("Atari:ST", "1", "2").unwrap_err();
    assert_eq!(error, VersionError::Ecosystem("Atari".to_owned()));
    assert!(matches!(compare("Debian", "a:1", "1"), Err(VersionError::Epoch(..))));
    assert!(matches!(compare("Ubuntu:24.04", "1", ":1"), Err(VersionError::Epoch(..))));
    let long = "1".repeat(MAX_LENGTH + 1);
    assert_eq!(compare("npm", "1", &long), Err(VersionError::TooLong(MAX_LENGTH + 1)));
    assert!(compare("npm", "1", &long[1..]).is_ok());
    let error = compare("a\u{1b}[31m", "1", "2").unwrap_err().to_string();
    assert!(!error.contains('\u{1b}'), "{error}");
}

const SCHEMES: [Scheme; 9] = [
    Scheme::Apk,
    Scheme::Debian,
    Scheme::Maven,
    Scheme::NuGet,
    Scheme::Packagist,
    Scheme::PyPi,
    Scheme::Rpm,
    Scheme::RubyGems,
    Scheme::SemVer,
];

/// Texts that have much to do with versions, and a few that have nothing.
fn version() -> impl Strategy<Value = String> {
    const PARTS: [&str; 36] = [
        "0",
        "1",
        "2",
        "01",
        "10",
        "12345678901234567890",
        ".",
        ".",
        ".",
        "-",
        "_",
        "+",
        "~",
        "^",
        ":",
        "!",
        "a",
        "b",
        "rc",
        "alpha",
        "beta",
        "pre",
        "dev",
        "post",
        "sp",
        "final",
        "SNAPSHOT",
        "v",
        "r",
        "-r1",
        "_p",
        "el8",
        "deb12u1",
        "RC",
        " ",
        "é",
    ];
    prop::collection::vec(prop::sample::select(&PARTS[..]), 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    /// Whatever the texts are, each is equal to itself and stands to the other as the other does to
    /// it the other way round.
    #[test]
    fn any_two_texts_have_one_order(a in version(), b in version(), other in ".{0,40}") {
        for scheme in SCHEMES {
            for (a, b) in [(&a, &b), (&a, &other)] {
                let (Ok(there), Ok(back)) = (scheme.compare(a, b), scheme.compare(b, a)) else {
                    prop_assert_eq!(scheme, Scheme::Debian);
                    continue;
                };
                prop_assert_eq!(there, back.reverse(), "{:?}: {} and {}", scheme, a, b);
                prop_assert_eq!(scheme.compare(a, a), Ok(Ordering::Equal), "{:?}: {}", scheme, a);
            }
        }
    }
}
