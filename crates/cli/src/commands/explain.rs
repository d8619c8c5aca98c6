//! `portcullis explain EVENT|--image …`: each finding, why it counts or not, and what would let the
//! image start.

use std::io::{self, Write};

use anyhow::Result;
use jiff::SignedDuration;
use jiff::civil::Date;
use jiff::tz::Offset;
use portcullis_policy::explain::{Explained, Explanation, Says, explain};
use portcullis_policy::remedy::{Change, Plan, Relax, Remedies, remedies};
use portcullis_types::{Event, Reason, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use super::decide::{write_reason, write_setting};
use super::events;
use super::situation::{Judge, Situation};
use crate::args::Explain;
use crate::context::Context;
use crate::exit::Exit;
use crate::render::{action, count, plain, wrapped};

/// How long an exception that is proposed lasts.
const PROPOSED_DAYS: i64 = 30;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Answer<'a> {
    /// The event that is explained.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a Event>,
    /// What has changed since it was decided.
    changed: Vec<String>,
    message: String,
    #[serde(flatten)]
    explanation: &'a Explanation,
    /// What would let the image start.
    remedies: Remedies,
}

pub(super) fn run(context: &Context, args: &Explain) -> Result<Exit> {
    let judge = Judge::new(context, args.start.policies.as_deref())?;
    let event = args.event.as_ref().map(|id| events::start_by_id(context, id)).transpose()?;
    let start = match &event {
        Some(event) => judge.of_event(event, args.start.now.unwrap_or_else(Timestamp::now)),
        None => judge.of_args(context, &args.start)?,
    };
    let Situation { request, identity, evidence, now } = &start;
    let explanation = explain(&judge.in_force(), request, identity, evidence, *now);
    let id = event.as_ref().map_or("-", |event| &event.id);
    let answer = Answer {
        changed: event.as_ref().map(|e| changed(e, &explanation)).unwrap_or_default(),
        message: portcullis_policy::refusal(&explanation.decision, identity, id),
        event: event.as_ref(),
        explanation: &explanation,
        remedies: remedies(&judge.in_force(), request, identity, evidence, *now),
    };
    let expires = Timestamp::now() + SignedDuration::from_hours(24 * PROPOSED_DAYS);
    let expires = Offset::UTC.to_datetime(expires).date();
    context.print.print(&answer, |out| {
        write(&answer, args.all, out)?;
        write_remedies(&answer.remedies, expires, out)
    })?;
    Ok(Exit::Done)
}

/// How the answer of today differs from the one that was recorded.
fn changed(event: &Event, explanation: &Explanation) -> Vec<String> {
    let decision = &explanation.decision;
    let mut changed = Vec::new();
    if decision.action != event.action {
        changed.push(format!(
            "it was decided \"{}\" then, and would be \"{}\" now",
            event.action, decision.action
        ));
    }
    let set = decision.policy_set.as_ref().map(ToString::to_string);
    if set != event.policy_set {
        changed.push("other policies are in force since".to_owned());
    }
    if decision.findings != event.findings {
        changed.push(format!(
            "{} known of the image and the start then, {} now",
            count(event.findings, "finding"),
            decision.findings
        ));
    }
    changed
}

fn write(answer: &Answer<'_>, all: bool, out: &mut dyn Write) -> io::Result<()> {
    let line = answer.message.rsplit_once("; see: ").map_or(&*answer.message, |(line, _)| line);
    writeln!(out, "{}", wrapped(line, 2))?;
    if let Some(event) = answer.event {
        writeln!(out, "event {}, decided {}", event.id, event.time.strftime("%F %T UTC"))?;
    }
    for change in &answer.changed {
        writeln!(out, "{}", wrapped(&format!("note: {change}"), 2))?;
    }
    let explanation = answer.explanation;
    for policy in &explanation.decision.policies {
        let observing = match policy.observing {
            true if policy.enforced > policy.action => ", observing: it would block",
            true => ", observing",
            false => "",
        };
        let answer = action(policy.action.as_str(), 0);
        writeln!(out, "\npolicy {}: {answer}{observing}", policy.policy)?;
        let (softened, counting): (Vec<_>, Vec<_>) =
            policy.reasons.iter().partition(|reason| reason.effective() < reason.action);
        write_reasons("counts", &counting, out)?;
        write_reasons("counts less, or not", &softened, out)?;
        write_unmatched(&policy.policy, &explanation.findings, all, out)?;
    }
    for setting in &explanation.decision.settings {
        writeln!(out)?;
        write_setting(setting, out)?;
    }
    Ok(())
}

fn write_remedies(remedies: &Remedies, expires: Date, out: &mut dyn Write) -> io::Result<()> {
    let Remedies::Needed { by_updates, by_policy } = remedies else {
        return Ok(());
    };
    if let Some(plan) = by_updates {
        writeln!(out, "\nto let it start, mend it:")?;
        write_plan(plan, expires, out)?;
    }
    if let Some(plan) = by_policy {
        let or = if by_updates.is_some() { "or change" } else { "to let it start, change" };
        writeln!(out, "\n{or} the policy:")?;
        write_plan(plan, expires, out)?;
    }
    if by_updates.is_none() && by_policy.is_none() {
        writeln!(out, "\nno change can be proposed that would let it start")?;
    }
    Ok(())
}

fn write_plan(plan: &Plan, expires: Date, out: &mut dyn Write) -> io::Result<()> {
    for change in &plan.changes {
        writeln!(out, "{}", wrapped(&format!("  {change}"), 4))?;
        let list = match change {
            Change::Relax(Relax::Exception { .. }) => "spec.exceptions",
            Change::Relax(Relax::Whitelist { .. }) => "spec.whitelist",
            Change::Relax(Relax::Authorize { .. }) => "spec.authorized.images",
            _ => "",
        };
        let Some(entry) = change.yaml(expires) else { continue };
        writeln!(out, "    under {list}:")?;
        for line in entry.lines() {
            writeln!(out, "      {}", plain(line))?;
        }
    }
    if !plan.minimal {
        writeln!(out, "  (there may be a smaller set: there was too much to try)")?;
    }
    Ok(())
}

fn write_reasons(title: &str, reasons: &[&Reason], out: &mut dyn Write) -> io::Result<()> {
    if reasons.is_empty() {
        return Ok(());
    }
    writeln!(out, " {title}:")?;
    reasons.iter().try_for_each(|reason| write_reason(reason, out))
}

/// Findings that no rule matches: how many, and with `all` which, and why not.
fn write_unmatched(
    policy: &str,
    findings: &[Explained],
    all: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let unmatched: Vec<_> = findings
        .iter()
        .filter_map(|explained| {
            let says = &explained.policies.iter().find(|p| p.policy == policy)?.says;
            match says {
                Says::NoRule { misses } => Some((&explained.finding, misses)),
                Says::Speaks(_) => None,
            }
        })
        .collect();
    if unmatched.is_empty() {
        return Ok(());
    }
    let hint = if all { "" } else { " (--all shows them)" };
    writeln!(out, " no rule matches {}{hint}", count(unmatched.len(), "finding"))?;
    if !all {
        return Ok(());
    }
    for (finding, misses) in unmatched {
        let why = match misses.as_slice() {
            [] => format!("no rule is about class {}", finding.class),
            some => {
                let misses: Vec<String> = some
                    .iter()
                    .map(|miss| format!("{} asks for another {}", miss.rule, miss.field))
                    .collect();
                misses.join(", ")
            }
        };
        let what = format!("{} {} {finding}: {why}", finding.class, finding.severity);
        writeln!(out, "{}", wrapped(&format!("  {what}"), 4))?;
    }
    Ok(())
}
