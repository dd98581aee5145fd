"""What records become in each format, and what has no form."""

import dataclasses
import enum
import gzip
import io
import json
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl import formats
from etl.errors import ConfigError


def encode(name, records, *, batch_bytes=4096, chosen=None):
    """Encode one part; return its bytes, the count, and what was refused."""
    output, refused = bytearray(), []
    chosen = chosen or formats.make(name)
    *_, count = chosen.encode(
        iter(records), output.extend, lambda *args: refused.append(args[:2]), batch_bytes
    )
    return bytes(output), count, refused


def lines(data):
    return [json.loads(line) for line in data.splitlines()]


class Colour(enum.Enum):
    RED = "red"


class OddFloat(float):
    def __float__(self):
        return 7.0


class OddInt(int):
    def __str__(self):
        return "seven"


def just_off(**offset):
    """Return a moment whose offset JSON cannot write."""
    return datetime(2024, 1, 1, tzinfo=timezone(timedelta(**offset)))


@dataclasses.dataclass
class Measure:
    value: float


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        ([{"deep": (None, float("nan"), 1.5, "null")}], [{"deep": [None, "NaN", 1.5, "null"]}]),
        (Measure(float("inf")), {"value": "Infinity"}),
        ([float("nan"), 2**64], ["NaN", str(2**64)]),
        ([float("nan"), b"x"], ["NaN", "eA=="]),
        (OddFloat(1.5), 1.5),
        (OddInt(2**70), str(2**70)),
        (just_off(seconds=20), "2023-12-31T23:59:40+00:00"),
        ([just_off(seconds=-20)], ["2024-01-01T00:00:20+00:00"]),
        ({"a": just_off(microseconds=1)}, {"a": "2023-12-31T23:59:59.999999+00:00"}),
        (2**64 - 1, 2**64 - 1),
        (-(2**63), -(2**63)),
        (2**64, str(2**64)),
        ([{"deep": -(2**63) - 1}], [{"deep": str(-(2**63) - 1)}]),
        (b"\x00\xff", "AP8="),
        (bytearray(b"x"), "eA=="),
        (Decimal("12.50"), "12.50"),
        (
            [time(1, 2, 3, n) for n in (9_999, 10_000, 99_999)],
            [f"01:02:03.{n}" for n in ("009999", "010000", "099999")],
        ),
        ({"x": (time(0, 0, 0, 50_000),)}, {"x": ["00:00:00.050000"]}),
        ([Decimal("1E-7"), Decimal("1E+3"), Decimal("1E+999")], ["0.0000001", "1000", "1E+999"]),
        ([Decimal("-1E-38"), Decimal("0E-8")], [f"-0.{'0' * 37}1", "0.00000000"]),
        (
            datetime(1880, 1, 1, tzinfo=ZoneInfo("America/New_York")),
            "1880-01-01T04:56:02+00:00",
        ),  # local mean time
        (
            {"x": [datetime(1890, 1, 1, tzinfo=ZoneInfo("Europe/Berlin"))]},
            {"x": ["1889-12-31T23:06:32+00:00"]},
        ),
        (datetime(2024, 1, 1, tzinfo=ZoneInfo("America/New_York")), "2024-01-01T00:00:00-05:00"),
        (Decimal("NaN"), "NaN"),
        ([Decimal("-Infinity"), Decimal("sNaN")], ["-Infinity", "NaN"]),
        (datetime(2024, 1, 2, 3, 4, 5), "2024-01-02T03:04:05"),
        (datetime(2024, 1, 2, tzinfo=UTC), "2024-01-02T00:00:00+00:00"),
        (date(2024, 1, 2), "2024-01-02"),
        (time(3, 4), "03:04:00"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Colour.RED, "red"),
        ((1, 2), [1, 2]),
    ],
)
def test_values_that_json_cannot_hold_have_one_rule_each(value, written):
    data, count, refused = encode("ndjson", [{"v": value}])
    assert (lines(data), count, refused) == ([{"v": written}], 1, [])


@pytest.mark.parametrize(
    "value",
    [{1, 2}, object(), {"x": {3: 4}}, "\ud800", datetime(1, 1, 1, tzinfo=timezone(timedelta(seconds=90)))],
)
@pytest.mark.parametrize("name", ["ndjson", "ndjson.gz"])
def test_a_value_without_a_rule_is_refused_and_the_records_around_it_stay(name, value):
    data, count, refused = encode(name, [{"v": 1}, {"v": value}, {"v": 3}])
    text = gzip.decompress(data) if name.endswith("gz") else data
    assert [record["v"] for record in lines(text)] == [1, 3]
    assert count == 2
    assert len(refused) == 1


@given(
    st.lists(
        st.dictionaries(
            st.text(), st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
        )
    ),
    st.integers(1, 300),
)
def test_ndjson_gzip_holds_what_ndjson_holds(records, batch_bytes):
    plain, count, _ = encode("ndjson", records, batch_bytes=batch_bytes)
    packed, packed_count, _ = encode("ndjson.gz", records, batch_bytes=batch_bytes)
    assert gzip.decompress(packed) == plain
    assert count == packed_count


def parquet_rows(data):
    return pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()


def test_parquet_keeps_types_that_json_has_not():
    record = {"d": Decimal("1.50"), "b": b"x", "t": datetime(2024, 1, 2), "day": date(2024, 1, 2)}
    data, count, refused = encode("parquet", [record])
    assert (parquet_rows(data), count, refused) == ([record], 1, [])


def test_parquet_writes_long_integers_and_uuids_as_strings_and_empty_objects_as_null():
    data, _, refused = encode("parquet", [{"n": 2**70, "u": uuid.UUID(int=1), "e": {}}])
    assert refused == []
    assert parquet_rows(data) == [{"n": str(2**70), "u": str(uuid.UUID(int=1)), "e": None}]


def test_parquet_refuses_only_the_record_that_does_not_fit():
    data, count, refused = encode("parquet", [{"v": 1}, {"v": "text"}, {"v": 2.5}])
    assert [row["v"] for row in parquet_rows(data)] == [1.0, 2.5]
    assert count == 2
    assert [record for record, _ in refused] == [{"v": "text"}]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (date(2024, 1, 1), datetime(2024, 1, 1, 12)),
        (datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC)),
        (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1)),
        ([date(2024, 1, 1)], [datetime(2024, 1, 1, 12)]),
        ({"x": [date(2024, 1, 1)]}, {"x": [datetime(2024, 1, 1, 12)]}),
        (b"abc", "abc"),
        (1.5, True),
        ([1.5], [False]),
        (time(1), time(1, tzinfo=UTC)),
        (1.5, 2**53 + 1),
        (1.5, Decimal("0.12345678901234567890123")),
        (["abc"], [b"abc"]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("parts", [1, 2])
def test_parquet_refuses_a_value_of_which_it_would_lose_something(parts, first, second):
    # pyarrow makes of such pairs what the first one is, and says nothing.
    writer, refused = formats.make("parquet"), []
    for records in [[{"v": first}, {"v": second}]] if parts == 1 else [[{"v": first}], [{"v": second}]]:
        refused += encode("parquet", records, chosen=writer)[2]
    assert [repr(record) for record, _ in refused] == [repr({"v": second})]


def test_parquet_takes_a_whole_number_among_the_decimals_of_an_earlier_part():
    writer = formats.make("parquet")
    for value in (Decimal("1.5"), 1, 2):
        data, _, refused = encode("parquet", [{"v": value}], chosen=writer)
        assert (parquet_rows(data), refused) == ([{"v": value}], [])


def test_parquet_writes_what_has_an_offset_with_seconds():
    at = datetime(1890, 1, 1, tzinfo=timezone(timedelta(minutes=53, seconds=28)))
    data, _, _ = encode("parquet", [{"v": at}])
    assert parquet_rows(data) == [{"v": at}]


def test_parquet_begins_a_part_again_when_a_row_group_is_too_narrow():
    chosen = formats.make("parquet")
    text = "x" * 100_000
    records = [{"a": text} for _ in range(300)] + [{"a": text, "late": 0.5}]
    with pytest.raises(formats.SchemaWidened):
        encode("parquet", records, chosen=chosen)
    data, count, _ = encode("parquet", records, chosen=chosen)
    assert count == len(records)
    table = pyarrow.parquet.read_table(io.BytesIO(data))
    assert table.column("late").null_count == 300


EXPECTED = pyarrow.schema(
    [
        pyarrow.field("id", pyarrow.int64(), nullable=False),
        ("late", pyarrow.timestamp("us", tz="UTC")),
        ("price", pyarrow.decimal128(38, 9)),
        (
            "lines",
            pyarrow.list_(
                pyarrow.struct(
                    [pyarrow.field("sku", pyarrow.string(), nullable=False), ("n", pyarrow.int64())]
                )
            ),
        ),
        ("r", pyarrow.struct([pyarrow.field("x", pyarrow.int64(), nullable=False)])),
    ]
)


@pytest.mark.parametrize(
    "records",
    [
        [{"id": 1}],
        [{"id": 1, "late": None, "price": Decimal("1.5"), "lines": None, "r": None}, {"id": 2}],
        [
            {"id": 1, "lines": [{"sku": "a"}, {"sku": "b", "n": 1}], "r": {"x": 1}},
            {"id": 2, "lines": [], "r": None},
        ],
    ],
)
def test_parquet_begins_a_part_with_the_columns_that_it_is_told(records):
    chosen = formats.make("parquet")
    assert isinstance(chosen, formats.TakesSchema)
    chosen.expect(EXPECTED)
    data, count, refused = encode("parquet", records, chosen=chosen)
    table = pyarrow.parquet.read_table(io.BytesIO(data))
    assert (count, refused) == (len(records), [])
    assert table.schema.equals(
        EXPECTED.set(3, table.schema.field("lines"))
    )  # Parquet calls its elements "element"
    (element,) = [table.schema.field("lines").type.value_type]
    assert element == EXPECTED.field("lines").type.value_type
    assert [row["id"] for row in table.to_pylist()] == [record["id"] for record in records]


def test_parquet_takes_columns_that_it_was_not_told():
    chosen = formats.make("parquet")
    chosen.expect(EXPECTED)
    data, _, _ = encode("parquet", [{"id": 1, "new": "x"}], chosen=chosen)
    assert parquet_rows(data) == [
        {"id": 1, "late": None, "price": None, "lines": None, "r": None, "new": "x"}
    ]


def test_parquet_forgets_the_columns_of_other_parts_when_it_is_told_some():
    chosen = formats.make("parquet")
    encode("parquet", [{"old": 1}], chosen=chosen)
    chosen.expect(pyarrow.schema([("id", pyarrow.int64())]))
    data, _, _ = encode("parquet", [{"id": 1}], chosen=chosen)
    assert parquet_rows(data) == [{"id": 1}]


def test_parquet_that_begins_a_part_again_knows_the_wider_schema_and_what_it_is_told():
    chosen = formats.make("parquet")
    text = "x" * 100_000
    records = [{"id": 1, "a": text} for _ in range(300)] + [{"id": 2, "a": text, "more": 0.5}]
    chosen.expect(EXPECTED)
    with pytest.raises(formats.SchemaWidened):
        encode("parquet", records, chosen=chosen)
    chosen.expect(EXPECTED)
    data, count, _ = encode("parquet", records, chosen=chosen)
    schema = pyarrow.parquet.read_schema(io.BytesIO(data))
    assert count == len(records)
    assert schema.field("more").type == pyarrow.float64()
    assert not schema.field("id").nullable
    assert schema.field("late").type == EXPECTED.field("late").type


@pytest.mark.parametrize("name", formats.FORMATS)
def test_a_part_without_records_counts_none(name):
    assert encode(name, [])[1] == 0


@pytest.mark.parametrize("name", formats.FORMATS)
def test_what_the_records_raise_passes_through(name):
    def records():
        yield {"v": 1}
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        encode(name, records())


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("job.ndjson", "ndjson"),
        ("job.NDJSON.GZ", "ndjson.gz"),
        ("a.b/job.parquet", "parquet"),
        ("out.d/job", "ndjson"),
        ("", "ndjson"),
    ],
)
def test_the_suffix_of_the_path_names_the_format(path, name):
    assert formats.name_for(path) == name


@pytest.mark.parametrize("path", ["out/job.csv", "job.2024"])
def test_a_suffix_that_stands_for_no_format_is_not_taken_for_one(path):
    with pytest.raises(ConfigError, match=r"format: missing.*\.ndjson\.gz"):
        formats.name_for(path)


def test_an_unknown_format_is_named_with_those_there_are():
    with pytest.raises(ConfigError, match=r"one of ndjson, ndjson\.gz, parquet, found 'avro'"):
        formats.make("avro")


def test_an_object_that_lacks_a_field_of_nulls_is_written_to_parquet():
    """What pyarrow 26 makes of it is damaged by a cast to its own type."""
    rows = [{"a": [{}, {"b": None}]}]
    output = bytearray()
    *_, _ = formats.make("parquet").encode(iter(rows), output.extend, lambda *_refused: None, 4096)
    assert pyarrow.parquet.read_table(io.BytesIO(bytes(output))).num_rows == 1
