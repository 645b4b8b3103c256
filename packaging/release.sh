#!/usr/bin/env bash
# Builds what a release consists of: the program, the list of all that is in it (CycloneDX), and their checksums. The same
# commit and the same compilers give the same bytes, wherever the sources and cargo's home are: reproducible.sh tries it.
#
# usage: release.sh [--static] FOLDER [CARGO OPTIONS]
#   --static    with the C library in it, so that it runs where there is no file beside it
set -euo pipefail

# Only what links it is told so: libraries of the program are the same either way, and compilers' own plug-ins cannot be static.
link=()
[ "$1" != --static ] || { link=(-C target-feature=+crt-static); shift; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A panic names its file. Ours have names below the repository; those of dependencies begin with cargo's home. It is said here
# because cargo's configuration knows no variables, and in place of whatever flags the environment has.
unset RUSTFLAGS
CARGO_ENCODED_RUSTFLAGS=--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo
# What dependencies draw at random comes from the kernel too: else they look for the C library's function by name, which a static
# program has not got, and then for a device, which an empty root has not got.
CARGO_ENCODED_RUSTFLAGS+=$'\x1f--cfg\x1fgetrandom_backend="linux_getrandom"'
export CARGO_ENCODED_RUSTFLAGS
export CARGO_INCREMENTAL=0

built() { python3 -c 'import json, sys
print(*[line["executable"] for line in map(json.loads, sys.stdin) if line.get("executable")])'; }
program=$(cargo rustc --release --locked --bin countersign --message-format json-render-diagnostics "$@" -- "${link[@]}" | built)
cp "$program" "$out/countersign"
packaging/dependencies.py sbom >"$out/countersign.cdx.json"
cd "$out" && sha256sum countersign countersign.cdx.json | tee SHA256SUMS
