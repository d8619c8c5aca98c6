# shellcheck shell=bash
#
# What the tests on a real engine begin with, in a node of their own: its /usr/local, its images and
# its containers are private as well. FOLDER is the node's own folder.

set -euo pipefail
umount /etc/portcullis /var/lib/portcullis
rmdir /etc/portcullis /var/lib/portcullis
mkdir -p "$FOLDER/local/upper" "$FOLDER/local/work" "$FOLDER/rootfs/bin" /var/lib/containers /var/lib/docker
mount -t overlay -o "lowerdir=/usr/local,upperdir=$FOLDER/local/upper,workdir=$FOLDER/local/work" overlay /usr/local
mount -t tmpfs tmpfs /var/lib/containers
mount -t tmpfs tmpfs /var/lib/docker
cp /bin/busybox "$FOLDER/rootfs/bin/"

# Every file of the engines' configuration with its checksum, but for the key that Docker makes.
files() {
    local folder there=()
    # Docker makes its folder when it first runs.
    for folder in /etc/containers /etc/docker /usr/local; do
        [[ ! -d $folder ]] || there+=("$folder")
    done
    find "${there[@]}" -type f ! -name key.json -exec sha256sum {} + | sort -k 2
}

# check TEXT WANTED: what a command said, and what it should have said.
check() {
    [[ $1 == "$2" ]] || {
        printf 'said:   %s\nwanted: %s\n' "$1" "$2" >&2
        exit 1
    }
}
