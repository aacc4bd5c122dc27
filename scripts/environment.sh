# shellcheck shell=bash
# Sourced by the scripts beside the README: one virtual environment, `.venv` inside the clone.
# What is installed is what requirements/*.lock says, by version and hash, and nothing else.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
venv="$root/.venv"
export PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf 'pelton: %s\n' "$*" >&2; }
stop() { say "$*"; exit 2; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.14; do
        if new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    stop "Pelton needs Python 3.11 or later; install it, or name it: PYTHON=/path/to/python3 $0"
}

make_venv() {
    local python
    python="$(find_python)"
    say "making .venv with $("$python" --version)"
    "$python" -m venv --clear "$venv" ||
        stop "$python cannot make virtual environments; on Debian: apt install python3-venv"
}

# What an environment depends on, as one line: the locks, the project's own list, Python, the place.
fingerprint() {
    { echo "$root"; "$venv/bin/python" --version; cat "$root/pyproject.toml" "$@"; } | cksum
}

pip_install() {
    "$venv/bin/python" -m pip install --quiet --quiet --no-deps "$@" ||
        stop "pip could not install (its words are above); the first time needs the network"
}

# ensure_installed NAME LOCK [COMMAND]: installs LOCK and Pelton itself, then runs COMMAND; does
# nothing, and needs no network, if that was done before and nothing has changed since.
ensure_installed() {
    local name="$1" lock="$root/requirements/$2" after="${3:-:}"
    local stamp="$venv/.installed-$name" want
    new_enough "$venv/bin/python" || make_venv
    want="$(fingerprint "$lock")"
    if [[ -f "$stamp" && "$(cat "$stamp")" == "$want" ]]; then
        return
    fi
    say "installing requirements/$2 into .venv (the first time takes a minute or two)"
    pip_install --require-hashes --only-binary :all: --requirement "$lock"
    pip_install --no-build-isolation --editable "$root"
    "$after"
    printf '%s\n' "$want" >"$stamp"
}
