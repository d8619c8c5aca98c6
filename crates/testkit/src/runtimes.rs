//! How OCI runtimes read their command lines: models to hold a wrapper against.
//!
//! | reader | binary | how it reads |
//! | --- | --- | --- |
//! | [`runc_1_1`] | runc 1.1 as released, urfave/cli 1.22.1 | Go's `flag`; flags of a command are moved before its arguments |
//! | [`runc_1_1_debian`] | runc 1.1.5 of Debian 12, urfave/cli 1.22.9 | as 1.2 |
//! | [`runc_1_2`] | runc 1.2 to 1.5, urfave/cli 1.22.14 to 1.22.17 | as 1.1, but only flags that the command has are moved |
//! | [`runc_main`] | runc after 1.5, urfave/cli v3 | its own parser: arguments and flags may mix, blanks around an argument are cut off |
//! | [`crun_1_8`] | crun 1.8.1 | glibc's argp in order: flags may be shortened, and the first argument ends them |
//! | [`crun_1_29`] | crun 1.29 | the same with more flags, so that other short forms are ambiguous |
//!
//! The models say what a runtime would do at most: where it would refuse a value that a flag has
//! (a number that is none, an id with a slash), they say that it creates. `tests/runtimes.rs` holds
//! them against the binaries that are installed.

mod argp;
mod cli;
mod cli_v3;
mod flags;
mod lines;

pub use argp::{crun_1_8, crun_1_29};
pub use cli::{runc_1_1, runc_1_1_debian, runc_1_2};
pub use cli_v3::runc_main;
pub use lines::{ORDINARY, Ordinary, line_of};

/// A call by which a runtime creates a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creates {
    /// `create`, `run` or `restore`.
    pub command: String,
    /// The bundle as written; empty for the folder that the runtime is called in.
    pub bundle: String,
    /// The container's id.
    pub id: String,
    /// Another file than the bundle's `config.json` (crun).
    pub config: Option<String>,
}

/// Reads arguments (without the program's name); `None` if no container would be created.
pub type Reader = fn(&[&str]) -> Option<Creates>;

/// All readers, with the names of their runtimes.
pub const READERS: &[(&str, Reader)] = &[
    ("runc 1.1", runc_1_1),
    ("runc 1.1 of Debian 12", runc_1_1_debian),
    ("runc 1.2 to 1.5", runc_1_2),
    ("runc main", runc_main),
    ("crun 1.8", crun_1_8),
    ("crun 1.29", crun_1_29),
];

/// What a wrapper makes of a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrapper {
    /// It asks for a permit for this bundle (empty: the current folder) and id.
    Gates {
        /// The bundle as written.
        bundle: String,
        /// The container's id.
        id: String,
    },
    /// It hands the line to the runtime at once.
    Passes,
    /// It does neither.
    Refuses,
}

/// What must hold of a wrapper for every command line: if any runtime would create a container by
/// it, the wrapper asks for a permit for exactly that bundle and id, or refuses. So what it lets
/// pass creates nothing.
///
/// # Panics
/// If it does not hold.
pub fn check_wrapper(line: &[&str], wrapper: impl Fn(&[&str]) -> Wrapper) {
    let answer = wrapper(line);
    if answer == Wrapper::Refuses {
        return;
    }
    for (name, reader) in READERS {
        let Some(creates) = reader(line) else { continue };
        let Wrapper::Gates { bundle, id } = &answer else {
            panic!("{name} reads {creates:?} in {line:?}, and the wrapper lets it pass");
        };
        let same = here(bundle) == here(&creates.bundle) && *id == creates.id;
        assert!(
            same && creates.config.is_none(),
            "{name} reads {creates:?} in {line:?}, and the wrapper asks for {answer:?}"
        );
    }
}

/// The current folder has two names.
fn here(bundle: &str) -> &str {
    if bundle.is_empty() { "." } else { bundle }
}
