"""Parquet, by row groups."""

from __future__ import annotations

import datetime
import gzip
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pulling import assert_resumes_everywhere, pull, taken, write

from etl.errors import SourceChanged, SourceError
from etl.records import Mark
from etl.sources import Files, parquet

RECORDS: list[Any] = [
    {
        "n": number,
        "text": f"é{number}" if number % 3 else None,
        "at": datetime.datetime(2013, 1, 1, 5, number % 60, tzinfo=datetime.UTC),
        "price": Decimal("1.10") * number,
        "nested": {"list": list(range(number % 3))},
    }
    for number in range(1_000)
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(RECORDS), tmp_path / "a.parquet", row_group_size=150)
    return tmp_path / "a.parquet"


def test_rows_are_read_as_pyarrow_makes_them(path: Path) -> None:
    assert taken(Files(path)) == RECORDS


def test_the_format_is_told_by_content(path: Path) -> None:
    assert taken(Files(path.rename(path.with_name("data")))) == RECORDS


def test_there_is_a_mark_after_each_row_group_and_a_pull_goes_on_there(path: Path) -> None:
    marks = [item.cursor for item in pull(Files(path)) if isinstance(item, Mark)]
    assert [mark.get("row_group", 0) for mark in marks] == [0, 1, 2, 3, 4, 5, 6, 7, 7]
    assert [mark.get("record", 0) for mark in marks[:4]] == [0, 150, 300, 450]
    assert_resumes_everywhere(Files(path))


def test_a_row_group_is_decoded_in_batches(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_BATCH_ROWS", 7)
    source = Files(path)
    shares = [source.progress() for _ in source.pull(None)]
    assert shares == sorted(shares, key=lambda share: share or 0)
    assert len(set(shares)) > 100
    assert taken(source) == RECORDS


def test_times_in_nanoseconds_are_exact(tmp_path: Path) -> None:
    column = pa.array([0, 1, 1_000], pa.timestamp("ns"))
    pq.write_table(pa.table({"at": column}), tmp_path / "a.parquet")
    assert [str(record["at"]) for record in taken(Files(tmp_path))] == [
        "1970-01-01 00:00:00.000000",
        "1970-01-01 00:00:00.000000001",
        "1970-01-01 00:00:00.000001",
    ]


def test_a_truncated_file_is_a_named_error(path: Path) -> None:
    write(path, path.read_bytes()[:-50])
    with pytest.raises(SourceError, match=r"a\.parquet: it is no whole Parquet file: .*0 records"):
        taken(Files(path))


def test_a_damaged_row_group_is_a_named_error(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 500] = bytes(500)
    write(path, bytes(data))
    with pytest.raises(SourceError, match=r"a\.parquet: it is no whole Parquet file: .*[0-9]+ records"):
        taken(Files(path))


def test_parquet_in_a_compressed_file_is_refused(path: Path) -> None:
    write(path, gzip.compress(path.read_bytes()))
    with pytest.raises(SourceError, match="Parquet compresses itself: store it plain"):
        taken(Files(path))


def test_a_file_with_fewer_row_groups_than_were_read_is_named(path: Path) -> None:
    cursor = [item.cursor for item in pull(Files(path)) if isinstance(item, Mark)][4]
    pq.write_table(pa.Table.from_pylist(RECORDS[:10]), path)
    del cursor["version"]  # as a former version of this library wrote it
    with pytest.raises(SourceChanged, match="has 1 row groups, and 4 have been read"):
        taken(Files(path), cursor)


def test_without_pyarrow_the_error_says_what_to_install(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SourceError, match=r"pip install 'etl-sinks\[parquet\]'"):
        taken(Files(path))


def test_times_in_nanoseconds_are_exact_within_lists_and_objects(tmp_path: Path) -> None:
    inner = pa.struct([("at", pa.timestamp("ns", "UTC")), ("n", pa.int64())])
    types = {
        "struct": (inner, {"at": 1, "n": 1}),
        "list": (pa.list_(inner), [{"at": 1, "n": 1}, None]),
        "large": (pa.large_list(pa.timestamp("ns")), [1]),
        "map": (pa.map_(pa.string(), pa.timestamp("ns")), [("k", 1)]),
        "even": (pa.list_(pa.timestamp("ns")), [1_000]),
    }
    table = pa.table({name: pa.array([value], type_) for name, (type_, value) in types.items()})
    pq.write_table(table, tmp_path / "a.parquet")
    at = "1970-01-01 00:00:00.000000001"
    assert taken(Files(tmp_path)) == [
        {
            "struct": {"at": f"{at}Z", "n": 1},
            "list": [{"at": f"{at}Z", "n": 1}, None],
            "large": [at],
            "map": [{"key": "k", "value": at}],
            "even": [datetime.datetime(1970, 1, 1, microsecond=1)],
        }
    ]


def test_a_value_that_python_cannot_hold_is_one_unreadable_record(tmp_path: Path) -> None:
    column = pa.array([0, 10**15, 1], pa.timestamp("s"))
    pq.write_table(pa.table({"n": [1, 2, 3], "at": column}), tmp_path / "a.parquet")
    first, (_, why), last = taken(Files(tmp_path))
    assert (first["n"], last["n"]) == (1, 3)
    assert "a.parquet, row 2: a value that Python cannot hold" in why


def test_columns_of_the_same_name_are_a_named_error(tmp_path: Path) -> None:
    one, other = pa.array([1]), pa.array([2])
    tables = [
        pa.Table.from_arrays([one, other], names=["a", "a"]),
        pa.table({"s": pa.StructArray.from_arrays([one, other], names=["a", "a"])}),
    ]
    for table in tables:
        pq.write_table(table, tmp_path / "a.parquet")
        with pytest.raises(SourceError, match=r"a\.parquet: two of its columns, .*, are called 'a'"):
            taken(Files(tmp_path))
