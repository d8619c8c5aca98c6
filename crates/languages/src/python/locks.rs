//! Lock files: `poetry.lock`, `pdm.lock`, `uv.lock`, `pylock.toml` (PEP 751) and `Pipfile.lock`.
//!
//! The first three are lists `package` of tables with `name` and `version`, the fourth calls it
//! `packages`. What is the project itself or a folder beside it is left out: its name says nothing
//! about PyPI's package of that name.

use serde::de::MapAccess;

use crate::input::Input;
use crate::json::{Entries, Flag, List, MAX_TOML, Members, Object, Text, json, skip, toml};
use crate::{Found, Kind, LanguageError};

/// Reads a lock file in TOML.
pub(crate) fn toml_lock(input: &mut Input, found: &mut Found) -> Result<(), LanguageError> {
    let Object(lock) = toml::<Object<Lock>>(&input.bytes(MAX_TOML)?)?;
    for Object(entry) in &lock.packages.0 {
        if !entry.is_local() {
            let version = entry.version.as_str();
            found.add_if_valid(Kind::PyPi, entry.name.as_str(), version, entry.is_dev())?;
        }
    }
    Ok(())
}

/// Reads a `Pipfile.lock`, where versions are written `==1.2.3`.
pub(crate) fn pipfile_lock(input: &mut Input, found: &mut Found) -> Result<(), LanguageError> {
    let Object(lock) = json::<Object<Pipfile>>(&input.bytes(u64::MAX)?)?;
    for (is_dev, group) in [(false, &lock.default), (true, &lock.develop)] {
        for (name, Object(Pinned { version })) in &group.0 {
            if let Some(version) = version.as_str().strip_prefix("==") {
                found.add_if_valid(Kind::PyPi, name, version, is_dev)?;
            }
        }
    }
    Ok(())
}

#[derive(Default)]
struct Lock {
    packages: List<Object<Entry>>,
}

impl Members for Lock {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "package" | "packages" => self.packages = map.next_value()?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct Entry {
    name: Text,
    version: Text,
    /// Before Poetry 1.5.
    category: Text,
    /// PDM, and since Poetry 2.
    groups: List<Text>,
    source: Source,
    is_editable: Flag,
    /// A folder, in `pdm.lock` and `pylock.toml`.
    has_folder: bool,
}

impl Entry {
    fn is_local(&self) -> bool {
        self.source.is_local || self.is_editable.0 || self.has_folder
    }

    fn is_dev(&self) -> bool {
        let is_main = |group: &Text| matches!(group.as_str(), "main" | "default");
        let groups = &self.groups.0;
        self.category.as_str() == "dev"
            || (groups.iter().any(|group| group.as_str() == "dev") && !groups.iter().any(is_main))
    }
}

impl Members for Entry {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "name" => self.name = map.next_value()?,
            "version" => self.version = map.next_value()?,
            "category" => self.category = map.next_value()?,
            "groups" => self.groups = map.next_value()?,
            "source" => Object(self.source) = map.next_value()?,
            "editable" => self.is_editable = map.next_value()?,
            "path" | "directory" => {
                skip(map)?;
                self.has_folder = true;
            }
            _ => skip(map)?,
        }
        Ok(())
    }
}

/// `{ type = "directory" }` of Poetry, `{ editable = "." }` of uv.
#[derive(Default)]
struct Source {
    is_local: bool,
}

impl Members for Source {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "type" => {
                let kind: Text = map.next_value()?;
                self.is_local |= kind.as_str() == "directory";
            }
            "editable" | "virtual" | "directory" => {
                skip(map)?;
                self.is_local = true;
            }
            _ => skip(map)?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct Pipfile {
    default: Entries<Object<Pinned>>,
    develop: Entries<Object<Pinned>>,
}

impl Members for Pipfile {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "default" => self.default = map.next_value()?,
            "develop" => self.develop = map.next_value()?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct Pinned {
    version: Text,
}

impl Members for Pinned {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "version" => self.version = map.next_value()?,
            _ => skip(map)?,
        }
        Ok(())
    }
}
