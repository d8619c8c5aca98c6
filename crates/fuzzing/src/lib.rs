//! What must hold for any bytes from outside, as functions of bytes.
//!
//! Each function takes what a stranger could have written, panics if an invariant does not hold, and
//! says whether the bytes were accepted. The fuzzers in `fuzz/` call these functions, and so do the
//! tests of this crate on stable Rust, which also replay the corpora. See `docs/fuzzing.md`.

#![forbid(unsafe_code)]

mod advisories;
mod baseline;
pub mod encode;
mod image;
mod inventory;
mod languages;
mod layers;
mod ledger;
mod malware;
mod names;
mod packages;
mod pieces;
mod policy;
mod reports;
mod rpm;
mod runtimes;
mod secrets;
mod settings;
mod shared;
mod shim;
mod text;
mod verdict;
mod workload;

pub use advisories::{osv, versions};
pub use baseline::baseline;
pub use image::{containerd_records, grpc, image_documents, mounts, storage};
pub use inventory::{file_table, scanner_messages};
pub use languages::{binary, jar, languages};
pub use layers::{decompression, layer, layouts, tar};
pub use ledger::ledger;
pub use malware::{clamd, malware_list};
pub use names::names;
pub use packages::{apk, dpkg};
pub use policy::{cel, policy_yaml, published_set};
pub use reports::{epss, kev, report, vex};
pub use rpm::{rpm_header, rpmdb};
pub use runtimes::oci_args;
pub use secrets::secrets;
pub use settings::settings;
pub use shared::shared_verdict;
pub use shim::{bootstrap, runtime_options};
pub use verdict::verdict;
pub use workload::config_json;

/// A target: its name, which is that of its corpus too, and what it checks.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// All targets.
pub const TARGETS: &[Target] = &[
    ("apk", apk),
    ("baseline", baseline),
    ("binary", binary),
    ("bootstrap", bootstrap),
    ("cel", cel),
    ("clamd", clamd),
    ("config_json", config_json),
    ("containerd_records", containerd_records),
    ("decompression", decompression),
    ("dpkg", dpkg),
    ("epss", epss),
    ("file_table", file_table),
    ("grpc", grpc),
    ("image_documents", image_documents),
    ("jar", jar),
    ("kev", kev),
    ("languages", languages),
    ("layer", layer),
    ("layouts", layouts),
    ("ledger", ledger),
    ("malware_list", malware_list),
    ("mounts", mounts),
    ("names", names),
    ("oci_args", oci_args),
    ("osv", osv),
    ("policy_yaml", policy_yaml),
    ("published_set", published_set),
    ("report", report),
    ("rpm_header", rpm_header),
    ("rpmdb", rpmdb),
    ("runtime_options", runtime_options),
    ("scanner_messages", scanner_messages),
    ("secrets", secrets),
    ("settings", settings),
    ("shared_verdict", shared_verdict),
    ("storage", storage),
    ("tar", tar),
    ("verdict", verdict),
    ("versions", versions),
    ("vex", vex),
];
