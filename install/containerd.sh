# shellcheck shell=bash
#
# Sourced by install.sh: containerd's handler. Its configuration is judged by containerd itself.

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
            # A pattern may match nothing, which compgen takes for a failure.
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

# Our handler in format $2: what the base handler of dump $1 is, with our shim or our wrapper.
our_handler() {
    local flat=$1 format=$2 base from to
    base=$(base_handler "$flat")
    from=$(dumped_section).runtimes.$base
    to=$(section_of "$format").runtimes.$handler
    printf '[%s]\n' "$to"
    if [[ $door == wrapper ]]; then
        printf '  runtime_type = "io.containerd.runc.v2"\n'
    elif knows_runtime_path; then
        printf '  runtime_type = "io.containerd.runc.v2"\n  runtime_path = "%s"\n' "$bin/$shim"
    else
        printf '  # containerd %s ignores runtime_path and finds the shim by its type, in its PATH.\n' "$(engine_version)"
        printf '  runtime_type = "io.containerd.%s.v2"\n' "$handler"
    fi
    if [[ -n $base ]]; then
        # The sandbox mode is what containerd fills in itself, under a name that depends on its version.
        values_in "$flat" "$from" '  ' | awk '!/^ *(runtime_(type|path)|sandbox(er|_mode)) = /'
    fi
    if [[ $door == wrapper ]]; then
        printf '  [%s.options]\n    BinaryName = "%s"\n' "$to" "$bin/$(wrapper_of containerd)"
        [[ -z $base ]] || values_in "$flat" "$from.options" '    ' | awk '!/^ *BinaryName = /'
    elif [[ -n $base ]] && knows_runtime_path; then
        # Options reach a shim of runc's type only.
        options_text "$flat" "$from" "$to"
    fi
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

use_drop_in=false

# Works out containerd's new configuration and lets containerd judge it. Sets use_drop_in, and
# writes the new texts to $work/config.toml and $work/drop_in.toml; changes nothing else.
plan_containerd() {
    local config=$root$containerd_config format
    check_place_of_config
    original_text "$containerd_config" "$work/original.toml"
    if $keep_default && was_written "$default_line"; then defaults[containerd]=yes; fi
    if [[ -z $door ]]; then
        door=shim
        if was_written "BinaryName = \"$bin/$(wrapper_of containerd)\""; then door=wrapper; fi
    fi

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
    if [[ $door == wrapper ]]; then plan_containerd_wrapper; fi
    compose "$format"
    judge "$(new_text config)" "$(new_text drop_in)" ||
        die "$config: $(cat "$work/verdict")" "nothing of containerd was changed"
}

# What the wrapper becomes is what the handler runs that ours stands before.
plan_containerd_wrapper() {
    local name address
    name=$(value_of "$work/before" "$(dumped_section).runtimes.$(base_handler "$work/before").options" BinaryName)
    case $name in
        '') name=$(first_runtime runc crun) ;;
        /*) ;;
        *) name=$(first_runtime "$name") ;;
    esac
    choose_runtime containerd "$name"
    address=$(value_of "$work/before" grpc address)
    if [[ -n $address && $address != /run/containerd/containerd.sock ]]; then
        plan_table containerd containerd "socket = \"$address\""
    else
        plan_table containerd containerd
    fi
}

check_place_of_config() {
    local config=$root$containerd_config real
    [[ -L $config ]] || return 0
    real=$(readlink -f -- "$config") || die "$config is a link that leads nowhere: mend it and run again"
    [[ $real == "$root"/* ]] || die "$config is a link that leads out of $root, to $real" "make it a relative link"
}

# Whether an earlier run wrote the line $1.
was_written() {
    local path
    for path in "$containerd_config" "$drop_in"; do
        if [[ -f $root$path ]] && is_marked "$root$path" && grep -qF -- "$1" "$root$path"; then
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
    [[ -n ${defaults[containerd]:-} ]] || return 0
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
        if [[ -n ${defaults[containerd]:-} ]]; then default=$default_line; fi
        {
            printf 'version = %s\n' "$format"
            our_block "$work/before" "$format" "$forgotten" "$default"
        } >"$work/drop_in.toml"
        return 0
    fi
    if [[ -n ${defaults[containerd]:-} ]]; then
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
    elif [[ $door == shim ]] && knows_runtime_path && [[ $(value_of "$work/after" "$table" runtime_path) != "$bin/$shim" ]]; then
        echo "containerd does not see the path of the shim in the handler \"$handler\"" >"$work/verdict"
    elif [[ $door == wrapper && $(value_of "$work/after" "$table.options" BinaryName) != "$bin/$(wrapper_of containerd)" ]]; then
        echo "containerd does not see BinaryName in the options of the handler \"$handler\"" >"$work/verdict"
    elif [[ -n ${defaults[containerd]:-} && $(value_of "$work/after" "$section" default_runtime_name) != "$handler" ]]; then
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

# ---------------------------------------------------------------------------- containerd: its runc

# Clients of containerd 1.6 and 1.7 that set options of their own, such as ctr and nerdctl, make it
# forget BinaryName: its shim runs the runc in its PATH then. So a folder that holds nothing but
# our runc comes first there.
readonly path_folder=/usr/local/lib/portcullis/bin
readonly runc_link=$path_folder/runc
readonly containerd_unit=/etc/systemd/system/containerd.service.d/50-portcullis.conf

change_runc() {
    local path
    path=$(unit_path)
    printf '%s\n[Service]\nEnvironment="PATH=%s:%s"\n%s\n' "$mark_begin" "$path_folder" "$path" "$mark_end" >"$work/unit.conf"
    place_link "$bin/$(wrapper_of containerd)" "$runc_link"
    edit "$containerd_unit" "$work/unit.conf"
}

# The PATH that containerd's unit sets, or else systemd's own.
unit_path() {
    local path=''
    if [[ -z $root && -d /run/systemd/system ]]; then
        path=$(systemctl show --property Environment --value containerd 2>/dev/null | tr ' ' '\n' | sed -n 's/^"\?PATH=\([^"]*\)"\?$/\1/p' | tail -n 1)
    fi
    path=${path:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}
    printf '%s\n' "${path//$path_folder:/}"
}
