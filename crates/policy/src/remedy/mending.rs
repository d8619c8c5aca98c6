//! What mends an image, a start or a node that a decision blocks.
//!
//! Each thing that can be mended has one remedy, so there is nothing to choose: all of them are
//! needed, and no fewer will do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portcullis_types::{
    Action, Cause, Class, Decision, Finding, FindingKey, Lookup, PolicyAnswer, Reason, Subject,
    Surety, Text, Workload,
};

use super::change::{Mend, Repair};
use super::version::{alternatives, target};
use super::world::World;
use crate::decide::{NO_DIGEST, UNAUTHORIZED_IMAGE};
use crate::document::Spec;

/// The reasons for which a policy blocks; none if it does not.
pub(super) fn blocking(answer: &PolicyAnswer) -> impl Iterator<Item = &Reason> {
    let blocks = answer.action == Action::Block;
    answer.reasons.iter().filter(move |r| blocks && r.effective() == Action::Block)
}

/// What must be repaired before findings are worth a look. What proves an identity comes alone:
/// then other policies may be meant.
pub(super) fn repairs(world: &World<'_>, decision: &Decision) -> Vec<Mend> {
    let specs: BTreeMap<&str, &Spec> = world.specs().into_iter().collect();
    let mut needs = Needs::default();
    let mut unproven = false;
    for answer in &decision.policies {
        let spec = specs.get(&*answer.policy).copied();
        for reason in blocking(answer) {
            match &reason.subject {
                Subject::Failure(failure) => {
                    for repair in repairs_of(world, spec, failure.cause) {
                        needs.add(repair, failure.cause, &failure.detail);
                    }
                }
                Subject::Finding(finding) => {
                    unproven |= finding.class == Class::Authorization;
                }
                Subject::Condition(_) => {}
            }
        }
    }
    for answer in decision.settings.iter().filter(|s| s.action == Action::Block) {
        if let Ok(cause) = answer.setting.parse::<Cause>() {
            for repair in repairs_of(world, None, cause) {
                needs.add(repair, cause, &answer.detail);
            }
        }
    }
    if unproven && let Some((repair, cause)) = proof(world) {
        needs.add(repair, cause, "nothing authorizes what is not proven");
    }
    needs.mends()
}

/// What may help though no cause asks for it: to prove which image it is, since other policies and
/// entries may be about it then.
pub(super) fn proving(world: &World<'_>) -> Vec<Mend> {
    let mut needs = vec![Needs::default()];
    let Some((repair, cause)) = proof(world) else {
        return Vec::new();
    };
    let detail = "other rules may hold for it then";
    needs[0].add(repair, cause, detail);
    if world.evidence().failures.iter().any(|f| f.cause == Cause::Deadline) {
        let mut again = Needs::default();
        again.add(Repair::TryAgain, Cause::Deadline, detail);
        needs.push(again);
    }
    needs.into_iter().flat_map(Needs::mends).collect()
}

/// How an identity that is not bound gets so, and the cause that ends.
fn proof(world: &World<'_>) -> Option<(Repair, Cause)> {
    match world.identity().surety {
        Surety::Bound => None,
        Surety::Claimed => Some((Repair::PullAgain, Cause::IdentityClaimed)),
        Surety::Unknown => Some((Repair::UseHeldImage, Cause::IdentityUnknown)),
    }
}

/// What to do, with the causes that end by it and the detail of the first.
#[derive(Default)]
struct Needs(BTreeMap<Repair, (BTreeSet<Cause>, String)>);

impl Needs {
    fn add(&mut self, repair: Repair, cause: Cause, detail: &str) {
        let new = || (BTreeSet::new(), detail.to_owned());
        self.0.entry(repair).or_insert_with(new).0.insert(cause);
    }

    fn mends(mut self) -> Vec<Mend> {
        // Whoever starts from an image that is held needs no second proof.
        if self.0.contains_key(&Repair::UseHeldImage)
            && let Some((pulled, detail)) = self.0.remove(&Repair::PullAgain)
        {
            self.0
                .entry(Repair::UseHeldImage)
                .or_insert((BTreeSet::new(), detail))
                .0
                .extend(pulled);
        }
        let proving = [Repair::PullAgain, Repair::UseHeldImage, Repair::TryAgain];
        let first = proving.into_iter().find(|repair| self.0.contains_key(repair));
        self.0
            .into_iter()
            .filter(|(repair, _)| first.is_none_or(|first| *repair == first))
            .map(|(repair, (causes, detail))| Mend::Repair { repair, causes, detail })
            .collect()
    }
}

fn repairs_of(world: &World<'_>, spec: Option<&Spec>, cause: Cause) -> Vec<Repair> {
    vec![match cause {
        Cause::Unscanned | Cause::Stale | Cause::StoreCorrupt => Repair::Import,
        Cause::NoData => return repairs_of_no_data(world, spec),
        Cause::StoreUnreadable => Repair::MendStore,
        Cause::IdentityUnknown => Repair::UseHeldImage,
        Cause::IdentityClaimed => Repair::PullAgain,
        Cause::Deadline => Repair::TryAgain,
        Cause::AuditUnavailable => Repair::MendRecord,
        Cause::PolicyInvalid => Repair::ApplyPolicies,
        Cause::Internal => Repair::ReportBug,
    }]
}

/// What a report cannot bring; if there is nothing of that, a report.
fn repairs_of_no_data(world: &World<'_>, spec: Option<&Spec>) -> Vec<Repair> {
    let asks = |class| spec.is_some_and(|s| s.rules.iter().any(|r| r.class == Some(class)));
    let evidence = world.evidence();
    let mut repairs = Vec::new();
    if matches!(evidence.workload, Workload::NotRead(_)) && asks(Class::Workload) {
        repairs.push(Repair::ShowSettings);
    }
    let ended = evidence
        .verdicts()
        .iter()
        .flat_map(|v| &v.reports)
        .any(|r| r.coverage.end_of_life && r.coverage.classes.contains(&Class::Vulnerability));
    if ended && asks(Class::Vulnerability) {
        repairs.push(Repair::Rebase);
    }
    if repairs.is_empty() && matches!(evidence.lookup, Lookup::Read(_)) {
        repairs.push(Repair::Import);
    }
    repairs
}

/// Where a package or a file is.
type Place<'a> = (Option<&'a str>, Option<&'a str>, Option<&'a str>);

fn place(finding: &Finding) -> Place<'_> {
    (finding.package.as_deref(), finding.version.as_deref(), finding.path.as_deref())
}

/// What mends the findings that block, as far as they can be mended.
pub(super) fn mends(decision: &Decision) -> Vec<Mend> {
    let mut findings: BTreeMap<FindingKey<'_>, &Arc<Finding>> = BTreeMap::new();
    let (mut by_image, mut by_digest) = (Vec::new(), Vec::new());
    for answer in &decision.policies {
        for reason in blocking(answer) {
            if let Subject::Finding(finding) = &reason.subject {
                match &*finding.id {
                    _ if finding.class != Class::Authorization => {
                        findings.insert(finding.key(), finding);
                    }
                    UNAUTHORIZED_IMAGE => by_image.push(answer.policy.clone()),
                    NO_DIGEST => by_digest.push(answer.policy.clone()),
                    _ => {}
                }
            }
        }
    }
    let mut packages: BTreeMap<Place<'_>, Vec<Arc<Finding>>> = BTreeMap::new();
    let mut files: BTreeMap<Place<'_>, Vec<Arc<Finding>>> = BTreeMap::new();
    let mut mends = Vec::new();
    for finding in findings.into_values() {
        let shared = Arc::clone(finding);
        match finding.class {
            Class::Vulnerability if has_update(finding) => {
                packages.entry(place(finding)).or_default().push(shared);
            }
            Class::Malware => files.entry(place(finding)).or_default().push(shared),
            Class::Baseline | Class::Secret => mends.push(Mend::Rebuild { finding: shared }),
            Class::Workload => mends.push(Mend::StartWithout { finding: shared }),
            Class::Vulnerability | Class::Authorization => {}
        }
    }
    if !by_image.is_empty() {
        mends.push(Mend::UseAuthorizedImage { policies: by_image });
    }
    if !by_digest.is_empty() {
        mends.push(Mend::StartByDigest { policies: by_digest });
    }
    mends.extend(
        files.into_iter().map(|((_, _, path), findings)| Mend::RemoveFile {
            path: path.map(Into::into),
            findings,
        }),
    );
    mends.extend(packages.into_values().filter_map(update));
    mends
}

/// Whether an update of a package mends it.
pub(super) fn has_update(finding: &Finding) -> bool {
    finding.class == Class::Vulnerability
        && finding.package.is_some()
        && finding.fixed_version.as_ref().is_some_and(|fix| alternatives(fix).next().is_some())
}

/// The update that mends all these findings of one package.
fn update(findings: Vec<Arc<Finding>>) -> Option<Mend> {
    let first = Arc::clone(findings.first()?);
    let fixes = findings.iter().filter_map(|f| f.fixed_version.as_deref()).collect();
    let target = target(first.version.as_deref(), &fixes)?.to_owned();
    let package: Text = first.package.clone()?;
    let (version, path) = (first.version.clone(), first.path.clone());
    Some(Mend::Update { package, version, target, path, findings })
}
