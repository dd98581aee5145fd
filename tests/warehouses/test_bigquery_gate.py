"""Which records the gate lets through, as what they are written, and which columns they teach it."""

import dataclasses
import enum
import io
import json
import math
import uuid
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import msgspec
import pyarrow.parquet
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from etl import formats
from etl.columns import Columns
from etl.field_types import FieldType
from etl.formats import SchemaWidened
from etl.schemas.types import shown
from etl.warehouses.base import Gate, Misfit
from etl.warehouses.bigquery import fields as bigquery_fields
from etl.warehouses.bigquery.gate import RecordGate
from etl.warehouses.bigquery.schema import declared, known, to_api
from etl.warehouses.bigquery.types import valid_name, wrong_with_name


def gate_for(schema=None, *, format="ndjson"):
    return RecordGate(declared(schema), format=format)


def written(schema, value, *, format="ndjson"):
    """Return what a value in column `v` is written as; "left out" when it is not written."""
    return gate_for({"v": schema}, format=format).admit({"v": value}).get("v", "left out")


def learned(*records, schema=None, format="ndjson"):
    """Let records through and return the columns as short text."""
    gate = gate_for(schema, format=format)
    for record in records:
        gate.admit(record)
    return shapes(gate.columns)


def shapes(columns):
    return {
        column.name: {shown(column): shapes(column.fields)} if column.fields else shown(column)
        for column in columns
    }


class Colour(enum.Enum):
    RED = "red"
    NONE = None


class Level(enum.IntEnum):
    LOW = 1


class Text(str):
    __slots__ = ()


@dataclasses.dataclass
class Point:
    x: int
    _hidden: int = 0


def test_it_is_a_gate():
    gate: Gate = gate_for()
    assert gate.columns == ()


@pytest.mark.parametrize(
    ("value", "column"),
    [
        (True, "BOOLEAN"),
        (1, "INTEGER"),
        (1.5, "FLOAT"),
        (math.nan, "FLOAT"),
        ("2024-01-31", "STRING"),
        (b"x", "BYTES"),
        (Decimal("1.5"), "NUMERIC"),
        (Decimal("0.1234567891"), "BIGNUMERIC"),
        (Decimal(10) ** 29, "BIGNUMERIC"),
        (datetime(2024, 1, 31, tzinfo=UTC), "TIMESTAMP"),
        (datetime(2024, 1, 31), "DATETIME"),
        (date(2024, 1, 31), "DATE"),
        (time(1), "TIME"),
        (uuid.UUID(int=1), "STRING"),
        (Colour.RED, "STRING"),
        (Level.LOW, "INTEGER"),
        (Text("x"), "STRING"),
        ([1, 2], "INTEGER REPEATED"),
        ((1, 2.5), "FLOAT REPEATED"),
        ({"a": 1, "b": None}, {"RECORD": {"a": "INTEGER"}}),
        (OrderedDict(a=1), {"RECORD": {"a": "INTEGER"}}),
        (Point(1), {"RECORD": {"x": "INTEGER"}}),
        ([{"a": 1}, {}, {"b": [True]}], {"RECORD REPEATED": {"a": "INTEGER", "b": "BOOLEAN REPEATED"}}),
    ],
)
def test_a_field_without_a_column_gets_the_one_that_its_value_needs(value, column):
    assert learned({"v": value}) == {"v": column}


@pytest.mark.parametrize("value", [None, [], (), {}, {"a": None}, {"a": {"b": []}}, Colour.NONE])
@pytest.mark.parametrize("format", ["ndjson", "parquet"])
def test_a_field_that_tells_no_type_has_no_column_and_is_left_out(value, format):
    gate = gate_for(format=format)
    assert gate.admit({"v": value, "w": 1}) == {"w": 1}
    assert shapes(gate.columns) == {"w": "INTEGER"}


def test_a_record_without_values_does_not_fit_a_table_without_columns():
    gate = gate_for()
    with pytest.raises(Misfit, match=r"^it holds no value, and the table has no columns yet"):
        gate.admit({"v": None})
    gate.admit({"v": 1})
    assert gate.admit({}) == {}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([None], r"^column v: an array must not hold null in BigQuery"),
        ([1, None], r"^column v: an array must not hold null in BigQuery"),
        ([[1]], r"^column v: an array must not hold arrays in BigQuery"),
        ([{}], r"^column v: an array of objects without values has no type"),
        ({"a": {1: 2}}, r"^column v\.a: the name of a field must be text, found 1"),
        (
            {"a b.c": 2, "a b_c": 3},
            r"^column v\.a b_c: the fields 'a b\.c' and 'a b_c' would both be the column 'a b_c'; rename one",
        ),
        ({1, 2}, r"^column v: a builtins\.set has no type in BigQuery: turn it into"),
        (
            2**63,
            r"^column v: INTEGER takes 64 bits, found 9223372036854775808; declare the column as NUMERIC",
        ),
        pytest.param(
            10**5000, r"^column v: INTEGER takes 64 bits, found an integer of 16610 bits", id="long"
        ),
        (Decimal(10) ** 39, r"^column v: BIGNUMERIC takes 38 digits before the point"),
        ([1, "a"], r"^column v\[1\]: INTEGER takes whole numbers, found 'a' \(str\)"),
    ],
)
def test_what_no_column_takes_is_a_misfit_and_teaches_nothing(value, said):
    gate = gate_for()
    with pytest.raises(Misfit, match=said):
        gate.admit({"new": 1, "v": value})
    assert gate.columns == ()
    assert gate.admit({"new": "text"}) == {"new": "text"}


def test_records_may_be_nested_as_deep_as_bigquery_goes():
    record = {"leaf": 1}
    for _ in range(15):
        record = {"d": record}
    assert gate_for().admit(record) is record
    with pytest.raises(Misfit, match="RECORDs go 15 levels deep"):
        gate_for().admit({"d": record})


@pytest.mark.parametrize("deep", [{}, 1])
def test_a_record_that_is_nested_without_end_is_a_misfit(deep):
    for _ in range(5_000):
        deep = {"d": deep}
    with pytest.raises(Misfit, match="RECORDs go 15 levels deep"):
        gate_for().admit(deep)


def test_a_table_has_no_more_columns_than_bigquery_allows():
    gate = gate_for()
    gate.admit({f"k{number}": 1 for number in range(10_000)})
    with pytest.raises(
        Misfit, match=r"more than 10,000 columns; declare objects whose names are data as JSON"
    ):
        gate.admit({"one more": 1})


def test_objects_with_data_as_keys_are_json_after_the_part_is_begun_again():
    words = [{"id": 1, "v": {"in": [{f"w.{n * 30 + word}": 1 for word in range(30)}]}} for n in range(20)]
    gate = gate_for()
    with pytest.raises(SchemaWidened, match=r"the objects in v\.in have more than 300 different keys"):
        list(map(gate.admit, words))
    assert [gate.admit(record) for record in words] == words
    assert [shown(column) for column in gate.columns] == ["INTEGER", "RECORD"]
    assert [shown(column) for column in gate.columns[1].fields] == ["JSON"]


def test_a_record_of_the_table_stays_one_whatever_its_fields_are():
    gate = gate_for({"v": {"a": "INTEGER"}})
    gate.admit({"v": {f"k{number}": 1 for number in range(400)}})
    assert gate.columns[0].type == "RECORD"


def test_types_widen_until_they_are_pinned():
    steps = [{"v": 1}, {"v": 2.5}, {"v": 3}]
    assert learned(*steps) == {"v": "FLOAT"}
    assert learned({"v": 2**63 - 1}, {"v": Decimal("0.5")}) == {"v": "NUMERIC"}
    assert learned({"v": 1}, {"v": Decimal("1e-10")}) == {"v": "BIGNUMERIC"}
    assert learned({"v": Decimal(1)}, {"v": Decimal("1e-10")}) == {"v": "BIGNUMERIC"}
    assert learned({"v": [1]}, {"v": [2.5]}, {"w": {"x": 1}}, {"w": {"x": 1.5}}) == {
        "v": "FLOAT REPEATED",
        "w": {"RECORD": {"x": "FLOAT"}},
    }


def test_an_integer_that_a_float_would_not_hold_keeps_its_column_from_becoming_one():
    gate = gate_for()
    assert gate.admit({"v": 2**53 + 1}) == {"v": str(2**53 + 1)}
    assert gate.admit({"v": 3.0}) == {"v": 3}
    with pytest.raises(Misfit, match=r"INTEGER takes whole numbers of 64 bits, found 2\.5 \(float\)"):
        gate.admit({"v": 2.5})


def test_a_float_column_takes_integers_that_it_holds_exactly():
    gate = gate_for()
    gate.admit({"v": 0.5})
    assert gate.admit({"v": 2**60}) == {"v": float(2**60)}
    with pytest.raises(Misfit, match="FLOAT would lose digits of 1152921504606846977"):
        gate.admit({"v": 2**60 + 1})


@pytest.mark.parametrize("later", [2.5, Decimal("0.5"), "x", True, [1], {"a": 1}, b"x", date(2024, 1, 1)])
def test_a_column_that_is_pinned_takes_no_other_type(later):
    first = gate_for()
    first.admit({"v": 1})
    gate = RecordGate(first.columns, format="ndjson")
    with pytest.raises(Misfit, match=r"^column v: INTEGER takes whole numbers"):
        gate.admit({"v": later})
    assert gate.columns == first.columns


def test_new_columns_may_come_and_widen_after_others_are_pinned():
    assert learned({"v": 1, "w": 1}, {"v": 1, "w": 2.5}, schema={"v": "INTEGER"}) == {
        "v": "INTEGER",
        "w": "FLOAT",
    }


def test_a_pinned_record_takes_new_fields():
    assert learned({"r": {"x": 1, "y": 2}}, schema={"r": {"x": "INTEGER"}}) == {
        "r": {"RECORD": {"x": "INTEGER", "y": "INTEGER"}}
    }


NOTHING = "left out"


@pytest.mark.parametrize(
    ("schema", "value", "json_has", "parquet_has"),
    [
        ("INTEGER", None, None, None),
        ("INTEGER", 2**53 - 1, 2**53 - 1, 2**53 - 1),
        ("INTEGER", 2**53, str(2**53), 2**53),
        ("INTEGER", -(2**63), str(-(2**63)), -(2**63)),
        ("INTEGER", "-07", -7, -7),
        ("INTEGER", str(2**63 - 1), str(2**63 - 1), 2**63 - 1),
        ("INTEGER", 3.0, 3, 3),
        ("INTEGER", Decimal("3.00"), 3, 3),
        ("INTEGER", Level.LOW, 1, 1),
        ("FLOAT", 3, 3, 3.0),
        ("FLOAT", "1.50", 1.5, 1.5),
        ("FLOAT", Decimal("0.1"), 0.1, 0.1),
        ("NUMERIC", Decimal("1.50"), Decimal("1.50"), Decimal("1.50")),
        ("NUMERIC", Decimal("1.50000000000"), Decimal("1.5"), Decimal("1.5")),
        ("NUMERIC", Decimal("1E+3"), "1000", Decimal(1000)),
        ("NUMERIC", Decimal("1E-7"), "0.0000001", Decimal("0.0000001")),
        ("NUMERIC", Decimal("0E-40"), Decimal(0), Decimal(0)),
        ("FLOAT", math.inf, math.inf, math.inf),
        ("FLOAT", "-Infinity", -math.inf, -math.inf),
        ("FLOAT", Decimal("Infinity"), math.inf, math.inf),
        ("STRING", Decimal("-Infinity"), "-Infinity", "-Infinity"),
        ("NUMERIC", 9.99, Decimal("9.99"), Decimal("9.99")),
        ("NUMERIC", 1e20, "100000000000000000000", Decimal(10**20)),
        ("NUMERIC", 2**64, str(2**64), Decimal(2**64)),
        ("NUMERIC", 7, 7, Decimal(7)),
        ("NUMERIC", "1e2", "100", Decimal(100)),
        ("NUMERIC(4, 2)", "12.50", Decimal("12.50"), Decimal("12.50")),
        ("BIGNUMERIC", 10**38 - 1, str(10**38 - 1), Decimal(10**38 - 1)),
        ("BOOLEAN", True, True, True),
        ("BOOLEAN", 0, False, False),
        ("BOOLEAN", "Yes", True, True),
        ("STRING(3)", "äöü", "äöü", "äöü"),
        ("STRING", uuid.UUID(int=1), str(uuid.UUID(int=1)), str(uuid.UUID(int=1))),
        ("STRING", Decimal("1.50"), "1.50", "1.50"),
        ("STRING", date(2024, 1, 31), "2024-01-31", "2024-01-31"),
        ("STRING", Colour.RED, "red", "red"),
        ("BYTES(2)", b"ab", b"ab", b"ab"),
        ("BYTES", "YWI=", "YWI=", b"ab"),
        ("BYTES", bytearray(b"ab"), bytearray(b"ab"), b"ab"),
        (
            "TIMESTAMP",
            datetime(2024, 1, 31),
            datetime(2024, 1, 31, tzinfo=UTC),
            datetime(2024, 1, 31, tzinfo=UTC),
        ),
        (
            "TIMESTAMP",
            "2024/01/31 12:00 -05:30",
            "2024/01/31 12:00 -05:30",
            datetime(2024, 1, 31, 17, 30, tzinfo=UTC),
        ),
        (
            "TIMESTAMP",
            "2024-01-31T12:00:00.5Z",
            "2024-01-31T12:00:00.5Z",
            datetime(2024, 1, 31, 12, 0, 0, 500_000, UTC),
        ),
        (
            "TIMESTAMP",
            "2024-01-31 12:00:00 UTC",
            "2024-01-31 12:00:00 UTC",
            datetime(2024, 1, 31, 12, tzinfo=UTC),
        ),
        ("TIMESTAMP", "2024-01-31T12:00", "2024-01-31T12:00", datetime(2024, 1, 31, 12, tzinfo=UTC)),
        ("DATE", "2024-02-29", "2024-02-29", date(2024, 2, 29)),
        (
            "DATETIME",
            "2024-01-31 12:00:00.25",
            "2024-01-31 12:00:00.25",
            datetime(2024, 1, 31, 12, 0, 0, 250_000),
        ),
        ("TIME", "23:59:59", "23:59:59", time(23, 59, 59)),
        ("GEOGRAPHY", "POINT(1 2)", "POINT(1 2)", "POINT(1 2)"),
        ("INTEGER REPEATED", None, NOTHING, NOTHING),
        ("INTEGER REPEATED", [], [], []),
        ("INTEGER REPEATED", (1, "2"), [1, 2], [1, 2]),
        ({"a": "FLOAT"}, {}, {}, {}),
        ({"a": "FLOAT"}, {"a": 1, "b": None}, {"a": 1}, {"a": 1.0}),
        (
            [{"a": "DATE"}],
            [{"A": "2024-01-31"}, {}],
            [{"a": "2024-01-31"}, {}],
            [{"a": date(2024, 1, 31)}, {}],
        ),
    ],
)
def test_values_are_written_as_what_the_column_takes(schema, value, json_has, parquet_has):
    for name, expected in (("ndjson", json_has), ("ndjson.gz", json_has), ("parquet", parquet_has)):
        found = written([schema[0]] if isinstance(schema, list) else schema, value, format=name)
        assert (found, type(found)) == (expected, type(expected))
        if isinstance(expected, Decimal):
            assert str(found) == str(expected)


@pytest.mark.parametrize(
    ("schema", "value", "said"),
    [
        ("INTEGER", "7.0", "INTEGER takes whole numbers, found '7.0' (str)"),
        ("INTEGER", "٧", "INTEGER takes whole numbers"),
        ("INTEGER", 1e30, "INTEGER takes whole numbers of 64 bits"),
        ("FLOAT", "1e999", "FLOAT would lose digits of"),
        ("FLOAT", "0.1000000000000000000001", "FLOAT would lose digits of"),
        ("FLOAT", "nan", "FLOAT takes numbers, found 'nan'"),
        ("FLOAT", True, "FLOAT takes numbers; found True (bool)"),
        ("FLOAT", 10**400, "FLOAT would lose digits of an integer of 1329 bits"),
        ("NUMERIC", Decimal("0.1234567891"), "NUMERIC takes 29 digits before the point and 9 after it"),
        ("NUMERIC", 10**29, "NUMERIC takes 29 digits before the point"),
        ("NUMERIC", "1e9999", "NUMERIC takes 29 digits before the point"),
        ("NUMERIC(4, 2)", 123, "NUMERIC takes 2 digits before the point, found 123"),
        ("NUMERIC(4, 2)", 1.234, "NUMERIC(4, 2) takes 2 digits before the point and 2 after it"),
        ("BOOLEAN", 2, "BOOLEAN takes 1 and 0 of all numbers, found 2"),
        ("BOOLEAN", "maybe", "BOOLEAN takes the texts true, t, yes"),
        ("STRING", 1, "STRING takes text: make it text if that is meant; found 1 (int)"),
        ("STRING", True, "STRING takes text"),
        ("STRING", {"a": 1}, "STRING takes text"),
        ("STRING(3)", "abcd", "STRING(3) takes 3 characters, found 4: 'abcd' (str)"),
        ("STRING(3)", uuid.UUID(int=1), "STRING(3) takes 3 characters, found 36"),
        ("BYTES", "a", "BYTES takes text in base64"),
        ("BYTES(2)", b"abc", "BYTES(2) takes 2 bytes, found 3"),
        ("BYTES(2)", "YWJj", "BYTES(2) takes 2 bytes, found 3"),
        ("TIMESTAMP", 1534680695, "a number may be seconds or milliseconds; found 1534680695 (int)"),
        ("TIMESTAMP", "2024-01-31", "TIMESTAMP takes text such as"),
        ("TIMESTAMP", "2024-02-30T00:00:00Z", "the calendar has no such day"),
        ("TIMESTAMP", "2024-01-31T24:00:00Z", "TIMESTAMP takes text such as"),
        ("TIMESTAMP", "2024-01-31T12:00:00.1234567Z", "TIMESTAMP takes text such as"),
        ("TIMESTAMP", "2024-01-31T12:00:00+14:30", "TIMESTAMP takes text such as"),
        ("TIMESTAMP", "0001-01-01T00:00:00+01:00", "TIMESTAMP takes the years 1 to 9999 in UTC"),
        (
            "TIMESTAMP",
            datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-2))),
            "TIMESTAMP takes the years 1 to 9999 in UTC",
        ),
        ("DATE", datetime(2024, 1, 31), "DATE takes a date or text"),
        ("DATE", "2024-1-31", "DATE takes text such as 2024-01-31"),
        ("DATE", "0000-01-01", "the calendar has no such day"),
        ("DATETIME", datetime(2024, 1, 31, tzinfo=UTC), "DATETIME has no zone"),
        ("DATETIME", "2024-01-31T12:00:00Z", "DATETIME takes text such as"),
        ("TIME", time(1, tzinfo=UTC), "TIME has no zone"),
        ("TIME", "12:00", "TIME takes text such as"),
        ("GEOGRAPHY", " ", "GEOGRAPHY takes WKT"),
        ("GEOGRAPHY", {"type": "Point"}, "GEOGRAPHY takes WKT"),
        ("INTERVAL", "1 day", "INTERVAL takes text such as"),
        ("INTEGER REPEATED", 1, "INTEGER REPEATED takes an array, found 1 (int)"),
        ("INTEGER", [1], "INTEGER takes whole numbers; found [1] (list)"),
        ({"a": "DATE"}, [1], "RECORD takes an object, found [1] (list)"),
        ({"a": "DATE"}, "x", "RECORD takes an object, found 'x' (str)"),
    ],
)
@pytest.mark.parametrize("format", ["ndjson", "parquet"])
def test_a_value_that_does_not_fit_is_named_with_what_the_column_takes(schema, value, said, format):
    if schema == "INTERVAL" and format == "parquet":
        said = "BigQuery loads INTERVAL from NDJSON only"
    with pytest.raises(Misfit) as raised:
        written(schema, value, format=format)
    assert str(raised.value).startswith("column v: ")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_place_of_a_misfit_is_its_path():
    gate = gate_for({"a": [{"b": {"c": "DATE REPEATED"}}]})
    with pytest.raises(Misfit, match=r"^column a\[1\]\.b\.c\[2\]: DATE takes a date"):
        gate.admit({"a": [{}, {"b": {"c": ["2024-01-01", "2024-01-02", 7]}}]})


@pytest.mark.parametrize(
    "value", [1, 2.5, "x", True, {"a": [[None]]}, [1, "x"], [], {}, Decimal("0.5"), math.nan]
)
def test_json_takes_anything_from_ndjson_and_nothing_from_parquet(value):
    assert written("JSON", value) is value
    with pytest.raises(Misfit, match=r"BigQuery loads JSON from NDJSON only: use the format ndjson\.gz"):
        written("JSON", value, format="parquet")


def test_parquet_gets_no_column_for_a_json_that_is_null():
    assert written("JSON", None, format="parquet") == NOTHING
    assert written("JSON", None) is None


def test_an_interval_is_text_for_ndjson():
    assert written("INTERVAL", "P1Y2M3DT4H5M6.5S") == "P1Y2M3DT4H5M6.5S"


@pytest.mark.parametrize("record", [{}, {"v": None}, {"v": Colour.NONE}])
def test_a_required_column_takes_no_null_and_nothing_that_is_written_as_null(record):
    gate = gate_for({"v": "FLOAT REQUIRED"})
    with pytest.raises(Misfit, match=r"^column v: FLOAT REQUIRED (takes no null|must be there)"):
        gate.admit(record)
    assert gate.admit({"v": 1.5}) == {"v": 1.5}


@pytest.mark.parametrize("format", ["ndjson", "parquet"])
@pytest.mark.parametrize("value", [math.nan, Decimal("NaN"), Decimal("sNaN"), "NaN"])
def test_nan_is_a_value_of_a_float(value, format):
    assert math.isnan(written("FLOAT REQUIRED", value, format=format))
    assert math.isnan(written("FLOAT REPEATED", [1.5, value], format=format)[1])


@pytest.mark.parametrize("type_", ["INTEGER", "NUMERIC", "BIGNUMERIC(40, 2)"])
@pytest.mark.parametrize(
    "value", [math.nan, -math.inf, Decimal("Infinity"), Decimal("NaN"), "NaN", "Infinity"]
)
def test_numbers_that_are_not_finite_fit_no_other_type_of_numbers(type_, value):
    with pytest.raises(Misfit, match=r"^column v: \w+(\(.*\))? (has no|takes)"):
        written(type_, value)


def test_a_column_of_integers_becomes_one_of_floats_for_nan():
    gate = gate_for({})
    gate.admit({"v": 1})
    gate.admit({"v": math.nan})
    assert [column.type for column in gate.columns] == ["FLOAT"]


def test_required_fields_of_a_record_are_wanted_where_the_record_is():
    gate = gate_for(
        [{"name": "r", "type": "RECORD", "fields": [{"name": "x", "type": "DATE", "mode": "REQUIRED"}]}]
    )
    assert gate.admit({"r": None}) == {"r": None}
    assert gate.admit({}) == {}
    with pytest.raises(
        Misfit, match=r"^column r\.x: DATE REQUIRED must be there, and the record has no such field"
    ):
        gate.admit({"r": {}})


@pytest.mark.parametrize("value", [[1.5, None], [None], [Colour.NONE]])
def test_an_array_holds_nothing_that_is_written_as_null(value):
    with pytest.raises(Misfit, match=r"^column v\[[01]\]: an array must not hold null"):
        written("FLOAT REPEATED", value)


def test_names_that_differ_in_case_only_are_the_same_column():
    gate = gate_for({"Id": "INTEGER", "r": {"Größe": "FLOAT"}})
    assert gate.admit({"ID": 1, "R": {"GRÖSSE": None, "größe": 2.5}}) == {"Id": 1, "r": {"Größe": 2.5}}
    with pytest.raises(
        Misfit, match=r"^column id: the record has 'Id' too, which is the same name to BigQuery"
    ):
        gate.admit({"Id": 1, "id": None})
    with pytest.raises(Misfit, match=r"^column NEW: the record has 'new' too"):
        gate.admit({"new": 1, "NEW": 2})


@pytest.mark.parametrize(
    ("field", "column"),
    [
        ("a.b", "a_b"),
        ("price ($)", "price ___"),
        ("größe/länge", "größe_länge"),
        ("line\nbreak", "line_break"),
        ("", "_"),
        ("_PARTITIONTIME", "__PARTITIONTIME"),
        ("__Root__x", "___Root__x"),
        (".TABLE_x", "__TABLE_x"),
        ("x" * 400, "x" * 300),
        ("First Name", "First Name"),
        ("2024", "2024"),
        ("item-1", "item-1"),
    ],
)
def test_only_names_that_bigquery_forbids_are_changed(field, column):
    gate = gate_for()
    assert gate.admit({field: 1, "in": {field: 2}}) == {column: 1, "in": {column: 2}}
    assert shapes(gate.columns) == {column: "INTEGER", "in": {"RECORD": {column: "INTEGER"}}}
    assert wrong_with_name(valid_name(field)) is None


BOTH = r"the fields 'a\.b' and 'a_b' would both be the column 'a_b'; rename one of them"


def test_two_fields_of_one_record_that_become_one_column_are_a_misfit():
    with pytest.raises(Misfit, match=BOTH):
        gate_for().admit({"a.b": 1, "a_b": 2})
    with pytest.raises(Misfit, match=BOTH):
        gate_for({"a_b": "INTEGER"}).admit({"a.b": 1, "a_b": 2})


def test_a_field_that_would_become_the_column_of_another_one_is_a_misfit():
    gate = gate_for()
    gate.admit({"a.b": 1})
    assert gate.admit({"a.b": 2, "a_b": None}) == {"a_b": 2}
    with pytest.raises(Misfit, match=BOTH):
        gate.admit({"a_b": 2})
    later = RecordGate(gate.columns, format="ndjson")
    with pytest.raises(Misfit, match=BOTH):
        later.admit({"a_b": 2})
    with pytest.raises(Misfit, match=r"the fields 'a\.b' and 'a\$b' would both"):
        later.admit({"a$b": 2})


def test_a_column_that_is_there_belongs_to_the_first_field_that_it_can_be_made_from():
    gate = gate_for({"a_b": "FLOAT REQUIRED", "r_r": {"x": "STRING"}})
    assert gate.admit({"a.b": 1, "r.r": {}}) == {"a_b": 1, "r_r": {}}
    assert [column.field for column in gate.columns] == ["a.b", "r.r"]
    with pytest.raises(Misfit, match="would both be the column 'a_b'"):
        gate.admit({"a_b": 1})


def test_the_warehouse_is_not_told_what_a_column_is_made_from():
    gate = gate_for()
    gate.admit({"r_r": {"a.b": 1}})
    assert to_api(gate.columns) == [
        {"name": "r_r", "type": "RECORD", "fields": [{"name": "a_b", "type": "INTEGER"}]}
    ]


def test_the_record_that_was_given_is_never_changed():
    record = {"n": 2**60, "r": {"x": "2024-01-31", "none": None}, "l": [2**60], "none": None, "Big": 1}
    gate = gate_for(
        {"n": "INTEGER", "r": {"x": "DATE"}, "l": "INTEGER REPEATED", "big": "NUMERIC"}, format="parquet"
    )
    before = repr(record)
    admitted = gate.admit(record)
    assert repr(record) == before
    assert admitted == {"n": 2**60, "r": {"x": date(2024, 1, 31)}, "l": [2**60], "big": Decimal(1)}


def test_a_record_that_needs_no_change_is_passed_on_as_it_is():
    record = {
        "a": 1,
        "b": "x",
        "c": None,
        "d": [1.5],
        "e": {"f": True},
        "g": datetime(2024, 1, 1, tzinfo=UTC),
    }
    gate = gate_for({"c": "DATE"})
    assert gate.admit(record) is record
    assert gate.admit(record) is record


def test_plans_for_shapes_are_forgotten_before_they_are_too_many(monkeypatch):
    monkeypatch.setattr(bigquery_fields, "MOST_CELLS", 100)
    gate = gate_for({"a": "INTEGER"})
    for number in range(200):
        assert gate.admit({"a": number, f"none{number}": None}) == {"a": number}
    assert len(gate._fields._plans) <= 25


# What BigQuery is documented to take of a line of JSON, written down apart from the gate.

TEXTS = {
    "INTEGER": lambda text: -(2**63) <= int(text) < 2**63,
    "FLOAT": lambda text: text in ("NaN", "Infinity", "-Infinity"),
    "NUMERIC": lambda text: fits(text, 29, 9),
    "BIGNUMERIC": lambda text: fits(text, 38, 38),
    "STRING": lambda text: True,
    "TIMESTAMP": lambda text: datetime.fromisoformat(text).utcoffset() is not None,
    "DATETIME": lambda text: datetime.fromisoformat(text).utcoffset() is None,
    "DATE": lambda text: len(text) == 10 and date.fromisoformat(text),
    "TIME": lambda text: ":" in text and time.fromisoformat(text),
    "BYTES": lambda text: len(text) % 4 == 0,
}


def fits(text, before, after):
    whole, _, fraction = text.lstrip("+-").partition(".")
    return whole.isdigit() and len(whole) <= before and len(fraction) <= after


def taken(columns, line):
    """Say whether a load would take this object: each value is one that its column is documented to take."""
    there = {column.name: column for column in columns}
    assert line.keys() <= there.keys()
    for name, column in there.items():
        value = line.get(name)
        if column.mode == "REPEATED":
            assert isinstance(line.get(name, []), list)
            for item in line.get(name, []):
                assert item is not None
                one_taken(column, item)
        elif value is None:
            assert column.mode == "NULLABLE"
        else:
            one_taken(column, value)
    return True


def one_taken(column, value):
    if column.type == "RECORD":
        assert isinstance(value, dict)
        taken(column.fields, value)
    elif isinstance(value, bool):
        assert column.type == "BOOLEAN"
    elif isinstance(value, (int, float)):
        assert column.type in ("INTEGER", "FLOAT", "NUMERIC", "BIGNUMERIC")
        assert column.type != "INTEGER" or (isinstance(value, int) and abs(value) < 2**53)
        assert column.type not in ("NUMERIC", "BIGNUMERIC") or abs(value) < 2**53
    else:
        assert isinstance(value, str)
        assert TEXTS[column.type](value)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.decimals(allow_nan=True)
    | st.decimals(-1000, 1000, places=3)
    | st.text(st.characters(codec="utf-8"), max_size=5)
    | st.binary(max_size=5)
    | st.datetimes()
    | st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-9, seconds=7))]))
    | st.dates()
    | st.times()
    | st.uuids()
    | st.sampled_from(["7", "1.5", "2024-01-31", "2024-01-31T12:00:00Z", "12:00:00", "true", "YWI="])
    | st.sampled_from(list(Colour))
)
names = st.sampled_from(["a", "b", "B", "c", "d.e"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
records = st.lists(st.dictionaries(names, values, max_size=4), max_size=6)
types = st.sampled_from(
    [
        "INTEGER",
        "FLOAT",
        "NUMERIC",
        "BIGNUMERIC",
        "BOOLEAN",
        "STRING",
        "BYTES",
        "TIMESTAMP",
        "DATE",
        "DATETIME",
        "TIME",
    ]
)
schemas = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    types.flatmap(lambda type_: st.sampled_from([type_, f"{type_} REQUIRED", f"{type_} REPEATED"])),
)


def admitted_of(gate, given_records):
    admitted = []
    for record in given_records:
        before = gate.columns
        try:
            admitted.append(gate.admit(record))
        except Misfit:
            assert gate.columns == before
    return admitted


def encoded(name, given_records, schema=None):
    output, refused = bytearray(), []
    chosen = formats.make(name)
    if schema is not None:
        chosen.expect(schema)
    *_, _ = chosen.encode(iter(given_records), output.extend, lambda *args: refused.append(args), 4096)
    assert refused == []
    return bytes(output)


@given(schemas, records)
def test_every_line_that_is_let_through_is_one_that_bigquery_takes(schema, given_records):
    gate = gate_for(schema)
    admitted = admitted_of(gate, given_records)
    for line in encoded("ndjson", admitted).splitlines():
        assert taken(gate.columns, json.loads(line))


@given(schemas, records)
def test_a_second_look_lets_the_same_records_through_in_the_same_form(schema, given_records):
    first = gate_for(schema)
    admitted = admitted_of(first, given_records)
    again = RecordGate(declared(to_api(first.columns)), format="ndjson")
    lines = encoded("ndjson", [again.admit(record) for record in admitted]).splitlines()
    assert len(lines) == len(admitted)
    assert all(taken(again.columns, json.loads(line)) for line in lines)
    assert declared(to_api(again.columns)) == declared(to_api(first.columns))


@given(schemas, records)
@example({}, [{"a": [], "c": 1}, {"a": False}])
@example({}, [{"a": {"b": []}, "c": 1}, {"a": [1]}])
@example({}, [{"a": [], "c": 1}, {"a": {"b": 1}}])
@example({}, [{"a": {"b": [], "c": 1}}, {"a": {"b": "x"}}])
@example({}, [{"b": [], "B": {}, "c": 1}, {"b": 1}])
@example({}, [{"b": [], "B": 1}, {"b": 1}])
@example({}, [{"a": [0, Decimal("sNaN")]}])
def test_after_its_columns_are_pinned_a_record_is_let_through_again(schema, given_records):
    first = gate_for(schema)
    let_through = [record for record in given_records if admitted_of(first, [record])]
    pinned = msgspec.json.decode(msgspec.json.encode(first.columns), type=Columns)
    again = RecordGate(known(table=None, declared=declared(schema), pinned=pinned, name="t"), format="ndjson")
    assert len(admitted_of(again, let_through)) == len(let_through)
    assert again.columns == first.columns


@given(schemas, records)
def test_every_parquet_part_that_is_let_through_has_the_types_of_its_columns(schema, given_records):
    gate = gate_for(schema, format="parquet")
    known = gate.arrow_schema()
    admitted = admitted_of(gate, given_records)
    if not admitted:
        return
    table = pyarrow.parquet.read_table(io.BytesIO(encoded("parquet", admitted, known)))
    assert table.num_rows == len(admitted)
    for field in known:
        assert table.schema.field(field.name).equals(field)
    types_ = {field.name: field.type for field in gate.arrow_schema()}
    assert set(table.schema.names) <= types_.keys()
    for field in table.schema:
        table.column(field.name).cast(types_[field.name])


@pytest.mark.parametrize("value", [{"a": 1}, [1, {"b": 2}], 1.5])
def test_what_is_cast_to_json_needs_a_column_of_json_whatever_it_holds(value):
    gate = gate_for()
    gate.expect_types(lambda: {"v": FieldType(name="json")})
    gate.admit({"v": value})
    gate.admit({"v": {"other": [None]}})
    assert [(column.name, column.type, column.mode) for column in gate.columns] == [("v", "JSON", "NULLABLE")]
