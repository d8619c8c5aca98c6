//! `portcullis events show`.

use std::collections::HashSet;
use std::io::{self, Write};

use anyhow::Result;
use portcullis_audit::{Repeated, fold};
use portcullis_types::{Digest, Event, EventId, EventKind, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use super::list::{status, word};
use super::{by_id, place, warn_damaged};
use crate::context::Context;
use crate::exit::Exit;
use crate::render::{action, wrapped};

/// An event with what belongs to it.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Shown<'a> {
    event: &'a Event,
    /// What became of it, if it is a decision.
    outcome: Option<&'a Event>,
    /// The equal decisions that it is one of, if it is a decision.
    repeated: Option<Equal<'a>>,
    /// What was said of it and its equals, the oldest first.
    marks: Vec<&'a Event>,
}

/// Equal decisions.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Equal<'a> {
    /// When the first was made.
    #[schemars(with = "portcullis_types::TimeSchema")]
    first: Timestamp,
    /// The id of the first.
    first_id: &'a EventId,
    /// When the latest was made.
    #[schemars(with = "portcullis_types::TimeSchema")]
    latest: Timestamp,
    /// The id of the latest.
    latest_id: &'a EventId,
    /// How many there are.
    count: usize,
    /// `open`, `handled`, `ignored` or `whitelisted`; absent of what needs nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
}

pub(super) fn run(context: &Context, id: &str) -> Result<Exit> {
    let read = context.events().read()?;
    let event = by_id(&read.events, id)?;
    let folded = fold(read.events.iter().cloned());
    let repeated = match event.kind {
        EventKind::Decision => folded.iter().find(|row| row.ids.contains(&event.id)),
        EventKind::Outcome | EventKind::Notice | EventKind::Mark | EventKind::Violation => None,
    };
    let is_about =
        |other: &Event, kind, id: &str| other.kind == kind && other.decision.as_deref() == Some(id);
    let equals: HashSet<&str> =
        repeated.iter().flat_map(|row| &row.ids).map(String::as_str).collect();
    let shown = Shown {
        event,
        outcome: read.events.iter().find(|e| is_about(e, EventKind::Outcome, &event.id)),
        repeated: repeated.map(Equal::of),
        marks: read
            .events
            .iter()
            .filter(|e| e.kind == EventKind::Mark)
            .filter(|e| e.decision.as_deref().is_some_and(|id| equals.contains(id)))
            .collect(),
    };
    context.print.print(&shown, |out| shown.write(&mut Lines { out }))?;
    warn_damaged(read.damaged);
    Ok(Exit::Done)
}

impl<'a> Equal<'a> {
    fn of(row: &'a Repeated) -> Self {
        Self {
            first: row.first,
            first_id: &row.first_id,
            latest: row.event.time,
            latest_id: &row.event.id,
            count: row.count,
            status: status(row).map(word),
        }
    }
}

/// Lines of a name and a text; an empty text needs no line.
struct Lines<'o> {
    out: &'o mut dyn Write,
}

impl Lines<'_> {
    fn line(&mut self, name: &str, text: impl AsRef<str>) -> io::Result<()> {
        match text.as_ref() {
            "" => Ok(()),
            text => writeln!(self.out, "{}", wrapped(&format!("{name:12}{text}"), 12)),
        }
    }
}

impl Shown<'_> {
    fn write(&self, lines: &mut Lines<'_>) -> io::Result<()> {
        let event = self.event;
        lines.line("event", &event.id)?;
        lines.line("kind", event.kind.as_str())?;
        lines.line("time", event.time.to_string())?;
        writeln!(lines.out, "{:12}{}", "action", action(event.action.as_str(), 0))?;
        lines.line("message", &event.message)?;
        lines.line("decision", event.decision.as_deref().unwrap_or_default())?;
        if let Some(mark) = &event.mark {
            lines.line("marked", format!("{} by {}", mark.status, mark.by))?;
            lines.line("note", mark.note.as_deref().unwrap_or_default())?;
        }
        self.write_start(lines)?;
        self.write_image(lines)?;
        if matches!(event.kind, EventKind::Decision | EventKind::Violation) {
            self.write_decision(lines)?;
            lines.line("outcome", self.outcome.map_or("", |outcome| &outcome.message))?;
        }
        if let Some(equal) = &self.repeated {
            lines.line("status", equal.status.unwrap_or_default())?;
            if equal.count > 1 {
                let Equal { count, first, first_id, latest, latest_id, .. } = equal;
                lines.line("repeated", format!("{count} times alike"))?;
                lines.line("first", format!("{first} ({first_id})"))?;
                lines.line("latest", format!("{latest} ({latest_id})"))?;
            }
        }
        for marked in &self.marks {
            let Some(mark) = &marked.mark else { continue };
            let note = mark.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
            let time = marked.time.strftime("%F %T");
            lines.line("mark", format!("{time} {} by {}{note}", mark.status, mark.by))?;
        }
        let next = match event.kind {
            EventKind::Decision | EventKind::Violation => Some(&event.id),
            EventKind::Outcome | EventKind::Mark => event.decision.as_ref(),
            EventKind::Notice => None,
        };
        match next {
            Some(id) => lines.line("next", format!("portcullis explain {id}")),
            None => Ok(()),
        }
    }

    fn write_start(&self, lines: &mut Lines<'_>) -> io::Result<()> {
        let request = &self.event.request;
        lines.line("engine", request.engine.as_str())?;
        lines.line("node", &request.node)?;
        lines.line("container", &request.container_id)?;
        if !request.pod.is_empty() {
            lines.line("pod", format!("{} ({})", place(self.event), request.container))?;
        } else {
            lines.line("namespace", &request.namespace)?;
        }
        Ok(())
    }

    fn write_image(&self, lines: &mut Lines<'_>) -> io::Result<()> {
        let image = &self.event.image;
        let digest = |d: &Option<Digest>| d.as_ref().map(ToString::to_string).unwrap_or_default();
        lines.line("image", image.to_string())?;
        lines.line("identity", image.surety.as_str())?;
        lines.line("note", image.note.as_deref().unwrap_or_default())?;
        lines.line("config", digest(&image.config))?;
        lines.line("chain ID", digest(&image.chain_id))?;
        for manifest in &image.manifests {
            lines.line("manifest", manifest.to_string())?;
        }
        for name in &image.names {
            let held = if name.held { "held by the engine" } else { "not held: moved or claimed" };
            lines.line("name", format!("{} ({held})", name.reference))?;
        }
        let Some(config) = &self.event.image_config else { return Ok(()) };
        lines.line("created", config.created.map(|t| t.to_string()).unwrap_or_default())?;
        lines.line("user", &config.user)?;
        config
            .labels
            .iter()
            .try_for_each(|(key, value)| lines.line("label", format!("{key}={value}")))
    }

    fn write_decision(&self, lines: &mut Lines<'_>) -> io::Result<()> {
        let event = self.event;
        lines.line("policies", event.policies.join(", "))?;
        lines.line("policy set", event.policy_set.as_deref().unwrap_or_default())?;
        if event.would_block {
            lines.line("observed", "an observing policy would have blocked it")?;
        }
        if event.whitelisted {
            lines.line("whitelist", "a whitelist changed the answer")?;
        }
        let causes: Vec<&str> = event.causes.iter().map(|c| c.as_str()).collect();
        lines.line("causes", causes.join(", "))?;
        for failure in &event.failures {
            lines.line("failure", format!("{}: {}", failure.cause, failure.detail))?;
        }
        let counted: Vec<String> = event.counted.iter().map(|(k, n)| format!("{n} {k}")).collect();
        lines.line("counted", counted.join(", "))?;
        lines.line("findings", event.findings.to_string())?;
        match &event.workload {
            None => lines.line("settings", "the start's specification was not read")?,
            Some(found) => found.iter().try_for_each(|finding| {
                let title = finding.title.as_ref().map(|title| format!(": {title}"));
                let title = title.unwrap_or_default();
                lines.line("settings", format!("{} {finding}{title}", finding.severity))
            })?,
        }
        match event.kind {
            // Nobody waited for it.
            EventKind::Violation => Ok(()),
            _ => lines.line("gate took", format!("{} us", event.gate_micros)),
        }
    }
}
