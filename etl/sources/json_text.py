"""The text of a JSON document as it is read: its tokens, and values that are passed over without being held."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

from etl.errors import SourceError
from etl.sources import json_numbers
from etl.sources.bounds import UNLIMITED, too_long
from etl.sources.decoding import Stream
from etl.sources.place import Place

BLANK = b" \t\r\n"
# A whole string, or the quote that opens one which is not whole yet; or what gives the text its structure.
TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{},]', re.DOTALL)

_READ = 1 << 16
# Looked through token by token before a value is passed over in larger steps.
_NEAR = 1 << 12
# So many of the larger steps between two looks up.
_STEPS = 64
_NOT_BLANK = re.compile(rb"[^ \t\r\n]")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_STRING_ENDS = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_WORD = re.compile(rb"[-+.0-9A-Za-z]+")
_PARTNERS = {ord("{"): ord("}"), ord("["): ord("]")}
# Deeper than this, brackets are gone through one by one.
_USUAL_DEPTH = 32
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"{}[]")


class Text:
    """Hands a stream out by bytes, names and values.

    Args:
        stream: what is read, from where it stands.
        place: where that is, moved on by `settle`; it tells messages the file.
        block: how many bytes to read at once, where no value is passed over.
        longest: how long a name or a number may be, in bytes.

    Attributes:
        longest: as it was given.
        data: what was read and not taken.
        at: the bytes of the content before `data`.
    """

    __slots__ = ("_block", "_place", "_read", "_seen", "at", "data", "longest")

    def __init__(self, stream: Stream, place: Place, block: int, longest: int = UNLIMITED.record) -> None:
        self.longest = longest
        self._read = stream.read
        self._block = block
        self._place = place
        self._seen = None if place.seen is None or place.seen.of == "file" else copy.copy(place.seen)
        self.data = b""
        self.at = place.offset or 0

    def more(self, size: int) -> bool:
        """Read `size` bytes more, or what there is; False: it has ended."""
        data = self._read(size)
        self.data += data
        return bool(data)

    def next_size(self, block: int) -> int:
        """Return how much to have of a text that is not whole yet: twice as much, up to what shows it too long."""
        return max(block, min(2 * len(self.data), self.longest + 1))

    def take(self, size: int) -> None:
        """Take the next `size` bytes."""
        if self._seen is not None:
            self._seen.add(self.data[:size])
        self.data = self.data[size:]
        self.at += size

    def settle(self) -> None:
        """Move the place on behind all that was taken."""
        self._place.offset = self.at
        if self._seen is not None:
            self._place.seen = copy.copy(self._seen)

    def first(self) -> bytes:
        """Return the next byte that is no blank, without taking it; nothing: the end."""
        while True:
            if found := _NOT_BLANK.search(self.data):
                if found.start():
                    self.take(found.start())
                return found[0]
            self.take(len(self.data))
            if not self.more(self._block):
                return b""

    def expect(self, wanted: bytes, what: str) -> bytes:
        """Take the next byte that is no blank; it must be one of `wanted`.

        Raises:
            SourceError: it is another, or the text has ended.
        """
        found = self.first()
        if not found:
            raise self.cut_short()
        if found not in wanted:
            raise SourceError(
                f"{self._place}: it is no JSON: at byte {self.at} stands {self.data[:20]!r}, where {what} should "
                f"be; {self._place.record} records were read of it: fix the file, or fetch it again"
            )
        self.take(1)
        return found

    def name(self) -> str:
        """Take the name of a member, and the colon behind it."""
        self.first()
        while not (found := _STRING.match(self.data)):
            if self.data[:1] != b'"' and self.data:
                self.expect(b'"', "a name")
            self._need_more("a name")
        name = self._decoded(found[0])
        self.take(found.end())
        self.expect(b":", "a colon")
        return str(name)

    def word(self) -> Any:
        """Take a number, true, false or null, and return it."""
        self.first()
        while not (found := _WORD.match(self.data)) or found.end() == len(self.data):
            if found is None and self.data:
                self.expect(b"", "a value")
            if not self.more(max(self._block, len(self.data))):
                break
            self._check_length("a number")
        if found is None:
            raise self.cut_short()
        value = self._decoded(found[0])
        self.take(found.end())
        return value

    def pass_over(self) -> Iterator[None]:
        """Pass over the next value, however long; yields now and then, so that a caller who waits may leave.

        Brackets and quotes are counted, which finds the end of anything that is JSON; nothing is decoded.

        Raises:
            SourceError: the text ends before the value does.
        """
        first = self.first()
        if first not in (b"{", b"[", b'"'):
            self.word()
            return
        if end := end_of(self.data, _NEAR):
            self.take(end)
            return
        depth, quoted = (0, True) if first == b'"' else (1, False)
        self.take(1)
        steps = 0
        while True:
            if not self.data and not self.more(_READ):
                raise self.cut_short()
            while self.data.endswith(b"\\") and self.more(1):
                pass  # what it escapes belongs to the same step
            if not depth:
                end = _end_within(self.data, 0, True)
                self.take(end or len(self.data))
                if end:
                    return
                continue
            outside, still = _outside(self.data, quoted)
            brackets = _unmatched(outside)
            closed = brackets.rstrip(b"{[")
            fits = b"{" not in closed and b"[" not in closed
            if fits and len(closed) < depth:
                depth += len(brackets) - 2 * len(closed)
                quoted = still
                self.take(len(self.data))
            elif end := _end_within(self.data, depth, quoted):
                self.take(end)
                return
            else:
                raise SourceError(
                    f"{self._place}: it is no JSON: behind byte {self.at} a bracket is closed by one of the other "
                    f"kind; {self._place.record} records were read of it: fix the file, or fetch it again"
                )
            steps += 1
            if steps % _STEPS == 0:
                yield

    def cut_short(self) -> SourceError:
        """Say that the text ends in the middle of a document."""
        return SourceError(
            f"{self._place}: the document is not closed, the file ends at byte {self.at + len(self.data)}, after "
            f"{self._place.record} of its rows: it is cut short; fetch it again, and run again"
        )

    def _decoded(self, text: bytes) -> Any:
        try:
            return json_numbers.loads(text)
        except json_numbers.NOT_JSON as error:
            raise SourceError(
                f"{self._place}: it is no JSON: at byte {self.at} stands {text[:40]!r} ({error}); "
                f"{self._place.record} records were read of it: fix the file, or fetch it again"
            ) from error

    def _need_more(self, what: str) -> None:
        if not self.more(max(self._block, len(self.data))):
            raise self.cut_short()
        self._check_length(what)

    def _check_length(self, what: str) -> None:
        if len(self.data) > max(self.longest, self._block):
            raise SourceError(f"{self._place}: {what} (byte {self.at}) is {too_long(self.longest)}")


def end_of(data: bytes, most: int) -> int:
    """Return where the value ends that `data` begins with; 0: not within the first `most` bytes."""
    depth = 0
    for token in TOKEN.finditer(data, 0, most):
        kind = token[0]
        if kind in (b"{", b"["):
            depth += 1
        elif kind in (b"}", b"]"):
            depth -= 1
        elif kind == b'"':
            return 0
        if depth == 0:
            return token.end()
    return 0


def _outside(data: bytes, quoted: bool) -> tuple[bytes, bool]:
    """Return what of `data` stands outside of strings, and whether it ends within one; it may begin within one."""
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    parts = data.split(b'"')
    return b"".join(parts[quoted::2]), quoted ^ (len(parts) % 2 == 0)


def _unmatched(outside: bytes) -> bytes:
    """Return the brackets that have no partner in there: first those that close, then those that open."""
    brackets = outside.translate(None, _NOT_BRACKETS)
    for _ in range(_USUAL_DEPTH):
        fewer = brackets.replace(b"{}", b"").replace(b"[]", b"")
        if len(fewer) == len(brackets):
            return brackets
        brackets = fewer
    left = bytearray()
    for bracket in brackets:  # one level a pass would take as many passes as there are levels
        if left and bracket == _PARTNERS.get(left[-1]):
            left.pop()
        else:
            left.append(bracket)
    return bytes(left)


def _end_within(data: bytes, depth: int, quoted: bool) -> int:
    """Return where the value ends within which `data` begins; 0: not in there."""
    begin = 0
    if quoted:
        found = _STRING_ENDS.match(data)
        if found is None:
            return 0
        if depth == 0:
            return found.end()
        begin = found.end()
    for token in TOKEN.finditer(data, begin):
        kind = token[0]
        if kind in (b"{", b"["):
            depth += 1
        elif kind in (b"}", b"]"):
            depth -= 1
            if depth == 0:
                return token.end()
    return 0
