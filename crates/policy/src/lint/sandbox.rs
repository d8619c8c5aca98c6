//! Policies that would keep the pods of the node from starting at all.

use std::sync::Arc;

use portcullis_types::{Action, Engine, Kind, Request};

use super::{Level, LintContext, Report, enforces};
use crate::document::{ProtectionPolicy, Scope};
use crate::{Defaults, InForce, PolicySet, decide};

/// Asks the policy itself about each sandbox image, as if it were in scope wherever its images
/// are, at the first time from now on at which it enforces.
pub(super) fn sandbox(
    policy: &ProtectionPolicy,
    context: &LintContext<'_>,
    report: &mut Report<'_>,
) {
    if context.sandbox_images.is_empty() || !enforces(&policy.spec) {
        return;
    }
    let mut wherever = policy.clone();
    let images = wherever.spec.scope.images.take();
    wherever.spec.scope = Scope { images, ..Scope::default() };
    let now = policy.spec.observe_until.map_or(context.now, |until| until.max(context.now));
    let Ok(set) = PolicySet::compile(vec![wherever]) else {
        return;
    };
    let defaults = Defaults::default();
    let in_force = InForce { set: Some(&set), defaults: &defaults };
    // Engine, node and pod are what the scope no longer asks about.
    let request =
        Request { kind: Kind::Sandbox, ..Request::new(Engine::Containerd, "node", "sandbox") };
    for image in context.sandbox_images {
        let decision = decide(&in_force, &request, &image.identity, &image.evidence, now);
        let mut places: Vec<Arc<str>> = decision
            .policies
            .iter()
            .filter(|answer| answer.enforced == Action::Block)
            .flat_map(|answer| &answer.reasons)
            .filter(|reason| reason.effective() == Action::Block)
            .map(|reason| Arc::clone(&reason.rule))
            .collect();
        places.sort();
        places.dedup();
        for place in places {
            report.add(
                Level::Error,
                "blocks-sandbox",
                format!("spec.{place}"),
                format!(
                    "it would block the pause image {}: no pod in its scope could start",
                    image.identity
                ),
                "make room for it here, or name its digest in the settings' sandboxImages",
            );
        }
    }
}
