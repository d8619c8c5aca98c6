//! What would let a blocked image start: cases as data, and plans against brute force.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its cases has failed")]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use portcullis_policy::case::{Case, FOLDER};
use portcullis_policy::remedy::{Change, Mend, Plan, Relax, Remedies, Repair, World, remedies};
use portcullis_policy::yaml::{self, SourceFile};
use portcullis_policy::{Defaults, InForce, PolicySet, ProtectionPolicy};
use portcullis_types::{
    Action, Binding, Cause, Class, Coverage, Decision, Digest, Evidence, Failure, Finding,
    Identity, ImageFacts, Kind, Lookup, Name, Reason, Request, ScanReport, Scanner, Severity,
    Subject, Surety, Timestamp, Verdict, Workload,
};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

fn cases() -> Vec<Case> {
    ["images.toml", "starts.toml"]
        .into_iter()
        .flat_map(|name| {
            let text = std::fs::read_to_string(format!("{FOLDER}/remedy/{name}")).unwrap();
            Case::read_all(name, &text).unwrap_or_else(|e| panic!("{e}: {e:#?}"))
        })
        .collect()
}

fn lines(plan: &Option<Plan>) -> Option<Vec<String>> {
    plan.as_ref().map(|plan| plan.changes.iter().map(ToString::to_string).collect())
}

#[test]
fn every_case_has_the_plans_that_are_wanted() {
    let cases = cases();
    assert!(cases.len() > 20, "only {} cases were found", cases.len());
    let mut failed = Vec::new();
    for case in &cases {
        let set = case.policy_set().unwrap();
        let start = Start {
            set,
            defaults: case.defaults.clone(),
            request: case.request.clone(),
            identity: case.identity.clone(),
            evidence: case.evidence.clone(),
            now: case.now,
        };
        assert_eq!(start.world().decide().unwrap().action, case.wanted.action, "{}", case.note);
        let got = match start.remedies() {
            Remedies::AlreadyStarts => None,
            Remedies::Needed { by_updates, by_policy } => {
                for plan in [&by_updates, &by_policy].into_iter().flatten() {
                    start.assert_starts(plan);
                    assert!(plan.minimal, "{}", case.note);
                }
                Some((lines(&by_updates), lines(&by_policy)))
            }
        };
        let wanted = case.plans.clone().map(|plans| (plans.by_updates, plans.by_policy));
        if got != wanted {
            failed.push(format!("{}\nwanted {wanted:#?}\ngot {got:#?}", case.note));
        }
    }
    assert!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n\n"));
}

/// Each entry that is to be pasted is read back as what the change means.
#[test]
fn entries_can_be_pasted() {
    let policy = || "p".to_owned();
    let expires = jiff::civil::date(2026, 10, 31);
    let hostile = "CVE-1: # \"\\ \u{7f}\u{202e}\n- {[";
    let image = format!("registry.example.com/team/app@{}", config());
    let changes: Vec<Change> = vec![
        Relax::Exception {
            policy: policy(),
            id: hostile.into(),
            package: Some("\u{1f600}".into()),
            sha256: Some("ab".repeat(32).into()),
        }
        .into(),
        Relax::Exception { policy: policy(), id: "CVE-1".into(), package: None, sha256: None }
            .into(),
        Relax::Whitelist { policy: policy(), image: image.clone(), workload: true }.into(),
        Relax::Whitelist { policy: policy(), image: image.clone(), workload: false }.into(),
        Relax::Authorize { policy: policy(), image: image.clone() }.into(),
        Relax::AllowTag { policy: policy() }.into(),
    ];
    let indented = |change: &Change| -> Option<String> {
        Some(change.yaml(expires)?.lines().map(|line| format!("      {line}\n")).collect())
    };
    let parts: Vec<Option<String>> = changes.iter().map(indented).collect();
    assert!(parts[5].is_none());
    let part = |n: usize| parts[n].clone().unwrap();
    let text = format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: ProtectionPolicy\nmetadata: {{ name: p }}\nspec:\n  \
         exceptions:\n{}{}  whitelist:\n{}{}  authorized:\n    action: block\n    images:\n{}",
        part(0),
        part(1),
        part(2),
        part(3),
        part(4),
    );
    assert!(text.is_ascii(), "{text}");
    let source = SourceFile { name: "pasted.yaml", bytes: text.as_bytes() };
    let spec = &yaml::read(&[source]).unwrap_or_else(|e| panic!("{e:?}\n{text}"))[0].spec;
    assert_eq!(spec.exceptions.len(), 2);
    assert_eq!(spec.exceptions[0].id, hostile);
    assert_eq!(spec.exceptions[0].package.as_deref(), Some("\u{1f600}"));
    assert_eq!(spec.exceptions[0].sha256, Some("ab".repeat(32)));
    assert_eq!(spec.exceptions[1].expires, expires);
    assert_eq!(spec.exceptions[1].package, None);
    assert!(spec.whitelist[0].workload && !spec.whitelist[1].workload);
    assert_eq!(spec.whitelist[0].image.as_str(), image);
    assert_eq!(spec.authorized.as_ref().unwrap().images[0].as_str(), image);
}

#[test]
fn plans_are_written_as_json() {
    let case = cases().into_iter().find(|c| c.note.contains("what no update mends")).unwrap();
    let set = case.policy_set().unwrap();
    let in_force = InForce { set: set.as_ref(), defaults: &case.defaults };
    let got = remedies(&in_force, &case.request, &case.identity, &case.evidence, case.now);
    let wanted = json!({
        "answer": "needed",
        "byUpdates": { "minimal": true, "dangerous": false, "changes": [
            { "change": "update", "package": "openssl", "version": "3.0.9", "target": "3.0.10",
              "path": null, "mends": ["CVE-1"] },
            { "change": "exception", "policy": "p", "id": "CVE-1", "package": "libssl3",
              "sha256": null },
        ] },
        "byPolicy": { "minimal": true, "dangerous": false, "changes": [
            { "change": "exception", "policy": "p", "id": "CVE-1", "package": null, "sha256": null },
        ] },
    });
    assert_eq!(serde_json::to_value(got).unwrap(), wanted);
    let json = serde_json::to_value(Remedies::AlreadyStarts).unwrap();
    assert_eq!(json, json!({ "answer": "alreadyStarts" }));
}

/// An image with 2,000 findings in 300 packages, and 20 policies that block for all of them.
fn large(fixed: Option<&str>, surety: Surety) -> Start {
    let findings = (0..2_000).map(|n| Finding {
        package: Some(format!("package-{}", n % 300).into()),
        version: Some("1.0".into()),
        fixed_version: fixed.map(Into::into),
        aliases: vec![format!("GHSA-{n}").into()],
        ..Finding::new(Class::Vulnerability, format!("CVE-2024-{n}"), Severity::Critical, "s")
    });
    let report = ScanReport {
        scanner: Scanner { name: "s".to_owned(), version: None },
        scanned_at: now(),
        database_at: None,
        imported_at: now(),
        binding: Binding::ByReport,
        coverage: Coverage {
            classes: Class::ALL.iter().copied().collect(),
            distribution: Some("debian 12".to_owned()),
            ..Coverage::default()
        },
        findings: findings.map(Arc::new).collect(),
    };
    let image = ImageFacts {
        config: config(),
        chain_id: None,
        manifests: BTreeSet::new(),
        references: BTreeSet::new(),
    };
    let documents = (0..20).map(|n| {
        let document = json!({
            "apiVersion": "portcullis.dev/v1alpha1", "kind": "ProtectionPolicy",
            "metadata": { "name": format!("p{n:02}") },
            "spec": { "rules": [
                { "class": "vulnerability", "severity": ["critical"], "action": "block" },
                { "class": "vulnerability", "action": "block" },
            ] },
        });
        serde_json::from_value::<ProtectionPolicy>(document).unwrap()
    });
    Start {
        set: Some(PolicySet::compile(documents.collect()).unwrap()),
        defaults: Defaults::default(),
        request: Request::new(portcullis_types::Engine::Containerd, "node", "container"),
        identity: Identity {
            surety,
            config: Some(config()),
            names: [Name { reference: "a.io/x:1".parse().unwrap(), held: true, asked: true }]
                .into(),
            ..Identity::unknown("why")
        },
        evidence: Evidence::read(vec![Verdict { image, reports: vec![report] }]),
        now: now(),
    }
}

/// The figure is for people (`--release -- --nocapture`); that it ends at all is the test.
#[test]
fn a_large_image_is_answered() {
    for (what, start, updates, policy) in [
        ("all have a fix", large(Some("1.1, 2.0"), Surety::Bound), 300, 20),
        ("nothing is proven", large(Some("1.1"), Surety::Claimed), 300, 40),
    ] {
        let begin = std::time::Instant::now();
        let Remedies::Needed { by_updates, by_policy } = start.remedies() else {
            panic!("{what}: it is blocked");
        };
        println!("{what}: {:?}", begin.elapsed());
        let (by_updates, by_policy) = (by_updates.unwrap(), by_policy.unwrap());
        assert_eq!((by_updates.changes.len(), by_updates.minimal), (updates, true), "{what}");
        assert_eq!((by_policy.changes.len(), by_policy.minimal), (policy, true), "{what}");
    }
}

/// Everything that a decision is made from.
#[derive(Clone)]
struct Start {
    set: Option<PolicySet>,
    defaults: Defaults,
    request: Request,
    identity: Identity,
    evidence: Evidence,
    now: Timestamp,
}

impl fmt::Debug for Start {
    /// The policies as they are published, which is short.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set =
            self.set.as_ref().map(|set| String::from_utf8_lossy(&set.published()).into_owned());
        let (kind, identity, evidence) = (&self.request.kind, &self.identity, &self.evidence);
        write!(f, "{set:?}\n{:?}\n{kind} {identity:?}\n{evidence:?}", self.defaults)
    }
}

impl Start {
    fn in_force(&self) -> InForce<'_> {
        InForce { set: self.set.as_ref(), defaults: &self.defaults }
    }

    fn world(&self) -> World<'_> {
        World::new(&self.in_force(), &self.request, &self.identity, &self.evidence, self.now)
    }

    fn remedies(&self) -> Remedies {
        remedies(&self.in_force(), &self.request, &self.identity, &self.evidence, self.now)
    }

    /// The decision after these changes; `None` if one does not fit.
    fn after<'c>(&self, changes: impl IntoIterator<Item = &'c Change> + Clone) -> Option<Decision> {
        let mut world = self.world();
        world.apply(changes);
        world.decide().ok()
    }

    fn assert_starts(&self, plan: &Plan) {
        let decision = self.after(&plan.changes).unwrap();
        assert_ne!(decision.action, Action::Block, "{plan:#?}\n{decision:#?}");
        let dangerous = plan.changes.iter().any(|c| c.to_string().starts_with("DANGEROUS"));
        assert_eq!(plan.dangerous, dangerous);
    }

    fn findings(&self) -> Vec<Arc<Finding>> {
        let mut findings = Verdict::merged(self.evidence.verdicts());
        if let Workload::Read(settings) = &self.evidence.workload {
            findings.extend(settings.iter().cloned());
        }
        findings
    }
}

// Brute force. What could be done is listed here anew, so that a plan is not compared with itself.

fn blocking(decision: &Decision) -> Vec<&Reason> {
    let policies = decision.policies.iter().filter(|p| p.action == Action::Block);
    policies.flat_map(|p| &p.reasons).filter(|r| r.effective() == Action::Block).collect()
}

fn is_mendable(finding: &Finding) -> bool {
    finding.class != Class::Vulnerability
        || finding.package.is_some() && finding.fixed_version.is_some()
}

fn exceptions(start: &Start, policy: &str) -> Vec<Change> {
    let mut seen = BTreeSet::new();
    let mut changes = Vec::new();
    for finding in start.findings() {
        let malware = finding.class == Class::Malware;
        if malware && finding.sha256.is_none() {
            continue;
        }
        let sha256 = finding.sha256.clone().filter(|_| malware);
        for id in std::iter::once(&finding.id).chain(&finding.aliases) {
            if seen.insert((id.to_ascii_lowercase(), sha256.clone())) {
                let (policy, id, sha256) = (policy.to_owned(), id.clone(), sha256.clone());
                changes.push(Relax::Exception { policy, id, package: None, sha256 }.into());
            }
        }
    }
    changes
}

fn relax_candidates(start: &Start, decision: &Decision) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    let identity = &start.identity;
    let digest = identity.config.as_ref().filter(|digest| identity.proves(digest));
    let image = digest
        .map(|digest| format!("n@{digest}"))
        .or_else(|| identity.held_names().next().map(ToString::to_string));
    for answer in decision.policies.iter().filter(|p| p.action == Action::Block) {
        let policy = answer.policy.clone();
        let spec = &start.set.as_ref().unwrap().policies().find(|p| p.metadata.name == policy);
        let spec = &spec.unwrap().spec;
        changes.extend(exceptions(start, &policy));
        if let Some(image) = &image {
            for workload in [false, true] {
                let (policy, image) = (policy.clone(), image.clone());
                changes.push(Relax::Whitelist { policy, image, workload }.into());
            }
            let (policy, image) = (policy.clone(), image.clone());
            changes.push(Relax::Authorize { policy, image }.into());
        }
        changes.push(Relax::AllowTag { policy: policy.clone() }.into());
        let soft = spec.rules.iter().enumerate().filter(|(_, r)| r.class != Some(Class::Malware));
        let mut places: Vec<String> = soft.map(|(index, _)| format!("rules[{index}]")).collect();
        places.extend(["authorized", "unscanned", "stale", "onFailure.default"].map(String::from));
        for cause in decision.causes() {
            places.push(format!("onFailure.{cause}"));
        }
        for place in places {
            changes.push(Relax::Soften { policy: policy.clone(), place }.into());
        }
    }
    for setting in ["defaultAction", "policyInvalid", "internal"] {
        changes.push(Relax::SoftenSetting { setting: setting.to_owned() }.into());
    }
    let malware = blocking(decision).iter().any(|reason| {
        matches!(&reason.subject, Subject::Finding(finding) if finding.class == Class::Malware)
    });
    if let Some(digest) = digest.filter(|_| !malware && start.request.kind == Kind::Sandbox) {
        changes.push(Relax::SandboxImage { digest: digest.to_string() }.into());
    }
    changes
}

fn mend_candidates(start: &Start, decision: &Decision) -> Vec<Change> {
    let findings = start.findings();
    let place = |f: &Finding| (f.class, f.package.clone(), f.version.clone(), f.path.clone());
    let alike = |finding: &Finding| -> Vec<Arc<Finding>> {
        let here = |f: &&Arc<Finding>| place(f) == place(finding) && is_mendable(f);
        findings.iter().filter(here).cloned().collect()
    };
    let mut changes: Vec<Change> = Vec::new();
    let mut seen = BTreeSet::new();
    for finding in findings.iter().filter(|f| is_mendable(f)) {
        let finding = Arc::clone(finding);
        let change = match finding.class {
            Class::Vulnerability if seen.insert(place(&finding)) => Mend::Update {
                package: finding.package.clone().unwrap(),
                version: finding.version.clone(),
                target: "later".to_owned(),
                path: finding.path.clone(),
                findings: alike(&finding),
            },
            Class::Malware if seen.insert(place(&finding)) => {
                Mend::RemoveFile { path: finding.path.clone(), findings: alike(&finding) }
            }
            Class::Baseline | Class::Secret => Mend::Rebuild { finding },
            Class::Workload => Mend::StartWithout { finding },
            _ => continue,
        };
        changes.push(change.into());
    }
    changes.push(Mend::UseAuthorizedImage { policies: Vec::new() }.into());
    changes.push(Mend::StartByDigest { policies: Vec::new() }.into());
    for repair in Repair::ALL {
        let (causes, detail) = (BTreeSet::new(), String::new());
        changes.push(Mend::Repair { repair, causes, detail }.into());
    }
    for answer in decision.policies.iter().filter(|p| p.action == Action::Block) {
        changes.extend(exceptions(start, &answer.policy));
    }
    changes.push(Relax::SoftenSetting { setting: "defaultAction".to_owned() }.into());
    changes
}

/// Most decisions that brute force asks for, for one plan.
const MAX_TRIED: usize = 1_200;

/// A set of at most `largest` of these candidates that does it, the smallest first, and the size up
/// to which all sets were tried.
fn smallest<'c>(
    candidates: &'c [Change],
    largest: usize,
    does_it: impl Fn(&[&'c Change]) -> bool,
) -> (Option<Vec<&'c Change>>, usize) {
    let mut tried = 0;
    for size in 0..=largest {
        let sets = (0..size).fold(1, |n, k| n * candidates.len().saturating_sub(k) / (k + 1));
        tried += sets;
        if tried > MAX_TRIED {
            return (None, size);
        }
        let mut found = None;
        combinations(candidates, size, &mut Vec::new(), &mut |set| {
            if found.is_none() && does_it(set) {
                found = Some(set.to_vec());
            }
        });
        if found.is_some() {
            return (found, size);
        }
    }
    (None, largest + 1)
}

fn combinations<'c>(
    rest: &'c [Change],
    size: usize,
    chosen: &mut Vec<&'c Change>,
    visit: &mut impl FnMut(&[&'c Change]),
) {
    if size == 0 {
        return visit(chosen);
    }
    for (index, change) in rest.iter().enumerate() {
        chosen.push(change);
        combinations(&rest[index + 1..], size - 1, chosen, visit);
        chosen.pop();
    }
}

/// How many plans were compared, and how many of those with all smaller sets.
#[derive(Default, Debug)]
struct Counts {
    compared: usize,
    wholly: usize,
    none: usize,
    larger: usize,
}

fn compare(
    kind: &str,
    start: &Start,
    plan: &Option<Plan>,
    candidates: &[Change],
    does_it: impl Fn(&[&Change]) -> bool,
    counts: &mut Counts,
) {
    let Some(plan) = plan else {
        // Then nothing small does it either.
        let (found, _) = smallest(candidates, 3, does_it);
        assert!(found.is_none(), "{kind}: no plan, yet {found:#?}\n{start:#?}");
        counts.none += 1;
        return;
    };
    start.assert_starts(plan);
    assert!(plan.minimal, "{kind}: a small case is exact\n{plan:#?}");
    assert!(!plan.changes.is_empty(), "{kind}: nothing to do, and it was blocked");
    let all: Vec<&Change> = plan.changes.iter().collect();
    assert!(does_it(&all), "{kind}: {plan:#?} does not keep to its kind\n{start:#?}");
    let (found, tried) = smallest(candidates, plan.changes.len() - 1, does_it);
    assert!(found.is_none(), "{kind}: {plan:#?}\nis larger than {found:#?}\n{start:#?}");
    counts.compared += 1;
    counts.wholly += usize::from(tried >= plan.changes.len());
    counts.larger += usize::from(tried >= plan.changes.len() && tried > 1);
}

#[test]
fn no_smaller_set_of_changes_lets_the_image_start() {
    let mut runner =
        TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(400) });
    let (policy, updates) = (RefCell::new(Counts::default()), RefCell::new(Counts::default()));
    let blocked = start()
        .prop_filter("is blocked", |start| start.world().decide().unwrap().action == Action::Block);
    let result = runner.run(&blocked, |start| {
        let decision = start.world().decide().unwrap();
        let Remedies::Needed { by_updates, by_policy } = start.remedies() else {
            panic!("it is blocked: {start:#?}");
        };
        let starts = |set: &[&Change]| {
            start.after(set.iter().copied()).is_some_and(|d| d.action != Action::Block)
        };
        let candidates = relax_candidates(&start, &decision);
        compare("by policy", &start, &by_policy, &candidates, starts, &mut policy.borrow_mut());
        let candidates = mend_candidates(&start, &decision);
        let mends_all = |set: &[&Change]| {
            let mends: Vec<&Change> =
                set.iter().copied().filter(|c| matches!(c, Change::Mend(_))).collect();
            starts(set)
                && start.after(mends).is_some_and(|decision| {
                    let only = decision
                        .settings
                        .iter()
                        .all(|s| s.action != Action::Block || s.setting == "defaultAction");
                    only && blocking(&decision).iter().all(|reason| {
                        matches!(&reason.subject, Subject::Finding(f) if !is_mendable(f)
                            && f.class != Class::Authorization)
                    })
                })
        };
        compare(
            "by updates",
            &start,
            &by_updates,
            &candidates,
            mends_all,
            &mut updates.borrow_mut(),
        );
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let (policy, updates) = (policy.into_inner(), updates.into_inner());
    println!("by policy {policy:?}, by updates {updates:?}");
    for counts in [policy, updates] {
        assert!(counts.wholly > 250 && counts.larger > 60, "{counts:?} shows little");
    }
}

/// Small starts in which everything meets.
fn start() -> impl Strategy<Value = Start> {
    let policies = prop::collection::vec(spec(), 1..3);
    let often = |action| prop_oneof![3 => Just(Action::Alarm), 1 => Just(action)];
    let defaults = (often(Action::Block), often(Action::Block), often(Action::Block)).prop_map(
        |(default_action, policy_invalid, internal)| Defaults {
            default_action,
            policy_invalid,
            internal,
            sandbox_images: BTreeSet::new(),
        },
    );
    let kind = prop_oneof![5 => Just(Kind::Container), 1 => Just(Kind::Sandbox)];
    let published = prop_oneof![9 => Just(true), 1 => Just(false)];
    (policies, published, defaults, kind, identity(), evidence()).prop_map(
        |(specs, published, defaults, kind, identity, evidence)| {
            let documents = specs.into_iter().enumerate().map(|(n, spec)| {
                let document = json!({
                    "apiVersion": "portcullis.dev/v1alpha1", "kind": "ProtectionPolicy",
                    "metadata": { "name": format!("p{n}") }, "spec": spec,
                });
                serde_json::from_value::<ProtectionPolicy>(document).unwrap()
            });
            let set = published.then(|| PolicySet::compile(documents.collect()).unwrap());
            let request = Request {
                kind,
                ..Request::new(portcullis_types::Engine::Containerd, "node", "container")
            };
            Start { set, defaults, request, identity, evidence, now: now() }
        },
    )
}

fn now() -> Timestamp {
    "2026-10-01T12:00:00Z".parse().unwrap()
}

fn config() -> Digest {
    Digest::sha256([1; 32])
}

fn spec() -> impl Strategy<Value = Value> {
    let rules = [
        json!({ "class": "vulnerability", "action": "block" }),
        json!({ "class": "vulnerability", "severity": ["critical"], "action": "block" }),
        json!({ "class": "vulnerability", "fixable": true, "action": "block" }),
        json!({ "class": "vulnerability", "ids": ["A", "G"], "action": "block" }),
        json!({ "class": "vulnerability", "action": "block", "grace": { "from": "fixed", "for": "7d" } }),
        json!({ "class": "vulnerability", "action": "alarm" }),
        json!({ "class": "malware", "action": "block" }),
        json!({ "class": "baseline", "action": "block" }),
        json!({ "class": "secret", "action": "block" }),
        json!({ "class": "workload", "action": "block" }),
        json!({ "class": "workload", "ids": ["A"], "action": "block" }),
    ];
    let authorized = [
        Value::Null,
        Value::Null,
        Value::Null,
        json!({ "images": ["a.io/x:1", "a.io/z"], "action": "block" }),
        json!({ "images": ["a.io/z"], "action": "block", "requireDigest": true }),
        json!({ "requireDigest": true, "action": "block" }),
    ];
    let scope = [
        json!({}),
        json!({}),
        json!({ "images": { "include": ["a.io/x:1"] } }),
        json!({ "images": { "exclude": ["a.io/x:1"] } }),
        json!({ "images": { "include": [format!("n@{}", Digest::sha256([2; 32]))] } }),
    ];
    let on_failure = [
        json!({}),
        json!({}),
        json!({ "default": "block" }),
        json!({ "default": "block", "storeCorrupt": "block", "noData": "block" }),
        json!({ "identityClaimed": "block", "noData": "block", "deadline": "block" }),
        json!({ "default": "block", "identityUnknown": "alarm", "identityClaimed": "alarm" }),
    ];
    let exceptions = [
        json!([]),
        json!([]),
        json!([{ "id": "A", "package": "p", "expires": "2027-01-01", "owner": "o" }]),
        json!([{ "id": "B", "expires": "2025-01-01", "owner": "o" }]),
    ];
    let mode = prop_oneof![5 => Just("enforce"), 1 => Just("observe")];
    (
        mode,
        select(scope.to_vec()),
        prop::collection::vec(select(rules.to_vec()), 0..4),
        select(authorized.to_vec()),
        select(on_failure.to_vec()),
        select(exceptions.to_vec()),
        prop::option::of(Just(json!({ "action": "block" }))),
        prop::option::of(Just(json!({ "maxAge": "7d", "action": "block" }))),
    )
        .prop_map(
            |(mode, scope, rules, authorized, on_failure, exceptions, unscanned, stale)| {
                let mut spec = json!({ "mode": mode, "onFailure": on_failure });
                for (field, value) in [
                    ("scope", Some(scope)),
                    ("authorized", Some(authorized)),
                    ("rules", Some(Value::Array(rules))),
                    ("exceptions", Some(exceptions)),
                    ("unscanned", unscanned),
                    ("stale", stale),
                ] {
                    let empty = |v: &Value| v.is_null() || *v == json!([]);
                    if let Some(value) = value.filter(|v| !empty(v)) {
                        spec[field] = value;
                    }
                }
                spec
            },
        )
}

fn identity() -> impl Strategy<Value = Identity> {
    let surety = prop_oneof![
        6 => Just(Surety::Bound), 3 => Just(Surety::Claimed), 1 => Just(Surety::Unknown)
    ];
    let names =
        select(vec![vec![], vec!["a.io/x:1"], vec!["a.io/y:1"], vec!["a.io/x:1", "a.io/w:2"]]);
    (surety, prop_oneof![2 => Just(true), 1 => Just(false)], names, any::<bool>()).prop_map(
        |(surety, known, names, held)| Identity {
            surety,
            chain_id: None,
            config: known.then(config),
            manifests: BTreeSet::new(),
            names: names
                .into_iter()
                .map(|name| Name { reference: name.parse().unwrap(), held, asked: true })
                .collect(),
            note: None,
        },
    )
}

fn finding() -> impl Strategy<Value = Finding> {
    let class = prop_oneof![
        6 => Just(Class::Vulnerability),
        2 => Just(Class::Malware),
        1 => Just(Class::Baseline),
        1 => Just(Class::Secret),
    ];
    let hash = prop::option::of(select(vec!["ab".repeat(32), "cd".repeat(32)]));
    (
        class,
        select(vec!["A", "B", "C", "D"]),
        prop::collection::btree_set(select(vec!["G", "G", "g", "b"]), 0..2),
        select(vec![Severity::Critical, Severity::High]),
        prop::option::weighted(0.8, select(vec!["p", "q"])),
        select(vec![None, None, Some("2"), Some("1.5, 2.1")]),
        (hash, prop::option::of(Just("/f")), any::<bool>()),
    )
        .prop_map(|(class, id, aliases, severity, package, fixed, (sha256, path, recent))| {
            let vulnerable = class == Class::Vulnerability;
            Finding {
                aliases: aliases.into_iter().map(Into::into).collect(),
                package: package.filter(|_| vulnerable).map(Into::into),
                version: vulnerable.then(|| "1.0".into()),
                fixed_version: fixed.filter(|_| vulnerable).map(Into::into),
                sha256: sha256.filter(|_| !vulnerable || recent).map(Into::into),
                path: path.map(Into::into),
                fixed: recent.then(now),
                ..Finding::new(class, id, severity, "s")
            }
        })
}

fn evidence() -> impl Strategy<Value = Evidence> {
    let coverage = (
        prop_oneof![4 => Just(true), 1 => Just(false)],
        prop_oneof![4 => Just(true), 1 => Just(false)],
        prop_oneof![4 => Just(false), 1 => Just(true)],
    )
        .prop_map(|(all, recognised, end_of_life)| Coverage {
            classes: Class::ALL
                .iter()
                .copied()
                .filter(|c| c.is_scanned() && (all || *c != Class::Malware))
                .collect(),
            ecosystems: BTreeSet::new(),
            uncovered: if all { BTreeSet::new() } else { ["gem".to_owned()].into() },
            distribution: recognised.then(|| "debian 12".to_owned()),
            end_of_life,
        });
    let age = prop_oneof![3 => Just(1_i64), 1 => Just(400)];
    let report = (coverage, age, prop::collection::vec(finding(), 0..4)).prop_map(
        |(coverage, hours, findings)| {
            let scanned_at = now() - jiff::SignedDuration::from_hours(hours);
            ScanReport {
                scanner: Scanner { name: "s".to_owned(), version: None },
                scanned_at,
                database_at: None,
                imported_at: scanned_at,
                binding: Binding::ByReport,
                coverage,
                findings: findings.into_iter().map(Arc::new).collect(),
            }
        },
    );
    let verdict = prop::collection::vec(report, 0..3).prop_map(|reports| Verdict {
        image: ImageFacts {
            config: config(),
            chain_id: None,
            manifests: BTreeSet::new(),
            references: BTreeSet::new(),
        },
        reports,
    });
    let lookup = prop_oneof![
        9 => verdict.prop_map(|verdict| Lookup::Read(vec![verdict])),
        1 => Just(Lookup::NotRead),
    ];
    let settings = prop::collection::vec(
        select(vec!["A", "host-pid"])
            .prop_map(|id| Arc::new(Finding::new(Class::Workload, id, Severity::High, "oci-spec"))),
        0..2,
    );
    let workload = prop_oneof![
        4 => settings.prop_map(Workload::Read),
        1 => Just(Workload::NotRead("why".to_owned())),
    ];
    let cause = select(vec![
        Cause::StoreCorrupt,
        Cause::StoreUnreadable,
        Cause::IdentityUnknown,
        Cause::Deadline,
        Cause::AuditUnavailable,
        Cause::PolicyInvalid,
        Cause::Internal,
    ]);
    let failures = prop_oneof![
        2 => Just(Vec::new()),
        1 => prop::collection::vec(cause.prop_map(|cause| Failure::new(cause, "why")), 1..3),
    ];
    (lookup, workload, failures).prop_map(|(lookup, workload, failures)| Evidence {
        workload,
        failures,
        ..Evidence::of(lookup)
    })
}
