//! Reads the policies of `cases/lint/*.yaml` and compares all warnings.
//!
//! What is wanted stands at the end of each file, one warning a line behind `#!`, as people see it.
//! `#@ now TIME` sets the time, `#@ sandbox REFERENCE` names a pause image of the node.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its cases has failed")]

use std::path::Path;

use portcullis_policy::document::{
    ApiVersion, DocumentKind, Exception, GracePeriod, Metadata, ProtectionPolicy, Rule, Spec,
    WhitelistEntry,
};
use portcullis_policy::lint::{LintContext, SandboxImage, Starts, Warning, lint};
use portcullis_policy::yaml::{SourceFile, read};
use portcullis_policy::{Defaults, InForce, PolicySet, decide};
use portcullis_types::{
    Action, Binding, Class, Coverage, Decision, Digest, Engine, Evidence, Finding, GraceClock,
    Identity, ImageFacts, Name, Request, ScanReport, Scanner, Severity, Surety, Timestamp, Verdict,
    Workload,
};
use proptest::prelude::*;
use proptest::sample::select;

fn compiled(text: &str) -> PolicySet {
    PolicySet::compile(read(&[SourceFile { name: "p", bytes: text.as_bytes() }]).unwrap()).unwrap()
}

fn now() -> Timestamp {
    "2026-10-01T12:00:00Z".parse().unwrap()
}

/// A bound image of this name, of which nothing is known.
fn image(reference: &str) -> Identity {
    Identity {
        surety: Surety::Bound,
        chain_id: None,
        config: Some(Digest::sha256([1; 32])),
        manifests: [Digest::sha256([2; 32])].into(),
        names: [Name { reference: reference.parse().unwrap(), held: true, asked: true }].into(),
        note: None,
    }
}

fn shown(warnings: &[Warning]) -> Vec<String> {
    warnings.iter().map(ToString::to_string).collect()
}

fn linted(text: &str) -> Vec<String> {
    let told = |what: &str| -> Vec<&str> {
        let tag = format!("#@ {what} ");
        text.lines().filter_map(|line| line.strip_prefix(&tag)).collect()
    };
    let sandbox_images: Vec<SandboxImage> = told("sandbox")
        .into_iter()
        .map(|name| SandboxImage { identity: image(name), evidence: Evidence::read(Vec::new()) })
        .collect();
    let now = told("now").first().map_or_else(now, |time| time.parse().unwrap());
    let context = LintContext { now, starts: None, sandbox_images: &sandbox_images };
    shown(&lint(&compiled(text), &context))
}

#[test]
fn every_warning_is_found_at_its_place_and_no_other() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/lint");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 8, "only {} files were found", files.len());
    let mut failed = Vec::new();
    for path in &files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let wanted: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("#! ")).collect();
        let got = linted(&text);
        if got != wanted {
            let got: String = got.iter().map(|line| format!("#! {line}\n")).collect();
            failed.push(format!("{name}: wanted\n{}\ngot\n{got}", wanted.join("\n")));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// The codes stand in the documentation; each of them has a case or a test here.
#[test]
fn every_code_is_documented_and_shown() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = std::fs::read_to_string(root.join("src/lint.rs")).unwrap();
    let head: String = source.lines().take_while(|line| line.starts_with("//!")).collect();
    let documented: Vec<&str> =
        head.split('`').skip(1).step_by(2).filter(|word| word.contains('-')).collect();
    assert!(documented.len() > 20, "{documented:?}");
    let mut shown = std::fs::read_to_string(root.join("tests/lint.rs")).unwrap();
    for entry in std::fs::read_dir(root.join("cases/lint")).unwrap() {
        shown.push_str(&std::fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    for code in documented {
        assert!(shown.contains(&format!(": {code}: ")), "no case shows {code}");
    }
}

const USED: &str = "
apiVersion: portcullis.dev/v1alpha1
kind: ProtectionPolicy
metadata: { name: web }
spec:
  rules:
    - { class: vulnerability, severity: [critical], action: block }
    - { class: vulnerability, severity: [high], action: alarm }
    - { class: malware, action: block }
  whitelist:
    - image: registry.example.com/used@sha256:DIGEST
    - image: registry.example.com/other@sha256:0000000000000000000000000000000000000000000000000000000000000000
  exceptions:
    - { id: CVE-1, package: zlib, expires: 2026-12-31, owner: web, reason: not reachable }
    - { id: CVE-2, package: zlib, expires: 2026-12-31, owner: web, reason: not reachable }
    - { id: CVE-3, package: zlib, expires: 2026-01-31, owner: web, reason: not reachable }
---
apiVersion: portcullis.dev/v1alpha1
kind: ProtectionPolicy
metadata: { name: elsewhere }
spec:
  scope: { namespaces: { include: [elsewhere] } }
  rules:
    - { class: malware, action: block }
";

fn evidence(findings: Vec<Finding>) -> Evidence {
    let at = now();
    let verdict = Verdict {
        image: ImageFacts {
            config: Digest::sha256([1; 32]),
            chain_id: None,
            manifests: Default::default(),
            references: Default::default(),
        },
        reports: vec![ScanReport {
            scanner: Scanner { name: "test".to_owned(), version: None },
            scanned_at: at,
            database_at: None,
            imported_at: at,
            binding: Binding::ByReport,
            coverage: Coverage {
                classes: [Class::Vulnerability].into(),
                ecosystems: Default::default(),
                uncovered: Default::default(),
                distribution: Some("debian 12".to_owned()),
                end_of_life: false,
            },
            findings: findings.into_iter().map(Into::into).collect(),
        }],
    };
    Evidence { workload: Workload::Read(Vec::new()), ..Evidence::read(vec![verdict]) }
}

fn decision(set: &PolicySet, evidence: &Evidence, now: Timestamp) -> Decision {
    let defaults = Defaults::default();
    let in_force = InForce { set: Some(set), defaults: &defaults };
    let request = Request::new(Engine::Containerd, "node", "id");
    decide(&in_force, &request, &image("registry.example.com/used:1"), evidence, now)
}

#[test]
fn what_no_recorded_start_used_is_noted() {
    let set = compiled(&USED.replace("DIGEST", &"01".repeat(32)));
    let mut starts = Starts::since("2026-10-01T00:00:00Z".parse().unwrap());
    let unused = |starts: &Starts| {
        let context = LintContext { now: now(), starts: Some(starts), sandbox_images: &[] };
        let mut lines = shown(&lint(&set, &context));
        lines.retain(|line| line.contains(": unused-"));
        lines
    };
    assert!(unused(&starts).is_empty(), "nothing is recorded, so nothing is known");

    let zlib = |id: &str, severity| Finding {
        package: Some("zlib".into()),
        ..Finding::new(Class::Vulnerability, id, severity, "test")
    };
    let found = vec![zlib("CVE-1", Severity::Critical), zlib("CVE-9", Severity::Critical)];
    starts.add(&decision(&set, &evidence(found), now()), 1_204);
    assert_eq!(
        unused(&starts),
        [
            "policy elsewhere: spec.scope: note: unused-policy: \
             not in scope in 1,204 starts since 2026-10-01: look at its scope",
            "policy web: spec.rules[1]: note: unused-rule: \
             it did not speak in 1,204 starts since 2026-10-01: keep it if it is a precaution",
            "policy web: spec.rules[2]: note: unused-rule: \
             it did not speak in 1,204 starts since 2026-10-01: keep it if it is a precaution",
            "policy web: spec.whitelist[1]: note: unused-whitelist: \
             not used in 1,204 starts since 2026-10-01: leave it out, if nothing else needs it",
            "policy web: spec.exceptions[1]: note: unused-exception: \
             not used in 1,204 starts since 2026-10-01: leave it out, if nothing else needs it",
        ]
    );
}

#[test]
fn a_pause_image_with_findings_that_block_is_an_error() {
    let set = compiled(&USED.replace("DIGEST", &"ff".repeat(32)));
    let critical = Finding::new(Class::Vulnerability, "CVE-9", Severity::Critical, "test");
    let images = [SandboxImage {
        identity: image("registry.k8s.io/pause:3.9"),
        evidence: evidence(vec![critical]),
    }];
    let context = LintContext { now: now(), starts: None, sandbox_images: &images };
    let mut lines = shown(&lint(&set, &context));
    lines.retain(|line| line.contains(": error: "));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with("policy web: spec.rules[0]: error: blocks-sandbox: "),
        "{lines:?}"
    );
}

#[test]
fn too_many_entries_are_not_compared_and_that_is_said() {
    let rule = "    - { class: malware, action: block }\n";
    let text = format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: ProtectionPolicy\nmetadata: {{ name: p }}\n\
         spec:\n  rules:\n{}",
        rule.repeat(1_001)
    );
    let lines = linted(&text);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("policy p: spec.rules: note: not-compared: "), "{lines:?}");

    let hosts: String = (0..1_001).map(|n| format!("      - host-{n}.io/**\n")).collect();
    let text = format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: ProtectionPolicy\nmetadata: {{ name: p }}\n\
         spec:\n  scope:\n    images:\n      include:\n{hosts}"
    );
    let lines = linted(&text);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("spec.scope.images.include[0]: note: not-compared: "), "{lines:?}");
}

/// Hundreds, none of which covers another though all look alike.
#[test]
fn many_entries_take_no_long_time() {
    let ids: Vec<String> = (0..30).map(|n| format!("CVE-{n}")).collect();
    let rules: String = (0..500)
        .map(|n| {
            let ids = ids.join(", ");
            format!("    - {{ class: malware, ids: [{ids}, X-{n}], action: block }}\n")
        })
        .collect();
    let entries: String =
        (0..500).map(|n| format!("    - image: host-{n}.io/**/a/*/b-{n}:v*\n")).collect();
    let text = format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: ProtectionPolicy\nmetadata: {{ name: p }}\n\
         spec:\n  rules:\n{rules}  whitelist:\n{entries}"
    );
    let set = compiled(&text);
    let begun = std::time::Instant::now();
    let context = LintContext { now: now(), starts: None, sandbox_images: &[] };
    assert_eq!(lint(&set, &context).len(), 500);
    // Some seconds even without optimisation; a cubic way would take minutes.
    assert!(begun.elapsed().as_secs() < 60, "it took {:?}", begun.elapsed());
}

// ------------------------------------------------------------------ nothing is claimed wrongly

fn rule() -> impl Strategy<Value = Rule> {
    let severity = prop::collection::vec(select(Severity::ALL), 0..3);
    let ids = prop::collection::vec(select(vec!["A", "a", "b", "C"]).prop_map(str::to_owned), 0..3);
    let threshold = || prop::option::weighted(0.2, select(vec![0.0_f32, 0.5, 1.0]));
    let flag = || prop::option::weighted(0.3, any::<bool>());
    let clock = || select(GraceClock::ALL);
    let grace = prop::option::of((clock(), select(vec!["1d", "2d"]), prop::option::of(clock())));
    let class = select(vec![Class::Vulnerability, Class::Vulnerability, Class::Baseline]);
    (class, severity, ids, (flag(), threshold(), threshold(), flag()), grace, select(Action::ALL))
        .prop_map(|(class, severity, ids, (fixable, cvss, epss, kev), grace, action)| {
            let only = class == Class::Vulnerability;
            let graceful = only && action == Action::Block && kev != Some(true);
            let grace = grace.filter(|_| graceful).map(|(from, period, fallback)| GracePeriod {
                from,
                period: period.parse().unwrap(),
                fallback: fallback.filter(|f| *f != from),
            });
            Rule {
                class: Some(class),
                severity,
                ids,
                fixable: fixable.filter(|_| only),
                cvss: cvss.filter(|_| only),
                epss: epss.filter(|_| only),
                kev: kev.filter(|_| only),
                grace,
                when: None,
                action,
            }
        })
}

fn finding() -> impl Strategy<Value = Finding> {
    let time = || {
        prop::option::of(
            (0..4_i64).prop_map(|d| now() - jiff::SignedDuration::from_hours(24 * d - 12)),
        )
    };
    let score = || prop::option::of(select(vec![0.0_f32, 0.4, 0.5, 1.0]));
    (
        select(vec![Class::Vulnerability, Class::Baseline]),
        (select(vec!["A", "B", "c", "D"]), prop::option::of(select(vec!["a", "C"]))),
        select(Severity::ALL),
        (any::<bool>(), any::<bool>(), score(), score(), select(vec!["x", "y"])),
        (time(), time(), time()),
    )
        .prop_map(
            |(class, (id, alias), severity, (fixable, kev, cvss, epss, package), times)| Finding {
                aliases: alias.into_iter().map(Into::into).collect(),
                package: Some(package.into()),
                fixed_version: fixable.then(|| "2".into()),
                kev,
                cvss,
                epss,
                published: times.0,
                fixed: times.1,
                first_seen: times.2,
                ..Finding::new(class, id, severity, "test")
            },
        )
}

fn exception() -> impl Strategy<Value = Exception> {
    let day = select(vec!["2026-09-30", "2026-10-01", "2026-12-31"]);
    let package = prop::option::of(select(vec!["x", "y"]));
    let image = prop::option::of(select(vec!["**", "registry.example.com/*", "nginx"]));
    (select(vec!["A", "a", "b", "C"]), package, image, day).prop_map(|(id, package, image, day)| {
        Exception {
            id: id.to_owned(),
            package: package.map(str::to_owned),
            image: image.map(|i| i.parse().unwrap()),
            namespaces: None,
            sha256: None,
            expires: day.parse().unwrap(),
            owner: "web".to_owned(),
            reason: None,
            ticket: None,
        }
    })
}

fn whitelist_entry() -> impl Strategy<Value = WhitelistEntry> {
    let own = format!("registry.example.com/used@{}", Digest::sha256([1; 32]));
    let images =
        ["**", "registry.example.com/**", "registry.example.com/*:1", "nginx"].map(str::to_owned);
    let images: Vec<String> = images.into_iter().chain([own]).collect();
    (select(images), any::<bool>(), any::<bool>()).prop_map(|(image, malware, workload)| {
        WhitelistEntry { image: image.parse().unwrap(), malware, workload }
    })
}

fn set_of(spec: Spec) -> PolicySet {
    let metadata = Metadata { name: "p".to_owned() };
    let policy = ProtectionPolicy {
        api_version: ApiVersion::V1Alpha1,
        kind: DocumentKind::ProtectionPolicy,
        metadata,
        spec,
    };
    PolicySet::compile(vec![policy]).unwrap()
}

/// What a decision says, without which entry said it.
fn said(decision: &Decision) -> String {
    let mut said = String::new();
    for answer in &decision.policies {
        said.push_str(&format!("{:?}\n", (answer.action, answer.enforced, answer.unwaived)));
        let mut reasons: Vec<String> = answer
            .reasons
            .iter()
            .map(|r| {
                let waived = r.waived.as_ref().map(|w| (w.by, w.by_name));
                format!(
                    "{:?}\n",
                    (&r.subject, r.action, r.grace.clone(), waived, r.expired.is_some())
                )
            })
            .collect();
        reasons.sort();
        said.extend(reasons);
    }
    said
}

/// The places of this list that lint calls superfluous.
fn superfluous(set: &PolicySet, code: &str, list: &str) -> Vec<usize> {
    let context = LintContext { now: now(), starts: None, sandbox_images: &[] };
    lint(set, &context)
        .iter()
        .filter(|w| w.code == code)
        .map(|w| {
            let index = w.path.strip_prefix(&format!("spec.{list}[")).unwrap();
            index.strip_suffix(']').unwrap().parse().unwrap()
        })
        .collect()
}

fn without<T: Clone>(list: &[T], left_out: &[usize]) -> Vec<T> {
    let kept = list.iter().enumerate().filter(|(index, _)| !left_out.contains(index));
    kept.map(|(_, entry)| entry.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    /// Without what is reported, one by one and all at once, no decision changes.
    #[test]
    fn what_is_shadowed_makes_no_difference(
        rules in prop::collection::vec(rule(), 1..6),
        exceptions in prop::collection::vec(exception(), 0..4),
        whitelist in prop::collection::vec(whitelist_entry(), 0..4),
        findings in prop::collection::vec(finding(), 1..6),
    ) {
        let spec = Spec { rules, exceptions, whitelist, ..Spec::default() };
        let evidence = evidence(findings);
        let wanted = said(&decision(&set_of(spec.clone()), &evidence, now()));
        let shadowed = |code, list| superfluous(&set_of(spec.clone()), code, list);
        let (rules, exceptions, whitelist) = (
            shadowed("shadowed-rule", "rules"),
            shadowed("shadowed-exception", "exceptions"),
            shadowed("shadowed-whitelist", "whitelist"),
        );
        let check = |rules: &[usize], exceptions: &[usize], whitelist: &[usize]| {
            let less = Spec {
                rules: without(&spec.rules, rules),
                exceptions: without(&spec.exceptions, exceptions),
                whitelist: without(&spec.whitelist, whitelist),
                ..Spec::default()
            };
            let got = said(&decision(&set_of(less), &evidence, now()));
            prop_assert_eq!(&got, &wanted, "without {:?} {:?} {:?}", rules, exceptions, whitelist);
            Ok(())
        };
        for one in &rules {
            check(&[*one], &[], &[])?;
        }
        for one in &exceptions {
            check(&[], &[*one], &[])?;
        }
        for one in &whitelist {
            check(&[], &[], &[*one])?;
        }
        check(&rules, &exceptions, &whitelist)?;
    }
}

/// The property above says nothing if hardly anything is ever reported.
#[test]
fn enough_is_shadowed_for_the_property_to_speak() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let rules = prop::collection::vec(rule(), 1..6);
    let mut shadowed = 0;
    for _ in 0..300 {
        let rules = rules.new_tree(&mut runner).unwrap().current();
        let set = set_of(Spec { rules, ..Spec::default() });
        shadowed += superfluous(&set, "shadowed-rule", "rules").len();
    }
    assert!(shadowed > 60, "only {shadowed} of 300 policies have a shadowed rule");
}
