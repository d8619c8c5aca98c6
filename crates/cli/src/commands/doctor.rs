//! `portcullis doctor`: every way past the gate on this node, and what is wrong with it.
//!
//! Reads files, below a root that may be an image that does not run; asks no engine, and changes
//! nothing. What is found is judged by what each engine really loads.

mod containerd;
mod crio;
mod docker;
mod files;
mod finding;
mod flags;
mod ours;
mod podman;
mod pods;
mod state;
mod tables;
mod yaml;

use std::collections::BTreeMap;
use std::io::Write;

use anstyle::{AnsiColor, Style};
use anyhow::{Context as _, Result};
use portcullis_types::{Engine, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use self::containerd::Version;
use self::files::{Host, Text};
use self::finding::{Finding, Severity};
use self::ours::Ours;
use super::situation::Judge;
use crate::args::{Doctor, Global};
use crate::context::Context;
use crate::exit::Exit;
use crate::render::wrapped;

/// What was found.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Examined {
    node: String,
    /// The engines that this node has.
    engines: Vec<Engine>,
    /// How many findings there are of each severity.
    counts: BTreeMap<Severity, usize>,
    /// The worst first.
    findings: Vec<Finding>,
}

pub(super) fn run(global: &Global, args: &Doctor) -> Result<Exit> {
    let (context, problem) = Context::or_shipped(global)?;
    let root = context.paths.root();
    let host = Host::open(root).with_context(|| format!("cannot read {}", root.display()))?;
    let version = args.containerd_version.as_deref().map(str::parse::<Version>).transpose();
    let version = version.map_err(anyhow::Error::msg).context("--containerd-version")?;
    let settings = match host.read("/etc/portcullis/portcullis.toml") {
        Text::Read(text) => text,
        Text::Absent | Text::Unusable(_) => String::new(),
    };
    let ours = Ours { host: &host, wrappers: ours::wrappers(&settings) };
    let mut found = Vec::new();
    let engines = engines(&ours, args, version, &mut found);
    state::settings(problem.as_ref(), &mut found);
    state::files(&ours, &mut found);
    state::policies(&context, &mut found);
    state::agent(&ours, &context, &mut found);
    let events = state::ledger(&context, &mut found);
    let judge = Judge::new(&context, None)?;
    state::pause(&context, &judge, &engines.pause, &events, &mut found);
    state::clock(Timestamp::now(), &events, &mut found);
    state::journal(&ours, &events, &mut found);
    state::disk(&context, &mut found);

    found.sort_by_key(|finding| finding.severity);
    let mut counts = BTreeMap::new();
    for finding in &found {
        *counts.entry(finding.severity).or_default() += 1;
    }
    let node = context.settings.node.clone();
    let examined = Examined { node, engines: engines.present, counts, findings: found };
    context.print.print(&examined, |out| examined.write(out, args.all))?;
    Ok(examined.exit(args.strict))
}

/// What is known of all engines together.
struct Engines {
    present: Vec<Engine>,
    pause: Vec<(Engine, String, Option<finding::Place>)>,
}

fn engines(
    ours: &Ours<'_>,
    args: &Doctor,
    version: Option<Version>,
    found: &mut Vec<Finding>,
) -> Engines {
    let path = args.containerd_config.as_deref().unwrap_or(containerd::CONFIG);
    let containerd = containerd::check(ours, path, version, found);
    let crio = crio::check(ours, found);
    let before = found.len();
    docker::check(ours, found);
    let has_docker = found.len() > before;
    let before = found.len();
    podman::check(ours, found);
    let has_podman = found.len() > before;
    if let Some(kubelet) = pods::kubelet(ours.host, found) {
        let containerd = containerd.as_ref().map(|c| (c.gated.as_slice(), c.default_gated));
        let crio = crio.as_ref().map(|c| (c.gated.as_slice(), c.default_gated));
        let used = if kubelet.uses_crio || containerd.is_none() { crio } else { containerd };
        let (gated, default_gated) = used.unwrap_or_default();
        pods::check(ours.host, &kubelet, &pods::Handlers { gated, default_gated }, found);
    }
    let present = [
        (Engine::Containerd, containerd.is_some()),
        (Engine::CriO, crio.is_some()),
        (Engine::Docker, has_docker),
        (Engine::Podman, has_podman),
    ];
    let images = [
        (Engine::Containerd, containerd.and_then(|c| c.sandbox_image)),
        (Engine::CriO, crio.and_then(|c| c.sandbox_image)),
    ];
    Engines {
        present: present.into_iter().filter(|(_, is)| *is).map(|(engine, _)| engine).collect(),
        pause: images
            .into_iter()
            .filter_map(|(engine, image)| image.map(|(image, place)| (engine, image, place)))
            .collect(),
    }
}

impl Examined {
    fn count(&self, severity: Severity) -> usize {
        self.counts.get(&severity).copied().unwrap_or(0)
    }

    fn exit(&self, strict: bool) -> Exit {
        let bad = self.count(Severity::Bypass) + self.count(Severity::Error);
        let warned = if strict { self.count(Severity::Warning) } else { 0 };
        if bad + warned > 0 { Exit::Unhealthy } else { Exit::Done }
    }

    fn write(&self, out: &mut dyn Write, all: bool) -> std::io::Result<()> {
        let engines: Vec<&str> = self.engines.iter().map(|engine| engine.as_str()).collect();
        let engines = if engines.is_empty() { "no engine".to_owned() } else { engines.join(", ") };
        writeln!(out, "{}", wrapped(&format!("node {}, with {engines}", self.node), 2))?;
        for finding in &self.findings {
            if finding.severity != Severity::Ok || all {
                write_finding(finding, out)?;
            }
        }
        let counts: Vec<String> = [
            (Severity::Bypass, "bypass"),
            (Severity::Error, "error"),
            (Severity::Warning, "warning"),
            (Severity::Info, "info"),
            (Severity::Ok, "ok"),
        ]
        .into_iter()
        .map(|(severity, word)| format!("{} {word}", self.count(severity)))
        .collect();
        writeln!(out, "\n{}", counts.join(", "))
    }
}

fn write_finding(finding: &Finding, out: &mut dyn Write) -> std::io::Result<()> {
    let word = finding.severity.as_str();
    let color = match finding.severity {
        Severity::Bypass | Severity::Error => Some(AnsiColor::Red),
        Severity::Warning => Some(AnsiColor::Yellow),
        Severity::Ok => Some(AnsiColor::Green),
        Severity::Info => None,
    };
    let style = Style::new().fg_color(color.map(Into::into));
    let line = wrapped(&format!("{word:9}{}", finding.seen), 9);
    let rest = line.strip_prefix(word).unwrap_or_default();
    if finding.severity != Severity::Ok {
        writeln!(out)?;
    }
    writeln!(out, "{style}{word}{style:#}{rest}")?;
    if finding.severity == Severity::Ok {
        return Ok(());
    }
    let mut part = |name: &str, text: &str| match text {
        "" => Ok(()),
        text => writeln!(out, "{}", wrapped(&format!("  {name:7}{text}"), 9)),
    };
    if let Some(file) = &finding.file {
        let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
        part("file", &format!("{file}{line}"))?;
    }
    part("key", finding.key.as_deref().unwrap_or_default())?;
    part("why", &finding.why)?;
    part("do", finding.remedy.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests;
