//! `portcullis preflight`: which containers that run now could not be started again, and why.
//!
//! A node is drained, a pod is rescheduled, a machine reboots: what runs must pass the gate then. Each
//! container is resolved as its start would be, from what its engine has recorded, and judged by the
//! policies in force or by others.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use portcullis_engines::{Found, Source};
use portcullis_resolve::DockerResolver;
use portcullis_types::{Action, Engine, Kind, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use super::simulate::said;
use super::situation::Judge;
use crate::args::Preflight;
use crate::context::Context;
use crate::exit::Exit;
use crate::render::{Table, action, count, cut, wrapped};

/// How long the list of what runs may take.
const LISTING: Duration = Duration::from_secs(30);
/// How long one container may take. Nobody waits for its start, so more than a door gives.
const EACH: Duration = Duration::from_secs(10);

/// A container that runs, and what would be decided if it were started again.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Row {
    action: Action,
    engine: Engine,
    /// containerd's namespace: `k8s.io`, `default`, `moby`; empty for Podman and CRI-O.
    engine_namespace: String,
    /// Kubernetes namespace of the pod, if it has one.
    namespace: String,
    pod: String,
    container: String,
    container_id: String,
    kind: Kind,
    image: String,
    /// The line that would be told.
    message: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Flown {
    /// The policies that were asked; those in force, or those of the folder given.
    policy_set: String,
    running: usize,
    /// How many would be decided how.
    counts: BTreeMap<Action, usize>,
    /// Those that would be blocked first, then by namespace and pod.
    containers: Vec<Row>,
}

pub(super) fn run(context: &Context, args: &Preflight) -> Result<Exit> {
    let judge = Judge::new(context, args.policies.as_deref())?;
    let engines = engines(context, args)?;
    let running = portcullis_engines::running(&engines, || Instant::now() + LISTING);
    let running = running.map_err(|(engine, error)| {
        anyhow::Error::from(error).context(format!("what {engine} runs is not known"))
    })?;
    let progress = progress(running.len());
    // As a door judges the time: never before the ledger's newest record.
    let now = context.events().judged_now(Timestamp::now());
    let mut containers = Vec::with_capacity(running.len());
    for found in &running {
        progress.set_message(cut(found.container_id(), 20));
        containers.push(row(&judge, found, now));
        progress.inc(1);
    }
    progress.finish_and_clear();
    let key = |row: &Row| {
        let of_pod = (row.engine, row.engine_namespace.clone(), row.namespace.clone());
        let name = (row.pod.clone(), row.container.clone(), row.container_id.clone());
        (std::cmp::Reverse(row.action), of_pod, name)
    };
    containers.sort_by_cached_key(key);
    let mut counts = BTreeMap::new();
    for row in &containers {
        *counts.entry(row.action).or_default() += 1;
    }
    let policy_set = judge.set.as_ref().map(|set| set.digest().to_string()).unwrap_or_default();
    let flown = Flown { policy_set, running: containers.len(), counts, containers };
    context.print.print(&flown, |out| flown.write(out))?;
    let blocked = flown.count(Action::Block) > 0;
    Ok(if blocked { Exit::Block } else { Exit::Done })
}

/// Those that are named or, if none is, those that are here.
///
/// # Errors
/// If none is named and none is here.
fn engines(context: &Context, args: &Preflight) -> Result<Vec<Source>> {
    let all = Source::all(&context.settings, &args.address).into_iter();
    let (here, away): (Vec<_>, Vec<_>) = all.partition(|source| match args.engine.as_slice() {
        [] => source.is_here(),
        named => named.contains(&source.engine()),
    });
    if here.is_empty() {
        let places: Vec<_> = away.iter().map(Source::shown).collect();
        bail!(
            "no engine is found on this node: there is nothing at {}; name the one to ask with \
             --engine, and its place in the settings ([wrapper.NAME]) or with --address",
            places.join(", ")
        );
    }
    Ok(here)
}

fn row(judge: &Judge, found: &Found<'_>, now: Timestamp) -> Row {
    let start = judge.of_running(found, Instant::now() + EACH, now);
    let decision = judge.decide(&start);
    let message = said(&decision, &start);
    Row {
        action: decision.action,
        engine: found.engine(),
        engine_namespace: found.namespace().to_owned(),
        namespace: start.request.namespace,
        pod: start.request.pod,
        container: start.request.container,
        container_id: found.container_id().to_owned(),
        kind: start.request.kind,
        image: start.identity.to_string(),
        message,
    }
}

impl Row {
    /// The pod with its namespace, containerd's namespace, or the engine.
    fn group(&self) -> String {
        match (self.pod.as_str(), self.engine_namespace.as_str()) {
            ("", "" | DockerResolver::NAMESPACE) => self.engine.to_string(),
            ("", namespace) => namespace.to_owned(),
            (pod, _) => format!("{}/{pod}", self.namespace),
        }
    }

    /// What people call it.
    fn name(&self) -> &str {
        match (self.kind, self.container.as_str()) {
            (Kind::Sandbox, _) => "(sandbox)",
            (_, "") => &self.container_id,
            (_, name) => name,
        }
    }
}

impl Flown {
    fn count(&self, action: Action) -> usize {
        self.counts.get(&action).copied().unwrap_or(0)
    }

    fn write(&self, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        let [block, alarm, allow] =
            [Action::Block, Action::Alarm, Action::Allow].map(|action| self.count(action));
        let running = count(self.running, "running container");
        writeln!(
            out,
            "{running}: started again, {block} would be blocked, {alarm} alarmed, {allow} allowed"
        )?;
        if self.containers.is_empty() {
            return Ok(());
        }
        let mut table = Table::new(&["ACTION", "POD", "CONTAINER", "IMAGE"]).actions(1);
        for row in &self.containers {
            table.row([
                row.action.to_string(),
                row.group(),
                cut(row.name(), 24),
                row.image.clone(),
            ]);
        }
        table.write(out)?;
        for row in self.containers.iter().filter(|row| row.action != Action::Allow) {
            let word = row.action.as_str();
            let line = format!("{word}: {} {}: {}", row.group(), row.name(), row.message);
            let line = wrapped(&line, 2);
            let rest = line.strip_prefix(word).unwrap_or_default();
            writeln!(out, "\n{}{rest}", action(word, 0))?;
        }
        Ok(())
    }
}

/// A bar for more than one container, on a terminal only.
fn progress(containers: usize) -> ProgressBar {
    let bar = ProgressBar::new(containers as u64);
    if containers < 2 || !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    bar
}
