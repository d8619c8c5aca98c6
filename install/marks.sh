# shellcheck shell=bash
#
# Sourced by install.sh: edits of files that belong to somebody else, and how they are taken back.
# What is ours stands between marks or, in JSON, which knows no comments, under names of ours.
# node.sh takes the text of a file without ours from here.

# The marks. What they enclose, and the line below a line mark, is ours.
readonly mark_begin='# >>> portcullis: written by install.sh, taken out by install.sh --uninstall'
readonly mark_end='# <<< portcullis'
readonly mark_replaced='# portcullis: the next line replaces: '
readonly mark_added='# portcullis: the next line is added'
readonly default_line='default_runtime_name = "portcullis"'

is_marked() { grep -qF -e "$mark_begin" -e "$mark_replaced" -e "$mark_added" -e "\"$bin/$(wrapper_of docker)\"" -- "$1"; }

# Text $1, the file of path $2, without anything of ours.
without_ours() {
    if [[ $2 == "$docker_config" ]]; then daemon_without_ours "$1"; else without_marked "$1"; fi
}

# Text $1 without what is marked. A line that somebody put in the place of ours is kept.
without_marked() {
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

# The line that makes us the default in a drop-in.
readonly our_default='^(default_runtime = "portcullis"|runtime = "portcullis-runc-podman")$'

# Whether the file at path $1 is as the record has it. A run that was cut short leaves two sums.
is_as_recorded() { [[ ,${sums[$1]:-}, == *,$(checksum "$root$1"),* ]]; }

# Writes the file at path $1 as it would be without us to $2; nothing, if there would be none.
original_text() {
    local path=$1 out=$2 file=$root$1
    if [[ ! -e $file ]]; then
        : >"$out"
    elif ! is_marked "$file"; then
        cat -- "$file" >"$out"
    elif is_as_recorded "$path"; then
        if [[ ${kinds[$path]:-} == over ]]; then cat -- "$(original_copy "$path")" >"$out"; else : >"$out"; fi
    else
        without_ours "$file" "$path" >"$out"
    fi
}

# Gives the file of somebody else at path $1 the text $2, and keeps what it was without us.
edit() {
    local path=$1 text=$2 file=$root$1 sum
    if [[ -e $file ]] && cmp -s -- "$text" "$file"; then return 0; fi
    folder "${path%/*}"
    step "edit $file"
    if $dry_run; then
        if [[ -e $file ]]; then show_change "$file" "$text" "$path"; else show_change /dev/null "$text" "$path"; fi
        return 0
    fi
    note_readers "$path"
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
    if [[ -n ${kinds[$path]:-} ]] && is_as_recorded "$path"; then
        # Until the new text is in place, either is ours.
        remember "${kinds[$path]}" "$sum,$(checksum "$file")" "$path"
    elif ! is_marked "$file"; then
        keep_original "$path"
        remember over "$sum" "$path"
    else
        # Somebody changed it since: what it is without us is the original now.
        without_ours "$file" "$path" >"$work/kept"
        keep_original "$path" "$work/kept"
        remember over "$sum" "$path"
    fi
    rewrite "$path" "$text"
    remember "${kinds[$path]}" "$sum" "$path"
}

# Makes the file at path $1 what it was, or, if somebody changed it since, takes out what is ours.
revert() {
    local path=$1 file=$root$1 kind
    note_readers "$path"
    kind=${kinds[$path]:-}
    if [[ -n $kind ]] && is_as_recorded "$path"; then
        if [[ $kind == over ]]; then
            step "put back $file as it was"
            $dry_run || put_back "$path" "$(original_copy "$path")"
        else
            step "remove $file"
            $dry_run || rm -- "$file"
        fi
    elif is_marked "$file"; then
        without_ours "$file" "$path" >"$work/reverted"
        take_ours_out "$path" "$work/reverted"
    else
        say "left as it is: $file, which holds nothing of ours any more"
    fi
    if ! $dry_run && [[ -n $kind ]]; then drop_record "$path"; fi
}

# Leaves of the changed file at path $1 the text $2: a file of our own in which nothing else was
# written goes.
take_ours_out() {
    local path=$1 text=$2 file=$root$1
    if is_our_drop_in "$path" && ! grep -q '[^[:space:]]' "$text"; then
        step "remove $file"
        $dry_run || rm -- "$file"
        return 0
    fi
    step "take out what install.sh wrote into $file, and nothing else: it was changed since"
    show_change "$file" "$text" "$path"
    $dry_run || rewrite "$path" "$text"
}

is_our_drop_in() { [[ $1 == "$crio_drop_in" || $1 == "$podman_drop_in" || $1 == "$containerd_unit" ]]; }

# Whether revert_if_ours has taken anything back.
changed=false

# As revert, if there is anything to take back at path $1, and what a run left that was cut short.
revert_if_ours() {
    local path=$1
    if [[ -e $root$path ]] && { is_marked "$root$path" || [[ -n ${kinds[$path]:-} ]]; }; then
        revert "$path"
        changed=true
    fi
    if $dry_run; then return 0; fi
    if [[ -d $root${path%/*} ]]; then rm -f -- "$(place_of "$path").portcullis-new"; fi
    [[ -z ${kinds[$path]:-} ]] || drop_record "$path"
}

# A drop-in of ours is only written where none of somebody else is.
check_drop_in() {
    local file=$root$1
    if [[ -s $file ]] && ! is_marked "$file" && [[ -z ${kinds[$1]:-} ]]; then
        die "$file was not written by install.sh" "move it away and run again"
    fi
}

# Whether an earlier run made us the default in our drop-in at path $1.
was_default_in() { [[ -f $root$1 ]] && grep -qE "$our_default" "$root$1"; }

# Takes our default out of the file of path $1, and leaves the rest of ours.
take_default_back() {
    local path=$1 old=''
    if [[ $path == "$docker_config" ]]; then
        if [[ -s $(original_copy "$path") ]]; then
            old=$(daemon_json value "$(original_copy "$path")" default-runtime 2>/dev/null) || old=''
        fi
        daemon_json default "$root$path" "$old" >"$work/no_default"
    else
        sed -E "/$our_default/d" "$root$path" >"$work/no_default"
    fi
    edit "$path" "$work/no_default"
}

drop_record() {
    local copy
    copy=$(original_copy "$1")
    rm -f -- "$copy"
    forget "$1"
}

# Reads files in a small part of TOML and writes a line `table<TAB>key = value` for each value, on
# one line, without comments; later lines go before earlier ones.
toml_values() {
    awk '
        # The text before a comment, and whether brackets stay open.
        function scan(line,   i, c, quote, out) {
            for (i = 1; i <= length(line); i++) {
                c = substr(line, i, 1)
                if (quote != "") {
                    if (c == "\\" && quote == "\"") { out = out c; i++; c = substr(line, i, 1) }
                    else if (c == quote) quote = ""
                } else if (c == "\"" || c == "\047") quote = c
                else if (c == "#") break
                else if (c == "[") open++
                else if (c == "]") open--
                out = out c
            }
            sub(/[ \t\r]+$/, "", out)
            sub(/^[ \t]+/, "", out)
            return out
        }
        FNR == 1 { table = ""; statement = ""; open = 0 }
        {
            if (statement == "" && $0 ~ /^[ \t]*\[/) {
                open = 0
                table = scan($0)
                open = 0
                gsub(/^\[+[ \t]*|[ \t]*\]+$/, "", table)
                gsub(/[ \t]*\.[ \t]*/, ".", table)
                gsub(/["\047]/, "", table)
                next
            }
            part = scan($0)
            if (part == "") next
            statement = statement == "" ? part : statement " " part
            if (open > 0) next
            open = 0
            sub(/[ \t]*=[ \t]*/, " = ", statement)
            print table "\t" statement
            statement = ""
        }
    ' "$@"
}

# The value of key $2 in table $1 of such lines on stdin, as written; the last one counts.
last_value() {
    awk -F '\t' -v table="$1" -v key="$2" '
        $1 == table && index($2, key " = ") == 1 { value = substr($2, length(key) + 4) }
        END { print value }
    '
}

unquoted() { sed -E "s/^[\"'](.*)[\"']\$/\\1/"; }
