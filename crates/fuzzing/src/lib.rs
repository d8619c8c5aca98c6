//! What must hold for any bytes from outside, as functions of bytes.
//!
//! Each function takes what a stranger could have written, panics if an invariant does not hold, and
//! says whether the bytes were accepted. The fuzzers in `fuzz/` call these functions, and so do the
//! tests of this crate on stable Rust, which also replay the corpora. See `docs/fuzzing.md`.

#![forbid(unsafe_code)]

mod image;
mod ledger;
mod names;
mod policy;
mod reports;
mod runtimes;
mod settings;
mod shim;
mod text;
mod verdict;
mod workload;

pub use image::{containerd_records, grpc, image_documents, mounts, storage};
pub use ledger::ledger;
pub use names::names;
pub use policy::{cel, policy_yaml, published_set};
pub use reports::{epss, kev, report, vex};
pub use runtimes::oci_args;
pub use settings::settings;
pub use shim::{bootstrap, runtime_options};
pub use verdict::verdict;
pub use workload::config_json;

/// A target: its name, which is that of its corpus too, and what it checks.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// All targets.
pub const TARGETS: &[Target] = &[
    ("bootstrap", bootstrap),
    ("cel", cel),
    ("config_json", config_json),
    ("containerd_records", containerd_records),
    ("epss", epss),
    ("grpc", grpc),
    ("image_documents", image_documents),
    ("kev", kev),
    ("ledger", ledger),
    ("mounts", mounts),
    ("names", names),
    ("oci_args", oci_args),
    ("policy_yaml", policy_yaml),
    ("published_set", published_set),
    ("report", report),
    ("runtime_options", runtime_options),
    ("settings", settings),
    ("storage", storage),
    ("verdict", verdict),
    ("vex", vex),
];
