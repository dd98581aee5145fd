#!/bin/sh
# Installs what the tests need besides Python packages: strace kills jobs at chosen system calls, mkfs.ext4 and
# mkfs.xfs make small disks, podman and runc run containers, debootstrap makes an image for them. Where it may not
# (no root, no apt), the tests that need them are skipped, saying so.
set -eu
PATH="$PATH:/usr/sbin:/sbin"

lacking() { # COMMAND=PACKAGE …: print the packages whose command is not there
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || printf ' %s' "${pair##*=}"
    done
}

disks=$(lacking strace=strace mkfs.ext4=e2fsprogs mkfs.xfs=xfsprogs)
containers=$(lacking podman=podman runc=runc debootstrap=debootstrap)
[ -n "$disks$containers" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "not installed, and not mine to install:$disks$containers; some tests will be skipped"
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # lists of words
[ -z "$disks" ] || apt-get install -y -qq --no-install-recommends $disks >/dev/null
# The tests in a container say themselves what they lack.
# shellcheck disable=SC2086
[ -z "$containers" ] || apt-get install -y -qq --no-install-recommends $containers >/dev/null ||
    echo "could not be installed:$containers; the tests in a container will be skipped"
