#!/usr/bin/env bash
#
# install.sh on the real Podman of this machine: its default, what was made before and after, and
# the way back.

# shellcheck source=integration/tests/install/private.sh
source "${BASH_SOURCE[0]%/*}/private.sh"

limits=(--network none --ulimit nofile=1024:1024 --ulimit nproc=1024:1024)
make() { podman create --quiet --name "$1" "${limits[@]}" --rootfs "$FOLDER/rootfs" /bin/busybox echo "$1 works" >/dev/null; }
default() { podman info --format '{{.Host.OCIRuntime.Path}}'; }
runtime_of() { podman inspect --type container --format '{{.OCIRuntime}}' "$1"; }

# runc, because Debian's crun runs nothing on a machine with both versions of cgroups.
mkdir -p /etc/containers/containers.conf.d
printf '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n' >/etc/containers/containers.conf
make old
was=$(default)
check "${was##*/}" runc
files >"$FOLDER/before"

"$INSTALL" --engine podman --bin-dir "$BINARIES"
check "$(default)" "$was"
check "$(podman --runtime portcullis-runc-podman info --format '{{.Host.OCIRuntime.Path}}')" \
    /usr/local/bin/portcullis-runc-podman
"$INSTALL" --engine podman --default-runtime --bin-dir "$BINARIES"
check "$(default)" /usr/local/bin/portcullis-runc-podman
grep -q "^runtime = \"$was\"\$" /etc/portcullis/portcullis.toml

check "$(podman start --attach old)" 'old works'
check "$(runtime_of old)" runc
make new
check "$(runtime_of new)" portcullis-runc-podman
check "$(podman start --attach new)" 'new works'
# A refusal of the runtime is shown with its text.
podman run --rm "${limits[@]}" --rootfs "$FOLDER/rootfs" /nothing 2>"$FOLDER/said" && exit 1
grep -q 'exec: "/nothing"' "$FOLDER/said"

# Not taken off while a container needs it, but no longer the default.
code=0
"$INSTALL" --uninstall --purge 2>"$FOLDER/said" || code=$?
check "$code" 1
grep -q 'not finished' "$FOLDER/said"
grep -q 'container .* new$' "$FOLDER/said"
check "$(default)" "$was"
check "$(podman start --attach new)" 'new works'

podman rm new >/dev/null
"$INSTALL" --uninstall --purge
files >"$FOLDER/after"
diff "$FOLDER/before" "$FOLDER/after"
check "$(podman start --attach old)" 'old works'
