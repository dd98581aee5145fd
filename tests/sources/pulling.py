"""What the tests of sources do with a pull."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from pathlib import Path
from typing import Any

import zstandard

from etl.records import Mark, Unreadable
from etl.sources import Files


def pull(source: Files, cursor: Any = None) -> list[Any]:
    """Return all that a pull yields, marks too."""
    return list(source.pull(cursor))


def taken(source: Files, cursor: Any = None) -> list[Any]:
    """Return what a pull yields but the marks; unreadable records as `(raw, reason)`."""
    return values(pull(source, cursor))


def values(items: list[Any]) -> list[Any]:
    """Return what is no mark; unreadable records as `(raw, reason)`."""
    return [
        (item.raw, item.reason) if isinstance(item, Unreadable) else item
        for item in items
        if not isinstance(item, Mark)
    ]


def last_cursor(source: Files, cursor: Any = None) -> Any:
    """Return the cursor of a pull's last mark."""
    return next(item.cursor for item in reversed(pull(source, cursor)) if isinstance(item, Mark))


def assert_resumes_everywhere(source: Files) -> None:
    """Pull from each mark, as JSON keeps it, and compare with the rest of the first pull."""
    items = pull(source)
    marks = [index for index, item in enumerate(items) if isinstance(item, Mark)]
    assert marks
    for index in marks:
        cursor = json.loads(json.dumps(items[index].cursor))
        assert taken(source, cursor) == values(items[index:]), cursor


def small_blocks(source: Files, size: int) -> Files:
    """Let `source` decode `size` bytes at once."""
    source._content._block_bytes = size
    return source


def ndjson(records: list[Any]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def compress(data: bytes, compression: str, name: str = "data") -> bytes:
    """Compress in more than one piece, as far as the compression knows such."""
    half = len(data) // 2
    if compression == "gzip":
        return gzip.compress(data[:half]) + gzip.compress(data[half:])
    if compression == "zstd":
        return zstandard.compress(data[:half]) + zstandard.compress(data[half:])
    if compression == "bzip2":
        return bz2.compress(data[:half]) + bz2.compress(data[half:])
    if compression == "xz":
        return lzma.compress(data[:half]) + bytes(4) + lzma.compress(data[half:])
    if compression == "zip":
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, data)
        return packed.getvalue()
    return data


def write(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path
