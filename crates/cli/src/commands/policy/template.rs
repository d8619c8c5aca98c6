//! `portcullis policy template`: policies to start from, as they are shipped.

use anyhow::{Context as _, Result, bail};
use portcullis_policy::yaml::{self, SourceFile};
use schemars::JsonSchema;
use serde::Serialize;

use crate::exit::Exit;
use crate::render::{Printer, Table, plain};

/// A policy file that is shipped.
#[derive(Serialize, JsonSchema)]
pub(in crate::commands) struct Template {
    name: &'static str,
    text: &'static str,
}

/// The first is what an install puts into force, the others are stricter from one to the next.
const TEMPLATES: [Template; 4] = [
    Template { name: "watch", text: include_str!("../../../../../config/policies/watch.yaml") },
    Template {
        name: "balanced",
        text: include_str!("../../../../../config/policies/templates/balanced.yaml"),
    },
    Template {
        name: "hss-like",
        text: include_str!("../../../../../config/policies/templates/hss-like.yaml"),
    },
    Template {
        name: "strict",
        text: include_str!("../../../../../config/policies/templates/strict.yaml"),
    },
];

#[derive(Serialize, JsonSchema)]
pub(in crate::commands) struct Row {
    name: &'static str,
    description: String,
}

pub(super) fn run(print: Printer, name: Option<&str>) -> Result<Exit> {
    match name {
        None => list(print)?,
        Some(name) => match TEMPLATES.iter().find(|template| template.name == name) {
            Some(template) => print.print(template, |out| write!(out, "{}", template.text))?,
            None => {
                let names = TEMPLATES.map(|template| template.name).join(", ");
                bail!("no template is named \"{}\"; there are: {names}", plain(name));
            }
        },
    }
    Ok(Exit::Done)
}

fn list(print: Printer) -> Result<()> {
    let rows = TEMPLATES.iter().map(row).collect::<Result<Vec<Row>>>()?;
    print.print(&rows, |out| {
        let mut table = Table::new(&["NAME", "DESCRIPTION"]);
        for row in &rows {
            table.row([row.name.to_owned(), row.description.clone()]);
        }
        table.write(out)?;
        writeln!(out, "\nPrint one to start from: portcullis policy template NAME")
    })
}

/// The description is that of the first document.
fn row(template: &Template) -> Result<Row> {
    let file = SourceFile { name: template.name, bytes: template.text.as_bytes() };
    let policy = yaml::read(&[file]).ok().and_then(|policies| policies.into_iter().next());
    let description = policy.and_then(|policy| policy.spec.description);
    let description = description.with_context(|| format!("the template {}", template.name))?;
    Ok(Row { name: template.name, description })
}
