//! `portcullis db status|verify|query`: what is known, whether it is whole, and what it says.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use portcullis_osv::database::{self, Found};
use portcullis_types::{Digest, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use super::of_node;
use crate::context::Context;
use crate::exit::Exit;
use crate::render::{Table, count, cut, plain};

/// A database.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Database {
    #[schemars(with = "portcullis_types::TimeSchema")]
    built: Timestamp,
    age_seconds: i64,
    ecosystems: Vec<Ecosystem>,
}

/// What is known of an ecosystem.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Ecosystem {
    name: String,
    /// The releases that were asked for, if not all of them were.
    releases: BTreeSet<String>,
    advisories: u64,
    /// Left out, since they do not hold any more.
    withdrawn: u64,
    packages: u64,
    /// Records, or parts of them, that could not be understood.
    unreadable: u64,
    /// When its newest advisory was changed.
    #[schemars(with = "Option<portcullis_types::TimeSchema>")]
    modified: Option<Timestamp>,
    /// When it was read, or known to be what would be read again; and from where.
    #[schemars(with = "portcullis_types::TimeSchema")]
    read: Timestamp,
    source: String,
    bytes: u64,
    digest: Digest,
}

impl Database {
    pub(super) fn new(database: &database::Database, now: Timestamp) -> Self {
        let manifest = database.manifest();
        let ecosystems = manifest.ecosystems.iter().map(|(name, contents)| Ecosystem {
            name: name.clone(),
            releases: contents.releases.clone(),
            advisories: contents.advisories,
            withdrawn: contents.withdrawn,
            packages: contents.packages,
            unreadable: contents.unreadable,
            modified: contents.modified,
            read: contents.read,
            source: contents.source.clone(),
            bytes: contents.bytes,
            digest: contents.digest.clone(),
        });
        let age_seconds = now.duration_since(manifest.built).as_secs();
        Self { built: manifest.built, age_seconds, ecosystems: ecosystems.collect() }
    }

    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let day = |time: Timestamp| time.strftime("%F").to_string();
        let built = self.built.strftime("%F %H:%M UTC");
        writeln!(out, "built {built}, {} days ago", self.age_seconds.max(0) / 86_400)?;
        let mut table =
            Table::new(&["ECOSYSTEM", "ADVISORIES", "PACKAGES", "NEWEST", "READ", "UNREADABLE"]);
        for of in &self.ecosystems {
            table.row([
                match of.releases.is_empty() {
                    true => of.name.clone(),
                    false => Vec::from_iter(of.releases.iter().cloned()).join(", "),
                },
                of.advisories.to_string(),
                of.packages.to_string(),
                of.modified.map(day).unwrap_or_default(),
                day(of.read),
                of.unreadable.to_string(),
            ]);
        }
        table.write(out)
    }
}

pub(super) fn status(context: &Context) -> Result<Exit> {
    let database = Database::new(&of_node(context)?, Timestamp::now());
    context.print.print(&database, |out| database.write(out))?;
    Ok(Exit::Done)
}

/// A database that is whole.
#[derive(Serialize, JsonSchema)]
pub(in crate::commands) struct Verified {
    folder: PathBuf,
    ecosystems: usize,
}

pub(super) fn verify(context: &Context) -> Result<Exit> {
    let database = of_node(context)?;
    database.verify()?;
    let verified = Verified {
        folder: context.paths.advisories(),
        ecosystems: database.manifest().ecosystems.len(),
    };
    context.print.print(&verified, |out| {
        let ecosystems = count(verified.ecosystems, "ecosystem");
        writeln!(out, "{ecosystems}: everything is as it was written")
    })?;
    Ok(Exit::Done)
}

/// An advisory that says that the version is affected.
#[derive(Serialize, JsonSchema)]
pub(in crate::commands) struct Row {
    id: String,
    aliases: Vec<String>,
    summary: String,
    /// The first version that is not affected any more.
    fixed: Option<String>,
}

impl From<Found> for Row {
    fn from(Found { advisory, fixed }: Found) -> Self {
        Self { id: advisory.id, aliases: advisory.aliases, summary: advisory.summary, fixed }
    }
}

pub(super) fn query(context: &Context, ecosystem: &str, name: &str, version: &str) -> Result<Exit> {
    let found = of_node(context)?.query(ecosystem, name, version)?;
    let rows: Vec<Row> = found.into_iter().map(Row::from).collect();
    context.print.print(&rows, |out| {
        for row in &rows {
            let fixed = row.fixed.as_ref().map(|fixed| format!("  fixed in {fixed}"));
            let line = format!("{}{}  {}", row.id, fixed.unwrap_or_default(), row.summary);
            writeln!(out, "{}", cut(plain(&line).trim_end(), 100))?;
        }
        Ok(())
    })?;
    Ok(Exit::Done)
}
