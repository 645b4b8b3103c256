#!/usr/bin/env bash
# Fetches the pinned release of Swagger UI with the npm client, checks its integrity and copies the files that the
# reference page needs beside this script.
#
# usage: vendor.sh             fetch and copy
#        vendor.sh --check     only check that the copies are still the ones that were fetched; needs no network
#
# To move to another release: change both values (`npm view swagger-ui-dist@VERSION dist.integrity`), run this, look at
# the page in a browser.
set -euo pipefail
trap 'status=$?; ((status == 0)) || echo "vendor: FAILED" >&2' EXIT

version=5.35.0
integrity=sha512-U06rpMtW9V3XPGOBeamTUSr0Z09jMX4IJuANpE/EZbAhw0G8CgwrzU4YmXkn/h0wCDNsXdGarTNNHC3sU8yVUQ==

cd "$(dirname "${BASH_SOURCE[0]}")"
files=(swagger-ui-bundle.js swagger-ui-bundle.js.LICENSE.txt swagger-ui.css swagger-ui.LICENSE swagger-ui.NOTICE)

if [[ ${1:-} == --check ]]; then
    sha256sum --check --strict --quiet vendor.sha256
    echo "vendor: OK, the copies are as fetched"
    exit
fi

work=$(mktemp -d)
trap 'status=$?; rm -rf "$work"; ((status == 0)) || echo "vendor: FAILED" >&2' EXIT
npm pack "swagger-ui-dist@$version" --pack-destination "$work" --silent >/dev/null
archive=$work/swagger-ui-dist-$version.tgz

found=sha512-$(openssl dgst -sha512 -binary "$archive" | base64 --wrap=0)
if [[ $found != "$integrity" ]]; then
    echo "the archive's integrity is $found, not $integrity" >&2
    exit 1
fi

tar --extract --gzip --file "$archive" --directory "$work"
cp "$work"/package/{swagger-ui-bundle.js,swagger-ui-bundle.js.LICENSE.txt,swagger-ui.css} .
cp "$work/package/LICENSE" swagger-ui.LICENSE
cp "$work/package/NOTICE" swagger-ui.NOTICE
chmod 644 "${files[@]}"
sha256sum "${files[@]}" >vendor.sha256

echo "vendor: OK, swagger-ui-dist $version"
