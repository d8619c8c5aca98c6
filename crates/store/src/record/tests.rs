use proptest::prelude::*;

use super::*;
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

fn sealed(verdict: &Verdict) -> Vec<u8> {
    frame::seal(&encode(verdict).unwrap()).unwrap()
}

fn read(file: &[u8]) -> Result<Verdict, Damage> {
    frame::open(file).and_then(decode)
}

#[test]
fn what_is_written_is_read() {
    for findings in [0, 1, 500] {
        let verdict = verdict(findings);
        assert_eq!(read(&sealed(&verdict)), Ok(verdict));
    }
}

#[test]
fn each_class_and_severity_is_kept() {
    let mut verdict = verdict(0);
    for class in Class::ALL {
        for severity in Severity::ALL {
            verdict.reports[0]
                .findings
                .push(Arc::new(Finding::new(*class, "id", *severity, "trivy")));
        }
        verdict.reports[0].coverage.classes.insert(*class);
    }
    assert_eq!(read(&sealed(&verdict)), Ok(verdict));
}

/// Format 1 as it stands on disks. If this fails, raise the version instead of the numbers here.
#[test]
fn the_format_is_the_one_that_was_written_before() {
    let file = sealed(&verdict(3));
    assert_eq!((file.len(), crc32fast::hash(&file)), FORMAT_1);
}

const FORMAT_1: (usize, u32) = (887, 790_077_119);

#[test]
fn each_changed_byte_is_noticed() {
    let file = sealed(&verdict(3));
    for at in 0..file.len() {
        for change in [1, 0x10, 0x80, 0xff] {
            let mut damaged = file.clone();
            damaged[at] ^= change;
            assert!(read(&damaged).is_err(), "byte {at} changed by {change}");
        }
    }
}

#[test]
fn each_missing_end_is_noticed() {
    let file = sealed(&verdict(3));
    for length in 0..file.len() {
        assert!(read(&file[..length]).is_err(), "cut to {length} bytes");
    }
}

#[test]
fn what_follows_is_noticed() {
    let mut file = sealed(&verdict(3));
    file.push(0);
    assert!(matches!(read(&file), Err(Damage::Length { .. })));
    let mut body = encode(&verdict(3)).unwrap();
    body.push(0);
    let file = frame::seal(&body).unwrap();
    assert_eq!(read(&file), Err(Damage::Body("there are bytes behind its end")));
}

#[test]
fn a_text_that_is_repeated_without_end_is_noticed() {
    let long = "x".repeat(1 << 20);
    let mut verdict = verdict(0);
    verdict.reports[0].findings = (0..300)
        .map(|_| Arc::new(Finding::new(Class::Secret, long.as_str(), Severity::Low, "trivy")))
        .collect();
    let file = sealed(&verdict);
    assert!(file.len() < 2 << 20);
    assert_eq!(read(&file), Err(Damage::Body("it unfolds to too much text")));
}

proptest! {
    /// The checksum hides the decoder from damage, so here it is made to match.
    #[test]
    fn a_body_of_any_bytes_is_decoded_or_refused(body in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(&body);
    }

    #[test]
    fn a_body_with_changed_bytes_is_decoded_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut body = encode(&verdict(5)).unwrap();
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let _ = decode(&body);
        body.truncate(cut.index(body.len()));
        let _ = decode(&body);
    }
}
