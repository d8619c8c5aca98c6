//! Rust: `Cargo.lock`, and what cargo-auditable puts into binaries.
//!
//! Only what came from crates.io is a package of it. A crate in the same workspace, from a repository
//! or from another registry may have the name of one and be another.

use std::io::Read as _;

use flate2::read::ZlibDecoder;
use serde::de::MapAccess;

use crate::elf::Elf;
use crate::input::Input;
use crate::json::{Flag, List, MAX_TOML, Members, Object, Text, json, skip, toml};
use crate::{Found, Kind, LanguageError};

/// How a lock file names crates.io, whatever way its index is read.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";
const SECTION: &str = ".dep-v0";
/// Most bytes of that section, and most that are unpacked from it, as `auditable-info` has it.
const MAX_AUDIT: u64 = 8 << 20;

/// Reads a lock file, of any version (<https://doc.rust-lang.org/cargo/reference/resolver.html>).
pub(crate) fn lock(input: &mut Input, found: &mut Found) -> Result<(), LanguageError> {
    let Object(lock) = toml::<Object<Lock>>(&input.bytes(MAX_TOML)?)?;
    for Object(entry) in &lock.packages.0 {
        if entry.source.as_str() == REGISTRY {
            found.add_if_valid(Kind::Cargo, entry.name.as_str(), entry.version.as_str(), false)?;
        }
    }
    Ok(())
}

/// Reads the crates of a binary (rust-secure-code/cargo-auditable `PARSING.md`): JSON, compressed, in
/// a section of its own.
///
/// What only the build needed is not in the binary. The program's own crate counts wherever it came
/// from: it is what the binary is.
pub(crate) fn binary(elf: &Elf, input: &mut Input, found: &mut Found) -> Result<(), LanguageError> {
    let Some(section) = elf.section(SECTION) else { return Ok(()) };
    let too_large = |bytes| LanguageError::TooLarge { bytes, limit: MAX_AUDIT };
    if section.size > MAX_AUDIT {
        return Err(too_large(section.size));
    }
    let packed = input.at(section.offset, section.size)?;
    let mut audit = Vec::new();
    let unpacked = ZlibDecoder::new(packed.as_slice()).take(MAX_AUDIT + 1).read_to_end(&mut audit);
    unpacked.map_err(LanguageError::Read)?;
    if audit.len() as u64 > MAX_AUDIT {
        return Err(too_large(audit.len() as u64));
    }
    let Object(audit) = json::<Object<Lock>>(&audit)?;
    for Object(entry) in &audit.packages.0 {
        let is_known = entry.source.as_str() == "crates.io" || entry.is_root.0;
        if is_known && entry.kind.as_str() != "build" {
            found.add_if_valid(Kind::Cargo, entry.name.as_str(), entry.version.as_str(), false)?;
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
    source: Text,
    kind: Text,
    is_root: Flag,
}

impl Members for Entry {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "name" => self.name = map.next_value()?,
            "version" => self.version = map.next_value()?,
            "source" => self.source = map.next_value()?,
            "kind" => self.kind = map.next_value()?,
            "root" => self.is_root = map.next_value()?,
            _ => skip(map)?,
        }
        Ok(())
    }
}
