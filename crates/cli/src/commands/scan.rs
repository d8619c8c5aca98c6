//! `portcullis scan TARGET…`: reads images, says what is wrong with them, and stores it.

mod cyclonedx;
mod sarif;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use portcullis_inventory::protocol::Limits;
use portcullis_inventory::{Image, Wishes};
use portcullis_scan::{Chosen, Kept, Node, Progress, Scanned, Scanner};
use portcullis_store::{Change, VerdictStore};
use portcullis_types::{Coverage, Digest, Finding, Severity, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use super::verdict::by_severity;
use crate::args::{Output, Scan};
use crate::context::Context;
use crate::exit::Exit;
use crate::render::{Table, count, cut, plain, wrapped};

/// An image that was scanned.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Row {
    /// As it was named.
    target: String,
    /// Its configuration; none for a root filesystem.
    image: Option<Digest>,
    references: BTreeSet<String>,
    /// What was looked at, and how far silence means anything.
    coverage: Coverage,
    packages: usize,
    /// Layers that were read now.
    layers_read: usize,
    /// Layers that an earlier scan had read.
    layers_known: usize,
    /// What confined the process that read it.
    confined: Vec<String>,
    /// What became of its verdict; none if it was not stored.
    stored: Option<&'static str>,
    /// Findings by severity, before --severity and --class.
    counts: BTreeMap<Severity, usize>,
    /// Those that were asked for.
    findings: Vec<Finding>,
}

pub(super) fn run(context: &Context, args: &Scan, output: Output) -> Result<Exit> {
    let mut node = Node::read(&context.paths)?;
    let own = std::env::current_exe().context("the path of this program cannot be told")?;
    let scanner = Scanner {
        program: portcullis_scan::program_beside(&own)?,
        kept: (!args.no_store).then(|| Kept::new(context.paths.inventories())),
        rules: portcullis_scan::rules(&context.paths)?,
        clamd: sources::clamd(args)?,
        limits: Limits { seconds: args.timeout, ..Limits::default() },
    };
    let wishes = if args.lock_files { Wishes::Asked } else { Wishes::LeftOut };
    let mut boms = Vec::new();
    let mut rows = Vec::new();
    for target in &args.targets {
        let platform = args.platform.clone().unwrap_or_else(portcullis_scan::own_platform);
        let source = sources::of(context, args, target, &platform)?;
        let chosen = Chosen { source, image: args.image.clone(), platform, config: None };
        let mut bar = Bar::new(target);
        let scanned = scanner.scan(chosen, wishes, &mut bar);
        bar.bar.finish_and_clear();
        let scanned = scanned.with_context(|| format!("{target} is not scanned"))?;
        // It may have taken long, and an update have come.
        if !node.is_current(&context.paths) {
            node = Node::read(&context.paths)?;
        }
        let report = node.report(&scanned, wishes, Timestamp::now())?;
        let mut counts = BTreeMap::new();
        for finding in &report.findings {
            *counts.entry(finding.severity).or_insert(0) += 1;
        }
        let coverage = report.coverage.clone();
        let findings: Vec<Finding> = report.findings.iter().map(|f| Finding::clone(f)).collect();
        let stored = match scanned.image.facts().filter(|_| !args.no_store) {
            Some(facts) => Some(match context.store().absorb(&facts, report)?.change {
                Change::Created => "created",
                Change::Updated => "updated",
                Change::Unchanged => "unchanged",
            }),
            None => None,
        };
        rows.push(Row {
            target: target.clone(),
            image: scanned.image.config.clone(),
            references: scanned.image.references.clone(),
            coverage,
            packages: sources::packages(&scanned).count(),
            layers_read: scanned.layers_read,
            layers_known: scanned.layers_known,
            confined: scanned.confined.clone(),
            stored,
            counts,
            findings: chosen_ones(findings, args),
        });
        if output == Output::Cyclonedx {
            boms.push(scanned);
        }
    }
    print(context, args, output, &rows, &boms, node.has_advisories())?;
    let is_failed = |row: &Row| {
        row.findings.iter().any(|f| {
            args.fail_on.is_some_and(|worst| f.severity <= worst && f.severity != Severity::Unknown)
        })
    };
    Ok(if rows.iter().any(is_failed) { Exit::Found } else { Exit::Done })
}

/// The findings that were asked for, the worst first.
fn chosen_ones(mut findings: Vec<Finding>, args: &Scan) -> Vec<Finding> {
    let is_asked = |finding: &Finding| {
        (args.severity.is_empty() || args.severity.contains(&finding.severity))
            && (args.class.is_empty() || args.class.contains(&finding.class))
    };
    findings.retain(is_asked);
    findings.sort_by(|a, b| (a.severity, a.key()).cmp(&(b.severity, b.key())));
    findings
}

fn print(
    context: &Context,
    args: &Scan,
    output: Output,
    rows: &[Row],
    boms: &[Scanned],
    has_database: bool,
) -> Result<()> {
    match output {
        Output::Sarif => context.print.document(&sarif::log(rows)),
        Output::Cyclonedx => match (rows, boms) {
            ([row], [scanned]) => context.print.document(&cyclonedx::bom(row, scanned, Timestamp::now())),
            _ => bail!("a CycloneDX document is about one image: name one target"),
        },
        Output::Text | Output::Json => context.print.print(&rows, |out| {
            for row in rows {
                write(row, args, out)?;
            }
            if !has_database {
                let remark = "no vulnerability was looked for: there is no vulnerability database; see portcullis db update --help";
                writeln!(out, "{}", wrapped(remark, 0))?;
            }
            Ok(())
        }),
    }
}

fn write(row: &Row, args: &Scan, out: &mut dyn Write) -> io::Result<()> {
    let Coverage { classes, distribution, end_of_life, uncovered, .. } = &row.coverage;
    writeln!(out, "{}", plain(&row.target))?;
    match &row.image {
        Some(image) => writeln!(out, "  image    {image}")?,
        None => writeln!(out, "  image    none: a root filesystem, nothing is stored")?,
    }
    let distribution = distribution.as_deref().unwrap_or("unknown distribution");
    let end = if *end_of_life { ", past its end of life" } else { "" };
    let layers = match row.layers_known {
        0 => count(row.layers_read, "layer"),
        known => format!("{} ({known} known before)", count(row.layers_read + known, "layer")),
    };
    writeln!(out, "  holds    {distribution}{end}, {}, {layers}", count(row.packages, "package"))?;
    let classes: Vec<&str> = classes.iter().map(|class| class.as_str()).collect();
    writeln!(out, "{}", wrapped(&format!("  searched for {}", classes.join(", ")), 4))?;
    if !uncovered.is_empty() {
        let names: Vec<&str> = uncovered.iter().map(String::as_str).collect();
        writeln!(out, "{}", wrapped(&format!("  no advisories for {}", names.join(", ")), 4))?;
    }
    let stored = row.stored.map(|stored| format!("; verdict {stored}")).unwrap_or_default();
    writeln!(out, "  found    {}{stored}", by_severity(&row.counts))?;
    let mut table = Table::new(&["SEVERITY", "CLASS", "ID", "WHAT", "FIXED IN", "TITLE"]);
    for finding in row.findings.iter().take(if args.all { usize::MAX } else { SHOWN }) {
        let what = match (&finding.package, &finding.version) {
            (Some(package), Some(version)) => format!("{package} {version}"),
            _ => finding.path.as_deref().map(|path| format!("/{path}")).unwrap_or_default(),
        };
        table.row([
            finding.severity.to_string(),
            finding.class.to_string(),
            finding.id.to_string(),
            what,
            finding.fixed_version.as_deref().unwrap_or_default().to_owned(),
            cut(finding.title.as_deref().unwrap_or_default(), 60),
        ]);
    }
    if !row.findings.is_empty() {
        table.write(out)?;
    }
    let left = row.findings.len().saturating_sub(SHOWN);
    if left > 0 && !args.all {
        writeln!(out, "and {left} more: see them with --all")?;
    }
    Ok(())
}

/// Findings that are shown without --all.
const SHOWN: usize = 25;

/// A bar on a terminal.
struct Bar {
    bar: ProgressBar,
    target: String,
    done: u64,
    current: u64,
}

impl Bar {
    fn new(target: &str) -> Self {
        let bar = ProgressBar::new_spinner();
        if !io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        bar.set_message(format!("looking at {target}"));
        Self { bar, target: plain(target), done: 0, current: 0 }
    }

    fn show(&self) {
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} layers, {msg}") {
            self.bar.set_style(style);
        }
        let megabytes = (self.done + self.current) >> 20;
        self.bar.set_message(format!("{megabytes} MB of {}", self.target));
    }
}

impl Progress for Bar {
    fn found(&mut self, _: &Image, read: usize, known: usize) {
        self.bar.set_length((read + known) as u64);
        self.bar.set_position(known as u64);
        self.show();
    }

    fn read(&mut self, _: usize, bytes: u64) {
        self.current = bytes;
        self.show();
    }

    fn done(&mut self) {
        self.done += std::mem::take(&mut self.current);
        self.bar.inc(1);
        self.show();
    }
}
