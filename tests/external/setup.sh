#!/usr/bin/env bash
# Installs the pinned outside tools below target/external, when they are missing or their pins have changed.
#
# usage: setup.sh [python|node|gateways]     the first two without an argument
set -euo pipefail
trap 'status=$?; ((status == 0)) || echo "setup: FAILED" >&2' EXIT

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$root/target/external
what=${1:-all}
case $what in
    all | python | node | gateways) ;;
    *)
        echo "usage: setup.sh [python|node|gateways]" >&2
        exit 2
        ;;
esac

# fresh STAMP INPUT... : whether STAMP was written for just these inputs
digest() { sha256sum "$@" | cut -d' ' -f1 | sha256sum | cut -d' ' -f1; }
fresh() { [[ -f $1 && $(<"$1") == "$(digest "${@:2}")" ]]; }

# python_tools VENV REQUIREMENTS
python_tools() {
    local venv=$1 stamp=$1/installed
    if ! fresh "$stamp" "$2" || ! "$venv/bin/python" -c '' 2>/dev/null; then
        mkdir -p "$out"
        python3 -m venv --clear "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$2"
        digest "$2" >"$stamp"
    fi
}

case $what in
    all | python) python_tools "$out/venv" "$here/requirements.txt" ;;
    gateways) python_tools "$out/gateways-venv" "$here/gateways.txt" ;;
esac

if [[ $what == all || $what == node ]]; then
    node=$out/node
    stamp=$node/installed
    if ! fresh "$stamp" "$here/package.json" "$here/package-lock.json"; then
        rm -rf "$node"
        mkdir -p "$node"
        cp "$here/package.json" "$here/package-lock.json" "$node/"
        npm ci --prefix "$node" --include=dev --ignore-scripts --no-audit --no-fund --silent
        digest "$here/package.json" "$here/package-lock.json" >"$stamp"
    fi
fi

echo "setup: OK, the tools are in ${out#"$root"/}"
