//! Entries that make no difference, since another of the same policy covers them.
//!
//! Nothing is claimed that is not so: without what is reported here, every decision has the same
//! reasons with the same actions; at most another entry stands in them as the one that spoke.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use portcullis_types::Severity;

use super::{Level, MAX_COMPARED, Report, Warning};
use crate::PolicySet;
use crate::WordPattern;
use crate::document::{Exception, GracePeriod, Rule, Selection, WhitelistEntry};

pub(super) fn rules(rules: &[Rule], report: &mut Report<'_>) {
    let naming = Naming::of(rules);
    let covering = |index: usize, kept: &[bool]| covering(rules, &naming, index, kept);
    for (index, by) in superfluous("rules", rules.len(), covering, report) {
        report.add(
            Level::Warning,
            "shadowed-rule",
            format!("spec.rules[{index}]"),
            format!("it makes no difference: {} it, at least as strictly", covers("rules", &by)),
            "leave it out, or say what sets it apart",
        );
    }
}

pub(super) fn whitelist(entries: &[WhitelistEntry], report: &mut Report<'_>) {
    let wider = |a: &WhitelistEntry, b: &WhitelistEntry| {
        a.image.includes(&b.image) && a.malware >= b.malware && a.workload >= b.workload
    };
    one_by_one("whitelist", "shadowed-whitelist", entries, wider, report);
}

pub(super) fn exceptions(exceptions: &[Exception], report: &mut Report<'_>) {
    one_by_one("exceptions", "shadowed-exception", exceptions, excepts_more, report);
}

/// Entries that a single other one covers.
fn one_by_one<T>(
    list: &'static str,
    code: &'static str,
    entries: &[T],
    covers_more: impl Fn(&T, &T) -> bool,
    report: &mut Report<'_>,
) {
    let covering = |index: usize, kept: &[bool]| {
        let covers = |(other, entry): (usize, &T)| {
            (other != index && kept[other] && covers_more(entry, &entries[index])).then_some(other)
        };
        entries.iter().enumerate().find_map(covers).map(|by| BTreeSet::from([by]))
    };
    for (index, by) in superfluous(list, entries.len(), covering, report) {
        report.add(
            Level::Warning,
            code,
            format!("spec.{list}[{index}]"),
            format!("it makes no difference: {} it", covers(list, &by)),
            "leave it out",
        );
    }
}

/// Entries that those which are kept cover, with which those are. The last are tried first, so
/// that of two equal ones the first is kept.
fn superfluous(
    list: &str,
    length: usize,
    covering: impl Fn(usize, &[bool]) -> Option<BTreeSet<usize>>,
    report: &mut Report<'_>,
) -> Vec<(usize, BTreeSet<usize>)> {
    if length > MAX_COMPARED {
        report.add(
            Level::Note,
            "not-compared",
            format!("spec.{list}"),
            format!("there are {length}: more than {MAX_COMPARED} are not compared to each other"),
            "divide the policy",
        );
        return Vec::new();
    }
    let mut kept = vec![true; length];
    let mut found = Vec::new();
    for index in (0..length).rev() {
        if let Some(by) = covering(index, &kept) {
            kept[index] = false;
            found.push((index, by));
        }
    }
    found.reverse();
    // Whoever covers may have been covered itself by then; what is kept covers as well.
    for (index, by) in &mut found {
        if let Some(kept_by) = covering(*index, &kept) {
            *by = kept_by;
        }
    }
    found
}

fn covers(list: &str, by: &BTreeSet<usize>) -> String {
    let names: Vec<String> = by.iter().map(|index| format!("{list}[{index}]")).collect();
    match names.as_slice() {
        [one] => format!("{one} covers"),
        [most @ .., last] => format!("{} and {last} cover", most.join(", ")),
        [] => "nothing covers".to_owned(),
    }
}

/// Which rules name an id; upper and lower case alike.
struct Naming(HashMap<String, Vec<usize>>);

impl Naming {
    fn of(rules: &[Rule]) -> Self {
        let mut naming: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, rule) in rules.iter().enumerate() {
            for id in &rule.ids {
                naming.entry(id.to_ascii_lowercase()).or_default().push(index);
            }
        }
        Self(naming)
    }

    /// In the order of the rules.
    fn rules(&self, id: &str) -> &[usize] {
        self.0.get(&id.to_ascii_lowercase()).map_or(&[], Vec::as_slice)
    }
}

/// The rules among those kept that together match whatever this one matches, and are at least as
/// strict.
fn covering(
    rules: &[Rule],
    naming: &Naming,
    index: usize,
    kept: &[bool],
) -> Option<BTreeSet<usize>> {
    let rule = &rules[index];
    let may = |other: usize| {
        other != index && kept[other] && reaches((other, &rules[other]), (index, rule))
    };
    let reaching: Vec<bool> = (0..rules.len()).map(may).collect();
    let candidates = || (0..rules.len()).filter(|other| reaching[*other]);
    let mut named_by: Vec<&[usize]> = rule.ids.iter().map(|id| naming.rules(id)).collect();
    // The rarest id tells first that a rule does not name them all.
    named_by.sort_by_key(|rules| rules.len());
    let has_ids = |other: usize| {
        let all = || named_by.iter().all(|naming| naming.binary_search(&other).is_ok());
        rules[other].ids.is_empty() || (!named_by.is_empty() && all())
    };
    let alone = candidates().find(|other| {
        severities(rule).all(|severity| has_severity(&rules[*other], severity)) && has_ids(*other)
    });
    if let Some(alone) = alone {
        return Some(BTreeSet::from([alone]));
    }
    // Several may share it out: severity by severity, id by id.
    let mut by = BTreeSet::new();
    for severity in severities(rule) {
        let of_severity = |other: &usize| has_severity(&rules[*other], severity);
        let open = candidates().filter(of_severity).find(|other| rules[*other].ids.is_empty());
        if let Some(open) = open {
            by.insert(open);
        } else if named_by.is_empty() {
            return None;
        } else {
            for naming in &named_by {
                let mut naming = naming.iter().filter(|other| reaching[**other]);
                by.insert(*naming.find(|other| of_severity(other))?);
            }
        }
    }
    Some(by)
}

fn severities(rule: &Rule) -> impl Iterator<Item = Severity> {
    let named = rule.severity.iter().copied();
    let any = if rule.severity.is_empty() { Severity::ALL } else { &[] };
    named.chain(any.iter().copied())
}

fn has_severity(rule: &Rule, severity: Severity) -> bool {
    rule.severity.is_empty() || rule.severity.contains(&severity)
}

/// Whether the first rule, severities and ids aside, matches whatever the second matches, and is
/// at least as strict at any time.
fn reaches((place, wide): (usize, &Rule), (other_place, narrow): (usize, &Rule)) -> bool {
    // Every field is named, so that a new one cannot be forgotten here.
    let Rule { class, severity: _, ids: _, fixable, cvss, epss, kev, grace, when, action } = wide;
    let at_least = |wide: &Option<f32>, narrow: &Option<f32>| {
        wide.is_none_or(|wide| narrow.is_some_and(|narrow| narrow >= wide))
    };
    // What is known to be exploited has no grace.
    let grace = grace.filter(|_| narrow.kev != Some(true));
    let as_strict = *action > narrow.action
        || *action == narrow.action
            && match (grace, narrow.grace) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(one), Some(two)) => {
                    one == two || (place < other_place && ends_first(&one, &two))
                }
            };
    class.is_some()
        && *class == narrow.class
        && fixable.is_none_or(|wide| narrow.fixable == Some(wide))
        && at_least(cvss, &narrow.cvss)
        && at_least(epss, &narrow.epss)
        && kev.is_none_or(|wide| narrow.kev == Some(wide))
        && *when == narrow.when
        && as_strict
}

/// Whether the first grace is over when the second is.
fn ends_first(one: &GracePeriod, two: &GracePeriod) -> bool {
    one.from == two.from
        && (one.fallback.is_none() || one.fallback == two.fallback)
        && one.period <= two.period
}

fn excepts_more(a: &Exception, b: &Exception) -> bool {
    let Exception {
        id,
        package,
        image,
        namespaces,
        sha256,
        expires,
        owner: _,
        reason: _,
        ticket: _,
    } = a;
    let images = match (image, &b.image) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => wide.includes(narrow),
    };
    id.eq_ignore_ascii_case(&b.id)
        && (package.is_none() || *package == b.package)
        && images
        && namespaces.as_ref().is_none_or(|wide| within(wide, b.namespaces.as_ref()))
        // One without a hash is not about malware, one with it about nothing else of that id.
        && *sha256 == b.sha256
        && *expires >= b.expires
}

/// Whether all that is selected by `narrow` is selected by `wide`, as far as can be told.
fn within(wide: &Selection<WordPattern>, narrow: Option<&Selection<WordPattern>>) -> bool {
    let Some(narrow) = narrow else {
        return false;
    };
    let included = |pattern: &WordPattern| wide.include.iter().any(|w| w.includes(pattern));
    let includes = wide.include.is_empty()
        || (!narrow.include.is_empty() && narrow.include.iter().all(included));
    let excluded = |pattern: &WordPattern| narrow.exclude.iter().any(|n| n.includes(pattern));
    includes && wide.exclude.iter().all(excluded)
}

/// Policies that say the same under two names.
pub(super) fn equal_policies(set: &PolicySet, warnings: &mut Vec<Warning>) {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for policy in set.policies() {
        let mut spec = policy.spec.clone();
        spec.description = None;
        let Ok(text) = serde_json::to_string(&spec) else {
            continue;
        };
        let name = policy.metadata.name.as_str();
        match seen.get(text.as_str()) {
            None => {
                seen.insert(text, name);
            }
            Some(first) => Report { policy: name, warnings }.add(
                Level::Warning,
                "equal-policies",
                "spec",
                format!("it says what the policy {first} says"),
                "leave one of them out",
            ),
        }
    }
}
