//! Python: metadata of installed distributions, and lock files.

mod locks;
mod metadata;
mod requirements;

pub(crate) use locks::{pipfile_lock, toml_lock};
pub(crate) use metadata::metadata;
pub(crate) use requirements::requirements;
