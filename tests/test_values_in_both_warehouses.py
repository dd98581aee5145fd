"""Values of each kind come out of DuckDB and of BigQuery as they went in: one table of columns, one job for each.

What a kind is taken from: RFC 8259, section 6 (numbers), RFC 3339 (times), parquet-format's LogicalTypes.md; what each
warehouse takes: DuckDB's "Data Types", BigQuery's "Loading JSON data" and "Data types".
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import etl
from etl.columns import Column
from etl.errors import SchemaMismatch
from etl.sources import Files
from etl.warehouses.base import Misfit
from etl.warehouses.bigquery.gate import RecordGate
from tests.google import LOCATION, PROJECT, GoogleServers

WORDS = {f"word {number}": [number, 0.5] for number in range(301)}

# Of records: the values, and what comes out; None: the same. BigQuery has no null within arrays.
VALUES: dict[str, tuple[list[Any], list[Any] | None]] = {
    "not finite": ([math.nan, math.inf, -math.inf, 1.5], None),
    "floats": ([0.1, -0.0, 5e-324, 1.7976931348623157e308], None),
    "integers": ([2**53 + 1, -(2**63), 2**63 - 1, 0], None),
    "within": (
        [{"x": math.nan, "at": [time(0, 0, 0, 10_000)]}, None, {"x": 2.0, "at": []}, {"x": -0.5, "at": []}],
        None,
    ),
    "json": (
        [WORDS, [1.5, "a"], {"n": Decimal("0.12345678901234567890123")}, {"x": [{"y": None}]}],
        [WORDS, [1.5, "a"], {"n": "0.12345678901234567890123"}, {"x": [{"y": None}]}],
    ),
    "keys": ([WORDS, {"word 1": [1]}, {}, {"other": [2]}], None),
    "text": (["1.10", "1E5", "NaN", ""], None),
    "code": (["007", "12E5", "TRUE", "null"], None),
    "clock": ([time(0, 0, 0, 10_000), time(23, 59, 59, 99_999), time(0), time(1, 2, 3)], None),
    "instant": (
        [
            datetime(1880, 1, 1, tzinfo=ZoneInfo("America/New_York")),
            datetime(1, 1, 1, tzinfo=UTC),
            datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            datetime(2024, 7, 1, tzinfo=ZoneInfo("Asia/Kolkata")),
        ],
        None,
    ),
}
# In BigQuery's form, which DuckDB takes too.
SCHEMA = [
    {"name": "json", "type": "JSON"},
    {"name": "clock", "type": "TIME"},
    {
        "name": "within",
        "type": "RECORD",
        "fields": [{"name": "x", "type": "FLOAT"}, {"name": "at", "type": "TIME", "mode": "REPEATED"}],
    },
]

# Of Parquet: the type, and the values; those that BigQuery's local server cannot read are in its gate's tests.
PARQUET: dict[str, tuple[pa.DataType, list[Any]]] = {
    "decimal": (pa.decimal128(18, 9), [Decimal("1E-9"), Decimal("-999999999.999999999"), None]),
    "unsigned": (pa.uint64(), [2**64 - 1, 0, None]),
    "day": (pa.date32(), [date(1, 1, 1), date(9999, 12, 31), None]),
    "clock": (pa.time64("us"), [time(0, 0, 0, 10_000), time(23, 59, 59, 999_999), None]),
    "naive": (pa.timestamp("ns"), [datetime(1899, 12, 31, 0, 0, 0, 1), datetime(2024, 1, 1), None]),
    "zoned": (
        pa.timestamp("us", "Europe/Berlin"),
        [datetime(1890, 1, 1, tzinfo=UTC), datetime(2024, 7, 1, tzinfo=UTC), None],
    ),
    "bytes": (pa.binary(), [b"\x00\xff", b"", None]),
    "text": (pa.string(), ["2024-01-01", "", None]),
    "half": (pa.float16(), [-0.0, math.inf, None]),
    "list": (pa.large_list(pa.decimal128(5, 2)), [[Decimal("1.10")], [], [Decimal(0)]]),
    "map": (pa.map_(pa.int64(), pa.string()), [[(2**53 + 1, "x")], [], [(1, None)]]),
    "struct": (
        pa.struct([("d", pa.date32()), ("u", pa.uint64())]),
        [{"d": date(2024, 2, 29), "u": 2**64 - 1}, None, {"d": None, "u": 1}],
    ),
}


def records() -> Iterator[dict[str, Any]]:
    for row in range(4):
        yield {"id": row} | {name: values[row] for name, (values, _) in VALUES.items()}


def parquet(folder: Path) -> Files:
    columns = {name: pa.array(values, type_) for name, (type_, values) in PARQUET.items()}
    pq.write_table(pa.table({"id": pa.array(range(3)), **columns}), folder / "source.parquet")
    return Files(folder / "source.parquet")


def load(folder: Path, source: Any, warehouse: dict[str, Any]) -> None:
    etl.Pipeline(
        "values",
        source=source,
        sink={"type": "reused_file", "path": str(folder / "part.ndjson")},
        warehouse=warehouse,
        checkpoint=folder / "values.json",
    ).run(handle_signals=False)


def in_duckdb(folder: Path, source: Any, schema: Any = None) -> list[dict[str, Any]]:
    load(folder, source, {"type": "duckdb", "path": str(folder / "w.duckdb"), "table": "t", "schema": schema})
    with duckdb.connect(str(folder / "w.duckdb")) as warehouse:
        warehouse.execute("SET TimeZone = 'UTC'")
        found = warehouse.execute("SELECT * FROM t ORDER BY id")
        names = [name for name, *_ in found.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    for row in rows:
        row |= {name: json.loads(row[name]) for name in ("json", "keys") if row.get(name) is not None}
    return rows


def in_bigquery(
    folder: Path, source: Any, servers: GoogleServers, schema: Any = None
) -> list[dict[str, Any]]:
    table = f"{PROJECT}.{servers.new_dataset()}.t"
    load(folder, source, {"type": "bigquery", "table": table, "location": LOCATION, "schema": schema})
    with closing(servers.bigquery_client()) as client:
        return sorted((dict(row) for row in client.list_rows(table, timeout=30)), key=lambda row: row["id"])


def normal(value: Any) -> Any:
    """Return a value as all clients give it: a map as pairs, null for an array that BigQuery has no null for."""
    if isinstance(value, dict):
        return {name: normal(item) for name, item in value.items()}
    if isinstance(value, list):
        return [
            normal(dict(zip(("key", "value"), item, strict=True)) if isinstance(item, tuple) else item)
            for item in value
        ]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else value.normalize()
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=UTC) if value.tzinfo else value
    return value


def check(rows: list[dict[str, Any]], expected: dict[str, list[Any]]) -> None:
    for name, values in expected.items():
        assert repr([normal(row[name]) for row in rows]) == repr([normal(value) for value in values]), name


EXPECTED = {name: values if out is None else out for name, (values, out) in VALUES.items()}
OF_PARQUET = {name: values for name, (_, values) in PARQUET.items()}


def test_records_in_duckdb(tmp_path: Path) -> None:
    check(in_duckdb(tmp_path, records, SCHEMA), EXPECTED)


def test_records_in_bigquery(tmp_path: Path, google_environment: GoogleServers) -> None:
    check(in_bigquery(tmp_path, records, google_environment, SCHEMA), EXPECTED)


def test_parquet_in_duckdb(tmp_path: Path) -> None:
    check(in_duckdb(tmp_path, parquet(tmp_path)), OF_PARQUET)


def test_parquet_in_bigquery(tmp_path: Path, google_environment: GoogleServers) -> None:
    check(in_bigquery(tmp_path, parquet(tmp_path), google_environment), OF_PARQUET)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("INTEGER", math.nan),
        ("NUMERIC", math.inf),
        ("NUMERIC", Decimal("1E-10")),
        ("BOOLEAN", math.nan),
        ("TIME", "24:00:00.5"),
    ],
)
def test_what_a_column_has_no_place_for_is_refused_by_both(tmp_path: Path, type_: str, value: Any) -> None:
    with pytest.raises(Misfit, match="column v"):
        RecordGate((Column(name="v", type=type_),), format="ndjson").admit({"v": value})
    with pytest.raises(SchemaMismatch, match="column v does not fit"):
        in_duckdb(tmp_path, lambda: iter([{"id": 1, "v": value}]), [{"name": "v", "type": type_}])
