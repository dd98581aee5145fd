"""Every format through every compression, told by content."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pulling import (
    assert_resumes_everywhere,
    compress,
    ndjson,
    small_blocks,
    taken,
    write,
)

from etl.records import Mark
from etl.sources import Files

RECORDS: list[Any] = [
    {
        "id": number,
        "name": ["plain", "with, comma", 'with "quotes"', "two\nlines", "naïve ☃", None][number % 6],
        "delay": None if number % 7 == 0 else number * 0.25,
        "late": number % 3 == 0,
        "at": f"2013-01-{number % 28 + 1:02}T10:00:00Z",
    }
    for number in range(200)
]


def as_csv(records: list[Any]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(records[0])
    for record in records:
        writer.writerow(
            str(value).lower() if isinstance(value, bool) else "" if value is None else value
            for value in record.values()
        )
    return text.getvalue().encode()


CONTENT = {
    "ndjson": ndjson(RECORDS),
    "csv": as_csv(RECORDS),
    "json": json.dumps(RECORDS, indent=2).encode(),
}


@pytest.mark.parametrize("compression", ["none", "gzip", "zip", "zstd"])
@pytest.mark.parametrize("format", ["ndjson", "csv", "json"])
def test_a_format_is_read_through_a_compression_whatever_the_file_is_called(
    tmp_path: Path, format: str, compression: str
) -> None:
    path = write(tmp_path / "data", compress(CONTENT[format], compression))
    assert taken(Files(path)) == RECORDS


@pytest.mark.parametrize("compression", ["none", "gzip", "zip", "zstd"])
@pytest.mark.parametrize("format", ["ndjson", "csv", "json"])
def test_a_pull_goes_on_at_every_mark(tmp_path: Path, format: str, compression: str) -> None:
    path = write(tmp_path / "data", compress(CONTENT[format], compression))
    assert_resumes_everywhere(small_blocks(Files(path), 700))


@pytest.mark.parametrize("size", [1, 7, 64, 333])
@pytest.mark.parametrize("format", ["ndjson", "csv", "json"])
def test_blocks_may_be_smaller_than_a_record(tmp_path: Path, format: str, size: int) -> None:
    path = write(tmp_path / "data", CONTENT[format])
    source = small_blocks(Files(path), size)
    assert taken(source) == RECORDS
    assert sum(isinstance(item, Mark) for item in source.pull(None)) > 3


@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("a.json", b'[{"a": 1}]', [{"a": 1}]),
        ("b.json", b'{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        ("c", b' \n[{"a": 1}]', [{"a": 1}]),
        ("d", b'{"a": 1}', [{"a": 1}]),
        ("e", b"a\n1\n", [{"a": 1}]),
        ("f.csv", b'{"a"\n1\n', [{'{"a"': 1}]),
        ("g.csv.gz", b"a\n1\n", [{"a": 1}]),
        ("h.TSV", b"a\tb\n1\t2\n", [{"a": 1, "b": 2}]),
        ("i.jsonl", b"", []),
        ("j.parquet", b"", []),
        ("k", b"", []),
        ("l.json", b"", []),
    ],
)
def test_the_format_is_told_by_the_name_and_then_by_the_content(
    tmp_path: Path, name: str, data: bytes, found: list[Any]
) -> None:
    assert taken(Files(write(tmp_path / name, data))) == found


def test_a_byte_order_mark_is_no_data(tmp_path: Path) -> None:
    for name, data in CONTENT.items():
        source = small_blocks(Files(write(tmp_path / name, b"\xef\xbb\xbf" + data)), 500)
        assert taken(source) == RECORDS
        assert_resumes_everywhere(source)


def test_a_source_is_picklable_even_while_it_is_read(tmp_path: Path) -> None:
    source = Files(write(tmp_path / "data", CONTENT["csv"]), types={"id": "string"})
    pulling = source.pull(None)
    next(pulling)
    again = pickle.loads(pickle.dumps(source))
    assert again.fingerprint() == source.fingerprint()
    assert taken(again) == taken(source)
    pulling.close()


def test_progress_goes_from_nothing_to_all(tmp_path: Path) -> None:
    numbers = random.Random(1)
    for name, compression in [("a", "none"), ("b", "gzip"), ("c", "zstd"), ("d", "zip")]:
        records = [{"number": numbers.getrandbits(64)} for _ in range(8_000)]
        write(tmp_path / name, compress(ndjson(records), compression))
    source = Files(tmp_path)
    assert source.progress() is None
    shares = [
        share
        for item in source.pull(None)
        if isinstance(item, Mark) and (share := source.progress()) is not None
    ]
    assert shares == sorted(shares)
    assert shares[0] < 0.1
    assert any(0.4 < share < 0.6 for share in shares)
    assert source.progress() == 1


def test_progress_counts_what_earlier_runs_have_read(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name, CONTENT["ndjson"])
    source = Files(tmp_path)
    cursor = next(
        item.cursor
        for item in source.pull(None)
        if isinstance(item, Mark) and item.cursor["file"].endswith("b")
    )
    pulling = source.pull(cursor)
    next(pulling)
    assert source.progress() == pytest.approx(0.5, abs=0.15)  # what was looked at counts
    pulling.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"paths": []}, "at least one"),
        ({"paths": ""}, "no path"),
        ({"paths": [3]}, "no path"),
        ({"paths": "https://host/a.csv"}, 'by the source "http"'),
        ({"paths": "gopher://host/a.csv"}, "gopher:// is not read; there are: s3://"),
        ({"paths": ["ftp://one/a.csv", "ftp://two/a.csv"]}, "reads from one place"),
        ({"paths": ["ftp://one/a.csv", "a.csv"]}, "reads from one place"),
        ({"paths": "ftp://me:word@host/a.csv"}, "password into `storage`"),
        ({"paths": "az://container@account.dfs.core.windows.net/a.csv"}, "into `storage`"),
        ({"paths": "ftp:///a.csv"}, "name a host"),
        ({"paths": "s3:///a.csv"}, "name a bucket"),
        ({"paths": "sftp://host:ssh/a.csv"}, "port is no number"),
        ({"paths": "ftp://host/a.csv", "storage": {"host": "other"}}, "the host is a part of the path"),
        ({"paths": "a.csv", "storage": {"anon": True}}, "storage: it is for URIs"),
        ({"paths": "a.csv", "on_late": "tell"}, "on_late: 'tell' is none of: warn, fail"),
        ({"paths": "a.csv", "deadline": 0}, "deadline"),
        ({"paths": "a", "format": "xml"}, "'xml' is none of: ndjson, csv, json, json-seq, parquet"),
        ({"paths": "a", "compression": "rar"}, "none, gzip, zip, zstd"),
        ({"paths": "a", "types": {"x": "int"}}, "types: x: 'int' is none of: string, integer"),
        ({"paths": "a", "delimiter": '"'}, "delimiter"),
        ({"paths": "a", "header": "a,b"}, "header"),
        ({"paths": "a", "header": ["a", "a"]}, "header"),
        ({"paths": "a", "null": "NA"}, "list of words"),
        ({"paths": "a", "encoding": "rot13"}, "no encoding of text files"),
        ({"paths": "a", "encoding": "idna"}, "no encoding of text files"),
        ({"paths": "a", "encoding": "klingon"}, "not known"),
        ({"paths": "a", "format": "ndjson", "delimiter": ","}, "for CSV"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_read(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Files(**arguments)


def test_the_fingerprint_changes_with_what_gives_cursors_their_meaning_and_only_with_that() -> None:
    one = Files("a.csv")
    assert one.fingerprint() == Files(["a.csv"], types={"x": "string"}, null=["-"]).fingerprint()
    others = [
        Files("b.csv"),
        Files("a.csv", format="ndjson"),
        Files("a.csv", compression="gzip"),
        Files("a.csv", delimiter=";"),
        Files("a.csv", header=False),
        Files("a.csv", encoding="latin-1"),
    ]
    assert len({one.fingerprint(), *(other.fingerprint() for other in others)}) == 7


def test_importing_sources_imports_nothing_heavy() -> None:
    code = (
        "import sys, etl.sources; print([name for name in"
        " ('google', 'duckdb', 'pyarrow', 'isal', 'zstandard', 'ijson') if name in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert shown.stdout.strip() == "[]"
