//! `portcullis policy lint`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use portcullis_policy::Fault;
use portcullis_policy::PolicySet;
use portcullis_policy::lint::{Level, LintContext, Warning, lint};
use portcullis_types::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::recorded::{Recorded, recorded};
use super::{policies, sources_of};
use crate::context::Context;
use crate::exit::Exit;
use crate::render::{count, plain};

/// Widest line of the text.
const WIDTH: usize = 100;

#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Linted {
    policies: Vec<String>,
    faults: Vec<String>,
    /// Recorded starts that were decided again.
    starts: usize,
    warnings: Vec<Warning>,
}

pub(super) fn run(
    context: &Context,
    paths: &[PathBuf],
    since: Option<Timestamp>,
    strict: bool,
) -> Result<Exit> {
    let linted = match portcullis_node::node_set(&context.paths, &sources_of(context, paths))?
        .compiled
    {
        Ok(set) => linted(context, &set, since),
        Err(faults) => {
            Linted { faults: faults.iter().map(Fault::to_string).collect(), ..Linted::default() }
        }
    };
    context.print.print(&linted, |out| write(&linted, out))?;
    let fails_from = if strict { Level::Warning } else { Level::Error };
    let fails = linted.warnings.iter().any(|warning| warning.severity >= fails_from);
    Ok(if fails || !linted.faults.is_empty() { Exit::Failed } else { Exit::Done })
}

#[expect(clippy::print_stderr, reason = "talk beside the data")]
fn linted(context: &Context, set: &PolicySet, since: Option<Timestamp>) -> Linted {
    // Without records there is less to say, and what there is still holds.
    let recorded = recorded(context, set, since).unwrap_or_else(|error| {
        eprintln!("portcullis: recorded starts are not looked at: {error:#}");
        Recorded { starts: None, sandbox_images: Vec::new() }
    });
    let lint_context = LintContext {
        now: Timestamp::now(),
        starts: recorded.starts.as_ref(),
        sandbox_images: &recorded.sandbox_images,
    };
    Linted {
        policies: set.policies().map(|policy| policy.metadata.name.clone()).collect(),
        faults: Vec::new(),
        starts: recorded.starts.as_ref().map_or(0, |starts| starts.count()),
        warnings: lint(set, &lint_context),
    }
}

fn write(linted: &Linted, out: &mut dyn Write) -> std::io::Result<()> {
    if !linted.faults.is_empty() {
        linted.faults.iter().try_for_each(|fault| write_wrapped(out, "", "  ", fault))?;
        let faults = count(linted.faults.len(), "fault");
        return writeln!(out, "{faults}: lint looks at policies without any");
    }
    for warning in &linted.warnings {
        let Warning { policy, path, severity, code, message, remedy } = warning;
        write_wrapped(out, "", "    ", &format!("{severity}: {code}: policy {policy}: {path}"))?;
        write_wrapped(out, "    ", "    ", message)?;
        write_wrapped(out, "    -> ", "       ", remedy)?;
    }
    let number = |level| linted.warnings.iter().filter(|w| w.severity == level).count();
    let levels = [(Level::Error, "error"), (Level::Warning, "warning"), (Level::Note, "note")];
    let found: Vec<String> = levels
        .iter()
        .map(|(level, word)| (number(*level), word))
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| count(number, word))
        .collect();
    let found = if found.is_empty() { "nothing to remark".to_owned() } else { found.join(", ") };
    let seen = match linted.starts {
        0 => "no recorded starts".to_owned(),
        starts => count(starts, "recorded start"),
    };
    writeln!(out, "{}, {seen}: {found}", policies(linted.policies.len()))
}

/// Writes a text over as many lines as it needs. What is longer than a line is cut into pieces.
fn write_wrapped(out: &mut dyn Write, first: &str, next: &str, text: &str) -> std::io::Result<()> {
    let mut line = first.to_owned();
    let mut is_empty = true;
    for word in plain(text).split(' ') {
        let mut word = word;
        if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            writeln!(out, "{line}")?;
            line = next.to_owned();
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        // Only a word at the beginning of a line can be too long for it.
        while let Some((end, _)) = word.char_indices().nth(WIDTH - line.chars().count()) {
            writeln!(out, "{line}{}", &word[..end])?;
            line = next.to_owned();
            word = &word[end..];
        }
        line.push_str(word);
        is_empty = false;
    }
    writeln!(out, "{line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(text: &str) -> Vec<String> {
        let mut out = Vec::new();
        write_wrapped(&mut out, "    -> ", "       ", text).unwrap();
        String::from_utf8(out).unwrap().lines().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn no_line_is_too_wide_and_no_word_is_lost() {
        for text in [
            String::new(),
            "short".to_owned(),
            "word ".repeat(100),
            "x".repeat(1_000),
            format!("{} {} b", "a".repeat(93), "c".repeat(94)),
            format!("a {} b", "\u{e4}".repeat(300)),
        ] {
            let lines = wrapped(&text);
            assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{lines:#?}");
            let told =
                |text: &str| text.chars().filter(|c| !" ->".contains(*c)).collect::<String>();
            assert_eq!(told(&lines.concat()), told(&text));
        }
        assert_eq!(wrapped(&format!("a {}", "b".repeat(92))).len(), 2);
        assert_eq!(wrapped(&format!("a {}", "b".repeat(91))).len(), 1);
    }
}
