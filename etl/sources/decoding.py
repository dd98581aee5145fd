"""Compression, told by a file's first bytes and not by its name: none, gzip, zip, zstd.

All members of a gzip file are read, and all frames of a zstd file; zeros after the last gzip member are padding
(RFC 1952 says nothing of them, tapes and object stores leave them), anything else after it is damage. A stream
that ends too early is always an error, never an end.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO, Any, Literal, Protocol

Compression = Literal["none", "gzip", "zip", "zstd"]

_MAGIC: dict[bytes, Compression] = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",  # one without members
    b"\x28\xb5\x2f\xfd": "zstd",
}
_NOT_READ = {b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x04\x22\x4d\x18": "lz4"}
# Decompressed at once where nothing is decoded; and how often that is done between two looks up.
_PASSED = 1 << 18
_STEPS = 16


class Damaged(Exception):
    """What is stored cannot be decoded; whoever knows the place makes a `SourceError` of it."""


class Readable(Protocol):
    """What bytes are read from."""

    def read(self, size: int, /) -> bytes:
        """Return the next `size` bytes, less at the end alone."""
        ...


class Stream:
    """The content of one file, decompressed, read from its beginning to its end.

    Args:
        file: what is read; `read(n)` returns less than `n` bytes at the end alone.
        compression: what it is read through; only `none` is entered by a seek.
        damage: what `file` raises when its content is damaged.
    """

    def __init__(self, file: Any, compression: Compression, damage: tuple[type[Exception], ...]) -> None:
        self._file: Readable = file
        self._seek: Callable[[int], object] | None = file.seek if compression == "none" else None
        self._damage = damage
        self._ahead = b""
        self.compression = compression

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

    def go_to(self, offset: int) -> Iterator[None]:
        """Go to `offset`, before anything was taken, or to the end where that comes first.

        Costs one seek in a plain file. A compressed one is decompressed up to there, which costs a tenth of decoding
        its records; this yields now and then, so that whoever waits for it may leave.
        """
        if self._seek is not None:
            self._ahead = b""
            self._seek(offset)
            return
        steps = 0
        while offset and (passed := self.read(min(offset, _PASSED))):
            offset -= len(passed)
            steps += 1
            if steps % _STEPS == 0:
                yield

    def _read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except self._damage as error:
            raise Damaged(reason(error, self.compression)) from error


@contextmanager
def decompressed(
    file: IO[bytes], compression: Compression | None, *, within: str | None = None
) -> Iterator[Stream]:
    """Open the content of `file`: of a file, or of a member of an archive.

    Args:
        file: a binary file at its beginning that can `peek`; it stays open.
        compression: how it is compressed; None: as its first bytes say.
        within: what kind of archive it is a member of; None: of none.

    Raises:
        Damaged: it is compressed in a way that is not read here.
    """
    kind = compression or compression_of(first_bytes(file))
    if kind == "gzip":
        opened, damage = _gzip(file)
        with opened as content:
            yield Stream(content, kind, damage)
    elif kind == "zstd":
        import zstandard

        frames = ZstdFrames(file, zstandard.ZstdDecompressor().decompressobj)
        yield Stream(frames, kind, (EOFError, OSError, zstandard.ZstdError))
    else:
        # a zip file within another content is left as it is: only a workbook is read from it
        through: Compression = kind if within is None else "zip"
        yield Stream(file, through, (OSError, EOFError, zlib.error, zipfile.BadZipFile))


def compression_of(head: bytes) -> Compression:
    """Tell the compression by the first bytes of a file.

    Raises:
        Damaged: it is one that is not read here.
    """
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    # frames that hold no data but may come first (RFC 8878, section 3.1.2)
    if head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F:
        return "zstd"
    for magic, name in _NOT_READ.items():
        if head.startswith(magic):
            raise Damaged(f"it is compressed with {name}, which is not read: make it gzip, zstd or plain")
    return "none"


def first_bytes(file: IO[bytes]) -> bytes:
    """Return the first bytes of a file that has just been opened, without taking them."""
    return file.peek(8)[:8]  # type: ignore[attr-defined,no-any-return]  # binary files and zip members have it


class ZstdFrames:
    """Reads all frames of a zstd file, and knows an end from a file that was cut short.

    `zstandard`'s own stream reader takes a file that ends in the middle of a frame for a whole one (0.25.0).

    Args:
        file: the compressed file.
        frame: makes an object that decompresses one frame.
    """

    _LEAST, _MOST = 1 << 9, 1 << 16

    def __init__(self, file: Readable, frame: Callable[[], Any]) -> None:
        self._file = file
        self._new_frame = frame
        self._frame: Any = None
        self._input = b""
        self._output = bytearray()
        self._step = 1 << 12

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, or less at the end.

        Raises:
            EOFError: the file ends in the middle of a frame.
        """
        while len(self._output) < size:
            data = self._input or self._file.read(self._step)
            if not data:
                if self._frame is not None:
                    raise EOFError("it ends in the middle of a zstd frame")
                break
            frame = self._frame or self._new_frame()
            out = frame.decompress(data)
            self._output += out
            self._input, self._frame = (frame.unused_data, None) if frame.eof else (b"", frame)
            # A step's output is not bounded by the library, and one record over and over shrinks to a
            # ten-thousandth: take less at once where a little makes much.
            if len(out) > self._MOST:
                self._step = max(self._step // 4, self._LEAST)
            elif len(out) < self._MOST // 4:
                self._step = min(self._step * 2, self._MOST)
        taken = bytes(self._output[:size])
        del self._output[:size]
        return taken


def _gzip(file: IO[bytes]) -> tuple[AbstractContextManager[Any], tuple[type[Exception], ...]]:
    """Open a gzip file with isal, which is three times as fast, or without it."""
    damage: tuple[type[Exception], ...] = (OSError, EOFError, zlib.error)
    try:
        from isal import igzip, isal_zlib
    except ImportError:
        import gzip

        return gzip.GzipFile(fileobj=file), damage
    opened: AbstractContextManager[Any] = igzip.IGzipFile(fileobj=file)  # type: ignore[no-untyped-call]
    return opened, (*damage, isal_zlib.error)  # type: ignore[arg-type]  # its stub calls it an instance


def reason(error: Exception, compression: str) -> str:
    """Say what an error means that was raised when something compressed was read."""
    said = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.errno is not None:
        return f"it cannot be read ({said})"
    if isinstance(error, EOFError):
        return f"it is cut short ({said})"
    if compression == "none":
        return said
    return f"it is no whole {compression} file: it is damaged or cut short ({said})"
