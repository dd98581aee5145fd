"""Decimals, and text of them, in columns of decimals: to the last digit, or refused with the column's name.

The same for DuckDB and for BigQuery's gate, whose load would round ("Data types", decimal types).
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

import etl
from etl.errors import SchemaMismatch
from etl.warehouses.base import Misfit
from etl.warehouses.bigquery.gate import RecordGate
from etl.warehouses.bigquery.schema import declared

LONG = "12345678901234567.89"

FITS: list[tuple[str, list[Any], list[str]]] = [
    ("NUMERIC(38, 9)", [LONG, Decimal(LONG)], [LONG, LONG]),
    ("NUMERIC(20, 2)", [1, 1.5, Decimal(LONG), None], ["1", "1.5", LONG]),
    ("NUMERIC(9, 2)", ["1.10", "1E5", "-0.10000", "007"], ["1.1", "100000", "-0.1", "7"]),
]
DOES_NOT: list[tuple[str, Any]] = [
    ("NUMERIC(9, 2)", "1.234"),
    ("NUMERIC(9, 2)", Decimal("1.234")),
    ("NUMERIC(9, 2)", "12345678.9"),
    ("NUMERIC(9, 2)", "TRUE"),
    ("FLOAT", Decimal(LONG)),
    ("FLOAT", "0.1234567890123456789"),
]


def in_duckdb(tmp_path: Path, type_: str, values: list[Any]) -> list[Any]:
    etl.Pipeline(
        "j",
        source=lambda: iter([{"v": value} for value in values]),
        sink={"type": "reused_file", "path": tmp_path / "part.ndjson"},
        warehouse={
            "type": "duckdb",
            "path": tmp_path / "w.duckdb",
            "table": "t",
            "schema": {"v": type_.replace("NUMERIC", "DECIMAL").replace("FLOAT", "DOUBLE")},
        },
        checkpoint=tmp_path / "j.json",
    ).run(handle_signals=False)
    with duckdb.connect(str(tmp_path / "w.duckdb")) as warehouse:
        return [value for (value,) in warehouse.execute("SELECT v FROM t ORDER BY rowid").fetchall()]


def through_the_gate(type_: str, values: list[Any]) -> list[Any]:
    gate = RecordGate(declared({"v": type_}), format="ndjson")
    return [gate.admit({"v": value})["v"] for value in values]


@pytest.mark.parametrize(("type_", "values", "stored"), FITS)
def test_all_digits_are_kept(tmp_path: Path, type_: str, values: list[Any], stored: list[str]) -> None:
    expected = list(map(Decimal, stored))
    assert [value for value in in_duckdb(tmp_path, type_, values) if value is not None] == expected
    admitted = through_the_gate(type_, values)
    assert [Decimal(str(value)) for value in admitted if value is not None] == expected


@pytest.mark.parametrize(("type_", "value"), DOES_NOT)
def test_a_digit_too_many_is_refused_and_never_rounded(tmp_path: Path, type_: str, value: Any) -> None:
    with pytest.raises(
        SchemaMismatch, match=r"record 1: the value .* of column v does not fit the column's type"
    ):
        in_duckdb(tmp_path, type_, [value])
    with pytest.raises(Misfit, match="column v: "):
        through_the_gate(type_, [value])
