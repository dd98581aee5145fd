"""Parquet's own types: what they are in records, in parts of both kinds, and in both warehouses.

The types are those of Arrow's columnar format that Parquet holds (parquet-format, LogicalTypes.md; Arrow's
documentation, "Reading and Writing the Apache Parquet Format", data types). ARCHITECTURE.md has what becomes of them.
"""

from __future__ import annotations

import datetime as dt
import math
import tempfile
import uuid
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pulling import assert_resumes_everywhere, taken

import etl
from etl.errors import SchemaMismatch
from etl.field_types import FieldType, common
from etl.schemas.types import shown
from etl.sources import Files
from etl.sources.parquet_types import field_types
from etl.warehouses.base import Misfit
from etl.warehouses.bigquery.gate import RecordGate

UTC = dt.UTC
WIDE = Context(prec=80)

# Arrow's type, a value as Arrow takes it, the type in DuckDB, the type in BigQuery.
TYPES: dict[str, tuple[pa.DataType, Any, str, str]] = {
    "bool": (pa.bool_(), True, "BOOLEAN", "BOOLEAN"),
    "int8": (pa.int8(), -7, "BIGINT", "INTEGER"),
    "int64": (pa.int64(), -(2**63), "BIGINT", "INTEGER"),
    "uint32": (pa.uint32(), 2**32 - 1, "BIGINT", "INTEGER"),
    "uint64": (pa.uint64(), 2**64 - 1, "UBIGINT", "NUMERIC(20, 0)"),
    "float16": (pa.float16(), 1.5, "DOUBLE", "FLOAT"),
    "float": (pa.float32(), math.inf, "DOUBLE", "FLOAT"),
    "double": (pa.float64(), 0.1, "DOUBLE", "FLOAT"),
    "decimal(9,2)": (pa.decimal128(9, 2), Decimal("12.50"), "DECIMAL(9,2)", "NUMERIC(9, 2)"),
    "decimal(38,38)": (pa.decimal128(38, 38), Decimal("-1E-38"), "DECIMAL(38,38)", "BIGNUMERIC(38, 38)"),
    "decimal(38,10)": (pa.decimal128(38, 10), Decimal("1.5"), "DECIMAL(38,10)", "BIGNUMERIC(38, 10)"),
    "decimal256": (pa.decimal256(60, 25), Decimal("1.5"), "VARCHAR", "BIGNUMERIC(60, 25)"),
    "decimal, large": (pa.decimal256(76, 1), Decimal("1.5"), "VARCHAR", "STRING"),
    "date32": (pa.date32(), dt.date(2024, 2, 29), "DATE", "DATE"),
    "date64": (pa.date64(), dt.date(2024, 2, 29), "DATE", "DATE"),
    "time32": (pa.time32("ms"), dt.time(1, 2, 3, 4000), "TIME", "TIME"),
    "time64[us]": (pa.time64("us"), dt.time(1, 2, 3, 4), "TIME", "TIME"),
    "time64[us], 10 ms": (pa.time64("us"), dt.time(0, 0, 0, 10_000), "TIME", "TIME"),
    "time64[ns]": (pa.time64("ns"), dt.time(1, 2, 3, 4), "TIME_NS", "TIME"),
    "timestamp[ms]": (pa.timestamp("ms"), dt.datetime(2024, 1, 1, 12), "TIMESTAMP", "DATETIME"),
    "timestamp[us]": (pa.timestamp("us"), dt.datetime(1, 1, 1, 0, 0, 0, 1), "TIMESTAMP", "DATETIME"),
    "timestamp[ns]": (pa.timestamp("ns"), dt.datetime(2024, 1, 1, 12), "TIMESTAMP_NS", "DATETIME"),
    "timestamp[us, UTC]": (
        pa.timestamp("us", "UTC"),
        dt.datetime(2024, 1, 1, tzinfo=UTC),
        "TIMESTAMP WITH TIME ZONE",
        "TIMESTAMP",
    ),
    "timestamp[us, Berlin]": (
        pa.timestamp("us", "Europe/Berlin"),
        dt.datetime(2024, 7, 1, tzinfo=UTC),
        "TIMESTAMP WITH TIME ZONE",
        "TIMESTAMP",
    ),
    "duration": (pa.duration("us"), dt.timedelta(days=-1, microseconds=5), "INTERVAL", "INTERVAL"),
    "string": (pa.string(), "2024-01-01", "VARCHAR", "STRING"),
    "large_string": (pa.large_string(), "7", "VARCHAR", "STRING"),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), "x", "VARCHAR", "STRING"),
    "binary": (pa.binary(), b"\x00\xff", "BLOB", "BYTES"),
    "fixed binary": (pa.binary(2), b"ab", "BLOB", "BYTES"),
    "uuid": (pa.uuid(), uuid.UUID(int=7).bytes, "UUID", "STRING"),
    "list": (pa.list_(pa.decimal128(5, 2)), [Decimal("1.10")], "DECIMAL(5,2)[]", "NUMERIC(5, 2) REPEATED"),
    "large_list": (pa.large_list(pa.date32()), [dt.date(2024, 1, 1)], "DATE[]", "DATE REPEATED"),
    "struct": (
        pa.struct([("d", pa.date32()), ("s", pa.string())]),
        {"d": dt.date(2024, 1, 1), "s": "2024-01-01"},
        "STRUCT(d DATE, s VARCHAR)",
        "RECORD(d DATE, s STRING)",
    ),
    "map": (
        pa.map_(pa.string(), pa.decimal128(5, 2)),
        [("a", Decimal("1.10")), ("a", None)],
        'STRUCT("key" VARCHAR, "value" DECIMAL(5,2))[]',
        "RECORD REPEATED(key STRING, value NUMERIC(5, 2))",
    ),
}
TOO_LARGE_FOR_PARQUET_PARTS = {"decimal256", "decimal, large"}


def load(
    directory: Path, *tables: pa.Table, format: str = "ndjson", part_records: int | None = None, **job: Any
) -> Any:
    """Load tables, each a file, through parts into DuckDB; return the table there."""
    for number, table in enumerate(tables):
        pq.write_table(table, directory / f"in{number}.parquet", row_group_size=2)
    etl.Pipeline(
        "j",
        source=Files(directory / "in*.parquet"),
        sink={"type": "reused_file", "path": directory / f"part.{format}"},
        warehouse={"type": "duckdb", "path": directory / "w.duckdb", "table": "t"},
        checkpoint=directory / "j.json",
        part_records=part_records,
        **job,
    ).run(handle_signals=False)
    with duckdb.connect(str(directory / "w.duckdb")) as warehouse:
        types = {name: type_ for name, type_, *_ in warehouse.execute("DESCRIBE t").fetchall()}
        return types, warehouse.sql("SELECT * FROM t ORDER BY rowid").to_arrow_table()


def same(found: pa.ChunkedArray, given: pa.ChunkedArray) -> bool:
    """Say whether columns hold the same values, nanoseconds, durations and maps among them."""
    return repr(comparable(found)) == repr(comparable(given))


def comparable(column: pa.ChunkedArray) -> list[Any]:
    type_ = column.type
    if pa.types.is_timestamp(type_) or pa.types.is_time(type_):
        zone = getattr(type_, "tz", None)
        exact = (
            pa.time64("ns")
            if pa.types.is_time(type_)
            else pa.timestamp("us" if zone else type_.unit, zone and "UTC")
        )
        exact = (
            exact if pa.types.is_time(type_) or zone else pa.timestamp("us" if type_.unit != "ns" else "ns")
        )
        return column.cast(exact).cast(pa.int64()).to_pylist()
    return [normal(value) for value in column.to_pylist()]


def normal(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: normal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [normal(item) for item in value]
    if isinstance(value, tuple):  # of a map, or an interval of DuckDB
        if hasattr(value, "nanoseconds"):
            return dt.timedelta(days=value.days, microseconds=value.nanoseconds // 1000)
        return dict(zip(("key", "value"), map(normal, value), strict=True))
    if isinstance(value, uuid.UUID):  # DuckDB hands it to Arrow as text
        return str(value)
    if isinstance(value, Decimal):
        return value.normalize(WIDE)
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).replace(tzinfo=None)
    return value


@pytest.mark.parametrize("format", ["ndjson", "parquet"])
def test_each_type_has_one_in_duckdb(tmp_path: Path, format: str) -> None:
    names = [name for name in TYPES if format == "ndjson" or name not in TOO_LARGE_FOR_PARQUET_PARTS]
    given = pa.table({name: pa.array([None, TYPES[name][1]], TYPES[name][0]) for name in names})
    types, found = load(tmp_path, given, format=format, part_records=1)
    assert types == {name: TYPES[name][2] for name in names}
    for name in names:
        column = found.column(name)
        if types[name] == "VARCHAR" and name.startswith("decimal"):
            assert [value and Decimal(value) for value in column.to_pylist()] == given.column(
                name
            ).to_pylist()
        else:
            assert same(column, given.column(name)), name


@pytest.mark.parametrize("format", ["ndjson", "parquet"])
def test_each_type_has_one_in_bigquery(tmp_path: Path, format: str) -> None:
    names = [name for name in TYPES if format == "ndjson" or name != "duration"]
    table = pa.table({name: pa.array([TYPES[name][1], None], TYPES[name][0]) for name in names})
    pq.write_table(table, tmp_path / "a.parquet")
    source = Files(tmp_path / "a.parquet")
    gate = RecordGate((), format=format)
    gate.expect_types(source.field_types)
    for record in taken(source):
        gate.admit(record)
    found = {column.field or column.name: written(column) for column in gate.columns}
    assert found == {name: TYPES[name][3] for name in names}


def written(column: Any) -> str:
    fields = ", ".join(f"{field.name} {written(field)}" for field in column.fields)
    return f"{shown(column)}({fields})" if fields else shown(column)


@pytest.mark.parametrize("format", ["ndjson", "parquet"])
@pytest.mark.parametrize("part_records", [None, 1])
def test_nanoseconds_are_kept(tmp_path: Path, format: str, part_records: int | None) -> None:
    given = pa.table(
        {
            "at": pa.array([1_001, 2_000, None, 3], pa.timestamp("ns")),
            "clock": pa.array([1, None, 1_000, 86_399_999_999_999], pa.time64("ns")),
        }
    )
    _, found = load(tmp_path, given, format=format, part_records=part_records)
    assert all(same(found.column(name), given.column(name)) for name in given.column_names)


@pytest.mark.parametrize(
    ("type_", "number"),
    [
        (pa.time32("s"), 86_400),
        (pa.time64("us"), -1),
        (pa.time64("ns"), 86_400_000_000_000),
        (pa.list_(pa.time64("us")), [1, 86_400_000_000]),
        (pa.struct([("t", pa.time32("ms"))]), {"t": 86_400_000}),
        (pa.map_(pa.string(), pa.time64("us")), [("a", 86_400_000_000)]),
    ],
    ids=str,
)
def test_a_time_that_is_none_is_refused_with_its_row(tmp_path: Path, type_: pa.DataType, number: Any) -> None:
    # DuckDB writes its TIME '24:00:00' so, and pyarrow reads it as 0:00 (parquet-format: "after midnight").
    pq.write_table(pa.table({"v": pa.array([None, number], type_)}), tmp_path / "a.parquet")
    first, second = taken(Files(tmp_path / "a.parquet"))
    assert first == {"v": None}
    assert "row 2: a value that Python cannot hold (ValueError: a time that is not within a day)" in str(
        second
    )


def test_moments_before_time_zones_are_the_same_instants(tmp_path: Path) -> None:
    moments = [dt.datetime(1890, 1, 1, tzinfo=UTC), dt.datetime(2024, 7, 1, tzinfo=UTC)]
    for zone in ("Europe/Berlin", "America/New_York", "Africa/Monrovia"):  # RFC 9557 names such offsets
        directory = tmp_path / zone.partition("/")[2]
        directory.mkdir()
        given = pa.table({"v": pa.array(moments, pa.timestamp("us", zone))})
        _, found = load(directory, given)
        assert same(found.column("v"), given.column("v")), zone


def test_text_is_no_date_because_it_looks_like_one(tmp_path: Path) -> None:
    types, _ = load(tmp_path, pa.table({"s": ["2024-01-01"], "n": [{"s": "2024-01-01"}]}))
    assert types == {"s": "VARCHAR", "n": "STRUCT(s VARCHAR)"}


@pytest.mark.parametrize("format", ["ndjson", "parquet"])
def test_a_second_file_with_wider_decimals_is_taken_exactly_or_refused_by_name(
    tmp_path: Path, format: str
) -> None:
    narrow = pa.table({"v": pa.array([Decimal("12.50")], pa.decimal128(9, 2))})
    fits = pa.table({"v": pa.array([Decimal("1234.5000")], pa.decimal128(12, 4))})
    types, found = load(tmp_path, narrow, fits, format=format)
    assert (types["v"], found.column("v").to_pylist()) == (
        "DECIMAL(12,4)",
        [Decimal("12.5"), Decimal("1234.5")],
    )
    (tmp_path / "w.duckdb").unlink()
    (tmp_path / "j.json").unlink()
    more = pa.table({"v": pa.array([Decimal("1.2345")], pa.decimal128(12, 4))})
    with pytest.raises(SchemaMismatch, match=r"of column v does not fit the column's type, DECIMAL\(9,2\)"):
        load(tmp_path, narrow, more, format=format, part_records=1)


def test_decimals_that_duckdb_reads_as_floats_are_refused_in_parts_of_parquet(tmp_path: Path) -> None:
    table = pa.table({"v": pa.array([Decimal("1.5")], pa.decimal256(50, 2))})
    with pytest.raises(
        SchemaMismatch, match=r"'v' holds decimals of more than 38 digits.*format = \"ndjson\.gz\""
    ):
        load(tmp_path, table, format="parquet")


@pytest.mark.parametrize("format", ["ndjson", "parquet"])
@pytest.mark.parametrize(
    ("change", "type_", "value"),
    [
        (str, "VARCHAR", "12.50"),
        (float, "DOUBLE", 12.5),
        (lambda value: value * 1000, None, Decimal("12500.00")),
        (lambda value: value * Decimal("0.001"), None, Decimal("0.01250")),
        (lambda value: [value], None, [Decimal("12.50")]),
    ],
)
def test_what_a_transform_made_of_a_value_has_its_own_type(
    tmp_path: Path, format: str, change: Any, type_: str | None, value: Any
) -> None:
    table = pa.table({"v": pa.array([Decimal("12.50")], pa.decimal128(5, 2))})
    changed = etl.each(lambda record: {"v": change(record["v"])})
    types, found = load(tmp_path, table, format=format, transforms=[changed])
    stored = found.column("v").to_pylist()[0]
    assert type_ is None or types["v"] == type_
    assert str(stored).replace("['", "[Decimal('").replace("']", "')]") == str(value) or stored == value


@pytest.mark.parametrize("format", ["ndjson", "parquet"])
def test_a_field_keeps_its_type_under_another_name(tmp_path: Path, format: str) -> None:
    table = pa.table(
        {
            "a": pa.array([Decimal("12.50")], pa.decimal128(9, 2)),
            "b": pa.array([1], pa.timestamp("ns")),
            "c": pa.array(["2024-01-01"]),
            "d": pa.array([7], pa.uint64()),
        }
    )
    changes = [etl.rename({"a": "b", "b": "c", "c": "a"}), etl.cast({"d": "string"}), etl.rename({"a": "x"})]
    types, _ = load(tmp_path, table, format=format, transforms=changes)
    assert types == {"b": "DECIMAL(9,2)", "c": "TIMESTAMP_NS", "x": "VARCHAR", "d": "VARCHAR"}


def test_types_of_two_files_have_the_narrowest_in_common_that_holds_both() -> None:
    decimal = FieldType(name="decimal", precision=9, scale=2)
    wider = FieldType(name="decimal", precision=12, scale=4)
    assert common(decimal, FieldType(name="decimal", precision=5, scale=4)) == FieldType(
        name="decimal", precision=11, scale=4
    )
    assert common(FieldType(name="null"), decimal) == decimal == common(decimal, FieldType(name="null"))
    assert common(decimal, FieldType(name="string")) == FieldType(name="mixed")
    both = common(
        FieldType(name="record", fields={"a": decimal}), FieldType(name="record", fields={"a": wider})
    )
    assert both == FieldType(name="record", fields={"a": wider})


def test_a_gate_says_which_value_has_more_digits_than_its_column() -> None:
    gate = RecordGate((), format="ndjson")
    gate.expect_types(lambda: field_types([pa.field("v", pa.decimal128(5, 2))]))
    gate.admit({"v": Decimal("1.50")})
    with pytest.raises(
        Misfit, match=r"column v: NUMERIC\(5, 2\) takes 3 digits before the point and 2 after"
    ):
        gate.admit({"v": Decimal("1.505")})


# Any table that Parquet holds.

leaves: dict[str, Any] = {
    "bool": (pa.bool_(), st.booleans()),
    "int16": (pa.int16(), st.integers(-(2**15), 2**15 - 1)),
    "int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "uint8": (pa.uint8(), st.integers(0, 255)),
    "uint64": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "float": (pa.float32(), st.floats(width=32)),
    "double": (pa.float64(), st.floats()),
    "date": (pa.date32(), st.dates()),
    "time": (pa.time64("us"), st.times()),
    "datetime": (pa.timestamp("us"), st.datetimes()),
    "instant": (pa.timestamp("us", "UTC"), st.datetimes(dt.datetime(2, 1, 1), dt.datetime(9998, 1, 1))),
    "duration": (pa.duration("us"), st.timedeltas(dt.timedelta(-(10**6)), dt.timedelta(10**6))),
    "string": (pa.string(), st.text(st.characters(codec="utf-8"), max_size=5)),
    "binary": (pa.binary(), st.binary(max_size=5)),
}


@st.composite
def decimals(draw: Any) -> Any:
    precision = draw(st.integers(1, 38))
    scale = draw(st.integers(0, precision))
    return pa.decimal128(precision, scale), st.integers(-(10**precision) + 1, 10**precision - 1).map(
        lambda digits: Decimal(digits).scaleb(-scale, context=WIDE)
    )


def nested(inner: Any) -> Any:
    return (
        inner.map(lambda pair: (pa.list_(pair[0]), st.lists(st.none() | pair[1], max_size=3)))
        | st.tuples(inner, inner).map(
            lambda pairs: (
                pa.struct([("a", pairs[0][0]), ("B b", pairs[1][0])]),
                st.fixed_dictionaries({"a": st.none() | pairs[0][1], "B b": st.none() | pairs[1][1]}),
            )
        )
        | st.tuples(st.sampled_from(["int16", "string", "date"]).map(leaves.__getitem__), inner).map(
            lambda pairs: (
                pa.map_(pairs[0][0], pairs[1][0]),
                st.lists(st.tuples(pairs[0][1], st.none() | pairs[1][1]), max_size=3),
            )
        )
    )


column_types = st.recursive(
    st.sampled_from(sorted(leaves)).map(leaves.__getitem__) | decimals(), nested, max_leaves=3
)


@st.composite
def tables(draw: Any) -> pa.Table:
    columns = draw(st.lists(column_types, min_size=1, max_size=4))
    rows = draw(st.integers(1, 5))
    return pa.table(
        {
            f"c{number}": pa.array(draw(st.lists(st.none() | values, min_size=rows, max_size=rows)), type_)
            for number, (type_, values) in enumerate(columns)
        }
    )


def in_duckdb(type_: pa.DataType) -> str:
    """Return the type that the table of ARCHITECTURE.md has for one of Arrow's."""
    if pa.types.is_decimal(type_):
        return f"DECIMAL({type_.precision},{type_.scale})"
    if pa.types.is_map(type_):
        return f'STRUCT("key" {in_duckdb(type_.key_type)}, "value" {in_duckdb(type_.item_type)})[]'
    if pa.types.is_struct(type_):
        return f'STRUCT(a {in_duckdb(type_.field(0).type)}, "B b" {in_duckdb(type_.field(1).type)})'
    if pa.types.is_list(type_):
        return f"{in_duckdb(type_.value_type)}[]"
    plain = {row[0]: row[2] for row in TYPES.values()} | {pa.int16(): "BIGINT", pa.uint8(): "BIGINT"}
    return plain[type_]


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    table=tables(), format=st.sampled_from(["ndjson", "parquet"]), part_records=st.sampled_from([None, 1, 2])
)
def test_any_table_of_parquet_comes_out_as_it_is(
    table: pa.Table, format: str, part_records: int | None
) -> None:
    with tempfile.TemporaryDirectory() as name:
        types, found = load(Path(name), table, format=format, part_records=part_records)
        assert_resumes_everywhere(Files(Path(name) / "in0.parquet"))
    assert types == {field.name: in_duckdb(field.type) for field in table.schema}
    for column in table.column_names:
        assert same(found.column(column), table.column(column)), (found.column(column), table.column(column))
