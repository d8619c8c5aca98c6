//! RPM's package databases.

use std::io::{Cursor, Read, Seek};

use portcullis_rpmdb::{Damaged, Limits, Package, Summary, read};

use crate::encode::{self, Frame, PAGE};
use crate::pieces::Pieces;
use crate::text::told;

const LIMITS: Limits = Limits {
    max_database: 1 << 20,
    max_packages: 64,
    max_blob: 1 << 16,
    max_file_names: 256,
    max_path_bytes: 1 << 15,
};

type Answer = (Vec<Package>, Summary);

fn packages(
    database: impl Read + Seek,
    log: Option<&[u8]>,
    limits: &Limits,
) -> Result<Answer, String> {
    let mut packages = Vec::new();
    let mut log = log.map(Cursor::new);
    let log = log.as_mut().map(|log| log as _);
    match read(database, log, limits, &mut |package| packages.push(package)) {
        Ok(summary) => Ok((packages, summary)),
        Err(error) => {
            told(&error);
            Err(portcullis_types::with_causes(&error))
        }
    }
}

/// Reads a database in one piece and in many, and checks what it told.
fn checked(database: &[u8], log: Option<&[u8]>) -> Result<Answer, String> {
    let answer = packages(Cursor::new(database), log, &LIMITS);
    assert_eq!(packages(Pieces::new(database, 7), log, &LIMITS), answer, "in pieces");
    let Ok((packages, summary)) = &answer else { return answer };
    let count = packages.len() + summary.keys + summary.damaged.len();
    assert_eq!(summary.packages, packages.len());
    assert!(count <= LIMITS.max_packages, "{count} entries");
    assert!(packages.iter().map(|p| p.files.len()).sum::<usize>() <= LIMITS.max_file_names);
    for package in packages {
        let is_part = |part: &str| package.source_rpm.as_deref().is_some_and(|s| s.contains(part));
        assert!(package.source_name().is_none_or(is_part), "{package:?}");
        assert!(package.source_version().is_none_or(is_part), "{package:?}");
        assert!(package.evr().ends_with(&format!("{}-{}", package.version, package.release)));
    }
    summary.damaged.iter().for_each(|Damaged { cause, .. }| told(cause));
    if count > 0 {
        let limits = Limits { max_packages: count - 1, ..LIMITS };
        let fewer = self::packages(Cursor::new(database), log, &limits);
        assert!(fewer.is_err(), "{count} entries, and one fewer may be");
    }
    answer
}

/// A package database. The first byte tells which: one of any kind as it is; one of SQLite with its
/// log, given by its frames; or one of ndb, given by its slots.
///
/// What is read is bounded, and the same in pieces. A log is read as SQLite would fold it in. The
/// order of slots changes nothing. Accepted: it is a database.
pub fn rpmdb(data: &[u8]) -> bool {
    let Some((kind, rest)) = data.split_first() else { return false };
    match kind % 3 {
        0 => {
            let answer = checked(rest, None);
            assert_eq!(packages(Cursor::new(rest), Some(b""), &LIMITS), answer, "an empty log");
            answer.is_ok()
        }
        1 => with_log(rest),
        _ => with_slots(rest),
    }
}

/// The number of the database's pages, the pages, and then frames: number of the page, pages after
/// the commit if it is one, content.
fn with_log(data: &[u8]) -> bool {
    let Some((pages, rest)) = data.split_first() else { return false };
    let Some((database, rest)) = rest.split_at_checked(usize::from(*pages) * PAGE) else {
        return false;
    };
    let frames = rest.chunks_exact(2 + PAGE).map(|frame| Frame {
        page: frame[0].into(),
        commit: frame[1].into(),
        content: &frame[2..],
    });
    let frames: Vec<Frame<'_>> = frames.collect();
    let log = encode::log(&frames);
    let answer = checked(database, Some(&log));
    // What stands behind the log, from an older one, changes nothing.
    let longer = [&*log, &[0x5a; PAGE + 24]].concat();
    assert_eq!(checked(database, Some(&longer)), answer, "behind the log");
    let counted: Vec<&Frame<'_>> = frames.iter().take_while(|frame| frame.page > 0).collect();
    let committed = counted.iter().rposition(|frame| frame.commit > 0).map_or(0, |at| at + 1);
    if let Ok((_, summary)) = &answer {
        assert_eq!(summary.log_frames, committed as u64);
        assert_eq!(summary.log_frames_uncommitted, (counted.len() - committed) as u64);
    }
    if let Some(last) = committed.checked_sub(1).map(|at| counted[at].commit as usize) {
        let mut folded = vec![None; last];
        for (page, bytes) in folded.iter_mut().zip(database.chunks_exact(PAGE)) {
            *page = Some(bytes);
        }
        for frame in &counted[..committed] {
            if let Some(page) = folded.get_mut(frame.page as usize - 1) {
                *page = Some(frame.content);
            }
        }
        // A page that is nowhere is an error only if it is read.
        if let Some(folded) = folded.into_iter().collect::<Option<Vec<&[u8]>>>() {
            let mut folded = folded.concat();
            // As if the last writer had told the number of pages.
            folded[28..32].copy_from_slice(&(last as u32).to_be_bytes());
            folded.copy_within(24..28, 92);
            // How the file begins is looked at before the log.
            if database.get(..20) == folded.get(..20) {
                let plain = packages(Cursor::new(&folded), None, &LIMITS);
                match (&answer, &plain) {
                    (Ok(answer), Ok(plain)) => {
                        assert_eq!(answer.0, plain.0);
                        assert_eq!(answer.1.damaged, plain.1.damaged);
                    }
                    _ => assert_eq!(answer.is_ok(), plain.is_ok(), "{answer:?}, {plain:?}"),
                }
            }
        }
    }
    answer.is_ok()
}

/// The number of slots, the slots (number, block, blocks), and the blocks behind their page. The
/// checksums of blobs are made right if they lie within the file.
fn with_slots(data: &[u8]) -> bool {
    let Some((count, rest)) = data.split_first() else { return false };
    let Some((slots, blocks)) = rest.split_at_checked(3 * usize::from(count % 8)) else {
        return false;
    };
    let slots = slots.chunks_exact(3).map(|slot| [slot[0], slot[1], slot[2]].map(u32::from));
    let slots: Vec<[u32; 3]> = slots.collect();
    let answer = checked(&encode::ndb_of_slots(&slots, blocks), None);
    let reversed: Vec<[u32; 3]> = slots.iter().rev().copied().collect();
    let other = packages(Cursor::new(encode::ndb_of_slots(&reversed, blocks)), None, &LIMITS);
    assert_eq!(other.as_ref().ok(), answer.as_ref().ok(), "in another order of slots");
    answer.is_ok()
}

/// A header, as each of the three kinds of databases would hold it.
///
/// All three make the same of it. Accepted: it is of a package, which, written anew, is the same.
pub fn rpm_header(data: &[u8]) -> bool {
    let blobs = [(1, data)];
    let answers = [encode::sqlite(&blobs), encode::ndb(&blobs), encode::bdb(&blobs)]
        .map(|database| checked(&database, None).expect("the database is whole"));
    let [(packages, summary), others @ ..] = &answers;
    for (other, other_summary) in others {
        assert_eq!(other, packages);
        assert_eq!((other_summary.keys, &other_summary.damaged), (summary.keys, &summary.damaged));
    }
    assert_eq!(packages.len() + summary.keys + summary.damaged.len(), 1);
    let [package] = &packages[..] else { return false };
    let header = encode::header(package);
    let (again, _) = checked(&encode::bdb(&[(1, &header)]), None).expect("it was read before");
    assert_eq!(again, std::slice::from_ref(package), "written anew");
    true
}
