//! The fuzzers' invariants on stable Rust: on each seed, and on what comes of changing seeds.

#![allow(
    clippy::unwrap_used,
    reason = "this file is all test; the settings spare only test functions"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use portcullis_fuzzing::{TARGETS, Target};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The seeds of a target, by name.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut seeds: Vec<_> = fs::read_dir(fuzz().join("corpus").join(target))
        .unwrap_or_else(|error| panic!("the corpus of {target}: {error}"))
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap())
        })
        .collect();
    seeds.sort();
    seeds
}

#[test]
fn each_target_has_a_fuzzer_and_a_corpus() {
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let listed = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(fuzz().join(folder)).unwrap();
        entries
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(listed("fuzz_targets"), names);
    assert_eq!(listed("corpus"), names);
}

#[test]
fn seeds_are_few_and_small_and_some_are_accepted() {
    for (name, check) in TARGETS {
        let seeds = seeds(name);
        assert!((1..=20).contains(&seeds.len()), "{name} has {} seeds", seeds.len());
        let mut accepted = 0;
        for (seed, bytes) in &seeds {
            assert!(bytes.len() <= 4 << 10, "{name}/{seed} has {} bytes", bytes.len());
            accepted += usize::from(check(bytes));
        }
        assert!(accepted > 0, "no seed of {name} is accepted");
    }
}

/// A change of an input.
#[derive(Debug, Clone)]
enum Change {
    Set(Index, u8),
    Cut(Index, usize),
    Repeat(Index, usize, usize),
    Splice(Index, Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let place = any::<Index>;
    prop_oneof![
        4 => (place(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        2 => (place(), 1..40_usize).prop_map(|(at, length)| Change::Cut(at, length)),
        2 => (place(), 1..40_usize, 1..9_usize).prop_map(|(at, n, times)| Change::Repeat(at, n, times)),
        1 => (place(), place(), place()).prop_map(|(seed, from, at)| Change::Splice(seed, from, at)),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change], seeds: &[(String, Vec<u8>)]) -> Vec<u8> {
    for change in changes {
        let end = |at: usize, length: usize| (at + length).min(bytes.len());
        match change {
            Change::Set(at, byte) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Change::Cut(at, length) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes.drain(at..end(at, *length));
            }
            Change::Repeat(at, length, times) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                let part = bytes[at..end(at, *length)].repeat(*times);
                bytes.splice(at..at, part);
            }
            Change::Splice(seed, from, at) => {
                let other = &seeds[seed.index(seeds.len())].1;
                let part = &other[from.index(other.len() + 1)..];
                bytes.truncate(at.index(bytes.len() + 1));
                bytes.extend_from_slice(part);
            }
            _ => {}
        }
    }
    bytes
}

fn changes_hold((name, check): &Target) {
    let seeds = seeds(name);
    let config =
        Config { cases: 300, failure_persistence: None, max_shrink_iters: 50, ..Config::default() };
    let inputs = (any::<Index>(), prop::collection::vec(change(), 1..6));
    TestRunner::new(config)
        .run(&inputs, |(seed, changes)| {
            let bytes = seeds[seed.index(seeds.len())].1.clone();
            check(&changed(bytes, &changes, &seeds));
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{name}: {error}"));
}

#[test]
fn what_comes_of_seeds_keeps_the_invariants() {
    TARGETS.iter().for_each(changes_hold);
}

proptest! {
    #[test]
    fn any_bytes_keep_the_invariants(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for (_, check) in TARGETS {
            check(&bytes);
        }
    }
}
