//! What would let a blocked image start: the fewest package updates, or the fewest changes of
//! policies.
//!
//! Nothing here decides: every plan is put before [`decide`](crate::decide) as if it were carried
//! out, and one that still blocks is not returned. A tool shows plans to people; a door never links
//! this (feature `remedy`).
//!
//! Only what blocks is looked at: an alarm and an observing policy need no remedy, nor does waiting
//! count as one.

mod change;
mod cover;
mod mending;
mod relaxing;
mod version;
mod world;

use std::collections::BTreeSet;

use portcullis_types::{Action, Decision, Evidence, Identity, Request, Timestamp};
use serde::Serialize;

use crate::InForce;

pub use change::{Change, Mend, Relax, Repair};
pub use world::World;

use cover::Budget;
use relaxing::{Means, Relaxed, relaxed};

/// What would let the image start.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "answer", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Remedies {
    /// It is not blocked.
    AlreadyStarts,
    /// Any one of these plans.
    Needed {
        /// Mends all that can be mended, and makes exceptions for the rest alone: a vulnerability
        /// that no update mends. `None` if something can be neither mended nor excepted.
        by_updates: Option<Plan>,
        /// Changes policies and settings only. `None` if nothing may be proposed: malware whose
        /// hash is not known is removed, not excused.
        by_policy: Option<Plan>,
    },
}

/// Things to do, all of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// What to do, in order.
    pub changes: Vec<Change>,
    /// No plan of this kind has fewer changes. If not, the search for one was too long.
    pub minimal: bool,
    /// Some change lets something known to be malicious start.
    pub dangerous: bool,
}

/// What would let this start happen, if it is blocked.
pub fn remedies(
    in_force: &InForce<'_>,
    request: &Request,
    identity: &Identity,
    evidence: &Evidence,
    now: Timestamp,
) -> Remedies {
    let world = World::new(in_force, request, identity, evidence, now);
    let decision = crate::decide(in_force, request, identity, evidence, now);
    if decision.action != Action::Block {
        return Remedies::AlreadyStarts;
    }
    Remedies::Needed {
        by_updates: by_updates(&world, &decision),
        by_policy: by_policy(&world, &decision),
    }
}

fn by_policy(world: &World<'_>, decision: &Decision) -> Option<Plan> {
    let relaxed = relaxed(world, decision, Means::All, &mut Budget::new())?;
    Plan::checked(world, Vec::new(), relaxed)
}

/// The shortest plan; of equally short ones that which begins with what a cause asks for.
fn by_updates(start: &World<'_>, decision: &Decision) -> Option<Plan> {
    let proving = mending::proving(start).into_iter().map(Some);
    let plans: Vec<Plan> = std::iter::once(None)
        .chain(proving)
        .filter_map(|first| mended(start, decision, first))
        .collect();
    let minimal = plans.iter().all(|plan| plan.minimal);
    let shortest = plans.into_iter().min_by_key(|plan| plan.changes.len())?;
    Some(Plan { minimal, ..shortest })
}

/// Repairs come first, each round with what the one before brought to light; then findings are
/// mended, and what is left is excepted.
fn mended(start: &World<'_>, decision: &Decision, first: Option<Mend>) -> Option<Plan> {
    let mut world = start.clone();
    let mut decision = decision.clone();
    let mut changes: Vec<Change> = Vec::new();
    let mut made: BTreeSet<Repair> = BTreeSet::new();
    let mut round: Vec<Mend> = first.into_iter().collect();
    if round.is_empty() {
        round = mending::repairs(&world, &decision);
    }
    loop {
        round.retain(|mend| matches!(mend, Mend::Repair { repair, .. } if made.insert(*repair)));
        if round.is_empty() {
            break;
        }
        let repairs: Vec<Change> = round.into_iter().map(Change::from).collect();
        world.apply(&repairs);
        changes.extend(repairs);
        decision = world.decide().ok()?;
        round = mending::repairs(&world, &decision);
    }
    let mends: Vec<Change> = mending::mends(&decision).into_iter().map(Change::from).collect();
    world.apply(&mends);
    changes.extend(mends);
    let decision = world.decide().ok()?;
    let relaxed = relaxed(&world, &decision, Means::Exceptions, &mut Budget::new())?;
    Plan::checked(start, changes, relaxed)
}

impl Plan {
    /// The plan, if the start happens after it.
    fn checked(start: &World<'_>, mut changes: Vec<Change>, relaxed: Relaxed) -> Option<Self> {
        changes.extend(relaxed.changes.into_iter().map(Change::from));
        let mut world = start.clone();
        world.apply(&changes);
        let starts = world.decide().is_ok_and(|decision| decision.action != Action::Block);
        let dangerous = changes.iter().any(Change::is_dangerous);
        starts.then_some(Self { changes, minimal: relaxed.minimal, dangerous })
    }
}
