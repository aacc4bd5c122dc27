#!/usr/bin/env bash
# Installs Pelton into .venv inside this clone (once) and serves models.
#
#   ./start_server.sh                             the examples, at 127.0.0.1:50000
#   ./start_server.sh --port 8000                 the same, at another port
#   ./start_server.sh path/to/model.onnx [...]    your own model or folder of models
#
# Arguments are those of `pelton serve`; `./start_server.sh --help` lists them.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/scripts/environment.sh"

# Succeeds if the arguments, or the environment, already say what to serve.
names_a_model() {
    [[ -n "${PELTON_MODEL_PATH:-}" || "${1:--}" != -* ]] && return
    local argument
    for argument in "$@"; do
        case "$argument" in --model-path | --model-path=* | --config | --config=*) return ;; esac
    done
    return 1
}

ensure_installed server server.lock
if ! names_a_model "$@"; then
    say "serving the examples; to serve your own: $0 path/to/model"
    set -- "$root/examples/models" "$@"
fi
exec "$venv/bin/pelton" serve "$@"
