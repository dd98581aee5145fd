"""What loads do to the columns of a table that is there is told: names, types, the table, the part."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import duckdb
import pytest

import etl
from etl.display import JsonLines, LogListener
from etl.progress import ColumnsChanged, Event
from etl.words import sentence


def run(directory: Path, records: list[dict[str, Any]], **options: Any) -> list[ColumnsChanged]:
    """Run a job of one record a part; return what it told of columns."""
    told: list[Event] = []
    etl.Pipeline(
        "job",
        source=lambda: iter(records),
        sink={"type": "reused_file", "path": str(directory / "job.ndjson")},
        warehouse={"type": "duckdb", "path": str(directory / "w.duckdb"), "table": "t"},
        checkpoint=directory / "job.checkpoint.json",
        part_records=1,
        **options,
    ).run(listeners=[told.append])
    return [event for event in told if isinstance(event, ColumnsChanged)]


# Records after {"a": 1}, one a part; what is told of each part.
CASES: dict[str, tuple[list[dict[str, Any]], dict[int, tuple[dict[str, str], dict[str, tuple[str, str]]]]]] = {
    "a column": ([{"a": 2}, {"a": 3, "b": "x"}], {3: ({"b": "VARCHAR"}, {})}),
    "an object": ([{"o": {"x": 1}}], {2: ({"o": 'STRUCT("x" BIGINT)'}, {})}),
    "a field": (
        [{"o": {"x": 1}}, {"o": {"y": 2.5}}],
        {2: ({"o": 'STRUCT("x" BIGINT)'}, {}), 3: ({"o.y": "DOUBLE"}, {})},
    ),
    "a field of a list's objects": (
        [{"l": [{"x": 1}]}, {"l": [{"y": True}]}],
        {2: ({"l": 'STRUCT("x" BIGINT)[]'}, {}), 3: ({"l[].y": "BOOLEAN"}, {})},
    ),
    "a first value": ([{"n": None}, {"n": 1}], {2: ({"n": "NULL"}, {}), 3: ({}, {"n": ("NULL", "BIGINT")})}),
    "nothing": ([{"a": 2}, {}], {}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_a_load_adds_is_told_with_the_part_that_needs_it(tmp_path, case):
    records, told = CASES[case]
    found = run(tmp_path, [{"a": 1}, *records])
    assert {event.sequence: (event.added, event.changed) for event in found} == told
    assert {event.table for event in found} <= {"t"}


def test_a_column_beside_those_of_a_table_that_somebody_made_is_told(tmp_path):
    with duckdb.connect(str(tmp_path / "w.duckdb")) as connection:
        connection.execute("CREATE TABLE t (a INTEGER)")
    (found,) = run(tmp_path, [{"a": 1, "b": 2}])
    assert (found.added, found.changed) == ({"b": "BIGINT"}, {})


def test_the_log_has_a_line_for_people_and_fields_for_programs(tmp_path):
    event = ColumnsChanged(
        pipeline="job",
        table="t",
        sequence=3,
        added={"b": "VARCHAR", "o.y": "DOUBLE"},
        changed={"n": ("NULL", "BIGINT")},
    )
    assert sentence(event) == (
        "t has new columns: b (VARCHAR), o.y (DOUBLE); has columns of another type: n (from NULL to BIGINT), for part 3"
    )
    lines: list[str] = []
    handler = logging.Handler()
    handler.setFormatter(JsonLines())
    handler.emit = lambda record: lines.append(handler.format(record))  # type: ignore[method-assign]
    logger = logging.Logger("columns")
    logger.addHandler(handler)
    LogListener(logger, lambda: 0.0)(event)
    line = json.loads(lines[0])
    assert (line["event"], line["level"], line["table"], line["sequence"]) == (
        "ColumnsChanged",
        "info",
        "t",
        3,
    )
    assert (line["added"], line["changed"]) == ({"b": "VARCHAR", "o.y": "DOUBLE"}, {"n": ["NULL", "BIGINT"]})


def test_of_many_columns_the_line_has_the_first_and_the_event_all():
    added = {f"c{number}": "BIGINT" for number in range(50)}
    text = sentence(ColumnsChanged(pipeline="job", table="t", sequence=1, added=added, changed={}))
    assert "c19 (BIGINT) and 30 more" in text
