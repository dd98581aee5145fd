"""The borders of BigQuery's types: the last value that fits is let through, the first that does not is refused by name.

The ranges are those of BigQuery's documentation, "Data types".
"""

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import pytest

from etl.errors import WarehouseError
from etl.formats import Ndjson, NdjsonGzip
from etl.warehouses.base import Misfit
from etl.warehouses.bigquery.gate import RecordGate
from etl.warehouses.bigquery.schema import declared, from_api, known, to_api

BIGNUMERIC_MOST = Decimal("578960446186580977117854925043439539266.34992332820282019728792003956564819967")
BIGNUMERIC_LEAST = Decimal("-578960446186580977117854925043439539266.34992332820282019728792003956564819968")
STEP = Decimal("1e-38")


def written(schema, value, *, format="ndjson"):
    return RecordGate(declared({"v": schema}), format=format).admit({"v": value})["v"]


def of_picoseconds(value, *, format="ndjson"):
    columns = from_api([{"name": "v", "type": "TIMESTAMP", "timestampPrecision": "12"}], "p.d.t")
    return RecordGate(columns, format=format).admit({"v": value})["v"]


def exact(number, step):
    """Add without the rounding of the context that the thread has."""
    import decimal

    with decimal.localcontext(prec=200):
        return number + step


FIT = [
    ("INTEGER", 2**63 - 1),
    ("INTEGER", -(2**63)),
    ("INTEGER", "9223372036854775807"),
    ("FLOAT", 1.7976931348623157e308),
    ("FLOAT", 5e-324),
    ("NUMERIC", Decimal("99999999999999999999999999999.999999999")),
    ("NUMERIC", Decimal("-99999999999999999999999999999.999999999")),
    ("NUMERIC", Decimal("0.000000001")),
    ("NUMERIC(5, 2)", Decimal("999.99")),
    ("NUMERIC(5, 2)", Decimal("-999.99")),
    ("NUMERIC(5, 2)", "1.120"),
    ("NUMERIC(9, 9)", Decimal("0.999999999")),
    ("NUMERIC(29)", 10**29 - 1),
    ("BIGNUMERIC", BIGNUMERIC_MOST),
    ("BIGNUMERIC", BIGNUMERIC_LEAST),
    ("BIGNUMERIC", int(BIGNUMERIC_MOST)),
    ("BIGNUMERIC", int(BIGNUMERIC_LEAST)),
    ("BIGNUMERIC", STEP),
    ("BIGNUMERIC(38)", 10**38 - 1),
    ("BIGNUMERIC(38, 38)", Decimal("0." + "9" * 38)),
    ("STRING(3)", "äöü"),
    ("STRING(3)", "\U0001f600" * 3),
    ("BYTES(3)", b"abc"),
    ("BYTES(3)", "YWJj"),
    ("DATE", date(1, 1, 1)),
    ("DATE", date(9999, 12, 31)),
    ("DATE", "0001-01-01"),
    ("DATE", "9999-12-31"),
    ("DATE", "2024-02-29"),
    ("DATETIME", datetime.min),
    ("DATETIME", datetime.max),
    ("DATETIME", "0001-01-01T00:00:00"),
    ("DATETIME", "9999-12-31 23:59:59.999999"),
    ("TIMESTAMP", datetime.min.replace(tzinfo=UTC)),
    ("TIMESTAMP", datetime.max.replace(tzinfo=UTC)),
    ("TIMESTAMP", "0001-01-01T00:00:00Z"),
    ("TIMESTAMP", "9999-12-31T23:59:59.999999Z"),
    ("TIMESTAMP", "9999-12-31T23:59:59.999999+14:00"),
    ("TIMESTAMP", "0001-01-01T00:00:00-14:00"),
    ("TIME", time(0)),
    ("TIME", time.max),
    ("TIME", "00:00:00"),
    ("TIME", "23:59:59.999999"),
    ("INTERVAL", "P10000Y0M3660000DT87840000H0M0S"),
    ("INTERVAL", "P-10000Y0M-3660000DT-87840000H0M0S"),
    ("INTERVAL", "P120000MT0S"),
    ("INTERVAL", "P0Y0M0DT0H0M0.000001S"),
    ("INTERVAL", "PT316224000000S"),
    ("INTERVAL", "P9999Y12MT0S"),
    ("GEOGRAPHY", "POINT(180 90)"),
    ("GEOGRAPHY", "POINT(-180 -90)"),
    ("GEOGRAPHY", "point empty"),
    ("GEOGRAPHY", "POLYGON((0 0, 2 2, 2 0, 0 0), (2 2, 3 4, 2 4, 2 2))"),
    ("GEOGRAPHY", "GEOMETRYCOLLECTION(MULTIPOINT(-1 2, 0 12), LINESTRING(-2 4, 0 6))"),
    ("GEOGRAPHY", "MULTIPOLYGON(((0 -1, 1 0, 1 1, 0 -1)), ((0 0, 2 2, 3 0, 0 0)))"),
    ("GEOGRAPHY", '{ "type": "Point", "coordinates": [1, 90] }'),
    ("GEOGRAPHY", '{"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [1, 2]}]}'),
    ("GEOGRAPHY", "0101000000feffffffffffef3f0000000000000040"),
]


@pytest.mark.parametrize(("schema", "value"), FIT, ids=repr)
def test_the_last_value_that_fits_is_let_through_and_means_the_same(schema, value):
    found = written(schema, value)
    if "NUMERIC" in schema or schema == "INTEGER":
        found, value = Decimal(found), Decimal(value)
    assert found == value


DO_NOT = [
    ("INTEGER", 2**63, "INTEGER takes 64 bits"),
    ("INTEGER", -(2**63) - 1, "INTEGER takes 64 bits"),
    ("INTEGER", "9223372036854775808", "INTEGER takes 64 bits"),
    ("FLOAT", 2**1024, "FLOAT would lose digits"),
    ("FLOAT", "1e-400", "FLOAT would lose digits"),
    ("NUMERIC", Decimal("1e29"), "NUMERIC takes 29 digits before the point and 9 after it"),
    ("NUMERIC", Decimal("1e-10"), "NUMERIC takes 29 digits before the point and 9 after it"),
    ("NUMERIC(5, 2)", Decimal(1000), "takes 3 digits before the point and 2 after it"),
    # BigQuery would round it, half away from zero or half to even: by the column's rounding mode.
    ("NUMERIC(5, 2)", Decimal("1.125"), "takes 3 digits before the point and 2 after it"),
    ("NUMERIC(5, 2)", Decimal("999.999"), "takes 3 digits before the point and 2 after it"),
    ("NUMERIC(5, 2)", 1.005, "takes 3 digits before the point and 2 after it"),
    ("NUMERIC(29)", 10**29, "takes 29 digits before the point"),
    ("BIGNUMERIC", exact(BIGNUMERIC_MOST, STEP), "BIGNUMERIC takes 38 digits before the point"),
    ("BIGNUMERIC", exact(BIGNUMERIC_LEAST, -STEP), "BIGNUMERIC takes 38 digits before the point"),
    ("BIGNUMERIC", int(BIGNUMERIC_MOST) + 1, "BIGNUMERIC takes 38 digits before the point"),
    ("BIGNUMERIC", int(BIGNUMERIC_LEAST) - 1, "BIGNUMERIC takes 38 digits before the point"),
    ("BIGNUMERIC", Decimal("1e-39"), "BIGNUMERIC takes 38 digits before the point and 38 after it"),
    ("BIGNUMERIC(38)", 10**38, "takes 38 digits before the point"),
    ("STRING(3)", "äöüß", r"STRING\(3\) takes 3 characters, found 4"),
    ("BYTES(3)", b"abcd", r"BYTES\(3\) takes 3 bytes, found 4"),
    ("BYTES(3)", "YWJjZA==", r"BYTES\(3\) takes 3 bytes, found 4"),
    ("DATE", "0000-12-31", "the calendar has no such day"),
    ("DATE", "10000-01-01", "DATE takes text such as"),
    ("DATE", "2023-02-29", "the calendar has no such day"),
    ("DATETIME", "0000-12-31T23:59:59.999999", "the calendar has no such day"),
    ("DATETIME", "10000-01-01T00:00:00", "DATETIME takes text such as"),
    ("DATETIME", "2024-01-31T12:00:00.1234567", "it keeps 6 digits of a second"),
    ("DATETIME", "2016-12-31T23:59:60", "it has no second 60"),
    ("DATETIME", "2024-01-31T24:00:00", "a day ends before 24:00"),
    ("TIMESTAMP", "0000-12-31T23:59:59Z", "the calendar has no such day"),
    ("TIMESTAMP", "9999-12-31T23:59:59.999999-00:01", "TIMESTAMP takes the years 1 to 9999 in UTC"),
    ("TIMESTAMP", "0001-01-01T00:00:00+00:01", "TIMESTAMP takes the years 1 to 9999 in UTC"),
    (
        "TIMESTAMP",
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
        "TIMESTAMP takes the years 1 to 9999",
    ),
    (
        "TIMESTAMP",
        datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
        "TIMESTAMP takes the years 1 to 9999",
    ),
    ("TIMESTAMP", "2024-01-31T12:00:00.1234567Z", "it keeps 6 digits of a second"),
    ("TIMESTAMP", "2016-12-31T23:59:60Z", "it has no second 60"),
    ("TIMESTAMP", "2024-01-31T24:00:00Z", "a day ends before 24:00"),
    ("TIMESTAMP", "2024-01-31T12:00:00+14:01", "TIMESTAMP takes text such as"),
    ("TIME", "24:00:00", "a day ends before 24:00"),
    ("TIME", "23:59:60", "it has no second 60"),
    ("TIME", "12:00:00.1234567", "it keeps 6 digits of a second"),
    ("INTERVAL", "P10000Y1MT0S", "INTERVAL takes 10,000 years"),
    ("INTERVAL", "P-120001MT0S", "INTERVAL takes 10,000 years"),
    ("INTERVAL", "P3660001DT0S", "INTERVAL takes 3,660,000 days"),
    ("INTERVAL", "PT87840000H0M0.000001S", "INTERVAL takes 87,840,000 hours"),
    ("INTERVAL", "PT-316224000001S", "INTERVAL takes 87,840,000 hours"),
    ("INTERVAL", "PT0.0000001S", "it keeps six digits of a second"),
    ("INTERVAL", "P1D", "INTERVAL takes text such as"),
    ("INTERVAL", "PT", "INTERVAL takes text such as"),
    ("INTERVAL", "10000-1 0 0:0:0", "INTERVAL takes 10,000 years"),
    ("INTERVAL", "0-0 3660001 0:0:0", "INTERVAL takes 3,660,000 days"),
    ("INTERVAL", "0-0 0 87840000:0:0.000001", "INTERVAL takes 87,840,000 hours"),
    ("INTERVAL", timedelta(days=3_660_001), "INTERVAL takes 3,660,000 days"),
    ("GEOGRAPHY", "POINT(0 90.0000001)", "latitudes from -90 to 90, found 90"),
    ("GEOGRAPHY", "LINESTRING(1 1, 2 -91)", "latitudes from -90 to 90, found -91"),
    ("GEOGRAPHY", "POINT(1 2", "GEOGRAPHY takes WKT"),
    ("GEOGRAPHY", "POLYGON((0 0, 2 2, 2 0, 0 0)", "this is not whole"),
    ("GEOGRAPHY", "CIRCULARSTRING(0 0, 1 1, 1 0)", "GEOGRAPHY takes WKT"),
    ("GEOGRAPHY", "Zurich", "GEOGRAPHY takes WKT"),
    ("GEOGRAPHY", '{"type": "Feature", "geometry": null}', "GeoJSON of a geometry"),
    ("GEOGRAPHY", '{"type": "Point", "coordinates": [1, 91]}', "latitudes from -90 to 90"),
    ("GEOGRAPHY", '{"type": "Point", "coordinates": [1]}', "longitude and latitude"),
    ("GEOGRAPHY", '{"type": "Point"', "this is no JSON"),
    ("GEOGRAPHY", "0101000000feffffffffffef3f000000000000004", "GEOGRAPHY takes WKT"),
]


@pytest.mark.parametrize(("schema", "value", "said"), DO_NOT, ids=repr)
def test_the_first_value_that_does_not_fit_is_refused_by_name(schema, value, said):
    with pytest.raises(Misfit, match=f"^column v: .*{said}"):
        written(schema, value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1-2 3 4:5:6.5", "P1Y2M3DT4H5M6.5S"),
        ("-1-2 -3 -4:05:06", "P-1Y-2M-3DT-4H-5M-6S"),
        ("+0-0 +1 +0:0:0.000001", "P0Y0M1DT0H0M0.000001S"),
        ("-10000-0 -3660000 -87840000:0:0", "P-10000Y-0M-3660000DT-87840000H-0M-0S"),
        ("P1DT", "P1DT0S"),
        (timedelta(days=3_660_000, hours=23), "P3660000DT23H0M0S"),
        (-timedelta(days=3_660_000), "P-3660000DT-0H-0M-0S"),
    ],
)
def test_an_interval_is_written_as_a_load_reads_it(value, text):
    assert written("INTERVAL", value) == text


@pytest.mark.parametrize(
    "value",
    ["2024-01-31T12:00:00.123456789012Z", "2024/01/31 12:00:00.1+01:00", "9999-12-31 23:59:59.999999999999"],
)
def test_a_timestamp_of_picoseconds_takes_twelve_digits(value):
    assert of_picoseconds(value) == value


@pytest.mark.parametrize("format", ["ndjson", "parquet"])
def test_a_timestamp_of_picoseconds_takes_no_more_digits_than_its_format_has(format):
    value = "2024-01-31T12:00:00.1234567890123Z" if format == "ndjson" else "2024-01-31T12:00:00.1234567Z"
    digits = 12 if format == "ndjson" else 6
    with pytest.raises(Misfit, match=f"it keeps {digits} digits of a second"):
        of_picoseconds(value, format=format)


def test_the_precision_of_a_timestamp_is_the_tables_in_every_load():
    api = [{"name": "v", "type": "TIMESTAMP", "mode": "NULLABLE", "timestampPrecision": 12}]
    columns = from_api(api, "p.d.t")
    assert (
        to_api(known(table=columns, declared=declared({"v": "TIMESTAMP"}), pinned=columns, name="p.d.t"))[0][
            "timestampPrecision"
        ]
        == 12
    )


def test_a_bignumeric_in_parquet_has_76_digits():
    with pytest.raises(Misfit, match="BIGNUMERIC takes 38 digits before the point"):
        written("BIGNUMERIC", BIGNUMERIC_MOST, format="parquet")
    assert written("BIGNUMERIC", Decimal("9" * 38 + "." + "9" * 38), format="parquet")


def test_a_range_cannot_be_loaded_and_says_so_by_name():
    with pytest.raises(WarehouseError, match="column v is of type RANGE, which cannot be loaded"):
        from_api([{"name": "v", "type": "RANGE", "rangeElementType": {"type": "DATE"}}], "p.d.t")


@pytest.mark.parametrize("value", [2**64 - 1, -(2**63), 0.1, "x" * 1000, None, [1, None, "a"], {"a": {}}])
def test_a_column_of_json_takes_what_json_has(value):
    assert RecordGate(declared({"v": "JSON"}), format="ndjson").admit({"v": value}) == {"v": value}


@pytest.mark.parametrize("levels", [254, 600])
@pytest.mark.parametrize("encode", [Ndjson, NdjsonGzip])
def test_json_that_is_nested_deeper_than_it_can_be_written_is_refused_by_name(encode, levels):
    value = {}
    for _ in range(levels):
        value = {"d": value}
    refused = []
    list(encode().encode(iter([{"v": value}]), lambda _: None, lambda _, why: refused.append(why), 1 << 20))
    assert refused == ["it is nested in more than 250 levels: cut it, or make text of it"]
