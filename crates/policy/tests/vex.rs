//! Which VEX statement counts: one statement at a time from `data/vex.json`, then several.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its cases has failed")]

use std::collections::BTreeSet;

use portcullis_policy::{VexIndex, VexJudgement, VexMatch, vex_applies};
use portcullis_types::{
    Class, Digest, Finding, Identity, Name, Severity, Surety, Text, Timestamp, VexImage,
    VexProduct, VexStatement, VexStatus,
};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;

fn digest(digit: u8) -> Digest {
    Digest::sha256([digit * 0x11; 32])
}

fn image(text: &str) -> VexImage {
    VexImage::try_from(text.to_owned()).unwrap()
}

/// An image with configuration 1 and manifest 2, held as `ghcr.io/acme/web:1`, and asked for by
/// another name.
fn identity(kind: &str) -> Identity {
    let name = |text: &str, held| Name { reference: text.parse().unwrap(), held, asked: !held };
    let bound = Identity {
        surety: Surety::Bound,
        chain_id: None,
        config: Some(digest(1)),
        manifests: [digest(2)].into(),
        names: [name("ghcr.io/acme/web:1", true), name("docker.io/evil/web:1", false)].into(),
        note: None,
    };
    match kind {
        "bound" => bound,
        "nameless" => Identity { names: BTreeSet::new(), ..bound },
        "several" => Identity { config: None, ..bound },
        "claimed" => Identity {
            surety: Surety::Claimed,
            note: Some("an annotation only".to_owned()),
            ..bound
        },
        "unknown" => Identity::unknown("nothing names it"),
        other => panic!("{other} is no identity"),
    }
}

fn finding() -> Finding {
    Finding {
        aliases: vec!["GHSA-aaaa-bbbb-cccc".into()],
        package: Some("openssl".into()),
        version: Some("3.0.11-1".into()),
        purl: Some("pkg:deb/debian/openssl@3.0.11-1?arch=amd64&distro=debian-12".into()),
        ..Finding::new(Class::Vulnerability, "CVE-2024-1", Severity::High, "trivy")
    }
}

fn statement(status: VexStatus, stated_at: Option<i64>, products: Vec<VexProduct>) -> VexStatement {
    VexStatement {
        source: "a.json statement 1".into(),
        vulnerability: vec!["cve-2024-1".into()],
        status,
        justification: None,
        stated_at: stated_at.map(|second| Timestamp::from_second(second).unwrap()),
        products,
    }
}

fn product(image: VexImage, packages: &[&str]) -> VexProduct {
    let packages = packages.iter().map(|purl| Text::from(*purl)).collect();
    VexProduct { name: None, image, packages }
}

/// The finding of a case: the usual one with what the case says, where `null` takes a field out.
fn changed(changes: &Value) -> Finding {
    let mut json = serde_json::to_value(finding()).unwrap();
    for (key, value) in changes.as_object().into_iter().flatten() {
        json[key] = value.clone();
    }
    serde_json::from_value(json).unwrap()
}

#[test]
fn each_statement_applies_or_says_why_not() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("data/vex.json")).unwrap();
    assert!(cases.len() > 50, "only {} cases were found", cases.len());
    for case in &cases {
        let text = |key: &str| case[key].as_str();
        let list = |key: &str| -> Vec<Text> {
            case[key].as_array().into_iter().flatten().map(|t| t.as_str().unwrap().into()).collect()
        };
        let product = VexProduct {
            name: text("name").map(Text::from),
            image: text("image").map(image).unwrap_or_default(),
            packages: list("packages"),
        };
        let status = text("status").map_or(VexStatus::NotAffected, |s| s.parse().unwrap());
        let mut statement = statement(status, None, vec![product]);
        if case["vulnerability"].is_array() {
            statement.vulnerability = list("vulnerability");
        }
        let (note, finding) = (text("note").unwrap(), changed(&case["finding"]));
        let identity = identity(text("identity").unwrap_or("bound"));
        let answer = vex_applies(&statement, &statement.products[0], &finding, &identity);
        let shown = answer.as_ref().map_or_else(ToString::to_string, ToString::to_string);
        assert_eq!(shown, text("wanted").unwrap(), "{note}");

        let index = VexIndex::new(vec![statement.clone()]);
        let judged = index.judge(&finding, &identity).map(|j| j.how);
        assert_eq!(judged, answer.as_ref().ok().copied(), "{note}: the index says otherwise");
        let is_named = statement.vulnerability.iter().any(|id| finding.is_called(id));
        let answers = index.explain(&finding, &identity);
        assert_eq!(answers.len(), usize::from(is_named), "{note}");
        assert!(answers.iter().all(|a| a.answer == answer), "{note}: explained otherwise");
    }
}

/// `status@time` for statements that apply; the one that counts.
fn counts(statements: &str) -> String {
    let statements: Vec<_> = statements
        .split_whitespace()
        .map(|text| {
            let (status, time) = text.split_once('@').unwrap();
            let mut of = statement(
                status.parse().unwrap(),
                time.parse().ok(),
                vec![product(VexImage::Any, &["pkg:deb/debian/openssl"])],
            );
            of.source = text.into();
            of
        })
        .collect();
    let index = VexIndex::new(statements);
    index.judge(&finding(), &identity("bound")).unwrap().statement.source.to_string()
}

#[test]
fn the_latest_counts_and_else_the_most_cautious() {
    for (statements, wanted) in [
        ("not_affected@1", "not_affected@1"),
        ("not_affected@1 affected@2", "affected@2"),
        ("affected@2 not_affected@1", "affected@2"),
        ("affected@1 not_affected@2", "not_affected@2"),
        ("not_affected@1 affected@1", "affected@1"),
        ("fixed@1 not_affected@1", "fixed@1"),
        ("not_affected@1 under_investigation@1 fixed@1", "under_investigation@1"),
        ("under_investigation@1 affected@1", "affected@1"),
        ("not_affected@9 affected@-", "affected@-"),
        ("not_affected@- affected@9", "affected@9"),
        ("not_affected@- affected@8 fixed@9", "fixed@9"),
        ("under_investigation@- not_affected@- affected@1 fixed@2", "under_investigation@-"),
    ] {
        assert_eq!(counts(statements), wanted, "{statements}");
    }
}

#[test]
fn what_may_be_affected_overrules_an_older_general_statement() {
    let general = product(VexImage::Any, &["pkg:deb/debian/openssl"]);
    let of_image = product(image("ghcr.io/acme/web"), &[]);
    let index = VexIndex::new(vec![
        statement(VexStatus::NotAffected, Some(1), vec![general]),
        statement(VexStatus::Affected, Some(2), vec![of_image]),
    ]);
    let finding = finding();
    let how = |kind| {
        let judged = index.judge(&finding, &identity(kind)).unwrap();
        (judged.suppresses(), judged.how)
    };
    assert_eq!(how("bound"), (false, VexMatch::Name));
    assert_eq!(how("unknown"), (false, VexMatch::Possible));
    assert_eq!(how("claimed"), (false, VexMatch::Possible));
    assert_eq!(how("nameless"), (true, VexMatch::Package));
}

#[test]
fn the_surer_of_two_products_is_named() {
    let products = vec![
        product(image("ghcr.io/acme/web"), &[]),
        product(VexImage::Any, &["pkg:deb/debian/openssl"]),
        product(VexImage::Digest(digest(2)), &[]),
    ];
    let index = VexIndex::new(vec![statement(VexStatus::Fixed, None, products)]);
    let judged = index.judge(&finding(), &identity("bound")).map(|j| (j.how, j.is_by_name()));
    assert_eq!(judged, Some((VexMatch::Image, false)));
    let by_name = vec![product(image("ghcr.io/acme/web"), &[])];
    let index = VexIndex::new(vec![statement(VexStatus::Fixed, None, by_name)]);
    assert!(index.judge(&finding(), &identity("bound")).unwrap().is_by_name());
}

// Few words, so that things meet.

fn an_id() -> impl Strategy<Value = Text> {
    select(vec!["CVE-2024-1", "cve-2024-1", "CVE-2024-2", "GHSA-1", "ghsa-1"]).prop_map(Text::from)
}

fn a_purl() -> impl Strategy<Value = Text> {
    let name =
        select(vec!["pkg:deb/debian/a", "pkg:npm/%40s/a", "pkg:npm/A_b", "pkg:pypi/a_B", "a"]);
    let version = select(vec!["", "@1", "@v1", "@2:1", "@2"]);
    let qualifiers = select(vec!["", "?arch=x", "?arch=y&epoch=2"]);
    (name, version, qualifiers).prop_map(|(name, v, q)| format!("{name}{v}{q}").into())
}

fn a_finding() -> impl Strategy<Value = Finding> {
    (
        an_id(),
        prop::collection::vec(an_id(), 0..2),
        select(vec![Class::Vulnerability, Class::Vulnerability, Class::Malware]),
        prop::option::of(select(vec!["a", "@s/a", "s:a", "A_b", "a-b"])),
        prop::option::of(select(vec!["1", "v1", "2:1"])),
        prop::option::of(a_purl()),
    )
        .prop_map(|(id, aliases, class, package, version, purl)| Finding {
            aliases,
            package: package.map(Text::from),
            version: version.map(Text::from),
            purl,
            ..Finding::new(class, id, Severity::High, "trivy")
        })
}

fn a_product() -> impl Strategy<Value = VexProduct> {
    let image = prop_oneof![
        3 => Just(VexImage::Any),
        2 => (1..4_u8).prop_map(|digit| VexImage::Digest(digest(digit))),
        2 => select(vec!["ghcr.io/acme/web", "ghcr.io/acme/web:2", "docker.io/evil/web"]).prop_map(image),
        1 => Just(VexImage::Named),
    ];
    (image, prop::collection::vec(a_purl(), 0..3)).prop_map(|(image, packages)| VexProduct {
        name: None,
        image,
        packages,
    })
}

fn a_statement() -> impl Strategy<Value = VexStatement> {
    (
        prop::collection::vec(an_id(), 1..3),
        select(VexStatus::ALL),
        prop::option::of(0..4_i64),
        prop::collection::vec(a_product(), 1..3),
    )
        .prop_map(|(vulnerability, status, time, products)| VexStatement {
            vulnerability,
            ..statement(status, time, products)
        })
}

fn an_identity() -> impl Strategy<Value = Identity> {
    select(vec!["bound", "nameless", "several", "claimed", "unknown"]).prop_map(identity)
}

/// What counts, by the rule as it is written, over all statements and products.
fn by_the_rule(
    statements: &[VexStatement],
    finding: &Finding,
    identity: &Identity,
) -> Option<(usize, usize, VexMatch)> {
    let mut all = Vec::new();
    for (s, statement) in statements.iter().enumerate() {
        for (p, product) in statement.products.iter().enumerate() {
            if let Ok(how) = vex_applies(statement, product, finding, identity) {
                all.push((statement, s, p, how));
            }
        }
    }
    let latest = all.iter().filter_map(|(statement, ..)| statement.stated_at).max();
    all.retain(|(s, ..)| s.stated_at.is_none() || s.stated_at == latest);
    let caution = [
        VexStatus::Affected,
        VexStatus::UnderInvestigation,
        VexStatus::Fixed,
        VexStatus::NotAffected,
    ];
    let of = |status| caution.iter().position(|c| *c == status);
    let best = all.into_iter().min_by_key(|(s, n, p, how)| (of(s.status), *how, *n, *p));
    best.map(|(_, s, p, how)| (s, p, how))
}

/// Statements that nothing here applies to, so many that the index sorts by package.
fn crowd() -> VexStatement {
    let packages = (0..40).map(|n| format!("pkg:npm/of-a-crowd-{n}").into()).collect();
    let ids = ["CVE-2024-1", "CVE-2024-2", "GHSA-1"].map(Text::from);
    let product = VexProduct { name: None, image: VexImage::Any, packages };
    let crowd = statement(VexStatus::Affected, None, vec![product]);
    VexStatement { vulnerability: ids.into(), ..crowd }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_index_finds_what_the_rule_finds(
        statements in prop::collection::vec(a_statement(), 0..6),
        is_crowded in any::<bool>(),
        findings in prop::collection::vec(a_finding(), 1..4),
        identity in an_identity(),
    ) {
        let mut statements = statements;
        statements.extend(is_crowded.then(crowd));
        let index = VexIndex::new(statements.clone());
        for finding in &findings {
            let judged = index.judge(finding, &identity);
            let wanted = by_the_rule(&statements, finding, &identity);
            let wanted = wanted.map(|(s, p, how)| VexJudgement {
                statement: &statements[s],
                product: &statements[s].products[p],
                how,
            });
            prop_assert_eq!(judged, wanted);
            if let Some(judged) = judged {
                let ids = &judged.statement.vulnerability;
                prop_assert!(ids.iter().any(|id| finding.is_called(id)));
                prop_assert_eq!(finding.class, Class::Vulnerability);
                prop_assert!(!(judged.suppresses() && judged.how == VexMatch::Possible));
                prop_assert!(
                    identity.is_bound()
                        || judged.product.image == VexImage::Any
                        || !judged.suppresses()
                );
            }
        }
    }

    #[test]
    fn a_later_word_that_it_is_affected_ends_the_suppression(
        statements in prop::collection::vec(a_statement(), 1..6),
        finding in a_finding(),
        identity in an_identity(),
    ) {
        let mut later = statements.clone();
        for of in &statements {
            let stated_at = Timestamp::from_second(9).ok();
            later.push(VexStatement { status: VexStatus::Affected, stated_at, ..of.clone() });
        }
        let index = VexIndex::new(later);
        prop_assert!(index.judge(&finding, &identity).is_none_or(|judged| !judged.suppresses()));
    }

    #[test]
    fn the_order_of_statements_does_not_change_what_is_said(
        statements in prop::collection::vec(a_statement(), 1..6),
        finding in a_finding(),
        identity in an_identity(),
    ) {
        let said = |statements: Vec<_>| {
            let index = VexIndex::new(statements);
            index.judge(&finding, &identity).map(|j| (j.statement.status, j.how))
        };
        let mut turned = statements.clone();
        turned.reverse();
        prop_assert_eq!(said(statements), said(turned));
    }

    #[test]
    fn what_is_not_published_would_never_have_counted(
        statements in prop::collection::vec(a_statement(), 1..6),
        finding in a_finding(),
        identity in an_identity(),
    ) {
        let said = |statements: Vec<VexStatement>| {
            let index = VexIndex::new(statements);
            index.judge(&finding, &identity).map(|j| (j.statement.status, j.how, j.product.clone()))
        };
        let published = statements.iter().filter_map(VexStatement::checkable).collect();
        prop_assert_eq!(said(published), said(statements));
    }
}
