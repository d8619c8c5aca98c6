#!/usr/bin/env bash
#
# Puts Portcullis onto this machine, in front of containerd, CRI-O, Podman or Docker, and takes it
# off again. See --help. The parts about one engine each are in the folder install.
#
# What it relies on, in this order:
#   - Every file is written beside its place and renamed into it, and is recorded before that with
#     its checksum and, if there was another one, with a copy of that. So a run that is cut short
#     can be repeated or undone.
#   - A configuration is judged by its engine itself, where that can do so. containerd's `config dump` of the new text
#     must differ from that of the old one in our handler, and in the default if asked for, and in
#     nothing else; before that, no file of an engine is touched.
#   - What we add to a file of somebody else stands between marks, so that it can be taken out even
#     when the file was changed since.

set -euo pipefail
shopt -s inherit_errexit
umask 022
export LC_ALL=C

readonly handler=portcullis
readonly shim=containerd-shim-portcullis-v2
readonly bin=/usr/local/bin
readonly settings_folder=/etc/portcullis
readonly settings=$settings_folder/portcullis.toml
readonly data=/var/lib/portcullis
readonly templates=/usr/local/share/portcullis/policies
readonly record=$data/install
readonly containerd_config=/etc/containerd/config.toml
readonly agent_unit=/etc/systemd/system/portcullisd.service
readonly agent_link=/etc/systemd/system/multi-user.target.wants/portcullisd.service
readonly drop_in=/etc/containerd/conf.d/portcullis.toml

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
readonly here

readonly all_engines=(containerd crio podman docker)

# shellcheck source=install/cgroups.sh
source "$here/install/cgroups.sh"
# shellcheck source=install/marks.sh
source "$here/install/marks.sh"
# shellcheck source=install/wrapper.sh
source "$here/install/wrapper.sh"
# shellcheck source=install/containerd.sh
source "$here/install/containerd.sh"
# shellcheck source=install/crio.sh
source "$here/install/crio.sh"
# shellcheck source=install/podman.sh
source "$here/install/podman.sh"
# shellcheck source=install/docker.sh
source "$here/install/docker.sh"

action=install
dry_run=false
default_runtime=false
keep_default=true
restart=false
restart_all=true
service=true
purge=false
root=''
bin_dir=''
containerd=''
engines=()
door=''
as_runc=false
runtime=''
new_settings=''
# What a run finds out: the runtime behind the wrapper of the engine at hand, the engines that we
# are or become the default of, and those that could not judge their configuration.
real=''
declare -A defaults=()
unchecked=''

usage() {
    cat <<'END'
Puts Portcullis onto this machine: a gate that decides, image by image, what may start.

  install.sh [--engine NAME]... [--default-runtime] [--restart|--restart-changed] [--dry-run]
             [--root DIR] [--bin-dir DIR] [--runtime PATH] [--no-service]
             [--settings FILE]
             [--door shim|wrapper] [--as-runc] [--containerd PATH]     (containerd only)
  install.sh --uninstall [--engine NAME]... [--purge] [--restart] [--dry-run] [--root DIR]
             [--containerd PATH]
  install.sh --try [--dry-run]

  --engine NAME      the engine that it stands in front of: containerd, crio, podman or docker.
                     May be given several times. Left out: the engines of an earlier install, or
                     else containerd; with --uninstall: all
  --default-runtime  make it the engine's default, so that every container goes through it. Without
                     this one asks for it: a pod by its RuntimeClass, podman and docker by
                     --runtime. A later install keeps it
  --no-default-runtime
                     take that back: only those that ask for it go through the gate
  --restart          restart containerd and CRI-O afterwards; running containers go on. Docker is
                     told to read its file anew; with --uninstall it is restarted, which stops its
                     containers unless it has "live-restore". Podman needs none
  --restart-changed  the same, but only those that began before install.sh last changed their
                     configuration, in this run or in an earlier one
  --no-service       leave portcullisd alone: a cluster runs it in a DaemonSet
  --dry-run          say what would be done, with each edit as a diff, and change nothing
  --uninstall        put back every file that was edited, byte for byte, and remove what was
                     installed. Edited files in /etc/portcullis and all data in
                     /var/lib/portcullis stay
  --purge            with --uninstall of all: remove those too
  --root DIR         work on the system below DIR (an image, a test), not on this one
  --bin-dir DIR      install the binaries in DIR; else those in target/release, built if need be
  --runtime PATH     the OCI runtime that a wrapper runs after its decision; else the one that the
                     engine's default uses now
  --settings FILE    the text of /etc/portcullis/portcullis.toml, in the place of what is there; the
                     tables [wrapper.NAME] of install.sh stay. It is checked first. Left out: what is
                     there stays
  --door DOOR        containerd: go through the shim (as at first), or through the stock shim of
                     containerd and a wrapper of its runc. A later install keeps it
  --as-runc          with --door wrapper: make the wrapper the runc of containerd's unit, too, for
                     clients of containerd 1.6 and 1.7 that make it forget the handler's BinaryName
  --containerd PATH  the containerd that the configuration is for; else the one in PATH
  --try              see it at work on a Debian 12 machine without installing it: gets the packages
                     that the tests need, builds, and runs a containerd of its own
  -h, --help         this text

It also brings a service, portcullisd, which scans images where a policy wants that; it is enabled and
started once. To do without it: systemctl disable --now portcullisd.

What is edited: containerd's config.toml (or a drop-in), /etc/crio/crio.conf.d/50-portcullis.conf,
/etc/containers/containers.conf.d/50-portcullis.conf, /etc/docker/daemon.json; and the tables
[wrapper.NAME] in /etc/portcullis/portcullis.toml.

It is safe to run again: what is in place already is left alone. What it did is recorded in
/var/lib/portcullis/install. Nothing is blocked by it: the policy that it brings only alarms.

Examples:
  ./install.sh --dry-run                     look first
  ./install.sh --restart                     pods may ask for the handler
  ./install.sh --default-runtime --restart   every pod goes through it
  ./install.sh --engine podman --engine docker --default-runtime --restart
                                             every container of Podman and Docker does
  ./install.sh --uninstall --engine docker   off Docker, and nothing else
  ./install.sh --uninstall --restart         as if it had never been here, but for the data

Exit codes:
  0  done, or nothing to do
  1  failed, or not finished; the reason and the remedy are on stderr
  2  the command line is wrong
END
}

main() {
    parse "$@"
    work=$(mktemp -d)
    trap clean_up EXIT
    trap 'exit 1' HUP INT TERM
    read_record
    case $action in
        install) install ;;
        uninstall) uninstall ;;
        try) try_out ;;
    esac
}

# ---------------------------------------------------------------------------- command line

parse() {
    while (($#)); do
        case $1 in
            --root | --bin-dir | --containerd | --engine | --door | --runtime | --settings)
                (($# > 1)) || wrong_usage "$1 needs a value"
                take_value "$1" "$2"
                shift
                ;;
            --root=* | --bin-dir=* | --containerd=* | --engine=* | --door=* | --runtime=* | --settings=*)
                take_value "${1%%=*}" "${1#*=}"
                ;;
            --as-runc) as_runc=true ;;
            --default-runtime) default_runtime=true ;;
            --no-default-runtime) keep_default=false ;;
            --restart) restart=true ;;
            --restart-changed)
                restart=true
                restart_all=false
                ;;
            --no-service) service=false ;;
            --dry-run) dry_run=true ;;
            --purge) purge=true ;;
            --uninstall) choose uninstall ;;
            --try) choose try ;;
            -h | --help)
                usage
                exit 0
                ;;
            *) wrong_usage "unknown argument: $1" ;;
        esac
        shift
    done
    if $purge && [[ $action != uninstall ]]; then
        wrong_usage '--purge goes with --uninstall'
    fi
    if ! $service && [[ $action != install ]]; then
        wrong_usage '--no-service goes with an install'
    fi
    if { $default_runtime || ! $keep_default; } && [[ $action != install ]]; then
        wrong_usage '--default-runtime and --no-default-runtime go with an install'
    fi
    if $default_runtime && ! $keep_default; then
        wrong_usage '--default-runtime and --no-default-runtime exclude each other'
    fi
    if [[ $action != install ]] && { $as_runc || [[ -n $door$runtime$new_settings ]]; }; then
        wrong_usage '--door, --as-runc, --runtime and --settings go with an install'
    fi
    if $as_runc && [[ $door != wrapper ]]; then
        wrong_usage '--as-runc goes with --door wrapper'
    fi
    if [[ -n $door && ${#engines[@]} != 0 && " ${engines[*]} " != *' containerd '* ]]; then
        wrong_usage '--door is for containerd: the other engines have the wrapper'
    fi
    if $restart && [[ -n $root ]]; then
        wrong_usage '--restart is for this machine, not for another --root'
    fi
    if [[ $action == try ]] && { $restart || [[ -n $root$bin_dir$containerd${engines[*]} ]]; }; then
        wrong_usage '--try goes with --dry-run only'
    fi
}

take_value() {
    [[ -n $2 ]] || wrong_usage "$1 needs a value"
    case $1 in
        --root)
            [[ -d $2 ]] || die "--root: $2 is not a folder: make it first"
            root=$(cd -- "$2" && pwd -P)
            [[ $root != / ]] || root=''
            ;;
        --bin-dir)
            [[ -d $2 ]] || die "--bin-dir: $2 is not a folder"
            bin_dir=$(cd -- "$2" && pwd)
            ;;
        --containerd) containerd=$2 ;;
        --engine)
            [[ " ${all_engines[*]} " == *" $2 "* ]] || wrong_usage "--engine: $2 is none of ${all_engines[*]}"
            [[ " ${engines[*]} " == *" $2 "* ]] || engines+=("$2")
            ;;
        --door)
            [[ $2 == shim || $2 == wrapper ]] || wrong_usage "--door: $2 is neither shim nor wrapper"
            door=$2
            ;;
        --runtime) runtime=$2 ;;
        --settings)
            [[ -f $2 ]] || die "--settings: $2 is not a file"
            new_settings=$2
            ;;
    esac
}

choose() {
    [[ $action == install || $action == "$1" ]] || wrong_usage "--$action and --$1 exclude each other"
    action=$1
}

wrong_usage() {
    printf 'install.sh: %s\nTry: install.sh --help\n' "$1" >&2
    exit 2
}

# ---------------------------------------------------------------------------- talk

say() { printf '%s\n' "$*"; }

# One thing that is done, or would be.
step() {
    if $dry_run; then say "would $*"; else say "$*"; fi
}

warn() { printf 'install.sh: warning: %s\n' "$*" >&2; }

# The first line says what is wrong and where, the others what to do.
die() {
    printf 'install.sh: %s\n' "$1" >&2
    shift
    (($# == 0)) || printf '  %s\n' "$@" >&2
    exit 1
}

pending=''

clean_up() {
    if [[ -n $pending ]]; then rm -f -- "$pending"; fi
    rm -rf -- "$work"
}

# ---------------------------------------------------------------------------- files and the record

need_root() {
    if $dry_run || [[ -n $root ]]; then return 0; fi
    [[ $(id -u) == 0 ]] || die "this changes /etc and /usr/local: run it as root, or look at it first with --dry-run"
}

# One run at a time; the lock is on the folder itself and leaves nothing behind.
lock() {
    if $dry_run || [[ ! -d $root$record ]]; then return 0; fi
    exec 9<"$root$record"
    flock -n 9 || die "another install.sh is at work (it holds $root$record)"
}

# Of a link of ours, where it leads.
checksum() {
    if [[ -L $1 && ($1 == "$root$runc_link" || $1 == "$root$agent_link") ]]; then
        printf 'link:%s\n' "$(readlink -- "$1")"
    else
        sha256sum <"$1" | cut -d ' ' -f 1
    fi
}

# The record has a line for each path: what it was before (`made`: nothing, `over`: a file that is
# kept as a copy, `folder`), the checksum of what was put there, and the path below the root.
declare -A kinds=() sums=()

read_record() {
    local kind sum path
    [[ -f $root$record/manifest ]] || return 0
    while IFS=$'\t' read -r kind sum path; do
        kinds[$path]=$kind
        sums[$path]=$sum
    done <"$root$record/manifest"
}

remember() {
    local kind=$1 sum=$2 path=$3
    if [[ ${kinds[$path]:-} == "$kind" && ${sums[$path]:-} == "$sum" ]]; then return 0; fi
    kinds[$path]=$kind
    sums[$path]=$sum
    write_record
}

forget() {
    local path=$1
    [[ -n ${kinds[$path]:-} ]] || return 0
    unset 'kinds[$path]' 'sums[$path]'
    write_record
}

write_record() {
    local path
    pending=$root$record/manifest.new
    for path in "${!kinds[@]}"; do
        printf '%s\t%s\t%s\n' "${kinds[$path]}" "${sums[$path]}" "$path"
    done | sort -t $'\t' -k 3 >"$pending"
    chmod 600 "$pending"
    sync "$pending"
    mv -- "$pending" "$root$record/manifest"
    pending=''
}

original_copy() { printf '%s\n' "$root$record/original$1"; }

# Keeps the file at path $1 as what was there before us, with its owner, mode and time; with the
# text of $2, if that is given.
keep_original() {
    local path=$1 text=${2:-} copy
    copy=$(original_copy "$path")
    (umask 077 && mkdir -p -- "${copy%/*}")
    pending=$copy.new
    cp -a -- "$(place_of "$path")" "$pending"
    [[ -z $text ]] || cat -- "$text" >"$pending"
    [[ -L $pending ]] || sync "$pending"
    mv -- "$pending" "$copy"
    pending=''
}

# The name under which a file is written before it is renamed to $1. Always the same, so that what
# a run leaves that is killed is overwritten by the next. No glob of containerd's matches it.
beside() {
    local name=$1.portcullis-new
    rm -f -- "$name"
    printf '%s\n' "$name"
}

# Where the file at path $1 really is: an engine's is edited where a link leads, ours replace one.
place_of() {
    if [[ $1 == "$containerd_config" || $1 == "$docker_config" ]]; then readlink -f -- "$root$1"; else printf '%s\n' "$root$1"; fi
}

# The folder at path $1 with mode $2. Folders above it are made, and none that exists is changed,
# unless $2 is given.
folder() {
    local path=$1 mode=${2:-} above
    if [[ -d $root$path ]]; then
        if [[ -n $mode && $(stat -c %a "$root$path") != "${mode#0}" ]]; then
            step "set the mode of $root$path to $mode"
            $dry_run || chmod "$mode" "$root$path"
        fi
        return 0
    fi
    if [[ -n ${announced_folders[$path]:-} ]]; then return 0; fi
    above=${path%/*}
    [[ -z $above ]] || folder "$above"
    step "make the folder $root$path"
    announced_folders[$path]=yes
    $dry_run && return 0
    # The first folders hold the record itself, which follows them.
    if [[ -d $root$record ]]; then remember folder - "$path"; else made_folders+=("$path"); fi
    mkdir -m "${mode:-0755}" -- "$root$path"
}

made_folders=()
declare -A announced_folders=()

record_folders() {
    local path
    for path in "${made_folders[@]}"; do
        remember folder - "$path"
    done
}

# Puts the file $1 at path $2 with mode $3.
place() {
    local from=$1 path=$2 mode=$3 to=$root$2 sum kind
    folder "${path%/*}"
    if [[ -f $to && $(stat -c %a "$to") == "${mode#0}" ]] && cmp -s -- "$from" "$to"; then
        # In place, by an earlier run or by one that was cut short.
        if ! $dry_run && [[ -z ${kinds[$path]:-} ]]; then
            remember made "$(checksum "$to")" "$path"
        fi
        return 0
    fi
    [[ ! -d $to ]] || die "$to is a folder, and a file has to be there: move it away and run again"
    step "write $to"
    $dry_run && return 0
    sum=$(checksum "$from")
    kind=${kinds[$path]:-}
    if [[ -n $kind ]]; then
        # Until the new one is in place, either is ours.
        remember "$kind" "$sum,${sums[$path]:-}" "$path"
    elif [[ -e $to || -L $to ]]; then
        kind=over
        keep_original "$path"
        remember over "$sum" "$path"
    else
        kind=made
        remember made "$sum" "$path"
    fi
    pending=$(beside "$to")
    cat -- "$from" >"$pending"
    chmod "$mode" "$pending"
    sync "$pending"
    mv -f -- "$pending" "$to"
    pending=''
    remember "$kind" "$sum" "$path"
    written[$path]=yes
}

# The files that this run wrote.
declare -A written=()

# Puts a link to $1 at path $2.
place_link() {
    local target=$1 path=$2 to=$root$2 kind
    folder "${path%/*}"
    if [[ -L $to && $(readlink -- "$to") == "$target" ]]; then
        $dry_run || [[ -n ${kinds[$path]:-} ]] || remember made "link:$target" "$path"
        return 0
    fi
    [[ ! -d $to ]] || die "$to is a folder, and a link has to be there: move it away and run again"
    step "link $to to $target"
    $dry_run && return 0
    kind=${kinds[$path]:-made}
    if [[ -z ${kinds[$path]:-} ]] && [[ -e $to || -L $to ]]; then
        kind=over
        keep_original "$path"
    fi
    remember "$kind" "link:$target" "$path"
    pending=$(beside "$to")
    ln -s -- "$target" "$pending"
    mv -T -- "$pending" "$to"
    pending=''
}

# As place, but what is there already stays: people edit these.
place_once() {
    local from=$1 path=$2 mode=$3
    if [[ -e $root$path || -L $root$path ]]; then
        cmp -s -- "$from" "$root$path" || is_as_recorded "$path" || say "left as it is: $root$path"
        return 0
    fi
    place "$from" "$path" "$mode"
}

# Gives the file at path $1 the text of $2; owner, mode and attributes stay.
rewrite() {
    local path=$1 text=$2 to
    to=$(place_of "$path")
    pending=$(beside "$to")
    cp -a -- "$to" "$pending"
    cat -- "$text" >"$pending"
    sync "$pending"
    mv -- "$pending" "$to"
    pending=''
}

# Puts a kept copy, with its owner, mode and time, at path $1.
put_back() {
    local path=$1 copy=$2 to
    to=$(place_of "$path")
    pending=$(beside "$to")
    cp -a --remove-destination -- "$copy" "$pending"
    [[ -L $pending ]] || sync "$pending"
    mv -T -- "$pending" "$to"
    pending=''
}

show_change() {
    local old=$1 new=$2 path=$3
    diff -u --label "$root$path" --label "$root$path (new)" "$old" "$new" | sed 's/^/    /' || true
}

# ---------------------------------------------------------------------------- install

install() {
    local engine
    need_root
    lock
    choose_engines
    # The doors are known once containerd's configuration is read.
    if wants containerd; then find_containerd; fi
    # All that can be refused is refused before the first change.
    for engine in "${engines[@]}"; do
        if $default_runtime; then defaults[$engine]=yes; fi
        "plan_$engine"
    done
    if $as_runc || [[ -n ${kinds[$runc_link]:-} ]]; then check_drop_in "$containerd_unit"; fi
    find_binaries
    plan_settings

    make_folders
    lock
    install_files
    change_settings
    apply_policies
    start_agent
    for engine in "${engines[@]}"; do "change_$engine"; done
    if $as_runc || { [[ $door == wrapper ]] && wants containerd && [[ -n ${kinds[$runc_link]:-} ]]; }; then change_runc; fi
    if $restart; then restart_engines; fi
    next_steps
}

wants() { [[ " ${engines[*]} " == *" $1 "* ]]; }

# Those asked for, or else those of an earlier install, or else containerd.
choose_engines() {
    local engine
    if [[ ${#engines[@]} == 0 && -n $door ]]; then engines=(containerd); fi
    if [[ ${#engines[@]} == 0 ]]; then
        for engine in "${all_engines[@]}"; do
            if is_installed "$engine"; then engines+=("$engine"); fi
        done
        ((${#engines[@]})) || engines=(containerd)
    fi
    for engine in "${engines[@]}"; do
        if ! is_here "$engine"; then no_engine "$engine"; fi
    done
}

no_engine() {
    local name=$1 engine found=()
    for engine in "${all_engines[@]}"; do
        if is_here "$engine"; then found+=("--engine $engine"); fi
    done
    [[ $name != containerd ]] ||
        die "containerd is not found${containerd:+ at $containerd}" \
            "install it, or name it: --containerd /path/to/containerd" \
            "${found[@]/#/here is: }"
    die "$name is not on this machine${root:+, below $root}" \
        "install it first${found[0]:+, or name an engine that is}" "${found[@]/#/here is: }"
}

# Whether engine $1 is on this machine, or below the root.
is_here() {
    local name=$1 folder
    case $name in
        containerd) command -v -- "${containerd:-containerd}" >/dev/null && return 0 || return 1 ;;
        docker) name=dockerd ;;
    esac
    if [[ -z $root ]] && command -v -- "$name" >/dev/null; then return 0; fi
    for folder in "${runtime_folders[@]}"; do
        if [[ -x $root$folder/$name ]]; then return 0; fi
    done
    return 1
}

# The files by which engine $1 is known to be installed.
paths_of() {
    printf '%s\n' "$bin/$(wrapper_of "$1")"
    case $1 in
        containerd) printf '%s\n' "$bin/$shim" "$containerd_config" "$drop_in" "$runc_link" "$containerd_unit" ;;
        crio) printf '%s\n' "$crio_drop_in" ;;
        podman) printf '%s\n' "$podman_drop_in" ;;
        docker) printf '%s\n' "$docker_config" ;;
    esac
}

is_installed() {
    local path
    while IFS= read -r path; do
        if [[ -n ${kinds[$path]:-} ]]; then return 0; fi
        if [[ $path == /etc/* && -f $root$path ]] && is_marked "$root$path"; then return 0; fi
    done < <(paths_of "$1")
    return 1
}

make_folders() {
    folder "$data" 0755
    folder "$record" 0700
    $dry_run || record_folders
    folder "$settings_folder" 0755
    folder "$settings_folder/policies" 0755
    folder "$settings_folder/malware" 0755
    # One that is there may have been opened for users whose containers run without root.
    [[ -d $root$data/verdicts ]] || folder "$data/verdicts" 0700
    folder "$data/events" 0700
    folder "$data/policy" 0755
}

# The binaries that the engines need.
needed_binaries() {
    echo portcullis
    echo portcullis-scanner
    echo portcullisd
    if wants containerd && [[ $door == shim ]]; then echo "$shim"; fi
    if [[ ${engines[*]} != containerd || $door == wrapper ]]; then echo portcullis-runc; fi
}

# Sets the folder of the binaries, and builds them if they are not there or older than the sources.
find_binaries() {
    local name
    mapfile -t binaries < <(needed_binaries)
    if [[ -n $bin_dir ]]; then
        for name in "${binaries[@]}"; do
            [[ -x $bin_dir/$name ]] ||
                die "$bin_dir has no binary $name" "build it: cargo build --release -p portcullis-shim -p portcullis-cli -p portcullis-scanner -p portcullis-agent"
        done
        return 0
    fi
    bin_dir=${CARGO_TARGET_DIR:-$here/target}/release
    built && return 0
    step "build ${binaries[*]}"
    $dry_run && return 0
    build
    built || die "cargo was content, and yet $bin_dir lacks one of ${binaries[*]}"
}

binaries=()

built() {
    local name
    for name in "${binaries[@]}"; do
        [[ -x $bin_dir/$name ]] || return 1
        [[ -z $(find "$here/Cargo.lock" "$here/crates" "$here/shim" -type f -newer "$bin_dir/$name" -print -quit) ]] ||
            return 1
    done
}

build() {
    command -v cargo >/dev/null ||
        die "cargo is not in PATH, and $bin_dir lacks current binaries" \
            "install a Rust toolchain, or name a folder with built binaries: --bin-dir DIR"
    cargo build --manifest-path "$here/Cargo.toml" --locked --release -p portcullis-shim -p portcullis-cli -p portcullis-scanner -p portcullis-agent
    # What cargo found unchanged keeps its old time; say that it is current.
    touch -c -- "$bin_dir/$shim" "$bin_dir/portcullis" "$bin_dir/portcullis-runc" "$bin_dir/portcullis-scanner" "$bin_dir/portcullisd"
}

install_files() {
    local engine
    if [[ -x $bin_dir/portcullis ]]; then
        if wants containerd && [[ $door == shim ]]; then place "$bin_dir/$shim" "$bin/$shim" 0755; fi
        for engine in "${engines[@]}"; do
            if [[ $engine != containerd || $door == wrapper ]]; then
                place "$bin_dir/portcullis-runc" "$bin/$(wrapper_of "$engine")" 0755
            fi
        done
        place "$bin_dir/portcullis" "$bin/portcullis" 0755
        place "$bin_dir/portcullis-scanner" "$bin/portcullis-scanner" 0755
        place "$bin_dir/portcullisd" "$bin/portcullisd" 0755
        install_documentation
    else
        step "write ${binaries[*]/#/$root$bin/}, the completion script and the man pages"
    fi
    install_agent_unit
    [[ -n $new_settings ]] || place_once "$here/config/portcullis.toml" "$settings" 0644
    place_once "$here/config/malware/portcullis.yar" "$settings_folder/malware/portcullis.yar" 0644
    place_once "$here/config/policies/watch.yaml" "$settings_folder/policies/watch.yaml" 0644
    install_templates
}

# Once only: an administrator may have disabled it since, or masked it.
install_agent_unit() {
    $service || return 0
    if [[ -L $root$agent_unit ]]; then
        say "left as it is: $root$agent_unit"
        return 0
    fi
    # First the link, so that a run which is cut short between the two makes it again.
    [[ -n ${kinds[$agent_unit]:-} ]] || place_link ../portcullisd.service "$agent_link"
    place "$here/config/systemd/portcullisd.service" "$agent_unit" 0644
}

# To start from, in a folder of their own: what is in the policy folder is put into force.
install_templates() {
    local template
    for template in "$here"/config/policies/templates/*.yaml; do
        place "$template" "$templates/${template##*/}" 0644
    done
}

install_documentation() {
    local page
    "$bin_dir/portcullis" completions bash >"$work/completion" ||
        die "$bin_dir/portcullis completions bash failed" "build the binaries anew"
    place "$work/completion" /usr/local/share/bash-completion/completions/portcullis 0644
    "$bin_dir/portcullis" man "$work/man" >/dev/null ||
        die "$bin_dir/portcullis man failed" "build the binaries anew"
    for page in "$work"/man/*.1; do
        [[ -e $page ]] || continue
        place "$page" "/usr/local/share/man/man1/${page##*/}" 0644
    done
}

# Before an engine learns of us, so that there is no start without a policy. An update goes on with
# the set that is in force: in a cluster it brings the agent that brings the mended policy.
apply_policies() {
    local folder=$root$settings_folder/policies
    if $dry_run; then
        step "put the policies in $folder into force: portcullis policy apply"
        return 0
    fi
    if "$bin_dir/portcullis" --root "${root:-/}" policy apply; then return 0; fi
    "$bin_dir/portcullis" --root "${root:-/}" policy list >/dev/null 2>&1 ||
        die "the policies in $folder cannot be put into force, nor are any yet, and no engine's configuration is touched" \
            "mend them, see: portcullis policy check; then run install.sh again"
    warn "the policies in $folder cannot be put into force, and the set that is in force goes on deciding: mend them, see: portcullis policy check; then: portcullis policy apply"
}

# Nothing waits for it: without it, images that nobody has scanned are unscanned. One that is as it
# was goes on, with the scan that it is at; one that was disabled stays so.
start_agent() {
    local path changed=false
    $service || return 0
    [[ -z $root && -d /run/systemd/system ]] || return 0
    for path in "$bin/portcullisd" "$bin/portcullis-scanner" "$agent_unit"; do
        if [[ -n ${written[$path]:-} ]]; then changed=true; fi
    done
    if $dry_run; then
        step 'start portcullisd, the agent, if it is new or another one'
        return 0
    fi
    $changed || return 0
    systemctl daemon-reload || warn 'systemd did not read its units again'
    systemctl is-enabled --quiet portcullisd || return 0
    step 'start portcullisd, the agent'
    systemctl restart portcullisd ||
        warn 'portcullisd, the agent, did not start: images are scanned by hand only; see: journalctl -u portcullisd'
}

stop_agent() {
    [[ -z $root && -d /run/systemd/system && -n ${kinds[$agent_unit]:-} ]] || return 0
    step 'stop portcullisd, the agent'
    $dry_run && return 0
    systemctl stop portcullisd || warn 'portcullisd, the agent, did not stop'
}

# So that systemd forgets a unit that is gone.
reload_units() {
    if $dry_run || [[ -n $root || ! -d /run/systemd/system ]]; then return 0; fi
    systemctl daemon-reload || warn 'systemd did not read its units again'
}

# ---------------------------------------------------------------------------- after it

restart_engines() {
    local engine
    for engine in "${engines[@]}"; do
        $restart_all || is_outdated "$engine" || continue
        case $engine in
            containerd) restart_service containerd restart ;;
            crio) restart_service crio restart ;;
            docker) if [[ $action == install ]]; then reload_docker; else restart_service docker restart; fi ;;
        esac
    done
}

# Docker reads new runtimes and the default anew, but forgets no runtime.
reload_docker() {
    restart_service docker reload
    if $forgets_default; then
        warn "docker keeps its default until it is restarted: systemctl restart docker"
        return 0
    fi
    # It is the same process, and not an outdated one any more.
    $dry_run || rm -f -- "$record/outdated-docker"
}

restart_service() {
    local name=$1 verb=$2 undo='to undo: install.sh --uninstall' pids
    step "$verb $name"
    $dry_run && return 0
    if [[ -d /run/systemd/system ]]; then
        systemctl daemon-reload || warn "systemd did not read its units again: $name may start without what was just installed"
        systemctl "$verb" "$name" || die "$name did not $verb" "see: journalctl -u $name; $undo"
    elif [[ $verb == reload ]]; then
        # As its unit does; not every init script knows the word.
        mapfile -t pids < <(daemons_of "$name")
        ((${#pids[@]} == 0)) || kill -HUP "${pids[@]}" || die "$name did not $verb" "$undo"
    elif command -v rc-service >/dev/null; then
        by_init_script rc-service "$name" "$verb" || die "$name did not $verb" "$undo"
    elif command -v service >/dev/null; then
        by_init_script service "$name" "$verb" || die "$name did not $verb" "$undo"
    else
        die "there is neither systemd nor another service manager here: all is in place, but $name did not $verb" \
            "do it yourself"
    fi
}

# A daemon that is started from here must not inherit the lock (9), which it would hold for ever,
# nor our cgroups, with which it would end: those of a pod, or of somebody's session.
by_init_script() {
    (
        exec 9>&-
        join_first_process
        "$@"
    )
}

next_steps() {
    local number=0 engine
    next() { number=$((number + 1)); printf '\n%s. %s\n' "$number" "$1"; }
    if wants containerd && [[ $door == shim ]]; then binary_name_note; fi
    for engine in $unchecked; do
        say "not checked by $engine itself, which cannot do that here: its configuration"
    done
    if $dry_run; then
        say "nothing was changed"
        return 0
    fi
    say
    say "Portcullis is installed. Nothing is blocked: its policy only alarms. Next:"
    for engine in "${engines[@]}"; do "next_for_$engine"; done
    next "Tell Portcullis what is known of your images, and watch what starts:"
    say "     portcullis scan registry.example.com/web:1.4"
    say "     trivy image -f json -o web.json registry.example.com/web:1.4 && portcullis import web.json"
    say "     portcullis status; portcullis events follow"
    next "Write policies of your own beside $settings_folder/policies/watch.yaml and put them into force:"
    say "     portcullis policy template; portcullis policy lint && portcullis policy apply"
    say
    say "To take it off again: install.sh --uninstall"
}

next_for_containerd() {
    if ! $restart; then
        next "Let containerd read its configuration; running containers go on:"
        $as_runc && say "     systemctl daemon-reload"
        say "     systemctl restart containerd"
    fi
    pods_may_ask containerd
}

next_for_crio() {
    if ! $restart; then
        next "Let CRI-O read its configuration; running containers go on:"
        say "     systemctl restart crio"
    fi
    pods_may_ask crio
}

pods_may_ask() {
    if [[ -n ${defaults[$1]:-} ]]; then
        next "Every pod of this node goes through it now. Pods that run already do so when they start anew."
        return 0
    fi
    next "Tell the cluster about the handler, once: kubectl apply -f - with"
    say
    sed -e '/^#/d' -e 's/^/     /' "$here/config/runtimeclass.yaml"
    next "Let a pod use it: runtimeClassName: portcullis in its spec. For every pod of the node"
    say "     instead: install.sh --engine $1 --default-runtime"
}

next_for_podman() {
    if [[ -n ${defaults[podman]:-} ]]; then
        next "Every container that Podman makes from now on goes through it; those made before keep their runtime."
    else
        next "Let a container of Podman use it: podman run --runtime $(wrapper_of podman) IMAGE. For every"
        say "     container instead: install.sh --engine podman --default-runtime"
    fi
}

next_for_docker() {
    if ! $restart; then
        next "Let Docker read its configuration; running containers go on:"
        say "     systemctl reload docker"
    fi
    if [[ -n ${defaults[docker]:-} ]]; then
        next "Every container that Docker makes from now on goes through it; those made before keep their runtime."
    else
        next "Let a container of Docker use it: docker run --runtime $handler IMAGE. For every container"
        say "     instead: install.sh --engine docker --default-runtime"
    fi
}

# What the oldest containerd cannot pass on must be said in our settings.
binary_name_note() {
    local base name
    knows_runtime_path && return 0
    base=$(base_handler "$work/before")
    name=$(value_of "$work/before" "$(dumped_section).runtimes.$base.options" BinaryName)
    [[ -z $name ]] ||
        warn "containerd $(engine_version) cannot pass BinaryName = \"$name\" on to the shim: write binary = \"$name\" below [runtime] in $root$settings_folder/portcullis.toml"
}

# ---------------------------------------------------------------------------- uninstall

uninstall() {
    local engine named=true left=()
    need_root
    lock
    if ((${#engines[@]} == 0)); then
        named=false
        engines=("${all_engines[@]}")
    fi
    for engine in "${all_engines[@]}"; do
        if is_installed "$engine" && ! wants "$engine"; then left+=("$engine"); fi
    done
    if ((${#left[@]})) && $purge; then
        die "--purge removes the settings and data that ${left[*]} still use" "leave --engine out, or --purge"
    fi
    keep_installed
    if ! $named && [[ ! -d $root$record ]] && ((${#engines[@]} == 0)); then
        say "Portcullis is not installed${root:+ below $root}: $root$record does not exist"
        $purge && remove_data
        return 0
    fi
    for engine in "${engines[@]}"; do "unconfigure_$engine"; done
    if $restart; then restart_engines; fi
    hold_if_needed
    if ((${#left[@]})); then
        take_off "${engines[@]}"
        if $dry_run; then say "nothing was changed"; else say "Portcullis stays for ${left[*]}"; fi
        return 0
    fi
    forget_tables "${all_engines[@]}"
    stop_agent
    remove_files
    reload_units
    if $dry_run && $purge; then remove_data; fi
    remove_record
    if $dry_run; then say "nothing was changed"; else say "Portcullis is taken off"; fi
}

# Of the engines asked for, those that there is anything of.
keep_installed() {
    local engine installed=()
    for engine in "${engines[@]}"; do
        if is_installed "$engine"; then
            installed+=("$engine")
        elif $named; then
            say "Portcullis is not installed for $engine${root:+ below $root}"
        fi
    done
    engines=("${installed[@]}")
}

# Removes what only the engines $@ need; the others stay as they are.
take_off() {
    local engine path
    (($#)) || return 0
    forget_tables "$@"
    for engine; do
        while IFS= read -r path; do
            [[ -n ${kinds[$path]:-} ]] || continue
            remove_file "${kinds[$path]}" "${sums[$path]}" "$path"
            $dry_run || drop_record "$path"
        done < <(paths_of "$engine")
        $dry_run || rm -f -- "$root$record/outdated-$engine"
    done
    $dry_run && return 0
    while IFS= read -r path; do
        [[ ${kinds[$path]:-} == folder && $path != "$data"* && $path != "$settings_folder"* ]] || continue
        if rmdir -- "$root$path" 2>/dev/null; then forget "$path"; fi
    done < <(our_folders)
}

unconfigure_containerd() {
    local path
    changed=false
    for path in "$containerd_config" "$drop_in" "$containerd_unit"; do
        revert_if_ours "$path"
    done
    if ! $changed || $dry_run; then return 0; fi
    if [[ -n $containerd ]] || command -v containerd >/dev/null; then
        find_containerd
        [[ ! -e $root$containerd_config ]] || dump "$root$containerd_config" '' "$work/after" ||
            warn "containerd cannot read $root$containerd_config: $(complaint)"
    fi
}

unconfigure_crio() { unconfigure crio "$crio_drop_in"; }
unconfigure_podman() { unconfigure podman "$podman_drop_in"; }
unconfigure_docker() { unconfigure docker "$docker_config"; }

# Takes engine $1's file at path $2 back. Containers that were made with our runtime can do nothing
# without it: as long as there are any, only the default is taken back.
unconfigure() {
    local engine=$1 path=$2 users=()
    mapfile -t users < <("${engine}_users")
    if ((${#users[@]})) && [[ -e $root$path ]] && is_marked "$root$path"; then
        warn "${#users[@]} container(s) of $engine were made with Portcullis as their runtime:"
        printf '  %s\n' "${users[@]}" >&2
        take_default_back "$path"
        held+=("remove these containers of $engine, or make them anew without Portcullis")
        return 0
    fi
    revert_if_ours "$path"
}

# What keeps the uninstall from its end.
held=()

# A shim outlives its binary, but containerd runs the binary again to clean up after its
# containers, and to start more of them in the same pod. And a containerd that was not restarted
# still knows the handler: without the binary it could start none of its pods, and none at all if
# the handler is its default. So both keep the binary, its settings and its policies here.
hold_if_needed() {
    local lines=() engine
    if wants containerd; then
        mapfile -t lines < <(running_shims; running_wrappers)
        if ((${#lines[@]})); then
            warn "${#lines[@]} shim(s) of Portcullis serve running containers:"
            printf '  %s\n' "${lines[@]}" >&2
            held+=("stop these pods or containers")
        fi
    fi
    for engine in containerd crio docker; do
        if wants "$engine" && is_outdated "$engine"; then
            held+=("restart $engine (systemctl restart $engine), which may still know the handler")
        fi
    done
    ((${#held[@]})) || return 0
    if $dry_run; then
        for engine in "${held[@]}"; do warn "not all would be removed: first $engine"; done
        return 0
    fi
    die "not finished: new starts no longer go through Portcullis once the engines were restarted, but its binaries in $root$bin have to stay for now" \
        "engines run them to stop containers and to clean up after them; the settings and policies stay with them" \
        "${held[@]}" "then run install.sh --uninstall again"
}

running_shims() {
    local place exe
    for place in /proc/[0-9]*; do
        exe=$(readlink "$place/exe" 2>/dev/null) || continue
        if [[ ${exe% (deleted)} == "$root$bin/$shim" ]]; then
            printf 'process %s: %s\n' "${place#/proc/}" "$(tr '\0' ' ' <"$place/cmdline" 2>/dev/null || true)"
        fi
    done
}

# Containers whose stock shim has the wrapper as its runc, by the options that it keeps.
running_wrappers() {
    local file
    for file in "$root"/run/containerd/io.containerd.runtime.v2.task/*/*/options.json; do
        [[ -f $file ]] || continue
        if grep -qF "\"$bin/$(wrapper_of containerd)\"" "$file"; then
            printf 'bundle %s\n' "${file%/options.json}"
        fi
    done
}

# Before the file at path $1 is changed: notes which processes of its engine run. What it will say
# they have not read, so they are to be restarted, by this run or by a later one. The note of one
# that has ended means nothing.
note_readers() {
    local path=$1 engine pid
    if $dry_run || [[ -n $root || ! -d $record ]]; then return 0; fi
    case $path in
        "$containerd_config" | "$drop_in" | "$containerd_unit") engine=containerd ;;
        "$crio_drop_in") engine=crio ;;
        "$docker_config") engine=docker ;;
        *) return 0 ;;
    esac
    pending=$record/outdated-$engine.new
    for pid in $(daemons_of "$engine"); do identity_of "$pid"; done >"$pending"
    mv -- "$pending" "$record/outdated-$engine"
    pending=''
}

# Whether a process of engine $1 runs that has read another configuration than we left.
is_outdated() {
    local noted=$record/outdated-$1 pid
    if [[ -n $root || ! -s $noted ]]; then return 1; fi
    for pid in $(daemons_of "$1"); do
        if grep -qxF -e "$(identity_of "$pid")" -- "$noted"; then return 0; fi
    done
    return 1
}

# What process $1 has for itself, whatever the clock is set to: the boot, its number, and when it
# began in ticks since the boot (proc_pid_stat(5)). Nothing, if it has ended.
identity_of() {
    local stat fields
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    # Its name may hold anything.
    read -ra fields <<<"${stat##*) }"
    printf '%s %s %s\n' "$(</proc/sys/kernel/random/boot_id)" "$1" "${fields[19]}"
}

# The processes of engine $1 that read the configuration which we change: not those in containers.
daemons_of() {
    local place exe line daemon=$1
    [[ $daemon != docker ]] || daemon=dockerd
    for place in /proc/[0-9]*; do
        # A process may end while it is looked at: then it is none.
        exe=$(readlink "$place/exe" 2>/dev/null) || continue
        [[ ${exe% (deleted)} == */"$daemon" && $place/ns/pid -ef /proc/self/ns/pid ]] || continue
        line=$(tr '\0' ' ' <"$place/cmdline" 2>/dev/null || true)
        # Docker's own containerd, and engines of tests, read another file.
        if [[ $line =~ [[:space:]](-c|-d|--config|--config-file|--config-dir)[=[:space:]]([^[:space:]]+) ]] &&
            ! is_read_by_default "${BASH_REMATCH[2]}"; then
            continue
        fi
        printf '%s\n' "${place#/proc/}"
    done
}

is_read_by_default() {
    [[ $1 == "$containerd_config" || $1 == "$crio_config" || $1/ == "${crio_drop_in%/*}"/* || $1 == "$docker_config" ]]
}

# Everything in the record but folders.
remove_files() {
    local path
    for path in "${!kinds[@]}"; do
        [[ ${kinds[$path]} == folder ]] || remove_file "${kinds[$path]}" "${sums[$path]}" "$path"
    done
}

remove_file() {
    local kind=$1 sum=$2 path=$3 file=$root$3
    $dry_run || rm -f -- "$file.portcullis-new"
    if [[ ! -e $file && ! -L $file ]]; then return 0; fi
    # The engines' files have been seen to.
    case $path in
        "$containerd_config" | "$drop_in" | "$containerd_unit" | "$crio_drop_in" | "$podman_drop_in" | "$docker_config") return 0 ;;
    esac
    if [[ ,$sum, != *,$(checksum "$file"),* ]]; then
        if $purge && [[ $path == "$settings_folder"/* ]]; then return 0; fi
        say "left as it is, since it was changed: $file"
    elif [[ $kind == over ]]; then
        step "put back $file as it was"
        $dry_run || put_back "$path" "$(original_copy "$path")"
    else
        step "remove $file"
        $dry_run || rm -- "$file"
    fi
}

# The record, and after it the folders of ours, if nothing is in them.
remove_record() {
    $dry_run && return 0
    local path folders=()
    mapfile -t folders < <(our_folders)
    rm -rf -- "$root$record"
    $purge && remove_data
    for path in "${folders[@]}"; do
        if [[ -d $root$path ]] && rmdir -- "$root$path" 2>/dev/null; then
            say "remove the folder $root$path"
        fi
    done
}

# The deepest first.
our_folders() {
    {
        printf '%s\n' "$settings_folder"{/policies,} "$data"{/verdicts,/events,/policy,}
        local path
        for path in "${!kinds[@]}"; do
            [[ ${kinds[$path]} != folder ]] || printf '%s\n' "$path"
        done
    } | sort -ru
}

remove_data() {
    local path
    for path in "$settings_folder" "$data"; do
        [[ -d $root$path ]] || continue
        step "remove $root$path with all that is in it"
        $dry_run || rm -rf -- "$root$path"
    done
}

# ---------------------------------------------------------------------------- try

try_out() {
    $dry_run || [[ $(id -u) == 0 ]] || die "--try installs packages and starts a containerd of its own: run it as root"
    command -v apt-get >/dev/null ||
        die "--try needs Debian 12, whose packages it runs; elsewhere install with install.sh, see --help"
    command -v cargo >/dev/null ||
        die "--try builds Portcullis, and cargo is not in PATH" "install a Rust toolchain, see https://rustup.rs"
    get_compiler
    step "get the packages of the tests: integration/packages.sh"
    $dry_run || "$here/integration/packages.sh"
    step "build $shim and portcullis"
    bin_dir=${CARGO_TARGET_DIR:-$here/target}/release
    $dry_run || build
    step "run the demonstration"
    $dry_run && return 0
    bin_dir=$(cd -- "$bin_dir" && pwd)
    PORTCULLIS_BIN_DIR=$bin_dir cargo run --manifest-path "$here/Cargo.toml" --locked --release -q \
        -p portcullis-integration --bin portcullis-try
}

# Rust needs a linker, and C's own library to link with.
get_compiler() {
    local name lacking=()
    for name in gcc libc6-dev; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null || true) == installed ]] || lacking+=("$name")
    done
    ((${#lacking[@]})) || return 0
    step "install the packages ${lacking[*]}"
    $dry_run && return 0
    export DEBIAN_FRONTEND=noninteractive
    # A source that is out of reach may not be the one that is needed.
    apt-get update -qq || warn "apt-get update failed"
    apt-get install -qq -y --no-install-recommends -o DPkg::Lock::Timeout=600 "${lacking[@]}" ||
        die "apt-get could not install ${lacking[*]}" "install them yourself and run again"
}

main "$@"
