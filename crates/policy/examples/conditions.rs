//! Measures conditions: what asking one about a finding takes, and what the dearest one may take.
//! The least of many rounds counts, since the machine has other work too.
//!
//! `cargo run --release -p portcullis-policy --example conditions`

#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use portcullis_policy::{Asked, COST_LIMIT, Cost, Expression, Input};
use portcullis_types::{
    Class, Digest, Engine, Finding, Identity, ImageConfig, Name, Request, Severity, Surety,
};

const ROUNDS: u32 = 1_000;
const FINDINGS: usize = 2_000;

const TYPICAL: [&str; 7] = [
    "finding.severity == 'critical' && finding.fixable",
    "has(finding.cvss) && finding.cvss >= 9.0 || finding.kev",
    "image.created < now - duration('8760h')",
    "finding.id in ['CVE-2021-44228', 'CVE-2021-45046', 'CVE-2024-3094']",
    "request.namespace.startsWith('prod') && image.labels['team'] != 'web'",
    "image.references.exists(r, r.startsWith('registry.example.com/'))",
    "finding.id.matches(r'^CVE-2024-\\d+$')",
];

/// Each costs as much as one evaluation may, with as much time for it as we could find.
const DEAR: [(&str, &str); 7] = [
    ("numbers", "finding.aliases.all(a, finding.aliases.all(b, 1 + size(a) > 0))"),
    ("texts", "finding.aliases.all(a, finding.aliases.all(b, a <= b || a > b))"),
    ("joined texts", "finding.aliases.all(a, finding.aliases.all(b, (a + b) != ''))"),
    ("lists", "finding.aliases.map(a, finding.aliases.map(b, [a, b])) == []"),
    ("errors", "finding.aliases.exists(a, finding.aliases.exists(b, finding.epss > 1.0))"),
    ("search", "finding.aliases.all(a, !finding.path.contains('aaaaaaaaaaaaaaab'))"),
    ("pattern", "finding.aliases.all(a, !finding.path.matches('(a|aa|aaa|aaaa|a.a|a..a)*b$'))"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let request = Request { namespace: "prod".to_owned(), ..Request::new(Engine::CriO, "n", "c") };
    let identity = Identity {
        config: Some(Digest::of(b"config")),
        names: [Name {
            reference: "registry.example.com/team/web:1.4".parse()?,
            held: true,
            asked: true,
        }]
        .into(),
        surety: Surety::Bound,
        ..Identity::unknown("")
    };
    let image = ImageConfig {
        created: Some("2024-01-15T10:20:30Z".parse()?),
        user: String::new(),
        labels: [("team".to_owned(), "web".to_owned())].into(),
    };
    let findings: Vec<Finding> = (0..FINDINGS).map(finding).collect();
    let mut input = Input::new(&identity, Some(&image), &request, "2026-01-01T00:00:00Z".parse()?);

    println!("{FINDINGS} findings, time for one");
    for text in TYPICAL {
        let expression: Expression = text.parse()?;
        expression.check(Asked::PerFinding)?;
        let mut used = 0;
        let mut least = Duration::MAX;
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            let mut cost = Cost::of_start();
            let before = cost.left();
            for finding in &findings {
                input.finding = Some(finding);
                black_box(expression.evaluate(&input, &mut cost)).ok();
            }
            least = least.min(begun.elapsed());
            used = (before - cost.left()) / FINDINGS as u64;
        }
        let one = least / FINDINGS as u32;
        println!("{one:>8.0?}  cost {used:>2}  {text}");
    }

    println!("reading one, as a door does when it loads the policies");
    for text in TYPICAL {
        let mut least = Duration::MAX;
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            black_box(text.parse::<Expression>())?;
            least = least.min(begun.elapsed());
        }
        println!("{least:>8.0?}  {text}");
    }

    println!("the dearest, up to the limit of {COST_LIMIT}");
    let mut dear = finding(0);
    dear.path = Some("a".repeat(200).into());
    dear.aliases = (0..10_000).map(|n| format!("CVE-2024-{n:05}").into()).collect();
    input.finding = Some(&dear);
    for (name, text) in DEAR {
        let expression: Expression = text.parse()?;
        expression.check(Asked::PerFinding)?;
        let mut least = Duration::MAX;
        for _ in 0..20 {
            let begun = Instant::now();
            black_box(expression.evaluate(&input, &mut Cost::of_start())).ok();
            least = least.min(begun.elapsed());
        }
        println!("{least:>8.0?}  {name}");
    }
    Ok(())
}

fn finding(number: usize) -> Finding {
    const SEVERITIES: [Severity; 3] = [Severity::Critical, Severity::High, Severity::Low];
    let severity = SEVERITIES[number % SEVERITIES.len()];
    let id = format!("CVE-2024-{number:05}");
    let mut finding = Finding::new(Class::Vulnerability, id, severity, "trivy");
    finding.package = Some("openssl".into());
    finding.fixed_version = number.is_multiple_of(2).then(|| "3.0.13".into());
    finding.cvss = (!number.is_multiple_of(5)).then_some((number % 100) as f32 / 10.0);
    finding
}
