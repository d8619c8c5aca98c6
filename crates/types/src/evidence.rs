//! What a decision is made from, beside policy, request and identity.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Failure, Finding, Timestamp, Verdict};

/// What the verdict store answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    /// The store was read; nothing in it means that the image is unscanned.
    Read(Vec<Verdict>),
    /// The store was not asked or did not answer; the reason stands among the failures.
    NotRead,
}

/// What an image says of itself in its configuration (OCI image-spec `config.md`).
///
/// Whoever made the image wrote it: good for a condition, never for an identity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ImageConfig {
    /// `created`.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::TimeSchema>"))]
    pub created: Option<Timestamp>,
    /// `config.User`; empty means root.
    #[serde(default)]
    pub user: String,
    /// `config.Labels`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Dangerous settings of a start, from its runtime specification.
#[derive(Debug, Clone, PartialEq)]
pub enum Workload {
    /// The specification was read; these findings, of class `workload`, are all.
    Read(Vec<Arc<Finding>>),
    /// It was not, for this reason.
    NotRead(String),
}

/// Everything learnt before the decision. What was learnt before a failure still counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// The store's answer.
    pub lookup: Lookup,
    /// Dangerous settings of this start.
    pub workload: Workload,
    /// The image's configuration, if one is proven and was read.
    pub image: Option<ImageConfig>,
    /// What went wrong on the way: store, deadline, record, bugs. The causes that follow from
    /// the evidence itself (unscanned, stale, identity) are added by the decision.
    pub failures: Vec<Failure>,
}

impl Evidence {
    /// The store answered, and nothing failed.
    pub fn read(verdicts: Vec<Verdict>) -> Self {
        Self::of(Lookup::Read(verdicts))
    }

    /// Nothing was read, because of this.
    pub fn failed(failure: Failure) -> Self {
        Self { failures: vec![failure], ..Self::of(Lookup::NotRead) }
    }

    /// The store's answer, and nothing else.
    pub fn of(lookup: Lookup) -> Self {
        let workload = Workload::NotRead("nobody asked for it".to_owned());
        Self { lookup, workload, image: None, failures: Vec::new() }
    }

    /// The verdicts that were read.
    pub fn verdicts(&self) -> &[Verdict] {
        match &self.lookup {
            Lookup::Read(verdicts) => verdicts,
            Lookup::NotRead => &[],
        }
    }
}
