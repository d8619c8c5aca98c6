//! What the container's process may do: capabilities, user, filters.

use std::collections::BTreeSet;

use portcullis_types::Severity::{self, Critical, High, Low, Medium};

use crate::devices;
use crate::found::{Found, clean};
use crate::items;
use crate::kernel;
use crate::namespaces::Shared;
use crate::spec::{Seccomp, Spec};

/// The capabilities that containerd and Docker give to every container. CRI-O and Podman give fewer.
const DEFAULT: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Those beyond the default that lead to the node, or to another container, by themselves.
const GRAVE: &[&str] = &[
    "BPF",
    "CHECKPOINT_RESTORE",
    "DAC_READ_SEARCH",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "NET_ADMIN",
    "PERFMON",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_MODULE",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_TIME",
];

/// The rest of those that every kernel since 3.16 has (`linux/capability.h`, up to number 37).
const OTHER: &[&str] = &[
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "BLOCK_SUSPEND",
    "IPC_LOCK",
    "IPC_OWNER",
    "LEASE",
    "LINUX_IMMUTABLE",
    "NET_BROADCAST",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_RESOURCE",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// Of the grave ones those that only a newer kernel has, so that not every privileged container
/// has them.
const NEWER: &[&str] = &["BPF", "CHECKPOINT_RESTORE", "PERFMON"];

/// Any two engines' privileged containers have at least these beyond the default.
const OF_PRIVILEGED: &[&str] = &["SYS_ADMIN", "SYS_MODULE", "SYS_RAWIO"];

pub(crate) fn look(spec: &Spec, shared: &Shared, found: &mut Found) {
    let held = held(spec);
    for capability in held.iter().filter(|c| !DEFAULT.contains(&c.as_str())) {
        let severity = if GRAVE.contains(&capability.as_str()) { High } else { Medium };
        let name = format!("CAP_{}", clean(capability));
        let title = format!("the capability {name} is beyond the default set");
        found.add(items::ADDED_CAPABILITY, severity, Some(&name), title);
    }
    if is_privileged(spec, &held) {
        let title = "the container is privileged: root on the host";
        found.add(items::PRIVILEGED, Critical, None, title);
    }
    look_at_user(spec, shared, found);
    let mut add = |wrong: bool, id, severity: Severity, title: &str| {
        if wrong {
            found.add(id, severity, None, title);
        }
    };
    let filtered = spec.linux.seccomp.as_ref().is_some_and(filters);
    add(!filtered, items::NO_SECCOMP, Medium, "no seccomp filter: every system call is open");
    let confined =
        confines(&spec.process.apparmor_profile) || confines_label(&spec.process.selinux_label);
    let title = "neither AppArmor nor SELinux confines the container";
    add(!confined, items::NO_APPARMOR_OR_SELINUX, Low, title);
    let title = "programs may gain new privileges";
    add(!spec.process.no_new_privileges, items::NEW_PRIVILEGES, Low, title);
    let title = "the container's root file system is writable";
    add(!spec.root.readonly, items::WRITABLE_ROOT, Low, title);
}

/// All capabilities that the process holds or can come to hold, in any of the five sets, without
/// the prefix. crun takes the names in any case.
fn held(spec: &Spec) -> BTreeSet<String> {
    let sets = &spec.process.capabilities;
    let all = [&sets.bounding, &sets.effective, &sets.permitted, &sets.inheritable, &sets.ambient];
    let names = all.into_iter().flatten().map(|name| name.to_ascii_uppercase());
    names.map(|n| n.strip_prefix("CAP_").map(ToOwned::to_owned).unwrap_or(n)).collect()
}

/// Whether this is what engines make of `privileged`, which the specification has no word for.
///
/// All of: the capabilities to administer the system, to load modules and to reach hardware; and
/// none of the paths that show the kernel masked; and one of: the device cgroup allows everything,
/// or all 38 capabilities are held that every kernel has. The last is there for engines set to
/// `privileged_without_host_devices`.
fn is_privileged(spec: &Spec, held: &BTreeSet<String>) -> bool {
    let has = |name: &str| held.contains(name);
    let all = DEFAULT.iter().chain(GRAVE).chain(OTHER).filter(|name| !NEWER.contains(name));
    OF_PRIVILEGED.iter().all(|n| has(n))
        && kernel::masks_nothing(spec)
        && (devices::all_allowed(spec) || all.into_iter().all(|n| has(n)))
}

/// User 0 of the host, through the user namespace's mapping where there is one.
fn look_at_user(spec: &Spec, shared: &Shared, found: &mut Found) {
    let uid = spec.process.user.uid;
    let mapped = spec.linux.uid_mappings.iter().find_map(|mapping| {
        let offset = uid.checked_sub(mapping.container_id)?;
        (offset < mapping.size).then(|| u64::from(mapping.host_id) + u64::from(offset))
    });
    // A joined namespace whose mapping is not written could map anything.
    let host_uid = match shared.has("user") {
        true => u64::from(uid),
        false => mapped.unwrap_or_else(|| u64::from(uid)),
    };
    if host_uid == 0 {
        let title = match uid {
            0 => "the process runs as root".to_owned(),
            uid => format!("the process runs as user {uid}, which is the host's root"),
        };
        found.add(items::ROOT_USER, Medium, None, title);
    }
}

/// Whether a filter denies anything. What a long list of rules leaves open is not judged.
fn filters(seccomp: &Seccomp) -> bool {
    let allows = |action: &str| matches!(action, "" | "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG");
    !allows(&seccomp.default_action)
        || seccomp.syscalls.iter().any(|rule| rule.names.0 > 0 && !allows(&rule.action))
}

fn confines(apparmor_profile: &str) -> bool {
    !matches!(apparmor_profile, "" | "unconfined")
}

/// An SELinux label `user:role:type:level` whose type is not one of those that may do all.
fn confines_label(label: &str) -> bool {
    match label.split(':').nth(2) {
        Some(kind) => !matches!(kind, "" | "spc_t") && !kind.starts_with("unconfined"),
        None => false,
    }
}
