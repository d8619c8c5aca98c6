//! Databases that the real tools wrote, compared with what rpm itself says of them, and then damaged in
//! chosen places. How each was made stands in `fixtures/make.sh`.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::io::Cursor;

mod common;

use common::{fixture, packages};
use portcullis_rpmdb::{Damaged, HeaderError, Kind, Limits, Package, RpmDbError, Summary, read};

/// What `rpm -qa` says, by the query format of `fixtures/make.sh`, without the public key.
fn expected() -> Vec<Package> {
    let text = String::from_utf8(fixture!("packages.txt")).unwrap();
    let mut packages = Vec::<Package>::new();
    for line in text.lines() {
        if let Some(file) = line.strip_prefix(' ') {
            packages.last_mut().unwrap().files.push(file.to_owned());
            continue;
        }
        let mut fields = line.split('|');
        let mut field = || fields.next().filter(|field| *field != "(none)").map(str::to_owned);
        packages.push(Package {
            name: field().unwrap(),
            epoch: field().map(|epoch| epoch.parse().unwrap()),
            version: field().unwrap(),
            release: field().unwrap(),
            arch: field(),
            source_rpm: field(),
            modularity: field(),
            vendor: field(),
            license: field(),
            install_time: field().map(|time| time.parse().unwrap()),
            files: Vec::new(),
        });
    }
    packages.retain(|package| package.name != "gpg-pubkey");
    packages
}

fn sorted(mut packages: Vec<Package>) -> Vec<Package> {
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    packages
}

#[test]
fn the_fixture_has_what_it_is_for() {
    let packages = sorted(expected());
    let evrs: Vec<_> = packages.iter().map(|p| (p.name.as_str(), p.evr())).collect();
    let evr = |evr: &str| evr.to_owned();
    assert_eq!(
        evrs,
        [
            ("fixture-many", evr("3-1")),
            ("fixture-module", evr("2:10.5.22-1.module+el9.2.0+18814+bd20ae13")),
            ("fixture-plain", evr("1.0-1.el9")),
            ("fixture-zero", evr("2024a-0.3.rc1~beta^git1")),
        ]
    );
    let [many, module, plain, zero] = &packages[..] else { panic!("there are four") };
    assert_eq!(many.files.len(), 485);
    assert!(many.files.contains(&"/usr/lib/many/two/a-file-with-number-17.txt".to_owned()));
    let label = "fixture:10.5:9020020230524153244:rhel9";
    assert_eq!(module.modularity.as_deref(), Some(label));
    assert_eq!(module.vendor.as_deref(), Some("Fixtures & Söhne"));
    assert_eq!(module.files, ["/opt/fixture/naïve"]);
    assert_eq!(plain.source_name(), Some("fixture-plain"));
    assert_eq!(plain.source_version(), Some("1.0-1.el9"));
    assert_eq!((plain.epoch, zero.epoch, &zero.files[..]), (None, Some(0), &[][..]));
}

#[test]
fn all_say_what_rpm_says() {
    let check = |kind, database: &[u8]| {
        let (packages, summary) = packages(database, None, &Limits::default()).unwrap();
        assert_eq!(sorted(packages), sorted(expected()));
        let (log_frames, log_frames_uncommitted) = (0, 0);
        let damaged = Vec::new();
        let expected =
            Summary { packages: 4, keys: 1, damaged, kind, log_frames, log_frames_uncommitted };
        assert_eq!(summary, expected);
        assert_eq!(Kind::of(database), Some(kind));
    };
    // All of rpm's tables, with pages of 4096 bytes.
    check(Kind::Sqlite, &fixture!("sqlite"));
    check(Kind::Sqlite, &fixture!("sqlite-65536"));
    check(Kind::Ndb, &fixture!("ndb"));
    check(Kind::Bdb, &fixture!("bdb-512-1234"));
    check(Kind::Bdb, &fixture!("bdb-4096-4321"));
    // Most values stand in the hash page itself.
    check(Kind::Bdb, &fixture!("bdb-65536-1234"));
    check(Kind::Bdb, &fixture!("bdb-used"));
    // Before 4.6 the items were not sorted and the kind of page was another one.
    let mut old = fixture!("bdb-used");
    for page in old.chunks_exact_mut(4096).filter(|page| page[25] == 13) {
        page[25] = 2;
    }
    check(Kind::Bdb, &old);
}

#[test]
fn a_deep_tree_is_read_to_its_end() {
    let database = fixture!("sqlite-512");
    let (packages, summary) = packages(&database, None, &Limits::default()).unwrap();
    assert_eq!((summary.packages, summary.keys), (34, 1));
    let zero = expected().into_iter().find(|package| package.name == "fixture-zero").unwrap();
    assert_eq!(packages[4..], vec![zero; 30]);
    assert_eq!(sorted(packages[..4].to_vec()), sorted(expected()));
    let cause = HeaderError::Length;
    let damaged = (1000..2000).map(|number| Damaged { number: Some(number), cause: cause.clone() });
    assert_eq!(summary.damaged, damaged.collect::<Vec<_>>());
}

/// A log with the same frames, by words of another order in its checksums.
fn in_other_order(log: &[u8]) -> Vec<u8> {
    let word = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    let mut log = log.to_vec();
    log[3] ^= 1;
    let (mut a, mut b) = (0_u32, 0_u32);
    let mut add = |bytes: &[u8]| {
        for pair in bytes.chunks_exact(8) {
            a = a.wrapping_add(word(&pair[..4])).wrapping_add(b);
            b = b.wrapping_add(word(&pair[4..])).wrapping_add(a);
        }
        [a.to_be_bytes(), b.to_be_bytes()].concat()
    };
    let sum = add(&log[..24]);
    log[24..32].copy_from_slice(&sum);
    for frame in log[32..].chunks_exact_mut(24 + 4096).take(3) {
        add(&frame[..8]);
        let sum = add(&frame[24..]);
        frame[16..24].copy_from_slice(&sum);
    }
    log
}

#[test]
fn a_log_counts_up_to_its_last_commit() {
    let (database, log) = (fixture!("wal-database"), fixture!("wal-log"));
    let check = |log: Option<&[u8]>, expected: (usize, u64, u64)| {
        let (packages, summary) = packages(&database, log, &Limits::default()).unwrap();
        let Summary { log_frames, log_frames_uncommitted, keys, .. } = summary;
        assert_eq!((packages.len(), log_frames, log_frames_uncommitted), expected);
        assert_eq!((keys, summary.damaged), (1, vec![]));
        let all = sorted(self::expected());
        assert_eq!(packages.len() == 4, sorted(packages) == all);
    };
    let frame = 24 + 4096;
    check(None, (3, 0, 0));
    check(Some(&[]), (3, 0, 0));
    check(Some(&log[..31]), (3, 0, 0));
    check(Some(&log[..32]), (3, 0, 0));
    check(Some(&log[..32 + frame - 1]), (3, 0, 0));
    // The first frame is a commit by itself, the next two are one together.
    check(Some(&log[..32 + frame]), (4, 1, 0));
    check(Some(&log[..32 + 2 * frame]), (4, 1, 1));
    check(Some(&log[..32 + 3 * frame]), (4, 3, 0));
    // Behind them are frames of a change that was going on, which are not whole.
    assert!(log.len() > 32 + 20 * frame);
    check(Some(&log), (4, 3, 0));
    check(Some(&in_other_order(&log)), (4, 3, 0));
    // A frame that is changed ends the log: in its salts, its checksum, its content, its page.
    for at in [8, 15, 16, 23, 24, 4000, 3] {
        let mut changed = log.clone();
        changed[32 + at] ^= 0x10;
        check(Some(&changed), (3, 0, 0));
        let mut changed = log.clone();
        changed[32 + frame + at] ^= 0x10;
        check(Some(&changed), (4, 1, 0));
    }
}

#[test]
fn a_damaged_log_is_an_error() {
    let (database, log) = (fixture!("wal-database"), fixture!("wal-log"));
    let check = |at: usize, expected: &str| {
        let mut log = log.clone();
        log[at] ^= 0x10;
        let error = packages(&database, Some(&log), &Limits::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the log of the SQLite database is damaged: {expected}")
        );
    };
    check(0, "it has the beginning of no log");
    check(7, "it has the beginning of no log");
    for at in [8, 12, 16, 24, 31] {
        check(at, "the checksum of its header is wrong");
    }
    // It is of another database.
    let other = fixture!("sqlite-65536");
    let error = packages(&other, Some(&log), &Limits::default()).unwrap_err();
    assert!(error.to_string().contains("another size"), "{error}");
    // Other kinds have no such log, so that it is not looked at.
    let (packages, _) = packages(
        &fixture!("ndb"),
        Some(b"not a log, but long enough to be one"),
        &Limits::default(),
    )
    .unwrap();
    assert_eq!(packages.len(), 4);
}

#[test]
fn limits_are_errors() {
    let check = |limits: Limits, expected: &str| {
        for database in [fixture!("sqlite"), fixture!("ndb"), fixture!("bdb-4096-4321")] {
            let error = packages(&database, None, &limits).unwrap_err();
            assert_eq!(error.to_string(), format!("the package database has more than {expected}"));
        }
    };
    let limits = Limits::default;
    check(Limits { max_packages: 4, ..limits() }, "4 entries");
    check(Limits { max_packages: 0, ..limits() }, "0 entries");
    check(Limits { max_file_names: 489, ..limits() }, "489 names of files");
    check(Limits { max_database: 10_000, ..limits() }, "10000 bytes");
    let enough = Limits { max_packages: 5, max_file_names: 490, ..limits() };
    for database in [fixture!("sqlite"), fixture!("ndb"), fixture!("bdb-4096-4321")] {
        let (packages, summary) = packages(&database, None, &enough).unwrap();
        assert_eq!((packages.len(), summary.damaged), (4, vec![]));
    }
}

#[test]
fn headers_that_are_too_large_are_counted() {
    let check = |limits: &Limits, expected: &dyn Fn(&HeaderError) -> bool| {
        for database in [fixture!("sqlite"), fixture!("ndb"), fixture!("bdb-4096-4321")] {
            let (packages, summary) = packages(&database, None, limits).unwrap();
            assert_eq!((packages.len(), summary.keys), (3, 1));
            let [Damaged { number: Some(5), cause }] = &summary.damaged[..] else {
                panic!("{:?}", summary.damaged);
            };
            assert!(expected(cause), "{cause}");
        }
    };
    check(&Limits { max_blob: 10_000, ..Limits::default() }, &|cause| {
        matches!(cause, HeaderError::TooLarge(70_000..80_000))
    });
    check(&Limits { max_path_bytes: 1000, ..Limits::default() }, &|cause| {
        *cause == HeaderError::Paths(1000)
    });
}

/// The place of the only header with a text.
fn place(database: &[u8], text: &[u8]) -> usize {
    let mut places = database.windows(text.len()).enumerate().filter(|(_, bytes)| *bytes == text);
    let (place, _) = places.next().expect("the text is there");
    place
}

#[test]
fn a_damaged_header_is_named() {
    // The tag of the name becomes another one, in the header that begins before the text.
    let check = |mut database: Vec<u8>, number, cause: HeaderError| {
        let text = place(&database, b"fixture-plain\x001.0\x001.el9\0");
        let tag = database[..text].windows(4).rposition(|bytes| bytes == 1000_u32.to_be_bytes());
        database[tag.expect("there is an index") + 3] = 0xff;
        let (packages, summary) = packages(&database, None, &Limits::default()).unwrap();
        assert_eq!(packages.len(), 3);
        assert_eq!(summary.damaged, [Damaged { number: Some(number), cause }]);
    };
    check(fixture!("sqlite"), 3, HeaderError::Missing(1000));
    check(fixture!("bdb-65536-1234"), 3, HeaderError::Missing(1000));
    check(fixture!("bdb-4096-4321"), 3, HeaderError::Missing(1000));
    // Here the checksum tells it first.
    check(fixture!("ndb"), 3, HeaderError::Checksum);
}

#[test]
fn an_entry_of_another_form_is_named() {
    let check = |database: &[u8], number, packages: usize| {
        let (found, summary) = self::packages(database, None, &Limits::default()).unwrap();
        let cause = HeaderError::Entry;
        assert_eq!((found.len(), summary.keys), (packages, 1));
        assert_eq!(summary.damaged, [Damaged { number, cause }]);
    };
    // The first column of a row is a number instead of nothing: behind two bytes of the row's length,
    // its number, and the length of the types.
    let mut sqlite = fixture!("wal-database");
    let page = sqlite.chunks(4096).position(|page| page[0] == 13 && page[4] >= 2).unwrap() * 4096;
    let row = page + usize::from(u16::from_be_bytes([sqlite[page + 8], sqlite[page + 9]]));
    assert_eq!(sqlite[row + 4], 0);
    let number = Some(i64::from(sqlite[row + 2]));
    sqlite[row + 4] = 8;
    check(&sqlite, number, 2);

    let bdb = fixture!("bdb-4096-4321");
    let mut pages = bdb.chunks(4096).enumerate().filter(|(_, page)| page[25] == 13);
    let key = pages.find_map(|(number, page)| {
        let at = page.windows(5).position(|bytes| bytes == [1, 0, 0, 0, 3])?;
        Some(number * 4096 + at)
    });
    let with = |at: usize, byte: u8| {
        let mut bdb = bdb.clone();
        bdb[key.unwrap() + at] = byte;
        bdb
    };
    // The key is said to be elsewhere, and it is that of the pair which holds the largest number.
    check(&with(0, 3), None, 3);
    check(&with(4, 0), Some(0), 3);
}

#[test]
fn damaged_databases_are_errors() {
    let check = |database: &[u8], at: usize, bytes: &[u8], expected: &str| {
        let mut database = database.to_vec();
        database[at..at + bytes.len()].copy_from_slice(bytes);
        let Err(error) = packages(&database, None, &Limits::default()) else {
            panic!("not \"{expected}\"");
        };
        assert!(error.to_string().contains(expected), "\"{error}\", not \"{expected}\"");
    };
    let sqlite = fixture!("wal-database");
    check(&sqlite, 0, b"x", "no package database");
    for size in [[0, 0], [0, 2], [1, 0], [16, 1], [255, 255]] {
        check(&sqlite, 16, &size, "no size that is possible");
    }
    check(&sqlite, 19, &[3], "newer format");
    check(&sqlite, 59, &[2], "not UTF-8");
    check(&sqlite, 30, &[255], "ends before byte");
    check(&sqlite, 100, &[10], "of no table");
    check(&sqlite, 103, &[255], "too many cells");
    let table = place(&sqlite, b"tablePackagesPackages");
    check(&sqlite, table, b"index", "named Packages");
    check(&sqlite, table, b"view!", "named Packages");
    check(&sqlite, table + 5, b"packagez", "no table Packages");
    // The number of the first page.
    check(&sqlite, table + 21, &[1], "used twice");
    check(&sqlite, table + 21, &[0], "does not exist");
    check(&sqlite, table + 21, &[127], "does not exist");
    check(&sqlite, table + 21, &[255], "no first page");
    // The table's first page, which leads to others: the last one of them, and the first one.
    let page = (usize::from(sqlite[table + 21]) - 1) * 4096;
    assert_eq!(sqlite[page], 5);
    check(&sqlite, page + 8, &[255, 255], "does not exist");
    check(&sqlite, page + 11, &[1], "used twice");
    check(&sqlite, page + 12, &[255, 255], "not within its page");
    // A page with rows: its first one, its second one twice, and both in turn.
    let is_full = |page: &[u8]| page[0] == 13 && page[4] >= 2;
    let page = sqlite.chunks(4096).position(is_full).unwrap() * 4096;
    check(&sqlite, page + 8, &[255, 255], "not within its page");
    let second: [u8; 2] = sqlite[page + 10..][..2].try_into().unwrap();
    check(&sqlite, page + 8, &second, "overlap");
    let first: [u8; 2] = sqlite[page + 8..][..2].try_into().unwrap();
    check(&sqlite, page + 8, &[second, first].concat(), "not in order");

    let ndb = fixture!("ndb");
    check(&ndb, 4, &[1], "another version");
    check(&ndb, 12, &[2], "of no blob");
    check(&ndb, 15, &[2], "of no blob");
    check(&ndb, 32, b"x", "no beginning");
    let slot =
        ndb.chunks(16).position(|slot| slot.starts_with(b"Slot") && slot[8] != 0).unwrap() * 16;
    check(&ndb, slot + 4, &[0, 0, 0, 0], "of no blob");
    check(&ndb, slot + 4, &[9], "not what its slot says");
    check(&ndb, slot + 8, &[1, 0, 0, 0], "of no blob");
    check(&ndb, slot + 11, &[255], "ends before byte");
    check(&ndb, slot + 12, &[1], "not what its slot says");
    check(&ndb, slot + 16, &ndb[slot..slot + 16], "same number");
    let mut overlapping = ndb[slot..slot + 16].to_vec();
    overlapping[4] = 77;
    check(&ndb, slot + 16, &overlapping, "overlap");
    let blob = place(&ndb, b"BlbS");
    check(&ndb, blob, b"x", "not what its slot says");
    check(&ndb, blob + 12, &[255, 255, 255, 255], "not what its slot says");
    let end = place(&ndb, b"BlbE");
    check(&ndb, end, b"x", "not what its slot says");

    let bdb = fixture!("bdb-512-1234");
    check(&bdb, 12, b"x", "no package database");
    check(&bdb, 16, &[7], "another version");
    check(&bdb, 20, &[0, 1], "no size that is possible");
    check(&bdb, 24, &[1], "encryption");
    check(&bdb, 26, &[1], "checksums");
    check(&bdb, 25, &[9], "of no hash");
    check(&bdb, 34, &[255], "ends before byte");
    check(&bdb, 48, &[1], "several values");
    let page = bdb.chunks(512).position(|page| page[25] == 13 && page[20] > 0).unwrap() * 512;
    check(&bdb, page + 8, &[99], "another's number");
    check(&bdb, page + 20, &[1], "no pairs");
    check(&bdb, page + 20, &[255, 255], "no pairs");
    check(&bdb, page + 25, &[5], "of no hash");
    check(&bdb, page + 26, &[0, 0], "not within its page");
    check(&bdb, page + 26, &[255, 255], "not within its page");
    let page = bdb.chunks(512).rposition(|page| page[25] == 7 && page[16] > 0).unwrap() * 512;
    check(&bdb, page + 16, &[0, 0, 0, 0], "ends before its length");
    check(&bdb, page + 16, &[255, 255, 255, 255], "does not exist");
    check(&bdb, page + 16, &[(page / 512) as u8, (page / 512 / 256) as u8], "used twice");
    check(&bdb, page + 22, &[255, 255], "not in its pages");
    check(&bdb, page + 25, &[13], "not in its pages");
}

#[test]
fn a_database_that_is_cut_is_an_error() {
    for database in [fixture!("sqlite"), fixture!("ndb"), fixture!("bdb-4096-4321")] {
        for kept in [0, 1, 15, 16, 31, 99, 100, 511, 4095, 4096, 8192, database.len() - 1] {
            let error = packages(&database[..kept], None, &Limits::default()).unwrap_err();
            let is_told = match error {
                RpmDbError::Unknown => kept < 16,
                RpmDbError::Ends(end) => end > kept as u64,
                RpmDbError::Damaged { kind: Kind::Ndb, .. } => !kept.is_multiple_of(16),
                _ => false,
            };
            assert!(is_told, "{error} at {kept}");
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    struct Broken(Cursor<Vec<u8>>);
    impl std::io::Read for Broken {
        fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
            if self.0.position() > 4096 {
                return Err(std::io::Error::other("broken"));
            }
            self.0.read(bytes)
        }
    }
    impl std::io::Seek for Broken {
        fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
            self.0.seek(to)
        }
    }
    for database in [fixture!("sqlite"), fixture!("ndb"), fixture!("bdb-4096-4321")] {
        let broken = Broken(Cursor::new(database));
        let error = read(broken, None, &Limits::default(), &mut |_| {}).unwrap_err();
        assert!(matches!(error, RpmDbError::Read(_)), "{error}");
    }
}
