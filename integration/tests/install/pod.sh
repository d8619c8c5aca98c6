#!/usr/bin/env bash
#
# node.sh as a pod of the cluster runs it, on a node whose folders are absolute links: they lead
# somewhere on the node, and not in the pod.

# shellcheck source=integration/tests/install/private.sh
source "${BASH_SOURCE[0]%/*}/private.sh"

mkdir -p /etc/containerd /srv
mount -t tmpfs tmpfs /srv
mkdir /srv/data /srv/settings
ln -s /srv/data /var/lib/portcullis
ln -s /srv/settings /etc/portcullis
printf 'version = 2\n' >/etc/containerd/config.toml
# It does not run, and is restarted well.
printf '#!/bin/sh\n' >/etc/init.d/containerd
chmod +x /etc/init.d/containerd

# pod VERB: in mounts of its own, with the image's files and an empty /srv.
pod() {
    # shellcheck disable=SC2016
    TOP=${INSTALL%/*} unshare --mount bash -euc '
        mount -t tmpfs tmpfs /srv
        mount -t tmpfs tmpfs /opt
        mkdir -p /opt/portcullis/bin /etc/portcullis-cluster
        cp -a "$TOP"/{install.sh,install,config,integration/kubernetes/image/node.sh} /opt/portcullis/
        cp -aL "$BINARIES/." /opt/portcullis/bin/
        mount --bind "$FOLDER/cluster" /etc/portcullis-cluster
        /opt/portcullis/node.sh "$1"
        [[ -z $(ls /srv) ]]
    ' bash "$1"
}

mkdir "$FOLDER/cluster"
: >"$FOLDER/cluster/portcullis.toml"
pod install
grep -q '^# From the ConfigMap' /srv/settings/portcullis.toml
printf 'node = "n1"' >"$FOLDER/cluster/portcullis.toml"
pod install
grep -q '^node = "n1"$' /srv/settings/portcullis.toml
[[ -L /srv/data/policy/current && ! -e /srv/data/setup ]]
grep -q portcullis /etc/containerd/config.toml
# Those of the cluster may change, and go.
printf 'node = "n2"' >"$FOLDER/cluster/portcullis.toml"
pod install
grep -q '^node = "n2"$' /srv/settings/portcullis.toml
pod remove
check "$(cat /etc/containerd/config.toml)" 'version = 2'
[[ ! -e /usr/local/bin/portcullis && ! -e /srv/data/install ]]

# Without the node's first process there is no node.
code=0
"${INSTALL%/*}/integration/kubernetes/image/node.sh" install 2>"$FOLDER/said" || code=$?
check "$code" 1
grep -q hostPID "$FOLDER/said"
