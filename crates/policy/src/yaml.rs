//! Policies as people write them: YAML, several documents to a file.
//!
//! All faults of all files come back together, each with file, line, path and remedy. What cannot
//! be read is never read past: unknown fields, fields of a later version, doubled keys, anchors,
//! aliases and tags are faults.

mod policy;
mod reader;
mod tree;

use std::collections::BTreeMap;

use crate::fault::shown;
use crate::{Fault, Place, ProtectionPolicy};

/// Longest file that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// A file that was read by the caller.
#[derive(Debug, Clone, Copy)]
pub struct SourceFile<'a> {
    /// Its name, as faults show it.
    pub name: &'a str,
    /// What it holds.
    pub bytes: &'a [u8],
}

/// Reads the documents of all files together, in order. A file without documents is fine.
pub fn read(files: &[SourceFile<'_>]) -> Result<Vec<ProtectionPolicy>, Vec<Fault>> {
    let mut policies = Vec::new();
    let mut faults = Vec::new();
    let mut places: BTreeMap<String, Place> = BTreeMap::new();
    for file in files {
        let mut faults_here = Vec::new();
        for written in documents(file, &mut faults_here) {
            if let Some((name, place)) = written.name {
                match places.get(&name) {
                    Some(first) => faults_here.push(Fault {
                        message: format!("another policy is named \"{}\"", shown(&name)),
                        remedy: format!("it stands at {first}, give each policy its own name"),
                        path: "metadata.name".to_owned(),
                        policy: Some(name),
                        place: Some(place),
                    }),
                    None => {
                        places.insert(name, place);
                    }
                }
            }
            policies.extend(written.policy);
        }
        faults_here.sort_by(|a, b| (&a.place, &a.path).cmp(&(&b.place, &b.path)));
        faults.append(&mut faults_here);
    }
    if faults.is_empty() { Ok(policies) } else { Err(faults) }
}

/// One document, as far as it could be read.
struct Written {
    policy: Option<ProtectionPolicy>,
    name: Option<(String, Place)>,
}

fn documents(file: &SourceFile<'_>, faults: &mut Vec<Fault>) -> Vec<Written> {
    let place =
        |at: tree::Position| Place { file: file.name.to_owned(), line: at.line, column: at.column };
    let mut whole = |at: tree::Position, message: String, remedy: &str| {
        faults.push(Fault {
            place: Some(place(at)),
            policy: None,
            path: String::new(),
            message,
            remedy: remedy.to_owned(),
        });
    };
    if file.bytes.len() > MAX_FILE_BYTES {
        let remedy = "a policy file has at most 1 MiB";
        whole(tree::Position::START, format!("the file has {} bytes", file.bytes.len()), remedy);
        return Vec::new();
    }
    let text = match std::str::from_utf8(file.bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = &file.bytes[..error.valid_up_to()];
            let line = 1 + good.iter().filter(|b| **b == b'\n').count();
            let at = tree::Position { line, column: 1 };
            whole(at, "the file is not UTF-8".to_owned(), "save it as UTF-8");
            return Vec::new();
        }
    };
    let roots = tree::documents(text, &mut whole);
    roots
        .iter()
        .map(|root| {
            let mut reader = reader::Reader::new(file.name, root, faults);
            let policy = policy::read(&mut reader, root);
            let name = reader.name().map(|(name, at)| (name, place(at)));
            Written { policy, name }
        })
        .collect()
}
