//! `portcullis db update`: takes in advisories.

use std::io::IsTerminal;

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use portcullis_osv::database::{Progress, update};
use portcullis_types::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::ask::Database;
use super::mirror::{self, Taken};
use super::rematch::Rematched;
use crate::args::DbUpdate;
use crate::context::Context;
use crate::exit::Exit;
use crate::render::{count, plain, wrapped};

/// A new database, and what it changed.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Updated {
    #[serde(flatten)]
    database: Database,
    /// The ecosystems of which the mirror has what the node has already, and which were not fetched
    /// again.
    unchanged: Vec<String>,
    /// The ecosystems of the node that the mirror does not have; they are as before.
    absent: Vec<String>,
    /// The images that were judged anew.
    images: Vec<Rematched>,
}

/// Most records that are told one by one.
const TOLD: usize = 5;

const AS_BEFORE: &str = "the vulnerability database is as it was before";

pub(super) fn run(context: &Context, args: &DbUpdate) -> Result<Exit> {
    let Taken { sources, unchanged, absent } = mirror::sources(context, args).context(AS_BEFORE)?;
    let mut told = Told { bar: bar(), unreadable: 0, first: Vec::new() };
    let now = Timestamp::now();
    let updated = update(&context.paths.advisories(), sources, now, &mut told).context(AS_BEFORE);
    told.bar.finish_and_clear();
    let updated = updated?;
    let images = super::rematch::all(context).context(
        "the database is new, but images are not judged by it yet: run portcullis db rematch",
    )?;
    let database = Database::new(&updated, now);
    let database = Updated { database, unchanged, absent, images };
    context.print.print(&database, |out| {
        database.database.write(out)?;
        for (names, words) in [
            (&database.unchanged, "not fetched, since nothing is new"),
            (&database.absent, "as before, since the mirror does not have it"),
        ] {
            if !names.is_empty() {
                writeln!(out, "{}", wrapped(&format!("{words}: {}", names.join(", ")), 2))?;
            }
        }
        if !database.images.is_empty() {
            super::rematch::write(&database.images, out)?;
        }
        if told.unreadable > 0 {
            let unreadable = count(told.unreadable, "record");
            writeln!(out, "{unreadable} could not be understood:")?;
        }
        told.first.iter().try_for_each(|line| writeln!(out, "  {line}"))
    })?;
    Ok(Exit::Done)
}

/// A line that counts records, on a terminal only.
fn bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} advisories, {msg}") {
        bar.set_style(style);
    }
    bar
}

struct Told {
    bar: ProgressBar,
    unreadable: usize,
    first: Vec<String>,
}

impl Progress for Told {
    fn file(&mut self, place: &str, at: usize, of: usize) {
        self.bar.set_message(format!("file {} of {of}: {place}", at + 1));
    }

    fn records(&mut self, count: u64) {
        self.bar.set_position(count);
    }

    fn unreadable(&mut self, name: &str, why: &str) {
        self.unreadable += 1;
        if self.first.len() < TOLD {
            self.first.push(plain(&format!("{name}: {why}")));
        }
    }
}
