//! Which crate may know which. A new arrow is a design decision: it shows here first.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// The whole of the allowed edges (normal dependencies), and the crates with no limit.
const ALLOWED: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("policy", &["types"]),
    ("store", &["types", "settings"]),
    ("resolve", &["types"]),
    ("audit", &["types"]),
    ("report", &["types"]),
    ("settings", &["types"]),
    ("workload", &["types"]),
    ("versions", &[]),
    ("osv", &["types", "versions"]),
    ("rpmdb", &[]),
    ("languages", &[]),
    ("baseline", &["types"]),
    ("malware", &["types"]),
    ("secrets", &["types"]),
    ("inventory", &["types", "osv", "baseline", "secrets"]),
    ("scanner", &["types", "inventory", "baseline", "secrets", "malware", "languages", "rpmdb"]),
    (
        "scan",
        &["types", "inventory", "baseline", "osv", "malware", "report", "resolve", "settings"],
    ),
    ("engines", &["types", "gate", "resolve", "settings"]),
    (
        "agent",
        &[
            "types",
            "audit",
            "engines",
            "gate",
            "inventory",
            "kubernetes",
            "node",
            "osv",
            "policy",
            "registry",
            "scan",
            "settings",
            "store",
        ],
    ),
    ("kubernetes", &["types", "policy", "settings", "node"]),
    ("node", &["types", "policy", "report", "settings", "store", "audit", "gate"]),
    ("http", &[]),
    ("registry", &["types", "http", "settings", "store"]),
    ("gate", &["types", "policy", "store", "resolve", "audit", "settings", "workload"]),
    ("shim", &["gate", "resolve", "settings", "types"]),
    (
        "cli",
        &[
            "types",
            "policy",
            "store",
            "resolve",
            "audit",
            "report",
            "settings",
            "workload",
            "versions",
            "osv",
            "inventory",
            "http",
            "registry",
            "scan",
            "engines",
            "gate",
            "node",
        ],
    ),
    ("testkit", &["types"]),
    (
        "fuzzing",
        &[
            "types",
            "policy",
            "resolve",
            "store",
            "audit",
            "report",
            "settings",
            "workload",
            "versions",
            "osv",
            "rpmdb",
            "languages",
            "baseline",
            "malware",
            "secrets",
            "inventory",
            "registry",
            "scanner",
            "shim",
            "testkit",
        ],
    ),
    ("integration", &["types", "policy", "settings", "testkit"]),
];

/// What a door must never link: parsers of people's texts, other scanners' reports, TLS, D-Bus.
const NEVER_IN_A_DOOR: &[&str] = &[
    "portcullis-report",
    "portcullis-node",
    "portcullis-cli",
    "granit-parser",
    "clap",
    "indicatif",
    "cgroups-rs",
    "zbus",
    "tonic",
    "ureq",
    "rustls",
    "ring",
    "openssl",
    "rusqlite",
    "portcullis-scanner",
    "portcullis-inventory",
    "portcullis-http",
    "portcullis-registry",
    "portcullis-engines",
];

/// Most crates below the shim's binary; a new dependency is weighed against this number.
const MOST_CRATES_OF_THE_SHIM: usize = 110;

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

/// The workspace's crates, each with those it names as normal dependencies.
fn edges() -> BTreeMap<String, BTreeSet<String>> {
    let metadata: serde_json::Value =
        serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--no-deps"]))
            .expect("metadata is JSON");
    let short = |name: &str| name.strip_prefix("portcullis-").map(ToOwned::to_owned);
    let packages = metadata["packages"].as_array().expect("a list");
    packages
        .iter()
        .map(|package| {
            let name = short(package["name"].as_str().expect("a name")).expect("our prefix");
            let named = package["dependencies"].as_array().expect("a list").iter();
            let named = named
                .filter(|d| d["kind"].is_null())
                .filter_map(|d| short(d["name"].as_str().expect("a name")))
                .collect();
            (name, named)
        })
        .collect()
}

#[test]
fn no_crate_knows_more_than_it_may() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    for (name, named) in edges() {
        let may = allowed.get(name.as_str()).unwrap_or_else(|| panic!("{name} is not listed here"));
        for known in named {
            assert!(may.contains(&known.as_str()), "{name} must not know {known}");
        }
    }
}

#[test]
fn a_door_stays_small() {
    let tree = cargo(&[
        "tree",
        "-p",
        "portcullis-shim",
        "-e",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    let crates: BTreeSet<&str> = tree.lines().filter_map(|l| l.split(' ').next()).collect();
    for never in NEVER_IN_A_DOOR {
        assert!(!crates.contains(never), "the shim links {never}");
    }
    assert!(
        crates.len() <= MOST_CRATES_OF_THE_SHIM,
        "the shim links {} crates: {crates:?}",
        crates.len()
    );
}
