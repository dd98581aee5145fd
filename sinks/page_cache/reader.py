"""The reader: drops what it has read from the page cache, behind its own cursor."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sinks.errors import PartLost
from sinks.local_files import OpenFile, explained
from sinks.page_cache import kernel, transit

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# What is read in one piece when all the rest is asked for.
PIECE = 1024 * 1024

# What was read is dropped in stretches of this size, and what comes next is asked for in such. The kernel's own
# readahead would hold as much as the disk's driver likes: 16 MiB with a read_ahead_kb of 8192.
STRETCH = 2 * 1024 * 1024


def open_for_reading(path: str | os.PathLike[str], start: int = 0, end: int | None = None) -> FileReader:
    """Open the bytes of a file from `start` up to, not including, `end`; None: up to its end as it is now.

    Raises:
        PartLost: the file has fewer bytes than that, or is missing.
        SinkError: it cannot be opened.
    """
    where = Path(path).absolute()
    with explained("open", where):
        try:
            file = OpenFile.existing(where, os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise PartLost(f"{where} is missing; put it back, or write its part again") from error
    size = file.size
    if end is not None and size < end:
        raise PartLost(
            f"{where} has {size:,} bytes where {end:,} were sealed; put it back, or write it again"
        )
    if end is None:
        end = size
    return FileReader(file, start, max(start, end))


class FileReader(io.RawIOBase):
    """A byte range of a file as a raw binary file of its own: readable, seekable, offsets from 0.

    What was read is dropped from the page cache, so the file must be one of our own: with those of others,
    pages would go that others need (for those there is `open_guest`). Pages that are not written back stay.

    Args:
        file: where to read; closed with this reader.
        start: the offset of the first byte.
        end: the offset after the last byte.
    """

    def __init__(self, file: OpenFile, start: int, end: int) -> None:
        super().__init__()
        self._file = file
        self._start = start
        self._length = end - start
        self._position = 0
        self._touched = False  # whether anything was read
        self._asked = start  # the offset in the file up to which the disk was asked for what comes next
        self._ahead = STRETCH  # how much more is asked for than is wanted; nothing right after a seek
        kernel.advise_random(file.descriptor)
        self._kept = start  # the offset in the file from which on what was read is not dropped yet

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the offset in bytes, from the start of the range, of the next read."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the next read to `offset` bytes from the start, from here, or from the end of the range."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}
        if whence not in base:
            raise ValueError(f"whence is {whence}; it must be 0 (start), 1 (here) or 2 (end)")
        if base[whence] + offset < 0:
            raise ValueError(f"cannot seek to {base[whence] + offset}: that is before the start")
        self._position = base[whence] + offset
        self._kept = min(self._kept, self._at())
        self._asked, self._ahead = self._at(), 0
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read up to the length of `buffer` into it; return the number of bytes, 0 at the end."""
        self._open()
        with memoryview(buffer).cast("B") as view:
            wanted = min(len(view), max(0, self._length - self._position))
            self._ask_ahead(wanted)
            with explained("read", self._file.path):
                count = _read_into(self._file.descriptor, view[:wanted], self._at()) if wanted else 0
        return self._advance(count, wanted)

    def read(self, size: int | None = -1) -> bytes:
        """Read up to `size` bytes; all the rest when it is negative or None."""
        if size is None or size < 0:
            return self.readall()
        self._open()
        wanted = min(size, max(0, self._length - self._position))
        self._ask_ahead(wanted)
        with explained("read", self._file.path):
            data = os.pread(self._file.descriptor, wanted, self._at()) if wanted else b""
        self._advance(len(data), wanted)
        return data

    def readall(self) -> bytes:
        """Read all the rest."""
        return b"".join(iter(lambda: self.read(PIECE), b""))

    def drop(self) -> int:
        """Drop all of the range now, and return how many of its bytes are cached still."""
        end = self._start + self._length
        self._drop(self._start, end)
        return kernel.resident(self._file.descriptor, self._start, end) or 0

    def close(self) -> None:
        """Drop what is left to drop, and close the file. May be repeated."""
        if self._file.descriptor >= 0 and self._touched:
            self._drop(self._start, self._start + self._length)
        self._file.close()
        super().close()

    def _open(self) -> None:
        if self.closed:
            raise ValueError(f"{self._file.path} is closed for reading")

    def _at(self) -> int:
        return self._start + self._position

    def _ask_ahead(self, wanted: int) -> None:
        """Let the disk bring in what is wanted now and, when bytes are read in a row, the stretch after it."""
        end = min(self._at() + wanted + self._ahead, self._start + self._length)
        self._ahead = STRETCH
        while end - self._asked >= STRETCH or self._asked < end == self._start + self._length:
            kernel.bring_in(self._file.descriptor, self._asked, min(self._asked + STRETCH, end))
            self._asked += STRETCH

    def _advance(self, count: int, wanted: int) -> int:
        if wanted and not count:  # a short file must not pass for the end of the range
            raise PartLost(
                f"{self._file.path} ends at {self._at():,} bytes: somebody cut it while it was read"
            )
        self._position += count
        self._touched = True
        if self._at() - self._kept >= STRETCH:
            self._drop(self._kept, self._at())
            self._kept = self._at()
        return count

    def _drop(self, start: int, end: int) -> None:
        with suppress(OSError):  # advice: a file system that does not take it loses nothing
            if not transit.in_transit(self._file.descriptor):
                kernel.forget(self._file.descriptor, start, end)


def _read_into(descriptor: int, view: memoryview, position: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [view], position)
    data = os.pread(descriptor, len(view), position)
    view[: len(data)] = data
    return len(data)


def drop(path: str | os.PathLike[str]) -> None:
    """Write back what the page cache holds of one of our own files, and ask the kernel to forget it.

    Only for our own files: for another's it would evict pages that somebody needs. Where the system has
    no such call the pages stay.

    Raises:
        SinkError: the file cannot be opened, or writing it back failed.
    """
    where = Path(path).absolute()
    with explained("write back", where):
        file = OpenFile.existing(where, os.O_RDONLY)
        # Only clean pages are dropped, hence the sync before.
        getattr(os, "fdatasync", os.fsync)(file.descriptor)
        transit.leave(file.descriptor)
    with suppress(OSError):  # advice: a file system that does not take it loses nothing
        kernel.forget(file.descriptor, 0, None)
    file.close()
