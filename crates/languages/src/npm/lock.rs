//! `package-lock.json` and `npm-shrinkwrap.json`
//! (<https://docs.npmjs.com/cli/configuring-npm/package-lock-json>).
//!
//! Version 1 has a tree of `dependencies`, version 3 a flat map `packages` by the folder in which
//! each is installed, version 2 both, and then the map counts.

use serde::de::{Error as _, MapAccess};

use super::behind_alias;
use crate::input::Input;
use crate::json::{Entries, Flag, License, Members, Object, Text, json, skip};
use crate::{Found, Kind, LanguageError, Package};

/// What a folder of packages is called.
const MODULES: &str = "node_modules/";

/// Most packages of a tree.
const MAX_TREE: usize = 200_000;

/// Reads a lock file of npm.
pub(crate) fn package_lock(input: &mut Input, found: &mut Found) -> Result<(), LanguageError> {
    let Object(lock) = json::<Object<Lock>>(&input.bytes(u64::MAX)?)?;
    if lock.packages.0.is_empty() {
        for node in &lock.dependencies.0 {
            // Versions that are folders, repositories or addresses are none, and are left out.
            let plain = (node.name.as_str(), node.version.as_str());
            let (name, version) = behind_alias(&node.version).unwrap_or(plain);
            found.add_if_valid(Kind::Npm, name, version, node.is_dev)?;
        }
        return Ok(());
    }
    for (folder, Object(entry)) in &lock.packages.0 {
        // What lies in no such folder is the project itself or one of its workspaces.
        let Some((_, name)) = folder.rsplit_once(MODULES) else { continue };
        if entry.is_link.0 {
            continue;
        }
        // The folder has the name of an alias, and then the member is there.
        let name = entry.name.0.as_deref().unwrap_or(name);
        if let Some(package) = Package::new(Kind::Npm, name, entry.version.as_str()) {
            let package = package.with_license(entry.license.0.as_deref());
            found.add(Package { is_dev: entry.is_dev.0, ..package })?;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Lock {
    packages: Entries<Object<Entry>>,
    dependencies: Tree,
}

impl Members for Lock {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "packages" => self.packages = map.next_value()?,
            "dependencies" => Object(self.dependencies) = map.next_value()?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

/// A package of the map.
#[derive(Default)]
struct Entry {
    name: Text,
    version: Text,
    is_dev: Flag,
    is_link: Flag,
    license: License,
}

impl Members for Entry {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "name" => self.name = map.next_value()?,
            "version" => self.version = map.next_value()?,
            "dev" => self.is_dev = map.next_value()?,
            "link" => self.is_link = map.next_value()?,
            "license" => self.license = map.next_value()?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

/// A tree of version 1, made flat. How deep it may be is bounded by the reader of JSON.
#[derive(Default)]
struct Tree(Vec<Node>);

struct Node {
    name: String,
    version: String,
    is_dev: bool,
}

/// A package of the tree, and those below it.
#[derive(Default)]
struct Branch {
    version: Text,
    is_dev: Flag,
    below: Tree,
}

impl Members for Tree {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        let Object(Branch { version, is_dev, below }) = map.next_value()?;
        if self.0.len() + below.0.len() >= MAX_TREE {
            return Err(A::Error::custom("there are too many packages"));
        }
        if let Some(version) = version.0 {
            self.0.push(Node { name: name.to_owned(), version, is_dev: is_dev.0 });
        }
        self.0.extend(below.0);
        Ok(())
    }
}

impl Members for Branch {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "version" => self.version = map.next_value()?,
            "dev" => self.is_dev = map.next_value()?,
            "dependencies" => Object(self.below) = map.next_value()?,
            _ => skip(map)?,
        }
        Ok(())
    }
}
