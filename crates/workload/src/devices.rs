//! Devices: those that the runtime makes, and those that the device cgroup lets be used.

use std::collections::HashSet;

use portcullis_types::Severity::{self, Critical, High, Medium};

use crate::found::{Found, clean};
use crate::items;
use crate::spec::{DeviceRule, Spec};

/// Character devices that runtimes give to every container (runtime-spec `config-linux.md`,
/// "Default Devices", and the terminals that go with them): major and minor numbers.
const DEFAULT: &[(i64, i64)] = &[(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
/// Pseudo-terminals, of any minor number.
const PTS_MAJOR: i64 = 136;
/// `/dev/mem`, `/dev/kmem` and `/dev/port` (`Documentation/admin-guide/devices.txt`).
const MEMORY: &[(i64, i64)] = &[(1, 1), (1, 2), (1, 4)];

pub(crate) fn look(spec: &Spec, found: &mut Found) {
    let mut made = HashSet::new();
    for device in &spec.linux.devices {
        // A named pipe leads to no driver.
        if device.kind == "p" {
            continue;
        }
        let block = device.kind == "b";
        made.insert((block, device.major, device.minor));
        if block || !is_default(device.major, device.minor) {
            let severity = severity(block, device.major, device.minor);
            let kind = if block { "block device" } else { "device" };
            let title = format!(
                "the {kind} {} ({}:{}) is in the container",
                clean(&device.path),
                device.major,
                device.minor
            );
            found.add(items::DEVICE, severity, Some(&device.path), title);
        }
    }
    let rules = Rules::of(&spec.linux.resources.devices);
    if rules.all {
        let title = "the device cgroup allows every device";
        found.add(items::ALL_DEVICES, High, None, title);
    }
    for rule in rules.allowed {
        look_at_rule(rule, &made, found);
    }
}

/// Whether every device may be used.
pub(crate) fn all_allowed(spec: &Spec) -> bool {
    Rules::of(&spec.linux.resources.devices).all
}

/// What is left of the rules in the end.
struct Rules<'a> {
    all: bool,
    allowed: Vec<&'a DeviceRule>,
}

impl<'a> Rules<'a> {
    /// Rules are applied in order. One for all types clears those before it, whatever numbers and
    /// access it names (kernel `Documentation/admin-guide/cgroup-v1/devices.rst`). A rule that
    /// denies a part takes nothing back here: what is left need not be little.
    fn of(rules: &'a [DeviceRule]) -> Self {
        let mut left = Self { all: false, allowed: Vec::new() };
        for rule in rules {
            if matches!(rule.kind.as_str(), "" | "a") {
                left.all = rule.allow;
                left.allowed.clear();
            } else if rule.allow && rule.access.contains(['r', 'w']) {
                // With `m` alone a node can be made, but not opened.
                left.allowed.push(rule);
            }
        }
        left
    }
}

fn look_at_rule(rule: &DeviceRule, made: &HashSet<(bool, i64, i64)>, found: &mut Found) {
    let block = rule.kind == "b";
    let number = |n: Option<i64>| n.filter(|n| *n >= 0);
    let shown = |n: Option<i64>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
    let (major, minor) = (number(rule.major), number(rule.minor));
    let place = format!("{} {}:{}", clean(&rule.kind), shown(major), shown(minor));
    let title = format!("the device cgroup allows devices {place}");
    match (major, minor) {
        (None, _) => found.add(items::ALL_DEVICES, High, Some(&place), title),
        (Some(major), Some(minor)) if made.contains(&(block, major, minor)) => {}
        (Some(major), minor) if !block && is_default(major, minor.unwrap_or(-1)) => {}
        (Some(major), minor) => {
            let severity = severity(block, major, minor.unwrap_or(-1));
            found.add(items::DEVICE, severity, Some(&place), title);
        }
    }
}

fn is_default(major: i64, minor: i64) -> bool {
    major == PTS_MAJOR || DEFAULT.contains(&(major, minor))
}

/// All of a major number counts as its worst.
fn severity(block: bool, major: i64, minor: i64) -> Severity {
    match (block, minor) {
        (true, _) => High,
        (false, -1) if MEMORY.iter().any(|(m, _)| *m == major) => Critical,
        (false, minor) if MEMORY.contains(&(major, minor)) => Critical,
        (false, _) => Medium,
    }
}
