//! `go.mod` (<https://go.dev/ref/mod#go-mod-file>).
//!
//! The standard library is none of its modules: the file names the oldest version of Go that will
//! do, not the one that built anything (trivy#7111).

use std::collections::HashMap;

use crate::input::{Input, text};
use crate::{Found, Kind, LanguageError};

/// Modules of Go's own source, with copies of what they require.
const OF_GO: [&str; 2] = ["std", "cmd"];

/// Reads the modules that a module requires.
pub(crate) fn module_file(input: &mut Input, found: &mut Found) -> Result<(), LanguageError> {
    let bytes = input.bytes(u64::MAX)?;
    let text = text(&bytes);
    let mut required = Vec::new();
    let mut replaced = HashMap::new();
    let mut block = None;
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default();
        let mut words: Vec<&str> =
            line.split_whitespace().take(8).map(|word| word.trim_matches(['"', '`'])).collect();
        let verb = match (block, words.as_slice()) {
            (_, []) => continue,
            (Some(_), [")"]) => {
                block = None;
                continue;
            }
            (Some(verb), _) => verb,
            (None, [verb, "("]) => {
                block = Some(*verb);
                continue;
            }
            (None, _) => words.remove(0),
        };
        match (verb, words.as_slice()) {
            ("module", [path]) if OF_GO.contains(path) => return Ok(()),
            ("require", [path, version]) => required.push((*path, *version)),
            ("replace", [path, "=>", new @ ..]) => {
                drop(replaced.insert((*path, None), new.to_vec()))
            }
            ("replace", [path, version, "=>", new @ ..]) => {
                replaced.insert((*path, Some(*version)), new.to_vec());
            }
            _ => {}
        }
    }
    for (path, version) in required {
        let of_version = replaced.get(&(path, Some(version)));
        match of_version.or_else(|| replaced.get(&(path, None))).map(Vec::as_slice) {
            None => found.add_if_valid(Kind::Go, path, version, false)?,
            Some([path, version]) => found.add_if_valid(Kind::Go, path, version, false)?,
            // By a folder, and what is in it is not known.
            Some(_) => {}
        }
    }
    Ok(())
}
