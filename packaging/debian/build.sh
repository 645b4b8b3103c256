#!/usr/bin/env bash
# Builds a package for Debian and its like: the program, a service that starts it, its settings, man pages and completions.
#
# usage: packaging/debian/build.sh FOLDER [PROGRAM]     PROGRAM is a release; without it, packaging/release.sh makes one
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
if [ $# -gt 1 ]; then
    program=$(realpath "$2")
else
    "$root/packaging/release.sh" "$out/release" >&2
    program=$out/release/countersign
fi
for tool in dpkg-deb dpkg-shlibdeps; do
    command -v $tool >/dev/null || { echo "build.sh: $tool is missing (Debian's packages dpkg and dpkg-dev)" >&2; exit 2; }
done

version=$("$program" --version | cut -d' ' -f2)
# All times in it are of the last commit, so that the same commit gives the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
maintainer='The Countersign developers <maintainers@countersign.invalid>'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/tree
install -D -m 755 "$program" "$tree/usr/bin/countersign"
strip --strip-unneeded "$tree/usr/bin/countersign"
install -D -m 755 "$here/countersign-admin" "$tree/usr/sbin/countersign-admin"
install -D -m 644 "$here/countersign.service" "$tree/lib/systemd/system/countersign.service"
install -D -m 644 "$here/countersign.toml" "$tree/etc/countersign/countersign.toml"
doc=$tree/usr/share/doc/countersign
install -D -m 644 "$root/CHANGELOG.md" "$doc/changelog"
cat >"$doc/copyright" <<COPYRIGHT
Copyright: the Countersign developers
License: Apache-2.0, whose text is in /usr/share/common-licenses/Apache-2.0
COPYRIGHT
cat >"$doc/changelog.Debian" <<CHANGES
countersign ($version-1) unstable; urgency=medium

  * What has changed is in changelog.gz.

 -- $maintainer  $(date --utc --date="@$SOURCE_DATE_EPOCH" -R)
CHANGES
gzip -9n "$doc/changelog" "$doc/changelog.Debian"
install -d "$tree/usr/share/man/man1" "$tree/usr/share/bash-completion/completions" "$tree/usr/share/zsh/vendor-completions" \
    "$tree/usr/share/fish/vendor_completions.d"
"$program" generate man "$tree/usr/share/man/man1"
gzip -9n "$tree"/usr/share/man/man1/*.1
"$program" generate completions bash >"$tree/usr/share/bash-completion/completions/countersign"
"$program" generate completions zsh >"$tree/usr/share/zsh/vendor-completions/_countersign"
"$program" generate completions fish >"$tree/usr/share/fish/vendor_completions.d/countersign.fish"

# The libraries that it needs are those that it was linked with.
mkdir "$work/debian"
printf 'Source: countersign\n\nPackage: countersign\nArchitecture: any\n' >"$work/debian/control"
needs=$(cd "$work" && dpkg-shlibdeps -O "$tree/usr/bin/countersign" 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
install -d "$tree/DEBIAN"
cat >"$tree/DEBIAN/control" <<CONTROL
Package: countersign
Version: $version-1
Section: admin
Priority: optional
Architecture: $(dpkg --print-architecture)
Maintainer: $maintainer
Depends: $needs
Recommends: ca-certificates
Suggests: postgresql, prometheus
Installed-Size: $(du -sk --exclude=DEBIAN "$tree" | cut -f1)
Homepage: https://github.com/countersign/countersign
Description: token authority of a platform's API
 Issues, lists, shows, verifies and ends the API tokens of a platform, and speaks
 the token APIs of Grid and Blips. Gateways ask it about every request. It runs
 on embedded SQLite, or on PostgreSQL with many servers, where a revoked token
 is refused everywhere when the revoke returns.
CONTROL
echo /etc/countersign/countersign.toml >"$tree/DEBIAN/conffiles"
for script in postinst prerm postrm; do
    install -m 755 "$here/$script" "$tree/DEBIAN/$script"
done
(cd "$tree" && find usr lib etc -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
find "$tree" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
package=$out/countersign_$version-1_$(dpkg --print-architecture).deb
dpkg-deb --root-owner-group -Zxz --build "$tree" "$package" >&2
echo "$package"
