#!/usr/bin/env bash
#
# What the integration tests need on a Debian 12 machine: packages of the machine's own release,
# installed when they are lacking, and newer generations of containerd, unpacked into a cache folder
# without being installed. Safe to run again: what is there already is left alone.
#
#   packages.sh             get what is lacking
#   packages.sh --refresh   also get the newer generations anew (their suites move)
#
# It runs as root. apt's own configuration and lists stay as they are: the newer suites are read
# with sources, lists and cache of their own.

set -euo pipefail

readonly packages=(
    busybox-static             # all that runs inside the test images
    containerd                 # the first generation under test, with its stock shim and ctr
    containernetworking-plugins
    crun                       # for the model of its command line
    iproute2
    runc
    systemd                    # for systemd-journald and journalctl
    util-linux                 # unshare, nsenter
)
readonly suites=(trixie sid)   # newer generations of containerd

cache=${PORTCULLIS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/portcullis}
readonly cache
readonly keyring=/usr/share/keyrings/debian-archive-keyring.gpg
export DEBIAN_FRONTEND=noninteractive

main() {
    local refresh=false
    case "${1:-}" in
        '') ;;
        --refresh) refresh=true ;;
        *) die "usage: ${0##*/} [--refresh]" ;;
    esac
    [[ $(id -u) == 0 ]] || die 'must run as root'

    install_lacking
    local suite
    for suite in "${suites[@]}"; do
        if $refresh || [[ ! -x $cache/engines/$suite/usr/bin/containerd ]]; then
            fetch_engine "$suite"
        fi
    done

    local name
    for name in "${packages[@]}"; do
        printf '%-28s %s\n' "$name" "$(dpkg-query -W -f '${Version}' "$name")"
    done
    for suite in "${suites[@]}"; do
        printf '%-28s %s\n' "containerd ($suite)" "$(cat "$cache/engines/$suite/version")"
    done
}

die() {
    printf '%s\n' "${0##*/}: $*" >&2
    exit 1
}

install_lacking() {
    local name lacking=()
    for name in "${packages[@]}"; do
        installed "$name" || lacking+=("$name")
    done
    [[ ${#lacking[@]} -gt 0 ]] || return 0
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends "${lacking[@]}"
}

installed() {
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# Unpacks containerd of the suite $1 into the cache, where a finished folder appears at once or not
# at all.
fetch_engine() {
    local suite=$1 place=$cache/engines/$1
    rm -rf "$place.new"
    mkdir -p "$place.new/apt/lists/partial" "$place.new/apt/archives/partial"
    printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$(mirror)" "$suite" \
        >"$place.new/apt/sources.list"

    local apt=(
        apt-get -qq
        -o "Dir::Etc::SourceList=$place.new/apt/sources.list"
        -o 'Dir::Etc::SourceParts=/dev/null'
        -o 'Dir::Etc::PreferencesParts=/dev/null'
        -o "Dir::State::Lists=$place.new/apt/lists"
        -o "Dir::Cache=$place.new/apt"
        -o 'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false'
        -o 'APT::Sandbox::User=root'
    )
    "${apt[@]}" update
    (cd "$place.new/apt" && "${apt[@]}" download "containerd/$suite")

    local deb=("$place.new"/apt/containerd_*.deb)
    dpkg -x "${deb[0]}" "$place.new"
    dpkg-deb -f "${deb[0]}" Version >"$place.new/version"
    rm -rf "$place.new/apt" "$place"
    mv "$place.new" "$place"
}

# The Debian mirror that this machine itself uses.
mirror() {
    local found
    found=$(
        cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources \
            2>/dev/null |
            sed -nE 's/^(URIs:|deb( +\[[^]]*\])?) *(https?:[^ ]+\/debian)\/?( .*)?$/\3/p' |
            head -n 1
    ) || true
    printf '%s\n' "${found:-http://deb.debian.org/debian}"
}

main "$@"
