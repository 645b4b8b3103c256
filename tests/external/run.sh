#!/usr/bin/env bash
# A live server by tools of other ecosystems: the published documents (lint, schemathesis, a generated client), assertions.
set -euo pipefail
cd "$(dirname "$0")/../.."
program=${COUNTERSIGN_BIN:-target/debug/countersign}
unset COUNTERSIGN_BIN # to the program it would be a setting

tests/external/lint.sh
COUNTERSIGN_BIN=$program tests/external/assertion.sh

data=$(mktemp -d)
server=
finish() { [ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$data"; }
trap finish EXIT
made=$("$program" platform create --name external --data "$data/db" --output json)
field() { printf '%s' "$made" | python3 -c 'import json, sys; print(json.load(sys.stdin)["tokens"][0][sys.argv[1]])' "$1"; }
: >"$data/log" # it may be read before the server is there
"$program" serve --data "$data/db" --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --log warn 2>>"$data/log" &
server=$!
for _ in $(seq 100); do
    base=$(sed -n 's/^listening on //p' "$data/log")
    [ -z "$base" ] || break
    sleep 0.1
done
[ -n "$base" ] || { cat "$data/log" >&2; exit 1; }

tests/external/generated_client.sh "$base" "$(field clientId)" "$(field clientSecret)"
SCHEMATHESIS_SECONDS=${SCHEMATHESIS_SECONDS:-45} tests/external/schemathesis.sh "$base" "$(field clientId)" "$(field clientSecret)"
if grep -q '"level":"ERROR"' "$data/log"; then
    echo 'the server logged errors:' >&2
    grep '"level":"ERROR"' "$data/log" | head >&2
    exit 1
fi
