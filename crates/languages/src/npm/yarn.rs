//! `yarn.lock`: of version 1, a format of its own, and since version 2 YAML of a fixed form.
//!
//! Both are written by a machine, one member a line: a key that names the ranges of a package, and
//! below it, with two spaces, `version` and, since version 2, `resolution`. More is not needed of
//! either. Format: yarnpkg/yarn `src/lockfile/`, yarnpkg/berry `packages/yarnpkg-core`.

use super::{behind_alias, name_and_rest};
use crate::input::{Input, text};
use crate::{Found, Kind, LanguageError};

/// What is in the same project, or a copy of it, and no package of a registry.
const LOCAL: [&str; 4] = ["workspace:", "link:", "portal:", "file:"];

/// Reads a lock file of Yarn.
pub(crate) fn yarn_lock(input: &mut Input, found: &mut Found) -> Result<(), LanguageError> {
    let bytes = input.bytes(u64::MAX)?;
    let text = text(&bytes);
    let mut entry = Entry::default();
    for line in text.lines() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if !line.starts_with(' ') {
            entry.finish(found)?;
            entry = Entry { key: line.trim_end_matches(':'), ..Entry::default() };
        } else if let Some(member) = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')) {
            match member_of(member) {
                Some(("version", value)) => entry.version = value,
                Some(("resolution", value)) => entry.resolution = Some(value),
                _ => {}
            }
        }
    }
    entry.finish(found)
}

#[derive(Default)]
struct Entry<'a> {
    key: &'a str,
    version: &'a str,
    resolution: Option<&'a str>,
}

impl Entry<'_> {
    fn finish(&self, found: &mut Found) -> Result<(), LanguageError> {
        match self.name() {
            Some(name) => found.add_if_valid(Kind::Npm, name, self.version, false),
            None => Ok(()),
        }
    }

    /// The name behind an alias, or `None` for what is no package of a registry.
    fn name(&self) -> Option<&str> {
        if let Some(resolution) = self.resolution {
            let (name, rest) = name_and_rest(resolution)?;
            return (!is_local(rest)).then_some(name);
        }
        // All ranges of a key are of one package: `a@^1.0.0, a@~1.1.0`, each with or without quotes.
        let (first, _) = self.key.split_once(", ").unwrap_or((self.key, ""));
        let (name, range) = name_and_rest(unquoted(first))?;
        if is_local(range) {
            return None;
        }
        Some(behind_alias(range).map_or(name, |(name, _)| name))
    }
}

fn is_local(range: &str) -> bool {
    LOCAL.iter().any(|local| range.starts_with(local))
}

/// `version "1.2.3"` of version 1, `version: 1.2.3` since version 2.
fn member_of(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(' ')?;
    Some((unquoted(name.trim_end_matches(':')), unquoted(value)))
}

fn unquoted(text: &str) -> &str {
    text.trim().trim_matches('"')
}
