//! A start as it would be after some changes.

use std::collections::{BTreeSet, HashSet};

use jiff::ToSpan as _;
use jiff::civil::Date;
use jiff::tz::Offset;
use portcullis_types::{
    Action, Binding, Cause, Class, Coverage, Decision, Digest, Evidence, Finding, FindingKey,
    Identity, ImageFacts, Lookup, Name, Request, ScanReport, Scanner, Surety, Timestamp, Verdict,
    Workload,
};

use super::{Change, Mend, Relax, Repair};
use crate::document::{Authorized, Exception, ProtectionPolicy, Spec, WhitelistEntry};
use crate::{Defaults, Fault, InForce, PolicySet, decide};

/// How long a proposed exception lasts, in days.
const EXCEPTION_DAYS: i64 = 30;

/// Everything that a decision is made from, to be changed and asked again.
#[derive(Debug, Clone)]
pub struct World<'a> {
    in_force: InForce<'a>,
    defaults: Defaults,
    /// `None` while they are as published.
    policies: Option<Vec<ProtectionPolicy>>,
    request: &'a Request,
    identity: Identity,
    evidence: Evidence,
    now: Timestamp,
}

impl<'a> World<'a> {
    /// The start as it is.
    pub fn new(
        in_force: &InForce<'a>,
        request: &'a Request,
        identity: &Identity,
        evidence: &Evidence,
        now: Timestamp,
    ) -> Self {
        Self {
            in_force: *in_force,
            defaults: in_force.defaults.clone(),
            policies: None,
            request,
            identity: identity.clone(),
            evidence: evidence.clone(),
            now,
        }
    }

    /// The decision on it. Fails if a change does not fit into its policy.
    pub fn decide(&self) -> Result<Decision, Vec<Fault>> {
        let compiled = self.policies.clone().map(PolicySet::compile).transpose()?;
        let mut in_force = InForce { defaults: &self.defaults, ..self.in_force };
        if let Some(set) = &compiled {
            in_force.set = Some(set);
        }
        Ok(decide(&in_force, self.request, &self.identity, &self.evidence, self.now))
    }

    pub(super) fn request(&self) -> &Request {
        self.request
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(super) fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    pub(super) fn specs(&self) -> Vec<(&str, &Spec)> {
        let pair = |p: &'a ProtectionPolicy| (p.metadata.name.as_str(), &p.spec);
        match &self.policies {
            Some(policies) => {
                policies.iter().map(|p| (p.metadata.name.as_str(), &p.spec)).collect()
            }
            None => self.in_force.set.into_iter().flat_map(PolicySet::policies).map(pair).collect(),
        }
    }

    /// Makes these changes, in any order.
    pub fn apply<'c>(&mut self, changes: impl IntoIterator<Item = &'c Change> + Clone) {
        // What may prove an identity comes first, since an image is not authorized without one.
        for change in changes.clone() {
            if let Change::Mend(Mend::Repair { repair, .. }) = change {
                self.repair(*repair);
            }
        }
        let mut mended: HashSet<FindingKey<'_>> = HashSet::new();
        for change in changes {
            match change {
                Change::Mend(Mend::Update { findings, .. } | Mend::RemoveFile { findings, .. }) => {
                    mended.extend(findings.iter().map(|f| f.key()));
                }
                Change::Mend(Mend::Rebuild { finding } | Mend::StartWithout { finding }) => {
                    mended.insert(finding.key());
                }
                Change::Mend(Mend::UseAuthorizedImage { .. }) => {
                    self.authorize_all(|authorized| authorized.images.clear());
                }
                Change::Mend(Mend::StartByDigest { .. }) => {
                    self.authorize_all(|authorized| authorized.require_digest = false);
                }
                Change::Mend(Mend::Repair { .. }) => {}
                Change::Relax(relax) => self.relax(relax),
            }
        }
        self.remove(&mended);
    }

    fn remove(&mut self, mended: &HashSet<FindingKey<'_>>) {
        if mended.is_empty() {
            return;
        }
        let stays = |finding: &Finding| !mended.contains(&finding.key());
        if let Lookup::Read(verdicts) = &mut self.evidence.lookup {
            for report in verdicts.iter_mut().flat_map(|v| &mut v.reports) {
                report.findings.retain(|f| stays(f));
            }
        }
        if let Workload::Read(findings) = &mut self.evidence.workload {
            findings.retain(|f| stays(f));
        }
    }

    /// Another image, or another name for it, stands in no evidence; so no policy asks any more.
    /// That a bound identity is needed stays true.
    fn authorize_all(&mut self, meet: impl Fn(&mut Authorized)) {
        if !self.identity.is_bound() {
            return;
        }
        for policy in self.policies_mut() {
            if let Some(authorized) = &mut policy.spec.authorized {
                meet(authorized);
                if authorized.images.is_empty() && !authorized.require_digest {
                    policy.spec.authorized = None;
                }
            }
        }
    }

    fn repair(&mut self, repair: Repair) {
        let ended: &[Cause] = match repair {
            Repair::PullAgain | Repair::UseHeldImage => {
                self.bind();
                &[Cause::IdentityClaimed, Cause::IdentityUnknown]
            }
            Repair::TryAgain => {
                // Who was too slow to find out which image it is finds out.
                if self.evidence.lookup == Lookup::NotRead
                    && self.identity.surety == Surety::Unknown
                {
                    self.bind();
                }
                self.read_store();
                &[Cause::Deadline]
            }
            Repair::Import => {
                self.read_store();
                self.import();
                &[Cause::StoreCorrupt, Cause::Unscanned, Cause::Stale, Cause::NoData]
            }
            Repair::Rebase => {
                if let Lookup::Read(verdicts) = &mut self.evidence.lookup {
                    for report in verdicts.iter_mut().flat_map(|v| &mut v.reports) {
                        report.coverage.end_of_life = false;
                    }
                }
                &[Cause::NoData]
            }
            Repair::ShowSettings => {
                if matches!(self.evidence.workload, Workload::NotRead(_)) {
                    self.evidence.workload = Workload::Read(Vec::new());
                }
                &[Cause::NoData]
            }
            Repair::MendStore => {
                self.read_store();
                &[Cause::StoreUnreadable]
            }
            Repair::MendRecord => &[Cause::AuditUnavailable],
            Repair::ApplyPolicies => &[Cause::PolicyInvalid],
            Repair::ReportBug => &[Cause::Internal],
        };
        self.evidence.failures.retain(|f| !ended.contains(&f.cause));
    }

    /// The image is pulled, so the engine holds it by the names it was asked for.
    fn bind(&mut self) {
        if self.identity.is_bound() {
            return;
        }
        self.identity.surety = Surety::Bound;
        self.identity.names = std::mem::take(&mut self.identity.names)
            .into_iter()
            .map(|name| Name { held: name.held || name.asked, ..name })
            .collect();
        self.read_store();
    }

    /// A store that was not read holds something clean.
    fn read_store(&mut self) {
        if self.evidence.lookup == Lookup::NotRead {
            self.evidence.lookup = Lookup::Read(Vec::new());
            self.import();
        }
    }

    /// A report of now that looked at everything and found nothing more.
    fn import(&mut self) {
        let now = self.now;
        let Lookup::Read(verdicts) = &mut self.evidence.lookup else {
            return;
        };
        let coverages = || verdicts.iter().flat_map(|v| &v.reports).map(|r| &r.coverage);
        let distribution = coverages().find_map(|c| c.distribution.clone());
        let coverage = Coverage {
            classes: Class::ALL.iter().copied().filter(|c| c.is_scanned()).collect(),
            // Of all that any report names, also of other distributions: they are looked at anew.
            ecosystems: coverages()
                .flat_map(|c| c.uncovered.iter().chain(&c.ecosystems).chain(&c.distribution))
                .cloned()
                .collect(),
            distribution: Some(distribution.unwrap_or_else(|| "known".to_owned())),
            ..Coverage::default()
        };
        let report = ScanReport {
            scanner: Scanner { name: "supposed".to_owned(), version: None },
            scanned_at: now,
            database_at: None,
            imported_at: now,
            binding: Binding::ByReport,
            coverage,
            findings: Vec::new(),
        };
        if let Some(verdict) = verdicts.first_mut() {
            verdict.reports.push(report);
        } else {
            let config = self.identity.config.clone();
            let image = ImageFacts {
                config: config.unwrap_or_else(|| Digest::sha256([0; 32])),
                chain_id: self.identity.chain_id.clone(),
                manifests: BTreeSet::new(),
                references: BTreeSet::new(),
            };
            verdicts.push(Verdict { image, reports: vec![report] });
        }
    }

    fn policies_mut(&mut self) -> &mut Vec<ProtectionPolicy> {
        let set = self.in_force.set;
        self.policies
            .get_or_insert_with(|| set.into_iter().flat_map(PolicySet::policies).cloned().collect())
    }

    /// Makes a change to a policy; one to a policy that is not there changes nothing.
    fn relax(&mut self, relax: &Relax) {
        let expires = self.expires();
        let (Relax::Exception { policy, .. }
        | Relax::Whitelist { policy, .. }
        | Relax::Authorize { policy, .. }
        | Relax::AllowTag { policy }
        | Relax::Soften { policy, .. }) = relax
        else {
            return self.set(relax);
        };
        let policies = self.policies_mut();
        // In order of their names, since the set holds them so.
        let Ok(index) = policies.binary_search_by(|p| p.metadata.name.as_str().cmp(policy)) else {
            return;
        };
        let spec = &mut policies[index].spec;
        match relax {
            Relax::Exception { policy: _, id, package, sha256 } => {
                spec.exceptions.push(Exception {
                    id: id.to_string(),
                    package: package.as_deref().map(ToOwned::to_owned),
                    image: None,
                    namespaces: None,
                    sha256: sha256.as_deref().map(ToOwned::to_owned),
                    expires,
                    owner: "you@example.com".to_owned(),
                    reason: None,
                    ticket: None,
                })
            }
            Relax::Whitelist { policy: _, image, workload } => {
                spec.whitelist.extend(image.parse().map(|image| WhitelistEntry {
                    image,
                    malware: false,
                    workload: *workload,
                }))
            }
            Relax::Authorize { policy: _, image } => {
                if let Some(authorized) = &mut spec.authorized {
                    authorized.images.extend(image.parse());
                }
            }
            Relax::AllowTag { policy: _ } => {
                if let Some(authorized) = &mut spec.authorized {
                    authorized.require_digest = false;
                }
            }
            Relax::Soften { policy: _, place } => soften(spec, place),
            Relax::SoftenSetting { .. } | Relax::SandboxImage { .. } => {}
        }
    }

    fn set(&mut self, relax: &Relax) {
        match relax {
            Relax::SoftenSetting { setting } => {
                let action = match setting.as_str() {
                    "defaultAction" => &mut self.defaults.default_action,
                    "policyInvalid" => &mut self.defaults.policy_invalid,
                    "internal" => &mut self.defaults.internal,
                    _ => return,
                };
                *action = Action::Alarm;
            }
            Relax::SandboxImage { digest } => {
                self.defaults.sandbox_images.extend(digest.parse::<Digest>());
            }
            _ => {}
        }
    }

    /// The last day of an exception that is proposed now.
    fn expires(&self) -> Date {
        Offset::UTC.to_datetime(self.now).date().saturating_add(EXCEPTION_DAYS.days())
    }
}

/// Which rule a place names: `rules[2]`.
fn rule_index(place: &str) -> Option<usize> {
    place.strip_prefix("rules[")?.strip_suffix(']')?.parse().ok()
}

fn soften(spec: &mut Spec, place: &str) {
    if let Some(rule) = rule_index(place).and_then(|index| spec.rules.get_mut(index)) {
        rule.action = Action::Alarm;
        // Grace is of a block only.
        rule.grace = None;
    }
    let named = &mut spec.on_failure;
    let action = match place {
        "authorized" => spec.authorized.as_mut().map(|a| &mut a.action),
        "unscanned" => spec.unscanned.as_mut().map(|u| &mut u.action),
        "stale" => spec.stale.as_mut().map(|s| &mut s.action),
        _ => {
            let cell = match place.strip_prefix("onFailure.") {
                Some("default") => &mut named.default,
                Some("storeCorrupt") => &mut named.store_corrupt,
                Some("storeUnreadable") => &mut named.store_unreadable,
                Some("identityUnknown") => &mut named.identity_unknown,
                Some("identityClaimed") => &mut named.identity_claimed,
                Some("deadline") => &mut named.deadline,
                Some("auditUnavailable") => &mut named.audit_unavailable,
                Some("noData") => &mut named.no_data,
                _ => return,
            };
            Some(cell.get_or_insert_default())
        }
    };
    if let Some(action) = action {
        *action = Action::Alarm;
    }
}
