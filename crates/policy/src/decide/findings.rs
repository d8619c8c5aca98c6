//! What a policy says of the findings: VEX, exceptions, rules, grace, whitelist, and `authorized`.

use std::sync::Arc;

use jiff::SignedDuration;
use portcullis_types::{
    Action, Class, Expired, Finding, Grace, GraceClock, Identity, Reason, Request, Severity,
    Subject, Timestamp, WaivedBy, Waiver,
};

use super::scope::selects_word;
use super::{Judged, Start};
use crate::cel::{Cost, Expression, Input};
use crate::compiled::Policy;
use crate::document::{Authorized, Exception, GracePeriod, Rule, Spec, WhitelistEntry};
use crate::index::{Asked, Candidate, IdHash};

/// Id of the finding that no pattern of `authorized.images` covers the image.
pub(crate) const UNAUTHORIZED_IMAGE: &str = "unauthorized-image";
/// Id of the finding that the start was not asked for by a digest that is proven.
pub(crate) const NO_DIGEST: &str = "no-digest";

/// What each policy says: a reason for each finding that some rule matches, since the others count
/// as allow; what of `authorized` is not met; and conditions that hold.
pub(super) fn said(policies: &[&Policy], start: &Start<'_>) -> Vec<Said> {
    let mut judges: Vec<(Judge<'_>, Vec<Reason>)> = policies
        .iter()
        .map(|policy| (Judge::new(policy, start), Vec::with_capacity(start.findings.len() + 4)))
        .collect();
    // Finding by finding, so that each is fetched from memory once for all policies.
    for judged in start.findings {
        for (judge, reasons) in &mut judges {
            reasons.extend(judge.reason(judged));
        }
    }
    let finish = |(mut judge, mut reasons): (Judge<'_>, Vec<Reason>)| {
        if let Some(authorized) = &judge.policy.spec().authorized {
            reasons.extend(unmet(authorized, start));
        }
        reasons.extend(judge.conditions());
        Said { reasons, errors: judge.errors }
    };
    judges.into_iter().map(finish).collect()
}

/// What a policy says of the findings and of the start as a whole.
pub(super) struct Said {
    pub(super) reasons: Vec<Reason>,
    /// Conditions that could not be evaluated.
    pub(super) errors: Vec<String>,
}

/// Between the rule and the policy in what is said of a condition without an answer.
pub(crate) const CONDITION: &str = ".when of policy ";

/// Most evaluation errors of one policy that are told.
const MAX_ERRORS: usize = 8;

/// Whether this finding comes from `authorized` and not from a scanner.
pub(super) fn is_authorization(finding: &Finding) -> bool {
    finding.class == Class::Authorization
}

/// A rule that matches, and what it comes to at this time.
#[derive(Clone, Copy)]
struct Matched {
    rule: usize,
    action: Action,
    grace: Option<Grace>,
}

impl Matched {
    /// What decides which of several rules speaks: the stricter by its effect, then by its word,
    /// then the first.
    fn weight(&self) -> (Action, Action, std::cmp::Reverse<usize>) {
        let effect =
            if self.grace.is_some() { self.action.min(Action::Alarm) } else { self.action };
        (effect, self.action, std::cmp::Reverse(self.rule))
    }
}

/// One policy's judgement of findings. What does not depend on the finding is looked up once.
struct Judge<'a> {
    policy: &'a Policy,
    start: &'a Start<'a>,
    /// Exceptions that are about this image and namespace, with the hash of their ids.
    exceptions: Vec<(IdHash, usize, &'a Exception)>,
    /// The whitelist's answer for each class.
    whitelist: Vec<Option<Waiver>>,
    input: Input<'a>,
    /// Of this policy alone, so that no policy can use up what another needs.
    cost: Cost,
    errors: Vec<String>,
}

impl<'a> Judge<'a> {
    fn new(policy: &'a Policy, start: &'a Start<'a>) -> Self {
        let spec = policy.spec();
        let exceptions = spec
            .exceptions
            .iter()
            .enumerate()
            .filter(|(_, exception)| is_about(exception, start.identity, start.request))
            .map(|(index, exception)| (IdHash::of(&exception.id), index, exception))
            .collect();
        let whitelist =
            Class::ALL.iter().map(|class| whitelisted(policy, *class, start.identity)).collect();
        let input =
            Input::new(start.identity, start.evidence.image.as_ref(), start.request, start.now);
        Self {
            policy,
            start,
            exceptions,
            whitelist,
            input,
            cost: Cost::of_start(),
            errors: Vec::new(),
        }
    }

    /// A reason for each condition that holds of the start as a whole.
    fn conditions(&mut self) -> Vec<Reason> {
        let index = self.policy.index();
        let mut holding = Vec::new();
        for number in index.about_start() {
            let number = *number as usize;
            let rule = &self.policy.spec().rules[number];
            if let Some(condition) = &rule.when
                && self.holds(number, condition, None)
            {
                let subject = Subject::Condition(condition.as_str().into());
                holding.push(Reason::new(subject, index.rule_name(number), rule.action));
            }
        }
        holding
    }

    /// Whether a condition holds; one that cannot be evaluated does not, and is an error.
    fn holds(&mut self, rule: usize, condition: &Expression, finding: Option<&'a Finding>) -> bool {
        self.input.finding = finding;
        match condition.evaluate(&self.input, &mut self.cost) {
            Ok(holds) => holds,
            Err(error) => {
                let error = format!("rules[{rule}]{CONDITION}{}: {error}", self.policy.name());
                if self.errors.len() < MAX_ERRORS && !self.errors.contains(&error) {
                    self.errors.push(error);
                }
                false
            }
        }
    }

    /// The reason that this finding gives, if any rule matches it.
    fn reason(&mut self, judged: &'a Judged) -> Option<Reason> {
        let finding = &judged.finding;
        let matched = self.strictest(judged)?;
        let (exception, expired) = self.exception(judged);
        let waived = judged
            .vex
            .clone()
            .or(exception)
            .or_else(|| self.whitelist[finding.class as usize].clone());
        Some(Reason {
            subject: Subject::Finding(Arc::clone(finding)),
            rule: self.policy.index().rule_name(matched.rule),
            action: matched.action,
            grace: matched.grace.map(Box::new),
            expired: if waived.is_none() { expired } else { None },
            waived,
        })
    }

    fn strictest(&mut self, judged: &'a Judged) -> Option<Matched> {
        let policy = self.policy;
        let index = policy.index();
        let finding = &judged.finding;
        let mut best: Option<Matched> = None;
        for candidate in index.open(finding.class, finding.severity) {
            if best.is_some_and(|b| b.weight().0 > candidate.action) {
                break;
            }
            if candidate.unmet(&judged.asked).is_none()
                && self.speaks(candidate.rule as usize, finding, &mut best)
            {
                break;
            }
        }
        if index.names_ids() {
            for id in self.start.ids(judged) {
                self.try_rules(index.naming(*id), finding, &mut best);
            }
        }
        best
    }

    /// Tries rules that may name the finding, the strictest first, until none can be stricter.
    fn try_rules(&mut self, rules: &[u32], finding: &'a Finding, best: &mut Option<Matched>) {
        for number in rules {
            let number = *number as usize;
            let policy = self.policy;
            let rule = &policy.spec().rules[number];
            let is_beaten = best.is_some_and(|b| b.weight().0 > rule.action);
            let matches = || unmet_field(rule, finding).is_none();
            if is_beaten || (matches() && self.speaks(number, finding, best)) {
                return;
            }
        }
    }

    /// A rule whose fields match: if its condition holds too, it may be the strictest. Returns
    /// whether no rule behind it, in the order of their actions, can be stricter.
    fn speaks(&mut self, number: usize, finding: &'a Finding, best: &mut Option<Matched>) -> bool {
        let policy = self.policy;
        let rule = &policy.spec().rules[number];
        if rule.when.as_ref().is_some_and(|when| !self.holds(number, when, Some(finding))) {
            return false;
        }
        let grace = rule.grace.as_ref().filter(|_| rule.action == Action::Block);
        let grace = grace.and_then(|period| grace_of(period, finding, self.start.now));
        let matched = Matched { rule: number, action: rule.action, grace };
        if best.is_none_or(|b| matched.weight() > b.weight()) {
            *best = Some(matched);
        }
        grace.is_none()
    }

    /// The exception that takes the finding out of the count; one without a name that can be moved
    /// if there is one. If there is none, one that would, had it not expired.
    fn exception(&self, judged: &Judged) -> (Option<Waiver>, Option<Box<Expired>>) {
        let mut waiver: Option<Waiver> = None;
        let mut expired = None;
        for (id, index, exception) in &self.exceptions {
            if !self.start.ids(judged).contains(id) || !names(exception, &judged.finding) {
                continue;
            }
            let entry = || self.policy.index().exception_name(*index);
            if exception.has_expired(self.start.now) {
                expired.get_or_insert_with(|| {
                    Box::new(Expired {
                        entry: entry(),
                        expires: exception.expires.to_string().into(),
                        owner: exception.owner.as_str().into(),
                    })
                });
                continue;
            }
            let by_name = exception.image.as_ref().is_some_and(|image| image.digest().is_none());
            if waiver.as_ref().is_none_or(|w| w.by_name && !by_name) {
                waiver = Some(Waiver { by: WaivedBy::Exception, entry: entry(), by_name });
            }
        }
        (waiver, expired)
    }
}

/// The first field of the rule that the finding does not meet; none if the rule matches, `when`
/// aside. Class and severity are looked at too, since an id alone may have led here.
pub(crate) fn unmet_field(rule: &Rule, finding: &Finding) -> Option<&'static str> {
    if rule.class != Some(finding.class) {
        Some("class")
    } else if !rule.severity.is_empty() && !rule.severity.contains(&finding.severity) {
        Some("severity")
    } else if !rule.ids.is_empty() && !rule.ids.iter().any(|id| finding.is_called(id)) {
        Some("ids")
    } else {
        Candidate::new(0, rule).unmet(&Asked::of(finding))
    }
}

/// The grace that lasts at this time, if one does.
fn grace_of(period: &GracePeriod, finding: &Finding, now: Timestamp) -> Option<Grace> {
    if finding.kev {
        return None;
    }
    let date = |clock: GraceClock| {
        let date = match clock {
            GraceClock::Published => finding.published,
            GraceClock::Fixed => finding.fixed,
            GraceClock::FirstSeen => finding.first_seen,
        };
        // A date that has not come starts no grace: it would never end.
        date.filter(|date| *date <= now).map(|date| (clock, date))
    };
    let (clock, since) = date(period.from).or_else(|| period.fallback.and_then(date))?;
    let seconds = i64::try_from(period.period.as_seconds()).unwrap_or(i64::MAX);
    let until = since.saturating_add(SignedDuration::from_secs(seconds)).ok()?;
    (now < until).then_some(Grace { clock, since, until })
}

/// Whether an exception is about this image in this namespace. What cannot be told is not.
fn is_about(exception: &Exception, identity: &Identity, request: &Request) -> bool {
    let open = !request.pod_known && request.namespace.is_empty();
    exception.image.as_ref().is_none_or(|image| image.covers(identity))
        && exception
            .namespaces
            .as_ref()
            .is_none_or(|names| !open && selects_word(names, &request.namespace))
}

/// Whether an exception names this finding. Malware is named by the file's hash alone.
fn names(exception: &Exception, finding: &Finding) -> bool {
    let same = |named: &Option<String>, found: &Option<Arc<str>>| match (named, found) {
        (None, _) => true,
        (Some(named), Some(found)) => **named == **found,
        (Some(_), None) => false,
    };
    let by_hash = exception.sha256.is_some();
    finding.is_called(&exception.id)
        && finding.class != Class::Authorization
        && (finding.class != Class::Malware || by_hash)
        && same(&exception.package, &finding.package)
        && same(&exception.sha256, &finding.sha256)
}

/// The entry that takes findings of this class out of the count; one with a digest if there is
/// one, since a name can be moved.
fn whitelisted(policy: &Policy, class: Class, identity: &Identity) -> Option<Waiver> {
    let Spec { whitelist, .. } = policy.spec();
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
            entry: policy.index().whitelist_name(index),
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
    if digest {
        unmet.push(reason(NO_DIGEST, "the start was not asked for by a digest of this image"));
    }
    if image {
        unmet.push(reason(UNAUTHORIZED_IMAGE, "no pattern of authorized.images covers this image"));
    }
    unmet
}
