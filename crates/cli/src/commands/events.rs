//! `portcullis events list|show|follow`.

use std::time::Duration;

use anyhow::{Result, bail};
use portcullis_types::{Event, EventKind};

use crate::args::{Events, Filter};
use crate::context::Context;
use crate::exit::Exit;
use crate::render::{Table, count, cut, plain};

/// How often a follower looks.
const LOOK: Duration = Duration::from_millis(200);

pub(super) fn run(context: &Context, command: &Events) -> Result<Exit> {
    match command {
        Events::List { filter, limit } => list(context, filter, *limit),
        Events::Show { id } => show(context, id),
        Events::Follow { filter } => follow(context, filter),
    }
}

fn fits(filter: &Filter, event: &Event) -> bool {
    (filter.all || event.kind == EventKind::Decision)
        && filter.action.is_none_or(|a| event.action == a)
        && filter.namespace.as_ref().is_none_or(|n| event.request.namespace == *n)
        && filter.container.as_ref().is_none_or(|c| event.request.container_id.starts_with(c))
        && filter.since.is_none_or(|s| event.time >= s)
}

fn list(context: &Context, filter: &Filter, limit: usize) -> Result<Exit> {
    let read = context.events().read()?;
    let mut events: Vec<Event> = read.events.into_iter().filter(|e| fits(filter, e)).collect();
    events.drain(..events.len().saturating_sub(limit));
    context.print.print(&events, |out| {
        let mut table = Table::new(&["TIME", "ACTION", "EVENT", "WHERE", "WHAT"]);
        for event in &events {
            table.row([
                event.time.strftime("%F %T").to_string(),
                event.action.to_string(),
                event.id.clone(),
                cut(&place(event), 28),
                what(event),
            ]);
        }
        table.write(out)
    })?;
    warn_damaged(read.damaged);
    Ok(Exit::Done)
}

/// Pod in Kubernetes, container elsewhere.
fn place(event: &Event) -> String {
    let request = &event.request;
    match request.pod.is_empty() {
        false => format!("{}/{}", request.namespace, request.pod),
        true => request.container_id.clone(),
    }
}

/// The event's line without what the other columns say.
fn what(event: &Event) -> String {
    let line = event.message.strip_prefix("portcullis: ").unwrap_or(&event.message);
    let line = line.rsplit_once("; see: ").map_or(line, |(line, _)| line);
    cut(&plain(line), 200)
}

#[expect(clippy::print_stderr, reason = "talk beside the data")]
fn warn_damaged(damaged: usize) {
    if damaged > 0 {
        eprintln!("portcullis: {} in the event file could not be read", count(damaged, "line"));
    }
}

/// The event whose id begins like this.
fn by_id<'a>(events: &'a [Event], id: &str) -> Result<&'a Event> {
    let wanted = id.to_ascii_uppercase();
    let found: Vec<&Event> = events.iter().filter(|e| e.id.starts_with(&wanted)).collect();
    match found.as_slice() {
        [event] => Ok(event),
        [] => bail!("no event begins with \"{}\": see portcullis events list", plain(id)),
        many => bail!("{} events begin with \"{}\": give more of it", many.len(), plain(id)),
    }
}

/// The decision that an id names: its own, or that of the outcome that it belongs to.
pub(super) fn decision_by_id(context: &Context, id: &str) -> Result<Event> {
    let read = context.events().read()?;
    let event = by_id(&read.events, id)?;
    match &event.decision {
        Some(decision) => by_id(&read.events, decision).cloned(),
        None => Ok(event.clone()),
    }
}

fn show(context: &Context, id: &str) -> Result<Exit> {
    let read = context.events().read()?;
    let event = by_id(&read.events, id)?;
    let outcome = read.events.iter().find(|e| e.decision.as_deref() == Some(event.id.as_str()));
    let value = serde_json::json!({ "event": event, "outcome": outcome });
    context.print.print(&value, |out| {
        let line = |out: &mut dyn std::io::Write, name: &str, text: &str| match text.is_empty() {
            true => Ok(()),
            false => writeln!(out, "{name:12}{}", plain(text)),
        };
        line(out, "event", &event.id)?;
        line(out, "time", &event.time.to_string())?;
        line(out, "action", event.action.as_str())?;
        line(out, "message", &event.message)?;
        line(out, "engine", event.request.engine.as_str())?;
        line(out, "node", &event.request.node)?;
        line(out, "container", &event.request.container_id)?;
        line(out, "pod", &if event.request.pod.is_empty() { String::new() } else { place(event) })?;
        line(out, "image", &event.image.to_string())?;
        line(out, "identity", event.image.surety.as_str())?;
        line(out, "note", event.image.note.as_deref().unwrap_or_default())?;
        let digest = |d: &Option<portcullis_types::Digest>| d.as_ref().map(ToString::to_string);
        line(out, "config", &digest(&event.image.config).unwrap_or_default())?;
        line(out, "chain ID", &digest(&event.image.chain_id).unwrap_or_default())?;
        for name in &event.image.names {
            let held = if name.held { "held by the engine" } else { "not held: moved or claimed" };
            line(out, "name", &format!("{} ({held})", name.reference))?;
        }
        line(out, "policies", &event.policies.join(", "))?;
        line(out, "policy set", event.policy_set.as_deref().unwrap_or_default())?;
        let causes: Vec<&str> = event.causes.iter().map(|c| c.as_str()).collect();
        line(out, "causes", &causes.join(", "))?;
        let counted: Vec<String> = event.counted.iter().map(|(k, n)| format!("{n} {k}")).collect();
        line(out, "counted", &counted.join(", "))?;
        line(out, "findings", &event.findings.to_string())?;
        line(out, "outcome", outcome.map_or("", |o| o.message.as_str()))?;
        line(out, "gate took", &format!("{} us", event.gate_micros))
    })?;
    Ok(Exit::Done)
}

fn follow(context: &Context, filter: &Filter) -> Result<Exit> {
    let file = context.events();
    let mut followed = file.follow()?;
    loop {
        for event in file.since(&mut followed)?.events.iter().filter(|e| fits(filter, e)) {
            context.print.line(event, |out| {
                let time = event.time.strftime("%F %T");
                writeln!(out, "{time}  {:5}  {}  {}", event.action, event.id, what(event))
            })?;
        }
        std::thread::sleep(LOOK);
    }
}
