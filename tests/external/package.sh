#!/usr/bin/env bash
# The Debian package on a clean machine: installed, started by systemd with all that its unit forbids, used, upgraded, removed.
#
# usage: package.sh     needs root, debootstrap, systemd-container, dpkg-dev; ends with 3 where no machine can be made at all
# The machine is Debian's own, made by debootstrap (kept in target/external/debian.tar), in a container with a systemd of its own.
# COUNTERSIGN_BIN names the program (target/debug/countersign).
set -euo pipefail
trap 'status=$?; ((status == 0)) || echo "package: FAILED" >&2' EXIT

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
program=$(realpath "${COUNTERSIGN_BIN:-target/debug/countersign}")
unset "${!COUNTERSIGN_@}" # to the program, each would be a setting
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
need() { # need PROGRAM PACKAGE
    command -v "$1" >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >/dev/null; }
}
[ "$(id -u)" = 0 ] || { echo 'package: only root can make a machine' >&2; exit 2; }
need debootstrap debootstrap
need systemd-nspawn systemd-container
need dpkg-shlibdeps dpkg-dev

work=$(mktemp -d)
machine=countersign-$$
finish() {
    machinectl terminate "$machine" 2>/dev/null || :
    [ -z "${nspawn:-}" ] || { kill -TERM "$nspawn" 2>/dev/null || :; wait "$nspawn" 2>/dev/null || :; }
    rm -rf "$work"
}
trap 'status=$?; finish; ((status == 0)) || echo "package: FAILED" >&2' EXIT

saved=$PWD/target/external/debian-$release.tar
if [ ! -e "$saved" ]; then
    mkdir -p "${saved%/*}"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,curl "$release" "$work/new" >"$work/debootstrap.log" 2>&1 ||
        { tail -5 "$work/debootstrap.log" >&2; echo 'package: Debian cannot be had here' >&2; exit 3; }
    tar -C "$work/new" -cf "$saved.part" . && mv "$saved.part" "$saved"
    rm -rf "$work/new"
fi
mkdir "$work/root"
tar -C "$work/root" -xf "$saved"

# A package, and a newer one of the same: only its version differs.
first=$(packaging/debian/build.sh "$work/first" "$program")
dpkg-deb -R "$first" "$work/second"
sed -i 's/^Version: .*/Version: 99.0-1/' "$work/second/DEBIAN/control"
dpkg-deb --root-owner-group -Znone --build "$work/second" "$work/second.deb" >/dev/null
cp "$first" "$work/root/first.deb"
cp "$work/second.deb" "$work/root/second.deb"
if command -v lintian >/dev/null; then
    lintian --allow-root --fail-on error "$first" | sed 's/^/  /'
fi

systemd-nspawn --quiet -D "$work/root" --machine="$machine" --boot --private-network --register=no --keep-unit >"$work/boot.log" 2>&1 </dev/null &
nspawn=$!
leader=
for _ in $(seq 300); do
    leader=$(pgrep -P "$nspawn" | head -1 || :)
    [ -z "$leader" ] || ! nsenter -t "$leader" -a systemctl is-system-running --quiet 2>/dev/null || break
    [ -z "$leader" ] || ! nsenter -t "$leader" -a systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded' || break
    sleep 0.2
done
in_it() { nsenter -t "$leader" -a -- env PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"; }
in_it systemctl is-system-running | grep -qE 'running|degraded' || { tail -20 "$work/boot.log" >&2; echo 'package: no machine starts here' >&2; exit 3; }
said() { echo "  $*"; }
ready() { # within 20 s
    for _ in $(seq 100); do
        ! in_it curl -fsS http://127.0.0.1:8421/readyz >/dev/null 2>&1 || return 0
        sleep 0.2
    done
    in_it journalctl -u countersign --no-pager -n 20 >&2
    echo 'package: the service is not ready' >&2
    return 1
}

in_it dpkg -i /first.deb >/dev/null
[ "$(in_it systemctl is-active countersign || :)" = inactive ] || { echo 'package: it starts before anybody has looked at its settings' >&2; exit 1; }
in_it systemctl enable --now countersign 2>/dev/null
ready
said "installed and started: $(in_it countersign --version), as account $(in_it stat -c %u "/proc/$(in_it systemctl show -P MainPID countersign)")"
in_it systemd-analyze security --threshold=20 --no-pager countersign | tail -1 | sed 's/^/  /'

made=$(in_it countersign-admin platform create --name Acme --output json)
pair=$(python3 -c 'import json, sys; token = json.load(sys.stdin)["tokens"][0]; print(token["clientId"] + ":" + token["clientSecret"])' <<<"$made")
verify() { in_it curl -sS -o /dev/null -w '%{http_code}' -u "$pair" http://127.0.0.1:8420/verify; }
[ "$(verify)" = 200 ] || { echo 'package: its first token does not verify' >&2; exit 1; }
in_it countersign-admin doctor >"$work/doctor" || { cat "$work/doctor" >&2; exit 1; }
said "its first token verifies, and doctor finds nothing bad ($(grep -c ^good "$work/doctor") good, $(grep -c ^doubtful "$work/doctor") doubtful)"
in_it systemctl reload countersign

before=$(in_it systemctl show -P MainPID countersign)
echo '# somebody was here' >>"$work/root/etc/countersign/countersign.toml"
in_it dpkg -i /second.deb >/dev/null
ready
[ "$(in_it systemctl show -P MainPID countersign)" != "$before" ] || { echo 'package: the old program goes on behind an upgrade' >&2; exit 1; }
[ "$(verify)" = 200 ] || { echo 'package: a token does not verify behind an upgrade' >&2; exit 1; }
grep -q 'somebody was here' "$work/root/etc/countersign/countersign.toml" || { echo 'package: an upgrade has lost settings' >&2; exit 1; }
said 'upgraded: the new program runs, the token verifies, the settings are kept'

in_it dpkg -r countersign >/dev/null
[ "$(in_it systemctl is-active countersign || :)" != active ] || { echo 'package: it runs on behind its removal' >&2; exit 1; }
in_it dpkg -P countersign >/dev/null
[ -e "$work/root/var/lib/private/countersign/countersign.db" ] || { echo 'package: removing it has removed the data' >&2; exit 1; }
left=$(cd "$work/root" && find . -path ./var/lib/private -prune -o -path ./proc -prune -o -path ./var/log -prune -o -name '*countersign*' -print | grep -v '^./var/lib/countersign$' || :)
[ -z "$left" ] || { echo "package: left behind: $left" >&2; exit 1; }
said 'removed and purged: nothing is left but the data'
echo 'package: OK'
