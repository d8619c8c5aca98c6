//! PHP: `composer.lock`, and `vendor/composer/installed.json` for what is installed
//! (<https://getcomposer.org/doc/04-schema.md>).
//!
//! Packages of a branch (`dev-main`) have no version that could be compared and are left out.

use std::collections::HashSet;

use serde::de::MapAccess;

use crate::input::Input;
use crate::json::{License, List, Members, Object, Text, json, skip};
use crate::{Found, Kind, LanguageError, Package};

/// Reads a lock file of Composer.
pub(crate) fn composer_lock(input: &mut Input, found: &mut Found) -> Result<(), LanguageError> {
    let Object(lock) = json::<Object<File>>(&input.bytes(u64::MAX)?)?;
    add(&lock.packages, |_| false, found)?;
    add(&lock.dev_packages, |_| true, found)
}

/// Reads what Composer has installed: since version 2 an object, before that the list alone.
pub(crate) fn composer_installed(
    input: &mut Input,
    found: &mut Found,
) -> Result<(), LanguageError> {
    let bytes = input.bytes(u64::MAX)?;
    let first = crate::input::without_mark(&bytes).iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'[') {
        return add(&json(&bytes)?, |_| false, found);
    }
    let Object(file) = json::<Object<File>>(&bytes)?;
    let dev: HashSet<_> = file.dev_names.0.iter().map(Text::as_str).collect();
    add(&file.packages, |name| dev.contains(name), found)
}

fn add(
    List(packages): &List<Object<Entry>>,
    is_dev: impl Fn(&str) -> bool,
    found: &mut Found,
) -> Result<(), LanguageError> {
    for Object(entry) in packages {
        let name = entry.name.as_str();
        if let Some(package) = Package::new(Kind::Packagist, name, entry.version.as_str()) {
            let package = package.with_license(entry.license.0.as_deref());
            found.add(Package { is_dev: is_dev(name), ..package })?;
        }
    }
    Ok(())
}

#[derive(Default)]
struct File {
    packages: List<Object<Entry>>,
    dev_packages: List<Object<Entry>>,
    dev_names: List<Text>,
}

impl Members for File {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "packages" => self.packages = map.next_value()?,
            "packages-dev" => self.dev_packages = map.next_value()?,
            "dev-package-names" => self.dev_names = map.next_value()?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct Entry {
    name: Text,
    version: Text,
    license: License,
}

impl Members for Entry {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "name" => self.name = map.next_value()?,
            "version" => self.version = map.next_value()?,
            "license" => self.license = map.next_value()?,
            _ => skip(map)?,
        }
        Ok(())
    }
}
