#!/usr/bin/env bash
#
# install.sh and a containerd that an init script starts: when it is restarted, by no clock, and in
# whose cgroups it is then.

# shellcheck source=integration/tests/install/private.sh
source "${BASH_SOURCE[0]%/*}/private.sh"

mkdir -p /etc/containerd /var/lib/containerd
mount -t tmpfs tmpfs /var/lib/containerd
printf 'version = 2\n' >/etc/containerd/config.toml
cat >/etc/init.d/containerd <<'END'
#!/bin/sh
start() {
    setsid /usr/bin/containerd >>/run/containerd.log 2>&1 </dev/null &
    echo $! >/run/containerd.pid
}
stop() {
    pid=$(cat /run/containerd.pid)
    kill "$pid"
    while [ -e "/proc/$pid" ]; do sleep 0.05; done
}
case $1 in
    start) start ;;
    restart) stop; start ;;
    *) exit 2 ;;
esac
END
chmod +x /etc/init.d/containerd

engine() { cat /run/containerd.pid; }
seems_written() { touch -d "$1" /etc/containerd/config.toml; }

# in_pod COMMAND...: in cgroups of its own, as what a pod runs is.
in_pod() (
    for top in $(findmnt -rn -t cgroup,cgroup2 -o TARGET); do
        mkdir -p "$top/pod"
        echo "$BASHPID" >"$top/pod/cgroup.procs"
    done
    "$@"
)

[[ $(in_pod cat /proc/self/cgroup) != "$(cat /proc/1/cgroup)" ]]
/etc/init.d/containerd start
first=$(engine)
"$INSTALL" --bin-dir "$BINARIES"
check "$(engine)" "$first"

# It runs with the configuration of before, though the clock says otherwise and this run changes nothing.
seems_written 2001-01-01
in_pod "$INSTALL" --restart-changed --bin-dir "$BINARIES"
second=$(engine)
[[ $second != "$first" ]]
check "$(cat "/proc/$second/cgroup")" "$(cat /proc/1/cgroup)"

# And now it does not.
seems_written '+1 day'
"$INSTALL" --restart-changed --bin-dir "$BINARIES"
check "$(engine)" "$second"
"$INSTALL" --restart-changed --default-runtime --bin-dir "$BINARIES"
[[ $(engine) != "$second" ]]

# One that still knows the handler keeps its binary.
code=0
"$INSTALL" --uninstall --purge 2>"$FOLDER/said" || code=$?
check "$code" 1
grep -q 'restart containerd' "$FOLDER/said"
[[ -e /usr/local/bin/containerd-shim-portcullis-v2 ]]
"$INSTALL" --uninstall --purge --restart
[[ ! -e /usr/local/bin/containerd-shim-portcullis-v2 && ! -e /var/lib/portcullis ]]
check "$(cat /etc/containerd/config.toml)" 'version = 2'
