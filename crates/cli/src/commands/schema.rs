//! `portcullis schema`: the JSON Schema (draft 2020-12) of what each command prints for programs.
//!
//! The schemas are made from the types that are printed, so they cannot say anything else.

use anyhow::{Context as _, Result, bail};
use portcullis_policy::ProtectionPolicy;
use portcullis_types::{Event, Verdict};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::{
    config, db, decide, doctor, events, explain, feed, import, policy, preflight, scan, simulate,
    status, verdict, vex,
};
use crate::args::Global;
use crate::exit::Exit;
use crate::render::{Printer, plain};

type Schema = fn() -> Value;

/// By the command, as it is typed.
const SCHEMAS: [(&str, Schema); 37] = [
    ("config check", of::<config::Checked>),
    ("db compare", of::<db::compare::Compared>),
    ("db query", of::<Vec<db::ask::Row>>),
    ("db rematch", of::<Vec<db::rematch::Rematched>>),
    ("db status", of::<db::ask::Database>),
    ("db update", of::<db::update::Updated>),
    ("db verify", of::<db::ask::Verified>),
    ("decide", of::<decide::Answer<'static>>),
    ("doctor", of::<doctor::Examined>),
    ("events follow", of::<Event>),
    ("events handle", of::<Vec<events::mark::Marked>>),
    ("events ignore", of::<Vec<events::mark::Marked>>),
    ("events list", of::<Vec<events::list::Row<'static>>>),
    ("events show", of::<events::show::Shown<'static>>),
    ("events verify", of::<events::verify::Verified>),
    ("events whitelist", of::<events::whitelist::Whitelisted>),
    ("explain", of::<explain::Answer<'static>>),
    ("feed status", of::<Vec<portcullis_node::Lying>>),
    ("feed update", of::<feed::Updated>),
    ("import", of::<Vec<import::Stored>>),
    ("policy apply", of::<policy::Checked>),
    ("policy check", of::<policy::Checked>),
    ("policy lint", of::<policy::lint::Linted>),
    ("policy list", of::<policy::Listed<'static>>),
    ("policy show", of::<ProtectionPolicy>),
    ("policy template", of::<Vec<policy::template::Row>>),
    ("policy template NAME", of::<policy::template::Template>),
    ("preflight", of::<preflight::Flown>),
    ("scan", of::<Vec<scan::Row>>),
    ("simulate", of::<simulate::Simulated>),
    ("status", of::<status::Status>),
    ("verdict list", of::<Vec<verdict::Row>>),
    ("verdict rm", of::<verdict::Removed<'static>>),
    ("verdict show", of::<Verdict>),
    ("vex check", of::<Vec<vex::Checked>>),
    ("vex explain", of::<vex::Explanation>),
    ("vex list", of::<vex::Listed>),
];

pub(super) fn run(global: &Global, command: &[String]) -> Result<Exit> {
    let print = Printer::new(global);
    let wanted = command.join(" ");
    if wanted.is_empty() {
        let names: Vec<&str> = SCHEMAS.iter().map(|(name, _)| *name).collect();
        print.print(&names, |out| names.iter().try_for_each(|name| writeln!(out, "{name}")))?;
        return Ok(Exit::Done);
    }
    let Some((_, schema)) = SCHEMAS.iter().find(|(name, _)| *name == wanted) else {
        bail!("\"{}\" has no schema: portcullis schema lists those that have one", plain(&wanted));
    };
    let schema = schema();
    let json = serde_json::to_string_pretty(&schema).context("the schema as JSON")?;
    print.print(&schema, |out| writeln!(out, "{json}"))?;
    Ok(Exit::Done)
}

/// The schema of a type as it is written, not as it may be read.
fn of<T: JsonSchema>() -> Value {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    for_people(&mut schema);
    schema
}

/// Takes the links within the code out of the descriptions.
fn for_people(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if name == "description" => {
                        *text = text.replace("[`", "`").replace("`]", "`");
                    }
                    other => for_people(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(for_people),
        _ => {}
    }
}
