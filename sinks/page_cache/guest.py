"""Read a file that belongs to somebody else, and leave the page cache as it was found.

What a job reads is charged to its container as page cache, and a file of any size would fill it. Dropping a
whole file would evict pages that others have a use for. So each read first asks, with RWF_NOWAIT, for what is
cached (preadv2(2), Linux 4.14): what is there was there before, and stays; what is not is read, and dropped
behind the cursor. That is exact to within one read.
"""

from __future__ import annotations

import io
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from sinks.page_cache import kernel

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# What is asked of the kernel at once; it reads that much in one go, so nothing is lost without readahead.
READ_BYTES = 1024 * 1024

# Pages are dropped in stretches of this size, at most so much more than is being read stays cached.
DROP_BYTES = 4 * 1024 * 1024


def open_guest(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a file for reading; where the kernel cannot tell what is cached, as `open` would.

    Raises:
        OSError: it cannot be opened.
    """
    return io.BufferedReader(GuestFile(path), READ_BYTES)


class GuestFile(io.FileIO):
    """A file whose pages are dropped behind the cursor, if it was reading that brought them in.

    Args:
        path: of the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(os.fspath(path), "rb")
        self._asks = hasattr(os, "RWF_NOWAIT") and hasattr(os, "posix_fadvise") and self.seekable()
        self._ours: list[int] = []  # from, to: the stretch that this reading brought in and has not dropped
        if self._asks:
            # Without readahead: it would bring in pages that look as if they had been there.
            kernel.advise_random(self.fileno())

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read up to the length of `buffer` into it; return the number of bytes, 0 at the end."""
        if not self._asks:
            return super().readinto(buffer) or 0
        position = self.tell()
        with memoryview(buffer).cast("B") as view:
            try:
                count = os.preadv(self.fileno(), [view], position, os.RWF_NOWAIT)
            except BlockingIOError:
                count = os.preadv(self.fileno(), [view[:READ_BYTES]], position)
                self._brought_in(position, position + count)
            except OSError:
                count = self._read_unless_there(view[:READ_BYTES], position)
        self.seek(position + count)
        return count

    def read(self, size: int | None = -1) -> bytes:
        """Read up to `size` bytes; all the rest when it is negative or None."""
        if size is None or size < 0:
            return self.readall()
        data = bytearray(size)
        with memoryview(data) as view:
            count = self.readinto(view)
        return bytes(data[:count])

    def readall(self) -> bytes:
        """Read all the rest."""
        return b"".join(iter(lambda: self.read(READ_BYTES), b""))

    def _read_unless_there(self, view: memoryview, position: int) -> int:
        """Read where RWF_NOWAIT is refused, as on overlayfs: mincore(2) sees through that.

        Of a file that this user may not write it says that all is there, so that all stays.
        """
        there = kernel.resident(self.fileno(), position, position + len(view))
        count = os.preadv(self.fileno(), [view], position)
        if there == 0:
            self._brought_in(position, position + count)
        return count

    def close(self) -> None:
        """Drop what is left to drop, and close the file. May be repeated."""
        if not self.closed:
            self._drop()
        super().close()

    def _brought_in(self, start: int, end: int) -> None:
        if self._ours and self._ours[1] != start:
            self._drop()
        if not self._ours:
            self._ours = [start, end]
        self._ours[1] = end
        if end - self._ours[0] >= DROP_BYTES:
            self._drop()

    def _drop(self) -> None:
        if self._ours:
            start, end = self._ours
            # The kernel drops whole pages only: the one that the cursor stands in comes with the next stretch.
            with suppress(OSError):
                kernel.forget(self.fileno(), start, end)
            self._ours = []
