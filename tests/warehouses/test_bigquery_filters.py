"""Tables that ask for a filter over their partitions, and tables whose rows cannot all be seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest

from etl.checkpoint import Checkpoint, State, Totals
from etl.columns import Column
from etl.errors import ConfigError
from etl.testing.fault_proxy import Answer, Head
from etl.verification import compare
from etl.warehouses.base import Audit
from etl.warehouses.bigquery.layout import BEYOND, NULL, Partitioning
from tests.google import GoogleServers
from tests.warehouses.bigquery_loader import Loader

COLUMNS = (
    Column(name="id", type="INTEGER"),
    Column(name="day", type="DATE"),
    Column(name="name", type="STRING"),
)

Make = Callable[..., Loader]


@pytest.fixture
def make(google_environment: GoogleServers, tmp_path: Path) -> Iterator[Make]:
    made: list[Loader] = []

    def make(partition: str, **options: Any) -> Loader:
        """Make a table that asks for a filter, before the job has seen it."""
        loader = Loader(google_environment, tmp_path, **options)
        made.append(loader)
        loader.job = msgspec.structs.replace(loader.job, columns=COLUMNS, life="f00d")
        loader.client.query(
            f"CREATE TABLE `{loader.table}` (id INT64, day DATE, name STRING) PARTITION BY {partition} "
            "OPTIONS (require_partition_filter = TRUE)"
        ).result()
        loader.warehouse = loader.open()
        return loader

    yield make
    for each in made:
        each.close()


def row(number: int, day: str, name: str) -> dict[str, Any]:
    return {"id": number, "day": day, "name": name}


def load(loader: Loader, *records: dict[str, Any]) -> int:
    gate = loader.warehouse.gate(loader.job, "ndjson")
    part = loader.part([gate.admit(record) for record in records])
    loader.job = msgspec.structs.replace(loader.job, sequence=loader.job.sequence + 1)
    return loader.warehouse.load(loader.job, loader.plan(part, columns=COLUMNS))


def fetch(loader: Loader) -> list[tuple[Any, ...]]:
    return loader.fetch("id, day, name", "WHERE day IS NOT NULL ORDER BY 1, 2")


def test_the_rows_of_a_table_that_asks_for_a_filter_are_counted(make: Make) -> None:
    loader = make("day")
    load(loader, row(1, "2024-01-01", "a"), row(2, "2024-02-01", "b"))
    audit = loader.warehouse.audit(loader.job)
    assert (audit.table_rows, audit.uncounted) == (2, "")


def test_a_merge_whose_key_holds_the_partitions_looks_into_those_of_its_plan(make: Make) -> None:
    loader = make("day", disposition="merge", key=["id", "day"])
    loader.warehouse.look_back(loader.job)
    load(loader, row(1, "2024-01-01", "a"), row(2, "2024-02-01", "b"))
    load(loader, row(1, "2024-01-01", "A"), row(1, "2024-03-01", "c"))
    assert fetch(loader) == [
        (1, date(2024, 1, 1), "A"),
        (1, date(2024, 3, 1), "c"),
        (2, date(2024, 2, 1), "b"),
    ]


@pytest.mark.parametrize(
    ("partition", "said"), [("day", "let `key` hold day"), ("_PARTITIONDATE", "the time of ingestion")]
)
def test_a_merge_that_may_not_look_for_its_keys_is_refused_before_the_first_load(
    make: Make, partition: str, said: str
) -> None:
    loader = make(partition, disposition="merge", key=["id"])
    with pytest.raises(ConfigError, match=f"{said}.*bq update --norequire_partition_filter"):
        loader.warehouse.look_back(loader.job)
    assert loader.jobs() == {}


def looking_at_the_table(head: Head) -> bool:
    return head.method == "GET" and head.path.split("?")[0].endswith("/tables/t")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"numRows": None}, "BigQuery does not say how many rows"),
        ({"streamingBuffer": {"estimatedRows": "5"}}, "rows are streamed into"),
    ],
)
def test_rows_that_cannot_all_be_seen_are_not_counted(make: Make, changes: dict[str, Any], why: str) -> None:
    loader = make("day")
    load(loader, row(1, "2024-01-01", "a"))
    body = loader.client.get_table(loader.table).to_api_repr() | changes
    body = {name: value for name, value in body.items() if value is not None}
    with loader.proxy() as (proxy, warehouse):
        proxy.at(1, Answer(200, body=body, times=2), of=looking_at_the_table)
        audit = warehouse.audit(loader.job)
    assert why in audit.uncounted


def test_of_rows_that_are_not_counted_nothing_is_claimed() -> None:
    state = State(sequence=1, totals=Totals(records=5))
    document = Checkpoint(pipeline="job", fingerprint={}, epoch=1, state=state, loaded=state, part_bytes=1)
    audit = Audit(
        loads=(),
        loads_ever=0,
        rows_ever=5,
        other_rows=0,
        table="p.d.t",
        table_rows=0,
        uncounted="rows are streamed into p.d.t",
    )
    (finding,) = compare(document, audit)
    assert finding.kind == "forgotten"
    assert "not known, because rows are streamed into p.d.t" in finding.text


DAY = Partitioning(column="v", unit="DAY")
HOUR = Partitioning(column="v", unit="HOUR")


@pytest.mark.parametrize(
    ("partitioning", "one", "other"),
    [
        (DAY, "2024-01-31", date(2024, 1, 31)),
        (DAY, "2024-01-31T23:30:00-01:00", "2024/02/01 00:30 UTC"),
        (HOUR, "2024-01-31T12:59:59.999999999999Z", "2024-01-31 12:00"),
        (Partitioning(column="v", unit="MONTH"), "2024-01-01", "2024-01-31"),
        (Partitioning(column="v", unit="YEAR"), "2024-01-01T00:00:00", "2024-12-31"),
        (Partitioning(column="v", unit="RANGE", start=0, end=100, interval=10), 10, "19"),
    ],
)
def test_values_of_one_partition_have_one_number(partitioning: Partitioning, one: Any, other: Any) -> None:
    assert partitioning.number(one) == partitioning.number(other) >= 0


@pytest.mark.parametrize(
    ("partitioning", "one", "other"),
    [
        (DAY, "2024-01-31", "2024-02-01"),
        (HOUR, "2024-01-31T12:59:59Z", "2024-01-31T13:00:00Z"),
        (Partitioning(column="v", unit="RANGE", start=0, end=100, interval=10), 9, 10),
        (DAY, None, "2024-01-31"),
        (DAY, "1959-12-31", "1960-01-01"),
    ],
)
def test_values_of_two_partitions_have_two_numbers(partitioning: Partitioning, one: Any, other: Any) -> None:
    assert partitioning.number(one) != partitioning.number(other)


def test_what_is_null_or_beyond_all_partitions_has_one_partition_each() -> None:
    ranges = Partitioning(column="v", unit="RANGE", start=0, end=100, interval=10)
    assert {ranges.number(value) for value in (-1, 100)} == {BEYOND}
    assert {DAY.number(value) for value in ("1959-12-31", "2160-01-01", "9999-12-31T23:59:59-14:00")} == {
        BEYOND
    }
    assert DAY.number(None) == NULL
