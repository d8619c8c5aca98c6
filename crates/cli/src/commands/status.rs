//! `portcullis status`: is this node protected, and by what.

use std::collections::BTreeMap;

use anyhow::Result;
use portcullis_gate::agent::{self, AgentStatus};
use portcullis_node::{Lying, NodeState, Problem, ProblemKind, node_state};
use portcullis_types::{Action, EventKind, with_causes};
use schemars::JsonSchema;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::render::{count as count_of, wrapped};

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Status {
    state: NodeState,
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
    let mut node = node_state(&context.settings);
    let mut decisions = BTreeMap::new();
    match context.events().read() {
        Ok(read) => {
            for event in read.events.iter().filter(|e| e.kind == EventKind::Decision) {
                *decisions.entry(event.action).or_insert(0) += 1;
            }
        }
        Err(error) if !node.has(ProblemKind::Ledger) => {
            node.add(Problem::new(ProblemKind::Ledger, with_causes(&error)));
        }
        Err(_) => {}
    }
    // That there is none is no problem: doors go on without it.
    let agent = agent::status(&context.paths.agent()).ok();
    let status = Status {
        state: node.state,
        node: context.settings.node.clone(),
        policy_set: node.policy_set,
        policies: node.policies,
        vex_statements: node.vex_statements,
        feeds: node.feeds,
        verdicts: node.verdicts,
        damaged_verdicts: node.damaged_verdicts,
        decisions,
        journal: node.journal,
        agent,
        problems: node.problems.iter().map(Problem::to_string).collect(),
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
