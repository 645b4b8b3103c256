#!/usr/bin/env bash
# The example upstream against a live server's assertions, and against forged ones. COUNTERSIGN_BIN names the program.
set -euo pipefail
trap 'status=$?; ((status == 0)) || echo "assertion: FAILED" >&2' EXIT

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
"$here/setup.sh" python
PYTHONDONTWRITEBYTECODE=1 "$root/target/external/venv/bin/python" "$here/assertion.py"
