//! `portcullis decide`: the decision a door would make, from the same library.

use std::io::{self, Write};

use anyhow::Result;
use portcullis_types::{Decision, Identity, Reason, Request, SettingsAnswer, Subject};
use schemars::JsonSchema;
use serde::Serialize;

use super::situation::{Judge, Situation};
use crate::args::Decide;
use crate::context::Context;
use crate::exit::Exit;
use crate::render::{action, wrapped};

/// The answer: the decision, and what it was made from.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Answer<'a> {
    #[serde(flatten)]
    decision: &'a Decision,
    message: String,
    request: &'a Request,
    image: &'a Identity,
}

pub(super) fn run(context: &Context, args: &Decide) -> Result<Exit> {
    let judge = Judge::new(context, args.start.policies.as_deref())?;
    let start = judge.of_args(context, &args.start)?;
    let Situation { request, identity, .. } = &start;
    let decision = judge.decide(&start);
    let message = portcullis_policy::refusal(&decision, identity, "(no event: decide)");
    let answer = Answer { decision: &decision, message, request, image: identity };
    context.print.print(&answer, |out| {
        let line =
            answer.message.rsplit_once("; see: ").map_or(answer.message.as_str(), |(l, _)| l);
        writeln!(out, "{}", wrapped(line, 2))?;
        for policy in &decision.policies {
            let observing = if policy.observing { ", observing" } else { "" };
            let answer = action(policy.action.as_str(), 0);
            writeln!(out, "policy {}: {answer}{observing}", policy.policy)?;
            policy.reasons.iter().try_for_each(|reason| write_reason(reason, out))?;
        }
        for setting in &decision.settings {
            write_setting(setting, out)?;
        }
        Ok(())
    })?;
    Ok(if args.exit_code { Exit::of_action(decision.action) } else { Exit::Done })
}

pub(super) fn write_reason(reason: &Reason, out: &mut dyn Write) -> io::Result<()> {
    let what = match &reason.subject {
        Subject::Finding(finding) => format!("{} {} {finding}", finding.class, finding.severity),
        Subject::Failure(failure) => format!("{}: {}", failure.cause, failure.detail),
        Subject::Condition(text) => format!("condition: {text}"),
    };
    let mut softened = String::new();
    if let Some(grace) = &reason.grace {
        let until = grace.until.strftime("%F %R");
        softened += &format!(", an alarm until {until} (grace from {})", grace.clock);
    }
    if let Some(waiver) = &reason.waived {
        let by_name = if waiver.by_name { " (by name)" } else { "" };
        softened += &format!(", waived by {} {}{by_name}", waiver.by, waiver.entry);
    }
    if let Some(expired) = &reason.expired {
        softened +=
            &format!(", {} of {} ended on {}", expired.entry, expired.owner, expired.expires);
    }
    let word = reason.action.as_str();
    let line = wrapped(&format!("  {word:5}  {}  {what}{softened}", reason.rule), 9);
    write_colored(&line, "  ", word, out)
}

/// What the settings answer.
pub(super) fn write_setting(setting: &SettingsAnswer, out: &mut dyn Write) -> io::Result<()> {
    let SettingsAnswer { setting, action, detail } = setting;
    let before = format!("settings {setting}: ");
    let line = wrapped(&format!("{before}{action} ({detail})"), 2);
    write_colored(&line, &before, action.as_str(), out)
}

/// Writes a line in which this word, an action, stands behind `before`.
pub(super) fn write_colored(
    line: &str,
    before: &str,
    word: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    match line.strip_prefix(before).and_then(|rest| rest.strip_prefix(word)) {
        Some(rest) => writeln!(out, "{before}{}{rest}", action(word, 0)),
        None => writeln!(out, "{line}"),
    }
}
