"""Text of CSV that is declared reaches the table as it stands: in DuckDB and in BigQuery, for each type.

What each type takes is DuckDB's documentation ("Data Types") and BigQuery's ("Data types", "Loading JSON data").
"""

from __future__ import annotations

import csv
import pickle
from contextlib import closing
from datetime import UTC, date, datetime, time
from decimal import Decimal
from itertools import zip_longest
from pathlib import Path
from typing import Any

import duckdb
import pytest

import etl
from etl import reshaping
from etl.errors import RecordError
from etl.records import Declared
from etl.sources import Files
from tests.google import LOCATION, PROJECT, GoogleServers

WEI = "1234.567890123456789012"

# By the type of BigQuery's form, which DuckDB takes too: what stands in the file, and what the table holds.
TEXTS: dict[str, tuple[dict[str, Any], list[str], list[Any]]] = {
    "text": ({"type": "STRING"}, ["1.10", "1E5", "TRUE", "007", "NA", ""], ["1.10", "1E5", "TRUE", "007", "NA", None]),
    "NUMERIC": ({"type": "NUMERIC"}, ["1.10", "-0.000000001", "NA"], [Decimal("1.1"), Decimal("-1E-9"), None]),
    "scaled": (
        {"type": "NUMERIC", "precision": 20, "scale": 2},
        ["1234567890123456.78", "+007.5", "-", ".5", "5."],
        [Decimal("1234567890123456.78"), Decimal("7.5"), None, Decimal("0.5"), Decimal(5)],
    ),
    "BIGNUMERIC": ({"type": "BIGNUMERIC"}, [WEI, "1E5", "NULL"], [Decimal(WEI), Decimal(100000), None]),
    "INTEGER": ({"type": "INTEGER"}, ["007", "+7", "9007199254740993", "NA"], [7, 7, 9007199254740993, None]),
    "whole": ({"type": "INTEGER"}, ["1.0", "2.0", ""], [1, 2, None]),
    "FLOAT": ({"type": "FLOAT"}, ["1", "1E5", "0.123456789012345678", "n/a"], [1.0, 1e5, 0.123456789012345678, None]),
    "BOOLEAN": ({"type": "BOOLEAN"}, ["TRUE", "false", "-"], [True, False, None]),
    "DATE": ({"type": "DATE"}, ["2024-02-29", "NULL"], [date(2024, 2, 29), None]),
    "DATETIME": ({"type": "DATETIME"}, ["2024-02-29T12:00:00", "NA"], [datetime(2024, 2, 29, 12), None]),
    "TIMESTAMP": (
        {"type": "TIMESTAMP"},
        ["2024-02-29 12:00:00+00:00", "\\N"],
        [datetime(2024, 2, 29, 12, tzinfo=UTC), None],
    ),
    "TIME": ({"type": "TIME"}, ["12:30:00", "NA"], [time(12, 30), None]),
}  # fmt: skip


# By types of DuckDB alone: the text, and what the column holds, read as text.
DUCKDB_TEXTS = {
    "DECIMAL(38, 18)": (WEI, WEI),
    "DECIMAL(4, 2)": (" 1.5 ", "1.50"),
    "HUGEINT": ("12345678901234567890123", "12345678901234567890123"),
    "UBIGINT": ("18446744073709551615", "18446744073709551615"),
    "TINYINT": ("-007", "-7"),
    "TEXT": ("1.10", "1.10"),
    "UUID": ("00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000001"),
    "TIMESTAMP_NS": ("2024-02-29 12:00:00.123456789", "2024-02-29 12:00:00.123456789"),
    "JSON": ('[1.10, "x"]', '[1.1,"x"]'),
}


def pipeline(
    folder: Path, texts: dict[str, list[str]], warehouse: dict[str, Any], **more: Any
) -> etl.Pipeline:
    """Make a job of a file with a column of numbers, `n`, and others; those that are shorter end in empty fields."""
    with (folder / "a.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["n", *texts])
        writer.writerows([n, *row] for n, row in enumerate(zip_longest(*texts.values(), fillvalue="")))
    return etl.Pipeline(
        "declared",
        source={"type": "files", "paths": str(folder / "a.csv")},
        sink={"type": "reused_file", "path": str(folder / "a.ndjson")},
        warehouse=warehouse,
        checkpoint=folder / "a.checkpoint.json",
        **more,
    )


def in_duckdb(folder: Path, schema: Any) -> dict[str, Any]:
    return {"type": "duckdb", "path": str(folder / "w.duckdb"), "table": "t", "schema": schema}


def values(folder: Path, what: str = "v") -> list[Any]:
    with duckdb.connect(str(folder / "w.duckdb")) as warehouse:
        warehouse.execute("SET TimeZone = 'UTC'")
        return [value for (value,) in warehouse.execute(f"SELECT {what} FROM t ORDER BY n").fetchall()]


def padded(found: list[Any]) -> list[Any]:
    return found + [None] * (max(len(texts) for _, texts, _ in TEXTS.values()) - len(found))


SCHEMA = [{"name": name, **column} for name, (column, _, _) in TEXTS.items()]
ALL = {name: texts for name, (_, texts, _) in TEXTS.items()}
EXPECTED = {name: padded(expected) for name, (_, _, expected) in TEXTS.items()}


def test_what_comes_out_in_duckdb(tmp_path: Path) -> None:
    pipeline(tmp_path, ALL, in_duckdb(tmp_path, SCHEMA)).run()
    assert {name: values(tmp_path, f'"{name}"') for name in TEXTS} == EXPECTED


def test_what_comes_out_in_bigquery(tmp_path: Path, google_environment: GoogleServers) -> None:
    table = f"{PROJECT}.{google_environment.new_dataset()}.t"
    pipeline(
        tmp_path, ALL, {"type": "bigquery", "table": table, "location": LOCATION, "schema": SCHEMA}
    ).run()
    with closing(google_environment.bigquery_client()) as client:
        rows = sorted(client.list_rows(table, timeout=30), key=lambda row: row["n"])
    assert {name: [row[name] for row in rows] for name in TEXTS} == EXPECTED


def test_types_of_duckdb_take_the_text(tmp_path: Path) -> None:
    texts = {f"c{number}": [text, ""] for number, (text, _) in enumerate(DUCKDB_TEXTS.values())}
    schema = dict(zip(texts, DUCKDB_TEXTS, strict=True))
    pipeline(tmp_path, texts, in_duckdb(tmp_path, schema)).run()
    found = {type_: values(tmp_path, f"{name}::VARCHAR") for name, type_ in schema.items()}
    assert found == {type_: [expected, None] for type_, (_, expected) in DUCKDB_TEXTS.items()}


@pytest.mark.parametrize(
    "transforms",
    [
        (),
        ({"First Value": "v"},),
        ({"First Value": "w"}, {"w": "v"}),
    ],
)
def test_a_declaration_is_found_through_renamed_fields(
    tmp_path: Path, transforms: tuple[dict[str, str], ...]
) -> None:
    name = "First Value" if transforms else "v"
    stages = [reshaping.rename(names) for names in transforms]
    [record] = pipeline(
        tmp_path, {name: ["1.10"]}, in_duckdb(tmp_path, {"v": "VARCHAR"}), transforms=stages
    ).check()
    assert record == {"n": 0, "v": "1.10"}


def test_a_declaration_is_found_within_an_object(tmp_path: Path) -> None:
    schema = [{"name": "v", "type": "RECORD", "fields": [{"name": "code", "type": "STRING"}]}]
    stages = [reshaping.rename({"c": "v.code"})]
    [record] = pipeline(tmp_path, {"c": ["1E5"]}, in_duckdb(tmp_path, schema), transforms=stages).check()
    assert record == {"n": 0, "v": {"code": "1E5"}}


@pytest.mark.parametrize(
    ("casts", "text", "expected"),
    [
        ({"v": "string"}, "1.10", "1.10"),
        ({"v": "decimal"}, WEI, Decimal(WEI)),
        ({"v": {"type": "boolean", "true": ["FALSE"], "false": ["TRUE"]}}, "FALSE", True),
        ({"v": {"type": "date", "format": "%Y%m%d"}}, "20240229", date(2024, 2, 29)),
        ({"v": {"type": "timestamp", "unit": "s"}}, "1709208000", datetime(2024, 2, 29, 12, tzinfo=UTC)),
        ({"v": "integer"}, "NA", None),
        ({"v": "string"}, "NA", "NA"),
    ],
)
def test_a_cast_finds_the_text_as_it_stands(tmp_path: Path, casts: Any, text: str, expected: Any) -> None:
    made = pipeline(
        tmp_path, {"v": [text]}, in_duckdb(tmp_path, {"n": "INT"}), transforms=[reshaping.cast(casts)]
    )
    [record] = made.check()
    assert record["v"] == expected


def test_types_come_before_casts_and_casts_before_the_warehouse(tmp_path: Path) -> None:
    source = Files(tmp_path / "a.csv", types={"a": "integer"})
    (tmp_path / "a.csv").write_text("a,b,c,d\n01,01,01,1.50\n")
    declared = {"a": "STRING", "b": "FLOAT", "c": "INTEGER"}
    cast = reshaping.cast({"b": "string"})
    source.declare(cast.before(lambda name: Declared(type=declared[name]) if name in declared else None))
    assert next(item for item in source.pull(None) if isinstance(item, dict)) == {
        "a": 1,
        "b": "01",
        "c": 1,
        "d": 1.5,
    }


def test_a_transform_gets_the_text_of_a_declared_decimal(tmp_path: Path) -> None:
    found: list[Any] = []

    def look(records: Any) -> Any:
        for record in records:
            found.append(record["v"])
            yield record

    pipeline(
        tmp_path, {"v": ["1.10"]}, in_duckdb(tmp_path, {"v": "DECIMAL(9, 2)"}), transforms=[look]
    ).check()
    assert found == ["1.10"]


@pytest.mark.parametrize(
    ("type_", "text"),
    [("DECIMAL(9, 2)", "1.5"), ("DATE", "2024-02-29"), ("TIMESTAMP", "2024-02-29 12:00:00")],
)
def test_a_later_value_that_does_not_fit_names_its_line_and_what_to_say(
    tmp_path: Path, type_: str, text: str
) -> None:
    made = pipeline(tmp_path, {"v": [text] * 10_001 + ["n.a."]}, in_duckdb(tmp_path, {"v": type_}))
    with pytest.raises(
        RecordError, match=r"a\.csv, line 10003 .*'n\.a\.' does not fit; .*types = \{ v = \"string\" \}"
    ):
        made.check(20_000)


def test_values_that_are_no_numbers_as_they_stand_are_left_to_a_transform(tmp_path: Path) -> None:
    def fixed(records: Any) -> Any:
        for record in records:
            yield {**record, "v": float(record["v"].removeprefix("$"))}

    made = pipeline(tmp_path, {"v": ["$1.50", "2"]}, in_duckdb(tmp_path, {"v": "DOUBLE"}), transforms=[fixed])
    assert [record["v"] for record in made.check()] == [1.5, 2.0]


@pytest.mark.parametrize("format", ["ndjson", "parquet"])
@pytest.mark.parametrize("bad", ["{bad", "NaN", "abc"])
def test_text_that_is_no_json_is_refused_and_leaves_the_others_json(
    tmp_path: Path, format: str, bad: str
) -> None:
    texts = ['{"a": 1.10}', "null", "[]", bad, '{"n": 0.12345678901234567890123}']
    schema = {"v": "JSON"}
    made = pipeline(tmp_path, {"v": texts}, in_duckdb(tmp_path, schema))
    with pytest.raises(
        RecordError, match=r"a\.csv, line 5 .*column 'v' is json.*types = \{ v = \"string\" \}"
    ):
        made.check()
    etl.Pipeline(
        "declared",
        source={"type": "files", "paths": str(tmp_path / "a.csv")},
        sink={"type": "reused_file", "path": str(tmp_path / f"a.{format}")},
        warehouse=in_duckdb(tmp_path, schema),
        checkpoint=tmp_path / "a.checkpoint.json",
        on_error="reject",
    ).run()
    # numbers with more digits than a double holds are text: RFC 8259, section 6
    assert values(tmp_path, "v::VARCHAR") == ['{"a":1.1}', None, "[]", '{"n":"0.12345678901234567890123"}']


def test_a_source_that_was_told_what_is_declared_can_be_pickled(tmp_path: Path) -> None:
    made = pipeline(tmp_path, {"v": ["1.10"]}, in_duckdb(tmp_path, {"v": "VARCHAR"}))
    made.check()
    assert pickle.loads(pickle.dumps(made.source)).fingerprint() == made.source.fingerprint()


@pytest.mark.parametrize("format", ["ndjson", "parquet"])
@pytest.mark.parametrize(
    "says", [{"types": {"d": "string"}}, {"transforms": [etl.cast({"d": "string"})]}], ids=["types", "cast"]
)
def test_text_that_the_job_says_is_text_is_no_date_in_duckdb(
    tmp_path: Path, says: dict[str, Any], format: str
) -> None:
    (tmp_path / "a.csv").write_text("n,d\n1,2024-01-02\n2,2024-01-02T00:00:00Z\n3,n.d.\n")
    etl.Pipeline(
        "j",
        source=Files(tmp_path / "a.csv", types=says.get("types")),
        transforms=says.get("transforms", []),
        sink={"type": "reused_file", "path": tmp_path / f"part.{format}"},
        warehouse={"type": "duckdb", "path": tmp_path / "w.duckdb", "table": "t"},
        checkpoint=tmp_path / "j.json",
        part_records=1,
    ).run(handle_signals=False)
    with duckdb.connect(str(tmp_path / "w.duckdb")) as warehouse:
        found = warehouse.execute("SELECT d, typeof(d) FROM t ORDER BY n").fetchall()
    assert found == [(text, "VARCHAR") for text in ("2024-01-02", "2024-01-02T00:00:00Z", "n.d.")]
