//! What reading a large report and a whole feed takes in memory: the findings and the rows, not
//! the file.
//!
//! One test alone in its process, since the peak is the process's. It prints what it measured:
//! `cargo test --release -p portcullis-report --test size -- --nocapture`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "this file is all test; the settings spare only test functions"
)]

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use portcullis_report::feeds::{FeedLimits, read_epss};
use portcullis_report::{Limits, read_file};

const MIB: u64 = 1 << 20;

/// Bytes of the report; what is not optimised reads slowly.
const REPORT: u64 = if cfg!(debug_assertions) { 10_000_000 } else { 50_000_000 };

/// The most memory that this process has held so far, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Writes a report of about this size, in Grype's shape, and returns its number of matches.
fn write_report(path: &Path, bytes: u64) -> usize {
    let mut file = BufWriter::new(File::create(path).unwrap());
    let mut written = 0;
    let mut matches = 0;
    file.write_all(b"{\"matches\":[").unwrap();
    let cpes = "\"cpe:2.3:a:vendor:product:1.0:*:*:*:*:*:*:*\",".repeat(30);
    let urls = "\"https://example.com/advisories/something/rather/long\",".repeat(20);
    while written < bytes {
        let between = if matches == 0 { "" } else { "," };
        let entry = format!(
            r#"{between}{{"vulnerability":{{"id":"CVE-2024-{matches:05}","severity":"High","urls":[{urls}""],
            "description":"{}","cvss":[{{"version":"3.1","metrics":{{"baseScore":7.5}}}}],
            "epss":[{{"cve":"x","epss":0.01,"percentile":0.5}}],
            "fix":{{"versions":["2.0.{matches}"],"state":"fixed"}}}},
            "relatedVulnerabilities":[{{"id":"CVE-2024-{matches:05}","cvss":[]}}],
            "matchDetails":[{{"type":"exact-direct-match","found":{{"constraint":"< 2"}}}}],
            "artifact":{{"name":"package-{}","version":"1.0.{}","type":"deb","cpes":[{cpes}""],
            "locations":[{{"path":"/var/lib/dpkg/status"}}],"purl":"pkg:deb/debian/package-{}"}}}}"#,
            "A long description of what is wrong. ".repeat(20),
            matches % 500,
            matches % 50,
            matches % 500,
        );
        file.write_all(entry.as_bytes()).unwrap();
        written += entry.len() as u64;
        matches += 1;
    }
    file.write_all(b"],\"descriptor\":{\"name\":\"grype\"}}").unwrap();
    file.flush().unwrap();
    matches
}

fn write_epss(path: &Path, rows: usize) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    file.write_all(b"#model_version:v1,score_date:2026-11-20\ncve,epss,percentile\n").unwrap();
    for row in 0..rows {
        writeln!(file, "CVE-{}-{:04},0.{:05},0.5", 1999 + row % 28, row / 28, row % 100_000)
            .unwrap();
    }
    file.flush().unwrap();
}

#[test]
fn a_large_file_takes_what_is_kept_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (epss, grype) = (folder.path().join("epss.csv"), folder.path().join("grype.json"));
    write_epss(&epss, 300_000);
    let matches = write_report(&grype, REPORT);

    let before = peak();
    let started = Instant::now();
    let feed = read_epss(&epss, &FeedLimits::default()).unwrap();
    let after_epss = peak();
    let took = started.elapsed();
    assert_eq!((feed.len(), feed.get("CVE-1999-0000")), (300_000, Some(0.0)));
    let grown = after_epss - before;
    eprintln!(
        "EPSS of 300,000 rows: {took:.2?}, {:.1} MiB more at the peak",
        grown as f64 / MIB as f64
    );
    assert!(grown < 16 * MIB, "EPSS took {grown} bytes");

    let started = Instant::now();
    let report = read_file(&grype, &Limits::default()).unwrap();
    let took = started.elapsed();
    assert_eq!(report.findings.len(), matches);
    let grown = peak() - after_epss;
    let size = fs::metadata(&grype).unwrap().len();
    eprintln!(
        "a Grype report of {:.1} MiB, {matches} matches: {took:.2?}, {:.1} MiB more at the peak",
        size as f64 / MIB as f64,
        grown as f64 / MIB as f64
    );
    assert!(grown < size / 2 + 4 * MIB, "a report of {size} bytes took {grown}");
}
