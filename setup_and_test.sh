#!/usr/bin/env bash
# Installs what the tests need into .venv inside this clone (once) and runs every check.
#
#   ./setup_and_test.sh                           formatter, linter, type checker, all tests
#   ./setup_and_test.sh tests/wire -k json        only pytest, with these arguments
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/scripts/environment.sh"

# Debian packages that a test needs; none does so far.
DEBIAN_PACKAGES=""

install_debian_packages() {
    [[ -n "$DEBIAN_PACKAGES" ]] && command -v apt-get >/dev/null || return 0
    # shellcheck disable=SC2086  # a list of words
    dpkg --status $DEBIAN_PACKAGES >/dev/null 2>&1 ||
        apt-get install --yes --no-install-recommends $DEBIAN_PACKAGES ||
        stop "some tests need Debian packages; as root: apt-get install $DEBIAN_PACKAGES"
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
