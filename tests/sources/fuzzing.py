"""Reads damaged files of each format: random bytes, cuts, flips. Started by `test_fuzz.py` as a process of its own.

`python tests/sources/fuzzing.py FORMAT ROUNDS [FIRST]` tries that many damaged files, from the round FIRST on, and
prints what was found as JSON. A round is the same each time: its number is the seed.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import resource
import sys
import tarfile
import tempfile
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import zstandard

from etl.errors import EtlError, SourceError
from etl.records import Mark, Unreadable
from etl.sources import Files

ROWS: list[dict[str, Any]] = [
    {"id": number, "name": f"row {number}", "price": number + 0.25, "note": "é" * (1 + number % 7)}
    for number in range(1, 60)
]
# What damage likes to look like: ends, quotes, brackets, magic numbers, text in other encodings.
_PIECES = (
    *(
        b"\n",
        b"\r",
        b"\r\n",
        b'"',
        b"'",
        b",",
        b";",
        b"\t",
        b"|",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b"\\",
        b"#",
        b"\0",
    ),
    *(
        b"\x1e",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xfe\xff",
        b"\x1f\x8b\x08",
        b"PK\x03\x04",
        b"PAR1",
        b"BZh9",
        b"<html>",
    ),
    *(
        b"null",
        b"NaN",
        b"Infinity",
        b"1e400",
        b"-",
        b"0" * 30,
        b"9" * 400,
        b"\xd8\x00",
        b"sep=;\n",
        b"\\u0000",
    ),
    *(b"x" * 5_000, b"[" * 2_000, b'{"a":' * 300, b"a,b\n" * 50),
)


def _ndjson(rows: list[dict[str, Any]] = ROWS) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def _csv(delimiter: str = ",", **dialect: Any) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n", **dialect)
    writer.writerow(ROWS[0])
    writer.writerows(row.values() for row in ROWS)
    return text.getvalue()


def _zip(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def _tar(**members: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    return file.getvalue()


def _parquet() -> bytes:
    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    table = pyarrow.Table.from_pylist(ROWS)
    pyarrow.parquet.write_table(table, file, row_group_size=20, write_page_checksum=True)
    return file.getvalue()


def _workbook() -> bytes:
    """Write a workbook as ECMA-376 has it, with nothing in it but a sheet of `ROWS`."""
    cells = [list(ROWS[0]), *(list(row.values()) for row in ROWS)]
    sheet = "".join(f"<row>{''.join(_cell(value) for value in values)}</row>" for values in cells)
    space = "http://schemas.openxmlformats.org"
    main, relations = f"{space}/spreadsheetml/2006/main", f"{space}/officeDocument/2006/relationships"
    package = f"{space}/package/2006"
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    return _zip(
        **{
            "[Content_Types].xml": (
                f'<Types xmlns="{package}/content-types"><Default Extension="rels" ContentType="application/vnd.'
                f'openxmlformats-package.relationships+xml"/><Override PartName="/xl/workbook.xml" ContentType="{kind}.'
                f'sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="{kind}.worksheet+xml"/>'
                "</Types>"
            ).encode(),
            "_rels/.rels": (
                f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" Type="{relations}/'
                'officeDocument" Target="xl/workbook.xml"/></Relationships>'
            ).encode(),
            "xl/workbook.xml": (
                f'<workbook xmlns="{main}" xmlns:r="{relations}"><sheets><sheet name="Rows" sheetId="1" r:id="r1"/>'
                "</sheets></workbook>"
            ).encode(),
            "xl/_rels/workbook.xml.rels": (
                f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" Type="{relations}/worksheet" '
                'Target="worksheets/sheet1.xml"/></Relationships>'
            ).encode(),
            "xl/worksheets/sheet1.xml": (
                f'<worksheet xmlns="{main}"><sheetData>{sheet}</sheetData></worksheet>'
            ).encode(),
        }
    )


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return f'<c t="inlineStr"><is><t>{value}</t></is></c>'
    return f"<c><v>{value}</v></c>"


_HALVES = {"a.ndjson": _ndjson(ROWS[:30]), "b.ndjson": _ndjson(ROWS[30:])}


@dataclass(frozen=True)
class Corpus:
    """A format.

    Attributes:
        name: of the file.
        make: returns a whole file, which holds `ROWS`.
        options: with which it is read.
        checked: whether it has a checksum, so that no other bytes pass for whole.
        reader: reads all rows that a damaged text may hold, in another way; None: nothing is compared with it.
    """

    name: str
    make: Callable[[], bytes]
    options: dict[str, Any]
    checked: bool = False
    reader: Callable[[bytes], Callable[[dict[str, Any]], bool]] | None = None


class _Number(str):
    """A number as it is written; equal to what it is read as, exactly or as a double."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return other in (float(self), Decimal(self))


def _objects_in(text: bytes) -> Callable[[dict[str, Any]], bool]:
    """Read every object that stands in a text, by Python's own decoder, from every brace on."""
    decoder = json.JSONDecoder(parse_float=_Number)
    words = text.decode(errors="surrogateescape")
    found = []
    for brace in re.finditer(r"\{", words):
        try:
            found.append(decoder.raw_decode(words, brace.start())[0])
        except (ValueError, RecursionError):
            continue
    return lambda row: row in found


def _fields_in(text: bytes) -> Callable[[dict[str, Any]], bool]:
    """Say of a row whether each of its values stands in a text, quotes and blanks apart."""
    words = re.sub(r'["\\]', "", text.decode(errors="replace"))
    numbers = {float(word) for word in re.findall(r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", words[:20_000])}

    def holds(row: dict[str, Any]) -> bool:
        for value in row.values():
            if isinstance(value, bool) or value is None:
                continue
            if isinstance(value, (int, float)):
                if value == value and abs(value) != float("inf") and float(value) not in numbers:
                    return False
            elif re.sub(r'["\\]', "", str(value)) not in words:
                return False
        return True

    return holds


CORPORA: dict[str, Corpus] = {
    "ndjson": Corpus("a.ndjson", _ndjson, {}, reader=_objects_in),
    "json": Corpus("a.json", lambda: json.dumps(ROWS, ensure_ascii=False).encode(), {}, reader=_objects_in),
    "csv": Corpus("a.csv", lambda: _csv().encode(), {}, reader=_fields_in),
    "csv with quotes": Corpus(
        "a.csv", lambda: _csv(";", quoting=csv.QUOTE_ALL).encode(), {}, reader=_fields_in
    ),
    "tsv": Corpus("a.tsv", lambda: _csv("\t").encode(), {}, reader=_fields_in),
    "csv without a suffix": Corpus("a", lambda: _csv("|").encode(), {}, reader=_fields_in),
    "gzip": Corpus("a.ndjson.gz", lambda: gzip.compress(_ndjson()), {}, checked=True),
    "zstd": Corpus(
        "a.ndjson.zst",
        lambda: zstandard.ZstdCompressor(write_checksum=True).compress(_ndjson()),
        {},
        checked=True,
    ),
    "zip": Corpus("a.zip", lambda: _zip(**_HALVES), {}, checked=True),
    "bzip2": Corpus("a.ndjson.bz2", lambda: bz2.compress(_ndjson()), {}, checked=True),
    "xz": Corpus("a.ndjson.xz", lambda: lzma.compress(_ndjson()), {}, checked=True),
    "gzip in gzip": Corpus("a.ndjson.gz", lambda: gzip.compress(gzip.compress(_ndjson())), {}, checked=True),
    "tar": Corpus("a.tar", lambda: _tar(**_HALVES), {}),
    "tar in gzip": Corpus("a.tar.gz", lambda: gzip.compress(_tar(**_HALVES)), {}, checked=True),
    "UTF-16": Corpus("a.csv", lambda: _csv().encode("utf-16"), {"encoding": "utf-16"}),
    "JSON sequence": Corpus(
        "a.json-seq", lambda: b"".join(b"\x1e" + line for line in _ndjson().splitlines(True)), {}
    ),
    "JSON over lines": Corpus(
        "a.json", lambda: "\n".join(json.dumps(row, indent=1) for row in ROWS).encode(), {}
    ),
    "JSON under a key": Corpus(
        "a.json",
        lambda: json.dumps({"meta": {"n": [1, {}]}, "data": {"rows": ROWS}, "end": [[]]}).encode(),
        {"records": "data.rows"},
    ),
    "workbook": Corpus("a.xlsx", _workbook, {}),
    "parquet": Corpus("a.parquet", _parquet, {}),
}


def damaged(whole: bytes, random: Random) -> tuple[bytes, str]:
    """Return a file that was damaged in one way or several, and the name of the way."""
    kind = random.choice(("cut", "flip", "flips", "piece", "hole", "twice", "noise"))
    data = bytearray(whole)
    at = random.randrange(len(data))
    if kind == "cut":
        del data[at:]
    elif kind in ("flip", "flips"):
        for _ in range(1 if kind == "flip" else random.randrange(2, 12)):
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    elif kind == "piece":
        data[at:at] = random.choice(_PIECES)
    elif kind == "hole":
        del data[at : at + random.randrange(1, 400)]
    elif kind == "twice":
        data[at:at] = data[at : at + random.randrange(1, 400)]
    else:
        data[: random.choice((8, 64, len(data)))] = random.randbytes(random.choice((8, 64, 600)))
    return bytes(data), kind


def outcome(source: Files, cursor: Any = None) -> tuple[list[Any], str]:
    """Pull until the end or an error; returns what came, marks too, and the error's kind; empty: none.

    Raises:
        Exception: one that is none of this library's, which is what must not be.
    """
    items: list[Any] = []
    try:
        with closing(source.pull(cursor)) as pull:  # type: ignore[type-var]  # a generator
            items.extend(iter(pull))
    except EtlError as error:
        if not isinstance(error, SourceError):
            raise
        if "a." not in str(error) and str(Path(source.paths[0])) not in str(error):
            raise AssertionError(f"the message names no file: {error}") from error
        return items, type(error).__name__
    return items, ""


def plain(items: list[Any]) -> list[Any]:
    """Return what came, without marks, so that it can be compared."""
    return [
        (item.raw, item.reason) if isinstance(item, Unreadable) else item
        for item in items
        if not isinstance(item, Mark)
    ]


def problems(corpus: Corpus, path: Path, data: bytes, kind: str, random: Random) -> Iterator[str]:
    """Read one damaged file, and yield what is wrong with what came out of it."""
    path.write_bytes(data)
    options = corpus.options
    items, error = outcome(Files(path, **options))
    rows = [item for item in items if isinstance(item, dict)]
    if corpus.checked and not error and kind != "noise" and rows != ROWS and not _shorter(rows):
        yield f"{len(rows)} rows came without an error, and they are not those that were written"
    if corpus.reader is not None:
        held = corpus.reader(data)
        strange = [row for row in rows if row not in ROWS and not held(row)]
        if strange:
            yield f"a row that the file does not hold: {str(strange[0])[:300]}"
    marks = [index for index, item in enumerate(items) if isinstance(item, Mark)]
    if marks:
        index = random.choice(marks)
        cursor = json.loads(json.dumps(items[index].cursor))
        rest, other = outcome(Files(path, **options), cursor)
        if repr(plain(rest)) != repr(plain(items[index:])) or other != error:
            yield (
                f"resumed at {cursor}: {len(plain(rest))} items and {other or 'no error'} in place of "
                f"{len(plain(items[index:]))} and {error or 'none'}"
            )


def _shorter(rows: list[Any]) -> bool:
    """Say whether whole members are missing, or come twice, which no checksum of a member tells."""
    return all(row in ROWS for row in rows) and len(rows) % 29 in (0, 1)


def run(name: str, rounds: int, first: int, folder: Path) -> dict[str, Any]:
    """Try damaged files; return how they ended, what was wrong, and by how many KiB the memory grew."""
    corpus = CORPORA[name]
    whole = corpus.make()
    path = folder / corpus.name
    path.write_bytes(whole)
    items, error = outcome(Files(path, **corpus.options))
    wrong = [] if plain(items) == ROWS and not error else [f"undamaged: {error}, {len(items)} items"]
    ended: Counter[str] = Counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(first, first + rounds):
        random = Random(number)
        data, kind = damaged(whole, random)
        try:
            found = list(problems(corpus, path, data, kind, random))
        except Exception:
            found = [traceback.format_exc()[-1500:]]
        wrong += [f"round {number} ({kind}): {text}" for text in found]
        ended["wrong" if found else kind] += 1
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"rounds": rounds, "ended": ended, "wrong": wrong, "growth": growth}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        json.dump(
            run(sys.argv[1], int(sys.argv[2]), int((sys.argv[3:] or ["0"])[0]), Path(place)), sys.stdout
        )
