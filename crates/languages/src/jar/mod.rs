//! Archives of Java (`.jar`, `.war`, …), and archives within them.
//!
//! Maven writes `META-INF/maven/<group>/<artifact>/pom.properties` into what it builds, and a shaded
//! jar keeps those of all that was put into it: each is a package that is there. A file of that name
//! anywhere else means nothing (trivy#1285). What an archive itself is, if no such file says it, is
//! told by its manifest and its name, see [`identity`].

mod groups;
mod identity;
mod manifest;
mod zip;

use std::io::Cursor;

use crate::input::{Input, text};
use crate::reader::ARCHIVES;
use crate::{Found, Kind, LanguageError, Package};
use manifest::{MAX_MANIFEST, Manifest, property};
use zip::Entry;
pub use zip::ZipError;

/// Most bytes of a `pom.properties`.
const MAX_PROPERTIES: u64 = 64 << 10;
const MANIFEST: &str = "META-INF/MANIFEST.MF";
const MAVEN: &str = "META-INF/maven/";
/// What an archive may unpack to, by its own size: jars in an archive shrink by half at best.
const RATIO: u64 = 16;
/// What any archive may unpack to.
const ALWAYS: u64 = 64 << 20;

/// What may still be read of an archive and those in it.
struct Budget {
    /// Bytes that may be unpacked.
    unpacked: u64,
    /// Bytes that may be held at one time.
    held: u64,
    entries: u64,
    depth: u32,
}

/// Reads an archive and those within it.
pub(crate) fn archive(
    input: &mut Input,
    path: &str,
    found: &mut Found,
) -> Result<(), LanguageError> {
    let limits = input.limits;
    let by_size = input.size.saturating_mul(RATIO).saturating_add(ALWAYS);
    let mut budget = Budget {
        unpacked: limits.unpacked_bytes.min(by_size),
        held: limits.held_bytes,
        entries: limits.entries,
        depth: limits.depth,
    };
    one(input, path, None, &mut budget, found)
}

/// Reads one archive; `place` is where it lies in another.
fn one(
    input: &mut Input,
    path: &str,
    place: Option<&str>,
    budget: &mut Budget,
    found: &mut Found,
) -> Result<(), LanguageError> {
    let entries = zip::entries(input, &mut budget.entries, is_wanted)?;
    let mut manifest = Manifest::default();
    let mut poms = Vec::new();
    for entry in entries.iter().filter(|entry| !is_archive(&entry.name)) {
        let inner = within(place, &entry.name);
        if entry.name == MANIFEST {
            match budget.beginning(input, entry, MAX_MANIFEST) {
                Ok(bytes) => manifest = Manifest::read(&text(&bytes)),
                Err(error) => found.fail(&inner, error),
            }
        } else if let Some(pom) = Pom::of_path(&entry.name) {
            if pom.has_version {
                match properties(input, entry, &pom, budget) {
                    Ok(Some(package)) => found.add(Package { inner: Some(inner), ..package })?,
                    Ok(None) => {}
                    Err(error) => found.fail(&inner, error),
                }
            }
            poms.push(pom);
        }
    }
    let own = identity::of_archive(path, &manifest, &poms);
    if let Some(package) =
        own.and_then(|(name, version)| Package::new(Kind::Maven, &name, &version))
    {
        found.add(Package { inner: place.map(str::to_owned), ..package })?;
    }
    for entry in entries.iter().filter(|entry| is_archive(&entry.name)) {
        let inner = within(place, &entry.name);
        match nested(input, entry, &inner, budget, found) {
            Ok(()) => {}
            // The caller's own limit, which holds for the file.
            Err(error @ LanguageError::TooMany(_)) => return Err(error),
            Err(error) => found.fail(&inner, error),
        }
    }
    Ok(())
}

/// Reads an archive that is an entry of another.
fn nested(
    input: &mut Input,
    entry: &Entry,
    place: &str,
    budget: &mut Budget,
    found: &mut Found,
) -> Result<(), LanguageError> {
    let limits = input.limits;
    let Some(depth) = budget.depth.checked_sub(1) else {
        return Err(ZipError::Depth(limits.depth).into());
    };
    let bytes = budget.whole(input, entry, budget.held)?;
    if bytes.is_empty() {
        return Ok(());
    }
    let size = bytes.len() as u64;
    let mut inner = Budget { depth, held: budget.held.saturating_sub(size), ..*budget };
    let mut source = Cursor::new(bytes);
    let mut input = Input { source: &mut source, size, limits };
    let read = one(&mut input, &entry.name, Some(place), &mut inner, found);
    (budget.unpacked, budget.entries) = (inner.unpacked, inner.entries);
    read
}

/// Reads a `pom.properties`, if it says what its path says.
fn properties(
    input: &mut Input,
    entry: &Entry,
    pom: &Pom,
    budget: &mut Budget,
) -> Result<Option<Package>, LanguageError> {
    let bytes = budget.whole(input, entry, MAX_PROPERTIES)?;
    let text = text(&bytes);
    let is_same = |name, wanted: &str| property(&text, name).is_none_or(|value| value == wanted);
    if !is_same("groupId", &pom.group) || !is_same("artifactId", &pom.artifact) {
        return Ok(None);
    }
    let version = property(&text, "version").unwrap_or_default();
    Ok(Package::new(Kind::Maven, &format!("{}:{}", pom.group, pom.artifact), version))
}

impl Budget {
    /// The first `most` bytes of an entry. What it takes in the file counts as well as what it
    /// unpacks to, since many entries may be at one place of the file, and may unpack to nothing.
    fn beginning(
        &mut self,
        input: &mut Input,
        entry: &Entry,
        most: u64,
    ) -> Result<Vec<u8>, LanguageError> {
        let left = self.unpacked.checked_sub(entry.packed()).filter(|left| *left > 0);
        self.unpacked = left.ok_or(ZipError::Bomb(self.unpacked))?;
        let mut bytes = Vec::new();
        let unpacked = zip::unpack(input, entry, most.min(self.unpacked), &mut bytes);
        self.unpacked = self.unpacked.saturating_sub(bytes.len() as u64);
        unpacked.map(|()| bytes)
    }

    /// All of an entry, if that is at most `most` bytes.
    fn whole(
        &mut self,
        input: &mut Input,
        entry: &Entry,
        most: u64,
    ) -> Result<Vec<u8>, LanguageError> {
        let bytes = self.beginning(input, entry, most.saturating_add(1))?;
        // With nothing left it may have been cut.
        if bytes.len() as u64 > most || self.unpacked == 0 {
            return Err(ZipError::Bomb(most).into());
        }
        Ok(bytes)
    }
}

/// What Maven says of a package, by the path where it says it.
struct Pom {
    group: String,
    artifact: String,
    /// It is a `pom.properties`, and not the `pom.xml` beside it.
    has_version: bool,
    /// It lies at the top of the archive, and not in a folder of what was put into it.
    is_top: bool,
}

impl Pom {
    fn of_path(path: &str) -> Option<Self> {
        let start =
            path.find(MAVEN).filter(|start| *start == 0 || path[..*start].ends_with('/'))?;
        let mut parts = path.get(start + MAVEN.len()..)?.split('/');
        let (group, artifact, file) = (parts.next()?, parts.next()?, parts.next()?);
        let has_version = file == "pom.properties";
        (parts.next().is_none() && (has_version || file == "pom.xml")).then(|| Self {
            group: group.to_owned(),
            artifact: artifact.to_owned(),
            has_version,
            is_top: start == 0,
        })
    }
}

fn is_wanted(name: &str) -> bool {
    name == MANIFEST || Pom::of_path(name).is_some() || is_archive(name)
}

fn is_archive(name: &str) -> bool {
    let ending = name.len().checked_sub(4).and_then(|from| name.get(from..)).unwrap_or_default();
    ARCHIVES.iter().any(|archive| ending.eq_ignore_ascii_case(archive))
}

/// The place of an entry.
fn within(place: Option<&str>, name: &str) -> String {
    match place {
        Some(place) => format!("{place}!/{name}"),
        None => name.to_owned(),
    }
}
