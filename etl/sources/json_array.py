"""One JSON array of objects, read a block at a time.

The elements of a block are decoded in one call. Where they end is found in one of two ways: by a guess that the
decoder itself proves right or wrong, or by going through strings, brackets and commas one by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from etl.errors import SourceError
from etl.sources.decoding import Stream
from etl.sources.lines import LONGEST_LINE, not_an_object, why_not_json
from etl.sources.place import Place, unreadable

_BLANK = b" \t\r\n"
# A whole string, or the quote that opens one which is not whole yet; or what gives the text its structure.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{},]', re.DOTALL)
# What stands between two objects that begin with the same key.
_BETWEEN = re.compile(rb'\}[ \t\r\n]*,[ \t\r\n]*\{[ \t\r\n]*"[^"\\]*"[ \t\r\n]*:')
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Elements(NamedTuple):
    """Whole elements at the beginning of a text.

    Attributes:
        commas: where each ends.
        closed: whether the last of them is ended by the array's own end, not by a comma.
    """

    commas: list[int]
    closed: bool


def read(stream: Stream, place: Place, *, block: int) -> Iterator[list[Any]]:
    """Decode an array; yields lists of records, each with a mark at its end, which lies behind a comma.

    Args:
        stream: the content, at `place`.
        place: moved on with what was read.
        block: how many bytes to decode at once.

    Raises:
        SourceError: it is no array, ends within, or goes on after its end.
    """
    decode = msgspec.json.Decoder(list[dict[str, Any]]).decode
    text = b"" if place.record else _opened(stream, place)
    if text is None:
        return
    guess: bytes | None = None
    wanted = block
    while True:
        data = stream.read(max(wanted - len(text), 1))
        text += data
        batch: list[Any] | None = None
        if guess is not None and (end := text.rfind(guess)) > 0:
            try:
                batch = decode(b"[" + text[: end + 1] + b"]")
            except _NOT_JSON:
                guess = None
            else:
                taken, closed = text.index(b",", end) + 1, False
        if batch is None:
            found = _elements(text, place)
            if not found.commas:
                if not data:
                    raise SourceError(
                        f"{place}: the array is not closed, the file ends after {place.record} of its elements: "
                        "it is cut short; fetch it again, and run again"
                    )
                if len(text) > LONGEST_LINE:
                    raise SourceError(
                        f"{place}: element {place.record + 1} (byte {place.offset}) is longer than "
                        f"{LONGEST_LINE >> 20} MiB; make it NDJSON, or split it"
                    )
                wanted = max(block, 2 * len(text))
                continue
            batch = _decoded(text, found.commas, place)
            taken, closed = found.commas[-1] + 1, found.closed
            between = _BETWEEN.match(text, text.rfind(b"}", 0, found.commas[0] + 1)) if found.commas else None
            guess = between[0] if between else None
        wanted = block
        text = text[taken:]
        assert place.offset is not None
        place.record += len(batch)
        place.offset += taken
        if closed:
            yield batch
            _check_end(text, stream, place)
            return
        batch.append(place.mark())
        yield batch
        del batch  # the memory is used again for the next one


def _opened(stream: Stream, place: Place) -> bytes | None:
    """Take the bracket that opens the array; None: the file is empty."""
    assert place.offset is not None
    while data := stream.read(1):
        place.offset += 1
        if data == b"[":
            return b""
        if data not in _BLANK:
            raise SourceError(
                f"{place}: it does not begin with [, as a JSON array does, but with {data!r}; "
                'set format = "ndjson" if it holds an object on each line'
            )
    return None


def _elements(text: bytes, place: Place) -> _Elements:
    """Find the elements that are whole in `text`, which begins between two elements."""
    commas: list[int] = []
    depth = 0
    for token in _TOKEN.finditer(text):
        kind = token[0]
        if kind == b",":
            if depth == 0:
                commas.append(token.start())
        elif kind in b"[{":
            depth += 1
        elif kind == b'"':
            break
        elif kind in b"]}":
            depth -= 1
            if depth < 0:
                if kind == b"}":
                    raise SourceError(
                        f"{place}: a bracket is closed that was not opened, after {place.record + len(commas)} "
                        f"elements (byte {(place.offset or 0) + token.start()}); mend the file"
                    )
                commas.append(token.start())
                return _Elements(commas, True)
    return _Elements(commas, False)


def _decoded(text: bytes, ends: list[int], place: Place) -> list[Any]:
    """Decode elements one by one; the array may be empty, but no element may."""
    decode = msgspec.json.Decoder().decode
    batch: list[Any] = []
    start = 0
    for end in ends:
        element = text[start:end].strip(_BLANK)
        where = f"{place}, element {place.record + len(batch) + 1} (byte {(place.offset or 0) + start})"
        if element or place.record or len(ends) > 1:
            try:
                value = decode(element)
            except _NOT_JSON as error:
                batch.append(unreadable(element, where, why_not_json(element, error)))
            else:
                batch.append(
                    value if type(value) is dict else unreadable(element, where, not_an_object(value))
                )
        start = end + 1
    return batch


def _check_end(text: bytes, stream: Stream, place: Place) -> None:
    """Make sure that nothing follows the array."""
    while text or (text := stream.read(1 << 16)):
        if rest := text.strip(_BLANK):
            raise SourceError(
                f"{place}: something follows the array's end, after {place.record} elements: {rest[:40]!r}; "
                "one file holds one array: mend it, or make it NDJSON"
            )
        text = b""
