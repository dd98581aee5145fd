"""Members of a zip file that are packed by bzip2 or LZMA, a bounded step at a time.

Python's `zipfile` (3.11 to 3.14) bounds what it unpacks at once of deflated members alone: of the others it unpacks
all that a piece of some KiB holds, which may be gigabytes of zeros.
"""

from __future__ import annotations

import bz2
import copy
import io
import lzma
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Any

from etl.sources.bounds import shown
from etl.sources.refusals import Refused

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

METHODS = (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)

_STEP = 1 << 16
# APPNOTE 6.3.10, 5.8.8: the version of the SDK, the size of the properties, which are 5 bytes.
_LZMA_HEADER, _LZMA_PROPERTIES = 4, 5


def opened(archive: zipfile.ZipFile, info: zipfile.ZipInfo, window: int) -> IO[bytes]:
    """Open a member.

    Args:
        archive: the zip file.
        info: the member, packed by one of `METHODS`.
        window: how many bytes its decompressor may hold.

    Raises:
        zipfile.BadZipFile: it is not where the directory says.
        Refused: its window is larger.
    """
    packed = copy.copy(info)
    packed.compress_type, packed.file_size = zipfile.ZIP_STORED, info.compress_size
    del packed.CRC  # that of what is unpacked
    raw = archive.open(packed)
    if info.compress_type == zipfile.ZIP_BZIP2:
        return io.BufferedReader(_Unpacked(raw, info, bz2.BZ2Decompressor()))
    return io.BufferedReader(_Unpacked(raw, info, _lzma(raw, window)))


def _lzma(raw: IO[bytes], window: int) -> lzma.LZMADecompressor:
    header = raw.read(_LZMA_HEADER + _LZMA_PROPERTIES)
    if len(header) < _LZMA_HEADER + _LZMA_PROPERTIES or header[2:4] != b"\x05\x00":
        raise zipfile.BadZipFile("its LZMA properties are none")
    bits, dictionary = header[_LZMA_HEADER], int.from_bytes(header[_LZMA_HEADER + 1 :], "little")
    if dictionary > window:
        raise Refused(
            "zip",
            f"its LZMA data need a window of {shown(dictionary)} in memory, and {shown(window)} may be held of them "
            "here",
            "give the job more memory, or unpack it, and pack it again with deflate (zip -r NEW.zip .)",
        )
    # lzma-specification.txt of the LZMA SDK: (pb * 5 + lp) * 9 + lc
    filters: list[dict[str, Any]] = [
        {
            "id": lzma.FILTER_LZMA1,
            "dict_size": max(dictionary, 4096),
            "lc": bits % 9,
            "lp": bits // 9 % 5,
            "pb": bits // 45,
        }
    ]
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)


class _Unpacked(io.RawIOBase):
    """What a member holds, to its size as the directory says, where its checksum is compared."""

    def __init__(self, raw: IO[bytes], info: zipfile.ZipInfo, decompressor: Any) -> None:
        self._raw = raw
        self._decompressor = decompressor
        self._crc = zlib.crc32(b"")
        self._wanted = info.CRC
        self._left = info.file_size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        with memoryview(buffer).cast("B") as view:
            data = self._next(min(len(view), _STEP, self._left)) if self._left else b""
            view[: len(data)] = data
        self._left -= len(data)
        self._crc = zlib.crc32(data, self._crc)
        if not self._left and self._crc != self._wanted:
            raise zipfile.BadZipFile("Bad CRC-32")
        return len(data)

    def _next(self, size: int) -> bytes:
        while not self._decompressor.eof:
            packed = self._raw.read(_STEP) if self._decompressor.needs_input else b""
            if self._decompressor.needs_input and not packed:
                break
            if data := self._decompressor.decompress(packed, size):
                return bytes(data)
        raise EOFError(f"{self._left} bytes of it are missing")

    def close(self) -> None:
        self._raw.close()
        super().close()
