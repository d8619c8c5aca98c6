//! VEX statements: whether a product is affected by a vulnerability, as those who know it say.

use serde::{Deserialize, Serialize};

use crate::finding::words;
use crate::{Digest, Timestamp};

words! {
    /// What a statement says (OpenVEX specification, "Status Labels"; CSAF 2.0 section 3.2.3.9;
    /// CycloneDX `vulnerabilities[].analysis.state`).
    VexStatus, "a VEX status" {
        /// The vulnerability does not touch the product.
        NotAffected = "not_affected",
        /// It does.
        Affected = "affected",
        /// The product holds a fix.
        Fixed = "fixed",
        /// It is not known yet.
        UnderInvestigation = "under_investigation",
    }
}

/// One statement about one vulnerability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VexStatement {
    /// Where it stands, for people: the file's name and the number of the statement.
    pub source: String,
    /// Ids of the vulnerability: its name and its aliases.
    pub vulnerability: Vec<String>,
    /// What is said.
    pub status: VexStatus,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub justification: Option<String>,
    /// Since when it is said; of two statements about one product the later counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stated_at: Option<Timestamp>,
    /// Of what. A statement without a product says nothing.
    pub products: Vec<VexProduct>,
}

/// What a statement is about: an image, packages, or packages within an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VexProduct {
    /// As the document writes it, for people.
    pub name: String,
    /// The image, by digest of its manifest, index or configuration. Present and proven, or the
    /// statement does not apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Digest>,
    /// The image by its repository alone, `registry.example.com/team/app`: holds for any image
    /// that the engine's record knows by a name of that repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The packages; empty means every package of the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<VexPackage>,
}

/// A package that a statement names, as a package URL says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VexPackage {
    /// The package URL as written.
    pub purl: String,
}
