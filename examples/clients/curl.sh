#!/usr/bin/env bash
# Asks the example server with nothing but curl.
#
#   examples/clients/curl.sh [URL]
#
# Start the server with ./start_server.sh.
set -euo pipefail
url="${1:-http://127.0.0.1:50000}"
picture="$(dirname "$0")/../digits/sample.json"

get() { curl --silent --show-error --fail "$@" && echo; }
post_json() { get -H 'content-type: application/json' "$@"; }

echo '# Is the server well, and what does it serve?'
get "$url/health"

echo '# What does the model take and give?'
get "$url/v2/models/digits"

echo '# Which digit is this? The three likeliest, as probability:index:label'
post_json "$url/v2/models/digits/infer" -d "@$picture"

echo '# The same without naming the tensor, for the model has one input'
post_json "$url/infer?model=digits" \
    -d '[[[0,0,2,13,16,9,0,0],[0,0,12,12,7,16,3,0],[0,1,14,3,0,16,4,0],[0,0,0,4,10,16,6,0],
          [0,0,0,13,16,16,9,0],[0,0,0,5,13,1,0,0],[0,0,0,11,9,0,0,0],[0,0,1,16,4,0,0,0]]]'
