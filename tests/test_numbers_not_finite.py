"""NaN and the infinities reach a warehouse as what they are, or not at all.

RFC 8259, section 6: JSON has no such numbers; in parts of NDJSON they are the words that warehouses take for them in a
column of floats (`etl.formats`).
"""

from __future__ import annotations

import math
from decimal import Decimal

import duckdb
import pytest

import etl
from etl.errors import SchemaMismatch

NAN, INF = math.nan, math.inf
FORMATS = ("ndjson", "parquet")


def load(tmp_path, values, *, format="ndjson", type=None, part_records=None):
    """Load a column, and return its type and values."""
    etl.Pipeline(
        "j",
        source=lambda: iter([{"v": value} for value in values]),
        sink={"type": "reused_file", "path": tmp_path / f"part.{format}"},
        warehouse={
            "type": "duckdb",
            "path": tmp_path / "w.duckdb",
            "table": "t",
            "schema": {"v": type} if type else None,
        },
        checkpoint=tmp_path / "j.json",
        part_records=part_records,
    ).run(handle_signals=False)
    with duckdb.connect(str(tmp_path / "w.duckdb")) as warehouse:
        rows = warehouse.execute("SELECT typeof(v), v FROM t ORDER BY rowid").fetchall()
        return rows[0][0], [value for _, value in rows]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("values", "type"),
    [
        ([1.5, NAN, INF, -INF, None], "DOUBLE"),
        ([1, NAN, 2.5], "DOUBLE"),
        ([NAN], "DOUBLE"),
        ([[1.5, NAN], [2, -INF]], "DOUBLE[]"),
        (
            [{"x": NAN, "y": [{"z": INF}]}, {"x": 1, "y": [{"z": -0.5}]}],
            "STRUCT(x DOUBLE, y STRUCT(z DOUBLE)[])",
        ),
    ],
)
def test_a_column_of_floats_holds_them(tmp_path, format, values, type):
    found, stored = load(tmp_path, values, format=format)
    assert (found, repr(stored)) == (type, repr(_as_floats(values)))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("type", ["DOUBLE", "FLOAT"])
def test_a_declared_column_of_floats_holds_them(tmp_path, format, type):
    found, stored = load(
        tmp_path, [NAN, 2, Decimal("-Infinity")][: 3 if format == "ndjson" else 2], format=format, type=type
    )
    assert (found, repr(stored)) == (type, repr([NAN, 2.0, -INF][: len(stored)]))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("type", ["BIGINT", "DECIMAL(9,2)", "HUGEINT", "BOOLEAN", "DATE"])
@pytest.mark.parametrize("value", [NAN, -INF])
def test_a_type_that_has_none_refuses_them(tmp_path, format, type, value):
    with pytest.raises(SchemaMismatch, match=r"record 1: the value .* of column v does not fit"):
        load(tmp_path, [value], format=format, type=type)


@pytest.mark.parametrize("value", [INF, 2**64, 1.5])
def test_a_number_is_no_base64(tmp_path, value):
    # "Infinity" and "18446744073709551616" could be: RFC 4648, section 4
    with pytest.raises(SchemaMismatch, match=r"'v' holds values of the kind .*, which do not fit .*, BLOB"):
        load(tmp_path, [value], type="BLOB")


def test_integers_that_were_loaded_before_are_not_joined_by_one(tmp_path):
    with pytest.raises(SchemaMismatch, match=r'"NaN" of column v does not fit the column.s type, BIGINT'):
        load(tmp_path, [1, NAN], part_records=1)


def test_other_words_beside_numbers_are_no_floats(tmp_path):
    with pytest.raises(
        SchemaMismatch, match=r"the value .* of column v\.x does not fit the values before it"
    ):
        load(tmp_path, [{"x": 1}, {"x": NAN}, {"x": "nan"}])


def _as_floats(value):
    if isinstance(value, dict):
        return {key: _as_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_floats(item) for item in value]
    return value if value is None else float(value)
