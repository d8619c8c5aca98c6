//! JavaScript: installed packages, and the lock files of npm, Yarn and pnpm.
//!
//! What a lock file calls a package may be an alias; what counts is the package behind it. What is no
//! package of a registry but a folder of the same project (links, workspaces) is left out, since its
//! name says nothing about the registry's package of that name.

mod lock;
mod pnpm;
mod yarn;

use serde::de::MapAccess;

pub(crate) use lock::package_lock;
pub(crate) use pnpm::pnpm_lock;
pub(crate) use yarn::yarn_lock;

use crate::input::Input;
use crate::json::{License, Members, Object, Text, json, skip};
use crate::{Found, Kind, LanguageError, Package};

/// Most bytes of a `package.json`; early npm put the whole readme into it.
const MAX_PACKAGE: u64 = 8 << 20;

/// Reads a `package.json` (<https://docs.npmjs.com/cli/configuring-npm/package-json>).
pub(crate) fn package_json(input: &mut Input, found: &mut Found) -> Result<(), LanguageError> {
    let Object(file) = json::<Object<PackageFile>>(&input.bytes(MAX_PACKAGE)?)?;
    let license = file.license.0.as_deref().or(file.licenses.0.as_deref());
    match Package::new(Kind::Npm, file.name.as_str(), file.version.as_str()) {
        Some(package) => found.add(package.with_license(license)),
        None => Ok(()),
    }
}

#[derive(Default)]
struct PackageFile {
    name: Text,
    version: Text,
    license: License,
    licenses: License,
}

impl Members for PackageFile {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "name" => self.name = map.next_value()?,
            "version" => self.version = map.next_value()?,
            "license" => self.license = map.next_value()?,
            "licenses" => self.licenses = map.next_value()?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

/// The package behind an alias, `npm:real@1.2.3`, with what stands behind its last `@`. Without a
/// name (`npm:^1.2.3`) there is none.
fn behind_alias(text: &str) -> Option<(&str, &str)> {
    name_and_rest(text.strip_prefix("npm:")?)
}

/// Parts `name@rest`, where the name may begin with the `@` of a scope.
fn name_and_rest(text: &str) -> Option<(&str, &str)> {
    let from = usize::from(text.starts_with('@'));
    let at = text.get(from..)?.find('@')? + from;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_at_the_second_at() {
        for (text, wanted) in [
            ("a@1", Some(("a", "1"))),
            ("@s/a@1@2", Some(("@s/a", "1@2"))),
            ("@s/a", None),
            ("a", None),
            ("", None),
            ("@", None),
            ("@@", Some(("@", ""))),
            ("é@1", Some(("é", "1"))),
        ] {
            assert_eq!(name_and_rest(text), wanted, "{text}");
        }
        assert_eq!(behind_alias("npm:@s/a@1"), Some(("@s/a", "1")));
        assert_eq!(behind_alias("npm:^1.2"), None);
        assert_eq!(behind_alias("a@1"), None);
    }
}
