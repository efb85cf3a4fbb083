# Makes a clean Debian with a package of Duly in it, for the scripts beside this one, which source it:
#
#     packages=cron; . "$(dirname "$0")/room.sh"
#
# with the package as their argument. What they start in it and leave running is $helper. The Debian is made by debootstrap in the folder $root, which is removed afterwards (KEEP=1
# leaves it), of the same release and from the same place as this machine's own packages. Needs root, for chroot.
[ $# = 1 ] && [ -f "$1" ] || { echo "usage: $0 PACKAGE.deb" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "$0 needs root, for chroot" >&2; exit 2; }
package=$1
. /etc/os-release
mirror=$(apt-get indextargets --format '$(SITE)' "Codename: $VERSION_CODENAME" 2>/dev/null | head -n 1)
root=$(mktemp -d "${TMPDIR:-/var/tmp}/duly-debian.XXXXXX")
helper=
clean() {
    [ -z "$helper" ] || { kill "$helper" && wait "$helper"; } 2>/dev/null || true
    umount "$root/proc" 2>/dev/null || true
    [ -n "${KEEP-}" ] || rm -rf "$root"
}
chmod 755 "$root"
trap clean EXIT
trap 'exit 1' INT TERM

seen() { printf '  ok: %s\n' "$1"; }
fail() { printf 'NOT SO: %s\n' "$1" >&2; exit 1; }
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive "$@"; }
as_duly() { inside runuser -u duly -- "$@"; }
# Waits up to 90 seconds for a command of the user `duly` to print something with a text in it.
shows() {
    text=$1; shift
    until=$(($(date +%s) + 90))
    while [ "$(date +%s)" -lt "$until" ]; do
        as_duly "$@" 2>&1 | grep -q -- "$text" && return 0
        sleep 1
    done
    as_duly "$@" >&2
    return 1
}

echo "Making a clean Debian $VERSION_CODENAME in $root"
debootstrap --variant=minbase --include="$packages" "$VERSION_CODENAME" "$root" "${mirror:-http://deb.debian.org/debian}" >"$root.log" 2>&1 ||
    { tail -n 20 "$root.log" >&2; fail "debootstrap"; }
rm -f "$root.log"
mount -t proc proc "$root/proc"
cp /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
cp "$package" "$root/root/duly.deb"

inside apt-get install -y -qq --no-install-recommends /root/duly.deb >"$root/root/install.log" 2>&1 ||
    { tail -n 20 "$root/root/install.log" >&2; fail "apt-get install"; }
seen "installed: $(inside dpkg-query -W -f '${Package} ${Version}, ${Installed-Size} KiB, needs ${Depends}' duly)"
