//! What is well-formed in a policy and yet hardly meant: what covers something else, is never
//! used, reaches too far, trusts what can be moved, or will stop a node's pods.
//!
//! Pure, like the decision: what is known of the node comes in as a [`LintContext`]. The codes:
//!
//! - `shadowed-rule`, `shadowed-whitelist`, `shadowed-exception`: another entry covers it;
//!   `equal-policies`: two policies say the same; `not-compared`: there are too many entries.
//! - `include-excluded`, `empty-scope`: the scope takes out what it takes in.
//! - `unused-policy`, `unused-rule`, `unused-whitelist`, `unused-exception`: see [`Starts`].
//! - `exception-ended`, `exception-ends-soon`, `exception-long`, `exception-unexplained`,
//!   `broad-exception`.
//! - `broad-whitelist`, `authorized-any`, `failures-allowed`, `unscanned-allowed`, `allow-rule`,
//!   `allow-only`: it lets too much through.
//! - `by-name`: a tag or name is trusted, which can be moved to another image.
//! - `implied-host`, `latest-only`, `look-alike-host`: an image that is not the one it looks like.
//! - `blocks-sandbox`: the node's pods would not start.
//! - `observe-over`: it says that it observes, and enforces.

mod broad;
mod exceptions;
mod names;
mod overlap;
mod sandbox;
mod unused;

use std::fmt;

use portcullis_types::{Evidence, Identity, Timestamp};
use serde::Serialize;

use crate::PolicySet;
use crate::document::{Mode, ProtectionPolicy, Spec};

pub use unused::Starts;

/// How much a warning matters; ordered, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Worth knowing, often on purpose.
    Note,
    /// Hardly meant.
    Warning,
    /// It defeats the policy, or harms the node.
    Error,
}

impl Level {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One thing that is hardly meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Warning {
    /// The policy's name.
    pub policy: String,
    /// Which field: `spec.whitelist[0]`.
    pub path: String,
    /// How much it matters.
    pub severity: Level,
    /// Which kind, in kebab case; the list stands in the module's documentation.
    pub code: &'static str,
    /// What is the matter.
    pub message: String,
    /// What to write instead.
    pub remedy: String,
}

impl fmt::Display for Warning {
    /// `policy web: spec.whitelist[0]: warning: by-name: …: …`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, path, severity, code, message, remedy } = self;
        write!(f, "policy {policy}: {path}: {severity}: {code}: {message}: {remedy}")
    }
}

/// What is known of the node where the policies are to be in force.
#[derive(Debug, Clone, Copy)]
pub struct LintContext<'a> {
    /// The time.
    pub now: Timestamp,
    /// What earlier starts would have used of these policies; `None`: nothing is recorded.
    pub starts: Option<&'a Starts>,
    /// The sandbox (pause) images of the node that its settings do not allow outright.
    pub sandbox_images: &'a [SandboxImage],
}

/// A sandbox image of the node.
#[derive(Debug, Clone, PartialEq)]
pub struct SandboxImage {
    /// Its names and digests, as a start of it would prove them.
    pub identity: Identity,
    /// What is known of it.
    pub evidence: Evidence,
}

/// Most rules, whitelist entries or exceptions of one policy, and most registries of a set, that are
/// compared with each other: the time that lint takes grows with the square of it.
const MAX_COMPARED: usize = 1_000;

/// All that is hardly meant in these policies, in the order of the policies and their fields.
pub fn lint(set: &PolicySet, context: &LintContext<'_>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for policy in set.policies() {
        let mut report = Report { policy: &policy.metadata.name, warnings: &mut warnings };
        one_policy(policy, context, &mut report);
    }
    overlap::equal_policies(set, &mut warnings);
    names::look_alikes(set, &mut warnings);
    // Stable: what is found in one policy keeps its order.
    warnings.sort_by(|a, b| a.policy.cmp(&b.policy));
    warnings
}

fn one_policy(policy: &ProtectionPolicy, context: &LintContext<'_>, report: &mut Report<'_>) {
    let spec = &policy.spec;
    staged(spec, context.now, report);
    broad::scope(&spec.scope, report);
    broad::lets_through(spec, report);
    overlap::rules(&spec.rules, report);
    overlap::whitelist(&spec.whitelist, report);
    overlap::exceptions(&spec.exceptions, report);
    exceptions::exceptions(&spec.exceptions, context.now, report);
    names::patterns(spec, report);
    sandbox::sandbox(policy, context, report);
    if let Some(starts) = context.starts {
        unused::unused(policy, starts, context.now, report);
    }
}

fn staged(spec: &Spec, now: Timestamp, report: &mut Report<'_>) {
    if let (Mode::Observe, Some(until)) = (spec.mode, spec.observe_until)
        && until <= now
    {
        report.add(
            Level::Note,
            "observe-over",
            "spec.mode",
            format!("it says observe, and enforces since {until}, when observeUntil was over"),
            "leave mode and observeUntil out, or name a later time",
        );
    }
}

/// Whether the policy enforces now or at a time to come.
fn enforces(spec: &Spec) -> bool {
    spec.mode == Mode::Enforce || spec.observe_until.is_some()
}

/// Takes what is found in one policy.
struct Report<'a> {
    policy: &'a str,
    warnings: &'a mut Vec<Warning>,
}

impl Report<'_> {
    fn add(
        &mut self,
        severity: Level,
        code: &'static str,
        path: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.warnings.push(Warning {
            policy: self.policy.to_owned(),
            path: path.into(),
            severity,
            code,
            message: message.into(),
            remedy: remedy.into(),
        });
    }
}
