#!/usr/bin/env bash
#
# install.sh on the real Docker: what its daemon makes of the file, and the way back.

# shellcheck source=integration/tests/install/private.sh
source "${BASH_SOURCE[0]%/*}/private.sh"

# Docker of Debian 12 as integration/packages.sh unpacks it: installed it would start by itself.
engines=${PORTCULLIS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/portcullis}/engines/bookworm/usr
export PATH=$engines/bin:$engines/sbin:$PATH
readonly docker=(docker --host unix:///run/docker.sock)

start() {
    dockerd --iptables=false --ip6tables=false --bridge=none --storage-driver=vfs \
        >>"$FOLDER/dockerd.log" 2>&1 &
    pid=$!
    for _ in {1..300}; do
        "${docker[@]}" version >/dev/null 2>&1 && break
        sleep 0.2
    done
}

# Leaves what the daemon says about its runtimes in $said.
ask() { said=$("${docker[@]}" info --format '{{.DefaultRuntime}} {{with index .Runtimes "portcullis"}}{{.Path}}{{end}}'); }

stop() {
    kill "$pid"
    # Its code tells of the signal; that it has ended is all that counts.
    wait "$pid" || true
}

# As by a restart.
ask_anew() {
    start
    ask
    stop
}

mkdir -p /etc/docker
printf '{\n    "log-driver": "json-file",\n    "runtimes": {\n        "other": {"path": "/usr/sbin/runc"}\n    }\n}\n' >/etc/docker/daemon.json
files >"$FOLDER/before"
"$INSTALL" --engine docker --bin-dir "$BINARIES"
ask_anew
check "$said" 'runc /usr/local/bin/portcullis-runc-docker'
# One that runs is told, once, even if the run that changed the file did not.
start
"$INSTALL" --engine docker --default-runtime --bin-dir "$BINARIES"
ask
check "$said" 'runc /usr/local/bin/portcullis-runc-docker'
"$INSTALL" --engine docker --restart-changed --bin-dir "$BINARIES" >"$FOLDER/said"
grep -qx 'reload docker' "$FOLDER/said"
for _ in {1..300}; do
    ask
    [[ $said != portcullis* ]] || break
    sleep 0.2
done
check "$said" 'portcullis /usr/local/bin/portcullis-runc-docker'
"$INSTALL" --engine docker --restart-changed --bin-dir "$BINARIES" >"$FOLDER/said"
[[ $(grep -c 'reload docker' "$FOLDER/said") == 0 ]]
# It forgets neither a default nor a runtime until it is restarted.
"$INSTALL" --engine docker --no-default-runtime --restart-changed --bin-dir "$BINARIES" 2>"$FOLDER/said"
grep -q 'keeps its default until it is restarted' "$FOLDER/said"
ask
check "$said" 'portcullis /usr/local/bin/portcullis-runc-docker'
code=0
"$INSTALL" --uninstall --purge 2>"$FOLDER/said" || code=$?
check "$code" 1
grep -q 'restart docker' "$FOLDER/said"
stop
"$INSTALL" --uninstall --purge
files >"$FOLDER/after"
diff "$FOLDER/before" "$FOLDER/after"
ask_anew
check "$said" 'runc '
