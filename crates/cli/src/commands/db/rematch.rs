//! `portcullis db rematch`, and what `db update` does at its end: every image that was scanned here is
//! judged by what is known now. No layer is read.

use std::collections::BTreeSet;
use std::io::{self, Write};

use anyhow::Result;
use portcullis_scan::{Kept, Node};
use portcullis_store::{Detail, VerdictStore};
use portcullis_types::{Digest, Finding, Timestamp, Verdict};
use schemars::JsonSchema;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::render::{count, plain, wrapped};

/// Most ids that are told of an image.
const TOLD: usize = 5;

/// An image that was judged anew.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Rematched {
    image: Digest,
    references: BTreeSet<String>,
    /// What became of its verdict; none if a layer is not kept any more, and it has to be scanned.
    verdict: Option<&'static str>,
    /// Ids of the findings that it did not have before.
    appeared: BTreeSet<String>,
    /// Ids of the findings that it has no more.
    gone: BTreeSet<String>,
}

pub(super) fn run(context: &Context) -> Result<Exit> {
    let rematched = all(context)?;
    context.print.print(&rematched, |out| write(&rematched, out))?;
    Ok(Exit::Done)
}

/// Judges every image whose inventory is kept.
pub(super) fn all(context: &Context) -> Result<Vec<Rematched>> {
    let kept = Kept::new(context.paths.inventories());
    let images = kept.images()?;
    if images.is_empty() {
        return Ok(Vec::new());
    }
    let node = Node::read(&context.paths)?;
    let now = Timestamp::now();
    let mut rematched = Vec::new();
    for image in images {
        let Some(facts) = image.image.facts() else { continue };
        let mut row = Rematched {
            image: facts.config.clone(),
            references: image.image.references.clone(),
            verdict: None,
            appeared: BTreeSet::new(),
            gone: BTreeSet::new(),
        };
        if let Some((facts, report)) = portcullis_scan::rematch(&kept, &image, &node, now)? {
            let store = context.store();
            let before = store.by_config(&facts.config, Detail::Full)?;
            let after = store.absorb(&facts, report)?;
            let [before, now] = [ids(before.as_ref()), ids(Some(&after.verdict))];
            row.appeared = now.difference(&before).cloned().collect();
            row.gone = before.difference(&now).cloned().collect();
            let is_as_before = row.appeared.is_empty() && row.gone.is_empty();
            row.verdict = Some(if is_as_before { "unchanged" } else { "updated" });
        }
        rematched.push(row);
    }
    Ok(rematched)
}

/// The ids of a verdict's findings, with the package where there is one.
fn ids(verdict: Option<&Verdict>) -> BTreeSet<String> {
    let id = |finding: &Finding| match &finding.package {
        Some(package) => format!("{} {package}", finding.id),
        None => finding.id.to_string(),
    };
    Verdict::merged(verdict).iter().map(|finding| id(finding)).collect()
}

/// Says which images changed.
pub(super) fn write(rematched: &[Rematched], out: &mut dyn Write) -> io::Result<()> {
    let changed = rematched.iter().filter(|row| row.verdict == Some("updated")).count();
    let lost = rematched.iter().filter(|row| row.verdict.is_none()).count();
    let all = count(rematched.len(), "image");
    writeln!(out, "{all} judged anew without reading a layer, {changed} changed")?;
    for row in rematched.iter().filter(|row| row.verdict == Some("updated")) {
        let name = row.references.iter().next().cloned();
        let name = name.unwrap_or_else(|| row.image.to_string());
        let told = |ids: &BTreeSet<String>, sign: char| -> Vec<String> {
            let mut told: Vec<String> =
                ids.iter().take(TOLD).map(|id| format!("{sign}{id}")).collect();
            if ids.len() > TOLD {
                told.push(format!("{sign}{} more", ids.len() - TOLD));
            }
            told
        };
        let changes = [told(&row.appeared, '+'), told(&row.gone, '-')].concat().join(", ");
        writeln!(out, "{}", wrapped(&plain(&format!("  {name}: {changes}")), 4))?;
    }
    if lost > 0 {
        writeln!(out, "{} cannot be judged anew: scan again", count(lost, "image"))?;
    }
    Ok(())
}
