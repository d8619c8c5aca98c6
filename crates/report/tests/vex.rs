//! VEX documents: each of `data/vex` beside what is read of it, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its files has failed")]

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use portcullis_report::{VexDocument, VexError, VexLimits, read_vex, read_vex_folder};
use portcullis_types::VexStatement;
use proptest::prelude::*;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vex")
}

/// A document as lines: statements with their products, then warnings.
fn shown(document: &VexDocument) -> String {
    let mut text = format!("{}\n", document.format);
    for statement in &document.statements {
        let justification = statement.justification.as_deref().unwrap_or("-");
        let time = statement.stated_at.map_or("-".to_owned(), |time| time.to_string());
        let ids = statement.vulnerability.join(" ");
        let (source, status) = (&statement.source, statement.status);
        writeln!(text, "\n{source}: {ids} {status} ({justification}) {time}").unwrap();
        for product in &statement.products {
            let packages = product.packages.join(" ");
            writeln!(text, "  {} = {} [{packages}]", product.name(), product.image).unwrap();
        }
    }
    text.push('\n');
    for warning in &document.warnings {
        writeln!(text, "! {warning}").unwrap();
    }
    text
}

/// Set `PORTCULLIS_WRITE_EXPECTED` to write what is read, then look at the difference.
#[test]
fn every_document_is_read_as_wanted() {
    let documents = read_vex_folder(&data(), &VexLimits::default()).unwrap();
    assert!(documents.len() >= 6, "only {} documents were found", documents.len());
    for document in documents {
        let wanted = document.file.with_extension("expected");
        let shown = shown(&document);
        if std::env::var_os("PORTCULLIS_WRITE_EXPECTED").is_some() {
            fs::write(&wanted, &shown).unwrap();
        }
        assert_eq!(shown, fs::read_to_string(&wanted).unwrap(), "{}", wanted.display());
        let json = serde_json::to_string(&document.statements).unwrap();
        let again: Vec<VexStatement> = serde_json::from_str(&json).unwrap();
        assert_eq!(again, document.statements, "{}", document.file.display());
    }
}

fn whole(error: &dyn Error) -> String {
    let cause = error.source().map(whole);
    format!("{error}{}", cause.map(|cause| format!(": {cause}")).unwrap_or_default())
}

fn refused(content: &[u8], limits: &VexLimits) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.json"), content).unwrap();
    let error = read_vex_folder(folder.path(), limits).unwrap_err();
    whole(&error).replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn what_is_damaged_or_unknown_is_refused_with_its_place() {
    let tail =
        ": OpenVEX up to 0.2, CSAF 2.0 of the category csaf_vex and CycloneDX in JSON are read";
    for (content, wanted) in [
        ("", format!("a.json is empty{tail}")),
        (" \n", format!("a.json is empty{tail}")),
        ("[]", format!("a.json is not a JSON object{tail}")),
        ("<bom/>", format!("a.json is not a JSON object{tail}")),
        ("{}", format!("a.json is JSON, but no VEX document{tail}")),
        (
            r#"{"@context": "https://schema.org"}"#,
            format!("a.json has a context that is not OpenVEX's{tail}"),
        ),
        (
            r#"{"@context": "https://openvex.dev/ns/v0.3.0"}"#,
            format!("a.json is OpenVEX of the version \"0.3.0\"{tail}"),
        ),
        (
            r#"{"document": {"csaf_version": "2.0", "category": "csaf_base"}}"#,
            format!("a.json is CSAF of the category \"csaf_base\"{tail}"),
        ),
        (
            r#"{"document": {"csaf_version": "1.2", "category": "csaf_vex"}}"#,
            format!("a.json is CSAF of the version \"1.2\"{tail}"),
        ),
        (
            "{\"@context\": \"https://openvex.dev/ns\",\n \"statements\": [{]}",
            "a.json, line 2, column 18: key must be a string".to_owned(),
        ),
        (
            "{\"@context\": \"https://openvex.dev/ns\",\n \"statements\": 3}",
            "a.json, line 2, column 16: invalid type: integer `3`, expected a sequence".to_owned(),
        ),
        (
            "{\"@context\": \"https://openvex.dev/ns\", \"statements\": [{\"status\": 1}]}",
            "a.json, line 1, column 66: invalid type: integer `1`, expected a text".to_owned(),
        ),
        (
            "{\"@context\": \"https://openvex.dev/ns\", \"statements\": []",
            "a.json, line 1, column 55: EOF while parsing an object".to_owned(),
        ),
        (
            "{\"@context\": \"https://openvex.dev/ns\"} x",
            "a.json, line 1, column 40: trailing characters".to_owned(),
        ),
    ] {
        assert_eq!(refused(content.as_bytes(), &VexLimits::default()), wanted, "{content}");
    }
    assert!(refused(b"\xff\xfe{\0", &VexLimits::default()).contains("is UTF-16"));
    assert!(refused(b"\x1f\x8b\x08", &VexLimits::default()).contains("is compressed"));
}

fn openvex(statements: &str) -> Vec<u8> {
    format!(r#"{{"@context": "https://openvex.dev/ns/v0.2.0", "statements": [{statements}]}}"#)
        .into()
}

#[test]
fn what_is_too_much_is_refused() {
    let statement = |products: &str| {
        format!(r#"{{"vulnerability": "CVE-1", "status": "fixed", "products": [{products}]}}"#)
    };
    let small = VexLimits { bytes: 10_000, statements: 3, products: 5 };
    let one = statement(r#""pkg:npm/x""#);
    let check = |content: &[u8], limits: &VexLimits, wanted: &str| {
        let error = refused(content, limits);
        assert!(error.starts_with(wanted), "{error}");
    };
    check(&[b' '; 10_001], &small, "a.json has more than the 10000 bytes");
    check(&openvex(&[&*one; 4].join(",")), &small, "a.json: more than 3 statements");
    let many = statement(&["\"pkg:npm/x\""; 6].join(","));
    check(&openvex(&many), &small, "a.json: more than 5 products");
    let all = VexLimits::default();
    let long = statement(&["\"pkg:npm/x\""; 10_001].join(","));
    check(&openvex(&long), &all, "a.json: more than 10000 products of one statement");
    let parts = ["\"pkg:npm/x\""; 10_001].join(",");
    let long = statement(&format!(r#"{{"@id": "x", "subcomponents": [{parts}]}}"#));
    check(&openvex(&long), &all, "a.json: more than 10000 subcomponents of one product");
    let ids: Vec<_> = (0..140).map(|n| format!("\"A-{n}\"")).collect();
    let ids = format!(r#"{{"vulnerability": {{"name": "a", "aliases": [{}]}}}}"#, ids.join(","));
    check(&openvex(&ids), &all, "a.json: more than 128 ids of one vulnerability");
    let text = statement(&format!("\"{}\"", "x".repeat(5000)));
    check(&openvex(&text), &all, "a.json, line 1, column 5");
    let deep = format!(
        r#"{{"document": {{"csaf_version": "2.0", "category": "csaf_vex"}}, "product_tree": {}{}}}"#,
        r#"{"branches": ["#.repeat(200),
        "]}".repeat(200)
    );
    check(deep.as_bytes(), &all, "a.json, line 1, column 961: recursion limit exceeded");
    check(&openvex(&"{},".repeat(2_100_000)), &all, "a.json: more than 4000000 values");
}

#[test]
fn a_limit_counts_over_the_whole_folder() {
    let folder = tempfile::tempdir().unwrap();
    let content =
        openvex(r#"{"vulnerability": "CVE-1", "status": "fixed", "products": ["pkg:npm/x"]}"#);
    for name in ["b.json", "a.json", "c.json", ".hidden.json", "note.txt"] {
        fs::write(folder.path().join(name), &content).unwrap();
    }
    let limits = VexLimits { statements: 3, ..VexLimits::default() };
    let documents = read_vex_folder(folder.path(), &limits).unwrap();
    let sources: Vec<_> = documents.iter().map(|d| &*d.statements[0].source).collect();
    assert_eq!(sources, ["a.json statement 1", "b.json statement 1", "c.json statement 1"]);
    let limits = VexLimits { statements: 2, ..limits };
    assert!(matches!(
        read_vex_folder(folder.path(), &limits),
        Err(VexError::TooMany { file, .. }) if file.ends_with("c.json")
    ));
}

#[test]
fn a_missing_folder_is_empty_and_a_strange_entry_is_not_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let none = read_vex_folder(&folder.path().join("none"), &VexLimits::default()).unwrap();
    assert!(none.is_empty());
    fs::create_dir(folder.path().join("x.json")).unwrap();
    let error = read_vex_folder(folder.path(), &VexLimits::default()).unwrap_err();
    assert!(matches!(error, VexError::NotAFile { .. }), "{error}");
    let error = read_vex(&folder.path().join("none.json"), &VexLimits::default()).unwrap_err();
    assert!(matches!(error, VexError::Unreadable { .. }), "{error}");
}

#[test]
fn warnings_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.json");
    fs::write(&file, openvex(&["{}"; 1_500].join(","))).unwrap();
    let document = read_vex(&file, &VexLimits::default()).unwrap();
    assert_eq!(document.warnings.len(), 1_001);
    assert_eq!(document.warnings[1_000], "a.json: and 500 more of these");
}

/// A small file that refers to one large text again and again must stay small in memory.
#[test]
fn references_share_their_texts() {
    let purl = format!("pkg:npm/{}", "x".repeat(4_000));
    let ids = ["\"P\""; 9_000].join(",");
    let csaf = format!(
        r#"{{"document": {{"csaf_version": "2.0", "category": "csaf_vex"}},
            "product_tree": {{"full_product_names": [{{"name": "n", "product_id": "P",
            "product_identification_helper": {{"purl": "{purl}"}}}}]}},
            "vulnerabilities": [{{"cve": "CVE-1", "product_status": {{"fixed": [{ids}]}}}}]}}"#
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.json");
    fs::write(&file, csaf).unwrap();
    let document = read_vex(&file, &VexLimits::default()).unwrap();
    let products = &document.statements[0].products;
    assert_eq!(products.len(), 9_000);
    assert!(products.iter().all(|p| p.packages[0].as_ptr() == products[0].packages[0].as_ptr()));
}

/// Bytes of a document with some of them changed.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let names = ["openvex-0.0.1", "openvex-0.2.0", "csaf", "cyclonedx", "cyclonedx-of-nothing"];
    let whole = prop::sample::select(names.to_vec())
        .prop_map(|name| fs::read(data().join(name).with_extension("json")).unwrap_or_default());
    let change =
        (any::<prop::sample::Index>(), prop::sample::select(b"{}[]\",:0a%\x1b\xff".to_vec()));
    (whole, prop::collection::vec(change, 1..6)).prop_map(|(mut bytes, changes)| {
        for (at, byte) in changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        bytes
    })
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop_oneof![
        damaged(),
        prop::collection::vec(any::<u8>(), 0..200),
    ]) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.json");
        fs::write(&file, bytes).unwrap();
        if let Ok(document) = read_vex(&file, &VexLimits::default()) {
            let shown = shown(&document);
            prop_assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{}", shown);
        }
    }
}
