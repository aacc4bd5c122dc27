#!/usr/bin/env bash
# Installs what the tests need into .venv inside this clone (once) and runs every check.
#
#   ./setup_and_test.sh                           formatter, linter, type checker, all tests
#   ./setup_and_test.sh tests/wire -k json        only pytest, with these arguments
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/scripts/environment.sh"

# What single tests drive besides Python; without it these are skipped, and say so.
DEBIAN_PACKAGES=(chromium openssl redis-server postgresql)

what_needs() {
    case "$1" in
        chromium) echo "pages in a browser" ;;
        openssl) echo "TLS" ;;
        redis-server) echo "the result cache and rate limits in Redis" ;;
        postgresql) echo "the state in PostgreSQL" ;;
    esac
}

is_installed() {
    local state
    state="$(dpkg-query --show --showformat '${db:Status-Status}' "$1" 2>/dev/null)" || return
    [[ "$state" == installed ]]
}

install_debian_packages() {
    command -v dpkg-query >/dev/null && command -v apt-get >/dev/null || return 0
    local package missing=()
    for package in "${DEBIAN_PACKAGES[@]}"; do
        is_installed "$package" || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    if ((EUID == 0)); then
        say "installing Debian's ${missing[*]}, which some tests drive"
        apt-get update --quiet=2 >/dev/null </dev/null || true
        # One by one: a package that a distribution lacks shall not keep the others away.
        for package in "${missing[@]}"; do
            DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes \
                --no-install-recommends "$package" >/dev/null </dev/null || true
        done
    fi
    for package in "${missing[@]}"; do
        is_installed "$package" && continue
        say "tests of $(what_needs "$package") are skipped without: sudo apt-get install $package"
    done
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
