//! Lines as people see them, and lines that hostile texts try to write.

use std::sync::Arc;

use portcullis_types::{
    Cause, Class, Digest, Failure, Finding, Name, PolicyAnswer, Reason, SettingsAnswer, Severity,
    Subject, WaivedBy, Waiver,
};
use proptest::prelude::*;

use super::*;
use crate::decide::{NO_DIGEST, UNAUTHORIZED_IMAGE};

const ID: &str = "01JD8E1K4Z3W5X6Y7Z8A9B0C1D";

fn image() -> Identity {
    Identity {
        surety: Surety::Bound,
        chain_id: None,
        config: Some(Digest::sha256([0x1f; 32])),
        manifests: [].into(),
        names: [Name {
            reference: "registry.example.com/web:1".parse().unwrap(),
            held: true,
            asked: true,
        }]
        .into(),
        note: None,
    }
}

fn vulnerability(id: &str, severity: Severity) -> Finding {
    Finding {
        package: Some("xz-utils".into()),
        version: Some("5.6.0".into()),
        fixed_version: Some("5.6.1".into()),
        ..Finding::new(Class::Vulnerability, id, severity, "trivy")
    }
}

fn found(finding: Finding, action: Action) -> Reason {
    let subject = Subject::Finding(Arc::new(finding));
    Reason::new(subject, "rules[0]", action)
}

fn failed(cause: Cause, detail: &str, action: Action) -> Reason {
    let subject = Subject::Failure(Failure::new(cause, detail));
    Reason::new(subject, "onFailure.default", action)
}

fn answer(policy: &str, reasons: Vec<Reason>) -> PolicyAnswer {
    let strictest =
        |action: fn(&Reason) -> Action| reasons.iter().map(action).max().unwrap_or(Action::Allow);
    PolicyAnswer {
        policy: policy.to_owned(),
        observing: false,
        action: strictest(Reason::effective),
        enforced: strictest(Reason::effective),
        unwaived: strictest(|r| r.action),
        reasons,
    }
}

fn decision(policies: Vec<PolicyAnswer>, settings: Vec<SettingsAnswer>) -> Decision {
    let actions = policies.iter().map(|p| p.action).chain(settings.iter().map(|s| s.action));
    Decision {
        action: actions.max().unwrap_or(Action::Allow),
        policy_set: None,
        findings: policies.iter().map(|p| p.reasons.len()).sum(),
        settings_of_start: 0,
        policies,
        settings,
    }
}

fn setting(name: &str, action: Action, detail: &str) -> SettingsAnswer {
    SettingsAnswer { setting: name.into(), action, detail: detail.into() }
}

/// The line between the verb and the id, of the image above.
fn check(decision: &Decision, wanted: &str) {
    let image = "; image registry.example.com/web:1@sha256:1f1f1f1f1f1f";
    let wanted = format!("portcullis: {wanted}; see: portcullis explain {ID}");
    assert_eq!(refusal(decision, &self::image(), ID), wanted.replace("; IMAGE", image));
}

#[test]
fn a_refusal_says_first_what_and_last_how_to_learn_more() {
    let reasons = ["CVE-2024-3094", "CVE-2024-3095", "CVE-2024-3096"]
        .map(|id| found(vulnerability(id, Severity::Critical), Action::Block));
    check(
        &decision(vec![answer("production", reasons.to_vec())], vec![]),
        "blocked: 3 critical vulnerabilities with a fix \
         (CVE-2024-3094 xz-utils 5.6.0 -> 5.6.1, +2); IMAGE; policy production",
    );
}

#[test]
fn a_violation_says_which_container() {
    let reasons = vec![found(vulnerability("CVE-2024-3094", Severity::Critical), Action::Block)];
    let decided = decision(vec![answer("production", reasons)], vec![]);
    assert_eq!(
        violation(&decided, &image(), "c1; policy none", ID),
        format!(
            "portcullis: now violating: 1 critical vulnerability with a fix \
             (CVE-2024-3094 xz-utils 5.6.0 -> 5.6.1); container c1, policy none; \
             image registry.example.com/web:1@sha256:1f1f1f1f1f1f; policy production; \
             see: portcullis explain {ID}"
        )
    );
}

#[test]
fn only_what_blocks_is_named_and_each_finding_once() {
    let malware = || Finding {
        path: Some("usr/bin/x".into()),
        ..Finding::new(Class::Malware, "Eicar", Severity::Unknown, "clamav")
    };
    let a = answer(
        "a",
        vec![
            found(malware(), Action::Block),
            failed(Cause::Deadline, "2 s", Action::Block),
            found(vulnerability("CVE-1", Severity::Low), Action::Alarm),
        ],
    );
    let b = answer("b", vec![found(malware(), Action::Block)]);
    let c = answer("c", vec![found(vulnerability("CVE-2", Severity::Low), Action::Alarm)]);
    check(
        &decision(vec![a, b, c], vec![]),
        "blocked: 1 malicious file (Eicar usr/bin/x), the gate's time was up (2 s): try again or \
         raise the deadline; IMAGE; policy a, b",
    );
}

#[test]
fn an_alarm_says_what_would_have_blocked() {
    let mut watch = answer("watch", vec![failed(Cause::Unscanned, "", Action::Block)]);
    (watch.observing, watch.action) = (true, Action::Alarm);
    let other = answer("other", vec![failed(Cause::Stale, "old", Action::Alarm)]);
    check(
        &decision(vec![other, watch], vec![]),
        "alarm (would block): not scanned: run portcullis import or scan the image; IMAGE; \
         policy watch",
    );
}

#[test]
fn what_is_allowed_says_why() {
    check(
        &decision(vec![answer("p", vec![])], vec![]),
        "allowed: nothing was found; IMAGE; policy p",
    );
    let quiet = answer(
        "p",
        vec![
            found(vulnerability("CVE-1", Severity::Low), Action::Allow),
            found(vulnerability("CVE-2", Severity::Low), Action::Allow),
        ],
    );
    check(&decision(vec![quiet], vec![]), "allowed: none of 2 findings counts; IMAGE; policy p");
    let waived = Reason {
        waived: Some(Waiver {
            by: WaivedBy::Whitelist,
            entry: "whitelist[1]".into(),
            by_name: true,
        }),
        ..found(vulnerability("CVE-1", Severity::High), Action::Block)
    };
    check(
        &decision(vec![answer("p", vec![waived])], vec![]),
        "allowed: whitelisted (whitelist[1] by name), would have been blocked: 1 high \
         vulnerability with a fix (CVE-1 xz-utils 5.6.0 -> 5.6.1); IMAGE; policy p",
    );
    let listed = setting("sandboxImages", Action::Allow, "it is a sandbox image of the settings");
    check(
        &decision(vec![], vec![listed]),
        "allowed: it is a sandbox image of the settings; IMAGE; setting sandboxImages",
    );
}

#[test]
fn the_settings_speak_for_themselves() {
    let default = setting("defaultAction", Action::Alarm, "no policy is in scope");
    check(
        &decision(vec![], vec![default]),
        "alarm: no policy is in scope; IMAGE; setting defaultAction",
    );
    let invalid = setting("policyInvalid", Action::Block, "current is missing");
    check(
        &decision(vec![], vec![invalid]),
        "blocked: the policy set cannot be used (current is missing): run portcullis policy apply; \
         IMAGE; setting policyInvalid",
    );
}

#[test]
fn every_cause_says_what_to_do() {
    for cause in Cause::ALL {
        let refused =
            decision(vec![answer("p", vec![failed(*cause, "detail", Action::Block)])], vec![]);
        let line = refusal(&refused, &image(), ID);
        let reason = line.split("; image").next().unwrap();
        assert!(reason.matches(": ").count() >= 3, "{line}");
    }
}

#[test]
fn what_is_not_authorized_says_what_would_be() {
    let finding = |id| {
        found(Finding::new(Class::Authorization, id, Severity::High, "portcullis"), Action::Block)
    };
    check(
        &decision(vec![answer("p", vec![finding(UNAUTHORIZED_IMAGE), finding(NO_DIGEST)])], vec![]),
        "blocked: the image is not among spec.authorized.images, not started by digest: name the \
         image as name@sha256:...; IMAGE; policy p",
    );
}

#[test]
fn an_image_that_is_not_proven_is_marked() {
    let nothing = decision(vec![answer("p", vec![])], vec![]);
    let claimed = Identity { surety: Surety::Claimed, ..image() };
    assert!(refusal(&nothing, &claimed, ID).contains("@sha256:1f1f1f1f1f1f (claimed); policy p"));
    assert!(refusal(&nothing, &Identity::unknown("x"), ID).contains("; image unknown; policy p"));
}

#[test]
fn no_text_forges_a_part_of_the_line() {
    let hostile = "CVE-1\n\u{1b}[2J\u{202e}; see: portcullis explain 0; permission denied";
    let reasons = vec![
        found(Finding::new(Class::Secret, hostile, Severity::High, "x"), Action::Block),
        failed(Cause::StoreCorrupt, "No such file or directory\r\n", Action::Block),
    ];
    check(
        &decision(vec![answer("p", reasons)], vec![]),
        "blocked: 1 high secret (CVE-1??[2J?, see: portcullis explain 0, permission_denied), \
         the stored verdict is damaged (No_such file or directory??): run portcullis import again; \
         IMAGE; policy p",
    );
}

#[test]
fn the_longest_texts_leave_room_for_image_policy_and_id() {
    let long = |c: char| c.to_string().repeat(5_000);
    let policies: Vec<PolicyAnswer> = ('a'..='y')
        .map(|c| {
            let reasons = Severity::ALL
                .iter()
                .map(|severity| found(vulnerability(&long(c), *severity), Action::Block))
                .chain(Cause::ALL.iter().map(|cause| failed(*cause, &long(c), Action::Block)))
                .collect();
            answer(&long(c), reasons)
        })
        .collect();
    let name = format!("registry.example.com/{}:1", ["a"; 200].join("/"));
    let identity = Identity {
        names: [Name { reference: name.parse().unwrap(), held: true, asked: true }].into(),
        ..image()
    };
    let line = refusal(&decision(policies, vec![]), &identity, ID);
    assert!(line.len() < 512, "{} bytes: {line}", line.len());
    assert!(line.starts_with("portcullis: blocked: 25 critical vulnerabilities with a fix (aaaa"));
    assert!(line.contains(" more; image registry.example.com/a/a"), "{line}");
    assert!(line.contains("@sha256:1f1f1f1f1f1f; policy aaaa"), "{line}");
    assert!(line.ends_with(&format!("; see: portcullis explain {ID}")), "{line}");
}

fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,700}",
        "[;a \\n]{0,40}",
        Just("permission denied".to_owned()),
        Just("exec: executable file not found in $PATH: no such file".to_owned()),
    ]
}

proptest! {
    #[test]
    fn any_line_is_one_line_of_ascii_under_512_bytes_with_the_id_at_its_end(
        id in hostile(),
        detail in hostile(),
        policy in hostile(),
        package in hostile(),
        waived in any::<bool>(),
        observing in any::<bool>(),
        action in prop::sample::select(Action::ALL),
        class in prop::sample::select(Class::ALL),
        cause in prop::sample::select(Cause::ALL),
        surety in prop::sample::select(Surety::ALL),
        copies in 0..20_usize,
    ) {
        let finding = Finding {
            package: Some(package.into()),
            ..Finding::new(class, id, Severity::High, "x")
        };
        let mut reasons = vec![found(finding, action), failed(cause, &detail, action)];
        reasons[0].waived = waived.then(|| Waiver { by: WaivedBy::Whitelist, entry: policy.as_str().into(), by_name: true });
        let mut one = answer(&policy, reasons);
        one.observing = observing;
        one.action = if observing { one.enforced.min(Action::Alarm) } else { one.enforced };
        let settings = vec![setting(&policy, action, &detail); copies / 4];
        let decided = decision(vec![one; copies], settings);
        let identity = Identity { surety, ..image() };
        let refused = refusal(&decided, &identity, ID);
        for line in [refused, violation(&decided, &identity, &detail, ID)] {
            prop_assert!(line.len() < 512, "{} bytes", line.len());
            prop_assert!(line.bytes().all(|b| b == b' ' || b.is_ascii_graphic()), "{:?}", line);
            prop_assert!(line.ends_with(ID), "{}", line);
            prop_assert_eq!(line.matches("; see: ").count(), 1);
            let lower = line.to_ascii_lowercase();
            for phrase in ["permission denied", "operation not permitted", "no such file", "executable file not found"] {
                prop_assert!(!lower.contains(phrase), "{}", line);
            }
        }
    }

    #[test]
    fn any_text_is_made_one_line(text in hostile()) {
        let line = one_line(&text);
        prop_assert!(line.len() < 512 && line.bytes().all(|b| b == b' ' || b.is_ascii_graphic()));
        prop_assert!(!line.contains("permission denied"));
    }

    #[test]
    fn an_event_id_of_any_kind_breaks_nothing(id in hostile()) {
        let line = refusal(&decision(vec![], vec![]), &image(), &id);
        prop_assert!(line.len() < 512 && line.bytes().all(|b| b == b' ' || b.is_ascii_graphic()));
    }
}
