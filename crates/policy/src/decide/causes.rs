//! What went wrong or is missing, and what a policy says of it.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_types::{
    Action, Cause, Class, Evidence, Failure, Identity, Lookup, Reason, ScanReport, Subject, Surety,
    Timestamp, Verdict, Workload,
};

use super::Start;
use crate::document::{Rule, Spec, Stale};

/// The failures that came to pass whatever a policy says: those the gate met, each once, and those
/// that follow from identity and evidence.
pub(super) fn of_every_policy(identity: &Identity, evidence: &Evidence) -> Vec<Failure> {
    let mut failures: Vec<Failure> = Vec::new();
    for failure in evidence.failures.iter().cloned().chain(derived(identity, evidence)) {
        if !failures.contains(&failure) {
            failures.push(failure);
        }
    }
    failures
}

/// What is said of an image of which the store holds nothing, if nobody tried to scan it.
pub(crate) const UNSCANNED: &str = "the store holds nothing for this image";

/// Whether the store was read and says nothing of the image.
pub fn is_unscanned(evidence: &Evidence) -> bool {
    let is_unreadable =
        |f: &Failure| matches!(f.cause, Cause::StoreCorrupt | Cause::StoreUnreadable);
    match &evidence.lookup {
        Lookup::Read(verdicts) => {
            telling(verdicts).next().is_none() && !evidence.failures.iter().any(is_unreadable)
        }
        Lookup::NotRead => false,
    }
}

fn derived(identity: &Identity, evidence: &Evidence) -> Vec<Failure> {
    let met = |cause: Cause| evidence.failures.iter().any(|f| f.cause == cause);
    let mut derived = Vec::new();
    let mut derive = |cause: Cause, detail: &str| {
        if !met(cause) {
            derived.push(Failure::new(cause, detail));
        }
    };
    let note = |otherwise| identity.note.as_deref().unwrap_or(otherwise);
    match identity.surety {
        Surety::Bound => {}
        Surety::Claimed => {
            derive(Cause::IdentityClaimed, note("only a name says which image it is"))
        }
        // Not found out in time is `deadline`: the node was slow, the image may well be known.
        // Whoever got as far as the store had found out that it is not.
        Surety::Unknown if met(Cause::Deadline) && evidence.lookup == Lookup::NotRead => {}
        Surety::Unknown => derive(Cause::IdentityUnknown, note("nothing says which image it is")),
    }
    match &evidence.lookup {
        Lookup::Read(_) => {
            if is_unscanned(evidence) {
                derive(Cause::Unscanned, UNSCANNED);
            }
        }
        // A store that was not read without a word of why must not pass for a clean image.
        Lookup::NotRead => {
            let explains =
                |f: &Failure| !matches!(f.cause, Cause::AuditUnavailable | Cause::PolicyInvalid);
            if identity.is_bound() && !evidence.failures.iter().any(explains) {
                derive(Cause::StoreUnreadable, "the store was not read, for no reason given");
            }
        }
    }
    derived
}

/// A reason for each failure that the policy answers for, by cause.
pub(super) fn reasons(spec: &Spec, start: &Start<'_>) -> Vec<Reason> {
    let verdicts = start.evidence.verdicts();
    let mut failures = start.failures.to_vec();
    failures.extend(spec.stale.as_ref().and_then(|s| stale(s, &spec.rules, verdicts, start.now)));
    failures.extend(no_data(&spec.rules, start.evidence));
    failures.sort_by(|a, b| (a.cause, &a.detail).cmp(&(b.cause, &b.detail)));
    failures
        .into_iter()
        .filter_map(|failure| {
            let (action, place) = spec.failure_action(failure.cause)?;
            Some(Reason::new(Subject::Failure(failure), place, capped(action, start)))
        })
        .collect()
}

/// A failure never keeps a sandbox from starting, or a fault on the node would stop all its pods.
pub(super) fn capped(action: Action, start: &Start<'_>) -> Action {
    if start.is_sandbox() { action.min(Action::Alarm) } else { action }
}

/// The classes that the rules name and that scanners look for.
fn asked_about(rules: &[Rule]) -> BTreeSet<Class> {
    rules.iter().filter_map(|r| r.class).filter(|class| class.is_scanned()).collect()
}

/// For each class that the rules ask about, or for each that was looked for if they ask about
/// none: the newest knowledge of it is too old.
fn stale(stale: &Stale, rules: &[Rule], verdicts: &[Verdict], now: Timestamp) -> Option<Failure> {
    let reports = || telling(verdicts);
    let mut classes = asked_about(rules);
    if classes.is_empty() {
        classes = reports().flat_map(|r| r.coverage.classes.iter().copied()).collect();
    }
    let old: Vec<String> = classes
        .into_iter()
        .filter_map(|class| {
            let freshest = known_since(class, verdicts)?;
            stale
                .max_age
                .has_passed(freshest, now)
                .then(|| format!("what is known of class {class} is from {}", day(freshest)))
        })
        .collect();
    (!old.is_empty()).then(|| {
        Failure::new(Cause::Stale, format!("{}, older than {}", old.join(", "), stale.max_age))
    })
}

/// The reports that say anything of their image.
fn telling(verdicts: &[Verdict]) -> impl Iterator<Item = &ScanReport> {
    verdicts.iter().flat_map(|v| &v.reports).filter(|report| report.says_something())
}

/// The date that the knowledge of a class is from: of each part, an ecosystem or a distribution,
/// the newest report that looked at it, and of these the oldest. A new look at one part is none at
/// another.
fn known_since(class: Class, verdicts: &[Verdict]) -> Option<Timestamp> {
    let mut parts: BTreeMap<&str, Timestamp> = BTreeMap::new();
    let mut of_no_part: Option<Timestamp> = None;
    for report in telling(verdicts).filter(|r| r.coverage.classes.contains(&class)) {
        let date = report.as_of();
        of_no_part = of_no_part.max(Some(date));
        if class == Class::Vulnerability {
            let coverage = &report.coverage;
            let distribution = coverage.distribution.iter();
            for part in coverage.ecosystems.iter().chain(distribution) {
                let known = parts.entry(part).or_insert(date);
                *known = date.max(*known);
            }
        }
    }
    parts.into_values().min().or(of_no_part)
}

/// The day of a time is enough for people, and keeps the line short.
pub(crate) fn day(time: Timestamp) -> String {
    time.to_string().chars().take_while(|c| *c != 'T').collect()
}

/// What the rules ask about and nobody looked for.
fn no_data(rules: &[Rule], evidence: &Evidence) -> Option<Failure> {
    let mut missing = Vec::new();
    if let Workload::NotRead(why) = &evidence.workload
        && rules.iter().any(|rule| rule.class == Some(Class::Workload))
    {
        missing.push(format!("the start's settings were not read: {why}"));
    }
    missing.extend(not_scanned(rules, evidence.verdicts()));
    (!missing.is_empty()).then(|| Failure::new(Cause::NoData, missing.join(", ")))
}

/// What no scanner looked for. Without any report the image is unscanned, which is another cause.
fn not_scanned(rules: &[Rule], verdicts: &[Verdict]) -> Vec<String> {
    let reports = || telling(verdicts);
    if reports().next().is_none() {
        return Vec::new();
    }
    let covered: BTreeSet<Class> =
        reports().flat_map(|r| r.coverage.classes.iter().copied()).collect();
    let asked = asked_about(rules);
    let mut missing: Vec<String> = asked
        .difference(&covered)
        .map(|class| format!("nobody looked for class {class}"))
        .collect();
    if asked.contains(&Class::Vulnerability) && covered.contains(&Class::Vulnerability) {
        missing.extend(advisories_missing(verdicts));
    }
    missing
}

/// Where the silence of the vulnerability scans means nothing.
fn advisories_missing(verdicts: &[Verdict]) -> Vec<String> {
    let scans: Vec<_> = verdicts
        .iter()
        .flat_map(|v| &v.reports)
        .map(|r| &r.coverage)
        .filter(|c| c.classes.contains(&Class::Vulnerability))
        .collect();
    let mut missing = Vec::new();
    if scans.iter().all(|c| c.distribution.is_none()) {
        missing.push("the distribution is unknown".to_owned());
    }
    let ended: BTreeSet<&str> = scans
        .iter()
        .filter(|c| c.end_of_life)
        .map(|c| c.distribution.as_deref().unwrap_or("the distribution"))
        .collect();
    missing.extend(ended.iter().map(|name| format!("{name} is past its end of life")));
    let covered: BTreeSet<&String> = scans.iter().flat_map(|c| &c.ecosystems).collect();
    let uncovered: BTreeSet<&String> = scans.iter().flat_map(|c| &c.uncovered).collect();
    missing.extend(uncovered.difference(&covered).map(|name| format!("{name} has no advisories")));
    missing
}
