"""Tar archives, streamed from front to back.

Their headers are those of ustar and pax (POSIX.1-2024, pax, "ustar Interchange Format"), of GNU tar with its long
names (its manual, "Basic Tar Format"), and of Unix Version 7, before them all.

An archive ends with two blocks of zeros. One that ends without any was cut short; what follows them is read on, as
`tar --ignore-zeros` does: archives may be put one behind the other.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from etl.sources.archives import Member
from etl.sources.decoding import Stream
from etl.sources.refusals import Damaged, Refused
from sinks import checksum

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK = 512
_AGAIN = "Fetch it again, or wait until its writer is done"
_ZEROS = bytes(BLOCK)
# Passed over at once, and how often that is done between two looks up.
_PASSED = 1 << 18
_STEPS = 16
# An extended header is held in memory; a path of Linux has 4096 bytes at most.
_LONGEST_HEADER = 1 << 20
# Names are remembered to find two that are the same, no more than these: some 10 MB.
_NAMES = 1 << 17


def is_tar(head: bytes) -> bool:
    """Say whether the first 512 bytes of a content are a tar header: its magic, or its checksum, tells."""
    if len(head) < BLOCK:
        return False
    return head[257:262] == b"ustar" or (head[:BLOCK] != _ZEROS and _header(head[:BLOCK]) is not None)


class Tar:
    """The members of a tar archive, to be read in their order.

    Args:
        stream: the archive, decompressed.
    """

    kind: ClassVar[str] = "tar archive"
    at_random: ClassVar[bool] = False

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._left = 0  # bytes of the member that were not read yet, the padding after it too
        self._names: set[int] = set()
        self.leading = 0

    def members(self) -> Iterator[Member | None]:
        """Yield the members that are files, links among them; None now and then while one is passed over.

        Raises:
            Damaged: it is no whole archive; `Refused`: it holds what is not read here.
        """
        ended = False
        long_name: str | None = None
        pax: dict[str, str] = {}
        while True:
            yield from self._pass()
            block = self._stream.read(BLOCK)
            if block == _ZEROS:
                ended = True
                continue
            if not block and ended:
                return
            if len(block) < BLOCK:
                raise Damaged(
                    "it is a tar archive that is cut short: it ends without the zeros of its end", _AGAIN
                )
            info = _header(block)
            if info is None:
                raise Damaged("it is a tar archive with a damaged header: the checksum of one does not fit")
            ended = False
            if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                pax = _records(self._extension(info))
                continue
            if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE):
                text = self._extension(info)
                if info.type == tarfile.GNUTYPE_LONGNAME:
                    long_name = _text(text.partition(b"\0")[0])
                continue
            name = pax.get("path") or long_name or info.name
            size = int(pax["size"]) if pax.get("size", "").isdecimal() else info.size
            if info.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse.") for key in pax):
                raise Refused(
                    "tar", f"its member {name} is stored with holes (sparse), which is not read", "unpack it"
                )
            pax, long_name = {}, None
            if info.isreg() or info.type not in tarfile.SUPPORTED_TYPES:
                yield self._member(name, size)
            elif info.islnk() or info.issym():
                yield Member(name.removeprefix("./"), None)

    def _member(self, name: str, size: int) -> Member:
        name = name.removeprefix("./")
        if hash(name) in self._names:
            raise Refused("tar", f"two of its members are called {name!r}", "unpack it, or pack it again")
        if len(self._names) < _NAMES:
            self._names.add(hash(name))
        self._left = -(-size // BLOCK) * BLOCK
        # not its size, nor when it was changed: those are others where something is corrected further on in it
        self.leading = checksum.extend(self.leading, name.encode("utf-8", "surrogateescape"))
        return Member(name, lambda: io.BufferedReader(_Content(self, name, size)))

    def take(self, size: int, name: str) -> bytes:
        """Read bytes of the member that was yielded last.

        Raises:
            Damaged: there are not as many.
        """
        data = self._stream.read(size)
        self.leading = checksum.extend(self.leading, data)
        self._left -= len(data)
        if len(data) < size:
            raise Damaged(f"it is a tar archive that is cut short, within its member {name}", _AGAIN)
        return data

    def _pass(self) -> Iterator[None]:
        """Go to the end of the member."""
        steps = 0
        while self._left:
            self.take(min(self._left, _PASSED), "that it ends in")
            steps += 1
            if steps % _STEPS == 0:
                yield None

    def _extension(self, info: tarfile.TarInfo) -> bytes:
        """Read a header that says more of the member after it."""
        if not 0 <= info.size <= _LONGEST_HEADER:
            raise Damaged("it is a tar archive with a damaged header: one is longer than 1 MiB")
        self._left = -(-info.size // BLOCK) * BLOCK
        leading = self.leading
        data = self.take(info.size, info.name)
        self.leading = leading
        return data


class _Content(io.RawIOBase):
    """The bytes of the member that was yielded last."""

    def __init__(self, tar: Tar, name: str, size: int) -> None:
        self._tar = tar
        self._name = name
        self._size = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        with memoryview(buffer).cast("B") as view:
            data = self._tar.take(min(len(view), self._size), self._name)
            view[: len(data)] = data
        self._size -= len(data)
        return len(data)


def _header(block: bytes) -> tarfile.TarInfo | None:
    """Decode a header; None: its checksum does not fit. Names that are no UTF-8 are escaped, as a cursor is JSON."""
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
    except tarfile.HeaderError:
        return None
    return info if info.size >= 0 else None


def _records(data: bytes) -> dict[str, str]:
    """Decode the records of a pax header: `length keyword=value`, the length in bytes, that of all of it."""
    records = {}
    while data.strip(b"\0"):
        length = data.partition(b" ")[0]
        if not length.isdigit() or not len(length) + 2 <= int(length) <= len(data):
            raise Damaged("it is a tar archive with a damaged pax header")
        keyword, equals, value = data[len(length) + 1 : int(length) - 1].partition(b"=")
        if not equals:
            raise Damaged("it is a tar archive with a damaged pax header")
        records[_text(keyword)] = _text(value)
        data = data[int(length) :]
    return records


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
