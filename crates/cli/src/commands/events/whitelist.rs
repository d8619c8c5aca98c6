//! `portcullis events whitelist`: the image of an event onto the whitelist of the policies that
//! blocked it, by editing their files and putting them into force.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use portcullis_gate::published;
use portcullis_node::{PoliciesLock, is_remote_policy};
use portcullis_policy::document::WhitelistEntry;
use portcullis_policy::yaml::{self, SourceFile};
use portcullis_policy::{Fault, ImagePattern, PolicySet, ProtectionPolicy};
use portcullis_settings::trusted;
use portcullis_types::{Action, Event, EventId, EventKind, Status, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use super::super::edit::{self, Edited, Entry};
use super::super::situation::Judge;
use super::decision_by_id;
use super::mark::{self, Marked};
use crate::args::Whitelist;
use crate::context::Context;
use crate::exit::Exit;
use crate::render::{plain, wrapped};

/// Lines shown before and after what is put in.
const AROUND: usize = 2;

/// What was done, or would be.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Whitelisted {
    event: EventId,
    /// The entry's image.
    image: String,
    malware: bool,
    workload: bool,
    /// The lines that are put into policy files.
    changes: Vec<Change>,
    /// Policies that have such an entry already.
    already: Vec<String>,
    /// What the same start would be now, decided by the policies with the entry.
    would_be: Action,
    /// Why.
    would_say: String,
    /// The files were changed and are in force; false if nothing had to be changed, or for a dry
    /// run.
    applied: bool,
    /// The policies with the entry.
    policy_set: String,
    /// Absent for a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    marked: Option<Marked>,
}

/// Lines put into one policy.
#[derive(Serialize, JsonSchema)]
struct Change {
    policy: String,
    file: PathBuf,
    /// Number of the first new line, from 1.
    line: usize,
    added: Vec<String>,
    /// The new text around it.
    #[serde(skip)]
    around: Vec<(usize, String)>,
}

/// A policy file as it is and as it will be.
struct Source {
    path: PathBuf,
    old: Vec<u8>,
    new: Vec<u8>,
    /// Names of its policies.
    policies: Vec<String>,
}

/// The edits of all policies, not written yet.
struct Plan {
    sources: Vec<Source>,
    changes: Vec<Change>,
    already: Vec<String>,
    set: PolicySet,
}

pub(super) fn run(context: &Context, args: &Whitelist) -> Result<Exit> {
    let event = decision_by_id(context, &args.id)?;
    if event.kind != EventKind::Decision {
        bail!("event {} is no decision but of the kind {}", event.id, event.kind);
    }
    let entry =
        WhitelistEntry { image: image(&event)?, malware: args.malware, workload: args.workload };
    let policies = policies(&event, &args.policy)?;
    let lock = portcullis_node::lock(&context.paths)?;
    let plan = plan(context, &event, &entry, &policies)?;
    let (would_be, would_say) = judged(context, &event, plan.set.clone())?;
    let mut done = Whitelisted {
        event: event.id.clone(),
        image: entry.image.to_string(),
        malware: entry.malware,
        workload: entry.workload,
        changes: plan.changes,
        already: plan.already,
        would_be,
        would_say,
        applied: false,
        policy_set: plan.set.digest().to_string(),
        marked: None,
    };
    if args.dry_run {
        context.print.print(&done, |out| {
            done.write(out)?;
            writeln!(out, "nothing is changed: --dry-run")
        })?;
        return Ok(Exit::Done);
    }
    if !done.changes.is_empty() {
        if !args.yes && !asked(&done)? {
            bail!("nothing is changed");
        }
        let set = carry_out(context, &plan.sources, &lock)?;
        done.policy_set = set.digest().to_string();
        done.applied = true;
    }
    let marked = mark::append(context, &event, Status::Whitelisted, args.note.clone());
    done.marked = Some(marked.with_context(|| match done.applied {
        true => "the entry is in force",
        false => "nothing is changed",
    })?);
    context.print.print(&done, |out| {
        if args.yes || !done.applied {
            done.write(out)?;
        }
        if done.applied {
            writeln!(out, "in force: {}", done.policy_set)?;
        }
        writeln!(out, "event {}: {}", done.event, Status::Whitelisted)
    })?;
    Ok(Exit::Done)
}

/// The image by its digest, so that no name that can be moved decides.
fn image(event: &Event) -> Result<ImagePattern> {
    let id = &event.id;
    let image = &event.image;
    if !image.is_bound() {
        let note = image.note.as_ref().map(|note| format!(" ({})", plain(note)));
        bail!(
            "the image of event {id} is {}, not bound{}: an entry by digest would not match it. \
             See portcullis explain {id}; an entry by name must be written into the policy by hand",
            image.surety,
            note.unwrap_or_default()
        );
    }
    let Some(config) = &image.config else {
        bail!(
            "the image of event {id} has no digest of its own: several images have the same layers. \
             Remove those that are not used, so that the engine knows which one it is, or write an \
             entry by name into the policy by hand"
        );
    };
    let asked = image.names.iter().find(|name| name.held && name.asked);
    let name = asked.map(|name| &name.reference).or_else(|| image.held_names().next());
    // The name is for people: the digest alone counts. The longest one that fits is taken.
    let full = name.and_then(|name| Some(format!("{}:{}", name.repository(), name.tag()?)));
    let names = [full, name.map(|name| name.repository()), Some("unnamed".to_owned())];
    let mut patterns = names.into_iter().flatten().map(|name| format!("{name}@{config}").parse());
    let fits = |pattern: &ImagePattern| pattern.digest() == Some(config);
    patterns
        .find_map(|pattern| pattern.ok().filter(fits))
        .ok_or_else(|| anyhow!("{config} cannot be written as an entry"))
}

/// Which policies to change.
fn policies(event: &Event, chosen: &[String]) -> Result<Vec<String>> {
    let mut names = match chosen {
        [] => {
            let id = &event.id;
            if event.action == Action::Allow {
                bail!(
                    "event {id} was allowed, so there is no policy to change: name one with --policy"
                );
            }
            if event.policies.is_empty() {
                bail!(
                    "event {id} was answered by the node's settings and by no policy, and they have \
                     no whitelist: see portcullis explain {id}"
                );
            }
            event.policies.clone()
        }
        chosen => chosen.to_vec(),
    };
    names.sort();
    names.dedup();
    Ok(names)
}

/// Reads the policy files, and plans the entry for each of the policies.
fn plan(
    context: &Context,
    event: &Event,
    entry: &WhitelistEntry,
    policies: &[String],
) -> Result<Plan> {
    let mut sources = read_sources(context)?;
    let mut documents = documents(&sources, |source| &source.old)?;
    check_in_force(context, &documents)?;
    let written = Entry {
        image: entry.image.as_str(),
        malware: entry.malware,
        workload: entry.workload,
        comment: &comment(event),
    };
    let (mut changes, mut already) = (Vec::new(), Vec::new());
    for policy in policies {
        let Some(document) = documents.iter_mut().find(|d| d.metadata.name == *policy) else {
            bail!("no policy file has a policy \"{}\": see portcullis policy list", plain(policy));
        };
        let whitelist = &mut document.spec.whitelist;
        if whitelist.iter().any(|known| covers(known, entry, event)) {
            already.push(policy.clone());
            continue;
        }
        let is_first = whitelist.is_empty();
        whitelist.push(entry.clone());
        let Some(source) = sources.iter_mut().find(|source| source.policies.contains(policy))
        else {
            bail!("no policy file has the policy {policy}");
        };
        if is_remote_policy(&source.path) {
            return Err(in_the_cluster(&source.path, policy, entry, is_first, &written));
        }
        let by_hand = |why: &str| {
            anyhow!(
                "{} is not changed: {why}. Add this to the policy {policy} by hand, and run \
                 portcullis policy apply:\n\n{}",
                source.path.display(),
                written.snippet()
            )
        };
        let text = std::str::from_utf8(&source.new).map_err(|_| by_hand("it is not UTF-8"))?;
        let edited = edit::add_to_whitelist(text, policy, &written)
            .map_err(|why| by_hand(&why.to_string()))?;
        let alone = SourceFile { name: "", bytes: edited.text.as_bytes() };
        let is_meant = |read: &[ProtectionPolicy]| {
            read.iter().all(|new| documents_have(policies, policy, &documents, new))
        };
        if !yaml::read(&[alone]).is_ok_and(|read| is_meant(&read)) {
            return Err(by_hand("the entry would change what else stands there"));
        }
        changes.push(Change::new(policy, source, &edited));
        source.new = edited.text.into_bytes();
    }
    let new = self::documents(&sources, |source| &source.new)?;
    if new != documents {
        bail!("the policy files are not changed: they would say something else than is meant");
    }
    let set = PolicySet::compile(new).map_err(|faults| faulty(&faults))?;
    Ok(Plan { sources, changes, already, set })
}

/// Refuses to change a file that the agent writes, and says how the cluster's policy is changed.
fn in_the_cluster(
    file: &Path,
    policy: &str,
    entry: &WhitelistEntry,
    is_first: bool,
    written: &Entry<'_>,
) -> anyhow::Error {
    let file = file.display();
    let snippet = written.snippet();
    let mut by_hand = format!(
        "nothing is changed: {file} is written by portcullisd, which puts back what the cluster says. \
         Change the cluster's policy with kubectl edit protectionpolicy {policy}, so that it has this:\
         \n\n{snippet}"
    );
    // What only appends takes nothing away that the cluster's policy has by now.
    if !is_first && let Ok(value) = serde_json::to_string(entry) {
        by_hand.push_str(&format!(
            "\nor at once with\n\nkubectl patch protectionpolicy {policy} --type=json -p \
             '[{{\"op\":\"add\",\"path\":\"/spec/whitelist/-\",\"value\":{value}}}]'\n"
        ));
    }
    by_hand.push_str(
        "\nThe agents put it into force on all nodes; the same command then marks the event.",
    );
    anyhow!(by_hand)
}

/// Whether a document that was read is the one that is meant. One that a later edit is still to
/// change is compared then.
fn documents_have(
    policies: &[String],
    edited: &str,
    meant: &[ProtectionPolicy],
    read: &ProtectionPolicy,
) -> bool {
    let name = &read.metadata.name;
    let later = name != edited && policies.contains(name);
    later || meant.contains(read)
}

/// Whether an entry does all that is wanted of the new one.
fn covers(known: &WhitelistEntry, wanted: &WhitelistEntry, event: &Event) -> bool {
    known.image.digest().is_some_and(|digest| event.image.proves(digest))
        && (known.malware || !wanted.malware)
        && (known.workload || !wanted.workload)
}

/// Tells whoever reads the file where the entry is from.
fn comment(event: &Event) -> String {
    match event.id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        true => format!("event {}", event.id),
        false => String::new(),
    }
}

fn read_sources(context: &Context) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in portcullis_node::yaml_files(&context.policy_folder())? {
        let old = trusted::read(&path, yaml::MAX_FILE_BYTES as u64).context("a policy file")?;
        sources.push(Source { path, new: old.clone(), old, policies: Vec::new() });
    }
    // Faults are told of all files together, so the names of each are read after that.
    documents(&sources, |source| &source.old)?;
    for source in &mut sources {
        let file = SourceFile { name: "", bytes: &source.old };
        let policies = yaml::read(&[file]).map_err(|faults| faulty(&faults))?;
        source.policies = policies.into_iter().map(|policy| policy.metadata.name).collect();
    }
    Ok(sources)
}

fn documents(
    sources: &[Source],
    bytes: impl Fn(&Source) -> &Vec<u8>,
) -> Result<Vec<ProtectionPolicy>> {
    let names: Vec<String> = sources.iter().map(|s| s.path.display().to_string()).collect();
    let files: Vec<SourceFile<'_>> = sources
        .iter()
        .zip(&names)
        .map(|(source, name)| SourceFile { name, bytes: bytes(source) })
        .collect();
    yaml::read(&files).map_err(|faults| faulty(&faults))
}

fn faulty(faults: &[Fault]) -> anyhow::Error {
    let all: Vec<String> = faults.iter().map(ToString::to_string).collect();
    anyhow!("nothing is changed: the policy files have faults:\n{}", all.join("\n"))
}

/// Refuses to put into force what somebody else has begun to write.
fn check_in_force(context: &Context, documents: &[ProtectionPolicy]) -> Result<()> {
    let in_force = published::load(&context.paths.published())?;
    let files = PolicySet::compile(documents.to_vec()).map_err(|faults| faulty(&faults))?;
    if !files.policies().eq(in_force.policies()) {
        bail!(
            "the policy files differ from the set in force: look at them, and run portcullis policy \
             apply first"
        );
    }
    Ok(())
}

/// What the same start would be now.
fn judged(context: &Context, event: &Event, set: PolicySet) -> Result<(Action, String)> {
    let mut judge = Judge::new(context, None)?;
    let vex = judge.set.map(|in_force| in_force.vex().statements().to_vec()).unwrap_or_default();
    judge.set = Some(set.with_vex(vex));
    let start = judge.of_event(event, Timestamp::now());
    let decision = judge.decide(&start);
    let line = portcullis_policy::refusal(&decision, &start.identity, "-");
    let line = line.strip_prefix("portcullis: ").unwrap_or(&line);
    let line = line.rsplit_once("; see: ").map_or(line, |(line, _)| line);
    Ok((decision.action, line.to_owned()))
}

/// Shows what is going to be done, and asks.
#[expect(clippy::print_stderr, reason = "talk beside the data")]
fn asked(done: &Whitelisted) -> Result<bool> {
    let mut shown = io::stderr().lock();
    done.write(&mut shown)?;
    drop(shown);
    if !io::stdin().is_terminal() {
        bail!("nothing is changed: give --yes where nobody can be asked");
    }
    eprint!("Change the files and put them into force? [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Writes the files and puts them into force; if anything fails, all files are put back.
fn carry_out(context: &Context, sources: &[Source], lock: &PoliciesLock) -> Result<PolicySet> {
    let mut written = Vec::new();
    let mut write = || {
        for source in sources.iter().filter(|source| source.new != source.old) {
            edit::replace(&source.path, &source.old, &source.new)?;
            written.push(source);
        }
        portcullis_node::publish(&context.paths, lock)?.compiled.map_err(|faults| faulty(&faults))
    };
    write().map_err(|error| {
        let back = written.iter().rev().map(|s| edit::replace(&s.path, &s.new, &s.old));
        let failed: Vec<String> =
            back.filter_map(|back| Some(format!("{:#}", back.err()?))).collect();
        match failed.as_slice() {
            [] => error.context("nothing is changed"),
            some => error.context(format!("and not all files are put back: {}", some.join("; "))),
        }
    })
}

impl Change {
    fn new(policy: &str, source: &Source, edited: &Edited) -> Self {
        let last = edited.line + edited.added.len();
        let around = edited
            .text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line.to_owned()))
            .skip(edited.line.saturating_sub(1 + AROUND))
            .take_while(|(number, _)| *number < last + AROUND)
            .collect();
        Self {
            policy: policy.to_owned(),
            file: source.path.clone(),
            line: edited.line,
            added: edited.added.clone(),
            around,
        }
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let place = format!("{} (policy {}):", self.file.display(), self.policy);
        writeln!(out, "{}", wrapped(&place, 2))?;
        let new = self.line..self.line + self.added.len();
        for (number, line) in &self.around {
            let sign = if new.contains(number) { '+' } else { ' ' };
            writeln!(out, "{number:6} {sign} {}", plain(line))?;
        }
        writeln!(out)
    }
}

impl Whitelisted {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        self.changes.iter().try_for_each(|change| change.write(out))?;
        for policy in &self.already {
            writeln!(out, "policy {policy} has such an entry already")?;
        }
        let line = format!("with it, the same start is: {}", self.would_say);
        writeln!(out, "{}", wrapped(&line, 2))
    }
}
