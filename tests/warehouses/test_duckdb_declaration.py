"""Schemas in BigQuery's form for a DuckDB table, and a DuckDB table's columns for the rest of the library."""

from __future__ import annotations

import datetime
import json
import pickle
from decimal import Decimal

import pytest
from conftest import Loader

from etl.errors import ConfigError, SchemaMismatch
from etl.warehouses.duckdb import DuckDB

COLUMNS = [
    {"name": "id", "type": "INTEGER", "mode": "REQUIRED", "description": "for people"},
    {"name": "name", "type": "STRING", "maxLength": "20"},
    {"name": "data", "type": "BYTES"},
    {"name": "share", "type": "FLOAT64"},
    {"name": "price", "type": "NUMERIC"},
    {"name": "exact", "type": "NUMERIC", "precision": 10, "scale": 2},
    {"name": "big", "type": "BIGNUMERIC"},
    {"name": "huge", "type": "BIGNUMERIC", "precision": "60", "scale": "30"},
    {"name": "yes", "type": "BOOL"},
    {"name": "at", "type": "TIMESTAMP"},
    {"name": "day", "type": "DATE"},
    {"name": "hour", "type": "TIME"},
    {"name": "local", "type": "DATETIME"},
    {"name": "place", "type": "GEOGRAPHY"},
    {"name": "span", "type": "INTERVAL"},
    {"name": "raw", "type": "JSON"},
    {"name": "tags", "type": "STRING", "mode": "REPEATED"},
    {
        "name": "lines",
        "type": "RECORD",
        "mode": "REPEATED",
        "fields": [{"name": "sku", "type": "STRING"}, {"name": "n", "type": "INTEGER"}],
    },
]
TYPES = {
    "id": "BIGINT",
    "name": "VARCHAR",
    "data": "BLOB",
    "share": "DOUBLE",
    "price": "DECIMAL(38, 9)",
    "exact": "DECIMAL(10, 2)",
    "big": "DECIMAL(38, 18)",
    "huge": "DECIMAL(38, 30)",
    "yes": "BOOLEAN",
    "at": "TIMESTAMP WITH TIME ZONE",
    "day": "DATE",
    "hour": "TIME",
    "local": "TIMESTAMP",
    "place": "VARCHAR",
    "span": "VARCHAR",
    "raw": "JSON",
    "tags": "VARCHAR[]",
    "lines": 'STRUCT("sku" VARCHAR, "n" BIGINT)[]',
}


def test_a_list_of_columns_or_the_path_of_a_file_with_one_declares_the_table(tmp_path):
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(COLUMNS))
    for schema in (COLUMNS, path, str(path)):
        made = DuckDB(tmp_path / "w.duckdb", table="t", schema=schema)
        assert made.schema == TYPES
        path.touch()
        assert pickle.loads(pickle.dumps(made)).schema == TYPES


def test_values_of_every_declared_type_are_stored(declaring):
    loader: Loader = declaring(COLUMNS)
    record = {
        "id": 1,
        "name": "x",
        "data": "AAE=",
        "share": 2,
        "price": "1.5",
        "exact": "12345678.25",
        "big": "0.000000000000000001",
        "huge": 1,
        "yes": True,
        "at": "2024-01-02T03:04:05+01:00",
        "day": "2024-01-02",
        "hour": "03:04:05",
        "local": "2024-01-02T03:04:05",
        "place": "POINT(1 2)",
        "span": "0-0 1 0:0:0",
        "raw": {"a": [1]},
        "tags": ["a"],
        "lines": [{"sku": "s", "n": 2}],
    }
    loader.load(record)
    assert loader.sql("SELECT data, price, exact, big, day, place, span, tags, lines FROM t") == [
        (
            b"\0\1",
            Decimal("1.5"),
            Decimal("12345678.25"),
            Decimal("1e-18"),
            datetime.date(2024, 1, 2),
            "POINT(1 2)",
            "0-0 1 0:0:0",
            ["a"],
            [{"sku": "s", "n": 2}],
        )
    ]
    with pytest.raises(SchemaMismatch, match=r"does not fit .* DECIMAL\(38, ?18\)"):
        loader.load({"id": 2, "big": "0.0000000000000000001"})


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ([{"name": "a", "type": "NUMBER"}], "there is no type"),
        ([{"name": "a", "type": "DATE"}, {"name": "A", "type": "DATE"}], "the same name to DuckDB"),
        ([{"name": "a", "type": "RECORD"}], "needs at least one field"),
        ([{"name": "", "type": "DATE"}], "needs a name"),
        ("no/such/file.json", "cannot be read"),
    ],
)
def test_a_schema_that_is_wrong_is_a_named_error(schema, message):
    with pytest.raises(ConfigError, match=message):
        DuckDB("w.duckdb", table="t", schema=schema)


def test_the_columns_of_a_table_are_told_with_their_nesting(declaring):
    loader: Loader = declaring(COLUMNS)
    told = {column.name: column for column in loader.warehouse.columns(loader.job) or ()}
    for name in set(TYPES) - {"big", "huge", "place", "span"}:
        expected = next(column for column in COLUMNS if column["name"] == name)
        assert told[name].type == {"FLOAT64": "FLOAT", "BOOL": "BOOLEAN"}.get(*[str(expected["type"])] * 2)
        assert (told[name].mode == "REPEATED") == (expected.get("mode") == "REPEATED")
    assert [field.name for field in told["lines"].fields] == ["sku", "n"]


def test_what_has_no_form_there_is_text_or_json(loader):
    loader.load({"lists": [[{"a": 1}]], "none": None, "n": 1, "o": {"p": {"q": [1.5]}}})
    loader.sql("ALTER TABLE t ADD COLUMN m MAP(VARCHAR, BIGINT)")
    loader.sql("ALTER TABLE t ADD COLUMN e ENUM('x', 'y')")
    columns = {column.name: column for column in loader.warehouse.columns(loader.job) or ()}
    kinds = {name: (column.type, column.mode) for name, column in columns.items()}
    assert kinds == {
        "lists": ("JSON", "REPEATED"),
        "none": ("STRING", "NULLABLE"),
        "n": ("INTEGER", "NULLABLE"),
        "o": ("RECORD", "NULLABLE"),
        "m": ("JSON", "NULLABLE"),
        "e": ("STRING", "NULLABLE"),
    }
    (inner,) = columns["o"].fields
    assert (inner.name, inner.fields[0].name, inner.fields[0].mode) == ("p", "q", "REPEATED")
