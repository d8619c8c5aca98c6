//! Policies: as people write them, as doors read them, and their conditions.

use std::sync::LazyLock;

use portcullis_policy::yaml::{self, SourceFile};
use portcullis_policy::{
    Asked, COST_LIMIT, Cost, EvaluationError, Expression, Fault, Input, PolicySet, ProtectionPolicy,
};
use portcullis_types::{
    Class, Digest, Engine, Finding, Identity, ImageConfig, Request, Severity, Timestamp,
};

use crate::text::{printable, told};

/// A policy file.
///
/// Accepted: its documents survive JSON, and if they are a set, the set survives being published.
/// Refused: each fault has a place in the file and is short.
pub fn policy_yaml(data: &[u8]) -> bool {
    let lines = 1 + data.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    match yaml::read(&[SourceFile { name: "p.yaml", bytes: data }]) {
        Err(faults) => {
            assert!(!faults.is_empty(), "refused without a fault");
            for fault in &faults {
                let place = fault.place.as_ref().expect("a fault of a file has a place");
                assert!((1..=lines + 1).contains(&place.line), "{place} of {lines} lines");
                short(fault);
            }
            false
        }
        Ok(policies) => {
            for policy in &policies {
                let json = serde_json::to_vec(policy).expect("a policy can be written");
                let again: ProtectionPolicy =
                    serde_json::from_slice(&json).expect("what was written is read");
                assert_eq!(&again, policy);
            }
            match PolicySet::compile(policies) {
                Ok(set) => publishes(&set),
                Err(faults) => faults.iter().for_each(short),
            }
            true
        }
    }
}

fn short(fault: &Fault) {
    printable("a fault", &fault.to_string(), 8 << 10);
}

fn publishes(set: &PolicySet) {
    let again = PolicySet::from_published(&set.published(), set.digest());
    assert_eq!(&again.expect("what was published is read"), set);
}

/// A published set, under its true digest.
///
/// Accepted: it has the digest of its bytes, and publishing it anew gives a set that is read as
/// the same policies and statements.
pub fn published_set(data: &[u8]) -> bool {
    let digest = Digest::of(data);
    match PolicySet::from_published(data, &digest) {
        Err(error) => {
            told(&error);
            false
        }
        Ok(set) => {
            assert_eq!(*set.digest(), digest);
            let bytes = set.published();
            let again = PolicySet::from_published(&bytes, &Digest::of(&bytes))
                .expect("what was published is read");
            assert!(again.policies().eq(set.policies()));
            assert_eq!(again.vex().statements(), set.vex().statements());
            assert_eq!(again.published(), bytes, "publishing is not stable");
            true
        }
    }
}

/// A start with values in some fields and none in others.
struct Start {
    identity: Identity,
    image: ImageConfig,
    request: Request,
    finding: Finding,
    now: Timestamp,
}

static START: LazyLock<Start> = LazyLock::new(|| {
    let label = || [("team".to_owned(), "web".to_owned())].into();
    let mut request = Request::new(Engine::Containerd, "edge-1", "c1");
    request.namespace = "prod".to_owned();
    request.pod_labels = label();
    let mut finding =
        Finding::new(Class::Vulnerability, "CVE-2026-0001", Severity::High, "scanner");
    finding.aliases = vec!["GHSA-aaaa".into()];
    finding.package = Some("zlib".into());
    finding.cvss = Some(7.5);
    finding.published = Some(Timestamp::UNIX_EPOCH);
    Start {
        identity: Identity::unknown("none"),
        image: ImageConfig {
            created: Some(Timestamp::UNIX_EPOCH),
            user: "1000".to_owned(),
            labels: label(),
        },
        request,
        finding,
        now: Timestamp::from_second(1_800_000_000).expect("it is a time"),
    }
});

/// A condition.
///
/// Accepted: it is written as it was read. If its types are right, it never meets an error of
/// types, always answers the same, and costs no more than the limit; a budget that is too small
/// gives either the same answer or that it is too small.
pub fn cel(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let expression: Expression = match text.parse() {
        Ok(expression) => expression,
        Err(error) => {
            told(&error);
            return false;
        }
    };
    assert_eq!(expression.as_str(), text);
    for asked in [Asked::PerStart, Asked::PerFinding] {
        match expression.check(asked) {
            Err(error) => told(&error),
            Ok(()) => evaluates(&expression, asked),
        }
    }
    true
}

fn evaluates(expression: &Expression, asked: Asked) {
    let start = &*START;
    let mut input = Input::new(&start.identity, Some(&start.image), &start.request, start.now);
    input.finding = matches!(asked, Asked::PerFinding).then_some(&start.finding);
    let mut cost = Cost::new(2 * COST_LIMIT);
    let answer = expression.evaluate(&input, &mut cost);
    let used = 2 * COST_LIMIT - cost.left();
    assert!(used <= COST_LIMIT, "it cost {used}");
    if let Err(error) = &answer {
        told(error);
        assert!(
            !matches!(
                error,
                EvaluationError::NoOverload { .. }
                    | EvaluationError::NotBool(_)
                    | EvaluationError::NoFinding
            ),
            "a checked expression met: {error}"
        );
    }
    assert_eq!(expression.evaluate(&input, &mut Cost::new(COST_LIMIT)), answer);
    let poor = expression.evaluate(&input, &mut Cost::new(used / 2));
    assert!(
        poor == answer || poor == Err(EvaluationError::TooCostly),
        "{poor:?} is not {answer:?}"
    );
}
