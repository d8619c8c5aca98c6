//! The decision: pure, total, and the same for every door.
//!
//! For each policy in scope every finding and every failure cause gets an action; the strictest is
//! the policy's answer; a policy that observes turns its own `block` into `alarm`. The strictest
//! answer of all, with what the node's settings add, is the decision.

mod causes;
mod findings;
mod scope;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use portcullis_types::{
    Action, Cause, Class, Decision, Digest, Evidence, Failure, Finding, Identity, Kind,
    PolicyAnswer, Reason, Request, SettingsAnswer, Subject, Timestamp, Verdict, WaivedBy, Waiver,
    Workload,
};

use crate::compiled::Policy;
use crate::index::{Asked, IdHash};
use crate::{PolicySet, VexIndex, VexJudgement};

pub use causes::is_unscanned;
pub(crate) use causes::{UNSCANNED, day};
pub(crate) use findings::{CONDITION, NO_DIGEST, UNAUTHORIZED_IMAGE, unmet_field};
pub(crate) use scope::in_scope;

/// What decides on this node.
#[derive(Debug, Clone, Copy)]
pub struct InForce<'a> {
    /// The published set; `None` if there is none, or none that can be used.
    pub set: Option<&'a PolicySet>,
    /// What the node's settings say.
    pub defaults: &'a Defaults,
}

/// What the node's settings answer where no policy does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// No policy is in scope.
    pub default_action: Action,
    /// The published set cannot be used.
    pub policy_invalid: Action,
    /// A bug or an evaluation error.
    pub internal: Action,
    /// Sandbox images that are allowed outright: configs, manifests or indexes.
    pub sandbox_images: BTreeSet<Digest>,
}

impl Default for Defaults {
    /// As shipped: blocks nothing, shows everything.
    fn default() -> Self {
        Self {
            default_action: Action::Alarm,
            policy_invalid: Action::Alarm,
            internal: Action::Alarm,
            sandbox_images: BTreeSet::new(),
        }
    }
}

/// What all policies look at.
struct Start<'a> {
    request: &'a Request,
    identity: &'a Identity,
    evidence: &'a Evidence,
    now: Timestamp,
    /// About the image, from all scanners, each once, and about this start.
    findings: &'a [Judged],
    /// The hashes of their ids.
    ids: &'a [IdHash],
    /// That came to pass whatever a policy says.
    failures: &'a [Failure],
}

/// A finding with what does not depend on a policy.
struct Judged {
    finding: Arc<Finding>,
    asked: Asked,
    /// Its ids among those of the start.
    ids: Range<usize>,
    /// The VEX statement that takes it out of the count.
    vex: Option<Waiver>,
}

/// The findings of a start, and the hashes of all their ids, one after the other.
fn judged(
    evidence: &Evidence,
    vex: Option<&VexIndex>,
    identity: &Identity,
) -> (Vec<Judged>, Vec<IdHash>) {
    let findings = findings_of(evidence);
    let mut ids = Vec::with_capacity(2 * findings.len());
    let judged = findings.into_iter().map(|finding| {
        let first = ids.len();
        ids.push(IdHash::of(&finding.id));
        ids.extend(finding.aliases.iter().map(|id| IdHash::of(id)));
        let statement = vex.and_then(|index| index.judge(&finding, identity));
        Judged {
            asked: Asked::of(&finding),
            ids: first..ids.len(),
            vex: statement.filter(VexJudgement::suppresses).map(|judgement| Waiver {
                by: WaivedBy::Vex,
                entry: judgement.statement.source.clone(),
                by_name: judgement.is_by_name(),
            }),
            finding,
        }
    });
    (judged.collect(), ids)
}

impl Start<'_> {
    /// The hashes of a finding's ids.
    fn ids(&self, judged: &Judged) -> &[IdHash] {
        &self.ids[judged.ids.clone()]
    }

    fn is_sandbox(&self) -> bool {
        self.request.kind == Kind::Sandbox
    }
}

/// Allow, alarm or block. The same input gives the same answer, wherever it is asked.
pub fn decide(
    in_force: &InForce<'_>,
    request: &Request,
    identity: &Identity,
    evidence: &Evidence,
    now: Timestamp,
) -> Decision {
    let vex = in_force.set.map(PolicySet::vex);
    let (findings, ids) = judged(evidence, vex, identity);
    let is_setting = |judged: &&Judged| judged.finding.class == Class::Workload;
    let of_start = findings.iter().filter(is_setting).count();
    let policy_set = in_force.set.map(|set| set.digest().clone());
    if let Some(answer) = sandbox_image(in_force.defaults, request, identity) {
        return Decision {
            action: answer.action,
            policy_set,
            policies: Vec::new(),
            settings: vec![answer],
            findings: findings.len(),
            settings_of_start: of_start,
        };
    }
    let failures = causes::of_every_policy(identity, evidence);
    let start = Start {
        request,
        identity,
        evidence,
        now,
        findings: &findings,
        ids: &ids,
        failures: &failures,
    };
    let policies: Vec<&Policy> = in_force
        .set
        .into_iter()
        .flat_map(PolicySet::ready)
        .filter(|policy| in_scope(&policy.spec().scope, request, identity))
        .collect();
    let said = findings::said(&policies, &start);
    let (policies, errors): (Vec<PolicyAnswer>, Vec<Vec<SettingsAnswer>>) = policies
        .into_iter()
        .zip(said)
        .map(|(policy, said)| answer(policy, said, &start, in_force.defaults))
        .unzip();
    let mut settings = settings_answers(in_force, &start, policies.is_empty());
    settings.extend(errors.into_iter().flatten());
    let action = policies
        .iter()
        .map(|p| p.action)
        .chain(settings.iter().map(|s| s.action))
        .max()
        .unwrap_or(Action::Allow);
    let authorization: BTreeSet<&str> = policies
        .iter()
        .flat_map(|p| &p.reasons)
        .filter_map(|reason| match &reason.subject {
            Subject::Finding(finding) if findings::is_authorization(finding) => Some(&*finding.id),
            _ => None,
        })
        .collect();
    let findings = findings.len() + authorization.len();
    Decision { action, policy_set, policies, settings, findings, settings_of_start: of_start }
}

/// All findings about the image, and the dangerous settings of the start.
pub(crate) fn findings_of(evidence: &Evidence) -> Vec<Arc<Finding>> {
    let mut findings = Verdict::merged(evidence.verdicts());
    if let Workload::Read(settings) = &evidence.workload {
        findings.extend(settings.iter().cloned());
    }
    findings
}

fn sandbox_image(
    defaults: &Defaults,
    request: &Request,
    identity: &Identity,
) -> Option<SettingsAnswer> {
    let listed = defaults.sandbox_images.iter().find(|digest| identity.proves(digest))?;
    (request.kind == Kind::Sandbox).then(|| SettingsAnswer {
        setting: "sandboxImages".to_owned(),
        action: Action::Allow,
        detail: format!("{listed} is a sandbox image of the settings"),
    })
}

/// The policy's answer, and what the settings answer for conditions that cannot be evaluated.
fn answer(
    policy: &Policy,
    said: findings::Said,
    start: &Start<'_>,
    defaults: &Defaults,
) -> (PolicyAnswer, Vec<SettingsAnswer>) {
    let findings::Said { mut reasons, errors } = said;
    reasons.extend(causes::reasons(policy.spec(), start));
    reasons.sort_by_cached_key(order);
    let unwaived = reasons.iter().map(Reason::without_whitelist).max().unwrap_or(Action::Allow);
    let enforced = reasons.iter().map(Reason::effective).max().unwrap_or(Action::Allow);
    let observing = policy.spec().observes(start.now);
    // A policy that observes never blocks, not even by what it gets wrong.
    let at_most = if observing { Action::Alarm } else { Action::Block };
    let answer = PolicyAnswer {
        policy: policy.name().to_owned(),
        observing,
        action: enforced.min(at_most),
        enforced,
        unwaived,
        reasons,
    };
    let internal = |detail| SettingsAnswer {
        setting: Cause::Internal.as_str().to_owned(),
        action: causes::capped(defaults.internal, start).min(at_most),
        detail,
    };
    (answer, errors.into_iter().map(internal).collect())
}

/// The strictest first; among equals what is exploited before what is severe, findings before
/// conditions and causes. Each kind comes in an order of its own, and the sort is stable.
fn order(reason: &Reason) -> [u8; 5] {
    let about = match &reason.subject {
        Subject::Finding(f) => [0, u8::from(!f.kev), f.severity as u8],
        Subject::Condition(_) => [1, 0, 0],
        Subject::Failure(_) => [2, 0, 0],
    };
    let strict = |action: Action| Action::Block as u8 - action as u8;
    [strict(reason.effective()), strict(reason.action), about[0], about[1], about[2]]
}

/// What the node's settings answer for: a set that cannot be used, a bug, and a start that no
/// policy is about.
fn settings_answers(
    in_force: &InForce<'_>,
    start: &Start<'_>,
    nothing_in_scope: bool,
) -> Vec<SettingsAnswer> {
    let defaults = in_force.defaults;
    let failed = |cause: Cause, action: Action| {
        start.failures.iter().filter(move |f| f.cause == cause).map(move |f| SettingsAnswer {
            setting: cause.as_str().to_owned(),
            action: causes::capped(action, start),
            detail: f.detail.clone(),
        })
    };
    let mut answers: Vec<SettingsAnswer> = failed(Cause::PolicyInvalid, defaults.policy_invalid)
        .chain(failed(Cause::Internal, defaults.internal))
        .collect();
    let set_is_invalid = in_force.set.is_none()
        && answers.iter().any(|a| a.setting == Cause::PolicyInvalid.as_str());
    if nothing_in_scope && !set_is_invalid {
        let mut detail = match in_force.set {
            Some(_) => "no policy is in scope".to_owned(),
            None => "no policy set is published: enabled, not configured".to_owned(),
        };
        // No policy maps these causes, yet the event must show them.
        for failure in start.failures {
            if !matches!(failure.cause, Cause::PolicyInvalid | Cause::Internal) {
                detail.push_str(&format!("; {}: {}", failure.cause, failure.detail));
            }
        }
        answers.push(SettingsAnswer {
            setting: "defaultAction".to_owned(),
            action: defaults.default_action,
            detail,
        });
    }
    answers
}
