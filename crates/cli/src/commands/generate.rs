//! Completions and man pages, from the one definition of the arguments.

use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::CommandFactory;

use crate::args::Cli;
use crate::exit::Exit;

pub(super) fn completions(shell: clap_complete::Shell) -> Result<Exit> {
    io::Write::write_all(&mut io::stdout(), &completion_script(shell))?;
    Ok(Exit::Done)
}

pub(crate) fn completion_script(shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "portcullis", &mut script);
    script
}

pub(super) fn man(folder: &Path) -> Result<Exit> {
    write_man(folder)
        .with_context(|| format!("cannot write man pages into {}", folder.display()))?;
    Ok(Exit::Done)
}

pub(crate) fn write_man(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Cli::command(), folder)
}
