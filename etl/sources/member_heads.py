"""What the first bytes of a member show of its table: what kind it is, and its columns."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from typing import Any

import msgspec

from etl.errors import SourceError
from etl.sources import csv_head
from etl.sources.csv_dialect import is_tsv
from etl.sources.csv_lines import CsvBlocks, find_line_end
from etl.sources.csv_options import Options
from etl.sources.decoding import Stream
from etl.sources.members import Shape
from etl.sources.place import Place

# Looked at of each member: some hundreds of records.
HEAD_BYTES = 1 << 16
_RECORDS = 20
_LINE = 60  # characters of a header that cannot be read
_KINDS = {"csv": "CSV", "json": "JSON", "ndjson": "JSON", "json-seq": "JSON", "parquet": "Parquet"}


def shape_of(kind: str, head: bytes, place: Place, options: Options) -> Shape:
    """Tell the shape of a member.

    Args:
        kind: its format, or another word for what it is.
        head: its first bytes, without a byte order mark; more may follow where there are `HEAD_BYTES`.
        place: the member, for messages.
        options: how CSV is read.
    """
    columns = None
    if kind == "csv":
        try:
            columns = _columns(head, place, options)
        except SourceError:
            # it is met again where it is read; those that begin alike may be one table
            line = head.decode(options.encoding, "replace").lstrip("\ufeff").partition("\n")[0].strip()
            return Shape("CSV with a header that cannot be read", (line[:_LINE],))
    elif kind in ("json", "ndjson", "json-seq"):
        columns = _keys(head) or None
    return Shape(_KINDS.get(kind, kind), columns)


def _columns(head: bytes, place: Place, options: Options) -> tuple[str, ...] | None:
    if options.header is not True:
        return None  # the job names them
    if len(head) >= HEAD_BYTES:
        head = head[: max(head.rfind(b"\n"), head.rfind(b"\r")) + 1]
    looked = Place(file=place.file, member=place.member, offset=0)
    stream = Stream(io.BytesIO(head), "none", ())
    find_line_end(stream, looked, options)
    blocks = CsvBlocks(stream, looked, len(head) + 1, len(head) + 1, 0)
    options = msgspec.structs.replace(options, types={})
    csv_head.read_head(
        blocks, looked, options, tabs=is_tsv(looked.member or looked.file), tell=lambda _said: None
    )
    return None if looked.columns is None else tuple(looked.columns)


def _keys(head: bytes) -> tuple[str, ...]:
    """Return the keys of the first objects, one after the other or in an array."""
    text = head.decode("utf-8", "replace").lstrip(" \t\r\n\x1e").removeprefix("[")
    decode = json.JSONDecoder().raw_decode
    keys: dict[str, None] = {}
    with suppress(ValueError, RecursionError):
        for _ in range(_RECORDS):
            value: Any
            value, end = decode(text)
            if isinstance(value, dict):
                keys.update(dict.fromkeys(value))
            text = text[end:].lstrip(" \t\r\n,\x1e")
    return tuple(keys)
