"""What a content is, by its first bytes: what is read whatever it is called, and what is refused by its name.

Each row has the bytes that its specification has a file begin with, or a whole file that its own library made.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import pytest
import zstandard
from pulling import pull, taken, write

from etl.errors import SourceError
from etl.sources import Files

TABLE = pa.table({"id": [1, 2], "name": ["a", "b"]})
ROWS = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
CSV = b"id,name\n1,a\n2,b\n"
NDJSON = b'{"id":1,"name":"a"}\n{"id":2,"name":"b"}\n'


def arrow(writer: Callable[[pa.Table, io.BytesIO], Any]) -> bytes:
    file = io.BytesIO()
    writer(TABLE, file)
    return file.getvalue()


def arrow_stream() -> bytes:
    file = io.BytesIO()
    with pa.ipc.new_stream(file, TABLE.schema) as stream:
        stream.write_table(TABLE)
    return file.getvalue()


PARQUET = arrow(pq.write_table)
NOISE = random.Random(1).randbytes(3000)

# What stands there is the kind's own specification; where there is none, the document that defines it.
REFUSED = {
    "Avro 1.11, Object Container Files": (b"Obj\x01\x04\x14avro.codec\x08null\x00", "it is Avro"),
    "ORC v1, written by pyarrow": (arrow(pyarrow.orc.write_table), "it is ORC"),
    "Arrow IPC file, written by pyarrow": (arrow(pyarrow.feather.write_feather), "Arrow IPC file"),
    "Feather, feather.fbs": (b"FEA1\x00\x00\x00\x00\x01\x00", "Feather, version 1"),
    "Arrow IPC stream, written by pyarrow": (arrow_stream(), "Arrow IPC stream"),
    "Parquet, Encryption.md": (b"PARE\x15\x04\x00\x00", "encrypted footer"),
    "SQLite, 1.2 Database Header": (
        b"SQLite format 3\x00\x10\x00\x01\x01",
        "SQLite database.*sqlite3 -header",
    ),
    "DuckDB, Storage Versions": (bytes(8) + b"DUCK\x40\x00\x00\x00", "DuckDB database"),
    "HDF5 File Format 3.0, II.A": (b"\x89HDF\r\n\x1a\n\x00\x00", "HDF5"),
    "netCDF classic format": (b"CDF\x01\x00\x00", "netCDF"),
    "NEP 1, numpy.lib.format": (b"\x93NUMPY\x01\x00\x76\x00{'descr': '<i8'}", "NumPy"),
    "pickletools, PROTO": (pickle.dumps(ROWS), "pickle"),
    "pickletools, PROTO 2": (pickle.dumps(ROWS, 2), "pickle"),
    "R Internals, 1.8": (gzip.compress(b"X\n\x00\x00\x00\x03"), "R data"),
    "lz4_Frame_format.md 1.6.3": (b"\x04\x22\x4d\x18\x64\x40\xa7", "compressed with lz4"),
    "snappy, framing_format.txt": (b"\xff\x06\x00\x00sNaPpY\x01\x0d", "compressed with snappy"),
    "7zFormat.txt": (b"7z\xbc\xaf\x27\x1c\x00\x04", "7z archive"),
    "RAR 5.0 archive format": (b"Rar!\x1a\x07\x01\x00", "rar archive"),
    "RAR 1.5 to 4": (b"Rar!\x1a\x07\x00\xcf", "rar archive"),
    "ncompress": (b"\x1f\x9d\x90\x69\xc8", r"compress \(\.Z\)"),
    "lzip manual, 4": (b"LZIP\x01\x0c\x00", "lzip"),
    "LZMA SDK, lzma-specification.txt": (
        lzma.compress(CSV * 9, format=lzma.FORMAT_ALONE),
        "compressed with lzma",
    ),
    "RFC 1950": (zlib.compress(CSV * 9), "compressed with zlib"),
    "RFC 1950, fastest": (zlib.compress(CSV * 9, 1), "compressed with zlib"),
    "ISO 32000-2, 7.5.2": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "it is PDF"),
    "Rich Text Format 1.9.1": (rb"{\rtf1\ansi{\fonttbl}", "it is RTF"),
    "git-lfs, spec.md": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n", "Git LFS"),
    "MHTML, RFC 2557, called .xls": (b"MIME-Version: 1.0\r\nX-Document-Type: Workbook\r\n", "MHTML"),
    "SYLK": (b"ID;PWXL;N;E\r\nP;PGeneral\r\n", "SYLK"),
    "RFC 7468": (b"-----BEGIN PGP MESSAGE-----\n\nhQEMA\n", "encrypted"),
    "RFC 5545": (b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\n", "calendar"),
    "mysqldump": (b"-- MySQL dump 10.13  Distrib 8.0\n--\n", "SQL, a dump"),
    "pg_dump": (b"--\n-- PostgreSQL database dump\n--\n", "SQL, a dump"),
    "PNG, RFC 2083, 3.1": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "picture"),
    "JPEG, ISO 10918-1, B.1": (b"\xff\xd8\xff\xe0\x00\x10JFIF", "picture"),
    "ELF, System V ABI, chapter 4": (b"\x7fELF\x02\x01\x01\x00", "program"),
    "numbers in binary": (struct.pack("<20i", *range(20)), "it is binary"),
    "what no kind is known of": (NOISE, "it is binary"),
    "zeros": (bytes(5000), "it is binary"),
    "a zero in CSV": (b"a,b\n1,\x00\n", "it is binary"),
    "a control character among the names": (b"\x14\x04id,name\n1,a\n" * 20, "control characters"),
    "many control characters": (b"1\x01a\x012\n2\x01b\x013\n", "control characters.*set `delimiter`"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_text_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    data, said = REFUSED[kind]
    with pytest.raises(SourceError, match=rf"a\.csv: .*{said}") as raised:
        pull(Files(write(tmp_path / "a.csv", data)))
    assert "encoding" not in str(raised.value)


@pytest.mark.parametrize("format", ["csv", "ndjson", "json", "parquet"])
@pytest.mark.parametrize("kind", ["Avro 1.11, Object Container Files", "zeros", "RFC 1950"])
def test_no_format_makes_text_of_it(tmp_path: Path, kind: str, format: Any) -> None:
    data, said = REFUSED[kind]
    with pytest.raises(SourceError, match=said):
        pull(Files(write(tmp_path / "a", data), format=format))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.yaml", "- id: 1\n  name: a\n", "it is YAML"),  # RFC 9512
        ("a.yml.gz", "---\nid: 1\n", "it is YAML"),
        ("a.toml", "[table]\na = 1\n", "it is TOML"),
        ("a.sql", "INSERT INTO t VALUES\n(1, 2),\n(3, 4);\n", "it is SQL.*load it into a database"),
        ("README.md", "# Data\nThese are the data.\n", "it is Markdown"),
    ],
)
def test_a_text_that_is_no_table_is_known_by_its_name(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    path = write(tmp_path / name, gzip.compress(text.encode()) if name.endswith(".gz") else text)
    with pytest.raises(SourceError, match=rf'{name}: {said}.*set format = "csv"'):
        pull(Files(path))
    assert pull(Files(write(tmp_path / name, '{"a":1}\n')))
    assert not any(isinstance(item, dict) for item in pull(Files(write(tmp_path / name, ""))))


def zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("first.csv", data)
    return file.getvalue()


@pytest.mark.parametrize("wrap", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress, zipped])
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"Obj\x01\x04\x14", "Avro"),
        (b"<html>", "HTML"),
        (b"<?xml version='1.0'?><a/>", "XML"),
        (NOISE, "binary"),
    ],
)
def test_it_is_told_at_each_level_of_wrapping(
    tmp_path: Path, data: bytes, said: str, wrap: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(SourceError, match=rf"a\.csv.*{said}"):
        pull(Files(write(tmp_path / "a.csv", wrap(data))))
    with pytest.raises(SourceError, match=rf"a\.csv.*{said}"):
        pull(Files(write(tmp_path / "a.csv", wrap(gzip.compress(data)))))


@pytest.mark.parametrize(
    ("suffix", "data", "said"),
    [
        # RFC 7932: what `brotli` makes of the text, stored; it has no sign at all
        ("br", b"\x8b\x07\x80" + CSV + b"\x03", "compressed with brotli.*brotli -d"),
        # snappy's format_description.txt: the length, a literal
        ("snappy", bytes([len(CSV), (len(CSV) - 1) << 2]) + CSV, "compressed with snappy"),
        ("lz4", bytes([len(CSV) << 4 & 0xFF]) + CSV, "compressed with lz4"),
    ],
)
def test_what_has_no_sign_is_told_by_its_name_where_it_is_no_text(
    tmp_path: Path, suffix: str, data: bytes, said: str
) -> None:
    path = tmp_path / f"a.csv.{suffix}"
    with pytest.raises(SourceError, match=said):
        pull(Files(write(path, data)))
    assert taken(Files(write(path, CSV))) == ROWS


# Headers and first fields that look like the beginning of something else.
TEXTS = {
    "ORC": b"ORCID,name\n1,a\n",
    "a program": b"MZ,name\n1,a\n",
    "a picture": b"GIF89a,name\n1,a\n",
    "zlib": b"x^2,name\n1,a\n",
    "XML, as Finam and Metastock write headers": b"<TICKER>,<DATE>\n1,a\n",
    "HTML": b"<b>,<i>\n1,a\n",
    "less than": b"<5,>=5\n1,a\n",
    "JSON, as in a column of TSV": b'{"a":1}\tname\n1\ta\n',
    "a bracket": b"[id],[name]\n1,a\n",
    "a brace": b"{id},{name}\n1,a\n",
    "a vertical tab and a form feed": b"id\x0b,name\x0c\n1,a\n",
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_csv_that_begins_like_something_else_is_read(tmp_path: Path, text: str) -> None:
    name = "a.tsv" if b"\t" in TEXTS[text] else "a.csv"
    assert [list(row.values()) for row in taken(Files(write(tmp_path / name, TEXTS[text])))] == [[1, "a"]]


# WHATWG, MIME Sniffing, section 7.1; XML 1.0, sections 2.8 and 3.1
MARKUP = {
    "a page": (b"<!DOCTYPE html>\n<html></html>", "HTML"),
    "with a mark, blanks, a comment": (
        b"\xef\xbb\xbf\r\n <!-- saved from url=(0014) -->\r\n<HTML lang=en>",
        "HTML",
    ),
    "a comment that is longer than what is looked at": (b"<!-- " + b"x" * 9000, "XML"),
    "XHTML": (b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C">\n<html>', "HTML"),
    "a page in UTF-16": ("<html><body>".encode("utf-16"), "HTML"),
    "a piece of a page": (b"<p>Back soon</p>", "HTML"),
    "a table of a page, as programs call .xls": (b"<table border=1>\n<tr><td>1</td></tr></table>", "HTML"),
    "XML": (b'<?xml version="1.0" encoding="UTF-8"?>\n<rows/>', "XML"),
    "without a declaration": (b"<rows>\n  <row><id>1</id></row>\n</rows>", "XML"),
    "with a name space": (b"<ns:feed xmlns:ns=\"urn:x\" a = '1'>\n<ns:e/></ns:feed>", "XML"),
    "an error of S3": (b"<Error><Code>AccessDenied</Code></Error>", "XML"),
    "a document type": (b"<!DOCTYPE rows SYSTEM 'rows.dtd'>", "XML"),
}


@pytest.mark.parametrize("markup", MARKUP)
@pytest.mark.parametrize("name", ["a.parquet", "a"])
def test_markup_is_refused_by_name(tmp_path: Path, markup: str, name: str) -> None:
    data, said = MARKUP[markup]
    with pytest.raises(SourceError, match=f"it is {said}, "):
        pull(Files(write(tmp_path / name, data)))


@pytest.mark.parametrize("field", [b"<p>x</p>", b"<a>", b"<rows/>"])
def test_what_may_be_a_field_is_one_where_the_job_says_csv(tmp_path: Path, field: bytes) -> None:
    path = write(tmp_path / "a.csv", field + b"\n1\n")
    assert taken(Files(path, format="csv", header=["x"], types={"x": "string"}))[0] == {"x": field.decode()}
    with pytest.raises(SourceError, match='if it is CSV all the same, set format = "csv"'):
        pull(Files(write(tmp_path / "a.csv", field + b"</x>\n1\n")))


MISMATCHES = {
    "one JSON object called CSV": ("a.csv", b'{"error": "slow down"}', 'CSV.*JSON object.*format = "json"'),
    "over many lines": ("a.csv", b'{\n  "error": {\n    "code": 429\n  }\n}\n', "CSV.*one JSON object"),
    "longer than what is looked at": (
        "a.csv",
        b'{"items": [' + b'{"a": 1},' * 2000 + b"{}]}",
        "CSV.*one JSON object",
    ),
    "one JSON array called CSV": ("a.tsv", b'[{"a": 1}, {"a": 2}]', 'CSV.*JSON array.*format = "json"'),
    "NDJSON called CSV": (
        "a.csv.gz",
        gzip.compress(NDJSON),
        'CSV.*an object on each line.*format = "ndjson"',
    ),
    "Parquet called CSV": ("a.csv", PARQUET, 'CSV.*Parquet.*format = "parquet"'),
    "Parquet called NDJSON": ("a.ndjson", PARQUET, "NDJSON.*Parquet"),
    "CSV called Parquet": ("a.parquet", CSV, "Parquet.*does not begin with PAR1"),
    "CSV called NDJSON": (
        "a.ndjson",
        CSV,
        "JSON, and it holds none: it begins with 'id,name'.*format = \"csv\"",
    ),
    "CSV called JSON": ("a.json", CSV, "JSON, and it holds none"),
    "an array called NDJSON": (
        "a.jsonl",
        b'[\n{"a": 1},\n{"a": 2}\n]\n',
        'NDJSON.*JSON array.*format = "json"',
    ),
}


@pytest.mark.parametrize("case", MISMATCHES)
def test_a_name_that_says_another_format_than_the_content_is_an_error_that_says_both(
    tmp_path: Path, case: str
) -> None:
    name, data, said = MISMATCHES[case]
    with pytest.raises(SourceError, match=rf"a\.\S+: its name says that it is {said}"):
        pull(Files(write(tmp_path / name, data)))


@pytest.mark.parametrize(
    ("name", "data", "format"),
    [
        ("a.csv", NDJSON, "ndjson"),
        ("a.csv", b"[" + NDJSON.strip().replace(b"\n", b",") + b"]", "json"),
        ("a.csv", PARQUET, "parquet"),
        ("a.csv", b'[{"id": 1, "name": "a"},\n{"id": 2,\n"name": "b"}]', "json"),
        ("a.parquet", CSV, "csv"),
        ("a.json", CSV, "csv"),
    ],
    ids=["lines", "an array", "Parquet", "an array over lines", "CSV called Parquet", "CSV called JSON"],
)
def test_what_the_error_advises_works(tmp_path: Path, name: str, data: bytes, format: Any) -> None:
    path = write(tmp_path / name, data)
    with pytest.raises(SourceError, match=f'set format = "{format}"|set the right `format`'):
        pull(Files(path))
    assert taken(Files(path, format=format)) == ROWS


@pytest.mark.parametrize(
    "data",
    [b'{"error": 1}', b'[{"a": 1}]', NDJSON, PARQUET],
    ids=["an object", "an array", "lines", "Parquet"],
)
def test_a_format_that_cannot_be_is_refused_too(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(SourceError, match="`format` says that it is CSV, and its content is"):
        pull(Files(write(tmp_path / "a", data), format="csv"))


def test_lines_of_json_are_text_where_the_job_wants_them_as_such(tmp_path: Path) -> None:
    path = write(tmp_path / "a", NDJSON)
    lines = taken(Files(path, format="csv", header=["line"], delimiter="\x01"))
    assert [row["line"] for row in lines] == NDJSON.decode().splitlines()


def test_control_characters_may_separate_fields_as_in_hive(tmp_path: Path) -> None:
    path = write(tmp_path / "a", b"id\x01name\n1\x01a\n2\x01b\n")
    with pytest.raises(SourceError, match="set `delimiter`"):
        pull(Files(path))
    assert taken(Files(path, delimiter="\x01")) == ROWS


def test_what_is_refused_has_no_mark_it_may_be_another_content_the_next_time(tmp_path: Path) -> None:
    pulling = Files(write(tmp_path / "a.csv", b"<html>")).pull(None)
    with pytest.raises(SourceError, match="HTML"):
        next(pulling)


EMPTY = {
    "nothing": b"",
    "gzip": gzip.compress(b""),
    "bzip2": bz2.compress(b""),
    "xz": lzma.compress(b""),
    "zstd": zstandard.compress(b""),
    "gzip in gzip": gzip.compress(gzip.compress(b"")),
    "zip": zipped(b""),
    "a byte order mark": b"\xef\xbb\xbf",
    "one of UTF-16": b"\xff\xfe",
    "line ends": b"\n\r\n\n",
}


@pytest.mark.parametrize("empty", EMPTY)
@pytest.mark.parametrize("name", ["a.csv", "a"])
def test_an_empty_content_holds_no_records_at_any_level(tmp_path: Path, empty: str, name: str) -> None:
    assert taken(Files(write(tmp_path / name, EMPTY[empty]))) == []


@pytest.mark.parametrize("compression", ["none", "gzip", "zip", "zstd", "bzip2", "xz"])
def test_a_file_of_no_bytes_holds_no_records_however_it_is_said_to_be_compressed(
    tmp_path: Path, compression: Any
) -> None:
    assert taken(Files(write(tmp_path / "a.csv", b""), compression=compression)) == []


def test_one_object_that_is_called_csv_is_read_as_the_error_advises(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.csv",
        b'{\n  "items": [\n    {"id": 1, "name": "a"},\n    {"id": 2, "name": "b"}\n  ]\n}\n',
    )
    with pytest.raises(SourceError, match='set format = "json", and `records`'):
        pull(Files(path))
    assert taken(Files(path, format="json", records="items")) == ROWS
