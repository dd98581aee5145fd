#!/bin/sh
# Makes an image of a minimal Debian with Python out of the mirror that this machine's apt uses, where no registry of
# images is within reach, and prints its name: make-base-image.sh [PACKAGE...]. An image that is there is not made again.
# Needs root and podman. Exits with 75, saying why, where it lacks something: debootstrap, a mirror.
set -eu
# Debian keeps it where only root's PATH looks.
PATH=$PATH:/usr/sbin:/sbin
packages=python3,python3-venv,ca-certificates
for package; do packages="$packages,$package"; done

for tool in apt-get debootstrap; do
    command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 75; }
done
# The first suite that apt is configured with, and where it comes from: "bookworm", not "bookworm-updates".
target=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' | head -n 1)
suite=${target%% *}
mirror=${target#* }
[ -n "$suite" ] || { echo 'apt has no source of packages' >&2; exit 75; }

key=$({ echo "$packages"; cat "$0"; } | cksum | cut -d ' ' -f 1)
image="localhost/etl-sinks-test-base:$suite-$key"
if podman image exists "$image"; then
    echo "$image"
    exit
fi

work=$(mktemp -d "${TMPDIR:-/var/tmp}/etl-sinks-base.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 1' INT TERM
# In a mount namespace of its own: what debootstrap mounts is gone with it, however it ends.
if ! unshare --mount debootstrap --variant=minbase --include="$packages" "$suite" "$work/root" "$mirror" >"$work/log" 2>&1; then
    # A mirror is not named: its address may hold a password.
    echo "debootstrap failed: $(grep '^E:' "$work/log" | head -n 1 | sed 's#[a-z]*://[^ ]*#the mirror#g')" >&2
    exit 75
fi
# Nothing there is read again: the lists and the packages that it was made of, documentation, translations.
rm -rf "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/* \
    "$work"/root/usr/share/doc "$work"/root/usr/share/man "$work"/root/usr/share/locale
tar -C "$work/root" -c . | podman import --quiet - "$image" >/dev/null
echo "$image"
