#!/usr/bin/env bash
#
# Builds the Kubernetes that the tests of the cluster run, from Debian's own source package (1.20.2,
# the oldest that Portcullis is for): kube-apiserver, kube-controller-manager, kube-scheduler, kubelet
# and kubectl. They are kept in the cache folder; what is there is left alone. Takes five minutes on two
# quiet cores. Runs as root after packages.sh, which gets the compiler.

set -euo pipefail

readonly version=1.20
readonly programs=(kube-apiserver kube-controller-manager kube-scheduler kubectl kubelet)
cache=${PORTCULLIS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/portcullis}
readonly place=$cache/kubernetes/$version

# shellcheck source=integration/apt.sh
source "$(dirname "${BASH_SOURCE[0]}")/apt.sh"

main() {
    one_at_a_time "$@"
    local name lacking=false
    for name in "${programs[@]}"; do
        [[ -x $place/$name ]] || lacking=true
    done
    if $lacking; then build; fi
    cat "$place/version"
}

build() {
    rm -rf "$place.new"
    mkdir -p "$place.new"
    cd "$place.new"
    get_sources
    go_install
    mv tree/_output/local/go/bin/kube{-apiserver,-controller-manager,-scheduler,ctl,let} .
    printf 'kubernetes (source)          %s\n' "$(sed -n 's/^Version: //p' kubernetes_*.dsc | head -n 1)" >version
    # Go makes what it downloads or caches unwritable.
    chmod -R u+w gopath cache tree
    rm -rf apt gopath cache tree reflect2 kubernetes_*
    rm -rf "$place"
    mv "$place.new" "$place"
}

get_sources() {
    use_private_apt "$PWD/apt" 'deb bookworm' 'deb-src bookworm'
    thrice "${private_apt[@]}" source --download-only kubernetes
    dpkg-source --no-check -x kubernetes_*.dsc tree >/dev/null
    # The reflect2 that is vendored crashes what Go from 1.18 on compiles: the API server dies of the
    # first custom resource. Debian's own package of it is younger.
    thrice "${private_apt[@]}" download golang-github-modern-go-reflect2-dev
    dpkg -x golang-github-modern-go-reflect2-dev_*.deb reflect2
    local vendored=tree/vendor/github.com/modern-go/reflect2
    rm -rf "$vendored" golang-github-modern-go-reflect2-dev_*.deb
    cp -r reflect2/usr/share/gocode/src/github.com/modern-go/reflect2 "$vendored"
    rm -f "$vendored"/*_test.go
}

go_install() {
    mkdir -p gopath/src/k8s.io
    ln -s "$PWD/tree" gopath/src/k8s.io/kubernetes
    local what=() name
    for name in "${programs[@]}"; do what+=("cmd/$name"); done
    (
        # Somebody's own Go is another one.
        unset GOFLAGS GOROOT
        export GOPATH=$PWD/gopath GOCACHE=$PWD/cache GO111MODULE=off
        export KUBE_GIT_VERSION=v1.20.2 KUBE_GIT_COMMIT=debian KUBE_GIT_TREE_STATE=archive
        export PATH=/usr/lib/go-1.19/bin:$PATH
        cd "$GOPATH/src/k8s.io/kubernetes"
        make WHAT="${what[*]}" >"$OLDPWD/make.log" 2>&1 || {
            tail -n 30 "$OLDPWD/make.log" >&2
            exit 1
        }
    )
    rm -f make.log
}

main "$@"
