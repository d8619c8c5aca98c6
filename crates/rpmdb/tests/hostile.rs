//! Nothing panics and nothing grows without end, whatever the bytes are: real databases with changes at
//! random places, and random bytes behind a beginning that is known.

mod common;

use std::sync::LazyLock;

use common::{fixture, packages};
use portcullis_rpmdb::{Limits, Summary};
use proptest::prelude::*;

/// Databases with their logs.
static DATABASES: LazyLock<Vec<(Vec<u8>, Vec<u8>)>> = LazyLock::new(|| {
    vec![
        (fixture!("sqlite"), Vec::new()),
        (fixture!("sqlite-512"), Vec::new()),
        (fixture!("sqlite-65536"), Vec::new()),
        (fixture!("wal-database"), fixture!("wal-log")),
        (fixture!("ndb"), Vec::new()),
        (fixture!("bdb-512-1234"), Vec::new()),
        (fixture!("bdb-4096-4321"), Vec::new()),
        (fixture!("bdb-65536-1234"), Vec::new()),
    ]
});

/// Reads with narrow limits, and checks what must hold of any answer.
fn check(database: &[u8], log: &[u8]) -> Result<(), TestCaseError> {
    let limits = Limits { max_packages: 2000, max_file_names: 1000, ..Limits::default() };
    if let Ok((packages, summary)) = packages(database, Some(log), &limits) {
        let Summary { keys, damaged, .. } = summary;
        prop_assert!(packages.len() + keys + damaged.len() <= 2000);
        prop_assert!(packages.iter().map(|package| package.files.len()).sum::<usize>() <= 1000);
    }
    Ok(())
}

/// A place in a database: anywhere, or near the beginning of a page, where its structure is.
fn place() -> impl Strategy<Value = usize> {
    let page = prop::sample::select(vec![512_usize, 4096, 65536]);
    let at_page = (0..64_usize, page, 0..64_usize).prop_map(|(page, size, at)| page * size + at);
    prop_oneof![any::<prop::sample::Index>().prop_map(|at| at.index(400_000)), at_page]
}

/// A byte that is likely to matter.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), prop::sample::select(vec![0, 1, 2, 5, 13, 0x7f, 0x80, 0xff])]
}

proptest! {
    #[test]
    fn changed_databases(
        database in any::<prop::sample::Index>(),
        changes in prop::collection::vec((place(), byte()), 1..12),
        in_log in any::<bool>(),
        cut in prop::option::weighted(0.1, place()),
    ) {
        let (mut database, mut log) = database.get(&DATABASES).clone();
        let bytes = if in_log && !log.is_empty() { &mut log } else { &mut database };
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(cut.unwrap_or(usize::MAX));
        check(&database, &log)?;
    }

    #[test]
    fn pages_in_other_places(
        database in any::<prop::sample::Index>(),
        moves in prop::collection::vec((0..90_usize, 0..90_usize), 1..6),
    ) {
        // Trees and chains that lead into each other.
        let (mut database, log) = database.get(&DATABASES).clone();
        for (from, to) in moves {
            let size = if database.len() > 300_000 { 65536 } else { 4096 };
            let pages = database.len() / size;
            let from = from % pages * size;
            database.copy_within(from..from + size, to % pages * size);
        }
        check(&database, &log)?;
    }

    #[test]
    fn random_bytes(
        begin in any::<prop::sample::Index>(),
        kept in 0..200_usize,
        bytes in prop::collection::vec(byte(), 0..600),
    ) {
        let (database, _) = begin.get(&DATABASES);
        let bytes = [&database[..kept], &bytes].concat();
        check(&bytes, &bytes)?;
    }
}
