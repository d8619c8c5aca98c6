//! What holds for every policy, image and start.

use std::collections::BTreeSet;
use std::sync::Arc;

use portcullis_policy::document::{
    ApiVersion, Authorized, DocumentKind, Exception, GracePeriod, Metadata, Mode, OnFailure,
    ProtectionPolicy, Rule, Scope, Selection, Spec, Stale, Unscanned, WhitelistEntry,
};
use portcullis_policy::{
    Defaults, Expression, ImagePattern, InForce, PolicySet, WordPattern, decide,
};
use portcullis_types::{
    Action, Binding, Cause, Class, Coverage, Digest, Engine, Evidence, Failure, Finding,
    GraceClock, Identity, ImageFacts, Kind, Lookup, Name, Request, ScanReport, Scanner, Severity,
    Subject, Surety, Timestamp, Verdict, Workload,
};
use proptest::prelude::*;
use proptest::sample::select;

// Few words and few digests, so that things meet.

fn digest() -> impl Strategy<Value = Digest> {
    (0..3_u8).prop_map(|n| Digest::sha256([n; 32]))
}

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        (0..400_i64).prop_map(|hour| hour * 3_600),
        Just(Timestamp::MIN.as_second()),
        Just(Timestamp::MAX.as_second()),
    ]
    .prop_filter_map("all of these are times", |second| Timestamp::from_second(second).ok())
}

fn reference() -> impl Strategy<Value = String> {
    (
        select(vec!["a.io/x", "a.io/y/z", "nginx"]),
        select(vec!["", ":1"]),
        prop::option::of(digest()),
    )
        .prop_map(|(name, tag, digest)| match digest {
            Some(digest) => format!("{name}{tag}@{digest}"),
            None => format!("{name}{tag}"),
        })
}

fn image_pattern() -> impl Strategy<Value = ImagePattern> {
    let wild = select(vec!["**", "a.io/**", "a.io/*", "nginx:*", "**/z"]).prop_map(str::to_owned);
    prop_oneof![wild, reference()]
        .prop_filter_map("all of these are patterns", |text| text.parse().ok())
}

fn word_pattern() -> impl Strategy<Value = WordPattern> {
    select(vec!["*", "prod", "prod-*", "*-1"])
        .prop_filter_map("all of these are patterns", |text| text.parse().ok())
}

fn selection<P: std::fmt::Debug>(
    pattern: impl Strategy<Value = P> + Clone,
) -> impl Strategy<Value = Option<Selection<P>>> {
    let list = |size| prop::collection::vec(pattern.clone(), size);
    prop::option::of(
        prop_oneof![(list(1..3), list(0..2)), (list(0..2), list(1..3)),]
            .prop_map(|(include, exclude)| Selection { include, exclude }),
    )
}

fn action() -> impl Strategy<Value = Action> {
    select(Action::ALL)
}

/// Some conditions hold, some do not, some cannot be evaluated for every start.
fn condition(of_finding: bool) -> impl Strategy<Value = Expression> {
    let of_start = [
        "true",
        "request.namespace.startsWith('prod')",
        "image.created < now",
        "image.labels['a'] == 'x'",
        "request.podLabels.exists(key, key == 'a')",
    ];
    let more = ["finding.cvss >= 5.0", "finding.kev || finding.epss > 0.5", "finding.id == 'a'"];
    let more = more.into_iter().filter(|_| of_finding);
    select(of_start.into_iter().chain(more).collect::<Vec<_>>())
        .prop_filter_map("all of these are conditions", |text| text.parse().ok())
}

fn rule_about_start() -> impl Strategy<Value = Rule> {
    (condition(false), action()).prop_map(|(when, action)| Rule {
        class: None,
        severity: Vec::new(),
        ids: Vec::new(),
        fixable: None,
        cvss: None,
        epss: None,
        kev: None,
        grace: None,
        when: Some(when),
        action,
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let vulnerability = (
        prop::option::of(any::<bool>()),
        prop::option::of(0.0..10.0_f32),
        prop::option::of(0.0..1.0_f32),
        prop::option::of(any::<bool>()),
    );
    (
        select(vec![Class::Vulnerability, Class::Malware, Class::Baseline, Class::Workload]),
        prop::collection::vec(select(Severity::ALL), 0..3),
        prop::collection::vec(select(vec!["A", "b"]).prop_map(str::to_owned), 0..2),
        vulnerability,
        prop::option::of((select(GraceClock::ALL), prop::option::of(select(GraceClock::ALL)))),
        prop::option::weighted(0.3, condition(true)),
        action(),
    )
        .prop_map(|(class, severity, ids, (fixable, cvss, epss, kev), grace, when, action)| {
            let only = class == Class::Vulnerability;
            let graceful = only && action == Action::Block && kev != Some(true);
            let grace = grace.filter(|_| graceful).and_then(|(from, fallback)| {
                let fallback = fallback.filter(|f| *f != from);
                Some(GracePeriod { from, period: "7d".parse().ok()?, fallback })
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
                when,
                action,
            }
        })
}

fn scope() -> impl Strategy<Value = Scope> {
    let labels = prop::collection::btree_map("[ab]".boxed(), "[xy]".boxed(), 0..2);
    (
        selection(word_pattern().boxed()),
        selection(image_pattern().boxed()),
        labels,
        prop::collection::vec(select(Engine::ALL), 0..2),
        selection(word_pattern().boxed()),
    )
        .prop_map(|(namespaces, images, pod_labels, engines, nodes)| Scope {
            namespaces,
            images,
            pod_labels,
            engines,
            nodes,
        })
}

fn on_failure() -> impl Strategy<Value = OnFailure> {
    prop::collection::vec(prop::option::of(action()), 8).prop_map(|cells| OnFailure {
        default: cells[0],
        store_corrupt: cells[1],
        store_unreadable: cells[2],
        identity_unknown: cells[3],
        identity_claimed: cells[4],
        deadline: cells[5],
        audit_unavailable: cells[6],
        no_data: cells[7],
    })
}

fn spec() -> impl Strategy<Value = Spec> {
    let authorized = (prop::collection::vec(image_pattern(), 1..3), any::<bool>(), action())
        .prop_map(|(images, require_digest, action)| Authorized { images, require_digest, action });
    let unscanned = (action(), any::<bool>()).prop_map(|(action, scan)| Unscanned { action, scan });
    let stale = (select(vec!["1h", "7d"]), action()).prop_filter_map("periods", |(age, action)| {
        Some(Stale { max_age: age.parse().ok()?, action })
    });
    let entry = (image_pattern(), any::<bool>(), any::<bool>())
        .prop_map(|(image, malware, workload)| WhitelistEntry { image, malware, workload });
    (
        (select(vec![Mode::Enforce, Mode::Observe]), prop::option::of(time())),
        prop_oneof![Just(Scope::default()), scope()],
        prop::option::of(authorized),
        prop::collection::vec(prop_oneof![5 => rule(), 1 => rule_about_start()], 0..4),
        prop::option::of(unscanned),
        prop::option::of(stale),
        on_failure(),
        (prop::collection::vec(entry, 0..3), prop::collection::vec(exception(), 0..3)),
    )
        .prop_map(
            |(
                (mode, observe_until),
                scope,
                authorized,
                rules,
                unscanned,
                stale,
                on_failure,
                (whitelist, exceptions),
            )| Spec {
                description: None,
                mode,
                observe_until,
                scope,
                authorized,
                rules,
                unscanned,
                stale,
                on_failure,
                whitelist,
                exceptions,
            },
        )
}

fn exception() -> impl Strategy<Value = Exception> {
    (
        select(vec!["a", "B", "A"]),
        prop::option::of(select(vec!["p", "q"])),
        prop::option::of(image_pattern()),
        selection(word_pattern().boxed()),
        prop::option::of(Just("ab".repeat(32))),
        0..40_i16,
    )
        .prop_map(|(id, package, image, namespaces, sha256, year)| Exception {
            id: id.to_owned(),
            package: package.map(ToOwned::to_owned),
            image,
            namespaces,
            sha256,
            expires: jiff::civil::date(1970 + year, 6, 1),
            owner: "someone".to_owned(),
            reason: None,
            ticket: None,
        })
}

fn policy(name: usize, spec: Spec) -> ProtectionPolicy {
    ProtectionPolicy {
        api_version: ApiVersion::V1Alpha1,
        kind: DocumentKind::ProtectionPolicy,
        metadata: Metadata { name: format!("p{name}") },
        spec,
    }
}

fn policies() -> impl Strategy<Value = Vec<ProtectionPolicy>> {
    prop::collection::vec(spec(), 0..4)
        .prop_map(|specs| specs.into_iter().enumerate().map(|(i, s)| policy(i, s)).collect())
}

fn request() -> impl Strategy<Value = Request> {
    (
        select(Engine::ALL),
        select(Kind::ALL),
        select(vec!["", "prod", "prod-1", "test"]),
        prop::collection::btree_map("[ab]", "[xy]", 0..3),
    )
        .prop_map(|(engine, kind, namespace, pod_labels)| Request {
            kind,
            namespace: namespace.to_owned(),
            pod_labels,
            ..Request::new(engine, "prod-1", "c")
        })
}

fn identity() -> impl Strategy<Value = Identity> {
    let name = (reference(), any::<bool>(), any::<bool>());
    (
        select(Surety::ALL),
        prop::option::of(digest()),
        prop::collection::btree_set(digest(), 0..2),
        prop::collection::vec(name, 0..3),
        prop::option::of(any::<String>()),
    )
        .prop_map(|(surety, config, manifests, names, note)| Identity {
            surety,
            chain_id: None,
            config,
            manifests,
            names: names
                .into_iter()
                .filter_map(|(reference, held, asked)| {
                    Some(Name { reference: reference.parse().ok()?, held, asked })
                })
                .collect(),
            note,
        })
}

fn finding() -> impl Strategy<Value = Finding> {
    (
        select(Class::ALL),
        prop_oneof![select(vec!["a", "B"]).prop_map(str::to_owned), any::<String>()],
        select(Severity::ALL),
        prop::option::of(any::<String>()),
        prop::option::of(any::<f32>()),
        prop::option::of(any::<f32>()),
        any::<bool>(),
        prop::collection::vec(prop::option::of(time()), 3),
        prop::option::of(select(vec!["p", "q"])),
        prop::option::of(Just("ab".repeat(32))),
    )
        .prop_map(
            |(class, id, severity, fixed_version, cvss, epss, kev, dates, package, sha256)| {
                Finding {
                    fixed_version: fixed_version.map(Into::into),
                    cvss,
                    epss,
                    kev,
                    published: dates[0],
                    fixed: dates[1],
                    first_seen: dates[2],
                    package: package.map(Into::into),
                    sha256: sha256.map(Into::into),
                    ..Finding::new(class, id, severity, "x")
                }
            },
        )
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let coverage =
        (
            prop::collection::btree_set(select(Class::ALL), 0..4),
            prop::collection::btree_set("[ab]", 0..2),
            prop::collection::btree_set("[ab]", 0..2),
            prop::option::of(Just("debian 12".to_owned())),
            any::<bool>(),
        )
            .prop_map(|(classes, ecosystems, uncovered, distribution, end_of_life)| {
                Coverage { classes, ecosystems, uncovered, distribution, end_of_life }
            });
    let report = (
        time(),
        prop::option::of(time()),
        coverage,
        prop::collection::vec(finding().prop_map(Arc::new), 0..4),
    )
        .prop_map(|(scanned_at, database_at, coverage, findings)| ScanReport {
            scanner: Scanner { name: "x".into(), version: None },
            scanned_at,
            database_at,
            imported_at: scanned_at,
            binding: Binding::ByReport,
            coverage,
            findings,
        });
    (digest(), prop::collection::vec(report, 0..3)).prop_map(|(config, reports)| Verdict {
        image: ImageFacts {
            config,
            chain_id: None,
            manifests: BTreeSet::new(),
            references: BTreeSet::new(),
        },
        reports,
    })
}

fn evidence() -> impl Strategy<Value = Evidence> {
    let failure = (select(Cause::ALL), any::<String>())
        .prop_map(|(cause, detail)| Failure::new(cause, detail));
    let lookup = prop_oneof![
        3 => prop::collection::vec(verdict(), 0..3).prop_map(Lookup::Read),
        1 => Just(Lookup::NotRead),
    ];
    (lookup, prop::collection::vec(failure, 0..3))
        .prop_map(|(lookup, failures)| Evidence { failures, ..Evidence::of(lookup) })
}

fn defaults() -> impl Strategy<Value = Defaults> {
    (action(), action(), action(), prop::collection::btree_set(digest(), 0..2)).prop_map(
        |(default_action, policy_invalid, internal, sandbox_images)| Defaults {
            default_action,
            policy_invalid,
            internal,
            sandbox_images,
        },
    )
}

fn compiled(policies: &[ProtectionPolicy]) -> PolicySet {
    PolicySet::compile(policies.to_vec()).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_stored_set_decides_as_a_fresh_one_and_twice_alike(
        policies in policies(), defaults in defaults(), request in request(),
        identity in identity(), evidence in evidence(), now in time(),
    ) {
        let fresh = compiled(&policies);
        let stored = PolicySet::from_published(&fresh.published(), fresh.digest());
        let stored = stored.unwrap_or_else(|e| panic!("{e}"));
        let answer = |set| {
            let in_force = InForce { set: Some(set), defaults: &defaults };
            decide(&in_force, &request, &identity, &evidence, now)
        };
        prop_assert_eq!(answer(&fresh), answer(&stored));
        prop_assert_eq!(answer(&fresh), answer(&fresh));
    }

    #[test]
    fn every_input_has_an_answer_that_fits_its_parts(
        policies in policies(), published in any::<bool>(), defaults in defaults(),
        request in request(), identity in identity(), evidence in evidence(), now in time(),
    ) {
        let set = compiled(&policies);
        let in_force = InForce { set: published.then_some(&set), defaults: &defaults };
        let decision = decide(&in_force, &request, &identity, &evidence, now);
        let parts = decision.policies.iter().map(|p| p.action);
        let parts = parts.chain(decision.settings.iter().map(|s| s.action));
        prop_assert_eq!(Some(decision.action), parts.max(), "no answer without a reason");
        for answer in &decision.policies {
            prop_assert!(answer.enforced <= answer.unwaived);
            prop_assert!(answer.action <= answer.enforced);
            let effective: Vec<Action> = answer.reasons.iter().map(|r| r.effective()).collect();
            prop_assert!(effective.is_sorted_by(|a, b| a >= b), "the strictest is not first");
        }
    }

    #[test]
    fn an_observing_policy_never_blocks(
        spec in spec(), request in request(), identity in identity(),
        evidence in evidence(), now in time(),
    ) {
        let spec = Spec { mode: Mode::Observe, observe_until: None, ..spec };
        let set = compiled(&[policy(0, spec)]);
        let in_force = InForce { set: Some(&set), defaults: &Defaults::default() };
        let decision = decide(&in_force, &request, &identity, &evidence, now);
        prop_assert!(decision.action < Action::Block);
    }

    // The default action is the answer of no policy and so goes away with the first policy in
    // scope, by design; here it is the mildest.
    #[test]
    fn adding_a_policy_never_loosens(
        policies in policies(), more in spec(), request in request(),
        identity in identity(), evidence in evidence(), now in time(),
    ) {
        let defaults = Defaults { default_action: Action::Allow, ..Defaults::default() };
        let answer = |policies: &[ProtectionPolicy]| {
            let set = compiled(policies);
            let in_force = InForce { set: Some(&set), defaults: &defaults };
            decide(&in_force, &request, &identity, &evidence, now).action
        };
        let before = answer(&policies);
        let mut with_more = policies.clone();
        with_more.push(policy(policies.len(), more));
        prop_assert!(answer(&with_more) >= before);
    }

    #[test]
    fn a_whitelist_never_tightens_and_a_failure_never_loosens(
        spec in spec(), request in request(), identity in identity(),
        evidence in evidence(), now in time(), cause in select(Cause::ALL),
    ) {
        let defaults = Defaults::default();
        let answer = |spec: &Spec, evidence: &Evidence| {
            let set = compiled(&[policy(0, spec.clone())]);
            let in_force = InForce { set: Some(&set), defaults: &defaults };
            decide(&in_force, &request, &identity, evidence, now).action
        };
        let without = Spec { whitelist: Vec::new(), ..spec.clone() };
        prop_assert!(answer(&spec, &evidence) <= answer(&without, &evidence));
        // A store that cannot be read takes the place of `unscanned`, and a cause that is met
        // explains a store that was not read; so only where something was read that tells.
        if evidence.verdicts().iter().flat_map(|v| &v.reports).any(ScanReport::says_something) {
            let mut failed = evidence.clone();
            failed.failures.push(Failure::new(cause, "more"));
            prop_assert!(answer(&spec, &failed) >= answer(&spec, &evidence));
        }
    }

    #[test]
    fn exceptions_and_grace_never_tighten(
        spec in spec(), request in request(), identity in identity(),
        evidence in evidence(), now in time(),
    ) {
        let defaults = Defaults::default();
        let answer = |spec: &Spec| {
            let set = compiled(&[policy(0, spec.clone())]);
            let in_force = InForce { set: Some(&set), defaults: &defaults };
            decide(&in_force, &request, &identity, &evidence, now).action
        };
        let strict = Spec { exceptions: Vec::new(), ..spec.clone() };
        prop_assert!(answer(&spec) <= answer(&strict));
        let mut stricter = strict.clone();
        stricter.rules.iter_mut().for_each(|rule| rule.grace = None);
        prop_assert!(answer(&strict) <= answer(&stricter));
    }

    // The index looks at few rules; this looks at all.
    #[test]
    fn the_strictest_rule_that_matches_speaks(
        rules in prop::collection::vec(rule(), 0..12), finding in finding(),
        request in request(), now in time(),
    ) {
        let spec = Spec { rules: rules.clone(), ..Spec::default() };
        let set = compiled(&[policy(0, spec)]);
        let in_force = InForce { set: Some(&set), defaults: &Defaults::default() };
        let evidence = Evidence {
            workload: Workload::Read(vec![Arc::new(finding.clone())]),
            ..Evidence::read(Vec::new())
        };
        let decision =
            decide(&in_force, &request, &Identity::unknown(""), &evidence, now);
        let said = decision.policies.iter().flat_map(|p| &p.reasons).find_map(|r| {
            matches!(r.subject, Subject::Finding(_)).then(|| (r.unwaived(), r.rule.to_string()))
        });
        let alone = |rule: &Rule| {
            let spec = Spec { rules: vec![rule.clone()], ..Spec::default() };
            let set = compiled(&[policy(0, spec)]);
            let in_force = InForce { set: Some(&set), defaults: &Defaults::default() };
            let decision = decide(&in_force, &request, &Identity::unknown(""), &evidence, now);
            decision.policies.iter().flat_map(|p| &p.reasons).find_map(|r| {
                matches!(r.subject, Subject::Finding(_)).then(|| (r.unwaived(), r.action))
            })
        };
        let wanted = rules
            .iter()
            .enumerate()
            .filter_map(|(index, rule)| Some((alone(rule)?, index)))
            .max_by_key(|(weight, index)| (*weight, std::cmp::Reverse(*index)))
            .map(|((effect, _), index)| (effect, format!("rules[{index}]")));
        prop_assert_eq!(said, wanted);
    }

    #[test]
    fn no_failure_blocks_a_sandbox_that_nothing_is_found_against(
        policies in policies(), failures in prop::collection::vec(select(Cause::ALL), 0..5),
        identity in identity(), now in time(),
    ) {
        let request = Request { kind: Kind::Sandbox, ..Request::new(Engine::Containerd, "prod-1", "c") };
        // What a condition says of the start is no failure.
        let mut policies = policies;
        policies.iter_mut().for_each(|p| p.spec.rules.retain(|rule| rule.class.is_some()));
        let set = compiled(&policies);
        let defaults = Defaults {
            policy_invalid: Action::Block,
            internal: Action::Block,
            ..Defaults::default()
        };
        let in_force = InForce { set: Some(&set), defaults: &defaults };
        let identity = Identity { surety: Surety::Unknown, ..identity };
        let failures = failures.into_iter().map(|c| Failure::new(c, "")).collect();
        let evidence = Evidence { failures, ..Evidence::of(Lookup::NotRead) };
        let decision = decide(&in_force, &request, &identity, &evidence, now);
        prop_assert!(decision.action < Action::Block, "{:?}", decision);
    }

    #[test]
    fn bytes_that_are_no_set_are_refused_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(PolicySet::from_published(&bytes, &Digest::sha256([0; 32])).is_err());
    }
}
