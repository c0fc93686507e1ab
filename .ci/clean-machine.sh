#!/bin/sh
# `make demo` and `make test` on a machine that has nothing but Debian 12, git, make and a Swift toolchain: a chroot made by debootstrap.
# Needs root, debootstrap and about 6 GB. The mirror and git's address rewrites are taken from this machine.
# usage: clean-machine.sh SWIFT_FOLDER CHROOT_FOLDER [make targets, default: demo test]
set -eu
cd "$(dirname "$0")/.."
[ $# -ge 2 ] || { sed -n '2,4s/^# //p' "$0"; exit 2; }
swift=$(cd "$1" && pwd) chroot=$2
shift 2
[ $# -gt 0 ] || set -- demo test
[ -x "$swift/usr/bin/swift" ] || { echo "'$swift' has no usr/bin/swift" >&2; exit 1; }
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
  sed -n 's/^deb .*\(http[^ ]*debian\)\/* bookworm .*/\1/p; s/^URIs: *\(http[^ ]*debian\)\/*$/\1/p' | head -1)
[ -n "$mirror" ] || { echo "no Debian mirror in /etc/apt" >&2; exit 1; }

if [ ! -e "$chroot/etc/debian_version" ]; then
  debootstrap --variant=minbase --include=ca-certificates,git,make bookworm "$chroot" "$mirror"
fi
# Folders that git is told to use in place of an address must be there as well.
rewrites=$(git config --get-regexp '^url\..*\.insteadof$' || true)
shared=$(echo "$rewrites" | sed -n 's/^url\.\(\/.*\)\.insteadof .*/\1/p' | sort -u)
for folder in "$swift" $shared /dev; do
  mkdir -p "$chroot$folder"
  mountpoint -q "$chroot$folder" || mount --bind "$folder" "$chroot$folder"
done
mountpoint -q "$chroot/proc" || mount -t proc proc "$chroot/proc"
trap 'for folder in /proc /dev "$swift" $shared; do umount "$chroot$folder" || true; done' EXIT
cp /etc/resolv.conf "$chroot/etc/resolv.conf"
: >"$chroot/root/.gitconfig"
echo "$rewrites" | while read -r key address; do
  [ -z "$key" ] || git config --file "$chroot/root/.gitconfig" --add "$key" "$address"
done
git config --file "$chroot/root/.gitconfig" --add safe.directory '*'

# The committed tree, without anything that was built here.
rm -rf "$chroot/src"
mkdir "$chroot/src"
git archive HEAD | tar -x -C "$chroot/src"
for target in "$@"; do
  start=$(date +%s) status=0
  env -i HOME=/root LANG=C.UTF-8 PATH="$swift/usr/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
    chroot "$chroot" make -C /src "$target" || status=$?
  echo "make $target: exit $status after $(($(date +%s) - start)) s"
  [ "$status" -eq 0 ] || exit "$status"
done
