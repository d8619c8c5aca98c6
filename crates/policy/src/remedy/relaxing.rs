//! The fewest changes of policies and settings after which a decision blocks no more.
//!
//! Each policy that blocks needs its own changes, and within it authorization, each failure, each
//! condition and the findings are independent, so the fewest of all are the fewest of each part.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use portcullis_types::{
    Action, Cause, Class, Decision, Finding, FindingKey, Identity, Kind, PolicyAnswer, Subject,
    Text,
};

use super::change::{Change, Relax};
use super::cover::{Budget, smallest};
use super::mending::blocking;
use super::world::World;
use crate::ImagePattern;
use crate::decide::{NO_DIGEST, UNAUTHORIZED_IMAGE};
use crate::document::Spec;

/// Most rules of one policy of which all combinations are tried.
const MAX_RULES: usize = 6;

/// What may be proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Means {
    /// Everything.
    All,
    /// For findings only exceptions, so that whatever else is found goes on to count.
    Exceptions,
}

/// Some changes, and whether fewer would not do.
pub(super) struct Relaxed {
    pub(super) changes: Vec<Relax>,
    pub(super) minimal: bool,
}

/// The fewest changes after which nothing blocks, the narrower first. `None` if there are none
/// that may be proposed.
pub(super) fn relaxed(
    world: &World<'_>,
    decision: &Decision,
    means: Means,
    budget: &mut Budget,
) -> Option<Relaxed> {
    let specs: HashMap<&str, &Spec> = world.specs().into_iter().collect();
    let image = if means == Means::All { proven(world.identity()) } else { None };
    let mut relaxed = Relaxed { changes: Vec::new(), minimal: true };
    let mut rules = None;
    for answer in decision.policies.iter().filter(|a| a.action == Action::Block) {
        let spec = specs.get(&*answer.policy)?;
        relaxed.changes.extend(of_start(answer, spec, world.identity()));
        let mut findings = Findings { answer, image: image.as_deref(), budget };
        let mut part = findings.waived();
        if means == Means::All
            && image.is_none()
            && part.as_ref().is_none_or(|p| p.changes.len() > 1)
        {
            let rules = rules.get_or_insert_with(|| softer_rules(world, decision, &specs));
            findings.with_softer_rules(rules.get(&answer.policy), &mut part);
        }
        let part = part?;
        relaxed.minimal &= part.minimal;
        relaxed.changes.extend(part.changes);
    }
    let settings = decision.settings.iter().filter(|s| s.action == Action::Block);
    relaxed.changes.extend(settings.map(|s| Relax::SoftenSetting { setting: s.setting.clone() }));
    if means == Means::All
        && relaxed.changes.len() > 1
        && !malware_blocks(decision)
        && let Some(digest) = sandbox_digest(world)
    {
        relaxed = Relaxed { changes: vec![Relax::SandboxImage { digest }], minimal: true };
    }
    Some(relaxed)
}

fn malware_blocks(decision: &Decision) -> bool {
    decision.policies.iter().flat_map(blocking).any(|reason| {
        matches!(&reason.subject, Subject::Finding(finding) if finding.class == Class::Malware)
    })
}

fn sandbox_digest(world: &World<'_>) -> Option<String> {
    let identity = world.identity();
    let digests = identity.config.iter().chain(&identity.manifests);
    let mut proven = digests.filter(|digest| identity.proves(digest));
    if world.request().kind == Kind::Sandbox {
        proven.next().map(ToString::to_string)
    } else {
        None
    }
}

/// A pattern of this image alone: by the digest it was asked for, by its only manifest or by its
/// configuration; by a name that is held if no digest is proven.
fn proven(identity: &Identity) -> Option<String> {
    let name = identity.names.iter().find(|n| n.asked).or_else(|| identity.names.first());
    let repository = name.map_or_else(|| "unnamed".to_owned(), |name| name.reference.repository());
    let asked = identity.names.iter().filter(|n| n.asked).filter_map(|n| n.reference.digest());
    let only = identity.manifests.iter().take(if identity.manifests.len() == 1 { 1 } else { 0 });
    let by_digest = asked
        .chain(only)
        .chain(&identity.config)
        .chain(&identity.manifests)
        .filter(|digest| identity.proves(digest))
        .map(|digest| format!("{repository}@{digest}"));
    let by_name = identity.held_names().filter_map(|reference| {
        reference.tag().map(|tag| format!("{}:{tag}", reference.repository()))
    });
    by_digest
        .chain(by_name)
        .find(|text| text.parse::<ImagePattern>().is_ok_and(|pattern| pattern.covers(identity)))
}

/// What answers for authorization, failures and conditions.
fn of_start(answer: &PolicyAnswer, spec: &Spec, identity: &Identity) -> Vec<Relax> {
    let policy = || answer.policy.clone();
    let mut changes = Vec::new();
    let mut unmet: BTreeSet<&str> = BTreeSet::new();
    let mut causes: BTreeMap<&str, BTreeSet<Cause>> = BTreeMap::new();
    let mut places: BTreeSet<&str> = BTreeSet::new();
    for reason in blocking(answer) {
        match &reason.subject {
            Subject::Finding(finding) if finding.class == Class::Authorization => {
                unmet.insert(&finding.id);
            }
            Subject::Finding(_) => {}
            Subject::Failure(failure) => {
                causes.entry(&reason.rule).or_default().insert(failure.cause);
            }
            Subject::Condition(_) => {
                places.insert(&reason.rule);
            }
        }
    }
    let has_images = spec.authorized.as_ref().is_some_and(|a| !a.images.is_empty());
    let image = proven(identity);
    match (unmet.contains(UNAUTHORIZED_IMAGE), unmet.contains(NO_DIGEST), image) {
        (false, false, _) => {}
        (true, false, Some(image)) => changes.push(Relax::Authorize { policy: policy(), image }),
        (false, true, _) if has_images => changes.push(Relax::AllowTag { policy: policy() }),
        _ => {
            places.insert("authorized");
        }
    }
    let mut soften = |place: String| changes.push(Relax::Soften { policy: policy(), place });
    for (place, causes) in causes {
        // One cause of the default gets a cell of its own, so that the others stay as they are.
        match (place, causes.first()) {
            ("onFailure.default", Some(cause)) if causes.len() == 1 => {
                soften(format!("onFailure.{cause}"));
            }
            _ => soften(place.to_owned()),
        }
    }
    for place in places {
        soften(place.to_owned());
    }
    changes
}

/// The findings that block, without what `authorized` asks for.
fn findings_of(answer: &PolicyAnswer) -> Vec<&Finding> {
    blocking(answer)
        .filter_map(|reason| match &reason.subject {
            Subject::Finding(f) if f.class != Class::Authorization => Some(&**f),
            _ => None,
        })
        .collect()
}

/// What answers for the findings of one policy.
struct Findings<'a, 'b> {
    answer: &'a PolicyAnswer,
    /// How a whitelist would name the image, if it may.
    image: Option<&'a str>,
    budget: &'b mut Budget,
}

impl<'a> Findings<'a, '_> {
    /// Exceptions alone, or a whitelist entry and exceptions for what it does not waive; of equally
    /// many the first.
    fn waived(&mut self) -> Option<Relaxed> {
        let all = findings_of(self.answer);
        let Some(image) = self.image else {
            return self.exceptions(&all);
        };
        let mut best = None;
        // No exceptions are fewer than one change, so it matters only whether one will do.
        if Self::unwaived(&all, true).is_empty() && !one_id_names_all(&all) {
            for workload in [false, true] {
                self.whitelist(&all, image, workload, &mut best);
            }
            return best;
        }
        best = self.exceptions(&all);
        for workload in [false, true] {
            self.whitelist(&all, image, workload, &mut best);
        }
        best
    }

    /// What a whitelist entry does not waive.
    fn unwaived(findings: &[&'a Finding], workload: bool) -> Vec<&'a Finding> {
        let stays =
            |f: &&Finding| f.class == Class::Malware || f.class == Class::Workload && !workload;
        findings.iter().copied().filter(stays).collect()
    }

    /// A whitelist entry, if it waives anything, and exceptions for the rest.
    fn whitelist(
        &mut self,
        findings: &[&'a Finding],
        image: &str,
        workload: bool,
        best: &mut Option<Relaxed>,
    ) {
        let rest = Self::unwaived(findings, workload);
        if rest.len() == findings.len() {
            return;
        }
        if let Some(mut part) = self.exceptions(&rest) {
            let (policy, image) = (self.answer.policy.clone(), image.to_owned());
            part.changes.insert(0, Relax::Whitelist { policy, image, workload });
            keep_smaller(best, part);
        }
    }

    /// The fewest exceptions that cover these findings.
    fn exceptions(&mut self, findings: &[&'a Finding]) -> Option<Relaxed> {
        let mut candidates: Vec<Candidate<'a>> = Vec::new();
        let mut numbers: HashMap<(Cow<'_, str>, Option<&str>), usize> = HashMap::new();
        let mut elements = Vec::new();
        // Hashes that malware asks for, by id in upper case.
        let mut hashes: HashMap<Cow<'_, str>, BTreeSet<&str>> = HashMap::new();
        for finding in findings.iter().filter(|f| f.class == Class::Malware) {
            if let Some(hash) = finding.sha256.as_deref().filter(|h| is_sha256(h)) {
                for id in ids(finding) {
                    hashes.entry(upper(id)).or_default().insert(hash);
                }
            }
        }
        for finding in findings {
            let mut element = Vec::new();
            for id in ids(finding) {
                let name = upper(id);
                let hash = finding
                    .sha256
                    .as_deref()
                    .filter(|hash| hashes.get(&name).is_some_and(|asked| asked.contains(hash)));
                let open = (finding.class != Class::Malware).then_some(None);
                for sha256 in open.into_iter().chain(hash.map(Some)) {
                    let number = *numbers.entry((name.clone(), sha256)).or_insert_with(|| {
                        candidates.push(Candidate { id, sha256, hits: Vec::new() });
                        candidates.len() - 1
                    });
                    candidates[number].hits.push(finding);
                    element.push(number);
                }
            }
            elements.push(element);
        }
        let cover = smallest(elements, self.budget)?;
        let policy = &self.answer.policy;
        let changes = cover.chosen.iter().map(|n| candidates[*n].change(policy)).collect();
        Some(Relaxed { changes, minimal: cover.minimal })
    }

    /// Tries all combinations of softer rules with exceptions for what other rules block.
    fn with_softer_rules(&mut self, rules: Option<&Rules>, best: &mut Option<Relaxed>) {
        let Some(rules) = rules else {
            if let Some(best) = best {
                best.minimal = false;
            }
            return;
        };
        let all = findings_of(self.answer);
        let mut sets: Vec<u32> = (1..1 << rules.places.len()).collect();
        sets.sort_by_key(|set| set.count_ones());
        for set in sets {
            let softened = set.count_ones() as usize;
            if best.as_ref().is_some_and(|best| best.changes.len() <= softened) {
                return;
            }
            let blocks = |mask: u32| mask == 0 || mask & !set != 0;
            let masks = all.iter().zip(&rules.blocking);
            let rest: Vec<&'a Finding> =
                masks.filter(|(_, mask)| blocks(**mask)).map(|(finding, _)| *finding).collect();
            if let Some(mut part) = self.exceptions(&rest) {
                let chosen = rules.places.iter().enumerate().filter(|(n, _)| set & (1 << n) != 0);
                part.changes.extend(chosen.map(|(_, place)| Relax::Soften {
                    policy: self.answer.policy.clone(),
                    place: place.clone(),
                }));
                keep_smaller(best, part);
            }
        }
    }
}

/// Whether all are called by some id of the first; so are they if there are none.
fn one_id_names_all(findings: &[&Finding]) -> bool {
    findings
        .first()
        .is_none_or(|first| ids(first).any(|id| findings.iter().all(|f| f.is_called(id))))
}

fn keep_smaller(best: &mut Option<Relaxed>, other: Relaxed) {
    let minimal = other.minimal && best.as_ref().is_none_or(|b| b.minimal);
    if best.as_ref().is_none_or(|best| other.changes.len() < best.changes.len()) {
        *best = Some(other);
    }
    if let Some(best) = best {
        best.minimal = minimal || best.changes.len() <= 1;
    }
}

/// An exception that could be made, and what it would cover of what blocks.
struct Candidate<'a> {
    id: &'a Text,
    sha256: Option<&'a str>,
    hits: Vec<&'a Finding>,
}

impl Candidate<'_> {
    fn change(&self, policy: &str) -> Relax {
        let package = self.hits.first().and_then(|f| f.package.as_ref());
        let only = self.hits.iter().all(|f| f.package.as_ref() == package);
        Relax::Exception {
            policy: policy.to_owned(),
            id: self.id.clone(),
            package: package.filter(|p| only && !p.trim().is_empty()).cloned(),
            sha256: self.sha256.map(Into::into),
        }
    }
}

/// The ids by which an exception can name a finding.
fn ids(finding: &Finding) -> impl Iterator<Item = &Text> {
    std::iter::once(&finding.id).chain(&finding.aliases).filter(|id| {
        !id.is_empty() && id.trim() == &***id && ![UNAUTHORIZED_IMAGE, NO_DIGEST].contains(&&***id)
    })
}

/// An id in which upper and lower case are alike.
fn upper(id: &str) -> Cow<'_, str> {
    if id.bytes().any(|b| b.is_ascii_lowercase()) {
        Cow::Owned(id.to_ascii_uppercase())
    } else {
        Cow::Borrowed(id)
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The rules of one policy that may be softened: those about no malware.
struct Rules {
    places: Vec<String>,
    /// For each finding that blocks, in order, the rules that would block it alone, as bits. None
    /// is set for malware.
    blocking: Vec<u32>,
}

/// For each policy that blocks, the rules that may be softened. A policy that has too many of them
/// is left out.
///
/// Which rules match a finding, only the decision knows; so it is asked with each rule alone.
fn softer_rules(
    world: &World<'_>,
    decision: &Decision,
    specs: &HashMap<&str, &Spec>,
) -> HashMap<String, Rules> {
    let mut found = HashMap::new();
    for answer in decision.policies.iter().filter(|a| a.action == Action::Block) {
        let findings = findings_of(answer);
        let classes: BTreeSet<Class> =
            findings.iter().map(|f| f.class).filter(|c| *c != Class::Malware).collect();
        let rules = specs.get(&*answer.policy).map_or(&[][..], |spec| &spec.rules);
        let places: Vec<String> = rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| rule.class.is_some_and(|class| classes.contains(&class)))
            .filter(|(_, rule)| rule.action == Action::Block)
            .map(|(index, _)| format!("rules[{index}]"))
            .collect();
        if places.len() <= MAX_RULES {
            let blocking = vec![0; findings.len()];
            found.insert(answer.policy.clone(), Rules { places, blocking });
        }
    }
    for bit in 0..found.values().map(|rules| rules.places.len()).max().unwrap_or(0) {
        let mut alone = world.clone();
        alone.apply(&all_but(&found, specs, bit));
        let Ok(asked) = alone.decide() else {
            return HashMap::new();
        };
        let answers: HashMap<&str, &PolicyAnswer> =
            asked.policies.iter().map(|a| (&*a.policy, a)).collect();
        for answer in &decision.policies {
            let (Some(rules), Some(asked)) =
                (found.get_mut(&answer.policy), answers.get(&*answer.policy))
            else {
                continue;
            };
            if bit >= rules.places.len() {
                continue;
            }
            let blocked: HashSet<FindingKey<'_>> =
                findings_of(asked).into_iter().map(Finding::key).collect();
            for (mask, finding) in rules.blocking.iter_mut().zip(findings_of(answer)) {
                if finding.class != Class::Malware && blocked.contains(&finding.key()) {
                    *mask |= 1 << bit;
                }
            }
        }
    }
    found
}

/// Softens every rule that blocks but one in each of these policies.
fn all_but(
    found: &HashMap<String, Rules>,
    specs: &HashMap<&str, &Spec>,
    bit: usize,
) -> Vec<Change> {
    let mut changes = Vec::new();
    for (policy, rules) in found {
        let count = specs.get(&**policy).map_or(0, |spec| spec.rules.len());
        let places = (0..count).map(|index| format!("rules[{index}]"));
        changes.extend(
            places
                .filter(|place| rules.places.get(bit) != Some(place))
                .map(|place| Relax::Soften { policy: policy.clone(), place }.into()),
        );
    }
    changes
}
