# shellcheck shell=bash
#
# Sourced by install.sh: CRI-O's handler, in a drop-in of our own beside its configuration.

readonly crio_config=/etc/crio/crio.conf
readonly crio_drop_in=/etc/crio/crio.conf.d/50-portcullis.conf
readonly storage_config=/etc/containers/storage.conf
readonly storage_root=/var/lib/containers/storage

# CRI-O's files in the order in which it reads them, without ours.
crio_files() {
    local file
    if [[ -f $root$crio_config ]]; then printf '%s\n' "$root$crio_config"; fi
    [[ -d $root${crio_drop_in%/*} ]] || return 0
    while IFS= read -r file; do
        [[ $file == "$root$crio_drop_in"* ]] || printf '%s\n' "$file"
    done < <(find "$root${crio_drop_in%/*}" -type f | sort)
}

plan_crio() {
    local base type files=()
    check_drop_in "$crio_drop_in"
    mapfile -t files < <(crio_files)
    toml_values "${files[@]}" /dev/null >"$work/crio.values"
    if $keep_default && was_default_in "$crio_drop_in"; then defaults[crio]=yes; fi
    grep -q "^crio\.runtime\.runtimes\.$handler"$'\t' "$work/crio.values" &&
        die "CRI-O's configuration in $root${crio_config%/*} has a handler \"$handler\" that install.sh did not write" \
            "take it out and run again"
    base=$(crio_base)
    type=$(crio_value "$base" runtime_type)
    [[ -z $type || $type == oci ]] ||
        die "CRI-O's default handler \"$base\" has runtime_type = \"$type\", which takes no OCI runtime" \
            "set default_runtime in $root$crio_config to a handler of the type oci, and run again"
    choose_runtime crio "$(crio_runtime "$base")"
    plan_table crio cri-o "$(storage_line "$(last_value crio root <"$work/crio.values" | unquoted)")"
    crio_text "$base" >"$work/crio.conf"
    judge_crio
}

# The name of the handler that ours stands before.
crio_base() {
    local name said
    name=$(last_value crio.runtime default_runtime <"$work/crio.values" | unquoted)
    if [[ -z $name ]]; then
        name=crun
        # runc was the default of CRI-O before 1.31.
        if said=$(crio --version 2>/dev/null) && [[ $said =~ 1\.([0-9]+)\. ]]; then
            ((BASH_REMATCH[1] >= 31)) || name=runc
        elif [[ -z $(first_runtime crun) ]]; then
            name=runc
        fi
    fi
    printf '%s\n' "$name"
}

crio_value() { last_value "crio.runtime.runtimes.$1" "$2" <"$work/crio.values" | unquoted; }

crio_runtime() {
    local path
    path=$(crio_value "$1" runtime_path)
    if [[ -n $path ]]; then printf '%s\n' "$path"; else first_runtime "$1"; fi
}

# The drop-in: what handler $1 is, with the wrapper as its runtime. An empty or lacking
# runtime_root is the same folder for both.
crio_text() {
    local from=crio.runtime.runtimes.$1 to=crio.runtime.runtimes.$handler
    printf '%s\n' "$mark_begin"
    if [[ -n ${defaults[crio]:-} ]]; then printf '[crio.runtime]\ndefault_runtime = "%s"\n' "$handler"; fi
    printf '[%s]\nruntime_path = "%s"\nruntime_type = "oci"\n' "$to" "$bin/$(wrapper_of crio)"
    awk -F '\t' -v from="$from" -v to="$to" '
        function key(line) { sub(/ = .*/, "", line); return line }
        # The last of several counts, as for CRI-O.
        index($1, from) == 1 && ($1 == from || substr($1, length(from) + 1, 1) == ".") {
            id = $1 SUBSEP key($2)
            if (!(id in value)) order[++n] = id
            value[id] = $2
        }
        END {
            for (i = 1; i <= n; i++) {
                split(order[i], part, SUBSEP)
                if (part[1] != from) continue
                if (part[2] ~ /^(runtime_path|runtime_type|runtime_config_path|inherit_default_runtime)$/) continue
                print value[order[i]]
            }
            for (i = 1; i <= n; i++) {
                split(order[i], part, SUBSEP)
                table = substr(part[1], length(from) + 1)
                if (table == "" || table == ".platform_runtime_paths") continue
                if (table != last) print "[" to table "]"
                last = table
                print value[order[i]]
            }
        }
    ' "$work/crio.values"
    printf '%s\n' "$mark_end"
}

# Whether CRI-O takes it. What it cannot be asked for is read here: a drop-in after ours that sets
# another default.
judge_crio() {
    local said files=() wins
    mkdir -p -- "$work/crio.d"
    if [[ -d $root${crio_drop_in%/*} ]]; then cp -rL -- "$root${crio_drop_in%/*}/." "$work/crio.d/"; fi
    # The wrapper is not in its place yet.
    sed "s|^runtime_path = .*|runtime_path = \"$root$real\"|" "$work/crio.conf" >"$work/crio.d/${crio_drop_in##*/}"
    if [[ -n ${defaults[crio]:-} ]]; then
        mapfile -t files < <(find "$work/crio.d" -type f | sort)
        wins=$(toml_values "${files[@]}" | last_value crio.runtime default_runtime | unquoted)
        [[ $wins == "$handler" ]] ||
            die "a file after ${crio_drop_in##*/} in $root${crio_drop_in%/*} sets default_runtime = \"$wins\", which wins" \
                "take it out there and run again"
    fi
    if ! command -v crio >/dev/null; then
        unchecked="$unchecked crio"
        return 0
    fi
    said=$(crio --config "$root$crio_config" --config-dir "$work/crio.d" config 2>&1 >/dev/null) ||
        die "CRI-O does not take its configuration with the handler added; nothing of it was changed" \
            "$(tail -n 1 <<<"$said")" \
            "see whether it takes it without: crio config"
}

change_crio() { edit "$crio_drop_in" "$work/crio.conf"; }

# Pods that ask for the handler by its name: CRI-O cannot stop them in order without it.
crio_users() {
    local file
    for file in "$root$(crio_storage)"/overlay-containers/*/userdata/config.json; do
        [[ -f $file ]] || continue
        if grep -qE "\"io\.kubernetes\.cri-o\.RuntimeHandler\": *\"$handler\"" "$file"; then
            file=${file%/userdata/config.json}
            printf 'container %s\n' "${file##*/}"
        fi
    done
}

# Where CRI-O keeps its containers, by what an install found.
crio_storage() {
    local line
    line=$(kept_table "$(wrapper_of crio)" | sed -n 's/^storage = \["\(.*\)"\]$/\1/p')
    printf '%s\n' "${line:-$storage_root}"
}

# ---------------------------------------------------------------------------- containers/storage

# The setting for the images' folder, if it is not the usual one: $1, or else what storage.conf says.
storage_line() {
    local place=$1
    if [[ -z $place && -f $root$storage_config ]]; then
        place=$(toml_values "$root$storage_config" | last_value storage graphroot | unquoted)
    fi
    if [[ -z $place || $place == "$storage_root" ]]; then return 0; fi
    printf 'storage = ["%s"]\n' "$place"
}
