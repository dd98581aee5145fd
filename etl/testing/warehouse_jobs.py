"""How the conformance suite of warehouses makes them, and a job that loads into them without a pipeline around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from etl import formats
from etl.checkpoint import Part, Plan, State, replace
from etl.memory import Budget
from etl.records import Position
from etl.warehouses.base import ChecksRecords, Job, KeepsLedger, Refreshes, Warehouse
from sinks import NumberedChunks

BUDGET = Budget(limit=None, warehouse=64 * 1024 * 1024, threads=1)


class WarehouseMaker:
    """How a warehouse is made and its table is read. Made twice for one directory, it means the same table.

    Parts are files below the directory, as file sinks write them.
    """

    def make_warehouse(self, directory: Path) -> Warehouse:
        """Make a warehouse that is not open, for a table that only `directory` stands for."""
        raise AssertionError(f"{type(self).__name__} must define make_warehouse, which {directory} is for")

    def make_merging_warehouse(
        self, directory: Path, *, key: Sequence[str], updated_at: str | None
    ) -> Warehouse:
        """Make one for the same table, with the disposition `merge`; unless defined, those tests are skipped."""
        pytest.skip(f"merges nothing by {', '.join(key)} and {updated_at} in {directory}")

    def rows(self, directory: Path) -> list[tuple[int, str]]:
        """Return the columns `id` and `name` of the table's rows, sorted; the table exists."""
        raise AssertionError(f"{type(self).__name__} must define rows, which {directory} is for")

    @pytest.fixture(params=["ndjson", "ndjson.gz", "parquet"])
    def format(self, request: pytest.FixtureRequest) -> str:
        """Give each format that a job may write."""
        return str(request.param)

    @contextmanager
    def job(self, directory: Path, format: str = "ndjson") -> Iterator[JobLoader]:
        """Give a job that loads into the table, open while the context lasts."""
        with JobLoader(self.make_warehouse(directory), directory, format) as job:
            yield job


def named(numbers: Sequence[int]) -> list[tuple[int, str]]:
    """Return the rows of the records with those numbers."""
    return [(number, f"name {number}") for number in numbers]


def row(number: int, name: str, at: int | None = None) -> dict[str, Any]:
    """Return a record with that `id` and `name`, and when it was last changed."""
    return {"id": number, "name": name, "at": at}


class JobLoader:
    """A job without a pipeline around it; open while the context lasts.

    Attributes:
        warehouse: where it loads.
        job: what a load must know of it.

    Args:
        warehouse: where it loads.
        directory: where its parts go, into a folder of their own.
        format: the name of their format.
    """

    def __init__(self, warehouse: Warehouse, directory: Path, format: str) -> None:
        self.warehouse = warehouse
        self.job = Job(pipeline="job", fingerprint={})
        self._directory = directory / "parts"
        self._format = format

    def __enter__(self) -> JobLoader:
        self.warehouse.open(BUDGET)
        return self

    def __exit__(self, *_: object) -> None:
        self.warehouse.close()

    def load(self, plan: Plan) -> int:
        """Load a plan, and return how many records it took."""
        return self.warehouse.load(self.job, plan)

    def refresh(self, name: str) -> None:
        """Go on with a refresh that was begun; empty: with the table itself."""
        self.job = replace(self.job, refresh=name, columns=None)

    def begin_refresh(self, name: str) -> None:
        """Begin one, twice, as a process does that was killed in between."""
        self.refresh(name)
        for _ in range(2):
            self._refreshes().begin_refresh(self.job)

    def finish_refresh(self) -> None:
        """Put the new table in the old one's place."""
        self._refreshes().finish_refresh(self.job)

    def state(self) -> State | None:
        """Return how far the warehouse's ledger says that it is; None: not begun, or there is no ledger."""
        warehouse = self.warehouse
        if not isinstance(warehouse, KeepsLedger):
            return None
        entry = warehouse.latest(self.job)
        return entry.state if entry else None

    def _refreshes(self) -> Refreshes:
        if not isinstance(self.warehouse, Refreshes):
            pytest.skip("cannot be refreshed")
        return self.warehouse

    def plan(self, *parts: Sequence[int] | Sequence[dict[str, Any]]) -> Plan:
        """Write parts of these records, or of those with these numbers, and make a plan of them."""
        made = tuple(self._part(numbers) for numbers in parts)
        return Plan.of(self.warehouse.destination, self._format, made, columns=self.job.columns)

    def _part(self, content: Sequence[int] | Sequence[dict[str, Any]]) -> Part:
        sequence = sum(1 for _ in self._directory.glob("*")) + 1
        records = [
            {"id": each, "name": f"name {each}"} if isinstance(each, int) else each for each in content
        ]
        if isinstance(self.warehouse, ChecksRecords):
            gate = self.warehouse.gate(replace(self.job, sequence=sequence - 1), self._format)
            records = [gate.admit(record) for record in records]
            self.job = replace(self.job, columns=gate.columns)
        sink = NumberedChunks(self._directory / f"job.{self._format}")
        with sink.open_part(sequence) as part:
            for _ in formats.make(self._format).encode(iter(records), part.write, _refuse, 1024):
                pass
        assert part.sealed is not None
        state = State(sequence=sequence, position=Position(skip=sequence), tail=part.sealed)
        return Part(sealed=part.sealed, records=len(records), after=state)


def _refuse(record: object, reason: str, _number: int | None = None, /) -> None:
    raise AssertionError(f"{record} cannot be encoded: {reason}")
