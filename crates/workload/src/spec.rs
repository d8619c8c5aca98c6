//! The part of an OCI runtime specification that is read (runtime-spec `config.md`,
//! `config-linux.md`), under the names of that specification.

use crate::json::{Count, Pairs, objects};

objects! {
    Spec {
        process: Process = "process",
        root: Root = "root",
        mounts: Vec<Mount> = "mounts",
        hooks: Hooks = "hooks",
        annotations: Pairs = "annotations",
        linux: Linux = "linux",
    }

    Process {
        user: User = "user",
        capabilities: Capabilities = "capabilities",
        no_new_privileges: bool = "noNewPrivileges",
        apparmor_profile: String = "apparmorProfile",
        selinux_label: String = "selinuxLabel",
    }

    User {
        uid: u32 = "uid",
    }

    Capabilities {
        bounding: Vec<String> = "bounding",
        effective: Vec<String> = "effective",
        permitted: Vec<String> = "permitted",
        inheritable: Vec<String> = "inheritable",
        ambient: Vec<String> = "ambient",
    }

    Root {
        path: String = "path",
        readonly: bool = "readonly",
    }

    Mount {
        destination: String = "destination",
        kind: String = "type",
        source: String = "source",
        options: Vec<String> = "options",
    }

    Hooks {
        prestart: Vec<Hook> = "prestart",
        create_runtime: Vec<Hook> = "createRuntime",
        create_container: Vec<Hook> = "createContainer",
        start_container: Vec<Hook> = "startContainer",
        poststart: Vec<Hook> = "poststart",
        poststop: Vec<Hook> = "poststop",
    }

    Hook {
        path: String = "path",
    }

    Linux {
        namespaces: Vec<Namespace> = "namespaces",
        uid_mappings: Vec<IdMapping> = "uidMappings",
        devices: Vec<Device> = "devices",
        cgroups_path: String = "cgroupsPath",
        resources: Resources = "resources",
        rootfs_propagation: String = "rootfsPropagation",
        seccomp: Option<Seccomp> = "seccomp",
        sysctl: Pairs = "sysctl",
        masked_paths: Vec<String> = "maskedPaths",
        readonly_paths: Vec<String> = "readonlyPaths",
    }

    Namespace {
        kind: String = "type",
        path: String = "path",
    }

    IdMapping {
        container_id: u32 = "containerID",
        host_id: u32 = "hostID",
        size: u32 = "size",
    }

    Device {
        kind: String = "type",
        path: String = "path",
        major: i64 = "major",
        minor: i64 = "minor",
    }

    Resources {
        devices: Vec<DeviceRule> = "devices",
        memory: Limit = "memory",
        pids: Limit = "pids",
    }

    /// A rule of the device cgroup. No type means all types, no number any number.
    DeviceRule {
        allow: bool = "allow",
        kind: String = "type",
        major: Option<i64> = "major",
        minor: Option<i64> = "minor",
        access: String = "access",
    }

    Limit {
        limit: Option<i64> = "limit",
    }

    Seccomp {
        default_action: String = "defaultAction",
        syscalls: Vec<SyscallRule> = "syscalls",
    }

    SyscallRule {
        names: Count = "names",
        action: String = "action",
    }
}
