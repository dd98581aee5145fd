#!/bin/sh
# Installs what the tests need besides Python packages: strace kills jobs at chosen system calls, mkfs.ext4 and
# mkfs.xfs make small disks, podman and runc run containers, debootstrap makes an image for them. Where it may not
# (no root, no apt), the tests that need them are skipped, saying so.
set -eu
missing=""
command -v strace >/dev/null || missing="$missing strace"
command -v mkfs.ext4 >/dev/null || [ -x /sbin/mkfs.ext4 ] || missing="$missing e2fsprogs"
[ -x /sbin/mkfs.xfs ] || [ -x /usr/sbin/mkfs.xfs ] || missing="$missing xfsprogs"
[ -x /usr/sbin/debootstrap ] || command -v debootstrap >/dev/null || missing="$missing debootstrap"
command -v podman >/dev/null || missing="$missing podman"
[ -x /usr/sbin/runc ] || command -v runc >/dev/null || missing="$missing runc"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "not installed, and not mine to install:$missing; some tests will be skipped"
    exit 0
fi
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
