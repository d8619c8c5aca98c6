//! Each item, with what brings it about and what does not: one change to a harmless container.

#![allow(
    clippy::unwrap_used,
    reason = "this file is all test; the settings spare only test functions"
)]

use std::collections::BTreeSet;

use portcullis_types::Finding;
use portcullis_workload::{ITEMS, findings};
use serde_json::{Value, json};

const HARMLESS: &str = include_str!("data/containerd-pod.json");
const OWN_UID: &str = "7d0f2c1e-4b7a-4c55-9e0a-3a1f5d7c9b21";

fn harmless() -> Value {
    serde_json::from_str(HARMLESS).unwrap()
}

/// A finding as `high host-path /etc`.
fn word(finding: &Finding) -> String {
    let path = finding.path.as_deref().map(|p| format!(" {p}")).unwrap_or_default();
    format!("{} {}{path}", finding.severity, finding.id)
}

fn words(spec: &Value) -> BTreeSet<String> {
    findings(spec.to_string().as_bytes()).unwrap().iter().map(word).collect()
}

/// Sets a place (`linux/seccomp`) to a value; a list grows by it if the place ends in `+`, and
/// `null` stands for what Go reads in its place.
fn change(spec: &mut Value, place: &str, value: Value) {
    let (place, grows) = place.strip_suffix('+').map_or((place, false), |p| (p, true));
    let at = place.split('/').fold(spec, |at, part| match part.parse::<usize>() {
        Ok(index) if at.is_array() => &mut at[index],
        _ => &mut at[part],
    });
    match (grows, at.as_array_mut()) {
        (true, Some(list)) => list.push(value),
        (true, None) => *at = json!([value]),
        (false, _) => *at = value,
    }
}

/// What the changes add to the findings of the harmless container, and `-` what they take away.
fn difference(changes: &[(&str, Value)]) -> Vec<String> {
    let mut spec = harmless();
    for (place, value) in changes {
        change(&mut spec, place, value.clone());
    }
    let (before, after) = (words(&harmless()), words(&spec));
    let added = after.difference(&before).cloned();
    added.chain(before.difference(&after).map(|w| format!("-{w}"))).collect()
}

fn check(changes: &[(&str, Value)], expected: &[&str]) {
    assert_eq!(difference(changes), expected, "{changes:?}");
}

fn bind(source: &str, options: &[&str]) -> (&'static str, Value) {
    let mount = json!({"destination": "/at", "type": "bind", "source": source, "options": options});
    ("mounts+", mount)
}

/// A bind mount, read-write and then read-only.
fn check_bind(source: &str, writable: &[&str], read_only: &[&str]) {
    check(&[bind(source, &["rbind", "rprivate", "rw"])], writable);
    check(&[bind(source, &["rbind", "rprivate", "ro"])], read_only);
}

#[test]
fn capabilities_beyond_the_default_are_named() {
    for (place, name, expected) in [
        ("bounding", "CAP_SYS_ADMIN", &["high added-capability CAP_SYS_ADMIN"] as &[_]),
        ("effective", "CAP_BPF", &["high added-capability CAP_BPF"]),
        ("permitted", "CAP_NET_ADMIN", &["high added-capability CAP_NET_ADMIN"]),
        ("inheritable", "CAP_DAC_READ_SEARCH", &["high added-capability CAP_DAC_READ_SEARCH"]),
        ("ambient", "CAP_SYS_NICE", &["medium added-capability CAP_SYS_NICE"]),
        ("bounding", "cap_sys_ptrace", &["high added-capability CAP_SYS_PTRACE"]),
        ("bounding", "CAP_OF_TOMORROW", &["medium added-capability CAP_OF_TOMORROW"]),
        ("ambient", "CAP_NET_RAW", &[]),
    ] {
        check(&[(&format!("process/capabilities/{place}+"), json!(name))], expected);
    }
    check(&[("process/capabilities", Value::Null)], &[]);
}

#[test]
fn privileged_is_told_from_a_container_with_much() {
    let three = json!(["CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_RAWIO"]);
    let all_devices = json!([{"allow": true, "access": "rwm"}]);
    let caps = ("process/capabilities/bounding", three);
    let devices = ("linux/resources/devices", all_devices);
    let unmasked = ("linux/maskedPaths", json!([]));
    let is_privileged =
        |changes: &[(&str, Value)]| difference(changes).contains(&"critical privileged".to_owned());
    assert!(is_privileged(&[caps.clone(), devices.clone(), unmasked.clone()]));
    let elsewhere = ("linux/maskedPaths", json!(["/nowhere"]));
    assert!(is_privileged(&[caps.clone(), devices.clone(), elsewhere]));
    assert!(!is_privileged(&[caps.clone(), devices.clone()]));
    assert!(!is_privileged(&[caps, unmasked.clone()]));
    assert!(!is_privileged(&[devices, unmasked.clone()]));
    // All capabilities, for engines that give privileged containers no devices.
    let privileged: Value =
        serde_json::from_str(include_str!("data/containerd-privileged.json")).unwrap();
    let all = privileged["process"]["capabilities"]["bounding"].clone();
    assert!(is_privileged(&[("process/capabilities/bounding", all.clone()), unmasked.clone()]));
    let fewer: Vec<_> = all.as_array().unwrap().iter().filter(|c| *c != "CAP_LEASE").collect();
    assert!(!is_privileged(&[("process/capabilities/bounding", json!(fewer)), unmasked]));
}

#[test]
fn namespaces_of_the_host_are_found() {
    for (kind, path, expected) in [
        ("pid", "/proc/1/ns/pid", "high host-pid"),
        ("network", "/proc/self/ns/net", "high host-network"),
        ("ipc", "/proc/1/ns/ipc", "medium host-ipc"),
        ("uts", "/proc/1/ns/uts", "low host-uts"),
        ("cgroup", "/proc/1/ns/cgroup", "low host-cgroup"),
        ("mount", "/proc/1/ns/mnt", "critical host-mount-namespace"),
    ] {
        let others: Vec<Value> = harmless()["linux"]["namespaces"].as_array().unwrap().clone();
        let others = others.into_iter().filter(|n| n["type"] != kind);
        let with = |entry: Option<Value>| {
            ("linux/namespaces", others.clone().chain(entry).collect::<Value>())
        };
        check(&[with(None)], &[expected]);
        check(&[with(Some(json!({"type": kind, "path": path})))], &[expected]);
        check(&[with(Some(json!({"type": kind})))], &[]);
        check(&[with(Some(json!({"type": kind, "path": "/proc/4712/ns/x"})))], &[]);
        check(&[with(Some(json!({"type": kind, "path": "/run/ns/x"})))], &[]);
        // Runtimes refuse a kind that comes twice; if one did not, either entry could hold.
        check(
            &[with(Some(json!({"type": kind}))), ("linux/namespaces+", json!({"type": kind}))],
            &[expected],
        );
    }
}

#[test]
fn a_user_namespace_takes_root_away() {
    let namespace = ("linux/namespaces+", json!({"type": "user"}));
    let joined = ("linux/namespaces+", json!({"type": "user", "path": "/proc/4711/ns/user"}));
    let hosts = ("linux/namespaces+", json!({"type": "user", "path": "/proc/1/ns/user"}));
    let root = ("process/user/uid", json!(0));
    let map = |container: u32, host: u32, size: u32| {
        ("linux/uidMappings", json!([{"containerID": container, "hostID": host, "size": size}]))
    };
    let none = "-low no-user-namespace";
    check(&[("process/user/uid", Value::Null)], &["medium root-user"]);
    check(&[("process/user", Value::Null)], &["medium root-user"]);
    check(&[root.clone(), namespace.clone(), map(0, 100_000, 65_536)], &[none]);
    check(&[root.clone(), joined.clone(), map(0, 100_000, 65_536)], &[none]);
    check(&[root.clone(), joined], &["medium root-user", none]);
    check(&[root.clone(), namespace.clone(), map(0, 0, 65_536)], &["medium root-user", none]);
    check(&[root, hosts, map(0, 100_000, 65_536)], &["medium root-user"]);
    check(&[namespace.clone(), map(1000, 0, 1)], &["medium root-user", none]);
    check(&[namespace, map(0, u32::MAX, u32::MAX)], &[none]);
}

#[test]
fn paths_of_the_host_are_graded() {
    check_bind(
        "/",
        &["critical engine-socket /", "critical host-path /"],
        &["critical engine-socket /", "critical host-path /"],
    );
    check_bind("/etc", &["critical host-path /etc"], &["high host-path /etc"]);
    check_bind("/srv/data", &["medium host-path /srv/data"], &["low host-path /srv/data"]);
    check_bind(
        "/etc/localtime",
        &["high host-path /etc/localtime"],
        &["low host-path /etc/localtime"],
    );
    let socket = "/var/run/docker.sock";
    let both = &["critical engine-socket /run/docker.sock", "critical host-path /run/docker.sock"];
    check_bind(socket, both, both);
    // The folders of this node's engine and kubelet, wherever they are.
    let kubelet = json!({"destination": "/etc/hosts", "type": "bind",
        "source": format!("/data/kubelet/pods/{OWN_UID}/etc-hosts"), "options": ["rbind"]});
    check(
        &[("mounts+", kubelet), bind("/data/kubelet/pki", &["rbind", "ro"])],
        &["high host-path /data/kubelet/pki"],
    );
}

#[test]
fn the_hosts_root_is_not_a_containers() {
    for (path, expected) in [
        ("/", &["critical host-path /"] as &[_]),
        ("/var/..", &["critical host-path /"]),
        ("../../../../..", &["critical host-path ../../../../.."]),
        ("/var/lib/containers/storage/overlay/x/merged", &[]),
        ("", &[]),
    ] {
        check(&[("root/path", json!(path))], expected);
    }
}

#[test]
fn the_last_of_contrary_options_counts() {
    for (options, expected) in [
        (&["bind"] as &[&str], "medium host-path /srv"),
        (&["bind", "ro"], "low host-path /srv"),
        (&["ro", "bind", "rw"], "medium host-path /srv"),
        (&["rw", "rbind", "ro"], "low host-path /srv"),
        (&["rbind", "rw", "rro"], "low host-path /srv"),
        // No bind option: by type alone.
        (&[], "medium host-path /srv"),
    ] {
        check(&[bind("/srv", options)], &[expected]);
    }
    let odd = json!({"destination": "/at", "type": "tmpfs", "source": "/srv", "options": ["bind"]});
    check(&[("mounts+", odd)], &["medium host-path /srv"]);
}

#[test]
fn mounts_of_engine_and_kubelet_are_told_by_this_pods_own_ids() {
    let sandbox = "5a".repeat(32);
    let other = "6b".repeat(32);
    let pods = "/var/lib/kubelet/pods";
    for own in [
        format!("{pods}/{OWN_UID}/volumes/kubernetes.io~nfs/x"),
        format!("{pods}/{OWN_UID}/volumes/vendor~driver/x"),
        format!("/snap/kubelet/pods/{OWN_UID}/containers/app/0badcafe"),
        format!("/run/k3s/containerd/io.containerd.grpc.v1.cri/sandboxes/{sandbox}/shm"),
        format!("/run/containerd/io.containerd.grpc.v1.cri/image-volumes/{sandbox}/sha256:1"),
    ] {
        check_bind(&own, &[], &[]);
    }
    for asked in [
        // Another pod's volume, and this pod's own but for what may be a link within it.
        format!("{pods}/0d0f2c1e-4b7a-4c55-9e0a-3a1f5d7c9b21/volumes/kubernetes.io~secret/x"),
        format!("{pods}/{OWN_UID}/volumes/kubernetes.io~empty-dir/x/link"),
        format!("{pods}/{OWN_UID}/volumes/kubernetes.io~csi/x/vol_data.json"),
        format!("{pods}/{OWN_UID}/volumes/x/y"),
        format!("{pods}/{OWN_UID}"),
        format!("/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/{other}/shm"),
        format!("/var/lib/containers/storage/overlay-containers/{other}/userdata/shm"),
    ] {
        let writable = format!("critical host-path {asked}");
        let read_only = format!("high host-path {asked}");
        check_bind(&asked, &[&writable], &[&read_only]);
    }
    check_bind(
        &format!("{pods}/{OWN_UID}/volumes/kubernetes.io~secret/../../../../../../../etc"),
        &["critical host-path /etc"],
        &["high host-path /etc"],
    );
    // A relative path starts in the bundle and ends who knows where.
    check_bind("../../x", &["critical host-path ../../x"], &["critical host-path ../../x"]);
    let part = format!("{pods}/{OWN_UID}/volume-subpaths/data/app/0");
    check_bind(
        &part,
        &[&format!("medium volume-subpath {part}")],
        &[&format!("low volume-subpath {part}")],
    );
}

#[test]
fn ids_that_a_pods_author_may_have_set_do_not_count() {
    let asked = |changes: &[(&str, Value)]| {
        let found = difference(changes);
        found.iter().filter(|w| w.contains(" host-path ")).count()
    };
    // CRI-O passes on annotations under containerd's names, and the other way round.
    let id = json!("6b".repeat(32));
    assert_eq!(asked(&[("annotations/io.kubernetes.cri-o.SandboxID", id)]), 3);
    assert_eq!(asked(&[("annotations/io.kubernetes.pod.uid", json!("x"))]), 7);
    assert_eq!(asked(&[("annotations/io.kubernetes.pod.uid", json!(OWN_UID))]), 0);
    assert_eq!(asked(&[("annotations/io.kubernetes.cri.sandbox-uid", json!("."))]), 7);
    assert_eq!(asked(&[("annotations", json!({}))]), 10);
    assert_eq!(asked(&[("linux/cgroupsPath", json!(""))]), 1);
}

#[test]
fn podmans_containers_of_a_pod_share_files() {
    let hosts = |destination: &str, id: &str| {
        let source = format!("/run/containers/storage/overlay-containers/{id}/userdata/hosts");
        let mount = json!({"destination": destination, "type": "bind", "source": source});
        let podman = json!({"io.container.manager": "libpod"});
        let mut spec: Value = serde_json::from_str(include_str!("data/podman.json")).unwrap();
        change(&mut spec, "annotations", podman);
        change(&mut spec, "mounts+", mount);
        words(&spec).iter().filter(|w| w.contains(" host-path ")).count()
    };
    assert_eq!(hosts("/etc/hosts", &"6b".repeat(32)), 0);
    assert_eq!(hosts("/etc/shadow", &"6b".repeat(32)), 1);
    assert_eq!(hosts("/etc/hosts", "x"), 1);
}

#[test]
fn propagation_to_the_host_is_found() {
    let shared = &["high host-path /srv", "high shared-propagation /srv"];
    check(&[bind("/srv", &["rbind", "rshared"])], shared);
    check(&[bind("/srv", &["rbind", "shared", "ro", "rprivate"])], shared);
    check(&[bind("/srv", &["rbind", "rslave"])], &["medium host-path /srv"]);
    for (root, expected) in [
        ("shared", &["high unconfined-rootfs-propagation"] as &[_]),
        ("rshared", &["high unconfined-rootfs-propagation"]),
        ("rslave", &[]),
        ("", &[]),
    ] {
        check(&[("linux/rootfsPropagation", json!(root))], expected);
    }
}

#[test]
fn file_systems_that_are_not_the_containers_own_are_found() {
    let mount = |kind: &str, source: &str, options: &[&str]| {
        let at = json!({"destination": "/at", "type": kind, "source": source, "options": options});
        [("mounts+", at)]
    };
    check(&mount("ext4", "/dev/sda1", &["ro"]), &["high foreign-filesystem /dev/sda1"]);
    check(&mount("devtmpfs", "devtmpfs", &[]), &["high foreign-filesystem /at"]);
    check(&mount("overlay", "overlay", &["lowerdir=/"]), &["high foreign-filesystem /at"]);
    check(&mount("tmpfs", "tmpfs", &["rw"]), &[]);
    check(&mount("proc", "proc", &[]), &[]);
    check(&mount("sysfs", "sysfs", &["nosuid"]), &["high writable-sysfs"]);
    check(&mount("sysfs", "sysfs", &["ro"]), &[]);
    check(&mount("cgroup", "cgroup", &["rw"]), &["medium writable-cgroup"]);
    check(&mount("cgroup2", "cgroup", &["ro", "rw"]), &["medium writable-cgroup"]);
    check(&mount("cgroup", "cgroup", &["ro"]), &[]);
}

#[test]
fn devices_are_graded_and_defaults_are_not_found() {
    let made = |path: &str, kind: &str, major: i64, minor: i64| {
        ("linux/devices+", json!({"path": path, "type": kind, "major": major, "minor": minor}))
    };
    check(&[made("/dev/null", "c", 1, 3)], &[]);
    check(&[made("/dev/pts/5", "c", 136, 5)], &[]);
    check(&[made("/dev/pipe", "p", 0, 0)], &[]);
    check(&[made("/dev/null", "b", 8, 0)], &["high device /dev/null"]);
    check(&[made("/dev/mem", "c", 1, 1)], &["critical device /dev/mem"]);
    check(&[made("/dev/zero", "u", 1, 2)], &["critical device /dev/zero"]);
    check(&[made("/dev/kvm", "c", 10, 232)], &["medium device /dev/kvm"]);
    let rule = |kind: &str, numbers: [Option<i64>; 2], access: &str| {
        let [major, minor] = numbers;
        let rule =
            json!({"allow": true, "type": kind, "major": major, "minor": minor, "access": access});
        ("linux/resources/devices+", rule)
    };
    check(&[rule("a", [None, None], "rwm")], &["high all-devices"]);
    check(&[rule("", [Some(1), Some(3)], "m")], &["high all-devices"]);
    check(&[rule("b", [None, None], "r")], &["high all-devices b *:*"]);
    check(&[rule("c", [Some(-1), Some(-1)], "w")], &["high all-devices c *:*"]);
    check(&[rule("b", [None, None], "m")], &[]);
    check(&[rule("c", [Some(1), Some(5)], "rwm")], &[]);
    check(&[rule("c", [Some(136), None], "rwm")], &[]);
    check(&[rule("b", [Some(8), None], "rw")], &["high device b 8:*"]);
    check(&[rule("c", [Some(1), None], "rw")], &["critical device c 1:*"]);
    check(&[rule("c", [Some(10), Some(200)], "rwm")], &["medium device c 10:200"]);
    let fuse = [made("/dev/fuse", "c", 10, 229), rule("c", [Some(10), Some(229)], "rwm")];
    check(&fuse, &["medium device /dev/fuse"]);
    // A later rule for everything ends those before it.
    let deny = ("linux/resources/devices+", json!({"allow": false, "access": "rwm"}));
    check(&[rule("a", [None, None], "rwm"), rule("b", [Some(8), None], "rw"), deny], &[]);
}

#[test]
fn filters_and_profiles_are_missed() {
    let rule = |action: &str, names: &[&str]| json!([{"names": names, "action": action}]);
    let seccomp = |default: &str, rules: Value| {
        [("linux/seccomp", json!({"defaultAction": default, "syscalls": rules}))]
    };
    check(&[("linux/seccomp", Value::Null)], &["medium no-seccomp"]);
    check(&seccomp("SCMP_ACT_ALLOW", json!([])), &["medium no-seccomp"]);
    check(&seccomp("SCMP_ACT_LOG", Value::Null), &["medium no-seccomp"]);
    let nothing = rule("SCMP_ACT_ERRNO", &[]);
    check(&seccomp("SCMP_ACT_ALLOW", nothing), &["medium no-seccomp"]);
    check(&seccomp("SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO", &["bpf"])), &[]);
    check(&seccomp("SCMP_ACT_KILL", json!([])), &[]);
    let label = |label: &str| {
        [("process/apparmorProfile", Value::Null), ("process/selinuxLabel", json!(label))]
    };
    let unconfined = &["low no-apparmor-or-selinux"];
    check(&[("process/apparmorProfile", json!("unconfined"))], unconfined);
    check(&label(""), unconfined);
    check(&label("system_u:system_r:spc_t:s0"), unconfined);
    check(&label("unconfined_u:unconfined_r:unconfined_t:s0"), unconfined);
    check(&label("system_u:system_r:container_t:s0:c1,c2"), &[]);
    check(&[("process/noNewPrivileges", json!(false))], &["low new-privileges"]);
    check(&[("root/readonly", Value::Null)], &["low writable-root"]);
}

#[test]
fn paths_of_the_kernel_must_be_covered() {
    let unmasked = &["medium unmasked-paths"];
    let writable = &["medium writable-proc-paths"];
    check(&[("linux/maskedPaths", Value::Null)], unmasked);
    check(&[("linux/maskedPaths", json!(["/proc/kcore"]))], unmasked);
    check(&[("linux/maskedPaths", json!(["/proc/", "/sys/firmware"]))], &[]);
    check(&[("linux/readonlyPaths", Value::Null)], writable);
    check(&[("linux/readonlyPaths", json!(["/proc/sys"]))], writable);
    check(&[("linux/readonlyPaths", json!(["/proc"]))], &[]);
    let both =
        [("linux/maskedPaths", json!(["/proc", "/sys"])), ("linux/readonlyPaths", json!([]))];
    check(&both, &[]);
}

#[test]
fn kernel_settings_are_judged_by_name_and_namespace() {
    let set = |name: &str| ("linux/sysctl", json!({ name: "1" }));
    for (name, expected) in [
        ("net.ipv4.ip_unprivileged_port_start", &[] as &[_]),
        ("net/ipv4/tcp_syncookies", &[]),
        ("kernel.shm_rmid_forced", &[]),
        ("net.ipv4.ip_forward", &["medium sysctl net.ipv4.ip_forward"]),
        ("net/ipv4/conf/eth0.7/forwarding", &["medium sysctl net.ipv4.conf.eth0/7.forwarding"]),
        ("kernel.msgmax", &["medium sysctl kernel.msgmax"]),
        ("fs.mqueue.msg_max", &["medium sysctl fs.mqueue.msg_max"]),
        ("kernel.domainname", &["medium sysctl kernel.domainname"]),
        ("kernel.core_pattern", &["high sysctl kernel.core_pattern"]),
        ("net/../kernel/core_pattern", &["high sysctl net.//.kernel.core_pattern"]),
        ("net.ipv4/../../kernel/x", &["high sysctl net.ipv4/../../kernel/x"]),
        ("vm.overcommit_memory", &["high sysctl vm.overcommit_memory"]),
    ] {
        check(&[set(name)], expected);
    }
    let host = ("linux/namespaces/4/path", json!("/proc/1/ns/net"));
    check(
        &[set("net.ipv4.tcp_rmem"), host],
        &["high host-network", "high sysctl net.ipv4.tcp_rmem"],
    );
}

#[test]
fn limits_are_missed() {
    for none in [Value::Null, json!({}), json!({"limit": null}), json!({"limit": -1})] {
        check(&[("linux/resources/memory", none.clone())], &["low no-memory-limit"]);
        check(&[("linux/resources/pids", none)], &["low no-pids-limit"]);
    }
}

#[test]
fn hooks_are_graded_by_where_they_run() {
    for (stage, path, expected) in [
        ("prestart", "/opt/x", "high hook /opt/x"),
        ("createRuntime", "/tmp/../usr/../opt/x", "high hook /tmp/../usr/../opt/x"),
        (
            "createRuntime",
            "/usr/bin/nvidia-container-runtime-hook",
            "medium hook /usr/bin/nvidia-container-runtime-hook",
        ),
        ("poststart", "/usr/bin/bash", "high hook /usr/bin/bash"),
        ("poststop", "/usr/bin/python3.11", "high hook /usr/bin/python3.11"),
        ("createContainer", "/opt/x", "medium hook /opt/x"),
        ("startContainer", "/opt/x", "low hook /opt/x"),
        ("prestart", "x", "high hook x"),
    ] {
        check(&[(&format!("hooks/{stage}"), json!([{"path": path, "args": ["x"]}]))], &[expected]);
    }
    check(&[("hooks", json!({"prestart": [], "poststop": null}))], &[]);
}

#[test]
fn nothing_is_dropped_silently() {
    let added = |count: usize| {
        let mut spec = harmless();
        for at in 0..count {
            let (place, mount) = bind(&format!("/srv/{at}"), &["bind", "ro"]);
            change(&mut spec, place, mount);
        }
        let (place, worst) = bind("/etc", &["bind"]);
        change(&mut spec, place, worst);
        findings(spec.to_string().as_bytes()).unwrap()
    };
    // The harmless container has one finding, and /etc is one.
    let all = added(254);
    assert_eq!(all.len(), 256);
    assert!(!all.iter().any(|f| &*f.id == "too-many-settings"));
    for count in [255, 2000] {
        let most = added(count);
        assert_eq!(most.len(), 256);
        assert!(most.is_sorted_by(|a, b| a.key() < b.key()));
        assert!(most.iter().any(|f| word(f) == "critical host-path /etc"));
        let more = most.iter().find(|f| &*f.id == "too-many-settings").unwrap();
        assert_eq!(word(more), "high too-many-settings");
        assert!(more.title.as_ref().unwrap().starts_with(&format!("{} ", count + 2)));
    }
}

#[test]
fn a_document_without_anything_has_everything_that_is_missing() {
    let missing = words(&json!({}));
    assert_eq!(missing.len(), 16, "{missing:?}");
    assert_eq!(words(&json!({"linux": null, "process": null, "mounts": null})), missing);
}

#[test]
fn findings_have_the_shape_that_policies_expect() {
    for text in [
        include_str!("data/containerd-privileged.json"),
        include_str!("data/containerd-host-path.json"),
        include_str!("data/containerd-host-namespaces.json"),
    ] {
        for finding in findings(text.as_bytes()).unwrap() {
            assert_eq!(finding.class, portcullis_types::Class::Workload);
            assert_eq!(&*finding.source, "oci-spec");
            assert!(ITEMS.iter().any(|item| item.id == &*finding.id), "{}", finding.id);
            assert!(finding.title.is_some_and(|t| !t.is_empty()));
        }
    }
}
