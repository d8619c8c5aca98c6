//! The part of Trivy's JSON that we read (aquasecurity/trivy `pkg/types/report.go`,
//! `SchemaVersion` 2).

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use crate::json::{Loose, Names, Object, Seed, Text, Title, base_score, budgeted, plain};

/// Most sources of scores for one vulnerability.
const MAX_SOURCES: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) schema_version: Option<u64>,
    pub(super) trivy: Option<Tool>,
    pub(super) created_at: Option<Text>,
    pub(super) artifact_name: Option<Text>,
    pub(super) metadata: Option<Metadata>,
    pub(super) results: Option<Vec<ResultEntry>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Tool {
    pub(super) version: Loose<Title>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Metadata {
    #[serde(rename = "OS")]
    pub(super) os: Option<Os>,
    #[serde(rename = "ImageID")]
    pub(super) image_id: Option<Text>,
    #[serde(rename = "DiffIDs")]
    pub(super) diff_ids: Names,
    pub(super) repo_tags: Names,
    pub(super) repo_digests: Names,
    pub(super) image_config: Option<ImageConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Os {
    pub(super) family: Option<Text>,
    pub(super) name: Option<Text>,
    #[serde(rename = "EOSL")]
    pub(super) end_of_life: Option<bool>,
}

/// The image configuration, in the OCI image specification's spelling.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ImageConfig {
    pub(super) rootfs: Option<RootFs>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RootFs {
    pub(super) diff_ids: Names,
}

#[derive(Debug, Default)]
pub(super) struct ResultEntry {
    pub(super) target: Option<Text>,
    pub(super) class: Option<Text>,
    pub(super) kind: Option<Text>,
    pub(super) vulnerabilities: Option<Vec<Vulnerability>>,
    pub(super) secrets: Option<Vec<Secret>>,
    pub(super) misconfigurations: Option<Vec<Misconfiguration>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Vulnerability {
    #[serde(rename = "VulnerabilityID")]
    pub(super) id: Option<Text>,
    #[serde(rename = "PkgName")]
    pub(super) package: Option<Text>,
    #[serde(rename = "PkgPath")]
    pub(super) path: Option<Text>,
    #[serde(rename = "PkgIdentifier")]
    pub(super) identifier: Object<Identifier>,
    pub(super) installed_version: Option<Text>,
    pub(super) fixed_version: Option<Text>,
    pub(super) severity: Option<Text>,
    pub(super) severity_source: Loose<Title>,
    pub(super) title: Loose<Title>,
    #[serde(rename = "CVSS")]
    pub(super) scores: Scores,
    pub(super) published_date: Loose<Title>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Identifier {
    #[serde(rename = "PURL")]
    pub(super) purl: Loose<Text>,
}

/// A secret. What was found of it (`Match`, `Code`) is never read.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Secret {
    #[serde(rename = "RuleID")]
    pub(super) id: Option<Text>,
    pub(super) severity: Option<Text>,
    pub(super) title: Loose<Title>,
    pub(super) start_line: Loose<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Misconfiguration {
    #[serde(rename = "ID")]
    pub(super) id: Option<Text>,
    pub(super) severity: Option<Text>,
    pub(super) status: Option<Text>,
    pub(super) title: Loose<Title>,
}

/// CVSS base scores by source, of version 3 or, where a source has none, 4.
#[derive(Debug, Default)]
pub(super) struct Scores(pub(super) Vec<(String, f32)>);

impl<'de> Deserialize<'de> for Scores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Score {
            #[serde(rename = "V3Score")]
            v3: Loose<f64>,
            #[serde(rename = "V40Score")]
            v4: Loose<f64>,
        }
        struct ScoresVisitor;
        impl<'de> Visitor<'de> for ScoresVisitor {
            type Value = Scores;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("scores by source")
            }

            fn visit_unit<E>(self) -> Result<Scores, E> {
                Ok(Scores::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scores, A::Error> {
                let mut scores = Vec::new();
                while let Some((Text(source), score)) = map.next_entry::<Text, Option<Score>>()? {
                    let score = score.unwrap_or_default();
                    if let Some(score) = base_score(&score.v3).or(base_score(&score.v4)) {
                        scores.push((source, score));
                    }
                    if scores.len() > MAX_SOURCES {
                        return Err(A::Error::custom("too many sources of scores"));
                    }
                }
                Ok(Scores(scores))
            }
        }
        deserializer.deserialize_any(ScoresVisitor)
    }
}

budgeted! {
    Report, "a report" {
        SchemaVersion = "SchemaVersion" => schema_version,
        Trivy = "Trivy" => trivy,
        CreatedAt = "CreatedAt" => created_at,
        ArtifactName = "ArtifactName" => artifact_name,
        Metadata = "Metadata" => metadata,
        Results = "Results" => results [Seed::<ResultEntry>::new; entries],
    }
}

budgeted! {
    ResultEntry, "a result" {
        Target = "Target" => target,
        Class = "Class" => class,
        Type = "Type" => kind,
        Vulnerabilities = "Vulnerabilities" => vulnerabilities [plain::<Vulnerability>; findings],
        Secrets = "Secrets" => secrets [plain::<Secret>; findings],
        Misconfigurations = "Misconfigurations"
            => misconfigurations [plain::<Misconfiguration>; findings],
    }
}
