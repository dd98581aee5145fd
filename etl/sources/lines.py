r"""Whole lines out of a stream, in blocks of bounded size; and NDJSON, a JSON object on each line.

What NDJSON is here: UTF-8, an object a line, lines ended by `\n` or `\r\n`, the last one perhaps by nothing;
blank lines are skipped. Numbers are exact (`json_numbers`); of two equal keys the last counts. NaN and Infinity are
no JSON (RFC 8259, section 6).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from etl.errors import SourceError
from etl.records import Unreadable
from etl.sources import encodings, json_numbers
from etl.sources.bounds import TooLarge, too_long
from etl.sources.decoding import Stream
from etl.sources.json_decoder import DECODER, Decoder
from etl.sources.place import Place, unreadable
from etl.sources.refusals import Unended

OBJECTS = frozenset({dict})

_DECODER = json.JSONDecoder()
# What an object or an array begins with, as far as it goes.
_BEGINNING = re.compile(rb'\{[ \t\r]*(?:"|\Z)|\[')
# A longer text that cannot be decoded is not decoded in other ways to find out why: that takes as much memory again.
_EXPLAINED = 1 << 20
_PASSED = 1 << 18


class LineTooLong(Exception):
    """A line is longer than it may be; it is still to be taken. The message is that of the `SourceError` to raise."""


class Blocks:
    """Hands a stream out in blocks of whole lines.

    Args:
        stream: what is read, from where it stands.
        place: where that is, for messages.
        size: how large a block is, in bytes, unless a line is longer.
        longest: how long a line may be, in bytes.

    Attributes:
        held: whether the last line, or row, is left for later: it may be half of one.
        longest: as it was given.
    """

    def __init__(self, stream: Stream, place: Place, size: int, longest: int) -> None:
        self._read = stream.read
        self._grows = stream.grows
        self._place = place
        self._size = size
        self.longest = longest
        self._rest = b""
        self._ended = False
        self.held = False

    def take(self) -> bytes:
        """Return the next lines, as `_take`; but for a last line without its end that may be half of one (`held`)."""
        lines = self._take()
        whole = self._cut(lines, len(lines), ended=True)
        if whole < len(lines) and not self._is_complete(lines[whole:]) and self.may_grow():
            self.hold()
            return lines[:whole]
        return lines

    def may_grow(self) -> bool:
        """Say, where everything was taken, whether more may come after it."""
        return self.held or (self._ended and not self._rest and self._grows())

    def hold(self) -> None:
        """Note that the end of the text is not taken, as it may be half of a record."""
        self.held = True

    def see_that_all_was_taken(self) -> None:
        """See, at the end, that nothing was held back.

        Raises:
            Unended: the last record is left for later.
        """
        if self.held:
            raise Unended

    def _is_complete(self, line: bytes) -> bool:
        """Say whether a line without its end is a whole one, whatever comes."""
        del line
        return False

    def _take(self) -> bytes:
        """Return the next lines, each whole with its end; the last line of all may lack it. Nothing: the end.

        A line that is longer than a block comes by itself.

        Raises:
            LineTooLong: a line is longer than it may be.
        """
        block, self._rest = self._rest, b""
        end, looked = self._size, 0
        while True:
            if len(block) < end and not self._ended:
                wanted = end - len(block)
                data = self._read(wanted)
                self._ended = len(data) < wanted
                block += data
            ended = self._ended and len(block) <= end
            cut = (
                self._first(block, looked, end, ended=ended) if looked else self._cut(block, end, ended=ended)
            )
            if cut or ended:
                break
            if end > self.longest:
                self._rest = block
                raise LineTooLong(f"{self._place.on_line(0, 0)}: {too_long_line(self.longest)}")
            looked, end = end, min(2 * end, self.longest + 1)
        cut = cut or len(block)
        if cut < len(block):
            self._rest = block[cut:]
            block = block[:cut]
        return block

    def give_back(self, lines: bytes) -> None:
        """Take back what came last; it is handed out again."""
        self._rest = lines + self._rest

    def pass_line(self) -> Iterator[bytes]:
        """Take the next line, in pieces, however long; the last of them has its end, unless the file lacks it."""
        piece, self._rest = self._rest, b""
        while piece or (piece := self._read(_PASSED)):
            end = piece.find(b"\n") + 1
            if end:
                self._rest = piece[end:]
                piece = piece[:end]
            yield piece
            if end:
                return
            piece = b""
        self._ended = True

    def _cut(self, block: bytes, end: int, *, ended: bool) -> int:
        """Return where the last whole line before `end` ends in a block; 0: none does.

        Args:
            block: what was read.
            end: how far to look.
            ended: whether nothing follows the block.
        """
        del ended
        return block.rfind(b"\n", 0, end) + 1

    def _first(self, block: bytes, begin: int, end: int, *, ended: bool) -> int:
        """Return where the first line ends in a block, of which no line ends before `begin`; else as `_cut`."""
        del ended
        return block.find(b"\n", begin, end) + 1


def too_long_line(most: int) -> str:
    """Say of a line that it is longer than `most` bytes, and what to do."""
    return (
        f"the line is {too_long(most)}. If it is no line, is this the right format, with lines ended by \\n? Set "
        "`format`; where one JSON document holds all rows, name their path with `records`"
    )


class _Objects(Blocks):
    """Hands NDJSON out in blocks."""

    def _is_complete(self, line: bytes) -> bool:
        """Say whether a line is whole: nothing is one yet, nor a beginning of an object or an array; other text is."""
        text = line.strip(b" \t\r")
        if not text:
            return False
        return _BEGINNING.match(text) is None or json_numbers.is_whole(text) or _holds_several(text)


def read(
    stream: Stream,
    place: Place,
    *,
    block: int,
    decoder: Decoder = DECODER,
    rows: Callable[[bytes, str], list[Any]] | None = None,
) -> Iterator[list[Any]]:
    """Decode NDJSON; yields lists of records, each with a mark at its end.

    Args:
        stream: the content, at `place`.
        place: moved on with what was read.
        block: how many bytes to decode at once.
        decoder: decodes records.
        rows: makes rows of a line, and of where it is; None: each line is a row.

    Raises:
        SourceError: the only line is longer than it may be. Others that are too long are unreadable records.
    """
    blocks = _Objects(stream, place, block, decoder.most)
    while True:
        try:
            lines = blocks.take()
        except LineTooLong as error:
            yield from _passed(blocks, place, decoder, error)
            continue
        if not lines:
            blocks.see_that_all_was_taken()
            return
        ends = lines.count(b"\n")
        batch = None if rows is not None else _at_once(lines, ends + (lines[-1:] != b"\n"), decoder)
        if batch is None:
            batch, size = _line_by_line(lines, place, rows or partial(_row_of_line, decoder))
            if size < len(lines):
                blocks.give_back(lines[size:])
                lines = lines[:size]
                ends = lines.count(b"\n")
        place.record += len(batch)
        place.advance(lines)
        place.line += ends
        batch.append(place.mark())
        yield batch
        del batch  # the memory is used again for the next one


def _passed(blocks: Blocks, place: Place, decoder: Decoder, error: LineTooLong) -> Iterator[list[Any]]:
    """Pass over a line that is too long, in constant memory: one unreadable record, if there are others beside it.

    Raises:
        SourceError: it is all that there is, so that the format is wrong.
        Unended: it has no end yet, and its writer may write on.
    """
    alone = not place.record
    pieces = blocks.pass_line()
    piece = next(pieces)
    record = unreadable(piece, place.on_line(0, 0), too_long_line(decoder.most))
    place.record += 1
    place.advance(piece)
    if not alone:
        yield [record]  # at once: where the job ends with it, the rest need not be read
    for further in pieces:
        piece = further
        place.advance(piece)
    if piece[-1:] != b"\n" and blocks.may_grow():
        raise Unended
    if alone and piece[-1:] != b"\n":
        raise SourceError(str(error)) from error
    place.line += piece[-1:] == b"\n"
    yield [*([record] if alone else []), place.mark()]


def _at_once(lines: bytes, count: int, decoder: Decoder) -> list[Any] | None:
    """Decode lines that are an object each; None: not all of them are.

    As one array, they are decoded in a fifth less time than line by line.
    """
    try:
        batch = decoder.records(b"[" + lines.removesuffix(b"\n").replace(b"\n", b",") + b"]")
    except json_numbers.NOT_JSON:
        return None
    # Line ends may also stand between the parts of one object, or several objects on one line: what was one
    # object on each line is that many objects.
    return batch if len(batch) == count and OBJECTS.issuperset(map(type, batch)) else None


def _line_by_line(
    lines: bytes, place: Place, rows: Callable[[bytes, str], list[Any]]
) -> tuple[list[Any], int]:
    """Decode lines up to one that is unreadable, if it is not the first; returns how many bytes they are, too."""
    batch: list[Any] = []
    size = 0
    if not lines.strip(b" \t\r\n"):
        return batch, len(lines)
    for number, line in enumerate(lines.split(b"\n")):
        if line.strip(b" \t\r"):
            found = rows(line, place.on_line(number, size))
            if batch and any(type(row) is Unreadable for row in found) and type(batch[0]) is not Unreadable:
                return batch, size
            batch += found
        size += len(line) + 1
    return batch, len(lines)


def _row_of_line(decoder: Decoder, line: bytes, where: str) -> list[Any]:
    found = row_of(decoder, line, where)
    text = line.strip(b" \t\r")
    if len(text) > _EXPLAINED:
        return found
    if text[:1] == b"\x1e" and type(found[0]) is not dict:
        why = 'it begins with 0x1E, as the texts of a sequence do: set format = "json-seq"'
        return [unreadable(line, where, f"no JSON ({why})")]
    if text[:1] == b"{" and text[-1:] in b"{[,:" and type(found[0]) is not dict:
        why = 'it ends within an object: where objects go over several lines, set format = "json"'
        if text[-1:] == b"," and type(row_of(decoder, text[:-1], where)[0]) is dict:
            why = "a comma follows the object: put [ before the first one and ] in place of the last comma"
        return [unreadable(line, where, f"no JSON ({why})")]
    if type(found[0]) is not dict and _holds_several(text):
        why = 'several objects stand on the line: set format = "json"'
        return [unreadable(line, where, f"no JSON ({why})")]
    return found


def row_of(decoder: Decoder, text: bytes, where: str) -> list[Any]:
    """Decode a text that is one record; unreadable if it is no object."""
    try:
        value = decoder.records(text)
    except json_numbers.NOT_JSON as error:
        return [unreadable(text, where, why_not_json(text, error))]
    return [value if type(value) is dict else unreadable(text, where, not_an_object(value))]


def why_not_json(text: bytes, error: Exception) -> str:
    """Say what is wrong with a text that was not decoded."""
    if isinstance(error, TooLarge):
        return str(error)
    try:
        text.decode()
    except UnicodeDecodeError as broken:
        return (
            f"no valid UTF-8 ({text[broken.start]:#04x} at its byte {broken.start}); if all of the file is in another "
            f"encoding, {encodings.advice(text)}"
        )
    if isinstance(error, RecursionError):
        return "no JSON that can be read: it is nested too deeply"
    why = _malformed(text) if len(text) <= _EXPLAINED else None
    return f"no JSON ({why or error})"


def _holds_several(text: bytes) -> bool:
    """Say whether another object begins where the first one ends; of a long text nobody looks."""
    if len(text) > _EXPLAINED:
        return False
    try:
        shown = text.decode()
        _, end = _DECODER.raw_decode(shown)
    except (ValueError, RecursionError):
        return False
    return shown[end:].lstrip(" \t\r").startswith("{")


def _malformed(text: bytes) -> str | None:
    """Say what Python's own decoder takes, and RFC 8259 does not; None: it does not take it either."""
    if not text:
        return "no value stands here: there is a comma too many"
    words: list[str] = []
    try:
        json.loads(text, parse_constant=words.append)
    except (ValueError, RecursionError):
        return None
    if words:
        return f'{words[0]} is no JSON, by RFC 8259, section 6: let its writer write null or "{words[0]}"'
    return "an escape such as \\ud83d is half of a character, by RFC 8259, section 8.2: write both halves, or \\ufffd"


def not_an_object(value: Any) -> str:
    """Say what a JSON value is that should be an object."""
    kinds = {type(None): "null", bool: "a boolean", str: "a string", list: "an array"}
    return f"not an object but {kinds.get(type(value), 'a number')}"
