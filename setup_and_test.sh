#!/usr/bin/env bash
# Installs what the tests need into .venv inside this clone (once) and runs every check.
#
#   ./setup_and_test.sh                           formatter, linter, type checker, all tests
#   ./setup_and_test.sh tests/wire -k json        only pytest, with these arguments
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/scripts/environment.sh"

# What single tests drive besides Python; without it these are skipped, and say so.
DEBIAN_PACKAGES="chromium openssl"

install_debian_packages() {
    command -v dpkg >/dev/null && command -v apt-get >/dev/null || return 0
    # shellcheck disable=SC2086  # a list of words
    dpkg --status $DEBIAN_PACKAGES >/dev/null 2>&1 && return
    if ((EUID)); then
        say "some tests are skipped without: sudo apt-get install $DEBIAN_PACKAGES"
        return
    fi
    say "installing Debian's $DEBIAN_PACKAGES, for the tests in a browser and with TLS"
    # shellcheck disable=SC2086
    { apt-get update --quiet=2 && apt-get install --quiet=2 --yes --no-install-recommends \
        $DEBIAN_PACKAGES; } >/dev/null </dev/null ||
        say "that failed (see above), so some tests are skipped"
}

install_torch() {
    pip_install --requirement "$root/requirements/torch.txt"
    if ! "$venv/bin/python" -c 'import torch' >/dev/null 2>&1; then
        say "this build of torch needs CUDA's libraries; installing them too"
        "$venv/bin/python" -m pip install --quiet --requirement "$root/requirements/torch.txt"
    fi
}

install_debian_packages
ensure_installed test test.lock install_torch
if (($#)); then
    cd "$root"
    exec "$venv/bin/python" -m pytest "$@"
fi
exec "$root/check.sh"
