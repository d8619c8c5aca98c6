#!/usr/bin/env bash
#
# Installs Portcullis on the node of this pod, and takes it off again: brings install.sh to the node
# and runs it there, among the node's own files and processes.
#
#   node.sh install    what the pod's first step does; safe to repeat
#   node.sh remove     what the agent does at its end when all of it is deleted from the cluster
#
# The pod is privileged and sees the node's processes (hostPID): the node is reached through its
# first process. Settings are those of the ConfigMap, mounted at /etc/portcullis-cluster.

set -euo pipefail

readonly here=/opt/portcullis
readonly given=/etc/portcullis-cluster
readonly node=/proc/1/root
readonly data=/var/lib/portcullis
readonly setup=$data/setup
readonly settings=/etc/portcullis/portcullis.toml
readonly mark='# From the ConfigMap portcullis of the cluster; edit it there.'

main() {
    [[ -d $node/etc ]] || die "the node's first process is not seen: the pod needs hostPID and privileged"
    case ${1:-} in
        install) install_node ;;
        remove) remove_node ;;
        *) die "usage: ${0##*/} install|remove" ;;
    esac
}

die() {
    printf 'node.sh: %s\n' "$*" >&2
    exit 1
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
    on_node bash -c true || die "the node has no bash: install Portcullis in its image, see docs/kubernetes.md"
    rm -rf "$node$setup"
    mkdir -p "$node$setup"
    cp -a "$here/install.sh" "$here/install" "$here/config" "$here/bin" "$node$setup/"
}

install_node() {
    local options=(--bin-dir "$setup/bin" --no-service --restart-changed) engine engines
    # A value of a ConfigMap has no newline at its end.
    read -ra engines <<<"$(setting engines containerd)"
    for engine in "${engines[@]}"; do options+=(--engine "$engine"); done
    [[ $(setting defaultRuntime false) != true ]] || options+=(--default-runtime)
    bring_files
    write_settings
    on_node bash "$setup/install.sh" "${options[@]}"
    rm -rf "$node$setup"
}

# A file that somebody wrote on the node stays. The node's name in the cluster is its name in events.
write_settings() {
    local text name
    text=$(setting portcullis.toml '')
    name=$(on_node hostname)
    [[ ${NODE_NAME:-$name} == "$name" || $text =~ (^|$'\n')[[:space:]]*node[[:space:]]*= ]] || text="node = \"$NODE_NAME\""$'\n'"$text"
    if [[ -e $node$settings ]] && ! grep -qxF "$mark" "$node$settings" &&
        ! cmp -s "$here/config/portcullis.toml" "$node$settings"; then
        [[ -z $text ]] || printf '%s\n' "node.sh: left as it is, since it was written on the node: $settings"
        return 0
    fi
    if [[ -z $text ]]; then
        rm -f "$node$settings"
        return 0
    fi
    mkdir -p "$node${settings%/*}"
    printf '%s\n%s\n' "$mark" "$text" >"$node$settings.new"
    mv "$node$settings.new" "$node$settings"
}

remove_node() {
    local options=(--uninstall --restart)
    [[ $(setting dataOnRemoval remove) != remove ]] || options+=(--purge)
    bring_files
    # Its pods are being stopped, too, and hold what they were started with until they are gone.
    local tries=0
    until on_node bash "$setup/install.sh" "${options[@]}"; do
        tries=$((tries + 1))
        ((tries < 10)) || die 'the node is not restored whole: stop what runs there under the handler, and run install.sh --uninstall'
        sleep 5
    done
    rm -rf "$node$setup"
    rmdir "$node$data" 2>/dev/null || true
}

main "$@"
