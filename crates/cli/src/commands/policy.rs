//! `portcullis policy check|lint|schema|template|apply|list|show`.

pub(super) mod lint;
mod recorded;
pub(super) mod template;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use portcullis_gate::published;
use portcullis_node::NodeSet;
use portcullis_policy::lint::{Level, LintContext};
use portcullis_policy::{Fault, PolicySet, ProtectionPolicy, schema};
use portcullis_types::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::args::{Global, Policy};
use crate::context::Context;
use crate::exit::Exit;
use crate::render::{Printer, Table, count, cut, wrapped};

pub(super) fn run(context: &Context, command: &Policy) -> Result<Exit> {
    match command {
        Policy::Check { paths } => check(context, paths),
        Policy::Lint { paths, since, strict } => lint::run(context, paths, *since, *strict),
        Policy::Schema | Policy::Template { .. } => fixed(context.print, command),
        Policy::Apply => apply(context),
        Policy::List => list(context),
        Policy::Show { name } => show(context, name),
    }
}

/// Whether the answer is the same on every node, with or without an installation.
pub(super) fn is_fixed(command: &Policy) -> bool {
    matches!(command, Policy::Schema | Policy::Template { .. })
}

/// Runs a command that [`is_fixed`].
pub(super) fn run_fixed(global: &Global, command: &Policy) -> Result<Exit> {
    fixed(Printer::new(global), command)
}

fn fixed(print: Printer, command: &Policy) -> Result<Exit> {
    match command {
        Policy::Template { name } => template::run(print, name.as_deref()),
        _ => {
            let schema = schema::schema();
            let json = serde_json::to_string_pretty(&schema).context("the schema as JSON")?;
            print.print(&schema, |out| writeln!(out, "{json}"))?;
            Ok(Exit::Done)
        }
    }
}

/// The files that are named, or the node's.
fn sources_of(context: &Context, paths: &[PathBuf]) -> Vec<PathBuf> {
    match paths {
        [] => vec![context.policy_folder()],
        given => given.to_vec(),
    }
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Checked {
    policies: Vec<String>,
    policy_set: Option<String>,
    faults: Vec<String>,
    /// How much in them lint calls an error, by the documents alone.
    lint_errors: usize,
    /// Statements of the node's VEX documents.
    vex_statements: usize,
    /// What of these documents was passed over or cannot be used.
    warnings: Vec<String>,
}

/// At most this many warnings are printed.
const SHOWN: usize = 20;

impl Checked {
    fn of(node: &NodeSet) -> Self {
        let warnings = node.warnings.clone();
        match &node.compiled {
            Ok(set) => Self {
                policies: set.policies().map(|p| p.metadata.name.clone()).collect(),
                policy_set: Some(set.digest().to_string()),
                faults: Vec::new(),
                lint_errors: lint_errors(set),
                vex_statements: set.vex().statements().len(),
                warnings,
            },
            Err(faults) => Self {
                policies: Vec::new(),
                policy_set: None,
                faults: faults.iter().map(Fault::to_string).collect(),
                lint_errors: 0,
                vex_statements: 0,
                warnings,
            },
        }
    }

    fn write_warnings(&self, out: &mut dyn Write) -> std::io::Result<()> {
        for warning in self.warnings.iter().take(SHOWN) {
            writeln!(out, "{}", wrapped(&format!("warning: {warning}"), 2))?;
        }
        match self.warnings.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => writeln!(out, "and {}: see portcullis vex list", count(more, "warning")),
        }
    }

    fn write_faults(&self, out: &mut dyn Write) -> std::io::Result<()> {
        self.faults.iter().try_for_each(|fault| writeln!(out, "{}", wrapped(fault, 2)))
    }
}

fn lint_errors(set: &PolicySet) -> usize {
    let context = LintContext { now: Timestamp::now(), starts: None, sandbox_images: &[] };
    let warnings = portcullis_policy::lint::lint(set, &context);
    warnings.iter().filter(|warning| warning.severity == Level::Error).count()
}

fn check(context: &Context, paths: &[PathBuf]) -> Result<Exit> {
    let checked =
        Checked::of(&portcullis_node::node_set(&context.paths, &sources_of(context, paths))?);
    context.print.print(&checked, |out| match checked.faults.len() {
        0 => {
            checked.write_warnings(out)?;
            let with = match checked.vex_statements {
                0 => String::new(),
                some => format!(" and {}", count(some, "VEX statement")),
            };
            writeln!(out, "{}{with} checked, no fault", policies(checked.policies.len()))?;
            match checked.lint_errors {
                0 => Ok(()),
                errors => {
                    let errors = count(errors, "error");
                    writeln!(out, "hint: lint finds {errors}: run portcullis policy lint")
                }
            }
        }
        faults => {
            checked.write_faults(out)?;
            writeln!(out, "{}", count(faults, "fault"))
        }
    })?;
    Ok(if checked.faults.is_empty() { Exit::Done } else { Exit::Failed })
}

/// What becomes of a set that cannot be applied.
const UNCHANGED: &str = "nothing is changed, the set in force goes on deciding";

fn apply(context: &Context) -> Result<Exit> {
    let lock = portcullis_node::lock(&context.paths)?;
    let node = portcullis_node::publish(&context.paths, &lock).context(UNCHANGED)?;
    let checked = Checked::of(&node);
    let Ok(set) = node.compiled else {
        context.print.print(&checked, |out| {
            checked.write_faults(out)?;
            let faults = count(checked.faults.len(), "fault");
            writeln!(out, "{faults}: {UNCHANGED}")
        })?;
        return Ok(Exit::Failed);
    };
    context.print.print(&checked, |out| {
        checked.write_warnings(out)?;
        let line = format!("in force: {} ({})", names(&checked.policies), set.digest());
        writeln!(out, "{}", wrapped(&line, 2))?;
        match checked.vex_statements {
            0 => Ok(()),
            some => writeln!(out, "and {}", count(some, "VEX statement")),
        }
    })?;
    Ok(Exit::Done)
}

fn policies(number: usize) -> String {
    match number {
        1 => "1 policy".to_owned(),
        number => format!("{number} policies"),
    }
}

fn names(policies: &[String]) -> String {
    match policies {
        [] => "no policy".to_owned(),
        some => some.join(", "),
    }
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Listed<'a> {
    policy_set: String,
    policies: Vec<Row<'a>>,
    vex_statements: usize,
    /// What the files say differs from what is in force.
    drift: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Row<'a> {
    name: &'a str,
    mode: &'static str,
    rules: usize,
    description: &'a str,
}

fn row(policy: &ProtectionPolicy) -> Row<'_> {
    Row {
        name: &policy.metadata.name,
        mode: if policy.spec.observes(Timestamp::now()) { "observe" } else { "enforce" },
        rules: policy.spec.rules.len(),
        description: policy.spec.description.as_deref().unwrap_or_default(),
    }
}

fn list(context: &Context) -> Result<Exit> {
    let set = published::load(&context.paths.published())?;
    let listed = Listed {
        policy_set: set.digest().to_string(),
        policies: set.policies().map(row).collect(),
        vex_statements: set.vex().statements().len(),
        drift: portcullis_node::drift(&context.paths, &set),
    };
    context.print.print(&listed, |out| {
        let names = listed.policies.iter().map(|row| row.name.chars().count().min(63));
        let longest = names.max().unwrap_or_default();
        let mut table = Table::new(&["NAME", "MODE", "RULES", "DESCRIPTION"]);
        for row in &listed.policies {
            let name = cut(row.name, 63);
            let description = cut(row.description, 82 - name.chars().count().max(longest));
            table.row([name, row.mode.into(), row.rules.to_string(), description]);
        }
        table.write(out)?;
        if listed.vex_statements > 0 {
            writeln!(out, "\n{} with them", count(listed.vex_statements, "VEX statement"))?;
        }
        match &listed.drift {
            Some(drift) => writeln!(out, "\n{}", wrapped(drift, 2)),
            None => Ok(()),
        }
    })?;
    Ok(Exit::Done)
}

fn show(context: &Context, name: &str) -> Result<Exit> {
    let set = published::load(&context.paths.published())?;
    let Some(policy) = set.policies().find(|p| p.metadata.name == name) else {
        let names: Vec<&str> = set.policies().map(|p| p.metadata.name.as_str()).collect();
        bail!("no policy in force is named \"{name}\"; there are: {}", names.join(", "));
    };
    let json = serde_json::to_string_pretty(policy).context("a policy as JSON")?;
    context.print.print(policy, |out| writeln!(out, "{json}"))?;
    Ok(Exit::Done)
}
