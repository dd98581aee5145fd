"""The calls of Linux that keep the page cache small, and the names of file systems.

Python has no name for some of them; they are called through the C library. On other systems nothing is
known (`None`), and what cannot be done raises the OSError that a kernel without the call would give.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096

# sync_file_range(2)
WAIT_BEFORE, WRITE, WAIT_AFTER = 1, 2, 4

# pwritev2 with RWF_DONTCACHE, <linux/fs.h> of Linux 6.14: written back at once, and dropped after that.
RWF_DONTCACHE = 0x80

# What a call answers that this kernel or this file system does not have. Everything else is an error of the
# data: the WAIT flags of sync_file_range report a failed writeback *and clear it*, so that a later fsync says
# that all is well.
NOT_SUPPORTED = frozenset(
    {errno.ENOSYS, errno.EINVAL, errno.ESPIPE, errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP}
)

# statfs(2) and <linux/magic.h>
FILE_SYSTEMS = {
    0xEF53: "ext4",  # ext2 and ext3 too, which the same driver serves
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0xF2F52010: "f2fs",
    0x794C7630: "overlayfs",
    0x01021994: "tmpfs",
    0x858458F6: "ramfs",
    0x6969: "nfs",
    0x65735546: "fuse",
    0xFF534D42: "cifs",
    0xFE534D42: "smb2",
    0x01021997: "9p",
    0x2FC12FC1: "zfs",
    0x00C36400: "ceph",
    0x4D44: "vfat",
    0x2011BAB0: "exfat",
}


class Unsupported(Exception):
    """A method does not work on this file; the message says why, to be read after the method's name."""


@cache
def _libc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int]
    libc.mmap.argtypes += [ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    if hasattr(libc, "sync_file_range"):
        libc.sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return libc


def file_system(file: int | str | os.PathLike[str]) -> str | None:
    """Return the name of the file system that a file or directory is on; None: unknown.

    Args:
        file: a descriptor, or a path that exists.
    """
    libc = _libc()
    if libc is None:
        return None
    found = (ctypes.c_long * 32)()  # struct statfs, 120 bytes, begins with f_type
    code = libc.fstatfs(file, found) if isinstance(file, int) else libc.statfs(os.fsencode(file), found)
    return FILE_SYSTEMS.get(found[0] & 0xFFFFFFFF) if code == 0 else None


def is_volatile(file: int | str | os.PathLike[str]) -> bool:
    """Say whether a file or directory is on an overlay that is mounted `volatile`, as /proc/self/mountinfo has it.

    `podman run --rm` mounts the root of a container so; Linux shows `volatile`, or `fsync=volatile` (seen with 6.18).
    """
    try:
        device = os.stat(file).st_dev  # noqa: PTH116 - of a descriptor too
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return False
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in lines:
        left, _, right = line.partition(" - ")
        if left.split()[2] == number and right.startswith("overlay "):
            return bool({"volatile", "fsync=volatile"} & set(right.split()[-1].split(",")))
    return False


def sync_file_range(descriptor: int, start: int, end: int, flags: int) -> None:
    """Start the writeback of a byte range, or wait for it, as the system call of that name does.

    Raises:
        OSError: it is not supported; or, of the WAIT flags, the writeback failed, which nobody else will be told.
    """
    libc = _libc()
    if libc is None or not hasattr(libc, "sync_file_range"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if end > start and libc.sync_file_range(descriptor, start, end - start, flags):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def forget(descriptor: int, start: int, end: int | None) -> None:
    """Drop the clean pages of a byte range from the page cache; `end` None: up to the file's end.

    The kernel drops whole pages only: the first one is widened to a whole page. Where the system has no such
    call nothing happens.

    Raises:
        OSError: the file system does not take the advice.
    """
    if not hasattr(os, "posix_fadvise") or (end is not None and end <= start):
        return
    start -= start % PAGE
    # A length of 0 means up to the file's end, posix_fadvise(2).
    os.posix_fadvise(descriptor, start, 0 if end is None else end - start, os.POSIX_FADV_DONTNEED)


def advise_random(descriptor: int) -> None:
    """Keep the kernel from reading ahead on its own: with large reads, or `bring_in`, nothing is lost."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):  # advice
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)


def bring_in(descriptor: int, start: int, end: int) -> None:
    """Begin to read a byte range into the page cache, and return at once."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):  # advice
            os.posix_fadvise(descriptor, start, end - start, os.POSIX_FADV_WILLNEED)


def resident(descriptor: int, start: int, end: int) -> int | None:
    """Return how many bytes of a range are in the page cache; None: the system cannot tell. Some 15 µs a MiB.

    Asked with mincore(2) of a mapping that is never touched, which brings no page in. cachestat(2) (Linux 6.5)
    would ask the mapping of the file itself, which is empty on overlayfs: mmap goes to the file below.

    Args:
        descriptor: open for reading; the file must be this user's, or the kernel says that all is there.
        start: the offset of the first byte; rounded down to a page.
        end: the offset after the last byte.
    """
    libc = _libc()
    start -= start % PAGE
    if libc is None or end <= start:
        return None if libc is None else 0
    length = end - start
    address = libc.mmap(None, length, 1, 1, descriptor, start)  # PROT_READ, MAP_SHARED
    if address in (None, ctypes.c_void_p(-1).value):
        return None
    pages = ctypes.create_string_buffer(-(-length // PAGE) + 1)
    code = libc.mincore(address, length, pages)
    libc.munmap(address, length)
    if code:
        return None
    # The lowest bit says whether the page is there, the others are reserved.
    return sum(pages.raw[:-1].translate(_LOWEST_BIT)) * PAGE


_LOWEST_BIT = bytes(number & 1 for number in range(256))
