"""Parts in Parquet that stay, without a warehouse, have one schema from the first to the last."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow
import pyarrow.dataset
import pytest

import etl
from etl.errors import RecordError
from etl.progress import Event, Notice

DAY = datetime.date(2024, 2, 29)
NOON = datetime.datetime(2024, 2, 29, 12)


class Output:
    """A job of one record a part, and its parts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.records: list[dict[str, Any]] = []
        self.notices: list[str] = []

    def source(self) -> Any:
        yield from self.records

    def run(self, *records: dict[str, Any], **options: Any) -> etl.Result:
        self.records += records
        sink = {"type": "numbered_chunks", "path": str(self.directory / "out" / "part.parquet")}
        pipeline = etl.Pipeline(
            "job",
            source=self.source,
            sink=sink,
            checkpoint=self.directory / "job.checkpoint.json",
            **{"part_records": 1, **options},
        )

        def listen(event: Event) -> None:
            if isinstance(event, Notice):
                self.notices.append(event.message)

        return pipeline.run(listeners=[listen])

    def parts(self) -> list[str]:
        return sorted(str(path) for path in (self.directory / "out").iterdir())

    def rows(self) -> list[dict[str, Any]]:
        """Read all parts together, with the schema of each of them in turn, and by DuckDB; all must say the same."""
        schemas = {pyarrow.parquet.read_schema(path) for path in self.parts()}
        (schema,) = schemas
        found = pyarrow.dataset.dataset(self.parts(), schema=schema).to_table().to_pylist()
        relation = duckdb.connect().execute("SELECT * FROM read_parquet(?)", [self.parts()])
        names = [name for name, *_ in relation.description or ()]
        assert [dict(zip(names, row, strict=True)) for row in relation.fetchall()] == found
        return found

    def letters(self) -> list[dict[str, Any]]:
        paths = sorted(self.directory.glob("job-rejects-*.ndjson"))
        return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


@pytest.fixture
def output(tmp_path):
    return Output(tmp_path)


# A first value, one that comes in a later part, and what is said of it; None: it fits, and is read as it was.
LATER: dict[str, tuple[Any, Any, str | None]] = {
    "a smaller number": (2**40, 1, None),
    "an integer that is a float": (1.5, 2**53, None),
    "an integer that is none": (1.5, 2**53 + 1, "9007199254740993"),
    "a fraction": (1, 2.5, "'v' would be double, and is int64"),
    "text": (1, "one", "int64"),
    "a number": ("one", 1, "string"),
    "a boolean": (1, True, "int64"),
    "null": (1, None, None),
    "more digits": (Decimal("1.5"), Decimal("1000.5"), "'v' would be decimal128(5, 1)"),
    "fewer digits": (Decimal("1000.5"), Decimal("1.5"), None),
    "a time of a day": (DAY, NOON, "date32"),
    "a day": (NOON, DAY, "timestamp"),
    "a zone": (NOON, NOON.replace(tzinfo=datetime.UTC), "timestamp"),
    "bytes": ("a", b"a", "string"),
    "a field": ({"a": 1}, {"a": 1, "b": 2}, "'v' would be struct<a: int64, b: int64>"),
    "a field less": ({"a": 1, "b": 2}, {"b": 3}, None),
    "another element": ([1], [1.5], "'v' would be list<item: double>"),
    "an empty list": ([1], [], None),
    "text where was nothing": (None, "x", None),
    "a number where was nothing": (None, 5, "string"),
    "text in a list that was empty": ([], ["x"], None),
}


@pytest.mark.parametrize("case", LATER)
def test_a_later_part_has_the_schema_of_the_first_or_its_record_is_refused_by_name(output, case):
    first, later, said = LATER[case]
    output.run({"id": 1, "v": first}, {"id": 2, "v": later}, {"id": 3, "v": first}, on_error="reject")
    found = {row["id"]: row["v"] for row in output.rows()}
    letters = output.letters()
    if said is None:
        assert letters == []
        assert list(found) == [1, 2, 3]
        assert (later == found[2]) or {**dict.fromkeys(first), **later} == found[2]
    else:
        assert list(found) == [1, 3]
        assert [letter["record"]["id"] for letter in letters] == [2]
        assert said in letters[0]["reason"]


def test_columns_that_are_absent_are_null_and_new_ones_are_refused(output):
    output.run({"a": 1, "b": 2}, {"b": 3}, {"a": 4, "c": 5}, on_error="reject")
    assert output.rows() == [{"a": 1, "b": 2}, {"a": None, "b": 3}]
    (letter,) = output.letters()
    assert "'c' is not there in the parts before" in letter["reason"]


def test_with_ignore_new_fields_are_left_out(output):
    output.run({"a": 1}, {"a": 2, "c": 5}, drift="ignore")
    assert output.rows() == [{"a": 1}, {"a": 2}]


def test_with_fail_the_run_ends_at_the_record_and_what_was_written_stays(output):
    with pytest.raises(RecordError, match=r"record 2.*'v' would be double, and is int64 in the parts before"):
        output.run({"v": 1}, {"v": 2.5})
    assert output.rows() == [{"v": 1}]


def test_within_the_first_part_the_schema_is_as_wide_as_its_records_need(output):
    output.run({"v": 1}, {"v": 2.5, "w": "x"}, part_records=2)
    output.run({"v": 3})
    assert output.rows() == [{"v": 1.0, "w": None}, {"v": 2.5, "w": "x"}, {"v": 3.0, "w": None}]


def test_the_schema_stands_in_the_checkpoint_so_that_another_machine_writes_the_same(output, tmp_path):
    output.run({"a": 1.5, "b": "x", "n": None})
    assert json.loads((tmp_path / "job.checkpoint.json").read_bytes())["parts_schema"]
    output.run({"b": "y", "a": 2}, {"c": 1}, on_error="reject")
    assert output.rows() == [{"a": 1.5, "b": "x", "n": None}, {"a": 2.0, "b": "y", "n": None}]
    assert len(output.letters()) == 1


def test_a_column_without_a_value_is_text_and_that_is_told(output):
    output.run({"a": 1, "n": None, "l": []})
    assert any("no value in 'n', 'l': that is text in all parts" in notice for notice in output.notices)


# Of records in the first part: the columns that are told as wider than the first record.
WIDER: dict[str, tuple[list[dict[str, Any]], str | None]] = {
    "a fraction": ([{"v": 1}, {"v": 2.5}], "'v'"),
    "a decimal": ([{"v": 1}, {"v": Decimal("2.5")}], "'v'"),
    "a fraction in another batch": ([*[{"v": 1}] * 150, {"v": 2.5}], "'v'"),
    "new columns": ([{"v": 1}, {"v": 2, "w": 1}, {"x": 1}], "'w', 'x'"),
    "a large integer": ([{"v": 1}, {"v": 2**62}], None),
    "fewer columns": ([{"v": 1.5, "w": 1}, {"v": 2}], None),
    "a large integer alone": ([{"v": 2**70}], None),
}


@pytest.mark.parametrize("case", WIDER)
def test_columns_that_are_wider_than_the_first_record_are_told_once(output, case):
    records, names = WIDER[case]
    output.run(*records, part_records=len(records))
    output.run(records[-1])
    told = [notice for notice in output.notices if "the first record lacks" in notice]
    assert len(told) == (names is not None)
    assert names is None or f"lacks {names}, or" in told[0]
