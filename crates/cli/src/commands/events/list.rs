//! `portcullis events list`.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

use anyhow::Result;
use portcullis_audit::{Repeated, fold};
use portcullis_types::{Action, Event, EventKind, Mark, Status, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use super::{action, fits, in_container, place, warn_damaged, what};
use crate::args::{Filter, Handling};
use crate::context::Context;
use crate::exit::Exit;
use crate::render::{self, cut, plain};

/// Widest line of the table, in characters.
const WIDTH: usize = 100;
/// Before what was decided, on the lines below its row.
const BELOW: &str = "  ";
/// Most lines that what was decided takes.
const MOST_LINES: usize = 2;

/// Which rows, beside what the filter says.
pub(super) struct Shape {
    pub(super) status: Option<Handling>,
    pub(super) each: bool,
    pub(super) limit: usize,
}

/// A row: the latest of equal decisions with all its fields, or one event.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Row<'a> {
    #[serde(flatten)]
    event: &'a Event,
    /// When the first of them was made.
    #[schemars(with = "portcullis_types::TimeSchema")]
    first: Timestamp,
    /// When the latest was made.
    #[schemars(with = "portcullis_types::TimeSchema")]
    latest: Timestamp,
    /// How many there are.
    count: usize,
    /// `open`, `handled`, `ignored` or `whitelisted`; absent of what needs nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    /// What was said of them last.
    #[serde(skip_serializing_if = "Option::is_none")]
    marked: Option<&'a Mark>,
}

pub(super) fn run(context: &Context, filter: &Filter, shape: &Shape) -> Result<Exit> {
    let read = context.events().read()?;
    let folded = fold(read.events.iter().cloned());
    let mut rows = rows(&read.events, &folded, filter, shape);
    rows.drain(..rows.len().saturating_sub(shape.limit));
    context.print.print(&rows, |out| write(&rows, out))?;
    warn_damaged(read.damaged);
    Ok(Exit::Done)
}

/// The rows in the order of the ledger; a folded one stands where its latest decision does.
fn rows<'a>(
    events: &'a [Event],
    folded: &'a [Repeated],
    filter: &Filter,
    shape: &Shape,
) -> Vec<Row<'a>> {
    let of_id: HashMap<&str, &Repeated> =
        folded.iter().flat_map(|row| row.ids.iter().map(move |id| (id.as_str(), row))).collect();
    // The tries of one pod have containers of their own, so any of them may be the one looked for.
    let in_it: HashSet<&str> =
        events.iter().filter(|e| in_container(filter, e)).map(|e| e.id.as_str()).collect();
    let mut rows = Vec::new();
    for event in events.iter().filter(|event| fits(filter, event)) {
        let repeated = match event.kind {
            EventKind::Decision => of_id.get(event.id.as_str()).copied(),
            EventKind::Outcome | EventKind::Notice | EventKind::Mark | EventKind::Violation => None,
        };
        let row = match repeated {
            Some(all) if !shape.each => {
                let wanted = || all.ids.iter().any(|id| in_it.contains(id.as_str()));
                if all.event.id != event.id || !wanted() {
                    continue;
                }
                Row::new(event, all.first, all.count, Some(all))
            }
            repeated => {
                if !in_it.contains(event.id.as_str()) {
                    continue;
                }
                Row::new(event, event.time, 1, repeated)
            }
        };
        if shape.status.is_none_or(|status| row.status == Some(word(status))) {
            rows.push(row);
        }
    }
    rows
}

impl<'a> Row<'a> {
    fn new(event: &'a Event, first: Timestamp, count: usize, all: Option<&'a Repeated>) -> Self {
        let latest = event.time;
        let status = all.and_then(status).map(word);
        let marked = all.and_then(|all| all.mark.as_ref());
        Self { event, first, latest, count, status, marked }
    }
}

/// What was done about equal decisions. Of what was allowed nothing is open.
pub(super) fn status(all: &Repeated) -> Option<Handling> {
    match &all.mark {
        Some(mark) => Some(match mark.status {
            Status::Handled => Handling::Handled,
            Status::Ignored => Handling::Ignored,
            Status::Whitelisted => Handling::Whitelisted,
        }),
        None if all.event.action == Action::Allow => None,
        None => Some(Handling::Open),
    }
}

pub(super) fn word(status: Handling) -> &'static str {
    match status {
        Handling::Open => "open",
        Handling::Handled => Status::Handled.as_str(),
        Handling::Ignored => Status::Ignored.as_str(),
        Handling::Whitelisted => Status::Whitelisted.as_str(),
    }
}

fn write(rows: &[Row<'_>], out: &mut dyn Write) -> io::Result<()> {
    let head = ["TIME", "COUNT", "ACTION", "STATUS", "EVENT", "WHERE"].map(str::to_owned);
    let cells: Vec<[String; 6]> = rows
        .iter()
        .map(|row| {
            [
                row.latest.strftime("%F %T").to_string(),
                row.count.to_string(),
                action(row.event).to_owned(),
                row.status.unwrap_or("-").to_owned(),
                cut(&plain(&row.event.id), 26),
                plain(&place(row.event)),
            ]
        })
        .collect();
    let mut widths = [0; 5];
    for row in cells.iter().chain([&head]) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let left = WIDTH.saturating_sub(widths.iter().map(|width| width + 2).sum());
    let line = |out: &mut dyn Write, [time, count, action, status, event, place]: &[String; 6]| {
        let [t, c, a, s, e] = widths;
        let place = cut(place, left);
        let action = render::action(action, a);
        writeln!(out, "{time:t$}  {count:>c$}  {action}  {status:s$}  {event:e$}  {place}")
    };
    line(out, &head)?;
    writeln!(out, "{BELOW}WHAT")?;
    for (row, cells) in rows.iter().zip(&cells) {
        line(out, cells)?;
        for part in wrapped(&what(row.event), WIDTH - BELOW.len(), MOST_LINES) {
            writeln!(out, "{BELOW}{part}")?;
        }
    }
    Ok(())
}

/// A text on lines of at most `width`, broken at spaces; what does not fit on them is cut.
fn wrapped(text: &str, width: usize, lines: usize) -> Vec<String> {
    let mut wrapped = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if wrapped.len() + 1 == lines {
            wrapped.push(cut(rest, width));
            break;
        }
        let Some((end, _)) = rest.char_indices().nth(width) else {
            wrapped.push(rest.to_owned());
            break;
        };
        let fits = &rest[..end];
        // A word that is longer than a line is broken where the line ends.
        let end = match rest[end..].starts_with(' ') {
            true => end,
            false => fits.rfind(' ').filter(|at| *at > 0).unwrap_or(end),
        };
        wrapped.push(rest[..end].trim_end().to_owned());
        rest = rest[end..].trim_start();
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_wrapped_at_spaces() {
        for (text, expected) in [
            ("", &[][..]),
            ("abc", &["abc"]),
            ("abcd efgh", &["abcd", "efgh"]),
            ("ab cd efgh", &["ab cd", "efgh"]),
            ("ab cd efgh ijkl", &["ab cd", "ef..."]),
            ("abcdefgh", &["abcde", "fgh"]),
            ("äöüßé è", &["äöüßé", "è"]),
        ] {
            assert_eq!(wrapped(text, 5, 2), expected, "{text}");
        }
    }
}
