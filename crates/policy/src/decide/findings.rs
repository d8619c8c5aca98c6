//! What a policy says of the findings: `authorized`, rules, and the whitelist.

use std::sync::Arc;

use portcullis_types::{
    Action, Class, Finding, Identity, Reason, Severity, Subject, WaivedBy, Waiver,
};

use super::Start;
use crate::document::{Authorized, Rule, Spec, WhitelistEntry};

/// Id of the finding that no pattern of `authorized.images` covers the image.
pub(crate) const UNAUTHORIZED_IMAGE: &str = "unauthorized-image";
/// Id of the finding that the start was not asked for by a digest that is proven.
pub(crate) const NO_DIGEST: &str = "no-digest";

/// A reason for each finding that some rule matches; the others count as allow.
pub(super) fn reasons(spec: &Spec, start: &Start<'_>) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = start
        .findings
        .iter()
        .filter_map(|finding| {
            let (index, rule) = strictest(&spec.rules, finding)?;
            Some(Reason {
                waived: waiver(&spec.whitelist, finding.class, start.identity),
                ..Reason::new(
                    Subject::Finding(Arc::clone(finding)),
                    format!("rules[{index}]"),
                    rule.action,
                )
            })
        })
        .collect();
    if let Some(authorized) = &spec.authorized {
        reasons.extend(unmet(authorized, start));
    }
    reasons
}

/// Whether this finding comes from `authorized` and not from a scanner.
pub(super) fn is_authorization(finding: &Finding) -> bool {
    finding.class == Class::Authorization
}

/// Of the rules that match, the one with the strictest action; of equals the first.
fn strictest<'a>(rules: &'a [Rule], finding: &Finding) -> Option<(usize, &'a Rule)> {
    rules
        .iter()
        .enumerate()
        .filter(|(_, rule)| matches(rule, finding))
        .reduce(|best, next| if next.1.action > best.1.action { next } else { best })
}

fn matches(rule: &Rule, finding: &Finding) -> bool {
    let Rule { class, severity, ids, fixable, cvss, epss, kev, action: _ } = rule;
    let reaches = |threshold: &Option<f32>, value: Option<f32>| {
        threshold.is_none_or(|least| value.is_some_and(|v| v >= least))
    };
    *class == finding.class
        && (severity.is_empty() || severity.contains(&finding.severity))
        && (ids.is_empty() || ids.iter().any(|id| id.eq_ignore_ascii_case(&finding.id)))
        && fixable.is_none_or(|wanted| wanted == finding.is_fixable())
        && reaches(cvss, finding.cvss)
        && reaches(epss, finding.epss)
        && kev.is_none_or(|wanted| wanted == finding.kev)
}

/// The entry that takes a finding of this class out of the count; one with a digest if there is
/// one, since a name can be moved.
fn waiver(whitelist: &[WhitelistEntry], class: Class, identity: &Identity) -> Option<Waiver> {
    let waives = |entry: &WhitelistEntry| match class {
        Class::Vulnerability | Class::Baseline | Class::Secret => true,
        Class::Malware => entry.malware,
        Class::Workload => entry.workload,
        Class::Authorization => false,
    };
    whitelist
        .iter()
        .enumerate()
        .filter(|(_, entry)| waives(entry) && entry.image.covers(identity))
        .map(|(index, entry)| Waiver {
            by: WaivedBy::Whitelist,
            entry: format!("whitelist[{index}]").into(),
            by_name: entry.image.digest().is_none(),
        })
        .min_by_key(|waiver| waiver.by_name)
}

/// What of `authorized` is not met. An identity that is not bound meets none of it.
fn unmet(authorized: &Authorized, start: &Start<'_>) -> Vec<Reason> {
    let identity = start.identity;
    let image = !authorized.images.is_empty()
        && !authorized.images.iter().any(|pattern| pattern.covers(identity));
    let asked_by_digest = identity.names.iter().any(|name| {
        name.asked && name.reference.digest().is_some_and(|digest| identity.proves(digest))
    });
    let digest = authorized.require_digest && !asked_by_digest;
    // That the identity of a sandbox cannot be told is a failure, and no failure may keep a node's
    // pods from starting; the finding stands, as an alarm.
    let action = if start.is_sandbox() && !identity.is_bound() {
        authorized.action.min(Action::Alarm)
    } else {
        authorized.action
    };
    let reason = |id: &str, title: &str| {
        let finding = Finding {
            title: Some(title.into()),
            ..Finding::new(Class::Authorization, id, Severity::High, "portcullis")
        };
        Reason::new(Subject::Finding(Arc::new(finding)), "authorized", action)
    };
    let mut unmet = Vec::new();
    if image {
        unmet.push(reason(UNAUTHORIZED_IMAGE, "no pattern of authorized.images covers this image"));
    }
    if digest {
        unmet.push(reason(NO_DIGEST, "the start was not asked for by a digest of this image"));
    }
    unmet
}
