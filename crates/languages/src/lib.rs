//! Packages of programming languages, read from the files of an image that tell of them.
//!
//! [`reader_of`] says by a file's path and its first bytes who can read it, [`read`] reads it. What is
//! installed (a package's own metadata, the build information of a binary, a jar) and what is only
//! wished for (lock files and other manifests, [`Reader::is_manifest`]) are kept apart, since a lock
//! file in an image says what somebody once developed with and not what can run.
//!
//! The files are somebody else's and may be hostile. Sizes, counts and depths are bounded by
//! [`Limits`]; memory follows the bytes that are there and never a number that is written in them.
//! A name or version that cannot be one in its ecosystem is left out. A file that is damaged is a
//! [`LanguageError`]; a part of an archive that cannot be read is told in [`Found::unread`], so that
//! one bad entry does not hide the others.

#![forbid(unsafe_code)]

mod cargo;
mod elf;
mod error;
mod found;
mod go;
mod input;
mod jar;
mod json;
mod npm;
mod nuget;
mod package;
mod php;
mod python;
mod reader;
mod ruby;

use std::io::{Read, Seek};

pub use error::LanguageError;
pub use found::{Found, Unread};
pub use input::Limits;
pub use jar::ZipError;
pub use package::{Kind, Package};
pub use reader::{HEAD, Reader, reader_of};

use input::Input;

/// Reads the packages that a file tells of.
///
/// `path` is where the file lies in the image, with or without a leading slash; `size` is its length
/// in bytes. Binaries and archives are read where it is needed, all else from the beginning.
///
/// # Errors
/// [`LanguageError`] when the file cannot be read, is larger than the limits, or is damaged. An ELF
/// file that no compiler has written build information into is not damaged: it tells of nothing.
pub fn read<R: Read + Seek>(
    reader: Reader,
    path: &str,
    mut content: R,
    size: u64,
    limits: &Limits,
) -> Result<Found, LanguageError> {
    let mut input = Input { source: &mut content, size, limits };
    let mut found = Found::new(limits.packages);
    match reader {
        Reader::NpmPackage => npm::package_json(&mut input, &mut found),
        Reader::NpmLock => npm::package_lock(&mut input, &mut found),
        Reader::YarnLock => npm::yarn_lock(&mut input, &mut found),
        Reader::PnpmLock => npm::pnpm_lock(&mut input, &mut found),
        Reader::PythonMetadata => python::metadata(&mut input, &mut found),
        Reader::PythonLock => python::toml_lock(&mut input, &mut found),
        Reader::PipfileLock => python::pipfile_lock(&mut input, &mut found),
        Reader::Requirements => python::requirements(&mut input, &mut found),
        Reader::GoMod => go::module_file(&mut input, &mut found),
        Reader::CargoLock => cargo::lock(&mut input, &mut found),
        Reader::Binary => elf::Elf::open(&mut input)?.map_or(Ok(()), |elf| {
            go::binary(&elf, &mut input, &mut found)?;
            cargo::binary(&elf, &mut input, &mut found)
        }),
        Reader::Jar => jar::archive(&mut input, path, &mut found),
        Reader::GemSpec => ruby::gemspec(&mut input, &mut found),
        Reader::GemfileLock => ruby::gemfile_lock(&mut input, &mut found),
        Reader::ComposerLock => php::composer_lock(&mut input, &mut found),
        Reader::ComposerInstalled => php::composer_installed(&mut input, &mut found),
        Reader::NuGetDeps => nuget::deps(&mut input, &mut found),
        Reader::NuGetLock => nuget::lock(&mut input, &mut found),
    }?;
    Ok(found)
}
