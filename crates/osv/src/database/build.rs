//! Building a database beside the one in force, and putting it in its place.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use portcullis_types::{Digest, Timestamp};
use portcullis_versions::Scheme;
use rustix::fs::FlockOperation;
use sha2::{Digest as _, Sha256};

use super::shard::{EXTENSION, Writer};
use super::{CURRENT, Contents, Database, DatabaseError, FORMAT, MANIFEST, Manifest, source};
use crate::names::base;
use crate::record::{Advisory, Affected};

/// The folder in which the next one is built.
const BUILDING: &str = "building";
const LOCK: &str = "lock";

/// Told while a database is built.
pub trait Progress {
    /// A file with records is read next; of so many.
    fn file(&mut self, path: &Path, at: usize, of: usize);
    /// So many records were read.
    fn records(&mut self, count: u64);
    /// A record cannot be understood and is passed over.
    fn unreadable(&mut self, name: &str, why: &str);
}

/// Reads folders, archives and single records, and puts what is in them into force: ecosystems that
/// are in them take the place of the same ones before, all others stay. If anything fails, what was
/// in force stays.
///
/// # Errors
/// [`DatabaseError`]: a source cannot be read or holds no record, or the folder cannot be written.
pub fn update(
    root: &Path,
    sources: &[PathBuf],
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
}

fn build(
    root: &Path,
    building: &Path,
    sources: &[PathBuf],
    now: Timestamp,
    progress: &mut dyn Progress,
) -> Result<Manifest, DatabaseError> {
    let mut parts: BTreeMap<String, Part> = BTreeMap::new();
    let mut count = 0;
    for source in sources {
        let files = source::files(source)?;
        let before = count;
        for (at, file) in files.iter().enumerate() {
            progress.file(file, at, files.len());
            // In the layout of OSV the folder names the ecosystem, and a record that speaks of
            // several is in the folder of each.
            let of_folder = file.parent().and_then(Path::file_name).and_then(|name| name.to_str());
            let only = of_folder.filter(|name| Scheme::of_ecosystem(name).is_ok());
            source::records(file, &mut |name, json| {
                let advisory = match Advisory::read(json) {
                    Ok(advisory) => advisory,
                    Err(error) => {
                        if let Some(part) = only.and_then(|only| parts.get_mut(only)) {
                            part.writer.unreadable();
                        }
                        progress.unreadable(name, &error.to_string());
                        return Ok(());
                    }
                };
                count += 1;
                progress.records(count);
                let place = source.display().to_string();
                add(building, &mut parts, advisory, only, &place)
            })?;
        }
        if count == before {
            return Err(DatabaseError::Empty(source.display().to_string()));
        }
    }
    let mut ecosystems = kept(root, building, &parts)?;
    for (ecosystem, part) in parts {
        let path = building.join(&part.file);
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
        };
        ecosystems.insert(ecosystem, contents);
    }
    Ok(Manifest { format: FORMAT, built: now, ecosystems })
}

/// Adds a record to the shards of the ecosystems that it speaks of.
fn add(
    building: &Path,
    parts: &mut BTreeMap<String, Part>,
    mut advisory: Advisory,
    only: Option<&str>,
    source: &str,
) -> Result<(), DatabaseError> {
    let mut by_ecosystem: BTreeMap<String, Vec<Affected>> = BTreeMap::new();
    for affected in std::mem::take(&mut advisory.affected) {
        let ecosystem = base(&affected.package.ecosystem);
        if only.is_none_or(|only| only == ecosystem) && !affected.package.name.is_empty() {
            by_ecosystem.entry(ecosystem.to_owned()).or_default().push(affected);
        }
    }
    for (ecosystem, affected) in by_ecosystem {
        let Ok(scheme) = Scheme::of_ecosystem(&ecosystem) else { continue };
        let part = match parts.get_mut(&ecosystem) {
            Some(part) => part,
            None => {
                let file = format!("{}{EXTENSION}", ecosystem.replace(' ', "-").to_lowercase());
                let path = building.join(&file);
                let opened =
                    OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path);
                let writer = opened.and_then(|opened| Writer::new(opened, scheme, &ecosystem));
                let writer = writer.map_err(DatabaseError::file(&path))?;
                let part = Part { writer, file, source: source.to_owned() };
                parts.entry(ecosystem.clone()).or_insert(part)
            }
        };
        let path = building.join(&part.file);
        part.writer.add(&advisory, affected).map_err(DatabaseError::file(&path))?;
    }
    Ok(())
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
