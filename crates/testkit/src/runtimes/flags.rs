//! The flags of each runtime, by command.

use Takes::{Nothing, Switch, Value};

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// A value, in the same argument or the next.
    Value,
    /// A truth value in the same argument, or nothing, which means yes (Go).
    Switch,
    /// Nothing (argp).
    Nothing,
    /// A value in the same argument, or nothing (argp).
    Maybe,
}

/// A flag with its names and what it takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flag {
    pub(super) long: &'static str,
    pub(super) short: Option<char>,
    pub(super) takes: Takes,
}

impl Flag {
    pub(super) fn has(&self, name: &str) -> bool {
        let mut one = [0; 4];
        name == self.long || self.short.is_some_and(|short| name == &*short.encode_utf8(&mut one))
    }
}

const fn flag(long: &'static str, takes: Takes) -> Flag {
    Flag { long, short: None, takes }
}

const fn known_as(short: char, long: &'static str, takes: Takes) -> Flag {
    Flag { long, short: Some(short), takes }
}

/// What every command of runc has.
pub(super) const HELP: Flag = known_as('h', "help", Switch);
/// What runc has before its command.
pub(super) const VERSION: Flag = known_as('v', "version", Switch);

/// Flags of runc before the command: `criu` came last with 1.1.
pub(super) const RUNC: &[Flag] = &[
    flag("debug", Switch),
    flag("log", Value),
    flag("log-format", Value),
    flag("root", Value),
    flag("systemd-cgroup", Switch),
    flag("rootless", Value),
];
pub(super) const RUNC_1_1_ONLY: &[Flag] = &[flag("criu", Value)];

const RUNC_CREATE: &[Flag] = &[
    known_as('b', "bundle", Value),
    flag("console-socket", Value),
    flag("pid-file", Value),
    flag("no-pivot", Switch),
    flag("no-new-keyring", Switch),
    flag("preserve-fds", Value),
];
const RUNC_RUN: &[Flag] =
    &[known_as('d', "detach", Switch), flag("keep", Switch), flag("no-subreaper", Switch)];
/// Since runc 1.2, for `create` and `run`.
const RUNC_PIDFD: &[Flag] = &[flag("pidfd-socket", Value)];
const RUNC_RESTORE: &[Flag] = &[
    flag("console-socket", Value),
    flag("image-path", Value),
    flag("work-path", Value),
    flag("tcp-established", Switch),
    flag("ext-unix-sk", Switch),
    flag("shell-job", Switch),
    flag("file-locks", Switch),
    flag("manage-cgroups-mode", Value),
    known_as('b', "bundle", Value),
    known_as('d', "detach", Switch),
    flag("pid-file", Value),
    flag("no-subreaper", Switch),
    flag("no-pivot", Switch),
    flag("empty-ns", Value),
    flag("auto-dedup", Switch),
    flag("lazy-pages", Switch),
    flag("lsm-profile", Value),
    flag("lsm-mount-context", Value),
];

/// The flags of a command of runc by which a container is created; none for any other.
pub(super) fn of_runc(command: &str, has_pidfd: bool) -> Option<Vec<Flag>> {
    let parts: &[&[Flag]] = match command {
        "create" => &[RUNC_CREATE],
        "run" => &[RUNC_CREATE, RUNC_RUN],
        "restore" => &[RUNC_RESTORE],
        _ => return None,
    };
    let mut flags = parts.concat();
    if has_pidfd && command != "restore" {
        flags.extend(RUNC_PIDFD);
    }
    flags.push(HELP);
    Some(flags)
}

/// What argp adds to the flags of every parser.
pub(super) const ARGP: &[Flag] = &[
    known_as('?', "help", Nothing),
    flag("usage", Nothing),
    flag("program-name", Value),
    flag("HANG", Takes::Maybe),
];

/// Flags of crun before the command.
pub(super) const CRUN: &[Flag] = &[
    flag("debug", Nothing),
    flag("cgroup-manager", Value),
    flag("systemd-cgroup", Nothing),
    flag("log", Value),
    flag("log-format", Value),
    flag("root", Value),
    flag("rootless", Value),
    known_as('v', "version", Nothing),
    // Another short form of the same.
    known_as('V', "version", Nothing),
];
pub(super) const CRUN_1_29_ONLY: &[Flag] = &[flag("log-level", Value)];

const CRUN_CREATE: &[Flag] = &[
    known_as('b', "bundle", Value),
    known_as('f', "config", Value),
    flag("console-socket", Value),
    flag("preserve-fds", Value),
    flag("no-pivot", Nothing),
    flag("pid-file", Value),
    flag("no-subreaper", Nothing),
    flag("no-new-keyring", Nothing),
];
const CRUN_RUN: &[Flag] = &[known_as('d', "detach", Nothing)];
const CRUN_RUN_1_29_ONLY: &[Flag] = &[flag("keep", Nothing)];
const CRUN_RESTORE: &[Flag] = &[
    known_as('b', "bundle", Value),
    flag("image-path", Value),
    flag("work-path", Value),
    flag("tcp-established", Nothing),
    flag("ext-unix-sk", Nothing),
    flag("shell-job", Nothing),
    known_as('d', "detach", Nothing),
    flag("pid-file", Value),
    flag("console-socket", Value),
    flag("file-locks", Nothing),
    flag("manage-cgroups-mode", Value),
];
/// `network-lock` is written as a flag without a value.
const CRUN_RESTORE_1_29_ONLY: &[Flag] = &[
    flag("tcp-close", Nothing),
    flag("network-lock", Nothing),
    flag("lsm-profile", Value),
    flag("lsm-mount-context", Value),
];

/// The flags of a command of crun by which a container is created; none for any other.
pub(super) fn of_crun(command: &str, is_1_29: bool) -> Option<Vec<Flag>> {
    let (all, newer): (&[&[Flag]], &[Flag]) = match command {
        "create" => (&[CRUN_CREATE], &[]),
        "run" => (&[CRUN_CREATE, CRUN_RUN], CRUN_RUN_1_29_ONLY),
        "restore" => (&[CRUN_RESTORE], CRUN_RESTORE_1_29_ONLY),
        _ => return None,
    };
    let mut flags = all.concat();
    if is_1_29 {
        flags.extend(newer);
    }
    flags.extend(ARGP);
    Some(flags)
}
