//! .NET: `*.deps.json` beside a program, and `packages.lock.json`
//! (dotnet/sdk `documentation/specs/runtime-configuration-file.md`).
//!
//! A `.deps.json` names packages that are not there: reference assemblies, and packages whose place
//! the runtime's own assemblies take. Only what the runtime's target has files of counts. Projects
//! are the program's own code.

use std::collections::HashMap;

use serde::de::MapAccess;

use crate::input::Input;
use crate::json::{Entries, Members, Object, Text, json, skip};
use crate::{Found, Kind, LanguageError};

/// What the runtime that a program brings along is called here, and nowhere else.
const RUNTIME_PACK: &str = "runtimepack.";
/// A file that says that there is no file.
const PLACEHOLDER: &str = "/_._";

/// Reads a `.deps.json`.
pub(crate) fn deps(input: &mut Input, found: &mut Found) -> Result<(), LanguageError> {
    let Object(file) = json::<Object<Deps>>(&input.bytes(u64::MAX)?)?;
    let Object(RuntimeTarget { name }) = &file.runtime_target;
    let targets = &file.targets.0;
    let target = targets.iter().find(|(target, _)| target == name.as_str());
    let assets: Option<HashMap<_, _>> = target.map(|(_, Entries(libraries))| {
        libraries.iter().map(|(name, Object(library))| (name.as_str(), library)).collect()
    });
    for (library, Object(entry)) in &file.libraries.0 {
        let is_pack = entry.kind.as_str().eq_ignore_ascii_case("runtimepack");
        if !is_pack && !entry.kind.as_str().eq_ignore_ascii_case("package") {
            continue;
        }
        // What the target does not know is taken for there.
        let is_there = assets.as_ref().and_then(|assets| assets.get(library.as_str()));
        if is_there.is_some_and(|assets| !is_pack && !assets.has_files) {
            continue;
        }
        if let Some((name, version)) = library.split_once('/') {
            let name = name.strip_prefix(RUNTIME_PACK).unwrap_or(name);
            found.add_if_valid(Kind::NuGet, name, version, false)?;
        }
    }
    Ok(())
}

/// Reads a `packages.lock.json`.
pub(crate) fn lock(input: &mut Input, found: &mut Found) -> Result<(), LanguageError> {
    let Object(file) = json::<Object<Lock>>(&input.bytes(u64::MAX)?)?;
    for (_, Entries(packages)) in &file.dependencies.0 {
        for (name, Object(entry)) in packages {
            if !entry.kind.as_str().eq_ignore_ascii_case("project") {
                found.add_if_valid(Kind::NuGet, name, entry.resolved.as_str(), false)?;
            }
        }
    }
    Ok(())
}

#[derive(Default)]
struct Deps {
    runtime_target: Object<RuntimeTarget>,
    targets: Entries<Entries<Object<Assets>>>,
    libraries: Entries<Object<Entry>>,
}

impl Members for Deps {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "runtimeTarget" => self.runtime_target = map.next_value()?,
            "targets" => self.targets = map.next_value()?,
            "libraries" => self.libraries = map.next_value()?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct RuntimeTarget {
    name: Text,
}

impl Members for RuntimeTarget {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "name" => self.name = map.next_value()?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

/// Whether a library has files for a target.
#[derive(Default)]
struct Assets {
    has_files: bool,
}

impl Members for Assets {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "runtime" | "runtimeTargets" | "native" => {
                let Entries(files) = map.next_value::<Entries<Text>>()?;
                self.has_files |= files.iter().any(|(path, _)| !path.ends_with(PLACEHOLDER));
            }
            _ => skip(map)?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct Lock {
    dependencies: Entries<Entries<Object<Entry>>>,
}

impl Members for Lock {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "dependencies" => self.dependencies = map.next_value()?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct Entry {
    kind: Text,
    resolved: Text,
}

impl Members for Entry {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "type" => self.kind = map.next_value()?,
            "resolved" => self.resolved = map.next_value()?,
            _ => skip(map)?,
        }
        Ok(())
    }
}
