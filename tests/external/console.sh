#!/usr/bin/env bash
# The console in a real browser, against the real program: console.mjs says what it looks at.
#
# usage: console.sh [--pictures]     --pictures also writes those of docs/console
# COUNTERSIGN_BIN names the program (target/debug/countersign).
set -euo pipefail
trap 'status=$?; ((status == 0)) || echo "console: FAILED" >&2' EXIT

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
debian() { # debian PACKAGE...: installs them
    if [ "$(id -u)" = 0 ]; then as_root=; else as_root=sudo; fi
    $as_root apt-get update -qq && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
command -v chromium >/dev/null || debian chromium fonts-dejavu-core
command -v node >/dev/null || debian nodejs
command -v npm >/dev/null || debian npm
if [ "${1:-}" = --pictures ]; then
    command -v pngquant >/dev/null || debian pngquant
    [ -d /usr/share/fonts/opentype/inter ] || debian fonts-inter
fi
"$here/setup.sh" node

program=$(realpath "${COUNTERSIGN_BIN:-target/debug/countersign}")
unset "${!COUNTERSIGN_@}" # to the program, each would be a setting
PROGRAM=$program node "$here/console.mjs" "$@"
