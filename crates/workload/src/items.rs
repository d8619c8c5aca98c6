//! The items: what can be wrong with a start, why it matters, and what to do.

use portcullis_types::Severity;

/// One kind of dangerous setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// What policies call it: lower case, with hyphens.
    pub id: &'static str,
    /// How bad it is at its usual; a single finding may be graded otherwise by its place.
    pub severity: Severity,
    /// Why it matters: one sentence.
    pub why: &'static str,
    /// What to do: one sentence.
    pub remedy: &'static str,
}

/// Declares the items, with a constant for each id.
macro_rules! items {
    ($($name:ident = $id:literal, $severity:ident, $why:literal, $remedy:literal;)+) => {
        $(pub(crate) const $name: &str = $id;)+

        /// All items, in order of their ids.
        pub const ITEMS: &[Item] = &[$(Item {
            id: $name,
            severity: Severity::$severity,
            why: $why,
            remedy: $remedy,
        }),+];
    };
}

items! {
    ADDED_CAPABILITY = "added-capability", High,
        "A capability beyond the usual fourteen gives the container a part of the power of root over the node.",
        "Drop it, or grant the one that is needed instead of a wider one.";
    ALL_DEVICES = "all-devices", High,
        "The device cgroup lets the container read and write every device, the node's disks included.",
        "Allow the single devices that the program needs.";
    DEVICE = "device", Medium,
        "A device of the node in the container bypasses the file system's permissions; a disk or memory device is the whole node.",
        "Remove the device, or hand it out by a device plugin to the workloads that need it.";
    ENGINE_SOCKET = "engine-socket", Critical,
        "Whoever can connect to the container engine's socket can start any container as root on the node, even if the mount is read-only.",
        "Do not mount the socket or a folder that holds it; use an API with access control instead.";
    FOREIGN_FILESYSTEM = "foreign-filesystem", High,
        "A disk or a special file system mounted by the runtime is not held back by the permissions of a mount from the host.",
        "Let the engine or the kubelet mount the volume.";
    HOOK = "hook", High,
        "A hook is a program that the runtime runs as root, most of them outside the container.",
        "Remove the hook, or check who put it into the engine's hook folder.";
    HOST_CGROUP = "host-cgroup", Low,
        "Without a cgroup namespace the container sees the node's cgroup tree and the names of its neighbours.",
        "Use cgroup version 2 and an engine that gives each container a cgroup namespace.";
    HOST_IPC = "host-ipc", Medium,
        "In the host's IPC namespace the container reads and writes shared memory and queues of the node's processes.",
        "Set hostIPC to false, or remove --ipc=host.";
    HOST_MOUNT_NAMESPACE = "host-mount-namespace", Critical,
        "In the host's mount namespace the container sees and changes the node's own file systems.",
        "Give the container a mount namespace of its own.";
    HOST_NETWORK = "host-network", High,
        "In the host's network the container reaches services that listen on the node's loopback and abstract sockets, and no network policy holds.",
        "Set hostNetwork to false, or remove --network=host.";
    HOST_PATH = "host-path", Medium,
        "A file or folder of the node in the container is a way to read its secrets or, if writable, to change the node.",
        "Use a volume of the cluster or an emptyDir; where the host's path is needed, mount the smallest part of it read-only.";
    HOST_PID = "host-pid", High,
        "In the host's PID namespace the container sees, signals and may trace the node's processes, and reads their environment.",
        "Set hostPID to false, or remove --pid=host.";
    HOST_UTS = "host-uts", Low,
        "In the host's UTS namespace the container can change the node's name if it may administer the system.",
        "Remove hostNetwork or --uts=host, which bring it about.";
    NEW_PRIVILEGES = "new-privileges", Low,
        "Programs with the set-user-ID bit or file capabilities may raise the privileges of the container's processes.",
        "Set allowPrivilegeEscalation to false, or --security-opt no-new-privileges.";
    NO_APPARMOR_OR_SELINUX = "no-apparmor-or-selinux", Low,
        "Neither AppArmor nor SELinux confines the container, so a hole elsewhere has no second wall behind it.",
        "Run nodes with AppArmor or SELinux and keep the engine's default profile.";
    NO_MEMORY_LIMIT = "no-memory-limit", Low,
        "Without a limit the container can use up the node's memory.",
        "Set resources.limits.memory, or --memory.";
    NO_PIDS_LIMIT = "no-pids-limit", Low,
        "Without a limit of its own the container can use up the node's process ids.",
        "Set the kubelet's podPidsLimit, the engine's pids_limit, or --pids-limit.";
    NO_SECCOMP = "no-seccomp", Medium,
        "Without a seccomp filter every system call of the kernel is open to attack.",
        "Set seccompProfile.type to RuntimeDefault, and do not run with seccomp=unconfined.";
    NO_USER_NAMESPACE = "no-user-namespace", Low,
        "Root in the container is root on the node if it gets out; this is still the usual case.",
        "Set hostUsers to false, or --userns=auto, where the cluster supports it.";
    PRIVILEGED = "privileged", Critical,
        "A privileged container is root on the node: nothing keeps it from the node's disks, kernel and other containers.",
        "Set privileged to false and grant the single capabilities and devices that are needed.";
    ROOT_USER = "root-user", Medium,
        "The container's process is user 0 of the node, so files of root on any mount are its own.",
        "Set runAsNonRoot and a runAsUser, or a USER in the image.";
    SHARED_PROPAGATION = "shared-propagation", High,
        "Mounts made in the container below this path appear on the node.",
        "Set mountPropagation to None or HostToContainer.";
    SYSCTL = "sysctl", Medium,
        "A kernel setting beyond the set that Kubernetes calls safe may weaken or starve the node.",
        "Remove it, or set it on the node.";
    TOO_MANY_SETTINGS = "too-many-settings", High,
        "The specification has more dangerous settings than are listed, so a rule on a single one may miss it.",
        "Reduce the settings, above all the devices and mounts.";
    UNCONFINED_ROOTFS_PROPAGATION = "unconfined-rootfs-propagation", High,
        "With a shared root mount, mounts made in the container may appear on the node.",
        "Remove mountPropagation Bidirectional from the volumes, which brings it about.";
    UNMASKED_PATHS = "unmasked-paths", Medium,
        "Files below /proc and /sys that show or change the node's kernel are not hidden from the container.",
        "Leave procMount at Default and remove --security-opt unmask and systempaths=unconfined.";
    VOLUME_SUBPATH = "volume-subpath", Low,
        "The kubelet shows only a part of a volume here, and the specification does not say of which volume: it may be a path of the host.",
        "Mount whole volumes, and refuse hostPath volumes with a subPath at admission.";
    WRITABLE_CGROUP = "writable-cgroup", Medium,
        "A writable cgroup tree lets the container change limits and, with cgroup version 1, run a program on the node.",
        "Mount the cgroup tree read-only.";
    WRITABLE_PROC_PATHS = "writable-proc-paths", Medium,
        "Writable files below /proc change settings of the node's kernel.",
        "Leave procMount at Default and remove systempaths=unconfined.";
    WRITABLE_ROOT = "writable-root", Low,
        "An intruder can change the container's programs and bring tools along.",
        "Set readOnlyRootFilesystem to true, or --read-only, and mount an emptyDir where files are written.";
    WRITABLE_SYSFS = "writable-sysfs", High,
        "A writable /sys changes the node's kernel and devices, and can make it run a program.",
        "Remove privileged, which brings it about.";
}

/// Looks an item up by its id.
pub fn item(id: &str) -> Option<&'static Item> {
    ITEMS.iter().find(|item| item.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_sorted_words_with_one_sentence_each() {
        assert!(ITEMS.is_sorted_by(|a, b| a.id < b.id), "sorted, each id once");
        for item in ITEMS {
            assert!(item.id.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{}", item.id);
            for text in [item.why, item.remedy] {
                assert!(text.ends_with('.') && !text.contains(". "), "{text}");
                assert!(!text.chars().any(char::is_control), "{text}");
            }
            assert_eq!(super::item(item.id), Some(item));
        }
        assert_eq!(item("Privileged"), None);
    }
}
