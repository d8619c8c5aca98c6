# shellcheck shell=bash
#
# Sourced by test.sh, packages.sh and kubernetes.sh: the machine's own apt, and one with sources, lists
# and a cache of its own, so that the machine's stay as they are.

# Begins the script again with the lock of the cache: two at once would take away what the other is
# making. What the script leaves running does not hold it. The arguments are the script's own.
one_at_a_time() {
    [[ ${CACHE_LOCK:-} != held ]] || return 0
    mkdir -p "${cache:?}"
    CACHE_LOCK=held exec flock --close "$cache/lock" bash "$0" "$@"
}

# thrice COMMAND...: again, a little later, while it fails.
thrice() {
    local try
    for try in 1 2; do
        "$@" && return
        sleep $((10 * try))
    done
    "$@"
}

# The lists of the machine's own apt.
update_lists() {
    # A source of somebody else's that is out of reach fails it, too. What is lacking in the end, the
    # installation says.
    thrice apt-get update -qq || printf '%s\n' "${0##*/}: warning: not all package lists are new" >&2
}

# install_packages OPTION... NAME...: of the machine's own release, once no other apt is at work.
install_packages() {
    apt-get install -qq -y --no-install-recommends -o DPkg::Lock::Timeout=600 "$@"
}

# The command, for "${private_apt[@]}".
private_apt=()

# Lets private_apt read the suites that follow, with its files in folder $1. Each suite is written
# `deb SUITE` or `deb-src SUITE`.
use_private_apt() {
    local folder=$1 from
    shift
    mkdir -p "$folder/lists/partial" "$folder/archives/partial"
    from=$(mirror)
    printf '%s\n' "$@" |
        sed -E "s|^([^ ]+) (.*)|\1 [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $from \2 main|" \
            >"$folder/sources.list"
    private_apt=(
        apt-get -qq
        -o "Dir::Etc::SourceList=$folder/sources.list"
        -o 'Dir::Etc::SourceParts=/dev/null'
        -o 'Dir::Etc::PreferencesParts=/dev/null'
        -o "Dir::State::Lists=$folder/lists"
        -o "Dir::Cache=$folder"
        -o 'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false'
        -o 'APT::Sandbox::User=root'
    )
    thrice "${private_apt[@]}" update
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
