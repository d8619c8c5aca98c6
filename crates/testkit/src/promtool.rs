//! Prometheus' own promtool, which checks metrics and rules.
//!
//! `integration/packages.sh` unpacks it into the cache; one that is installed does as well.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A command of promtool.
///
/// # Panics
/// There is none.
pub fn promtool() -> Command {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let cache = variable("PORTCULLIS_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("portcullis")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/portcullis")))
        .unwrap_or_default();
    let unpacked = cache.join("engines/bookworm/usr/bin/promtool");
    if unpacked.exists() {
        return Command::new(unpacked);
    }
    let mut installed = Command::new("promtool");
    let runs = installed.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(runs.is_ok(), "there is no promtool: run integration/packages.sh");
    Command::new("promtool")
}
