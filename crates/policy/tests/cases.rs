//! Runs the decision cases of `cases/*.toml`.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its cases has failed")]

use std::collections::BTreeSet;
use std::path::Path;

use portcullis_policy::case::{Case, EVENT_ID, FOLDER};
use portcullis_policy::refusal;

fn all() -> Vec<Case> {
    let mut files: Vec<_> = std::fs::read_dir(FOLDER)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            Case::read_all(&name, &text).unwrap_or_else(|e| panic!("{e}: {e:#?}"))
        })
        .collect()
}

#[test]
fn every_case_is_decided_as_wanted() {
    let cases = all();
    assert!(cases.len() > 80, "only {} cases were found", cases.len());
    let mut failed = Vec::new();
    for case in &cases {
        let decision = case.decide().unwrap_or_else(|e| panic!("{}: {e}", case.note));
        let differences = case.wanted.differences(&decision);
        if !differences.is_empty() {
            let line = refusal(&decision, &case.identity, EVENT_ID);
            failed.push(format!("{}\n{line}\n{}", case.note, differences.join("\n")));
        }
    }
    assert!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n\n"));
}

#[test]
fn lines_and_wishes_for_a_scan_are_as_wanted() {
    let (mut lines, mut scans) = (0, 0);
    let mut failed = Vec::new();
    for case in all() {
        if let Some(line) = &case.line {
            let decision = case.decide().unwrap_or_else(|e| panic!("{}: {e}", case.note));
            let got = refusal(&decision, &case.identity, EVENT_ID);
            if got != *line {
                failed.push(format!("{}: wanted\n{line}\ngot\n{got}", case.note));
            }
            lines += 1;
        }
        if let Some(wanted) = case.scan {
            let set = case.policy_set().unwrap();
            let scan = set.is_some_and(|set| set.wants_scan(&case.request, &case.identity));
            assert_eq!(scan, wanted, "{}", case.note);
            scans += 1;
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(lines > 5 && scans > 2, "only {lines} lines and {scans} wishes were found");
}

#[test]
fn no_two_cases_have_the_same_note() {
    let mut notes: Vec<String> = all().into_iter().map(|case| case.note).collect();
    notes.sort();
    for pair in notes.windows(2) {
        assert_ne!(pair[0], pair[1]);
    }
}

/// What stands between backticks in the table rows of `docs/policy-cases.md`: cases, files of
/// faults, and tests of other crates.
#[test]
fn what_the_document_names_exists() {
    let root = Path::new(FOLDER).join("../../..");
    let notes: BTreeSet<String> = all().into_iter().map(|case| case.note).collect();
    let text = std::fs::read_to_string(root.join("docs/policy-cases.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with('|'));
    let is_place = |part: &&str| {
        [".toml: ", ".yaml", ".rs"].iter().any(|end| part.contains(end)) || part.contains("/tests")
    };
    let named: Vec<&str> =
        rows.flat_map(|row| row.split('`').skip(1).step_by(2)).filter(is_place).collect();
    assert!(named.len() > 100, "only {} are named", named.len());
    let exists = |named: &str| match named.split_once(".rs") {
        Some((file, test)) => std::fs::read_to_string(root.join(format!("{file}.rs")))
            .is_ok_and(|code| code.contains(&format!("fn {}", test.trim_start_matches(": ")))),
        None if named.ends_with(".yaml") => Path::new(FOLDER).join(named).exists(),
        None => notes.contains(named),
    };
    let missing: Vec<&str> = named.into_iter().filter(|named| !exists(named)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}
