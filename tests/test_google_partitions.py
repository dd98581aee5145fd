"""Jobs into tables with partitions: parts are cut, plans are made, and loads are paced by those that they touch."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pytest

import etl
from etl import progress
from etl.warehouses.bigquery import limits, partition_gate
from tests.google import GoogleServers
from tests.test_google_runs import Place

FIRST = date(2024, 1, 1)
DAYS = 24


def pull(cursor: int | None = None) -> Iterator[Any]:
    for number in range(cursor or 0, DAYS):
        yield etl.Mark(number)
        yield {"number": number, "day": (FIRST + timedelta(number)).isoformat()}


@pytest.fixture
def place(google_environment: GoogleServers) -> Place:
    return Place(google_environment, google_environment.new_bucket(), google_environment.new_dataset())


def run(place: Place, **changes: Any) -> tuple[etl.Result, list[progress.PartSealed]]:
    sealed: list[progress.PartSealed] = []

    def listen(event: progress.Event) -> None:
        if isinstance(event, progress.PartSealed):
            sealed.append(event)

    warehouse = {"partition_by": "day", "schema": {"day": "DATE"}}
    made = place.pipeline(source=pull, warehouse=warehouse, part_records=None, **changes)
    return made.run(listeners=[listen]), sealed


def changed(result: etl.Result) -> int:
    return sum(count for _, count in result.checkpoint.modifications)


def test_the_partitions_that_loads_change_are_counted_in_the_checkpoint(place: Place) -> None:
    result, sealed = run(place)
    assert place.numbers() == list(range(DAYS))
    assert [part.cut for part in sealed] == ["end"]
    assert changed(result) == DAYS
    again, _ = run(place)
    assert changed(again) == DAYS


def test_a_part_that_touches_many_partitions_is_cut(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_gate, "FULL", 10)
    monkeypatch.setattr(limits, "MOST_PARTITIONS", 10)
    result, sealed = run(place)
    assert [(part.records, part.cut) for part in sealed] == [
        (10, "partitions"),
        (10, "partitions"),
        (4, "end"),
    ]
    assert place.numbers() == list(range(DAYS))
    assert changed(result) == DAYS
    assert len(place.jobs()) == 3  # no two of these fit into one


def test_what_one_record_is_made_into_is_refused_where_a_job_could_not_load_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_gate, "MOST_PARTITIONS", 20)

    def all_at_once(records: Iterator[dict[str, Any]]) -> Iterator[Any]:
        yield from list(records)

    result, _ = run(place, transforms=[all_at_once], on_error="reject")
    assert place.numbers() == list(range(20))
    assert result.checkpoint.state.totals.rejected == DAYS - 20


def test_when_the_days_partitions_are_used_up_the_run_ends_and_parts_wait(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as less:
        less.setattr(partition_gate, "FULL", 10)
        less.setattr(limits, "MOST_PARTITIONS", 10)
        less.setattr(limits, "DAILY_MODIFICATIONS", 16)
        for _ in range(2):
            result, _ = run(place)
            assert result.stopped == "quota"
            assert changed(result) == 10
        assert place.numbers() == list(range(10))
    result, _ = run(place)
    assert result.stopped is None
    assert place.numbers() == list(range(DAYS))
    assert changed(result) == DAYS
