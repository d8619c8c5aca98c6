//! Expressions and what they give.
//!
//! The tables are text files beside this one: an expression, ` => `, and what it gives. A line that
//! begins with `#` says what the lines below it are about.

use std::collections::BTreeMap;

use portcullis_types::{
    Class, Digest, Engine, Finding, Identity, ImageConfig, Name, Request, Severity, Surety,
    Timestamp,
};

use super::check::type_of;
use super::cost::Meter;
use super::evaluate::Evaluation;
use super::types::Type;
use super::value::{Key, Value};
use super::{Asked, COST_LIMIT, Cost, EvaluationError, Expression, Input};

mod generated;
mod hostile;
mod properties;
mod reference;

/// What expressions are asked about here.
struct Start {
    finding: Finding,
    identity: Identity,
    image: Option<ImageConfig>,
    request: Request,
    now: Timestamp,
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn labels(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

impl Start {
    fn sample() -> Self {
        let mut finding =
            Finding::new(Class::Vulnerability, "CVE-2024-3094", Severity::Critical, "trivy");
        finding.aliases = vec!["GHSA-rxwq-x6h5-x525".into()];
        finding.package = Some("xz-utils".into());
        finding.version = Some("5.6.0".into());
        finding.fixed_version = Some("5.6.1".into());
        finding.cvss = Some(7.1);
        finding.published = Some(time("2024-03-29T17:15:21Z"));
        let name = |reference: &str, held| Name {
            reference: reference.parse().unwrap(),
            held,
            asked: true,
        };
        let identity = Identity {
            surety: Surety::Bound,
            chain_id: None,
            config: Some(Digest::sha256([0xab; 32])),
            manifests: [Digest::sha256([0xcd; 32]), Digest::sha256([0xef; 32])].into(),
            names: [
                name("registry.example.com/team/web:1.4", true),
                name("claimed.example.com/web", false),
            ]
            .into(),
            note: None,
        };
        let image = ImageConfig {
            created: Some(time("2024-01-15T10:20:30.5Z")),
            user: "1000".to_owned(),
            labels: labels(&[("team", "web"), ("org.opencontainers.image.vendor", "Example")]),
        };
        let mut request = Request::new(Engine::Containerd, "edge-1", "c0ffee");
        request.namespace = "prod".to_owned();
        request.pod = "web-1".to_owned();
        request.container = "web".to_owned();
        request.pod_labels = labels(&[("tier", "front")]);
        Self { finding, identity, image: Some(image), request, now: time("2026-01-01T00:00:00Z") }
    }

    fn input(&self) -> Input<'_> {
        let mut input = Input::new(&self.identity, self.image.as_ref(), &self.request, self.now);
        input.finding = Some(&self.finding);
        input
    }
}

/// A value as CEL would write it, more or less.
fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => format!("{value}u"),
        Value::Double(value) => format!("{value:?}"),
        Value::String(text) => format!("{:?}", &**text),
        Value::Bytes(bytes) => format!("b\"{}\"", bytes.escape_ascii()),
        Value::Timestamp(time) => time.to_string(),
        Value::Duration(nanos) => super::time::duration_text(*nanos),
        Value::List(list) => {
            let elements: Vec<_> = list.iter().map(|element| shown(&element)).collect();
            format!("[{}]", elements.join(", "))
        }
        Value::Map(map) => {
            let entries: Vec<_> = map
                .keys()
                .iter()
                .map(|key| {
                    let found = map.get(&key.to_key().unwrap(), &mut Meter::unlimited());
                    format!("{}: {}", shown(key), shown(&found.unwrap().unwrap()))
                })
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

/// Whether a value is of a static type.
fn is_of(value: &Value<'_>, wanted: &Type) -> bool {
    match (value, wanted) {
        (Value::List(list), Type::List(element)) => list.iter().all(|v| is_of(&v, element)),
        (Value::Map(map), Type::Map(key, element)) => map.keys().iter().all(|k| {
            let found = map.get(&k.to_key().unwrap(), &mut Meter::unlimited());
            is_of(k, key) && is_of(&found.unwrap().unwrap(), element)
        }),
        _ => Type::of(value) == *wanted,
    }
}

/// Evaluates without a check, and holds the result against the type if the check finds one.
fn value(text: &str, start: &Start) -> Result<String, EvaluationError> {
    let expression: Expression = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
    let input = start.input();
    let mut meter = Meter::unlimited();
    let result = Evaluation::new(&input, &mut meter).value(&expression.root);
    if let Ok(checked) = type_of(&expression.root, Asked::PerFinding) {
        match &result {
            Ok(value) => assert!(is_of(value, &checked), "{text} is no {checked}"),
            Err(error) => assert!(is_of_data(error), "{text} was checked, but: {error}"),
        }
    }
    result.map(|value| shown(&value))
}

/// Whether this is an error that no static type can find.
fn is_of_data(error: &EvaluationError) -> bool {
    !matches!(
        error,
        EvaluationError::NoOverload { .. }
            | EvaluationError::NotBool(_)
            | EvaluationError::Pattern { .. }
            | EvaluationError::VariablePattern
            | EvaluationError::NoFinding
    )
}

/// The lines of a table, in two parts.
fn table(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.rsplit_once(" => ").unwrap_or_else(|| panic!("no => in {line}")))
}

const VALUES: &str = include_str!("tests/values.txt");

#[test]
fn expressions_give_what_the_language_definition_says() {
    let start = Start::sample();
    let mut wrong = Vec::new();
    for (text, wanted) in table(VALUES) {
        let found = value(text, &start).unwrap_or_else(|error| format!("error: {error}"));
        if found != wanted {
            wrong.push(format!("{text}\n   wanted {wanted}\n   found  {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `column: message: remedy`, of the reading or of the check.
fn refusal(text: &str, asked: Asked) -> String {
    match text.parse::<Expression>().and_then(|expression| expression.check(asked)) {
        Ok(()) => "accepted".to_owned(),
        Err(error) if error.remedy.is_empty() => format!("{}: {}", error.column, error.message),
        Err(error) => format!("{}: {}: {}", error.column, error.message, error.remedy),
    }
}

fn check_refusals(table_text: &str, asked: Asked) {
    let wrong: Vec<_> = table(table_text)
        .map(|(text, wanted)| (text, wanted, refusal(text, asked)))
        .filter(|(_, wanted, found)| wanted != found)
        .map(|(text, wanted, found)| format!("{text}\n   wanted {wanted}\n   found  {found}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_no_expression_is_refused_with_its_column() {
    check_refusals(include_str!("tests/syntax.txt"), Asked::PerFinding);
}

#[test]
fn wrong_types_are_refused_with_their_column() {
    check_refusals(include_str!("tests/types.txt"), Asked::PerFinding);
}

#[test]
fn a_rule_without_class_has_no_finding() {
    check_refusals(include_str!("tests/per_start.txt"), Asked::PerStart);
}

#[test]
fn texts_run_over_lines_and_columns_are_counted_in_characters() {
    let start = Start::sample();
    for (text, wanted) in [
        ("1 + // one\n  2", "3"),
        ("1 // at the end", "1"),
        ("'''a\n'b'\r\n''' + \"\"\"\"\"\"", r#""a\n'b'\r\n""#),
        ("\t1\r\n\x0c+1", "2"),
    ] {
        assert_eq!(value(text, &start).unwrap(), wanted, "{text}");
    }
    for (text, wanted) in [
        ("'日本語' +", "8: the expression ends too early: expected is a value"),
        (
            "1 +\n\"a\nb\"",
            "7: the text runs over the end of its line: write \\n, or put the text between triple quotes",
        ),
        ("'日本語' == 1", "7: == does not take string and int: both sides must be of one type"),
    ] {
        assert_eq!(refusal(text, Asked::PerFinding), wanted, "{text}");
    }
}

#[test]
fn what_is_not_known_is_absent() {
    let check = |start: &Start, cases: &[(&str, &str)]| {
        for (text, wanted) in cases {
            let found = value(text, start).unwrap_or_else(|error| format!("error: {error}"));
            assert_eq!(found, *wanted, "{text}");
        }
    };
    let mut start = Start::sample();
    start.image = None;
    check(
        &start,
        &[
            ("has(image.created) || has(image.labels) || has(image.user)", "false"),
            ("image.created < now", "error: no such key: image.created"),
            ("image.labels.team == 'web'", "error: no such key: image.labels"),
        ],
    );
    let mut start = Start::sample();
    start.identity.surety = Surety::Claimed;
    check(
        &start,
        &[
            ("has(image.digest) || has(image.manifestDigest)", "false"),
            ("image.digest == ''", "error: no such key: image.digest"),
            ("image.references + image.manifestDigests", "[]"),
        ],
    );
    let mut start = Start::sample();
    start.request.pod_known = false;
    start.request.pod.clear();
    check(
        &start,
        &[
            ("has(request.namespace)", "true"),
            ("has(request.pod) || has(request.podLabels)", "false"),
            ("request.pod == ''", "error: no such key: request.pod"),
        ],
    );
    let start = Start { request: Request::new(Engine::Podman, "n", "c"), ..Start::sample() };
    check(&start, &[("request.namespace == '' && request.podLabels == {}", "true")]);
}

#[test]
fn a_score_equals_the_number_it_was_written_as() {
    let mut start = Start::sample();
    for score in (0..=100).map(|tenths| f64::from(tenths) / 10.0).chain([0.00043, 0.97565, 1e-7]) {
        start.finding.cvss = Some(score as f32);
        assert_eq!(value("finding.cvss", &start).unwrap(), format!("{score:?}"));
    }
}

#[test]
fn an_expression_is_its_text() {
    let text = "  finding.kev  // known to be exploited";
    let expression: Expression = text.parse().unwrap();
    assert_eq!(expression.to_string(), text);
    assert_eq!(expression.as_str(), text);
    let json = serde_json::to_string(&expression).unwrap();
    assert_eq!(json, serde_json::to_string(text).unwrap());
    assert_eq!(serde_json::from_str::<Expression>(&json).unwrap(), expression);
    assert_ne!("finding.kev".parse::<Expression>().unwrap(), expression);
    let error = serde_json::from_str::<Expression>("\"finding.\"").unwrap_err().to_string();
    assert!(error.starts_with("the expression ends too early (column 9)"), "{error}");

    fn shared<T: Send + Sync + Clone>(_: &T) {}
    shared(&expression);
}

#[test]
fn without_a_finding_asking_for_one_is_an_error() {
    let start = Start::sample();
    let mut input = start.input();
    input.finding = None;
    let ask =
        |text: &str| text.parse::<Expression>().unwrap().evaluate(&input, &mut Cost::of_start());
    assert_eq!(ask("finding.kev"), Err(EvaluationError::NoFinding));
    assert_eq!(ask("has(finding.cvss)"), Err(EvaluationError::NoFinding));
    assert_eq!(ask("image.user == '1000'"), Ok(true));
    assert_eq!(ask("image.user"), Err(EvaluationError::NotBool("string")));
}

#[test]
fn keys_are_ordered_and_equal_across_number_types() {
    assert_eq!(Key::Int(1), Key::Uint(1));
    assert!(Key::Int(-1) < Key::Uint(u64::MAX));
    assert!(Key::Bool(true) < Key::Int(i64::MIN));
}

#[test]
fn what_was_used_is_taken_from_the_budget_of_the_start() {
    let start = Start::sample();
    let input = start.input();
    let cheap: Expression = "finding.kev".parse().unwrap();
    let mut cost = Cost::new(2);
    assert_eq!(cheap.evaluate(&input, &mut cost), Ok(false));
    assert_eq!(cheap.evaluate(&input, &mut cost), Ok(false));
    assert_eq!(cost.left(), 0);
    assert_eq!(cheap.evaluate(&input, &mut cost), Err(EvaluationError::TooCostly));

    let dear: Expression = hostile::nested_macros(4).parse().unwrap();
    let mut cost = Cost::of_start();
    let before = cost.left();
    assert_eq!(dear.evaluate(&input, &mut cost), Err(EvaluationError::TooCostly));
    assert_eq!(before - cost.left(), COST_LIMIT);
}
