//! The modules of a binary, a line each (golang/go `src/runtime/debug/mod.go`).
//!
//! A module that is replaced by a folder has no version, and nobody can say what is in the folder: it
//! is left out. So are modules of the version `(devel)`.

use super::main_version::main_version;
use crate::{Found, Kind, LanguageError};

/// A module.
#[derive(Clone, Copy)]
pub(super) struct Module<'a> {
    pub(super) path: &'a str,
    pub(super) version: &'a str,
}

/// Reads the lines.
pub(super) fn read(lines: &str, found: &mut Found) -> Result<(), LanguageError> {
    let mut main = None;
    let mut flags = None;
    // The one before, since the next line may replace it.
    let mut dependency: Option<Module> = None;
    let mut add = |module: Option<Module>| match module {
        Some(module) => found.add_if_valid(Kind::Go, module.path, module.version, false),
        None => Ok(()),
    };
    for line in lines.lines() {
        let (kind, rest) = line.split_once('\t').unwrap_or((line, ""));
        match kind {
            "mod" => main = module(rest),
            "dep" => add(std::mem::replace(&mut dependency, module(rest)))?,
            "=>" => dependency = module(rest),
            "build" => {
                if let Some(("-ldflags", value)) = rest.split_once('=') {
                    flags = Some(value);
                }
            }
            _ => {}
        }
    }
    add(dependency)?;
    // A program that was built from single files belongs to no module.
    let main = main.filter(|module| module.path != "command-line-arguments");
    if let Some((path, version)) =
        main.and_then(|main| Some((main.path, main_version(main, flags)?)))
    {
        found.add_if_valid(Kind::Go, path, &version, false)?;
    }
    Ok(())
}

/// A module's path and version; the sum behind them is not needed.
fn module(line: &str) -> Option<Module<'_>> {
    let mut words = line.split('\t');
    Some(Module { path: words.next()?, version: words.next().unwrap_or_default() })
}
