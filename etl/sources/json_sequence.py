"""JSON text sequences (RFC 7464), as GeoJSON text sequences (RFC 8142) are: 0x1E begins each text.

A text that was cut is unreadable by itself, and reading goes on with the next 0x1E (section 2.4): JSON has that byte
nowhere else. Empty texts are passed over (section 2.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from etl.errors import SourceError
from etl.records import Unreadable
from etl.sources import json_numbers
from etl.sources.bounds import too_long
from etl.sources.decoding import Stream
from etl.sources.json_decoder import DECODER, Decoder
from etl.sources.json_text import BLANK, Text
from etl.sources.lines import OBJECTS, row_of
from etl.sources.place import Place
from etl.sources.refusals import Unended

SEPARATOR = b"\x1e"


def read(
    stream: Stream,
    place: Place,
    *,
    block: int,
    decoder: Decoder = DECODER,
    rows: Callable[[bytes, str], list[Any]] | None = None,
) -> Iterator[list[Any]]:
    """Decode a sequence; yields lists of records, each with a mark at its end, which lies before a 0x1E.

    Args:
        stream: the content, at `place`.
        place: moved on with what was read.
        block: how many bytes to decode at once.
        decoder: decodes records.
        rows: makes rows of a text, and of where it is; None: each text is a row.

    Raises:
        SourceError: it does not begin with 0x1E, or a text is too long.
    """
    text = Text(stream, place, block, decoder.most)
    if (first := text.first()) != SEPARATOR and first:
        raise SourceError(
            f"{place}: it does not begin with 0x1E, as a JSON text sequence does (RFC 7464), but with "
            f'{text.data[:20]!r}; set format = "ndjson" if it holds an object on each line'
        )
    wanted = block
    ended = False
    while True:
        if not ended and len(text.data) < wanted:
            ended = not text.more(wanted - len(text.data))
        taken = text.data.rfind(SEPARATOR, 1, block)
        if taken < 0:  # a text that is longer than a block comes by itself
            taken = text.data.find(SEPARATOR, block)
        if taken < 0 and ended:
            taken = len(text.data)
            begun = text.data[1:].strip(BLANK)
            if not begun:
                taken = 0  # what comes after it some day is a text
            elif begun[:1] in (b"{", b"[") and not json_numbers.is_whole(begun) and stream.grows():
                raise Unended
        if not taken:
            return
        if taken < 0:
            if len(text.data) > text.longest:
                raise SourceError(
                    f"{place}: text {place.record + 1}, which begins at byte {text.at}, is {too_long(text.longest)}"
                )
            wanted = text.next_size(block)
            continue
        texts = text.data[:taken]
        batch = None if rows is not None else _at_once(texts, decoder)
        if batch is None:
            batch, taken = _one_by_one(texts, text.at, place, rows or partial(row_of, decoder))
        wanted = block
        text.take(taken)
        place.record += len(batch)
        text.settle()
        batch.append(place.mark())
        yield batch
        del batch  # the memory is used again for the next one


def _at_once(texts: bytes, decoder: Decoder) -> list[Any] | None:
    try:
        batch = decoder.records(b"[" + texts[1:].replace(SEPARATOR, b",") + b"]")
    except json_numbers.NOT_JSON:
        return None
    return batch if len(batch) == texts.count(SEPARATOR) and OBJECTS.issuperset(map(type, batch)) else None


def _one_by_one(
    texts: bytes, at: int, place: Place, rows: Callable[[bytes, str], list[Any]]
) -> tuple[list[Any], int]:
    """Decode texts up to one that is unreadable, if it is not the first; returns how many bytes they are, too."""
    batch: list[Any] = []
    size = 0
    for raw in texts.split(SEPARATOR)[1:]:
        if value := raw.strip(BLANK):
            where = f"{place}, text {place.record + len(batch) + 1} (byte {at + size})"
            found = rows(value, where)
            if batch and any(type(row) is Unreadable for row in found) and type(batch[0]) is not Unreadable:
                return batch, size
            batch += found
        size += len(raw) + 1
    return batch, len(texts)
