//! Groups: `/etc/group` and `/etc/gshadow`, and who is in them.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::Texts;
use super::accounts::{few, nis, twice};
use crate::accounts::{self, Account, Group, Password, password};
use crate::issues::{Issues, shown};

const GROUP: &str = "etc/group";
const GSHADOW: &str = "etc/gshadow";
const PASSWD: &str = "etc/passwd";

/// Groups whose members become root, or as good as root: by sudo or su, by a container engine's
/// socket, or by reading memory and disks.
const PRIVILEGED: &[&str] = &[
    "admin",
    "containerd",
    "disk",
    "docker",
    "incus-admin",
    "kmem",
    "libvirt",
    "lxd",
    "mem",
    "podman",
    "root",
    "sudo",
    "wheel",
];

/// Accounts that Red Hat's and Alpine's distributions have in GID 0 since ever.
const STOCK_IN_GROUP_0: &[&str] = &["halt", "operator", "shutdown", "sync"];

pub(super) fn check(texts: &Texts<'_>, issues: &mut Issues) {
    let passwd = texts.get(PASSWD).unwrap_or_default();
    let accounts = accounts::passwd(passwd);
    let group = texts.get(GROUP);
    let has_groups = group.is_some();
    let group = group.unwrap_or_default();
    let groups = accounts::groups(group);
    let gshadow = texts.get(GSHADOW).unwrap_or_default();
    let shadow_groups = accounts::shadow_groups(gshadow);

    nis(group, "nis-entry-group", GROUP, issues);
    twice(groups.iter().map(|group| (group.name, group.name)), |name, names| {
        let part = format!("{} {} times", shown(name), names.len());
        issues.add("group-duplicate-name", Some(GROUP), &part);
    });
    twice(groups.iter().map(|group| (group.gid, group.name)), |gid, names| {
        let part = format!("GID {}: {}", gid.unwrap_or_default(), few(names));
        issues.add("group-duplicate-gid", Some(GROUP), &part);
    });
    for (path, groups) in [(GROUP, &groups), (GSHADOW, &shadow_groups)] {
        for group in groups.iter().filter(|group| has_password(group)) {
            let part = format!("group {}", shown(group.name));
            issues.add("group-password", Some(path), &part);
        }
    }
    if has_groups {
        missing(&accounts, &groups, issues);
    }
    members(&accounts, &groups, &shadow_groups, issues);
}

fn has_password(group: &Group<'_>) -> bool {
    matches!(password(group.password), Password::Hash(_) | Password::Text(_))
}

/// Accounts whose group has no entry.
fn missing(accounts: &[Account<'_>], groups: &[Group<'_>], issues: &mut Issues) {
    let known: HashSet<u32> = groups.iter().filter_map(|group| group.gid).collect();
    for account in accounts.iter().filter(|account| !known.contains(&account.gid)) {
        let part = format!("account {}: GID {}", shown(account.name), account.gid);
        issues.add("account-group-missing", Some(PASSWD), &part);
    }
}

/// Who is in groups that give rights: by the group's list, or because it is the account's own.
fn members(
    accounts: &[Account<'_>],
    groups: &[Group<'_>],
    shadow_groups: &[Group<'_>],
    issues: &mut Issues,
) {
    let root: HashSet<&str> = accounts
        .iter()
        .filter(|account| account.uid == 0)
        .map(|account| account.name)
        .chain(["root"])
        .collect();
    let mut say = |path: &str, group: &str, gid: Option<u32>, member: &str| {
        let is_shadow = group == "shadow";
        let is_privileged = gid == Some(0) || PRIVILEGED.contains(&group);
        let part = format!("account {} in group {}", shown(member), shown(group));
        if is_shadow {
            issues.add("shadow-group-member", Some(path), &part);
        } else if is_privileged && !root.contains(member) {
            issues.add("account-in-privileged-group", Some(path), &part);
        }
    };
    for (path, groups) in [(GROUP, groups), (GSHADOW, shadow_groups)] {
        for group in groups {
            // A list that names somebody twice says no more than once.
            for member in group.members().collect::<BTreeSet<_>>() {
                say(path, group.name, group.gid, member);
            }
        }
    }
    let by_gid: HashMap<u32, &str> =
        groups.iter().rev().filter_map(|group| Some((group.gid?, group.name))).collect();
    for account in accounts.iter().filter(|account| !root.contains(account.name)) {
        let name = by_gid.get(&account.gid).copied().unwrap_or_default();
        let is_stock = account.gid == 0 && STOCK_IN_GROUP_0.contains(&account.name);
        if !is_stock {
            let name = if name.is_empty() && account.gid == 0 { "root" } else { name };
            say(PASSWD, name, Some(account.gid), account.name);
        }
    }
}
