//! `portcullis simulate`: recorded starts, decided again by other policies.
//!
//! Each start is judged as of its own time, with what is known of its image now.

use std::collections::BTreeMap;

use anyhow::Result;
use portcullis_types::{Action, Decision, EventKind, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use super::situation::{Judge, Situation};
use crate::args::Simulate;
use crate::context::Context;
use crate::exit::Exit;
use crate::render::{Table, action, count, cut, wrapped};

/// Starts that were decided alike and would be decided alike.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Row {
    was: Action,
    would_be: Action,
    image: String,
    namespace: String,
    /// How many starts.
    starts: usize,
    #[schemars(with = "portcullis_types::TimeSchema")]
    first: Timestamp,
    #[schemars(with = "portcullis_types::TimeSchema")]
    latest: Timestamp,
    /// The event of the latest.
    event: String,
    /// Why, of the latest.
    message: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Simulated {
    policy_set: String,
    starts: usize,
    would_change: usize,
    rows: Vec<Row>,
}

pub(super) fn run(context: &Context, args: &Simulate) -> Result<Exit> {
    let judge = Judge::new(context, Some(&args.policies))?;
    let policy_set = judge.set.as_ref().map(|set| set.digest().to_string()).unwrap_or_default();
    let mut rows: BTreeMap<(Action, Action, String, String), Row> = BTreeMap::new();
    let (mut starts, mut would_change) = (0, 0);
    for event in context.events().read()?.events {
        let too_old = args.since.is_some_and(|since| event.time < since);
        if event.kind != EventKind::Decision || too_old {
            continue;
        }
        let start = judge.of_event(&event, event.time);
        let decision = judge.decide(&start);
        starts += 1;
        would_change += usize::from(decision.action != event.action);
        if decision.action == event.action && !args.all {
            continue;
        }
        let image = event.image.to_string();
        let namespace = event.request.namespace.clone();
        let key = (event.action, decision.action, image.clone(), namespace.clone());
        let row = rows.entry(key).or_insert_with(|| Row {
            was: event.action,
            would_be: decision.action,
            image,
            namespace,
            starts: 0,
            first: event.time,
            latest: event.time,
            event: String::new(),
            message: String::new(),
        });
        row.starts += 1;
        row.latest = row.latest.max(event.time);
        row.message = said(&decision, &start);
        row.event = event.id;
    }
    let mut rows: Vec<Row> = rows.into_values().collect();
    // What would newly be refused comes first: that is what somebody will call about.
    rows.sort_by_key(|row| std::cmp::Reverse((row.would_be, row.starts)));
    let newly_blocked = rows.iter().any(|r| r.would_be == Action::Block && r.was < Action::Block);
    let simulated = Simulated { policy_set, starts, would_change, rows };
    context.print.print(&simulated, |out| {
        let changes = match simulated.would_change {
            0 => "none would be decided otherwise".to_owned(),
            some => format!("{some} would be decided otherwise"),
        };
        writeln!(out, "{} replayed, {changes}", count(simulated.starts, "start"))?;
        if simulated.rows.is_empty() {
            return Ok(());
        }
        let mut table = Table::new(&["WAS", "WOULD BE", "STARTS", "NAMESPACE", "IMAGE"]).actions(2);
        for row in &simulated.rows {
            table.row([
                row.was.to_string(),
                row.would_be.to_string(),
                row.starts.to_string(),
                cut(if row.namespace.is_empty() { "-" } else { &row.namespace }, 20),
                cut(&row.image, 52),
            ]);
        }
        table.write(out)?;
        for row in simulated.rows.iter().filter(|r| r.would_be != r.was) {
            let change = format!("{} -> {}:", row.was, row.would_be);
            let line = wrapped(&format!("{change} {}", row.message), 2);
            let [was, would_be] = [row.was, row.would_be].map(|a| action(a.as_str(), 0));
            let rest = line.strip_prefix(&change).unwrap_or_default();
            writeln!(out, "\n{was} -> {would_be}:{rest}")?;
        }
        Ok(())
    })?;
    Ok(if args.exit_code && newly_blocked { Exit::Block } else { Exit::Done })
}

/// The line of a decision without the parts that only a real event has.
pub(super) fn said(decision: &Decision, start: &Situation) -> String {
    let line = portcullis_policy::refusal(decision, &start.identity, "-");
    let line = line.strip_prefix("portcullis: ").unwrap_or(&line);
    line.rsplit_once("; see: ").map_or(line, |(line, _)| line).to_owned()
}
