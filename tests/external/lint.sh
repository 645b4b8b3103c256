#!/usr/bin/env bash
# Validates and lints the OpenAPI documents in api/. Needs no network once the tools are installed.
#
# usage: lint.sh
set -euo pipefail
trap 'status=$?; ((status == 0)) || echo "lint: FAILED" >&2' EXIT

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
"$here/setup.sh"
cd "$root"

documents=(api/grid.openapi.yaml api/blips.openapi.yaml api/operator.openapi.yaml)
target/external/venv/bin/openapi-spec-validator --schema 3.1 "${documents[@]}"
REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true \
    target/external/node/node_modules/.bin/redocly lint --config tests/external/redocly.yaml "${documents[@]}"

echo "lint: OK, ${#documents[@]} documents are valid and follow the rules"
