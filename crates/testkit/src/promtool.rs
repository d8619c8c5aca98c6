//! Prometheus' own promtool, which checks metrics and rules.
//!
//! `integration/packages.sh` unpacks it into the cache; one that is installed does as well.

use std::process::{Command, Stdio};

use crate::cache::cache;

/// A command of promtool.
///
/// # Panics
/// There is none.
pub fn promtool() -> Command {
    let unpacked = cache().join("engines/bookworm/usr/bin/promtool");
    if unpacked.exists() {
        return Command::new(unpacked);
    }
    let mut installed = Command::new("promtool");
    let runs = installed.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(runs.is_ok(), "there is no promtool: run integration/packages.sh");
    Command::new("promtool")
}
