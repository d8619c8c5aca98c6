//! Debian's own root filesystem, made by debootstrap once and kept in the cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Where `packages.sh` keeps it.
pub fn cached() -> PathBuf {
    crate::engine::cache().join("rootfs/bookworm")
}

/// The packages that a tool of Debian's lists in a root filesystem: name and version, in order.
///
/// # Errors
/// When the tool fails.
pub fn dpkg_query(root: &Path) -> Result<Vec<(String, String)>> {
    let database = root.join("var/lib/dpkg");
    let output = Command::new("dpkg-query")
        .arg("--admindir")
        .arg(&database)
        .args(["--show", "--showformat", "${Package} ${Version}\n"])
        .output()?;
    ensure!(output.status.success(), "dpkg-query: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let mut packages = Vec::new();
    for line in text.lines() {
        let (name, version) = line.split_once(' ').context("a line without a version")?;
        packages.push((name.to_owned(), version.to_owned()));
    }
    packages.sort();
    Ok(packages)
}
