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
# They do not run, and are restarted well.
printf '#!/bin/sh\n' | tee /etc/init.d/containerd /etc/init.d/crio >/usr/local/bin/crio
chmod +x /etc/init.d/containerd /etc/init.d/crio /usr/local/bin/crio

readonly settings=/etc/portcullis/portcullis.toml

# pod ARGUMENT...: in mounts of its own, with the image's files and an empty /srv.
pod() {
    # shellcheck disable=SC2016
    TOP=${INSTALL%/*} unshare --mount bash -euc '
        mount -t tmpfs tmpfs /srv
        mount -t tmpfs tmpfs /opt
        mkdir -p /opt/portcullis/bin /etc/portcullis-cluster
        cp -a "$TOP"/{install.sh,install,config,integration/kubernetes/image/node.sh} /opt/portcullis/
        cp -aL "$BINARIES/." /opt/portcullis/bin/
        mount --bind "$FOLDER/cluster" /etc/portcullis-cluster
        /opt/portcullis/node.sh "$@"
        [[ -z $(ls /srv) ]]
    ' bash "$@"
}

mkdir "$FOLDER/cluster"

# say KEY TEXT: in the ConfigMap.
say() { printf '%s' "$2" >"$FOLDER/cluster/$1"; }

say portcullis.toml ''
pod install
grep -q '^# From the ConfigMap' /srv/settings/portcullis.toml
say portcullis.toml 'node = "n1"'
pod install
grep -q '^node = "n1"$' "$settings"
[[ -L /srv/data/policy/current && ! -e /srv/data/setup ]]
grep -q portcullis /etc/containerd/config.toml

# What a wrapper becomes stands in the settings too, and is asked for at any moment: at no move of a
# file is it not there, and the settings are moved into place once, if they change.
table() { sed -n '/^\[wrapper.portcullis-runc-crio\]$/,/^[[#]/p' "$settings"; }
say engines 'containerd crio'
say portcullis.toml 'node = "n2"'
pod install
grep -q '^node = "n2"$' "$settings"
had=$(table)
grep -qx 'runtime = "/usr/bin/crun"' <<<"$had"
cat >/usr/local/bin/mv <<END
#!/bin/sh
grep -qx '\[wrapper.portcullis-runc-crio\]' $settings || echo lost >>$FOLDER/moves
/bin/mv "\$@" || exit
grep -qx '\[wrapper.portcullis-runc-crio\]' $settings || echo lost >>$FOLDER/moves
for last; do :; done
[ ! "\$last" -ef $settings ] || echo moved >>$FOLDER/moves
END
chmod +x /usr/local/bin/mv
# moves ARGUMENT...: what the node saw of it while a pod ran.
moves() {
    : >"$FOLDER/moves"
    PATH=/usr/local/bin:$PATH pod "$@" >/dev/null || return
    cat "$FOLDER/moves"
}
check "$(moves install)" ''
say portcullis.toml 'node = "n3"'
check "$(moves install)" moved
check "$(table)" "$had"
# The engine stays behind the gate when the cluster does not name it any more.
say engines containerd
say portcullis.toml 'node = "n4"'
check "$(moves install)" moved
check "$(table)" "$had"
grep -q '^node = "n4"$' "$settings"
rm /usr/local/bin/mv

# refuses TEXT WORD...: what is wrong in the ConfigMap changes nothing, and is said.
refuses() {
    local text=$1 word before
    before=$(stat -c %i "$settings"; cat "$settings")
    shift
    say portcullis.toml "$text"
    if pod install >/dev/null 2>"$FOLDER/said"; then
        echo "taken: $text" >&2
        exit 1
    fi
    for word; do grep -qF -e "$word" "$FOLDER/said"; done
    check "$(stat -c %i "$settings"; cat "$settings")" "$before"
}
refuses $'node = "n5"\ndefaultAction = block' 'portcullis.toml in the ConfigMap portcullis' 'line 2'
refuses 'wrapper.portcullis-runc-crio.runtime = "/usr/sbin/runc"' ConfigMap-portcullis.toml 'duplicate key'
# A table of the cluster's own takes the place of ours.
say portcullis.toml $'[wrapper.portcullis-runc-crio]\nruntime = "/usr/sbin/runc"'
pod install
check "$(grep -c '^\[wrapper.portcullis-runc-crio\]$' "$settings")" 1
portcullis config check "$settings"
# So does the file of somebody on the node, which no fault in the ConfigMap reaches.
echo 'node = "mine"' >"$settings"
say portcullis.toml 'nonsense'
pod install
check "$(cat "$settings")" 'node = "mine"'

# Data goes only with all of it, and only if the cluster says so.
pod remove agent
check "$(cat /etc/containerd/config.toml)" 'version = 2'
[[ ! -e /usr/local/bin/portcullis && ! -e /srv/data/install ]]
[[ -L /srv/data/policy/current && $(cat "$settings") == 'node = "mine"' ]]
say dataOnRemoval keep
pod remove all
[[ -L /srv/data/policy/current && $(cat "$settings") == 'node = "mine"' ]]
rm "$FOLDER/cluster/dataOnRemoval"
pod remove all
[[ ! -e /etc/portcullis && ! -e /var/lib/portcullis ]]

# Shipped settings are nobody's, also with a table that install.sh has put there.
say portcullis.toml 'node = "n6"'
"$INSTALL" --engine crio --bin-dir "$BINARIES" --no-service >/dev/null
check "$(table)" "$had"
pod install
grep -q '^node = "n6"$' "$settings"
check "$(table)" "$had"
say dataOnRemoval remove
pod remove all
[[ ! -e /usr/local/bin/portcullis && ! -e /etc/portcullis && ! -e /var/lib/portcullis ]]

# Without the node's first process there is no node.
code=0
"${INSTALL%/*}/integration/kubernetes/image/node.sh" install 2>"$FOLDER/said" || code=$?
check "$code" 1
grep -q hostPID "$FOLDER/said"
