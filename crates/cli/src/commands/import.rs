//! `portcullis import FILE… [--image DIGEST] [--scanned-at TIME]`.
//!
//! All files are read and bound before the first is stored: a wrong one changes nothing. What the
//! node's feeds say of a finding is stored with it.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use portcullis_report::feeds::Feeds;
use portcullis_report::{Imported, Limits, read_file};
use portcullis_store::{Change, VerdictStore};
use portcullis_types::{Binding, Digest, ImageFacts, ScanReport, Severity, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use super::feed;
use super::verdict::by_severity;
use crate::args::Import;
use crate::context::Context;
use crate::exit::Exit;
use crate::render::wrapped;

/// A report that is ready to be stored.
struct Bound {
    file: PathBuf,
    reported: BTreeMap<Severity, usize>,
    warnings: Vec<String>,
    image: ImageFacts,
    report: ScanReport,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Stored {
    file: PathBuf,
    image: Digest,
    change: &'static str,
    binding: Binding,
    /// Counts of the report itself.
    reported: BTreeMap<Severity, usize>,
    /// Distinct findings now known about the image.
    known: usize,
    warnings: Vec<String>,
}

pub(super) fn run(context: &Context, args: &Import) -> Result<Exit> {
    let now = Timestamp::now();
    let feeds = feed::of_node(context)?;
    let progress = progress(args.files.len());
    let mut bound = Vec::new();
    for file in &args.files {
        progress.set_message(file.display().to_string());
        let report = read_file(file, &Limits::default())?.or_scanned_at(args.scanned_at);
        bound.push(bind(report, &feeds, args.image.as_ref(), now)?);
        progress.inc(1);
    }
    let store = context.store();
    let mut stored = Vec::new();
    for Bound { file, reported, warnings, image, report } in bound {
        progress.set_message(format!("storing {}", image.config.short()));
        let binding = report.binding;
        let absorbed = store
            .absorb(&image, report)
            .with_context(|| format!("{} is not imported", file.display()))?;
        stored.push(Stored {
            file,
            image: image.config,
            change: match absorbed.change {
                Change::Created => "created",
                Change::Updated => "updated",
                Change::Unchanged => "unchanged",
            },
            binding,
            reported,
            known: portcullis_types::Verdict::merged([&absorbed.verdict]).len(),
            warnings,
        });
        progress.inc(1);
    }
    progress.finish_and_clear();
    context.print.print(&stored, |out| {
        for Stored { file, image, change, binding, reported, known, warnings } in &stored {
            let (file, findings) = (file.display(), by_severity(reported));
            writeln!(
                out,
                "{}",
                wrapped(&format!("{file}: {findings}; {change}, {known} known"), 2)
            )?;
            writeln!(out, "  image {image}")?;
            if *binding == Binding::ByImporter {
                writeln!(out, "  claimed by the importer: the report itself names no image")?;
            }
            for warning in warnings {
                writeln!(out, "{}", wrapped(&format!("  warning: {warning}"), 4))?;
            }
        }
        Ok(())
    })?;
    Ok(Exit::Done)
}

fn bind(
    mut imported: Imported,
    feeds: &Feeds,
    chosen: Option<&Digest>,
    now: Timestamp,
) -> Result<Bound> {
    for finding in &mut imported.findings {
        feeds.annotate(finding);
    }
    let file = imported.file.clone();
    let reported = imported.counts_by_severity.clone();
    let warnings = imported.warnings.clone();
    let (image, report) = imported.bind(chosen, now)?;
    Ok(Bound { file, reported, warnings, image, report })
}

/// A bar for more than one file, on a terminal only.
fn progress(files: usize) -> ProgressBar {
    let bar = ProgressBar::new(2 * files as u64);
    if files < 2 || !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    bar
}
