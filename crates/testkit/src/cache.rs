//! Where `integration/packages.sh` unpacks the programs of others.

use std::path::PathBuf;

/// The cache's folder, found as the scripts find it.
pub fn cache() -> PathBuf {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    variable("PORTCULLIS_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("portcullis")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/portcullis")))
        .unwrap_or_default()
}
