# shellcheck shell=bash
#
# Sourced by install.sh: Docker's runtime, in /etc/docker/daemon.json. JSON holds no comments, so
# what is ours is told by its name and its path. The text is edited in place: what is not ours
# stays as it was written.

readonly docker_config=/etc/docker/daemon.json
readonly docker_data=/var/lib/docker

# Reads the JSON of file $2 and does what $1 says:
#   value KEY           writes the value of a key at the top, as written
#   runtime NAME KEY    writes a key of the runtime NAME, as written
#   add PATH DEFAULT    writes the text with our runtime, and with our default if DEFAULT is true
#   strip PATH OLD KEEP writes it without them: OLD, as written, is the default in place of ours,
#                       and KEEP is true if `runtimes` stays even if it is empty
#   default OLD         writes it without our default only
# Exit code 2: it is no JSON object; stderr says why and in which line.
daemon_json() {
    local mode=$1 file=$2
    shift 2
    awk -v mode="$mode" -v a="${1:-}" -v b="${2:-}" -v c="${3:-}" -v handler="$handler" \
        -v newline="$(tail -c 1 -- "$file" | od -An -tx1 | tr -d ' ')" '
        { text = text $0 "\n" }

        function fail(why,   before) {
            before = substr(text, 1, pos - 1)
            print "line " (gsub(/\n/, "", before) + 1) ": " why >"/dev/stderr"
            exit 2
        }
        function here() { return substr(text, pos, 1) }
        function blanks() { while (here() ~ /^[ \t\r\n]$/) pos++ }
        function expect(sign) {
            blanks()
            if (here() != sign) fail("a \"" sign "\" is expected")
            pos++
        }
        function string(   from, sign) {
            from = ++pos
            while ((sign = here()) != "\"") {
                if (sign == "" || sign < " ") fail("a text has no end")
                if (sign == "\\") {
                    pos++
                    if (here() == "u") {
                        if (substr(text, pos + 1, 4) !~ /^[0-9a-fA-F][0-9a-fA-F][0-9a-fA-F][0-9a-fA-F]$/)
                            fail("a wrong escape")
                        pos += 4
                    } else if (here() !~ /^["\\\/bfnrt]$/) fail("a wrong escape")
                }
                pos++
            }
            return substr(text, from, pos++ - from)
        }
        function value(path, depth,   sign, rest) {
            if (depth > 64) fail("too many levels")
            blanks()
            sign = here()
            if (sign == "{") object(path, depth)
            else if (sign == "[") array(path, depth)
            else if (sign == "\"") string()
            else {
                rest = substr(text, pos, 64)
                if (!match(rest, /^(true|false|null|-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?)/))
                    fail("a value is expected")
                pos += RLENGTH
            }
        }
        function array(path, depth) {
            pos++
            blanks()
            if (here() == "]") { pos++; return }
            for (;;) {
                value(path "[]", depth + 1)
                blanks()
                if (here() == "]") { pos++; return }
                expect(",")
            }
        }
        function object(path, depth,   n, name) {
            is_object[path] = 1
            opened[path] = pos++
            count[path] = 0
            blanks()
            if (here() == "}") { closed[path] = pos++; return }
            for (;;) {
                blanks()
                if (here() != "\"") fail("a name in double quotes is expected")
                n = ++count[path]
                key_from[path, n] = pos
                name = string()
                if (index(path, "[]") == 0 && ((path, name) in at)) fail("\"" name "\" is there twice")
                at[path, name] = n
                expect(":")
                blanks()
                from[path, n] = pos
                value(path "/" name, depth + 1)
                to[path, n] = pos
                blanks()
                if (here() == "}") { closed[path] = pos++; return }
                expect(",")
            }
        }
        function parse() {
            split("", at); split("", is_object)
            pos = 1
            blanks()
            if (here() != "{") fail("a \"{\" is expected")
            value("", 0)
            blanks()
            if (here() != "") fail("something follows the last \"}\"")
        }
        function splice(first, past, new) {
            text = substr(text, 1, first - 1) new substr(text, past)
            parse()
        }
        function written(path, name,   n) {
            if (!((path, name) in at)) return ""
            n = at[path, name]
            return substr(text, from[path, n], to[path, n] - from[path, n])
        }
        function put(path, name, new,   n, gap) {
            new = "\"" name "\": " new
            if ((path, name) in at) {
                n = at[path, name]
                splice(key_from[path, n], to[path, n], new)
            } else if ((n = count[path])) {
                gap = substr(text, opened[path] + 1, key_from[path, 1] - opened[path] - 1)
                splice(to[path, n], to[path, n], "," (gap == "" ? " " : gap) new)
            } else if (path == "") splice(opened[path] + 1, closed[path], "\n  " new "\n")
            else splice(opened[path] + 1, closed[path], new)
        }
        function drop(path, name,   n) {
            n = at[path, name]
            if (n > 1) splice(to[path, n - 1], to[path, n], "")
            else if (count[path] > 1) splice(key_from[path, 1], key_from[path, 2], "")
            else splice(opened[path] + 1, closed[path], "")
        }
        function restore_default(old) {
            if (written("", "default-runtime") != "\"" handler "\"") return
            if (old == "") drop("", "default-runtime")
            else put("", "default-runtime", old)
        }
        END {
            if (text ~ /^[ \t\r\n]*$/) text = "{}\n"
            parse()
            if (mode == "value") { print written("", a); exit }
            if (mode == "runtime") { print written("/runtimes/" a, b); exit }
            if (mode == "add") {
                if (!(("", "runtimes") in at)) put("", "runtimes", "{}")
                put("/runtimes", handler, "{\"path\": \"" a "\"}")
                if (b == "true") put("", "default-runtime", "\"" handler "\"")
            }
            if (mode == "strip" && written("/runtimes/" handler, "path") == "\"" a "\"") {
                drop("/runtimes", handler)
                if (c != "true" && count["/runtimes"] == 0) drop("", "runtimes")
            }
            if (mode == "strip") restore_default(b)
            if (mode == "default") restore_default(a)
            printf "%s", newline == "0a" || newline == "" ? text : substr(text, 1, length(text) - 1)
        }
    ' "$file"
}

# Its text $1 without us; what is behind our default is known by the copy of the original.
daemon_without_ours() {
    local old='' keep=false copy
    copy=$(original_copy "$docker_config")
    if [[ -s $copy ]]; then
        old=$(daemon_json value "$copy" default-runtime 2>/dev/null) || old=''
        [[ -z $(daemon_json value "$copy" runtimes 2>/dev/null) ]] || keep=true
    fi
    daemon_json strip "$1" "$bin/$(wrapper_of docker)" "$old" "$keep"
}

# Whether the default was ours and is to be so no more: Docker reads a new one anew, but forgets none.
forgets_default=false

plan_docker() {
    local file=$root$docker_config text=$work/daemon.before.json lines=() said place
    if [[ -L $file ]]; then
        place=$(readlink -f -- "$file") || die "$file is a link that leads nowhere: mend it and run again"
        [[ $place == "$root"/* ]] || die "$file is a link that leads out of $root, to $place" "make it a relative link"
    fi
    if [[ -e $file ]]; then
        said=$(daemon_json value "$file" runtimes 2>&1) || die "$file is not valid JSON: $said" "mend it and run again"
        [[ -z $said || $said == '{'* ]] || die "$file: \"runtimes\" is no object" "mend it and run again"
    fi
    original_text "$docker_config" "$text"
    if [[ -e $file && $(daemon_json value "$file" default-runtime | unquoted) == "$handler" ]] && is_marked "$file"; then
        if $keep_default; then defaults[docker]=yes; else forgets_default=true; fi
    fi
    said=$(daemon_json value "$text" runtimes)
    [[ -z $(daemon_json runtime "$text" "$handler" path) ]] ||
        die "$file has a runtime \"$handler\" that install.sh did not write" "take it out of \"runtimes\" and run again"
    choose_runtime docker "$(docker_runtime "$text")"
    place=$(daemon_json value "$text" data-root | unquoted)
    if [[ -n $place && $place != "$docker_data" ]]; then lines+=("data = \"$place\""); fi
    place=$(daemon_json value "$text" containerd | unquoted)
    if [[ -n $place && $place != /run/containerd/containerd.sock ]]; then lines+=("socket = \"$place\""); fi
    [[ -z $(daemon_json value "$text" userns-remap) ]] ||
        warn "$file sets userns-remap, which moves Docker's images: check \"data\" below [wrapper.$(wrapper_of docker)] in $root$settings"
    plan_table docker docker "${lines[@]}"
    daemon_json add "$text" "$bin/$(wrapper_of docker)" "$([[ -z ${defaults[docker]:-} ]] || echo true)" >"$work/daemon.json"
    judge_docker
}

# The program behind Docker's default runtime.
docker_runtime() {
    local name path
    name=$(daemon_json value "$1" default-runtime | unquoted)
    if [[ -z $name || $name == runc ]]; then
        first_runtime runc crun
        return 0
    fi
    path=$(daemon_json runtime "$1" "$name" path | unquoted)
    [[ -z $(daemon_json runtime "$1" "$name" runtimeArgs) ]] || path=''
    if [[ $path == /* ]]; then
        printf '%s\n' "$path"
    elif [[ -n $path && $path != */* ]]; then
        first_runtime "$path"
    elif [[ -z $runtime ]]; then
        die "Docker's default runtime \"$name\" in $root$docker_config is no program without arguments" \
            "name the OCI runtime to run instead: --runtime /path/to/runtime"
    fi
}

# dockerd since 23.0 can check a configuration.
judge_docker() {
    local said
    if ! command -v dockerd >/dev/null || ! dockerd --help 2>/dev/null | grep -q -e '--validate'; then
        unchecked="$unchecked docker"
        return 0
    fi
    said=$(dockerd --validate --config-file "$work/daemon.json" 2>&1) ||
        die "dockerd does not take $root$docker_config with the runtime added; it was not changed: $(tail -n 1 <<<"$said")" \
            "see whether it takes it without: dockerd --validate"
}

change_docker() { edit "$docker_config" "$work/daemon.json"; }

# Containers that were made with the runtime, running or not: Docker cannot start them without it.
docker_users() {
    local place file
    place=$(kept_table "$(wrapper_of docker)" | sed -n 's/^data = "\(.*\)"$/\1/p')
    for file in "$root${place:-$docker_data}"/containers/*/hostconfig.json; do
        [[ -f $file ]] || continue
        if grep -qE "\"Runtime\": *\"$handler\"" "$file"; then
            file=${file%/hostconfig.json}
            printf 'container %s\n' "${file##*/}"
        fi
    done
}
