//! Accounts: `/etc/passwd` and `/etc/shadow`.

use std::collections::{BTreeMap, HashMap};

use super::{Options, Texts};
use crate::accounts::{self, Account, Password, Shadow, is_nis, lines, password};
use crate::issues::{Issues, shown};
use crate::passwords::{Entry, Format, Outcome, Summary, try_all};

const PASSWD: &str = "etc/passwd";
const SHADOW: &str = "etc/shadow";

/// From so many days on, a password is not asked to change (the default of login.defs(5)).
const NEVER: i64 = 99_999;

pub(super) fn check(texts: &Texts<'_>, options: &Options, issues: &mut Issues) -> Summary {
    let passwd = texts.get(PASSWD).unwrap_or_default();
    let shadow = texts.get(SHADOW).unwrap_or_default();
    let accounts = accounts::passwd(passwd);
    let entries = accounts::shadow(shadow);
    let by_name: HashMap<&str, &Account<'_>> =
        accounts.iter().rev().map(|account| (account.name, account)).collect();

    nis(passwd, "nis-entry-passwd", PASSWD, issues);
    nis(shadow, "nis-entry-shadow", SHADOW, issues);
    names(&accounts, &entries, issues);
    rights(&accounts, issues);
    for account in &accounts {
        let name = shown(account.name);
        match password(account.password) {
            Password::Hash(_) | Password::Text(_) => {
                issues.add("account-password-in-passwd", Some(PASSWD), &format!("account {name}"));
            }
            Password::Empty => empty(Some(account), account.name, PASSWD, issues),
            Password::Shadowed | Password::Locked => {}
        }
    }
    for entry in &entries {
        let name = shown(entry.name);
        if password(entry.password) == Password::Empty {
            // It is asked for only if the first file says so.
            let account = by_name.get(entry.name).copied();
            if account.is_none_or(|a| password(a.password) == Password::Shadowed) {
                empty(account, entry.name, SHADOW, issues);
            }
        }
        ages(entry, &name, options, issues);
    }
    hashes(&accounts, &entries, options, issues)
}

/// Entries of NIS.
pub(super) fn nis(text: &str, id: &str, path: &str, issues: &mut Issues) {
    for line in lines(text).filter(|line| is_nis(line)) {
        let name = line.split(':').next().unwrap_or_default();
        issues.add(id, Some(path), &format!("entry \"{}\"", shown(name)));
    }
}

/// Says which keys have more than one name; with the same name twice, which.
pub(super) fn twice<'a, K: Ord>(
    pairs: impl Iterator<Item = (K, &'a str)>,
    mut say: impl FnMut(&K, &[&'a str]),
) {
    let mut by_key: BTreeMap<K, Vec<&str>> = BTreeMap::new();
    for (key, name) in pairs {
        by_key.entry(key).or_default().push(name);
    }
    for (key, names) in by_key.iter().filter(|(_, names)| names.len() > 1) {
        say(key, names);
    }
}

/// The first few of some names, as a detail shows them.
pub(super) fn few(names: &[&str]) -> String {
    let mut out: Vec<_> = names.iter().take(4).map(|name| shown(name)).collect();
    if names.len() > 4 {
        out.push(format!("{} more", names.len() - 4));
    }
    out.join(", ")
}

fn names(accounts: &[Account<'_>], entries: &[Shadow<'_>], issues: &mut Issues) {
    for (path, names) in [
        (PASSWD, accounts.iter().map(|account| account.name).collect::<Vec<_>>()),
        (SHADOW, entries.iter().map(|entry| entry.name).collect()),
    ] {
        twice(names.into_iter().map(|name| (name, name)), |name, names| {
            let part = format!("{} {} times", shown(name), names.len());
            issues.add("account-duplicate-name", Some(path), &part);
        });
    }
    twice(accounts.iter().map(|account| (account.uid, account.name)), |uid, names| {
        let part = format!("UID {uid}: {}", few(names));
        issues.add("account-duplicate-uid", Some(PASSWD), &part);
    });
}

fn rights(accounts: &[Account<'_>], issues: &mut Issues) {
    for account in accounts {
        let name = shown(account.name);
        if account.uid == 0 && account.name != "root" {
            issues.add("account-uid0-not-root", Some(PASSWD), &format!("account {name}"));
        }
        if account.name == "root" && account.gid != 0 {
            let part = format!("GID {}", account.gid);
            issues.add("root-group-not-0", Some(PASSWD), &part);
        }
    }
}

fn empty(account: Option<&Account<'_>>, name: &str, path: &str, issues: &mut Issues) {
    let id = match account {
        Some(account) if account.has_shell() => "account-empty-password",
        _ => "account-empty-password-no-shell",
    };
    issues.add(id, Some(path), &format!("account {}", shown(name)));
}

fn ages(entry: &Shadow<'_>, name: &str, options: &Options, issues: &mut Issues) {
    if matches!(password(entry.password), Password::Hash(_)) {
        let never = match entry.most_days {
            None => Some("no limit".to_owned()),
            Some(days) if !(0..NEVER).contains(&days) => Some(format!("{days} days")),
            Some(_) => None,
        };
        if let Some(never) = never {
            let part = format!("account {name}: {never}");
            issues.add("account-password-never-expires", Some(SHADOW), &part);
        }
    }
    // A day of tolerance: somewhere it is tomorrow already.
    if let (Some(changed), Some(today)) = (entry.changed, options.today)
        && changed > today.saturating_add(1)
    {
        let part = format!("account {name}: {} days ahead", changed.saturating_sub(today));
        issues.add("account-password-changed-in-future", Some(SHADOW), &part);
    }
}

/// Everything that has to do with real hashes.
fn hashes(
    accounts: &[Account<'_>],
    entries: &[Shadow<'_>],
    options: &Options,
    issues: &mut Issues,
) -> Summary {
    let fields = accounts.iter().map(|account| (PASSWD, account.name, account.password));
    let fields = fields.chain(entries.iter().map(|entry| (SHADOW, entry.name, entry.password)));

    let mut shared = Vec::new();
    let mut paths = Vec::new();
    let mut usable = Vec::new();
    for (path, account, field) in fields {
        // A locked hash is one that can be unlocked.
        let hash = field.trim_start_matches('!');
        if let Password::Hash(hash) = password(hash) {
            shared.push((hash, account));
            let format = Format::of(hash);
            if format.is_weak() {
                let part = format!("account {}: {}", shown(account), format.name());
                issues.add("account-weak-hash", Some(path), &part);
            }
        }
        if let Password::Hash(hash) = password(field) {
            paths.push(path);
            usable.push(Entry { account, hash });
        }
    }
    twice(shared.into_iter(), |_, names| {
        if names.iter().any(|name| Some(name) != names.first()) {
            let part = format!("accounts {}", few(names));
            let path = if entries.is_empty() { PASSWD } else { SHADOW };
            issues.add("account-duplicate-hash", Some(path), &part);
        }
    });

    let outcomes = try_all(&usable, &options.words, &mut options.budget.clone());
    for ((entry, path), outcome) in usable.iter().zip(paths).zip(&outcomes) {
        let name = shown(entry.account);
        match outcome {
            Outcome::Weak => {
                let part = format!("account {name}: its password is one of the words tried");
                issues.add("account-weak-password", Some(path), &part);
            }
            Outcome::Cut { tried, of } => {
                let part = format!("account {name}: {tried} of {of} words tried");
                issues.add("account-password-not-tried", Some(path), &part);
            }
            Outcome::TooCostly => {
                let format = Format::of(entry.hash).name();
                let part = format!("account {name}: a try of this {format} hash costs too much");
                issues.add("account-password-not-tried", Some(path), &part);
            }
            Outcome::Held | Outcome::Unknown => {}
        }
    }
    Summary::of(&outcomes)
}
