#!/usr/bin/env bash
# Makes the lock files again from the lists in pyproject.toml; needs uv and the network.
#
#   requirements/renew.sh                      new dependencies only; what is locked stays as it is
#   requirements/renew.sh --upgrade            everything to its newest version
#   requirements/renew.sh --upgrade-package NAME
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

lock() {
    local file="requirements/$1.lock"
    shift
    uv pip compile pyproject.toml --output-file "$file" --quiet \
        --universal --python-version 3.11 --fork-strategy fewest \
        --generate-hashes --no-emit-index-url --no-annotate \
        --custom-compile-command "requirements/renew.sh" "$@"
}

lock server --extra server --group build "$@"
# The tests run against the very versions that the server is installed with.
lock test --extra server --group build --group test --constraint requirements/server.lock "$@"
