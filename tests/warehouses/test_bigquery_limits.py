"""BigQuery's limits, as the gate, the planner and the quota know them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import msgspec
import pytest

import etl
from etl.checkpoint import Part, State
from etl.formats import Limits, Ndjson, NdjsonGzip
from etl.partitions import Touched
from etl.quota import DAY, SPAN, Quota
from etl.warehouses.base import Job, LimitsSizes, LoadsByJobs, Misfit, ModifiesPartitions
from etl.warehouses.bigquery import BigQuery, limits
from etl.warehouses.bigquery.gate import RecordGate
from etl.warehouses.bigquery.layout import Partitioning
from etl.warehouses.bigquery.partition_gate import FULL, PartitionGate
from etl.warehouses.bigquery.schema import declared
from sinks import NumberedChunks
from sinks.base import SealedPart

FIRST = date(2000, 1, 1)


def bigquery(**options: object) -> BigQuery:
    return BigQuery(**{"table": "p1.d.t", "location": "EU"} | options)


def part(sequence: int, *, size: int = 1, days: Touched | None = None) -> Part:
    sealed = SealedPart(sequence=sequence, uri=f"gs://b/{sequence}", bytes=size, crc32c=0, generation=1)
    return Part(sealed=sealed, records=1, after=State(sequence=sequence), partitions=days)


def by_day() -> PartitionGate:
    columns = declared({"day": "DATE", "id": "INTEGER"})
    return PartitionGate(RecordGate(columns, format="ndjson"), Partitioning(column="day", unit="DAY"))


def test_the_warehouse_has_these_abilities() -> None:
    assert isinstance(bigquery(), LoadsByJobs)
    assert isinstance(bigquery(), ModifiesPartitions)
    assert isinstance(bigquery(), LimitsSizes)


@pytest.mark.parametrize("encode", [Ndjson, NdjsonGzip])
def test_a_record_whose_line_is_too_long_is_refused_by_name_and_the_longest_is_not(
    encode: type[Ndjson],
) -> None:
    encoder = encode()
    encoder.limits = Limits(len(b'{"v":"1234567890"}\n'))
    refused: list[str] = []
    records = [{"v": "1234567890"}, {"v": "12345678901"}, {"v": "ä"}]
    counts = list(encoder.encode(iter(records), lambda _: None, lambda _, why: refused.append(why), 1 << 20))
    assert counts[-1] == 2
    assert refused == [
        "its line has 20 bytes, and the warehouse takes 19 a row: split it by a transform, or leave its largest field "
        "out"
    ]


@pytest.mark.parametrize(
    ("format", "part_bytes", "row_bytes"),
    [
        ("ndjson", None, 100 * 1024**2),
        ("ndjson.gz", 4 * 1024**3 - 200 * 1024**2, 100 * 1024**2),
        ("parquet", None, None),
    ],
)
def test_parts_and_rows_have_the_sizes_that_a_load_takes(
    format: str, part_bytes: int | None, row_bytes: int | None
) -> None:
    assert bigquery().most_part_bytes(format) == part_bytes
    assert bigquery().most_row_bytes(format) == row_bytes


def nothing(cursor: object = None) -> Iterator[object]:
    yield from ()


def test_a_part_is_cut_before_a_gzip_file_is_too_large(tmp_path: Path) -> None:
    job = etl.Pipeline(
        "job",
        source=nothing,
        sink=NumberedChunks(tmp_path / "out.ndjson.gz", keep=False),
        warehouse=bigquery(staging="gs://bucket"),
        checkpoint=tmp_path / "c",
        part_bytes=10 * 1024**3,
    )
    assert job._most_bytes() == 4 * 1024**3 - 200 * 1024**2


def test_a_job_takes_so_many_objects_and_bytes() -> None:
    assert bigquery().most_parts("ndjson", [part(n) for n in range(1, 10_003)]) == 10_000
    assert bigquery().most_parts("ndjson", [part(n, size=4 * 10**12) for n in range(1, 6)]) == 3
    assert bigquery().most_parts("ndjson", [part(1, size=16 * 10**12), part(2)]) == 1


def test_a_job_writes_to_so_many_partitions() -> None:
    apart = [part(n + 1, days=Touched.of(range(n * 1000, n * 1000 + 900))) for n in range(10)]
    shared = [part(n + 1, days=Touched.of(range(900))) for n in range(10)]
    assert bigquery().most_parts("ndjson", apart) == 4
    assert bigquery().most_parts("ndjson", shared) == 10


def test_a_part_whose_records_have_many_partitions_is_full_and_takes_no_more_than_a_job_may() -> None:
    gate = by_day()
    for days in range(FULL):
        assert not gate.full
        gate.admit({"day": (FIRST + timedelta(days)).isoformat(), "id": 1})
    assert gate.full
    for days in range(FULL, limits.MOST_PARTITIONS):
        gate.admit({"day": FIRST + timedelta(days)})
    gate.admit({"day": FIRST})
    with pytest.raises(Misfit, match=r"column day: what is made of one record .* more than 4,000 partitions"):
        gate.admit({"day": FIRST + timedelta(limits.MOST_PARTITIONS)})
    assert gate.partitions.count == limits.MOST_PARTITIONS


def test_a_record_that_does_not_fit_has_no_partition() -> None:
    gate = by_day()
    with pytest.raises(Misfit):
        gate.admit({"day": "2024-01-01", "id": "one"})
    gate.admit({"id": 1})
    assert gate.partitions.count == 1  # of null


def test_a_table_without_partitions_by_a_column_counts_none() -> None:
    gate = bigquery().gate(Job(pipeline="job", fingerprint={}), "ndjson")
    assert not isinstance(gate, PartitionGate)
    assert bigquery().daily_modifications is None


@pytest.mark.parametrize(
    ("options", "budget"),
    [
        ({"partition_by": "day"}, 28_000),
        ({"partition_by": "day", "disposition": "merge", "key": ["id"]}, None),
        ({}, None),
    ],
)
def test_the_partitions_that_a_day_changes_are_limited_but_not_by_merges(
    options: dict[str, object], budget: int | None
) -> None:
    assert bigquery(**options).daily_modifications == budget


def test_a_table_by_the_time_of_ingestion_has_a_smaller_limit_and_one_partition_a_load() -> None:
    warehouse = bigquery()
    warehouse._partitioning = Partitioning(column=None, unit="DAY")
    assert warehouse.daily_modifications == 10_266
    assert warehouse.modifications([part(1), part(2)]) == 1


def test_partitions_are_counted_once_a_load() -> None:
    warehouse = bigquery(partition_by="day")
    assert (
        warehouse.modifications(
            [part(1, days=Touched.of(range(30))), part(2, days=Touched.of(range(20, 40)))]
        )
        == 40
    )


def test_a_quota_waits_until_there_is_room_for_all_that_the_next_job_takes() -> None:
    now = [1_800_000_000.0]
    quota = Quota(100, lambda: now[0])
    noted = quota.noted((), 60)
    now[0] += 2 * SPAN
    noted = quota.noted(noted, 30)
    assert quota.interval(noted, 10) is not None
    assert quota.interval(noted, 11) is None
    assert quota.free_in(noted, 10) == 0
    waits = quota.free_in(noted, 11)
    assert DAY - 2 * SPAN <= waits <= DAY
    now[0] += waits
    assert quota.interval(noted, 11) is not None


def test_partitions_of_a_part_are_in_the_checkpoint() -> None:
    one = part(1, days=Touched.of([1, 2, 5]))
    again = msgspec.json.decode(msgspec.json.encode(one), type=Part)
    assert again.partitions == Touched(count=3, spans=((1, 2), (5, 5)))
    assert msgspec.json.decode(msgspec.json.encode(part(1)), type=Part).partitions is None
