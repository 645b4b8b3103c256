#!/usr/bin/env bash
# Builds a commit twice, from clones at two paths, with two target folders and two cargo homes at two paths, and says whether
# the program and the list are the same bytes. Exit code 1 if not.
#
# usage: reproducible.sh [COMMIT]
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
commit=$(git -C "$repository" rev-parse "${1:-HEAD}")
home=${CARGO_HOME:-$HOME/.cargo}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

build() { # build NAME PATH: the commit, at that path
    mkdir -p "$work/$2" "$work/$2-cargo"
    git clone --quiet --no-checkout "$repository" "$work/$2/countersign"
    git -C "$work/$2/countersign" checkout --quiet --detach "$commit"
    # The sources of dependencies are the same files, checked against Cargo.lock when they were fetched; their paths differ.
    ln -s "$home/registry" "$work/$2-cargo/registry"
    for file in config.toml config; do [ ! -e "$home/$file" ] || ln -s "$home/$file" "$work/$2-cargo/$file"; done
    CARGO_HOME=$work/$2-cargo CARGO_TARGET_DIR=$work/$2-target "$work/$2/countersign/packaging/release.sh" "$work/$1"
    # What was built is kept, what it was built from is not: each is a gigabyte.
    rm -rf "${work:?}/$2-target"
}

cargo fetch --quiet --locked --manifest-path "$repository/Cargo.toml" --target "$(rustc -vV | sed -n 's/^host: //p')"
build one first
build two second/at/a/longer/path
cmp "$work/one/SHA256SUMS" "$work/two/SHA256SUMS" && echo "the same bytes, twice: $commit"
