//! What other tools write: scanners' reports, VEX documents, EPSS and KEV.

use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use portcullis_policy::PolicySet;
use portcullis_report::feeds::{FeedLimits, parse_epss, parse_kev};
use portcullis_report::{Imported, Limits, VexLimits, VexReader, read};
use portcullis_store::{Detail, MemoryStore, VerdictStore};
use portcullis_types::{Digest, Finding, Timestamp, VexStatement};

use crate::text::{printable, told};

/// What is read of a text, escaped: each of 4,096 bytes may take eight.
const MOST_TEXT: usize = 8 * 4096;
const MOST_FINDINGS: usize = 200;

/// Counts what is read, so that a reader that goes over its input again and again is noticed.
struct Counted<'a> {
    input: Cursor<&'a [u8]>,
    read: usize,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.read += read;
        Ok(read)
    }
}

impl Seek for Counted<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.input.seek(to)
    }
}

/// A report of any format.
///
/// It is read at most twice: to find its format, and to read it. Accepted: findings are bounded in
/// number, their texts are bounded and printable, scores are in range, counts match, and a store
/// gives back what it took in.
pub fn report(data: &[u8]) -> bool {
    let mut input = Counted { input: Cursor::new(data), read: 0 };
    let limits = Limits { bytes: 1 << 20, findings: MOST_FINDINGS };
    let imported = read(&mut input, &limits);
    assert!(input.read <= 2 * data.len(), "{} bytes read of {}", input.read, data.len());
    match imported {
        Err(error) => {
            told(&error);
            false
        }
        Ok(imported) => {
            assert!(imported.findings.len() <= MOST_FINDINGS);
            imported.findings.iter().for_each(finding);
            imported.warnings.iter().for_each(|warning| printable("a warning", warning, MOST_TEXT));
            let counted: usize = imported.counts_by_severity.values().sum();
            assert!(counted <= imported.findings.len(), "{counted} entries are too many");
            stored(imported);
            true
        }
    }
}

fn finding(finding: &Finding) {
    let optional = [
        &finding.package,
        &finding.version,
        &finding.fixed_version,
        &finding.path,
        &finding.purl,
        &finding.sha256,
        &finding.title,
    ];
    for text in optional.into_iter().flatten() {
        assert!(!text.is_empty(), "an empty text in {finding:?}");
        printable("a text of a finding", text, MOST_TEXT);
    }
    assert!(!finding.id.is_empty() && !finding.source.is_empty(), "{finding:?}");
    printable("an id", &finding.id, MOST_TEXT);
    assert!(finding.aliases.is_sorted(), "{:?}", finding.aliases);
    assert!(finding.cvss.is_none_or(|score| (0.0..=10.0).contains(&score)), "{:?}", finding.cvss);
    assert!(finding.epss.is_none_or(|p| (0.0..=1.0).contains(&p)), "{:?}", finding.epss);
}

fn stored(imported: Imported) {
    let now = Timestamp::from_second(1_800_000_000).expect("it is a time");
    let chosen = Digest::of(b"an image");
    let chosen = imported.image.config.is_none().then_some(&chosen);
    let imported = imported.or_scanned_at(Some(now));
    let Ok((image, report)) = imported.bind(chosen, now) else { return };
    let store = MemoryStore::default();
    let absorbed = store.absorb(&image, report.clone()).expect("an empty store takes a report");
    let again = store.absorb(&image, report).expect("a store takes a report again");
    assert_eq!(again.verdict, absorbed.verdict, "the second time changes something");
    let read = store.by_config(&image.config, Detail::Full).expect("it can be read");
    assert_eq!(read, Some(absorbed.verdict));
}

/// A VEX document.
///
/// Accepted: statements and products are bounded in number, texts are bounded and printable, and
/// the statements that a door can use survive being published.
pub fn vex(data: &[u8]) -> bool {
    let limits = VexLimits { bytes: 1 << 20, statements: 200, products: 1000 };
    match VexReader::new(&limits).read(data, Path::new("v.json")) {
        Err(error) => {
            told(&error);
            false
        }
        Ok(document) => {
            let statements = &document.statements;
            let products: usize = statements.iter().map(|s| s.products.len().max(1)).sum();
            assert!(statements.len() <= limits.statements, "{} statements", statements.len());
            assert!(products <= limits.statements + limits.products, "{products} products");
            statements.iter().for_each(statement);
            document.warnings.iter().for_each(|warning| printable("a warning", warning, MOST_TEXT));
            let checkable: Vec<_> = statements.iter().filter_map(|s| s.checkable()).collect();
            let set = PolicySet::compile(Vec::new()).expect("no policy has no fault");
            let set = set.with_vex(checkable);
            let again = PolicySet::from_published(&set.published(), set.digest());
            assert_eq!(again.expect("what was published is read"), set);
            true
        }
    }
}

fn statement(statement: &VexStatement) {
    assert!(!statement.vulnerability.is_empty(), "{statement:?}");
    let products = statement.products.iter();
    let names = products.clone().filter_map(|product| product.name.as_ref());
    let packages = products.flat_map(|product| &product.packages);
    let texts = statement.vulnerability.iter().chain(&statement.justification);
    for text in texts.chain(names).chain(packages).chain([&statement.source]) {
        printable("a text of a statement", text, MOST_TEXT);
    }
}

const FEED: FeedLimits = FeedLimits { bytes: 1 << 20, rows: 1000 };

/// An EPSS file, plain or packed.
///
/// Accepted: it has as many rows as may be and at least one, and probabilities are in range.
pub fn epss(data: &[u8]) -> bool {
    match parse_epss(data, Path::new("epss.csv"), &FEED) {
        Err(error) => {
            told(&error);
            false
        }
        Ok(epss) => {
            assert!((1..=FEED.rows).contains(&epss.len()), "{} rows", epss.len());
            for cve in cves(data) {
                let probability = epss.get(&cve);
                assert!(probability.is_none_or(|p| (0.0..=1.0).contains(&p)), "{probability:?}");
            }
            true
        }
    }
}

/// A KEV catalogue.
///
/// Accepted: it has as many rows as may be, and lists nothing that does not stand in it.
pub fn kev(data: &[u8]) -> bool {
    match parse_kev(data, Path::new("kev.json"), &FEED) {
        Err(error) => {
            told(&error);
            false
        }
        Ok(kev) => {
            assert!((1..=FEED.rows).contains(&kev.len()), "{} rows", kev.len());
            kev.version()
                .into_iter()
                .for_each(|version| printable("a version", version, MOST_TEXT));
            assert!(kev.contains("CVE-1999-0000000001").is_none());
            true
        }
    }
}

/// Texts that look like CVE ids, as far as they stand unpacked in the bytes.
fn cves(data: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(data);
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    words.filter(|word| word.starts_with("CVE-")).take(16).map(str::to_owned).collect()
}
