//! Where records come from: folders and archives in the layout in which OSV publishes them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::DatabaseError;
use crate::record::MAX_RECORD;

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

/// Gives each record of a file.
///
/// # Errors
/// The file cannot be read, or is a damaged archive; or what `each` says.
pub(super) fn records(file: &Path, each: &mut Each<'_>) -> Result<(), DatabaseError> {
    let damaged = |source: Box<dyn std::error::Error + Send + Sync>| DatabaseError::Source {
        place: file.display().to_string(),
        source,
    };
    let mut opened = File::open(file).map_err(DatabaseError::file(file))?;
    let mut begin = [0; 2];
    let is_archive = match opened.read_exact(&mut begin) {
        Ok(()) => begin == *b"PK",
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
        Err(error) => return Err(DatabaseError::file(file)(error)),
    };
    let opened = File::open(file).map_err(DatabaseError::file(file))?;
    if !is_archive {
        let json = bounded(opened).map_err(DatabaseError::file(file))?;
        return each(&file.display().to_string(), &json);
    }
    let mut archive =
        zip::ZipArchive::new(io::BufReader::new(opened)).map_err(|error| damaged(error.into()))?;
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
