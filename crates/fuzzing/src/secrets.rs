//! Keys, tokens and passwords.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use portcullis_secrets::{Finder, MAX_PER_RULE, Secret};

use crate::text::printable;

static FINDER: LazyLock<Finder> = LazyLock::new(Finder::new);

/// What is left out of a file, so that no seed has in it what looks like a token of somebody.
const BREAKS: u8 = 0x1f;

/// A path, a line break, and the file that lies there.
///
/// What is found is bounded, in order, within the file, and little of it is shown. A line before all
/// others moves what is found by one line and changes nothing else. Accepted: something is found.
pub fn secrets(data: &[u8]) -> bool {
    let data: Vec<u8> = data.iter().copied().filter(|byte| *byte != BREAKS).collect();
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (path, content) = (String::from_utf8_lossy(&data[..end]), &data[data.len().min(end + 1)..]);
    let _ = Finder::wants(&path, content.len() as u64);
    let found = FINDER.in_file(&path, content);
    let lines = 1 + content.iter().filter(|byte| **byte == b'\n').count();
    let mut counts: BTreeMap<&str, u8> = BTreeMap::new();
    for secret in &found {
        assert!((1..=lines).contains(&(secret.line as usize)), "{secret:?} of {lines} lines");
        shown(secret);
        *counts.entry(secret.rule.id).or_default() += 1;
    }
    assert!(counts.values().all(|count| *count <= MAX_PER_RULE), "{counts:?}");
    assert!(found.is_sorted_by_key(|secret| secret.line), "not in order: {found:?}");
    if content.contains(&0) {
        assert!(found.is_empty() || content.iter().take(8000).all(|byte| *byte != 0));
    } else {
        let mut moved = FINDER.in_file(&path, &[b"\n", content].concat());
        moved.iter_mut().for_each(|secret| secret.line -= 1);
        assert_eq!(moved, found, "a line more changes what is found");
    }
    if let Some((name, value)) = String::from_utf8_lossy(content).split_once('=') {
        for secret in FINDER.in_env(name, value) {
            assert_eq!(secret.line, 0);
            shown(&secret);
        }
    }
    !found.is_empty()
}

fn shown(secret: &Secret) {
    printable("what is shown of a secret", &secret.shown, 200);
    let is_plain = |c: char| c == '…' || (' '..='~').contains(&c);
    assert!(secret.shown.chars().all(is_plain), "{secret:?}");
}
