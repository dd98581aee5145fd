"""Whatever records hold, each is in a part as it was, or refused: in NDJSON and in Parquet alike."""

from __future__ import annotations

import base64
import enum
import functools
import json
import math
import tempfile
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import etl
from etl import formats
from etl.field_types import interval
from etl.snapshots import snapshot

DAY = date(2024, 2, 29)
NOON = datetime(2024, 2, 29, 12, 30)
EAST = timezone(timedelta(hours=2))


class Colour(enum.Enum):
    RED = "red"


class Real(float):
    """A float of a class of its own, as numpy has."""


SCALARS: list[Any] = [
    *(0, 5, -1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 2**64 - 1, 2**64, -(2**63) - 1),
    *(0.5, 1.0, -2.5, 1e300, math.nan, math.inf, Real(1.5), Real("nan"), True, False, None),
    *(Decimal("1.5"), Decimal("1E+5"), Decimal("-0.001"), Decimal("9" * 38), Decimal("0." + "1" * 38)),
    *(Decimal("1" * 40), Decimal("NaN"), Decimal("-Infinity"), Decimal(7)),
    *("", "text", "5", "2024-02-29", "\x00", "\ud800"),
    *(b"", b"\xff\x00", bytearray(b"ab"), memoryview(b"cd")),
    *(DAY, date(1, 1, 1), NOON, NOON.replace(tzinfo=UTC), NOON.replace(tzinfo=EAST)),
    NOON.replace(tzinfo=timezone(timedelta(seconds=3208))),
    *(time(1, 2, 3, 4), time(1, tzinfo=EAST), timedelta(1, 2, 3), uuid.UUID(int=5), Colour.RED),
    *({1}, frozenset({2}), range(2), 1j, object()),
]


def holders(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(values, max_size=3)
    objects = st.dictionaries(st.sampled_from(["a", "b"]), values, max_size=2)
    return lists | lists.map(tuple) | objects


VALUES = st.recursive(st.sampled_from(SCALARS), holders, max_leaves=4)


def written(format: str, values: list[Any], name: str = "v") -> tuple[dict[int, Any], set[int]]:
    """Return the values that a reader finds, and the numbers of the records that were refused."""
    refused: set[int] = set()
    data = bytearray()
    records = [snapshot({"id": number, name: value}) for number, value in enumerate(values)]

    def refuse(record: Any, reason: str, _number: int | None = None, /) -> None:
        assert reason
        refused.add(record["id"])

    encoder = formats.make(format)
    while True:
        refused.clear()
        data.clear()
        try:
            for _ in encoder.encode(iter(records), data.extend, refuse, 4096):
                pass
            break
        except formats.SchemaWidened:
            pass
    if format == "ndjson":
        return {row["id"]: row[name] for row in map(json.loads, data.splitlines())}, refused
    if len(refused) == len(records):
        return {}, refused
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        rows = database().execute(f"SELECT id, \"{name}\" FROM read_parquet('{file.name}')").fetchall()
    return dict(rows), refused


@functools.cache
def database() -> duckdb.DuckDBPyConnection:
    """Return one connection for all: to open another takes longer than an example."""
    found = duckdb.connect()
    found.execute("SET TimeZone = 'UTC'")
    return found


def says(found: Any, value: Any) -> bool:
    """Say whether what a reader found is what was written, by the rules of `etl.formats`."""
    if isinstance(value, enum.Enum):
        value = value.value
    if value is None or found is None:
        return found is None and not value and (value is None or isinstance(value, Mapping))
    if isinstance(value, (list, tuple)):
        return isinstance(found, list) and len(found) == len(value) and all(map(says, found, value))
    if isinstance(value, Mapping):
        return isinstance(found, dict) and all(says(found.get(n), value.get(n)) for n in {*found, *value})
    if isinstance(value, bool):
        return found is value
    if isinstance(value, (int, float, Decimal)):
        if not math.isfinite(value):
            return str(float(found)) == str(float(value))
        return not isinstance(found, bool) and Fraction(found) == Fraction(value)
    if isinstance(value, datetime) and isinstance(found, str):
        found = datetime.fromisoformat(found)
    if isinstance(value, datetime):
        return (
            isinstance(found, datetime) and (found.tzinfo, value.tzinfo).count(None) != 1 and found == value
        )
    if isinstance(value, (date, time)):
        return found == (value.isoformat() if isinstance(found, str) else value) and type(found) in (
            str,
            type(value),
        )
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value) == (base64.b64decode(found) if isinstance(found, str) else found)
    if isinstance(value, timedelta):
        return bool(found == interval(value))
    return bool(found == str(value))


@pytest.mark.parametrize("format", ["ndjson", "parquet"])
@given(values=st.lists(VALUES, min_size=1, max_size=4), times=st.sampled_from([1, 70]))
@settings(max_examples=100, derandomize=True)
def test_each_record_says_what_it_said_or_is_refused(format, values, times):
    values = [value for value in values for _ in range(times)]  # 70: others come in other batches
    rows, refused = written(format, values)
    assert sorted([*rows, *refused]) == list(range(len(values)))
    for number, found in rows.items():
        assert says(found, values[number]), (found, values[number])


@given(VALUES)
@settings(max_examples=100, derandomize=True)
def test_a_record_by_itself_is_refused_by_both_formats_or_by_none(value):
    refused = written("ndjson", [value])[1]
    assert written("parquet", [value])[1] == refused or of_several_kinds(value) or of_many_digits(value)


def of_several_kinds(value: Any) -> bool:
    """Say whether a list within a value may hold values of several kinds, of which Parquet makes no column."""
    if isinstance(value, Mapping):
        return any(map(of_several_kinds, value.values()))
    return isinstance(value, (list, tuple)) and (len(value) > 1 or any(map(of_several_kinds, value)))


def of_many_digits(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(of_many_digits, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(of_many_digits, value))
    return isinstance(value, Decimal) and value.is_finite() and len(value.as_tuple().digits) > 38


# Two values that Arrow, or a reader, makes one kind of.
PAIRS: dict[str, tuple[Any, Any]] = {
    "a date and a number": (DAY, 5),
    "a date and a fraction": (DAY, 2.5),
    "a datetime and a number": (NOON, 5),
    "an instant and a decimal": (NOON.replace(tzinfo=UTC), Decimal("1.5")),
    "a time and a number": (time(1), 5),
    "a date and a datetime": (DAY, NOON),
    "a datetime and an instant": (NOON, NOON.replace(tzinfo=UTC)),
    "a fraction and a boolean": (1.5, True),
    "bytes and text": (b"a", "a"),
    "a decimal and a longer one": (Decimal("1.5"), Decimal("9" * 38)),
    "an integer and a fraction": (2**53 + 1, 2.5),
    "a list and a set": ([1], {1}),
}


@pytest.mark.parametrize("within", ["the field", "an object", "a list"])
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("pair", PAIRS)
def test_of_two_kinds_one_is_refused_and_the_other_is_as_it_was(pair, order, within):
    wraps = {"the field": lambda v: v, "an object": lambda v: {"x": v}, "a list": lambda v: [v]}
    values = [wraps[within](value) for value in PAIRS[pair][::order]]
    rows, refused = written("parquet", values)
    assert len(rows) == len(refused) == 1
    for number, found in rows.items():
        assert says(found, values[number])


@pytest.mark.parametrize("name", ["", b"v"])
def test_a_field_whose_name_a_reader_would_not_find_is_refused(name):
    assert written("parquet", [1, 2], name)[1] == {0, 1}
    assert written("parquet", [{name: 1}], "v")[1] == {0}


AS_TEXT = [
    *(True, 5, 2**63 - 1, 0.5, 1.0, -2.5, 1e300, 1e-7, -0.0, math.nan, math.inf, -math.inf),
    *(Decimal("1.50"), Decimal("0.5"), Decimal("-0.25"), Decimal("9" * 38)),
    *(b"", b"ab", b"\xff\x00", "", ".5", "2024-02-29 12:30:00"),
    *(DAY, NOON, NOON.replace(microsecond=5), NOON.replace(year=4), NOON.replace(tzinfo=UTC)),
    *(time(1, 2, 3), time(1, 2, 3, 40), timedelta(1, 2, 3), uuid.UUID(int=5)),
]


@pytest.mark.parametrize("within", ["the field", "a list"])
@pytest.mark.parametrize("value", AS_TEXT, ids=repr)
def test_a_column_that_is_declared_as_text_gets_the_same_text_from_both_formats(tmp_path, value, within):
    column, value = ("VARCHAR", value) if within == "the field" else ("VARCHAR[]", [value])
    texts = []
    for name in ("ndjson", "parquet"):
        path = str(tmp_path / f"{name}.duckdb")
        etl.Pipeline(
            name,
            source=lambda: iter([{"v": value}]),
            sink={"type": "reused_file", "path": tmp_path / f"part.{name}"},
            warehouse={"type": "duckdb", "path": path, "table": "t", "schema": {"v": column}},
            checkpoint=tmp_path / f"{name}.json",
        ).run(handle_signals=False)
        with duckdb.connect(path) as warehouse:
            texts.append(warehouse.execute("SELECT v FROM t").fetchall())
    assert texts[0] == texts[1]
