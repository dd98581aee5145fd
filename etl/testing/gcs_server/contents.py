"""Bytes on their way in: a request's body, and the file and the checksums that it becomes."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from etl.testing.gcs_server.answers import invalid
from sinks import checksum

# Read, hashed and written at a time: a multiple of the quantum below.
BLOCK = 1024 * 1024

# Resumable uploads are stored in multiples of this.
# Source: https://cloud.google.com/storage/docs/performing-resumable-uploads#chunked-upload
QUANTUM = 256 * 1024


class BodyBroken(Exception):
    """The connection ended inside of a body."""


class Body:
    """A request's body: of a known length, or in the chunks of HTTP/1.1 (`length` is None).

    It is read in one pass, and never held whole.
    """

    def __init__(self, stream: io.BufferedIOBase, length: int | None) -> None:
        self._stream = stream
        self.length = length
        self._left = 0 if length is None else length
        self._last_chunk_seen = length is not None

    def fill(self, view: memoryview) -> int:
        """Fill `view`; return fewer bytes than it holds only where the body ends.

        Raises:
            BodyBroken: the connection ended before the body did; its `args` hold how many bytes are in `view`.
        """
        filled = 0
        try:
            while filled < len(view) and self._more():
                got = self._stream.readinto(view[filled : filled + self._left])
                if not got:
                    raise EOFError
                filled += got
                self._left -= got
        except (OSError, EOFError, ValueError) as error:
            raise BodyBroken(filled) from error
        return filled

    def read_line(self) -> bytes:
        """Return the next line of a body of known length, with its end; empty where the body ends."""
        line = self._stream.readline(min(self._left, 64 * 1024))
        self._left -= len(line)
        return line

    def read(self, at_most: int) -> bytes:
        """Return the whole body.

        Raises:
            ApiError: 400, there are more bytes than `at_most`.
            BodyBroken: the connection ended first.
        """
        buffer = bytearray((at_most if self.length is None else min(self.length, at_most)) + 1)
        found = self.fill(memoryview(buffer))
        if found > at_most:
            raise invalid(f"The body is longer than {at_most} bytes.")
        return bytes(buffer[:found])

    def skip(self, count: int | None = None) -> None:
        """Read `count` bytes and drop them; None: all that is left.

        Raises:
            BodyBroken: the connection ended first.
        """
        if self.length is not None and not self._left:
            return  # the common case, not worth a buffer
        scrap = memoryview(bytearray(BLOCK))
        while count is None or count > 0:
            got = self.fill(scrap if count is None else scrap[:count])
            if not got:
                return
            count = None if count is None else count - got

    def _more(self) -> bool:
        """Whether there are bytes left; reads the head of the next chunk when one is due, or raises ValueError."""
        if self._left or self.length is not None:
            return self._left > 0
        if self._last_chunk_seen:
            return False
        head = self._stream.readline(1024)
        if head in (b"\r\n", b"\n"):  # the end of the chunk before
            head = self._stream.readline(1024)
        self._left = int(head.split(b";")[0], 16)
        if not self._left:
            self._last_chunk_seen = True
            while self._stream.readline(64 * 1024) not in (b"\r\n", b"\n", b""):
                pass  # trailers say nothing to this server
        return self._left > 0


@dataclass(frozen=True, slots=True)
class Expected:
    """The checksums that a client says its bytes have, in base64; None: it does not say."""

    crc32c: str | None = None
    md5: str | None = None

    @classmethod
    def of(cls, resource: Mapping[str, object], header: str | None) -> Expected:
        """Read them from an object's resource and from the header `x-goog-hash`, which wins.

        Raises:
            ApiError: 400, the header names another kind of checksum or cannot be read.
        """
        found = {"crc32c": resource.get("crc32c"), "md5": resource.get("md5Hash")}
        for entry in (header or "").split(","):
            kind, equals, value = entry.strip().partition("=")
            if not kind:
                continue
            if not equals or kind not in found:
                raise invalid(f"Invalid x-goog-hash header: {entry.strip()!r}.")
            found[kind] = value
        return cls(*(value if isinstance(value, str) else None for value in found.values()))

    def or_else(self, other: Expected) -> Expected:
        """Return these, and for what they do not say the others."""
        return Expected(self.crc32c or other.crc32c, self.md5 or other.md5)


class Checksums:
    """The running CRC-32C, and MD5 where it is wanted, of what was written."""

    def __init__(self, *, md5: bool) -> None:
        self._crc = 0
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None

    def update(self, view: memoryview) -> None:
        """Take the next bytes in."""
        self._crc = checksum.extend(self._crc, view)
        if self._md5:
            self._md5.update(view)

    @property
    def crc32c(self) -> str:
        """The CRC-32C in base64, big endian."""
        return base64.b64encode(self._crc.to_bytes(4, "big")).decode()

    @property
    def md5(self) -> str | None:
        """The MD5 in base64; None: not computed."""
        return base64.b64encode(self._md5.digest()).decode() if self._md5 else None

    def verify(self, expected: Expected, path: Path) -> None:
        """Raise when the bytes, which are also in the file `path`, are not those that were promised.

        Raises:
            ApiError: 400, a checksum does not match.
        """
        md5 = self.md5
        if expected.md5 and md5 is None:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).digest()
            md5 = base64.b64encode(digest).decode()
        for kind, promised, found in (("CRC32C", expected.crc32c, self.crc32c), ("MD5", expected.md5, md5)):
            if promised and promised != found:
                raise invalid(f'Provided {kind} "{promised}" doesn\'t match calculated {kind} "{found}".')


class Incoming:
    """A file that grows by blocks, with the checksums of what is in it; a context manager that closes it."""

    def __init__(self, path: Path, checksums: Checksums) -> None:
        self.path = path
        self.checksums = checksums
        # Unbuffered: blocks are large, and what was said to be stored must be in the file.
        self._file = path.open("ab", buffering=0)

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, view: memoryview) -> None:
        """Write all of `view` behind what is there."""
        self.checksums.update(view)
        written = 0
        while written < len(view):
            written += self._file.write(view[written:])
