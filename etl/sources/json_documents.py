"""JSON objects one after the other, each over as many lines as it likes, with blanks between them.

It is what programs print for people to read, and what `jq` writes. A file of one object is one of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from etl.errors import SourceError
from etl.sources import json_numbers
from etl.sources.bounds import too_long
from etl.sources.decoding import Stream
from etl.sources.json_decoder import DECODER, Decoder
from etl.sources.json_text import BLANK, TOKEN, Text
from etl.sources.lines import OBJECTS, row_of
from etl.sources.place import Place, first_unreadable

# What stands between two objects and, as a text of JSON has no line ends within strings, nowhere else.
_BETWEEN = (b"}\n{", b"}\r\n{")


def read(stream: Stream, place: Place, *, block: int, decoder: Decoder = DECODER) -> Iterator[list[Any]]:
    """Decode objects; yields lists of records, each with a mark at its end, which lies behind an object.

    Args:
        stream: the content, at `place`.
        place: moved on with what was read.
        block: how many bytes to decode at once.
        decoder: decodes records.

    Raises:
        SourceError: something stands between two objects, or it ends within one.
    """
    text = Text(stream, place, block, decoder.most)
    wanted = block
    while True:
        ended = len(text.data) < wanted and not text.more(wanted - len(text.data))
        found = _at_once(text.data, block, decoder)
        if found is None:
            ends = _ends(text, place, block)
            batch = _one_by_one(text, ends, place, decoder)
            if sound := first_unreadable(batch):
                del batch[sound:], ends[sound:]
            found = batch, ends[-1] if ends else 0
        batch, taken = found
        if not taken:
            if not text.data.strip(BLANK):
                if ended:
                    return
                text.take(len(text.data))
            elif ended:
                raise SourceError(
                    f"{place}: the object that begins at byte {text.at} is not closed, the file ends after "
                    f"{place.record} others: it is cut short; fetch it again, and run again. If it should hold an "
                    'object on each line, set format = "ndjson"'
                )
            elif len(text.data) > text.longest:
                raise SourceError(
                    f"{place}: the object that begins at byte {text.at}, after {place.record} others, is "
                    f"{too_long(text.longest)}. If it holds the rows, let `records` name their path"
                )
            wanted = text.next_size(block)
            continue
        wanted = block
        text.take(taken)
        place.record += len(batch)
        text.settle()
        batch.append(place.mark())
        yield batch
        del batch, found  # the memory is used again for the next one


def _at_once(data: bytes, block: int, decoder: Decoder) -> tuple[list[Any], int] | None:
    """Decode all objects that end before another one begins on the next line; None: that is not how it is."""
    for between in _BETWEEN:
        end = data.rfind(between, 0, 2 * block) + 1
        if end:
            objects = data[:end].replace(between, between.replace(b"}", b"},"))
            try:
                batch = decoder.records(b"[" + objects + b"]")
            except json_numbers.NOT_JSON:
                return None
            right = len(batch) == data.count(between, 0, end) + 1 and OBJECTS.issuperset(map(type, batch))
            return (batch, end) if right else None
    return None


def _ends(text: Text, place: Place, enough: int) -> list[int]:
    """Find where values end that are whole: the first one, and others within the first `enough` bytes.

    Raises:
        SourceError: something else stands between them.
    """
    ends: list[int] = []
    begin = depth = 0
    for token in TOKEN.finditer(text.data):
        kind = token[0]
        if depth == 0:
            begin = ends[-1] if ends else 0
            if kind not in (b"{", b"[") or text.data[begin : token.start()].strip(BLANK):
                break
        if kind in (b"{", b"["):
            depth += 1
        elif kind in (b"}", b"]"):
            depth -= 1
            if depth == 0:
                ends.append(token.end())
                if token.end() >= enough:
                    return ends
        elif kind == b'"':
            return ends
    begin = ends[-1] if ends else 0
    rest = text.data[begin:].lstrip(BLANK)
    if not ends and rest and rest[:1] not in b"{[":
        raise SourceError(
            f"{place}: at byte {text.at + len(text.data) - len(rest)}, after {place.record} objects, stands "
            f"{rest[:40]!r}, where an object should begin: fix the file"
        )
    return ends


def _one_by_one(text: Text, ends: list[int], place: Place, decoder: Decoder) -> list[Any]:
    batch: list[Any] = []
    begin = 0
    for end in ends:
        value = text.data[begin:end].lstrip(BLANK)
        where = f"{place}, object {place.record + len(batch) + 1} (byte {text.at + end - len(value)})"
        batch += row_of(decoder, value, where)
        begin = end
    return batch
