//! Every finding and why it counts or not, from the same decision.

use std::collections::HashMap;
use std::sync::Arc;

use portcullis_types::{
    Decision, Evidence, Finding, FindingKey, Identity, Reason, Request, Subject, Timestamp,
};
use serde::Serialize;

use crate::InForce;
use crate::decide::{decide, findings_of, unmet_field};
use crate::document::Rule;

/// A decision with what became of each finding.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The decision.
    pub decision: Decision,
    /// All findings about the image and the start, in order of their keys.
    pub findings: Vec<Explained>,
}

/// One finding.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    /// Which.
    pub finding: Arc<Finding>,
    /// What each policy in scope says of it.
    pub policies: Vec<PolicySays>,
}

/// What one policy says of one finding.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PolicySays {
    /// The policy's name.
    pub policy: String,
    /// What it says.
    #[serde(flatten)]
    pub says: Says,
}

/// Whether a rule speaks of a finding.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Says {
    /// A rule does; what softens it stands in the reason.
    Speaks(Reason),
    /// None does.
    NoRule {
        /// For each rule about findings of this class, why it does not match.
        misses: Vec<Miss>,
    },
}

/// Why a rule does not match a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Miss {
    /// `rules[2]`.
    pub rule: String,
    /// The first of its fields that the finding does not meet.
    pub field: &'static str,
}

/// Decides, and tells of each finding what each policy in scope says.
pub fn explain(
    in_force: &InForce<'_>,
    request: &Request,
    identity: &Identity,
    evidence: &Evidence,
    now: Timestamp,
) -> Explanation {
    let decision = decide(in_force, request, identity, evidence, now);
    let spoken: Vec<(&str, HashMap<FindingKey<'_>, &Reason>)> = decision
        .policies
        .iter()
        .map(|answer| {
            let reasons = answer.reasons.iter().filter_map(|reason| match &reason.subject {
                Subject::Finding(finding) => Some((finding.key(), reason)),
                Subject::Failure(_) | Subject::Condition(_) => None,
            });
            (answer.policy.as_str(), reasons.collect())
        })
        .collect();
    let rules = |policy: &str| -> &[Rule] {
        let set = in_force.set.into_iter().flat_map(|set| set.policies());
        let mut named = set.filter(|document| document.metadata.name == policy);
        named.next().map_or(&[], |document| &document.spec.rules)
    };
    let findings = findings_of(evidence)
        .into_iter()
        .map(|finding| Explained {
            policies: spoken
                .iter()
                .map(|(policy, reasons)| PolicySays {
                    policy: (*policy).to_owned(),
                    says: match reasons.get(&finding.key()) {
                        Some(reason) => Says::Speaks((*reason).clone()),
                        None => Says::NoRule { misses: misses(rules(policy), &finding) },
                    },
                })
                .collect(),
            finding,
        })
        .collect();
    Explanation { decision, findings }
}

fn misses(rules: &[Rule], finding: &Finding) -> Vec<Miss> {
    rules
        .iter()
        .enumerate()
        .filter(|(_, rule)| rule.class == Some(finding.class))
        .map(|(index, rule)| Miss {
            rule: format!("rules[{index}]"),
            field: unmet_field(rule, finding).unwrap_or("when"),
        })
        .collect()
}
