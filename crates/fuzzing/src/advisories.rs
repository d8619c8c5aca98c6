//! Versions and advisories.

use std::cmp::Ordering;

use portcullis_osv::{Advisory, Affected, Event, normal_name};
use portcullis_types::with_causes;
use portcullis_versions::Scheme;

use crate::text::{printable, told};

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

/// Up to three versions, one a line; the first byte tells the ecosystem, `a` being the first.
///
/// Each is equal to itself, two stand to each other the other way round as the other way round, and
/// three have one order. Accepted: all have an order.
pub fn versions(data: &[u8]) -> bool {
    let Some((scheme, text)) = data.split_first() else { return false };
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let scheme = SCHEMES[usize::from(scheme.wrapping_sub(b'a')) % SCHEMES.len()];
    let versions: Vec<&str> = text.splitn(3, '\n').collect();
    let order = |a: &str, b: &str| {
        let there = scheme.compare(a, b);
        match (&there, scheme.compare(b, a)) {
            (Ok(there), Ok(back)) => assert_eq!(*there, back.reverse(), "{scheme:?}: {a}, {b}"),
            (Err(error), Err(_)) => told(error),
            (there, back) => panic!("{scheme:?}: {a}, {b}: {there:?}, back {back:?}"),
        }
        there.ok()
    };
    let mut accepted = true;
    for version in &versions {
        let itself = order(version, version);
        assert!(itself.is_none_or(Ordering::is_eq), "{scheme:?}: {version} is not itself");
        accepted &= itself.is_some();
    }
    // Maven, apk and PHP compare numbers with words, and numbers with zeros before them, in ways that
    // make rings: only for plain ones do they promise an order.
    let has_order = !matches!(scheme, Scheme::Apk | Scheme::Maven | Scheme::Packagist)
        || versions.iter().all(|version| is_plain(version));
    if let [a, b, c] = versions[..]
        && has_order
    {
        for (a, b, c) in [(a, b, c), (b, c, a), (c, a, b), (a, c, b), (b, a, c), (c, b, a)] {
            let (Some(ab), Some(bc), Some(ac)) = (order(a, b), order(b, c), order(a, c)) else {
                continue;
            };
            if ab.is_le() && bc.is_le() {
                let wanted = ab.then(bc);
                assert_eq!(ac, wanted, "{scheme:?}: {a} {ab:?} {b} {bc:?} {c}");
            }
        }
    }
    accepted
}

/// Whether a version is three numbers without zeros before them.
fn is_plain(version: &str) -> bool {
    let is_number = |part: &str| {
        part.bytes().all(|byte| byte.is_ascii_digit()) && (part == "0" || !part.starts_with('0'))
    };
    version.split('.').count() == 3
        && version.split('.').all(|part| !part.is_empty() && is_number(part))
}

/// Most affected packages of a record, and versions of each, that are looked at.
const MOST: usize = 16;

/// A record of an advisory.
///
/// Accepted: its ids are ids, it is read the same once written anew, each version that it lists is
/// affected, and a version is affected as the last event before it says, whatever order the events
/// have in the record.
pub fn osv(data: &[u8]) -> bool {
    let advisory = match Advisory::read(data) {
        Ok(advisory) => advisory,
        Err(error) => {
            told(&error);
            return false;
        }
    };
    let lists = [&advisory.aliases, &advisory.upstream, &advisory.related];
    for id in lists.into_iter().flatten().chain([&advisory.id]) {
        printable("an id", id, 128);
        assert!(!id.is_empty() && !id.starts_with('.') && !id.contains('/'), "{id}");
    }
    let written = serde_json::to_vec(&advisory).expect("a record can be written");
    let again = Advisory::read(&written).expect("what was written is read");
    assert_eq!(again, advisory);
    advisory.affected.into_iter().take(MOST).for_each(affected);
    true
}

fn affected(mut affected: Affected) {
    let (ecosystem, name) = (&affected.package.ecosystem, &affected.package.name);
    let normal = normal_name(ecosystem, name);
    assert_eq!(normal_name(ecosystem, &normal), normal, "{ecosystem}: {name}");
    let scheme = match Scheme::of_ecosystem(ecosystem) {
        Ok(scheme) => scheme,
        Err(error) => return told(&error),
    };
    affected.ranges.iter_mut().for_each(|range| range.events.truncate(MOST));
    let mut other = affected.clone();
    other.ranges.iter_mut().for_each(|range| range.events.reverse());
    if let Err(error) = affected.sort(scheme) {
        assert!(other.sort(scheme).is_err(), "{}", with_causes(&error));
        return told(&error);
    }
    other.sort(scheme).expect("the same events have an order");
    let events = || affected.ranges.iter().take(MOST).flat_map(|range| &range.events);
    let asked = affected.versions.iter().take(MOST).chain(events().map(version));
    for asked in asked {
        let hit = match affected.hit(scheme, asked) {
            Ok(hit) => hit,
            Err(error) => {
                told(&error);
                continue;
            }
        };
        let is_listed = affected.versions.contains(asked);
        assert!(!is_listed || hit.is_some(), "{asked} is listed and not affected");
        if let Some(fixed) = hit.as_ref().and_then(|hit| hit.fixed) {
            assert_eq!(scheme.compare(asked, fixed), Ok(Ordering::Less), "{scheme:?}");
        }
        if !is_listed && has_one_order(&affected, scheme) {
            assert_eq!(other.hit(scheme, asked), Ok(hit.clone()), "{scheme:?}: {asked}");
            let plain = affected.ranges.iter().any(|range| plain(&range.events, scheme, asked));
            // A listed version may be another spelling of the one that was asked for.
            let is_same = |listed: &String| scheme.compare(listed, asked) == Ok(Ordering::Equal);
            let is_listed = affected.versions.iter().any(is_same);
            assert_eq!(hit.is_some(), plain || is_listed, "{scheme:?}: {asked}");
        }
    }
}

fn version(event: &Event) -> &String {
    match event {
        Event::Introduced(v) | Event::Fixed(v) | Event::LastAffected(v) | Event::Limit(v) => v,
    }
}

/// Whether no two events of a range are at the same version, in whatever words.
fn has_one_order(affected: &Affected, scheme: Scheme) -> bool {
    affected.ranges.iter().all(|range| {
        let events: Vec<_> = range.events.iter().map(version).collect();
        let pairs = events
            .iter()
            .enumerate()
            .flat_map(|(at, a)| events[at + 1..].iter().map(move |b| scheme.compare(a, b)));
        pairs.into_iter().all(|order| order.is_ok_and(Ordering::is_ne))
    })
}

/// Whether a version is within one range, by the last of its events that the version has reached.
fn plain(events: &[Event], scheme: Scheme, asked: &str) -> bool {
    let order = |version: &str| scheme.compare(asked, version).expect("it was compared before");
    let is_begin = |event: &&Event| matches!(event, Event::Introduced(v) if v == "0");
    let reached = events.iter().filter(|event| match event {
        Event::Introduced(v) => v == "0" || order(v).is_ge(),
        Event::Fixed(v) => order(v).is_ge(),
        Event::LastAffected(v) => order(v).is_gt(),
        Event::Limit(_) => false,
    });
    let last = reached.max_by(|a, b| match (is_begin(a), is_begin(b)) {
        (true, _) => Ordering::Less,
        (_, true) => Ordering::Greater,
        _ => scheme.compare(version(a), version(b)).expect("it was compared before"),
    });
    let mut limits = events.iter().filter_map(|event| match event {
        Event::Limit(v) => Some(v == "*" || order(v).is_lt()),
        _ => None,
    });
    let is_within = match limits.next() {
        None => true,
        Some(first) => first || limits.any(|is_within| is_within),
    };
    matches!(last, Some(Event::Introduced(_))) && is_within
}
