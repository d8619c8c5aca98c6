//! The reasons of a decision in words, the weightiest first.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use portcullis_types::{
    Action, Cause, Class, Decision, Failure, Finding, PolicyAnswer, Reason, SettingsAnswer,
    Severity, Subject, Timestamp,
};

use super::plain::{plain, shortened};
use crate::decide::{CONDITION, NO_DIGEST, UNAUTHORIZED_IMAGE, UNSCANNED, day};

/// Longest text about one finding or one failure, in bytes.
const MAX_DETAIL: usize = 90;

/// What is said, and who says it.
pub(super) struct Speaking<'a> {
    pub(super) phrases: Vec<String>,
    pub(super) policies: Vec<&'a str>,
    pub(super) settings: Vec<&'a str>,
}

/// The reasons that made the decision what it is: of the policies whose answer is the decision,
/// or would be if they enforced.
pub(super) fn speaking(decision: &Decision) -> Speaking<'_> {
    let would_block = decision.action == Action::Alarm && decision.would_block();
    let whitelisted = decision.action == Action::Allow && decision.whitelisted();
    let answer = |policy: &PolicyAnswer| {
        if would_block {
            policy.enforced
        } else if whitelisted {
            policy.unwaived
        } else {
            policy.action
        }
    };
    let level = if would_block {
        Action::Block
    } else if whitelisted {
        decision.policies.iter().map(answer).max().unwrap_or_default()
    } else {
        decision.action
    };
    // Of an allowed start that nothing softened there is no reason worth a phrase.
    let quiet = level == Action::Allow;
    let speakers: Vec<&PolicyAnswer> =
        decision.policies.iter().filter(|p| answer(p) == level).collect();
    let counts = |r: &Reason| if whitelisted { r.without_whitelist() } else { r.effective() };
    let reasons: Vec<&Reason> =
        speakers.iter().flat_map(|p| &p.reasons).filter(|r| !quiet && counts(r) == level).collect();
    let settings: Vec<&SettingsAnswer> =
        decision.settings.iter().filter(|s| s.action == decision.action).collect();

    let mut phrases = findings(&reasons);
    phrases.extend(conditions(&reasons));
    phrases.extend(failures(&reasons));
    phrases.extend(expired(&reasons));
    phrases.extend(settings.iter().map(|s| setting(s)));
    if phrases.is_empty() {
        phrases.push(match (decision.findings, decision.settings_of_start) {
            (0, _) => "nothing was found".to_owned(),
            // Any start has some settings that could be stricter.
            (n, of_start) if n == of_start => "nothing was found in the image".to_owned(),
            (1, _) => "the one finding does not count".to_owned(),
            (n, _) => format!("none of {n} findings counts"),
        });
    }
    if whitelisted {
        let outcome = if level == Action::Block { "blocked" } else { "an alarm" };
        let entries = entries(&reasons);
        phrases[0] = format!("{entries}, would have been {outcome}: {}", phrases[0]);
    }
    Speaking {
        phrases,
        policies: speakers.iter().map(|p| p.policy.as_str()).collect(),
        settings: settings.iter().map(|s| s.setting.as_str()).collect(),
    }
}

/// `whitelisted (whitelist[0])`, with a word where only a name was trusted.
fn entries(reasons: &[&Reason]) -> String {
    let entries: BTreeSet<String> = reasons
        .iter()
        .filter_map(|r| r.waived.as_ref())
        .map(|w| match w.by_name {
            true => format!("{} by name", w.entry),
            false => w.entry.to_string(),
        })
        .collect();
    let entries: Vec<String> = entries.into_iter().collect();
    format!("whitelisted ({})", shortened(&entries.join(", "), MAX_DETAIL))
}

/// One phrase for all findings of a class and severity, in the order in which the first of each
/// comes.
fn findings(reasons: &[&Reason]) -> Vec<String> {
    let (mut seen, mut keys) = (HashSet::new(), HashSet::new());
    let mut groups: Vec<Group<'_>> = Vec::new();
    for reason in reasons {
        let Subject::Finding(finding) = &reason.subject else {
            continue;
        };
        // Most of what several policies say twice is one value, and need not be compared.
        if !seen.insert(Arc::as_ptr(finding)) || !keys.insert(finding.key()) {
            continue;
        }
        let grace = reason.grace.as_ref().map(|grace| grace.until);
        let alike = |group: &&mut Group<'_>| {
            let first = group.first;
            (first.class, first.severity) == (finding.class, finding.severity)
                && (first.class != Class::Authorization || first.id == finding.id)
                && group.blocks_from.is_some() == grace.is_some()
        };
        match groups.iter_mut().find(alike) {
            Some(group) => {
                group.count += 1;
                group.fixable &= finding.is_fixable();
                group.blocks_from = group.blocks_from.min(grace);
            }
            None => groups.push(Group {
                first: finding,
                count: 1,
                fixable: finding.is_fixable(),
                blocks_from: grace,
            }),
        }
    }
    groups.iter().map(group_of).collect()
}

/// Findings that are told together.
struct Group<'a> {
    first: &'a Finding,
    count: usize,
    /// All of them are.
    fixable: bool,
    /// When the grace of the first of them ends.
    blocks_from: Option<Timestamp>,
}

fn group_of(group: &Group<'_>) -> String {
    let Group { first, count, fixable, blocks_from } = group;
    if first.class == Class::Authorization {
        return match &*first.id {
            UNAUTHORIZED_IMAGE => "the image is not among spec.authorized.images".to_owned(),
            NO_DIGEST => "not started by digest: name the image as name@sha256:...".to_owned(),
            other => shortened(&plain(other), MAX_DETAIL),
        };
    }
    let one = *count == 1;
    let noun = match first.class {
        Class::Vulnerability if one => "vulnerability",
        Class::Vulnerability => "vulnerabilities",
        Class::Malware if one => "malicious file",
        Class::Malware => "malicious files",
        Class::Baseline if one => "baseline issue",
        Class::Baseline => "baseline issues",
        Class::Secret if one => "secret",
        Class::Secret => "secrets",
        Class::Workload if one => "dangerous setting",
        Class::Workload => "dangerous settings",
        Class::Authorization => "authorization finding",
    };
    let severity = match first.severity {
        Severity::Unknown => String::new(),
        severity => format!("{severity} "),
    };
    let fix = if *fixable { " with a fix" } else { "" };
    let more = match count {
        1 => String::new(),
        n => format!(", +{}", n - 1),
    };
    let example = shortened(&plain(&first.to_string()), MAX_DETAIL);
    let grace = match blocks_from {
        Some(until) => format!(", blocks from {}", day(*until)),
        None => String::new(),
    };
    format!("{count} {severity}{noun}{fix} ({example}{more}){grace}")
}

fn conditions(reasons: &[&Reason]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    reasons
        .iter()
        .filter_map(|reason| match &reason.subject {
            Subject::Condition(text) => seen.insert(text).then(|| {
                format!(
                    "the condition of {} holds ({})",
                    reason.rule,
                    shortened(&plain(text), MAX_DETAIL)
                )
            }),
            Subject::Finding(_) | Subject::Failure(_) => None,
        })
        .collect()
}

/// Exceptions that would have made a difference, had they not ended.
fn expired(reasons: &[&Reason]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    reasons
        .iter()
        .filter_map(|reason| reason.expired.as_ref())
        .filter(|expired| seen.insert(&expired.entry))
        .map(|expired| {
            let owner = shortened(&plain(&expired.owner), MAX_DETAIL);
            format!("{} of {owner} ended on {}", expired.entry, expired.expires)
        })
        .collect()
}

fn failures(reasons: &[&Reason]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    reasons
        .iter()
        .filter_map(|reason| match &reason.subject {
            Subject::Failure(f) => seen.insert((f.cause, &f.detail)).then(|| failure(f)),
            Subject::Finding(_) | Subject::Condition(_) => None,
        })
        .collect()
}

/// What happened, and what to do.
fn failure(failure: &Failure) -> String {
    let (what, remedy) = match failure.cause {
        Cause::Unscanned if failure.detail.is_empty() || failure.detail == UNSCANNED => {
            return "not scanned: run portcullis import or scan the image".to_owned();
        }
        Cause::Unscanned => ("not scanned", "try again or run portcullis scan"),
        Cause::Stale => ("the scan is too old", "scan again and run portcullis import"),
        Cause::NoData => ("not fully scanned", "import a report that covers it"),
        Cause::StoreCorrupt => ("the stored verdict is damaged", "run portcullis import again"),
        Cause::StoreUnreadable => ("the verdict store cannot be read", "mend it on the node"),
        Cause::IdentityUnknown => {
            ("it is not known which image this is", "start it from an image that the engine holds")
        }
        Cause::IdentityClaimed => ("only a name says which image this is", "pull the image again"),
        Cause::Deadline => ("the gate's time was up", "try again or raise the deadline"),
        Cause::AuditUnavailable => ("the event could not be recorded", "mend journal or disk"),
        Cause::PolicyInvalid => ("the policy set cannot be used", "run portcullis policy apply"),
        Cause::Internal if failure.detail.contains(CONDITION) => (
            "a condition has no answer",
            "mend it, and ask with has() or in for what may be missing",
        ),
        Cause::Internal => ("portcullis failed", "report it with the event"),
    };
    let detail = shortened(&plain(&failure.detail), MAX_DETAIL);
    if detail.is_empty() {
        format!("{what}: {remedy}")
    } else {
        format!("{what} ({detail}): {remedy}")
    }
}

fn setting(answer: &SettingsAnswer) -> String {
    match answer.setting.parse::<Cause>() {
        Ok(cause) => failure(&Failure::new(cause, answer.detail.as_str())),
        Err(_) => shortened(&plain(&answer.detail), MAX_DETAIL),
    }
}
