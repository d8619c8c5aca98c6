//! Completions and man pages, from the one definition of the arguments.

use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::CommandFactory;

use crate::args::Cli;
use crate::exit::Exit;

pub(super) fn completions(shell: clap_complete::Shell) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "portcullis", &mut script);
    io::Write::write_all(&mut io::stdout(), &script)?;
    Ok(Exit::Done)
}

pub(super) fn man(folder: &Path) -> Result<Exit> {
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .with_context(|| format!("cannot write man pages into {}", folder.display()))?;
    Ok(Exit::Done)
}
