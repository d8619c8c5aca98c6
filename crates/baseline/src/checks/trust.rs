//! Who gets in without a password: host trust (hosts.equiv(5)) and keys (sshd(8),
//! "AUTHORIZED_KEYS FILE FORMAT").

use std::collections::HashSet;

use super::Texts;
use crate::accounts::{self, lines};
use crate::issues::Issues;
use crate::wants::{is_authorized_keys, split};

pub(super) fn check(texts: &Texts<'_>, issues: &mut Issues) {
    let passwd = texts.get("etc/passwd").unwrap_or_default();
    let homes: HashSet<String> = accounts::passwd(passwd)
        .iter()
        .filter(|account| account.uid == 0)
        .map(|account| account.home.trim_matches('/').to_owned())
        .chain(["root".to_owned()])
        .collect();

    for (path, text) in texts.all() {
        let (folder, name) = split(path);
        let entries = lines(text).count();
        if entries == 0 {
            continue;
        }
        match (folder, name) {
            ("etc", "hosts.equiv" | "shosts.equiv") | ("etc/ssh", "shosts.equiv") => {
                issues.add("trust-hosts", Some(path), &counted(entries, "entry", "entries"));
                anybody(path, text, issues);
            }
            (_, ".rhosts" | ".shosts") => {
                let id = if homes.contains(folder) { "trust-root" } else { "trust-hosts" };
                issues.add(id, Some(path), &counted(entries, "entry", "entries"));
                anybody(path, text, issues);
            }
            _ if is_authorized_keys(folder, name) => {
                // `etc/ssh/authorized_keys/NAME`, or `HOME/.ssh/authorized_keys`.
                let is_root = name == "root" || homes.contains(split(folder).0);
                let id = if is_root { "trust-root" } else { "trust-authorized-keys" };
                issues.add(id, Some(path), &counted(entries, "key", "keys"));
            }
            _ => {}
        }
    }
}

/// A line that trusts every host.
fn anybody(path: &str, text: &str, issues: &mut Issues) {
    if lines(text).any(|line| line.split_whitespace().next() == Some("+")) {
        issues.add("trust-anybody", Some(path), "an entry \"+\"");
    }
}

fn counted(count: usize, one: &str, more: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {more}") }
}
