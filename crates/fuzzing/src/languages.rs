//! Packages of programming languages: texts, programs and archives of Java.

use std::collections::BTreeSet;
use std::io::{Cursor, Read, Seek};

use portcullis_languages::{Found, Kind, LanguageError, Limits, Package, Reader, read, reader_of};
use portcullis_types::Purl;

use crate::pieces::Pieces;
use crate::text::{printable, told};

/// The readers of texts; the first byte of an input tells which, `a` being the first.
fn texts() -> Vec<Reader> {
    let mut texts = Reader::ALL.to_vec();
    texts.retain(|reader| !matches!(reader, Reader::Binary | Reader::Jar));
    texts
}
const MOST_PACKAGES: usize = 200;

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.packages = MOST_PACKAGES;
    limits.entries = 1000;
    limits.depth = 3;
    limits.unpacked_bytes = 1 << 20;
    limits.held_bytes = 1 << 18;
    limits
}

fn found(
    reader: Reader,
    path: &str,
    source: impl Read + Seek,
    size: usize,
) -> Result<Found, LanguageError> {
    read(reader, path, source, size as u64, &limits())
}

/// Reads a file in one piece and in many, and checks what it told.
fn told_of(reader: Reader, path: &str, data: &[u8]) -> Option<Found> {
    let cut = found(reader, path, Pieces::new(data, 3), data.len());
    match found(reader, path, Cursor::new(data), data.len()) {
        Err(error) => {
            told(&error);
            assert!(cut.is_err(), "in pieces it is accepted");
            None
        }
        Ok(found) => {
            let cut = cut.expect("in one piece it is accepted");
            assert_eq!(cut.packages, found.packages, "in pieces");
            assert_eq!(cut.unread.len(), found.unread.len(), "in pieces");
            assert!(found.packages.len() <= MOST_PACKAGES && found.unread.len() <= 256);
            found.unread.iter().for_each(|unread| told(&unread.error));
            let mut seen = BTreeSet::new();
            for package in &found.packages {
                bounded(package);
                let Package { kind, name, version, inner, .. } = package;
                assert!(seen.insert((kind, name, version, inner)), "twice: {package:?}");
            }
            Some(found)
        }
    }
}

fn bounded(package: &Package) {
    printable("a name", &package.name, 256);
    printable("a version", &package.version, 128);
    printable("a license", package.license.as_deref().unwrap_or_default(), 128);
    assert!(!package.name.is_empty() && !package.version.is_empty(), "{package:?}");
    let texts = [&package.name, &package.version];
    assert!(texts.iter().all(|text| text.bytes().all(|b| b.is_ascii_graphic())), "{package:?}");
    let purl = package.purl();
    let read = Purl::parse(&purl).unwrap_or_else(|error| panic!("{purl}: {error}"));
    assert_eq!(read.version(), Some(&*package.version), "{purl}");
}

/// A text that tells of packages: metadata of one, or a lock file.
///
/// Packages are bounded, each once, and have a package URL. A mark of the byte order before it and
/// line breaks as Windows writes them change nothing, and a plain JSON reader's copy of it tells of no
/// other. Accepted: it was read.
pub fn languages(data: &[u8]) -> bool {
    let Some((reader, text)) = data.split_first() else { return false };
    let texts = texts();
    let reader = texts[usize::from(reader.wrapping_sub(b'a')) % texts.len()];
    let Some(found) = told_of(reader, "file", text) else { return false };
    assert!(found.unread.is_empty(), "{:?}", found.unread);
    assert!(found.packages.iter().all(|package| package.inner.is_none()));
    let same = |other: &[u8], what: &str| {
        let other = self::found(reader, "file", Cursor::new(other), other.len());
        let other = other.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(sorted(&other), sorted(&found), "{what}");
    };
    if !text.starts_with(b"\xef\xbb\xbf") {
        same(&[b"\xef\xbb\xbf", text].concat(), "behind a mark");
    }
    if !text.contains(&b'\r') {
        let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        same(&lines.join(&b"\r\n"[..]), "with other line breaks");
    }
    if is_json(reader) {
        let value: Result<serde_json::Value, _> = serde_json::from_slice(text);
        if let Ok(value) = value {
            // It keeps the last of several packages of one name, so there may be fewer.
            let written = value.to_string();
            let copy = self::found(reader, "file", Cursor::new(&written), written.len());
            let copy = copy.expect("a plain reader's copy is accepted");
            for Package { kind, name, version, .. } in &copy.packages {
                let is_same =
                    |p: &&Package| (p.kind, &p.name, &p.version) == (*kind, name, version);
                assert!(found.packages.iter().any(|p| is_same(&p)), "{name} {version} is new");
            }
        }
    }
    true
}

fn is_json(reader: Reader) -> bool {
    matches!(
        reader,
        Reader::NpmPackage
            | Reader::NpmLock
            | Reader::PipfileLock
            | Reader::ComposerLock
            | Reader::ComposerInstalled
            | Reader::NuGetDeps
            | Reader::NuGetLock
    )
}

fn sorted(found: &Found) -> Vec<(Kind, &str, &str, bool)> {
    let packages = found.packages.iter();
    let mut all: Vec<_> = packages.map(|p| (p.kind, &*p.name, &*p.version, p.is_dev)).collect();
    all.sort_unstable();
    all
}

/// A program: an ELF file, perhaps with build information of Go or crates that cargo-auditable wrote
/// down.
///
/// What is found is of Go or Rust, and modules of Go stand in the file. Accepted: it tells of
/// packages.
pub fn binary(data: &[u8]) -> bool {
    let _ = reader_of("usr/bin/a", &data[..data.len().min(portcullis_languages::HEAD)]);
    let Some(found) = told_of(Reader::Binary, "usr/bin/a", data) else { return false };
    for package in &found.packages {
        assert!(matches!(package.kind, Kind::Go | Kind::Cargo), "{package:?}");
        let is_made = package.kind == Kind::Cargo || package.name == "stdlib";
        let name = package.name.as_bytes();
        let mut places = data.windows(name.len());
        assert!(is_made || places.any(|bytes| bytes == name), "{package:?} is not in the file");
    }
    !found.packages.is_empty()
}

/// An archive of Java, and those within it.
///
/// What is found is of Maven, and nothing of it changes if a script stands before the archive.
/// Accepted: it tells of packages.
pub fn jar(data: &[u8]) -> bool {
    let path = "lib/app-1.0.jar";
    let Some(found) = told_of(Reader::Jar, path, data) else { return false };
    for package in &found.packages {
        assert_eq!(package.kind, Kind::Maven);
        assert!(!package.is_dev, "{package:?}");
    }
    // Of an archive that is too large for plain numbers, the end is where it says.
    let is_large = data.windows(4).any(|bytes| bytes == b"PK\x06\x07");
    if !is_large && found.unread.is_empty() {
        let script = [b"#!/bin/sh\nexec java -jar \"$0\"\n", data].concat();
        let behind = self::found(Reader::Jar, path, Cursor::new(&script), script.len());
        let behind = behind.expect("without a script it was read");
        assert_eq!(behind.packages, found.packages, "behind a script");
    }
    !found.packages.is_empty()
}
