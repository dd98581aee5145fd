"""Whatever Parquet cannot hold is a dead letter with the record's own number, and the records around it are kept."""

from __future__ import annotations

import json
import sys
from collections import namedtuple
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import duckdb
import pyarrow.dataset
import pytest

import etl
from etl import formats
from etl.errors import RecordError

# How many records come before the one that does not fit, and after it: they are gathered together.
BEFORE, AFTER = 3, 20


def nested(kind: type, levels: int) -> Any:
    value: Any = 5
    for _ in range(levels):
        value = [value] if kind is list else {"a": value}
    return value


def itself() -> Any:
    found: list[Any] = []
    found.append(found)
    return found


REFUSED: dict[str, Any] = {
    "half of a surrogate pair": "\ud800",
    "half of one within a list": [["\udfff"]],
    "half of one in a name": {"\ud800": 1},
    "bytes for a name": {b"a": 1},
    "a number for a name": {1: 1},
    "no name": {"": 1},
    "lists in 17 levels": nested(list, 17),
    "lists in 300 levels": nested(list, 300),
    "objects in 120 levels": nested(dict, 120),
    "objects in 300 levels": nested(dict, 300),
    "a set": {1},
    "a range": range(3),
    "another object": object(),
    "a complex number": 1j,
    "values of two kinds": [1, "one"],
    "an object and a number": [{"a": 1}, 5],
    "more digits than readers take": Decimal("1" * 60),
    "an exponent of 999": Decimal("1E+999"),
    "another kind than before": object,
}

KEPT: dict[str, tuple[Any, Any]] = {
    "a number of more than 64 bits": (2**70, str(2**70)),
    "nulls only": ([None, None], [None, None]),
    "an empty list": ([], []),
    "lists of empty lists": ([[], [[]]], [[], [[]]]),
    "an object without fields": ({}, None),
    "objects without fields in a list": ([{}, None], [None, None]),
    "one within an object": ({"a": {}, "b": 1}, {"a": None, "b": 1}),
    "another mapping": (MappingProxyType({"a": 1}), {"a": 1}),
    "a tuple with names": (namedtuple("Point", "x y")(1, 2), [1, 2]),
    "a name with a zero in it": ({"a\0b": 1}, {"a\0b": 1}),
    "names that differ in case": ({"a": 1, "A": 2}, {"a": 1, "A": 2}),
    "a very long name": ({"n" * 100_000: 1}, {"n" * 100_000: 1}),
    "the last moment": (datetime.max.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)),
    "the first moment": (datetime.min, datetime.min),
    "objects in 90 levels": (nested(dict, 90), nested(dict, 90)),
    "lists in 12 levels": (nested(list, 12), nested(list, 12)),
}


class Job:
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def run(self, records: list[Any], **changes: Any) -> etl.Result:
        definition: dict[str, Any] = {
            "source": lambda: iter(records),
            "sink": {"type": "numbered_chunks", "path": self.directory / "out/part.parquet"},
            "checkpoint": self.directory / "job.json",
            "on_error": "reject",
        }
        return etl.Pipeline("job", **{**definition, **changes}).run(handle_signals=False)

    def rows(self) -> list[dict[str, Any]]:
        found = pyarrow.dataset.dataset(self.directory / "out", format="parquet").to_table().to_pylist()
        paths = str(self.directory / "out/*.parquet")
        assert duckdb.execute("SELECT count(id) FROM read_parquet(?)", [paths]).fetchall() == [(len(found),)]
        return found

    def letters(self) -> list[int]:
        paths = sorted(self.directory.glob("*rejects*.ndjson"))
        return [json.loads(line)["number"] for path in paths for line in path.read_bytes().splitlines()]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def among_others(value: Any) -> list[dict[str, Any]]:
    return [
        *({"id": number} for number in range(BEFORE)),
        {"id": "one" if value is object else BEFORE, "v": 1 if value is object else value},
        *({"id": number} for number in range(BEFORE + 1, BEFORE + 1 + AFTER)),
    ]


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_form_is_a_dead_letter_with_its_own_number(job: Job, case: str) -> None:
    job.run(among_others(REFUSED[case]))
    assert [row["id"] for row in job.rows()] == [n for n in range(BEFORE + 1 + AFTER) if n != BEFORE]
    assert job.letters() == [BEFORE + 1]


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_form_is_refused_when_it_comes_first_and_alone(job: Job, case: str) -> None:
    refused = REFUSED[case]
    if refused is object:
        return
    job.run([{"id": 0, "v": refused}])
    assert job.letters() == [1]
    assert job.run([{"id": 0, "v": refused}]).records == 0


def test_without_dead_letters_the_run_ends_at_the_number_of_the_record(job: Job) -> None:
    with pytest.raises(RecordError, match=f"record {BEFORE + 1} "):
        job.run(among_others("\ud800"), on_error="fail")


@pytest.mark.parametrize("case", KEPT)
def test_what_has_a_form_is_read_as_it_was(job: Job, case: str) -> None:
    value, found = KEPT[case]
    job.run(among_others(value))
    assert job.letters() == []
    assert [row.get("v") for row in job.rows()] == [*[None] * BEFORE, found, *[None] * AFTER]


# Records that fit until those come that follow: the numbers of those that are refused.
AT_FLUSH: dict[str, tuple[list[Any], list[int]]] = {
    "a large integer, then a fraction": ([1, 2**53 + 1, 3, 2.5], [2]),
    "two, far from each other": ([2**60 + 1, *range(50), 2**60 + 3, *range(50), 0.5], [1, 52]),
    "within objects": ([{"a": 1}, {"a": 2**53 + 1}, {"a": 2.5}], [2]),
    "within lists": ([[1], [2, 2**53 + 1], [2.5]], [2]),
}


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("case", AT_FLUSH)
def test_what_a_wider_column_does_not_hold_is_found_when_it_is_written(
    job: Job, case: str, apart: bool
) -> None:
    values, refused = AT_FLUSH[case]
    # Apart: each record is gathered by itself.
    records = [
        {"id": n, "v": v, "t": "x" * (2_000_000 if apart and n < 10 else 1)} for n, v in enumerate(values)
    ]
    job.run(records)
    assert job.letters() == refused
    kept = [(n, v) for n, v in enumerate(values) if n + 1 not in refused]
    assert [(row["id"], row["v"]) for row in job.rows()] == kept


def test_transforms_that_leave_records_out_or_make_several_do_not_change_the_number(job: Job) -> None:
    def some(records: Any) -> Any:
        for record in records:
            if record["id"] % 2:
                yield record
                yield {**record, "again": True}

    job.run([{"id": n, "v": "\ud800" if n == 7 else "x"} for n in range(20)], transforms=[some])
    assert job.letters() == [8, 8]
    assert len(job.rows()) == 18


@pytest.mark.parametrize("apart", [1, 3_000])
@pytest.mark.parametrize("first", [True, False])
def test_an_object_without_fields_is_the_same_wherever_those_with_fields_are(
    job: Job, apart: int, first: bool
) -> None:
    values: list[Any] = [*[{}] * apart, *[None] * apart, {"x": 1}]
    values = values if first else values[::-1]
    job.run([{"id": number, "v": value} for number, value in enumerate(values)])
    assert [row["v"] for row in job.rows()] == [{"x": None} if value == {} else value for value in values]


def test_objects_without_fields_take_no_second_way() -> None:
    """Each of them was rewritten in Python, with all that is beside it."""
    import etl.arrow_arrays as arrays

    called: list[Any] = []
    sys.setprofile(
        lambda frame, event, _: (
            called.append(1) if event == "call" and frame.f_code.co_name == "arrow_ready" else None
        )
    )
    try:
        arrays.array_of([{"id": n, "v": {"a": {}, "b": [{}]}} for n in range(100)], {})
    finally:
        sys.setprofile(None)
    assert called == []


def test_a_part_of_which_every_record_is_refused_is_none(job: Job) -> None:
    result = job.run([{"v": "\ud800"}, {}, {"v": {1}}])
    assert (result.records, result.rejects, sorted(job.letters())) == (0, 3, [1, 2, 3])


def test_the_numbers_are_those_that_the_format_is_told() -> None:
    chosen, refused = formats.make("parquet"), []
    assert isinstance(chosen, formats.Gathers)
    chosen.number = iter(range(100, 200, 10)).__next__
    records = [{"v": 1}, {"v": "one"}, {"v": 2}]
    for _ in chosen.encode(iter(records), len, lambda *args: refused.append(args[2]), 4096):
        pass
    assert refused == [110]


# What no dead letter can hold as it is, either.
REFUSED_BY_ITSELF: dict[str, Any] = {
    "lists in 100,000 levels": nested(list, 100_000),
    "a list that holds itself": itself(),
    "a moment before the year 1 in UTC": datetime(1, 1, 1, tzinfo=timezone(timedelta(seconds=90))),
}


@pytest.mark.parametrize("case", REFUSED_BY_ITSELF)
def test_what_cannot_even_be_looked_at_is_refused_and_its_letter_is_written(job: Job, case: str) -> None:
    result = job.run(list(among_others(REFUSED_BY_ITSELF[case])))
    assert (result.rejects, job.letters()) == (1, [BEFORE + 1])
