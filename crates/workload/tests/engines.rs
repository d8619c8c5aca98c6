//! What is found in whole specifications, as each engine writes them: on our own files, and on
//! real ones from the folder of samples beside the project.
//!
//! The samples are not part of the project, so where they are missing the test says so and passes.

#![allow(
    clippy::unwrap_used,
    reason = "this file is all test; the settings spare only test functions"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use portcullis_testkit::samples::folder;
use portcullis_workload::findings;

/// Names the folder, where it is not beside the project.
const FOLDER: &str = "PORTCULLIS_RUNTIME_SPECS";

fn samples() -> Option<PathBuf> {
    folder(FOLDER, "samples")
}

/// The ids, each once, with how often it comes if that is more than once.
fn ids(json: &[u8]) -> Vec<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for finding in findings(json).unwrap() {
        *counts.entry(finding.id.to_string()).or_default() += 1;
    }
    let word = |(id, count)| if count == 1 { id } else { format!("{id} x{count}") };
    counts.into_iter().map(word).collect()
}

fn check(name: &str, json: &[u8], expected: &[&str]) {
    assert_eq!(ids(json), expected, "{name}");
}

#[test]
fn our_own_specifications() {
    for (name, json, expected) in [
        (
            "containerd-pod",
            include_str!("data/containerd-pod.json"),
            &["no-user-namespace"] as &[_],
        ),
        ("crio-pod", include_str!("data/crio-pod.json"), &["no-pids-limit", "no-user-namespace"]),
        (
            "podman",
            include_str!("data/podman.json"),
            &[
                "new-privileges",
                "no-apparmor-or-selinux",
                "no-memory-limit",
                "no-user-namespace",
                "root-user",
                "writable-root",
            ],
        ),
        (
            "containerd-sandbox",
            include_str!("data/containerd-sandbox.json"),
            &[
                "host-cgroup",
                "no-apparmor-or-selinux",
                "no-memory-limit",
                "no-pids-limit",
                "no-user-namespace",
                "root-user",
            ],
        ),
        (
            "containerd-host-namespaces",
            include_str!("data/containerd-host-namespaces.json"),
            &[
                "host-cgroup",
                "host-ipc",
                "host-network",
                "host-path",
                "host-pid",
                "host-uts",
                "no-apparmor-or-selinux",
                "no-memory-limit",
                "no-pids-limit",
                "no-user-namespace",
                "root-user",
            ],
        ),
        (
            "containerd-host-path",
            include_str!("data/containerd-host-path.json"),
            &[
                "engine-socket",
                "host-path x4",
                "no-user-namespace",
                "shared-propagation",
                "unconfined-rootfs-propagation",
                "volume-subpath",
            ],
        ),
        (
            "containerd-privileged",
            include_str!("data/containerd-privileged.json"),
            &[
                "added-capability x27",
                "all-devices",
                "device x3",
                "host-cgroup",
                "new-privileges",
                "no-apparmor-or-selinux",
                "no-seccomp",
                "no-user-namespace",
                "privileged",
                "root-user",
                "unmasked-paths",
                "writable-cgroup",
                "writable-proc-paths",
                "writable-root",
                "writable-sysfs",
            ],
        ),
    ] {
        check(name, json.as_bytes(), expected);
    }
}

/// None of these has a path of the host, a device or an added capability; they differ in what the
/// engine or the kubelet sets by itself.
#[test]
fn real_specifications() {
    const CRI_CONTAINER: &[&str] = &[
        "host-cgroup",
        "new-privileges",
        "no-apparmor-or-selinux",
        "no-pids-limit",
        "no-seccomp",
        "no-user-namespace",
        "root-user",
        "unmasked-paths",
        "writable-proc-paths",
        "writable-root",
    ];
    const SANDBOX_WITHOUT_SECCOMP: &[&str] = &[
        "host-cgroup",
        "no-apparmor-or-selinux",
        "no-memory-limit",
        "no-pids-limit",
        "no-seccomp",
        "no-user-namespace",
        "root-user",
    ];
    const CRIO_CONTAINER: &[&str] = &[
        "host-cgroup",
        "new-privileges",
        "no-apparmor-or-selinux",
        "no-pids-limit",
        "no-user-namespace",
        "root-user",
        "unmasked-paths",
        "writable-proc-paths",
        "writable-root",
    ];
    const KUBELET_CONTAINER: &[&str] = &[
        "host-cgroup",
        "new-privileges",
        "no-apparmor-or-selinux",
        "no-pids-limit",
        "no-seccomp",
        "no-user-namespace",
        "root-user",
        "writable-root",
    ];
    let Some(folder) = samples() else { return };
    let expected: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("containerd-1.6-container-config.json", CRI_CONTAINER),
        ("containerd-1.6-sandbox-config.json", SANDBOX_WITHOUT_SECCOMP),
        ("containerd-2.x-container-config.json", CRI_CONTAINER),
        ("containerd-2.x-sandbox-config.json", SANDBOX_WITHOUT_SECCOMP),
        ("crio-config.json", CRIO_CONTAINER),
        ("crio-live/config.json", CRIO_CONTAINER),
        (
            "crio-config-sandbox.json",
            &[
                "host-cgroup",
                "new-privileges",
                "no-apparmor-or-selinux",
                "no-memory-limit",
                "no-pids-limit",
                "no-user-namespace",
                "root-user",
                "unmasked-paths",
                "writable-proc-paths",
            ],
        ),
        ("k8s-containerd-2.x-container-config.json", KUBELET_CONTAINER),
        (
            "k8s-containerd-2.x-sandbox-config.json",
            &[
                "host-cgroup",
                "no-apparmor-or-selinux",
                "no-memory-limit",
                "no-pids-limit",
                "no-user-namespace",
                "root-user",
            ],
        ),
        ("k8s-crio-container-config.json", KUBELET_CONTAINER),
        (
            "podman-4.3.1-config.json",
            &[
                "host-cgroup",
                "new-privileges",
                "no-apparmor-or-selinux",
                "no-user-namespace",
                "root-user",
                "writable-root",
            ],
        ),
    ]);
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_spec = name.ends_with(".json");
        assert!(!is_spec || expected.contains_key(&*name), "nothing is expected of {name}");
    }
    for (name, expected) in expected {
        check(name, &fs::read(folder.join(name)).unwrap(), expected);
    }
}
