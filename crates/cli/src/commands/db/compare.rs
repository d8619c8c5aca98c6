//! `portcullis db compare`: how versions of packages are ordered.

use std::cmp::Ordering;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use portcullis_versions::Scheme;
use schemars::JsonSchema;
use serde::Serialize;

use crate::args::{Compare, Global};
use crate::exit::Exit;
use crate::render::{Printer, count, plain};

/// Most bytes of a file of claims.
const MAX_FILE: u64 = 64 << 20;

/// What was compared.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Compared {
    ecosystem: String,
    /// How the first version stands to the second: `<`, `=` or `>`; absent for a file.
    order: Option<&'static str>,
    /// Claims that were checked.
    claims: usize,
    /// Those that are wrong.
    wrong: Vec<Wrong>,
}

/// A claim that does not hold.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Wrong {
    /// Counted from 1.
    line: usize,
    a: String,
    /// What the line says.
    claimed: String,
    b: String,
    /// What is so.
    order: &'static str,
}

pub(in crate::commands) fn run(global: &Global, args: &Compare) -> Result<Exit> {
    let scheme = Scheme::of_ecosystem(&args.ecosystem)?;
    let mut compared =
        Compared { ecosystem: args.ecosystem.clone(), order: None, claims: 0, wrong: Vec::new() };
    match args {
        Compare { file: Some(file), .. } => check(file, scheme, &mut compared)?,
        Compare { a: Some(a), b: Some(b), .. } => {
            compared.order = Some(sign(scheme.compare(a, b)?));
        }
        _ => bail!("give two versions, or --file FILE"),
    }
    Printer::new(global).print(&compared, |out| {
        if let Some(order) = compared.order {
            return writeln!(out, "{order}");
        }
        for Wrong { line, a, claimed, b, order } in &compared.wrong {
            let [a, b] = [a, b].map(|text| plain(text));
            writeln!(out, "line {line}: {a} {claimed} {b} is wrong: {a} {order} {b}")?;
        }
        let (claims, wrong) = (count(compared.claims, "claim"), compared.wrong.len());
        writeln!(out, "{claims}: {wrong} wrong")
    })?;
    Ok(if compared.wrong.is_empty() { Exit::Done } else { Exit::Failed })
}

fn sign(order: Ordering) -> &'static str {
    match order {
        Ordering::Less => "<",
        Ordering::Equal => "=",
        Ordering::Greater => ">",
    }
}

fn check(file: &Path, scheme: Scheme, compared: &mut Compared) -> Result<()> {
    let place = file.display();
    let read = || -> std::io::Result<String> {
        let mut text = String::new();
        File::open(file)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().with_context(|| format!("cannot read {place}"))?;
    if text.len() as u64 > MAX_FILE {
        bail!("{place} is larger than {MAX_FILE} bytes");
    }
    for (at, line) in text.lines().enumerate() {
        let (number, line) = (at + 1, line.trim());
        if line.is_empty() || line.starts_with('#') || line.starts_with("//") {
            continue;
        }
        let words: Vec<_> = line.split_whitespace().collect();
        let [a, claimed @ ("<" | "=" | ">"), b] = words[..] else {
            bail!("{place}, line {number}: \"{}\" is not A < B, A = B or A > B", plain(line));
        };
        let order = scheme.compare(a, b).with_context(|| format!("{place}, line {number}"))?;
        compared.claims += 1;
        if sign(order) != claimed {
            let [a, claimed, b] = [a, claimed, b].map(ToOwned::to_owned);
            compared.wrong.push(Wrong { line: number, a, claimed, b, order: sign(order) });
        }
    }
    if compared.claims == 0 {
        bail!("{place} has no line of the form A < B");
    }
    Ok(())
}
