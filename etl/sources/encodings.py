"""How the bytes of a text are read as characters: as its byte order mark says, else as the job does.

Encodings that write line ends, quotes and delimiters as ASCII does, and no other character with those bytes, are
decoded line by line, by what reads the lines. All others, UTF-16 and UTF-32 among them, are made UTF-8 in the
stream: places in such a text are counted in its UTF-8, and it is read again up to a cursor, as a gzip file is.
"""

from __future__ import annotations

import codecs
from functools import cache
from typing import Any, NamedTuple

from etl.sources.compressions import Readable
from etl.sources.refusals import Damaged, Refused

# The Unicode Standard, section 23.8, table 23-6; UTF-32's begins with UTF-16's, and is looked for first.
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
    b"\x84\x31\x95\x33": "gb18030",  # GB 18030-2022 has all of Unicode, the mark as well
}
_ORDERS = {
    "utf-16": ("utf-16-le", "utf-16-be"),
    "utf-32": ("utf-32-le", "utf-32-be"),
}
_WIDE = tuple(order for orders in _ORDERS.values() for order in orders)
# Of several bytes a character, of which none but the first is below 0x30 (Ken Lunde, CJKV Information Processing,
# chapter 4): no line end, quote or delimiter other than | is among them, and rows are split after decoding.
_ASCII_FIRST = frozenset(
    {"ascii", "utf-8", "gb2312", "gbk", "gb18030", "big5", "big5hkscs", "cp950", "euc_kr", "cp949", "johab"}
    | {"euc_jp", "euc_jis_2004", "euc_jisx0213", "shift_jis", "cp932", "shift_jis_2004", "shift_jisx0213"}
)
# Where what a byte means depends on those before it; ISO 2022 and HZ (RFC 1468, RFC 1843) write all in ASCII's bytes.
_SHIFTED = ("hz", "iso2022", "utf")
# What Python calls encodings of text and nobody writes files in.
_NOT_OF_FILES = frozenset(
    {"idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined", "mbcs", "oem"}
)
_CONTROLS = frozenset(map(chr, (*range(0x07), *range(0x0E, 0x1A), 0x7F)))
_STEP = 1 << 15


class Reading(NamedTuple):
    """How the bytes of one text are read.

    Attributes:
        encoding: Python's name of the encoding.
        mark: how many bytes its byte order mark takes.
        in_stream: it is made UTF-8 before anything looks for lines in it.
    """

    encoding: str
    mark: int
    in_stream: bool


def known(encoding: str) -> str:
    """Return the name by which Python knows an encoding; a byte order mark is always allowed, and not named.

    Raises:
        ValueError: it is none, or none of files.
    """
    try:
        info = codecs.lookup(encoding)
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"encoding: {encoding!r} is not known to Python; its documentation lists those that are: "
            "https://docs.python.org/3/library/codecs.html#standard-encodings"
        ) from error
    if not info._is_text_encoding or info.name in _NOT_OF_FILES or info.incrementaldecoder is None:
        raise ValueError(f"encoding: {encoding!r} is no encoding of text files; make the files UTF-8")
    return "utf-8" if info.name == "utf-8-sig" else info.name


def reading(head: bytes, encoding: str) -> Reading:
    """Tell how a text is read by its first bytes and by what the job says, which may not know everything.

    Of both, the mark counts (https://encoding.spec.whatwg.org, section 6.1: it is more authoritative than anything
    else). UTF-16 and UTF-32 without a mark and without their order are read in the order that makes more ASCII of
    them: any text of records has line ends or digits.

    Raises:
        Refused: it is said to be UTF-16 or UTF-32, and is not, or its order cannot be told.
    """
    for mark, marked in _MARKS.items():
        if head.startswith(mark):
            marks = 1
            while marked == "utf-8" and head.startswith(mark, marks * len(mark)):
                marks += 1  # a file that was marked when it was so already
            return Reading(marked, marks * len(mark), marked != "utf-8")
    if encoding in (*_ORDERS, *_WIDE) and head and b"\x00" not in head and _decodes(head, "utf-8"):
        raise Refused(
            encoding,
            f"it is not {encoding}, as `encoding` says: it has no mark of it and no zeros, and can be read as UTF-8",
            "leave `encoding` out, or name the right one",
        )
    if encoding in _ORDERS:
        return Reading(_ordered(head, encoding), 0, True)
    return Reading(encoding, 0, not _is_cut_by_bytes(encoding))


def decoded(head: bytes, reading_: Reading) -> str:
    """Return the characters that `head` holds, which may end in the middle of one; U+FFFD where it holds none."""
    decoder = codecs.getincrementaldecoder(reading_.encoding)("replace")
    return decoder.decode(head[reading_.mark :])


def guessed(head: bytes) -> str | None:
    """Return the UTF-16 or UTF-32 that `head` is without saying so; None: it is neither.

    A text in any script has line ends, digits, quotes. What can be read as UTF-8 as well is mostly ASCII, if it is
    wide, with every other byte a zero.
    """
    least = 2 if _decodes(head, "utf-8") else 8
    for encoding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        width = 4 if "32" in encoding else 2
        if len(head) < width or not _decodes(head, encoding):
            continue
        text = head[: len(head) // width * width].decode(encoding, "ignore")
        if _plain(text) and sum(character < "\x80" for character in text) * least >= len(text):
            return encoding
    return None


def advice(line: bytes) -> str:
    """Say which encodings a line may be in that is no valid UTF-8: of Latin letters, few are past ASCII."""
    letters = sum(byte > 0x7F or bytes([byte]).isalpha() for byte in line)
    if sum(byte > 0x7F for byte in line) * 2 <= letters:
        return 'set `encoding`, such as "cp1252" or "latin-1"'
    return (
        "set `encoding` to that of the program that wrote it, such as cp1251 or koi8-r (Cyrillic), gb18030 (Chinese), "
        "cp932 or euc_jp (Japanese)"
    )


def _ordered(head: bytes, encoding: str) -> str:
    little, big = _ORDERS[encoding]
    counts = {order: _ascii_in(head, order) for order in (little, big)}
    if counts[little] == counts[big] and head:
        raise Refused(
            encoding,
            f"it has no byte order mark, and its first bytes do not tell which {encoding} it is",
            f'set encoding = "{little}" or "{big}", or another if it is none of both',
        )
    return max(counts, key=counts.__getitem__)


def _ascii_in(head: bytes, encoding: str) -> int:
    text = head[: len(head) // 4 * 4].decode(encoding, "replace")
    return sum("\t" <= character < "\x80" for character in text)


def _decodes(head: bytes, encoding: str) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _plain(text: str) -> bool:
    """Say whether there are no control characters in a text, other than those that lay it out."""
    return _CONTROLS.isdisjoint(text)


@cache
def _is_cut_by_bytes(encoding: str) -> bool:
    """Say whether lines of an encoding can be found by their bytes: line ends, quotes, delimiters are ASCII's."""
    if encoding in _ASCII_FIRST:
        return True
    if encoding.startswith(_SHIFTED):
        return False
    characters = [bytes([byte]).decode(encoding, "replace") for byte in range(256)]
    return all(characters.index(sign) == ord(sign) and characters.count(sign) == 1 for sign in ',;|"\t\n\r')


class Utf8:
    """Makes UTF-8 of a text in another encoding, as it is read.

    Args:
        file: the text.
        reading_: how it is read.
    """

    def __init__(self, file: Readable, reading_: Reading) -> None:
        self._file = file
        self._encoding = reading_.encoding
        self._decoder: Any = codecs.getincrementaldecoder(reading_.encoding)()
        self._to_pass = reading_.mark
        self._taken = 0
        self._output = bytearray()
        self._ended = False
        self._failed: Damaged | None = None
        # EBCDIC ends lines with NEL, U+0085 (The Unicode Standard, section 5.8, table 5-1)
        self._nel = (
            not reading_.encoding.startswith("utf") and b"\x15".decode(self._encoding, "replace") == "\x85"
        )

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, or less at the end.

        Raises:
            Damaged: the text is not in its encoding, or ends within a character, within these bytes.
        """
        while len(self._output) < size and not self._ended:
            self._step()
        if self._failed is not None and len(self._output) < size:
            raise self._failed  # less than was asked for would be an end
        taken = bytes(self._output[:size])
        del self._output[:size]
        return taken

    def _step(self) -> None:
        if self._to_pass:
            self._taken += len(self._file.read(self._to_pass))
            self._to_pass = 0
        data = self._file.read(_STEP)
        self._ended = not data
        before = self._decoder.getstate()
        try:
            text = self._decoder.decode(data, not data)
            self._add(text)
        except UnicodeError as error:
            self._decoder.setstate(before)
            at = self._up_to_the_fault(data)
            self._ended = True
            if at is None:
                self._failed = Damaged(
                    f"it is cut short: it ends in the middle of a character of {self._encoding}",
                    "Fetch it again, or wait until its writer is done",
                )
            else:
                why = getattr(error, "reason", "it is no character")
                self._failed = Damaged(
                    f"it is no valid {self._encoding} at its byte {self._taken + at} ({why})",
                    "Correct those bytes, or set the right `encoding`",
                )
                self._failed.__cause__ = error
        self._taken += len(data)

    def _up_to_the_fault(self, data: bytes) -> int | None:
        """Decode what stands before the fault, byte by byte; return where it is, None where the text ends there."""
        for number in range(len(data)):
            try:
                self._add(self._decoder.decode(data[number : number + 1]))
            except UnicodeDecodeError as error:  # its object begins with what the decoder held back
                return number + 1 - len(error.object) + error.start
            except UnicodeError:
                return number
        return None

    def _add(self, text: str) -> None:
        if self._nel:
            text = text.replace("\x85", "\n")
        self._output += text.encode()
