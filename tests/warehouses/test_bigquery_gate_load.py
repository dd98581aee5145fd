"""What the gate lets through is loaded by a BigQuery server, with the values that were meant."""

import io
from datetime import UTC, date, datetime, time
from decimal import Decimal

import pytest
from google.cloud import bigquery

from etl import formats
from etl.warehouses.bigquery.gate import RecordGate
from etl.warehouses.bigquery.schema import declared, to_api
from tests.google import LOCATION, PROJECT, TIMEOUT

SCHEMA = {
    "id": "INTEGER REQUIRED",
    "large": "INTEGER",
    "text": "INTEGER",
    "f": "FLOAT",
    "n": "NUMERIC",
    "tiny": "NUMERIC",
    "big": "BIGNUMERIC",
    "b": "BOOLEAN",
    "s": "STRING(20)",
    "y": "BYTES",
    "at": "TIMESTAMP",
    "at_text": "TIMESTAMP",
    "d": "DATE",
    "l": "DATETIME",
    "l_text": "DATETIME",
    "c": "TIME",
    "tags": "STRING REPEATED",
    "r": {"x": "FLOAT", "lines": [{"sku": "STRING"}]},
    "none": "DATE",
}
RECORDS = [
    {
        "ID": 1,
        "large": 2**63 - 1,
        "text": "-9007199254740993",
        "f": 2**60,
        "n": 9.99,
        "tiny": Decimal("1E-7"),
        "big": 2**40,
        "b": "no",
        "s": Decimal("1.50"),
        "y": b"\x00\xff",
        "at": datetime(2024, 1, 31, 12, 0, 0, 123456, tzinfo=UTC),
        "at_text": "2024-01-31 12:00:00.5+01:00",
        "d": "2024-02-29",
        "l": datetime(2024, 1, 31, 12),
        "l_text": "2024-01-31 12:00:00.25",
        "c": "23:59:59.5",
        "tags": ("a", "b"),
        "r": {"x": 1, "lines": [{"SKU": "q"}, {}], "new": True},
        "found": Decimal("0.5"),
        "empty": {},
    },
    {"id": 2, "n": None, "tags": None, "r": {}, "found": 3},
]
LOADED = [
    {
        "id": 1,
        "large": 2**63 - 1,
        "text": -(2**53) - 1,
        "f": float(2**60),
        "n": Decimal("9.99"),
        "tiny": Decimal("0.0000001"),
        "big": Decimal(2**40),
        "b": False,
        "s": "1.50",
        "y": b"\x00\xff",
        "at": datetime(2024, 1, 31, 12, 0, 0, 123456, tzinfo=UTC),
        "at_text": datetime(2024, 1, 31, 11, 0, 0, 500_000, tzinfo=UTC),
        "d": date(2024, 2, 29),
        "l": datetime(2024, 1, 31, 12),
        "l_text": datetime(2024, 1, 31, 12, 0, 0, 250_000),
        "c": time(23, 59, 59, 500_000),
        "tags": ["a", "b"],
        "r": {"x": 1.0, "lines": [{"sku": "q"}, {"sku": None}], "new": True},
        "none": None,
        "found": Decimal("0.5"),
    },
    {"id": 2, "found": Decimal(3)},
]


SOURCE_FORMATS = {"ndjson": "NEWLINE_DELIMITED_JSON", "parquet": "PARQUET"}

# What the server cannot do and BigQuery can: bytes out of Parquet.
NOT_HERE = {"ndjson": set(), "parquet": {"y"}}


def without(names, row):
    return {key: value for key, value in row.items() if key not in names}


@pytest.mark.parametrize("name", SOURCE_FORMATS)
def test_values_arrive_as_they_were_meant(google_servers, name):
    gate = RecordGate(declared(without(NOT_HERE[name], SCHEMA)), format=name)
    chosen = formats.make(name)
    if isinstance(chosen, formats.TakesSchema):
        chosen.expect(gate.arrow_schema())
    data = bytearray()
    admitted = (gate.admit(without(NOT_HERE[name], record)) for record in RECORDS)
    *_, count = chosen.encode(admitted, data.extend, pytest.fail, 4096)
    config = bigquery.LoadJobConfig(
        schema=[bigquery.SchemaField.from_api_repr(field) for field in to_api(gate.columns)],
        source_format=SOURCE_FORMATS[name],
        autodetect=False,
    )
    if name == "parquet":
        config.parquet_options = bigquery.ParquetOptions()
        config.parquet_options.enable_list_inference = True
    client = google_servers.bigquery_client()
    table = f"{PROJECT}.{google_servers.new_dataset()}.t"
    job = client.load_table_from_file(
        io.BytesIO(data), table, job_config=config, location=LOCATION, timeout=TIMEOUT
    )
    assert job.result(timeout=TIMEOUT).output_rows == count == 2
    rows = [dict(row) for row in client.list_rows(table, timeout=TIMEOUT)]
    client.close()
    for row, expected in zip(sorted(rows, key=lambda row: row["id"]), LOADED, strict=True):
        expected = without(NOT_HERE[name], expected)
        assert {key: row[key] for key in expected} == expected
