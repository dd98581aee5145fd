"""What fits a column, what a new column becomes, and what is reported."""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from typing import Any

import orjson
import pyarrow
import pytest

from etl.errors import ConfigError, SchemaMismatch, WarehouseError
from etl.formats import portable, portable_numbers
from tests.misfits import MISFITS

DAY = datetime.date(2024, 2, 29)


def mismatch(*words: str) -> Any:
    """Expect a SchemaMismatch that says all of these, in order."""
    return pytest.raises(SchemaMismatch, match="(?s)" + ".*".join(map(re.escape, words)))


def portable_line(record: dict[str, Any]) -> bytes:
    """Write a record as the format ndjson does."""
    return orjson.dumps(portable_numbers(record), portable)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, -5], "BIGINT"),
        ([2**63], "HUGEINT"),
        ([1.5, 2], "DOUBLE"),
        ([True, None], "BOOLEAN"),
        (["a", ""], "VARCHAR"),
        (["2024-02-29", None], "DATE"),
        (["2024-02-29T12:00:00", "2024-02-29T12:00:00.123456", "2024-02-29"], "TIMESTAMP"),
        ([None, "2024-02-29T12:00:00Z", "2024-02-29T12:00:00+02:00"], "TIMESTAMP WITH TIME ZONE"),
        ([{"a": 1}, {"b": [{"c": "x"}]}], "STRUCT(a BIGINT, b STRUCT(c VARCHAR)[])"),
        ([[1], [], None], "BIGINT[]"),
        ([[[1.5]]], "DOUBLE[][]"),
    ],
)
def test_a_new_column_has_the_type_of_its_values(loader, values, kind):
    loader.load(*({"v": value} for value in values))
    assert loader.types() == {"v": kind}


def test_a_date_that_comes_late_in_a_part_is_recognised(loader):
    loader.load(*({"v": None} for _ in range(5000)), {"v": "2024-02-29", "w": ["x"]})
    assert loader.types() == {"v": "DATE", "w": "VARCHAR[]"}


@pytest.mark.parametrize(
    "values",
    [
        ["10:00:00"],  # a time
        ["6f1c0b0e-6c1e-4b0f-9c0e-1b1b1b1b1b1b"],  # a UUID
        ["infinity"],  # DuckDB would read 1900-01-01
        ["2024-1-1"],
        ["2024-02-29T12:00:00.123456789Z"],  # a TIMESTAMPTZ keeps six digits
        ["2024-02-29T12:00:00", "2024-02-29T12:00:00Z"],
        ["007", "7"],
        ["a\0b", "ü€😀", " x ", "\n"],
    ],
)
def test_other_strings_stay_as_they_are(loader, values):
    loader.load(*({"v": value} for value in values))
    assert loader.types() == {"v": "VARCHAR"}
    assert [v for (v,) in loader.sql("SELECT v FROM t")] == values


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        (1, 2.5, "2.5"),
        (1, "7", '"7"'),
        (1, True, "true"),
        (1, 2**63, "9223372036854775808"),
        (1.5, "x", '"x"'),
        (True, 1, "1"),
        ("x", 1, "1"),
        ("x", True, "true"),
        ("x", {"a": 1}, '{"a":1}'),
        ({"a": 1}, "x", '"x"'),
        ({"a": 1}, [1], "[1]"),
        ([1], 1, "1"),
        ([1], {}, "{}"),
        ([1], {"a": 1}, '{"a":1}'),
        ("2024-02-29", "x", "x"),
        ("2024-02-29", "2024-02-30", "2024-02-30"),
        ("2024-02-29T12:00:00", "2024-02-29T12:00:00Z", "2024-02-29T12:00:00Z"),
        ("2024-02-29T12:00:00", "2024-02-29T12:00:00.0000001", "2024-02-29T12:00:00.0000001"),
        ("2024-02-29T12:00:00Z", "2024-02-29T12:00:00", "2024-02-29T12:00:00"),
        ("2024-02-29T12:00:00Z", 5, "5"),
    ],
)
def test_a_value_that_does_not_fit_is_named_and_nothing_is_kept(loader, first, second, shown):
    loader.load({"v": first})
    with mismatch(
        "part 2 (file:///", "part-2.ndjson), record 3: the value", shown, "of column v does not fit"
    ):
        loader.load({"v": first}, {"v": None}, {"v": second}, {"v": first})
    assert loader.sql("SELECT count(*) FROM t") == [(1,)]
    assert loader.load({"v": first}) == 1


def test_a_value_within_nested_ones_is_named_by_its_path(loader):
    loader.load({"s": {"l": [{"x": 1}]}})
    with mismatch("record 2", '"no"', "of column s.l[].x", "BIGINT"):
        loader.load({"s": {"l": []}}, {"s": {"l": [{"x": 1}, {"x": "no"}]}})


@pytest.mark.parametrize(
    ("first", "second"), [(1, "x"), ("x", 1), (1, True), ({"a": 1}, 5), ([1], {"a": 1}), ("x", [1])]
)
def test_mixed_values_in_a_new_column_name_the_first_that_differs(loader, first, second):
    with mismatch("record 3", "of column v does not fit the values before it", "[warehouse.schema]"):
        loader.load({"v": first}, {"v": None}, {"v": second}, {"v": first})
    assert loader.sql("SELECT 1 FROM duckdb_tables() WHERE table_name = 't'") == []


def test_mixed_values_within_a_list_are_reported(loader):
    with mismatch("record 2", '"x"', "column v[]"):
        loader.load({"v": [1, 2]}, {"v": [3, "x"]})


def test_integers_widen_where_nothing_is_lost(loader):
    loader.load({"d": 1.5, "h": 2**63})
    loader.load({"d": 2**53, "h": -1}, {"d": 3, "h": "170141183460469231731687303715884105727"})
    assert loader.sql("SELECT d FROM t ORDER BY d") == [(1.5,), (3.0,), (2.0**53,)]
    assert loader.sql("SELECT max(h) FROM t") == [(2**127 - 1,)]


def test_an_integer_that_a_float_cannot_hold_is_reported(loader):
    with mismatch("record 2", "9007199254740993", "column d", "DOUBLE"):
        loader.load({"d": 1.5}, {"d": 2**53 + 1})
    loader.load({"d": 1.5})
    with mismatch("record 1", "9007199254740993", "column d", "DOUBLE"):
        loader.load({"d": 2**53 + 1})


def test_large_floats_are_no_integers(loader):
    values = [1e300, -1e17, 2.0**60, 1.5, 2**53, 2**60]
    assert loader.load(*({"d": value} for value in values)) == len(values)
    assert sorted(d for (d,) in loader.sql("SELECT d FROM t")) == sorted(values)


def test_whole_floats_fit_integers(loader):
    loader.load({"v": 1})
    loader.load({"v": 2.0}, {"v": 3})
    assert sorted(loader.sql("SELECT v FROM t")) == [(1,), (2,), (3,)]


def test_new_columns_and_fields_are_added_and_old_rows_keep_their_values(loader):
    loader.load({"a": 1, "s": {"x": 1}, "l": [{"p": 1}]})
    loader.load({"b": "new", "s": {"y": "y", "z": [{"q": 1}]}, "l": [{"r": True, "p": 2}]})
    assert loader.types() == {
        "a": "BIGINT",
        "s": "STRUCT(x BIGINT, y VARCHAR, z STRUCT(q BIGINT)[])",
        "l": "STRUCT(p BIGINT, r BOOLEAN)[]",
        "b": "VARCHAR",
    }
    assert loader.sql("SELECT * FROM t ORDER BY a") == [
        (1, {"x": 1, "y": None, "z": None}, [{"p": 1, "r": None}], None),
        (None, {"x": None, "y": "y", "z": [{"q": 1}]}, [{"p": 2, "r": True}], "new"),
    ]


def test_what_held_only_nulls_takes_the_first_type_that_comes(loader):
    loader.load({"a": None, "l": [], "m": [[]], "s": {"n": None}, "o": {}, "k": [None]})
    assert loader.types() == {
        "a": '"NULL"',
        "l": '"NULL"[]',
        "m": '"NULL"[][]',
        "s": 'STRUCT(n "NULL")',
        "o": '"NULL"',
        "k": '"NULL"[]',
    }
    loader.load({"a": None, "l": [], "s": {"n": None}, "o": {}})
    loader.load({"a": "x", "l": [1], "m": [[{"x": 1}]], "s": {"n": 1.5}, "o": {"p": 1}, "k": [True]})
    assert loader.types() == {
        "a": "VARCHAR",
        "l": "BIGINT[]",
        "m": "STRUCT(x BIGINT)[][]",
        "s": "STRUCT(n DOUBLE)",
        "o": "STRUCT(p BIGINT)",
        "k": "BOOLEAN[]",
    }
    assert loader.sql("SELECT a, l, m, s.n, o.p, k FROM t") == [
        (None, [], [[]], None, None, [None]),
        (None, [], None, None, None, None),
        ("x", [1], [[{"x": 1}]], 1.5, 1, [True]),
    ]


def test_nulls_fit_every_column(loader):
    loader.load({"a": 1, "s": {"x": "2024-02-29T12:00:00Z"}, "l": [{"p": 1}], "t": "2024-02-29"})
    loader.load(
        {"a": None, "s": {"x": None}, "l": [{"p": None}, None], "t": None}, {}, {"s": None, "l": None}
    )
    assert loader.sql("SELECT count(*), count(a), count(t) FROM t") == [(4, 1, 1)]


def test_an_empty_object_is_a_struct_without_values(loader):
    loader.load({"s": {"x": 1}})
    loader.load({"s": {}}, {"s": None})
    assert loader.sql("SELECT s FROM t") == [({"x": 1},), ({"x": None},), (None,)]


def test_records_that_are_all_empty_become_rows_of_nulls(loader):
    loader.load({"a": 1})
    assert loader.load({}, {}) == 2
    assert loader.sql("SELECT count(*), count(a) FROM t") == [(3, 1)]


def test_a_first_part_of_empty_records_makes_no_table(loader):
    with mismatch("part 1", "no fields"):
        loader.load({}, {})


NAMES = [
    "select",
    "a b",
    'a"b',
    "a'b",
    "a.b",
    "ü",
    "😀",
    "a\nb",
    "[]",
    "a*b?[c]",
    "{x}",
    "a\\b",
    "$",
    "1",
    "a/b~c",
]


def test_any_name_can_be_a_column_and_a_field(loader):
    record = dict.fromkeys(NAMES, 1) | {"s": {name: [{name: "2024-02-29"}] for name in NAMES}}
    loader.load(record)
    loader.load(record | {"s": {name: [{name: "2024-03-01", "and": 1}] for name in NAMES}})
    assert list(loader.types()) == [*NAMES, "s"]
    fields = loader.sql("SELECT s FROM t")[1][0]
    assert fields == {name: [{name: datetime.date(2024, 3, 1), "and": 1}] for name in NAMES}
    with mismatch("record 1", "'x'" if False else "x", 's.a"b[].a"b'):
        loader.load({"s": {'a"b': [{'a"b': "x"}]}})


def test_names_that_differ_in_case_only_are_reported(loader):
    with mismatch("record 2", "'Id'", "'id'", "case"):
        loader.load({"id": 1}, {"Id": 2})
    with mismatch("record 2", "'s.Id'", "'s.id'", "case"):
        loader.load({"s": {"id": 1}}, {"s": {"Id": 1}})
    loader.load({"id": 1, "s": {"x": 1}})
    with mismatch("record 2", "'ID'", "'id'", "case"):
        loader.load({"s": None}, {"ID": 1})
    with mismatch("record 2", "'s.X'", "'s.x'", "case"):
        loader.load({"s": None}, {"s": {"X": 1}})


def test_a_numbered_name_is_no_clash(loader):
    loader.load({"address": "a", "Address_1": "b", "address_1_1": "c"})
    assert list(loader.types()) == ["address", "Address_1", "address_1_1"]
    with mismatch("record 2", "'ADDRESS'", "case"):
        loader.load({"address": "a", "Address_1": "b"}, {"ADDRESS": "b"})


def test_an_empty_name_is_reported(loader):
    with mismatch("part 1", "record 2", "empty name"):
        loader.load({}, {"": 1})


def test_an_empty_name_within_a_value_is_reported(loader):
    with mismatch("record 2", '{"":1}', "column s", "empty name"):
        loader.load({"s": None}, {"s": {"": 1}})


def test_a_line_that_is_no_object_is_reported(loader):
    with mismatch("record 2", "not an object"):
        loader.load({"a": 1}, [1])


def test_a_line_that_is_no_json_is_reported(loader):
    with pytest.raises(WarehouseError, match=r"part 1 \(file:.*Malformed JSON"):
        loader.load({"a": 1}, b'{"a":')


def test_declared_columns_are_made_as_declared(declaring):
    loader = declaring(
        {
            "i": "INTEGER",
            "d": "DECIMAL(10,2)",
            "h": "HUGEINT",
            "u": "UUID",
            "b": "BLOB",
            "ts": "TIMESTAMP",
            "n": "DOUBLE",
        }
        | {"t": "TIME", "m": "MAP(VARCHAR, BIGINT)", "j": "JSON", "e": "ENUM('x', 'y')", "never": "VARCHAR"}
    )
    uuid = "6F1c0b0e-6c1e-4b0f-9c0e-1b1b1b1b1b1b"
    loader.load(
        {
            "i": 7,
            "d": "12.50",
            "h": "18446744073709551616",
            "u": uuid,
            "b": "AAH/",
            "ts": "2024-02-29",
            "n": 1,
        }
        | {"t": "10:00", "m": {"k": 1, "l": 2}, "j": {"any": [1, "x", None]}, "e": "x", "more": "m"},
        {"d": 3, "h": 3, "j": 3, "n": 2.5},
        {"d": 2.5, "j": "text", "ts": "2024-02-29T12:00:00.5"},
    )
    assert loader.types()["more"] == "VARCHAR"
    assert loader.types()["never"] == "VARCHAR"
    rows = loader.sql("SELECT i, d, h, lower(u::VARCHAR), b, ts, t, m, j, e, never FROM t")
    assert rows[0] == (
        7,
        Decimal("12.50"),
        2**64,
        uuid.lower(),
        b"\0\1\xff",
        datetime.datetime(2024, 2, 29),
        datetime.time(10),
        {"k": 1, "l": 2},
        '{"any":[1,"x",null]}',
        "x",
        None,
    )
    assert [row[1] for row in rows] == [Decimal("12.50"), 3, Decimal("2.50")]
    assert [row[8] for row in rows[1:]] == ["3", '"text"']


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("INTEGER", 2**31),
        ("INTEGER", 1.5),
        ("BIGINT", "7"),
        ("DOUBLE", "1.5"),
        ("FLOAT", 0.1),
        ("DECIMAL(10,2)", "1.005"),
        ("DECIMAL(10,2)", 1.005),
        ("DECIMAL(10,2)", "123456789.00"),
        ("DECIMAL(10,2)", "1e-3"),
        ("HUGEINT", "1.5"),
        ("HUGEINT", " 7"),
        ("BLOB", "no base64!"),
        ("UUID", "x"),
        ("DATE", "2024-02-29T12:00:00"),
        ("TIMESTAMP_S", "2024-02-29T12:00:00.5"),
        ("TIMESTAMP", "infinity"),
        ("ENUM('x')", "z"),
        ("MAP(VARCHAR, BIGINT)", {"a": 1.5}),
        ("MAP(VARCHAR, BIGINT)", {"a": "x"}),
        ("BIGINT[2]", [1, 2, 3]),
        ("BOOLEAN", "true"),
        ("VARCHAR", {"a": 1}),
        ("VARCHAR", [1]),
        ("STRUCT(a BIGINT)", {"a": "x"}),
        ("STRUCT(a BIGINT)[]", [{"a": 1.5}]),
    ],
)
def test_a_value_must_fit_its_declared_type_exactly(declaring, kind, value):
    with mismatch("record 2", "column v", *(["DOUBLE: 53"] if kind == "FLOAT" else [])):
        declaring({"v": kind}).load({"v": None}, {"v": value})


@pytest.mark.parametrize(
    ("kind", "value", "stored"),
    [
        ("DECIMAL(10,2)", "1.5000", Decimal("1.50")),
        ("DECIMAL(10,2)", "-1.5E+3", Decimal("-1500.00")),
        ("BIGNUM", "123456789012345678901234567890123456789012345678901234567890", None),
        ("TIMESTAMP_NS", "2024-02-29T12:00:00.123456789", None),
        ("TIMESTAMP", "2024-02-29T12:00:00.123456000", datetime.datetime(2024, 2, 29, 12, 0, 0, 123456)),
        ("BIGINT[2]", [1, 2], (1, 2)),
        ("FLOAT", 0.5, 0.5),
    ],
)
def test_what_fits_a_declared_type_is_stored(declaring, kind, value, stored):
    loader = declaring({"v": kind})
    assert loader.load({"v": value}) == 1
    assert stored is None or loader.sql("SELECT v FROM t") == [(stored,)]


def test_a_declared_varchar_takes_any_scalar_as_text(declaring):
    loader = declaring({"v": "VARCHAR"})
    loader.load({"v": 1.5}, {"v": "x"}, {"v": True}, {"v": None}, {"v": 2**63})
    loader.load({"v": 1}, {"v": 2})
    loader.load({"v": "2024-02-29"})
    assert [v for (v,) in loader.sql("SELECT v FROM t")] == [
        *("1.5", "x", "true", None, "9223372036854775808", "1", "2", "2024-02-29")
    ]


def test_declaring_a_type_later_alters_the_column(declaring):
    loader = declaring({})
    loader.load({"v": 1, "s": {"x": 1, "y": 1}})
    with mismatch("2.5"):
        loader.load({"v": 2.5})
    loader = declaring({"v": "DOUBLE", "s": "STRUCT(x DOUBLE)"})
    loader.load({"v": 2.5, "s": {"x": 0.5}})
    assert loader.sql("SELECT v, s FROM t") == [(1.0, {"x": 1.0, "y": 1}), (2.5, {"x": 0.5, "y": None})]
    with mismatch("column 'v'", "declared as BIGINT", "DOUBLE"):
        declaring({"v": "BIGINT"}).load({"v": 3})


def test_a_declared_type_that_is_none_is_a_wrong_configuration(declaring):
    with pytest.raises(ConfigError, match=r"schema\] v = 'WHATEVER' is no type"):
        declaring({"v": "WHATEVER"})


def test_the_columns_of_an_existing_table_are_the_schema(loader):
    loader.sql("CREATE TABLE t (id INTEGER PRIMARY KEY, d DECIMAL(5,1), note VARCHAR DEFAULT 'none')")
    loader.load({"d": "1.5", "id": 1, "new": 1})
    assert loader.types() == {"id": "INTEGER", "d": "DECIMAL(5,1)", "note": "VARCHAR", "new": "BIGINT"}
    assert loader.sql("SELECT * FROM t") == [(1, Decimal("1.5"), "none", 1)]
    with mismatch("record 1: PRIMARY KEY(id): id = 1 is in the table already"):
        loader.load({"d": "1.5", "id": 1})


@pytest.mark.parametrize("case", MISFITS)
def test_a_misfit_in_a_table_is_named_by_part_record_and_column(loader, case):
    kind, fits, unfit, said = MISFITS[case]
    loader.sql(f"CREATE TABLE t (id INTEGER, v {kind})")
    records = [{"id": 1, "v": fits}, {"id": 2, "v": fits}, {"id": 3, "v": unfit}]
    lines = [portable_line({n: v for n, v in record.items() if v is not ...}) for record in records]
    with mismatch("part 1 (file:///", "record 3", said):
        loader.load(*lines)
    assert loader.sql("SELECT count(*) FROM t") == [(0,)]


def test_parts_of_one_plan_may_differ(loader):
    parts = [
        loader.part([{"a": 1, "t": "2024-02-29"}]),
        loader.part([{"b": [None]}]),
        loader.part([{"b": [1], "t": "x"}]),
    ]
    assert loader.warehouse.load(loader.job, loader.plan(*parts)) == 3
    assert loader.types() == {"a": "BIGINT", "t": "VARCHAR", "b": "BIGINT[]"}


def test_gzip_parts_follow_the_same_rules(loader):
    loader.load({"a": 1, "at": "2024-02-29T12:00:00Z"}, format="ndjson.gz")
    with mismatch("record 2", '"x"', "column a"):
        loader.load({"a": 1}, {"a": "x"}, format="ndjson.gz")
    with mismatch("record 2", "'A'", "case"):
        loader.load({"a": 1}, {"A": 1}, format="ndjson.gz")


def test_parquet_keeps_its_types(loader):
    at = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
    record = {
        "i": 1,
        "d": Decimal("1.50"),
        "at": at,
        "b": b"\0",
        "s": {"x": [DAY]},
        "n": None,
        "l": [],
        "t": datetime.time(1),
    }
    loader.load(record, format="parquet")
    assert loader.types() == {
        "i": "BIGINT",
        "d": "DECIMAL(3,2)",
        "at": "TIMESTAMP WITH TIME ZONE",
        "b": "BLOB",
        "s": "STRUCT(x DATE[])",
        "n": '"NULL"',
        "l": '"NULL"[]',
        "t": "TIME",
    }
    loader.load(
        record | {"n": "x", "l": [1], "d": Decimal("2.5"), "s": {"x": [None], "y": 1}}, format="parquet"
    )
    assert loader.sql("SELECT d, n, l, s FROM t") == [
        (Decimal("1.50"), None, [], {"x": [DAY], "y": None}),
        (Decimal("2.50"), "x", [1], {"x": [None], "y": 1}),
    ]


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        (1, 2.5, "2.5"),
        (1, "7", '"7"'),
        (1, True, "true"),
        (1.5, 2**53 + 1, "9007199254740993"),
        (Decimal("1.5"), Decimal("1.25"), "1.25"),
        ("x", 1, "1"),
        ({"a": 1}, [1], "[1]"),
        (DAY, datetime.datetime(2024, 2, 29, 1), "2024-02-29"),
        ([1], ["x"], '"x"'),
    ],
)
def test_parquet_values_that_do_not_fit_are_named(loader, first, second, shown):
    loader.load({"v": first}, format="parquet")
    with mismatch("part 2", "record 2", shown, "column v"):
        loader.load({"v": None}, {"v": second}, format="parquet")


def test_parquet_and_json_parts_meet_in_one_table(loader):
    at = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
    loader.load({"at": "2024-02-29T12:00:00Z", "n": 1.5, "s": {"x": 1}})
    loader.load({"at": at, "n": 2, "s": {"x": 2}}, format="parquet")
    assert loader.sql('SELECT count(DISTINCT "at"), sum(n), sum(s.x) FROM t') == [(1, 3.5, 3)]


def test_parquet_columns_that_differ_in_case_only_are_reported(loader):
    with mismatch("differ in case only"):
        loader.load(pyarrow.table([[1], [2]], names=["a", "A"]), format="parquet")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": 1, "A": 2}, "two fields of an object differ in case only"),
        ([{"x": {"b": 1, "B": 2}}], "two fields of an object differ in case only"),
        ({"": 1}, "a field with an empty name"),
        ([{"": 1, "x": 2}], "a field with an empty name"),
    ],
)
def test_parquet_fields_that_duckdb_would_give_other_names_are_reported(loader, value, said):
    # Of "a" and "A" it reads "a" and "A_1", and an object with an empty name as a TUPLE.
    with mismatch(said):
        loader.load(pyarrow.table({"v": pyarrow.array([value])}), format="parquet")


def test_parquet_fields_that_end_in_a_number_keep_their_names(loader):
    value = {"a": 1, "a_1": 2}
    loader.load(pyarrow.table({"v": pyarrow.array([value])}), format="parquet")
    assert loader.sql("SELECT v FROM t") == [(value,)]
