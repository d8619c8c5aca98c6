//! `portcullis db`: the node's advisories, and how versions are ordered.

pub(super) mod ask;
pub(super) mod compare;
mod mirror;
pub(super) mod rematch;
pub(super) mod update;

use anyhow::{Context as _, Result};
use portcullis_osv::database::Database;

use crate::args::Db;
use crate::context::Context;
use crate::exit::Exit;

pub(super) fn run(context: &Context, command: &Db) -> Result<Exit> {
    match command {
        Db::Update(args) => update::run(context, args),
        Db::Rematch => rematch::run(context),
        Db::Status => ask::status(context),
        Db::Verify => ask::verify(context),
        Db::Query { ecosystem, name, version } => ask::query(context, ecosystem, name, version),
        // It needs no installation.
        Db::Compare(_) => Ok(Exit::Done),
    }
}

/// The node's database.
///
/// # Errors
/// There is none, or it is damaged.
fn of_node(context: &Context) -> Result<Database> {
    let folder = context.paths.advisories();
    let database = Database::open(&folder).context("the vulnerability database cannot be used")?;
    database.with_context(|| {
        format!(
            "there is no vulnerability database in {}: fetch advisories of OSV \
             (<ecosystem>/all.zip) and run portcullis db update FOLDER",
            folder.display()
        )
    })
}
