//! What the tests of readers share.

use std::io::Cursor;

use portcullis_languages::{Found, LanguageError, Limits, Reader, read};

/// Reads bytes as the file of a path.
pub(crate) fn found(reader: Reader, path: &str, content: &[u8]) -> Result<Found, LanguageError> {
    read(reader, path, Cursor::new(content), content.len() as u64, &Limits::default())
}

/// The packages of a file, sorted: `name version`, with `(dev)` and `[license]` and `in place`.
pub(crate) fn packages(reader: Reader, path: &str, content: &[u8]) -> Vec<String> {
    let found = found(reader, path, content).unwrap_or_else(|error| panic!("{path}: {error:?}"));
    assert!(found.unread.is_empty(), "{path}: {:?}", found.unread);
    lines(&found)
}

pub(crate) fn lines(found: &Found) -> Vec<String> {
    let line = |package: &portcullis_languages::Package| {
        let mut line = format!("{} {}", package.name, package.version);
        if package.is_dev {
            line.push_str(" (dev)");
        }
        if let Some(license) = &package.license {
            line.push_str(&format!(" [{license}]"));
        }
        if let Some(inner) = &package.inner {
            line.push_str(&format!(" in {inner}"));
        }
        line
    };
    let mut lines: Vec<String> = found.packages.iter().map(line).collect();
    lines.sort();
    lines
}

/// Reads a file, and compares its packages with those that are wanted.
pub(crate) fn check(reader: Reader, content: impl AsRef<[u8]>, wanted: &[&str]) {
    let content = content.as_ref();
    let shown = String::from_utf8_lossy(&content[..content.len().min(200)]).into_owned();
    assert_eq!(packages(reader, "file", content), wanted, "{reader:?} {shown}");
}
