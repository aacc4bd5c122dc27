#!/usr/bin/env bash
# Runs every check in the environment that ./setup_and_test.sh made: what CI runs, and no less.
#
#   ./check.sh          linter, formatter, type checker, tests; changes nothing
#   ./check.sh --fix    first mends what the linter and the formatter can mend by themselves
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

failed=""
run() {
    printf '\n== %s\n' "$*"
    .venv/bin/python -m "$@" || failed="$failed $1"
}

if [[ "${1:-}" == --fix ]]; then
    run ruff check --fix
    run ruff format
else
    run ruff check
    run ruff format --check
fi
run mypy
run pytest
if [[ -n "$failed" ]]; then
    printf '\nfailed:%s\n' "$failed"
    exit 1
fi
