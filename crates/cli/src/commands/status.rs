//! `portcullis status`: is this node protected, and by what.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use portcullis_gate::agent::{self, AgentStatus};
use portcullis_gate::published;
use portcullis_store::{Depth, VerdictStore};
use portcullis_types::{Action, EventKind};
use schemars::JsonSchema;
use serde::Serialize;

use super::feed::{self, Lying};
use super::policy;
use crate::context::Context;
use crate::exit::Exit;
use crate::render::{count as count_of, wrapped};

/// The states that HSS shows for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// A policy is in force and the door is installed.
    Protected,
    /// The door is installed, no policy is in force.
    EnabledNotConfigured,
    /// No door is installed on this node.
    Unprotected,
    /// Installed, but something is broken.
    Error,
}

impl State {
    fn words(self) -> &'static str {
        match self {
            Self::Protected => "protected",
            Self::EnabledNotConfigured => "enabled, not configured",
            Self::Unprotected => "unprotected: no door is installed (run install.sh)",
            Self::Error => "error",
        }
    }
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Status {
    state: State,
    node: String,
    policy_set: Option<String>,
    policies: Vec<String>,
    vex_statements: usize,
    feeds: Vec<Lying>,
    verdicts: Option<usize>,
    damaged_verdicts: usize,
    decisions: BTreeMap<Action, usize>,
    journal: bool,
    /// How portcullisd fares; none if it does not answer.
    agent: Option<AgentStatus>,
    problems: Vec<String>,
}

pub(super) fn run(context: &Context) -> Result<Exit> {
    let mut problems = Vec::new();
    let mut policy_set = None;
    let mut policies = Vec::new();
    let mut vex_statements = 0;
    let mut missing = false;
    match published::load(&context.paths.published()) {
        Ok(set) => {
            policy_set = Some(set.digest().to_string());
            policies = set.policies().map(|p| p.metadata.name.clone()).collect();
            vex_statements = set.vex().statements().len();
            problems.extend(policy::drift(context, &set));
        }
        Err(published::LoadError::Missing(_)) => missing = true,
        Err(error) => problems.push(format!("{:#}", anyhow::Error::from(error))),
    }
    let broken = policy_set.is_none() && !missing;
    let (verdicts, damaged_verdicts) = match context.store().list(Depth::Heads) {
        Ok(listed) => {
            let damaged = listed.iter().filter(|l| l.entry.is_err()).count();
            (Some(listed.len()), damaged)
        }
        Err(error) => {
            problems.push(format!("{:#}", anyhow::Error::from(error)));
            (None, 0)
        }
    };
    let feeds = feed::lying(context);
    problems.extend(feeds.iter().filter_map(Lying::error).map(ToOwned::to_owned));
    let mut decisions = BTreeMap::new();
    match context.events().read() {
        Ok(read) => {
            for event in read.events.iter().filter(|e| e.kind == EventKind::Decision) {
                *decisions.entry(event.action).or_insert(0) += 1;
            }
        }
        Err(error) => problems.push(format!("{:#}", anyhow::Error::from(error))),
    }
    let journal = Path::new("/run/systemd/journal/socket").exists();
    if !journal {
        problems.push("the journal's socket is not there: events go to the file alone".to_owned());
    }
    // That there is none is no problem: doors go on without it.
    let agent = agent::status(&context.paths.agent()).ok();
    let state = match (installed(context), broken) {
        (false, _) => State::Unprotected,
        (true, true) => State::Error,
        (true, false) if policies.is_empty() => State::EnabledNotConfigured,
        (true, false) => State::Protected,
    };
    let status = Status {
        state,
        node: context.settings.node.clone(),
        policy_set,
        policies,
        vex_statements,
        feeds,
        verdicts,
        damaged_verdicts,
        decisions,
        journal,
        agent,
        problems,
    };
    context.print.print(&status, |out| write_status(&status, out))?;
    Ok(Exit::Done)
}

fn write_agent(agent: &AgentStatus, out: &mut dyn std::io::Write) -> std::io::Result<()> {
    let AgentStatus { version, scanning, waiting, scanned, failed, .. } = agent;
    writeln!(
        out,
        "agent      {version}: {scanning} being scanned, {waiting} waiting, {scanned} scanned, {failed} failed",
    )?;
    let AgentStatus { images, unscanned, violations, .. } = agent;
    writeln!(out, "images     {images} of the engines, {unscanned} of them not scanned")?;
    match violations {
        0 => Ok(()),
        some => {
            let containers = count_of(*some, "running container");
            writeln!(out, "violations {containers} would be decided more strictly now")
        }
    }
}

/// Where `install.sh` puts the shim.
fn installed(context: &Context) -> bool {
    context.paths.root().join("usr/local/bin/containerd-shim-portcullis-v2").exists()
}

fn write_status(status: &Status, out: &mut dyn std::io::Write) -> std::io::Result<()> {
    writeln!(out, "node       {}", status.node)?;
    writeln!(out, "state      {}", status.state.words())?;
    let policies = match status.policies.as_slice() {
        [] => "none in force".to_owned(),
        some => some.join(", "),
    };
    writeln!(out, "{}", wrapped(&format!("policies   {policies}"), 11))?;
    if let Some(set) = &status.policy_set {
        writeln!(out, "set        {set}")?;
    }
    if status.vex_statements > 0 {
        writeln!(out, "VEX        {} in force", count_of(status.vex_statements, "statement"))?;
    }
    match status.verdicts {
        Some(known) => {
            writeln!(out, "verdicts   {known} images, {} damaged", status.damaged_verdicts)?
        }
        None => writeln!(out, "verdicts   cannot be read")?,
    }
    match &status.agent {
        Some(agent) => write_agent(agent, out)?,
        None => writeln!(out, "agent      does not answer: images are scanned by hand only")?,
    }
    for words in status.feeds.iter().filter_map(Lying::words) {
        writeln!(out, "feed       {words}")?;
    }
    let count = |action| status.decisions.get(&action).copied().unwrap_or(0);
    writeln!(
        out,
        "decisions  {} blocked, {} alarmed, {} allowed (in the ledger)",
        count(Action::Block),
        count(Action::Alarm),
        count(Action::Allow),
    )?;
    status
        .problems
        .iter()
        .try_for_each(|p| writeln!(out, "{}", wrapped(&format!("problem    {p}"), 11)))
}
