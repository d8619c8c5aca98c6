//! Texts that are made to hurt: deep, long, or dear.

use super::*;

/// Macros over twenty numbers, this many within each other.
pub(super) fn nested_macros(levels: usize) -> String {
    let numbers: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let list = format!("[{}]", numbers.join(","));
    let open: String = (0..levels).map(|level| format!("{list}.all(x{level}, ")).collect();
    format!("{open}now != image.created{}", ")".repeat(levels))
}

/// Repeats a text up to the longest that is read, with an ending.
fn filled(part: &str, end: &str) -> String {
    let count = (super::super::parser::MAX_LENGTH - end.len()) / part.len();
    format!("{}{end}", part.repeat(count))
}

#[test]
fn deep_texts_are_refused_and_long_rows_of_logic_work() {
    const DEEP: &str = "the expression is nested more than 64 levels deep";
    let start = Start::sample();
    let input = start.input();
    for (text, wanted) in [
        (filled("(", ""), DEEP),
        (filled("!", "true"), DEEP),
        (filled("-", "1"), DEEP),
        (filled("[", ""), DEEP),
        (filled("{1:", ""), DEEP),
        (filled("(((((((1)", ""), "\"(\" is not expected here"),
        (filled("size(", ""), DEEP),
        (filled("image.labels.a", ".a"), DEEP),
        (format!("image.labels{}", ".a".repeat(2000)), DEEP),
        (format!("image.labels{}", "['a']".repeat(800)), DEEP),
        (format!("1{}", ".size()".repeat(500)), DEEP),
        (filled("true?true:", "true"), DEEP),
        (filled("1+", "1"), DEEP),
        (filled("1==", "1"), DEEP),
        (filled("[1].all(x,", ""), DEEP),
        (filled("true?", ""), "\"?\" is not expected here"),
        (filled("true&&", "true"), ""),
        (filled("false||", "true"), ""),
        (filled("1==1||1==2&&", "true"), ""),
        (format!("true{} ", " ".repeat(4000)), ""),
        (format!("true//{}", "x".repeat(4000)), ""),
        (format!("true//{}", "x".repeat(4096)), "the expression is longer than 4096 bytes"),
    ] {
        let shown: String = text.chars().take(40).collect();
        match text.parse::<Expression>() {
            Ok(expression) => {
                assert_eq!(wanted, "", "{shown}");
                assert_eq!(expression.check(Asked::PerFinding), Ok(()), "{shown}");
                let answer = expression.evaluate(&input, &mut Cost::of_start());
                assert_eq!(answer, Ok(true), "{shown}");
            }
            Err(error) => assert_eq!(error.message, wanted, "{shown}"),
        }
    }
}

#[test]
fn what_the_language_definition_asks_for_at_least_is_there() {
    let start = Start::sample();
    let nested = |open: &str, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(12), close.repeat(12))
    };
    for text in [
        format!("{}true", "true && ".repeat(31)),
        format!("{}true", "false || ".repeat(31)),
        format!("[{}1].size() == 32", "1, ".repeat(31)),
        format!(
            "{{{}}}.size() == 32",
            (0..32).map(|n| format!("{n}: 1")).collect::<Vec<_>>().join(",")
        ),
        format!("{}true", "false ? false : ".repeat(24)),
        format!("1{} == 25", " + 1".repeat(24)),
        format!("true{}", " == true".repeat(24)),
        nested("bool(", "true", ")"),
        format!("{}.a == 1", nested("{'a': ", "{'a': 1}", "}") + &".a".repeat(12)),
        format!("{} == 1", nested("[", "1", "]") + &"[0]".repeat(12)),
    ] {
        assert_eq!(value(&text, &start).as_deref(), Ok("true"), "{text}");
    }
}

/// The cost of a start that has some long texts and lists.
fn cost_of(text: &str) -> Result<u64, EvaluationError> {
    let mut start = Start::sample();
    start.finding.path = Some("a/".repeat(50_000).into());
    start.finding.aliases = (0..2_000).map(|n| format!("CVE-2024-{n:05}").into()).collect();
    let expression: Expression = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
    expression.check(Asked::PerFinding).unwrap_or_else(|e| panic!("{text}: {e}"));
    let mut cost = Cost::of_start();
    let before = cost.left();
    expression.evaluate(&start.input(), &mut cost).map(|_| before - cost.left())
}

#[test]
fn costs_follow_what_is_evaluated() {
    for (text, wanted) in [
        ("finding.kev", 1),
        ("finding.kev && finding.fixable", 2),
        ("has(finding.cvss) && finding.cvss >= 9.0", 5),
        // Constants are worked out when the text is read.
        ("now - duration('8760h') > timestamp('2020-01-01T00:00:00Z')", 5),
        ("finding.id in ['CVE-2021-44228', 'CVE-2024-3094']", 3),
        ("finding.path.size() > 0", 4 + 100_000 / 32),
        ("finding.path.contains('b')", 3 + 200_002 / 32),
        ("finding.path.startsWith('a')", 3),
        ("finding.aliases.exists(a, a == 'CVE-2024-00000')", 2 + 3),
        ("finding.aliases.all(a, a.startsWith('CVE-'))", 2 + 2_000 * 3),
        ("finding.id.matches('^CVE-2024-')", 2 + 14),
        ("'CVE-2024-00000' in finding.aliases", 3 + 500),
    ] {
        assert_eq!(cost_of(text), Ok(wanted), "{text}");
    }
}

#[test]
fn what_is_too_dear_ends_and_no_operator_hides_that() {
    for text in [
        nested_macros(4),
        nested_macros(10),
        format!("{} || true", nested_macros(6)),
        format!("{} && false", nested_macros(6)),
        format!("[1].exists(x, {})", nested_macros(6)),
        format!("{} ? true : true", nested_macros(6)),
        "finding.aliases.all(a, finding.aliases.all(b, a != '' || b != ''))".to_owned(),
        "finding.aliases.exists(a, a in finding.aliases.map(b, b + 'x'))".to_owned(),
        "finding.path.matches('(a/){3}$')".to_owned(),
        // Doubling: each step would hold twice as much as the one before.
        format!("['a', 'b']{}.size() > 0", ".map(x, x + x + x + x + x + x + x + x)".repeat(8)),
        format!("[finding.aliases]{}.size() > 0", ".map(x, x + x + x + x)".repeat(8)),
        "finding.path + finding.path + finding.path == ''".to_owned(),
        "finding.path.contains(finding.path + 'x')".to_owned(),
    ] {
        assert_eq!(cost_of(&text), Err(EvaluationError::TooCostly), "{text}");
    }
}

#[test]
fn patterns_are_bounded_when_they_are_read() {
    let deep = "(".repeat(40) + &")".repeat(40);
    for (pattern, is_accepted) in [
        ("a{1000}", true),
        ("((((a{50}){50}){50}){50})", false),
        ("(", false),
        ("[z-a]", false),
        (&deep, false),
    ] {
        let text = format!("finding.id.matches('{pattern}')");
        let expression: Expression = text.parse().unwrap();
        assert_eq!(expression.check(Asked::PerFinding).is_ok(), is_accepted, "{text}");
    }
    // A larger program costs more for each byte.
    assert!(cost_of("finding.id.matches('a{1000}')").unwrap() > 15 * 14);
}
