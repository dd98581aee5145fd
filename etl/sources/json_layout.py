"""How JSON is laid out in a file: an object on each line, objects over many lines, or a sequence (RFC 7464)."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, Literal

from etl.sources import json_numbers
from etl.sources.json_sequence import SEPARATOR
from etl.sources.json_text import BLANK, TOKEN, end_of

Layout = Literal["ndjson", "json", "json-seq"]

# Lines are lines there, whatever the first one looks like. `.geojsonl`: GDAL, driver GeoJSONSeq.
LINES = frozenset({".ndjson", ".jsonl", ".geojsonl"})
_BOM = b"\xef\xbb\xbf"
_CLOSES = {b"{": b"}", b"[": b"]"}


def is_sequence(head: bytes) -> bool:
    """Say whether a content begins as a JSON text sequence does."""
    return head.removeprefix(_BOM)[:1] == SEPARATOR


def layout(name: str, head: bytes, whole: bool, *, records: bool) -> Layout:
    """Tell how JSON is laid out that does not begin with an array.

    Args:
        name: the end of the path.
        head: the first bytes.
        whole: they are all there are.
        records: whether the rows are within documents.
    """
    if is_sequence(head):
        return "json-seq"
    if LINES.intersection(suffix.lower() for suffix in PurePath(name).suffixes):
        return "ndjson"
    return "json" if records or _over_lines(head, whole) else "ndjson"


def _over_lines(head: bytes, whole: bool) -> bool:
    """Say whether an object begins here that has no line to itself, and is no line that was cut."""
    text = head.removeprefix(_BOM).lstrip(BLANK)
    first, line_end, rest = text.partition(b"\n")
    if (
        text[:1] == b"{"
        and (end := end_of(text, len(first)))
        and text[end:].lstrip(b" \t\r").startswith(b"{")
    ):
        return True  # another follows on the line, as Amazon's Firehose writes them
    if not line_end or text[:1] != b"{" or _is_json(first):
        return False
    opened: list[bytes] = []
    upto, closers = 0, b""
    for token in TOKEN.finditer(text):
        kind = token[0]
        if kind in _CLOSES:
            opened.append(_CLOSES[kind])
        elif kind == b'"':
            break
        elif kind in (b"}", b"]"):
            opened.pop()
            if not opened:
                return token.end() > len(first) and _is_json(text[: token.end()])
        elif kind != b",":
            continue
        upto, closers = (token.start() if kind == b"," else token.end()), b"".join(reversed(opened))
    following = rest.partition(b"\n")[0].strip(BLANK)
    if whole and following.startswith(b"{") and _is_json(following):
        return False  # a line that was cut, before one that was not
    # closed where it was cut, what there is of the object must be JSON
    return _is_json(text[:upto] + closers)


def _is_json(text: bytes) -> bool:
    try:
        json_numbers.loads(text)
    except json_numbers.NOT_JSON:
        return False
    return True


def paths_of_rows(record: dict[str, Any], depth: int = 3) -> list[str]:
    """Return where arrays of objects are in a record: what might be the rows, and the record their envelope."""
    found: list[str] = []
    for name, value in record.items():
        if type(value) is list and value and all(type(one) is dict for one in value):
            found.append(name)
        elif type(value) is dict and depth > 1:
            found += [f"{name}.{below}" for below in paths_of_rows(value, depth - 1)]
    return found


def is_of_rows(record: dict[str, Any]) -> bool:
    """Say whether a record looks like an object of rows: two or more objects, all of the same fields."""
    rows = list(record.values())
    if len(rows) < 2 or type(rows[0]) is not dict or not rows[0]:
        return False
    return all(type(row) is dict and row.keys() == rows[0].keys() for row in rows)
