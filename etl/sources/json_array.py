"""JSON arrays of objects, and objects whose values are the records, read a block at a time.

The elements of a block are decoded in one call. Where they end is found in one of two ways: by a guess that the
decoder itself proves right or wrong, or by going through strings, brackets and commas one by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from etl.errors import SourceError
from etl.sources import json_numbers
from etl.sources.bounds import too_long
from etl.sources.decoding import Stream
from etl.sources.json_decoder import DECODER, Decoder
from etl.sources.json_text import BLANK, TOKEN, Text
from etl.sources.lines import OBJECTS, not_an_object, row_of, why_not_json
from etl.sources.place import Place, first_unreadable, unreadable

# Where the rows are the members of an object, their names are kept in a field of this name.
KEY = "_key"

# What stands between two objects that begin with the same key.
_BETWEEN = re.compile(rb'\}[ \t\r\n]*,[ \t\r\n]*\{[ \t\r\n]*"[^"\\]*"[ \t\r\n]*:')
_NAME = re.compile(rb'[ \t\r\n]*("[^"\\]*(?:\\.[^"\\]*)*")[ \t\r\n]*:', re.DOTALL)


class _Elements(NamedTuple):
    """Whole elements at the beginning of a text.

    Attributes:
        ends: where each ends: at a comma, or at what closes the container.
        closed: whether the last of them is ended by the container's own end, not by a comma.
    """

    ends: list[int]
    closed: bool


def read(stream: Stream, place: Place, *, block: int, decoder: Decoder = DECODER) -> Iterator[list[Any]]:
    """Decode an array; yields lists of records, each with a mark at its end, which lies behind a comma.

    Args:
        stream: the content, at `place`.
        place: moved on with what was read.
        block: how many bytes to decode at once.
        decoder: decodes records.

    Raises:
        SourceError: it is no array, ends within, or goes on after its end.
    """
    text = Text(stream, place, block, decoder.most)
    begins = not place.record
    if begins:
        first = text.first()
        if not first:
            return
        if first != b"[":
            raise SourceError(
                f"{place}: it does not begin with [, as a JSON array does, but with {first!r}; "
                'set format = "ndjson" if it holds an object on each line'
            )
        text.take(1)
        text.settle()
    yield from elements(text, place, b"]", begins=begins, block=block, decoder=decoder)
    if rest := text.first():
        raise SourceError(
            f"{place}: something follows the array's end, after {place.record} elements: "
            f"{(rest + text.data[1:40])!r}; one file holds one array: fix it, or make it NDJSON"
        )


def elements(
    text: Text, place: Place, closing: bytes, *, begins: bool, block: int, decoder: Decoder
) -> Iterator[list[Any]]:
    """Decode the elements of an array, or the members of an object, up to its end, which is taken.

    Args:
        text: behind the bracket that opens it, or behind a comma.
        place: moved on with what was read, a batch before it is yielded.
        closing: the bracket that closes it.
        begins: whether `text` is behind the bracket, so that there may be no element.
        block: how many bytes to decode at once.
        decoder: decodes records.

    Yields:
        Lists of records, each with a mark at its end; the last one without.

    Raises:
        SourceError: the text ends within.
    """
    guess: bytes | None = None
    wanted = block
    while True:
        ended = len(text.data) < wanted and not text.more(wanted - len(text.data))
        batch: list[Any] | None = None
        if guess is not None and (end := text.data.rfind(guess, 0, 2 * block)) > 0:
            batch = _at_once(b"[" + text.data[: end + 1] + b"]", None, decoder)
            if batch is None:
                guess = None
            else:
                taken, closed = text.data.index(b",", end) + 1, False
        if batch is None:
            found = _elements(text.data, place, closing, block)
            if not found.ends:
                if ended:
                    what = "array" if closing == b"]" else "object"
                    raise SourceError(
                        f"{place}: the {what} is not closed, the file ends after {place.record} of its elements: "
                        "it is cut short; fetch it again, and run again"
                    )
                if len(text.data) > text.longest:
                    raise SourceError(
                        f"{place}: element {place.record + 1} (byte {text.at}) is {too_long(text.longest)}. If it "
                        "holds the rows itself, let `records` name their path"
                    )
                wanted = text.next_size(block)
                continue
            batch = _decoded(text.data, found.ends, place, closing, begins, decoder)
            taken, closed = found.ends[-1] + 1, found.closed
            if sound := first_unreadable(batch):
                del batch[sound:]
                taken, closed = found.ends[sound - 1] + 1, False
            guess = _guess(text.data, found.ends[0]) if closing == b"]" else None
        wanted = block
        begins = False
        text.take(taken)
        place.record += len(batch)
        text.settle()
        if closed:
            yield batch
            return
        batch.append(place.mark())
        yield batch
        del batch  # the memory is used again for the next one


def _elements(data: bytes, place: Place, closing: bytes, enough: int) -> _Elements:
    """Find the elements that are whole in `data`, which begins between two elements; none after `enough` bytes.

    The first one excepted: what was read with one that is long is not decoded together with it.
    """
    ends: list[int] = []
    depth = 0
    for token in TOKEN.finditer(data):
        kind = token[0]
        if kind == b",":
            if depth == 0:
                ends.append(token.start())
                if token.start() >= enough:
                    break
        elif kind in b"[{":
            depth += 1
        elif kind == b'"':
            break
        elif kind in b"]}":
            depth -= 1
            if depth < 0:
                if kind != closing:
                    raise SourceError(
                        f"{place}: a bracket is closed that was not opened, after {place.record + len(ends)} "
                        f"elements (byte {(place.offset or 0) + token.start()}); fix the file"
                    )
                ends.append(token.start())
                return _Elements(ends, True)
    return _Elements(ends, False)


def _guess(data: bytes, end: int) -> bytes | None:
    between = _BETWEEN.match(data, data.rfind(b"}", 0, end + 1))
    return between[0] if between else None


def _at_once(text: bytes, count: int | None, decoder: Decoder) -> list[Any] | None:
    """Decode an array of objects; None: it is none, or not of `count` objects."""
    try:
        batch = decoder.records(text)
    except json_numbers.NOT_JSON:
        return None
    right = (count is None or len(batch) == count) and OBJECTS.issuperset(map(type, batch))
    return batch if right else None


def _decoded(
    data: bytes, ends: list[int], place: Place, closing: bytes, begins: bool, decoder: Decoder
) -> list[Any]:
    """Decode elements together, or else one by one."""
    if (
        closing == b"]"
        and (batch := _at_once(b"[" + data[: ends[-1]] + b"]", len(ends), decoder)) is not None
    ):
        return batch
    batch = []
    start = 0
    for end in ends:
        element = data[start:end].strip(BLANK)
        where = f"{place}, element {place.record + len(batch) + 1} (byte {(place.offset or 0) + start})"
        # there may be no element at all, but none of several may be missing
        if element or not begins or len(ends) > 1:
            batch += (
                row_of(decoder, element, where) if closing == b"]" else [_member(element, where, decoder)]
            )
        start = end + 1
    return batch


def _member(element: bytes, where: str, decoder: Decoder) -> Any:
    """Decode a member of an object into a row that has its name."""
    named = _NAME.match(element)
    if named is None:
        return unreadable(element, where, "no JSON (it does not begin with a name and a colon)")
    try:
        name = json_numbers.loads(named[1])
        value = decoder.records(element[named.end() :])
    except json_numbers.NOT_JSON as error:
        return unreadable(element, where, why_not_json(element, error))
    return member_row(name, value, element, where)


def member_row(name: str, value: Any, raw: bytes | str, where: str) -> Any:
    """Make a row of a member of an object: its value, with its name in `_key`; unreadable if it is no object."""
    if type(value) is not dict:
        return unreadable(raw, where, not_an_object(value))
    if value.get(KEY, name) != name:
        why = f"the row has a field {KEY} of its own, which should hold its name in the object"
        return unreadable(raw, where, why)
    return {KEY: name, **value}
