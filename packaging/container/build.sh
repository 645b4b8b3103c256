#!/usr/bin/env bash
# Builds an image for containers of a static release: with buildah, podman or docker, whichever is there first.
#
# usage: packaging/container/build.sh IMAGE [PROGRAM]     PROGRAM is a static one; without it, packaging/release.sh --static makes it
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ $# -gt 1 ]; then
    program=$(realpath "$2")
else
    "$here/../release.sh" --static "$work/release" >&2
    program=$work/release/countersign
fi
# One that needs a loader would not start, and say that there is no such file.
! readelf --program-headers "$program" | grep -q INTERP || { echo "build.sh: $program is not static" >&2; exit 2; }
install -D -m 755 "$program" "$work/context/countersign"
install -D -m 644 "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$work/context/ca-certificates.crt"
install -d -m 700 "$work/context/data"
for tool in buildah podman docker; do
    command -v $tool >/dev/null || continue
    $tool build --file "$here/Containerfile" --tag "$1" "$work/context"
    exit
done
echo 'build.sh: none of buildah, podman and docker is here' >&2
exit 2
