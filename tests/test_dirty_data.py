"""What comes out of dirty CSV: one table of cases, each the same in DuckDB and in BigQuery."""

from __future__ import annotations

import json
import math
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

import etl
from etl import reshaping
from etl.errors import SourceError
from tests.google import LOCATION, PROJECT, GoogleServers


@dataclass(frozen=True, kw_only=True)
class Case:
    """A file, and what comes out of it.

    Attributes:
        content: the file's bytes.
        rows: what the table holds, in the file's order.
        options: of the source.
        casts: the job's `[cast]`.
        schema: what the warehouse's `schema` declares.
        renamed: columns that have another name in BigQuery.
        rejected: what the reasons of the dead letters say, in order.
    """

    content: bytes
    rows: list[dict[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)
    casts: dict[str, Any] = field(default_factory=dict)
    schema: list[dict[str, Any]] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    rejected: tuple[str, ...] = ()


CASES: dict[str, Case] = {
    "dates": Case(
        content=b"day\n2024-01-31\n2024-02-29\n",
        rows=[{"day": "2024-01-31"}, {"day": "2024-02-29"}],
    ),
    "dates that are cast": Case(
        content=b"day,at\n31.01.2024,2024-01-31T12:00:00+01:00\n29.02.2024,2024-02-29 00:00:00Z\n",
        casts={"day": {"type": "date", "format": "%d.%m.%Y"}, "at": "timestamp"},
        rows=[
            {"day": "2024-01-31", "at": "2024-01-31T11:00:00+00:00"},
            {"day": "2024-02-29", "at": "2024-02-29T00:00:00+00:00"},
        ],
    ),
    "a day that the calendar has not": Case(
        content=b"day,n\n2024-02-28,1\n2024-02-30,2\n",
        casts={"day": "date"},
        rows=[{"day": "2024-02-28", "n": 1}],
        rejected=('"2024-02-30" is no date',),
    ),
    "null words": Case(
        content=b"n,t\n1,a\n,\nNA,NA\nN/A,NULL\nnull,b\nnone,c\n",
        options={"null": ["", "NA", "N/A", "NULL", "null", "none"]},
        rows=[
            {"n": 1, "t": "a"},
            {"n": None, "t": None},
            {"n": None, "t": None},
            {"n": None, "t": None},
            {"n": None, "t": "b"},
            {"n": None, "t": "c"},
        ],
    ),
    "a word that is no null word": Case(
        content=b"n\n1\n?\n",
        rows=[{"n": "1"}, {"n": "?"}],
    ),
    "words that are null among numbers and text among text": Case(
        content=b"n,day,iso2,t\n-,2024-01-31,NA,null\n1,n/a,DE,-\nnan,NULL,\\N,\n",
        rows=[
            {"n": None, "day": "2024-01-31", "iso2": "NA", "t": "null"},
            {"n": 1, "day": None, "iso2": "DE", "t": "-"},
            {"n": None, "day": None, "iso2": None, "t": None},
        ],
    ),
    "a word that is null in one column only": Case(
        content=b"n,country\n1,NA\n-,DE\n",
        options={"null": []},
        casts={"n": {"type": "integer", "null": ["-"]}},
        rows=[{"n": 1, "country": "NA"}, {"n": None, "country": "DE"}],
    ),
    "thousands separators": Case(
        content=b'n,x\n"1,234","1,234.5"\n"12,345,678",0.5\n',
        casts={"n": {"type": "integer", "thousands": ","}, "x": {"type": "float", "thousands": ","}},
        rows=[{"n": 1234, "x": 1234.5}, {"n": 12345678, "x": 0.5}],
    ),
    "thousands separators that nobody mentions": Case(
        content=b'n\n"1,234"\n5\n',
        rows=[{"n": "1,234"}, {"n": "5"}],
    ),
    "a decimal comma": Case(
        content=b"x;y\n1.234,5;2,5\n-0,25;3\n",
        casts={
            "x": {"type": "float", "decimal": ",", "thousands": "."},
            "y": {"type": "float", "decimal": ","},
        },
        rows=[{"x": 1234.5, "y": 2.5}, {"x": -0.25, "y": 3.0}],
    ),
    "money": Case(
        content=b"price\n0.10\n12345678901234.99\n",
        casts={"price": "decimal"},
        schema=[{"name": "price", "type": "NUMERIC", "precision": 20, "scale": 2}],
        rows=[{"price": "0.1"}, {"price": "12345678901234.99"}],
    ),
    "quoted line ends": Case(
        content=b'n,t\n1,"two\nlines"\n2,"""quoted"", and, commas"\n3,"\r\n"\n',
        rows=[{"n": 1, "t": "two\nlines"}, {"n": 2, "t": '"quoted", and, commas'}, {"n": 3, "t": "\r\n"}],
    ),
    "a quote that is never closed": Case(
        content=b'n,t\n1,a\n2,"b\n3,c\n',
        rows=[{"n": 1, "t": "a"}],
        rejected=("a quote is not closed",),
    ),
    "a byte order mark": Case(
        content=b"\xef\xbb\xbfn,t\n1,a\n",
        rows=[{"n": 1, "t": "a"}],
    ),
    "Latin-1": Case(
        content="n,größe\n1,Ångström\n".encode("latin-1"),
        options={"encoding": "latin-1"},
        rows=[{"n": 1, "größe": "Ångström"}],
    ),
    "Latin-1 among UTF-8": Case(
        content=b"n,t\n1,\xc3\xa4\n2,\xe4\n3,b\n",
        rows=[{"n": 1, "t": "ä"}, {"n": 3, "t": "b"}],
        rejected=("no valid utf-8",),
    ),
    "ragged rows": Case(
        content=b"a,b\n1,2\n3\n4,5,6\n7,8\n",
        rows=[{"a": 1, "b": 2}, {"a": 7, "b": 8}],
        rejected=("1 fields where the table has 2", "3 fields where the table has 2"),
    ),
    "a delimiter at the end of each line": Case(
        content=b"1,2,\n3,4,\n",
        options={"header": ["a", "b", "nothing"]},
        rows=[{"a": 1, "b": 2, "nothing": None}, {"a": 3, "b": 4, "nothing": None}],
    ),
    "no header": Case(
        content=b"1,a\n2,b\n",
        options={"header": False},
        rows=[{"column_1": 1, "column_2": "a"}, {"column_1": 2, "column_2": "b"}],
    ),
    "duplicate headers, with better names": Case(
        content=b"a,b,a\n1,2,3\n",
        options={"header": ["a", "b", "a_2"], "skip_lines": 1},
        rows=[{"a": 1, "b": 2, "a_2": 3}],
    ),
    "a title before the header": Case(
        content=b"Flights of 2013\nas of today\na,b\n1,2\n",
        options={"skip_lines": 2},
        rows=[{"a": 1, "b": 2}],
    ),
    "lines that end in CR LF": Case(
        content=b"a,b\r\n1,x\r\n2,y\r\n",
        rows=[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}],
    ),
    "no line end at the end": Case(
        content=b"a,b\n1,x",
        rows=[{"a": 1, "b": "x"}],
    ),
    "blank lines": Case(
        content=b"\na,b\n\n1,x\n\n\n2,y\n\n",
        rows=[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}],
    ),
    "tabs": Case(
        content=b"a\tb\n1\tx,y\n",
        rows=[{"a": 1, "b": "x,y"}],
    ),
    "leading zeros": Case(
        content=b"zip,n\n01234,1\n98765,2\n",
        rows=[{"zip": "01234", "n": 1}, {"zip": "98765", "n": 2}],
    ),
    "whole numbers past 2**53 and past 2**63": Case(
        content=b"a,b\n9007199254740993,123456789012345678901234567890\n1,2\n",
        rows=[
            {"a": 9007199254740993, "b": "123456789012345678901234567890"},
            {"a": 1, "b": "2"},
        ],
    ),
    "blanks around values": Case(
        content=b"n,t\n 1, a \n2,b\n",
        rows=[{"n": 1, "t": " a "}, {"n": 2, "t": "b"}],
    ),
    "infinity": Case(
        content=b"n,x\n1,1.5\n2,-Infinity\n3,Inf\n",
        rows=[{"n": 1, "x": 1.5}, {"n": 2, "x": -math.inf}, {"n": 3, "x": math.inf}],
    ),
    "words for booleans": Case(
        content=b"a,b\ntrue,Y\nFALSE,n\n",
        casts={"b": "boolean"},
        rows=[{"a": True, "b": True}, {"a": False, "b": False}],
    ),
    "names that are no words": Case(
        content="First Name,2024,größe,%\nA,1,2,3\n".encode(),
        rows=[{"First Name": "A", "2024": 1, "größe": 2, "%": 3}],
    ),
    "names that BigQuery forbids": Case(
        content="Sepal.Length,n°,price ($)\n1,2,3\n".encode(),
        rows=[{"Sepal.Length": 1, "n°": 2, "price ($)": 3}],
        renamed={"Sepal.Length": "Sepal_Length", "n°": "n_", "price ($)": "price ___"},
    ),
}  # fmt: skip

# Files that no table can be made of, and what the error says.
REFUSED: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "duplicate headers": (b"a,b,a\n1,2,3\n", {}, "the header names 'a' more than once"),
    "a header in Latin-1": (
        "n,größe\n1,2\n".encode("latin-1"),
        {},
        "the header is no valid utf-8 .0xf6.*encoding",
    ),
    "a header cell that is blank": (b"a,,c\n1,2,3\n", {}, "column 2 of the header has no name"),
    "a header that ends in a delimiter": (b"a,b,\n1,2,\n", {}, "column 3 of the header has no name"),
}


def pipeline(folder: Path, case: Case, warehouse: dict[str, Any]) -> etl.Pipeline:
    (folder / "dirty.csv").write_bytes(case.content)
    if case.schema:
        warehouse = {**warehouse, "schema": case.schema}
    return etl.Pipeline(
        "dirty",
        source={"type": "files", "paths": str(folder / "dirty.csv"), "settle": 0, **case.options},
        transforms=[reshaping.cast(case.casts)] if case.casts else [],
        sink={"type": "reused_file", "path": str(folder / "dirty.ndjson")},
        warehouse=warehouse,
        checkpoint=folder / "dirty.checkpoint.json",
        on_error="reject",
    )


def in_duckdb(folder: Path) -> dict[str, Any]:
    return {"type": "duckdb", "path": str(folder / "w.duckdb"), "table": "t"}


def in_bigquery(servers: GoogleServers, table: str) -> dict[str, Any]:
    return {"type": "bigquery", "table": table, "location": LOCATION}


def same(value: Any) -> Any:
    """Return a value as both clients give it: the one place where they are made equal."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat() if value.tzinfo else value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    return value


def comparable(rows: list[dict[str, Any]]) -> list[str]:
    """Return rows without their order, and without nulls: BigQuery has no column for what is nothing but null."""
    present = ({name: same(value) for name, value in row.items() if value is not None} for row in rows)
    return sorted(json.dumps(row, sort_keys=True) for row in present)


def assert_letters(folder: Path, case: Case) -> None:
    paths = sorted(folder.glob("dirty-rejects*.ndjson"))
    reasons = [json.loads(line)["reason"] for path in paths for line in path.read_bytes().splitlines()]
    assert len(reasons) == len(case.rejected), reasons
    for reason, said in zip(reasons, case.rejected, strict=True):
        assert said in reason


@pytest.mark.parametrize("name", CASES)
def test_what_comes_out_in_duckdb(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    pipeline(tmp_path, case, in_duckdb(tmp_path)).run()
    with duckdb.connect(str(tmp_path / "w.duckdb")) as warehouse:
        found = warehouse.execute("SELECT * FROM t")
        names = [column[0] for column in found.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    assert comparable(rows) == comparable(case.rows)
    assert_letters(tmp_path, case)


@pytest.mark.parametrize("name", CASES)
def test_what_comes_out_in_bigquery(
    tmp_path: Path, google_environment: GoogleServers, dataset: str, name: str
) -> None:
    case = CASES[name]
    table = f"{PROJECT}.{dataset}.t{[*CASES].index(name)}"
    pipeline(tmp_path, case, in_bigquery(google_environment, table)).run()
    with closing(google_environment.bigquery_client()) as client:
        rows = [dict(row) for row in client.list_rows(table, timeout=30)]
    expected = [{case.renamed.get(key, key): value for key, value in row.items()} for row in case.rows]
    assert comparable(rows) == comparable(expected)
    assert_letters(tmp_path, case)


@pytest.fixture
def dataset(google_servers: GoogleServers) -> str:
    return google_servers.new_dataset()


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_no_table_can_be_made_of_is_an_error_before_anything_is_loaded(
    tmp_path: Path, name: str
) -> None:
    content, options, said = REFUSED[name]
    with pytest.raises(SourceError, match=said):
        pipeline(tmp_path, Case(content=content, options=options, rows=[]), in_duckdb(tmp_path)).run()
    with duckdb.connect(str(tmp_path / "w.duckdb")) as warehouse:
        assert warehouse.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE table_name = 't'"
        ).fetchall() == [(0,)]
