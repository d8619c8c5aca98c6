//! What a person names to be scanned: a path, told by what stands there.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use portcullis_inventory::protocol::Source;

/// Why nothing can be scanned by this name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// It cannot be looked at.
    #[error("cannot use {0}")]
    Path(PathBuf, #[source] io::Error),
    /// It is neither folder nor file.
    #[error("{0} is neither a folder nor a file")]
    Kind(PathBuf),
    /// It is a file that holds no image.
    #[error("{0} is no archive: neither tar, nor tar compressed with gzip or zstd")]
    Archive(PathBuf),
}

/// The source that a path is: a folder in OCI's layout, another folder as a root filesystem, an
/// archive.
///
/// # Errors
/// [`TargetError`].
pub fn source_at(path: &Path) -> Result<Source, TargetError> {
    let wrong = |error| TargetError::Path(path.to_owned(), error);
    let path = path.canonicalize().map_err(wrong)?;
    let metadata = path.metadata().map_err(wrong)?;
    if metadata.is_dir() {
        let is_layout = path.join("index.json").is_file() && path.join("oci-layout").is_file();
        return Ok(if is_layout { Source::Layout(path) } else { Source::Root(path) });
    }
    if !metadata.is_file() {
        return Err(TargetError::Kind(path));
    }
    let mut head = Vec::new();
    File::open(&path).and_then(|file| file.take(512).read_to_end(&mut head)).map_err(wrong)?;
    let is_tar = head.len() == 512
        && (&head[257..262] == b"ustar"
            || head[148..156].iter().all(|b| matches!(b, b'0'..=b'7' | b' ' | 0)) && head[0] != 0);
    let is_compressed =
        head.starts_with(&[0x1f, 0x8b]) || head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    match is_tar || is_compressed {
        true => Ok(Source::Archive(path)),
        false => Err(TargetError::Archive(path)),
    }
}
