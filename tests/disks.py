"""Small file systems for tests, in a mount namespace that nobody else sees and that ends with this process."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

MIB = 1 << 20


def can_mount() -> bool:
    """Say whether it makes sense to try."""
    return os.geteuid() == 0 and shutil.which("mount") is not None


needs_root = pytest.mark.skipif(not can_mount(), reason="only root can mount a disk")

PATH = f"{os.environ['PATH']}:/sbin:/usr/sbin"


@cache
def enter_namespace() -> None:
    """Give this process mounts of its own, once."""
    new_namespace = 0x00020000  # CLONE_NEWNS, linux/sched.h
    if ctypes.CDLL(None, use_errno=True).unshare(new_namespace):
        pytest.skip(f"no mount namespace can be had here: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


def make_image(image: Path, kind: str, size: int, *options: str) -> None:
    """Make a sparse file of `size` bytes with a file system in it; skip the test where the tool is missing."""
    tool = shutil.which(f"mkfs.{kind}", path=PATH)
    if tool is None:
        pytest.skip(f"takes mkfs.{kind}")
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run([tool, "-q", *options, image], check=True)


@contextmanager
def mounted(place: Path, kind: str, *options: str, source: Path | str = "none") -> Iterator[Path]:
    """Mount a file system at the directory `place`, which is made; an image goes through a loop device."""
    enter_namespace()
    place.mkdir(exist_ok=True)
    words = ["mount", "-t", kind, *(["-o", ",".join(options)] if options else []), source, place]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{kind} cannot be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def cut_power(place: Path) -> None:
    """Let nothing more reach the disk below the ext4 at `place`, neither now nor when it is unmounted.

    fstests cuts the power by this call, too: the journal is given up as it is, and what is dirty stays in memory
    (linux, fs/ext4/ext4.h: EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH).
    """
    shutdown, no_log_flush = 0x8004587D, 2
    descriptor = os.open(place, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, shutdown, no_log_flush.to_bytes(4, sys.byteorder))
    finally:
        os.close(descriptor)


@contextmanager
def disk(directory: Path, kind: str) -> Iterator[Path]:
    """Mount a file system of one kind below `directory`: ext4, xfs, overlayfs, volatile (overlayfs), tmpfs."""
    place = directory / f"{kind}.mount"
    if kind in ("ext4", "xfs"):
        image = directory / f"{kind}.image"
        make_image(image, kind, 400 * MIB)  # xfs wants 300
        with mounted(place, kind, "loop", source=image):
            yield place
    elif kind in ("overlayfs", "volatile"):
        lower, upper, work = (directory / f"{kind}.{name}" for name in ("lower", "upper", "work"))
        for path in (lower, upper, work):
            path.mkdir()
        layers = [f"lowerdir={lower}", f"upperdir={upper}", f"workdir={work}"]
        with mounted(place, "overlay", *layers, *(["volatile"] if kind == "volatile" else [])):
            yield place
    else:
        with mounted(place, kind, "size=400m"):
            yield place
