# shellcheck shell=bash
#
# Sourced by install.sh: Podman's runtime, in a drop-in of our own for containers.conf(5).

readonly podman_drop_in=/etc/containers/containers.conf.d/50-portcullis.conf

# The files that Podman reads for root, in its order, without ours.
podman_files() {
    local file
    for file in "$root/usr/share/containers/containers.conf" "$root/etc/containers/containers.conf" \
        "$root${podman_drop_in%/*}"/*.conf; do
        if [[ -f $file && $file != "$root$podman_drop_in" ]]; then printf '%s\n' "$file"; fi
    done
}

plan_podman() {
    local files=()
    check_drop_in "$podman_drop_in"
    mapfile -t files < <(podman_files)
    toml_values "${files[@]}" /dev/null >"$work/podman.values"
    if $keep_default && was_default_in "$podman_drop_in"; then defaults[podman]=yes; fi
    ! grep -q "^engine\.runtimes"$'\t'"\"\?$(wrapper_of podman)" "$work/podman.values" ||
        die "Podman's configuration has a runtime \"$(wrapper_of podman)\" that install.sh did not write" \
            "take it out of [engine.runtimes] and run again"
    choose_runtime podman "$(podman_runtime)"
    plan_table podman podman "$(storage_line "$(podman_says '{{.Store.GraphRoot}}')")"
    podman_text >"$work/podman.conf"
    check_later_files
}

# What Podman itself says, as a Go template; nothing where it cannot be asked.
podman_says() {
    if [[ -n $root ]] || ! command -v podman >/dev/null; then return 0; fi
    timeout 20 podman info --format "$1" 2>/dev/null || true
}

# Podman's default runtime. It names ours once an earlier run made that the default.
podman_runtime() {
    local path name
    path=$(podman_says '{{.Host.OCIRuntime.Path}}')
    if [[ $path == /* ]] && ! is_wrapper "$path"; then
        printf '%s\n' "$path"
        return 0
    fi
    name=$(last_value engine runtime <"$work/podman.values" | unquoted)
    if [[ $name == /* ]]; then
        printf '%s\n' "$name"
        return 0
    fi
    path=$(podman_named "${name:-crun}")
    # Podman takes runc where there is no crun.
    [[ -n $path || -n $name ]] || path=$(podman_named runc)
    printf '%s\n' "${path%%$'\n'*}"
}

# The first path that [engine.runtimes] has for name $1 and that is there, or else the usual one.
podman_named() {
    local path
    while IFS= read -r path; do
        if [[ -x $root$path ]]; then printf '%s\n' "$path"; fi
    done < <(last_value engine.runtimes "$1" <"$work/podman.values" | tr "\"'" '\n\n' | grep '^/')
    first_runtime "$1"
}

# The drop-in. Its lists replace those that Podman has, so they repeat them.
podman_text() {
    local name
    name=$(wrapper_of podman)
    printf '%s\n[engine]\n' "$mark_begin"
    if [[ -n ${defaults[podman]:-} ]]; then printf 'runtime = "%s"\n' "$name"; fi
    printf '# Lists replace each other: these are the former ones and ours.\n'
    printf 'runtime_supports_json = %s\n' "$(list_with_ours runtime_supports_json '"crun", "runc", "kata", "runsc", "krun"')"
    # Without cgroups a container can only run where the real runtime can do that.
    if list_of runtime_supports_nocgroups '"crun", "krun"' | grep -qF "\"${real##*/}\""; then
        printf 'runtime_supports_nocgroups = %s\n' "$(list_with_ours runtime_supports_nocgroups '"crun", "krun"')"
    fi
    printf '[engine.runtimes]\n%s = ["%s"]\n%s\n' "$name" "$bin/$name" "$mark_end"
}

# The entries of list $1: as set, or else as the shipped file names the default, or else $2.
list_of() {
    local list
    list=$(last_value engine "$1" <"$work/podman.values")
    if [[ -z $list && -f $root/usr/share/containers/containers.conf ]]; then
        list=$(sed -n "s/^# *$1 = \(\[.*\]\)\$/\1/p" "$root/usr/share/containers/containers.conf" | head -n 1)
    fi
    grep -oE "\"[^\"]*\"|'[^']*'" <<<"${list:-$2}" | tr "'" '"'
}

list_with_ours() {
    # An empty list is grep's failure, and then ours is the only one.
    { list_of "$1" "$2" || true; printf '"%s"\n' "$(wrapper_of podman)"; } | awk '
        !seen[$0]++ { text = text (text == "" ? "" : ", ") $0 }
        END { print "[" text "]" }
    '
}

# A file that is read after ours may take it back.
check_later_files() {
    local file name value
    name=$(wrapper_of podman)
    for file in "$root${podman_drop_in%/*}"/*.conf; do
        [[ -f $file && $file > "$root$podman_drop_in" ]] || continue
        value=$(toml_values "$file" | last_value engine runtime | unquoted)
        if [[ -n ${defaults[podman]:-} && -n $value && $value != "$name" ]]; then
            die "$file is read after ${podman_drop_in##*/} and sets runtime = \"$value\", which wins" \
                "take it out there and run again"
        fi
        value=$(toml_values "$file" | last_value engine runtime_supports_json)
        if [[ -n $value && $value != *"\"$name\""* ]]; then
            warn "$file is read after ${podman_drop_in##*/}: add \"$name\" to its runtime_supports_json, or refusals are shown without their text"
        fi
    done
}

change_podman() {
    local said
    save_aside "$podman_drop_in" "$work/podman.before"
    edit "$podman_drop_in" "$work/podman.conf"
    if $dry_run || [[ -n $root ]] || ! command -v podman >/dev/null; then
        $dry_run || unchecked="$unchecked podman"
        return 0
    fi
    # What it says is judged, also where it is an error.
    said=$(podman --runtime "$(wrapper_of podman)" info --format '{{.Host.OCIRuntime.Path}}' 2>&1) || true
    [[ $said != "$bin/$(wrapper_of podman)" ]] || return 0
    restore_aside "$podman_drop_in" "$work/podman.before"
    die "Podman does not see the runtime $(wrapper_of podman), and its configuration is as it was: $(tail -n 1 <<<"$said")" \
        "Podman 4.0 or later reads $podman_drop_in; see: podman info"
}

# Containers that were made with the wrapper, running or not: Podman can do nothing with them
# without it.
podman_users() {
    local ids=()
    if [[ -n $root ]] || ! command -v podman >/dev/null; then return 0; fi
    mapfile -t ids < <(podman ps --all --quiet --no-trunc 2>/dev/null)
    ((${#ids[@]})) || return 0
    podman inspect --type container --format '{{.OCIRuntime}} container {{.Id}} {{.Name}}' "${ids[@]}" 2>/dev/null |
        sed -nE "s#^($bin/)?$(wrapper_of podman) ##p"
}
