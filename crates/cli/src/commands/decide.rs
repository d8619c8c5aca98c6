//! `portcullis decide`: the decision a door would make, from the same library.

use anyhow::Result;
use portcullis_types::{Decision, Identity, Reason, Request, Subject};
use serde::Serialize;

use super::situation::{Judge, Situation};
use crate::args::Decide;
use crate::context::Context;
use crate::exit::Exit;
use crate::render::plain;

/// The answer: the decision, and what it was made from.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
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
        writeln!(out, "{line}")?;
        for policy in &decision.policies {
            let observing = if policy.observing { ", observing" } else { "" };
            writeln!(out, "policy {}: {}{observing}", policy.policy, policy.action)?;
            policy.reasons.iter().try_for_each(|reason| write_reason(reason, out))?;
        }
        for setting in &decision.settings {
            let detail = plain(&setting.detail);
            writeln!(out, "settings {}: {} ({detail})", setting.setting, setting.action)?;
        }
        Ok(())
    })?;
    Ok(if args.exit_code { Exit::of_action(decision.action) } else { Exit::Done })
}

pub(super) fn write_reason(reason: &Reason, out: &mut dyn std::io::Write) -> std::io::Result<()> {
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
    writeln!(out, "  {:5}  {}  {}{}", reason.action, reason.rule, plain(&what), plain(&softened))
}
