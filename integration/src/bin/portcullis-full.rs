//! Many containers through every door on every engine, and what stays: called by `integration/full`.
//!
//! `portcullis-full [CONTAINERS [WORD]]`: so many through each door (1000) whose name holds the word.
//! Prints a line for each; exit code 1 if anything was left behind or failed.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use portcullis_integration::endurance::{Holdings, Report, watch};
use portcullis_integration::stage::Way;
use portcullis_integration::suite::Images;

/// In how many parts the containers come, with a look at the memory after each.
const PARTS: usize = 10;

const KINDS: [&str; 5] = ["process", "mount", "cgroup", "file", "container"];

fn main() -> Result<ExitCode> {
    let mut args = std::env::args().skip(1);
    let count = args.next().map_or(Ok(1000), |count| count.parse()).context("CONTAINERS")?;
    let word = args.next().unwrap_or_default();
    let images = Images::build()?;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{:<38} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}   memory in MB, before to after (most)",
        "", "ms each", KINDS[0], KINDS[1], KINDS[2], KINDS[3], KINDS[4],
    )?;
    let mut code = ExitCode::SUCCESS;
    for way in Way::all().iter().filter(|way| way.name().contains(&word)) {
        let starter = way.start(&images);
        let watched = starter.and_then(|starter| watch(&*starter, &images.busybox, count, PARTS));
        match watched {
            Ok(report) => writeln!(out, "{:<38} {}", way.name(), row(&report, count))?,
            Err(error) => {
                writeln!(out, "{:<38} failed: {error:#}", way.name())?;
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

fn row(report: &Report, count: usize) -> String {
    let (Some(before), Some(after)) = (report.holdings.first(), report.holdings.last()) else {
        return String::new();
    };
    let each = report.took.as_secs_f64() * 1e3 / count as f64;
    let of = |holdings: &Holdings, kind: &str| holdings.counts.get(kind).copied().unwrap_or(0);
    let kinds =
        KINDS.map(|kind| format!("{:>9}", format!("{}-{}", of(before, kind), of(after, kind))));
    let memory = |name: &str, of: fn(&Holdings) -> u64| {
        let most = report.holdings.iter().map(of).max().unwrap_or(0);
        let mb = |kb: u64| kb as f64 / 1024.0;
        format!("{name} {:.0}-{:.0} ({:.0})", mb(of(before)), mb(of(after)), mb(most))
    };
    format!(
        "{each:>9.0} {}   {}, {}, {}",
        kinds.join(" "),
        memory("engine", |h| h.engine_kb),
        memory("shims", |h| h.others_kb),
        memory("journal", |h| h.journal_kb),
    )
}
