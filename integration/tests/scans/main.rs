//! The built scanner on a Debian that debootstrap made, beside what Debian's own tools say of it.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::process::Command;

use portcullis_integration::debian::{cached, dpkg_query};
use portcullis_integration::engine::own_binaries;
use portcullis_integration::evidence::install_rules;
use serde_json::Value;

/// A scan of Debian's root filesystem with the rules that we ship, in this form.
fn scan(form: &str) -> Value {
    let debian = cached();
    assert!(debian.is_dir(), "{} is not there: run integration/packages.sh", debian.display());
    let installation = tempfile::tempdir().unwrap();
    install_rules(&installation.path().join("etc/portcullis")).unwrap();
    let output = Command::new(own_binaries().join("portcullis"))
        .arg("--root")
        .arg(installation.path())
        .args(["--output", form, "scan", "--no-clamd"])
        .arg(&debian)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_scan_lists_the_packages_that_dpkg_query_lists() {
    let bom = scan("cyclonedx");
    let mut listed = Vec::new();
    for component in bom["components"].as_array().unwrap() {
        let text = |key: &str| component[key].as_str().unwrap_or_default().to_owned();
        if text("purl").starts_with("pkg:deb/") {
            listed.push((text("name"), text("version")));
        }
    }
    listed.sort();
    let wanted = dpkg_query(&cached()).unwrap();
    assert!(wanted.len() > 50, "dpkg-query lists {}", wanted.len());
    assert_eq!(listed, wanted);
}

#[test]
fn a_clean_debian_has_neither_malware_nor_secrets_nor_weak_passwords() {
    let rows = scan("json");
    let row = &rows[0];
    assert!(row["coverage"]["classes"].as_array().unwrap().iter().any(|c| c == "malware"));
    let bad: Vec<&Value> = row["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["class"] != "baseline" || finding["severity"] != "low")
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
    // It was read, all of it.
    assert!(Path::new(&cached()).join("etc/shadow").exists());
    assert!(row["packages"].as_u64().unwrap() > 50, "{row:#}");
}
