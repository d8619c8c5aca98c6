//! What of the node's kernel the container can reach: paths below `/proc` and `/sys`, settings,
//! limits, and programs that the runtime runs.

use portcullis_types::Severity::{self, High, Low, Medium};

use crate::found::{Found, clean};
use crate::items;
use crate::namespaces::Shared;
use crate::paths::{is_within, normal};
use crate::spec::{Hook, Spec};

/// Paths that all engines hide; some hide more, according to version and kernel.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/firmware",
];

/// Paths that all engines make read-only.
const READ_ONLY: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub(crate) fn look(spec: &Spec, shared: &Shared, found: &mut Found) {
    look_at_paths(spec, found);
    look_at_sysctl(spec, shared, found);
    look_at_limits(spec, found);
    look_at_hooks(spec, found);
}

/// Whether none of the paths that all engines hide is hidden.
pub(crate) fn masks_nothing(spec: &Spec) -> bool {
    uncovered(MASKED, spec.linux.masked_paths.iter()).len() == MASKED.len()
}

fn look_at_paths(spec: &Spec, found: &mut Found) {
    let linux = &spec.linux;
    let unmasked = uncovered(MASKED, linux.masked_paths.iter());
    if !unmasked.is_empty() {
        let title = format!("not masked: {}", unmasked.join(", "));
        found.add(items::UNMASKED_PATHS, Medium, None, title);
    }
    // What is masked cannot be written either.
    let kept = linux.readonly_paths.iter().chain(&linux.masked_paths);
    let writable = uncovered(READ_ONLY, kept);
    if !writable.is_empty() {
        let title = format!("not read-only: {}", writable.join(", "));
        found.add(items::WRITABLE_PROC_PATHS, Medium, None, title);
    }
}

/// The paths that are neither among the given ones nor below one of them.
fn uncovered<'a>(
    wanted: &[&'static str],
    covers: impl Iterator<Item = &'a String>,
) -> Vec<&'static str> {
    let mut left = wanted.to_vec();
    for cover in covers.filter_map(|path| normal(path)) {
        left.retain(|path| !is_within(path, &cover));
    }
    left
}

/// Those that Kubernetes lets any pod set (its documentation, "Safe and Unsafe Sysctls").
const SAFE: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// The kind of namespace to which a setting belongs; `None` for one of the whole kernel.
fn namespace_of(sysctl: &str) -> Option<&'static str> {
    match sysctl {
        // Neither runtimes nor the kernel know such a name; it leads out of its folder.
        name if name.contains("..") || name.contains("//") => None,
        name if name.starts_with("net.") => Some("network"),
        name if name.starts_with("fs.mqueue.") => Some("ipc"),
        "kernel.msgmax"
        | "kernel.msgmnb"
        | "kernel.msgmni"
        | "kernel.sem"
        | "kernel.shmall"
        | "kernel.shmmax"
        | "kernel.shmmni"
        | "kernel.shm_rmid_forced" => Some("ipc"),
        "kernel.domainname" | "kernel.hostname" => Some("uts"),
        _ => None,
    }
}

fn look_at_sysctl(spec: &Spec, shared: &Shared, found: &mut Found) {
    for (written, value) in &spec.linux.sysctl.0 {
        let name = with_dots(written);
        let own = namespace_of(&name).is_some_and(|n| !shared.has(n));
        if own && SAFE.contains(&name.as_str()) {
            continue;
        }
        let severity = if own { Medium } else { High };
        let title = format!("the kernel setting {} is set to {}", clean(&name), clean(value));
        found.add(items::SYSCTL, severity, Some(&name), title);
    }
}

/// A name as `sysctl` prints it. Where the first separator is a slash, dots belong to the names
/// of network interfaces (`sysctl.d(5)`).
fn with_dots(name: &str) -> String {
    if name.find(['.', '/']).is_some_and(|at| name.as_bytes()[at] == b'/') {
        let swap = |c| match c {
            '.' => '/',
            '/' => '.',
            c => c,
        };
        return name.chars().map(swap).collect();
    }
    name.to_owned()
}

fn look_at_limits(spec: &Spec, found: &mut Found) {
    let resources = &spec.linux.resources;
    let limited = |limit: Option<i64>| limit.is_some_and(|limit| limit > 0);
    if !limited(resources.memory.limit) {
        found.add(items::NO_MEMORY_LIMIT, Low, None, "the container's memory is not limited");
    }
    if !limited(resources.pids.limit) {
        let title = "the number of the container's processes is not limited";
        found.add(items::NO_PIDS_LIMIT, Low, None, title);
    }
}

/// Where the runtime looks for a hook's program, and where that runs (runtime-spec `config.md`,
/// "POSIX-platform Hooks").
#[derive(Clone, Copy, PartialEq, Eq)]
enum Runs {
    OnHost,
    FromHostInContainer,
    InContainer,
}

fn look_at_hooks(spec: &Spec, found: &mut Found) {
    let hooks = &spec.hooks;
    for (stage, list, runs) in [
        ("prestart", &hooks.prestart, Runs::OnHost),
        ("createRuntime", &hooks.create_runtime, Runs::OnHost),
        ("createContainer", &hooks.create_container, Runs::FromHostInContainer),
        ("startContainer", &hooks.start_container, Runs::InContainer),
        ("poststart", &hooks.poststart, Runs::OnHost),
        ("poststop", &hooks.poststop, Runs::OnHost),
    ] {
        for hook in list {
            let title = format!("the runtime runs {} ({stage})", clean(&hook.path));
            found.add(items::HOOK, severity(hook, runs), Some(&hook.path), title);
        }
    }
}

/// Programs below `/usr` come with the engine or a package, such as GPU drivers; but those that
/// run any other program or text say nothing by where they lie.
fn severity(hook: &Hook, runs: Runs) -> Severity {
    const RUN_ANYTHING: &[&str] = &[
        "ash",
        "awk",
        "bash",
        "busybox",
        "chroot",
        "dash",
        "env",
        "find",
        "gawk",
        "ksh",
        "lua",
        "mawk",
        "nice",
        "node",
        "nohup",
        "nsenter",
        "perl",
        "php",
        "python",
        "ruby",
        "sed",
        "setsid",
        "sh",
        "socat",
        "stdbuf",
        "sudo",
        "systemd-run",
        "tclsh",
        "timeout",
        "unshare",
        "xargs",
        "zsh",
    ];
    let path = normal(&hook.path).unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-'));
    match runs {
        Runs::InContainer => Low,
        Runs::FromHostInContainer => Medium,
        Runs::OnHost if is_within(&path, "/usr") && !RUN_ANYTHING.contains(&name) => Medium,
        Runs::OnHost => High,
    }
}
