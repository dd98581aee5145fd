"""What is told of a part's fields, and that a warehouse that trusts it loses nothing."""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal

import duckdb
import pytest

import etl
from etl.errors import SchemaMismatch
from etl.shapes import (
    LOOKED_INTO,
    MOST_COLUMNS,
    MOST_FIELDS,
    MOST_KEYS,
    MOST_SHAPES,
    SELDOM,
    Shapes,
    WideObjects,
)
from tests import jobs


def fields(*records):
    shapes = Shapes()
    assert list(shapes.note(iter(records))) == list(records)
    return shapes.fields()


def test_the_kinds_of_all_values_of_a_field_are_told():
    assert fields({"a": 1, "b": None}, {"a": 2.5, "c": True}, {"b": "x"}) == {
        "a": ("float", "integer"),
        "b": ("null", "string"),
        "c": ("boolean",),
    }


def test_what_is_written_as_a_string_is_one():
    record = {"a": Decimal(1), "b": b"x", "c": datetime(2024, 1, 1), "d": uuid.UUID(int=1)}
    assert set(fields(record).values()) == {("string",)}


@pytest.mark.parametrize(
    ("value", "kind"), [([1], "array"), ({"x": 1}, "object"), (object(), "unknown"), ((1,), "unknown")]
)
def test_where_the_type_does_not_tell_that_is_said(value, kind):
    assert fields({"a": 1}, {"a": value}) == {"a": tuple(sorted(["integer", kind]))}


def wide(*records):
    found = []
    objects = WideObjects(found.append)
    list(Shapes(objects).note(iter(records)))
    return found


@pytest.mark.parametrize(
    "value_of",
    [
        lambda words: words,
        lambda words: [words, 1, None],
        lambda words: {"a": {"b": [[words]]}, "c": 1},
        lambda words: {word: {"x": 1} for word in words},
    ],
)
def test_an_object_with_data_as_keys_is_found_wherever_it_is(value_of):
    words = [dict.fromkeys(f"w{number * 7 + word}" for word in range(7)) for number in range(50)]
    assert wide(*({"id": 1, "v": value_of(each)} for each in words)) == ["v"]
    assert wide(*({"id": 1, "v": value_of(each)} for each in words[:40])) == []


def test_many_different_names_are_no_columns_whichever_object_they_are_in():
    records = [{"v": {f"a{number}": {f"b{field}": 1 for field in range(100)}}} for number in range(40)]
    assert wide(*records) == ["v"]


def test_few_records_are_looked_into_when_there_were_many():
    few = [{"v": {"a": 1}}] * (LOOKED_INTO + 1)
    many = [{"v": {f"k{number}": 1}} for number in range(SELDOM * (MOST_KEYS + 2))]
    assert wide(*few, *many) == ["v"]


def test_records_with_data_as_names_are_refused_before_a_warehouse_holds_them():
    records = [{f"w{number}_{word}": 1 for word in range(100)} for number in range(MOST_COLUMNS // 100 + 1)]
    assert wide(*records[:-1]) == []
    with pytest.raises(
        SchemaMismatch, match=r"more than 3000 different fields.*'w30_0'.*records = \"\*\".*JSON"
    ):
        wide(*records)
    assert wide(*[{f"c{number}": 1 for number in range(MOST_COLUMNS + 500)}] * 2) == []


def test_many_shapes_are_folded_and_none_is_forgotten():
    records = [{f"f{number % 400}": number, "x": number} for number in range(3 * MOST_SHAPES)]
    assert len(fields(*records)) == 401


def test_too_many_fields_are_not_described():
    assert fields(*({f"f{number}": 1} for number in range(MOST_FIELDS + 1))) is None


@pytest.mark.parametrize(
    ("values", "stored"),
    [
        ([1, None, -5], [1, None, -5]),
        ([1, 2.5], [1.0, 2.5]),
        ([2**63, 1], [2**63, 1]),
        (["7", "x"], ["7", "x"]),
        ([True, None], [True, None]),
        ([None, None], [None, None]),
        ([float("inf"), 1.5], [float("inf"), 1.5]),
        ([1, 1.5, float("-inf")], [1.0, 1.5, float("-inf")]),
        ([{"x": 1}, {"y": 2}], [{"x": 1, "y": None}, {"x": None, "y": 2}]),
        ([Decimal("0.10"), None], ["0.10", None]),
    ],
)
def test_values_that_are_read_as_they_were_told_are_the_values(tmp_path, values, stored):
    job(tmp_path, values).run()
    assert column(tmp_path) == stored


def test_an_integer_past_64_bits_among_others_is_named_and_not_rounded(tmp_path):
    with pytest.raises(etl.errors.SchemaMismatch, match=r"record 3.*value"):
        job(tmp_path, [1, 2, 2**70]).run()
    with pytest.raises(etl.errors.SchemaMismatch, match=r"record 3.*value"):
        job(tmp_path, [1.5, 2, 2**70]).run()


def test_a_later_part_of_another_kind_is_named(tmp_path):
    with pytest.raises(etl.errors.SchemaMismatch, match=r"part 2.*record 1.*2\.5.*value"):
        job(tmp_path, [1, 2.5], part_records=1).run()


def test_what_a_warehouse_refused_is_pulled_again_through_the_mended_transform(tmp_path):
    with pytest.raises(etl.errors.SchemaMismatch):
        job(tmp_path, [1, 2, "x", 4], part_records=1).run()
    mended = job(tmp_path, [1, 2, "x", 4], part_records=1, transforms=[etl.each(only_numbers)])
    mended.run()
    assert column(tmp_path) == [1, 2, 4]
    assert list((tmp_path / "out").iterdir()) == []


def test_also_when_the_first_part_was_refused(tmp_path):
    with pytest.raises(etl.errors.SchemaMismatch):
        job(tmp_path, [1, "x", 3]).run()
    job(tmp_path, [1, "x", 3], transforms=[etl.each(only_numbers)]).run()
    assert column(tmp_path) == [1, 3]


def only_numbers(record):
    return record if isinstance(record["value"], int) else None


def job(directory, values, **changes):
    def pull():
        yield from ({"number": number, "value": value} for number, value in enumerate(values))

    definition = {"source": pull, "transforms": [], **changes}
    return jobs.pipeline(directory, jobs.SINKS["reused_file"], **definition)


def column(directory):
    with duckdb.connect(str(directory / jobs.WAREHOUSE), read_only=True) as warehouse:
        return [
            row[0] for row in warehouse.execute(f"SELECT value FROM {jobs.TABLE} ORDER BY number").fetchall()
        ]
