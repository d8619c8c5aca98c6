//! `portcullis events handle|ignore`: what somebody says of an event, recorded like an event.

use std::io::Read;

use anyhow::{Result, bail};
use portcullis_node::record_mark;
use portcullis_types::{Event, EventId, EventKind, Mark, Status};
use schemars::JsonSchema;
use serde::Serialize;

use super::by_id;
use crate::args::Marking;
use crate::context::Context;
use crate::exit::Exit;
use crate::render::plain;

/// Longest name of a user that is taken from outside, in bytes.
const MAX_NAME: usize = 64;

/// A mark that was recorded.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Marked {
    /// The decision.
    event: EventId,
    /// The event that records the mark.
    pub(super) recorded_as: EventId,
    #[serde(flatten)]
    mark: Mark,
}

pub(super) fn run(context: &Context, status: Status, args: &Marking) -> Result<Exit> {
    let read = context.events().read()?;
    let mut decisions: Vec<&Event> = Vec::new();
    for id in &args.ids {
        let event = by_id(&read.events, id)?;
        if event.kind != EventKind::Decision {
            let of = event.decision.as_ref();
            let instead = of.map(|id| format!(": give its decision, {id}")).unwrap_or_default();
            bail!("event {} is no decision but of the kind {}{instead}", event.id, event.kind);
        }
        if !decisions.iter().any(|known| known.id == event.id) {
            decisions.push(event);
        }
    }
    let mut marked = Vec::new();
    for decision in decisions {
        marked.push(append(context, decision, status, args.note.clone())?);
    }
    context.print.print(&marked, |out| {
        marked.iter().try_for_each(|Marked { event, mark, .. }| {
            writeln!(out, "event {event}: {} by {}", mark.status, plain(&mark.by))
        })
    })?;
    Ok(Exit::Done)
}

/// Records a mark in the ledger, from which the list is made, and in the journal.
///
/// # Errors
/// If the ledger does not take it.
#[expect(clippy::print_stderr, reason = "talk beside the data")]
pub(super) fn append(
    context: &Context,
    decision: &Event,
    status: Status,
    note: Option<String>,
) -> Result<Marked> {
    let mark = Mark { status, by: who(), note };
    let (event, problems) = record_mark(&context.settings, decision, mark.clone(), plain)?;
    for problem in &problems {
        eprintln!("portcullis: the mark of event {} is in the ledger only: {problem}", decision.id);
    }
    Ok(Marked { event: decision.id.clone(), recorded_as: event.id, mark })
}

/// Who runs this: the name of the user, or the number where there is no name.
fn who() -> String {
    let uid = rustix::process::getuid();
    // Anybody may set the variable; root would be believed anyway.
    let sudo = std::env::var("SUDO_USER").ok().filter(|name| uid.is_root() && is_name(name));
    sudo.or_else(|| user_name(&passwd(), uid.as_raw())).unwrap_or_else(|| uid.to_string())
}

fn passwd() -> String {
    const MAX_BYTES: u64 = 4 << 20;
    let mut text = Vec::new();
    if let Ok(file) = std::fs::File::open("/etc/passwd") {
        let _what_was_read_counts = file.take(MAX_BYTES).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The name of the first user with this number (passwd(5)).
fn user_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid) && is_name(name)).then(|| name.to_owned())
    })
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && plain(text) == text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_names_or_numbers() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n# a comment\nbroken\n:x:7:7::/:/bin/sh\n\
                      toor:x:0:0::/:/bin/sh\nann:x:1000:1000:Ann:/home/ann:/bin/sh\na\u{1b}b:x:8:8";
        for (uid, name) in [(0, Some("root")), (1000, Some("ann")), (1, None), (7, None), (8, None)]
        {
            assert_eq!(user_name(passwd, uid).as_deref(), name, "{uid}");
        }
    }
}
