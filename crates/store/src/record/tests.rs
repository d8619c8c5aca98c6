use portcullis_types::{Binding, Class, Finding, ScanReport, Scanner, Severity, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::seen::Key;
use crate::{frame, suite};

fn verdict(findings: usize) -> Verdict {
    let mut first = suite::report("trivy", 10, findings);
    if let Some(finding) = first.findings.first_mut() {
        let finding = Arc::make_mut(finding);
        finding.sha256 = Some("ab".repeat(32).into());
        finding.epss = Some(0.25);
        finding.kev = true;
        finding.fixed = finding.published;
    }
    let second = ScanReport {
        scanner: Scanner { name: "grype".to_owned(), version: None },
        database_at: None,
        binding: Binding::ByImporter,
        scanned_at: Timestamp::new(-5, -7).unwrap(),
        ..suite::report("grype", 11, findings)
    };
    Verdict { image: suite::image('a'), reports: vec![first, second] }
}

fn entry(findings: usize) -> Entry {
    let gone = suite::report("trivy", 5, findings / 2 + 1).findings;
    let gone = gone.iter().map(|finding| (Key::of(finding), Timestamp::new(7, 8).unwrap()));
    Entry { verdict: verdict(findings), vanished: gone.collect() }
}

fn sealed(entry: &Entry) -> Vec<u8> {
    frame::seal(&encode(entry).unwrap()).unwrap()
}

/// Reads a file as a store does.
fn read(file: &[u8], detail: Detail) -> Result<Entry, Damage> {
    let start = frame::wanted(&file[..file.len().min(frame::HEADER)], part(detail));
    let start = file.len().min(usize::try_from(start).unwrap_or(usize::MAX));
    let body = frame::open(&file[..start], file.len() as u64, part(detail))?;
    decode(body, detail)
}

fn sections(file: &[u8]) -> Body<'_> {
    frame::open(file, file.len() as u64, Part::Rest).unwrap()
}

/// What a start gets of an entry.
fn for_a_decision(mut entry: Entry) -> Entry {
    entry.vanished = Vanished::default();
    for finding in entry.verdict.reports.iter_mut().flat_map(|report| &mut report.findings) {
        Arc::make_mut(finding).title = None;
    }
    entry
}

#[test]
fn what_is_written_is_read() {
    for findings in [0, 1, 500] {
        let entry = entry(findings);
        let file = sealed(&entry);
        assert_eq!(read(&file, Detail::Full), Ok(entry.clone()));
        assert_eq!(read(&file, Detail::Decision), Ok(for_a_decision(entry)));
    }
}

#[test]
fn each_class_and_severity_is_kept() {
    let mut entry = entry(0);
    let report = &mut entry.verdict.reports[0];
    for class in Class::ALL {
        for severity in Severity::ALL {
            report.findings.push(Arc::new(Finding::new(*class, "id", *severity, "trivy")));
        }
        report.coverage.classes.insert(*class);
    }
    assert_eq!(read(&sealed(&entry), Detail::Full), Ok(entry));
}

/// Format 2 as it stands on disks. If this fails, raise the version instead of the numbers here.
#[test]
fn the_format_is_the_one_that_was_written_before() {
    let file = sealed(&entry(3));
    assert_eq!((file.len(), crc32fast::hash(&file)), FORMAT_2);
}

const FORMAT_2: (usize, u32) = (1377, 2_947_076_269);

/// What format 1 wrote for `verdict(3)`, when findings had neither aliases nor package URL, and
/// versions of their own in each report.
const OLD: &[u8] = include_bytes!("format-1.verdict");

#[test]
fn format_1_is_read() {
    let mut wanted = verdict(3);
    for report in &mut wanted.reports {
        for finding in &mut report.findings {
            let finding = Arc::make_mut(finding);
            finding.aliases.clear();
            finding.purl = None;
            finding.first_seen = Some(report.imported_at);
            let release = report.imported_at.as_second() - 60;
            finding.version = finding.version.as_ref().map(|v| format!("{v}-r{release}").into());
        }
    }
    for detail in [Detail::Full, Detail::Decision] {
        assert_eq!(read(OLD, detail), Ok(Entry::new(wanted.clone())));
    }
}

#[test]
fn each_changed_byte_is_noticed() {
    let new = sealed(&entry(3));
    for file in [&new[..], OLD] {
        let part = read(file, Detail::Decision).unwrap();
        for at in 0..file.len() {
            for change in [1, 3, 0x10, 0x80, 0xff] {
                let mut damaged = file.to_vec();
                damaged[at] ^= change;
                assert!(read(&damaged, Detail::Full).is_err(), "byte {at} changed by {change}");
                // A start does not read everything, but what it reads is whole.
                let read = read(&damaged, Detail::Decision);
                assert!(read.is_err() || read.as_ref() == Ok(&part), "byte {at} by {change}");
            }
        }
    }
}

#[test]
fn each_missing_end_is_noticed() {
    let new = sealed(&entry(3));
    for file in [&new[..], OLD] {
        for length in 0..file.len() {
            for detail in [Detail::Full, Detail::Decision] {
                assert!(read(&file[..length], detail).is_err(), "cut to {length} bytes");
            }
        }
    }
}

#[test]
fn what_follows_is_noticed() {
    let mut file = sealed(&entry(3));
    file.push(0);
    for detail in [Detail::Full, Detail::Decision] {
        assert!(matches!(read(&file, detail), Err(Damage::Length { .. })));
    }
    // Behind the texts there is nothing; what is longer than they are is no text of theirs.
    for (section, wanted) in [(0, BEHIND), (1, NO_TEXT), (2, BEHIND)] {
        let mut sections = encode(&entry(3)).unwrap();
        sections[section].push(0);
        let file = frame::seal(&sections).unwrap();
        assert_eq!(read(&file, Detail::Full), Err(Damage::Body(wanted)), "section {section}");
    }
}

#[test]
fn a_verdict_that_contradicts_itself_is_refused() {
    let [heads, findings, rests] = [1, 2].map(|n| encode(&entry(n)).unwrap()).into_iter().fold(
        [Vec::new(), Vec::new(), Vec::new()],
        |mut all, sections| {
            all.iter_mut().zip(sections).for_each(|(all, section)| all.push(section));
            all
        },
    );
    for (head, finding, rest) in [(0, 1, 1), (1, 0, 0), (0, 0, 1), (1, 1, 0)] {
        let sections = [heads[head].clone(), findings[finding].clone(), rests[rest].clone()];
        let file = frame::seal(&sections).unwrap();
        assert!(matches!(read(&file, Detail::Full), Err(Damage::Body(_))));
    }
}

#[test]
fn a_score_that_is_no_number_is_noticed() {
    for give in [
        |finding: &mut Finding| finding.cvss = Some(f32::NAN),
        |finding: &mut Finding| finding.epss = Some(f32::NAN),
    ] {
        let mut entry = entry(3);
        give(Arc::make_mut(&mut entry.verdict.reports[1].findings[2]));
        for detail in [Detail::Full, Detail::Decision] {
            assert_eq!(read(&sealed(&entry), detail), Err(Damage::Body(NO_NUMBER)));
        }
    }
}

#[test]
fn a_text_that_is_repeated_without_end_is_noticed() {
    let mut entry = entry(0);
    let finding = |id: String| Arc::new(Finding::new(Class::Secret, id, Severity::Low, "trivy"));
    entry.verdict.reports[0].findings =
        (0..300).map(|n| finding(format!("{n:03}").repeat(1 << 10))).collect();
    let mut sections = encode(&entry).unwrap();
    // Make all findings name the text of the last one, which stands there as mentioned once.
    let texts = u32::from_le_bytes(*sections[1].first_chunk().unwrap());
    let records = 20 + 4 * texts as usize;
    for record in sections[1][records..][..300 * 60].chunks_exact_mut(60) {
        record[..4].copy_from_slice(&texts.to_le_bytes());
    }
    // And that text fill the whole table.
    for end in sections[1][20..records].chunks_exact_mut(4).rev().skip(1) {
        end.copy_from_slice(&5_u32.to_le_bytes());
    }
    let file = frame::seal(&sections).unwrap();
    assert_eq!(read(&file, Detail::Full), Err(Damage::Body("it unfolds to too much text")));
}

proptest! {
    /// The checksum hides the decoder from damage, so here it is passed by.
    #[test]
    fn a_body_of_any_bytes_is_decoded_or_refused(
        head in prop::collection::vec(any::<u8>(), 0..200),
        findings in prop::collection::vec(any::<u8>(), 0..400),
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = decode(Body::First(&findings), Detail::Full);
        let _ = decode(Body::Second([&head, &findings, &rest]), Detail::Full);
        let _ = summary(Body::Second([&head, &[], &[]]));
        let good = encode(&entry(5)).unwrap();
        let _ = decode(Body::Second([&good[0], &findings, &good[2]]), Detail::Full);
        let _ = decode(Body::Second([&good[0], &good[1], &rest]), Detail::Full);
    }

    #[test]
    fn a_body_with_changed_bytes_is_decoded_or_refused(
        changes in prop::collection::vec((0..3_usize, any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cuts in prop::array::uniform3(any::<prop::sample::Index>()),
    ) {
        let mut new = encode(&entry(5)).unwrap();
        let Body::First(old) = sections(OLD) else { panic!("it is format 1") };
        let mut old = old.to_vec();
        for (section, at, byte) in changes {
            let section = &mut new[section];
            let place = at.index(section.len());
            section[place] = byte;
            let place = at.index(old.len());
            old[place] = byte;
        }
        let decode_new = |new: &[Vec<u8>; 3]| {
            for detail in [Detail::Full, Detail::Decision] {
                let _ = decode(Body::Second([&new[0], &new[1], &new[2]]), detail);
            }
        };
        decode_new(&new);
        let _ = decode(Body::First(&old), Detail::Full);
        for (section, cut) in new.iter_mut().zip(cuts) {
            section.truncate(cut.index(section.len()));
        }
        old.truncate(cuts[0].index(old.len()));
        decode_new(&new);
        let _ = decode(Body::First(&old), Detail::Full);
    }
}
