"""The conformance suite of warehouses: inherit it, and say how a warehouse is made and its table is read.

class TestMyWarehouse(WarehouseSuite):
    def make_warehouse(self, directory: Path) -> Warehouse:
        return MyWarehouse(directory / "warehouse", table="t")

    def rows(self, directory: Path) -> list[tuple[int, str]]:
        return read(directory / "warehouse", "SELECT id, name FROM t ORDER BY id")
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from etl import formats
from etl.checkpoint import Part, Plan, State, replace
from etl.errors import Fenced, LoadMismatch, WarehouseError
from etl.memory import Budget
from etl.records import Position
from etl.warehouses.base import Audits, ChecksRecords, Job, KeepsLedger, LoadsByJobs, Warehouse
from sinks import NumberedChunks

BUDGET = Budget(limit=None, warehouse=64 * 1024 * 1024, threads=1)


class WarehouseSuite:
    """What every warehouse must do. Made twice for one directory, it means the same table.

    Parts are files below the directory, as file sinks write them.
    """

    def make_warehouse(self, directory: Path) -> Warehouse:
        """Make a warehouse that is not open, for a table that only `directory` stands for."""
        raise AssertionError(f"{type(self).__name__} must define make_warehouse, which {directory} is for")

    def rows(self, directory: Path) -> list[tuple[int, str]]:
        """Return the columns `id` and `name` of the table's rows, sorted; the table exists."""
        raise AssertionError(f"{type(self).__name__} must define rows, which {directory} is for")

    @pytest.fixture(params=["ndjson", "ndjson.gz", "parquet"])
    def format(self, request: pytest.FixtureRequest) -> str:
        """Give each format that a job may write."""
        return str(request.param)

    def test_every_row_of_a_plan_is_there_once(self, tmp_path: Path, format: str) -> None:
        """A plan's parts are loaded together, and its rows are counted."""
        with self._job(tmp_path, format) as job:
            assert job.load(job.plan(range(3))) == 3
        assert self.rows(tmp_path) == named(range(3))

    def test_a_plan_that_is_loaded_again_adds_nothing(self, tmp_path: Path) -> None:
        """Not by the same object, and not by that of another process."""
        with self._job(tmp_path) as job:
            plan = job.plan(range(3), range(3, 5))
            assert [job.load(plan), job.load(plan)] == [5, 5]
        with self._job(tmp_path) as successor:
            assert successor.load(plan) == 5
        assert self.rows(tmp_path) == named(range(5))

    def test_plans_add_up(self, tmp_path: Path) -> None:
        """A plan adds to what is there; records that are equal are records all the same."""
        with self._job(tmp_path) as job:
            for _ in range(2):
                assert job.load(job.plan(range(2))) == 2
        assert self.rows(tmp_path) == sorted(named(range(2)) * 2)

    def test_another_number_of_records_is_an_error(self, tmp_path: Path) -> None:
        """What was sealed is compared with what was loaded."""
        with self._job(tmp_path) as job:
            plan = job.plan(range(3))
            wrong = replace(plan, parts=(replace(plan.parts[0], records=4),))
            with pytest.raises(LoadMismatch):
                job.load(wrong)

    def test_a_part_that_is_missing_is_named_and_nothing_is_loaded(self, tmp_path: Path) -> None:
        """When it is back, the plan loads: nothing was spoilt."""
        with self._job(tmp_path) as job:
            job.load(job.plan(range(2)))
            plan = job.plan(range(2, 4), range(4, 6))
            path = Path(plan.parts[1].sealed.uri.removeprefix("file://"))
            data = path.read_bytes()
            path.unlink()
            with pytest.raises(WarehouseError, match=path.name):
                job.load(plan)
            path.write_bytes(data)
            assert job.load(plan) == 4
        assert self.rows(tmp_path) == named(range(6))

    def test_it_must_be_open_and_may_be_closed_twice(self, tmp_path: Path) -> None:
        """An object can be opened again after it was closed."""
        with self._job(tmp_path) as job:
            plan = job.plan(range(1))
            job.warehouse.close()
            job.warehouse.close()
            with pytest.raises(WarehouseError):
                job.load(plan)
            job.warehouse.open(BUDGET)
            assert job.load(plan) == 1

    def test_its_definition_can_be_pickled(self, tmp_path: Path) -> None:
        """An object that was open loads on another machine what it would have loaded here."""
        with self._job(tmp_path) as job:
            plan = job.plan(range(2))
            pickled = pickle.dumps(job.warehouse)
        again: Warehouse = pickle.loads(pickled)  # noqa: S301  # it was made in the line above
        with _Loader(again, tmp_path, "ndjson") as successor:
            assert again.destination == self.make_warehouse(tmp_path).destination
            assert again.load(job.job, plan) == 2
            assert successor.load(plan) == 2

    def test_a_ledger_says_how_far_the_warehouse_is(self, tmp_path: Path) -> None:
        """For warehouses that keep one."""
        with self._job(tmp_path) as job:
            if not isinstance(job.warehouse, KeepsLedger):
                pytest.skip("keeps no ledger")
            assert job.warehouse.latest(job.job) is None
            plan = job.plan(range(2))
            job.load(plan)
            entry = job.warehouse.latest(job.job)
            assert entry is not None
            assert (entry.state, entry.loads) == (plan.after, 1)

    def test_a_plan_that_is_given_up_is_never_loaded(self, tmp_path: Path) -> None:
        """For warehouses that load by jobs: whoever comes late is fenced."""
        with self._job(tmp_path) as job:
            warehouse = job.warehouse
            if not isinstance(warehouse, LoadsByJobs):
                pytest.skip("its loads do not outlast the process")
            loaded, given_up = job.plan(range(2)), job.plan(range(2, 4))
            job.load(loaded)
            for _ in range(2):
                assert warehouse.settle(job.job, loaded) == 2
                assert warehouse.settle(job.job, given_up) is None
            with pytest.raises(Fenced):
                job.load(given_up)
            assert warehouse.operations == 1
        assert self.rows(tmp_path) == named(range(2))

    def test_it_remembers_what_it_loaded(self, tmp_path: Path) -> None:
        """For warehouses that can be asked."""
        with self._job(tmp_path) as job:
            if not isinstance(job.warehouse, Audits):
                pytest.skip("cannot be asked")
            plans = [job.plan(range(3)), job.plan(range(3, 5))]
            for plan in plans:
                job.load(plan)
            audit = job.warehouse.audit(job.job)
            assert [(load.plan, load.last, load.rows) for load in audit.loads] == [
                (plan.id, plan.parts[-1].sequence, plan.records) for plan in plans
            ]
            assert (audit.table_rows, audit.other_rows) == (5, 0)
            assert job.warehouse.audit(Job(pipeline="another", fingerprint={})).loads == ()

    @contextmanager
    def _job(self, directory: Path, format: str = "ndjson") -> Iterator[_Loader]:
        with _Loader(self.make_warehouse(directory), directory, format) as job:
            yield job


def named(numbers: Sequence[int]) -> list[tuple[int, str]]:
    """Return the rows of the records with those numbers."""
    return [(number, f"name {number}") for number in numbers]


class _Loader:
    """A job without a pipeline around it; open while the context lasts."""

    def __init__(self, warehouse: Warehouse, directory: Path, format: str) -> None:
        self.warehouse = warehouse
        self.job = Job(pipeline="job", fingerprint={})
        self._directory = directory / "parts"
        self._format = format

    def __enter__(self) -> _Loader:
        self.warehouse.open(BUDGET)
        return self

    def __exit__(self, *_: object) -> None:
        self.warehouse.close()

    def load(self, plan: Plan) -> int:
        return self.warehouse.load(self.job, plan)

    def plan(self, *parts: Sequence[int]) -> Plan:
        """Write parts, and make a plan of them."""
        made = tuple(self._part(numbers) for numbers in parts)
        return Plan.of(self.warehouse.destination, self._format, made, columns=self.job.columns)

    def _part(self, numbers: Sequence[int]) -> Part:
        sequence = sum(1 for _ in self._directory.glob("*")) + 1
        records: list[dict[str, Any]] = [{"id": n, "name": name} for n, name in named(numbers)]
        if isinstance(self.warehouse, ChecksRecords):
            gate = self.warehouse.gate(self.job, self._format)
            records = [gate.admit(record) for record in records]
            self.job = replace(self.job, columns=gate.columns)
        sink = NumberedChunks(self._directory / f"job.{self._format}")
        with sink.open_part(sequence) as part:
            for _ in formats.make(self._format).encode(iter(records), part.write, _refuse, 1024):
                pass
        assert part.sealed is not None
        state = State(sequence=sequence, position=Position(skip=sequence), tail=part.sealed)
        return Part(sealed=part.sealed, records=len(records), after=state)


def _refuse(record: object, reason: str) -> None:
    raise AssertionError(f"{record} cannot be encoded: {reason}")
