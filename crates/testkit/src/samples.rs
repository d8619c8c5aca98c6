//! Real inputs that are no part of the project, from a folder beside it.

use std::path::{Path, PathBuf};

/// The folder of these samples: what the variable names or else `below` the folder beside the
/// project. `None`, and a word of it, where there is none; what must hold everywhere is tested on
/// fixtures.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub fn folder(variable: &str, below: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(below),
        PathBuf::from,
    );
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: there are no samples at {} (set {variable})", folder.display());
    None
}
