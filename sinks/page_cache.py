"""Files written and read in large pieces, with one place to decide what the page cache keeps of them.

Example:
    with sinks.page_cache.open_for_writing("big.ndjson") as file:
        for line in lines:
            file.write(line)
"""

from __future__ import annotations

import errno
import io
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from sinks.base import Data
from sinks.checksum import flat
from sinks.errors import PartLost, SinkError
from sinks.local_files import OpenFile, explained, make_directory, sync_directory

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Small writes are gathered up to this size, larger ones go straight through.
BUFFER = 256 * 1024


def open_for_writing(file: str | os.PathLike[str] | OpenFile, position: int = 0) -> FileWriter:
    """Open a file for writing from the byte `position` on.

    Args:
        file: a path, whose file is created if need be, and cut at `position`; or a file that is open
            already, which stays as it is and its opener's to close.
        position: the offset in bytes of the first write.

    Raises:
        SinkError: it cannot be opened.
    """
    if isinstance(file, OpenFile):
        return FileWriter(file, position, owned=False)
    path = Path(file).absolute()
    make_directory(path.parent)
    with explained("open", path):
        opened = OpenFile(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), path)
    opened.truncate(position)
    return FileWriter(opened, position, owned=True)


class FileWriter:
    """Writes bytes one after the other. As a context manager it syncs and closes at the end.

    After any error it is poisoned for good: what is in the file then is unknown, and every later call
    raises. `fsync` in particular is never tried again, because Linux reports a failed writeback only once.

    Args:
        file: where to write.
        position: the offset in bytes of the first write.
        owned: whether to close `file`, and to make its name durable in `sync`.
    """

    def __init__(self, file: OpenFile, position: int = 0, *, owned: bool = False) -> None:
        self._file = file
        self._owned = owned
        self._named = not owned
        self._written = position
        self._buffer = bytearray()
        self._poisoned = False
        self._closed = False

    @property
    def position(self) -> int:
        """The offset in bytes where the next write goes."""
        return self._written + len(self._buffer)

    def write(self, data: Data) -> int:
        """Take `data`, which is copied or written before the call returns; return its length in bytes.

        Raises:
            SinkFull: there is no space.
            SinkError: anything else, or an error before.
        """
        self._check()
        data = flat(data)
        if len(data) < BUFFER:
            self._buffer += data
            if len(self._buffer) >= BUFFER:
                self._flush()
        else:
            self._flush()
            self._put(data)
        return len(data)

    def sync(self) -> None:
        """Write what is still in memory, and make all of it durable.

        Raises:
            SinkFull: there is no space.
            SinkError: anything else, or an error before.
        """
        self._check()
        self._flush()
        try:
            self._file.sync()
            if not self._named:
                sync_directory(self._file.path.parent)
                self._named = True
        except BaseException:
            self._poisoned = True
            raise

    def close(self) -> None:
        """Write what is still in memory and close the file, if it is this writer's. May be repeated.

        Raises:
            SinkFull: there is no space.
            SinkError: anything else, or an error before; the file is closed all the same.
        """
        if self._closed:
            return
        try:
            self._check()
            self._flush()
        except BaseException:
            self.abandon()
            raise
        self._closed = True
        if self._owned:
            self._file.close()

    def abandon(self) -> None:
        """Drop what is still in memory and close the file, if it is this writer's; never raises."""
        self._closed = True
        self._buffer = bytearray()
        if self._owned:
            with suppress(SinkError):
                self._file.close()

    def _check(self) -> None:
        if self._poisoned:
            raise SinkError(
                f"an earlier write or sync of {self._file.path} failed, so what it holds is unknown; "
                "abort the part and write it anew"
            )
        if self._closed:
            raise ValueError(f"{self._file.path} is closed for writing")

    def _flush(self) -> None:
        if self._buffer:
            buffer, self._buffer = self._buffer, bytearray()
            self._put(buffer)

    def _put(self, data: Data) -> None:
        done = 0
        try:
            with explained("write to", self._file.path), memoryview(data) as view:
                while done < len(view):
                    count = os.pwrite(self._file.descriptor, view[done:], self._written + done)
                    if not count:  # must not be for a file; better an error than a loop without end
                        raise OSError(errno.EIO, "no byte was taken")
                    done += count
        except BaseException:
            self._poisoned = True
            raise
        self._written += done

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abandon()
            return
        try:
            self.sync()
            self.close()
        except BaseException:
            self.abandon()
            raise


def open_for_reading(path: str | os.PathLike[str], start: int = 0, end: int | None = None) -> FileReader:
    """Open the bytes of a file from `start` up to, not including, `end`; None: up to its end as it is now.

    Raises:
        PartLost: the file has fewer bytes than that, or is missing.
        SinkError: it cannot be opened.
    """
    where = Path(path).absolute()
    with explained("open", where):
        try:
            file = OpenFile(os.open(where, os.O_RDONLY | os.O_CLOEXEC), where)
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
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read up to the length of `buffer` into it; return the number of bytes, 0 at the end."""
        self._open()
        with memoryview(buffer).cast("B") as view:
            wanted = min(len(view), max(0, self._length - self._position))
            with explained("read", self._file.path):
                count = os.preadv(self._file.descriptor, [view[:wanted]], self._at()) if wanted else 0
        return self._advance(count, wanted)

    def read(self, size: int | None = -1) -> bytes:
        """Read up to `size` bytes; all the rest when it is negative or None."""
        if size is None or size < 0:
            return self.readall()
        self._open()
        wanted = min(size, max(0, self._length - self._position))
        with explained("read", self._file.path):
            data = os.pread(self._file.descriptor, wanted, self._at()) if wanted else b""
        self._advance(len(data), wanted)
        return data

    def readall(self) -> bytes:
        """Read all the rest."""
        return b"".join(iter(lambda: self.read(4 * BUFFER), b""))

    def close(self) -> None:
        """Close the file. May be repeated."""
        self._file.close()
        super().close()

    def _open(self) -> None:
        if self.closed:
            raise ValueError(f"{self._file.path} is closed for reading")

    def _at(self) -> int:
        return self._start + self._position

    def _advance(self, count: int, wanted: int) -> int:
        if wanted and not count:  # a short file must not pass for the end of the range
            raise PartLost(
                f"{self._file.path} ends at {self._at():,} bytes: somebody cut it while it was read"
            )
        self._position += count
        return count


def drop(path: str | os.PathLike[str]) -> None:
    """Write back what the page cache holds of one of our own files, and ask the kernel to forget it.

    Only for our own files: for another's it would evict pages that somebody needs. Where the system has
    no such call the pages stay.

    Raises:
        SinkError: the file cannot be opened, or writing it back failed.
    """
    where = Path(path).absolute()
    with explained("write back", where):
        file = OpenFile(os.open(where, os.O_RDONLY | os.O_CLOEXEC), where)
        # Only clean pages are dropped, hence the sync before.
        getattr(os, "fdatasync", os.fsync)(file.descriptor)
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):  # advice: a file system that does not take it loses nothing
            os.posix_fadvise(file.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    file.close()
