#!/bin/sh
#
# The private view of one test node: its first process, mounts, cgroups, network and journal folder.
# Nothing that happens inside reaches the machine. All of it ends with the first process, which ends
# when its standard input does, so even a test that is killed leaves nothing: this script removes
# FOLDER and the cgroups then.
#
#   node.sh FOLDER CGROUP          called by the tests
#   node.sh FOLDER CGROUP inside   called by itself in the new namespaces
#
# FOLDER is the node's own folder, seen under the same path inside and outside. CGROUP is a name: in
# each hierarchy a cgroup of that name becomes the root of what the node sees.

set -eu
umask 022

folder=$1
cgroup=$2

outside() {
    trap clean_up EXIT
    for top in $(hierarchies); do
        place=$top/$cgroup
        mkdir "$place"
        if [ -e "$place/cpuset.mems" ] && [ -e "$place/cgroup.clone_children" ]; then
            # In version 1 no process may join before these two are set.
            echo 1 >"$place/cgroup.clone_children"
            cat "$top/cpuset.cpus" >"$place/cpuset.cpus"
            cat "$top/cpuset.mems" >"$place/cpuset.mems"
        fi
        enable_controllers "$top"
    done
    (
        for top in $(hierarchies); do
            echo 0 >"$top/$cgroup/cgroup.procs"
        done
        # Private first: on most machines / is shared, and a copy that stayed a peer of it would
        # carry the node's mounts out to the machine.
        exec unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
            --net --ipc --uts --cgroup sh "$0" "$folder" "$cgroup" inside
    )
}

clean_up() {
    for top in $(hierarchies); do
        # The kernel lets go of the last processes a moment after their end.
        tries=0
        while [ -d "$top/$cgroup" ] && [ "$tries" -lt 100 ]; do
            find "$top/$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
            tries=$((tries + 1))
        done
    done
    rm -rf "$folder"
}

hierarchies() {
    findmnt -rn -t cgroup,cgroup2 -o TARGET
}

# Version 2 hands a controller down only when asked.
enable_controllers() {
    [ -e "$1/cgroup.controllers" ] || return 0
    tr ' ' '\n' <"$1/cgroup.controllers" | while read -r controller; do
        echo "+$controller" >"$1/cgroup.subtree_control" || :
    done 2>/dev/null
}

inside() {
    # Engines share mounts with the mount namespaces of their containers.
    mount --make-rshared /

    # The node's own processes live in a leaf, which version 2 demands and version 1 does not mind.
    findmnt -rn -t cgroup,cgroup2 -o TARGET,FSTYPE,FS-OPTIONS >"$folder/hierarchies"
    while read -r top type options; do
        umount "$top"
        mount -t "$type" -o "${options#rw,}" "$type" "$top"
        mkdir "$top/node"
        echo 0 >"$top/node/cgroup.procs"
        enable_controllers "$top"
    done <"$folder/hierarchies"

    ip link set lo up

    # Shim sockets, runc's state and the journal are at fixed places under /run.
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p /run/lock /run/log/journal /run/systemd/journal /run/containerd

    # Podman keeps its locks in shared memory.
    mount -t tmpfs -o mode=1777 tmpfs /dev/shm

    for place in etc var/lib; do
        mkdir -p "$folder/overlay/$place/upper" "$folder/overlay/$place/work"
        mount -t overlay -o "lowerdir=/$place,upperdir=$folder/overlay/$place/upper,workdir=$folder/overlay/$place/work" \
            overlay "/$place"
        mkdir -p "$folder/$place/portcullis" "/$place/portcullis"
        mount --bind "$folder/$place/portcullis" "/$place/portcullis"
    done
    rm -f /etc/machine-id
    tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id
    mkdir -p /etc/systemd
    printf '[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nRateLimitIntervalSec=0\n' \
        >/etc/systemd/journald.conf

    echo ready
    # The first process must reap orphans; the kernel does it for one that ignores this signal.
    exec env --ignore-signal=CHLD cat >/dev/null
}

if [ "${3:-}" = inside ]; then
    inside
else
    outside
fi
