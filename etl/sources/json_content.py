"""JSON in any of its layouts, from a place to the end; and what to tell of a file that seems to be an envelope."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

from etl.sources import json_array, json_documents, json_layout, json_path, json_records, json_sequence, lines
from etl.sources.decoding import Stream
from etl.sources.json_decoder import DECODER, Decoder
from etl.sources.json_text import BLANK
from etl.sources.place import Place

LOG = logging.getLogger("etl.sources")

_BOM = b"\xef\xbb\xbf"
_MOST_TOLD = 100


def separators(kind: str, head: bytes, records: str | None) -> bytes:
    """Return the bytes of which one stands before a place where reading goes on."""
    if kind == "json":
        return b",}]" if records is not None else b"," if _is_array(head) else b"}]"
    return json_sequence.SEPARATOR if kind == "json-seq" else b"\n"


def read(
    stream: Stream,
    place: Place,
    kind: str,
    head: bytes,
    records: str | None,
    told: set[str],
    *,
    block: int,
    decoder: Decoder = DECODER,
) -> Iterator[list[Any]]:
    """Decode JSON; yields lists of records with marks.

    Args:
        stream: the content, at `place`.
        place: moved on with what was read.
        kind: `ndjson`, `json` or `json-seq`.
        head: the first bytes of the content.
        records: the path of the rows; None: each object is one.
        told: what was told already; what is told now is added.
        block: how many bytes to decode at once.
        decoder: decodes records.
    """
    if kind == "json" and records is not None:
        return json_records.read(stream, place, records, block=block, decoder=decoder)
    if kind == "json" and _is_array(head):
        return json_array.read(stream, place, block=block, decoder=decoder)
    rows = None if records is None else partial(json_path.rows_of, decoder, records)
    if kind == "json-seq":
        batches = json_sequence.read(stream, place, block=block, decoder=decoder, rows=rows)
    elif kind == "json":
        batches = json_documents.read(stream, place, block=block, decoder=decoder)
    else:
        batches = lines.read(stream, place, block=block, decoder=decoder, rows=rows)
    return batches if records is not None or place.record else _looked_at(batches, place, told)


def _is_array(head: bytes) -> bool:
    return head.removeprefix(_BOM).lstrip(BLANK)[:1] not in (b"{", b"")


def _looked_at(batches: Iterator[list[Any]], place: Place, told: set[str]) -> Iterator[list[Any]]:
    """Tell of a content of one object that seems to hold the rows: it is legal as one row, and seldom meant."""
    said: str | None = None
    first = True
    for batch in batches:
        if first and place.record == 1 and type(batch[0]) is dict:
            said = _envelope(batch[0])  # before others have it, and change it
        first = False
        yield batch
    if said is not None and said not in told and place.record == 1:
        if len(told) < _MOST_TOLD:
            told.add(said)  # once, as many files may be alike
        LOG.warning("%s holds one object, which is loaded as one row, but %s", place, said)


def _envelope(record: dict[str, Any]) -> str | None:
    found = json_layout.paths_of_rows(record)
    if len(found) == 1:
        return f"it has an array of objects at {found[0]!r}: for a row for each of these set records = {found[0]!r}"
    if not found and json_layout.is_of_rows(record):
        return 'its members are objects with the same fields: for a row for each of these set records = "*"'
    return None
