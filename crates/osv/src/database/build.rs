//! Building a database beside the one in force, and putting it in its place.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::Path;

use portcullis_types::{Digest, Timestamp};
use portcullis_versions::Scheme;
use rustix::fs::FlockOperation;
use sha2::{Digest as _, Sha256};

use super::shard::{EXTENSION, Writer};
use super::source::{self, Fetched, Origin, Source};
use super::{CURRENT, Contents, Database, DatabaseError, FORMAT, MANIFEST, Manifest};
use crate::names::{base, is_in_ecosystem};
use crate::record::{Advisory, Affected};

/// The folder in which the next one is built.
const BUILDING: &str = "building";
const LOCK: &str = "lock";

/// Told while a database is built.
pub trait Progress {
    /// A file with records is read next; of so many of one source.
    fn file(&mut self, place: &str, at: usize, of: usize);
    /// So many records were read.
    fn records(&mut self, count: u64);
    /// A record cannot be understood and is passed over.
    fn unreadable(&mut self, name: &str, why: &str);
}

/// Reads folders, archives, single records and what was fetched, and puts what is in them into force:
/// ecosystems that are in them take the place of the same ones before, all others stay. If anything
/// fails, what was in force stays.
///
/// # Errors
/// [`DatabaseError`]: a source cannot be read or holds no record, or the folder cannot be written.
pub fn update(
    root: &Path,
    sources: Vec<Source>,
    now: Timestamp,
    progress: &mut dyn Progress,
) -> Result<Database, DatabaseError> {
    let mut folder = fs::DirBuilder::new();
    folder.recursive(true).mode(0o755).create(root).map_err(DatabaseError::file(root))?;
    let lock = root.join(LOCK);
    let held = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(&lock);
    let held = held.map_err(DatabaseError::file(&lock))?;
    rustix::fs::flock(&held, FlockOperation::LockExclusive)
        .map_err(|error| DatabaseError::file(&lock)(error.into()))?;
    let building = root.join(BUILDING);
    // What a killed update left.
    remove(&building)?;
    folder.create(&building).map_err(DatabaseError::file(&building))?;
    let built = build(root, &building, sources, now, progress);
    let published = built.and_then(|manifest| publish(root, &building, &manifest));
    if published.is_err() {
        let _the_next_update_removes_it = remove(&building);
    }
    drop(held);
    published?;
    Database::open(root)?.ok_or_else(|| DatabaseError::Empty(root.display().to_string()))
}

fn remove(folder: &Path) -> Result<(), DatabaseError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DatabaseError::file(folder)(error))
        }
        _ => Ok(()),
    }
}

/// A shard under way, and where its records came from.
struct Part {
    writer: Writer,
    file: String,
    source: String,
    /// The releases that were asked for; none if all were.
    releases: Option<BTreeSet<String>>,
    /// None if something else than a mirror's archives of this ecosystem is in it.
    origins: Option<Vec<Origin>>,
}

/// A file that is read.
struct Reading<'a> {
    /// Its own name.
    place: &'a str,
    /// What was given.
    source: &'a str,
    /// Only what it says of this ecosystem is taken, or of this release of one.
    only: Option<&'a str>,
    origin: Option<&'a Origin>,
}

/// A database under way.
struct Building<'a> {
    folder: &'a Path,
    parts: BTreeMap<String, Part>,
    /// Records that were understood, and statements of them that were taken.
    count: u64,
    taken: u64,
    progress: &'a mut dyn Progress,
}

fn build(
    root: &Path,
    folder: &Path,
    sources: Vec<Source>,
    now: Timestamp,
    progress: &mut dyn Progress,
) -> Result<Manifest, DatabaseError> {
    let parts = BTreeMap::new();
    let mut building = Building { folder, parts, count: 0, taken: 0, progress };
    let mut unchanged = Vec::new();
    for source in sources {
        match source {
            Source::Path(path) => building.path(&path)?,
            Source::Fetched(fetched) => building.fetched(fetched)?,
            Source::Unchanged(ecosystem) => unchanged.push(ecosystem),
        }
    }
    let parts = building.parts;
    let mut ecosystems = kept(root, folder, &parts)?;
    for ecosystem in unchanged {
        // Nothing may be lost of what was not fetched since it is there.
        match ecosystems.get_mut(&ecosystem) {
            Some(contents) => contents.read = now,
            None => return Err(DatabaseError::NoData(ecosystem)),
        }
    }
    for (ecosystem, part) in parts {
        let path = folder.join(&part.file);
        let counts = part.writer.finish().map_err(DatabaseError::file(&path))?;
        let (digest, bytes) = digest(&path)?;
        let contents = Contents {
            file: part.file,
            digest,
            bytes,
            source: part.source,
            read: now,
            modified: counts.modified,
            advisories: counts.advisories,
            withdrawn: counts.withdrawn,
            packages: counts.packages,
            unreadable: counts.unreadable,
            releases: part.releases.unwrap_or_default(),
            origins: part.origins.unwrap_or_default(),
        };
        ecosystems.insert(ecosystem, contents);
    }
    Ok(Manifest { format: FORMAT, built: now, ecosystems })
}

impl Building<'_> {
    fn path(&mut self, path: &Path) -> Result<(), DatabaseError> {
        let files = source::files(path)?;
        let source = path.display().to_string();
        let before = self.count;
        for (at, file) in files.iter().enumerate() {
            let place = file.display().to_string();
            self.progress.file(&place, at, files.len());
            // In the layout of OSV the folder names the ecosystem, and a record that speaks of
            // several is in the folder of each.
            let of_folder = file.parent().and_then(Path::file_name).and_then(|name| name.to_str());
            let only = of_folder.filter(|name| Scheme::of_ecosystem(name).is_ok());
            let opened = File::open(file).map_err(DatabaseError::file(file))?;
            let reading = Reading { place: &place, source: &source, only, origin: None };
            self.read(opened, &reading)?;
        }
        match self.count == before {
            true => Err(DatabaseError::Empty(source)),
            false => Ok(()),
        }
    }

    fn fetched(&mut self, fetched: Fetched) -> Result<(), DatabaseError> {
        let Fetched { file, origin, ecosystem } = fetched;
        self.progress.file(&origin.url, 0, 1);
        let before = (self.count, self.taken);
        let only = ecosystem.as_deref();
        let reading =
            Reading { place: &origin.url, source: &origin.url, only, origin: Some(&origin) };
        self.read(file, &reading)?;
        // A mirror that has something else there has nothing to say of the ecosystem.
        if self.count == before.0 || (ecosystem.is_some() && self.taken == before.1) {
            return Err(DatabaseError::Empty(origin.url));
        }
        Ok(())
    }

    fn read(&mut self, file: File, reading: &Reading<'_>) -> Result<(), DatabaseError> {
        source::records(file, reading.place, &mut |name, json| {
            let advisory = match Advisory::read(json) {
                Ok(advisory) => advisory,
                Err(error) => {
                    let only = reading.only.map(base);
                    if let Some(part) = only.and_then(|only| self.parts.get_mut(only)) {
                        part.writer.unreadable();
                    }
                    self.progress.unreadable(name, &error.to_string());
                    return Ok(());
                }
            };
            self.count += 1;
            self.progress.records(self.count);
            self.add(advisory, reading)
        })
    }

    /// Adds a record to the shards of the ecosystems that it speaks of.
    fn add(&mut self, mut advisory: Advisory, reading: &Reading<'_>) -> Result<(), DatabaseError> {
        let mut by_ecosystem: BTreeMap<String, Vec<Affected>> = BTreeMap::new();
        for affected in std::mem::take(&mut advisory.affected) {
            let said = &affected.package.ecosystem;
            if reading.only.is_none_or(|only| is_in_ecosystem(said, only))
                && !affected.package.name.is_empty()
            {
                by_ecosystem.entry(base(said).to_owned()).or_default().push(affected);
            }
        }
        for (ecosystem, affected) in by_ecosystem {
            let Ok(scheme) = Scheme::of_ecosystem(&ecosystem) else { continue };
            self.taken += 1;
            let folder = self.folder;
            let part = self.part(&ecosystem, scheme, reading)?;
            let added = part.writer.add(&advisory, affected);
            added.map_err(|error| DatabaseError::file(&folder.join(&part.file))(error))?;
        }
        Ok(())
    }

    /// The shard of an ecosystem, to which a file adds something.
    fn part(
        &mut self,
        ecosystem: &str,
        scheme: Scheme,
        reading: &Reading<'_>,
    ) -> Result<&mut Part, DatabaseError> {
        if !self.parts.contains_key(ecosystem) {
            let file = format!("{}{EXTENSION}", ecosystem.replace(' ', "-").to_lowercase());
            let path = self.folder.join(&file);
            let opened = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path);
            let writer = opened.and_then(|opened| Writer::new(opened, scheme, ecosystem));
            let writer = writer.map_err(DatabaseError::file(&path))?;
            let (releases, origins) = (Some(BTreeSet::new()), Some(Vec::new()));
            let source = reading.source.to_owned();
            self.parts
                .insert(ecosystem.to_owned(), Part { writer, file, source, releases, origins });
        }
        let part = self
            .parts
            .get_mut(ecosystem)
            .ok_or_else(|| DatabaseError::NoData(ecosystem.to_owned()))?;
        match (reading.only, &mut part.releases) {
            (Some(only), Some(releases)) if only != ecosystem => {
                if !releases.contains(only) {
                    releases.insert(only.to_owned());
                }
            }
            _ => part.releases = None,
        }
        match (reading.only.and(reading.origin), &mut part.origins) {
            (Some(origin), Some(origins)) => {
                if origins.last() != Some(origin) {
                    origins.push(origin.clone());
                }
            }
            _ => part.origins = None,
        }
        Ok(part)
    }
}

/// The shards of what is in force that nothing new was read for, linked into the new folder.
fn kept(
    root: &Path,
    building: &Path,
    parts: &BTreeMap<String, Part>,
) -> Result<BTreeMap<String, Contents>, DatabaseError> {
    let mut ecosystems = BTreeMap::new();
    // A damaged one is built anew from nothing.
    let Ok(Some(old)) = Database::open(root) else { return Ok(ecosystems) };
    for (ecosystem, contents) in &old.manifest.ecosystems {
        if parts.contains_key(ecosystem) {
            continue;
        }
        let from = old.folder.join(&contents.file);
        fs::hard_link(&from, building.join(&contents.file)).map_err(DatabaseError::file(&from))?;
        ecosystems.insert(ecosystem.clone(), contents.clone());
    }
    Ok(ecosystems)
}

/// Digest and size of a file.
pub(super) fn digest(path: &Path) -> Result<(Digest, u64), DatabaseError> {
    let mut file = File::open(path).map_err(DatabaseError::file(path))?;
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 128 << 10];
    loop {
        let read = file.read(&mut buffer).map_err(DatabaseError::file(path))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
    }
    Ok((Digest::sha256(hasher.finalize().into()), bytes))
}

/// Gives the folder its name and swaps the link.
fn publish(root: &Path, building: &Path, manifest: &Manifest) -> Result<(), DatabaseError> {
    let path = building.join(MANIFEST);
    let json = serde_json::to_vec_pretty(manifest).map_err(io::Error::other);
    let written = json.and_then(|json| {
        fs::write(&path, &json)?;
        File::open(&path)?.sync_all()?;
        File::open(building)?.sync_all()?;
        Ok(Digest::of(&json))
    });
    let digest = written.map_err(DatabaseError::file(&path))?;
    let folder = root.join(digest.hex());
    let link = root.join(CURRENT);
    let old = fs::read_link(&link).ok();
    // The same once more: the same second, and the same records.
    remove(&folder)?;
    fs::rename(building, &folder).map_err(DatabaseError::file(&folder))?;
    let swap = || -> io::Result<()> {
        let new = root.join("current.new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        symlink(digest.hex(), &new)?;
        fs::rename(&new, &link)?;
        File::open(root)?.sync_all()
    };
    swap().map_err(DatabaseError::file(&link))?;
    // Who has it open goes on reading it.
    if let Some(old) = old.filter(|old| old.as_os_str() != digest.hex()) {
        let _takes_only_space = fs::remove_dir_all(root.join(old));
    }
    Ok(())
}
