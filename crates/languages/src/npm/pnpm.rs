//! `pnpm-lock.yaml`, versions 5 to 9 (<https://github.com/pnpm/spec/tree/master/lockfile>).
//!
//! YAML, but written by a machine in one form: the keys of `packages` stand behind two spaces and
//! name the package and its version, their members behind four. Nothing else is read, so that no
//! reader of YAML is needed.

use super::name_and_rest;
use crate::input::{Input, text};
use crate::{Found, Kind, LanguageError};

/// Reads a lock file of pnpm.
pub(crate) fn pnpm_lock(input: &mut Input, found: &mut Found) -> Result<(), LanguageError> {
    let bytes = input.bytes(u64::MAX)?;
    let text = text(&bytes);
    let mut is_in_packages = false;
    let mut entry = Entry::default();
    for line in text.lines() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let content = line.trim_start_matches(' ');
        match line.len() - content.len() {
            0 => is_in_packages = content == "packages:",
            2 if is_in_packages => {
                entry.finish(found)?;
                entry = Entry { key: unquoted(content.trim_end_matches(':')), ..Entry::default() };
            }
            4 if is_in_packages => match content.split_once(':') {
                Some(("dev", value)) => entry.is_dev = value.trim() == "true",
                Some(("name", value)) => entry.name = Some(unquoted(value)),
                Some(("version", value)) => entry.version = Some(unquoted(value)),
                _ => {}
            },
            _ => {}
        }
    }
    entry.finish(found)
}

#[derive(Default)]
struct Entry<'a> {
    key: &'a str,
    /// Only there if the key does not tell: a tarball, a repository.
    name: Option<&'a str>,
    version: Option<&'a str>,
    is_dev: bool,
}

impl Entry<'_> {
    fn finish(&self, found: &mut Found) -> Result<(), LanguageError> {
        // A folder of the same project.
        if self.key.starts_with("file:") || self.key.contains("@file:") {
            return Ok(());
        }
        let (name, version) = named(self.key).unwrap_or_default();
        let name = self.name.unwrap_or(name);
        let version = self.version.unwrap_or(version);
        found.add_if_valid(Kind::Npm, name, version, self.is_dev)
    }
}

/// What a key names: `/a/1.0.0_peer@2.0.0` in version 5, `/a@1.0.0(peer@2.0.0)` in version 6 and
/// without the slash since version 9.
fn named(key: &str) -> Option<(&str, &str)> {
    let (path, is_old) = match key.strip_prefix('/') {
        Some(rest) => (rest, true),
        None => (key, false),
    };
    let path = path.split('(').next()?;
    let scope = if path.starts_with('@') { path.find('/')? + 1 } else { 0 };
    // A slash behind the name is of version 5: no name has one, and no version of the others.
    if is_old && path.get(scope..)?.contains('/') {
        let (name, version) = path.rsplit_once('/')?;
        return Some((name, version.split('_').next()?));
    }
    name_and_rest(path)
}

fn unquoted(text: &str) -> &str {
    text.trim().trim_matches(['\'', '"'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_packages() {
        for (key, wanted) in [
            ("/a/1.0.0", Some(("a", "1.0.0"))),
            ("/@s/a/1.0.0_b@2.0.0", Some(("@s/a", "1.0.0"))),
            ("/@s/a/1.0.0_@t+b@2.0.0", Some(("@s/a", "1.0.0"))),
            ("/a@1.0.0", Some(("a", "1.0.0"))),
            ("/a@1.0.0(@t/b@2.0.0)(c@3.0.0)", Some(("a", "1.0.0"))),
            ("/@s/a@1.0.0(b@2.0.0)", Some(("@s/a", "1.0.0"))),
            ("@s/a@1.0.0", Some(("@s/a", "1.0.0"))),
            ("a@1.0.0", Some(("a", "1.0.0"))),
            ("@s", None),
            ("", None),
            ("/", None),
        ] {
            assert_eq!(named(key), wanted, "{key}");
        }
    }
}
