#!/usr/bin/env bash
#
# Puts Portcullis onto this machine, beside containerd, and takes it off again. See --help.
#
# What it relies on, in this order:
#   - Every file is written beside its place and renamed into it, and is recorded before that with
#     its checksum and, if there was another one, with a copy of that. So a run that is cut short
#     can be repeated or undone.
#   - containerd's configuration is judged by containerd itself. Its `config dump` of the new text
#     must differ from that of the old one in our handler, and in the default if asked for, and in
#     nothing else; before that, no file of containerd is touched.
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
readonly data=/var/lib/portcullis
readonly templates=/usr/local/share/portcullis/policies
readonly record=$data/install
readonly containerd_config=/etc/containerd/config.toml
readonly drop_in=/etc/containerd/conf.d/portcullis.toml

# The marks. What they enclose, and the line below a line mark, is ours.
readonly mark_begin='# >>> portcullis: written by install.sh, taken out by install.sh --uninstall'
readonly mark_end='# <<< portcullis'
readonly mark_replaced='# portcullis: the next line replaces: '
readonly mark_added='# portcullis: the next line is added'
readonly default_line='default_runtime_name = "portcullis"'

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
readonly here

action=install
dry_run=false
default_runtime=false
restart=false
purge=false
root=''
bin_dir=''
containerd=''

usage() {
    cat <<'END'
Puts Portcullis onto this machine: a containerd shim that decides, image by image, what may start.

  install.sh [--default-runtime] [--restart] [--dry-run] [--root DIR] [--bin-dir DIR]
             [--containerd PATH]
  install.sh --uninstall [--purge] [--restart] [--dry-run] [--root DIR] [--containerd PATH]
  install.sh --try [--dry-run]

  --default-runtime  make the handler "portcullis" containerd's default, so that every pod goes
                     through it. Without this a pod asks for it by its RuntimeClass. A later
                     install keeps it; only --uninstall takes it back
  --restart          restart containerd afterwards; running containers go on
  --dry-run          say what would be done, with each edit as a diff, and change nothing
  --uninstall        put back every file that was edited, byte for byte, and remove what was
                     installed. Edited files in /etc/portcullis and all data in
                     /var/lib/portcullis stay
  --purge            with --uninstall: remove those too
  --root DIR         work on the system below DIR (an image, a test), not on this one
  --bin-dir DIR      install the binaries in DIR; else those in target/release, built if need be
  --containerd PATH  the containerd that the configuration is for; else the one in PATH
  --try              see it at work on a Debian 12 machine without installing it: gets the packages
                     that the tests need, builds, and runs a containerd of its own
  -h, --help         this text

It is safe to run again: what is in place already is left alone. What it did is recorded in
/var/lib/portcullis/install. Nothing is blocked by it: the policy that it brings only alarms.

Examples:
  ./install.sh --dry-run                     look first
  ./install.sh --restart                     pods may ask for the handler
  ./install.sh --default-runtime --restart   every pod goes through it
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
            --root | --bin-dir | --containerd)
                (($# > 1)) || wrong_usage "$1 needs a value"
                take_value "$1" "$2"
                shift
                ;;
            --root=* | --bin-dir=* | --containerd=*) take_value "${1%%=*}" "${1#*=}" ;;
            --default-runtime) default_runtime=true ;;
            --restart) restart=true ;;
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
    if $default_runtime && [[ $action != install ]]; then
        wrong_usage '--default-runtime goes with an install'
    fi
    if $restart && [[ -n $root ]]; then
        wrong_usage '--restart is for this machine, not for another --root'
    fi
    if [[ $action == try ]] && { $restart || [[ -n $root$bin_dir$containerd ]]; }; then
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

checksum() { sha256sum <"$1" | cut -d ' ' -f 1; }

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

# Where the file at path $1 really is: containerd's is edited where a link leads, ours replace one.
place_of() {
    if [[ $1 == "$containerd_config" ]]; then readlink -f -- "$root$1"; else printf '%s\n' "$root$1"; fi
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
}

# As place, but what is there already stays: people edit these.
place_once() {
    local from=$1 path=$2 mode=$3
    if [[ -e $root$path || -L $root$path ]]; then
        cmp -s -- "$from" "$root$path" || say "left as it is: $root$path"
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
    need_root
    lock
    find_containerd
    find_binaries
    # All that can be refused is refused before the first change.
    plan_containerd

    make_folders
    lock
    $dry_run || rm -f -- "$root$record/unconfigured"
    install_files
    apply_policies
    change_containerd
    $restart && restart_containerd
    next_steps
}

make_folders() {
    folder "$data" 0755
    folder "$record" 0700
    $dry_run || record_folders
    folder "$settings_folder" 0755
    folder "$settings_folder/policies" 0755
    folder "$data/verdicts" 0700
    folder "$data/events" 0700
    folder "$data/policy" 0755
}

# Sets the folder of the binaries, and builds them if they are not there or older than the sources.
find_binaries() {
    if [[ -n $bin_dir ]]; then
        local name
        for name in "$shim" portcullis; do
            [[ -x $bin_dir/$name ]] ||
                die "$bin_dir has no binary $name" "build it: cargo build --release -p portcullis-shim -p portcullis-cli"
        done
        return 0
    fi
    bin_dir=${CARGO_TARGET_DIR:-$here/target}/release
    built && return 0
    step "build $shim and portcullis"
    $dry_run && return 0
    build
    built || die "cargo was content, and yet $bin_dir lacks $shim or portcullis"
}

built() {
    local name
    for name in "$shim" portcullis; do
        [[ -x $bin_dir/$name ]] || return 1
        [[ -z $(find "$here/Cargo.lock" "$here/crates" "$here/shim" -type f -newer "$bin_dir/$name" -print -quit) ]] ||
            return 1
    done
}

build() {
    command -v cargo >/dev/null ||
        die "cargo is not in PATH, and $bin_dir lacks current binaries" \
            "install a Rust toolchain, or name a folder with built binaries: --bin-dir DIR"
    cargo build --manifest-path "$here/Cargo.toml" --locked --release -p portcullis-shim -p portcullis-cli
    # What cargo found unchanged keeps its old time; say that it is current.
    touch -c -- "$bin_dir/$shim" "$bin_dir/portcullis"
}

install_files() {
    if [[ -x $bin_dir/portcullis ]]; then
        place "$bin_dir/$shim" "$bin/$shim" 0755
        place "$bin_dir/portcullis" "$bin/portcullis" 0755
        install_documentation
    else
        step "write $root$bin/$shim, $root$bin/portcullis, the completion script and the man pages"
    fi
    place_once "$here/config/portcullis.toml" "$settings_folder/portcullis.toml" 0644
    place_once "$here/config/policies/watch.yaml" "$settings_folder/policies/watch.yaml" 0644
    install_templates
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

# Before containerd learns of the handler, so that there is no start without a policy.
apply_policies() {
    if $dry_run; then
        step "put the policies in $root$settings_folder/policies into force: portcullis policy apply"
        return 0
    fi
    "$bin_dir/portcullis" --root "${root:-/}" policy apply ||
        die "the policies in $root$settings_folder/policies have faults, and containerd's configuration is not touched" \
            "mend them, see: portcullis policy check; then run install.sh again"
}

# ---------------------------------------------------------------------------- containerd: what it is

engine_major=0
engine_minor=0
engine_patch=0

find_containerd() {
    local found
    found=$(command -v -- "${containerd:-containerd}") ||
        die "containerd is not found${containerd:+ at $containerd}" \
            "install it, or name it: --containerd /path/to/containerd"
    containerd=$found
    local said
    said=$("$containerd" --version) || die "$containerd --version failed: is it containerd?"
    [[ $said =~ [[:space:]]v?([0-9]+)\.([0-9]+)\.([0-9]+) ]] ||
        die "$containerd does not tell its version: $said" "name another: --containerd /path/to/containerd"
    engine_major=${BASH_REMATCH[1]}
    engine_minor=${BASH_REMATCH[2]}
    engine_patch=${BASH_REMATCH[3]}
    at_least 1 6 0 ||
        die "$containerd is $(engine_version): Portcullis needs containerd 1.6 or later"
}

engine_version() { printf '%s.%s.%s\n' "$engine_major" "$engine_minor" "$engine_patch"; }

at_least() {
    ((engine_major > $1 || (engine_major == $1 && (engine_minor > $2 || (engine_minor == $2 && engine_patch >= $3)))))
}

# Before 1.6.21, and in 1.7.0, containerd reads `runtime_path` and forgets it.
knows_runtime_path() {
    at_least 1 6 21 && ! [[ $(engine_version) == 1.7.0 ]]
}

# The version of the format of a configuration, or `none` if the file says nothing at all.
format_of() {
    awk '
        { sub(/\r$/, "") }
        /^[ \t]*(#|$)/ { next }
        { any = 1 }
        /^[ \t]*\[/ { exit }
        /^[ \t]*version[ \t]*=/ {
            version = $0
            sub(/^[^=]*=[ \t]*/, "", version)
            sub(/[ \t]*(#.*)?$/, "", version)
        }
        END { print version != "" ? version : any ? 1 : "none" }
    ' "$1"
}

# What a configuration imports, line by line; with $2 `without`, its text without that statement.
imports_of() {
    awk -v mode="${2:-list}" '
        function entries(text,   quote) {
            while (match(text, /"[^"]*"|\047[^\047]*\047/)) {
                print substr(text, RSTART + 1, RLENGTH - 2)
                text = substr(text, RSTART + RLENGTH)
            }
        }
        function closed(text) {
            gsub(/"[^"]*"|\047[^\047]*\047/, "", text)
            sub(/#.*/, "", text)
            return text ~ /\]/
        }
        /^[ \t]*\[/ && !inside { tables = 1 }
        !tables && !inside && /^[ \t]*imports[ \t]*=/ { inside = 1 }
        inside {
            statement = $0
            sub(/^[ \t]*#.*/, "", statement)
            if (mode == "list") entries(statement)
            if (closed(statement)) inside = 0
            next
        }
        mode == "without" { print }
    ' "$1"
}

# Whether what is imported by $1 covers the drop-in, as containerd's globs match.
covers_drop_in() {
    local pattern=$1
    [[ $pattern == /* ]] || pattern=${containerd_config%/*}/$pattern
    # The last part is a pattern: no quotes.
    # shellcheck disable=SC2053
    [[ ${pattern%/*} == "${drop_in%/*}" && ${drop_in##*/} == ${pattern##*/} ]]
}

imports_cover_drop_in() {
    local pattern
    while IFS= read -r pattern; do
        covers_drop_in "$pattern" && return 0
    done < <(imports_of "$1")
    return 1
}

# The files that configuration $1 imports, in containerd's order. $2 stands in for our drop-in;
# without it the drop-in is left out.
imported_files() {
    local text=$1 stand_in=$2 pattern path
    while IFS= read -r pattern; do
        path=$pattern
        [[ $path == /* ]] || path=${containerd_config%/*}/$path
        {
            if [[ $path == *'*'* ]]; then compgen -G "$root$path" || true; else printf '%s\n' "$root$path"; fi
            if covers_drop_in "$pattern"; then printf '%s\n' "$root$drop_in"; fi
        } | sort -u
    done < <(imports_of "$text") |
        while IFS= read -r path; do
            if [[ $path != "$root$drop_in" ]]; then
                printf '%s\n' "$path"
            elif [[ -n $stand_in ]]; then
                printf '%s\n' "$stand_in"
            fi
        done
}

# ---------------------------------------------------------------------------- containerd: what it reads

# Writes what containerd reads in configuration $1, with $2 as our drop-in, to $3: a line
# `table<TAB>key = value` for each value that is not empty, and `table<TAB>` for each table.
# Fails with containerd's words in $work/complaint.
dump() {
    local text=$1 stand_in=$2 out=$3 path list=''
    while IFS= read -r path; do
        list+="${list:+, }'$path'"
    done < <(imported_files "$text" "$stand_in")
    # The text is read from a copy, with the imports resolved below our root.
    {
        [[ -z $list ]] || printf 'imports = [%s]\n' "$list"
        imports_of "$text" without
    } >"$work/read.toml"
    # Where there is no file, containerd starts from what it would write.
    if [[ $(format_of "$work/read.toml") == none ]]; then
        printf 'version = %s\n' "$(newest_format)" >>"$work/read.toml"
    fi
    "$containerd" --config "$work/read.toml" config dump >"$work/dumped" 2>"$work/complaint" || return 1
    flatten "$work/dumped" >"$out"
}

newest_format() { if ((engine_major >= 2)); then echo 3; else echo 2; fi; }

flatten() {
    awk '
        { gsub(/^[ \t]+|[ \t\r]+$/, "") }
        /^(#|$)/ { next }
        /^\[/ {
            table = substr($0, 2, length($0) - 2)
            gsub(/\047/, "\"", table)
            print table "\t"
            next
        }
        {
            value = $0
            sub(/^[^=]*= */, "", value)
            if (value !~ /^(""|\047\047|\[\]|0|false)$/) print table "\t" $0
        }
    ' "$1"
}

# Where containerd's handlers are in its dump, and in a configuration of format $1.
dumped_section() { section_of "$(newest_format)"; }

section_of() {
    if [[ $1 == 3 ]]; then
        echo 'plugins."io.containerd.cri.v1.runtime".containerd'
    else
        echo 'plugins."io.containerd.grpc.v1.cri".containerd'
    fi
}

has_table() { awk -F '\t' -v table="$2" '$1 == table { found = 1 } END { exit !found }' "$1"; }

# The value of key $3 in table $2 of dump $1, without quotes.
value_of() {
    awk -F '\t' -v table="$2" -v key="$3" '
        $1 == table && index($2, key " = ") == 1 {
            value = substr($2, length(key) + 4)
            if (value ~ /^["\047].*["\047]$/) value = substr(value, 2, length(value) - 2)
            print value
            exit
        }
    ' "$1"
}

# The names of the handlers in dump $1, as TOML keys.
handlers_in() {
    awk -F '\t' -v prefix="$(dumped_section).runtimes." '
        index($1, prefix) == 1 {
            name = substr($1, length(prefix) + 1)
            if (name ~ /^"/) sub(/"\..*/, "\"", name); else sub(/\..*/, "", name)
            if (!seen[name]++) print name
        }
    ' "$1"
}

# The values of table $2 of dump $1, indented by $3.
values_in() {
    awk -F '\t' -v table="$2" -v indent="$3" '
        $1 == table && $2 != "" { print indent $2 }
    ' "$1"
}

# Handler $2 of dump $1 as text of a configuration of format $3.
handler_text() {
    local flat=$1 name=$2 from to
    from=$(dumped_section).runtimes.$name
    to=$(section_of "$3").runtimes.$name
    printf '[%s]\n' "$to"
    values_in "$flat" "$from" '  '
    options_text "$flat" "$from" "$to"
}

options_text() {
    local options
    options=$(values_in "$1" "$2.options" '    ')
    [[ -z $options ]] || printf '  [%s.options]\n%s\n' "$3" "$options"
}

# ---------------------------------------------------------------------------- containerd: the edit

# The handler whose settings ours takes over: the default one, or else `runc`, if it is runc's.
base_handler() {
    local flat=$1 name
    for name in "$(value_of "$flat" "$(dumped_section)" default_runtime_name)" runc; do
        if is_plain_runc "$flat" "$name"; then
            printf '%s\n' "$name"
            return 0
        fi
    done
}

is_plain_runc() {
    local table
    table=$(dumped_section).runtimes.$2
    [[ $(value_of "$1" "$table" runtime_type) == io.containerd.runc.v2 && -z $(value_of "$1" "$table" runtime_path) ]]
}

# Our handler in format $2: what the base handler of dump $1 is, with our shim.
our_handler() {
    local flat=$1 format=$2 base from to
    base=$(base_handler "$flat")
    from=$(dumped_section).runtimes.$base
    to=$(section_of "$format").runtimes.$handler
    printf '[%s]\n' "$to"
    if knows_runtime_path; then
        printf '  runtime_type = "io.containerd.runc.v2"\n  runtime_path = "%s"\n' "$bin/$shim"
    else
        printf '  # containerd %s ignores runtime_path and finds the shim by its type, in its PATH.\n' "$(engine_version)"
        printf '  runtime_type = "io.containerd.%s.v2"\n' "$handler"
    fi
    [[ -n $base ]] || return 0
    # The sandbox mode is what containerd fills in itself, under a name that depends on its version.
    values_in "$flat" "$from" '  ' | awk '!/^ *(runtime_(type|path)|sandbox(er|_mode)) = /'
    # Options reach a shim of runc's type only.
    if knows_runtime_path; then options_text "$flat" "$from" "$to"; fi
}

# The text between the marks: what containerd must read besides its own configuration. $4 holds
# handlers that containerd would forget otherwise, $5 our default if it has no place elsewhere.
our_block() {
    local flat=$1 format=$2 forgotten=$3 default=$4
    printf '%s\n' "$mark_begin"
    [[ -z $default ]] || printf '[%s]\n  %s\n' "$(section_of "$format")" "$default"
    if [[ -n $forgotten ]]; then
        printf '# Once a handler is named here, containerd %s forgets those that it has built in.\n' "$(engine_version)"
        printf '%s\n' "$forgotten"
    fi
    our_handler "$flat" "$format"
    printf '%s\n' "$mark_end"
}

# Text $1 with our block, from $2, at its end, in the line endings of the text.
with_block() {
    awk -v block="$2" '
        { print; if (NR == 1 && /\r$/) ending = "\r" }
        END {
            while ((getline line < block) > 0) print line ending
        }
    ' "$1"
}

# Text $1 with our default in section $2: in place of the key that is there, or below the section's
# head. Exit code 1: it has no such section.
with_default() {
    awk -v head="[$2]" -v ours="$default_line" -v replaced="$mark_replaced" -v added="$mark_added" '
        function is_head(line) {
            sub(/\r$/, "", line)
            sub(/#.*/, "", line)
            gsub(/[ \t]/, "", line)
            gsub(/\047/, "\"", line)
            gsub(/\."containerd"/, ".containerd", line)
            gsub(/"plugins"/, "plugins", line)
            return line == head
        }
        function margin(line) {
            match(line, /^[ \t]*/)
            return substr(line, 1, RLENGTH)
        }
        { lines[NR] = $0 }
        /^[ \t]*\[/ { inside = is_head($0); if (inside && !section) section = NR }
        inside && !key && /^[ \t]*["\047]?default_runtime_name["\047]?[ \t]*=/ { key = NR }
        END {
            for (n = 1; n <= NR; n++) {
                ending = lines[n] ~ /\r$/ ? "\r" : ""
                if (n == key) {
                    print replaced lines[n]
                    print margin(lines[n]) ours ending
                    continue
                }
                print lines[n]
                if (n == section && !key) {
                    print margin(lines[n]) "  " added ending
                    print margin(lines[n]) "  " ours ending
                }
            }
            exit !section
        }
    ' "$1"
}

is_marked() { grep -qF -e "$mark_begin" -e "$mark_replaced" -e "$mark_added" -- "$1"; }

# Text $1 without anything of ours. A line that somebody put in the place of ours is kept.
without_ours() {
    awk -v begin="$mark_begin" -v end="$mark_end" -v ours="$default_line" \
        -v replaced="$mark_replaced" -v added="$mark_added" '
        function plain(line) { gsub(/^[ \t]+|[ \t\r]+$/, "", line); return line }
        plain($0) == begin { block = 1 }
        block { if (plain($0) == end) block = 0; next }
        marked { marked = 0; if (plain($0) == ours) { if (has_old) print old; next } }
        index($0, replaced) == 1 { marked = 1; has_old = 1; old = substr($0, length(replaced) + 1); next }
        plain($0) == added { marked = 1; has_old = 0; next }
        { print }
    ' "$1"
}

# Writes the configuration as it would be without us to $1.
original_config() {
    local out=$1 config=$root$containerd_config copy
    copy=$(original_copy "$containerd_config")
    if [[ ! -e $config ]]; then
        : >"$out"
    elif ! is_marked "$config"; then
        cat -- "$config" >"$out"
    elif [[ ${sums[$containerd_config]:-} == "$(checksum "$config")" ]]; then
        if [[ ${kinds[$containerd_config]:-} == over ]]; then cat -- "$copy" >"$out"; else : >"$out"; fi
    else
        without_ours "$config" >"$out"
    fi
}

use_drop_in=false

# Works out containerd's new configuration and lets containerd judge it. Sets use_drop_in, and
# writes the new texts to $work/config.toml and $work/drop_in.toml; changes nothing else.
plan_containerd() {
    local config=$root$containerd_config format
    check_place_of_config
    original_config "$work/original.toml"
    if was_default; then default_runtime=true; fi

    format=$(format_of "$work/original.toml")
    case $format in
        none)
            format=$(newest_format)
            printf 'version = %s\n' "$format" >>"$work/original.toml"
            ;;
        2) ;;
        3)
            ((engine_major >= 2)) ||
                die "$config has the format of version 3, which containerd $(engine_version) cannot read" \
                    "upgrade containerd, or name the one that reads it: --containerd PATH"
            if imports_cover_drop_in "$work/original.toml"; then use_drop_in=true; fi
            ;;
        1)
            die "$config has the format of version 1 (it has no line \"version = 2\"), which is not supported" \
                "with containerd 1.7 or later: containerd config migrate > /tmp/config.toml, look at it, and put it in place" \
                "with containerd 1.6: write \"version = 2\" on top and the plugins' full names, see containerd's docs/PLUGINS.md" \
                "Docker's package ships such a file, with the CRI plugin disabled: containerd config default makes a new one"
            ;;
        *) die "$config has the unknown format of version $format" "versions 2 and 3 are supported: see containerd config migrate" ;;
    esac

    if $use_drop_in && [[ -s $root$drop_in ]] && ! is_marked "$root$drop_in"; then
        die "$root$drop_in was not written by install.sh" "move it away and run again"
    fi
    dump "$work/original.toml" '' "$work/before" ||
        die "containerd cannot read $config as it is; nothing was changed: $(complaint)" \
            "mend it, see: $containerd --config $config config dump"
    check_handlers
    compose "$format"
    judge "$(new_text config)" "$(new_text drop_in)" ||
        die "$config: $(cat "$work/verdict")" "nothing of containerd was changed"
}

check_place_of_config() {
    local config=$root$containerd_config real
    [[ -L $config ]] || return 0
    real=$(readlink -f -- "$config") || die "$config is a link that leads nowhere: mend it and run again"
    [[ $real == "$root"/* ]] || die "$config is a link that leads out of $root, to $real" "make it a relative link"
}

# Whether an earlier run made our handler the default.
was_default() {
    local path
    for path in "$containerd_config" "$drop_in"; do
        if [[ -f $root$path ]] && is_marked "$root$path" && grep -qF -- "$default_line" "$root$path"; then
            return 0
        fi
    done
    return 1
}

complaint() { tail -n 1 "$work/complaint"; }

# Refuses what cannot go well, by what containerd reads without us.
check_handlers() {
    local config=$root$containerd_config section name
    section=$(dumped_section)
    has_table "$work/before" "$section" ||
        die "$config disables containerd's CRI plugin, which is what Kubernetes talks to" \
            "take it out of disabled_plugins in $config and run again"
    ! has_table "$work/before" "$section.runtimes.$handler" ||
        die "$config, or a file that it imports, has a handler \"$handler\" that install.sh did not write" \
            "take it out and run again"
    $default_runtime || return 0
    name=$(value_of "$work/before" "$section" default_runtime_name)
    is_plain_runc "$work/before" "$name" ||
        die "the default handler of $config is \"$name\", which is not containerd's own shim for runc" \
            "Portcullis runs runc: as the default it would take \"$name\" away from every pod" \
            "install without --default-runtime, or set another default_runtime_name first"
    [[ -z $(value_of "$work/before" "$section.default_runtime" runtime_type) ]] ||
        die "$config has the table default_runtime, which is outdated and wins over default_runtime_name" \
            "name its handler below runtimes instead, and run again"
}

# Writes the new texts, in format $1. containerd 1.x has the handler runc built in, and forgets it
# once a configuration names any other: those are asked for by a first try.
compose() {
    local format=$1 forgotten
    compose_texts "$format" ''
    forgotten=$(forgotten_handlers "$format")
    [[ -z $forgotten ]] || compose_texts "$format" "$forgotten"
}

compose_texts() {
    local format=$1 forgotten=$2 default='' section
    section=$(section_of "$format")
    cp -- "$work/original.toml" "$work/config.toml"
    if $use_drop_in; then
        if $default_runtime; then default=$default_line; fi
        {
            printf 'version = %s\n' "$format"
            our_block "$work/before" "$format" "$forgotten" "$default"
        } >"$work/drop_in.toml"
        return 0
    fi
    if $default_runtime; then
        with_default "$work/original.toml" "$section" >"$work/config.toml" || default=$default_line
    fi
    our_block "$work/before" "$format" "$forgotten" "$default" >"$work/block"
    with_block "$work/config.toml" "$work/block" >"$work/new.toml"
    mv -- "$work/new.toml" "$work/config.toml"
}

forgotten_handlers() {
    local name
    dump "$(new_text config)" "$(new_text drop_in)" "$work/after" || return 0
    handlers_in "$work/before" | while IFS= read -r name; do
        if ! has_table "$work/after" "$(dumped_section).runtimes.$name"; then
            handler_text "$work/before" "$name" "$1"
        fi
    done
}

new_text() {
    case $1 in
        config) printf '%s\n' "$work/config.toml" ;;
        drop_in) if $use_drop_in; then printf '%s\n' "$work/drop_in.toml"; fi ;;
    esac
}

# Whether containerd reads in configuration $1, with drop-in $2, all it read before, and our
# handler. If not, $work/verdict says why.
judge() {
    local section table
    section=$(dumped_section)
    table=$section.runtimes.$handler
    if ! dump "$1" "$2" "$work/after"; then
        echo "containerd cannot read it with the handler added: $(complaint)" >"$work/verdict"
    elif [[ -z $(value_of "$work/after" "$table" runtime_type) ]]; then
        {
            echo "containerd does not see the handler \"$handler\""
            echo "  a file that is imported may replace the whole section: $(imported_files "$1" "$2" | paste -sd ' ')"
        } >"$work/verdict"
    elif knows_runtime_path && [[ $(value_of "$work/after" "$table" runtime_path) != "$bin/$shim" ]]; then
        echo "containerd does not see the path of the shim in the handler \"$handler\"" >"$work/verdict"
    elif $default_runtime && [[ $(value_of "$work/after" "$section" default_runtime_name) != "$handler" ]]; then
        {
            echo "containerd does not take \"$handler\" as its default handler"
            echo "  set default_runtime_name yourself where it is set now: $(imported_files "$1" "$2" | paste -sd ' ')"
        } >"$work/verdict"
    elif ! diff <(all_but_ours "$work/before") <(all_but_ours "$work/after") >"$work/difference"; then
        {
            echo "containerd would read other settings differently with the handler added"
            sed 's/^/  /' "$work/difference"
        } >"$work/verdict"
    else
        return 0
    fi
    return 1
}

# What must not change in a dump.
all_but_ours() {
    awk -F '\t' -v section="$(dumped_section)" -v handler="$handler" '
        $2 == "" { next }
        $1 == "" && $2 ~ /^(imports|version) = / { next }
        $1 == section && $2 ~ /^default_runtime_name = / { next }
        $1 == section ".runtimes." handler || $1 == section ".runtimes." handler ".options" { next }
        { print }
    ' "$1" | sort
}

# ---------------------------------------------------------------------------- containerd: the change

change_containerd() {
    local keep=$work/keep
    mkdir -- "$keep"
    save_aside "$containerd_config" "$keep/config.toml"
    save_aside "$drop_in" "$keep/drop_in.toml"
    if $use_drop_in; then
        # A block from before the drop-in could be used goes.
        if [[ -e $root$containerd_config ]] && is_marked "$root$containerd_config"; then
            edit "$containerd_config" "$work/original.toml"
        fi
        edit "$drop_in" "$work/drop_in.toml"
    else
        edit "$containerd_config" "$work/config.toml"
        if [[ -e $root$drop_in ]] && is_marked "$root$drop_in"; then revert "$drop_in"; fi
    fi
    $dry_run && return 0
    judge_in_place && return 0
    restore_aside "$containerd_config" "$keep/config.toml"
    restore_aside "$drop_in" "$keep/drop_in.toml"
    die "$root$containerd_config: $(cat "$work/verdict")" "containerd's configuration is as it was before"
}

judge_in_place() {
    local stand_in=''
    if $use_drop_in; then stand_in=$root$drop_in; fi
    judge "$root$containerd_config" "$stand_in"
}

save_aside() {
    [[ ! -e $root$1 ]] || cp -a -L -- "$root$1" "$2"
}

restore_aside() {
    local path=$1 copy=$2
    if [[ -e $copy ]]; then
        put_back "$path" "$copy"
        # The record follows: what stands there is ours, or not.
        if is_marked "$copy"; then
            remember "${kinds[$path]:-}" "$(checksum "$copy")" "$path"
        elif [[ -n ${kinds[$path]:-} ]]; then
            drop_record "$path"
        fi
    elif [[ -e $root$path ]]; then
        rm -- "$root$path"
        drop_record "$path"
    fi
}

# Gives the file of containerd at path $1 the text $2, and keeps what it was without us.
edit() {
    local path=$1 text=$2 file=$root$1 sum
    if [[ -e $file ]] && cmp -s -- "$text" "$file"; then return 0; fi
    folder "${path%/*}"
    step "edit $file"
    if $dry_run; then
        if [[ -e $file ]]; then show_change "$file" "$text" "$path"; else show_change /dev/null "$text" "$path"; fi
        return 0
    fi
    sum=$(checksum "$text")
    if [[ ! -e $file ]]; then
        remember made "$sum" "$path"
        pending=$(beside "$file")
        cat -- "$text" >"$pending"
        chmod 0644 "$pending"
        sync "$pending"
        mv -- "$pending" "$file"
        pending=''
        return 0
    fi
    if ! is_marked "$file"; then
        keep_original "$path"
        remember over "$sum" "$path"
    elif [[ ${sums[$path]:-} == "$(checksum "$file")" ]]; then
        remember "${kinds[$path]:-}" "$sum" "$path"
    else
        # Somebody changed it since: what it is without us is the original now.
        without_ours "$file" >"$work/kept"
        keep_original "$path" "$work/kept"
        remember over "$sum" "$path"
    fi
    rewrite "$path" "$text"
}

# ---------------------------------------------------------------------------- after it

restart_containerd() {
    step "restart containerd"
    $dry_run && return 0
    if [[ -d /run/systemd/system ]]; then
        systemctl restart containerd ||
            die "containerd did not restart" "see: journalctl -u containerd; to undo: install.sh --uninstall"
    elif command -v rc-service >/dev/null; then
        rc-service containerd restart || die "containerd did not restart" "to undo: install.sh --uninstall"
    elif command -v service >/dev/null; then
        service containerd restart || die "containerd did not restart" "to undo: install.sh --uninstall"
    else
        die "there is neither systemd nor another service manager here: all is in place, but containerd was not restarted" \
            "restart it yourself"
    fi
}

next_steps() {
    local number=0
    next() { number=$((number + 1)); printf '\n%s. %s\n' "$number" "$1"; }
    binary_name_note
    if $dry_run; then
        say "nothing was changed"
        return 0
    fi
    say
    say "Portcullis is installed. Nothing is blocked: its policy only alarms. Next:"
    if ! $restart; then
        next "Let containerd read its configuration; running containers go on:"
        say "     systemctl restart containerd"
    fi
    if $default_runtime; then
        next "Every pod of this node goes through it now. Pods that run already do so when they start anew."
    else
        next "Tell the cluster about the handler, once: kubectl apply -f - with"
        say
        sed -e '/^#/d' -e 's/^/     /' "$here/config/runtimeclass.yaml"
        next "Let a pod use it: runtimeClassName: portcullis in its spec. For every pod of the node"
        say "     instead: install.sh --default-runtime"
    fi
    next "Tell Portcullis what is known of your images, and watch what starts:"
    say "     trivy image -f json -o web.json registry.example.com/web:1.4 && portcullis import web.json"
    say "     portcullis status; portcullis events follow"
    next "Write policies of your own beside $settings_folder/policies/watch.yaml and put them into force:"
    say "     portcullis policy template; portcullis policy lint && portcullis policy apply"
    say
    say "To take it off again: install.sh --uninstall"
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
    need_root
    lock
    if [[ ! -d $root$record ]] && ! somewhere_marked; then
        say "Portcullis is not installed${root:+ below $root}: $root$record does not exist"
        $purge && remove_data
        return 0
    fi
    unconfigure_containerd
    $restart && restart_containerd
    hold_if_needed
    remove_files
    if $dry_run && $purge; then remove_data; fi
    remove_record
    if $dry_run; then say "nothing was changed"; else say "Portcullis is taken off"; fi
}

somewhere_marked() {
    local path
    for path in "$containerd_config" "$drop_in"; do
        if [[ -f $root$path ]] && is_marked "$root$path"; then return 0; fi
    done
    return 1
}

unconfigure_containerd() {
    local path changed=false
    for path in "$containerd_config" "$drop_in"; do
        if [[ -e $root$path ]] && { is_marked "$root$path" || [[ -n ${kinds[$path]:-} ]]; }; then
            changed=true
            revert "$path"
        fi
        $dry_run && continue
        rm -f -- "$(place_of "$path").portcullis-new"
        [[ -z ${kinds[$path]:-} ]] || drop_record "$path"
    done
    if ! $changed || $dry_run; then return 0; fi
    if [[ -d $root$record ]]; then : >"$root$record/unconfigured"; fi
    if [[ -n $containerd ]] || command -v containerd >/dev/null; then
        find_containerd
        [[ ! -e $root$containerd_config ]] || dump "$root$containerd_config" '' "$work/after" ||
            warn "containerd cannot read $root$containerd_config: $(complaint)"
    fi
}

# Makes the file at path $1 what it was, or, if somebody changed it since, takes out what is ours.
revert() {
    local path=$1 file=$root$1 kind
    kind=${kinds[$path]:-}
    if [[ -n $kind && ${sums[$path]:-} == "$(checksum "$file")" ]]; then
        if [[ $kind == over ]]; then
            step "put back $file as it was"
            $dry_run || put_back "$path" "$(original_copy "$path")"
        else
            step "remove $file"
            $dry_run || rm -- "$file"
        fi
    elif is_marked "$file"; then
        step "take out what install.sh wrote into $file, and nothing else: it was changed since"
        without_ours "$file" >"$work/reverted"
        show_change "$file" "$work/reverted" "$path"
        $dry_run || rewrite "$path" "$work/reverted"
    else
        say "left as it is: $file, which holds nothing of ours any more"
    fi
    if ! $dry_run && [[ -n $kind ]]; then drop_record "$path"; fi
}

drop_record() {
    local copy
    copy=$(original_copy "$1")
    rm -f -- "$copy"
    forget "$1"
}

# A shim outlives its binary, but containerd runs the binary again to clean up after its
# containers, and to start more of them in the same pod. And a containerd that was not restarted
# still knows the handler: without the binary it could start none of its pods, and none at all if
# the handler is its default. So both keep the binary, its settings and its policies here.
hold_if_needed() {
    local held=() line
    mapfile -t held < <(running_shims)
    if ((${#held[@]})); then
        warn "${#held[@]} shim(s) of Portcullis serve running containers:"
        for line in "${held[@]}"; do printf '  %s\n' "$line" >&2; done
        hold "stop these pods or containers"
    fi
    if containerd_still_configured; then
        hold "restart containerd (systemctl restart containerd), which still knows the handler"
    fi
}

hold() {
    if $dry_run; then
        warn "not all would be removed: first $1"
        return 0
    fi
    die "not finished: new starts no longer go through Portcullis once containerd was restarted, but $root$bin/$shim has to stay for now" \
        "containerd runs it to clean up after its containers; the settings and policies stay with it" \
        "$1, then run install.sh --uninstall again"
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

# Whether a containerd runs that has read the configuration with our handler.
containerd_still_configured() {
    local place line since=$record/unconfigured
    if [[ -n $root || ! -e $since ]]; then return 1; fi
    for place in /proc/[0-9]*; do
        [[ $(readlink "$place/exe" 2>/dev/null || true) == */containerd ]] || continue
        line=$(tr '\0' ' ' <"$place/cmdline" 2>/dev/null || true)
        # Docker's own, and those of tests, read another file.
        if [[ $line =~ [[:space:]](-c|--config)[=[:space:]]([^[:space:]]+) && ${BASH_REMATCH[2]} != "$containerd_config" ]]; then
            continue
        fi
        [[ $since -ot $place ]] || return 0
    done
    return 1
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
    # containerd's files have been seen to.
    if [[ $path == "$containerd_config" || $path == "$drop_in" ]]; then return 0; fi
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
    apt-get update -qq || die "apt-get update failed" "mend the package sources of this machine and run again"
    apt-get install -qq -y --no-install-recommends "${lacking[@]}" ||
        die "apt-get could not install ${lacking[*]}" "install them yourself and run again"
}

main "$@"
