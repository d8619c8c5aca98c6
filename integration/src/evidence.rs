//! What a scanner says of a test image: a report in Trivy's JSON, as `trivy image -f json` writes it;
//! and what our own one finds.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::image::BuiltImage;

/// The test file that all scanners know, in two parts, so that no program of the tests is one.
pub const EICAR: [&str; 2] =
    [r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-", "ANTIVIRUS-TEST-FILE!$H+H*"];

const RULES: &str = include_str!("../../config/malware/portcullis.yar");

/// Puts the rules that we ship below a node's `etc/portcullis`, as install.sh does, and tells the
/// folder.
///
/// # Errors
/// When it cannot be written.
pub fn install_rules(etc_portcullis: &Path) -> Result<PathBuf> {
    let malware = etc_portcullis.join("malware");
    fs::create_dir_all(&malware)?;
    fs::write(malware.join("portcullis.yar"), RULES)?;
    Ok(malware)
}

/// One vulnerability of a report.
#[derive(Debug, Clone, Copy)]
pub struct Vulnerability {
    /// Its id.
    pub id: &'static str,
    /// In Trivy's words: `CRITICAL`.
    pub severity: &'static str,
    /// The package it is in, always in version 1.0.
    pub package: &'static str,
    /// The version that mends it, if there is one.
    pub fixed: Option<&'static str>,
}

/// One that is critical and has a fix.
pub const CRITICAL: Vulnerability = Vulnerability {
    id: "CVE-2024-3094",
    severity: "CRITICAL",
    package: "xz-utils",
    fixed: Some("5.6.1"),
};

/// One that is of medium severity and has none.
pub const MEDIUM: Vulnerability =
    Vulnerability { id: "CVE-2023-0001", severity: "MEDIUM", package: "zlib", fixed: None };

/// A report on an image of a current Debian, with these findings.
pub fn report(image: &BuiltImage, found: &[Vulnerability]) -> Value {
    let vulnerabilities: Vec<Value> = found
        .iter()
        .map(|v| {
            json!({
                "VulnerabilityID": v.id,
                "PkgName": v.package,
                "InstalledVersion": "1.0",
                "FixedVersion": v.fixed.unwrap_or_default(),
                "Severity": v.severity,
            })
        })
        .collect();
    json!({
        "SchemaVersion": 2,
        "CreatedAt": "2025-06-01T00:00:00Z",
        "ArtifactName": image.name,
        "ArtifactType": "container_image",
        "Metadata": {
            "OS": { "Family": "debian", "Name": "12.5" },
            "ImageID": image.config_digest,
            "DiffIDs": image.diff_ids,
            "RepoTags": [image.name],
        },
        "Results": [{
            "Target": format!("{} (debian 12.5)", image.name),
            "Class": "os-pkgs",
            "Type": "debian",
            "Vulnerabilities": vulnerabilities,
        }],
    })
}

/// Writes such a report to a file.
///
/// # Errors
/// When the file cannot be written.
pub fn write_report(file: &Path, image: &BuiltImage, found: &[Vulnerability]) -> Result<()> {
    fs::write(file, serde_json::to_vec_pretty(&report(image, found))?)
        .with_context(|| format!("cannot write {}", file.display()))
}
