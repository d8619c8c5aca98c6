# shellcheck shell=bash
#
# Sourced by install.sh: the wrapper of the OCI runtime, its names, what it runs, and its tables in
# the settings.

wrapper_of() { if [[ $1 == containerd ]]; then echo portcullis-runc; else echo "portcullis-runc-$1"; fi; }

# The folders in which an engine's package, or a person, puts the runtimes.
readonly runtime_folders=(/usr/bin /usr/sbin /usr/local/bin /usr/local/sbin /usr/libexec/crio)

# The first of the runtimes $@ that is in one of these, or nothing.
first_runtime() {
    local name folder
    for name; do
        for folder in "${runtime_folders[@]}"; do
            if [[ -x $root$folder/$name && ! -d $root$folder/$name ]]; then
                printf '%s\n' "$folder/$name"
                return 0
            fi
        done
    done
}

# Whether the path $1 is the wrapper under any of its names.
is_wrapper() {
    local file=$root$1 engine
    for engine in "${all_engines[@]}"; do
        if [[ $file -ef $root$bin/$(wrapper_of "$engine") ]]; then return 0; fi
    done
    [[ $file -ef $bin_dir/portcullis-runc || $1 == "$bin"/portcullis-runc* ]]
}

# The runtime that the wrapper of engine $1 becomes: the one asked for, else the one of an earlier
# install, else $2. Sets `real`.
choose_runtime() {
    local engine=$1 found=$2 kept
    kept=$(kept_runtime "$(wrapper_of "$engine")")
    if [[ -n $runtime ]]; then
        real=$runtime
    elif [[ -n $kept && -x $root$kept ]]; then
        real=$kept
    else
        real=$found
    fi
    [[ -n $real ]] ||
        die "no OCI runtime is found for $engine: there is no runc and no crun in ${runtime_folders[*]}" \
            "install one, or name it: --runtime /path/to/runtime"
    check_runtime "$engine" "$real"
}

check_runtime() {
    local engine=$1 path=$2 other='name another: --runtime /path/to/runtime' part
    [[ $path == /* ]] || die "the runtime $path of $engine is no absolute path" "$other"
    [[ -f $root$path && -x $root$path ]] || die "the runtime $path of $engine is not there, or is no program" "$other"
    ! is_wrapper "$path" || die "the runtime $path of $engine is Portcullis itself, which would call itself for ever" "$other"
    part=$path
    while [[ -n $part ]]; do
        is_guarded "$root$part" ||
            die "the runtime $path of $engine can be replaced by somebody else: $root$part is not root's, or others may write it" \
                "chown root $part; chmod go-w $part; or $other"
        part=${part%/*}
    done
}

# Whether nobody but root may write it. Below another root, root is who owns that.
is_guarded() {
    local owner mode
    owner=$(stat -L -c %u -- "$1")
    mode=$(stat -L -c %a -- "$1")
    [[ $owner == 0 || (-n $root && $owner == "$(stat -c %u -- "$root")") ]] && (((8#$mode & 8#022) == 0))
}

# ---------------------------------------------------------------------------- the settings

declare -A tables=()

# Plans the table of engine $1, in settings of the name $2: real, and a line for each further $@.
plan_table() {
    local engine=$1 name=$2 line
    shift 2
    tables[$(wrapper_of "$engine")]=$(
        printf '[wrapper.%s]\n' "$(wrapper_of "$engine")"
        printf 'engine = "%s"\nruntime = "%s"\n' "$name" "$real"
        for line; do [[ -z $line ]] || printf '%s\n' "$line"; done
    )
}

# The table $1 in the block that an earlier install wrote.
kept_table() {
    [[ -f $root$settings ]] || return 0
    awk -v begin="$mark_begin" -v end="$mark_end" -v head="[wrapper.$1]" '
        $0 == begin { block = 1; next }
        $0 == end { block = 0 }
        /^\[/ { inside = block && $0 == head }
        block && inside && NF { print }
    ' "$root$settings"
}

kept_runtime() { kept_table "$1" | sed -n 's/^runtime = "\(.*\)"$/\1/p'; }

# Writes the settings, those of --settings or those that are there, with the planned tables, and those
# of earlier installs, to $1. The tables of the engines $2 and later are left out.
settings_text() {
    local out=$1 engine name table dropped=()
    shift
    for engine; do dropped+=("$(wrapper_of "$engine")"); done
    if [[ -n $new_settings ]]; then
        # Whoever copied a node's file took our tables along.
        without_ours "$new_settings" "$settings" >"$work/settings.bare"
    elif [[ -e $root$settings ]]; then
        without_ours "$root$settings" "$settings" >"$work/settings.bare"
    else
        cat -- "$here/config/portcullis.toml" >"$work/settings.bare"
    fi
    : >"$work/settings.tables"
    for engine in "${all_engines[@]}"; do
        name=$(wrapper_of "$engine")
        [[ " ${dropped[*]} " != *" $name "* ]] || continue
        table=${tables[$name]:-$(kept_table "$name")}
        [[ -n $table ]] || continue
        if toml_values "$work/settings.bare" | grep -q "^wrapper\.$name"$'\t'; then
            say "left as it is: [wrapper.$name] in ${new_settings:-$root$settings}"
            continue
        fi
        [[ ! -s $work/settings.tables ]] || echo >>"$work/settings.tables"
        printf '%s\n' "$table" >>"$work/settings.tables"
    done
    if [[ ! -s $work/settings.tables ]]; then
        cat -- "$work/settings.bare" >"$out"
        return 0
    fi
    {
        printf '%s\n' "$mark_begin"
        cat -- "$work/settings.tables"
        printf '%s\n' "$mark_end"
    } >"$work/settings.block"
    with_block "$work/settings.bare" "$work/settings.block" >"$out"
}

# Plans what the settings become: nothing else, if there is neither a table nor another text. Doors
# would take the shipped settings in the place of a text with a fault.
plan_settings() {
    local said
    if ((${#tables[@]} == 0)) && [[ -z $new_settings ]]; then return 0; fi
    settings_text "$work/settings.toml"
    if [[ -z $new_settings || ! -x $bin_dir/portcullis ]]; then return 0; fi
    said=$("$bin_dir/portcullis" config check "$work/settings.toml" 2>&1) ||
        die "the settings in $new_settings are wrong, and those of before stay in force" \
            "${said//"$work/settings.toml"/$new_settings}" "mend them and run again"
}

# All at once: a wrapper that found no table would become another runtime than the one that made its
# containers.
change_settings() {
    if [[ -e $work/settings.toml ]]; then edit "$settings" "$work/settings.toml"; fi
}

# Takes the tables of the engines $@ out of the settings.
forget_tables() {
    if [[ ! -f $root$settings ]] || ! is_marked "$root$settings"; then return 0; fi
    settings_text "$work/settings.toml" "$@"
    change_settings
}
