"""Which files are in transit: written, to be read in this process and truncated, and never to touch the disk.

To drop the pages of such a file would begin to write them back (POSIX_FADV_DONTNEED does that, see mm/fadvise.c).
"""

from __future__ import annotations

import os
from pathlib import Path

# Device and inode.
_files: set[tuple[int, int]] = set()


def _key(file: int | Path) -> tuple[int, int]:
    found = os.fstat(file) if isinstance(file, int) else file.stat()
    return found.st_dev, found.st_ino


def enter(file: int | Path) -> None:
    """Note that a file, open or at a path, is in transit.

    Raises:
        OSError: it is not there.
    """
    _files.add(_key(file))


def leave(file: int | Path) -> None:
    """Note that it is not, or not any more; before it is unlinked, as its inode may be given out again."""
    if _files:
        try:
            _files.discard(_key(file))
        except FileNotFoundError:
            return


def in_transit(file: int | Path) -> bool:
    """Say whether a file is in transit: in the page cache alone, as far as anybody knows.

    Should the kernel write it back all the same, and fail, nobody is told, and its pages may go: the one that reads
    the file should compare its checksum.
    """
    try:
        return bool(_files) and _key(file) in _files
    except FileNotFoundError:
        return False
