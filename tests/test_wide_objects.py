"""Objects with data as keys are JSON: the words of a text, the ids of rows. What is declared JSON is not looked into.

Kinds: OpenAlex, `abstract_inverted_index`; duckdb/duckdb#13734. DuckDB's sniffer holds a field for each name, with a
vector of each: 200 records of 100 words take more than 256 MiB.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

import etl
from etl import progress
from etl.errors import SchemaMismatch

MEMORY = 256 << 20


def texts(count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": number,
            "words": {f"w {(number * 61 + word) % 9_973}": [word] for word in range(60)},
            "by": {"name": "é", "ids": [{"x": 1.5, "n": None}]},
        }
        for number in range(count)
    ]


def load(
    tmp_path: Path,
    records: list[dict[str, Any]],
    *,
    format: str = "ndjson",
    schema: dict[str, str] | None = None,
    part_records: int | None = None,
    transforms: tuple[Any, ...] = (),
) -> tuple[dict[str, str], list[dict[str, Any]], list[str]]:
    told: list[str] = []
    etl.Pipeline(
        "j",
        source=lambda: iter(records),
        sink={"type": "reused_file", "path": tmp_path / f"part.{format}"},
        warehouse={"type": "duckdb", "path": tmp_path / "w.duckdb", "table": "t", "schema": schema},
        checkpoint=tmp_path / "j.json",
        part_records=part_records,
        transforms=transforms,
        memory=MEMORY,
    ).run(
        handle_signals=False,
        listeners=[lambda event: told.append(event.message) if isinstance(event, progress.Notice) else None],
    )
    with duckdb.connect(str(tmp_path / "w.duckdb")) as warehouse:
        types = {name: type_ for name, type_, *_ in warehouse.execute("DESCRIBE t").fetchall()}
        found = warehouse.execute("SELECT to_json(t)::VARCHAR FROM t ORDER BY id").fetchall()
    return types, [json.loads(row) for (row,) in found], told


@pytest.mark.parametrize("format", ["ndjson", "ndjson.gz", "parquet"])
def test_an_object_with_data_as_keys_is_json_and_that_is_told(tmp_path: Path, format: str) -> None:
    records = texts(100)
    types, rows, told = load(tmp_path, records, format=format)
    assert (types["id"], types["words"]) == ("BIGINT", "JSON")
    assert types["by"].startswith("STRUCT(")
    assert rows == records
    assert [message.split(":")[0] for message in told if "words" in message] == [
        "the objects in the field 'words' have more than 300 different keys, which are data and no columns"
    ]


@pytest.mark.parametrize("format", ["ndjson", "parquet"])
@pytest.mark.parametrize("part_records", [None, 2])
def test_what_is_declared_json_is_json_whatever_it_holds(
    tmp_path: Path, format: str, part_records: int | None
) -> None:
    records = [*texts(12), {"id": 12, "words": None}, {"id": 13, "words": {}}]
    if format == "ndjson":
        records += [{"id": 14, "words": [1, "a", {"b": 2}]}, {"id": 15, "words": "text"}]
    types, rows, _ = load(
        tmp_path, records, format=format, schema={"words": "JSON"}, part_records=part_records
    )
    assert types["words"] == "JSON"
    assert [row["words"] for row in rows] == [record["words"] for record in records]


SMALL = [{"id": 0, "v": '{"a": 1}'}, {"id": 1, "v": {"b": [1.5]}}, {"id": 2, "v": None}]
READ = [{"a": 1}, {"b": [1.5]}, None]


@pytest.mark.parametrize("format", ["ndjson", "parquet"])
@pytest.mark.parametrize("part_records", [None, 1])
def test_what_is_cast_to_json_is_json_however_small_it_is(
    tmp_path: Path, format: str, part_records: int | None
) -> None:
    cast = (etl.cast({"v": "json"}),)
    types, rows, _ = load(tmp_path, SMALL, format=format, part_records=part_records, transforms=cast)
    assert types["v"] == "JSON"
    assert [row["v"] for row in rows] == READ


@pytest.mark.parametrize("format", ["ndjson", "parquet"])
def test_what_is_cast_to_json_fills_a_column_that_is_declared_otherwise(tmp_path: Path, format: str) -> None:
    schema = {"v": "STRUCT(a BIGINT, b DOUBLE[])"}
    types, rows, _ = load(
        tmp_path, SMALL, format=format, schema=schema, transforms=(etl.cast({"v": "json"}),)
    )
    assert types["v"] == "STRUCT(a BIGINT, b DOUBLE[])"
    assert [row["v"] for row in rows] == [{"a": 1, "b": None}, {"a": None, "b": [1.5]}, None]


def test_it_stays_json_in_later_runs(tmp_path: Path) -> None:
    records = texts(40)
    load(tmp_path, records[:20], part_records=20)
    types, rows, _ = load(tmp_path, records[:22])
    assert types["words"] == "JSON"
    assert rows == records[:22]


def test_a_table_that_began_with_columns_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        SchemaMismatch, match=r"'words' have more than 300.*words = \"JSON\" under \[warehouse.schema\]"
    ):
        load(tmp_path, texts(40), part_records=2)
    with duckdb.connect(str(tmp_path / "w.duckdb")) as warehouse:
        warehouse.execute("DROP TABLE t")
    types, rows, _ = load(tmp_path, texts(40), part_records=2, schema={"words": "JSON"})
    assert types["words"] == "JSON"
    assert rows == texts(40)
