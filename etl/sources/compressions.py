"""Compressions that are read: by what bytes each is told, what reads it, and what its errors mean.

All members of a gzip or bzip2 file are read, all streams of an xz file, all frames of a zstd file. Zeros after the
last member are padding (the .xz format, section 2.2; RFC 1952 says nothing of them, tapes and object stores leave
them), anything else after it is damage. Data that end too early are an error, never an end.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NamedTuple, Protocol

from etl.sources.bounds import UNLIMITED
from etl.sources.refusals import Damaged, Refused

Compression = Literal["none", "gzip", "zip", "zstd", "bzip2", "xz"]

_MAGIC: dict[bytes, Compression] = {
    b"\x1f\x8b": "gzip",  # RFC 1952, section 2.3.1
    b"PK\x03\x04": "zip",  # APPNOTE 6.3.10, 4.3.7
    b"PK\x05\x06": "zip",  # one without members: 4.3.16
    b"PK\x07\x08": "zip",  # one that was meant for several disks and needed but one: 8.5.4
    b"\x28\xb5\x2f\xfd": "zstd",  # RFC 8878, section 3.1.1
    b"\xfd7zXZ\x00": "xz",  # the .xz file format 1.2.1, section 2.1.1.1
}
# bzip2 has no specification; its source (compress.c) writes BZh, the size of a block, and the digits of pi.
_BZIP2, _BZIP2_BLOCKS = b"BZh", (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")

MIB = 1 << 20


class Readable(Protocol):
    """What bytes are read from."""

    def read(self, size: int, /) -> bytes:
        """Return the next `size` bytes, less at the end alone."""
        ...


class Layer(NamedTuple):
    """What reads through one compression.

    Attributes:
        opened: what is read, once it is entered.
        damage: what it raises when the content is damaged.
    """

    opened: AbstractContextManager[Any]
    damage: tuple[type[Exception], ...]


def compression_of(head: bytes) -> Compression:
    """Tell the compression by the first bytes of a file; `none`: it is none that is read."""
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if head.startswith(_BZIP2) and head[3:4] in b"123456789" and _begins(head[4:], _BZIP2_BLOCKS):
        return "bzip2"
    return "zstd" if _to_skip(head) else "none"


def layer(file: Any, compression: Compression, most: int = UNLIMITED.window) -> Layer:
    """Return what reads `file`, which stays open, through a compression other than `none` and `zip`.

    Args:
        file: what is compressed.
        compression: how.
        most: how many bytes the decompressor may hold of what it has written.
    """
    if compression == "gzip":
        return _gzip(file)
    if compression == "zstd":
        import zstandard

        decompressor = zstandard.ZstdDecompressor(max_window_size=most)
        return Layer(
            nullcontext(ZstdFrames(file, decompressor.decompressobj, most)),
            (EOFError, OSError, zstandard.ZstdError),
        )
    if compression == "bzip2":
        import bz2

        bzip2 = Members(file, bz2.BZ2Decompressor, "bzip2", _BZIP2)
        return Layer(nullcontext(bzip2), (EOFError, OSError, ValueError))
    import lzma

    def stream() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=most)

    return Layer(
        nullcontext(Members(file, stream, "xz", b"\xfd7zXZ\x00")), (EOFError, OSError, lzma.LZMAError)
    )


def damaged(error: Exception, compression: str, window: int = UNLIMITED.window) -> Damaged:
    """Say what an error of a compression means, and what to do next.

    Args:
        error: what was raised.
        compression: by what.
        window: how many bytes the decompressor might hold.

    The libraries tell what is wrong in words alone. Where they come to use others, the general sentence is said.
    """
    said = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.errno is not None:
        return Damaged(f"it cannot be read ({said})")
    if isinstance(error, EOFError):
        return Damaged(
            f"it is cut short (the {compression} data end before they are whole)"
            if compression != "none"
            else f"it is cut short ({said})",
            "Fetch it again, or wait until its writer is done",
        )
    if compression == "none":
        return Damaged(said)
    if any(word in said for word in ("CRC", "checksum", "Incorrect length")):
        return Damaged(
            f"it is damaged: the checksum or length that its {compression} data bring does not fit them ({said})",
            "The records that were read before are in doubt: fetch it again and compare it with where it comes from",
        )
    if "Not a gzipped file" in said:
        return Damaged(*_followed("gzip"))
    if "Memory usage limit" in said:
        return _too_large(None, window, "xz", "xz -d -c FILE | xz -6 > NEW")
    return Damaged(f"it is no whole {compression} file: it is damaged ({said})", "Fetch it again")


def _followed(compression: str) -> tuple[str, str]:
    return (
        f"it is no whole {compression} file: what follows its last member is neither {compression} nor padding",
        "Fetch it again, or cut off what does not belong to it",
    )


def _too_large(window: int | None, most: int, compression: str, command: str) -> Refused:
    size = "a window" if window is None else f"a window of {max(window // MIB, 1)} MiB"
    return Refused(
        compression,
        f"its {compression} data need {size} in memory, and {most // MIB} MiB may be held of them here",
        f"give the job more memory (128 MiB are the most), or compress it again: {command}",
    )


def _begins(data: bytes, magics: tuple[bytes, ...]) -> bool:
    """Say whether `data` begins with one of `magics`, as far as it goes."""
    return any(data.startswith(magic) or magic.startswith(data) for magic in magics)


def _to_skip(head: bytes) -> bool:
    """Say whether a frame begins that holds no data but may come first (RFC 8878, section 3.1.2)."""
    return head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F


class Members:
    """Reads all members of a bzip2 file, or all streams of an xz file, a bounded step at a time.

    Python's own readers of these take what follows the last member for nothing at all (3.11).

    Args:
        file: the compressed file.
        member: makes what decompresses one member.
        compression: its name.
        magic: what each begins with.
    """

    _STEP = 1 << 16

    def __init__(self, file: Readable, member: Callable[[], Any], compression: str, magic: bytes) -> None:
        self._file = file
        self._new_member = member
        self._compression = compression
        self._magic = magic
        self._member: Any = None
        self._is_first = True
        self._input = b""
        self._output = bytearray()

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, or less at the end.

        Raises:
            EOFError: the file ends in the middle of a member.
            Damaged: something else follows the last one.
        """
        while len(self._output) < size and (self._member is not None or self._begin()):
            data = b""
            if self._member.needs_input:
                data, self._input = self._input or self._file.read(self._STEP), b""
                if not data:
                    raise EOFError
            self._output += self._member.decompress(data, self._STEP)
            if self._member.eof:
                self._input, self._member = self._member.unused_data, None
        taken = bytes(self._output[:size])
        del self._output[:size]
        return taken

    def _begin(self) -> bool:
        """Begin the next member; False: there is none."""
        while True:
            if not self._is_first:
                self._input = self._input.lstrip(b"\x00")
            if len(self._input) >= len(self._magic) or not (more := self._file.read(self._STEP)):
                break
            self._input += more
        if not self._input:
            return False
        if not self._is_first and not _begins(self._input, (self._magic,)):
            raise Damaged(*_followed(self._compression))
        self._member, self._is_first = self._new_member(), False
        return True


class ZstdFrames:
    """Reads all frames of a zstd file, one block at a time (RFC 8878, section 3.1.1).

    `zstandard` (0.25.0) either takes a file that ends in the middle of a frame for a whole one, or does not bound
    what a step makes of its input: some bytes may stand for 128 KiB. A block is never more than that.

    Args:
        file: the compressed file.
        frame: makes an object that decompresses one frame.
        most: how many bytes the window of a frame may have.
    """

    _STEP = 1 << 16
    _HEADER = 18  # a frame's header, with the magic number, is no longer
    _RLE = 1  # a block of this type is one byte, whatever its size says

    def __init__(self, file: Readable, frame: Callable[[], Any], most: int = UNLIMITED.window) -> None:
        self._file = file
        self._new_frame = frame
        self._frame: Any = None
        self._most = most
        self._checksum = 0
        self._input = b""
        self._output = bytearray()

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, or less at the end.

        Raises:
            EOFError: the file ends in the middle of a frame.
            Damaged: something else follows the last one.
            Refused: a frame needs more memory than it may take, or a dictionary.
        """
        while len(self._output) < size and (self._frame is not None or self._begin()):
            header = self._take(3)
            block = int.from_bytes(header, "little")
            is_last, kind, length = block & 1, block >> 1 & 3, block >> 3
            content = self._take((1 if kind == self._RLE else length) + is_last * self._checksum)
            self._output += self._frame.decompress(header + content)
            if is_last:
                self._frame = None
        taken = bytes(self._output[:size])
        del self._output[:size]
        return taken

    def _begin(self) -> bool:
        """Begin the next frame that holds data; False: there is none."""
        import zstandard

        while _to_skip(head := self._peek(self._HEADER)):
            left = int.from_bytes(self._take(8)[4:], "little")
            while left:
                left -= len(self._take(min(left, self._STEP)))
        if not head:
            return False
        _look_at_frame(head, self._most)
        try:
            size = zstandard.frame_header_size(head)
            parameters = zstandard.get_frame_parameters(head)
        except zstandard.ZstdError:
            if len(head) < self._HEADER:
                raise EOFError from None
            raise
        self._checksum = 4 if parameters.has_checksum else 0
        self._frame = self._new_frame()
        self._output += self._frame.decompress(self._take(size))
        return True

    def _peek(self, size: int) -> bytes:
        while len(self._input) < size and (more := self._file.read(self._STEP)):
            self._input += more
        return self._input[:size]

    def _take(self, size: int) -> bytes:
        taken = self._peek(size)
        if len(taken) < size:
            raise EOFError
        self._input = self._input[size:]
        return taken


def _look_at_frame(head: bytes, most: int) -> None:
    """See that a zstd frame can be read; a header that is not whole is met later.

    Raises:
        Damaged: it is no frame.
        Refused: its window is too large, or it needs a dictionary.
    """
    import zstandard

    if not _begins(head, (b"\x28\xb5\x2f\xfd",)):
        raise Damaged(*_followed("zstd"))
    try:
        found = zstandard.get_frame_parameters(head)
    except zstandard.ZstdError:
        return
    if found.window_size > most:
        long = max(found.window_size - 1, 1).bit_length()
        raise _too_large(found.window_size, most, "zstd", f"zstd -d --long={long} -c FILE | zstd > NEW")
    if found.dict_id:
        raise Refused(
            "zstd",
            f"it was compressed with zstd and a dictionary (number {found.dict_id}), which it does not bring",
            "compress it again: zstd -d -D DICTIONARY -c FILE | zstd > NEW",
        )


def _gzip(file: Any) -> Layer:
    """Open a gzip file with isal, which is three times as fast, or without it."""
    damage: tuple[type[Exception], ...] = (OSError, EOFError, zlib.error)
    try:
        from isal import igzip, isal_zlib
    except ImportError:
        import gzip

        return Layer(gzip.GzipFile(fileobj=file), damage)
    opened: AbstractContextManager[Any] = igzip.IGzipFile(fileobj=file)  # type: ignore[no-untyped-call]
    return Layer(opened, (*damage, isal_zlib.error))  # type: ignore[arg-type]  # its stub calls it an instance
