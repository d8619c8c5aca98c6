#!/usr/bin/env bash
#
# Installs Portcullis on the node of this pod, and takes it off again: brings install.sh to the node
# and runs it there, among the node's own files and processes.
#
#   node.sh install    what the pod's first step does; safe to repeat
#   node.sh remove all|agent
#                      what the agent does at its end when all of it is deleted from the cluster, or
#                      when the ConfigMap is still there: then the node's data stays, for it may come
#                      again
#   node.sh later ...  called by itself on the node, where it goes on after the pod
#   node.sh wait ...   the same
#
# The pod is privileged and sees the node's processes (hostPID): the node is reached through its
# first process. Its files are read and written by programs of its own, so that a link there leads
# where it leads on the node, and not into the pod. Settings are those of the ConfigMap, mounted at
# /etc/portcullis-cluster.

set -euo pipefail
umask 022

readonly here=/opt/portcullis
readonly given=/etc/portcullis-cluster
readonly data=/var/lib/portcullis
readonly setup=$data/setup
readonly settings=/etc/portcullis/portcullis.toml
readonly mark='# From the ConfigMap portcullis of the cluster; edit it there.'

main() {
    case ${1:-} in
        install) install_node ;;
        remove) remove_node "${2:-}" ;;
        later) later "${@:2}" ;;
        wait) wait_and_uninstall "${@:2}" ;;
        *) die "usage: ${0##*/} install|remove all|agent" ;;
    esac
}

die() {
    printf 'node.sh: %s\n' "$*" >&2
    exit 1
}

warn() {
    printf 'node.sh: warning: %s\n' "$*" >&2
}

# One setting of the ConfigMap, or what is taken without it.
setting() {
    if [[ -s $given/$1 ]]; then cat "$given/$1"; else printf '%s\n' "$2"; fi
}

on_node() {
    nsenter --target 1 --mount --uts --ipc --net --pid --cgroup -- "$@"
}

# The node needs the files at a place of its own to run them there.
bring_files() {
    [[ -e /proc/1/ns/mnt && ! /proc/1/ns/mnt -ef /proc/self/ns/mnt ]] ||
        die "the node's first process is not seen: the pod needs hostPID and privileged"
    on_node bash -c 'type tar' >/dev/null ||
        die "the node has no bash or no tar: install Portcullis in its image, see docs/kubernetes.md"
    on_node rm -rf "$setup"
    on_node mkdir -p "$setup"
    tar -c -f - -C "$here" install.sh install config bin node.sh | on_node tar -x -f - -C "$setup" ||
        die "the installer cannot be written to $setup on the node"
}

install_node() {
    local options=(--bin-dir "$setup/bin" --no-service --restart-changed) engine engines
    # A value of a ConfigMap has no newline at its end.
    read -ra engines <<<"$(setting engines containerd)"
    for engine in "${engines[@]}"; do options+=(--engine "$engine"); done
    case $(setting defaultRuntime false) in
        true) options+=(--default-runtime) ;;
        *) options+=(--no-default-runtime) ;;
    esac
    bring_files
    bring_settings
    on_node bash "$setup/install.sh" "${options[@]}"
    on_node rm -rf "$setup"
}

# Brings the settings of the ConfigMap to the node, and adds them to `options`: install.sh puts them in
# the place of those that are there, but for its own tables. A file that somebody wrote on the node
# stays. The node's name in the cluster is its name in events.
bring_settings() {
    local text name
    text=$(setting portcullis.toml '')
    if is_written_there; then
        [[ -z $text ]] || printf '%s\n' "node.sh: left as it is, since it was written on the node: $settings"
        return 0
    fi
    check_settings
    name=$(on_node hostname)
    [[ -n $text ]] || text=$(<"$here/config/portcullis.toml")
    [[ ${NODE_NAME:-$name} == "$name" || $text =~ (^|$'\n')[[:space:]]*node[[:space:]]*= ]] || text="node = \"$NODE_NAME\""$'\n'"$text"
    # With the mark, so that what is written into the ConfigMap later is taken. The node's shell shall
    # expand it.
    # shellcheck disable=SC2016
    printf '%s\n%s\n' "$mark" "$text" | on_node bash -c 'cat >"$1"' bash "$setup/ConfigMap-portcullis.toml"
    options+=(--settings "$setup/ConfigMap-portcullis.toml")
}

# Whether the node has settings that are neither the ConfigMap's nor, but for the tables of install.sh,
# the shipped ones.
is_written_there() {
    on_node test -e "$settings" || return 1
    ! on_node grep -qxF "$mark" "$settings" || return 1
    # shellcheck source=install/marks.sh
    source "$here/install/marks.sh"
    ! on_node cat "$settings" | without_marked - | cmp -s - "$here/config/portcullis.toml"
}

# With a fault in them the doors would take the shipped settings, which may be less strict, and the
# agent would not begin. The lines are those of the ConfigMap.
check_settings() {
    local file=$given/portcullis.toml said
    [[ -s $file ]] || return 0
    said=$("$here/bin/portcullis" config check "$file" 2>&1) ||
        die "the settings of this node stay as they are: portcullis.toml in the ConfigMap portcullis is wrong: ${said//"$file: "/}; mend it there: kubectl edit configmap -n ${POD_NAMESPACE:-portcullis-system} portcullis"
}

remove_node() {
    # The first run restarts the engines, and the others find that done.
    local options=(--uninstall --restart-changed)
    [[ $1 != all || $(setting dataOnRemoval remove) != remove ]] || options+=(--purge)
    bring_files
    if on_node bash "$setup/install.sh" "${options[@]}"; then
        on_node rm -rf "$setup"
        # It stays with what is kept in it, and is gone with a purge.
        on_node rmdir "$data" 2>/dev/null || true
        return 0
    fi
    # What runs under the handler needs it until it is gone, and that may be this very pod, where the
    # handler is the default. So the rest is done by the node after the pod.
    echo 'node.sh: the node does the rest as soon as nothing runs under the handler, within ten minutes'
    on_node touch "$setup/removal"
    if on_node test -d /run/systemd/system; then
        on_node systemd-run --quiet --collect --description='Takes Portcullis off' \
            bash "$setup/node.sh" wait "${options[@]}"
    else
        on_node bash "$setup/node.sh" later "${options[@]}"
    fi
}

# Leaves this pod's cgroups, with which everything in them ends.
later() {
    # shellcheck source=install/cgroups.sh
    source "$setup/install/cgroups.sh"
    join_first_process
    setsid bash "$setup/node.sh" wait "$@" </dev/null >/dev/null 2>&1 &
}

wait_and_uninstall() {
    local tries
    for ((tries = 0; tries < 120; tries++)); do
        sleep 5
        # All of it was installed again meanwhile.
        [[ -e $setup/removal ]] || return 0
        if bash "$setup/install.sh" "$@" >"$setup/said" 2>&1; then
            rm -rf "$setup"
            # As above.
            rmdir "$data" 2>/dev/null || true
            return 0
        fi
    done
    # The folder stays, with what install.sh has said; on a node without a journal that is all.
    logger -t portcullis "this node is not restored whole: stop what runs under the handler, and run $setup/install.sh $*; see $setup/said" || true
}

main "$@"
