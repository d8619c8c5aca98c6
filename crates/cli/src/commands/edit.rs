//! Edits of policy files that leave everything else in them as it is: comments, order, line ends.
//!
//! The places come from the YAML parser. What is written in an unusual way is not edited; whoever
//! asks for an edit must read the new text again and compare what it means.

use std::fmt;
use std::fs::{File, Metadata, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use granit_parser::{Event, Parser, StructureStyle};
use portcullis_policy::yaml;
use portcullis_settings::trusted;

/// An entry of a whitelist, to be written.
#[derive(Debug, Clone)]
pub(super) struct Entry<'a> {
    pub(super) image: &'a str,
    pub(super) malware: bool,
    pub(super) workload: bool,
    /// Stands behind the entry, on one line.
    pub(super) comment: &'a str,
}

/// A text with lines put in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Edited {
    pub(super) text: String,
    /// Number of the first new line, from 1.
    pub(super) line: usize,
    pub(super) added: Vec<String>,
}

/// Why a text is not edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unusual {
    /// It is not YAML, or has ends of lines that are not `\n` or `\r\n`.
    Unreadable,
    /// The policy is not in it, or its fields are not where they are looked for.
    NotFound,
    /// The spec is written as `{ … }`.
    FlowSpec,
    /// The whitelist is written as `[ … ]`.
    FlowList,
    /// Something stands before the place on its line.
    SharedLine,
}

impl fmt::Display for Unusual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "it has lines that are ended in an unusual way",
            Self::NotFound => "the policy's spec is not where it was looked for",
            Self::FlowSpec => "the policy's spec is written in { }",
            Self::FlowList => "the policy's whitelist is written in [ ]",
            Self::SharedLine => "the policy's lines are written in an unusual way",
        })
    }
}

impl Entry<'_> {
    /// Its lines, with this much before each.
    fn lines(&self, indent: usize) -> Vec<String> {
        let indent = " ".repeat(indent);
        // A host may be an IPv6 address in brackets, which would begin a list.
        let image = match self.image.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            true => self.image.to_owned(),
            false => format!("'{}'", self.image),
        };
        let comment = match self.comment {
            "" => String::new(),
            comment => format!("  # {comment}"),
        };
        let mut lines = vec![format!("{indent}- image: {image}{comment}")];
        for (name, set) in [("malware", self.malware), ("workload", self.workload)] {
            if set {
                lines.push(format!("{indent}  {name}: true"));
            }
        }
        lines
    }

    /// As somebody would write it into a document that is not edited for them.
    pub(super) fn snippet(&self) -> String {
        let lines = self.lines(4).join("\n");
        format!("spec:\n  whitelist:\n{lines}\n")
    }
}

/// Puts an entry at the end of a policy's whitelist, or a whitelist of it at the end of its spec.
///
/// The text must have been read without faults by [`yaml::read`], which bounds it.
pub(super) fn add_to_whitelist(
    text: &str,
    policy: &str,
    entry: &Entry<'_>,
) -> Result<Edited, Unusual> {
    if text.replace("\r\n", "").contains('\r') {
        return Err(Unusual::Unreadable);
    }
    let documents = documents(text).ok_or(Unusual::Unreadable)?;
    let document = documents.iter().find(|document| {
        let name = document.get("metadata").and_then(|metadata| metadata.get("name"));
        name.is_some_and(|name| matches!(&name.value, Value::Scalar(text) if text == policy))
    });
    let spec = document.and_then(|document| document.get("spec")).ok_or(Unusual::NotFound)?;
    let Value::Map { block, entries } = &spec.value else { return Err(Unusual::NotFound) };
    if !block {
        return Err(Unusual::FlowSpec);
    }
    let Some(whitelist) = spec.get("whitelist") else {
        let first = entries.first().ok_or(Unusual::NotFound)?;
        let indent = indent(text, first.0.start)?;
        let mut lines = vec![format!("{}whitelist:", " ".repeat(indent))];
        lines.extend(entry.lines(indent + step(text, indent, entries)));
        return Ok(put_in(text, spec.end, first.0.start, lines));
    };
    match &whitelist.value {
        Value::List { block: true, items } if !items.is_empty() => {
            let lines = entry.lines(indent(text, dash(text, whitelist.start, items)?)?);
            Ok(put_in(text, whitelist.end, whitelist.start, lines))
        }
        _ => Err(Unusual::FlowList),
    }
}

/// How far the spec's own lists stand behind their keys; two where there is none.
fn step(text: &str, fields: usize, entries: &[(Node, Node)]) -> usize {
    let step = entries.iter().find_map(|(_, value)| match &value.value {
        Value::List { block: true, items } => {
            indent(text, dash(text, value.start, items).ok()?).ok()?.checked_sub(fields)
        }
        _ => None,
    });
    step.unwrap_or(2)
}

/// Where the first dash of a list stands. A list that is not indented begins behind it for the
/// parser.
fn dash(text: &str, start: usize, items: &[Node]) -> Result<usize, Unusual> {
    if text[start..].starts_with('-') {
        return Ok(start);
    }
    let first = items.first().ok_or(Unusual::SharedLine)?;
    let before = text[..first.start].trim_end_matches(' ');
    match before.ends_with('-') {
        true => Ok(before.len() - 1),
        false => Err(Unusual::SharedLine),
    }
}

/// How many spaces stand before a place, which must be the first thing on its line.
fn indent(text: &str, at: usize) -> Result<usize, Unusual> {
    let before = text.get(..at).ok_or(Unusual::SharedLine)?;
    let before = &before[before.rfind('\n').map_or(0, |end| end + 1)..];
    match before.bytes().all(|b| b == b' ') {
        true => Ok(before.len()),
        false => Err(Unusual::SharedLine),
    }
}

/// Puts lines in behind the line on which `end` is, with the end of line that stands before `like`.
fn put_in(text: &str, end: usize, like: usize, added: Vec<String>) -> Edited {
    let newline = match text[..like].rfind('\n') {
        Some(at) if text[..at].ends_with('\r') => "\r\n",
        _ => "\n",
    };
    let at = text[end..].find('\n').map_or(text.len(), |newline| end + newline + 1);
    let (before, after) = text.split_at(at);
    let joined = added.join(newline);
    let line = before.matches('\n').count() + 1;
    if before.is_empty() || before.ends_with('\n') {
        Edited { text: format!("{before}{joined}{newline}{after}"), line, added }
    } else {
        // The last line of the file has no end, and the new last one gets none.
        Edited { text: format!("{before}{newline}{joined}"), line: line + 1, added }
    }
}

/// A value of a document, with the bytes at which it begins and ends.
struct Node {
    start: usize,
    end: usize,
    value: Value,
}

enum Value {
    Scalar(String),
    List { block: bool, items: Vec<Node> },
    Map { block: bool, entries: Vec<(Node, Node)> },
}

impl Node {
    fn get(&self, key: &str) -> Option<&Self> {
        let Value::Map { entries, .. } = &self.value else { return None };
        entries
            .iter()
            .find(|(name, _)| matches!(&name.value, Value::Scalar(text) if text == key))
            .map(|(_, value)| value)
    }
}

/// A collection whose end has not come.
struct Open {
    start: usize,
    block: bool,
    map: bool,
    nodes: Vec<Node>,
}

impl Open {
    /// The end of a block collection is known only by what follows, so its last node's counts.
    fn close(self, end: usize) -> Node {
        let Self { start, block, map, nodes } = self;
        let end = match block {
            true => nodes.iter().map(|node| node.end).max().unwrap_or(start),
            false => end,
        };
        let value = if map {
            let mut entries = Vec::new();
            let mut nodes = nodes.into_iter();
            while let (Some(key), Some(value)) = (nodes.next(), nodes.next()) {
                entries.push((key, value));
            }
            Value::Map { block, entries }
        } else {
            Value::List { block, items: nodes }
        };
        Node { start, end, value }
    }
}

/// The documents of a text. `None`: it is not YAML.
fn documents(text: &str) -> Option<Vec<Node>> {
    let mut documents = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.ok()?;
        let range = span.byte_range()?;
        // For the parser, a block of text ends where the next value begins.
        let end = range.start + text.get(range.clone())?.trim_end().len();
        let begun = |style, map| {
            let block = style == StructureStyle::Block;
            Open { start: range.start, block, map, nodes: Vec::new() }
        };
        let node = match event {
            Event::Scalar(text, ..) => {
                let value = Value::Scalar(text.into_owned());
                Node { start: range.start, end, value }
            }
            Event::SequenceStart(style, ..) => {
                open.push(begun(style, false));
                continue;
            }
            Event::MappingStart(style, ..) => {
                open.push(begun(style, true));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => open.pop()?.close(range.end),
            _ => continue,
        };
        match open.last_mut() {
            Some(collection) => collection.nodes.push(node),
            None => documents.push(node),
        }
    }
    Some(documents)
}

/// Puts a new text in the place of a policy file, whole or not at all, with the mode and the owner
/// that it has. The caller holds the lock of the folder, so that nobody else writes.
///
/// # Errors
/// If the file is a link, is not to be trusted, does not hold `old`, or cannot be written. It is
/// then as it was.
pub(super) fn replace(path: &Path, old: &[u8], new: &[u8]) -> Result<()> {
    let metadata = path
        .symlink_metadata()
        .with_context(|| format!("cannot read the policy file {}", path.display()))?;
    if metadata.is_symlink() {
        bail!("{} is a link: change the file that it names", path.display());
    }
    let found = trusted::read(path, yaml::MAX_FILE_BYTES as u64).context("a policy file")?;
    if found != old {
        bail!("{} was changed by somebody else meanwhile: try again", path.display());
    }
    write(path, &metadata, new).with_context(|| format!("cannot write {}", path.display()))
}

fn write(path: &Path, like: &Metadata, content: &[u8]) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // The dot keeps readers of the folder from taking it for a policy file.
    let temporary = folder.join(format!(".{}.new", name.display()));
    let written = (|| {
        // A leftover of a killed writer must not be followed or kept.
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        let made = file.metadata()?;
        if (made.uid(), made.gid()) != (like.uid(), like.gid()) {
            std::os::unix::fs::fchown(&file, Some(like.uid()), Some(like.gid()))?;
        }
        file.set_permissions(Permissions::from_mode(like.mode() & 0o7777))?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    })();
    written.inspect_err(|_| {
        let _first_error_counts = std::fs::remove_file(&temporary);
    })
}

#[cfg(test)]
mod tests;
