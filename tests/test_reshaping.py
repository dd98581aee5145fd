"""Fields renamed, dropped and cast, for jobs that need no Python."""

from __future__ import annotations

import math
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest

import etl
from etl.errors import ConfigError, TransformError
from etl.reshaping import Misshapen, cast, drop, rename


def one(transform: Any, record: dict[str, Any]) -> dict[str, Any]:
    """Return what a transform makes of one record, which it must not change."""
    before = repr(record)
    (result,) = transform(iter([record]))
    assert repr(record) == before
    return dict(result)


# rename


@pytest.mark.parametrize(
    ("names", "record", "result"),
    [
        ({"a": "b"}, {"x": 1, "a": 2, "y": 3}, {"x": 1, "b": 2, "y": 3}),
        ({"a": "b"}, {"x": 1}, {"x": 1}),
        ({"a": "b", "b": "a"}, {"a": 1, "b": 2}, {"b": 1, "a": 2}),
        ({"u.login": "u.name"}, {"u": {"login": "x", "id": 1}}, {"u": {"name": "x", "id": 1}}),
        ({"u.login": "login"}, {"u": {"login": "x", "id": 1}}, {"u": {"id": 1}, "login": "x"}),
        ({"lat": "at.lat", "lon": "at.lon"}, {"lat": 1, "lon": 2}, {"at": {"lat": 1, "lon": 2}}),
        ({"l.a": "l.b"}, {"l": [{"a": 1}, None, {"b": 2}, 7]}, {"l": [{"b": 1}, None, {"b": 2}, 7]}),
        ({"u.login": "login"}, {"u": None}, {"u": None}),
        ({"u.login": "login"}, {"u": "no object"}, {"u": "no object"}),
        ({"Sepal.Length": "length"}, {"Sepal.Length": 5.1}, {"length": 5.1}),
        ({"Sepal.Length": "Sepal.Size"}, {"Sepal.Length": 5.1}, {"Sepal.Size": 5.1}),
        ({"a..b": "c", ".d": "e"}, {"a..b": 1, ".d": 2}, {"c": 1, "e": 2}),
    ],
)
def test_fields_are_renamed(names: dict[str, str], record: dict[str, Any], result: dict[str, Any]) -> None:
    renamed = one(rename(names), record)
    assert renamed == result
    assert list(renamed) == list(result)


@pytest.mark.parametrize(
    ("names", "record", "said"),
    [
        ({"a": "b"}, {"a": 1, "b": 2}, "^b and a would both be b; rename or drop one"),
        ({"a": "c", "b": "c"}, {"a": 1, "b": 2}, "^b and a would both be c"),
        ({"u.a": "u.b"}, {"u": {"a": 1, "b": 2}}, r"^u\.b and u\.a would both be u\.b"),
        ({"u.a": "a"}, {"u": {"a": 1}, "a": 2}, r"^u\.a would be a, and there is one already"),
        ({"a": "u.a"}, {"a": 1, "u": 2}, r"^a would be u\.a, but u is no object, found 2"),
        ({"l.a": "a"}, {"l": [{"a": 1}]}, r"^l\.a is within a list, and cannot become a"),
    ],
)
def test_a_name_that_is_taken_is_named(names: dict[str, str], record: dict[str, Any], said: str) -> None:
    with pytest.raises(Misshapen, match=said):
        one(rename(names), record)


# drop


@pytest.mark.parametrize(
    ("fields", "record", "result"),
    [
        (["a", "z"], {"a": 1, "b": 2}, {"b": 2}),
        (["u.a", "b"], {"u": {"a": 1, "c": 2}, "b": 3}, {"u": {"c": 2}}),
        (["l.a"], {"l": [{"a": 1, "b": 2}, None]}, {"l": [{"b": 2}, None]}),
        (["u.a"], {"u.a": 1, "u": {"a": 1}}, {"u": {}}),
        (["u.v.w"], {"u": {"v": {"w": 1}}}, {"u": {"v": {}}}),
        ([], {"a": 1}, {"a": 1}),
    ],
)
def test_fields_are_dropped(fields: list[str], record: dict[str, Any], result: dict[str, Any]) -> None:
    assert one(drop(fields), record) == result


def test_a_record_that_holds_nothing_to_change_is_passed_on_as_it_is() -> None:
    record = {"a": 1, "u": {"b": [1]}, "l": [{"c": 2}]}
    for transform in (
        rename({"x": "y", "u.x": "u.y", "l.x": "z"}),
        drop(["x", "u.x", "l.x"]),
        cast({"a": "integer", "u.b": "integer", "l.c": "integer"}),
    ):
        (result,) = transform(iter([record]))
        assert result is record


# cast

HOUR = timedelta(hours=1)

CASTS: list[tuple[Any, Any, Any]] = [
    ("integer", "42", 42),
    ("integer", " -7 ", -7),
    ("integer", "+007", 7),
    ("integer", "12.0", 12),
    ("integer", "1e3", 1000),
    ("integer", 12.0, 12),
    ("integer", Decimal("1E+2"), 100),
    ("integer", True, 1),
    ("integer", str(2**70), 2**70),
    ("integer", ["1", None, 2], [1, None, 2]),
    ({"type": "integer", "thousands": ","}, "1,234,567", 1234567),
    ({"type": "integer", "thousands": ","}, "12,34,567", 1234567),
    ({"type": "integer", "thousands": ","}, "1234", 1234),
    ({"type": "integer", "thousands": " "}, "1\N{NO-BREAK SPACE}234", 1234),
    ({"type": "integer", "thousands": "'"}, "-1'000", -1000),
    ("float", "1.5", 1.5),
    ("float", ".5", 0.5),
    ("float", "-1.5e-3", -0.0015),
    ("float", 3, 3.0),
    ("float", Decimal("0.1"), 0.1),
    ({"type": "float", "decimal": ","}, "3,14", 3.14),
    ({"type": "float", "decimal": ",", "thousands": "."}, "1.234,5", 1234.5),
    ("decimal", "0.10", Decimal("0.10")),
    ("decimal", 0.1, Decimal("0.1")),
    ("decimal", 7, Decimal(7)),
    ({"type": "decimal", "thousands": ","}, "1,000.05", Decimal("1000.05")),
    ("boolean", "Yes", True),
    ("boolean", " f ", False),
    ("boolean", 0, False),
    ({"type": "boolean", "true": ["ja"], "false": ["nein"]}, "JA", True),
    ("string", 7, "7"),
    ("string", 1.5, "1.5"),
    ("string", True, "true"),
    ("string", Decimal("1.50"), "1.50"),
    ("string", date(2024, 1, 31), "2024-01-31"),
    ("string", uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ("string", {"a": [1, None]}, '{"a":[1,null]}'),
    ("string", 2**70, str(2**70)),
    ("date", "2024-01-31", date(2024, 1, 31)),
    ("date", datetime(2024, 1, 31), date(2024, 1, 31)),
    ({"type": "date", "format": "%d.%m.%Y"}, "31.01.2024", date(2024, 1, 31)),
    ({"type": "date", "format": ["%m/%d/%Y", "%Y%m%d"]}, "20240131", date(2024, 1, 31)),
    ("timestamp", "2024-01-31T12:00:00Z", datetime(2024, 1, 31, 12, tzinfo=UTC)),
    ("timestamp", "2024-01-31 12:00", datetime(2024, 1, 31, 12)),
    ("timestamp", "2024-01-31t12:00:00.5+0130", datetime(2024, 1, 31, 12, 0, 0, 500000, timezone(HOUR * 1.5))),
    ("timestamp", "2024-01-31 12:00:00.123456000 UTC", datetime(2024, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)),
    ({"type": "timestamp", "zone": "UTC"}, "2024-01-31T12:00:00", datetime(2024, 1, 31, 12, tzinfo=UTC)),
    ({"type": "timestamp", "unit": "s"}, 1706702400, datetime(2024, 1, 31, 12, tzinfo=UTC)),
    ({"type": "timestamp", "unit": "s"}, 0.1, datetime(1970, 1, 1, 0, 0, 0, 100000, tzinfo=UTC)),
    ({"type": "timestamp", "unit": "ms"}, "1706702400123", datetime(2024, 1, 31, 12, 0, 0, 123000, tzinfo=UTC)),
    ({"type": "timestamp", "format": "%d/%b/%Y %H %z"}, "31/Jan/2024 12 +0000", datetime(2024, 1, 31, 12, tzinfo=UTC)),
    ("json", '{"a": [1, null]}', {"a": [1, None]}),
    ("json", {"a": 1}, {"a": 1}),
    ("json", "7", 7),
    ("json", '{"id": 12345678901234567890123}', {"id": 12345678901234567890123}),
    ("string", time(1, 2, 3, 10_000), "01:02:03.010000"),
    ("string", datetime(2024, 1, 1, 12, tzinfo=UTC), "2024-01-01T12:00:00+00:00"),
    ("json", "[0.12345678901234567890123, 1.10]", [Decimal("0.12345678901234567890123"), 1.1]),
    ("string", {"a": [None, 1.5]}, '{"a":[null,1.5]}'),
    ({"type": "float", "null": ["", "n/a"]}, "n/a", None),
    ({"type": "float", "null": ["", "n/a"]}, ["", "1.5"], [None, 1.5]),
    ({"type": "string", "null": ["-"]}, "-", None),
]  # fmt: skip


@pytest.mark.parametrize(("declared", "value", "result"), CASTS)
def test_values_are_cast(declared: Any, value: Any, result: Any) -> None:
    made = one(cast({"v": declared}), {"v": value})["v"]
    assert made == result
    assert type(made) is type(result)
    if isinstance(made, datetime):
        assert made.utcoffset() == result.utcoffset()


UNCASTABLE: list[tuple[Any, Any, str]] = [
    ("integer", "1.5", "is no integer"),
    ("integer", "1,234", '^field v: "1,234" is no integer$'),
    ("integer", "", r'is no integer; if it means that there is none, say null = \[""\]'),
    ("integer", "٣", "is no integer"),
    ("integer", "1e9999", "is no integer"),
    ("integer", math.nan, "is no integer"),
    ("integer", Decimal("sNaN"), "is no integer"),
    ("integer", {"a": 1}, "is no integer"),
    ("integer", ["1", "x"], '^field v: "x" is no integer'),
    ({"type": "integer", "thousands": ","}, "1,2,3", "is no integer"),
    ({"type": "integer", "thousands": ","}, "1234,567", "is no integer"),
    ({"type": "integer", "thousands": ","}, ",123", "is no integer"),
    ("float", "nan", "is no float"),
    ("float", "1e999", "is no float"),
    ("float", "9007199254740993", "is no float that has all its digits"),
    ("float", 2**53 + 1, "is no float that has all its digits"),
    ({"type": "float", "decimal": ","}, "3.14", "is no float"),
    ({"type": "float", "decimal": ",", "thousands": "."}, "3.14", "is no float"),
    ("decimal", "x", "is no decimal number"),
    ("boolean", "maybe", "is no boolean"),
    ("boolean", 2, "is no boolean"),
    ("string", math.nan, "is no number that has a text"),
    ("string", {1, 2}, "is no value that has a text"),
    ("date", "31.01.2024", "is no date of the form YYYY-MM-DD"),
    ("date", "2023-02-29", "is no date"),
    ("date", datetime(2024, 1, 31, 12), "is no date"),
    ({"type": "date", "format": "%d.%m.%Y"}, "2024-01-31", "is no date of the form %d.%m.%Y"),
    ("timestamp", "2024-01-31", "is no timestamp of the form"),
    ("timestamp", "2024-01-31T12:00:00.1234567Z", "is no timestamp"),
    ("timestamp", "2024-01-31T12:000", "is no timestamp"),
    ("timestamp", 1706702400, 'a number needs unit = "s", "ms" or "us"'),
    ({"type": "timestamp", "unit": "us"}, 0.5, "is no timestamp"),
    ({"type": "timestamp", "unit": "s"}, 10**15, "is no timestamp"),
    ("json", "{", "is no JSON"),
    ("json", "[" * 100_000, "is no JSON"),
    ("string", {"a": [None, math.nan]}, "is no value that has a text"),
    ("string", [math.inf], "is no value that has a text"),
]


@pytest.mark.parametrize(("declared", "value", "said"), UNCASTABLE)
def test_a_value_that_cannot_be_cast_is_named_and_never_becomes_null(
    declared: Any, value: Any, said: str
) -> None:
    with pytest.raises(Misshapen, match=said):
        one(cast({"v": declared}), {"v": value})


def test_null_and_missing_fields_stay_as_they_are() -> None:
    assert one(cast({"a": "integer", "b": "date"}), {"a": None}) == {"a": None}


def test_fields_within_objects_and_lists_are_cast() -> None:
    record = {"u": {"n": "1"}, "l": [{"n": "2"}, None], "u.n": "3"}
    assert one(cast({"u.n": "integer", "l.n": "float"}), record) == {
        "u": {"n": 1},
        "l": [{"n": 2.0}, None],
        "u.n": 3,
    }
    with pytest.raises(Misshapen, match=r"^field l\.n: "):
        one(cast({"l.n": "integer"}), {"l": [{"n": "x"}]})


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ("int", 'cast.v.type: expected one of "integer", "float"'),
        (7, "cast.v: expected one of integer, float"),
        ({"age": "integer"}, "cast.v: expected one of .* a name with dots is written in quotes"),
        ({"type": "integer", "tousands": ","}, 'cast.v.tousands: unknown key .did you mean "thousands"'),
        (
            {"type": "date", "thousands": ","},
            "cast.v.thousands: a cast to date has no such option, but null, format",
        ),
        ({"type": "float", "thousands": "."}, "cast.v: thousands and decimal are both"),
        ({"type": "float", "thousands": "ab"}, "cast.v.thousands: expected one sign"),
        ({"type": "timestamp", "zone": "Nowhere/Land"}, "cast.v.zone: there is no zone"),
        ({"type": "boolean", "true": ["no"]}, 'cast.v: "no" means true and false'),
        (
            {"type": "timestamp", "format": ["%d.%m.%Y %H:%M %Z"]},
            "cast.v.format: %Z reads the name of a zone",
        ),
    ],
)
def test_a_cast_that_makes_no_sense_is_an_error_of_the_definition(declared: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        cast({"v": declared})


def test_names_that_make_no_sense_are_errors_of_the_definition() -> None:
    with pytest.raises(ConfigError, match=r'rename\.a: expected the name of a field, found ""'):
        rename({"a": ""})
    with pytest.raises(ConfigError, match=r"drop\.fields: expected a list of names"):
        drop("a")


# in a pipeline


def pipeline(folder: Path, **changes: Any) -> etl.Pipeline:
    def source() -> Any:
        yield from ({"n": str(number), "secret": 1} for number in range(5))
        yield {"n": "six"}
        yield {"n": "7"}

    return etl.Pipeline(
        "reshaped",
        source=source,
        transforms=[etl.rename({"n": "number"}), etl.drop(["secret"]), etl.cast({"number": "integer"})],
        sink={"type": "big_file", "path": str(folder / "out.ndjson")},
        checkpoint=folder / "reshaped.checkpoint.json",
        **changes,
    )


def test_a_record_that_cannot_be_cast_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(TransformError, match=r'etl:cast failed at record 6 .*field number: "six" is no'):
        pipeline(tmp_path).run()


def test_a_record_that_cannot_be_cast_is_a_dead_letter_where_the_job_says_so(tmp_path: Path) -> None:
    result = pipeline(tmp_path, on_error="reject").run()
    assert result.rejects == 1
    lines = (tmp_path / "out.ndjson").read_bytes().splitlines()
    assert [orjson.loads(line) for line in lines] == [{"number": number} for number in (0, 1, 2, 3, 4, 7)]
    (letters,) = tmp_path.glob("reshaped-rejects*")
    assert orjson.loads(letters.read_bytes())["record"] == {"number": "six"}


def test_a_field_that_is_cast_to_string_is_text_in_the_table_whatever_it_looks_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"day": "2024-01-02", "at": "2024-01-02", "n": 7}, {"day": "soon", "at": "2024-01-03", "n": 8}]
    etl.Pipeline(
        "job",
        source=lambda: iter(rows),
        transforms=[etl.cast({"day": "string", "n": "string"})],
        sink={"type": "reused_file", "path": "job.ndjson"},
        warehouse={"type": "duckdb", "path": "w.duckdb", "table": "t"},
        part_records=1,
    ).run()
    with duckdb.connect("w.duckdb") as connection:
        assert connection.execute(
            'SELECT typeof(day), typeof("at"), day, n FROM t ORDER BY n'
        ).fetchall() == [
            ("VARCHAR", "DATE", "2024-01-02", "7"),
            ("VARCHAR", "DATE", "soon", "8"),
        ]
