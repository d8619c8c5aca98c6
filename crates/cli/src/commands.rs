//! The commands.

mod config;
mod db;
mod decide;
mod doctor;
mod edit;
mod events;
mod explain;
mod feed;
mod generate;
mod import;
mod policy;
mod preflight;
mod scan;
mod schema;
mod simulate;
mod situation;
mod status;
mod verdict;
mod vex;

use anyhow::Result;

#[cfg(test)]
pub(crate) use generate::{completion_script, write_man};

use crate::args::{Cli, Command, Db, Output};
use crate::context::Context;
use crate::exit::Exit;

/// Runs what was typed.
pub(crate) fn run(cli: Cli) -> Result<Exit> {
    let output = cli.global.output;
    if matches!(output, Output::Sarif | Output::Cyclonedx)
        && !matches!(cli.command, Command::Scan(_))
    {
        anyhow::bail!("only scan prints SARIF and CycloneDX: use --output text or json");
    }
    // These need no installation, and must work where its settings are broken.
    match &cli.command {
        Command::Completions { shell } => return generate::completions(*shell),
        Command::Man { folder } => return generate::man(folder),
        Command::Schema { command } => return schema::run(&cli.global, command),
        Command::Config(command) => return config::run(&cli.global, command),
        Command::Db(Db::Compare(args)) => return db::compare::run(&cli.global, args),
        Command::Doctor(args) => return doctor::run(&cli.global, args),
        Command::Policy(command) if policy::is_fixed(command) => {
            return policy::run_fixed(&cli.global, command);
        }
        _ => {}
    }
    let context = Context::new(&cli.global)?;
    match cli.command {
        Command::Status => status::run(&context),
        Command::Policy(command) => policy::run(&context, &command),
        Command::Scan(args) => scan::run(&context, &args, output),
        Command::Import(args) => import::run(&context, &args),
        Command::Feed(command) => feed::run(&context, &command),
        Command::Db(command) => db::run(&context, &command),
        Command::Vex(command) => vex::run(&context, &command),
        Command::Verdict(command) => verdict::run(&context, &command),
        Command::Events(command) => events::run(&context, &command),
        Command::Decide(args) => decide::run(&context, &args),
        Command::Explain(args) => explain::run(&context, &args),
        Command::Preflight(args) => preflight::run(&context, &args),
        Command::Simulate(args) => simulate::run(&context, &args),
        Command::Completions { .. }
        | Command::Man { .. }
        | Command::Schema { .. }
        | Command::Doctor(_)
        | Command::Config(_) => Ok(Exit::Done),
    }
}
