//! What the tests share: the fixtures, and reading from memory.

use std::io::{Cursor, Read};

use flate2::read::GzDecoder;
use portcullis_rpmdb::{Limits, Package, RpmDbError, Summary, read};

/// A fixture by its name.
macro_rules! fixture {
    ($name:literal) => {
        crate::common::unpacked(include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/",
            $name,
            ".gz"
        )))
    };
}
pub(crate) use fixture;

pub(crate) fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut unpacked = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut unpacked).expect("a fixture can be unpacked");
    unpacked
}

/// All packages of a database in memory.
pub(crate) fn packages(
    database: &[u8],
    log: Option<&[u8]>,
    limits: &Limits,
) -> Result<(Vec<Package>, Summary), RpmDbError> {
    let mut packages = Vec::new();
    let mut log = log.map(Cursor::new);
    let log = log.as_mut().map(|log| log as _);
    let summary = read(Cursor::new(database), log, limits, &mut |package| packages.push(package))?;
    assert_eq!(summary.packages, packages.len());
    Ok((packages, summary))
}
