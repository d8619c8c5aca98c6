//! `portcullis verdict list|show|rm|push|pull`.

pub(in crate::commands) mod share;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use portcullis_scan::Kept;
use portcullis_store::{Depth, Detail, Listed, VerdictStore};
use portcullis_types::{Binding, Digest, Severity, Verdict as Stored};
use schemars::JsonSchema;
use serde::Serialize;

use crate::args::Verdict;
use crate::context::Context;
use crate::exit::Exit;
use crate::render::{Table, count, cut, wrapped};

pub(super) fn run(context: &Context, command: &Verdict) -> Result<Exit> {
    match command {
        Verdict::List => list(context),
        Verdict::Show { image } => show(context, image),
        Verdict::Rm { images } => remove(context, images),
        Verdict::Push(args) => share::push(context, args),
        Verdict::Pull(args) => share::pull(context, args),
    }
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Row {
    image: Digest,
    references: Vec<String>,
    findings: BTreeMap<Severity, usize>,
    scanners: Vec<String>,
    #[schemars(with = "Option<portcullis_types::TimeSchema>")]
    as_of: Option<portcullis_types::Timestamp>,
    error: Option<String>,
}

impl From<Listed> for Row {
    fn from(listed: Listed) -> Self {
        let mut row = Self {
            image: listed.config,
            references: Vec::new(),
            findings: BTreeMap::new(),
            scanners: Vec::new(),
            as_of: None,
            error: None,
        };
        match listed.entry {
            Err(error) => row.error = Some(format!("{:#}", anyhow::Error::from(error))),
            Ok(summary) => {
                row.references = summary.image.references.into_iter().collect();
                row.findings = summary.findings;
                row.as_of = summary.reports.iter().map(|(report, _)| report.as_of()).max();
                row.scanners = summary.reports.into_iter().map(|(r, _)| r.scanner.name).collect();
                row.scanners.dedup();
            }
        }
        row
    }
}

fn list(context: &Context) -> Result<Exit> {
    let rows: Vec<Row> = context.store().list(Depth::Whole)?.into_iter().map(Row::from).collect();
    let damaged = rows.iter().filter(|r| r.error.is_some()).count();
    context.print.print(&rows, |out| {
        let mut table = Table::new(&["IMAGE", "REFERENCE", "FINDINGS", "SCANNER", "AS OF"]);
        for row in &rows {
            let findings = match &row.error {
                Some(_) => "damaged".to_owned(),
                None => by_severity(&row.findings),
            };
            let reference = row.references.first().map_or("-", String::as_str);
            table.row([
                row.image.short().to_owned(),
                cut(reference, 44),
                findings,
                row.scanners.join(","),
                row.as_of.map_or_else(|| "-".to_owned(), |t| t.strftime("%F").to_string()),
            ]);
        }
        table.write(out)?;
        rows.iter()
            .filter_map(|r| r.error.as_ref())
            .try_for_each(|e| writeln!(out, "{}", wrapped(&format!("damaged: {e}"), 2)))
    })?;
    Ok(if damaged == 0 { Exit::Done } else { Exit::Failed })
}

/// `2 critical, 3 high`; `none` if there is nothing.
pub(super) fn by_severity(counts: &BTreeMap<Severity, usize>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    counts.iter().map(|(s, n)| format!("{n} {s}")).collect::<Vec<_>>().join(", ")
}

fn show(context: &Context, image: &Digest) -> Result<Exit> {
    let Some(verdict) = context.store().by_config(image, Detail::Full)? else {
        bail!("nothing is known about {image}: scan it and run portcullis import FILE");
    };
    context.print.print(&verdict, |out| write_verdict(&verdict, out))?;
    Ok(Exit::Done)
}

fn write_verdict(verdict: &Stored, out: &mut dyn std::io::Write) -> std::io::Result<()> {
    writeln!(out, "image       {}", verdict.image.config)?;
    if let Some(chain) = &verdict.image.chain_id {
        writeln!(out, "chain ID    {chain}")?;
    }
    for reference in &verdict.image.references {
        writeln!(out, "reference   {}", crate::render::plain(reference))?;
    }
    for report in &verdict.reports {
        let version = report.scanner.version.as_deref().unwrap_or("version unknown");
        let binding = match report.binding {
            Binding::ByReport => "names the image",
            Binding::ByImporter => "claimed by the importer",
            Binding::ByScan => "scanned here",
            Binding::BySignature => "scanned and signed by another node",
        };
        let coverage = &report.coverage;
        let classes: Vec<&str> = coverage.classes.iter().map(|c| c.as_str()).collect();
        let distribution = coverage.distribution.as_deref().unwrap_or("unknown distribution");
        let end = if coverage.end_of_life { ", past its end of life" } else { "" };
        writeln!(
            out,
            "{}",
            wrapped(
                &format!(
                    "report      {} ({version}) of {}, {}, {binding}; looked for: {}; \
                     {distribution}{end}",
                    report.scanner.name,
                    report.scanned_at.strftime("%F"),
                    count(report.findings.len(), "finding"),
                    classes.join(", "),
                ),
                12
            )
        )?;
    }
    let mut findings = Stored::merged([verdict]);
    findings.sort_by_key(|f| f.severity);
    let mut table = Table::new(&["SEVERITY", "CLASS", "ID", "PACKAGE", "VERSION", "FIXED IN"]);
    for finding in &findings {
        let text = |t: &Option<portcullis_types::Text>| cut(t.as_deref().unwrap_or("-"), 24);
        table.row([
            finding.severity.to_string(),
            finding.class.to_string(),
            cut(&finding.id, 22),
            text(&finding.package),
            text(&finding.version),
            text(&finding.fixed_version),
        ]);
    }
    writeln!(out)?;
    table.write(out)
}

/// What was forgotten.
#[derive(Serialize, JsonSchema)]
pub(in crate::commands) struct Removed<'a> {
    /// How many images.
    removed: usize,
    /// Those of which nothing was known.
    missing: &'a [&'a Digest],
}

fn remove(context: &Context, images: &[Digest]) -> Result<Exit> {
    let store = context.store();
    let mut missing = Vec::new();
    for image in images {
        let removed = store.remove(image).with_context(|| format!("cannot forget {image}"))?;
        // Or the next new database would bring its verdict back.
        let kept = Kept::new(context.paths.inventories());
        kept.forget(image).with_context(|| format!("cannot forget {image}"))?;
        if !removed {
            missing.push(image);
        }
    }
    let removed = images.len() - missing.len();
    context.print.print(&Removed { removed, missing: &missing }, |out| {
        missing.iter().try_for_each(|m| writeln!(out, "nothing was known about {m}"))?;
        writeln!(out, "forgot {}", count(removed, "image"))
    })?;
    Ok(if missing.is_empty() { Exit::Done } else { Exit::Failed })
}
