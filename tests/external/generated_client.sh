#!/usr/bin/env bash
# Generates a Python client from api/grid.openapi.yaml and manages 250 tokens of a running server with it.
#
# usage: generated_client.sh BASE_URL CLIENT_ID CLIENT_SECRET
#   BASE_URL       such as http://127.0.0.1:8420
#   CLIENT_ID ...  a token with VIEW and MANAGE on a platform whose tokens nobody else changes meanwhile
set -euo pipefail
trap 'status=$?; ((status == 0)) || echo "generated client: FAILED" >&2' EXIT

if (($# != 3)); then
    echo "usage: generated_client.sh BASE_URL CLIENT_ID CLIENT_SECRET" >&2
    exit 2
fi

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
"$here/setup.sh" python

venv=$root/target/external/venv
client=$root/target/external/client
rm -rf "$client"
mkdir -p "$client"
"$venv/bin/openapi-python-client" generate --path "$root/api/grid.openapi.yaml" --meta none --fail-on-warning \
    --config "$here/openapi-python-client.yaml" --output-path "$client/countersign_grid"

EXTERNAL_BASE_URL=${1%/} EXTERNAL_CLIENT_ID=$2 EXTERNAL_CLIENT_SECRET=$3 \
    PYTHONPATH=$client PYTHONDONTWRITEBYTECODE=1 \
    "$venv/bin/python" "$here/generated_client.py"
