//! Where records come from: folders and archives in the layout in which OSV publishes them, and what
//! was fetched of a mirror.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::DatabaseError;
use crate::record::MAX_RECORD;

/// Where advisories come from.
#[derive(Debug)]
pub enum Source {
    /// A folder, an archive or a record.
    Path(PathBuf),
    /// A file that was fetched.
    Fetched(Fetched),
    /// An ecosystem, without a release, of which nothing newer is to be had where it was fetched: it
    /// stays as it is, and counts as read.
    Unchanged(String),
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

/// A file that was fetched.
#[derive(Debug)]
pub struct Fetched {
    /// It may have no name any more.
    pub file: File,
    /// From where.
    pub origin: Origin,
    /// The only ecosystem of which it is asked, if it is a mirror's archive of one.
    pub ecosystem: Option<String>,
}

/// Where an archive was fetched, and by what its server tells whether it is still the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// Without a password.
    pub url: String,
    /// Its entity tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// When it was changed, in the words of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

/// How deep a folder is looked through: `<folder>/<ecosystem>/all.zip`, and one more.
const MAX_DEPTH: usize = 3;
/// Most files of one source.
const MAX_FILES: usize = 4_000_000;
/// Most records of one archive.
const MAX_RECORDS: usize = 4_000_000;

/// Files with records below a path, in the order of their names: archives and single records.
pub(super) fn files(path: &Path) -> Result<Vec<PathBuf>, DatabaseError> {
    let mut found = Vec::new();
    collect(path, 0, &mut found)?;
    found.sort();
    Ok(found)
}

fn collect(path: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), DatabaseError> {
    let metadata = fs::metadata(path).map_err(DatabaseError::file(path))?;
    if !metadata.is_dir() {
        let is_known = path.extension().is_some_and(|e| e == "zip" || e == "json");
        // What is named is meant, whatever its name is.
        if is_known || depth == 0 {
            found.push(path.to_owned());
        }
        if found.len() > MAX_FILES {
            let source = io::Error::other("it has too many files");
            return Err(DatabaseError::File { path: path.to_owned(), source });
        }
        return Ok(());
    }
    if depth > MAX_DEPTH {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(DatabaseError::file(path))? {
        let entry = entry.map_err(DatabaseError::file(path))?.path();
        collect(&entry, depth + 1, found)?;
    }
    Ok(())
}

/// Takes a record, with a name to tell it by.
pub(super) type Each<'a> = dyn FnMut(&str, &[u8]) -> Result<(), DatabaseError> + 'a;

/// Gives each record of a file; `place` is its name, or where it was fetched from.
///
/// # Errors
/// The file cannot be read, or is a damaged archive; or what `each` says.
pub(super) fn records(
    mut file: File,
    place: &str,
    each: &mut Each<'_>,
) -> Result<(), DatabaseError> {
    let damaged = |source: Box<dyn std::error::Error + Send + Sync>| DatabaseError::Source {
        place: place.to_owned(),
        source,
    };
    let unreadable = |error| DatabaseError::file(Path::new(place))(error);
    let mut begin = [0; 2];
    file.rewind().map_err(unreadable)?;
    let is_archive = match file.read_exact(&mut begin) {
        Ok(()) => begin == *b"PK",
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
        Err(error) => return Err(unreadable(error)),
    };
    file.rewind().map_err(unreadable)?;
    if !is_archive {
        return each(place, &bounded(file).map_err(unreadable)?);
    }
    let mut archive =
        zip::ZipArchive::new(io::BufReader::new(file)).map_err(|error| damaged(error.into()))?;
    if archive.len() > MAX_RECORDS {
        return Err(damaged("it has too many entries".into()));
    }
    for at in 0..archive.len() {
        let entry = archive.by_index(at).map_err(|error| damaged(error.into()))?;
        let name = entry.name().map_err(|error| damaged(error.into()))?.into_owned();
        if !entry.is_file() || !name.ends_with(".json") {
            continue;
        }
        let json = bounded(entry).map_err(|error| damaged(error.into()))?;
        each(&name, &json)?;
    }
    Ok(())
}

/// At most one byte more than a record may have.
fn bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let mut json = Vec::new();
    from.take(MAX_RECORD as u64 + 1).read_to_end(&mut json)?;
    Ok(json)
}
