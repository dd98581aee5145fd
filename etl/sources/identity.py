"""What tells whether a file is still the one that was read: running crc32cs of its bytes, and a file that keeps them.

A cursor holds some of them: after the first bytes, some way before the last byte, and after that byte. Each goes on
from the one before, so that the first bytes and the last ones can be compared by themselves, or all of them, and each
byte is taken in once.

Of a text that is being read they end where the cursor is: what comes after may be corrected before it is read. Of a
file that was read to its end, and of one that is not read front to back, they are those of the whole file.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Literal, Protocol, cast

import msgspec

from sinks import checksum

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# How much of a file's beginning, and of what was read last, is compared at the least, in bytes.
WINDOW = 64 << 10
# Up to here all that was read is compared, in bytes: it costs milliseconds.
ALL_OF = 8 << 20
_PIECE = 256 << 10
_STEPS = 64


class Seen(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What was read of a file, as crc32cs. It is a part of a cursor.

    Attributes:
        of: `file`: of the file's own bytes, as far as they were read; `start`: of its own bytes before the cursor;
            `text`: of what it, or a member of it, is decompressed and decoded to, before the cursor.
        head: the first bytes: up to here.
        head_crc: theirs.
        since: where the last bytes begin.
        since_crc: that of all before; 0 where `apart`.
        next: where the last bytes will begin when there are enough of them.
        next_crc: that of all before.
        upto: the bytes that were read: up to here; where `apart`, the file's size.
        crc: theirs, which goes on from `since_crc`.
        apart: the file was not read front to back, so that only its first and last bytes are known.
    """

    of: Literal["file", "start", "text"] = "file"
    head: int = 0
    head_crc: int = 0
    since: int = 0
    since_crc: int = 0
    next: int = 0
    next_crc: int = 0
    upto: int = 0
    crc: int = 0
    apart: bool = False

    def add(self, data: bytes | memoryview) -> None:
        """Take in what follows."""
        crc = self.crc = checksum.extend(self.crc, data)
        upto = self.upto = self.upto + len(data)
        if self.head < WINDOW and self.head + len(data) == upto:
            self.head, self.head_crc = upto, crc
        if upto - self.next >= WINDOW:
            self.since, self.since_crc = self.next, self.next_crc
            self.next, self.next_crc = upto, crc


class Trace:
    """Takes in what is read of a file, front to back; what was taken in before may come again.

    Args:
        seen: what an earlier run read; it is moved on.
        on_gap: called once when something is read that does not follow; None: nothing more is taken in.
    """

    def __init__(self, seen: Seen, on_gap: Callable[[], None] | None = None) -> None:
        self.seen = seen
        self._on_gap = on_gap
        self._ended = seen.apart

    def add(self, position: int, data: bytes | memoryview) -> None:
        """Take in what came from `position` on."""
        seen = self.seen
        if self._ended or position + len(data) <= seen.upto:
            return
        if position > seen.upto:
            self._ended = seen.apart = True
            if self._on_gap is not None:
                self._on_gap()
            return
        seen.add(data[seen.upto - position :])


class RawFile(Protocol):
    """What is watched: a raw binary file, as in `io.RawIOBase`."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Read into `buffer`."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to an offset."""
        ...

    def seekable(self) -> bool:
        """Say whether it can."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class Watched(io.RawIOBase):
    """A raw file of which is noted what is read.

    Where it is not read front to back, as zip and Parquet files are not, its first and last bytes are noted, which
    tell what is in it: a zip file's directory has a CRC-32 of each member (APPNOTE.TXT, section 4.4.7), a Parquet
    file's footer the place, the size and mostly the least and the greatest value of each column.

    Args:
        raw: the file, at its beginning.
        seen: what an earlier run read of it; it is moved on.
    """

    def __init__(self, raw: RawFile, seen: Seen) -> None:
        super().__init__()
        self._raw = raw
        self._trace = Trace(seen, self._note_its_ends)
        self._at = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say what the file says."""
        return self._raw.seekable()

    def tell(self) -> int:
        """Return the offset of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to an offset."""
        self._at = self._raw.seek(offset, whence)
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read up to the length of `buffer` into it; return the number of bytes, 0 at the end."""
        with memoryview(buffer).cast("B") as view:
            count = self._raw.readinto(view) or 0
            begin, self._at = self._at, self._at + count
            with view[:count] as piece:
                self._trace.add(begin, piece)
        return count

    def close(self) -> None:
        """Close the file. May be repeated."""
        if not self.closed:
            self._raw.close()
        super().close()

    def _note_its_ends(self) -> None:
        seen = self._trace.seen
        size = self._raw.seek(0, io.SEEK_END)
        if not seen.head:
            seen.head, seen.head_crc = self._crc(0, min(WINDOW, size))
        seen.since, seen.since_crc = max(size - WINDOW, 0), 0
        seen.upto, seen.crc = self._crc(seen.since, size)
        self._raw.seek(self._at)

    def _crc(self, begin: int, end: int) -> tuple[int, int]:
        self._raw.seek(begin)
        crc = 0
        with memoryview(bytearray(WINDOW)) as buffer:
            while begin < end and (count := self._raw.readinto(buffer[: end - begin])):
                crc = checksum.extend(crc, buffer[:count])
                begin += count
        return begin, crc


def watched(raw: RawFile, buffer: int, seen: Seen) -> IO[bytes]:
    """Return a file, read through a buffer of so many bytes, of which is noted in `seen` what is read."""
    return cast(IO[bytes], io.BufferedReader(Watched(raw, seen), buffer))


class Comparison:
    """Reads a file again and compares; iterate over it, which steps now and then, so that a caller who waits may leave.

    Args:
        file: it can be read and sought in.
        seen: what was read of it.
        whole: compare all that was read; else its first and last bytes, unless it is little.

    Attributes:
        same: whether it is the same, when the iteration is over.
    """

    def __init__(self, file: IO[bytes], seen: Seen, *, whole: bool) -> None:
        self._file = file
        self._seen = seen
        self._whole = (whole or seen.upto <= ALL_OF) and not seen.apart
        self.same = False

    def __iter__(self) -> Iterator[None]:
        """Compare."""
        seen = self._seen
        stretches = [(0, seen.head, 0, seen.head_crc), (seen.since, seen.upto, seen.since_crc, seen.crc)]
        if self._whole:
            stretches[1:1] = [(seen.head, seen.since, seen.head_crc, seen.since_crc)]
            if seen.since < seen.head:
                stretches[1:] = [(seen.head, seen.upto, seen.head_crc, seen.crc)]
        for begin, end, before, after in stretches:
            self._file.seek(begin)
            steps = 0
            while begin < end and (data := self._file.read(min(_PIECE, end - begin))):
                before = checksum.extend(before, data)
                begin += len(data)
                steps += 1
                if steps % _STEPS == 0:
                    yield
            if begin < end or before != after:
                return
        self._file.seek(0)
        self.same = True
