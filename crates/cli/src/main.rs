//! The `portcullis` command: policies, verdicts, events, decisions and the state of a node.
//!
//! Three layers: [`args`] says what can be typed, [`context`] turns it into an installation with
//! settings and paths, [`commands`] do the work. Data goes to stdout, talk to stderr.

mod args;
mod commands;
mod context;
mod exit;
mod fetch;
mod render;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use args::Cli;
use exit::Exit;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are printed to stdout, usage errors to stderr.
            let _terminal_gone = error.print();
            let code = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            return code.into();
        }
    };
    match commands::run(cli) {
        Ok(exit) => exit.into(),
        // Whoever reads us has seen enough: `portcullis events list | head`.
        Err(error) if is_broken_pipe(&error) => Exit::Done.into(),
        Err(error) => {
            let _terminal_gone = writeln!(std::io::stderr(), "portcullis: {error:#}");
            Exit::Failed.into()
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}
