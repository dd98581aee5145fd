"""A declared schema of parts in Parquet that stay: one form from the first part on, and no value that is changed."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.dataset
import pytest
from click.testing import CliRunner

import etl
from etl.cli import main
from etl.errors import ConfigError, RecordError

SCHEMA: dict[str, Any] = {
    "id": "INTEGER REQUIRED",
    "price": "NUMERIC(10, 2)",
    "day": "DATE",
    "at": "TIMESTAMP",
    "local": "DATETIME",
    "hour": "TIME",
    "share": "FLOAT",
    "ok": "BOOLEAN",
    "note": "STRING(5)",
    "raw": "BYTES",
    "tags": "STRING REPEATED",
    "who": {"name": "STRING", "born": "DATE"},
    "lines": [{"sku": "STRING REQUIRED", "price": "NUMERIC(6, 2)"}],
}
TYPES = {
    "id": "int64",
    "price": "decimal128(10, 2)",
    "day": "date32[day]",
    "at": "timestamp[us, tz=UTC]",
    "local": "timestamp[us]",
    "hour": "time64[us]",
    "share": "double",
    "ok": "bool",
    "note": "string",
    "raw": "binary",
    "tags": "list<element: string>",
    "who": "struct<name: string, born: date32[day]>",
    "lines": "list<element: struct<sku: string not null, price: decimal128(6, 2)>>",
}
EAST = timezone(timedelta(hours=2))

# A value, and what is read of it.
FITTING: list[tuple[str, Any, Any]] = [
    ("price", "12.5", Decimal("12.50")),
    ("price", 12, Decimal("12.00")),
    ("price", 0.1, Decimal("0.10")),
    ("price", Decimal("99999999.99"), Decimal("99999999.99")),
    ("price", Decimal("1.500"), Decimal("1.50")),
    ("day", "2024-02-29", date(2024, 2, 29)),
    ("at", "2024-01-01T12:00:00+02:00", datetime(2024, 1, 1, 10, tzinfo=UTC)),
    ("at", datetime(2024, 1, 1, 12, tzinfo=EAST), datetime(2024, 1, 1, 10, tzinfo=UTC)),
    ("local", "2024-01-01T12:00:00", datetime(2024, 1, 1, 12)),
    ("hour", time(23, 59, 59, 999999), time(23, 59, 59, 999999)),
    ("share", 2, 2.0),
    ("share", "0.5", 0.5),
    ("ok", "true", True),
    ("note", "öäüß!", "öäüß!"),
    ("note", "", ""),
    ("raw", b"\x00\xff", b"\x00\xff"),
    ("tags", ["a", "b"], ["a", "b"]),
    ("tags", [], []),
    ("who", {"born": "1999-12-31"}, {"name": None, "born": date(1999, 12, 31)}),
    (
        "lines",
        [{"sku": "a", "price": "1.25"}, {"sku": "b"}],
        [{"sku": "a", "price": Decimal("1.25")}, {"sku": "b", "price": None}],
    ),
    ("id", "7", 7),
    ("id", 2**63 - 1, 2**63 - 1),
]

UNFIT: list[tuple[str, Any, str]] = [
    ("price", "12.555", "column price"),
    ("price", 10**8, "column price"),
    ("price", float("nan"), "column price"),
    ("day", "2024-02-30", "column day"),
    ("day", datetime(2024, 1, 1, 12), "column day"),
    ("at", "2024-01-01T12:00:00", "column at"),
    ("at", datetime(2024, 1, 1), "column at"),
    ("local", datetime(2024, 1, 1, tzinfo=UTC), "column local"),
    ("hour", time(1, tzinfo=UTC), "column hour"),
    ("hour", "12:00", "column hour"),
    ("share", 2**53 + 1, "column share"),
    ("ok", 1, "column ok"),
    ("note", 5, "column note"),
    ("note", "sixsix", "column note"),
    ("raw", "text", "column raw"),
    ("tags", "a", "column tags"),
    ("tags", [1], r"column tags\[0\]"),
    ("who", [], "column who"),
    ("who", {"born": "never"}, r"column who\.born"),
    ("who", {"age": 7}, r"field who\.age: the declared schema has no such column"),
    ("lines", [{"price": 1}], r"column lines\[0\]\.sku: it is declared as REQUIRED"),
    ("id", None, "column id: it is declared as REQUIRED"),
    ("id", 2**63, "column id"),
    ("id", 1.5, "column id"),
    ("new", 1, "field new: the declared schema has no such column"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def job(records: list[dict[str, Any]], **changes: Any) -> etl.Pipeline:
    definition: dict[str, Any] = {
        "source": lambda: iter(records),
        "sink": {"type": "numbered_chunks", "path": "out/parts.parquet"},
        "schema": SCHEMA,
        "part_records": 1,
    }
    return etl.Pipeline("job", **{**definition, **changes})


def read() -> list[dict[str, Any]]:
    return pyarrow.dataset.dataset("out", format="parquet").to_table().to_pylist()


@pytest.mark.parametrize(("name", "value", "expected"), FITTING)
def test_a_value_that_fits_its_column_is_read_as_what_it_means(name: str, value: Any, expected: Any) -> None:
    job([{"id": 1, name: value}]).run()
    assert [row[name] for row in read()] == [expected]


@pytest.mark.parametrize(("name", "value", "said"), UNFIT)
def test_a_value_that_does_not_fit_stops_the_run_or_is_a_dead_letter(
    name: str, value: Any, said: str
) -> None:
    records = [{"id": 1}, {"id": 2, name: value}, {"id": 3}]
    with pytest.raises(RecordError, match=f"record 2 .*{said}"):
        job(records).run()
    assert job(records, on_error="reject").run().rejects == 1
    assert [row["id"] for row in read()] == [1, 3]


def test_all_parts_have_the_declared_schema_whatever_their_records_have() -> None:
    job([{"id": 1}, {"id": 2, "price": "1"}, {"id": 3, "tags": ["a"], "who": {}}]).run()
    paths = sorted(Path("out").iterdir())
    assert len(paths) == 3
    for path in paths:
        schema = pyarrow.parquet.read_schema(path)
        assert {field.name: str(field.type) for field in schema} == TYPES
        assert [field.name for field in schema if not field.nullable] == ["id"]
    assert duckdb.sql("SELECT count(*), sum(price) FROM 'out/*.parquet'").fetchall() == [(3, Decimal("1.00"))]


def test_a_field_that_is_not_declared_may_be_ignored() -> None:
    result = job([{"id": 1, "new": 2}], drift="ignore").run()
    assert result.ignored == 1
    assert [row["id"] for row in read()] == [1]


def test_declared_types_reach_the_texts_of_a_source() -> None:
    Path("in.csv").write_text("id,price,note\n1,1.10,007\n")
    source = {"type": "files", "paths": "in.csv"}
    job([], source=source, schema={"id": "INTEGER", "price": "NUMERIC(38, 9)", "note": "STRING"}).run()
    assert read() == [{"id": 1, "price": Decimal("1.100000000"), "note": "007"}]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"warehouse": {"type": "duckdb", "path": "w.duckdb", "table": "t"}}, r"go under \[warehouse\]"),
        ({"sink": {"type": "big_file", "path": "out.ndjson"}}, "ndjson has no columns"),
        ({"schema": {"a": "JSON"}}, "schema.a: Parquet has no JSON"),
        ({"schema": {"a": "INTERVAL"}}, "schema.a: Parquet has no INTERVAL"),
        ({"schema": {"a": {"b": "BIGNUMERIC"}}}, r"schema.a.b: .*more than 38 digits"),
        ({"schema": {"a": "NUMBER"}}, "schema.a"),
        ({"schema": {"": "STRING"}}, "must not be empty"),
    ],
)
def test_a_schema_that_means_nothing_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        job([], **changes)


def test_a_job_file_has_it_as_a_table_or_a_file() -> None:
    Path("in.ndjson").write_text('{"id": 1, "day": "2024-01-01"}\n')
    text = '[source]\ntype = "files"\npaths = "in.ndjson"\n[sink]\ntype = "numbered_chunks"\npath = "out/p.parquet"\n'
    Path("a.toml").write_text(f'{text}[schema]\nid = "INTEGER"\nday = "DATE"\n')
    Path("b.toml").write_text(f'schema = "s.json"\n{text.replace("out/", "out/b-")}')
    Path("s.json").write_text(
        json.dumps([{"name": "id", "type": "INTEGER"}, {"name": "day", "type": "DATE"}])
    )
    for name in ("a.toml", "b.toml"):
        result = CliRunner().invoke(main, ["run", name])
        assert result.exit_code == 0, result.output
    assert read() == [{"id": 1, "day": date(2024, 1, 1)}] * 2


def test_check_tells_the_declared_columns_and_the_first_record_that_does_not_fit() -> None:
    Path("in.ndjson").write_text('{"id": 1, "day": "2024-01-01"}\n{"id": 2, "day": "never"}\n')
    Path("job.toml").write_text(
        '[source]\ntype = "files"\npaths = "in.ndjson"\n[sink]\ntype = "numbered_chunks"\npath = "out/p.parquet"\n'
        '[schema]\nid = "INTEGER"\nday = "DATE"\n'
    )
    result = CliRunner().invoke(main, ["check", "job.toml"])
    assert result.exit_code == 1
    assert "  day  DATE\n" in result.output
    assert "a run would stop at record 2: column day" in result.output
