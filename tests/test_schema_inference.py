"""Which columns `etl check` says that records need, and that a load gives the table the same.

The shapes are those of the field's open data. bigquery-schema-generator 1.6 and pyarrow 26 were tried on each of them;
ARCHITECTURE.md says why neither is used.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result

from etl import config
from etl.cli import main
from etl.columns import Columns
from etl.commands.inference import Inferred, infer
from etl.schemas.proposals import applied
from etl.schemas.types import shown
from etl.warehouses.base import Misfit
from etl.warehouses.bigquery.gate import RecordGate
from etl.warehouses.bigquery.schema import declared, to_api

JOB = """
name = "job"
[source]
type = "files"
paths = "data.ndjson"
[sink]
type = "numbered_chunks"
path = "out/job.ndjson"
"""
DUCKDB = """
[warehouse]
type = "duckdb"
path = "w.duckdb"
table = "t"
"""
BIGQUERY = """
[warehouse]
type = "bigquery"
table = "project.dataset.t"
location = "EU"
"""

EVENTS: list[dict[str, Any]] = [
    {
        "id": "1",
        "type": "PushEvent",
        "actor": {"id": 1, "login": "a"},
        "payload": {"commits": [{"sha": "x", "distinct": True}], "ref": None},
        "created_at": "2024-01-01T00:00:00Z",
    },
    {
        "id": "2",
        "type": "IssuesEvent",
        "actor": {"id": 2, "login": "b"},
        "payload": {"issue": {"labels": [], "milestone": None, "assignee": {"login": "q"}}},
        "created_at": "2024-01-01T00:00:01Z",
        "org": {"id": 5},
    },
]
EVENT = {
    "id": "STRING",
    "type": "STRING",
    "actor": {"id": "INTEGER", "login": "STRING"},
    "payload": {
        "commits REPEATED": {"sha": "STRING", "distinct": "BOOLEAN"},
        "issue": {"assignee": {"login": "STRING"}},
    },
    "created_at": "STRING",
    "org": {"id": "INTEGER"},
}

# Of each shape: the records, what BigQuery's gate makes of them, what DuckDB makes of them where that is another, and
# what is proposed for BigQuery. A text instead of columns: a record does not fit, and the warning says so.
SHAPES: dict[str, tuple[list[Any], Any, Any, str | None]] = {
    "postal codes": (["01234", "98765"], "STRING", None, None),
    "dates": (["2024-01-01", "2024-02-29"], "STRING", "DATE", "DATE"),
    "dates, and something else": (["2024-01-01", "unknown"], "STRING", None, None),
    "no date of the calendar": (["2023-02-29"], "STRING", None, None),
    "instants": (["2024-01-01T00:00:00Z", "2024-01-01T01:00:00.5+01:00"], "STRING", "TIMESTAMP", "TIMESTAMP"),
    "times without a zone": (["2024-01-01T00:00:00.000"], "STRING", "DATETIME", "DATETIME"),
    "with a zone and without": (["2024-01-01T00:00:00Z", "2024-01-01T00:00:00"], "STRING", None, None),
    "seconds since 1970": ([1704067200], "INTEGER", None, None),
    "past 2**53": ([2**53 + 1], "INTEGER", None, None),
    "past 2**63": ([2**63], "INTEGER takes 64 bits", "BIGNUMERIC", None),
    "1, then 1.5": ([1, 1.5], "FLOAT", None, None),
    "1.5, then 1": ([1.5, 1], "FLOAT", None, None),
    "past 2**53, then 1.5": ([2**53 + 1, 1.5], "takes whole numbers", "does not fit the column's type", None),
    "1 and 0": ([1, 0], "INTEGER", None, None),
    "words for booleans": (["true", "false"], "STRING", None, None),
    "Socrata's numbers": (["40.7128", "-74"], "STRING", None, None),
    "whole numbers as text": (["311", "17"], "STRING", None, None),
    "a number, then text": (
        [1, "a"],
        "INTEGER takes whole numbers, found 'a'",
        "does not fit the values",
        None,
    ),
    "empty text, then a number": (["", 1], "STRING takes text", "does not fit the values before it", None),
    "null, then a number": ([None, 1], "INTEGER", None, None),
    "an empty array, then numbers": ([[], [1]], "INTEGER REPEATED", None, None),
    "null in an array": ([[1, None]], "must not hold null", "INTEGER REPEATED", None),
    "text and numbers in an array": ([[1, "a"]], "found 'a'", "does not fit the values before it", None),
    "an object or null": ([{"a": 1}, None], {"a": "INTEGER"}, None, None),
    "an object or text": (
        [{"a": 1}, "x"],
        "RECORD takes an object",
        "does not fit the values before it",
        None,
    ),
    "an array or a value": ([[1], 1], "takes an array", "does not fit the values before it", None),
    "an object that grows": ([{"a": 1}, {"b": "x"}], {"a": "INTEGER", "b": "STRING"}, None, None),
    "nothing but null": ([None], None, None, None),
    "nothing but []": ([[]], None, None, None),
    "nothing but {}": ([{}], None, None, None),
}


def tree(columns: Columns) -> dict[str, Any]:
    return {
        column.name + (" REPEATED" if column.mode == "REPEATED" else ""): tree(column.fields)
        if column.fields
        else shown(column)
        for column in columns
    }


def inferred(
    folder: Path, records: list[dict[str, Any]], *, text: str = JOB, warehouse: str = ""
) -> Inferred:
    (folder / "data.ndjson").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "job.toml").write_text(text + warehouse)
    definition = config.read("job.toml")
    pipeline = definition.pipeline()
    return infer(definition, pipeline, pipeline.check(1000))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def records_of(shape: str) -> list[dict[str, Any]]:
    return [{"k": "x", "v": value} for value in SHAPES[shape][0]]


def is_complaint(expected: Any) -> bool:
    return isinstance(expected, str) and " " in expected.removesuffix(" REPEATED")


def assert_inferred(found: Inferred, expected: Any) -> None:
    if is_complaint(expected):
        assert expected in "\n".join(found.warnings)
        return
    assert found.warnings == []
    columns = tree(found.columns)
    name = "v REPEATED" if isinstance(expected, str) and "REPEATED" in expected else "v"
    assert columns == ({"k": "STRING"} if expected is None else {"k": "STRING", name: expected})


@pytest.mark.parametrize("shape", SHAPES)
def test_what_bigquery_makes_of_it(folder: Path, shape: str) -> None:
    _, expected, _, proposed = SHAPES[shape]
    records = records_of(shape)
    found = inferred(folder, records, warehouse=BIGQUERY)
    assert_inferred(found, expected)
    assert found.proposed == ({("v",): proposed} if proposed else {})
    gate = RecordGate((), format="ndjson")
    for record in records:  # as a load does
        try:
            gate.admit(record)
        except Misfit:
            assert is_complaint(expected)
    assert gate.columns == found.columns


@pytest.mark.parametrize("shape", SHAPES)
def test_what_duckdb_makes_of_it(folder: Path, shape: str) -> None:
    _, otherwise, expected, _ = SHAPES[shape]
    found = inferred(folder, records_of(shape), warehouse=DUCKDB)
    assert_inferred(found, otherwise if expected is None else expected)
    assert found.proposed == {}
    assert sorted(path.name for path in folder.iterdir()) == ["data.ndjson", "job.toml"]


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if not is_complaint(SHAPES[shape][1])])
@pytest.mark.parametrize("warehouse", [DUCKDB, BIGQUERY], ids=["duckdb", "bigquery"])
def test_the_records_fit_the_schema_that_is_written_of_them(folder: Path, shape: str, warehouse: str) -> None:
    first = inferred(folder, records_of(shape), warehouse=warehouse)
    (folder / "schema.json").write_text(json.dumps(to_api(applied(first.columns, first.proposed))))
    again = inferred(folder, records_of(shape), warehouse=f'{warehouse}schema = "schema.json"\n')
    assert again.warnings == []
    assert again.proposed == {}
    assert tree(again.columns) == tree(applied(first.columns, first.proposed))


@pytest.mark.parametrize("warehouse", ["", DUCKDB, BIGQUERY], ids=["none", "duckdb", "bigquery"])
def test_events_with_payloads_of_many_kinds(folder: Path, warehouse: str) -> None:
    found = inferred(folder, EVENTS, warehouse=warehouse)
    assert tree(found.columns) == EVENT | ({"created_at": "TIMESTAMP"} if warehouse == DUCKDB else {})
    assert found.proposed == ({} if warehouse == DUCKDB else {("created_at",): "TIMESTAMP"})


def test_names_that_the_warehouse_forbids_are_those_of_its_columns(folder: Path) -> None:
    records = [{"First Name": 1, "a.b": "2024-01-01", "größe": 3}]
    assert [*tree(inferred(folder, records, warehouse=BIGQUERY).columns)] == ["First Name", "a_b", "größe"]
    assert inferred(folder, records, warehouse=BIGQUERY).proposed == {("a_b",): "DATE"}
    assert [*tree(inferred(folder, records, warehouse=DUCKDB).columns)] == ["First Name", "a.b", "größe"]


def test_what_is_declared_stays_as_it_is(folder: Path) -> None:
    records = [{"day": "2024-01-01", "n": 1}]
    found = inferred(
        folder, records, warehouse=BIGQUERY + '[warehouse.schema]\nday = "STRING"\nlater = "FLOAT"\n'
    )
    assert tree(found.columns) == {"day": "STRING", "later": "FLOAT", "n": "INTEGER"}
    assert found.proposed == {}
    found = inferred(
        folder, records, warehouse=DUCKDB + '[warehouse.schema]\nday = "VARCHAR"\nlater = "DOUBLE"\n'
    )
    assert tree(found.columns) == {"day": "STRING", "later": "FLOAT", "n": "INTEGER"}


@pytest.mark.parametrize(
    ("warehouse", "format", "type_"),
    [
        (DUCKDB, "ndjson", "JSON"),
        (DUCKDB, "parquet", "JSON"),
        (BIGQUERY, "ndjson", "JSON"),
        (BIGQUERY, "parquet", "RECORD"),  # BigQuery takes no JSON out of Parquet
    ],
)
def test_what_is_cast_to_json_is_what_a_run_makes_of_it(
    folder: Path, warehouse: str, format: str, type_: str
) -> None:
    cast = '\n[cast]\nv = "json"\n'
    text = f'format = "{format}"\n{JOB}'
    found = inferred(folder, [{"v": {"a": 1}}], text=text, warehouse=warehouse + cast)
    assert [(column.name, column.type) for column in found.columns] == [("v", type_)]


def test_a_frozen_table_takes_no_fields_that_are_not_declared(folder: Path) -> None:
    frozen = 'drift = "freeze"\n' + JOB
    schema = '[warehouse.schema]\nn = "{}"\n'
    records = [{"n": 1, "new": 2}]
    for warehouse, type_ in ((BIGQUERY, "INTEGER"), (DUCKDB, "BIGINT")):
        found = inferred(folder, records, text=frozen, warehouse=warehouse + schema.format(type_))
        assert len(found.warnings) == 1
        assert "field new: the table has no column for it" in found.warnings[0]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def check(folder: Path, records: list[dict[str, Any]], *arguments: str, warehouse: str = BIGQUERY) -> Result:
    inferred(folder, records, warehouse=warehouse)
    return call("check", "job.toml", *arguments)


def test_check_prints_the_columns_and_few_records(folder: Path) -> None:
    result = check(folder, [{"n": number, "at": {"day": "2024-01-31"}} for number in range(2000)])
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 10
    _, _, table = result.stderr.partition("columns ")
    assert table.splitlines()[:4] == [
        "    of a table that is empty, by 1,000 records:",
        "  n      INTEGER",
        "  at     RECORD",
        "    day  STRING (every value is a DATE: --write-schema says so)",
    ]
    assert result.stderr.endswith("first records (1,000 at most) gave 1,000 records\n")


def test_check_looks_at_as_many_records_as_it_is_told_to(folder: Path) -> None:
    result = check(folder, [{"n": 1}, {"n": 2.5}, {"x": True}], "--records", "2")
    assert "  n  FLOAT\n" in result.stderr
    assert "BOOLEAN" not in result.stderr


def test_check_shows_few_warnings_and_columns_of_many(folder: Path) -> None:
    result = check(folder, [{f"c{number}": 1 for number in range(120)}] + [{"c0": "x"}] * 25)
    assert result.stderr.count("would not fit the table: column c0") == 10
    assert "and 15 more records would not fit" in result.stderr
    assert "  and 20 more, which --write-schema writes too\n" in result.stderr


def test_a_schema_is_written_with_what_is_proposed(folder: Path) -> None:
    result = check(folder, EVENTS, "--write-schema", "schema.json")
    assert "wrote schema.json; 1 column of text as date or timestamp" in result.stderr
    assert 'schema = "schema.json"' in result.stderr
    written = json.loads(Path("schema.json").read_text())
    assert {"name": "created_at", "type": "TIMESTAMP"} in written
    assert tree(declared("schema.json")) == EVENT | {"created_at": "TIMESTAMP"}


def test_a_schema_is_never_written_over_another(folder: Path) -> None:
    Path("schema.json").write_text("mine")
    result = check(folder, EVENTS, "--write-schema", "schema.json")
    assert result.exit_code == 2
    assert "schema.json is there already" in result.stderr
    assert Path("schema.json").read_text() == "mine"


def test_no_schema_is_written_of_nothing(folder: Path) -> None:
    result = check(folder, [{"v": None}], "--write-schema", "schema.json", warehouse="")
    assert result.exit_code == 2
    assert "the first records tell no columns" in result.stderr


def test_names_that_no_record_has_are_told(folder: Path) -> None:
    rows = [{"a": 1, "user": [{"login": "x"}], "b.c": None}, {"id": "1"}]
    Path("data.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("job.toml").write_text(
        f"""{JOB}
[rename]
"user.login" = "user.name"
a = "amount"
amuont = "x"
[drop]
fields = ["b.c", "b.d"]
[cast]
id = "integer"
a = "float"
"""
    )
    result = call("check", "job.toml")
    assert result.exit_code == 0
    assert [line for line in result.stderr.splitlines() if "warning: [" in line] == [
        "warning: [rename] names 'amuont', which none of these records has",
        "warning: [drop] names 'b.d', which none of these records has",
        "warning: [cast] names 'a', which none of these records has: [rename] comes before it, and makes it 'amount'",
    ]


def test_a_job_that_replaces_its_table_is_checked_too(folder: Path) -> None:
    sink = JOB.replace('"numbered_chunks"', '"numbered_chunks"\nkeep = false')
    Path("data.ndjson").write_text('{"id": 1}\n')
    Path("job.toml").write_text(f'{sink}{DUCKDB}disposition = "replace"\n')
    result = call("check", "job.toml")
    assert (result.exit_code, "id  INTEGER" in result.stderr) == (0, True)


def test_the_written_schema_is_what_duckdb_loads(folder: Path) -> None:
    assert check(folder, EVENTS, "--write-schema", "schema.json", warehouse=DUCKDB).exit_code == 0
    inferred(folder, EVENTS, warehouse=f'{DUCKDB}schema = "schema.json"\n')
    assert call("run", "job.toml").exit_code == 0
    with duckdb.connect("w.duckdb") as warehouse:
        rows = warehouse.execute(
            "SELECT id, payload.issue.assignee.login, typeof(created_at) FROM t ORDER BY id"
        )
        assert rows.fetchall() == [
            ("1", None, "TIMESTAMP WITH TIME ZONE"),
            ("2", "q", "TIMESTAMP WITH TIME ZONE"),
        ]


def test_without_a_temporary_directory_the_columns_are_told_untried(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder / "nowhere"))
    result = check(folder, [{"n": 1}], warehouse=DUCKDB)
    assert result.exit_code == 0, result.output
    assert "no temporary directory can be made" in result.output
    assert "set TMPDIR" in result.output
