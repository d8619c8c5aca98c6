//! `portcullis vex list|check|explain`.
//!
//! What is explained are the documents as they stand in the node's folder, whole: what is put into
//! force leaves out what no image can be held against, and the reason would be missing here.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use portcullis_gate::published::{self, LoadError};
use portcullis_node::{SourceError, VexFiles};
use portcullis_policy::{VexAnswer, VexIndex};
use portcullis_report::{VexDocument, vex_files};
use portcullis_store::{Depth, Detail, VerdictStore};
use portcullis_types::{
    Class, Digest, Event, Finding, Identity, Lookup, Surety, Timestamp, Verdict, VexStatement,
    VexStatus,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::events;
use super::situation::{Judge, Situation};
use crate::args::{Vex, VexExplain};
use crate::context::Context;
use crate::exit::Exit;
use crate::render::{count, wrapped};

/// At most this many products of a statement are shown.
const PRODUCTS: usize = 3;

pub(super) fn run(context: &Context, command: &Vex) -> Result<Exit> {
    match command {
        Vex::List => list(context),
        Vex::Check { paths } => check(context, paths),
        Vex::Explain(args) => explain(context, args),
    }
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Listed {
    documents: Vec<Document>,
    /// How the documents differ from what decides.
    drift: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Document {
    file: PathBuf,
    format: String,
    statements: Vec<VexStatement>,
    warnings: Vec<String>,
}

impl From<VexDocument> for Document {
    fn from(read: VexDocument) -> Self {
        let VexDocument { file, format, statements, warnings } = read;
        Self { file, format: format.to_string(), statements, warnings }
    }
}

fn list(context: &Context) -> Result<Exit> {
    let documents = portcullis_node::vex_of_node(&context.paths)?;
    let drift = drift(context, &documents);
    let documents: Vec<_> = documents.into_iter().map(Document::from).collect();
    let listed = Listed { documents, drift };
    context.print.print(&listed, |out| {
        if listed.documents.is_empty() {
            writeln!(out, "no VEX document is in {}", context.paths.vex().display())?;
        }
        for Document { file, format, statements, warnings } in &listed.documents {
            let statements_count = count(statements.len(), "statement");
            write_line(out, 0, &format!("{} ({format}, {statements_count})", file.display()))?;
            for statement in statements {
                write_line(out, 2, &listed_as(statement))?;
            }
            for warning in warnings {
                write_line(out, 2, &format!("warning: {warning}"))?;
            }
        }
        write_note(out, listed.drift.as_deref())
    })?;
    Ok(Exit::Done)
}

/// `web.json statement 1: CVE-2024-3094 not_affected: pkg:oci/web and 2 more`.
fn listed_as(statement: &VexStatement) -> String {
    let products: Vec<&str> =
        statement.products.iter().take(PRODUCTS).map(|product| product.name()).collect();
    let more = match statement.products.len().saturating_sub(PRODUCTS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let VexStatement { source, vulnerability, status, .. } = statement;
    format!("{source}: {} {status}: {}{more}", vulnerability.join(" "), products.join(", "))
}

fn write_line(out: &mut dyn Write, indent: usize, text: &str) -> io::Result<()> {
    writeln!(out, "{}", wrapped(&format!("{}{text}", " ".repeat(indent)), indent + 2))
}

fn write_note(out: &mut dyn Write, note: Option<&str>) -> io::Result<()> {
    note.map_or(Ok(()), |note| write_line(out, 0, &format!("note: {note}")))
}

/// Says how the documents differ from the statements in force, if they do.
fn drift(context: &Context, documents: &[VexDocument]) -> Option<String> {
    match published::load(&context.paths.published()) {
        Err(LoadError::Missing(_)) if documents.is_empty() => None,
        Err(error) => Some(format!("no statement is in force: {:#}", anyhow::Error::from(error))),
        Ok(set)
            if portcullis_node::checkable(documents).eq(set.vex().statements().iter().cloned()) =>
        {
            None
        }
        Ok(_) => Some(
            "the documents differ from the statements in force: run portcullis policy apply".into(),
        ),
    }
}

#[derive(Serialize, JsonSchema)]
pub(in crate::commands) struct Checked {
    file: PathBuf,
    format: Option<String>,
    statements: usize,
    warnings: Vec<String>,
    error: Option<String>,
}

impl Checked {
    fn new(file: &Path, read: Result<VexDocument, SourceError>) -> Self {
        let mut checked = Self {
            file: file.to_owned(),
            format: None,
            statements: 0,
            warnings: Vec::new(),
            error: None,
        };
        match read {
            Ok(document) => {
                checked.format = Some(document.format.to_string());
                checked.statements = document.statements.len();
                checked.warnings = document.warnings;
            }
            Err(error) => checked.error = Some(format!("{:#}", anyhow::Error::from(error))),
        }
        checked
    }
}

fn check(context: &Context, paths: &[PathBuf]) -> Result<Exit> {
    let paths = match paths {
        [] => vec![context.paths.vex()],
        given => given.to_vec(),
    };
    let mut reader = VexFiles::new();
    let mut checked = Vec::new();
    for path in paths {
        // The node's folder need not be there; what is named must be.
        let files = match path.is_dir() || path == context.paths.vex() {
            true => vex_files(&path)?,
            false => vec![path],
        };
        checked.extend(files.iter().map(|file| Checked::new(file, reader.read(file))));
    }
    let faults = checked.iter().filter(|checked| checked.error.is_some()).count();
    context.print.print(&checked, |out| {
        for Checked { file, format, statements, warnings, error } in &checked {
            match (error, format) {
                (Some(error), _) => write_line(out, 0, error)?,
                (None, format) => {
                    let (file, format) = (file.display(), format.as_deref().unwrap_or_default());
                    let statements = count(*statements, "statement");
                    write_line(out, 0, &format!("{file}: {format}, {statements}"))?;
                }
            }
            for warning in warnings {
                write_line(out, 2, &format!("warning: {warning}"))?;
            }
        }
        let documents = count(checked.len(), "document");
        match faults {
            0 => writeln!(out, "{documents} checked, no fault"),
            some => writeln!(out, "{documents} checked, {} cannot be used", some),
        }
    })?;
    Ok(if faults == 0 { Exit::Done } else { Exit::Failed })
}

/// What the statements do for the findings of some images.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Explanation {
    /// The event that is explained.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Event>,
    /// What must be known to read the rest.
    notes: Vec<String>,
    images: Vec<ImageSays>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ImageSays {
    image: Identity,
    /// Findings that a statement names.
    findings: Vec<FindingSays>,
    /// How many vulnerabilities no statement names.
    unnamed: usize,
    /// How many statements name no vulnerability of the image.
    others: usize,
    /// Which these are, if they are asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    other_statements: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct FindingSays {
    finding: Arc<Finding>,
    suppressed: bool,
    statements: Vec<StatementSays>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct StatementSays {
    source: String,
    status: VexStatus,
    justification: Option<String>,
    #[schemars(with = "Option<portcullis_types::TimeSchema>")]
    stated_at: Option<Timestamp>,
    /// Whether some product of it is this image or package.
    applies: bool,
    /// Whether it decides about the finding.
    counts: bool,
    /// How it applies; or why not, product by product.
    why: Vec<String>,
    /// Products of which nothing is said here.
    more_products: usize,
}

/// An image whose findings are looked at.
struct Looked {
    identity: Identity,
    findings: Vec<Arc<Finding>>,
}

fn explain(context: &Context, args: &VexExplain) -> Result<Exit> {
    let documents = portcullis_node::vex_of_node(&context.paths)?;
    let mut notes: Vec<String> = drift(context, &documents).into_iter().collect();
    // An event's id has no hyphen, and those of vulnerabilities have one.
    let (ids, events): (Vec<&String>, Vec<&String>) =
        args.about.iter().partition(|about| about.contains('-'));
    let judge = Judge::new(context, args.start.policies.as_deref())?;
    let has_start = args.start.image.is_some()
        || args.start.chain_id.is_some()
        || !args.start.manifest.is_empty()
        || !args.start.reference.is_empty();
    let mut explained = None;
    let looked = match (events.as_slice(), has_start) {
        ([], true) => {
            vec![looked(judge.of_args(context, &args.start)?, &mut notes)]
        }
        ([], false) if args.start.bundle.is_some() => {
            bail!("nothing names an image: give --image DIGEST (or --manifest, --chain-id)")
        }
        ([], false) => known(context, &ids, &mut notes)?,
        ([id], false) => {
            let event = events::decision_by_id(context, id)?;
            let start = judge.of_event(&event, args.start.now.unwrap_or(event.time));
            explained = Some(event);
            vec![looked(start, &mut notes)]
        }
        ([_], true) => bail!("give an event or an image, not both"),
        _ => bail!("give one event"),
    };
    let statements = documents.into_iter().flat_map(|document| document.statements).collect();
    let index = VexIndex::new(statements);
    let images = looked.into_iter().map(|looked| says(&index, looked, &ids, args.all)).collect();
    let explanation = Explanation { event: explained, notes, images };
    context.print.print(&explanation, |out| write(&explanation, &ids, args.all, out))?;
    Ok(Exit::Done)
}

/// What is known of a start's image.
fn looked(start: Situation, notes: &mut Vec<String>) -> Looked {
    let Situation { identity, evidence, .. } = start;
    notes.extend(evidence.failures.iter().map(|f| format!("{}: {}", f.cause, f.detail)));
    if matches!(&evidence.lookup, Lookup::Read(verdicts) if verdicts.is_empty()) {
        notes.push(
            "nothing is known about this image: scan it and run portcullis import FILE".into(),
        );
    }
    Looked { findings: Verdict::merged(evidence.verdicts()), identity }
}

/// All images of the store with a vulnerability of these ids.
fn known(context: &Context, ids: &[&String], notes: &mut Vec<String>) -> Result<Vec<Looked>> {
    let store = context.store();
    let mut found = Vec::new();
    for listed in store.list(Depth::Heads)? {
        let verdict = match store.by_config(&listed.config, Detail::Decision) {
            Ok(Some(verdict)) => verdict,
            // It was removed meanwhile.
            Ok(None) => continue,
            Err(error) => {
                notes.push(format!("{:#}", anyhow::Error::from(error)));
                continue;
            }
        };
        let findings = Verdict::merged([&verdict]);
        if findings.iter().any(|finding| is_about(finding, ids)) {
            found.push(Looked { identity: by_digest(verdict), findings });
        }
    }
    match found.is_empty() {
        true => notes.push("no image that is known has such a vulnerability".into()),
        false => notes.push(
            "images are taken by their digests as reports name them; a start is judged by what \
             the engine's record proves, also by names: give an event, or --image with --reference"
                .into(),
        ),
    }
    Ok(found)
}

/// An image as the digests of its verdict name it.
fn by_digest(verdict: Verdict) -> Identity {
    let image = verdict.image;
    let config: Option<Digest> = Some(image.config);
    let (chain_id, manifests) = (image.chain_id, image.manifests);
    Identity {
        surety: Surety::Bound,
        chain_id,
        config,
        manifests,
        names: Default::default(),
        note: None,
    }
}

fn is_about(finding: &Finding, ids: &[&String]) -> bool {
    finding.class == Class::Vulnerability && ids.iter().any(|id| finding.is_called(id))
}

/// What the statements say of an image's findings, or of those with one of some ids.
fn says(index: &VexIndex, looked: Looked, ids: &[&String], all: bool) -> ImageSays {
    let Looked { identity, findings } = looked;
    let findings = findings.into_iter().filter(|f| f.class == Class::Vulnerability);
    let findings: Vec<Arc<Finding>> = findings.collect();
    let is_named = {
        let ids = findings.iter().flat_map(|f| std::iter::once(&f.id).chain(&f.aliases));
        let ids: HashSet<String> = ids.map(|id| id.to_ascii_lowercase()).collect();
        move |statement: &&VexStatement| {
            statement.vulnerability.iter().any(|id| ids.contains(&id.to_ascii_lowercase()))
        }
    };
    let others: Vec<_> = index.statements().iter().filter(|s| !is_named(s)).collect();
    let mut explained = Vec::new();
    let mut unnamed = 0;
    for finding in findings.into_iter().filter(|f| ids.is_empty() || is_about(f, ids)) {
        let statements = statements(index, &finding, &identity, all);
        unnamed += usize::from(statements.is_empty());
        if !statements.is_empty() || !ids.is_empty() {
            let suppressed = index.judge(&finding, &identity).is_some_and(|j| j.suppresses());
            explained.push(FindingSays { finding, suppressed, statements });
        }
    }
    ImageSays {
        image: identity,
        findings: explained,
        unnamed,
        others: others.len(),
        other_statements: others.into_iter().filter(|_| all).map(listed_as).collect(),
    }
}

/// What each statement that names a finding's vulnerability says of it, the one that counts first.
fn statements(
    index: &VexIndex,
    finding: &Finding,
    identity: &Identity,
    all: bool,
) -> Vec<StatementSays> {
    let counting = index.judge(finding, identity).map(|judgement| judgement.statement);
    let mut places: HashMap<*const VexStatement, usize> = HashMap::new();
    let mut grouped: Vec<Vec<VexAnswer<'_>>> = Vec::new();
    for answer in index.explain(finding, identity) {
        let place = *places.entry(std::ptr::from_ref(answer.statement)).or_insert(grouped.len());
        if place == grouped.len() {
            grouped.push(Vec::new());
        }
        grouped[place].push(answer);
    }
    let says = |answers: &Vec<VexAnswer<'_>>| {
        let statement = answers.first()?.statement;
        let surest = answers.iter().filter_map(|answer| answer.answer.as_ref().ok()).min();
        let counts = counting.is_some_and(|counting| std::ptr::eq(counting, statement));
        let most = if all { usize::MAX } else { PRODUCTS };
        let (why, more_products) = match surest {
            Some(how) if counts => (vec![how.to_string()], 0),
            Some(how) => (vec![format!("{how}, but a later or a more cautious one counts")], 0),
            None => {
                let why_not = answers.iter().filter_map(|answer| answer.answer.as_ref().err());
                let why_not: Vec<_> = why_not.take(most).map(ToString::to_string).collect();
                let more = answers.len() - why_not.len();
                (why_not, more)
            }
        };
        Some(StatementSays {
            source: statement.source.to_string(),
            status: statement.status,
            justification: statement.justification.as_deref().map(ToOwned::to_owned),
            stated_at: statement.stated_at,
            applies: surest.is_some(),
            counts,
            why,
            more_products,
        })
    };
    let mut said: Vec<StatementSays> = grouped.iter().filter_map(says).collect();
    said.sort_by_key(|said| (!said.counts, !said.applies));
    said
}

fn write(
    explanation: &Explanation,
    ids: &[&String],
    all: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    if let Some(event) = &explanation.event {
        writeln!(out, "event {}, decided {}", event.id, event.time.strftime("%F %T UTC"))?;
    }
    for note in &explanation.notes {
        write_note(out, Some(note))?;
    }
    for image in &explanation.images {
        write_line(out, 0, &format!("image {}", image.image))?;
        if !ids.is_empty() && image.findings.is_empty() {
            writeln!(out, "  it has no such vulnerability")?;
        }
        for finding in &image.findings {
            write_finding(finding, out)?;
        }
        if ids.is_empty() {
            let unnamed = match image.unnamed {
                1 => "1 vulnerability is".to_owned(),
                more => format!("{more} vulnerabilities are"),
            };
            writeln!(out, "  {unnamed} named by no statement")?;
        }
        let hint = if all || image.others == 0 { "" } else { " (--all lists them)" };
        let name = if image.others == 1 { "names" } else { "name" };
        let others = count(image.others, "statement");
        writeln!(out, "  {others} {name} no vulnerability of this image{hint}")?;
        for other in &image.other_statements {
            write_line(out, 4, other)?;
        }
    }
    Ok(())
}

fn write_finding(says: &FindingSays, out: &mut dyn Write) -> io::Result<()> {
    let verdict = match (says.suppressed, says.statements.first()) {
        (true, _) => "suppressed",
        (false, Some(first)) if first.counts => "counts, and a statement says so",
        (false, Some(_)) => "counts: no statement applies",
        (false, None) => "counts: no statement names it",
    };
    write_line(out, 2, &format!("{} {}: {verdict}", says.finding.severity, says.finding))?;
    for statement in &says.statements {
        let mark = if statement.counts { '*' } else { '-' };
        let StatementSays { source, status, .. } = statement;
        let because =
            statement.justification.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        let since =
            statement.stated_at.map(|t| format!(", {}", t.strftime("%F"))).unwrap_or_default();
        write_line(out, 4, &format!("{mark} {source}: {status}{because}{since}"))?;
        for why in &statement.why {
            write_line(out, 8, why)?;
        }
        if statement.more_products > 0 {
            let more = count(statement.more_products, "more product");
            writeln!(out, "        and {more} (--all shows them)")?;
        }
    }
    Ok(())
}
