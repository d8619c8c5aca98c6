//! To which version a package must be brought, when each finding names the versions that mend it.
//!
//! Versions are compared without knowing their ecosystem: numbers by value, `~` and the usual words
//! for a preview before the end, other words after it (as dpkg's and RPM's orders agree on). So a
//! target is advice; the next scan is what says that the finding is gone.

use std::cmp::Ordering;
use std::collections::BTreeSet;

/// Most alternatives that one finding is asked for.
const MAX_ALTERNATIVES: usize = 16;
/// Most comparisons for one package; beyond it the highest of all versions is the answer.
const MAX_COMPARISONS: usize = 20_000;
const PREVIEWS: [&str; 9] = ["alpha", "beta", "dev", "m", "pre", "preview", "rc", "cr", "snapshot"];

/// The alternatives of a finding's `fixed_version`, which separates them by `, `.
pub(super) fn alternatives(fixed: &str) -> impl Iterator<Item = &str> {
    fixed.split(',').map(str::trim).filter(|v| !v.is_empty()).take(MAX_ALTERNATIVES)
}

/// The version that mends all findings with these `fixed_version`s and is nearest to the installed
/// one: of the same branch if one is, and of those the lowest.
pub(super) fn target<'a>(installed: Option<&str>, fixes: &BTreeSet<&'a str>) -> Option<&'a str> {
    let needed: Vec<Vec<&str>> = fixes
        .iter()
        .map(|fix| {
            let mut versions: Vec<&str> = alternatives(fix).collect();
            versions.sort_by(|a, b| compare(a, b));
            versions
        })
        .filter(|versions| !versions.is_empty())
        .collect();
    let mut candidates: Vec<&'a str> = fixes.iter().flat_map(|fix| alternatives(fix)).collect();
    let highest = candidates.iter().copied().max_by(|a, b| compare(a, b))?;
    candidates.sort_unstable();
    candidates.dedup();
    if candidates.len() * needed.len() > MAX_COMPARISONS {
        return Some(highest);
    }
    candidates
        .into_iter()
        .filter(|version| needed.iter().all(|versions| mends(version, versions)))
        .min_by(|a, b| distance(installed, a, b))
}

/// Whether a version mends what these versions mend, the lowest first: it is one of them, it is not
/// below the highest, or not below one of its own branch.
fn mends(version: &str, alternatives: &[&str]) -> bool {
    let reached = |least: &str| compare(version, least) != Ordering::Less;
    alternatives.last().is_some_and(|highest| reached(highest))
        || alternatives
            .iter()
            .any(|least| version == *least || same_branch(version, least) && reached(least))
}

/// What is an update comes before what is none, then the nearer branch, then the lower version.
fn distance(installed: Option<&str>, a: &str, b: &str) -> Ordering {
    let order = |version: &str| {
        installed.map(|installed| {
            let update = compare(version, installed) == Ordering::Greater;
            (!update, usize::MAX - shared(installed, version))
        })
    };
    order(a).cmp(&order(b)).then_with(|| compare(a, b)).then_with(|| a.cmp(b))
}

/// A version without its epoch and a leading `v`.
fn upstream(version: &str) -> &str {
    let version = match version.split_once(':') {
        Some((epoch, rest)) if epoch.bytes().all(|b| b.is_ascii_digit()) => rest,
        _ => version,
    };
    version.strip_prefix('v').unwrap_or(version)
}

/// How many dotted components both begin with.
fn shared(a: &str, b: &str) -> usize {
    upstream(a).split('.').zip(upstream(b).split('.')).take_while(|(a, b)| a == b).count()
}

/// Whether both agree in all dotted components of `least` but the last.
fn same_branch(version: &str, least: &str) -> bool {
    let length = upstream(least).split('.').count();
    length > 1 && shared(version, least) >= length - 1
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Token<'a> {
    Tilde,
    Preview(&'a str),
    End,
    Word(&'a str),
    Number(usize, &'a str),
}

fn compare(a: &str, b: &str) -> Ordering {
    let epoch = |version: &str| match version.split_once(':') {
        Some((epoch, _)) => epoch.parse::<u64>().unwrap_or(0),
        None => 0,
    };
    let mut a_rest = upstream(a);
    let mut b_rest = upstream(b);
    let mut order = epoch(a).cmp(&epoch(b));
    while order == Ordering::Equal {
        let (next_a, next_b) = (token(&mut a_rest), token(&mut b_rest));
        if next_a == Token::End && next_b == Token::End {
            break;
        }
        order = next_a.cmp(&next_b);
    }
    order
}

/// Takes the next token off; separators only separate.
fn token<'a>(rest: &mut &'a str) -> Token<'a> {
    let text = rest.trim_start_matches(|c: char| !c.is_alphanumeric() && c != '~');
    let Some(first) = text.chars().next() else {
        *rest = text;
        return Token::End;
    };
    let length = |is: fn(char) -> bool| text.find(|c| !is(c)).unwrap_or(text.len());
    let end = match first {
        '~' => 1,
        '0'..='9' => length(|c| c.is_ascii_digit()),
        _ => length(|c| c.is_alphanumeric() && !c.is_ascii_digit()),
    };
    let (word, tail) = text.split_at(end);
    *rest = tail;
    match first {
        '~' => Token::Tilde,
        '0'..='9' => {
            let digits = word.trim_start_matches('0');
            Token::Number(digits.len(), digits)
        }
        _ if PREVIEWS.iter().any(|p| p.eq_ignore_ascii_case(word)) => Token::Preview(word),
        _ => Token::Word(word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_an_order() {
        for (lower, higher) in [
            ("1.2.9", "1.2.10"),
            ("1.1.1", "1.1.1k"),
            ("3.0.11-1~deb12u1", "3.0.11-1~deb12u2"),
            ("3.0.11-1~deb12u2", "3.0.11-1"),
            ("9.9", "1:0.1"),
            ("1.0.0-rc.1", "1.0.0"),
            ("1.0.0-alpha", "1.0.0-beta"),
            ("1.0", "1.0.1"),
            ("v1.9.0", "1.10.0"),
            ("0.0.9", "0.0.0009999999999999999999999999999999"),
        ] {
            assert_eq!(compare(lower, higher), Ordering::Less, "{lower} {higher}");
            assert_eq!(compare(higher, lower), Ordering::Greater, "{lower} {higher}");
            assert_eq!(compare(higher, higher), Ordering::Equal);
        }
    }

    #[test]
    fn the_target_mends_all_and_is_the_nearest() {
        for (installed, fixes, wanted) in [
            (Some("3.0.11"), &["3.0.12", "3.0.13", "3.0.9"][..], Some("3.0.13")),
            (Some("1.5.0"), &["1.5.2, 2.0.1"], Some("1.5.2")),
            (Some("2.0.0"), &["1.5.2, 2.0.1"], Some("2.0.1")),
            (Some("1.5.0"), &["1.5.2, 2.0.1", "2.0.3"], Some("2.0.3")),
            // 2.0.3 is below the fix of the later branch, and not of the earlier one.
            (Some("1.5.0"), &["1.5.2, 2.1.4", "2.0.3"], Some("2.1.4")),
            (Some("3.1.0"), &["2.9.9, 3.0.8, 3.1.2"], Some("3.1.2")),
            (Some("2.7"), &["1.9, 3.0.8, 3.1.2"], Some("3.0.8")),
            (None, &["2, 1"], Some("1")),
            (None, &["2", "1"], Some("2")),
            (Some("1"), &[" , "], None),
            (Some("1"), &[], None),
        ] {
            let fixes: BTreeSet<&str> = fixes.iter().copied().collect();
            assert_eq!(target(installed, &fixes), wanted, "{installed:?} {fixes:?}");
        }
    }
}
