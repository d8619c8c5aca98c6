//! The file of a VEX document: opened without waiting, and measured before it is parsed.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

use super::VexError;

/// Most values of a document: each costs an opening brace or bracket or a comma, so their number
/// is known before a parser makes room for any.
const MAX_VALUES: usize = 4_000_000;

/// Reads a regular file.
pub(super) fn read(file: &Path, limit: u64) -> Result<Vec<u8>, VexError> {
    let unreadable = |source| VexError::Unreadable { file: file.to_owned(), source };
    // Without NONBLOCK, opening a pipe would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(file, flags, Mode::empty()).map_err(|e| unreadable(e.into()))?;
    let stat = rustix::fs::fstat(&fd).map_err(|e| unreadable(e.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(VexError::NotAFile { file: file.to_owned() });
    }
    let mut bytes = Vec::new();
    let limited = File::from(fd).take(limit.saturating_add(1)).read_to_end(&mut bytes);
    limited.map_err(unreadable)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(VexError::TooLarge { file: file.to_owned(), limit });
    }
    Ok(bytes)
}

/// The JSON object in a file, without a byte order mark.
pub(super) fn json<'b>(bytes: &'b [u8], file: &Path) -> Result<&'b [u8], VexError> {
    let json = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let what = match json.trim_ascii_start() {
        [b'{', ..] => None,
        [] => Some("is empty"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("is UTF-16 and not UTF-8"),
        [0x1f, 0x8b, ..] => Some("is compressed (gzip)"),
        _ => Some("is not a JSON object"),
    };
    if let Some(what) = what {
        return Err(VexError::UnknownFormat { file: file.to_owned(), what: what.to_owned() });
    }
    if json.iter().filter(|b| matches!(b, b'{' | b'[' | b',')).count() > MAX_VALUES {
        let (file, limit) = (file.to_owned(), MAX_VALUES);
        return Err(VexError::TooMany { file, what: "values", limit });
    }
    Ok(json)
}
