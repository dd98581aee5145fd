"""Which files are in transit: written, to be read in this process and truncated, and never to touch the disk.

To drop the pages of such a file would begin to write them back (POSIX_FADV_DONTNEED does that, see mm/fadvise.c).
"""

from __future__ import annotations

import os
from pathlib import Path

# Device and inode. An entry outlives its file until a writer begins on that inode again, which harms nobody:
# nothing but our own readers asks, and they would leave a file in the cache.
_files: set[tuple[int, int]] = set()


def _key(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def enter(descriptor: int) -> None:
    """Note that an open file is in transit."""
    _files.add(_key(descriptor))


def leave(descriptor: int) -> None:
    """Note that it is not, or not any more."""
    if _files:
        _files.discard(_key(descriptor))


def in_transit(path: Path) -> bool:
    """Say whether a file is in transit: in the page cache alone, as far as anybody knows.

    Should the kernel write it back all the same, and fail, nobody is told, and its pages may go: whoever reads
    the file should compare its checksum.
    """
    try:
        found = path.stat()
    except OSError:
        return False
    return (found.st_dev, found.st_ino) in _files


def holds(descriptor: int) -> bool:
    """Say whether it is."""
    return bool(_files) and _key(descriptor) in _files
