#!/usr/bin/env bash
#
# The whole test suite: formatting, lints, documentation, dependencies, scripts, unit and property
# tests, and the tests on real engines. Runs as root on Debian 12 with only the Rust toolchain;
# installs the Debian packages it lacks and keeps newer engines in a cache folder.
#
#   ./test.sh          everything
#   ./test.sh quick    without the real engines
#
# CARGO_TARGET_DIR is respected. Exit code 0 means that everything passed.

set -euo pipefail
cd "$(dirname "$0")"

readonly cargo_deny=0.20.2
cache=${PORTCULLIS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/portcullis}
readonly cache

# shellcheck source=integration/apt.sh
source integration/apt.sh

main() {
    case ${1:-all} in
        all | quick) ;;
        *)
            echo "test.sh: unknown argument \"$1\": use quick or nothing" >&2
            exit 2
            ;;
    esac
    [[ $(id -u) == 0 ]] || {
        echo "test.sh: run as root: the tests make namespaces and start engines" >&2
        exit 1
    }
    step 'packages' packages
    step 'formatting' cargo fmt --all --check
    step 'lints' cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
    step 'documentation' env RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --all-features --locked
    step 'dependencies' deny
    step 'scripts' shellcheck shim/tests/runtime/runc install.sh test.sh .ci/run integration/bench integration/full integration/packages.sh integration/apt.sh integration/kubernetes.sh integration/kubernetes/image/node.sh integration/kubernetes/image/remove.sh integration/src/cluster.sh integration/src/node.sh fuzz/run crates/rpmdb/tests/fixtures/make.sh
    step 'unit tests' cargo test --workspace --exclude portcullis-integration --all-features --locked --no-fail-fast
    [[ ${1:-all} == all ]] || return 0
    step 'binaries' cargo build --release --locked -p portcullis-shim -p portcullis-cli -p portcullis-scanner -p portcullis-agent
    step 'kubernetes' integration/kubernetes.sh
    step 'engines' engines
    echo 'everything passed'
}

step() {
    local name=$1 begun=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    "$@"
    printf '== %s: %d s\n' "$name" $((SECONDS - begun))
}

packages() {
    export DEBIAN_FRONTEND=noninteractive
    local name lacking=()
    # A linker for cargo, and the linter for scripts; what the engines need is in packages.sh.
    for name in gcc libc6-dev shellcheck; do
        dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || lacking+=("$name")
    done
    if [[ ${#lacking[@]} -gt 0 ]]; then
        update_lists
        thrice install_packages "${lacking[@]}"
    fi
    bash integration/packages.sh
}

# Licences, sources and banned crates. Built once into the cache: it is no part of the project.
deny() {
    local tool=$cache/tools/cargo-deny-$cargo_deny
    if [[ ! -x $tool/bin/cargo-deny ]]; then
        (
            flock 8
            CARGO_TARGET_DIR=$cache/tools/build cargo install cargo-deny --version "=$cargo_deny" --locked --root "$tool" 8>&-
            rm -rf "$cache/tools/build"
        ) 8>"$cache/lock"
    fi
    "$tool/bin/cargo-deny" --all-features check bans licenses sources
}

engines() {
    local target=${CARGO_TARGET_DIR:-target}
    PORTCULLIS_BIN_DIR=$(realpath "$target")/release \
        cargo test --locked -p portcullis-integration --no-fail-fast
}

main "$@"
