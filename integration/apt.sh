# shellcheck shell=bash
#
# Sourced by packages.sh and kubernetes.sh: apt with sources, lists and a cache of its own, so that the
# machine's stay as they are.

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
    "${private_apt[@]}" update
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
