//! `portcullis events …`: what was decided, what became of it, and what is done about it.

mod follow;
pub(super) mod list;
pub(super) mod mark;
pub(super) mod show;
pub(super) mod verify;
pub(super) mod whitelist;

use anyhow::{Result, bail};
use portcullis_types::{Event, EventKind, Status};

use crate::args::{Events, Filter};
use crate::context::Context;
use crate::exit::Exit;
use crate::render::{count, plain};

pub(super) fn run(context: &Context, command: &Events) -> Result<Exit> {
    match command {
        Events::List { filter, status, each, limit } => {
            list::run(context, filter, &list::Shape { status: *status, each: *each, limit: *limit })
        }
        Events::Show { id } => show::run(context, id),
        Events::Follow { filter } => follow::run(context, filter),
        Events::Verify(args) => verify::run(context, args),
        Events::Handle(args) => mark::run(context, Status::Handled, args),
        Events::Ignore(args) => mark::run(context, Status::Ignored, args),
        Events::Whitelist(args) => whitelist::run(context, args),
    }
}

/// The decision that an id names: its own, or that of the outcome, mark or violation that it belongs to.
pub(super) fn decision_by_id(context: &Context, id: &str) -> Result<Event> {
    let read = context.events().read()?;
    let event = by_id(&read.events, id)?;
    match &event.decision {
        Some(decision) => by_id(&read.events, decision).cloned(),
        None => Ok(event.clone()),
    }
}

/// The start that an id tells of: that of a decision, or of a container which has come to violate a
/// policy since.
pub(super) fn start_by_id(context: &Context, id: &str) -> Result<Event> {
    let read = context.events().read()?;
    let event = by_id(&read.events, id)?;
    match &event.decision {
        Some(decision) if event.kind != EventKind::Violation => {
            by_id(&read.events, decision).cloned()
        }
        _ => Ok(event.clone()),
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

fn fits(filter: &Filter, event: &Event) -> bool {
    (filter.all || matches!(event.kind, EventKind::Decision | EventKind::Violation))
        && filter.action.is_none_or(|a| event.action == a)
        && filter.namespace.as_ref().is_none_or(|n| event.request.namespace == *n)
        && filter.since.is_none_or(|s| event.time >= s)
}

fn in_container(filter: &Filter, event: &Event) -> bool {
    filter.container.as_ref().is_none_or(|c| event.request.container_id.starts_with(c))
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
    plain(line)
}

/// The action of a decision; what is no decision is called by its kind.
fn action(event: &Event) -> &'static str {
    match event.kind {
        EventKind::Decision => event.action.as_str(),
        kind => kind.as_str(),
    }
}

#[expect(clippy::print_stderr, reason = "talk beside the data")]
fn warn_damaged(damaged: usize) {
    if damaged > 0 {
        let lines = count(damaged, "line");
        eprintln!(
            "portcullis: {lines} in the event files could not be read: run portcullis events verify"
        );
    }
}
