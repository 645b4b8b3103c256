#!/usr/bin/env bash
# Tests a running server against both OpenAPI documents with schemathesis: valid and invalid requests derived from the
# documents, and sequences of them; every answer is held against the document.
#
# usage: schemathesis.sh BASE_URL CLIENT_ID CLIENT_SECRET
#   BASE_URL       such as http://127.0.0.1:8420
#   CLIENT_ID ...  a root token that the operator issued: the run ends every token that it can reach, and no request
#                  can end this one. Use a platform made for the purpose.
#
# SCHEMATHESIS_SECONDS (75) bounds the time for each document, SCHEMATHESIS_SEED (20251013) fixes the random choices.
# Reports are left in target/external/schemathesis.
set -euo pipefail
trap 'status=$?; ((status == 0)) || echo "schemathesis: FAILED" >&2' EXIT

if (($# != 3)); then
    echo "usage: schemathesis.sh BASE_URL CLIENT_ID CLIENT_SECRET" >&2
    exit 2
fi
base_url=${1%/}
seconds=${SCHEMATHESIS_SECONDS:-75}
seed=${SCHEMATHESIS_SEED:-20251013}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
"$here/setup.sh" python

export EXTERNAL_CLIENT_ID=$2 EXTERNAL_CLIENT_SECRET=$3
export EXTERNAL_HOOKS=$here/schemathesis_hooks.py
export PYTHONDONTWRITEBYTECODE=1
reports=$root/target/external/schemathesis
mkdir -p "$reports"
cd "$reports"

failed=()
run() { # NAME PATH
    echo "schemathesis: $1 at $base_url$2"
    timeout --kill-after=10 $((seconds + 90)) \
        "$root/target/external/venv/bin/schemathesis" --config-file "$here/schemathesis.toml" \
        run "$root/api/$1.openapi.yaml" --url "$base_url$2" \
        --phases examples,coverage,fuzzing,stateful --seed "$seed" --max-time "$seconds" \
        --report junit --report-junit-path "$reports/$1.xml" || failed+=("$1")
}
run grid /grid/2025-10-13
run blips /blips

if ((${#failed[@]})); then
    echo "schemathesis: found failures in: ${failed[*]}" >&2
    exit 1
fi
echo "schemathesis: OK, both dialects answer as their documents say"
