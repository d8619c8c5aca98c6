//! How long a door takes with VEX: reading the published statements, the index, and asking it.
//!
//! `cargo run --release -p portcullis-policy --example vex_figures`

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program for people who measure; what it makes up is well-formed"
)]

use std::time::{Duration, Instant};

use portcullis_policy::VexIndex;
use portcullis_types::{
    Class, Digest, Finding, Identity, Severity, Surety, Timestamp, VexImage, VexProduct,
    VexStatement, VexStatus,
};

const FINDINGS: usize = 2_000;
const ROUNDS: usize = 15;

fn purl(number: usize) -> String {
    format!(
        "pkg:deb/debian/package-{}@1.{number}-1%2Bdeb12u{}?arch=amd64",
        number % 400,
        number % 7
    )
}

fn statement(number: usize) -> VexStatement {
    let digest = Digest::of(&(number % 50).to_le_bytes());
    let image = match number % 3 {
        0 => VexImage::Any,
        1 => VexImage::Digest(digest),
        _ => VexImage::try_from(format!("registry.example.com/team/app-{}", number % 50)).unwrap(),
    };
    VexStatement {
        source: format!("vendor-{}.openvex.json statement {number}", number % 20).into(),
        vulnerability: vec![
            format!("CVE-2024-{number}").into(),
            format!("GHSA-aaaa-bbbb-{number}").into(),
        ],
        status: VexStatus::ALL[number % 4],
        justification: Some("vulnerable_code_not_in_execute_path".into()),
        stated_at: Timestamp::from_second(1_700_000_000 + number as i64).ok(),
        products: vec![VexProduct {
            name: Some(format!("pkg:oci/app-{}", number % 50).into()),
            image,
            packages: vec![purl(number).into()],
        }],
    }
}

fn finding(number: usize) -> Finding {
    Finding {
        aliases: vec![format!("GHSA-aaaa-bbbb-{number}").into()],
        package: Some(format!("package-{}", number % 400).into()),
        version: Some(format!("1.{number}-1+deb12u{}", number % 7).into()),
        purl: Some(purl(number).into()),
        ..Finding::new(Class::Vulnerability, format!("CVE-2024-{number}"), Severity::High, "trivy")
    }
}

fn identity() -> Identity {
    Identity {
        surety: Surety::Bound,
        config: Some(Digest::of(&1_usize.to_le_bytes())),
        ..Identity::unknown("")
    }
}

/// The best of some rounds, since others use the machine too, and what the last one gave.
fn timed<T>(mut work: impl FnMut() -> T) -> (Duration, T) {
    let mut all = Vec::new();
    loop {
        let start = Instant::now();
        let result = work();
        all.push(start.elapsed());
        if all.len() == ROUNDS {
            return (all.into_iter().min().unwrap_or_default(), result);
        }
    }
}

fn measure(what: &str, statements: Vec<VexStatement>, findings: &[Finding]) {
    let json = serde_json::to_string(&statements).unwrap();
    let (load, loaded) = timed(|| serde_json::from_str::<Vec<VexStatement>>(&json).unwrap());
    let mut copies: Vec<_> = (0..ROUNDS).map(|_| loaded.clone()).collect();
    let (build, _) = timed(|| VexIndex::new(copies.pop().unwrap()));
    let mut fresh: Vec<_> = (0..ROUNDS).map(|_| VexIndex::new(loaded.clone())).collect();
    let identity = identity();
    let (judge, applied) = timed(|| {
        let index = fresh.pop().unwrap();
        findings.iter().filter(|f| index.judge(f, &identity).is_some()).count()
    });
    println!(
        "{what}: {} statements, {} findings: {} KiB of JSON read in {load:.2?}, index in \
         {build:.2?}, all judged in {judge:.2?}; {applied} applied",
        loaded.len(),
        findings.len(),
        json.len() / 1024,
    );
}

fn main() {
    let findings: Vec<_> = (0..FINDINGS).map(finding).collect();
    for count in [1_000, 20_000] {
        measure("spread", (0..count).map(statement).collect(), &findings);
    }
    // The worst shape: all about one vulnerability, of packages that the findings name in turn.
    let one = |mut finding: Finding| {
        finding.id = "CVE-2024-1".into();
        finding.aliases.clear();
        finding
    };
    let findings: Vec<_> = findings.into_iter().map(one).collect();
    let all = (0..20_000).map(|number| VexStatement {
        vulnerability: vec!["CVE-2024-1".into()],
        ..statement(number)
    });
    measure("one vulnerability", all.collect(), &findings);
}
