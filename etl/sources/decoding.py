"""A file's content as a stream: decompressed, however often, as its first bytes say and not its name."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any

from etl.sources import compressions
from etl.sources.bounds import UNLIMITED
from etl.sources.compressions import Compression, Readable, compression_of
from etl.sources.refusals import Damaged, Refused

# Decompressed at once where nothing is decoded; and how often that is done between two looks up.
_PASSED = 1 << 18
_STEPS = 16
# How often a content may be compressed: twice happens by mistake, more is done to fill a disk.
_DEEPEST = 4
_MAGIC_BYTES = 10


def never() -> bool:
    """Say that nothing more comes: of an object in a bucket, a member of an archive, what a server sent."""
    return False


class Stream:
    """The content of one file, decompressed, read from its beginning to its end.

    Args:
        file: what is read; `read(n)` returns less than `n` bytes at the end alone.
        compression: what it is read through last, for messages.
        damage: what `file` raises when its content is damaged.
        plain: the file is not compressed: what is read of it are its own bytes, and there may be more some day.
        entered: whether it is entered by a seek.
        window: how many bytes its decompressor may hold, for messages.

    Attributes:
        leading: of a member, a crc32c of what stands before it in its archive.
        grows: says, at its end, whether more of it may come, so that what has no end there may be half of a record.
    """

    def __init__(
        self,
        file: Any,
        compression: Compression,
        damage: tuple[type[Exception], ...],
        *,
        plain: bool = False,
        entered: bool = False,
        window: int = UNLIMITED.window,
    ) -> None:
        self._file: Readable = file
        self._seek: Callable[[int], object] | None = file.seek if entered else None
        self._compression = compression
        self._damage = damage
        self._ahead = b""
        self._window = window
        self.plain = plain
        self.entered = entered
        self.leading = 0
        self.grows: Callable[[], bool] = never

    def peek(self, size: int) -> bytes:
        """Return the next `size` bytes, or as many as there are, without taking them."""
        if len(self._ahead) < size:
            self._ahead += self._read(size - len(self._ahead))
        return self._ahead[:size]

    def read(self, size: int) -> bytes:
        """Take the next `size` bytes; less at the end alone.

        Raises:
            Damaged: they cannot be decoded.
        """
        if not self._ahead:
            return self._read(size)
        taken, self._ahead = self._ahead[:size], self._ahead[size:]
        return taken if len(taken) == size else taken + self._read(size - len(taken))

    def readinto(self, buffer: memoryview) -> int:
        """Fill `buffer`, or less of it at the end: isal reads so."""
        taken = self.read(len(buffer))
        buffer[: len(taken)] = taken
        return len(taken)

    def go_to(self, offset: int) -> None:
        """Go to `offset` by a seek, before anything was taken; of a stream that is entered so."""
        assert self._seek is not None
        self._ahead = b""
        self._seek(offset)

    def pass_over(self, size: int, take: Callable[[bytes], object]) -> Iterator[None]:
        """Read the next `size` bytes, or to the end where that comes first, and hand them to `take`.

        A compressed stream is decompressed for it, which costs a tenth of decoding its records; this yields now and
        then, so that a caller who waits for it may leave.
        """
        steps = 0
        while size and (passed := self.read(min(size, _PASSED))):
            take(passed)
            size -= len(passed)
            steps += 1
            if steps % _STEPS == 0:
                yield

    def _read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except self._damage as error:
            raise compressions.damaged(error, self._compression, self._window) from error


@contextmanager
def decompressed(
    file: IO[bytes],
    compression: Compression | None,
    *,
    within: str | None = None,
    window: int = UNLIMITED.window,
) -> Iterator[Stream]:
    """Open the content of `file`: of a file, or of a member of an archive.

    Args:
        file: a binary file at its beginning that can `peek`; it stays open.
        compression: how it is compressed; None: as its first bytes say. What is compressed within that is always
            told by its first bytes. A zip file is left as it is.
        within: what kind of archive it is a member of; None: of none.
        window: how many bytes a decompressor may hold of what it has written.

    Raises:
        Damaged: it is not compressed as `compression` says, or it is damaged.
        Refused: it is compressed too often.
    """
    damage: tuple[type[Exception], ...] = (OSError, EOFError)
    if within is not None:
        damage = (*damage, zlib.error, zipfile.BadZipFile, lzma.LZMAError)
    try:
        head = first_bytes(file)
    except damage as error:
        raise compressions.damaged(error, "none" if within is None else "zip") from error
    kind = compression_of(head)
    if compression is not None and kind != compression and head:
        if compression != "none":
            raise Damaged(
                f"it is no {compression} file, as `compression` says it is: it begins with {head[:4]!r}",
                "Leave `compression` out, or correct it",
            )
        if kind != "zip":
            raise Refused(
                kind, f"it is {kind}, and `compression` says that it is not", "leave `compression` out"
            )
        kind = "none"
    plain = kind in ("none", "zip") and within is None
    stream = Stream(file, "none" if within is None else "zip", damage, plain=plain, entered=plain)
    inner: Any = file  # as it is, since it knows best how much to read at once
    with ExitStack() as stack:
        depth = 0
        while kind not in ("none", "zip"):
            depth += 1
            if depth > _DEEPEST:
                raise Refused(kind, f"it is compressed more than {_DEEPEST} times over", "unpack it")
            opened, damage = compressions.layer(inner, kind, window)
            inner = stream = Stream(stack.enter_context(opened), kind, damage, window=window)
            kind = compression_of(stream.peek(_MAGIC_BYTES))
        yield stream


def first_bytes(file: IO[bytes]) -> bytes:
    """Return the first bytes of a file that has just been opened, without taking them."""
    return file.peek(_MAGIC_BYTES)[:_MAGIC_BYTES]  # type: ignore[attr-defined,no-any-return]  # binary files and zip members have it
