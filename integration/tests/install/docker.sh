#!/usr/bin/env bash
#
# install.sh on the real Docker: what its daemon makes of the file, and the way back.

# shellcheck source=integration/tests/install/private.sh
source "${BASH_SOURCE[0]%/*}/private.sh"

# Docker of Debian 12 as integration/packages.sh unpacks it: installed it would start by itself.
engines=${PORTCULLIS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/portcullis}/engines/bookworm/usr
export PATH=$engines/bin:$engines/sbin:$PATH
readonly docker=(docker --host unix:///run/docker.sock)

# A daemon that is started anew each time, as by a restart. Leaves what it says about its runtimes
# in $said.
ask() {
    dockerd --iptables=false --ip6tables=false --bridge=none --storage-driver=vfs \
        >>"$FOLDER/dockerd.log" 2>&1 &
    local pid=$!
    for _ in {1..300}; do
        "${docker[@]}" version >/dev/null 2>&1 && break
        sleep 0.2
    done
    said=$("${docker[@]}" info --format '{{.DefaultRuntime}} {{with index .Runtimes "portcullis"}}{{.Path}}{{end}}')
    kill "$pid"
    # Its code tells of the signal; that it has ended is all that counts.
    wait "$pid" || true
}

mkdir -p /etc/docker
printf '{\n    "log-driver": "json-file",\n    "runtimes": {\n        "other": {"path": "/usr/sbin/runc"}\n    }\n}\n' >/etc/docker/daemon.json
files >"$FOLDER/before"
"$INSTALL" --engine docker --bin-dir "$BINARIES"
ask
check "$said" 'runc /usr/local/bin/portcullis-runc-docker'
"$INSTALL" --engine docker --default-runtime --bin-dir "$BINARIES"
ask
check "$said" 'portcullis /usr/local/bin/portcullis-runc-docker'
"$INSTALL" --uninstall --purge
files >"$FOLDER/after"
diff "$FOLDER/before" "$FOLDER/after"
ask
check "$said" 'runc '
