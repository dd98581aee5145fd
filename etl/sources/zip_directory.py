"""How much memory the directory of a zip file would take: `zipfile` reads all of it, and keeps each member.

By APPNOTE 6.3.10: 4.3.16, the end of central directory record; 4.3.14 and 4.3.15, those of zip64; 4.3.12, a member's.
"""

from __future__ import annotations

import os
import struct
from typing import IO

from etl.sources.bounds import shown
from etl.sources.refusals import Refused

_END, _END_SIZE, _LONGEST_COMMENT = b"PK\x05\x06", 22, (1 << 16) - 1
_END64, _LOCATOR64, _LOCATOR64_SIZE = b"PK\x06\x06", b"PK\x06\x07", 20
_END64_SIZE = 56
_MEMBER = b"PK\x01\x02"
_IN_ZIP64 = 0xFFFFFFFF
# What `zipfile` keeps of a member (CPython 3.11, measured: 550 bytes), and how often it has what is written of it.
_OF_MEMBER, _COPIES = 600, 3
_PIECE = 1 << 16


def see_that_it_fits(file: IO[bytes], most: int) -> None:
    """See that the directory of a zip file fits into memory; what is no zip file is told by who opens it.

    Args:
        file: it can `seek`; it is at its beginning again on return.
        most: how many bytes of memory it may take.

    Raises:
        Refused: it would take more.
    """
    file.seek(0, os.SEEK_END)
    begin, size = _directory(file, file.tell())
    if _COPIES * size + _OF_MEMBER * (size // 46) > most:  # each takes 46 bytes at least
        members = _members(file, begin, size)
        if (needed := _COPIES * size + _OF_MEMBER * members) > most:
            raise Refused(
                "zip",
                f"it has {members} members, a directory of which takes {shown(needed)} in memory, and {shown(most)} "
                "may be taken here",
                "give the job more memory (a third of it may be taken), or unpack it, and pack it again as tar.gz, "
                "which is read from front to back",
            )
    file.seek(0)


def _directory(file: IO[bytes], length: int) -> tuple[int, int]:
    """Return where the directory begins and its size, as the end of the file says; sizes are trusted no further."""
    tail_at = max(length - _END_SIZE - _LONGEST_COMMENT, 0)
    file.seek(tail_at)
    tail = file.read(length - tail_at)
    at = tail.rfind(_END)
    if at < 0 or len(tail) < at + _END_SIZE:
        return 0, 0
    size = struct.unpack_from("<I", tail, at + 12)[0]
    end = tail_at + at
    if size == _IN_ZIP64 or tail[max(at - _LOCATOR64_SIZE, 0) :].startswith(_LOCATOR64):
        file.seek(max(end - _LOCATOR64_SIZE - _END64_SIZE, 0))
        found = file.read(_END64_SIZE)
        if found.startswith(_END64) and len(found) == _END64_SIZE:
            size = struct.unpack_from("<Q", found, 40)[0]
            end -= _LOCATOR64_SIZE + _END64_SIZE
    size = min(size, end)
    return end - size, size


def _members(file: IO[bytes], begin: int, size: int) -> int:
    """Count the members of a directory, in constant memory."""
    file.seek(begin)
    members = 0
    rest = b""
    while size and (piece := file.read(min(size, _PIECE))):
        size -= len(piece)
        text = rest + piece
        members += text.count(_MEMBER)
        rest = text[-3:]
    return members
