//! The doors: the binaries that container managers start.
//!
//! `containerd-shim-portcullis-v2` is a containerd shim around runc that asks the gate before a
//! container is created; `portcullis-runc` stands in an OCI runtime's place and asks the same gate.
//! The binaries are thin; what they do is here.

mod args;
mod bootstrap;
mod bundle;
mod cgroups;
mod events;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod info;
mod io;
mod log_driver;
mod logger;
mod mounts;
mod oci_args;
mod oci_bundle;
mod options;
mod process;
mod reaper;
mod remove;
mod runc;
mod serve;
mod status;
mod sys;
mod task;
mod wrapper;

pub use args::{Args, ArgsError};
pub use bootstrap::{StartError, start};
pub use info::info;
pub use remove::delete;
pub use wrapper::wrapper;

/// An error with all its causes, on one line, as containerd shows what a shim prints.
pub fn in_one_line(error: &(dyn std::error::Error + 'static)) -> String {
    status::chain(error)
}
