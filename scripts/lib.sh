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

# python_tools: a virtual environment with what the tests use from PyPI; sets PYTHON.
python_tools() {
    local venv="$CACHE/venv-1"
    PYTHON="$venv/bin/python"
    export CROSSFADE_TEST_PYTHON="$PYTHON"
    [ -e "$venv/ready" ] && return
    need python3 python3
    say "installing Python packages into $venv"
    rm -rf "$venv"
    python3 -m venv "$venv" 2>/dev/null || {
        install_package python3-venv
        rm -rf "$venv"
        python3 -m venv "$venv"
    }
    "$venv/bin/pip" install -q --disable-pip-version-check dnspython==2.9.2 schemathesis==4.32.5
    touch "$venv/ready"
}
