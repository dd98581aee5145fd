"""A record that is changed after it was yielded is written as it was when it was yielded, whatever gathers records."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import duckdb
import pytest

import etl
from etl.snapshots import snapshot

COUNT = 250  # more than Parquet gathers at first
BAD = 77  # what cannot be written, or read by a transform


@dataclasses.dataclass
class Point:
    x: int


def one_dict(v: str) -> Iterator[Any]:
    record: dict[str, Any] = {}
    for number in range(COUNT):
        record["id"], record[v] = number, [number]
        yield record


def one_list(v: str) -> Iterator[Any]:
    values = [0]
    for number in range(COUNT):
        values[0] = number
        yield {"id": number, v: values}


def one_object_deep_within(v: str) -> Iterator[Any]:
    within = {"a": {"b": [0]}}
    for number in range(COUNT):
        within["a"]["b"][0] = number
        yield {"id": number, v: [{"x": within}]}


def one_tuple_of_a_list(v: str) -> Iterator[Any]:
    values: tuple[list[int], int] = ([0], 1)
    for number in range(COUNT):
        values[0][0] = number
        yield {"id": number, v: values[:1]}


def one_mapping(v: str) -> Iterator[Any]:
    record: dict[str, Any] = {}
    for number in range(COUNT):
        record |= {"id": number, v: [number]}
        yield MappingProxyType(record)


def one_buffer(v: str) -> Iterator[Any]:
    data = bytearray(3)
    for number in range(COUNT):
        data[:] = b"%03d" % number
        yield {"id": number, v: data}


def one_view(v: str) -> Iterator[Any]:
    data = bytearray(3)
    for number in range(COUNT):
        data[:] = b"%03d" % number
        yield {"id": number, v: memoryview(data)}


def one_dataclass(v: str) -> Iterator[Any]:
    point = Point(0)
    for number in range(COUNT):
        point.x = number
        yield {"id": number, v: point}


def two_dicts_in_turn(v: str) -> Iterator[Any]:
    records: list[dict[str, Any]] = [{}, {}]
    for number in range(COUNT):
        record = records[number % 2]
        record["id"], record[v] = number, number
        yield record


def changed_after_it_was_yielded(v: str) -> Iterator[Any]:
    for number in range(COUNT):
        record = {"id": number, v: number}
        yield record
        record[v] = -1


def emptied_after_it_was_yielded(v: str) -> Iterator[Any]:
    for number in range(COUNT):
        record = {"id": number, v: [number]}
        yield record
        record[v].clear()
        record.clear()


IDIOMS: list[Callable[[str], Iterator[Any]]] = [
    one_dict,
    one_list,
    one_object_deep_within,
    one_tuple_of_a_list,
    one_mapping,
    one_buffer,
    one_view,
    one_dataclass,
    two_dicts_in_turn,
    changed_after_it_was_yielded,
    emptied_after_it_was_yielded,
]


def all_idioms() -> Iterator[Any]:
    """One idiom after the other, each with a field of its own."""
    for idiom in IDIOMS:
        yield from idiom(idiom.__name__)


def within(value: Any) -> list[int]:
    """Return the numbers within a value, in whatever form a sink keeps it."""
    if isinstance(value, str):
        return [int(base64.b64decode(value))]
    if isinstance(value, (bytes, bytearray)):
        return [int(value)]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [number for item in value for number in within(item)]
    return [value]


def a_source() -> dict[str, Any]:
    return {"source": all_idioms}


def a_transform() -> dict[str, Any]:
    """The idioms between a source and two transforms that leave records as they are."""

    def makes(records: Iterator[Any]) -> Iterator[Any]:
        outputs = all_idioms()
        for _ in records:
            yield next(outputs)
        yield from outputs

    def passes(records: Iterator[Any]) -> Iterator[Any]:
        yield from records

    def fails(records: Iterator[Any]) -> Iterator[Any]:
        for record in records:
            if record["id"] == BAD:
                raise ValueError("bad")
            yield record

    return {
        "source": lambda: ({"number": number} for number in range(COUNT)),
        "transforms": [makes, passes, fails],
        "on_error": "reject",
    }


def expected(*left_out: int) -> list[tuple[str, int, list[int]]]:
    numbers = [number for number in range(COUNT) if number not in left_out]
    return sorted((idiom.__name__, number, [number]) for idiom in IDIOMS for number in numbers)


def written(rows: list[dict[str, Any]]) -> list[tuple[str, int, list[int]]]:
    """Return of each row the field that it has a value in, its id, and the numbers in that field."""
    return sorted(
        (name, row["id"], within(value))
        for row in rows
        for name, value in row.items()
        if name != "id" and value is not None
    )


def run(folder: Path, format: str, place: str, options: dict[str, Any]) -> list[dict[str, Any]]:
    warehouse = {"type": "duckdb", "path": str(folder / "w.duckdb"), "table": "t"}
    if place == "a table that refuses records":
        with duckdb.connect(str(folder / "w.duckdb")) as database:
            database.execute(f"CREATE TABLE t (id BIGINT CHECK (id <> {BAD}))")
        options = {**options, "on_error": "reject"}
    etl.Pipeline(
        "job",
        sink={"type": "numbered_chunks", "path": str(folder / "out" / f"part.{format}"), "keep": True},
        checkpoint=folder / "job.json",
        warehouse=None if place == "files" else warehouse,
        **options,
    ).run(handle_signals=False)
    with duckdb.connect() as database:
        rows = f"read_{'parquet' if format == 'parquet' else 'json'}('{folder}/out/*.{format}')"
        if place != "files":
            database.execute(f"ATTACH '{folder}/w.duckdb' AS w")
            rows = "w.t"
        found = database.execute(f"SELECT * FROM {rows}")
        names = [name for name, *_ in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


@pytest.mark.parametrize("who", [a_source, a_transform])
@pytest.mark.parametrize("format", ["parquet", "ndjson"])
@pytest.mark.parametrize("place", ["files", "a table"])
def test_each_record_is_written_as_it_was_yielded(tmp_path, who, format, place):
    rows = run(tmp_path, format, place, who())
    assert written(rows) == (expected() if who is a_source else expected(BAD))


@pytest.mark.parametrize("format", ["parquet", "ndjson"])
def test_records_that_are_judged_are_as_they_were_yielded_and_so_are_their_letters(tmp_path, format):
    assert written(run(tmp_path, format, "a table that refuses records", a_source())) == expected(BAD)
    found = written([letter["record"] for letter in letters(tmp_path)])
    assert found == sorted((idiom.__name__, BAD, [BAD]) for idiom in IDIOMS)


@pytest.mark.parametrize("idiom", [one_dict, one_list, changed_after_it_was_yielded])
def test_a_record_that_parquet_refuses_late_is_in_its_letter_as_it_was_yielded(tmp_path, idiom):
    def with_one_of_another_kind() -> Iterator[Any]:
        for record in idiom("v"):
            right = record["v"]
            if record["id"] == BAD:
                record["v"] = {"no": "number"}
            yield record
            record["v"] = right

    rows = run(tmp_path, "parquet", "files", {"source": with_one_of_another_kind, "on_error": "reject"})
    assert len(rows) == COUNT - 1
    (letter,) = letters(tmp_path)
    assert letter["record"] == {"id": BAD, "v": {"no": "number"}}


@pytest.mark.parametrize("idiom", IDIOMS, ids=lambda idiom: idiom.__name__)
def test_what_check_shows_is_as_it_was_yielded(tmp_path, idiom):
    def source() -> Iterator[Any]:
        return idiom("v")

    job = etl.Pipeline("job", source=source, sink={"type": "null"}, checkpoint=tmp_path / "job.json")
    assert [(record["id"], within(record["v"])) for record in job.check(5)] == [(n, [n]) for n in range(5)]


def test_a_snapshot_is_the_record_where_nothing_in_it_can_change_and_shares_nothing_that_can():
    flat = {"a": 1, "b": "x"}
    assert snapshot(flat) == flat
    assert snapshot(flat) is not flat
    held = {"l": [1, {"a": [2]}], "t": ([3],), "b": bytearray(b"x")}
    before = snapshot(held)
    held["l"][1]["a"].append(4)
    held["t"][0].clear()
    held["b"][:] = b"yy"
    assert before == {"l": [1, {"a": [2]}], "t": ([3],), "b": b"x"}


def letters(folder: Path) -> list[dict[str, Any]]:
    paths = sorted(folder.glob("job-rejects-*.ndjson"))
    return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]
