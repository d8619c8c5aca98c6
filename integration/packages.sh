#!/usr/bin/env bash
#
# What the integration tests need on a Debian 12 machine: packages of the machine's own release,
# installed when they are lacking, and engines that are unpacked into a cache folder without being
# installed: newer generations, and Docker and Prometheus, whose packages would start services; and a
# Debian that the scanner reads. Safe to run again:
# what is there already is left alone.
#
#   packages.sh             get what is lacking
#   packages.sh --refresh   also get the unpacked engines anew (their suites move)
#
# It runs as root and starts no service. apt's own configuration and lists stay as they are: the
# suites are read with sources, lists and cache of their own.

set -euo pipefail

readonly packages=(
    busybox-static             # all that runs inside the test images
    clamav-daemon              # finds malware for the scanner
    clamav-testfiles           # what it finds
    conmon                     # Podman's monitor
    containerd                 # the first generation under test, with its stock shim and ctr
    containernetworking-plugins
    debootstrap                # makes a Debian for the scanner to read
    docker-registry            # where verdicts are pushed to and pulled from
    crun                       # Podman's usual runtime, and for the model of its command line
    curl                       # asks etcd whether it is well
    dpkg-dev                   # unpacks Debian's sources of Kubernetes
    etcd-server                # for the cluster
    golang-1.19-go             # builds Kubernetes, with make and rsync
    iproute2
    make
    openssl                    # makes keys that sign verdicts, and service accounts
    podman
    rsync
    runc
    systemd                    # for systemd-journald and journalctl
    uidmap                     # newuidmap, for Podman without root
    util-linux                 # unshare, nsenter, setpriv
)
readonly suites=(bookworm trixie sid)
# What is unpacked of each suite. Docker of sid runs on the containerd that stands beside it.
declare -rA unpacked=(
    [bookworm]='docker.io prometheus'
    [trixie]='containerd'
    [sid]='containerd docker.io docker-cli'
)
# Where a suite that moves is taken from while its own packages cannot be used.
declare -rA instead=([sid]='testing')

cache=${PORTCULLIS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/portcullis}
readonly cache

# shellcheck source=integration/apt.sh
source "$(dirname "${BASH_SOURCE[0]}")/apt.sh"
export DEBIAN_FRONTEND=noninteractive

main() {
    local refresh=false
    case "${1:-}" in
        '') ;;
        --refresh) refresh=true ;;
        *) die "usage: ${0##*/} [--refresh]" ;;
    esac
    [[ $(id -u) == 0 ]] || die 'must run as root'
    one_at_a_time "$@"

    install_lacking
    local suite name
    for suite in "${suites[@]}"; do
        if $refresh || lacks "$suite"; then
            get "$suite"
        fi
    done

    if $refresh || [[ ! -d $cache/rootfs/bookworm ]]; then
        make_rootfs
    fi

    for name in "${packages[@]}"; do
        printf '%-28s %s\n' "$name" "$(dpkg-query -W -f '${Version}' "$name")"
    done
    for suite in "${suites[@]}"; do
        for name in ${unpacked[$suite]}; do
            printf '%-28s %s\n' "$name ($suite)" "$(cat "$cache/engines/$suite/$name.version")"
        done
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
    update_lists
    thrice install_packages --download-only "${lacking[@]}"
    # With no sign of systemd in sight, the packages' scripts start nothing. It may hold the name
    # servers, too, so all is downloaded before.
    export -f install_packages
    unshare --mount bash -c '
        [[ ! -d /run/systemd ]] || mount -t tmpfs tmpfs /run/systemd
        install_packages "$@"
    ' bash "${lacking[@]}"
}

installed() {
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# Whether something of the suite $1 is not unpacked yet.
lacks() {
    local name
    for name in ${unpacked[$1]}; do
        [[ -s $cache/engines/$1/$name.version ]] || return 0
    done
    return 1
}

# Unpacks the packages of the suite $1 into the cache. What it has at the moment may be half there, or
# too new for this machine: then those of another suite stand in their place.
get() {
    local suite
    for suite in "$1" ${instead[$1]:-}; do
        thrice fetch "$1" "$suite" && return
        printf '%s\n' "${0##*/}: warning: the packages of $suite cannot be used" >&2
    done
    die "nothing that runs here is found for $1"
}

# Unpacks the packages of $1 from the suite $2, where a finished folder appears at once or not at all.
# Tells of each failure itself: it is called where bash would go on after one.
fetch() {
    local place=$cache/engines/$1 suite=$2 names name
    read -ra names <<<"${unpacked[$1]}"
    rm -rf "$place.new"
    mkdir -p "$place.new"
    use_private_apt "$place.new/apt" "deb $suite" || return
    (cd "$place.new/apt" && "${private_apt[@]}" download "${names[@]/%//$suite}") || return

    for name in "${names[@]}"; do
        local deb=("$place.new/apt/${name}"_*.deb)
        dpkg -x "${deb[0]}" "$place.new" || return
        dpkg-deb -f "${deb[0]}" Version >"$place.new/$name.version" || return
    done
    # Of Prometheus its promtool alone is wanted.
    rm -rf "$place.new/apt" "$place.new/usr/bin/prometheus"
    for name in bin/containerd bin/docker sbin/dockerd bin/promtool; do
        [[ ! -e $place.new/usr/$name ]] || "$place.new/usr/$name" --version >/dev/null || return
    done
    rm -rf "$place"
    mv "$place.new" "$place"
}

# A small Debian 12, unpacked and configured as its own tools do it.
make_rootfs() {
    local place=$cache/rootfs/bookworm
    rm -rf --one-file-system "$place.new" "$place"
    mkdir -p "$place.new"
    # What it mounts there goes with it, even if it is killed.
    unshare --mount debootstrap --variant=minbase bookworm "$place.new" "$(mirror)" >"$place.log" 2>&1 ||
        die "debootstrap failed: $(tail -n 5 "$place.log")"
    rm -rf "$place.new/var/cache/apt/archives" "$place.new/var/lib/apt/lists"
    mv "$place.new" "$place"
}

main "$@"
