//! Decisions, with every reason.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::finding::words;
use crate::{Digest, Finding, Timestamp};

words! {
    /// What happens; ordered, the strictest last.
    #[derive(Default)]
    Action, "an action" {
        /// The container starts.
        Allow = "allow",
        /// The container starts, and the node's journal says what is wrong.
        #[default]
        Alarm = "alarm",
        /// The container does not start.
        Block = "block",
    }
}

words! {
    /// What went wrong or is missing, as a policy names it.
    Cause, "a failure cause" {
        /// The store was read and holds nothing for this image.
        Unscanned = "unscanned",
        /// Scan or database is older than the policy allows.
        Stale = "stale",
        /// A class or an ecosystem was not covered, or the distribution is unknown or past its end.
        NoData = "noData",
        /// The verdict is damaged.
        StoreCorrupt = "storeCorrupt",
        /// The store cannot be read.
        StoreUnreadable = "storeUnreadable",
        /// It is not known which image this is.
        IdentityUnknown = "identityUnknown",
        /// Only a name or an annotation says which image this is.
        IdentityClaimed = "identityClaimed",
        /// The gate's time was up.
        Deadline = "deadline",
        /// Neither the journal nor the ledger took the record.
        AuditUnavailable = "auditUnavailable",
        /// The published policy set is missing or damaged, or its owner or mode is wrong.
        PolicyInvalid = "policyInvalid",
        /// A bug or an evaluation error.
        Internal = "internal",
    }
}

/// A cause that came to pass, with what exactly happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Failure {
    /// Which.
    pub cause: Cause,
    /// What happened: names the file or the step.
    pub detail: String,
}

impl Failure {
    /// A cause with its detail.
    pub fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into() }
    }
}

/// What a reason is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Subject {
    /// A finding.
    Finding(Arc<Finding>),
    /// A failure cause.
    Failure(Failure),
    /// The start as a whole met a condition: the text of a rule's `when`.
    Condition(Arc<str>),
}

words! {
    /// What takes a finding out of the count.
    WaivedBy, "a kind of waiver" {
        /// A VEX statement: the image is not affected, or is mended already.
        Vex = "vex",
        /// An exception of the policy, until it expires.
        Exception = "exception",
        /// The policy's whitelist.
        Whitelist = "whitelist",
    }
}

/// Why a finding does not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Waiver {
    /// What kind of entry.
    pub by: WaivedBy,
    /// Which entry: `whitelist[0]`, `exceptions[2]`, `web.openvex.json statement 3`.
    pub entry: Arc<str>,
    /// The entry names no digest, so a name that can be moved was trusted.
    pub by_name: bool,
}

words! {
    /// From when a grace period counts.
    GraceClock, "a clock of grace" {
        /// The advisory's publication.
        Published = "published",
        /// The appearance of a fixed version.
        Fixed = "fixed",
        /// The first time that this node heard of it in this image.
        FirstSeen = "firstSeen",
    }
}

/// A `block` that is an alarm until a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Grace {
    /// Which date it counts from.
    pub clock: GraceClock,
    /// That date.
    #[cfg_attr(feature = "schema", schemars(with = "crate::TimeSchema"))]
    pub since: Timestamp,
    /// From then on it blocks.
    #[cfg_attr(feature = "schema", schemars(with = "crate::TimeSchema"))]
    pub until: Timestamp,
}

/// One reason of one policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    /// What it is about.
    pub subject: Subject,
    /// The place in the policy that spoke: `rules[2]`, `unscanned`, `authorized`.
    pub rule: Arc<str>,
    /// The action that place names.
    pub action: Action,
    /// Present while its grace lasts: a block is an alarm until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Box<Grace>>,
    /// Present if the finding does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waived: Option<Waiver>,
    /// An exception that would have taken it out of the count, had it not expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired: Option<Box<Expired>>,
}

/// An exception that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Expired {
    /// Which entry: `exceptions[2]`.
    pub entry: Arc<str>,
    /// Its last day, `2026-12-31`.
    pub expires: Arc<str>,
    /// Who answers for it.
    pub owner: Arc<str>,
}

impl Reason {
    /// A reason that nothing softens.
    pub fn new(subject: Subject, rule: impl Into<Arc<str>>, action: Action) -> Self {
        Self { subject, rule: rule.into(), action, grace: None, waived: None, expired: None }
    }

    /// The action that counts.
    pub fn effective(&self) -> Action {
        if self.waived.is_some() { Action::Allow } else { self.unwaived() }
    }

    /// The action that would count without the whitelist; VEX and exceptions stand.
    pub fn without_whitelist(&self) -> Action {
        match &self.waived {
            Some(waiver) if waiver.by != WaivedBy::Whitelist => Action::Allow,
            _ => self.unwaived(),
        }
    }

    /// The action after grace, as if nothing waived it.
    pub fn unwaived(&self) -> Action {
        if self.grace.is_some() { self.action.min(Action::Alarm) } else { self.action }
    }
}

/// What one policy in scope answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PolicyAnswer {
    /// The policy's name.
    pub policy: String,
    /// It observes now: what would block is an alarm.
    pub observing: bool,
    /// Its answer.
    pub action: Action,
    /// Its answer if it enforced.
    pub enforced: Action,
    /// Its answer if it enforced and had no whitelist.
    pub unwaived: Action,
    /// Why, the strictest first.
    pub reasons: Vec<Reason>,
}

/// What the node's settings answer where no policy does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct SettingsAnswer {
    /// The settings' key: `defaultAction`, `policyInvalid`, `internal`, `sandboxImages`.
    pub setting: String,
    /// Its action.
    pub action: Action,
    /// What happened.
    pub detail: String,
}

/// Allow, alarm or block, with every reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// The strictest answer.
    pub action: Action,
    /// Digest of the policy set that decided, if one could be loaded.
    pub policy_set: Option<Digest>,
    /// The answers of the policies in scope.
    pub policies: Vec<PolicyAnswer>,
    /// What the settings add.
    pub settings: Vec<SettingsAnswer>,
    /// All distinct findings about the image and the start, counted or not.
    pub findings: usize,
    /// How many of them are dangerous settings of the start.
    #[serde(default)]
    pub settings_of_start: usize,
}

impl Decision {
    /// A policy that observes would have blocked.
    pub fn would_block(&self) -> bool {
        self.policies.iter().any(|p| p.observing && p.enforced == Action::Block)
    }

    /// The whitelist changed the answer of some policy.
    pub fn whitelisted(&self) -> bool {
        self.policies.iter().any(|p| p.unwaived > p.enforced)
    }

    /// All causes that came to pass, each once, in order.
    pub fn causes(&self) -> Vec<Cause> {
        let mut causes: Vec<Cause> = self
            .policies
            .iter()
            .flat_map(|p| &p.reasons)
            .filter_map(|r| match &r.subject {
                Subject::Failure(failure) => Some(failure.cause),
                Subject::Finding(_) | Subject::Condition(_) => None,
            })
            .chain(self.settings.iter().filter_map(|s| s.setting.parse().ok()))
            .collect();
        causes.sort_unstable();
        causes.dedup();
        causes
    }
}
